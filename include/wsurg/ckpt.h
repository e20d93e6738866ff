/*
 * ckpt.h - checkpoints: named sets of tensors, whatever the file format
 *
 * A reader checks everything in a file's header before anything else sees it; tensors
 * come out as plain data and their bytes through ws_ckpt_read(). One interface serves
 * files, directories, adapters on a base and task vectors.
 */
#ifndef WSURG_CKPT_H
#define WSURG_CKPT_H

#include "wsurg/alloc.h"
#include "wsurg/ctx.h"
#include "wsurg/dtype.h"
#include "wsurg/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WS_MAX_RANK 64   /**< cap on dimensions, stated in the error */
#define WS_MAX_NAME 4096 /**< cap on a tensor name's bytes */

typedef struct ws_ckpt ws_ckpt;

/** One tensor of a checkpoint. Borrowed from its ws_ckpt. */
typedef struct ws_tensor {
    const char *name; /**< UTF-8, no NUL inside */
    ws_dtype dtype;
    int rank;
    const uint64_t *shape; /**< (rank) */
    uint64_t n_elements;   /**< product of shape; 1 for a scalar */
    uint64_t n_bytes;
    uint32_t file;   /**< index for ws_ckpt_file() */
    uint64_t offset; /**< of the first byte in that file */
} ws_tensor;

/** One data file of a checkpoint and its identity when it was opened. */
typedef struct ws_ckpt_file {
    const char *name; /**< as named in the directory or by the user, without folder */
    const char *path; /**< as opened */
    uint64_t bytes;
    uint64_t dev, ino;
    int64_t mtime_s, mtime_ns;
} ws_ckpt_file;

/** What a checkpoint says it is, from `wsurg.kind` in its metadata. */
typedef enum ws_ckpt_kind {
    WS_KIND_MODEL,
    WS_KIND_TASKVEC,
    WS_KIND_COVARIANCE,
    WS_KIND_MASK,
    WS_KIND_ADAPTER,
} ws_ckpt_kind;

/**
 * Open the model at @p path: a safetensors file, or a Hugging Face directory (single
 * file or shards with an index).
 *
 * Lint findings (leading white space, null metadata, unknown fields, wrong total_size)
 * go to @p warnings.
 * @return WS_OK; WS_E_IO cannot open or read; WS_E_HEADER not valid; WS_E_MISSING a
 * shard or tensor of the index is not there; WS_E_UNSUPPORTED a format, dtype or layout
 * known but not read here; WS_E_MEMORY
 */
WS_API ws_status ws_ckpt_open(ws_ckpt **out, const char *path, ws_diag *warnings,
                              ws_err *err);

WS_API void ws_ckpt_free(ws_ckpt *c);

/** The path as typed. */
WS_API const char *ws_ckpt_path(const ws_ckpt *c);

/** The file or directory that config and tokenizer belong to: the path, but the base's
 * of an adapted model. */
WS_API const char *ws_ckpt_home(const ws_ckpt *c);

/** The label of CLI.md: stem of the name (`a` for `dir/a.safetensors`, `x` for
 * `dir/x/`). */
WS_API const char *ws_ckpt_label(const ws_ckpt *c);

/** The label of all[i] among (n) others: numbered from 1 where labels are equal. NULL
 * without memory in @p arena. */
WS_API const char *ws_ckpt_label_among(const ws_ckpt *const *all, size_t n, size_t i,
                                       ws_arena *arena);

/** "safetensors", "safetensors-sharded", ... */
WS_API const char *ws_ckpt_format(const ws_ckpt *c);

WS_API bool ws_ckpt_is_dir(const ws_ckpt *c);
WS_API ws_ckpt_kind ws_ckpt_kind_of(const ws_ckpt *c);

/** Number of tensors; ws_ckpt_tensor() takes them in file order: by file, then by
 * offset. */
WS_API size_t ws_ckpt_count(const ws_ckpt *c);
WS_API const ws_tensor *ws_ckpt_tensor(const ws_ckpt *c, size_t i);

/** The tensor called @p name, or NULL. O(1). */
WS_API const ws_tensor *ws_ckpt_find(const ws_ckpt *c, const char *name);

WS_API size_t ws_ckpt_file_count(const ws_ckpt *c);
WS_API const ws_ckpt_file *ws_ckpt_file_at(const ws_ckpt *c, size_t i);

/** Metadata: `__metadata__` of a single file, the index's `metadata` (strings only)
 * when sharded. Sorted by key. */
WS_API size_t ws_ckpt_meta_count(const ws_ckpt *c);
WS_API void ws_ckpt_meta_at(const ws_ckpt *c, size_t i, const char **key,
                            const char **value);
WS_API const char *ws_ckpt_meta(const ws_ckpt *c, const char *key);

/**
 * Read @p len bytes of @p t from byte @p offset of its data into @p dst. Thread-safe.
 * @pre offset + len <= t->n_bytes
 * @return WS_OK; WS_E_IO read failed, or the file has become shorter (named with tensor
 * and offset)
 */
WS_API ws_status ws_ckpt_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                              size_t len, void *dst, ws_err *err);

/** Whether the files are still those that were opened (size, modification time, inode);
 * WS_E_IO names the one changed. */
WS_API ws_status ws_ckpt_recheck(const ws_ckpt *c, ws_err *err);

/** The directory's `config.json` as text (NUL-terminated, @p len bytes), borrowed; NULL
 * for a plain file or if absent. */
WS_API const char *ws_ckpt_config(const ws_ckpt *c, size_t *len);

#ifdef __cplusplus
}
#endif

#endif
