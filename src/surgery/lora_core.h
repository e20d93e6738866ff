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

/** A sum of updates as one pair of factors, (alpha / r) B A; ws_lora_sum_free. */
typedef struct ws_lora_sum {
    int64_t m, n, r;
    double alpha;
    double *A, *B;
    double norm;  /* Frobenius norm of the exact sum; NAN if it is not known */
    double error; /* norm of what is left out by cutting the rank */
} ws_lora_sum;

void ws_lora_sum_free(ws_lora_sum *s);

/** Factors as an adapter stores them; ws_lora_stored_free. */
typedef struct ws_lora_stored {
    float *A, *B;
    double rounding; /* norm of what storing them changes of the sum */
} ws_lora_stored;

/** Round the factors of @p s to float, and on to @p dtype, in which they will be
 * written. @return WS_OK; WS_E_MEMORY */
ws_status ws_lora_store(ws_lora_stored *out, const ws_lora_sum *s, ws_dtype dtype,
                        ws_err *err);
void ws_lora_stored_free(ws_lora_stored *s);

/** The alpha of ws_lora_concat() for these parts: where all scales are of one size,
 * they go into it and B stays as it is. Looks at ranks and scales alone. */
double ws_lora_concat_alpha(const ws_lora_part *parts, size_t n_parts);

/** The sum by concatenation, exactly: rank R. */
ws_status ws_lora_concat(ws_lora_sum *out, const ws_lora_part *parts, size_t n_parts,
                         int64_t m, int64_t n, ws_err *err);

/**
 * The sum cut to rank @p rank: B = Qb Rb, A = La Qa, singular values of the core
 * Rb La, square roots to both sides. The rank of the result is min(rank, m, n, R),
 * which is no cut where it is that of the sum or more.
 * @source frontier: exact truncation through QR of both factors
 */
ws_status ws_lora_compress(ws_lora_sum *out, const ws_lora_part *parts, size_t n_parts,
                           int64_t m, int64_t n, int64_t rank, ws_err *err);

/** Frobenius norm and, unless @p largest is NULL, the largest singular value of the
 * sum, from the core. */
ws_status ws_lora_norms(double *norm, double *largest, const ws_lora_part *parts,
                        size_t n_parts, int64_t m, int64_t n, ws_err *err);

/** Bytes that ws_lora_align() takes beyond ws_lora_core_bytes(), for @p K parts. */
uint64_t ws_lora_align_bytes(size_t K, int64_t R, int64_t m, int64_t n);

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
