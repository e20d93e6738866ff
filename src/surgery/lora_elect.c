/*
 * lora_elect.c - pruning and merging of coordinates, entry by entry
 */
#include "surgery/lora_elect.h"

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "wsurg/random.h"

/** Descending magnitudes. */
static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/** Zero all but the entries number @p from .. to-1 by magnitude; of equal ones the
 * lower index comes first. */
static void band_keep(double *v, size_t n, size_t from, size_t to, double *sorted)
{
    for (size_t i = 0; i < n; i++)
        sorted[i] = fabs(v[i]);
    qsort(sorted, n, sizeof *sorted, by_size);
    // values above high go, and the first of those equal to it; low likewise stays
    const double high = from > 0 ? sorted[from - 1] : INFINITY;
    const double low = to > 0 ? sorted[to - 1] : INFINITY;
    size_t high_left = 0, low_left = 0;
    for (size_t i = 0; i < from; i++)
        high_left += sorted[i] == high;
    for (size_t i = 0; i < to; i++)
        low_left += sorted[i] == low;
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

ws_status ws_lora_elect(double *V, size_t n, const double *weights, size_t K,
                        const ws_lora_merge *how, ws_err *err)
{
    double *sorted = ws_calloc(n + 1, sizeof *sorted);
    ws_status st =
        sorted == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for coordinates") : WS_OK;
    for (size_t k = 0; st == WS_OK && k < K; k++) {
        double *v = V + k * n;
        const size_t keep = (size_t)(how->density * (double)n);
        const size_t large =
            how->method == WS_LORA_BREADCRUMBS ? (size_t)(how->gamma * (double)n) : 0;
        if (how->method == WS_LORA_DARE)
            drop_random(v, n, how->density, how, k);
        else
            band_keep(v, n, large, large + keep < n ? large + keep : n, sorted);
    }
    if (st == WS_OK)
        merge(V, n, weights, K, how->method == WS_LORA_TIES);
    ws_free(sorted);
    return st;
}
