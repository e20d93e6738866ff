/*
 * kernel_update_v4.c - updates combined in registers on processors with AVX-512
 *
 * Comparisons stay in mask registers, and the mean of two takes no division.
 * Same bits as kernel_update_lanes.c.
 */
#include "engine/kernel_update.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define WS_V4 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

enum { LANES = 16 };

/** How entries of one sign become one. */
enum way { SUM, AGREEING, MEAN, MEAN_OF_TWO };

WS_V4 static inline __attribute__((always_inline)) __m512
entry(const struct mix *m, void *const *x, size_t k, size_t i)
{
    return _mm512_mul_ps(_mm512_set1_ps(m->coefficient[k]),
                         _mm512_loadu_ps((const float *)x[k] + i));
}

/** Sixteen combined entries of n models from element i on. */
WS_V4 static inline __attribute__((always_inline)) __m512
mixed(const struct mix *m, void *const *x, size_t i, const size_t n, const enum way way)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 sum = zero, share = zero, same = zero;
    __mmask16 all = 0xffff;
    for (size_t k = 0; k < n; k++)
        sum = _mm512_add_ps(sum, entry(m, x, k, i));
    if (way == SUM)
        return sum;
    const __mmask16 rising = _mm512_cmp_ps_mask(sum, zero, _CMP_GE_OQ);
    for (size_t k = 0; k < n; k++) {
        const __m512 t = entry(m, x, k, i);
        const __mmask16 agrees =
            _mm512_mask_cmp_ps_mask(rising, t, zero, _CMP_GT_OQ) |
            _mm512_mask_cmp_ps_mask((__mmask16)~rising, t, zero, _CMP_LT_OQ);
        same = _mm512_mask_add_ps(same, agrees, same, t);
        all &= agrees;
        if (way == MEAN)
            share =
                _mm512_mask_add_ps(share, agrees, share, _mm512_set1_ps(m->weight[k]));
    }
    if (way == MEAN_OF_TWO) // weights of 1: by 2, or by 1
        return _mm512_mask_mul_ps(same, all, same, _mm512_set1_ps(0.5f));
    if (way == MEAN)
        same = _mm512_mask_div_ps(same, _mm512_cmp_ps_mask(share, zero, _CMP_NEQ_UQ),
                                  same, share);
    return same;
}

WS_V4 static inline __attribute__((always_inline)) void
mix_whole(const struct mix *m, void *const *x, const float *base, size_t whole,
          float *out, const size_t n, const enum way way)
{
    const __m512 zero = _mm512_setzero_ps(), gain = _mm512_set1_ps(m->gain);
    for (size_t i = 0; i < whole; i += LANES) {
        const __m512 u = _mm512_mul_ps(gain, mixed(m, x, i, n, way)),
                     b = _mm512_loadu_ps(base + i);
        const __mmask16 moves = _mm512_cmp_ps_mask(u, zero, _CMP_NEQ_UQ);
        _mm512_storeu_ps(out + i, _mm512_mask_add_ps(b, moves, b, u));
    }
}

WS_V4 size_t ws_mix_v4(const struct mix *m, void *const *x, const float *base, size_t n,
                       float *out)
{
    const size_t whole = n / LANES * LANES, k = m->n_models;
    const bool two = k == 2, equal = m->weight[0] == 1.0f && m->weight[1] == 1.0f;
    if (!m->consensus && two)
        mix_whole(m, x, base, whole, out, 2, SUM);
    else if (!m->consensus)
        mix_whole(m, x, base, whole, out, k, SUM);
    else if (!m->normalize)
        mix_whole(m, x, base, whole, out, k, AGREEING);
    else if (two && equal)
        mix_whole(m, x, base, whole, out, 2, MEAN_OF_TWO);
    else
        mix_whole(m, x, base, whole, out, k, MEAN);
    return whole;
}

#else

size_t ws_mix_v4(const struct mix *m, void *const *x, const float *base, size_t n,
                 float *out)
{
    (void)m, (void)x, (void)base, (void)n, (void)out;
    return 0;
}

#endif
