/*
 * adapter_kernel.h - sums of products of factors, and DoRA's norms
 */
#ifndef WS_HF_ADAPTER_KERNEL_H
#define WS_HF_ADAPTER_KERNEL_H

#include <stddef.h>

/** A rectangle of rows i .. i+m-1 and columns j .. j+n-1. */
typedef struct ws_rect {
    size_t i, m, j, n;
} ws_rect;

/** The part of a matrix of @p cols columns that elements from .. to-1 cover: at most
 * three rectangles, in order. Returns how many. */
size_t ws_rects_of(size_t cols, size_t from, size_t to, ws_rect out[3]);

/**
 * out += s * (L R), on one rectangle.
 *
 * Each element is s times a sum over k = 0 .. r-1 in order, in double without fused
 * operations: its bits depend on neither the rectangle nor the CPU.
 *
 * @param L    (rows, r) row-major
 * @param R    (r, cols) row-major
 * @param out  (m, n) of the rectangle, row-major without gaps
 */
void ws_factors_add(const double *L, const double *R, size_t r, size_t cols, double s,
                    const ws_rect *at, double *out);

#endif
