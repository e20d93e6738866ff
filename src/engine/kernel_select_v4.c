/*
 * kernel_select_v4.c - counting one window over floats, and gathering what a window may
 * hold, on processors with AVX-512
 *
 * Compilers find no form of these loops that keeps comparisons in mask registers and
 * packs the few elements they choose next to each other. Same counts as
 * kernel_select_scan.c's loop.
 */
#include "engine/kernel_select.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define WS_V4 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt")))

bool ws_select_has_v4(void)
{
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("popcnt");
}

/** Offsets from the window's first pattern into the bins. */
static void count_offsets(const struct select_cut *c, const uint32_t *offset, size_t n,
                          uint32_t *table)
{
    const uint32_t rest = ((uint32_t)1 << c->shift) - 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t *at = &table[offset[i] >> c->shift];
        *at = (*at + 2) | ((offset[i] & rest) != 0);
    }
}

WS_V4 size_t ws_select_count_v4(const struct select_cut *c, const float *x, size_t n,
                                uint32_t *table, uint64_t *above)
{
    enum { LANES = 16, CHUNK = 1024 };
    const __m512i magnitude = _mm512_set1_epi32(INT32_MAX), one = _mm512_set1_epi32(1),
                  lo = _mm512_set1_epi32((int)(uint32_t)c->lo),
                  span = _mm512_set1_epi32((int)(uint32_t)(c->hi - c->lo)),
                  hi = _mm512_set1_epi32((int)(uint32_t)c->hi),
                  heavy = _mm512_set1_epi32((int)(uint32_t)c->heavy);
    const size_t whole = n / LANES * LANES;
    uint64_t n_heavy = 0;

    for (size_t i = 0; i < whole; i += CHUNK) {
        const size_t end = whole - i < CHUNK ? whole : i + CHUNK;
        uint32_t offset[CHUNK + LANES]; // a store writes all lanes
        __m512i larger = _mm512_setzero_si512(), equal = larger;
        size_t inside = 0;
        for (size_t at = i; at < end; at += LANES) {
            const __m512i p = _mm512_and_si512(_mm512_loadu_si512(x + at), magnitude);
            const __m512i d = _mm512_sub_epi32(p, lo);
            const __mmask16 is_heavy = _mm512_cmpeq_epi32_mask(p, heavy);
            const __mmask16 in =
                _mm512_mask_cmple_epu32_mask((__mmask16)~is_heavy, d, span);
            larger = _mm512_mask_add_epi32(larger, _mm512_cmpgt_epi32_mask(p, hi),
                                           larger, one);
            equal = _mm512_mask_add_epi32(equal, is_heavy, equal, one);
            _mm512_storeu_si512(offset + inside, _mm512_maskz_compress_epi32(in, d));
            inside += (size_t)__builtin_popcount(in);
        }
        *above += (uint32_t)_mm512_reduce_add_epi32(larger);
        n_heavy += (uint32_t)_mm512_reduce_add_epi32(equal);
        count_offsets(c, offset, inside, table);
    }
    if (n_heavy > 0)
        table[(c->heavy - c->lo) >> c->shift] += (uint32_t)n_heavy * 2;
    return whole;
}

enum { PAIRS = 32 }; // BF16 numbers of a register

/** Gather from one register of each: two numbers share 32 bits, their order is nobody's
 * concern. */
WS_V4 static inline size_t gather_pairs(__m512i x, __m512i base, __m512i floor,
                                        float *out)
{
    const __m512i magnitude = _mm512_set1_epi32(INT32_MAX),
                  upper = _mm512_set1_epi32((int)0xffff0000u);
    const __m512 odd =
        _mm512_sub_ps(_mm512_castsi512_ps(_mm512_and_si512(x, upper)),
                      _mm512_castsi512_ps(_mm512_and_si512(base, upper)));
    const __m512 even = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
                                      _mm512_castsi512_ps(_mm512_slli_epi32(base, 16)));
    const __m512i p = _mm512_and_si512(_mm512_castps_si512(odd), magnitude),
                  q = _mm512_and_si512(_mm512_castps_si512(even), magnitude);
    const __mmask16 in_p = _mm512_cmpge_epi32_mask(p, floor),
                    in_q = _mm512_cmpge_epi32_mask(q, floor);
    const size_t n_p = (size_t)__builtin_popcount(in_p);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(in_p, p));
    _mm512_storeu_si512(out + n_p, _mm512_maskz_compress_epi32(in_q, q));
    return n_p + (size_t)__builtin_popcount(in_q);
}

WS_V4 size_t ws_select_gather_v4(const uint16_t *x, const uint16_t *base, size_t n,
                                 uint32_t floor, float *out)
{
    const __m512i least = _mm512_set1_epi32((int)floor);
    size_t i = 0, k = 0;
    for (; i + PAIRS <= n; i += PAIRS)
        k += gather_pairs(_mm512_loadu_si512(x + i), _mm512_loadu_si512(base + i),
                          least, out + k);
    if (i == n)
        return k;
    // what the last register lacks are equal numbers: their magnitude is 0
    float last[PAIRS + 16];
    const __mmask32 some = (__mmask32)((1u << (n - i)) - 1);
    const size_t m =
        gather_pairs(_mm512_maskz_loadu_epi16(some, x + i),
                     _mm512_maskz_loadu_epi16(some, base + i), least, last);
    memcpy(out + k, last, m * sizeof *out);
    return k + m;
}

#else

bool ws_select_has_v4(void)
{
    return false;
}

size_t ws_select_count_v4(const struct select_cut *c, const float *x, size_t n,
                          uint32_t *table, uint64_t *above)
{
    (void)c, (void)x, (void)n, (void)table, (void)above;
    return 0;
}

size_t ws_select_gather_v4(const uint16_t *x, const uint16_t *base, size_t n,
                           uint32_t floor, float *out)
{
    (void)x, (void)base, (void)n, (void)floor, (void)out;
    return 0;
}

#endif
