/*
 * forward.h - a model at work: its activations, its cache of keys and values
 */
#ifndef WS_MODEL_FORWARD_H
#define WS_MODEL_FORWARD_H

#include "model/model_internal.h"

/** Which linear a hook is told of. */
typedef enum ws_linear_kind {
    WS_LINEAR_Q,
    WS_LINEAR_K,
    WS_LINEAR_V,
    WS_LINEAR_O,
    WS_LINEAR_GATE,
    WS_LINEAR_UP,
    WS_LINEAR_DOWN,
    WS_LINEAR_HEAD
} ws_linear_kind;

/**
 * Told of the input of every linear, before it is applied: the socket of covariances.
 *
 * @param X  (n, w->cols) without gaps; q, k, v see the same X, as do gate and up
 */
typedef struct ws_linear_hook {
    ws_status (*input)(void *arg, int64_t layer, ws_linear_kind kind,
                       const ws_weight *w, const ws_real *X, int64_t n, ws_err *err);
    void *arg;
} ws_linear_hook;

typedef struct ws_fwd_opts {
    int64_t rows;      /**< most tokens in one call */
    int64_t positions; /**< most positions of one sequence */
    int64_t cached;    /**< rows of the cache of keys and values; 0: none, a call sees
                            only its own rows */
    int64_t logits;    /**< most rows of logits at once */
    uint64_t beside;   /**< bytes that something else takes meanwhile */
} ws_fwd_opts;

typedef struct ws_fwd ws_fwd;

/** Bytes of a ws_fwd with @p threads threads. */
uint64_t ws_fwd_bytes(const ws_model *m, const ws_fwd_opts *o, int threads);

/**
 * @param m  must outlive it
 * @return WS_OK; WS_E_MEMORY with the model's weights it would exceed the limit
 */
ws_status ws_fwd_new(ws_fwd **out, const ws_model *m, const ws_fwd_opts *o,
                     const ws_ctx *ctx, ws_err *err);
void ws_fwd_free(ws_fwd *e);

/**
 * Run @p tokens, the rows of the spans in order, through all layers and the last norm.
 *
 * @param rows  out: (n, C) what the head takes; borrowed until the next call
 * @return WS_OK; WS_E_USAGE an id beyond the vocabulary, or a position beyond those
 *         the model has; what a hook or a product says
 */
ws_status ws_fwd_run(ws_fwd *e, const int32_t *tokens, const ws_span *span,
                     int64_t n_span, const ws_linear_hook *hook, const ws_real **rows,
                     ws_err *err);

/** Logits (n, V) of @p n rows of what ws_fwd_run() gave; borrowed until the next
 * call. @pre n <= the logits of ws_fwd_opts */
ws_status ws_fwd_logits(ws_fwd *e, const ws_real *rows, int64_t n, ws_real **logits,
                        ws_err *err);

/** Cross-entropy of @p n rows of logits, which become exp(z - max); see
 * ws_ce_forward(). */
void ws_fwd_ce(ws_fwd *e, ws_real *logits, const int32_t *labels, int64_t n,
               ws_ce_row *out);

/** The pool, for work beside the layers. */
ws_pool *ws_fwd_pool(ws_fwd *e);

#endif
