/*
 * cov_collect.h - covariances of the inputs of some of a model's linears
 */
#ifndef WS_SURGERY_COV_COLLECT_H
#define WS_SURGERY_COV_COLLECT_H

#include "base/pool.h"
#include "model/forward.h"
#include "wsurg/calibrate.h"

/** Inputs of one block that differ: q (k and v have the same), o, gate or up, down. */
enum { WS_COV_SLOTS = 4 };

/** One matrix being summed. */
typedef struct ws_cov_sum {
    int64_t n;
    double *sum; /**< n (n + 1) / 2, the upper triangle row by row */
} ws_cov_sum;

/** One pass through the model. */
typedef struct ws_cov_pass {
    const ws_model *model;
    ws_fwd *fwd;
    ws_normalise normalise;
    int64_t first, last; /**< layers wanted, inclusive; the pass stops after them */
    ws_cov_sum *sums;    /**< (layers wanted * WS_COV_SLOTS) */
    float *panels;       /**< scratch: (threads, WS_COV_PANEL, widest) */
    float *scaled;       /**< scratch: (seq, widest) */
    int64_t widest;
} ws_cov_pass;

/** Rows of the triangle that one thread makes at once: a fixed cut. */
enum { WS_COV_PANEL = 128 };

/**
 * Add X'X of one sample, divided by the square of |max X| unless normalise is none.
 *
 * @param X       (t, n) rows are tokens
 * @param scaled  (t, n) scratch
 * @param panels  scratch: (threads of the pool, WS_COV_PANEL, n)
 * @param sum     (n (n + 1) / 2) the upper triangle, row by row
 * @return WS_OK; WS_E_NOT_FINITE X holds NaN or infinity; WS_E_UNSUPPORTED
 */
ws_status ws_cov_add(ws_pool *pool, ws_normalise normalise, const ws_real *X, int64_t t,
                     int64_t n, float *scaled, float *panels, double *sum, ws_err *err);

/** Slot that a linear's input is summed in, or -1 where another has the same input. */
int ws_cov_slot(const ws_model *m, int64_t layer, ws_linear_kind kind);

/** Order of the matrix of slot @p slot; 0: this model has none there. */
int64_t ws_cov_order(const ws_model *m, int64_t layer, int slot);

/** Run one sample and add its products. As ws_fwd_run(). */
ws_status ws_cov_sample(ws_cov_pass *p, const int32_t *tokens, int64_t n, ws_err *err);

#endif
