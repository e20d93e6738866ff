/*
 * train_internal.h - what the files of a training step share
 */
#ifndef WS_MODEL_TRAIN_INTERNAL_H
#define WS_MODEL_TRAIN_INTERNAL_H

#include "model/train_step.h"

/** Which gradients of a layer somebody needs, from its output down. */
typedef struct ws_layer_need {
    bool gu;     /**< of gate and up */
    bool mlp_h;  /**< of the normed input of the MLP */
    bool mid;    /**< of the residual between attention and MLP */
    bool qkv;    /**< of q, k, v, after the positions */
    bool attn_h; /**< of the normed input of attention */
    bool x;      /**< of the layer's input */
} ws_layer_need;

/** Where the activations of a layer lie: its own buffers, or those that layers share.
 */
typedef struct ws_layer_acts {
    ws_keep keep;
    bool frozen;        /**< runs as inference: nothing is kept, all in place */
    ws_real *x, *mid;   /**< (n, C) */
    ws_real *q, *k, *v; /**< (n, HD), (n, KD), (n, KD); before their norms when there
                                  are norms and the layer is not frozen */
    ws_real *o, *lse;   /**< (n, HD), (n, H) */
    ws_real *g, *u;     /**< (n, F) */
} ws_layer_acts;

struct ws_step {
    const ws_model *m;
    ws_want *want;
    ws_step_opts opts;
    ws_step_memory memory;
    const ws_linear_hook *hook;
    ws_pool *pool;
    ws_scratch scratch;

    // weights under their overlays
    ws_layer *layer;
    ws_weight embed, positions, final_norm, final_norm_b, head;
    ws_layer_need *need;
    bool need_final; // gradient of the last residual
    int64_t first;   // lowest layer that keeps anything

    // the arena
    unsigned char *all;
    ws_layer_acts *acts;    // (L)
    ws_real *last;          // (n, C) the last residual
    ws_real *h, *dx;        // (n, C)
    ws_real *stat;          // (n, 2) of the last norm
    ws_real *big;           // (n, F), or the five below
    ws_real *dq, *dk, *dv;  // (n, HD), (n, KD), (n, KD)
    ws_real *qt, *kt;       // (n, HD), (n, KD): normed and turned
    ws_real *vector[4];     // (max(C, D))
    ws_real *partial;       // (chunks, 2, D) sums of the norms of q and k
    ws_real *cosine, *sine; // (positions, dim / 2)
    ws_real *logits;        // (logit rows, V)
    int64_t *position;      // (n)
    int64_t *valid;         // (n) rows with a target
    int64_t *key;           // (n)
    double *upstream;       // (n) by valid row
    double *row_loss;       // (n) by valid row: loss, or log p
    ws_span *span;          // (n)

    // the batch at work
    const ws_step_batch *batch;
    int64_t n, n_span, n_valid;
    bool again; // a layer is computed a second time
    bool kept;  // ws_step_backward() may come
};

enum { WS_STEP_CHUNK = 64 }; // rows of a chunk of sums

/** Whether a gradient of the weight itself is wanted. */
bool ws_step_trains(const ws_step *s, const ws_weight *w);

/** Whether anything of it is: gradient, or those of its low-rank overlay. */
bool ws_step_wants(const ws_step *s, const ws_weight *w);

/** Run fn on chunks of @p n rows over the pool, or here when @p numbers per row make
 * too little work. */
void ws_step_rows(ws_step *s, int64_t n, int64_t numbers,
                  void (*fn)(void *arg, int64_t i0, int64_t i1, int thread), void *arg);

/** h = norm(x) of all rows, with the statistics. */
void ws_step_norm(ws_step *s, const ws_weight *w, const ws_weight *b, const ws_real *x);

/** dx += of norm(x), whose gradient is @p dy, with the statistics of
 * ws_step_norm(); and the gradients of its weights. */
void ws_step_norm_backward(ws_step *s, const ws_weight *w, const ws_weight *b,
                           const ws_real *x, const ws_real *dy, ws_real *dx);

/** Gradient of a vector of @p cols: the sum over rows of dy (x - mean) r, or of dy
 * when @p x is NULL. */
void ws_step_column_sums(ws_step *s, const ws_weight *w, const ws_real *dy,
                         const ws_real *x);

/** Gradient of a table of rows: row id[i] += scale * dy[i]. */
void ws_step_table_grad(ws_step *s, const ws_weight *w, const int32_t *id,
                        const int64_t *id64, const ws_real *dy, double scale,
                        int64_t summand);

/** Layer @p l of the rows in its x, into @p next. */
ws_status ws_step_layer_forward(ws_step *s, int64_t l, ws_real *next, ws_err *err);

/** dx through layer @p l, with the gradients on the way. */
ws_status ws_step_layer_backward(ws_step *s, int64_t l, ws_err *err);

/** How the head is run. */
typedef struct ws_head_run {
    bool forward;            /**< log-probabilities into row_loss */
    bool backward;           /**< gradients, from upstream by valid row */
    const ws_row_loss *loss; /**< or NULL: cross-entropy */
} ws_head_run;

/** Last norm, head and loss; with a backward dx becomes the gradient of the last
 * residual. */
ws_status ws_step_head(ws_step *s, const ws_head_run *r, ws_err *err);

#endif
