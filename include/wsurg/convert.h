/*
 * convert.h - a model in another file format
 */
#ifndef WSURG_CONVERT_H
#define WSURG_CONVERT_H

#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How the matrices of a GGUF file are stored; what has one dimension is F32. */
typedef enum ws_gguf_as {
    WS_GGUF_AS_KEEP, /**< as the model has them: F32, F16 or BF16 */
    WS_GGUF_AS_F32,
    WS_GGUF_AS_F16,
    WS_GGUF_AS_BF16,
    WS_GGUF_AS_Q8_0 /**< F16 where rows are no multiple of 32 */
} ws_gguf_as;

/** What to write as GGUF. Strings are borrowed. */
typedef struct ws_gguf_req {
    const char *model;
    ws_gguf_as as;
    ws_write_opts write; /**< .dtype and sharding are not looked at;
                            .companions_from has config.json unless the model does */
} ws_gguf_req;

typedef struct ws_gguf_result {
    const char *architecture; /**< GGUF's word; static */
    size_t tensors, skipped;  /**< written; buffers that are computed elsewhere */
    uint64_t saturated;       /**< values cut to the largest of their type */
    ws_out_file output;       /**< .path is the request's */
    const char *manifest;     /**< path, or NULL */
    ws_usage usage;
    char *strings; /**< that .manifest points to */
} ws_gguf_result;

/**
 * Write a Hugging Face model of a llama (or mistral), qwen2, qwen3 or gpt2 as one GGUF
 * file, version 3: names, q and k rows and Conv1D weights as llama.cpp has them,
 * metadata from config.json. No tokenizer is written.
 *
 * @return WS_OK; WS_E_UNSUPPORTED an architecture, tensor or rope scaling that has no
 * place there; WS_E_MISSING no config.json, or no such key in it; WS_E_SHAPE rows that
 * are no heads; WS_E_DTYPE; WS_E_NOT_FINITE; WS_E_HEADER, WS_E_IO, WS_E_EXISTS,
 * WS_E_LOCKED, WS_E_INTERRUPTED, WS_E_MEMORY
 */
WS_API ws_status ws_gguf_write(ws_gguf_result **out, const ws_gguf_req *req,
                               const ws_ctx *ctx, ws_err *err);
WS_API void ws_gguf_result_free(ws_gguf_result *r);

#ifdef __cplusplus
}
#endif

#endif
