/*
 * soft_mask.c - from logits to weights, and gradients back
 *
 * Work goes in chunks of whole groups, cut by the shapes alone; sums are joined in
 * their order, so that no byte depends on threads. Within a chunk, tiles of one group,
 * or of many groups of one entry.
 */
#include "surgery/soft_mask.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "model/layers.h"

enum { CHUNK = 16384, TILE = 1024 };

/** Where a chunk lies: groups of a block. */
struct place {
    ws_soft_block *b;
    size_t group, groups;
};

static size_t groups_at_once(const ws_soft_block *b)
{
    return b->span >= CHUNK ? 1 : CHUNK / b->span;
}

static size_t chunks_of(const ws_soft_block *b)
{
    return (b->groups + groups_at_once(b) - 1) / groups_at_once(b);
}

size_t ws_soft_chunks(const ws_soft *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_blocks; i++)
        n += chunks_of(&s->blocks[i]);
    return n;
}

static struct place place_of(const ws_soft *s, size_t chunk)
{
    ws_soft_block *b = s->blocks;
    for (; chunk >= chunks_of(b); b++)
        chunk -= chunks_of(b);
    const size_t at = chunk * groups_at_once(b), left = b->groups - at;
    return (struct place){ b, at, left < groups_at_once(b) ? left : groups_at_once(b) };
}

/* ---- y ---- */

void ws_soft_draw(ws_soft *s, uint64_t step)
{
    uint64_t key[2];
    s->step = step;
    for (size_t i = 0; i < s->n_blocks; i++) {
        ws_rng_key_make(s->seed, "realign", step, s->blocks[i].name, key);
        s->blocks[i].draw = (ws_rng_key){ key[0], key[1] };
    }
}

/** At most TILE of them: u = (word + 1/2) / 2^32, and exp(l) u / (1 - u) to 1 / T. */
static void values(const ws_soft *s, const ws_soft_block *b, size_t first, size_t n,
                   ws_real *y)
{
    uint32_t words[TILE];
    const bool half = s->temperature == 0.5;
    if (s->plain || s->bare) {
        for (size_t i = 0; i < n; i++)
            y[i] = s->bare ? 0 : 1;
        return;
    }
    ws_random_fill(&b->draw, first, words, n);
    ws_act_exp(b->logits + first, y, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        const ws_real below = (ws_real)words[i] + (ws_real)0.5;
        const ws_real above = (ws_real)(UINT32_MAX - words[i]) + (ws_real)0.5;
        const ws_real odds = y[i] * below / above;
        const ws_real z =
            half ? odds * odds : (ws_real)pow((double)odds, 1.0 / s->temperature);
        y[i] = 1 / (1 + 1 / z); // z may be infinite, or 0
        if (s->hard)
            y[i] = odds > 1 ? 1 : 0;
    }
}

void ws_soft_values(const ws_soft *s, const ws_soft_block *b, size_t first, size_t n,
                    ws_real *y)
{
    for (size_t at = 0; at < n; at += TILE)
        values(s, b, first + at, n - at < TILE ? n - at : TILE, y + at);
}

/* ---- walking ---- */

/** Entries [at, at + n) of a block, of groups from .group on: n <= TILE. With span 1
 * each has its own y, else all have y[0]. */
struct tile {
    const ws_soft_block *b;
    size_t at, n, group;
    ws_real y[TILE];
    ws_real s[TILE]; // the update before the mask
};

static void tile_factors(struct tile *t)
{
    for (size_t i = 1; t->b->span > 1 && i < t->n; i++)
        t->y[i] = t->y[0];
}

/** The tile after @p t within @p p; false at the end. Start with n = 0. */
static bool tile_next(const ws_soft *s, const struct place *p, struct tile *t)
{
    const size_t span = p->b->span, end = (p->group + p->groups) * span;
    const size_t at = t->n == 0 ? p->group * span : t->at + t->n;
    if (at >= end)
        return false;
    const size_t stop = span == 1 ? end : (at / span + 1) * span;
    t->b = p->b;
    t->at = at;
    t->n = stop - at < TILE ? stop - at : TILE;
    t->group = at / span;
    values(s, p->b, t->group, span == 1 ? t->n : 1, t->y);
    tile_factors(t);
    return true;
}

/* ---- the operators' gates ---- */

static double factor_of(const ws_soft *s)
{
    switch (s->op) {
    case WS_SOFT_SUM:
        return s->tasks == 1 ? 1.0 : s->lambda;
    case WS_SOFT_TIES:
        return s->lambda;
    case WS_SOFT_DARE:
        return s->lambda / (1.0 - s->drop);
    case WS_SOFT_AVERAGE:
        return 1.0 / (double)s->tasks;
    case WS_SOFT_NONE:
        break;
    }
    return 1.0;
}

/** Masked update of task @p k, as TIES ranks it: 0 where its entry is not kept. */
static void ties_kept(const ws_soft *s, const struct tile *t, size_t k, uint64_t place,
                      ws_real *w)
{
    const ws_real *d = t->b->delta[k];
    const double inv = t->b->mean > 0.0 ? 1.0 / t->b->mean : 0.0;
    for (size_t i = 0; i < t->n; i++) {
        w[i] = d == NULL ? 0 : (ws_real)((double)(d[t->at + i] * t->y[i]) * inv);
        if (!ws_rank_in(&s->cuts[k], (float)fabs((double)w[i]), place + t->at + i))
            w[i] = 0;
    }
}

/** Entries of all blocks before @p b. */
static uint64_t place_before(const ws_soft *s, const ws_soft_block *b)
{
    uint64_t n = 0;
    for (const ws_soft_block *p = s->blocks; p < b; p++)
        n += p->n;
    return n;
}

static void ties_gates(const ws_soft *s, struct tile *t)
{
    ws_real kept[TILE], sum[TILE] = { 0 };
    const uint64_t place = place_before(s, t->b);
    const ws_real c = (ws_real)factor_of(s);
    for (size_t k = 0; k < s->tasks; k++) {
        ties_kept(s, t, k, place, kept);
        for (size_t i = 0; i < t->n; i++)
            sum[i] += kept[i];
    }
    for (size_t k = 0; k < s->tasks; k++) {
        const ws_real *d = t->b->delta[k];
        ties_kept(s, t, k, place, kept);
        for (size_t i = 0; d != NULL && i < t->n; i++) {
            const bool minus = sum[i] < 0 || (sum[i] == 0 && s->negative);
            if (kept[i] != 0 && (kept[i] < 0) == minus)
                t->s[i] += c * d[t->at + i];
        }
    }
}

static void dare_gates(const ws_soft *s, struct tile *t)
{
    const uint64_t most = ws_random_threshold(1.0 - s->drop);
    const ws_real c = (ws_real)factor_of(s);
    uint32_t words[TILE];
    uint64_t key[2];
    for (size_t k = 0; k < s->tasks; k++) {
        const ws_real *d = t->b->delta[k];
        if (d == NULL)
            continue;
        ws_rng_key_make(s->seed, "realign dare", s->step * s->tasks + k, t->b->name,
                        key);
        const ws_rng_key rng = { key[0], key[1] };
        ws_random_fill(&rng, t->at, words, t->n);
        for (size_t i = 0; i < t->n; i++)
            if (words[i] < most)
                t->s[i] += c * d[t->at + i];
    }
}

/** t->s: sum_t c_t delta_t. */
static void gates(const ws_soft *s, struct tile *t)
{
    const ws_real c = (ws_real)factor_of(s);
    memset(t->s, 0, t->n * sizeof *t->s);
    if (s->op == WS_SOFT_TIES) {
        ties_gates(s, t);
        return;
    }
    if (s->op == WS_SOFT_DARE) {
        dare_gates(s, t);
        return;
    }
    for (size_t k = 0; k < s->tasks; k++) {
        const ws_real *d = t->b->delta[k];
        for (size_t i = 0; d != NULL && i < t->n; i++)
            t->s[i] += c * d[t->at + i];
    }
}

/** The K largest of each task over all tensors, and the sign of most entries. */
static ws_status ties_cut(ws_soft *s, ws_err *err)
{
    static const ws_rank_cut all = { 0 };
    uint64_t entries = 0;
    int64_t signs = 0;
    ws_rank *rank = NULL;
    ws_real w[TILE];
    float x[TILE];
    for (size_t i = 0; i < s->n_blocks; i++)
        entries += s->blocks[i].n;
    const uint64_t count = (uint64_t)(s->keep * (double)entries);
    for (size_t k = 0; k < s->tasks; k++) {
        const ws_status st = ws_rank_new(&rank, count > 0 ? count : 1, err);
        if (st != WS_OK)
            return st;
        s->cuts[k] = all;
        for (int pass = 0; pass < WS_RANK_PASSES; pass++) {
            ws_rank_begin(rank, pass);
            for (size_t i = 0; i < s->n_blocks; i++) {
                const struct place p = { &s->blocks[i], 0, s->blocks[i].groups };
                struct tile t = { 0 };
                while (tile_next(s, &p, &t)) {
                    ties_kept(s, &t, k, 0, w);
                    for (size_t j = 0; j < t.n; j++)
                        x[j] = (float)fabs((double)w[j]);
                    ws_rank_add(rank, x, t.n);
                }
            }
        }
        s->cuts[k] = ws_rank_cut_of(rank);
        ws_rank_free(rank);
    }
    for (size_t i = 0; i < s->n_blocks; i++) {
        const struct place p = { &s->blocks[i], 0, s->blocks[i].groups };
        const uint64_t before = place_before(s, &s->blocks[i]);
        struct tile t = { 0 };
        while (tile_next(s, &p, &t)) {
            ws_real sum[TILE] = { 0 };
            for (size_t k = 0; k < s->tasks; k++) {
                ties_kept(s, &t, k, before, w);
                for (size_t j = 0; j < t.n; j++)
                    sum[j] += w[j];
            }
            for (size_t j = 0; j < t.n; j++)
                signs += (sum[j] > 0) - (sum[j] < 0);
        }
    }
    s->negative = signs < 0;
    return WS_OK;
}

/* ---- weights ---- */

static void mean_chunk(void *arg, size_t chunk, int thread)
{
    const ws_soft *s = arg;
    const struct place p = place_of(s, chunk);
    ws_real y[TILE];
    double sum = 0.0;
    (void)thread;
    for (size_t at = 0; at < p.groups; at += TILE) {
        const size_t n = p.groups - at < TILE ? p.groups - at : TILE;
        values(s, p.b, p.group + at, n, y);
        for (size_t i = 0; i < n; i++)
            sum += (double)y[i];
    }
    s->parts[chunk] = sum * (double)p.b->span;
}

/** Sums of the chunks, by block or over all, put where @p into says. */
static void join(const ws_soft *s, const double *parts, bool mean)
{
    double all = 0.0, entries = 0.0;
    for (size_t i = 0, c = 0; i < s->n_blocks; i++) {
        ws_soft_block *b = &s->blocks[i];
        double sum = 0.0;
        for (const size_t end = c + chunks_of(b); c < end; c++)
            sum += parts[c];
        all += sum;
        entries += (double)b->n;
        if (mean)
            b->mean = sum / (double)b->n;
        else
            b->dot = sum;
    }
    for (size_t i = 0; s->over_all && i < s->n_blocks; i++) {
        if (mean)
            s->blocks[i].mean = all / entries;
        else
            s->blocks[i].dot = all;
    }
}

static void compose_chunk(void *arg, size_t chunk, int thread)
{
    const ws_soft *s = arg;
    const struct place p = place_of(s, chunk);
    const ws_soft_block *b = p.b;
    const size_t size = ws_dtype_info(b->base_dtype)->bits / 8;
    const ws_real scale = b->mean > 0.0 ? (ws_real)(1.0 / b->mean) : 0;
    struct tile t = { 0 };
    (void)thread;
    while (tile_next(s, &p, &t)) {
        ws_real *w = b->w + t.at;
        gates(s, &t);
        ws_to_real(b->base_dtype, (const char *)b->base + t.at * size, w, t.n);
        for (size_t i = 0; i < t.n; i++)
            w[i] += (t.y[i] * scale) * t.s[i];
    }
}

ws_status ws_soft_compose(ws_soft *s, ws_err *err)
{
    ws_pool_for(s->pool, ws_soft_chunks(s), mean_chunk, s);
    join(s, s->parts, true);
    const ws_status st = s->op == WS_SOFT_TIES ? ties_cut(s, err) : WS_OK;
    if (st == WS_OK)
        ws_pool_for(s->pool, ws_soft_chunks(s), compose_chunk, s);
    return st;
}

/* ---- gradients ---- */

/** dlogits: sum over the group of g s; and the chunk's sum of g s y. */
static void gather_chunk(void *arg, size_t chunk, int thread)
{
    const ws_soft *s = arg;
    const struct place p = place_of(s, chunk);
    const ws_soft_block *b = p.b;
    struct tile t = { 0 };
    double dot = 0.0, group = 0.0;
    (void)thread;
    while (tile_next(s, &p, &t)) {
        gates(s, &t);
        if (t.at == t.group * b->span)
            group = 0.0;
        for (size_t i = 0; i < t.n; i++) {
            const double x = (double)b->grad[t.at + i] * (double)t.s[i];
            dot += x * (double)t.y[i];
            group = b->span == 1 ? x : group + x;
            b->dlogits[b->span == 1 ? t.group + i : t.group] = (ws_real)group;
        }
    }
    s->parts[chunk] = dot;
}

static void finish_chunk(void *arg, size_t chunk, int thread)
{
    const ws_soft *s = arg;
    const struct place p = place_of(s, chunk);
    const ws_soft_block *b = p.b;
    ws_real y[TILE];
    double entries = (double)b->n;
    (void)thread;
    for (size_t i = 0; s->over_all && i < s->n_blocks; i++)
        entries = (i == 0 ? 0.0 : entries) + (double)s->blocks[i].n;
    const double inv = b->mean > 0.0 ? 1.0 / b->mean : 0.0;
    const double shared = (double)b->span * b->dot * inv * inv / entries;
    for (size_t at = 0; at < p.groups; at += TILE) {
        const size_t n = p.groups - at < TILE ? p.groups - at : TILE;
        values(s, b, p.group + at, n, y);
        for (size_t i = 0; i < n; i++) {
            ws_real *d = &b->dlogits[p.group + at + i];
            const double v = (double)y[i];
            *d =
                (ws_real)(((double)*d * inv - shared) * v * (1.0 - v) / s->temperature);
        }
    }
}

void ws_soft_backward(ws_soft *s)
{
    ws_pool_for(s->pool, ws_soft_chunks(s), gather_chunk, s);
    join(s, s->parts, false);
    ws_pool_for(s->pool, ws_soft_chunks(s), finish_chunk, s);
}
