/*
 * optim.c - AdamW and SGD as PyTorch has them, and clipping by the global norm
 *
 *   AdamW   p = p (1 - lr wd);  m += (1 - b1)(g - m);  v = b2 v + (1 - b2) g g
 *           p += -(lr / (1 - b1^t)) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *   SGD     g += wd p;  m = g at the first step, then mu m + g;  p -= lr m
 *
 * Work goes in fixed blocks of the tensors, so that the bytes do not depend on threads.
 */
#include "train/optim.h"

#include <math.h>
#include <string.h>

#include "wsurg/alloc.h"
#include "wsurg/export.h" // WS_HOT

enum { BLOCK = 1 << 16, LANES = 16, SOFT = 1024 };

/** Numbers from .. from+n of one tensor, and the sum of their gradients' squares. */
struct block {
    ws_slot_f32 *slot;
    size_t from, n;
    double squares;
};

/** What a step multiplies with, rounded as PyTorch rounds its scalars. */
struct factors {
    float clip, lr, step, root, eps, b2, c1, c2, mu;
    bool far; // of lerp: c1 >= 1/2
    bool first;
};

struct ws_optim {
    ws_optim_opts o;
    ws_slot_f32 *slots;
    size_t n;
    ws_pool *pool;
    struct block *blocks;
    size_t n_blocks;
    struct factors f;
    double lr; // of the step
};

ws_status ws_optim_new(ws_optim **out, const ws_optim_opts *opts, ws_slot_f32 *slots,
                       size_t n, ws_pool *pool, ws_err *err)
{
    ws_optim *o = ws_calloc(1, sizeof *o);
    size_t blocks = 0;

    for (size_t k = 0; k < n; k++)
        blocks += (slots[k].n + BLOCK - 1) / BLOCK;
    if (o != NULL)
        o->blocks = ws_calloc(blocks + 1, sizeof *o->blocks);
    if (o == NULL || o->blocks == NULL) {
        ws_optim_free(o);
        return ws_fail(err, WS_E_MEMORY, "no memory for an optimiser");
    }
    o->o = *opts;
    o->slots = slots;
    o->n = n;
    o->pool = pool;
    for (size_t k = 0; k < n; k++)
        for (size_t from = 0; from < slots[k].n; from += BLOCK) {
            const size_t left = slots[k].n - from;
            o->blocks[o->n_blocks++] = (struct block){
                .slot = &slots[k], .from = from, .n = left < BLOCK ? left : BLOCK
            };
        }
    *out = o;
    return WS_OK;
}

void ws_optim_free(ws_optim *o)
{
    if (o == NULL)
        return;
    ws_free(o->blocks);
    ws_free(o);
}

static void clear_block(void *arg, size_t i, int thread)
{
    const struct block *b = &((ws_optim *)arg)->blocks[i];
    (void)thread;

    memset(b->slot->g + b->from, 0, b->n * sizeof(float));
}

void ws_optim_clear(ws_optim *o)
{
    ws_pool_for(o->pool, o->n_blocks, clear_block, o);
}

/* ---- the norm ---- */

WS_HOT static double squares(const float *g, size_t n)
{
    double lane[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += (double)g[i + l] * (double)g[i + l];
    for (size_t l = 0; i < n; i++, l++)
        lane[l] += (double)g[i] * (double)g[i];
    for (size_t l = 1; l < LANES; l++)
        lane[0] += lane[l];
    return lane[0];
}

static void norm_block(void *arg, size_t i, int thread)
{
    struct block *b = &((ws_optim *)arg)->blocks[i];
    float *g = b->slot->g + b->from;
    const uint8_t *mask = b->slot->mask;
    (void)thread;

    for (size_t k = 0; mask != NULL && k < b->n; k++)
        g[k] = mask[b->from + k] ? g[k] : 0.0f;
    for (size_t k = 0; b->slot->soft != NULL && k < b->n; k++)
        g[k] = b->slot->soft[(b->from + k) / b->slot->span] != 0.0f ? g[k] : 0.0f;
    b->squares = squares(g, b->n);
}

double ws_optim_norm(ws_optim *o, int64_t *bad)
{
    double total = 0;

    ws_pool_for(o->pool, o->n_blocks, norm_block, o);
    *bad = -1;
    for (size_t i = 0; i < o->n_blocks; i++) {
        if (!isfinite(o->blocks[i].squares) && *bad < 0)
            *bad = o->blocks[i].slot - o->slots;
        total += o->blocks[i].squares;
    }
    return sqrt(total);
}

float ws_optim_clip(double norm, double max)
{
    if (max <= 0.0)
        return 1.0f;
    const float c = (float)max / ((float)norm + 1e-6f);
    return c < 1.0f ? c : 1.0f;
}

/* ---- the step ---- */

WS_HOT static void adamw(float *restrict p, const float *restrict g, float *restrict m,
                         float *restrict v, size_t n, const struct factors *f,
                         float keep)
{
    const struct factors k = *f;

    for (size_t i = 0; i < n; i++) {
        const float d = g[i] * k.clip, diff = d - m[i];
        m[i] = k.far ? d - diff * (1.0f - k.c1) : m[i] + k.c1 * diff;
        v[i] = v[i] * k.b2 + k.c2 * d * d;
        p[i] = p[i] * keep + k.step * m[i] / (sqrtf(v[i]) / k.root + k.eps);
    }
}

WS_HOT static void sgd(float *restrict p, const float *restrict g, float *restrict m,
                       size_t n, const struct factors *f, float decay)
{
    const struct factors k = *f;

    for (size_t i = 0; i < n; i++) {
        float d = g[i] * k.clip + decay * p[i];
        if (m != NULL)
            d = m[i] = k.first ? d : k.mu * m[i] + d;
        p[i] -= k.lr * d;
    }
}

/** Numbers from .. from+n of a tensor. */
static void run_step(const ws_optim *o, const ws_slot_f32 *s, size_t from, size_t n)
{
    float *m = s->m != NULL ? s->m + from : NULL;

    if (o->o.kind == WS_OPTIM_SGD)
        sgd(s->p + from, s->g + from, m, n, &o->f, (float)s->decay);
    else
        adamw(s->p + from, s->g + from, m, s->v + from, n, &o->f,
              (float)(1.0 - o->lr * s->decay));
}

/** Steps times factors: p + f (step - p). The step is scaled, not the gradient, which
 * AdamW would divide by its own size again. */
static void step_soft(const ws_optim *o, const ws_slot_f32 *s, size_t from, size_t n)
{
    float old[SOFT];

    for (size_t at = from, len; at < from + n; at += len) {
        const float f = s->soft[at / s->span];
        len = s->span - at % s->span;
        len = len < from + n - at ? len : from + n - at;
        len = len < SOFT ? len : SOFT;
        if (f == 0.0f)
            continue;
        memcpy(old, s->p + at, len * sizeof *old);
        run_step(o, s, at, len);
        for (size_t i = 0; f != 1.0f && i < len; i++)
            s->p[at + i] = old[i] + f * (s->p[at + i] - old[i]);
    }
}

/** Runs of trained entries only: the update is masked, not only the gradient, so that
 * neither decay nor momentum moves the others. */
static void step_block(void *arg, size_t i, int thread)
{
    const ws_optim *o = arg;
    const struct block *b = &o->blocks[i];
    const uint8_t *mask = b->slot->mask;
    const size_t end = b->from + b->n;
    (void)thread;

    if (b->slot->soft != NULL) {
        step_soft(o, b->slot, b->from, b->n);
        return;
    }
    if (mask == NULL) {
        run_step(o, b->slot, b->from, b->n);
        return;
    }
    for (size_t at = b->from; at < end;) {
        size_t to = at;
        while (to < end && mask[to])
            to++;
        if (to > at)
            run_step(o, b->slot, at, to - at);
        at = to;
        while (at < end && !mask[at])
            at++;
    }
}

void ws_optim_step(ws_optim *o, int64_t step, double lr, float clip)
{
    const double b1 = o->o.beta1, b2 = o->o.beta2;

    o->f = (struct factors){
        .clip = clip,
        .lr = (float)lr,
        .step = (float)-(lr / (1.0 - pow(b1, (double)step))),
        .root = (float)sqrt(1.0 - pow(b2, (double)step)),
        .eps = (float)o->o.eps,
        .b2 = (float)b2,
        .c1 = (float)(1.0 - b1),
        .c2 = (float)(1.0 - b2),
        .mu = (float)o->o.momentum,
        .far = 1.0 - b1 >= 0.5,
        .first = step == 1,
    };
    o->lr = lr;
    ws_pool_for(o->pool, o->n_blocks, step_block, o);
}
