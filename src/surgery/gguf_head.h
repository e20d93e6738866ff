/*
 * gguf_head.h - the metadata of a GGUF file that is written
 */
#ifndef WS_SURGERY_GGUF_HEAD_H
#define WS_SURGERY_GGUF_HEAD_H

#include "wsurg/convert.h"
#include "wsurg/text.h"

/** What config.json says, as far as the tensors need it. */
typedef struct ws_gguf_model {
    const char *architecture; /**< static */
    uint64_t heads, kv_heads;
} ws_gguf_model;

/** Pairs of metadata being gathered. */
typedef struct ws_gguf_pairs {
    ws_buf b;
    uint64_t n;
} ws_gguf_pairs;

void ws_gguf_put_u(ws_buf *b, uint64_t v, int bytes);
void ws_gguf_put_string(ws_buf *b, const char *s);
void ws_gguf_pair_text(ws_gguf_pairs *p, const char *key, const char *value);
void ws_gguf_pair_u32(ws_gguf_pairs *p, const char *key, uint64_t value);

/**
 * The pairs that config.json (@p len bytes at @p text) gives, and what the tensors
 * need.
 * @return WS_OK; WS_E_HEADER; WS_E_MISSING a key; WS_E_UNSUPPORTED another
 * architecture, or rope scaling; WS_E_MEMORY
 */
ws_status ws_gguf_from_config(ws_gguf_model *m, ws_gguf_pairs *p, const char *name,
                              const char *text, size_t len, ws_err *err);

#endif
