/*
 * kernel_lanes.c - sums in double over 16 fixed lanes, products between vectors, and
 * differences
 *
 *   lane[i mod 16] += term_i, i counted since zero
 *
 * Vector units add in lanes anyway; fixing their number fixes the order of the sum, and
 * with it every bit, on all of them and for any cut of the elements. Compiled twice,
 * for float and for double, as the methods are.
 */
#include "wsurg/method.h"

enum { LANES = 16 };

/** x[i] y[i], or |x[i]| where y is NULL: each caller knows which. */
static inline double term(const ws_real *x, const ws_real *y, size_t i)
{
    return y == NULL ? fabs((double)x[i]) : (double)x[i] * (double)y[i];
}

static inline __attribute__((always_inline)) void
lanes_add(ws_lanes *acc, const ws_real *x, const ws_real *y, size_t n)
{
    const uint64_t at = acc->count;
    double lane[LANES];
    size_t i = 0;

    memcpy(lane, acc->lane, sizeof lane);
    for (; i < n && (at + i) % LANES != 0; i++)
        lane[(at + i) % LANES] += term(x, y, i);
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] += term(x, y, i + j);
    for (; i < n; i++)
        lane[(at + i) % LANES] += term(x, y, i);
    memcpy(acc->lane, lane, sizeof lane);
    acc->count = at + n;
}

WS_HOT void ws_lanes_add_abs(ws_lanes *acc, const ws_real *x, size_t n)
{
    lanes_add(acc, x, NULL, n);
}

WS_HOT void ws_lanes_add_dot(ws_lanes *acc, const ws_real *x, const ws_real *y,
                             size_t n)
{
    lanes_add(acc, x, y, n);
}

WS_HOT void ws_delta(ws_real *out, const ws_real *a, const ws_real *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = a[i] - b[i];
}

void ws_gram_add(ws_lanes *lanes, const void *const *v, size_t n_vectors, size_t n)
{
    enum { RUN = 1024 }; // of all vectors, in the first-level cache
    for (size_t at = 0; at < n; at += RUN)
        for (size_t j = 0; j < n_vectors; j++)
            for (size_t i = 0; i <= j; i++)
                ws_lanes_add_dot(&lanes[ws_gram_at(i, j)], (const ws_real *)v[i] + at,
                                 (const ws_real *)v[j] + at,
                                 n - at < RUN ? n - at : RUN);
}
