/*
 * train_plan.c - what a training step needs: which gradients, which memory
 *
 * The arena is laid twice by one function: without a base, to know its size, and then
 * in earnest.
 */
#include <string.h>

#include "model/train_internal.h"
#include "wsurg/text.h"

/** Logits at once, bytes: with a head that trains, each chunk adds to its gradient, so
 * few large ones; else no more than runs well. */
static const int64_t LOGITS_TRAINED = 320 << 20, LOGITS_FROZEN = 128 << 20;

enum { LOGIT_ROWS_LEAST = 64, LOGIT_ROWS_MOST = 512 };

static int64_t max2(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- needs ---- */

static bool any(const ws_step *s, const ws_weight *const *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ws_step_wants(s, w[i]))
            return true;
    return false;
}

#define ANY(s, ...)                                                                    \
    any(s, (const ws_weight *const[]){ __VA_ARGS__ },                                  \
        sizeof((const ws_weight *const[]){ __VA_ARGS__ }) / sizeof(const ws_weight *))

/** Fill the needs of layer @p l; @p below: something below it trains. Returns whether
 * something does up to its top. */
static bool layer_needs(ws_step *s, int64_t l, bool below)
{
    const ws_layer *y = &s->layer[l];
    ws_layer_need *n = &s->need[l];

    n->x = below;
    n->attn_h = n->x || ANY(s, &y->attn_norm, &y->attn_norm_b);
    n->qkv = n->attn_h || ANY(s, &y->q, &y->k, &y->v, &y->q_b, &y->k_b, &y->v_b,
                              &y->q_norm, &y->k_norm);
    n->mid = n->qkv || ANY(s, &y->o, &y->o_b);
    n->mlp_h = n->mid || ANY(s, &y->mlp_norm, &y->mlp_norm_b);
    n->gu = n->mlp_h || ANY(s, &y->gate, &y->up, &y->gate_b, &y->up_b);
    return n->gu || ANY(s, &y->down, &y->down_b);
}

static void needs_fill(ws_step *s)
{
    const int64_t L = s->m->d.L;
    bool below = !s->opts.forward_only && ANY(s, &s->embed, &s->positions);

    s->first = below ? 0 : L;
    for (int64_t l = 0; l < L && !s->opts.forward_only; l++) {
        below = layer_needs(s, l, below);
        if (below && s->first == L)
            s->first = l;
    }
    s->need_final =
        below || (!s->opts.forward_only && ANY(s, &s->final_norm, &s->final_norm_b));
}

/* ---- overlays ---- */

static ws_status overlay_check(const ws_model *m, size_t i, const ws_overlay *o,
                               ws_err *err)
{
    const ws_model_part *p = &m->parts[i];
    ws_status st = WS_OK;

    if (o->n < 0 || o->rank < 0 ||
        (o->n > 0 && (o->tau == NULL || o->tau_dtype == NULL || o->lambda == NULL)))
        st = ws_fail(err, WS_E_USAGE, "the overlay of '%s' lacks something", p->name);
    else if (o->rank > 0 && p->kind != WS_PART_LINEAR && p->kind != WS_PART_HEAD)
        st = ws_fail(err, WS_E_USAGE, "'%s' is no linear: it takes no low rank",
                     p->name);
    else if (o->rank > 0 && (o->A == NULL || o->B == NULL || o->gain == NULL))
        st = ws_fail(err, WS_E_USAGE, "the low rank over '%s' lacks a factor", p->name);
    for (int64_t k = 0; st == WS_OK && k < o->n; k++)
        if (!ws_dtype_info(o->tau_dtype[k])->arithmetic)
            st = ws_fail(err, WS_E_DTYPE, "a task vector of '%s' has dtype %s", p->name,
                         ws_dtype_info(o->tau_dtype[k])->name);
    return st ? ws_err_at(err, m->info.path, p->name, -1) : WS_OK;
}

static void lay_over(const ws_step *s, ws_weight *w)
{
    ws_overlay *o = w->data != NULL ? s->want[w->part].over : NULL;
    w->over = o != NULL && (o->n > 0 || o->rank > 0) ? o : NULL;
}

static ws_status wants_take(ws_step *s, const ws_want *want, ws_err *err)
{
    const ws_model *m = s->m;
    ws_weight *outside[] = { &s->embed, &s->positions, &s->final_norm, &s->final_norm_b,
                             &s->head };

    s->want = ws_calloc(m->n_blocks, sizeof *s->want);
    s->layer = ws_calloc((size_t)m->d.L, sizeof *s->layer);
    s->need = ws_calloc((size_t)m->d.L, sizeof *s->need);
    s->acts = ws_calloc((size_t)m->d.L, sizeof *s->acts);
    if (!s->want || !s->layer || !s->need || !s->acts)
        return ws_fail(err, WS_E_MEMORY, "no memory for the tables of a step");
    for (size_t i = 0; want != NULL && i < m->n_blocks; i++) {
        if (want[i].over != NULL) {
            ws_status st = overlay_check(m, i, want[i].over, err);
            if (st)
                return st;
        }
        s->want[i] = want[i];
    }
    memcpy(s->layer, m->layer, (size_t)m->d.L * sizeof *s->layer);
    s->embed = m->embed;
    s->positions = m->positions;
    s->final_norm = m->final_norm;
    s->final_norm_b = m->final_norm_b;
    s->head = m->head;
    for (size_t k = 0; k < sizeof outside / sizeof outside[0]; k++)
        lay_over(s, outside[k]);
    for (int64_t l = 0; l < m->d.L; l++) {
        ws_weight *w = (ws_weight *)&s->layer[l]; // a layer is weights alone
        for (size_t k = 0; k < sizeof(ws_layer) / sizeof(ws_weight); k++)
            lay_over(s, &w[k]);
    }
    return WS_OK;
}

static int64_t rank_most(const ws_step *s)
{
    int64_t most = 0;
    for (size_t i = 0; i < s->m->n_blocks; i++)
        if (s->want[i].over != NULL)
            most = max2(most, s->want[i].over->rank);
    return most;
}

static bool sinks(const ws_step *s)
{
    for (size_t i = 0; i < s->m->n_blocks; i++)
        if (s->want[i].sink != NULL)
            return true;
    return false;
}

/* ---- the arena ---- */

struct lay {
    unsigned char *base; // NULL: only count
    uint64_t at;
    uint64_t *sum; // of the memory plan
};

/** @p n things of @p size bytes; counts saturate far below overflow. */
static void *take(struct lay *y, uint64_t n, uint64_t size)
{
    uint64_t bytes;
    if (!ws_mul_u64(n, size, &bytes) || bytes > UINT64_MAX / 65536)
        bytes = UINT64_MAX / 65536;
    bytes = (bytes + 63) / 64 * 64;
    void *p = y->base ? y->base + y->at : NULL;
    y->at += bytes;
    *y->sum += bytes;
    return p;
}

static ws_real *reals(struct lay *y, int64_t n, int64_t m)
{
    uint64_t count;
    if (!ws_mul_u64((uint64_t)n, (uint64_t)m, &count))
        count = UINT64_MAX / 65536;
    return take(y, count, sizeof(ws_real));
}

/** What layers that keep less, or nothing, share. */
static void shared_lay(ws_step *s, struct lay *y, ws_layer_acts *a, bool attention,
                       bool mlp)
{
    const ws_model_desc *d = &s->m->d;
    const int64_t n = s->opts.rows, hd = d->H * d->D, kd = d->K * d->D;

    y->sum = &s->memory.work;
    if (attention) {
        a->q = reals(y, n, hd);
        a->k = reals(y, n, kd);
        a->v = reals(y, n, kd);
    }
    if (attention && s->memory.layers_input > 0) {
        a->o = reals(y, n, hd);
        a->lse = reals(y, n, d->H);
        a->mid = reals(y, n, d->C);
    }
    if (mlp) {
        a->g = d->gated ? reals(y, n, d->F) : NULL;
        a->u = reals(y, n, d->F);
    }
}

static void layers_lay(ws_step *s, struct lay *y)
{
    const ws_model_desc *d = &s->m->d;
    const int64_t n = s->opts.rows, hd = d->H * d->D, kd = d->K * d->D;
    ws_layer_acts shared = { 0 };

    shared_lay(s, y, &shared, s->memory.layers_frozen + s->memory.layers_input > 0,
               s->memory.layers_all < d->L);
    y->sum = &s->memory.kept;
    for (int64_t l = s->first; l < d->L; l++) {
        ws_layer_acts *a = &s->acts[l];
        const ws_keep keep = a->keep;
        *a = shared;
        a->keep = keep;
        a->x = reals(y, n, d->C);
        if (keep == WS_KEEP_INPUT)
            continue;
        a->mid = reals(y, n, d->C);
        a->q = reals(y, n, hd);
        a->k = reals(y, n, kd);
        a->v = reals(y, n, kd);
        a->o = reals(y, n, hd);
        a->lse = reals(y, n, d->H);
        if (keep == WS_KEEP_SMALL)
            continue;
        a->g = d->gated ? reals(y, n, d->F) : NULL;
        a->u = reals(y, n, d->F);
    }
    s->last = reals(y, n, d->C);
    for (int64_t l = 0; l < s->first; l++) {
        s->acts[l] = shared;
        s->acts[l].frozen = true;
        s->acts[l].o = shared.q;
        s->acts[l].lse = NULL;
        s->acts[l].x = s->acts[l].mid = s->first < d->L ? s->acts[s->first].x : s->last;
    }
}

static int64_t panel_numbers(const ws_step *s)
{
    const ws_model_desc *d = &s->m->d;
    const ws_attention a = { .H = d->H, .K = d->K, .D = d->D };
    int64_t n = max2(d->D, d->C);

    n = max2(n, ws_linear_panel(d->H * d->D, d->C, d->conv1d));
    n = max2(n, ws_linear_panel(d->C, d->H * d->D, d->conv1d));
    n = max2(n, ws_linear_panel(d->F, d->C, d->conv1d));
    n = max2(n, ws_linear_panel(d->C, d->F, d->conv1d));
    n = max2(n, ws_linear_panel(d->V, d->C, false));
    n = max2(n, ws_attention_scratch(&a, s->opts.positions));
    if (s->first < d->L)
        n = max2(n, ws_attention_backward_scratch(&a, s->opts.positions));
    return n;
}

static void work_lay(ws_step *s, struct lay *y)
{
    const ws_model_desc *d = &s->m->d;
    const int64_t n = s->opts.rows, hd = d->H * d->D, kd = d->K * d->D;
    const int64_t wide = max2(d->C, d->D);
    const bool back = s->first < d->L;

    y->sum = &s->memory.work;
    s->h = reals(y, n, d->C);
    s->stat = reals(y, n, 2);
    s->dx = s->need_final ? reals(y, n, d->C) : NULL;
    for (int i = 0; i < 4; i++)
        s->vector[i] = reals(y, wide, 1);
    if (back) {
        const int64_t turned = d->qk_norm ? hd + kd : 0;
        s->big = reals(y, n, max2(d->F, hd + 2 * kd + turned));
        s->partial = reals(y, (n / WS_STEP_CHUNK + 1) * 2, d->D);
    }
    if (y->base != NULL && back) {
        s->dq = s->big;
        s->dk = s->dq + n * hd;
        s->dv = s->dk + n * kd;
        s->qt = s->dv + n * kd;
        s->kt = s->qt + n * hd;
    }
    s->cosine = reals(y, s->opts.positions, d->rope.dim / 2);
    s->sine = reals(y, s->opts.positions, d->rope.dim / 2);
    s->scratch.low = rank_most(s) > 0 ? reals(y, 2 * n, rank_most(s)) : NULL;
    s->position = take(y, (uint64_t)n, sizeof *s->position);
    s->valid = take(y, (uint64_t)n, sizeof *s->valid);
    s->key = take(y, sinks(s) ? (uint64_t)n : 0, sizeof *s->key);
    s->upstream = take(y, (uint64_t)n, sizeof *s->upstream);
    s->row_loss = take(y, (uint64_t)n, sizeof *s->row_loss);
    s->span = take(y, (uint64_t)n, sizeof *s->span);
}

/** Everything; returns the bytes. */
static uint64_t arena_lay(ws_step *s, int threads, unsigned char *base)
{
    struct lay y = { .base = base };
    ws_step_memory *m = &s->memory;

    m->kept = m->work = m->logits = m->panels = 0;
    layers_lay(s, &y);
    work_lay(s, &y);
    y.sum = &m->logits;
    s->logits = reals(&y, m->logit_rows, s->m->d.V);
    y.sum = &m->panels;
    s->scratch.panel_len = (panel_numbers(s) + 15) / 16 * 16;
    ws_real *panels = reals(&y, threads, s->scratch.panel_len);
    for (int t = 0; base != NULL && t < threads; t++)
        s->scratch.panel[t] = panels + t * s->scratch.panel_len;
    m->total = y.at;
    return y.at;
}

/* ---- what is kept ---- */

static void keep_set(ws_step *s, int64_t small, int64_t input)
{
    ws_step_memory *m = &s->memory;
    const int64_t L = s->m->d.L;

    m->layers_frozen = s->first;
    m->layers_input = input;
    m->layers_small = small;
    m->layers_all = L - s->first - small - input;
    for (int64_t l = s->first; l < L; l++)
        s->acts[l].keep = l < s->first + input           ? WS_KEEP_INPUT
                          : l < s->first + input + small ? WS_KEEP_SMALL
                                                         : WS_KEEP_ALL;
}

/** Bytes when @p less layers keep less: first those that drop gate and up, then, beyond
 * all of them, those that keep their input alone. */
static uint64_t keep_try(ws_step *s, int threads, int64_t less)
{
    const int64_t n = s->m->d.L - s->first;
    if (less <= n)
        keep_set(s, less, 0);
    else
        keep_set(s, 2 * n - less, less - n);
    return arena_lay(s, threads, NULL);
}

static ws_status keep_choose(ws_step *s, int threads, ws_err *err)
{
    const int64_t n = s->m->d.L - s->first;
    int64_t low = 0, high = 2 * n;
    uint64_t limit = s->opts.limit;
    char need[24], beside[24], have[24];

    if (limit == 0)
        limit = s->m->limit > s->m->info.bytes ? s->m->limit - s->m->info.bytes : 1;
    limit = limit > s->opts.beside ? limit - s->opts.beside : 1;
    if (s->opts.keep != WS_KEEP_AUTO)
        low = high = s->opts.keep == WS_KEEP_ALL     ? 0
                     : s->opts.keep == WS_KEEP_SMALL ? n
                                                     : 2 * n;
    while (low < high) { // the least that fits
        const int64_t mid = low + (high - low) / 2;
        if (keep_try(s, threads, mid) <= limit)
            high = mid;
        else
            low = mid + 1;
    }
    if (keep_try(s, threads, low) <= limit)
        return WS_OK;
    ws_show_bytes(s->memory.total, need);
    ws_show_bytes(s->m->info.bytes + s->opts.beside, beside);
    ws_show_bytes(limit + s->m->info.bytes + s->opts.beside, have);
    ws_fail(err, WS_E_MEMORY,
            "a step takes %s beside the %s of weights and states, the limit is %s",
            need, beside, have);
    ws_err_hint(err, "--max-memory raises the limit, shorter or fewer sequences lower "
                     "the need");
    return ws_err_at(err, s->m->info.path, NULL, -1);
}

static void logit_rows_choose(ws_step *s)
{
    const int64_t row = s->m->d.V * (int64_t)sizeof(ws_real);
    const bool trained = !s->opts.forward_only && ws_step_trains(s, &s->head);
    int64_t rows = (trained ? LOGITS_TRAINED : LOGITS_FROZEN) / row / 16 * 16;

    rows = rows < LOGIT_ROWS_LEAST ? LOGIT_ROWS_LEAST : rows;
    rows = rows > LOGIT_ROWS_MOST ? LOGIT_ROWS_MOST : rows;
    if (s->opts.logits > 0)
        rows = s->opts.logits;
    s->memory.logit_rows = rows < s->opts.rows ? rows : s->opts.rows;
}

/* ---- price ---- */

/** Multiplications and additions per row of a linear: forward, dX, dW. */
static double linear_flops(const ws_step *s, const ws_weight *w, bool dx, bool again)
{
    const double one = 2.0 * (double)w->rows * (double)w->cols;
    const double rank = w->over ? (double)w->over->rank : 0.0;
    const double low = 2.0 * rank * (double)(w->rows + w->cols);
    double n = 1.0 + (dx ? 1.0 : 0.0) + (again ? 1.0 : 0.0);

    if (w->data == NULL)
        return 0.0;
    return one * (n + (ws_step_trains(s, w) ? 1.0 : 0.0)) + low * (n + 1.0);
}

static double flops_of(const ws_step *s)
{
    const ws_model_desc *d = &s->m->d;
    double sum = linear_flops(s, &s->head, s->need_final, false);

    for (int64_t l = 0; l < d->L; l++) {
        const ws_layer *y = &s->layer[l];
        const ws_layer_need *n = &s->need[l];
        const ws_keep keep = l < s->first ? WS_KEEP_ALL : s->acts[l].keep;
        const bool input = keep == WS_KEEP_INPUT, small = keep != WS_KEEP_ALL;
        const double seen =
            (double)(d->window[l] > 0 && d->window[l] < s->opts.positions
                         ? d->window[l]
                         : s->opts.positions / 2);
        sum += linear_flops(s, &y->q, n->attn_h, input);
        sum += linear_flops(s, &y->k, n->attn_h, input);
        sum += linear_flops(s, &y->v, n->attn_h, input);
        sum += linear_flops(s, &y->o, n->qkv, input);
        sum += linear_flops(s, &y->gate, n->mlp_h, small);
        sum += linear_flops(s, &y->up, n->mlp_h, small);
        sum += linear_flops(s, &y->down, n->gu, false);
        sum += 2.0 * (double)(d->H * d->D) * seen *
               (2.0 + (n->qkv ? 5.0 : 0.0) + (input ? 2.0 : 0.0));
    }
    return sum * (double)s->opts.rows;
}

/* ---- the three calls ---- */

static ws_status step_make(ws_step *s, const ws_model *m, const ws_want *want,
                           const ws_step_opts *o, int threads, ws_err *err)
{
    s->m = m;
    s->opts = *o;
    if (s->opts.positions <= 0)
        s->opts.positions = o->rows;
    if (o->rows < 1 || (m->d.learned && s->opts.positions > m->d.max_positions)) {
        ws_fail(err, WS_E_USAGE, "%lld positions are asked for, the model has %lld",
                (long long)s->opts.positions, (long long)m->d.max_positions);
        return ws_err_at(err, m->info.path, NULL, -1);
    }
    ws_status st = wants_take(s, want, err);
    if (st)
        return st;
    needs_fill(s);
    logit_rows_choose(s);
    s->memory.weights = m->info.bytes;
    st = keep_choose(s, threads, err);
    if (st == WS_OK)
        s->memory.flops = flops_of(s);
    return st;
}

ws_status ws_step_plan(const ws_model *m, const ws_want *want, const ws_step_opts *o,
                       const ws_ctx *ctx, ws_step_memory *out, ws_err *err)
{
    ws_step *s = ws_calloc(1, sizeof *s);
    if (s == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a plan");
    ws_status st = step_make(s, m, want, o, ws_ctx_threads(ctx), err);
    if (st == WS_OK)
        *out = s->memory;
    ws_step_free(s);
    return st;
}

ws_status ws_step_new(ws_step **out, const ws_model *m, const ws_want *want,
                      const ws_step_opts *o, const ws_linear_hook *hook,
                      const ws_ctx *ctx, ws_err *err)
{
    const int threads = ws_ctx_threads(ctx);
    ws_step *s = ws_calloc(1, sizeof *s);
    if (s == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a step");
    ws_status st = step_make(s, m, want, o, threads, err);
    if (st == WS_OK)
        st = ws_pool_new(&s->pool, threads, err);
    if (st == WS_OK) {
        s->scratch.panel = ws_calloc((size_t)threads, sizeof *s->scratch.panel);
        s->all = ws_alloc((size_t)s->memory.total);
        if (s->scratch.panel == NULL || s->all == NULL)
            st = ws_fail(err, WS_E_MEMORY, "no memory for the arena of a step");
    }
    if (st) {
        ws_step_free(s);
        return st;
    }
    arena_lay(s, threads, s->all);
    s->scratch.pool = s->pool;
    s->hook = hook;
    if (m->d.rope.kind != WS_ROPE_NONE)
        ws_rope_table(&m->d.rope, m->d.max_positions, s->opts.positions, s->cosine,
                      s->sine);
    *out = s;
    return WS_OK;
}

void ws_step_free(ws_step *s)
{
    if (s == NULL)
        return;
    ws_pool_free(s->pool);
    ws_free(s->all);
    ws_free(s->scratch.panel);
    ws_free(s->want);
    ws_free(s->layer);
    ws_free(s->need);
    ws_free(s->acts);
    ws_free(s);
}

const ws_step_memory *ws_step_memory_of(const ws_step *s)
{
    return &s->memory;
}

ws_pool *ws_step_pool(ws_step *s)
{
    return s->pool;
}
