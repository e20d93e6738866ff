/*
 * compare_kernel.h - sums over runs of values, for figures and differences
 *
 * Runs are tiles of WS_COMPARE_TILE values (the last one of a slice may be shorter);
 * the i-th finite value of a tile goes to lane i mod 16, so that sums are fixed by the
 * slice.
 */
#ifndef WS_ENGINE_COMPARE_KERNEL_H
#define WS_ENGINE_COMPARE_KERNEL_H

#include "wsurg/ckpt.h"

enum { WS_COMPARE_TILE = 4096, WS_COMPARE_LANES = 16 };

/** Sums of one slice; zero before the first tile. */
typedef struct ws_stats_sums {
    uint64_t n; /**< finite values so far */
    uint64_t zeros, nans, infinities;
    uint64_t not_bool; /**< of a BOOL: bytes that are neither 0 nor 1 */
    double shift; /**< the first finite value: deviations from it do not cancel */
    double dev[WS_COMPARE_LANES], dev_sq[WS_COMPARE_LANES], sq[WS_COMPARE_LANES];
    double min[WS_COMPARE_LANES], max[WS_COMPARE_LANES];
} ws_stats_sums;

/** Add n <= WS_COMPARE_TILE values; changes @p x. */
WS_API void ws_stats_add(ws_stats_sums *s, double *x, size_t n);

/** Count the bytes of a BOOL that are neither 0 nor 1. */
WS_API void ws_stats_add_bool(ws_stats_sums *s, const uint8_t *raw, size_t n);

/** Sums of one slice of two tensors; zero before the first tile. */
typedef struct ws_diff_sums {
    uint64_t changed, beyond, not_finite, broken;
    bool bytes_differ;
    double diff_sq[WS_COMPARE_LANES], a_sq[WS_COMPARE_LANES], b_sq[WS_COMPARE_LANES];
    double dot[WS_COMPARE_LANES], max_abs[WS_COMPARE_LANES];
} ws_diff_sums;

/** Add n <= WS_COMPARE_TILE pairs of values; changes @p a and @p b. */
WS_API void ws_diff_add(ws_diff_sums *s, double *a, double *b, size_t n,
                        double tolerance);

/** The same with b == a; changes @p a. */
WS_API void ws_diff_add_same(ws_diff_sums *s, double *a, size_t n);

/** Number of n elements of @p size bytes (1, 2, 4, 8) that differ. */
WS_API uint64_t ws_count_unequal(const void *a, const void *b, size_t n, size_t size);

/** Sum of lanes in their fixed order. */
static inline double ws_compare_sum(const double lane[WS_COMPARE_LANES])
{
    double sum = 0.0;
    for (int l = 0; l < WS_COMPARE_LANES; l++)
        sum += lane[l];
    return sum;
}

/** Whether ws_value_f64() knows the dtype: all but C64 and the exotic eight-bit and
 * smaller floats. */
WS_API bool ws_value_known(ws_dtype dt);

/** Expand @p n elements to double; integers above 2^53 are rounded. */
WS_API void ws_value_f64(ws_dtype dt, const void *src, double *dst, size_t n);

#endif
