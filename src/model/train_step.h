/*
 * train_step.h - a model forward and backward over one batch: the sockets of training
 *
 * Everything that learns stands on four things here:
 *
 *   parts    the tensors of the checkpoint as the model uses them (a tied head is no
 *            part of its own, a fused q, k, v is one part);
 *   wants    what is wanted of each part: an accumulated gradient, panels of it handed
 *            to a sink, an overlay (task vectors, low-rank adapters) and its gradients;
 *   a step   arena and pool, sized before the first batch from shapes and policy;
 *   a batch  rows of tokens, documents packed one after another.
 *
 * No product is done that no want needs: nothing below the lowest trainable part runs
 * backward, and a frozen weight has no dW. Gradients are those of the loss
 *
 *   L = scale * sum_i weight_i * -log p(target_i)
 *
 * or of one built outside from log-probabilities (ws_step_forward(), then
 * ws_step_backward()) or from logits (ws_row_loss). They are added to what the buffers
 * hold, so that batches accumulate; the caller clears them.
 *
 * All bytes are the same for any number of threads and any policy of memory.
 */
#ifndef WS_MODEL_TRAIN_STEP_H
#define WS_MODEL_TRAIN_STEP_H

#include "model/forward.h"

/* ---- parts ---- */

typedef enum ws_part_kind {
    WS_PART_EMBED,     /**< (V, C); the head too when tied */
    WS_PART_POSITIONS, /**< (max_positions, C) */
    WS_PART_LINEAR,    /**< (out, in), or (in, out) when transposed */
    WS_PART_BIAS,      /**< of a linear */
    WS_PART_NORM,      /**< scale of a norm, those of q and k included */
    WS_PART_NORM_BIAS,
    WS_PART_HEAD /**< (V, C), not tied */
} ws_part_kind;

/** A tensor of the checkpoint that the model uses. */
typedef struct ws_model_part {
    const char *name; /**< as in the checkpoint; the model's */
    ws_part_kind kind;
    int64_t layer;         /**< -1: outside the layers */
    ws_dtype dtype;        /**< of the numbers in memory now */
    ws_dtype stored;       /**< in the checkpoint */
    int64_t rows, cols, n; /**< as stored; a vector has one row */
    bool transposed;       /**< a linear stored (in, out) */
    const void *data;
} ws_model_part;

/** Number of parts. */
WS_API size_t ws_model_part_count(const ws_model *m);

/** Part @p i in the order in which the model uses them; valid until the model goes or
 * ws_model_master() changes it. */
WS_API const ws_model_part *ws_model_part_at(const ws_model *m, size_t i);

/** Its index, or -1. */
WS_API int64_t ws_model_part_find(const ws_model *m, const char *name);

/**
 * Make part @p i a float32 master copy (double in the double build): its numbers are
 * expanded, the stored ones freed, and everything that runs the model (steps made
 * later, ws_fwd of eval and generate) reads the copy. Optimisers write through the
 * pointer between batches. A part that is float32 already keeps its memory.
 *
 * @param numbers  out: (n) in stored layout; the model's
 * @pre   no step or ws_fwd of this model exists
 * @return WS_OK; WS_E_MEMORY
 */
WS_API ws_status ws_model_master(ws_model *m, size_t i, ws_real **numbers, ws_err *err);

/* ---- models that are no file ---- */

/** Told of one tensor as it is stored; a fused one comes once for each view of it. */
typedef ws_status ws_model_tensor_fn(void *arg, const char *name, ws_part_kind kind,
                                     int rank, const uint64_t shape[2], ws_err *err);

/** The tensors that a model of @p d has, in the order of their use. */
ws_status ws_model_tensors(const ws_model_desc *d, ws_model_tensor_fn *visit, void *arg,
                           ws_err *err);

/** As ws_model_open() for a checkpoint that is open; it is the model's from now on,
 * also when this fails. */
ws_status ws_model_take(ws_model **out, ws_ckpt *c, const char *companions,
                        const ws_ctx *ctx, ws_err *err);

/* ---- wants ---- */

/** What is wanted of one part. Zero: it is frozen and used as it is. */
typedef struct ws_want {
    ws_real *grad;            /**< (n) added to, in stored layout; or NULL */
    const ws_grad_sink *sink; /**< or NULL; may stand beside grad; layers.h */
    ws_overlay *over;         /**< or NULL; see layers.h */
} ws_want;

/* ---- a step ---- */

/** What of a layer is kept for the backward; less means computing it again. */
typedef enum ws_keep {
    WS_KEEP_AUTO,  /**< as much as the limit allows, layer by layer */
    WS_KEEP_ALL,   /**< everything but norms and the product of the activation */
    WS_KEEP_SMALL, /**< gate and up are computed again */
    WS_KEEP_INPUT  /**< only the layer's input */
} ws_keep;

typedef struct ws_step_opts {
    int64_t rows;      /**< most rows of one batch */
    int64_t positions; /**< longest document; 0: rows */
    ws_keep keep;
    bool forward_only; /**< ws_step_score() alone will be called */
    int64_t logits;    /**< rows of logits at once; 0: chosen (at most 256 MiB) */
    uint64_t limit;    /**< bytes for the step; 0: what the model's limit leaves after
                             its weights */
    uint64_t beside;   /**< bytes that something else takes meanwhile (gradients,
                             states of the optimiser) */
} ws_step_opts;

/** The plan, before anything is allocated. Bytes and numbers of layers. */
typedef struct ws_step_memory {
    uint64_t kept;    /**< activations that wait for the backward */
    uint64_t work;    /**< buffers that each layer uses anew */
    uint64_t logits;  /**< one chunk of rows by the vocabulary */
    uint64_t panels;  /**< scratch of the threads */
    uint64_t total;   /**< the arena: the sum of the above */
    uint64_t weights; /**< the model's, not in total */
    int64_t layers_all, layers_small, layers_input; /**< by what is kept */
    int64_t layers_frozen;                          /**< below anything trainable */
    int64_t logit_rows;
    double flops; /**< of one full batch: products alone, forward and backward */
} ws_step_memory;

typedef struct ws_step ws_step;

/**
 * What a step would take.
 *
 * @param want  (parts) or NULL: nothing is trained
 * @return WS_OK; WS_E_MEMORY even the least exceeds the limit; WS_E_USAGE more
 *         positions than the model has, or an overlay that does not fit its part
 */
WS_API ws_status ws_step_plan(const ws_model *m, const ws_want *want,
                              const ws_step_opts *o, const ws_ctx *ctx,
                              ws_step_memory *out, ws_err *err);

/**
 * @param m,want  must outlive it; @p want is copied, what it points to is not
 * @param hook    told of the input of every linear in forwards (not again when a
 *                layer is computed twice); NULL: nobody is
 * @return as ws_step_plan()
 */
WS_API ws_status ws_step_new(ws_step **out, const ws_model *m, const ws_want *want,
                             const ws_step_opts *o, const ws_linear_hook *hook,
                             const ws_ctx *ctx, ws_err *err);
WS_API void ws_step_free(ws_step *s);
WS_API const ws_step_memory *ws_step_memory_of(const ws_step *s);

/** The pool, for work between batches (optimisers). */
WS_API ws_pool *ws_step_pool(ws_step *s);

/* ---- a batch ---- */

/**
 * Rows of tokens. Documents lie one after another; a row sees those before it in its
 * own document, and positions start again with each.
 */
typedef struct ws_step_batch {
    int64_t rows;
    const int32_t *tokens;  /**< (rows) */
    const int32_t *targets; /**< (rows) what follows each token, already shifted;
                                 negative (-100): no loss */
    const float *weights;   /**< (rows) of each target; NULL: all 1 */
    const int64_t *start;   /**< (docs) first row of each document, the first is 0 */
    int64_t docs;           /**< 0: one document */
} ws_step_batch;

/** What a batch gave. */
typedef struct ws_step_result {
    double loss;   /**< sum of weight * -log p: divide by the normaliser to show it */
    double weight; /**< sum of the weights of rows with a target */
    int64_t rows;  /**< with a target */
} ws_step_result;

/**
 * A loss of one row of logits, in place of the cross-entropy (entropy, distillation).
 * Called from several threads, each row once.
 *
 * @param row  of the batch
 * @param z    (V) in: logits; out: dLoss/dz of this row
 * @return the row's loss
 */
typedef struct ws_row_loss {
    double (*row)(void *arg, int64_t row, ws_real *z, int64_t V, int thread);
    void *arg;
} ws_row_loss;

/**
 * Forward and backward of scale * sum weight * -log p.
 *
 * @param scale  1 / normaliser: tokens of the whole optimiser step
 * @param logp   (rows) out: log p of each target, 0 where there is none; or NULL
 * @return WS_OK; WS_E_USAGE a token or target beyond the vocabulary, rows or positions
 *         beyond the options; what the hook says
 */
WS_API ws_status ws_step_run(ws_step *s, const ws_step_batch *b, double scale,
                             double *logp, ws_step_result *out, ws_err *err);

/** As ws_step_run(), with @p loss of every row that has a target >= 0; what it leaves
 * in z is multiplied by scale * weight. */
WS_API ws_status ws_step_run_loss(ws_step *s, const ws_step_batch *b, double scale,
                                  const ws_row_loss *loss, ws_step_result *out,
                                  ws_err *err);

/** Log-probabilities alone: nothing is kept. @param logp (rows) out, see
 * ws_step_run() */
WS_API ws_status ws_step_score(ws_step *s, const ws_step_batch *b, double *logp,
                               ws_step_result *out, ws_err *err);

/** Log-probabilities, with everything kept for one ws_step_backward() of the same
 * batch, whose arrays must still be there then. */
WS_API ws_status ws_step_forward(ws_step *s, const ws_step_batch *b, double *logp,
                                 ws_step_result *out, ws_err *err);

/**
 * Backward of any loss of the log-probabilities; logits are computed again.
 *
 * @param upstream  (rows) dL / dlogp of each target (the cross-entropy's is
 *                  -scale * weight); rows without a target are not looked at
 * @pre   the last call was ws_step_forward()
 */
WS_API ws_status ws_step_backward(ws_step *s, const double *upstream, ws_err *err);

#endif
