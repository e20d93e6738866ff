/*
 * st_write.h - the safetensors header, written byte-exactly (formats.md 1.7)
 */
#ifndef WS_CKPT_ST_WRITE_H
#define WS_CKPT_ST_WRITE_H

#include "wsurg/ckpt.h"

/** One metadata pair. */
typedef struct ws_meta {
    const char *key, *value;
} ws_meta;

/** qsort order of file: dtype rank, then name as bytes. Elements are `const ws_tensor
 * *`. */
WS_API int ws_st_order(const void *a, const void *b);

/**
 * Build the header of a file holding @p tensors (n), which must be in ws_st_order; sets
 * each one's offset from the start of the file. Metadata is sorted by key. @p out
 * (ws_free) holds length word, JSON and padding.
 * @return WS_OK; WS_E_UNSUPPORTED header above 100,000,000 bytes; WS_E_MEMORY
 */
WS_API ws_status ws_st_header(uint8_t **out, uint64_t *len, ws_tensor *const *tensors,
                              size_t n, const ws_meta *meta, size_t n_meta,
                              ws_err *err);

#endif
