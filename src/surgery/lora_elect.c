/*
 * lora_elect.c - pruning and merging of coordinates, entry by entry
 */
#include "surgery/lora_elect.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "wsurg/random.h"

/** The bits of a magnitude, which are in the order of the magnitudes. */
static uint64_t bits_of(double x)
{
    uint64_t bits;
    const double size = fabs(x);
    memcpy(&bits, &size, sizeof bits);
    return bits;
}

/** The @p k-th largest magnitude, from 1; infinity for k = 0. *above is how many are
 * larger. By digits of 11 bits, from the highest. */
static double nth_largest(const double *v, size_t n, size_t k, size_t *above)
{
    enum { DIGIT = 11, COUNTS = 1 << DIGIT };
    size_t counts[COUNTS];
    uint64_t prefix = 0;
    double out;
    *above = 0;
    if (k == 0)
        return INFINITY;
    for (int shift = 55; shift >= 0; shift -= DIGIT) { // 64 bits: 9, then 5 of 11
        memset(counts, 0, sizeof counts);
        for (size_t i = 0; i < n; i++) {
            const uint64_t bits = bits_of(v[i]);
            if (shift == 55 || bits >> (shift + DIGIT) == prefix)
                counts[bits >> shift & (COUNTS - 1)]++;
        }
        size_t d = COUNTS - 1;
        while (*above + counts[d] < k)
            *above += counts[d--];
        prefix = prefix << DIGIT | d;
    }
    memcpy(&out, &prefix, sizeof out);
    return out;
}

/** Zero all but the entries number @p from .. to-1 by magnitude; of equal ones the
 * lower index comes first. */
static void band_keep(double *v, size_t n, size_t from, size_t to)
{
    size_t high_above, low_above;
    // values above high go, and the first of those equal to it; low likewise stays
    const double high = nth_largest(v, n, from, &high_above);
    const double low = nth_largest(v, n, to, &low_above);
    size_t high_left = from - high_above, low_left = to - low_above;
    for (size_t i = 0; i < n; i++) {
        const double x = fabs(v[i]);
        bool keep = x > low || (x == low && low_left > 0);
        low_left -= x == low && low_left > 0;
        if (x > high || (x == high && high_left > 0)) {
            high_left -= x == high && high_left > 0;
            keep = false;
        }
        v[i] = keep ? v[i] : 0.0;
    }
}

static void drop_random(double *v, size_t n, double density, const ws_lora_merge *how,
                        size_t k)
{
    enum { PART = 1024 };
    uint32_t words[PART];
    uint64_t key[2];
    ws_rng_key_make(how->seed, "lora combine dare", (uint32_t)k, how->name, key);
    const ws_rng_key rng = { key[0], key[1] };
    const uint64_t below = ws_random_threshold(density);
    for (size_t at = 0; at < n; at += PART) {
        const size_t m = n - at < PART ? n - at : PART;
        ws_random_fill(&rng, at, words, m);
        for (size_t i = 0; i < m; i++)
            v[at + i] = words[i] < below ? v[at + i] / density : 0.0;
    }
}

/** The weighted sum, or TIES's disjoint mean, into the first array. */
static void merge(double *V, size_t n, const double *weights, size_t K, bool ties)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0, votes = 0, share = 0;
        for (size_t k = 0; k < K; k++)
            votes += weights[k] * V[k * n + i];
        for (size_t k = 0; k < K; k++) {
            const double x = weights[k] * V[k * n + i];
            const bool agrees = x != 0 && (x > 0) == (votes >= 0);
            if (!ties || agrees)
                sum += x;
            if (agrees)
                share += weights[k];
        }
        V[i] = !ties ? sum : share != 0 ? sum / share : 0.0;
    }
}

void ws_lora_elect(double *V, size_t n, const double *weights, size_t K,
                   const ws_lora_merge *how)
{
    for (size_t k = 0; k < K; k++) {
        double *v = V + k * n;
        const size_t keep = (size_t)(how->density * (double)n);
        const size_t large =
            how->method == WS_LORA_BREADCRUMBS ? (size_t)(how->gamma * (double)n) : 0;
        if (how->method == WS_LORA_DARE)
            drop_random(v, n, how->density, how, k);
        else
            band_keep(v, n, large, large + keep < n ? large + keep : n);
    }
    merge(V, n, weights, K, how->method == WS_LORA_TIES);
}
