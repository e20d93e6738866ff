/*
 * extract.c - a full fine-tune's update as an adapter
 *
 *   D = tuned - base (float64, kept as float32), D = U diag(s) V' + rest
 *
 * The rest is known from ||D||^2 and s. By energy the rank doubles until enough is
 * kept; by budget every matrix gives its components, and those of the largest
 * s^2 / (rows + cols) are taken.
 */
#include "wsurg/extract.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/pool.h"
#include "hf/peft.h"
#include "surgery/decompose_text.h"
#include "surgery/linears.h"
#include "surgery/matrices.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"
#include "wsurg/linalg.h"
#include "wsurg/pattern.h"

enum { BUDGET_MOST = 512 }; // components of one matrix that a budget chooses from

/** One matrix with an update. */
struct task {
    const ws_tensor *b, *t; // in base and tuned
    int64_t m, n, q, r;     // r: components at hand
    float *U, *Vt;          // (m, r), (r, n); the factors in the end
    double *s;              // (r)
    bool equal;
};

struct job {
    const ws_extract_req *req;
    const ws_ctx *ctx;
    ws_extract_result *r;
    ws_ckpt *base, *tuned;
    bool conv1d;
    char digest[48];
    struct task *tasks;
    ws_adapter_copy *copies;
    size_t n, n_copies;
    ws_stage *stage;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to extract");
}

/* ---- what changed ---- */

static ws_status wanted(const struct job *j, ws_pattern_set *const *set, bool *hits,
                        const ws_tensor *t, bool *in, ws_err *err)
{
    ws_status st = WS_OK;
    *in = j->req->n_targets == 0 && ws_linear_is(t);
    for (size_t i = 0; i < j->req->n_targets && st == WS_OK; i++) {
        bool hit = false;
        st = ws_pattern_match(set[i], t->name, &hit, err);
        hit = hit && t->rank == 2 && strlen(t->name) > 7 &&
              strcmp(t->name + strlen(t->name) - 7, ".weight") == 0;
        hits[i] |= hit;
        *in |= hit;
    }
    return st;
}

static ws_status same_bytes(const struct job *j, const ws_tensor *a, const ws_tensor *b,
                            bool *same, ws_err *err)
{
    enum { CHUNK = 1 << 20 };
    char *buf = ws_alloc(2 * (size_t)CHUNK);
    ws_status st = buf == NULL ? no_memory(err) : WS_OK;
    *same = a->dtype == b->dtype;
    for (uint64_t at = 0; st == WS_OK && *same && at < a->n_bytes; at += CHUNK) {
        const size_t n = a->n_bytes - at < CHUNK ? (size_t)(a->n_bytes - at) : CHUNK;
        st = ws_ckpt_read(j->base, a, at, n, buf, err);
        if (st == WS_OK)
            st = ws_ckpt_read(j->tuned, b, at, n, buf + CHUNK, err);
        *same = memcmp(buf, buf + CHUNK, n) == 0;
    }
    ws_free(buf);
    return st;
}

static ws_status add_one(struct job *j, const ws_tensor *t, bool in, ws_err *err)
{
    const ws_tensor *b = ws_ckpt_find(j->base, t->name);
    const bool fits =
        b != NULL && b->rank == t->rank &&
        memcmp(b->shape, t->shape, (size_t)t->rank * sizeof *t->shape) == 0;
    if (in && fits && ws_dtype_info(t->dtype)->arithmetic &&
        ws_dtype_info(b->dtype)->arithmetic) {
        struct task *k = &j->tasks[j->n++];
        *k = (struct task){ .b = b, .t = t };
        k->m = (int64_t)t->shape[j->conv1d ? 1 : 0];
        k->n = (int64_t)t->shape[j->conv1d ? 0 : 1];
        k->q = k->m < k->n ? k->m : k->n;
        return WS_OK;
    }
    if (in && b != NULL) {
        ws_fail(err, WS_E_SHAPE, "base and fine-tune have other shapes or dtypes here");
        return ws_err_at(err, j->req->tuned, t->name, -1), WS_E_SHAPE;
    }
    bool same = false;
    const ws_status st = fits ? same_bytes(j, b, t, &same, err) : WS_OK;
    if (st != WS_OK || same)
        return st;
    const size_t len = strlen(t->name);
    if (!fits) { // no tensor of the base that it could stand for
        j->r->missing++;
        return WS_OK;
    }
    j->r->whole++;
    j->copies[j->n_copies++] =
        (ws_adapter_copy){ .name = t->name,
                           .from = j->tuned,
                           .t = t,
                           .bias = len > 5 && strcmp(t->name + len - 5, ".bias") == 0 };
    return WS_OK;
}

static ws_status find_tasks(struct job *j, ws_err *err)
{
    const size_t n = ws_ckpt_count(j->tuned), n_set = j->req->n_targets;
    ws_arena *a = &j->r->arena;
    ws_pattern_set **set = ws_arena_calloc(a, n_set + 1, sizeof *set);
    bool *hits = ws_arena_calloc(a, n_set + 1, sizeof *hits);
    j->tasks = ws_arena_calloc(a, n + 1, sizeof *j->tasks);
    j->copies = ws_arena_calloc(a, n + 1, sizeof *j->copies);
    j->r->layers = ws_arena_calloc(a, n + 1, sizeof *j->r->layers);
    ws_status st =
        set && hits && j->tasks && j->copies && j->r->layers ? WS_OK : no_memory(err);
    for (size_t i = 0; i < n_set && st == WS_OK; i++)
        st = ws_pattern_new(&set[i], j->req->targets[i], err);
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        bool in = false;
        const ws_tensor *t = ws_ckpt_tensor(j->tuned, i);
        st = wanted(j, set, hits, t, &in, err);
        if (st == WS_OK)
            st = add_one(j, t, in, err);
    }
    for (size_t i = 0; i < n_set && st == WS_OK; i++)
        if (!hits[i])
            st = ws_fail(err, WS_E_USAGE, "--target '%s' hits no linear",
                         j->req->targets[i]);
    if (st == WS_OK && j->n == 0)
        st = ws_fail(err, WS_E_USAGE, "base and fine-tune share no linears");
    for (size_t i = 0; set != NULL && i < n_set; i++)
        ws_pattern_free(set[i]);
    return st;
}

/* ---- one matrix ---- */

/** D (m, n) as float. */
static ws_status load(const struct job *j, const struct task *k, ws_mat *D, ws_err *err)
{
    const int64_t rows = (int64_t)k->t->shape[0], cols = (int64_t)k->t->shape[1];
    const size_t sb = ws_dtype_info(k->b->dtype)->bits / 8;
    const size_t st_size = ws_dtype_info(k->t->dtype)->bits / 8;
    char *raw = ws_alloc((size_t)cols * (sb > st_size ? sb : st_size));
    double *a = ws_alloc(2 * (size_t)cols * sizeof *a);
    ws_status st = raw == NULL || a == NULL ? no_memory(err) : WS_OK;
    for (int64_t i = 0; i < rows && st == WS_OK; i++) {
        const uint64_t at = (uint64_t)i * (uint64_t)cols;
        st = ws_ckpt_read(j->base, k->b, at * sb, (size_t)cols * sb, raw, err);
        if (st != WS_OK)
            break;
        ws_to_f64(k->b->dtype, raw, a, (size_t)cols);
        st = ws_ckpt_read(j->tuned, k->t, at * st_size, (size_t)cols * st_size, raw,
                          err);
        if (st != WS_OK)
            break;
        ws_to_f64(k->t->dtype, raw, a + cols, (size_t)cols);
        for (int64_t c = 0; c < cols; c++)
            ((float *)D->data)[j->conv1d ? c * k->n + i : i * k->n + c] =
                (float)(a[cols + c] - a[c]);
    }
    ws_free(raw);
    ws_free(a);
    return st;
}

static ws_status truncate(const struct job *j, struct task *k, const ws_mat *D,
                          int64_t r, ws_truncated_info *info, ws_err *err)
{
    ws_free(k->U);
    ws_free(k->Vt);
    ws_free(k->s);
    k->U = ws_alloc((size_t)(k->m * r) * sizeof(float));
    k->Vt = ws_alloc((size_t)(r * k->n) * sizeof(float));
    k->s = ws_calloc((size_t)r, sizeof *k->s);
    k->r = r;
    if (k->U == NULL || k->Vt == NULL || k->s == NULL)
        return no_memory(err);
    ws_mat U = ws_mat_f32(k->U, k->m, r), Vt = ws_mat_f32(k->Vt, r, k->n);
    const ws_truncated_opts o = { .rank = r, .slack = 0.01, .seed = j->req->seed };
    ws_arena tmp = { 0 };
    const ws_status st = ws_svd_truncated(D, &o, &U, k->s, &Vt, &tmp, info, err);
    ws_arena_free(&tmp);
    return st;
}

/** Least rank that keeps @p energy of norm^2; 0: more than there are. */
static int64_t rank_for(const struct task *k, double energy, double norm)
{
    double kept = 0.0;
    for (int64_t i = 0; i < k->r; i++) {
        kept += k->s[i] * k->s[i];
        if (kept >= energy * norm * norm * (1.0 - 1e-7))
            return i + 1;
    }
    return k->r == k->q ? k->q : 0;
}

static ws_status run_task(struct job *j, struct task *k, ws_extracted *d, ws_err *err)
{
    static const char *const words[] = { "random", "wider", "full" };
    const ws_extract_req *q = j->req;
    ws_mat D = ws_mat_f32(ws_alloc((size_t)(k->m * k->n) * sizeof(float)), k->m, k->n);
    ws_truncated_info info = { 0 };
    int64_t r = q->energy > 0.0 ? 16 : q->rank;
    if (q->budget > 0)
        r = (int64_t)(q->budget / (uint64_t)(k->m + k->n)) < BUDGET_MOST
                ? (int64_t)(q->budget / (uint64_t)(k->m + k->n))
                : BUDGET_MOST;
    ws_status st = D.data == NULL ? no_memory(err) : load(j, k, &D, err);
    for (int64_t keep = 0; st == WS_OK && keep == 0; r *= 2) {
        r = r < 1 ? 1 : r > k->q ? k->q : r;
        st = truncate(j, k, &D, r, &info, err);
        keep = q->energy > 0.0 && st == WS_OK ? rank_for(k, q->energy, info.norm) : r;
        if (st == WS_OK && keep > 0)
            d->rank = keep;
    }
    ws_free(D.data);
    d->rows = k->m;
    d->cols = k->n;
    d->norm = info.norm;
    d->by = words[info.step];
    k->equal = info.norm == 0.0;
    if (st != WS_OK)
        ws_err_at(err, q->tuned, k->t->name, -1);
    return st;
}

static ws_status run_one(void *arg, size_t i, ws_err *err)
{
    struct job *j = arg;
    return run_task(j, &j->tasks[i], &j->r->layers[i], err);
}

static uint64_t bytes_of(const void *arg, size_t i)
{
    const struct job *j = arg;
    return j->tasks[i].t->n_bytes;
}

static ws_status run_all(struct job *j, ws_pool *pool, ws_err *err)
{
    const ws_matrices work = { j->n, "extract", run_one, bytes_of, j };
    return ws_matrices_run(&work, pool, j->ctx, err);
}

/* ---- the budget ---- */

/** One component of one matrix. */
struct candidate {
    double worth; // s^2 / (rows + cols)
    size_t task;
    int64_t at;
};

static int by_worth(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    if (a->worth != b->worth)
        return a->worth > b->worth ? -1 : 1;
    return a->task != b->task ? (a->task < b->task ? -1 : 1) : (a->at < b->at ? -1 : 1);
}

static ws_status spend(struct job *j, ws_err *err)
{
    size_t n = 0, all = 0;
    for (size_t i = 0; i < j->n; i++)
        all += (size_t)j->tasks[i].r;
    struct candidate *c = ws_calloc(all + 1, sizeof *c);
    if (c == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->n; i++) {
        const struct task *k = &j->tasks[i];
        j->r->layers[i].rank = 0;
        for (int64_t a = 0; a < k->r; a++)
            c[n++] =
                (struct candidate){ k->s[a] * k->s[a] / (double)(k->m + k->n), i, a };
    }
    qsort(c, n, sizeof *c, by_worth);
    uint64_t left = j->req->budget;
    for (size_t i = 0; i < n && c[i].worth > 0.0; i++) {
        const struct task *k = &j->tasks[c[i].task];
        const uint64_t cost = (uint64_t)(k->m + k->n);
        if (cost > left)
            break;
        left -= cost;
        j->r->layers[c[i].task].rank++;
    }
    ws_free(c);
    return WS_OK;
}

/* ---- factors ---- */

/** B = U s^1/2, A = s^1/2 V', cut to the rank chosen; figures. */
static void settle(struct task *k, ws_extracted *d)
{
    const int64_t r = d->rank;
    double kept = 0.0;
    for (int64_t i = 0; i < r; i++)
        kept += k->s[i] * k->s[i];
    for (int64_t i = 0; i < k->m; i++) // in place: rows get shorter
        for (int64_t c = 0; c < r; c++)
            k->U[i * r + c] = (float)(k->U[i * k->r + c] * sqrt(k->s[c]));
    for (int64_t i = 0; i < r * k->n; i++)
        k->Vt[i] = (float)(k->Vt[i] * sqrt(k->s[i / k->n]));
    d->energy = d->norm > 0.0 ? fmin(kept / (d->norm * d->norm), 1.0) : 1.0;
    d->error = sqrt(1.0 - d->energy);
    d->s_first = r > 0 ? k->s[0] : 0.0;
    d->s_last = r > 0 ? k->s[r - 1] : 0.0;
}

static void recipe_make(const ws_extract_req *q, ws_buf *b)
{
    ws_buf_printf(
        b,
        "{\"schema\":\"wsurg-recipe/1\",\"command\":\"decompose\",\"method\":"
        "\"svd\",\"rank\":%lld,\"energy\":%.17g,\"budget\":%llu,\"seed\":%llu}",
        (long long)q->rank, q->energy, (unsigned long long)q->budget,
        (unsigned long long)q->seed);
}

static ws_status put_adapter(struct job *j, ws_err *err)
{
    ws_adapter_factors *f = ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *f);
    ws_buf recipe = { 0 }, inputs = { 0 };
    size_t n = 0;
    double kept = 0.0, all = 0.0;
    if (f == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->n; i++) {
        struct task *k = &j->tasks[i];
        ws_extracted *d = &j->r->layers[i];
        j->r->equal += k->equal;
        settle(k, d);
        all += d->norm * d->norm;
        kept += d->energy * d->norm * d->norm;
        if (k->equal || d->rank == 0)
            continue;
        j->r->parameters += (uint64_t)d->rank * (uint64_t)(k->m + k->n);
        f[n] = (ws_adapter_factors){ .path = ws_linear_module(&j->r->arena, j->conv1d,
                                                              k->t->name),
                                     .r = d->rank,
                                     .in = k->n,
                                     .out = k->m,
                                     .alpha = (double)d->rank,
                                     .a = k->Vt,
                                     .b = k->U };
        d->name = ws_arena_strdup(&j->r->arena, k->t->name); // outlives the model
        if (f[n++].path == NULL || d->name == NULL)
            return no_memory(err);
        j->r->layers[j->r->n_layers++] = *d;
    }
    j->r->energy = all > 0.0 ? kept / all : 1.0;
    recipe_make(j->req, &recipe);
    ws_tv_input_add(&inputs, "base", ws_ckpt_label(j->base), j->digest);
    ws_buf_putc(&inputs, ']');
    const ws_adapter_spec spec = { .modules = f,
                                   .n_modules = n,
                                   .copies = j->copies,
                                   .n_copies = j->n_copies,
                                   .dtype = WS_DT_F32,
                                   .fan_in_fan_out = j->conv1d,
                                   .base = j->req->base,
                                   .content = j->digest,
                                   .recipe = recipe.p,
                                   .inputs = inputs.p };
    const ws_status st =
        recipe.failed || inputs.failed
            ? no_memory(err)
            : ws_adapter_stage(&spec, !j->req->write.provenance, j->stage,
                               j->req->flat ? "" : "adapter/", err);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

static ws_status show(struct job *j, ws_pool *pool, ws_err *err)
{
    ws_decompose_result files = { 0 };
    const ws_status st =
        ws_decompose_show(&files, &j->req->write, j->stage, pool, NULL, 0, j->base,
                          j->tuned, j->ctx, &j->r->arena, err);
    j->r->outputs = files.outputs;
    j->r->n_outputs = files.n_outputs;
    j->r->manifest = files.manifest;
    j->r->usage.written_bytes = files.usage.written_bytes;
    return st;
}

static ws_status open_all(struct job *j, ws_err *err)
{
    ws_status st = ws_tv_open_model(&j->base, j->req->base, j->ctx, err);
    if (st == WS_OK)
        st = ws_tv_open_model(&j->tuned, j->req->tuned, j->ctx, err);
    if (st == WS_OK)
        st = ws_ckpt_digest_text(j->base, j->ctx, j->digest, err);
    if (st != WS_OK)
        return st;
    j->conv1d = ws_linear_transposed(j->base) || ws_linear_transposed(j->tuned);
    st = find_tasks(j, err);
    const char *inputs[] = { j->req->base, j->req->tuned };
    const ws_stage_opts o = { .target = j->req->write.out,
                              .is_dir = true,
                              .force = j->req->write.force,
                              .key = "00000000000000000000000000000000",
                              .inputs = inputs,
                              .n_inputs = 2,
                              .manifest = j->req->write.manifest };
    return st == WS_OK ? ws_stage_open(&j->stage, &o,
                                       j->ctx == NULL ? NULL : j->ctx->warnings, err)
                       : st;
}

void ws_extract_result_free(ws_extract_result *r)
{
    if (r == NULL)
        return;
    ws_arena_free(&r->arena);
    ws_free(r);
}

ws_status ws_extract(ws_extract_result **out, const ws_extract_req *req,
                     const ws_ctx *ctx, ws_err *err)
{
    struct job j = { .req = req, .ctx = ctx, .r = ws_calloc(1, sizeof *j.r) };
    const double start = ws_os_now();
    ws_pool *pool = NULL;
    ws_status st = j.r == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK)
        st = open_all(&j, err);
    if (st == WS_OK)
        st = ws_pool_new(&pool, ws_ctx_threads(ctx), err);
    if (st == WS_OK)
        st = run_all(&j, pool, err);
    if (st == WS_OK && req->budget > 0)
        st = spend(&j, err);
    if (st == WS_OK)
        st = put_adapter(&j, err);
    if (st == WS_OK && j.r->missing > 0)
        ws_diag_report(ctx == NULL ? NULL : ctx->warnings, WS_OK, "not-represented",
                       "%zu tensors of the fine-tune have no place in the base: an "
                       "adapter cannot hold them",
                       j.r->missing);
    if (st == WS_OK)
        st = ws_decompose_strict(ctx, err);
    if (st == WS_OK)
        st = show(&j, pool, err);
    ws_stage_close(j.stage, false);
    for (size_t i = 0; i < j.n; i++) {
        ws_free(j.tasks[i].U);
        ws_free(j.tasks[i].Vt);
        ws_free(j.tasks[i].s);
    }
    if (st == WS_OK)
        ws_decompose_usage_of(&j.r->usage, start, ws_ctx_threads(ctx));
    ws_pool_free(pool);
    ws_ckpt_free(j.base);
    ws_ckpt_free(j.tuned);
    if (st == WS_OK)
        *out = j.r;
    else
        ws_extract_result_free(j.r);
    return st;
}
