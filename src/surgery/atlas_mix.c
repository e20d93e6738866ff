/*
 * atlas_mix.c - both directions between coefficients and weights, over fixed chunks
 *
 *   compose   w = base + sum_k lambda_k tau_k            float32, models in order
 *   project   dlambda_k = sum_i grad_i tau_ki            double, chunks in order
 *
 * with a coefficient for each group of a block's elements where it is cut into groups.
 * A task vector is read once in each, and all coefficients of a block are made in one
 * pass over its gradient. The sum is a merge's: mixed first, then added to the base.
 *
 * @source arXiv:2407.02880, section 3
 */
#include <string.h>

#include "surgery/atlas_kernel.h"
#include "surgery/atlas_run.h"

enum { TILE = WS_ATLAS_TILE, CHUNK = 4 * TILE, WAVE = 256 };

/** Where a chunk lies. */
struct place {
    const ws_atlas_block *b;
    size_t at, end;
};

/** One run over all blocks. */
struct sweep {
    ws_atlas *a;
    size_t from; // the wave's first chunk
    atomic_flag failed;
    ws_err err; // the first one's
};

static size_t chunks_of(const ws_atlas_block *b)
{
    return (b->n + CHUNK - 1) / CHUNK;
}

static size_t chunks_all(const ws_atlas *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n_blocks; i++)
        n += chunks_of(&a->blocks[i]);
    return n;
}

static struct place place_of(const ws_atlas *a, size_t chunk)
{
    const ws_atlas_block *b = a->blocks;
    for (; chunk >= chunks_of(b); b++)
        chunk -= chunks_of(b);
    const size_t at = chunk * CHUNK, left = b->n - at;
    return (struct place){ b, at, at + (left < CHUNK ? left : CHUNK) };
}

/** The first error counts. */
static void report(struct sweep *s, const ws_err *err)
{
    if (!atomic_flag_test_and_set(&s->failed))
        s->err = *err;
}

/** Groups of a tile, or NULL where a block is one. */
static const uint32_t *groups_of(const ws_atlas *a, const ws_atlas_block *b, size_t at,
                                 size_t n, uint32_t *room)
{
    if (a->groups == 1)
        return NULL;
    ws_random_groups(&b->key, a->groups, at, room, n);
    return room;
}

static bool all_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0.0f)
            return false;
    return true;
}

/* ---- compose ---- */

WS_HOT static void add_base(float *w, const float *base, const float *mixed, size_t n)
{
    for (size_t i = 0; i < n; i++)
        w[i] = mixed[i] == 0.0f ? base[i] : base[i] + mixed[i];
}

static ws_status compose_tile(const ws_atlas *a, const ws_atlas_block *b, size_t at,
                              size_t n, ws_err *err)
{
    float base[TILE], tau[TILE], mixed[TILE];
    uint32_t room[TILE];
    const uint32_t *group = groups_of(a, b, at, n, room);
    ws_status st = ws_atlas_base(b, at, n, base, err);
    memset(mixed, 0, n * sizeof *mixed);
    for (size_t k = 0; st == WS_OK && k < a->req->n_models; k++) {
        const float *lambda = a->lambda + b->first + k * a->groups;
        bool any = false;
        if (all_zero(lambda, a->groups))
            continue;
        st = ws_atlas_tau_tile(b, k, at, n, base, tau, &any, err);
        if (st == WS_OK && any)
            ws_atlas_add(mixed, tau, n, lambda, group);
    }
    if (st == WS_OK)
        add_base(b->w + at, base, mixed, n);
    return st;
}

static void compose_chunk(void *arg, size_t chunk, int thread)
{
    struct sweep *s = arg;
    const struct place p = place_of(s->a, chunk);
    ws_err err = WS_ERR_INIT;
    ws_status st = WS_OK;
    (void)thread;
    for (size_t at = p.at, n; st == WS_OK && at < p.end; at += n) {
        n = p.end - at < TILE ? p.end - at : TILE;
        st = compose_tile(s->a, p.b, at, n, &err);
    }
    if (st != WS_OK)
        report(s, &err);
}

/** What a sweep came to. */
static ws_status finish(struct sweep *s, ws_err *err)
{
    if (s->err.code != WS_OK && err != NULL)
        *err = s->err;
    return s->err.code;
}

ws_status ws_atlas_compose(ws_atlas *a, ws_err *err)
{
    struct sweep s = { .a = a, .failed = ATOMIC_FLAG_INIT, .err = WS_ERR_INIT };
    ws_pool_for(a->pool, chunks_all(a), compose_chunk, &s);
    return finish(&s, err);
}

/* ---- project ---- */

static ws_status project_tile(const ws_atlas *a, const ws_atlas_block *b, size_t at,
                              size_t n, double *sums, double *part, ws_err *err)
{
    float base[TILE], tau[TILE];
    uint32_t room[TILE];
    const uint32_t *group = groups_of(a, b, at, n, room);
    ws_status st = ws_atlas_base(b, at, n, base, err);
    for (size_t k = 0; st == WS_OK && k < a->req->n_models; k++) {
        bool any = false;
        st = ws_atlas_tau_tile(b, k, at, n, base, tau, &any, err);
        if (st != WS_OK || !any)
            continue;
        ws_atlas_dot(b->grad + at, tau, n, group, a->groups, part);
        for (uint32_t g = 0; g < a->groups; g++)
            sums[k * a->groups + g] += part[g];
    }
    return st;
}

static size_t each_of(const ws_atlas *a)
{
    return a->req->n_models * a->groups;
}

static void project_chunk(void *arg, size_t i, int thread)
{
    struct sweep *s = arg;
    const ws_atlas *a = s->a;
    const struct place p = place_of(a, s->from + i);
    double *sums = a->parts + i * each_of(a);
    double *part = a->parts + WAVE * each_of(a) + (size_t)thread * a->groups;
    ws_err err = WS_ERR_INIT;
    ws_status st = WS_OK;
    memset(sums, 0, each_of(a) * sizeof *sums);
    for (size_t at = p.at, n; st == WS_OK && at < p.end; at += n) {
        n = p.end - at < TILE ? p.end - at : TILE;
        st = project_tile(a, p.b, at, n, sums, part, &err);
    }
    if (st != WS_OK)
        report(s, &err);
}

ws_status ws_atlas_project(ws_atlas *a, ws_err *err)
{
    struct sweep s = { .a = a, .failed = ATOMIC_FLAG_INIT, .err = WS_ERR_INIT };
    const size_t all = chunks_all(a), each = each_of(a);
    memset(a->sums, 0, a->n_lambda * sizeof *a->sums);
    for (; s.from < all && s.err.code == WS_OK; s.from += WAVE) {
        const size_t n = all - s.from < WAVE ? all - s.from : WAVE;
        ws_pool_for(a->pool, n, project_chunk, &s);
        for (size_t i = 0; i < n; i++) {
            double *to = a->sums + place_of(a, s.from + i).b->first;
            for (size_t j = 0; j < each; j++)
                to[j] += a->parts[i * each + j];
        }
    }
    for (size_t i = 0; i < a->n_lambda; i++)
        a->dlambda[i] = (float)a->sums[i];
    return finish(&s, err);
}

/* ---- memory ---- */

static size_t parts_of(const ws_atlas *a, int threads)
{
    return WAVE * each_of(a) + (size_t)threads * a->groups;
}

uint64_t ws_atlas_mix_bytes(const ws_atlas *a)
{
    const uint64_t lambda = (uint64_t)a->n_blocks * each_of(a);
    return 8 * (lambda + parts_of(a, ws_ctx_threads(a->ctx)));
}

ws_status ws_atlas_mix_open(ws_atlas *a, ws_err *err)
{
    a->sums = ws_calloc(a->n_lambda, sizeof *a->sums);
    a->parts = ws_calloc(parts_of(a, ws_pool_size(a->pool)), sizeof *a->parts);
    return a->sums != NULL && a->parts != NULL
               ? WS_OK
               : ws_fail(err, WS_E_MEMORY, "no memory for coefficients");
}
