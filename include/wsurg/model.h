/*
 * model.h - transformers that run: a checkpoint with its config.json, loaded
 *
 * Weights stay in memory in their own dtype; what runs them expands panels of them. The
 * families are llama, mistral, qwen2, qwen3 and gpt2.
 */
#ifndef WSURG_MODEL_H
#define WSURG_MODEL_H

#include "wsurg/ckpt.h"
#include "wsurg/ctx.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ws_model ws_model;

/** What a model is. Borrowed from it. */
typedef struct ws_model_info {
    const char *path;   /**< as typed */
    const char *label;  /**< as ws_ckpt_label() */
    const char *folder; /**< where config.json came from */
    const char *family; /**< model_type */
    int64_t hidden, layers, heads, kv_heads, vocab, max_positions;
    uint64_t parameters; /**< numbers in all tensors used, tied ones once */
    uint64_t bytes;      /**< of weights in memory */
    int64_t bos;         /**< token, or -1 */
    const int64_t *eos;  /**< (n_eos) tokens that end a text */
    int n_eos;
} ws_model_info;

/**
 * Load the model at @p path.
 *
 * @param companions  folder with its config.json when @p path is a plain file; NULL:
 *                    the file's own folder
 * @param ctx         its memory limit bounds weights and work together; when it gives
 *                    none, half of what the process may use
 * @return WS_OK; as ws_ckpt_open(); WS_E_MISSING no config.json, or a tensor is absent;
 *         WS_E_SHAPE a tensor is not of the shape that the config demands; WS_E_DTYPE
 *         no arithmetic for one; WS_E_UNSUPPORTED model_type or a field of the config
 *         not known here (named; ctx->lenient lets a field pass whose meaning is not
 *         known); WS_E_MEMORY would exceed the limit
 */
WS_API ws_status ws_model_open(ws_model **out, const char *path, const char *companions,
                               const ws_ctx *ctx, ws_err *err);
WS_API void ws_model_free(ws_model *m);

WS_API const ws_model_info *ws_model_info_of(const ws_model *m);

/**
 * Logits of every position of one sequence.
 *
 * @param tokens  (n) ids below the vocabulary; n >= 1
 * @param logits  (n, vocab) out
 * @return WS_OK; WS_E_USAGE an id is out of range; WS_E_MEMORY
 */
WS_API ws_status ws_model_logits(const ws_model *m, const int32_t *tokens, int64_t n,
                                 float *logits, const ws_ctx *ctx, ws_err *err);

#ifdef __cplusplus
}
#endif

#endif
