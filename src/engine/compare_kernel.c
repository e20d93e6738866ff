/*
 * compare_kernel.c - sums over runs of values, for figures and differences
 */
#include "engine/compare_kernel.h"

#include <math.h>
#include <string.h>

#include "wsurg/method.h" // WS_HOT

#define LANES WS_COMPARE_LANES

// One reduction to a loop, its lanes in one local array: so compilers keep the lanes in
// registers. Tiles fit the first-level cache, so reading them again costs little.

#define INLINE static inline __attribute__((always_inline))

#define DEFINE_LANES(name, step)                                                       \
    INLINE void name(double acc[LANES], const double *x, const double *y, size_t n)    \
    {                                                                                  \
        double lane[LANES];                                                            \
        size_t i = 0;                                                                  \
        (void)y;                                                                       \
        memcpy(lane, acc, sizeof lane);                                                \
        for (; i + LANES <= n; i += LANES)                                             \
            for (size_t l = 0; l < LANES; l++)                                         \
                step(lane[l], i + l);                                                  \
        for (size_t l = 0; i < n; i++, l++)                                            \
            step(lane[l], i);                                                          \
        memcpy(acc, lane, sizeof lane);                                                \
    }
#define STEP_SUM(lane, i) ((lane) += x[i])
#define STEP_DOT(lane, i) ((lane) += x[i] * y[i])
#define STEP_MIN(lane, i) ((lane) = x[i] < (lane) ? x[i] : (lane))
#define STEP_MAX(lane, i) ((lane) = x[i] > (lane) ? x[i] : (lane))
#define STEP_ABS(lane, i) ((lane) = fabs(x[i]) > (lane) ? fabs(x[i]) : (lane))
DEFINE_LANES(lanes_sum, STEP_SUM)
DEFINE_LANES(lanes_dot, STEP_DOT)
DEFINE_LANES(lanes_min, STEP_MIN)
DEFINE_LANES(lanes_max, STEP_MAX)
DEFINE_LANES(lanes_max_abs, STEP_ABS)

/** Exponent all ones. */
static inline bool not_finite(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return (u & 0x7ff0000000000000u) == 0x7ff0000000000000u;
}

WS_HOT static bool any_not_finite(const double *x, size_t n)
{
    uint64_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t u;
        memcpy(&u, &x[i], sizeof u);
        bad |= (u & 0x7ff0000000000000u) == 0x7ff0000000000000u;
    }
    return bad != 0;
}

/* ---- one tensor ---- */

/** Drop NaN and infinities, counted; the new n. */
static size_t stats_keep_finite(ws_stats_sums *s, double *x, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        s->nans += isnan(x[i]);
        s->infinities += isinf(x[i]) != 0;
        if (!not_finite(x[i]))
            x[kept++] = x[i];
    }
    return kept;
}

/** The sums of n finite values; subtracts the shift from them. */
WS_HOT static void stats_loop(ws_stats_sums *s, double *x, size_t n)
{
    const double shift = s->shift;
    uint64_t zeros = 0;
    lanes_dot(s->sq, x, x, n);
    lanes_min(s->min, x, NULL, n);
    lanes_max(s->max, x, NULL, n);
    for (size_t i = 0; i < n; i++)
        zeros += x[i] == 0.0;
    s->zeros += zeros;
    for (size_t i = 0; i < n; i++)
        x[i] -= shift;
    lanes_sum(s->dev, x, NULL, n);
    lanes_dot(s->dev_sq, x, x, n);
}

void ws_stats_add(ws_stats_sums *s, double *x, size_t n)
{
    if (any_not_finite(x, n))
        n = stats_keep_finite(s, x, n);
    if (n == 0)
        return;
    if (s->n == 0) {
        s->shift = x[0];
        for (int l = 0; l < LANES; l++)
            s->min[l] = s->max[l] = x[0];
    }
    stats_loop(s, x, n);
    s->n += n;
}

void ws_stats_add_bool(ws_stats_sums *s, const uint8_t *raw, size_t n)
{
    uint64_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad += raw[i] > 1;
    s->not_bool += bad;
}

/* ---- two tensors ---- */

/** Drop pairs that are not finite, counted; the new n. */
static size_t diff_keep_finite(ws_diff_sums *s, double *a, double *b, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const bool bad_a = not_finite(a[i]), bad_b = not_finite(b[i]);
        if (!bad_a && !bad_b) {
            a[kept] = a[i];
            b[kept++] = b[i];
            continue;
        }
        s->not_finite += bad_a;
        const bool same = a[i] == b[i] || (isnan(a[i]) && isnan(b[i]));
        s->broken += !same;
        s->changed += !same;
        s->beyond += !same;
    }
    return kept;
}

/** The sums of n pairs of finite values; subtracts b from a. */
WS_HOT static void diff_loop(ws_diff_sums *s, double *a, const double *b, size_t n,
                             double tolerance)
{
    uint64_t changed = 0, beyond = 0;
    lanes_dot(s->a_sq, a, a, n);
    lanes_dot(s->b_sq, b, b, n);
    lanes_dot(s->dot, a, b, n);
    for (size_t i = 0; i < n; i++)
        changed += a[i] != b[i];
    for (size_t i = 0; i < n; i++)
        a[i] -= b[i];
    for (size_t i = 0; i < n; i++)
        beyond += fabs(a[i]) > tolerance;
    lanes_dot(s->diff_sq, a, a, n);
    lanes_max_abs(s->max_abs, a, NULL, n);
    s->changed += changed;
    s->beyond += beyond;
}

void ws_diff_add(ws_diff_sums *s, double *a, double *b, size_t n, double tolerance)
{
    if (any_not_finite(a, n) || any_not_finite(b, n))
        n = diff_keep_finite(s, a, b, n);
    diff_loop(s, a, b, n, tolerance);
}

/** As diff_loop() with b == a: the same lanes in the same order. */
WS_HOT static void same_loop(ws_diff_sums *s, const double *a, size_t n)
{
    lanes_dot(s->a_sq, a, a, n);
    lanes_dot(s->b_sq, a, a, n);
    lanes_dot(s->dot, a, a, n);
}

void ws_diff_add_same(ws_diff_sums *s, double *a, size_t n)
{
    if (any_not_finite(a, n)) {
        size_t kept = 0;
        for (size_t i = 0; i < n; i++) {
            if (not_finite(a[i]))
                s->not_finite++;
            else
                a[kept++] = a[i];
        }
        n = kept;
    }
    same_loop(s, a, n);
}

#define DEFINE_UNEQUAL(name, type)                                                     \
    WS_HOT static uint64_t name(const void *a, const void *b, size_t n)                \
    {                                                                                  \
        const char *pa = a, *pb = b;                                                   \
        uint64_t count = 0;                                                            \
        for (size_t i = 0; i < n; i++) {                                               \
            type x, y;                                                                 \
            memcpy(&x, pa + i * sizeof x, sizeof x);                                   \
            memcpy(&y, pb + i * sizeof y, sizeof y);                                   \
            count += x != y;                                                           \
        }                                                                              \
        return count;                                                                  \
    }
DEFINE_UNEQUAL(unequal_1, uint8_t)
DEFINE_UNEQUAL(unequal_2, uint16_t)
DEFINE_UNEQUAL(unequal_4, uint32_t)
DEFINE_UNEQUAL(unequal_8, uint64_t)

uint64_t ws_count_unequal(const void *a, const void *b, size_t n, size_t size)
{
    switch (size) {
    case 8:
        return unequal_8(a, b, n);
    case 4:
        return unequal_4(a, b, n);
    case 2:
        return unequal_2(a, b, n);
    default:
        return unequal_1(a, b, n);
    }
}

/* ---- values ---- */

bool ws_value_known(ws_dtype dt)
{
    switch (dt) {
    case WS_DT_U64:
    case WS_DT_I64:
    case WS_DT_U32:
    case WS_DT_I32:
    case WS_DT_U16:
    case WS_DT_I16:
    case WS_DT_U8:
    case WS_DT_I8:
    case WS_DT_BOOL:
        return true;
    default:
        return ws_dtype_info(dt)->arithmetic;
    }
}

#define EXPAND(type)                                                                   \
    for (size_t i = 0; i < n; i++) {                                                   \
        type v;                                                                        \
        memcpy(&v, (const char *)src + i * sizeof v, sizeof v);                        \
        dst[i] = (double)v;                                                            \
    }                                                                                  \
    return

void ws_value_f64(ws_dtype dt, const void *src, double *dst, size_t n)
{
    switch (dt) {
    case WS_DT_U64:
        EXPAND(uint64_t);
    case WS_DT_I64:
        EXPAND(int64_t);
    case WS_DT_U32:
        EXPAND(uint32_t);
    case WS_DT_I32:
        EXPAND(int32_t);
    case WS_DT_U16:
        EXPAND(uint16_t);
    case WS_DT_I16:
        EXPAND(int16_t);
    case WS_DT_BOOL:
    case WS_DT_U8:
        EXPAND(uint8_t);
    case WS_DT_I8:
        EXPAND(int8_t);
    default:
        ws_to_f64(dt, src, dst, n);
    }
}
