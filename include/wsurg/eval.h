/*
 * eval.h - how well models predict a text: cross-entropy, and distance to another model
 */
#ifndef WSURG_EVAL_H
#define WSURG_EVAL_H

#include "wsurg/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A text as tokens. */
typedef struct ws_eval_text {
    const char *name;
    const int32_t *tokens; /**< (n), without what the windows open with */
    int64_t n;
    const uint32_t *bytes; /**< (n) bytes of text that each stands for; NULL: unknown */
    const uint8_t *scored; /**< (n) whether it counts; NULL: all do */
    const int64_t *start;  /**< (n_docs + 1) first token of each document, then n; NULL:
                                one running text */
    int64_t n_docs;
} ws_eval_text;

/**
 * Windows. One is `window` positions of the model, a bos among them; each begins
 * `stride` tokens after the one before and scores those of its tokens that none before
 * it has scored. Of a running text a tail shorter than a window is dropped, unless it
 * is all there is; documents have windows of their own and keep their tails, and a bos
 * that one begins with is not doubled.
 */
typedef struct ws_eval_opts {
    int64_t window; /**< >= 2 */
    int64_t stride; /**< 0: windows follow each other without overlap */
    int64_t bos;    /**< token that opens every window, or -1: none */
} ws_eval_opts;

/** The score of one model on one text; NaN where a number does not exist. */
typedef struct ws_eval_score {
    int64_t tokens;        /**< scored */
    int64_t windows;       /**< the units of the standard errors */
    double loss, loss_se;  /**< mean of -ln p, nats per token */
    double perplexity;     /**< exp(loss) */
    double bits_per_byte;  /**< of the text that the scored tokens stand for */
    double accuracy;       /**< share of tokens that were the likeliest */
    double kl, kl_se;      /**< mean KL(p of against || p), nats per token */
    double agreement;      /**< share of places where both find the same likeliest */
    double *window_loss;   /**< (windows) sums of -ln p; owned */
    int64_t *window_count; /**< (windows) tokens scored; owned */
} ws_eval_score;

/**
 * Score @p m on every text.
 *
 * @param against  compared with, of the same vocabulary; NULL: none
 * @param out      (n_texts) out, each for ws_eval_score_free()
 * @return WS_OK; WS_E_USAGE a window the model cannot take, a stride that leaves tokens
 *         out, a text with nothing to predict, or a token beyond the vocabulary;
 *         WS_E_SHAPE vocabularies differ; WS_E_NOT_FINITE a loss is not finite (the
 *         window is named); WS_E_MEMORY; WS_E_INTERRUPTED
 */
WS_API ws_status ws_eval_run(const ws_model *m, const ws_model *against,
                             const ws_eval_text *texts, size_t n_texts,
                             const ws_eval_opts *opts, ws_eval_score *out,
                             const ws_ctx *ctx, ws_err *err);
WS_API void ws_eval_score_free(ws_eval_score *s);

/** Mean of loss(a) - loss(b) over the same tokens of the same windows, and its standard
 * error. False when the windows are not the same. */
WS_API bool ws_eval_pair(const ws_eval_score *a, const ws_eval_score *b,
                         double *difference, double *se);

/** A question: what a text may go on with, and which of these is right. */
typedef struct ws_question {
    const int32_t *context; /**< (n_context) tokens, a bos among them; n_context >= 1 */
    int64_t n_context;
    int n_choices;
    int gold;
    struct ws_answer {
        const int32_t *tokens; /**< (n) what follows the context, n >= 1 */
        int64_t n;
        double length; /**< what acc_norm divides by: characters */
    } * choice;        /**< (n_choices) */
} ws_question;

/** Multiple choice as lm-eval scores it. */
typedef struct ws_choice_score {
    int64_t questions;
    double acc, acc_se;           /**< the likeliest choice is the right one */
    double acc_norm, acc_norm_se; /**< the likeliest per unit of length */
    int64_t tokens;               /**< of all right choices */
    double loss;                  /**< mean of -ln p over these, nats per token */
    double accuracy;              /**< share of these that were the likeliest token */
    uint8_t *hit;                 /**< (questions) for acc; owned */
} ws_choice_score;

/**
 * Score @p m on questions. A context that is too long for the model's positions loses
 * its beginning.
 *
 * @param out  for ws_choice_score_free()
 * @return WS_OK; WS_E_USAGE no question, a choice without tokens or longer than the
 *         model's positions, or a token beyond the vocabulary; WS_E_NOT_FINITE;
 *         WS_E_MEMORY; WS_E_INTERRUPTED
 * @source EleutherAI/lm-evaluation-harness, task type multiple_choice
 */
WS_API ws_status ws_eval_choices(const ws_model *m, const ws_question *q, size_t n,
                                 ws_choice_score *out, const ws_ctx *ctx, ws_err *err);
WS_API void ws_choice_score_free(ws_choice_score *s);

/** Mean of hit(a) - hit(b), and its standard error; false when they differ in number.
 */
WS_API bool ws_eval_choices_pair(const ws_choice_score *a, const ws_choice_score *b,
                                 double *difference, double *se);

#ifdef __cplusplus
}
#endif

#endif
