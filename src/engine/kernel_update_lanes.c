/*
 * kernel_update_lanes.c - the task-vector kernels' inner loops: a band's entries of an
 * update, and the updates into one
 *
 * A band's go sixteen at a time in vectors of the compiler, so that all that happens to
 * them happens in registers. Compiled twice, for float and for double, as the methods
 * are.
 */
#include "engine/kernel_select.h"
#include "engine/kernel_update.h"

enum { LANES = 16, BLOCK = 256 };

typedef ws_real reals __attribute__((vector_size(LANES * sizeof(ws_real))));
typedef ws_signed masks __attribute__((vector_size(LANES * sizeof(ws_real))));

static inline __attribute__((always_inline)) void load(reals *v, const ws_real *p)
{
    memcpy(v, p, sizeof *v);
}

static inline __attribute__((always_inline)) void store(ws_real *p, const reals *v)
{
    memcpy(p, v, sizeof *v);
}

/* ---- squares ---- */

WS_HOT static void squares_run(ws_real block[16], const ws_real *x, size_t n)
{
    ws_real b[16]; // of its own, so that it can live in registers
    memcpy(b, block, sizeof b);
    for (size_t i = 0; i < n; i += 16)
        for (size_t e = 0; e < 16; e++)
            b[e] += x[i + e] * x[i + e];
    memcpy(block, b, sizeof b);
}

void ws_squares_add(struct squares *s, const ws_real *x, size_t n)
{
    for (size_t run; n > 0; x += run, n -= run) {
        const size_t left = BLOCK - (size_t)(s->count % BLOCK);
        run = (n < left ? n : left) & ~(size_t)15;
        if (s->count % 16 == 0 && run > 0) {
            squares_run(s->block, x, run);
        } else {
            run = 1;
            s->block[s->count % 16] += *x * *x;
        }
        s->count += run;
        if (s->count % BLOCK != 0)
            continue;
        for (size_t e = 0; e < 16; e++)
            s->lane[e] += (double)s->block[e];
        memset(s->block, 0, sizeof s->block);
    }
}

/* ---- a band ---- */

/** A block of BLOCK elements; its squares into @p squares. */
WS_HOT static void band_block(ws_real *x, const ws_real *in, const ws_real *base,
                              ws_signed limit, ws_signed below, reals *squares,
                              uint64_t *large, uint64_t *small)
{
    const ws_signed magnitude = (ws_signed)((ws_pattern)-1 >> 1);
    masks n_large = { 0 }, n_small = { 0 };
    reals sum = { 0 };
    for (size_t i = 0; i < BLOCK; i += LANES) {
        reals a, b;
        load(&a, in + i);
        load(&b, base + i);
        const reals d = a - b;
        const masks p = (masks)d & magnitude;
        const masks over = (masks)(p > limit), under = (masks)(p <= below);
        const reals kept = (reals)((masks)d & ~(over | under));
        n_large -= over;
        n_small -= under;
        sum += kept * kept;
        store(x + i, &kept);
    }
    *squares = sum;
    for (int e = 0; e < LANES; e++) {
        *large += (uint64_t)n_large[e];
        *small += (uint64_t)n_small[e];
    }
}

size_t ws_band_delta(ws_real *x, const ws_real *in, const ws_real *base, size_t n,
                     const int64_t limit[2], struct squares *kept, ws_tally *tally)
{
    const size_t whole = kept->count % BLOCK == 0 ? n / BLOCK * BLOCK : 0;
    uint64_t large = 0, small = 0;
    for (size_t i = 0; i < whole; i += BLOCK) {
        reals block;
        band_block(x + i, in + i, base + i, (ws_signed)limit[0], (ws_signed)limit[1],
                   &block, &large, &small);
        for (int e = 0; e < LANES; e++)
            kept->lane[e] += (double)block[e];
    }
    kept->count += whole;
    tally->dropped_large += large;
    tally->dropped_small += small;
    tally->kept += whole - large - small;
    return whole;
}

/* ---- combining ---- */

enum { STEP = 512 };

/** mixed = sum_k x_k */
WS_HOT static void mix_sum(const struct mix *m, void *const *x, size_t at, size_t n,
                           ws_real *mixed)
{
    memset(mixed, 0, n * sizeof *mixed);
    for (size_t k = 0; k < m->n_models; k++) {
        const ws_real *v = (const ws_real *)x[k] + at, c = m->coefficient[k];
        for (size_t i = 0; i < n; i++)
            mixed[i] += c * v[i];
    }
}

/** As mix_sum(), with the weights of each element's group; the run starts at element
 * @p first of the tensor. */
WS_HOT static void mix_groups(const ws_groups *g, size_t n_models, uint64_t first,
                              void *const *x, size_t at, size_t n, ws_real *mixed)
{
    uint32_t group[STEP];
    ws_random_groups(&g->key, g->n, first, group, n);
    memset(mixed, 0, n * sizeof *mixed);
    for (size_t k = 0; k < n_models; k++) {
        const ws_real *v = (const ws_real *)x[k] + at;
        const double *weight = g->weight + k * g->n;
        for (size_t i = 0; i < n; i++)
            mixed[i] += (ws_real)weight[group[i]] * v[i];
    }
}

/** mixed = sum of the x_k whose sign is that of the sum of all, over the sum of their
 * weights when normalized */
WS_HOT static void mix_consensus(const struct mix *m, void *const *x, size_t at,
                                 size_t n, ws_real *mixed)
{
    ws_real sum[STEP], share[STEP] = { 0 };
    mix_sum(m, x, at, n, sum);
    memset(mixed, 0, n * sizeof *mixed);
    for (size_t k = 0; k < m->n_models; k++) {
        const ws_real *v = (const ws_real *)x[k] + at, c = m->coefficient[k],
                      w = m->weight[k];
        for (size_t i = 0; i < n; i++) {
            const ws_real t = c * v[i], signed_t = sum[i] >= (ws_real)0 ? t : -t;
            const bool agrees = signed_t > (ws_real)0;
            mixed[i] += agrees ? t : (ws_real)0;
            share[i] += agrees ? w : (ws_real)0;
        }
    }
    if (m->normalize)
        for (size_t i = 0; i < n; i++)
            mixed[i] /= share[i] == (ws_real)0 ? (ws_real)1 : share[i];
}

/** out = base + gain mixed */
WS_HOT static void add_update(ws_real *out, const ws_real *base, const ws_real *mixed,
                              ws_real gain, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const ws_real u = gain * mixed[i], sum = base[i] + u;
        out[i] = u == (ws_real)0 ? base[i] : sum;
    }
}

void ws_mix(const struct mix *m, uint64_t first, void *const *x, const ws_real *base,
            size_t n, ws_real *out)
{
    size_t done = 0;
// under sanitizers the portable loops are what tests see
#if !defined(WS_METHOD_F64) && !defined(WS_NO_CLONES)
    if (m->groups == NULL && ws_select_has_v4())
        done = ws_mix_v4(m, x, base, n, out);
#endif
    for (size_t i = done, len; i < n; i += len) {
        ws_real mixed[STEP];
        len = n - i < STEP ? n - i : STEP;
        if (m->consensus)
            mix_consensus(m, x, i, len, mixed);
        else if (m->groups != NULL)
            mix_groups(m->groups, m->n_models, first + i, x, i, len, mixed);
        else
            mix_sum(m, x, i, len, mixed);
        add_update(out + i, base + i, mixed, m->gain, len);
    }
}
