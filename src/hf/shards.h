/*
 * shards.h - sharded outputs: which tensor goes to which file, and their index
 */
#ifndef WS_HF_SHARDS_H
#define WS_HF_SHARDS_H

#include "ckpt/st_write.h"
#include "wsurg/text.h"

/**
 * Shards as huggingface_hub cuts them: tensors in order; one larger than @p limit gets
 * a shard of its own at once, any other closes the shard in which it no longer fits.
 * Shards are numbered in the order in which they are closed.
 *
 * @param sizes  (n) bytes
 * @param shard  (n) out: 0-based
 * @return number of shards, at least 1
 */
WS_API size_t ws_shard_assign(const uint64_t *sizes, size_t n, uint64_t limit,
                              uint32_t *shard);

/**
 * `model.safetensors.index.json`: metadata with total_size first and the rest sorted by
 * key, weight_map sorted by name; indented by 2, newline at the end.
 *
 * @param names, files  (n) tensor names and the files that hold them
 * @return WS_OK; WS_E_MEMORY
 */
WS_API ws_status ws_index_write(ws_buf *out, const char *const *names,
                                const char *const *files, size_t n, uint64_t total_size,
                                const ws_meta *meta, size_t n_meta, ws_err *err);

#endif
