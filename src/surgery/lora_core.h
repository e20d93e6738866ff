/*
 * lora_core.h - sums of factored updates of one module
 *
 * Legend: K updates D_k = s_k B_k A_k, B_k (m, r_k), A_k (r_k, n), R = sum of r_k,
 * p = min(m, R), q = min(n, R).
 */
#ifndef WS_SURGERY_LORA_CORE_H
#define WS_SURGERY_LORA_CORE_H

#include "wsurg/linalg.h"
#include "wsurg/lora.h"

/** One update, factors in memory. */
typedef struct ws_lora_part {
    int64_t r;
    double s; /* weight times scale */
    const double *A, *B;
} ws_lora_part;

/** Bytes that one sum of updates of ranks @p R in all takes at its most, with what it
 * is read into. */
uint64_t ws_lora_core_bytes(int64_t R, int64_t m, int64_t n);

/** A sum of updates as one pair of factors; ws_free. */
typedef struct ws_lora_sum {
    int64_t m, n, r;
    double alpha; /* so that alpha / r is the scale to store */
    float *A, *B;
    double norm;  /* Frobenius norm of the exact sum; NAN if it was not asked for */
    double error; /* of what is left out by cutting the rank, same unit */
} ws_lora_sum;

void ws_lora_sum_free(ws_lora_sum *s);

/**
 * The sum by concatenation, exact but for rounding B to float where scales differ:
 * rank R.
 */
ws_status ws_lora_concat(ws_lora_sum *out, const ws_lora_part *parts, size_t n_parts,
                         int64_t m, int64_t n, ws_err *err);

/**
 * The sum cut to rank @p rank: B = Qb Rb, A = La Qa, singular values of the core
 * Rb La, square roots to both sides. Where @p rank is no cut, an exact sum of the
 * smallest rank p or q that there can be.
 * @source frontier: exact truncation through QR of both factors
 */
ws_status ws_lora_compress(ws_lora_sum *out, const ws_lora_part *parts, size_t n_parts,
                           int64_t m, int64_t n, int64_t rank, ws_err *err);

/** Frobenius norm and largest singular value of the sum, from the core. */
ws_status ws_lora_norms(double *norm, double *largest, const ws_lora_part *parts,
                        size_t n_parts, int64_t m, int64_t n, ws_err *err);

/** How updates are merged in aligned coordinates. */
typedef struct ws_lora_merge {
    ws_lora_method method; /* not WS_LORA_LINEAR */
    double density, gamma;
    uint64_t seed;
    const char *name; /* of the module: key of random numbers */
} ws_lora_merge;

/**
 * The updates merged in aligned coordinates (KnOTS): [D_1 ... D_K] = U S [V_1 ... V_K],
 * the V_k are pruned and merged entry by entry, the sum is U S V. All in the factored
 * core. @p parts with .s the scale alone; @p weights (n_parts).
 * @source Stoica et al. 2024, arXiv:2410.19735
 */
ws_status ws_lora_align(ws_lora_sum *out, const ws_lora_part *parts,
                        const double *weights, size_t n_parts, int64_t m, int64_t n,
                        int64_t rank, const ws_lora_merge *how, ws_err *err);

#endif
