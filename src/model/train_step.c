/*
 * train_step.c - one batch: embedding, layers, head, and back
 */
#include "model/train_step.h"

#include <string.h>

#include "model/train_internal.h"

/* ---- a batch ---- */

static ws_status spans_fill(ws_step *s, const ws_step_batch *b, ws_err *err)
{
    const int64_t docs = b->docs > 0 ? b->docs : 1;

    if (b->rows < 1 || b->rows > s->opts.rows || docs > b->rows)
        return ws_fail(err, WS_E_USAGE, "a batch of %lld rows, the step takes %lld",
                       (long long)b->rows, (long long)s->opts.rows);
    for (int64_t i = 0; i < docs; i++) {
        const int64_t row = b->docs > 0 ? b->start[i] : 0;
        const int64_t end = i + 1 < docs ? b->start[i + 1] : b->rows;
        if (row < 0 || end <= row || end > b->rows || (i == 0 && row != 0))
            return ws_fail(err, WS_E_USAGE, "the starts of documents are in disorder");
        if (end - row > s->opts.positions)
            return ws_fail(err, WS_E_USAGE,
                           "a document of %lld tokens, the step takes %lld",
                           (long long)(end - row), (long long)s->opts.positions);
        s->span[i] = (ws_span){ .row = row, .n = end - row, .key = row };
        for (int64_t r = row; r < end; r++)
            s->position[r] = r - row;
    }
    s->n_span = docs;
    return WS_OK;
}

/** Take the batch; the rows that have a target are listed. */
static ws_status batch_take(ws_step *s, const ws_step_batch *b, ws_step_result *out,
                            ws_err *err)
{
    const int64_t V = s->m->d.V;
    ws_status st = spans_fill(s, b, err);

    if (st)
        return st;
    *out = (ws_step_result){ 0 };
    s->n_valid = 0;
    for (int64_t i = 0; i < b->rows; i++) {
        const int32_t worst = b->targets[i] >= V ? b->targets[i] : b->tokens[i];
        if (b->tokens[i] < 0 || b->tokens[i] >= V || b->targets[i] >= V) {
            ws_fail(err, WS_E_USAGE, "token %d is not below the vocabulary of %lld",
                    (int)worst, (long long)V);
            return ws_err_at(err, s->m->info.path, NULL, -1);
        }
        if (b->targets[i] < 0)
            continue;
        s->valid[s->n_valid++] = i;
        out->weight += b->weights ? (double)b->weights[i] : 1.0;
    }
    out->rows = s->n_valid;
    s->batch = b;
    s->n = b->rows;
    s->again = false;
    s->kept = false;
    return WS_OK;
}

static double weight_of(const ws_step_batch *b, int64_t row)
{
    return b->weights ? (double)b->weights[row] : 1.0;
}

/* ---- forward ---- */

static void embed_rows(void *arg, int64_t i0, int64_t i1, int thread)
{
    ws_step *s = arg;
    const int64_t C = s->m->d.C;
    const ws_real scale = (ws_real)s->m->d.embed_scale;
    ws_real *p = s->scratch.panel[thread];

    for (int64_t i = i0; i < i1; i++) {
        ws_real *x = s->acts[0].x + i * C;
        ws_weight_row(&s->embed, s->batch->tokens[i], x);
        for (int64_t c = 0; scale != 1 && c < C; c++)
            x[c] *= scale;
        if (s->positions.data == NULL)
            continue;
        ws_weight_row(&s->positions, s->position[i], p);
        for (int64_t c = 0; c < C; c++)
            x[c] += p[c];
    }
}

static ws_status layers_forward(ws_step *s, ws_err *err)
{
    const int64_t L = s->m->d.L;
    ws_status st = WS_OK;

    ws_step_rows(s, s->n, s->m->d.C, embed_rows, s);
    for (int64_t l = 0; st == WS_OK && l < L; l++)
        st = ws_step_layer_forward(s, l, l + 1 < L ? s->acts[l + 1].x : s->last, err);
    return st;
}

/* ---- backward ---- */

static ws_status layers_backward(ws_step *s, ws_err *err)
{
    const int64_t L = s->m->d.L, most = s->memory.logit_rows;
    const int64_t chunks = (s->n_valid + most - 1) / most;
    ws_status st = WS_OK;

    for (int64_t l = L - 1; st == WS_OK && l >= s->first; l--)
        st = ws_step_layer_backward(s, l, err);
    if (st)
        return st;
    if (ws_step_trains(s, &s->embed))
        ws_step_table_grad(s, &s->embed, s->batch->tokens, NULL, s->dx,
                           s->m->d.embed_scale, chunks);
    if (ws_step_trains(s, &s->positions))
        ws_step_table_grad(s, &s->positions, NULL, s->position, s->dx, 1.0, 0);
    return WS_OK;
}

/** log p of the rows with a target to the caller, and the loss. */
static void results(const ws_step *s, bool own_loss, double *logp, ws_step_result *out)
{
    if (logp != NULL)
        memset(logp, 0, (size_t)s->n * sizeof *logp);
    for (int64_t v = 0; v < s->n_valid; v++) {
        const int64_t row = s->valid[v];
        const double w = weight_of(s->batch, row);
        out->loss += own_loss ? w * s->row_loss[v] : -w * s->row_loss[v];
        if (logp != NULL)
            logp[row] = s->row_loss[v];
    }
}

static ws_status run(ws_step *s, const ws_step_batch *b, const ws_head_run *r,
                     double scale, double *logp, ws_step_result *out, ws_err *err)
{
    ws_status st = batch_take(s, b, out, err);
    if (st)
        return st;
    for (int64_t v = 0; v < s->n_valid; v++)
        s->upstream[v] = -scale * weight_of(b, s->valid[v]);
    st = layers_forward(s, err);
    if (st == WS_OK)
        st = ws_step_head(s, r, err);
    if (st == WS_OK)
        results(s, r->loss != NULL, logp, out);
    if (st == WS_OK && r->backward && s->n_valid > 0)
        st = layers_backward(s, err);
    return st ? ws_err_at(err, s->m->info.path, NULL, -1) : WS_OK;
}

static ws_status backward_check(const ws_step *s, ws_err *err)
{
    if (!s->opts.forward_only)
        return WS_OK;
    return ws_fail(err, WS_E_INTERNAL, "a step for forwards alone runs no backward");
}

ws_status ws_step_run(ws_step *s, const ws_step_batch *b, double scale, double *logp,
                      ws_step_result *out, ws_err *err)
{
    const ws_head_run r = { .forward = true, .backward = true };
    ws_status st = backward_check(s, err);
    return st ? st : run(s, b, &r, scale, logp, out, err);
}

ws_status ws_step_run_loss(ws_step *s, const ws_step_batch *b, double scale,
                           const ws_row_loss *loss, ws_step_result *out, ws_err *err)
{
    const ws_head_run r = { .forward = true, .backward = true, .loss = loss };
    ws_status st = backward_check(s, err);
    return st ? st : run(s, b, &r, scale, NULL, out, err);
}

ws_status ws_step_score(ws_step *s, const ws_step_batch *b, double *logp,
                        ws_step_result *out, ws_err *err)
{
    const ws_head_run r = { .forward = true };
    return run(s, b, &r, 1.0, logp, out, err);
}

ws_status ws_step_forward(ws_step *s, const ws_step_batch *b, double *logp,
                          ws_step_result *out, ws_err *err)
{
    ws_status st = backward_check(s, err);
    if (st == WS_OK)
        st = ws_step_score(s, b, logp, out, err);
    s->kept = st == WS_OK;
    return st;
}

ws_status ws_step_backward(ws_step *s, const double *upstream, ws_err *err)
{
    const ws_head_run r = { .backward = true };

    if (!s->kept)
        return ws_fail(err, WS_E_INTERNAL, "a backward without its forward");
    s->kept = false;
    if (s->n_valid == 0)
        return WS_OK;
    for (int64_t v = 0; v < s->n_valid; v++)
        s->upstream[v] = upstream[s->valid[v]];
    ws_status st = ws_step_head(s, &r, err);
    if (st == WS_OK)
        st = layers_backward(s, err);
    return st ? ws_err_at(err, s->m->info.path, NULL, -1) : WS_OK;
}
