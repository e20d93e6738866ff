/*
 * taskvec_stats.c - figures of task vectors: norms, density, cosines between them
 */
#include "wsurg/taskvec.h"

#include <math.h>
#include <string.h>

#include "engine/scan.h"
#include "surgery/taskvec_set.h"
#include "surgery/taskvec_spectrum.h"
#include "wsurg/method.h" // ws_lanes

enum { RUN_LEAST = 2048 };

struct ws_taskvec_stats_priv {
    ws_tv_set set;
    ws_arena arena;
};

/** The updates of one tensor, in all vectors that have it in one shape. */
struct item {
    const ws_tv_tensor **t; // (n) NULL where absent
    size_t *index;          // (n) of the tensor in its vector
};

struct stats_job {
    const ws_tv_set *set;
    ws_taskvec_stats *out;
    struct item *items;
    const ws_tensor **tensors;
    size_t n_items, n, n_pairs;
    size_t run;   // elements decoded at once, a multiple of 16
    double *gram; // (n_pairs) of all tensors
};

/** Index of the pair a >= b. */
static size_t pair_at(size_t a, size_t b)
{
    return a * (a + 1) / 2 + b;
}

/* One slice's partial: (n_pairs) sums, (n) largest, (n) nonzero counts, as doubles. */

static size_t partial_doubles(const struct stats_job *job)
{
    return job->n_pairs + 2 * job->n;
}

/** A thread's buffer: decoding, lanes of every pair, one run of every vector. */
struct buffer {
    ws_tv_buffer buf;
    double narrow[WS_TV_BLOCK];
    ws_lanes lanes[]; // (n_pairs), then (n, run) doubles
};

static double *run_of(const struct stats_job *job, struct buffer *buf, size_t k)
{
    return (double *)(void *)(buf->lanes + job->n_pairs) + k * job->run;
}

/* ---- one slice ---- */

/** Elements of vector @p k as doubles; figures into the partial. */
static ws_status decode(const struct stats_job *job, const struct item *it, size_t k,
                        uint64_t b, size_t from, size_t to, struct buffer *buf,
                        double *partial, ws_err *err)
{
    const ws_tv_tensor *t = it->t[k];
    double *x = run_of(job, buf, k), max = partial[job->n_pairs + k];
    size_t nonzero = 0;
    void *to_here = t->wide ? (void *)x : (void *)buf->narrow;
    const ws_status st = ws_taskvec_update(job->set->vectors[k], t, b, from, to,
                                           to_here, &nonzero, &buf->buf, err);
    if (st != WS_OK)
        return st;
    if (!t->wide)
        ws_to_f64(WS_DT_F32, buf->narrow, x, to - from);
    for (size_t i = 0; i < to - from; i++)
        max = fabs(x[i]) > max ? fabs(x[i]) : max;
    partial[job->n_pairs + k] = max;
    partial[job->n_pairs + job->n + k] += (double)nonzero;
    return WS_OK;
}

static void add_products(const struct stats_job *job, const struct item *it, size_t n,
                         struct buffer *buf)
{
    for (size_t a = 0; a < job->n; a++)
        for (size_t b = 0; b <= a && it->t[a] != NULL; b++)
            if (it->t[b] != NULL)
                ws_lanes_add_dot_f64(&buf->lanes[pair_at(a, b)], run_of(job, buf, a),
                                     run_of(job, buf, b), n);
}

static ws_status scan_block(const struct stats_job *job, const struct item *it,
                            uint64_t b, size_t n, struct buffer *buf, double *partial,
                            ws_scan_worker *w, ws_err *err)
{
    for (size_t from = 0; from < n; from += job->run) {
        const size_t to = n - from < job->run ? n : from + job->run;
        ws_status st = WS_OK;
        for (size_t k = 0; k < job->n && st == WS_OK; k++)
            if (it->t[k] != NULL)
                st = decode(job, it, k, b, from, to, buf, partial, err);
        if (st == WS_OK)
            st = ws_scan_tick(w, (to - from) * sizeof(float), err);
        if (st != WS_OK)
            return st;
        add_products(job, it, to - from, buf);
    }
    return WS_OK;
}

static ws_status scan_slice(void *arg, size_t index, uint64_t slice, void *partial,
                            ws_scan_worker *w, ws_err *err)
{
    const struct stats_job *job = arg;
    const struct item *it = &job->items[index];
    struct buffer *buf = w->buffer;
    const ws_tv_blocks *g = NULL;
    for (size_t k = 0; g == NULL; k++)
        g = it->t[k] != NULL ? &it->t[k]->blocks : NULL;
    memset(buf->lanes, 0, job->n_pairs * sizeof *buf->lanes);
    const uint64_t begin = slice * g->per_slice;
    for (uint64_t b = begin; b < begin + g->per_slice && b < g->n_blocks; b++) {
        uint64_t first;
        size_t n;
        ws_tv_block_at(g, b, &first, &n);
        const ws_status st = scan_block(job, it, b, n, buf, partial, w, err);
        if (st != WS_OK)
            return st;
    }
    for (size_t p = 0; p < job->n_pairs; p++)
        ((double *)partial)[p] = ws_lanes_sum(&buf->lanes[p]);
    return WS_OK;
}

static void join_slice(void *arg, size_t index, const void *partial)
{
    struct stats_job *job = arg;
    const struct item *it = &job->items[index];
    const double *p = partial;
    for (size_t i = 0; i < job->n_pairs; i++)
        job->gram[i] += p[i];
    for (size_t k = 0; k < job->n; k++) {
        if (it->t[k] == NULL)
            continue;
        ws_taskvec_vector_stats *v = &job->out->vectors[k];
        ws_taskvec_tensor_stats *t = &v->tensors[it->index[k]];
        t->norm += p[pair_at(k, k)]; // its square, until the end
        t->max_abs =
            p[job->n_pairs + k] > t->max_abs ? p[job->n_pairs + k] : t->max_abs;
        t->nonzero += (uint64_t)p[job->n_pairs + job->n + k];
    }
}

/* ---- what there is ---- */

static bool same_shape(const ws_tensor *a, const ws_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

/** The item of vector @p k's tensor @p i; false when an earlier vector's has it. */
static bool item_fill(const struct stats_job *job, size_t k, size_t i, struct item *it)
{
    const ws_tv_tensor *t = &job->set->vectors[k]->tensors[i];
    for (size_t m = 0; m < job->n; m++) {
        const ws_taskvec *tv = job->set->vectors[m];
        const ws_tv_tensor *o = m == k ? t : ws_taskvec_find(tv, t->t.name);
        if (o == NULL || o->kind != WS_TV_KIND_UPDATE || !same_shape(&o->t, &t->t))
            continue;
        if (m < k)
            return false;
        it->t[m] = o;
        it->index[m] = (size_t)(o - tv->tensors);
    }
    return true;
}

static ws_status items_fill(struct stats_job *job, ws_arena *arena, uint64_t *bytes,
                            ws_err *err)
{
    size_t most = 1;
    *bytes = 0;
    for (size_t k = 0; k < job->n; k++)
        most += job->set->vectors[k]->n;
    job->items = ws_arena_calloc(arena, most, sizeof *job->items);
    job->tensors = ws_arena_calloc(arena, most, sizeof *job->tensors);
    if (job->items == NULL || job->tensors == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for figures");
    for (size_t k = 0; k < job->n; k++)
        for (size_t i = 0; i < job->set->vectors[k]->n; i++) {
            const ws_tv_tensor *t = &job->set->vectors[k]->tensors[i];
            struct item *it = &job->items[job->n_items];
            if (t->kind != WS_TV_KIND_UPDATE)
                continue;
            it->t = ws_arena_calloc(arena, job->n, sizeof *it->t);
            it->index = ws_arena_calloc(arena, job->n, sizeof *it->index);
            if (it->t == NULL || it->index == NULL)
                return ws_fail(err, WS_E_MEMORY, "no memory for figures");
            if (!item_fill(job, k, i, it))
                continue;
            job->tensors[job->n_items++] = &t->t;
            *bytes += t->t.n_elements * sizeof(float);
        }
    return WS_OK;
}

static const char *stored_word(const ws_tv_tensor *t)
{
    if (t->kind != WS_TV_KIND_UPDATE)
        return t->kind == WS_TV_KIND_SAME ? "same" : "whole";
    return t->stored[WS_TV_MAP] != NULL     ? "bitmap"
           : t->stored[WS_TV_INDEX] != NULL ? "index"
                                            : "dense";
}

static void count_tensor(ws_taskvec_counts *c, const ws_tv_tensor *t)
{
    c->same += t->kind == WS_TV_KIND_SAME;
    c->whole += t->kind == WS_TV_KIND_WHOLE;
    if (t->kind != WS_TV_KIND_UPDATE)
        return;
    c->elements += t->t.n_elements;
    c->exact += ws_taskvec_exact_count(t);
    c->bitmap += t->stored[WS_TV_MAP] != NULL;
    c->index += t->stored[WS_TV_INDEX] != NULL;
    c->dense += t->stored[WS_TV_MAP] == NULL && t->stored[WS_TV_INDEX] == NULL;
}

/** What the headers say of one vector. */
static ws_status vector_fill(ws_taskvec_vector_stats *v, const ws_taskvec *tv,
                             ws_arena *arena, ws_err *err)
{
    *v = (ws_taskvec_vector_stats){ .path = ws_ckpt_path(tv->file),
                                    .label = ws_ckpt_label(tv->file),
                                    .base = tv->base,
                                    .sparsified = tv->sparsified,
                                    .exact = tv->exact,
                                    .n_tensors = tv->n };
    v->tensors = ws_arena_calloc(arena, tv->n + 1, sizeof *v->tensors);
    if (v->tensors == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for figures");
    v->counts.removed = tv->n_removed;
    for (size_t i = 0; i < tv->n; i++) {
        const ws_tv_tensor *t = &tv->tensors[i];
        v->tensors[i] = (ws_taskvec_tensor_stats){ .name = t->t.name,
                                                   .stored = stored_word(t),
                                                   .elements = t->t.n_elements,
                                                   .exact = ws_taskvec_exact_count(t),
                                                   .effective_rank = NAN };
        count_tensor(&v->counts, t);
    }
    return WS_OK;
}

/* ---- all ---- */

static void finish(struct stats_job *job)
{
    const size_t n = job->n;
    for (size_t k = 0; k < n; k++) {
        ws_taskvec_vector_stats *v = &job->out->vectors[k];
        v->norm = sqrt(job->gram[pair_at(k, k)]);
        for (size_t i = 0; i < v->n_tensors; i++) {
            ws_taskvec_tensor_stats *t = &v->tensors[i];
            t->norm = sqrt(t->norm);
            v->counts.nonzero += t->nonzero;
        }
    }
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b < n; b++) {
            const double dot = job->gram[a > b ? pair_at(a, b) : pair_at(b, a)];
            const double norms = job->out->vectors[a].norm * job->out->vectors[b].norm;
            const double c = a == b && norms > 0.0 ? 1.0 : dot / norms;
            job->out->cosines[a * n + b] = c > 1.0 ? 1.0 : c < -1.0 ? -1.0 : c;
        }
}

static ws_status scan_all(struct stats_job *job, ws_arena *arena, const ws_ctx *ctx,
                          ws_err *err)
{
    uint64_t bytes = 0;
    job->n_pairs = pair_at(job->n, 0);
    job->run = WS_TV_BLOCK * 8 / (job->n < 8 ? 8 : job->n) / RUN_LEAST * RUN_LEAST;
    job->gram = ws_arena_calloc(arena, job->n_pairs, sizeof *job->gram);
    ws_status st = job->gram != NULL
                       ? items_fill(job, arena, &bytes, err)
                       : ws_fail(err, WS_E_MEMORY, "no memory for figures");
    const ws_scan scan = {
        .ctx = ctx,
        .event = "read",
        .bytes = bytes,
        .tensors = job->tensors,
        .n = job->n_items,
        .partial_size = partial_doubles(job) * sizeof(double),
        .buffer_size = sizeof(struct buffer) + job->n_pairs * sizeof(ws_lanes) +
                       job->n * job->run * sizeof(double),
        .arg = job,
        .scan = scan_slice,
        .join = join_slice,
    };
    if (st == WS_OK)
        st = ws_scan_run(&scan, err);
    if (st == WS_OK)
        finish(job);
    return st;
}

ws_status ws_taskvec_stats_new(ws_taskvec_stats **out, const char *const *paths,
                               size_t n, bool spectrum, const ws_ctx *ctx, ws_err *err)
{
    ws_taskvec_stats *s = ws_calloc(1, sizeof *s);
    if (s != NULL)
        s->priv = ws_calloc(1, sizeof *s->priv);
    if (s == NULL || s->priv == NULL) {
        ws_free(s);
        return ws_fail(err, WS_E_MEMORY, "no memory for figures");
    }
    ws_arena *arena = &s->priv->arena, tmp = { 0 };
    ws_status st = ws_tv_set_open(&s->priv->set, paths, n, ctx, err);
    if (st == WS_OK) {
        s->n = n;
        s->vectors = ws_arena_calloc(arena, n, sizeof *s->vectors);
        s->cosines = ws_arena_calloc(arena, n * n, sizeof *s->cosines);
        if (s->vectors == NULL || s->cosines == NULL)
            st = ws_fail(err, WS_E_MEMORY, "no memory for figures");
    }
    for (size_t k = 0; st == WS_OK && k < n; k++)
        st = vector_fill(&s->vectors[k], s->priv->set.vectors[k], arena, err);
    struct stats_job job = { .set = &s->priv->set, .out = s, .n = n };
    if (st == WS_OK)
        st = scan_all(&job, &tmp, ctx, err);
    for (size_t k = 0; st == WS_OK && spectrum && k < n; k++)
        st = ws_tv_spectrum(s->priv->set.vectors[k], s->vectors[k].tensors, ctx, err);
    ws_arena_free(&tmp);
    if (st == WS_OK)
        *out = s;
    else
        ws_taskvec_stats_free(s);
    return st;
}

void ws_taskvec_stats_free(ws_taskvec_stats *s)
{
    if (s == NULL)
        return;
    ws_tv_set_free(&s->priv->set);
    ws_arena_free(&s->priv->arena);
    ws_free(s->priv);
    ws_free(s);
}
