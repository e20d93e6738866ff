/*
 * train_rows.c - work on rows of a training step: norms, sums over rows, tables
 *
 * A sum over rows goes by columns, each thread taking some: the rows are added in
 * order, whatever the number of threads.
 */
#include <stdlib.h>
#include <string.h>

#include "model/train_internal.h"

enum { ROW_CHUNK = 16, SERIAL_NUMBERS = 1 << 15, COLUMNS = 128 };

bool ws_step_trains(const ws_step *s, const ws_weight *w)
{
    return w->data != NULL &&
           (s->want[w->part].grad != NULL || s->want[w->part].sink != NULL);
}

bool ws_step_wants(const ws_step *s, const ws_weight *w)
{
    const ws_overlay *o = w->over;
    return ws_step_trains(s, w) || (w->data != NULL && o != NULL && o->rank > 0 &&
                                    (o->dA || o->dB || o->dgain));
}

struct rows_job {
    void (*fn)(void *arg, int64_t i0, int64_t i1, int thread);
    void *arg;
    int64_t n, chunk;
};

static void rows_part(void *arg, size_t index, int thread)
{
    const struct rows_job *j = arg;
    const int64_t i0 = (int64_t)index * j->chunk;
    j->fn(j->arg, i0, i0 + j->chunk < j->n ? i0 + j->chunk : j->n, thread);
}

static void chunks_run(ws_step *s, int64_t n, int64_t chunk, int64_t numbers,
                       void (*fn)(void *, int64_t, int64_t, int), void *arg)
{
    struct rows_job j = { fn, arg, n, chunk };
    const int64_t chunks = (n + chunk - 1) / chunk;

    if (numbers < SERIAL_NUMBERS || chunks <= 1)
        for (int64_t i = 0; i < chunks; i++)
            rows_part(&j, (size_t)i, 0);
    else
        ws_pool_for(s->pool, (size_t)chunks, rows_part, &j);
}

void ws_step_rows(ws_step *s, int64_t n, int64_t numbers,
                  void (*fn)(void *arg, int64_t i0, int64_t i1, int thread), void *arg)
{
    chunks_run(s, n, ROW_CHUNK, n * numbers, fn, arg);
}

/* ---- norms ---- */

struct norm_job {
    ws_step *s;
    const ws_real *x, *w, *b, *dy;
    ws_real *dx;
};

static void norm_rows(void *arg, int64_t i0, int64_t i1, int thread)
{
    const struct norm_job *j = arg;
    const ws_model_desc *d = &j->s->m->d;
    (void)thread;
    for (int64_t i = i0; i < i1; i++)
        ws_norm_forward(d->norm, d->eps, j->x + i * d->C, j->w, j->b,
                        j->s->h + i * d->C, d->C, j->s->stat + 2 * i);
}

void ws_step_norm(ws_step *s, const ws_weight *w, const ws_weight *b, const ws_real *x)
{
    struct norm_job j = { .s = s,
                          .x = x,
                          .w = ws_weight_vector(w, s->vector[0]),
                          .b = ws_weight_vector(b, s->vector[1]) };
    ws_step_rows(s, s->n, 4 * s->m->d.C, norm_rows, &j);
}

static void norm_back_rows(void *arg, int64_t i0, int64_t i1, int thread)
{
    const struct norm_job *j = arg;
    const ws_model_desc *d = &j->s->m->d;
    (void)thread;
    for (int64_t i = i0; i < i1; i++)
        ws_norm_backward(d->norm, j->x + i * d->C, j->w, j->dy + i * d->C,
                         j->s->stat + 2 * i, j->dx + i * d->C, NULL, NULL, d->C);
}

void ws_step_norm_backward(ws_step *s, const ws_weight *w, const ws_weight *b,
                           const ws_real *x, const ws_real *dy, ws_real *dx)
{
    struct norm_job j = {
        .s = s, .x = x, .w = ws_weight_vector(w, s->vector[0]), .dy = dy, .dx = dx
    };
    ws_step_rows(s, s->n, 8 * s->m->d.C, norm_back_rows, &j);
    if (ws_step_trains(s, w))
        ws_step_column_sums(s, w, dy, x);
    if (ws_step_trains(s, b))
        ws_step_column_sums(s, b, dy, NULL);
}

struct column_job {
    ws_step *s;
    const ws_weight *w;
    const ws_real *dy, *x;
};

WS_HOT static void sum_scaled(const ws_real *dy, const ws_real *x, ws_real mu,
                              ws_real r, ws_real *sum, int64_t n)
{
    for (int64_t c = 0; c < n; c++)
        sum[c] += dy[c] * ((x[c] - mu) * r);
}

WS_HOT static void sum_plain(const ws_real *dy, ws_real *sum, int64_t n)
{
    for (int64_t c = 0; c < n; c++)
        sum[c] += dy[c];
}

/** Columns c0 .. c1 of the sums to where they are wanted. */
static void columns(void *arg, int64_t c0, int64_t c1, int thread)
{
    const struct column_job *j = arg;
    const ws_want *want = &j->s->want[j->w->part];
    const int64_t cols = j->w->cols;
    ws_real sum[COLUMNS] = { 0 };

    for (int64_t i = 0; i < j->s->n; i++) {
        const ws_real *stat = j->s->stat + 2 * i;
        if (j->x != NULL)
            sum_scaled(j->dy + i * cols + c0, j->x + i * cols + c0, stat[0], stat[1],
                       sum, c1 - c0);
        else
            sum_plain(j->dy + i * cols + c0, sum, c1 - c0);
    }
    if (want->grad != NULL)
        sum_plain(sum, want->grad + j->w->offset + c0, c1 - c0);
    if (want->sink != NULL)
        want->sink->panel(want->sink->arg,
                          &(ws_grad_panel){ j->w->part, j->w->offset + c0, 1, c1 - c0,
                                            c1 - c0, sum, 0, thread });
}

void ws_step_column_sums(ws_step *s, const ws_weight *w, const ws_real *dy,
                         const ws_real *x)
{
    struct column_job j = { s, w, dy, x };
    chunks_run(s, w->cols, COLUMNS, s->n * w->cols, columns, &j);
}

/* ---- tables ---- */

struct table_job {
    ws_step *s;
    const ws_weight *w;
    const int32_t *id;
    const int64_t *id64;
    const ws_real *dy;
    ws_real scale;
    int64_t summand;
};

WS_HOT static void add_scaled(ws_real a, const ws_real *x, ws_real *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static int64_t id_of(const struct table_job *j, int64_t i)
{
    return j->id ? j->id[i] : j->id64[i];
}

static void table_columns(void *arg, int64_t c0, int64_t c1, int thread)
{
    const struct table_job *j = arg;
    ws_real *grad = j->s->want[j->w->part].grad;
    (void)thread;
    for (int64_t i = 0; i < j->s->n; i++)
        add_scaled(j->scale, j->dy + i * j->w->cols + c0,
                   grad + id_of(j, i) * j->w->cols + c0, c1 - c0);
}

static int key_order(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/** A panel for each id whose first key is among i0 .. i1. */
static void table_groups(void *arg, int64_t i0, int64_t i1, int thread)
{
    const struct table_job *j = arg;
    const ws_step *s = j->s;
    const ws_grad_sink *sink = s->want[j->w->part].sink;
    const int64_t C = j->w->cols;
    ws_real *sum = s->scratch.panel[thread];

    for (int64_t i = i0; i < i1; i++) {
        const int64_t id = s->key[i] >> 32;
        if (i > 0 && s->key[i - 1] >> 32 == id)
            continue;
        memset(sum, 0, (size_t)C * sizeof *sum);
        for (int64_t k = i; k < s->n && s->key[k] >> 32 == id; k++)
            add_scaled(j->scale, j->dy + (s->key[k] & 0xffffffff) * C, sum, C);
        sink->panel(sink->arg, &(ws_grad_panel){ j->w->part, id * C, 1, C, C, sum,
                                                 j->summand, thread });
    }
}

void ws_step_table_grad(ws_step *s, const ws_weight *w, const int32_t *id,
                        const int64_t *id64, const ws_real *dy, double scale,
                        int64_t summand)
{
    struct table_job j = { .s = s,
                           .w = w,
                           .id = id,
                           .id64 = id64,
                           .dy = dy,
                           .scale = (ws_real)scale,
                           .summand = summand };
    if (s->want[w->part].grad != NULL)
        chunks_run(s, w->cols, COLUMNS, s->n * w->cols, table_columns, &j);
    if (s->want[w->part].sink == NULL)
        return;
    for (int64_t i = 0; i < s->n; i++)
        s->key[i] = id_of(&j, i) << 32 | i;
    qsort(s->key, (size_t)s->n, sizeof *s->key, key_order);
    chunks_run(s, s->n, ROW_CHUNK, s->n * w->cols, table_groups, &j);
}
