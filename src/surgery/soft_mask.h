/*
 * soft_mask.h - masks that are learned: from logits to weights, and gradients back
 *
 * Logits l, one for each group of `span` entries of a tensor, are shared by all tasks.
 *
 *   y = sigmoid((l + log u - log(1 - u)) / T)      u uniform, drawn for each step
 *   w = base + sum_t c_t delta_t y / mean(y)       c_t: the operator's gates
 *
 * With g = dL/dw, s = sum_t c_t delta_t, N entries behind the mean:
 *
 *   dL/dy_j = sum_{i in j} g_i s_i / mean - span sum_k g_k s_k y_k / (N mean^2)
 *   dL/dl_j = dL/dy_j y_j (1 - y_j) / T
 *
 * The gates (TIES' choice, DARE's) are constants of a step. u is a function of seed,
 * step, tensor and group, and is made again wherever it is needed.
 *
 * Compiled twice, as the layers are (model/real.h).
 * @source SOMF, arXiv:2405.09055; seed methods, 4
 */
#ifndef WS_SURGERY_SOFT_MASK_H
#define WS_SURGERY_SOFT_MASK_H

#include <stdbool.h>

#include "base/pool.h"
#include "model/real.h"
#include "surgery/mask_rank.h"
#include "wsurg/random.h"

#ifdef WS_MODEL_F64
#define ws_soft_chunks   ws_soft_chunks_f64
#define ws_soft_draw     ws_soft_draw_f64
#define ws_soft_values   ws_soft_values_f64
#define ws_soft_compose  ws_soft_compose_f64
#define ws_soft_backward ws_soft_backward_f64
#endif

/** In the order of the words of --operator, less `auto`. */
typedef enum ws_soft_op {
    WS_SOFT_NONE,   /**< one task as it is */
    WS_SOFT_SUM,    /**< lambda sum_t; of one task as it is */
    WS_SOFT_TIES,   /**< the largest entries, their sign elected, lambda sum */
    WS_SOFT_DARE,   /**< entries dropped at random, the others / (1 - p), lambda sum */
    WS_SOFT_AVERAGE /**< mean over the tasks */
} ws_soft_op;

enum { WS_SOFT_TASKS = 64 };

/** A tensor under a mask. Arrays are the caller's. */
typedef struct ws_soft_block {
    const char *name;
    size_t n, span, groups; /**< n = span * groups */
    ws_dtype base_dtype;
    const void *base;            /**< (n) as stored */
    const ws_real *const *delta; /**< (tasks) (n), NULL: the task changes nothing */
    ws_real *w;                  /**< (n) out: weights */
    const ws_real *grad;         /**< (n) dL/dw */
    ws_real *logits, *dlogits;   /**< (groups) */
    ws_rng_key draw;             /**< of the step */
    double mean, dot;            /**< mean(y); sum g s y */
} ws_soft_block;

typedef struct ws_soft {
    ws_soft_block *blocks;
    size_t n_blocks, tasks;
    ws_soft_op op;
    double lambda;
    double keep; /**< TIES: share kept of each task, over all tensors */
    double drop; /**< DARE: share dropped */
    double temperature;
    bool over_all; /**< the mean is over all tensors (a logit for each tensor) */
    bool hard;     /**< y > 0.5 as 0 and 1; no gradient */
    bool plain;    /**< y = 1: the operator without a mask */
    bool bare;     /**< y = 0: the base */
    uint64_t seed;
    ws_pool *pool;
    double *parts; /**< (2 * ws_soft_chunks()) */
    /* of the step */
    uint64_t step;
    ws_rank_cut cuts[WS_SOFT_TASKS];
    bool negative; /**< TIES: what zeros are taken for */
} ws_soft;

/** Number of pieces of work, from the shapes alone. */
size_t ws_soft_chunks(const ws_soft *s);

/** Draw step @p step: 0, 1, ... Until the next draw everything sees the same u. */
void ws_soft_draw(ws_soft *s, uint64_t step);

/** y of groups @p first .. @p first + n - 1 of @p b. */
void ws_soft_values(const ws_soft *s, const ws_soft_block *b, size_t first, size_t n,
                    ws_real *y);

/**
 * Weights of all blocks, with block.mean. A block whose mask is 0 everywhere is its
 * base.
 * @return WS_OK; WS_E_MEMORY (TIES: histograms)
 */
ws_status ws_soft_compose(ws_soft *s, ws_err *err);

/** dlogits of all blocks from grad. @pre ws_soft_compose() of this draw */
void ws_soft_backward(ws_soft *s);

#endif
