/*
 * train_loss.c - last norm, head and loss of a training step
 *
 *   Z = h E^T (chunk, V), only for rows with a target; then in place
 *   dZ = (softmax - onehot) weight;  dE += dZ^T h;  dh = dZ E, over h
 *
 * Rows by vocabulary never exist whole; the length of a chunk comes from the vocabulary
 * alone, so that the bytes do not depend on the memory.
 */
#include <string.h>

#include "model/train_internal.h"

struct ce_job {
    ws_step *s;
    const ws_head_run *run;
    int64_t from; // first valid row of the chunk
};

WS_HOT static void scale_row(ws_real *z, ws_real a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        z[i] *= a;
}

static void ce_rows(void *arg, int64_t i0, int64_t i1, int thread)
{
    const struct ce_job *j = arg;
    const ws_step *s = j->s;
    const int64_t V = s->m->d.V;

    for (int64_t i = i0; i < i1; i++) {
        const int64_t at = j->from + i, row = s->valid[at];
        const int32_t target = s->batch->targets[row];
        ws_real *z = s->logits + i * V;
        if (j->run->loss != NULL) {
            s->row_loss[at] = j->run->loss->row(j->run->loss->arg, row, z, V, thread);
            scale_row(z, (ws_real)-s->upstream[at], V);
            continue;
        }
        ws_ce_row ce;
        ws_ce_forward(z, V, target, &ce);
        if (j->run->forward)
            s->row_loss[at] = ce.logp;
        if (j->run->backward)
            ws_ce_backward(z, V, target, -s->upstream[at]);
    }
}

static ws_status chunk_backward(ws_step *s, ws_real *h, int64_t rows, int64_t index,
                                ws_err *err)
{
    const ws_weight *w = &s->head;
    const ws_want *want = &s->want[w->part];

    if (ws_step_trains(s, w)) {
        ws_status st = ws_linear_dw(&s->scratch, w, s->logits, w->rows, h, w->cols,
                                    rows, want->grad, want->sink, index, err);
        if (st)
            return st;
    }
    if (w->over != NULL && w->over->rank > 0) {
        ws_status st =
            ws_linear_dlow(&s->scratch, w, s->logits, w->rows, h, w->cols, rows, err);
        if (st)
            return st;
    }
    if (!s->need_final)
        return WS_OK;
    return ws_linear_dx(&s->scratch, w, s->logits, w->rows, rows, h, w->cols, false,
                        false, err);
}

/** The gradient of the head's input from the valid rows to all: h becomes it. */
static void rows_spread(ws_step *s)
{
    const int64_t C = s->m->d.C;
    const size_t bytes = (size_t)C * sizeof *s->h;

    for (int64_t i = s->n - 1, v = s->n_valid - 1; i >= 0; i--) {
        if (v >= 0 && s->valid[v] == i) {
            if (v != i)
                memcpy(s->h + i * C, s->h + v * C, bytes);
            v--;
        } else {
            memset(s->h + i * C, 0, bytes);
        }
    }
}

ws_status ws_step_head(ws_step *s, const ws_head_run *r, ws_err *err)
{
    const int64_t C = s->m->d.C, most = s->memory.logit_rows;
    struct ce_job j = { .s = s, .run = r };
    ws_status st = WS_OK;

    ws_step_norm(s, &s->final_norm, &s->final_norm_b, s->last);
    for (int64_t v = 0; v < s->n_valid; v++)
        if (s->valid[v] != v)
            memcpy(s->h + v * C, s->h + s->valid[v] * C, (size_t)C * sizeof *s->h);
    if (s->hook != NULL && r->forward && s->n_valid > 0)
        st = s->hook->input(s->hook->arg, -1, WS_LINEAR_HEAD, &s->head, s->h,
                            s->n_valid, err);
    for (int64_t v = 0; st == WS_OK && v < s->n_valid; v += most) {
        const int64_t rows = s->n_valid - v < most ? s->n_valid - v : most;
        st = ws_linear_forward(&s->scratch, &s->head, NULL, s->h + v * C, C, rows,
                               s->logits, s->m->d.V, false, err);
        if (st)
            break;
        j.from = v;
        ws_step_rows(s, rows, 8 * s->m->d.V, ce_rows, &j);
        if (r->backward)
            st = chunk_backward(s, s->h + v * C, rows, v / most, err);
    }
    if (st || !r->backward || !s->need_final)
        return st;
    rows_spread(s);
    memset(s->dx, 0, (size_t)(s->n * C) * sizeof *s->dx);
    ws_step_norm_backward(s, &s->final_norm, &s->final_norm_b, s->last, s->h, s->dx);
    return WS_OK;
}
