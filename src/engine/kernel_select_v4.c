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

/** One cut's window in registers, and what a run of elements adds to it. */
struct window {
    __m512i lo, span, hi, heavy;
    __m512i larger, equal; // counted lane by lane
    uint32_t *offset;      // of those inside, a store writes all lanes
    size_t inside;
};

enum { LANES = 16, CHUNK = 1024 };

WS_V4 static inline void window_set(struct window *w, const struct select_cut *c,
                                    uint32_t *offset)
{
    w->lo = _mm512_set1_epi32((int)(uint32_t)c->lo);
    w->span = _mm512_set1_epi32((int)(uint32_t)(c->hi - c->lo));
    w->hi = _mm512_set1_epi32((int)(uint32_t)c->hi);
    w->heavy = _mm512_set1_epi32((int)(uint32_t)c->heavy);
    w->larger = w->equal = _mm512_setzero_si512();
    w->offset = offset;
    w->inside = 0;
}

WS_V4 static inline void window_count(struct window *w, __m512i p)
{
    const __m512i one = _mm512_set1_epi32(1), d = _mm512_sub_epi32(p, w->lo);
    const __mmask16 is_heavy = _mm512_cmpeq_epi32_mask(p, w->heavy);
    const __mmask16 in = _mm512_mask_cmple_epu32_mask((__mmask16)~is_heavy, d, w->span);
    w->larger = _mm512_mask_add_epi32(w->larger, _mm512_cmpgt_epi32_mask(p, w->hi),
                                      w->larger, one);
    w->equal = _mm512_mask_add_epi32(w->equal, is_heavy, w->equal, one);
    _mm512_storeu_si512(w->offset + w->inside, _mm512_maskz_compress_epi32(in, d));
    w->inside += (size_t)__builtin_popcount(in);
}

/** The window's counts into the table; it begins anew. */
WS_V4 static inline void window_take(struct window *w, const struct select_cut *c,
                                     uint32_t *table, uint64_t *above)
{
    const uint32_t n_heavy = (uint32_t)_mm512_reduce_add_epi32(w->equal);
    *above += (uint32_t)_mm512_reduce_add_epi32(w->larger);
    count_offsets(c, w->offset, w->inside, table);
    if (n_heavy > 0)
        table[(c->heavy - c->lo) >> c->shift] += n_heavy * 2;
    w->larger = w->equal = _mm512_setzero_si512();
    w->inside = 0;
}

WS_V4 size_t ws_select_count_v4(const struct select_cut *c, const float *x, size_t n,
                                uint32_t *table, uint64_t *above)
{
    const __m512i magnitude = _mm512_set1_epi32(INT32_MAX);
    const size_t whole = n / LANES * LANES;
    uint32_t offset[CHUNK + LANES];
    struct window w;
    window_set(&w, c, offset);
    for (size_t i = 0; i < whole; i += CHUNK) {
        const size_t end = whole - i < CHUNK ? whole : i + CHUNK;
        for (size_t at = i; at < end; at += LANES)
            window_count(&w, _mm512_and_si512(_mm512_loadu_si512(x + at), magnitude));
        window_take(&w, c, table, above);
    }
    return whole;
}

enum { PAIRS = 32 }; // BF16 numbers of a register

/** |x - base| of one register of each: two numbers share 32 bits, and their order is
 * nobody's concern. */
WS_V4 static inline void magnitudes(__m512i x, __m512i base, __m512i p[2])
{
    const __m512i magnitude = _mm512_set1_epi32(INT32_MAX),
                  upper = _mm512_set1_epi32((int)0xffff0000u);
    const __m512 odd =
        _mm512_sub_ps(_mm512_castsi512_ps(_mm512_and_si512(x, upper)),
                      _mm512_castsi512_ps(_mm512_and_si512(base, upper)));
    const __m512 even = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
                                      _mm512_castsi512_ps(_mm512_slli_epi32(base, 16)));
    p[0] = _mm512_and_si512(_mm512_castps_si512(odd), magnitude);
    p[1] = _mm512_and_si512(_mm512_castps_si512(even), magnitude);
}

/** The same of the last n < PAIRS numbers; what is lacking are equal numbers, whose
 * magnitude is 0. */
WS_V4 static inline void last_magnitudes(const uint16_t *x, const uint16_t *base,
                                         size_t n, __m512i p[2])
{
    const __mmask32 some = (__mmask32)((1u << n) - 1);
    magnitudes(_mm512_maskz_loadu_epi16(some, x), _mm512_maskz_loadu_epi16(some, base),
               p);
}

WS_V4 void ws_select_count_bf16_v4(const struct select_cut *c, const uint16_t *x,
                                   const uint16_t *base, size_t n, uint32_t *table,
                                   uint64_t *above)
{
    uint32_t offset[CHUNK + LANES];
    struct window w;
    __m512i p[2];
    size_t i = 0;
    window_set(&w, c, offset);
    for (; i + PAIRS <= n; i += PAIRS) {
        magnitudes(_mm512_loadu_si512(x + i), _mm512_loadu_si512(base + i), p);
        window_count(&w, p[0]);
        window_count(&w, p[1]);
        if ((i + PAIRS) % CHUNK == 0)
            window_take(&w, c, table, above);
    }
    last_magnitudes(x + i, base + i, n - i, p);
    window_count(&w, p[0]);
    window_count(&w, p[1]);
    window_take(&w, c, table, above);
}

WS_V4 static inline size_t gather(const __m512i p[2], __m512i floor, float *out)
{
    const __mmask16 in[2] = { _mm512_cmpge_epi32_mask(p[0], floor),
                              _mm512_cmpge_epi32_mask(p[1], floor) };
    const size_t n = (size_t)__builtin_popcount(in[0]);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(in[0], p[0]));
    _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi32(in[1], p[1]));
    return n + (size_t)__builtin_popcount(in[1]);
}

WS_V4 size_t ws_select_gather_v4(const uint16_t *x, const uint16_t *base, size_t n,
                                 uint32_t floor, float *out)
{
    const __m512i least = _mm512_set1_epi32((int)floor);
    __m512i p[2];
    size_t i = 0, k = 0;
    for (; i + PAIRS <= n; i += PAIRS) {
        magnitudes(_mm512_loadu_si512(x + i), _mm512_loadu_si512(base + i), p);
        k += gather(p, least, out + k);
    }
    float last[PAIRS + LANES];
    last_magnitudes(x + i, base + i, n - i, p);
    const size_t m = gather(p, least, last);
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

void ws_select_count_bf16_v4(const struct select_cut *c, const uint16_t *x,
                             const uint16_t *base, size_t n, uint32_t *table,
                             uint64_t *above)
{
    (void)c, (void)x, (void)base, (void)n, (void)table, (void)above;
}

#endif
