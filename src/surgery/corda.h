/*
 * corda.h - one matrix split into a low-rank part and what is left of it
 *
 *   T = W C~,  C~ = C + damp * mean(diag C) * I,  T = U S V'
 *   B = U_r S_r^1/2,  A = S_r^-1/2 U_r' W,  B A = U_r U_r' W,  W' = W - B A
 *
 * with the r largest (IPM) or smallest (KPM) singular values; C = I gives PiSSA. No
 * inverse of C is taken: A = S^1/2 V' C~^-1 is the same thing. Yang et al. 2024,
 * arXiv:2406.05223; Meng et al. 2024, arXiv:2404.02948.
 */
#ifndef WS_SURGERY_CORDA_H
#define WS_SURGERY_CORDA_H

#include "wsurg/decompose.h"
#include "wsurg/linalg.h"

/** Damp @p C (n, n), upper triangle, double, in place, and mirror it. */
void ws_corda_damp(ws_mat *C, double damp);

/** Bytes that ws_corda() takes beside its arguments: an estimate from above. */
uint64_t ws_corda_bytes(int64_t m, int64_t n, int64_t r, bool smallest, bool with_c);

/**
 * Split @p W.
 *
 * @param W     (m, n) double; unchanged
 * @param C     (n, n) double, symmetric, damped; NULL: the identity. Destroyed
 * @param o     .rank at most min(m, n)
 * @param B     (m, r) out, double
 * @param A     (r, n) out, double
 * @param out   out: its numbers, but .name
 * @return      WS_OK; WS_E_SHAPE; WS_E_NOT_FINITE; WS_E_NO_CONVERGENCE; WS_E_MEMORY;
 *              WS_E_UNSUPPORTED too large for LAPACK
 */
ws_status ws_corda(const ws_mat *W, ws_mat *C, const ws_corda_opts *o, ws_mat *B,
                   ws_mat *A, ws_decomposed *out, ws_err *err);

#endif
