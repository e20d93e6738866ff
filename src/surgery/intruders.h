/*
 * intruders.h - directions of a tuned matrix that its base did not have
 *
 * Legend: V (m, n) tuned, W (m, n) base, q = min(m, n); U_W the left singular vectors
 * of W whose singular value is not zero.
 *
 *   c_k = max_j |<u_k, U_W,j>|       u_k the k-th left singular vector of V
 *
 * Direction k is an intruder when c_k is below a limit: one of the most important
 * outputs' directions after training that was none before it.
 * Source: Shuttleworth et al. 2024, arXiv:2410.21228.
 */
#ifndef WS_SURGERY_INTRUDERS_H
#define WS_SURGERY_INTRUDERS_H

#include "wsurg/linalg.h"

/** The leading singular triplets of V, each compared with W; ws_intruders_free. */
typedef struct ws_intruders {
    int64_t k;        /* triplets */
    double *s;        /* (k) singular values of V, descending */
    double *cosine;   /* (k) c_k */
    double *U, *Vt;   /* (k, m), (k, n): unit rows; zero where s is */
    double base_norm; /* ||W|| */
} ws_intruders;

/** Fill @p to (m, n) with V (@p tuned) or with W. */
typedef ws_status ws_intruders_load(void *arg, bool tuned, double *to, ws_err *err);

/** Bytes that ws_intruders_find() takes at its most. */
uint64_t ws_intruders_bytes(int64_t m, int64_t n, int64_t top);

/**
 * Examine the first @p top directions (all, where there are fewer).
 *
 * By eigenvectors of the Gram matrices on the smaller side, in double: of V the leading
 * ones, of W all. Singular values of W below 1e-7 of its largest are zero here.
 * @return WS_OK; WS_E_NOT_FINITE, WS_E_NO_CONVERGENCE as ws_eig_range(); WS_E_MEMORY;
 *         what @p load returns
 */
ws_status ws_intruders_find(ws_intruders *out, int64_t m, int64_t n, int64_t top,
                            ws_intruders_load *load, void *arg, ws_err *err);
void ws_intruders_free(ws_intruders *i);

#endif
