/*
 * layers.h - the layers of a transformer, forward beside backward
 *
 * Legend: n rows (tokens), C hidden, H query heads, K kv heads, G = H / K, D head size,
 * F MLP width, V vocabulary. Matrices are row-major; dY is the gradient with respect to
 * Y. All functions are pure but for their outputs; those that take a pool spread fixed
 * tiles over it, so that the bytes do not depend on its size.
 */
#ifndef WS_MODEL_LAYERS_H
#define WS_MODEL_LAYERS_H

#include <stdbool.h>

#include "base/pool.h"
#include "model/desc.h"
#include "model/real.h"

/**
 * What lies over a weight: the weight that the layers see is
 *
 *   W = W0 + sum_k lambda_k tau_k + B diag(gain) A
 *
 * expanded panel by panel, so that no W ever exists whole. One overlay belongs to one
 * stored tensor (a fused q, k, v is one). All pointers are the caller's. Gradients are
 * added to, where they are wanted.
 */
typedef struct ws_overlay {
    int64_t n;                 /**< task vectors */
    const void *const *tau;    /**< (n) each as the tensor is stored: shape, layout */
    const ws_dtype *tau_dtype; /**< (n) */
    const ws_real *lambda;     /**< (n) */
    int64_t rank;              /**< of the low-rank term, linears only; 0: none */
    const ws_real *A;          /**< (rank, in) */
    const ws_real *B;          /**< (out, rank) */
    const ws_real *gain;       /**< (rank): scale of an adapter, or lambda of each of
                                  several stacked ones */
    ws_real *dA, *dB;          /**< or NULL: not wanted */
    ws_real *dgain; /**< (rank) or NULL; dlambda of stacked adapters is its sum
                                  over their ranks */
} ws_overlay;

/** A matrix (rows, cols) = (out, in) of a checkpoint, as stored, or a view into one; a
 * vector has one row. data is NULL where the model has none. */
typedef struct ws_weight {
    const char *name;
    ws_dtype dtype;
    const unsigned char *data; /**< first element of the view */
    int64_t rows, cols;
    int64_t ld;             /**< elements between stored rows */
    bool transposed;        /**< stored as (in, out): Conv1D */
    size_t part;            /**< index of the tensor, see train_step.h */
    int64_t offset;         /**< of the view's first element in the tensor */
    int64_t from;           /**< first output of the view among the tensor's */
    const ws_overlay *over; /**< or NULL */
} ws_weight;

/* ---- weight.c ---- */

/** The (cols) numbers of a vector: where they lie, or expanded into @p scratch (cols).
 * NULL when the model has none. */
const ws_real *ws_weight_vector(const ws_weight *w, ws_real *scratch);

/** Stored row @p row (cols) of a table. */
void ws_weight_row(const ws_weight *w, int64_t row, ws_real *out);

/** @p n numbers of a vector from @p from. */
void ws_weight_part(const ws_weight *w, int64_t from, int64_t n, ws_real *out);

/** The block W[r0 .. r1, c0 .. c1) as a matrix to be read: where it lies, or expanded
 * into @p scratch. Stored (in, out), it comes out transposed. */
ws_mat ws_weight_block(const ws_weight *w, int64_t r0, int64_t r1, int64_t c0,
                       int64_t c1, ws_real *scratch);

/* ---- elementwise: act.c ---- */

/** y = exp(x), about one unit in the last place; x may be y. */
void ws_act_exp(const ws_real *x, ws_real *y, int64_t n);

/** x = exp(x - shift) in place; returns the sum, in fixed lanes. */
ws_real ws_act_exp_sum(ws_real *x, int64_t n, ws_real shift);

/** Largest of n >= 1 numbers. */
ws_real ws_row_max(const ws_real *x, int64_t n);

/** y = act(x); x may be y. */
void ws_act_forward(ws_act_kind act, const ws_real *x, ws_real *y, int64_t n);

/** dx = dy * act'(x); dx may be dy. */
void ws_act_backward(ws_act_kind act, const ws_real *x, const ws_real *dy, ws_real *dx,
                     int64_t n);

/** y = act(g) * u; y may be g or u. */
void ws_act_gated_forward(ws_act_kind act, const ws_real *g, const ws_real *u,
                          ws_real *y, int64_t n);

/** dg = dy * u * act'(g), du = dy * act(g). */
void ws_act_gated_backward(ws_act_kind act, const ws_real *g, const ws_real *u,
                           const ws_real *dy, ws_real *dg, ws_real *du, int64_t n);

/* ---- norm.c ---- */

/**
 * One row: y = w * x * r (RMS), (1 + w) * x * r, or w * (x - mean) * r + b (layer
 * norm), r = 1 / sqrt(mean((x - mean)^2) + eps).
 *
 * @param x,y  (n); may be the same
 * @param w,b  (n); b only for the layer norm
 * @param stat out: mean (0 for RMS) and r, for the backward; may be NULL
 */
void ws_norm_forward(ws_norm_kind kind, double eps, const ws_real *x, const ws_real *w,
                     const ws_real *b, ws_real *y, int64_t n, ws_real stat[2]);

/**
 * One row backward: dx += its gradient; dw, db += theirs (NULL: not wanted).
 *
 * @param stat  as the forward left it
 */
void ws_norm_backward(ws_norm_kind kind, const ws_real *x, const ws_real *w,
                      const ws_real *dy, const ws_real stat[2], ws_real *dx,
                      ws_real *dw, ws_real *db, int64_t n);

/* ---- rope.c ---- */

/** Cosines and sines of positions 0 .. n_pos-1, each (n_pos, dim / 2), times the
 * attention factor. */
void ws_rope_table(const ws_rope *rope, int64_t max_positions, int64_t n_pos,
                   ws_real *cosine, ws_real *sine);

/** Turn the first dim of each of @p heads heads of D numbers; @p back turns the other
 * way: the backward of the forward. c, s are the position's row of the tables. */
void ws_rope_apply(ws_real *x, int64_t heads, int64_t D, int64_t dim, const ws_real *c,
                   const ws_real *s, bool back);

/* ---- layer_linear.c ---- */

/** What a linear needs beside its operands. */
typedef struct ws_scratch {
    ws_pool *pool;
    ws_real **panel;   /**< per thread */
    int64_t panel_len; /**< numbers in each */
    ws_real *low;      /**< (2, n, rank) when an overlay has a low rank; else NULL */
} ws_scratch;

/** Numbers that a panel of ws_linear_* takes for a linear (@p rows, @p cols); the sink
 * of its gradient included. */
int64_t ws_linear_panel(int64_t rows, int64_t cols, bool transposed);

/**
 * A panel of a gradient, handed out while it is hot in the cache: the socket of what
 * wants gradients and must not keep them (update in place, gather masked entries, dot
 * with task vectors, masks). Element (i, j) of dw belongs to element
 * offset + i * ld + j of the stored tensor, whatever its layout.
 *
 * Panels come from several threads at once. Within one batch, panels of one part never
 * overlap, except those of WS_PART_EMBED and WS_PART_HEAD, which come in any number of
 * summands. Which panels there are, and their bytes, do not depend on the threads;
 * their order does, so a sum over panels is kept per panel (by offset) and joined in
 * order, or goes to elements.
 */
typedef struct ws_grad_panel {
    size_t part;
    int64_t offset, rows, cols, ld;
    ws_real *dw;     /**< (rows, cols) without gaps; scratch, may be changed */
    int64_t summand; /**< 0, or for an embedding and a head counts the summands */
    int thread;
} ws_grad_panel;

typedef struct ws_grad_sink {
    void (*panel)(void *arg, const ws_grad_panel *p);
    void *arg;
} ws_grad_sink;

/**
 * Y = X W^T + b.
 *
 * @param w     (out, in)
 * @param bias  (out), data NULL: none
 * @param X     (n, in), rows ldx apart
 * @param Y     (n, out) out, rows ldy apart; with @p add, Y += instead
 */
ws_status ws_linear_forward(const ws_scratch *s, const ws_weight *w,
                            const ws_weight *bias, const ws_real *X, int64_t ldx,
                            int64_t n, ws_real *Y, int64_t ldy, bool add, ws_err *err);

/**
 * dX (n, in) = dY (n, out) W; with @p add, dX += instead.
 *
 * @param low_made  nothing was done on @p s since ws_linear_dlow() of w and dY: its
 *                  dY B is taken, not made again
 */
ws_status ws_linear_dx(const ws_scratch *s, const ws_weight *w, const ws_real *dY,
                       int64_t ldy, int64_t n, ws_real *dX, int64_t ldx, bool add,
                       bool low_made, ws_err *err);

/**
 * dW = dY^T X, added to @p grad and handed to @p sink; either may be NULL.
 *
 * @param grad     (elements of the whole tensor), in stored layout
 * @param summand  for the panels
 */
ws_status ws_linear_dw(const ws_scratch *s, const ws_weight *w, const ws_real *dY,
                       int64_t ldy, const ws_real *X, int64_t ldx, int64_t n,
                       ws_real *grad, const ws_grad_sink *sink, int64_t summand,
                       ws_err *err);

/** Gradients of the low-rank term of w's overlay, where it wants them; no dW is made.
 * Leaves dY B diag(gain) in s->low for ws_linear_dx(). */
ws_status ws_linear_dlow(const ws_scratch *s, const ws_weight *w, const ws_real *dY,
                         int64_t ldy, const ws_real *X, int64_t ldx, int64_t n,
                         ws_err *err);

/* ---- attention.c ---- */

/** Rows of one sequence: query row + j sits at position past + j and sees the key rows
 * key .. key + past + j of its own sequence. */
typedef struct ws_span {
    int64_t row, n; /**< query rows row .. row + n */
    int64_t key;    /**< key row of position 0 */
    int64_t past;   /**< positions before the first query row */
} ws_span;

typedef struct ws_attention {
    int64_t H, K, D;
    int64_t window; /**< keys seen, itself included; 0: all */
    double scale;
    const ws_span *span;
    int64_t n_span;
} ws_attention;

/** Numbers of scratch per thread for spans that see at most @p keys keys. */
int64_t ws_attention_scratch(const ws_attention *a, int64_t keys);

/**
 * O = softmax(scale * Q K^T, masked) V, by blocks of query rows.
 *
 * @param Q    (rows, H * D)
 * @param Kx,V (key rows, K * D)
 * @param O    (rows, H * D) out; may be Q
 * @param lse  (rows, H) out, log of the sum of exponentials, for the backward; or NULL
 */
ws_status ws_attention_forward(const ws_scratch *s, const ws_attention *a,
                               const ws_real *Q, const ws_real *Kx, const ws_real *V,
                               ws_real *O, ws_real *lse, ws_err *err);

/** As ws_attention_scratch(), for the backward. */
int64_t ws_attention_backward_scratch(const ws_attention *a, int64_t keys);

/**
 * Backward of ws_attention_forward(). Spans share no key row.
 *
 * @param O,lse  as the forward left them
 * @param dO     (rows, H * D)
 * @param dQ     (rows, H * D) out; may be dO
 * @param dK,dV  (key rows, K * D); added to
 */
ws_status ws_attention_backward(const ws_scratch *s, const ws_attention *a,
                                const ws_real *Q, const ws_real *Kx, const ws_real *V,
                                const ws_real *O, const ws_real *lse, const ws_real *dO,
                                ws_real *dQ, ws_real *dK, ws_real *dV, ws_err *err);

/* ---- loss.c ---- */

/** What the cross-entropy says of one row. */
typedef struct ws_ce_row {
    double logp; /**< log-probability of the label */
    double lse;
    int64_t argmax;
} ws_ce_row;

/** One row of logits (V): log-probability of @p label (-1: only lse and argmax).
 * @p z is left as exp(z - max). */
void ws_ce_forward(ws_real *z, int64_t V, int64_t label, ws_ce_row *out);

/** After ws_ce_forward(): z = (softmax - onehot) * scale, the gradient of
 * scale * loss. */
void ws_ce_backward(ws_real *z, int64_t V, int64_t label, double scale);

#endif
