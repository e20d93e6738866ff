/*
 * train_layer.c - one layer of a training step, forward and backward
 *
 *   forward   mid = x + O(attention(norm(x))),  next = mid + Down(act(norm(mid)))
 *   backward  the same from the end: dx is the gradient of next, then of mid, then of
 *             x. Norms and the activation's product are made again; gate and up, or
 *             all but x, too when they were not kept.
 *
 * Buffers are used over: the gradients of gate and up lie on gate and up, that of q on
 * that of the attention's output, that of a normed input on the normed input.
 */
#include <string.h>

#include "model/train_internal.h"

#define TRY(expr)                                                                      \
    do {                                                                               \
        const ws_status st_ = (expr);                                                  \
        if (st_ != WS_OK)                                                              \
            return st_;                                                                \
    } while (0)

static ws_status linear(ws_step *s, int64_t l, ws_linear_kind kind, const ws_weight *w,
                        const ws_weight *b, const ws_real *X, ws_real *Y, bool add,
                        ws_err *err)
{
    if (s->hook != NULL && !s->again)
        TRY(s->hook->input(s->hook->arg, l, kind, w, X, s->n, err));
    return ws_linear_forward(&s->scratch, w, b, X, w->cols, s->n, Y, w->rows, add, err);
}

/** Whether anything of the low-rank overlay of @p w is wanted. */
static bool low_wanted(const ws_weight *w)
{
    const ws_overlay *o = w->over;
    return o != NULL && o->rank > 0 && (o->dA || o->dB || o->dgain);
}

/** What is wanted of a linear and its bias. */
static ws_status linear_grads(ws_step *s, const ws_weight *w, const ws_weight *b,
                              const ws_real *dY, const ws_real *X, ws_err *err)
{
    const ws_want *want = &s->want[w->part];

    if (ws_step_trains(s, w))
        TRY(ws_linear_dw(&s->scratch, w, dY, w->rows, X, w->cols, s->n, want->grad,
                         want->sink, 0, err));
    if (low_wanted(w))
        TRY(ws_linear_dlow(&s->scratch, w, dY, w->rows, X, w->cols, s->n, err));
    if (ws_step_trains(s, b))
        ws_step_column_sums(s, b, dY, NULL);
    return WS_OK;
}

/** dX of a linear; @p next: right after its linear_grads(). */
static ws_status dx_of(ws_step *s, const ws_weight *w, const ws_real *dY, ws_real *dX,
                       bool add, bool next, ws_err *err)
{
    return ws_linear_dx(&s->scratch, w, dY, w->rows, s->n, dX, w->cols, add,
                        next && low_wanted(w), err);
}

/* ---- positions and norms of q and k ---- */

struct turn_job {
    ws_step *s;
    const ws_real *q_norm, *k_norm;
    const ws_real *q, *k; // as the linears left them
    ws_real *qt, *kt;     // out; may be q and k. Backward: their gradients, in place
};

static void heads_turn(const struct turn_job *j, int64_t i, int64_t heads,
                       const ws_real *from, ws_real *to, const ws_real *norm)
{
    const ws_model_desc *d = &j->s->m->d;
    const int64_t half = d->rope.dim / 2, p = j->s->position[i];

    if (norm == NULL && from != to)
        memcpy(to, from, (size_t)(heads * d->D) * sizeof *to);
    for (int64_t h = 0; norm != NULL && h < heads; h++)
        ws_norm_forward(d->norm, d->eps, from + h * d->D, norm, NULL, to + h * d->D,
                        d->D, NULL);
    if (d->rope.kind != WS_ROPE_NONE)
        ws_rope_apply(to, heads, d->D, d->rope.dim, j->s->cosine + p * half,
                      j->s->sine + p * half, false);
}

static void turn_rows(void *arg, int64_t i0, int64_t i1, int thread)
{
    const struct turn_job *j = arg;
    const ws_model_desc *d = &j->s->m->d;
    const int64_t hd = d->H * d->D, kd = d->K * d->D;
    (void)thread;
    for (int64_t i = i0; i < i1; i++) {
        heads_turn(j, i, d->H, j->q + i * hd, j->qt + i * hd, j->q_norm);
        heads_turn(j, i, d->K, j->k + i * kd, j->kt + i * kd, j->k_norm);
    }
}

static void turn(ws_step *s, const ws_layer *y, const ws_layer_acts *a, ws_real *qt,
                 ws_real *kt)
{
    const ws_model_desc *d = &s->m->d;
    struct turn_job j = { .s = s,
                          .q_norm = ws_weight_vector(&y->q_norm, s->vector[2]),
                          .k_norm = ws_weight_vector(&y->k_norm, s->vector[3]),
                          .q = a->q,
                          .k = a->k,
                          .qt = qt,
                          .kt = kt };
    if (d->qk_norm || d->rope.kind != WS_ROPE_NONE)
        ws_step_rows(s, s->n, 4 * (d->H + d->K) * d->D, turn_rows, &j);
}

/** Gradients of heads in place, and the sums for the norm's weight. */
static void heads_back(const struct turn_job *j, int64_t i, int64_t heads,
                       const ws_real *x, ws_real *dy, const ws_real *norm, ws_real *dw,
                       ws_real *tmp)
{
    const ws_model_desc *d = &j->s->m->d;
    const int64_t half = d->rope.dim / 2, p = j->s->position[i];
    const int64_t n = d->D;
    ws_real stat[2];

    if (d->rope.kind != WS_ROPE_NONE)
        ws_rope_apply(dy, heads, n, d->rope.dim, j->s->cosine + p * half,
                      j->s->sine + p * half, true);
    for (int64_t h = 0; norm != NULL && h < heads; h++) {
        ws_norm_forward(d->norm, d->eps, x + h * n, norm, NULL, tmp, n, stat);
        memcpy(tmp, dy + h * n, (size_t)n * sizeof *tmp);
        memset(dy + h * n, 0, (size_t)n * sizeof *tmp);
        ws_norm_backward(d->norm, x + h * n, norm, tmp, stat, dy + h * n, dw, NULL, n);
    }
}

static void turn_back_rows(void *arg, int64_t i0, int64_t i1, int thread)
{
    const struct turn_job *j = arg;
    const ws_model_desc *d = &j->s->m->d;
    const int64_t hd = d->H * d->D, kd = d->K * d->D;
    ws_real *sums = j->s->partial + i0 / WS_STEP_CHUNK * 2 * d->D;

    for (int64_t i = i0; i < i1; i++) {
        heads_back(j, i, d->H, j->q + i * hd, j->qt + i * hd, j->q_norm, sums,
                   j->s->scratch.panel[thread]);
        heads_back(j, i, d->K, j->k + i * kd, j->kt + i * kd, j->k_norm, sums + d->D,
                   j->s->scratch.panel[thread]);
    }
}

static void turn_back_chunk(void *arg, size_t index, int thread)
{
    const struct turn_job *j = arg;
    const int64_t i0 = (int64_t)index * WS_STEP_CHUNK, n = j->s->n;
    turn_back_rows(arg, i0, i0 + WS_STEP_CHUNK < n ? i0 + WS_STEP_CHUNK : n, thread);
}

/** The chunks' sums, in order, to where the weight of a norm of heads wants them. */
static void head_norm_grad(ws_step *s, const ws_weight *w, const ws_real *sums)
{
    const int64_t D = s->m->d.D, chunks = (s->n + WS_STEP_CHUNK - 1) / WS_STEP_CHUNK;
    ws_real *sum = s->scratch.panel[0];
    const ws_want *want = &s->want[w->part];

    if (!ws_step_trains(s, w))
        return;
    for (int64_t i = 0; i < D; i++) {
        double all = 0;
        for (int64_t c = 0; c < chunks; c++)
            all += (double)sums[c * 2 * D + i];
        sum[i] = (ws_real)all;
        if (want->grad != NULL)
            want->grad[w->offset + i] += sum[i];
    }
    if (want->sink != NULL)
        want->sink->panel(want->sink->arg,
                          &(ws_grad_panel){ w->part, w->offset, 1, D, D, sum, 0, 0 });
}

/** dq and dk back through positions and norms. */
static void turn_back(ws_step *s, const ws_layer *y, const ws_layer_acts *a)
{
    const ws_model_desc *d = &s->m->d;
    const int64_t chunks = (s->n + WS_STEP_CHUNK - 1) / WS_STEP_CHUNK;
    struct turn_job j = { .s = s,
                          .q_norm = ws_weight_vector(&y->q_norm, s->vector[2]),
                          .k_norm = ws_weight_vector(&y->k_norm, s->vector[3]),
                          .q = a->q,
                          .k = a->k,
                          .qt = s->dq,
                          .kt = s->dk };

    if (!d->qk_norm && d->rope.kind == WS_ROPE_NONE)
        return;
    if (d->qk_norm)
        memset(s->partial, 0, (size_t)(chunks * 2 * d->D) * sizeof *s->partial);
    ws_pool_for(s->pool, (size_t)chunks, turn_back_chunk, &j);
    if (d->qk_norm) {
        head_norm_grad(s, &y->q_norm, s->partial);
        head_norm_grad(s, &y->k_norm, s->partial + d->D);
    }
}

/* ---- forward ---- */

static ws_attention attention_of(const ws_step *s, int64_t l)
{
    const ws_model_desc *d = &s->m->d;
    return (ws_attention){ .H = d->H,
                           .K = d->K,
                           .D = d->D,
                           .window = d->window[l],
                           .scale = d->scale_by_layer ? d->scale / (double)(l + 1)
                                                      : d->scale,
                           .span = s->span,
                           .n_span = s->n_span };
}

/** Where turned q and k lie: norms cannot be undone, so what was before them stays. */
static bool turned_apart(const ws_step *s, const ws_layer_acts *a)
{
    return s->m->d.qk_norm && !a->frozen;
}

static void copy_rows(ws_step *s, const ws_real *from, ws_real *to)
{
    if (from != to)
        memcpy(to, from, (size_t)(s->n * s->m->d.C) * sizeof *to);
}

static ws_status attention_forward(ws_step *s, int64_t l, ws_real *mid, ws_err *err)
{
    const ws_layer *y = &s->layer[l];
    const ws_layer_acts *a = &s->acts[l];
    const ws_attention at = attention_of(s, l);
    ws_real *qt = turned_apart(s, a) ? s->qt : a->q;
    ws_real *kt = turned_apart(s, a) ? s->kt : a->k;

    ws_step_norm(s, &y->attn_norm, &y->attn_norm_b, a->x);
    TRY(linear(s, l, WS_LINEAR_Q, &y->q, &y->q_b, s->h, a->q, false, err));
    TRY(linear(s, l, WS_LINEAR_K, &y->k, &y->k_b, s->h, a->k, false, err));
    TRY(linear(s, l, WS_LINEAR_V, &y->v, &y->v_b, s->h, a->v, false, err));
    turn(s, y, a, qt, kt);
    TRY(ws_attention_forward(&s->scratch, &at, qt, kt, a->v, a->o, a->lse, err));
    copy_rows(s, a->x, mid);
    return linear(s, l, WS_LINEAR_O, &y->o, &y->o_b, a->o, mid, true, err);
}

struct act_job {
    ws_step *s;
    ws_real *g, *u, *out;
    const ws_real *dy; // backward: g and u become their gradients
};

static void act_rows(void *arg, int64_t i0, int64_t i1, int thread)
{
    const struct act_job *j = arg;
    const ws_model_desc *d = &j->s->m->d;
    const int64_t at = i0 * d->F, n = (i1 - i0) * d->F;
    (void)thread;
    if (j->dy == NULL && d->gated)
        ws_act_gated_forward(d->act, j->g + at, j->u + at, j->out + at, n);
    else if (j->dy == NULL)
        ws_act_forward(d->act, j->u + at, j->out + at, n);
    else if (d->gated)
        ws_act_gated_backward(d->act, j->g + at, j->u + at, j->dy + at, j->g + at,
                              j->u + at, n);
    else
        ws_act_backward(d->act, j->u + at, j->dy + at, j->u + at, n);
}

static void act(ws_step *s, const ws_layer_acts *a, ws_real *out, const ws_real *dy)
{
    struct act_job j = { s, a->g, a->u, out, dy };
    ws_step_rows(s, s->n, 8 * s->m->d.F, act_rows, &j);
}

/** Gate and up of the rows in @p mid. */
static ws_status gate_up(ws_step *s, int64_t l, const ws_real *mid, ws_err *err)
{
    const ws_layer *y = &s->layer[l];
    const ws_layer_acts *a = &s->acts[l];

    ws_step_norm(s, &y->mlp_norm, &y->mlp_norm_b, mid);
    if (s->m->d.gated)
        TRY(linear(s, l, WS_LINEAR_GATE, &y->gate, &y->gate_b, s->h, a->g, false, err));
    return linear(s, l, WS_LINEAR_UP, &y->up, &y->up_b, s->h, a->u, false, err);
}

ws_status ws_step_layer_forward(ws_step *s, int64_t l, ws_real *next, ws_err *err)
{
    const ws_layer *y = &s->layer[l];
    const ws_layer_acts *a = &s->acts[l];
    const bool kept = !a->frozen && a->keep == WS_KEEP_ALL;
    ws_real *mid = a->frozen ? a->x : a->keep == WS_KEEP_INPUT ? next : a->mid;
    ws_real *product = kept ? s->big : a->u;

    TRY(attention_forward(s, l, mid, err));
    TRY(gate_up(s, l, mid, err));
    act(s, a, product, NULL);
    copy_rows(s, mid, next);
    return linear(s, l, WS_LINEAR_DOWN, &y->down, &y->down_b, product, next, true, err);
}

/* ---- backward ---- */

static ws_status mlp_backward(ws_step *s, int64_t l, ws_err *err)
{
    const ws_layer *y = &s->layer[l];
    const ws_layer_acts *a = &s->acts[l];
    const ws_layer_need *need = &s->need[l];
    const bool down = ws_step_wants(s, &y->down);

    if (!need->gu && !down && !ws_step_wants(s, &y->down_b))
        return WS_OK;
    if (a->keep != WS_KEEP_ALL)
        TRY(gate_up(s, l, a->mid, err));
    else if (need->gu)
        ws_step_norm(s, &y->mlp_norm, &y->mlp_norm_b, a->mid);
    if (down)
        act(s, a, s->big, NULL);
    TRY(linear_grads(s, &y->down, &y->down_b, s->dx, s->big, err));
    if (!need->gu)
        return WS_OK;
    TRY(dx_of(s, &y->down, s->dx, s->big, false, true, err));
    act(s, a, NULL, s->big);
    if (s->m->d.gated)
        TRY(linear_grads(s, &y->gate, &y->gate_b, a->g, s->h, err));
    TRY(linear_grads(s, &y->up, &y->up_b, a->u, s->h, err));
    if (!need->mlp_h)
        return WS_OK;
    TRY(dx_of(s, &y->up, a->u, s->h, false, true, err));
    if (s->m->d.gated)
        TRY(dx_of(s, &y->gate, a->g, s->h, true, false, err));
    ws_step_norm_backward(s, &y->mlp_norm, &y->mlp_norm_b, a->mid, s->h, s->dx);
    return WS_OK;
}

static ws_status attention_backward(ws_step *s, int64_t l, ws_err *err)
{
    const ws_layer *y = &s->layer[l];
    const ws_layer_acts *a = &s->acts[l];
    const ws_layer_need *need = &s->need[l];
    const ws_attention at = attention_of(s, l);
    const size_t kd = (size_t)(s->n * s->m->d.K * s->m->d.D) * sizeof *s->dk;
    const bool apart = turned_apart(s, a);

    if (!need->mid)
        return WS_OK;
    TRY(linear_grads(s, &y->o, &y->o_b, s->dx, a->o, err));
    if (!need->qkv)
        return WS_OK;
    TRY(dx_of(s, &y->o, s->dx, s->dq, false, true, err));
    if (apart)
        turn(s, y, a, s->qt, s->kt);
    memset(s->dk, 0, kd);
    memset(s->dv, 0, kd);
    TRY(ws_attention_backward(&s->scratch, &at, apart ? s->qt : a->q,
                              apart ? s->kt : a->k, a->v, a->o, a->lse, s->dq, s->dq,
                              s->dk, s->dv, err));
    turn_back(s, y, a);
    ws_step_norm(s, &y->attn_norm, &y->attn_norm_b, a->x);
    TRY(linear_grads(s, &y->k, &y->k_b, s->dk, s->h, err));
    TRY(linear_grads(s, &y->v, &y->v_b, s->dv, s->h, err));
    TRY(linear_grads(s, &y->q, &y->q_b, s->dq, s->h, err));
    if (!need->attn_h)
        return WS_OK;
    TRY(dx_of(s, &y->q, s->dq, s->h, false, true, err));
    TRY(dx_of(s, &y->k, s->dk, s->h, true, false, err));
    TRY(dx_of(s, &y->v, s->dv, s->h, true, false, err));
    ws_step_norm_backward(s, &y->attn_norm, &y->attn_norm_b, a->x, s->h, s->dx);
    return WS_OK;
}

ws_status ws_step_layer_backward(ws_step *s, int64_t l, ws_err *err)
{
    const ws_layer_acts *a = &s->acts[l];

    s->again = true;
    if (a->keep == WS_KEEP_INPUT)
        TRY(attention_forward(s, l, a->mid, err));
    TRY(mlp_backward(s, l, err));
    return attention_backward(s, l, err);
}
