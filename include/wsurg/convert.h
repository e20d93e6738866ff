/*
 * convert.h - a model in another file format
 */
#ifndef WSURG_CONVERT_H
#define WSURG_CONVERT_H

#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Element type of what is written. */
typedef enum ws_convert_as {
    WS_AS_KEEP, /**< as the model has them */
    WS_AS_F32,
    WS_AS_F16,
    WS_AS_BF16,
    WS_AS_Q8_0 /**< GGUF: F16 where rows are no multiple of 32 */
} ws_convert_as;

/** What to write in another format. Strings are borrowed. */
typedef struct ws_convert_req {
    const char *model;
    ws_convert_as as;
    ws_write_opts write; /**< .dtype and sharding are not looked at; GGUF:
                            .companions_from has config.json unless the model does */
} ws_convert_req;

typedef struct ws_convert_result {
    const char *architecture; /**< GGUF's word, static; NULL for others */
    size_t tensors, skipped;  /**< written; buffers that are computed elsewhere */
    uint64_t saturated;       /**< values cut to the largest of their type */
    ws_out_file output;       /**< .path is the request's */
    const char *manifest;     /**< path, or NULL */
    ws_usage usage;
    char *strings; /**< that .manifest points to */
} ws_convert_result;

/**
 * Write a Hugging Face model of a llama (or mistral), qwen2, qwen3 or gpt2 as one GGUF
 * file, version 3: names, q and k rows and Conv1D weights as llama.cpp has them,
 * metadata from config.json. Matrices are stored as .as says, what has one dimension as
 * F32. No tokenizer is written.
 *
 * @return WS_OK; WS_E_UNSUPPORTED an architecture, tensor or rope scaling that has no
 * place there; WS_E_MISSING no config.json, or no such key in it; WS_E_SHAPE rows that
 * are no heads; WS_E_DTYPE; WS_E_NOT_FINITE; WS_E_HEADER, WS_E_IO, WS_E_EXISTS,
 * WS_E_LOCKED, WS_E_INTERRUPTED, WS_E_MEMORY
 */
WS_API ws_status ws_gguf_write(ws_convert_result **out, const ws_convert_req *req,
                               const ws_ctx *ctx, ws_err *err);

/**
 * Write a model as one npz archive of NumPy: an array per tensor under its name, in
 * order of names, stored as it is, zip64 where sizes need it. What keeps its dtype is
 * copied; metadata have no place there.
 *
 * @return WS_OK; WS_E_DTYPE a dtype that NumPy has not (BF16, F8 and smaller), unless
 * .as makes another of it; WS_E_UNSUPPORTED a name that is no path of an archive, or
 * another's but for letter case; WS_E_NOT_FINITE; and as ws_gguf_write()
 */
WS_API ws_status ws_npz_write(ws_convert_result **out, const ws_convert_req *req,
                              const ws_ctx *ctx, ws_err *err);
WS_API void ws_convert_result_free(ws_convert_result *r);

#ifdef __cplusplus
}
#endif

#endif
