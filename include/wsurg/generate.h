/*
 * generate.h - text from a model, token by token
 */
#ifndef WSURG_GENERATE_H
#define WSURG_GENERATE_H

#include "wsurg/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How the next token is chosen. Applied in this order: penalty, temperature, top_k,
 * top_p, min_p. */
typedef struct ws_generate_opts {
    int64_t max_tokens;        /**< >= 1 */
    double temperature;        /**< 0: the likeliest token, always */
    int64_t top_k;             /**< only the k likeliest; 0: all */
    double top_p;              /**< only the likeliest that together reach p; 1: all */
    double min_p;              /**< only those with p times the likeliest's; 0: all */
    double repetition_penalty; /**< logits of tokens seen are divided by it (multiplied
                                    where negative); 1: none */
    uint64_t seed;
    const int32_t *stop; /**< (n_stop) tokens that end a text beside the model's own */
    int n_stop;
} ws_generate_opts;

#define WS_GENERATE_OPTS_INIT                                                          \
    {                                                                                  \
        .max_tokens = 256, .top_p = 1.0, .repetition_penalty = 1.0                     \
    }

/** Why it ended. */
typedef enum ws_generate_end {
    WS_END_EOS,    /**< the model ended the text; that token is not handed out */
    WS_END_TOKENS, /**< max_tokens */
    WS_END_LENGTH, /**< the model has no further position */
    WS_END_CALLER  /**< the callback said so */
} ws_generate_end;

typedef struct ws_generate_result {
    int64_t tokens; /**< handed out */
    ws_generate_end end;
    double prompt_seconds, seconds; /**< before, and after, the first token */
} ws_generate_result;

/**
 * Go on from @p prompt; each new token goes to @p token, which returns false to stop.
 * The same seed gives the same tokens, whatever the number of threads.
 *
 * @param prompt  (n) ids, n >= 1
 * @return WS_OK; WS_E_USAGE no prompt, one longer than the model's positions, or an
 *         id out of range; WS_E_NOT_FINITE; WS_E_MEMORY; WS_E_INTERRUPTED
 */
WS_API ws_status ws_generate(const ws_model *m, const int32_t *prompt, int64_t n,
                             const ws_generate_opts *opts,
                             bool (*token)(void *arg, int32_t id), void *arg,
                             ws_generate_result *result, const ws_ctx *ctx,
                             ws_err *err);

/**
 * Many texts from one prompt, side by side; each token goes to @p token with the number
 * of its text, which returns false to stop that one. Texts are handed out interleaved,
 * each in its order; the same seed gives the same texts, whatever the number of
 * threads. Text 0 alone is that of ws_generate().
 *
 * @param samples  >= 1
 * @param results  (samples) out; seconds are those of the whole run
 * @return as ws_generate()
 */
WS_API ws_status ws_generate_many(const ws_model *m, const int32_t *prompt, int64_t n,
                                  const ws_generate_opts *opts, int64_t samples,
                                  bool (*token)(void *arg, int64_t sample, int32_t id),
                                  void *arg, ws_generate_result *results,
                                  const ws_ctx *ctx, ws_err *err);

/** What eos_token_id of generation_config.json in @p folder lists, at most @p most ids;
 * *n is 0 where there is no such file or field.
 * @return WS_OK; WS_E_HEADER it is malformed; WS_E_IO; WS_E_MEMORY */
WS_API ws_status ws_generate_stops(const char *folder, int32_t *out, int most, int *n,
                                   ws_err *err);

#ifdef __cplusplus
}
#endif

#endif
