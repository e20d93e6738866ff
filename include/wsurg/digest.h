/*
 * digest.h - content digests: XXH3-128 of slices, tensors and models; SHA-256 of files
 *
 * Independent of file layout. The encodings below are part of the file contract: they
 * stand in `wsurg.content`. Numbers are 64-bit little-endian; str(x) is the number of
 * bytes of x, then the bytes; digests enter in canonical (big-endian) form.
 *
 *     slice    XXH3-128 of its bytes
 *     tensor   XXH3-128 of  str(name) str(dtype, safetensors spelling) rank dims...
 *                           number of slices, slice digests in order
 *     model    XXH3-128 of  number of tensors, then for each in order of names as
 * bytes: str(name) tensor digest
 */
#ifndef WSURG_DIGEST_H
#define WSURG_DIGEST_H

#include "wsurg/ckpt.h"
#include "wsurg/xxh.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Elements of one slice of a tensor of this shape: whole rows of the leading index.
 *
 * A row is the product of shape[1..] (1 for rank 0 and 1); a slice has
 * max(1, 2^20 / row) rows. Not cut to the tensor: the last slice, or the only one, may
 * hold fewer. 2^20 for an empty tensor.
 */
WS_API uint64_t ws_slice_len(int rank, const uint64_t *shape);

/** Number of slices: 0 for an empty tensor. */
WS_API uint64_t ws_slice_count(int rank, const uint64_t *shape);

/**
 * Byte range of slice @p i of @p t within its data. For dtypes of less than a byte a
 * bound inside a byte is rounded down; the last slice ends at n_bytes.
 * @pre i < ws_slice_count()
 */
WS_API void ws_slice_bytes(const ws_tensor *t, uint64_t i, uint64_t *offset,
                           uint64_t *len);

/** Digest of a tensor from those of its slices (@p n). Reads name, dtype, rank and
 * shape of @p t. */
WS_API ws_xxh128 ws_tensor_digest(const ws_tensor *t, const ws_xxh128 *slices,
                                  size_t n);

/** A model's digest, from (name, digest) pairs in any order; sorts @p idx, scratch of
 * n. @pre names are distinct */
WS_API ws_xxh128 ws_model_digest(const char *const *names, const ws_xxh128 *tensors,
                                 size_t n, size_t *idx);

/**
 * Read all of @p c and digest it, on all threads of @p ctx, with 1 MiB each. Progress
 * event "digest".
 * @return WS_OK; WS_E_IO from ws_ckpt_read(), of the first tensor in file order;
 * WS_E_INTERRUPTED; WS_E_MEMORY
 */
WS_API ws_status ws_ckpt_digest(const ws_ckpt *c, const ws_ctx *ctx, ws_xxh128 *out,
                                ws_err *err);

/** The same as text, "xxh3-128:...". */
WS_API ws_status ws_ckpt_digest_text(const ws_ckpt *c, const ws_ctx *ctx, char out[48],
                                     ws_err *err);

#ifdef __cplusplus
}
#endif

#endif
