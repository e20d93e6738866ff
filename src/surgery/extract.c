/*
 * extract.c - a full fine-tune's update as an adapter
 *
 *   D = tuned - base (float64, kept as float32), D = U diag(s) V' + rest
 *
 * The rest is known from ||D||^2 and s. By energy the rank doubles until enough is
 * kept; by budget every matrix gives its components, and those of the largest
 * s^2 / (rows + cols) are taken.
 *
 * Two passes: a survey finds the rank of every matrix, then the adapter is laid out and
 * the factors go into it one by one. What the survey found stays in memory where there
 * is room, and is found again where not: the same numbers. Both passes are journaled.
 */
#include "wsurg/extract.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/pool.h"
#include "surgery/decompose_data.h"
#include "surgery/decompose_text.h"
#include "surgery/extract_job.h"
#include "surgery/linears.h"
#include "surgery/matrices.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"
#include "wsurg/wsurg.h"

enum { BUDGET_MOST = 512 }; // components of one matrix that a budget chooses from

enum { RECORD_SURVEY = 1, RECORD_FACTORS = 2 }; // a: number of the task

/** What the survey found: a record's payload, of a budget with r singular values. */
struct survey {
    int64_t r, rank;
    double norm;
    char by[16];
};

/** Factors that are in the staged file. */
struct record {
    ws_xxh128 digests[2];
    double energy, error, s_first, s_last;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to extract");
}

/* ---- one matrix ---- */

static ws_status truncate(const ws_extract_job *j, ws_extract_task *k, const ws_mat *D,
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
static int64_t rank_for(const ws_extract_task *k, double energy, double norm)
{
    double kept = 0.0;
    for (int64_t i = 0; i < k->r; i++) {
        kept += k->s[i] * k->s[i];
        if (kept >= energy * norm * norm * (1.0 - 1e-7))
            return i + 1;
    }
    return k->r == k->q ? k->q : 0;
}

static const char *const words[] = { "random", "wider", "full" };

/** Most bytes that one matrix takes: its update, and its decomposition in full, which
 * is the ladder's last rung. */
static uint64_t bytes_for(const ws_extract_task *k)
{
    const uint64_t m = (uint64_t)k->m, n = (uint64_t)k->n, q = (uint64_t)k->q;
    return (2 * m * n + (m + n) * q) * sizeof(float) +
           ws_svd_scratch(WS_DT_F32, k->m, k->n) + (1u << 20);
}

static void drop(ws_extract_task *k)
{
    ws_free(k->U);
    ws_free(k->Vt);
    k->U = k->Vt = NULL;
}

/** Keep what was found when there is room. */
static void keep_or_drop(ws_extract_job *j, ws_extract_task *k)
{
    const uint64_t bytes = (uint64_t)(k->m + k->n) * (uint64_t)k->r * sizeof(float);
    pthread_mutex_lock(&j->lock);
    const bool keep = bytes <= j->room;
    j->room -= keep ? bytes : 0;
    pthread_mutex_unlock(&j->lock);
    if (!keep || k->equal)
        drop(k);
}

static ws_status survey_record(ws_extract_job *j, size_t i, ws_err *err)
{
    const ws_extract_task *k = &j->tasks[i];
    const ws_extracted *d = &j->r->layers[i];
    const size_t n_s = j->req->budget > 0 ? (size_t)k->r : 0;
    unsigned char text[sizeof(struct survey) + BUDGET_MOST * sizeof(double)];
    struct survey v;
    memset(&v, 0, sizeof v); // its padding, too, goes to the journal
    v.r = k->r;
    v.rank = d->rank;
    v.norm = d->norm;
    snprintf(v.by, sizeof v.by, "%s", d->by);
    memcpy(text, &v, sizeof v);
    memcpy(text + sizeof v, k->s, n_s * sizeof *k->s);
    return ws_stage_record(j->stage, RECORD_SURVEY, i, 0, text,
                           sizeof v + n_s * sizeof *k->s, err);
}

/** The rank that one matrix gets, or by a budget its singular values. */
static ws_status survey(ws_extract_job *j, size_t i, ws_err *err)
{
    const ws_extract_req *q = j->req;
    ws_extract_task *k = &j->tasks[i];
    ws_extracted *d = &j->r->layers[i];
    ws_mat D = ws_mat_f32(ws_alloc((size_t)(k->m * k->n) * sizeof(float)), k->m, k->n);
    ws_truncated_info info = { 0 };
    int64_t r = q->energy > 0.0 ? 16 : q->rank;
    if (q->budget > 0)
        r = (int64_t)(q->budget / (uint64_t)(k->m + k->n)) < BUDGET_MOST
                ? (int64_t)(q->budget / (uint64_t)(k->m + k->n))
                : BUDGET_MOST;
    ws_status st = D.data == NULL ? no_memory(err) : ws_extract_load(j, k, &D, err);
    for (int64_t keep = 0; st == WS_OK && keep == 0; r *= 2) {
        r = r < 1 ? 1 : r > k->q ? k->q : r;
        st = truncate(j, k, &D, r, &info, err);
        keep = q->energy > 0.0 && st == WS_OK ? rank_for(k, q->energy, info.norm) : r;
        if (st == WS_OK && keep > 0)
            d->rank = keep;
    }
    ws_free(D.data);
    d->norm = info.norm;
    d->by = words[info.step];
    k->equal = info.norm == 0.0;
    if (st == WS_OK)
        st = survey_record(j, i, err);
    keep_or_drop(j, k);
    return st;
}

static ws_status survey_one(void *arg, size_t i, ws_err *err)
{
    ws_extract_job *j = arg;
    const ws_status st = j->tasks[i].surveyed ? WS_OK : survey(j, i, err);
    return st == WS_OK ? st
                       : (ws_err_at(err, j->req->tuned, j->tasks[i].t->name, -1), st);
}

static uint64_t bytes_of(const void *arg, size_t i)
{
    const ws_extract_job *j = arg;
    return j->tasks[i].t->n_bytes;
}

/** Threads that the limit leaves room for, and room for what the survey finds. */
static ws_status share_memory(ws_extract_job *j, int *threads, ws_err *err)
{
    const uint64_t limit = j->ctx != NULL && j->ctx->max_memory > 0
                               ? j->ctx->max_memory
                               : ws_os_memory_total() / 2;
    uint64_t most = 1;
    size_t at = 0;
    for (size_t i = 0; i < j->n; i++) {
        const uint64_t bytes = bytes_for(&j->tasks[i]);
        at = bytes > most ? i : at;
        most = bytes > most ? bytes : most;
    }
    *threads = ws_ctx_threads(j->ctx);
    if (limit / most < (uint64_t)*threads)
        *threads = (int)(limit / most);
    j->room = limit - (uint64_t)*threads * most;
    if (*threads > 0)
        return WS_OK;
    char want[24], have[24];
    ws_show_bytes(most, want);
    ws_show_bytes(limit, have);
    ws_fail(err, WS_E_MEMORY, "extracting takes %s of memory, the limit is %s", want,
            have);
    ws_err_hint(err, "--max-memory %lluMiB", (unsigned long long)(most >> 20) + 1);
    return ws_err_at(err, j->req->tuned, j->tasks[at].t->name, -1), WS_E_MEMORY;
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

static ws_status spend(ws_extract_job *j, ws_err *err)
{
    size_t n = 0, all = 0;
    for (size_t i = 0; i < j->n; i++)
        all += (size_t)j->tasks[i].r;
    struct candidate *c = ws_calloc(all + 1, sizeof *c);
    if (c == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->n; i++) {
        const ws_extract_task *k = &j->tasks[i];
        j->r->layers[i].rank = 0;
        for (int64_t a = 0; a < k->r; a++)
            c[n++] =
                (struct candidate){ k->s[a] * k->s[a] / (double)(k->m + k->n), i, a };
    }
    qsort(c, n, sizeof *c, by_worth);
    uint64_t left = j->req->budget;
    for (size_t i = 0; i < n && c[i].worth > 0.0; i++) {
        const ws_extract_task *k = &j->tasks[c[i].task];
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
static void settle(ws_extract_task *k, ws_extracted *d)
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

/** Factors of one matrix into the staged adapter; found again where the survey could
 * not keep them. */
static ws_status put_factors(ws_extract_job *j, size_t i, ws_err *err)
{
    ws_extract_task *k = &j->tasks[i];
    ws_extracted *d = &j->r->layers[i];
    ws_truncated_info info;
    struct record done;
    ws_status st = WS_OK;
    memset(&done, 0, sizeof done);
    if (k->U == NULL) {
        ws_mat D =
            ws_mat_f32(ws_alloc((size_t)(k->m * k->n) * sizeof(float)), k->m, k->n);
        st = D.data == NULL ? no_memory(err) : ws_extract_load(j, k, &D, err);
        if (st == WS_OK)
            st = truncate(j, k, &D, k->r, &info, err);
        ws_free(D.data);
    }
    if (st != WS_OK)
        return st;
    settle(k, d);
    st = ws_adapter_sink_put(j->adapter, k->module, k->Vt, k->U, done.digests, err);
    drop(k);
    done.energy = d->energy;
    done.error = d->error;
    done.s_first = d->s_first;
    done.s_last = d->s_last;
    return st == WS_OK ? ws_stage_record(j->stage, RECORD_FACTORS, i, 0, &done,
                                         sizeof done, err)
                       : st;
}

static ws_status put_one(void *arg, size_t i, ws_err *err)
{
    ws_extract_job *j = arg;
    const ws_extract_task *k = &j->tasks[i];
    const bool none = k->equal || k->done || j->r->layers[i].rank == 0;
    const ws_status st = none ? WS_OK : put_factors(j, i, err);
    return st == WS_OK ? st : (ws_err_at(err, j->req->tuned, k->t->name, -1), st);
}

static void recipe_make(const ws_extract_req *q, ws_buf *b)
{
    ws_buf_printf(
        b,
        "{\"schema\":\"wsurg-recipe/1\",\"command\":\"decompose\",\"method\":"
        "\"svd\",\"rank\":%lld,\"energy\":%.17g,\"budget\":%llu,\"seed\":%llu,"
        "\"target\":[",
        (long long)q->rank, q->energy, (unsigned long long)q->budget,
        (unsigned long long)q->seed);
    for (size_t i = 0; i < q->n_targets; i++) {
        ws_buf_puts(b, i == 0 ? "" : ",");
        ws_buf_json_string(b, q->targets[i], strlen(q->targets[i]));
    }
    ws_buf_puts(b, "]}");
}

/** Ranks are known: lay the adapter out. */
static ws_status open_adapter(ws_extract_job *j, const char *recipe, const char *inputs,
                              ws_err *err)
{
    ws_adapter_factors *f = ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *f);
    size_t n = 0;
    if (f == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->n; i++) {
        ws_extract_task *k = &j->tasks[i];
        const int64_t r = j->r->layers[i].rank;
        k->module = n;
        if (k->equal || r == 0)
            continue;
        f[n] = (ws_adapter_factors){ .path = ws_linear_module(&j->r->arena, j->conv1d,
                                                              k->t->name),
                                     .r = r,
                                     .in = k->n,
                                     .out = k->m,
                                     .alpha = (double)r };
        if (f[n++].path == NULL)
            return no_memory(err);
    }
    const ws_adapter_spec spec = { .modules = f,
                                   .n_modules = n,
                                   .copies = j->copies,
                                   .n_copies = j->n_copies,
                                   .dtype = WS_DT_F32,
                                   .fan_in_fan_out = j->conv1d,
                                   .base = j->req->base,
                                   .content = j->digest,
                                   .recipe = recipe,
                                   .inputs = inputs };
    return ws_adapter_sink_open(&j->adapter, &spec, !j->req->write.provenance, j->stage,
                                j->req->flat ? "" : "adapter/", err);
}

/** Figures of all; only matrices with factors are listed, under names of their own. */
static ws_status figures_take(ws_extract_job *j, ws_err *err)
{
    double kept = 0.0, all = 0.0;
    for (size_t i = 0; i < j->n; i++) {
        const ws_extract_task *k = &j->tasks[i];
        ws_extracted d = j->r->layers[i];
        j->r->equal += k->equal;
        all += d.norm * d.norm;
        if (k->equal || d.rank == 0)
            continue;
        kept += d.energy * d.norm * d.norm;
        j->r->parameters += (uint64_t)d.rank * (uint64_t)(k->m + k->n);
        d.rows = k->m;
        d.cols = k->n;
        d.name = ws_arena_strdup(&j->r->arena, k->t->name); // outlives the model
        if (d.name == NULL)
            return no_memory(err);
        j->r->layers[j->r->n_layers++] = d;
    }
    j->r->energy = all > 0.0 ? kept / all : 1.0;
    if (j->r->missing_first != NULL)
        j->r->missing_first = ws_arena_strdup(&j->r->arena, j->r->missing_first);
    return WS_OK;
}

static ws_status replay_survey(void *arg, uint32_t type, uint64_t a, uint64_t b,
                               const void *payload, size_t n, ws_err *err)
{
    ws_extract_job *j = arg;
    struct survey v;
    (void)b;
    if (type != RECORD_SURVEY || a >= j->n || n < sizeof v)
        return WS_OK;
    memcpy(&v, payload, sizeof v);
    const size_t n_s = j->req->budget > 0 ? (size_t)v.r : 0;
    ws_extract_task *k = &j->tasks[a];
    ws_extracted *d = &j->r->layers[a];
    if (v.r < 1 || v.r > k->q || n != sizeof v + n_s * sizeof *k->s)
        return WS_OK;
    ws_free(k->s);
    k->s = ws_calloc((size_t)v.r, sizeof *k->s);
    if (k->s == NULL)
        return no_memory(err);
    memcpy(k->s, (const unsigned char *)payload + sizeof v, n_s * sizeof *k->s);
    k->r = v.r;
    k->equal = v.norm == 0.0;
    k->surveyed = true;
    d->rank = v.rank;
    d->norm = v.norm;
    d->by = words[0];
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strncmp(v.by, words[i], sizeof v.by) == 0)
            d->by = words[i];
    j->r->resumed++;
    return WS_OK;
}

static ws_status replay_factors(void *arg, uint32_t type, uint64_t a, uint64_t b,
                                const void *payload, size_t n, ws_err *err)
{
    ws_extract_job *j = arg;
    struct record done;
    (void)b;
    (void)err;
    if (type != RECORD_FACTORS || a >= j->n || n != sizeof done ||
        !j->tasks[a].surveyed)
        return WS_OK;
    memcpy(&done, payload, sizeof done);
    ws_extracted *d = &j->r->layers[a];
    d->energy = done.energy;
    d->error = done.error;
    d->s_first = done.s_first;
    d->s_last = done.s_last;
    ws_adapter_sink_done(j->adapter, j->tasks[a].module, done.digests);
    j->tasks[a].done = true;
    return WS_OK;
}

/** Survey, layout, factors, each behind what a killed run had done. */
static ws_status run_all(ws_extract_job *j, const char *recipe, const char *inputs,
                         ws_pool *pool, ws_err *err)
{
    const ws_matrices first = { j->n, "survey", survey_one, bytes_of, j };
    const ws_matrices second = { j->n, "extract", put_one, bytes_of, j };
    ws_status st = WS_OK;
    if (ws_stage_resumed(j->stage))
        st = ws_stage_replay(j->stage, replay_survey, j, err);
    if (st == WS_OK)
        st = ws_matrices_run(&first, pool, j->ctx, err);
    if (st == WS_OK && j->req->budget > 0)
        st = spend(j, err);
    if (st == WS_OK)
        st = open_adapter(j, recipe, inputs, err);
    if (st == WS_OK && ws_stage_resumed(j->stage))
        st = ws_stage_replay(j->stage, replay_factors, j, err);
    if (st == WS_OK)
        st = ws_matrices_run(&second, pool, j->ctx, err);
    if (st == WS_OK)
        st = ws_adapter_sink_finish(j->adapter, j->digest, NULL, err);
    return st == WS_OK ? figures_take(j, err) : st;
}

static ws_status show(ws_extract_job *j, ws_pool *pool, ws_err *err)
{
    ws_decompose_result files = { 0 };
    const ws_stage_expect expect = ws_adapter_sink_expect(j->adapter);
    const ws_status st =
        ws_decompose_show(&files, &j->req->write, j->stage, pool, &expect, 1, j->base,
                          j->tuned, j->ctx, &j->r->arena, err);
    j->r->outputs = files.outputs;
    j->r->n_outputs = files.n_outputs;
    j->r->manifest = files.manifest;
    j->r->usage.written_bytes = files.usage.written_bytes;
    return st;
}

static ws_status open_all(ws_extract_job *j, ws_err *err)
{
    ws_status st = ws_tv_open_model(&j->base, j->req->base, j->ctx, err);
    if (st == WS_OK)
        st = ws_tv_open_model(&j->tuned, j->req->tuned, j->ctx, err);
    if (st == WS_OK) {
        j->conv1d = ws_linear_transposed(j->base) || ws_linear_transposed(j->tuned);
        st = ws_extract_find(j, err);
    }
    if (st == WS_OK)
        st = ws_ckpt_digest_text(j->base, j->ctx, j->digest, err);
    return st == WS_OK ? ws_ckpt_digest_text(j->tuned, j->ctx, j->tuned_digest, err)
                       : st;
}

/** Stage the output; r->unchanged where a run that is resumed has finished it. */
static ws_status stage_open(ws_extract_job *j, const char *recipe, const char *from,
                            ws_err *err)
{
    const ws_write_opts *w = &j->req->write;
    const char *inputs[] = { j->req->base, j->req->tuned };
    const ws_xxh128 parts[2] = { ws_xxh3(recipe, strlen(recipe)),
                                 ws_xxh3(from, strlen(from)) };
    char key[33];
    ws_xxh128_hex(ws_xxh3(parts, sizeof parts), key);
    const ws_stage_opts o = { .target = w->out,
                              .is_dir = true,
                              .force = w->force,
                              .resume = w->resume,
                              .key = key,
                              .inputs = inputs,
                              .n_inputs = 2,
                              .manifest = w->manifest };
    const ws_status st =
        ws_stage_open(&j->stage, &o, j->ctx == NULL ? NULL : j->ctx->warnings, err);
    if (st == WS_OK)
        j->r->unchanged = ws_stage_finished(j->stage);
    else if (st == WS_E_EXISTS && w->resume)
        j->r->unchanged =
            ws_decompose_is(w->out, "adapter/" WS_ADAPTER_WEIGHTS, recipe, from);
    return j->r->unchanged ? WS_OK : st;
}

/** From opened models to what shows. */
static ws_status write_all(ws_extract_job *j, ws_pool *pool, ws_err *err)
{
    ws_diag *warnings = j->ctx == NULL ? NULL : j->ctx->warnings;
    ws_buf recipe = { 0 }, inputs = { 0 };
    recipe_make(j->req, &recipe);
    ws_tv_input_add(&inputs, "base", ws_ckpt_label(j->base), j->digest);
    ws_tv_input_add(&inputs, "model", ws_ckpt_label(j->tuned), j->tuned_digest);
    ws_buf_putc(&inputs, ']');
    ws_status st = recipe.failed || inputs.failed ? no_memory(err) : WS_OK;
    if (st == WS_OK)
        st = stage_open(j, recipe.p, inputs.p, err);
    if (st == WS_OK && !j->r->unchanged) {
        st = run_all(j, recipe.p, inputs.p, pool, err);
        if (st == WS_OK && j->r->missing > 0) {
            ws_err *e = ws_diag_report(
                warnings, WS_OK, "not-represented",
                "%zu tensors that only one of base and fine-tune has, or in another "
                "shape: an adapter cannot hold them, they are not represented",
                j->r->missing);
            ws_err_at(e, NULL, j->r->missing_first, -1);
        }
        if (st == WS_OK)
            st = ws_decompose_strict(j->ctx, err);
        if (st == WS_OK)
            st = show(j, pool, err);
    }
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

void ws_extract_result_free(ws_extract_result *r)
{
    if (r == NULL)
        return;
    ws_arena_free(&r->arena);
    ws_free(r);
}

static void job_close(ws_extract_job *j, bool keep)
{
    ws_stage_close(j->stage, keep);
    ws_adapter_sink_close(j->adapter);
    for (size_t i = 0; i < j->n; i++) {
        drop(&j->tasks[i]);
        ws_free(j->tasks[i].s);
    }
    ws_ckpt_free(j->base);
    ws_ckpt_free(j->tuned);
    pthread_mutex_destroy(&j->lock);
}

ws_status ws_extract(ws_extract_result **out, const ws_extract_req *req,
                     const ws_ctx *ctx, ws_err *err)
{
    ws_extract_job j = { .req = req, .ctx = ctx, .r = ws_calloc(1, sizeof *j.r) };
    const double start = ws_os_now();
    ws_pool *pool = NULL;
    int threads = 1;
    pthread_mutex_init(&j.lock, NULL);
    ws_status st = j.r == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK)
        st = open_all(&j, err);
    if (st == WS_OK)
        st = share_memory(&j, &threads, err);
    if (st == WS_OK)
        st = ws_pool_new(&pool, threads, err);
    if (st == WS_OK)
        st = write_all(&j, pool, err);
    if (st == WS_OK)
        ws_decompose_usage_of(&j.r->usage, start, threads);
    ws_pool_free(pool);
    // asked to end, it leaves its staged work to --resume; Ctrl-C cleans up
    const int stop = ctx != NULL && ctx->stop != NULL ? atomic_load(ctx->stop) : 0;
    job_close(&j, st == WS_E_INTERRUPTED && stop != SIGINT);
    if (st == WS_OK)
        *out = j.r;
    else
        ws_extract_result_free(j.r);
    return st;
}
