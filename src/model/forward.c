/*
 * forward.c - the transformer, layer after layer
 *
 *   x (n, C) residual stream, h (n, C) its norm, q (n, HD), k, v (n, KD), g, u (n, F)
 *
 *   x = E[token] + P[position];  per layer x += O(attention(h)), x += Down(act(h));
 *   out = norm(x)
 */
#include "model/forward.h"

#include <math.h>
#include <string.h>

#include "base/os.h"
#include "wsurg/text.h"

enum { ROW_CHUNK = 16, SERIAL_NUMBERS = 1 << 15 };

struct ws_fwd {
    const ws_model *m;
    ws_fwd_opts o;
    ws_pool *pool;
    ws_scratch scratch;
    ws_real *all; // one block for everything below
    ws_real *x, *h, *q, *k, *v, *g, *u;
    ws_real *cosine, *sine;     // (positions, dim / 2)
    ws_real *cache_k, *cache_v; // (L, cached, KD)
    ws_real *logits;            // (logits, V)
    ws_real *vector[4];         // an expanded norm weight, bias: (max(C, D))
    int64_t *position;          // (rows)
};

/** Numbers of each part, in the order of ws_fwd's fields. */
struct parts {
    uint64_t n[16];
    size_t count;
};

static uint64_t saturating(uint64_t a, uint64_t b)
{
    uint64_t out;
    return ws_mul_u64(a, b, &out) && out < UINT64_MAX / 64 ? out : UINT64_MAX / 64;
}

static int64_t max2(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t panel_numbers(const ws_model *m, const ws_fwd_opts *o)
{
    const ws_model_desc *d = &m->d;
    const ws_attention a = { .H = d->H, .K = d->K, .D = d->D };
    int64_t n = ws_attention_scratch(&a, o->positions);

    n = max2(n, ws_linear_panel(d->H * d->D, d->C, d->conv1d));
    n = max2(n, ws_linear_panel(d->C, d->H * d->D, d->conv1d));
    n = max2(n, ws_linear_panel(d->F, d->C, d->conv1d));
    n = max2(n, ws_linear_panel(d->C, d->F, d->conv1d));
    return max2(n, ws_linear_panel(d->V, d->C, false));
}

static struct parts parts_of(const ws_model *m, const ws_fwd_opts *o, int threads)
{
    const ws_model_desc *d = &m->d;
    const uint64_t n = (uint64_t)o->rows, C = (uint64_t)d->C,
                   kd = (uint64_t)(d->K * d->D);
    const uint64_t table =
        saturating((uint64_t)o->positions, (uint64_t)d->rope.dim / 2);
    const uint64_t cache =
        saturating((uint64_t)d->L, saturating((uint64_t)o->cached, kd));
    const uint64_t F = saturating(n, (uint64_t)d->F);
    return (struct parts){
        .n = { saturating(n, C), saturating(n, C),
               saturating(n, (uint64_t)(d->H * d->D)), saturating(n, kd),
               saturating(n, kd), d->gated ? F : 0, F, table, table, cache, cache,
               saturating((uint64_t)o->logits, (uint64_t)d->V),
               4 * (uint64_t)max2(d->C, d->D),
               saturating((uint64_t)threads, (uint64_t)panel_numbers(m, o)), 0 },
        .count = 15
    };
}

uint64_t ws_fwd_bytes(const ws_model *m, const ws_fwd_opts *o, int threads)
{
    const struct parts p = parts_of(m, o, threads);
    uint64_t sum = 0;
    for (size_t i = 0; i < p.count; i++)
        sum += (p.n[i] + 15) / 16 * 16 * sizeof(ws_real);
    return sum + (1 << 16);
}

static ws_status limit_check(const ws_model *m, const ws_fwd_opts *o, int threads,
                             ws_err *err)
{
    const uint64_t work = ws_fwd_bytes(m, o, threads) + o->beside;
    char need[24], weights[24], have[24];

    if (work <= m->limit && m->info.bytes <= m->limit - work)
        return WS_OK;
    ws_show_bytes(work, need);
    ws_show_bytes(m->info.bytes, weights);
    ws_show_bytes(m->limit, have);
    ws_fail(err, WS_E_MEMORY, "the weights take %s and the work %s, the limit is %s",
            weights, need, have);
    ws_err_hint(err, "--max-memory raises the limit");
    return ws_err_at(err, m->info.path, NULL, -1);
}

static ws_status memory_lay(ws_fwd *e, int threads, ws_err *err)
{
    const struct parts p = parts_of(e->m, &e->o, threads);
    ws_real *panels = NULL, *vectors = NULL, *positions = NULL;
    ws_real **to[] = { &e->x,       &e->h,      &e->q,      &e->k,    &e->v,
                       &e->g,       &e->u,      &e->cosine, &e->sine, &e->cache_k,
                       &e->cache_v, &e->logits, &vectors,   &panels,  &positions };
    size_t total = 0;

    for (size_t i = 0; i < p.count; i++)
        total += (size_t)(p.n[i] + 15) / 16 * 16;
    e->all = ws_alloc(total * sizeof(ws_real));
    e->scratch.panel = ws_calloc((size_t)threads, sizeof *e->scratch.panel);
    e->position = ws_calloc((size_t)e->o.rows, sizeof *e->position);
    if (e->all == NULL || e->scratch.panel == NULL || e->position == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the work of a model");
    ws_real *at = e->all;
    for (size_t i = 0; i < p.count; i++) {
        *to[i] = at;
        at += (p.n[i] + 15) / 16 * 16;
    }
    e->scratch.panel_len = panel_numbers(e->m, &e->o);
    for (int t = 0; t < threads; t++)
        e->scratch.panel[t] = panels + t * e->scratch.panel_len;
    for (int i = 0; i < 4; i++)
        e->vector[i] = vectors + i * max2(e->m->d.C, e->m->d.D);
    return WS_OK;
}

ws_status ws_fwd_new(ws_fwd **out, const ws_model *m, const ws_fwd_opts *o,
                     const ws_ctx *ctx, ws_err *err)
{
    const int threads = ws_ctx_threads(ctx);
    if (m->d.learned && o->positions > m->d.max_positions) {
        ws_fail(err, WS_E_USAGE, "%lld positions are asked for, the model has %lld",
                (long long)o->positions, (long long)m->d.max_positions);
        return ws_err_at(err, m->info.path, NULL, -1);
    }
    ws_status st = limit_check(m, o, threads, err);
    if (st)
        return st;
    ws_fwd *e = ws_calloc(1, sizeof *e);
    if (e == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the work of a model");
    e->m = m;
    e->o = *o;
    st = ws_pool_new(&e->pool, threads, err);
    e->scratch.pool = e->pool;
    if (st == WS_OK)
        st = memory_lay(e, threads, err);
    if (st) {
        ws_fwd_free(e);
        return st;
    }
    if (m->d.rope.kind != WS_ROPE_NONE)
        ws_rope_table(&m->d.rope, m->d.max_positions, o->positions, e->cosine, e->sine);
    *out = e;
    return WS_OK;
}

void ws_fwd_free(ws_fwd *e)
{
    if (e == NULL)
        return;
    ws_pool_free(e->pool);
    ws_free(e->all);
    ws_free(e->scratch.panel);
    ws_free(e->position);
    ws_free(e);
}

ws_pool *ws_fwd_pool(ws_fwd *e)
{
    return e->pool;
}

/* ---- rows, spread over the pool ---- */

/** Work on rows i0 .. i1. */
struct rows {
    ws_fwd *e;
    void (*fn)(const struct rows *r, int64_t i0, int64_t i1);
    int64_t n;
    const ws_real *in, *in2, *w, *b;
    ws_real *out;
    const ws_layer *layer;
    const int32_t *tokens;
    ws_ce_row *ce;
    int64_t chunk;
};

static void rows_part(void *arg, size_t index, int thread)
{
    const struct rows *r = arg;
    const int64_t i0 = (int64_t)index * r->chunk;
    const int64_t i1 = i0 + r->chunk < r->n ? i0 + r->chunk : r->n;
    (void)thread;
    r->fn(r, i0, i1);
}

static void rows_run(struct rows *r, int64_t numbers)
{
    r->chunk = ROW_CHUNK;
    if (numbers * r->n < SERIAL_NUMBERS || r->n <= 1)
        r->fn(r, 0, r->n);
    else
        ws_pool_for(r->e->pool, (size_t)((r->n + r->chunk - 1) / r->chunk), rows_part,
                    r);
}

static void norm_rows(const struct rows *r, int64_t i0, int64_t i1)
{
    const ws_model_desc *d = &r->e->m->d;
    for (int64_t i = i0; i < i1; i++)
        ws_norm_forward(d->norm, d->eps, r->in + i * d->C, r->w, r->b,
                        r->out + i * d->C, d->C, NULL);
}

static void norm(ws_fwd *e, const ws_weight *w, const ws_weight *b, int64_t n)
{
    struct rows r = { .e = e,
                      .fn = norm_rows,
                      .n = n,
                      .in = e->x,
                      .out = e->h,
                      .w = ws_weight_vector(w, e->vector[0]),
                      .b = ws_weight_vector(b, e->vector[1]) };
    rows_run(&r, 4 * e->m->d.C);
}

/** The norms of q and k, and their turning. */
static void turn_rows(const struct rows *r, int64_t i0, int64_t i1)
{
    ws_fwd *e = r->e;
    const ws_model_desc *d = &e->m->d;
    const int64_t half = d->rope.dim / 2;

    for (int64_t i = i0; i < i1; i++) {
        ws_real *q = e->q + i * d->H * d->D, *k = e->k + i * d->K * d->D;
        for (int64_t h = 0; d->qk_norm && h < d->H; h++)
            ws_norm_forward(d->norm, d->eps, q + h * d->D, r->w, NULL, q + h * d->D,
                            d->D, NULL);
        for (int64_t h = 0; d->qk_norm && h < d->K; h++)
            ws_norm_forward(d->norm, d->eps, k + h * d->D, r->b, NULL, k + h * d->D,
                            d->D, NULL);
        if (d->rope.kind == WS_ROPE_NONE)
            continue;
        const ws_real *c = e->cosine + e->position[i] * half;
        const ws_real *s = e->sine + e->position[i] * half;
        ws_rope_apply(q, d->H, d->D, d->rope.dim, c, s, false);
        ws_rope_apply(k, d->K, d->D, d->rope.dim, c, s, false);
    }
}

static void act_rows(const struct rows *r, int64_t i0, int64_t i1)
{
    ws_fwd *e = r->e;
    const ws_model_desc *d = &e->m->d;
    ws_real *u = e->u + i0 * d->F;

    if (d->gated)
        ws_act_gated_forward(d->act, e->g + i0 * d->F, u, u, (i1 - i0) * d->F);
    else
        ws_act_forward(d->act, u, u, (i1 - i0) * d->F);
}

static void embed_rows(const struct rows *r, int64_t i0, int64_t i1)
{
    ws_fwd *e = r->e;
    const ws_model *m = e->m;
    for (int64_t i = i0; i < i1; i++) {
        ws_real *x = e->x + i * m->d.C, *p = e->h + i * m->d.C;
        ws_weight_row(&m->embed, r->tokens[i], x);
        for (int64_t c = 0; m->d.embed_scale != 1.0 && c < m->d.C; c++)
            x[c] *= (ws_real)m->d.embed_scale;
        if (!m->d.learned)
            continue;
        ws_weight_row(&m->positions, e->position[i], p);
        for (int64_t c = 0; c < m->d.C; c++)
            x[c] += p[c];
    }
}

static void ce_rows(const struct rows *r, int64_t i0, int64_t i1)
{
    const int64_t V = r->e->m->d.V;
    for (int64_t i = i0; i < i1; i++)
        ws_ce_forward(r->out + i * V, V, r->tokens ? r->tokens[i] : -1, &r->ce[i]);
}

void ws_fwd_ce(ws_fwd *e, ws_real *logits, const int32_t *labels, int64_t n,
               ws_ce_row *out)
{
    struct rows r = {
        .e = e, .fn = ce_rows, .n = n, .out = logits, .tokens = labels, .ce = out
    };
    rows_run(&r, 8 * e->m->d.V);
}

/* ---- one layer ---- */

/** One call of ws_fwd_run(). */
struct pass {
    ws_fwd *e;
    const ws_span *span;
    int64_t n_span, n;
    const ws_linear_hook *hook;
    ws_err *err;
};

static ws_status linear(const struct pass *p, int64_t layer, ws_linear_kind kind,
                        const ws_weight *w, const ws_weight *b, const ws_real *X,
                        ws_real *Y, bool add)
{
    if (p->hook != NULL) {
        ws_status st = p->hook->input(p->hook->arg, layer, kind, w, X, p->n, p->err);
        if (st)
            return st;
    }
    return ws_linear_forward(&p->e->scratch, w, b, X, w->cols, p->n, Y, w->rows, add,
                             p->err);
}

/** Keys and values of this call to their places in the cache of layer @p l. */
static void cache_store(const struct pass *p, int64_t l, ws_real **k, ws_real **v)
{
    ws_fwd *e = p->e;
    const int64_t kd = e->m->d.K * e->m->d.D;

    *k = e->k;
    *v = e->v;
    if (e->o.cached == 0)
        return;
    *k = e->cache_k + l * e->o.cached * kd;
    *v = e->cache_v + l * e->o.cached * kd;
    for (int64_t i = 0; i < p->n_span; i++) {
        const ws_span *s = &p->span[i];
        const size_t bytes = (size_t)(s->n * kd) * sizeof(ws_real);
        memcpy(*k + (s->key + s->past) * kd, e->k + s->row * kd, bytes);
        memcpy(*v + (s->key + s->past) * kd, e->v + s->row * kd, bytes);
    }
}

static ws_status attention(const struct pass *p, const ws_layer *y, int64_t l)
{
    ws_fwd *e = p->e;
    const ws_model_desc *d = &e->m->d;
    ws_real *k, *v;
    ws_status st;

    norm(e, &y->attn_norm, &y->attn_norm_b, p->n);
    if ((st = linear(p, l, WS_LINEAR_Q, &y->q, &y->q_b, e->h, e->q, false)) ||
        (st = linear(p, l, WS_LINEAR_K, &y->k, &y->k_b, e->h, e->k, false)) ||
        (st = linear(p, l, WS_LINEAR_V, &y->v, &y->v_b, e->h, e->v, false)))
        return st;
    struct rows r = { .e = e,
                      .fn = turn_rows,
                      .n = p->n,
                      .w = ws_weight_vector(&y->q_norm, e->vector[0]),
                      .b = ws_weight_vector(&y->k_norm, e->vector[1]) };
    rows_run(&r, 4 * (d->H + d->K) * d->D);
    cache_store(p, l, &k, &v);
    const ws_attention a = { .H = d->H,
                             .K = d->K,
                             .D = d->D,
                             .window = d->window[l],
                             .scale = d->scale_by_layer ? d->scale / (double)(l + 1)
                                                        : d->scale,
                             .span = p->span,
                             .n_span = p->n_span };
    st = ws_attention_forward(&e->scratch, &a, e->q, k, v, e->q, NULL, p->err);
    if (st)
        return st;
    return linear(p, l, WS_LINEAR_O, &y->o, &y->o_b, e->q, e->x, true);
}

static ws_status mlp(const struct pass *p, const ws_layer *y, int64_t l)
{
    ws_fwd *e = p->e;
    ws_status st = WS_OK;

    norm(e, &y->mlp_norm, &y->mlp_norm_b, p->n);
    if (e->m->d.gated)
        st = linear(p, l, WS_LINEAR_GATE, &y->gate, &y->gate_b, e->h, e->g, false);
    if (st == WS_OK)
        st = linear(p, l, WS_LINEAR_UP, &y->up, &y->up_b, e->h, e->u, false);
    if (st)
        return st;
    struct rows r = { .e = e, .fn = act_rows, .n = p->n };
    rows_run(&r, 8 * e->m->d.F);
    return linear(p, l, WS_LINEAR_DOWN, &y->down, &y->down_b, e->u, e->x, true);
}

/** Positions of the rows; everything is in range afterwards. */
static ws_status pass_check(struct pass *p, const int32_t *tokens)
{
    ws_fwd *e = p->e;
    const ws_model *m = e->m;

    for (int64_t i = 0; i < p->n_span; i++) {
        const ws_span *s = &p->span[i];
        if (s->row != p->n || s->n > e->o.rows - p->n ||
            s->past + s->n > e->o.positions ||
            (e->o.cached > 0 && s->key + s->past + s->n > e->o.cached))
            return ws_fail(p->err, WS_E_USAGE,
                           "a sequence of %lld tokens does not fit the %lld positions",
                           (long long)(s->past + s->n), (long long)e->o.positions);
        for (int64_t j = 0; j < s->n; j++)
            e->position[p->n++] = s->past + j;
    }
    for (int64_t i = 0; i < p->n; i++)
        if (tokens[i] < 0 || tokens[i] >= m->d.V) {
            ws_fail(p->err, WS_E_USAGE, "token %d is not below the vocabulary of %lld",
                    (int)tokens[i], (long long)m->d.V);
            return ws_err_at(p->err, m->info.path, NULL, -1);
        }
    return WS_OK;
}

ws_status ws_fwd_run(ws_fwd *e, const int32_t *tokens, const ws_span *span,
                     int64_t n_span, const ws_linear_hook *hook, const ws_real **rows,
                     ws_err *err)
{
    const ws_model *m = e->m;
    struct pass p = { e, span, n_span, 0, hook, err };

    ws_status st = pass_check(&p, tokens);
    if (st)
        return st;
    struct rows r = { .e = e, .fn = embed_rows, .n = p.n, .tokens = tokens };
    rows_run(&r, m->d.C);
    for (int64_t l = 0; l < m->d.L; l++) {
        st = attention(&p, &m->layer[l], l);
        if (st == WS_OK)
            st = mlp(&p, &m->layer[l], l);
        if (st)
            return ws_err_at(err, m->info.path, NULL, -1);
    }
    norm(e, &m->final_norm, &m->final_norm_b, p.n);
    *rows = e->h;
    return WS_OK;
}

ws_status ws_fwd_logits(ws_fwd *e, const ws_real *rows, int64_t n, ws_real **logits,
                        ws_err *err)
{
    *logits = e->logits;
    return ws_linear_forward(&e->scratch, &e->m->head, NULL, rows, e->m->d.C, n,
                             e->logits, e->m->d.V, false, err);
}
