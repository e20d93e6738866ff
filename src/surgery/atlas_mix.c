/*
 * atlas_mix.c - both directions between coefficients and weights, over fixed chunks
 *
 *   compose   w = base + sum_k lambda_k tau_k            float32, models in order
 *   project   dlambda_k = sum_i grad_i tau_ki            double, chunks in order
 *
 * A task vector is read once in each. @source arXiv:2407.02880, section 3
 */
#include <string.h>

#include "surgery/atlas_run.h"
#include "wsurg/method.h"

enum { CHUNK = 16384 };

/** Where a chunk lies. */
struct place {
    const ws_atlas_block *b;
    size_t at, n;
};

static size_t chunks_of(const ws_atlas_block *b)
{
    return (b->n + CHUNK - 1) / CHUNK;
}

size_t ws_atlas_chunks(const ws_atlas *a)
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
    return (struct place){ b, at, left < CHUNK ? left : CHUNK };
}

/** Task vector @p k within the chunk, as floats; NULL where the model changes nothing.
 */
static const float *expand(const struct place *p, size_t k, float *room)
{
    const ws_atlas_block *b = p->b;
    if (b->tau[k] == NULL)
        return NULL;
    const size_t size = ws_dtype_info(b->tau_dtype)->bits / 8;
    ws_to_f32(b->tau_dtype, (const char *)b->tau[k] + p->at * size, room, p->n);
    return room;
}

WS_HOT static void add_scaled(float *w, float lambda, const float *tau, size_t n)
{
    for (size_t i = 0; i < n; i++)
        w[i] += lambda * tau[i];
}

static void compose_chunk(void *arg, size_t chunk, int thread)
{
    ws_atlas *a = arg;
    const struct place p = place_of(a, chunk);
    const ws_atlas_block *b = p.b;
    const size_t size = ws_dtype_info(b->base_dtype)->bits / 8;
    float room[CHUNK];
    (void)thread;
    ws_to_f32(b->base_dtype, (const char *)b->base + p.at * size, b->w + p.at, p.n);
    for (size_t k = 0; k < a->req->n_models; k++) {
        const float lambda = a->lambda[b->first + k];
        const float *tau = lambda == 0.0f ? NULL : expand(&p, k, room);
        if (tau != NULL)
            add_scaled(b->w + p.at, lambda, tau, p.n);
    }
}

void ws_atlas_compose(ws_atlas *a)
{
    ws_pool_for(a->pool, ws_atlas_chunks(a), compose_chunk, a);
}

static void project_chunk(void *arg, size_t chunk, int thread)
{
    ws_atlas *a = arg;
    const struct place p = place_of(a, chunk);
    double *sums = a->parts + chunk * a->req->n_models;
    float room[CHUNK];
    (void)thread;
    for (size_t k = 0; k < a->req->n_models; k++) {
        const float *tau = expand(&p, k, room);
        ws_lanes lanes = { 0 };
        if (tau != NULL)
            ws_lanes_add_dot_f32(&lanes, p.b->grad + p.at, tau, p.n);
        sums[k] = ws_lanes_sum(&lanes);
    }
}

void ws_atlas_project(ws_atlas *a)
{
    const size_t n = a->req->n_models;
    const double *sums = a->parts;
    ws_pool_for(a->pool, ws_atlas_chunks(a), project_chunk, a);
    for (size_t i = 0; i < a->n_blocks; i++) {
        const ws_atlas_block *b = &a->blocks[i];
        for (size_t k = 0; k < n; k++) {
            double sum = 0.0;
            for (size_t c = 0; c < chunks_of(b); c++)
                sum += sums[c * n + k];
            a->dlambda[b->first + k] = (float)sum;
        }
        sums += chunks_of(b) * n;
    }
}
