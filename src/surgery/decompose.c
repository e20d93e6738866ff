/*
 * decompose.c - a model into an adapter and a residual
 *
 *   W' = round(W - B A),  B and A as stored (float32), the product in double
 *
 * One task per matrix, whole matrices in double, as many at once as threads and memory
 * allow; what is finished goes to the staged residual at once. Only factors are kept.
 */
#include "wsurg/decompose.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "base/pool.h"
#include "hf/companions.h"
#include "hf/peft.h"
#include "surgery/corda.h"
#include "surgery/cov_file.h"
#include "surgery/decompose_text.h"
#include "surgery/linears.h"
#include "surgery/matrices.h"
#include "surgery/residual_write.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"
#include "wsurg/pattern.h"
#include "wsurg/wsurg.h"

/** One matrix. */
struct task {
    size_t index; // in the model
    const ws_tensor *t, *cov;
    int64_t m, n; // outputs, inputs
    float *B, *A; // (m, r), (r, n)
    uint64_t bytes;
};

struct job {
    const ws_decompose_req *req;
    const ws_ctx *ctx;
    ws_decompose_result *r;
    ws_ckpt *model;
    ws_cov cov;
    bool conv1d;
    char digest[48]; // of the model
    struct task *tasks;
    size_t n;
    ws_stage *stage;
    ws_residual residual;
    ws_pool *pool;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to decompose");
}

/* ---- targets ---- */

/** Whether @p t is a target; patterns that hit are marked. */
static ws_status choose(const struct job *j, ws_pattern_set *const *set, bool *hits,
                        const ws_tensor *t, bool *in, ws_err *err)
{
    *in = j->req->n_targets == 0 && ws_linear_is(t);
    for (size_t i = 0; i < j->req->n_targets; i++) {
        bool hit = false;
        const ws_status st = ws_pattern_match(set[i], t->name, &hit, err);
        if (st != WS_OK)
            return st;
        hit = hit && t->rank == 2 && strlen(t->name) > 7 &&
              strcmp(t->name + strlen(t->name) - 7, ".weight") == 0;
        hits[i] |= hit;
        *in |= hit;
    }
    return WS_OK;
}

static ws_status add_task(struct job *j, size_t index, ws_err *err)
{
    const ws_tensor *t = ws_ckpt_tensor(j->model, index);
    struct task *k = &j->tasks[j->n];
    const bool with_c = j->req->method == WS_CORDA;
    int64_t n = 0;
    if (!ws_dtype_info(t->dtype)->arithmetic || t->shape[0] > INT32_MAX ||
        t->shape[1] > INT32_MAX) {
        ws_fail(err, WS_E_DTYPE, "a %s matrix of this size cannot be decomposed",
                ws_dtype_info(t->dtype)->name);
        return ws_err_at(err, j->req->model, t->name, -1), WS_E_DTYPE;
    }
    *k = (struct task){ .index = index, .t = t };
    k->m = (int64_t)t->shape[j->conv1d ? 1 : 0];
    k->n = (int64_t)t->shape[j->conv1d ? 0 : 1];
    if (with_c && (k->cov = ws_cov_find(&j->cov, t->name, &n)) == NULL) {
        ws_fail(err, WS_E_MISSING, "no covariance of the inputs of this linear");
        ws_err_at(err, j->req->cov, t->name, -1);
        ws_err_hint(err, "--target chooses the linears");
        return WS_E_MISSING;
    }
    if (with_c && n != k->n) {
        ws_fail(err, WS_E_SHAPE,
                "the covariance is of %lld inputs, the linear has %lld", (long long)n,
                (long long)k->n);
        return ws_err_at(err, j->req->cov, t->name, -1), WS_E_SHAPE;
    }
    ws_decomposed *d = &j->r->layers[j->n++];
    const int64_t q = k->m < k->n ? k->m : k->n;
    d->rank = j->req->split.rank < q ? j->req->split.rank : q;
    k->bytes = ws_corda_bytes(k->m, k->n, d->rank, j->req->split.smallest, with_c) +
               2 * t->n_elements * sizeof(double) +
               (with_c ? (uint64_t)k->n * (uint64_t)k->n * sizeof(double) : 0);
    return WS_OK;
}

static ws_status find_tasks(struct job *j, ws_err *err)
{
    const size_t n = ws_ckpt_count(j->model), n_set = j->req->n_targets;
    ws_arena *arena = &j->r->arena;
    ws_pattern_set **set = ws_arena_calloc(arena, n_set + 1, sizeof *set);
    bool *hits = ws_arena_calloc(arena, n_set + 1, sizeof *hits);
    j->tasks = ws_arena_calloc(arena, n + 1, sizeof *j->tasks);
    j->r->layers = ws_arena_calloc(arena, n + 1, sizeof *j->r->layers);
    ws_status st = set && hits && j->tasks && j->r->layers ? WS_OK : no_memory(err);
    for (size_t i = 0; i < n_set && st == WS_OK; i++)
        st = ws_pattern_new(&set[i], j->req->targets[i], err);
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        bool in = false;
        st = choose(j, set, hits, ws_ckpt_tensor(j->model, i), &in, err);
        if (st == WS_OK && in)
            st = add_task(j, i, err);
    }
    for (size_t i = 0; i < n_set && st == WS_OK; i++)
        if (!hits[i])
            st = ws_fail(err, WS_E_USAGE, "--target '%s' hits no linear",
                         j->req->targets[i]);
    if (st == WS_OK && j->n == 0)
        st = ws_fail(err, WS_E_USAGE,
                     "the model has no matrices in numbered blocks: "
                     "--target names what to decompose");
    for (size_t i = 0; set != NULL && i < n_set; i++)
        ws_pattern_free(set[i]);
    j->r->n_layers = j->n;
    return st;
}

/* ---- one matrix ---- */

/** W (m, n) as double: stored so, or transposed. */
static ws_status load(const struct job *j, const struct task *k, ws_mat *W, ws_err *err)
{
    const ws_tensor *t = k->t;
    const int64_t rows = (int64_t)t->shape[0], cols = (int64_t)t->shape[1];
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    char *raw = ws_alloc((size_t)cols * size);
    double *row = ws_alloc((size_t)cols * sizeof *row);
    ws_status st = raw == NULL || row == NULL ? no_memory(err) : WS_OK;
    for (int64_t i = 0; i < rows && st == WS_OK; i++) {
        st = ws_ckpt_read(j->model, t, (uint64_t)i * (uint64_t)cols * size,
                          (size_t)cols * size, raw, err);
        if (st != WS_OK)
            break;
        if (!j->conv1d) {
            ws_to_f64(t->dtype, raw, (double *)W->data + i * W->ld, (size_t)cols);
            continue;
        }
        ws_to_f64(t->dtype, raw, row, (size_t)cols);
        for (int64_t c = 0; c < cols; c++)
            ((double *)W->data)[c * W->ld + i] = row[c];
    }
    ws_free(raw);
    ws_free(row);
    return st;
}

/** Round the factors to how they are stored, and back. */
static ws_status store_factors(struct job *j, struct task *k, ws_mat *B, ws_mat *A,
                               ws_err *err)
{
    const int64_t r = B->cols;
    k->B = ws_alloc((size_t)(k->m * r) * sizeof(float));
    k->A = ws_alloc((size_t)(r * k->n) * sizeof(float));
    if (k->B == NULL || k->A == NULL)
        return no_memory(err);
    for (int64_t i = 0; i < k->m * r; i++) {
        k->B[i] = (float)((double *)B->data)[i];
        ((double *)B->data)[i] = (double)k->B[i];
    }
    for (int64_t i = 0; i < r * k->n; i++) {
        k->A[i] = (float)((double *)A->data)[i];
        ((double *)A->data)[i] = (double)k->A[i];
    }
    (void)j;
    return WS_OK;
}

/** W - B A into the residual; the identity's error into @p d. W becomes B A. */
static ws_status write_residual(struct job *j, const struct task *k, ws_mat *W,
                                const ws_mat *B, const ws_mat *A, ws_decomposed *d,
                                ws_err *err)
{
    const ws_tensor *t = k->t;
    const int64_t rows = (int64_t)t->shape[0], cols = (int64_t)t->shape[1];
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    ws_mat R = ws_mat_f64(ws_alloc((size_t)t->n_elements * sizeof(double)), k->m, k->n);
    char *out = ws_alloc((size_t)t->n_bytes);
    double *row = ws_alloc(2 * (size_t)cols * sizeof *row);
    ws_status st = R.data && out && row ? WS_OK : no_memory(err);
    if (st == WS_OK)
        st = ws_gemm(false, false, 1.0, B, A, 0.0, &R, err);
    double most = 0.0, off = 0.0;
    for (int64_t i = 0; i < rows && st == WS_OK; i++) {
        ws_store_tally tally;
        for (int64_t c = 0; c < cols; c++) {
            const int64_t at = j->conv1d ? c * k->n + i : i * k->n + c;
            row[c] = ((double *)W->data)[at] - ((double *)R.data)[at];
        }
        ws_from_f64(t->dtype, row, out + (size_t)(i * cols) * size, (size_t)cols,
                    &tally);
        if (tally.overflowed + tally.not_finite > 0)
            st = ws_fail(err, WS_E_NOT_FINITE, "the residual overflows %s",
                         ws_dtype_info(t->dtype)->name);
        ws_to_f64(t->dtype, out + (size_t)(i * cols) * size, row + cols, (size_t)cols);
        for (int64_t c = 0; c < cols; c++) {
            const int64_t at = j->conv1d ? c * k->n + i : i * k->n + c;
            most = fmax(most, fabs(((double *)W->data)[at]));
            off = fmax(off, fabs(row[cols + c] - row[c]));
        }
    }
    d->error = most > 0.0 ? off / most : off;
    if (st == WS_OK)
        st = ws_residual_put(&j->residual, k->index, out, err);
    ws_free(R.data);
    ws_free(out);
    ws_free(row);
    return st;
}

static ws_status run_task(struct job *j, struct task *k, ws_decomposed *d, ws_err *err)
{
    const ws_decompose_req *q = j->req;
    ws_corda_opts o = q->split;
    o.rank = d->rank;
    ws_mat W = ws_mat_f64(ws_alloc((size_t)(k->m * k->n) * sizeof(double)), k->m, k->n);
    ws_mat B =
        ws_mat_f64(ws_alloc((size_t)(k->m * o.rank) * sizeof(double)), k->m, o.rank);
    ws_mat A =
        ws_mat_f64(ws_alloc((size_t)(o.rank * k->n) * sizeof(double)), o.rank, k->n);
    ws_mat C = ws_mat_f64(NULL, k->n, k->n);
    if (k->cov != NULL)
        C.data = ws_alloc((size_t)(k->n * k->n) * sizeof(double));
    ws_status st = W.data && B.data && A.data && (k->cov == NULL || C.data)
                       ? WS_OK
                       : no_memory(err);
    if (st == WS_OK)
        st = load(j, k, &W, err);
    if (st == WS_OK && k->cov != NULL)
        st = ws_cov_read(&j->cov, k->cov, &C, err);
    if (st == WS_OK && k->cov != NULL)
        ws_corda_damp(&C, q->damp);
    if (st == WS_OK)
        st = ws_corda(&W, k->cov == NULL ? NULL : &C, &o, &B, &A, d, err);
    d->name = k->t->name;
    ws_free(C.data);
    if (st == WS_OK)
        st = store_factors(j, k, &B, &A, err);
    if (st == WS_OK && !q->keep_base)
        st = write_residual(j, k, &W, &B, &A, d, err);
    if (st == WS_OK && q->keep_base)
        d->error = 0.0;
    ws_free(W.data);
    ws_free(B.data);
    ws_free(A.data);
    if (st != WS_OK)
        ws_err_at(err, q->model, k->t->name, -1);
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

/** As many threads as the largest matrix leaves memory for. */
static ws_status run_all(struct job *j, ws_err *err)
{
    const uint64_t limit = j->ctx != NULL && j->ctx->max_memory > 0
                               ? j->ctx->max_memory
                               : ws_os_memory_total() / 2;
    uint64_t most = 1, kept = 0;
    size_t at = 0;
    for (size_t i = 0; i < j->n; i++) {
        const struct task *k = &j->tasks[i];
        kept +=
            (uint64_t)(k->m + k->n) * (uint64_t)j->r->layers[i].rank * sizeof(float);
        at = k->bytes > most ? i : at;
        most = k->bytes > most ? k->bytes : most;
    }
    if (limit < kept + most) {
        char want[24], have[24];
        ws_show_bytes(kept + most, want);
        ws_show_bytes(limit, have);
        ws_fail(err, WS_E_MEMORY, "decomposing takes %s of memory, the limit is %s",
                want, have);
        ws_err_hint(err, "--max-memory %lluMiB",
                    (unsigned long long)((kept + most) >> 20) + 1);
        return ws_err_at(err, j->req->model, j->tasks[at].t->name, -1), WS_E_MEMORY;
    }
    int threads = ws_ctx_threads(j->ctx);
    if ((limit - kept) / most < (uint64_t)threads)
        threads = (int)((limit - kept) / most);
    ws_status st = ws_pool_new(&j->pool, threads, err);
    if (st != WS_OK)
        return st;
    const ws_matrices work = { j->n, "decompose", run_one, bytes_of, j };
    return ws_matrices_run(&work, j->pool, j->ctx, err);
}

/* ---- the outputs ---- */

/** [B, B] and [A; -A]: nothing at the start, and of what training changes only the
 * change remains. */
static ws_status doubled(struct job *j, struct task *k, int64_t r, ws_err *err)
{
    float *B = ws_alloc(2 * (size_t)(k->m * r) * sizeof *B);
    float *A = ws_alloc(2 * (size_t)(r * k->n) * sizeof *A);
    (void)j;
    if (B == NULL || A == NULL) {
        ws_free(B);
        ws_free(A);
        return no_memory(err);
    }
    for (int64_t i = 0; i < k->m; i++)
        for (int64_t c = 0; c < r; c++)
            B[2 * i * r + c] = B[2 * i * r + r + c] = k->B[i * r + c];
    memcpy(A, k->A, (size_t)(r * k->n) * sizeof *A);
    for (int64_t i = 0; i < r * k->n; i++)
        A[r * k->n + i] = -k->A[i];
    ws_free(k->B);
    ws_free(k->A);
    k->B = B;
    k->A = A;
    return WS_OK;
}

static ws_status put_adapter(struct job *j, const char *recipe, const char *inputs,
                             ws_err *err)
{
    ws_adapter_factors *f = ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *f);
    if (f == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->n; i++) {
        struct task *k = &j->tasks[i];
        int64_t r = j->r->layers[i].rank;
        if (j->req->keep_base) {
            const ws_status st = doubled(j, k, r, err);
            if (st != WS_OK)
                return st;
            r *= 2;
        }
        f[i] = (ws_adapter_factors){ .path = ws_linear_module(&j->r->arena, j->conv1d,
                                                              k->t->name),
                                     .r = r,
                                     .in = k->n,
                                     .out = k->m,
                                     .alpha = (double)r,
                                     .a = k->A,
                                     .b = k->B };
        if (f[i].path == NULL)
            return no_memory(err);
    }
    const ws_adapter_spec spec = {
        .modules = f,
        .n_modules = j->n,
        .dtype = WS_DT_F32,
        .fan_in_fan_out = j->conv1d,
        .base = j->req->keep_base ? j->req->model : "../residual",
        .content = j->req->keep_base ? j->digest : j->r->residual,
        .residual = j->req->keep_base ? NULL : j->r->residual,
        .recipe = recipe,
        .inputs = inputs,
    };
    return ws_adapter_stage(&spec, !j->req->write.provenance, j->stage, "adapter/",
                            err);
}

static ws_status put_residual(struct job *j, ws_err *err)
{
    const ws_companion_opts o = { .folder = "residual/" };
    ws_status st = ws_residual_finish(&j->residual, j->r->residual, err);
    const char *from = j->req->write.companions_from;
    if (from == NULL && ws_ckpt_is_dir(j->model))
        from = ws_ckpt_home(j->model);
    if (st == WS_OK && from != NULL)
        st = ws_companions_carry(j->stage, from, &o,
                                 j->ctx == NULL ? NULL : j->ctx->warnings, err);
    return st;
}

/** Read all back, make the manifest, show. */
static ws_status show(struct job *j, ws_err *err)
{
    const ws_stage_expect *expect = NULL;
    if (!j->req->keep_base && (expect = ws_residual_expect(&j->residual)) == NULL)
        return no_memory(err);
    return ws_decompose_show(j->r, &j->req->write, j->stage, j->pool, expect,
                             expect == NULL ? 0 : j->residual.n_files, j->model,
                             j->cov.file, j->ctx, &j->r->arena, err);
}

static ws_status stage_open(struct job *j, const char *key, ws_err *err)
{
    const char *inputs[] = { j->req->model, j->req->cov };
    const ws_write_opts *w = &j->req->write;
    const ws_stage_opts o = { .target = w->out,
                              .is_dir = true,
                              .force = w->force,
                              .resume = w->resume,
                              .key = key,
                              .inputs = inputs,
                              .n_inputs = j->req->cov == NULL ? 1 : 2,
                              .manifest = w->manifest };
    return ws_stage_open(&j->stage, &o, j->ctx == NULL ? NULL : j->ctx->warnings, err);
}

/** From opened inputs to what shows. */
static ws_status write_all(struct job *j, ws_err *err)
{
    ws_buf recipe = { 0 }, inputs = { 0 }, report = { 0 };
    char key[33];
    ws_decompose_recipe(&recipe, j->req);
    ws_tv_input_add(&inputs, "model", ws_ckpt_label(j->model), j->digest);
    ws_buf_putc(&inputs, ']');
    const ws_meta meta[] = { { "wsurg.inputs", inputs.p },
                             { "wsurg.recipe", recipe.p },
                             { "wsurg.version", ws_version() } };
    const size_t n_meta = j->req->write.provenance ? 3 : 0;
    ws_status st = recipe.failed || inputs.failed ? no_memory(err) : WS_OK;
    if (st == WS_OK) {
        ws_xxh128_hex(ws_xxh3(recipe.p, recipe.n), key);
        st = stage_open(j, key, err);
    }
    if (st == WS_OK && !j->req->keep_base)
        st = ws_residual_open(&j->residual, j->model, j->stage, "residual/", meta,
                              n_meta, err);
    if (st == WS_OK)
        st = run_all(j, err);
    if (st == WS_OK && !j->req->keep_base)
        st = put_residual(j, err);
    if (st == WS_OK)
        st = put_adapter(j, recipe.p, inputs.p, err);
    if (st == WS_OK && !j->req->keep_base) {
        ws_decompose_report(&report, j->req, j->r, &j->cov);
        st = report.failed
                 ? no_memory(err)
                 : ws_stage_put(j->stage, "decompose.json", report.p, report.n, err);
    }
    if (st == WS_OK)
        ws_decompose_warn(j->req, j->r, j->ctx == NULL ? NULL : j->ctx->warnings);
    if (st == WS_OK)
        st = ws_decompose_strict(j->ctx, err);
    if (st == WS_OK)
        st = show(j, err);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    ws_buf_free(&report);
    return st;
}

/** Open the covariances; refuse those of another model or another normalisation. */
static ws_status open_cov(struct job *j, ws_err *err)
{
    const ws_decompose_req *q = j->req;
    ws_status st =
        ws_cov_open(&j->cov, q->cov, j->ctx == NULL ? NULL : j->ctx->warnings, err);
    if (st != WS_OK)
        return st;
    if (strcmp(j->cov.model, j->digest) != 0) {
        ws_fail(err, WS_E_ANCESTRY,
                "the covariances are of another model: contents %s, "
                "not %s",
                j->cov.model, j->digest);
        return ws_err_at(err, q->cov, NULL, -1), WS_E_ANCESTRY;
    }
    if (q->normalise != NULL && strcmp(q->normalise, j->cov.normalise) != 0) {
        ws_fail(err, WS_E_USAGE,
                "--normalise %s, but the covariances were made with %s", q->normalise,
                j->cov.normalise);
        return ws_err_at(err, q->cov, NULL, -1), WS_E_USAGE;
    }
    return WS_OK;
}

/** The result's own copies of the names, which are the model's until then. */
static ws_status keep_names(ws_decompose_result *r, ws_err *err)
{
    for (size_t i = 0; i < r->n_layers; i++) {
        r->layers[i].name = ws_arena_strdup(&r->arena, r->layers[i].name);
        if (r->layers[i].name == NULL)
            return no_memory(err);
    }
    return WS_OK;
}

void ws_decompose_result_free(ws_decompose_result *r)
{
    if (r == NULL)
        return;
    ws_arena_free(&r->arena);
    ws_free(r);
}

ws_status ws_decompose(ws_decompose_result **out, const ws_decompose_req *req,
                       const ws_ctx *ctx, ws_err *err)
{
    struct job j = { .req = req, .ctx = ctx, .r = ws_calloc(1, sizeof *j.r) };
    const double start = ws_os_now();
    ws_status st = j.r == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK)
        st = ws_tv_open_model(&j.model, req->model, ctx, err);
    if (st == WS_OK)
        st = ws_ckpt_digest_text(j.model, ctx, j.digest, err);
    if (st == WS_OK && req->method == WS_CORDA)
        st = open_cov(&j, err);
    if (st == WS_OK) {
        j.conv1d = ws_linear_transposed(j.model);
        st = find_tasks(&j, err);
    }
    if (st == WS_OK)
        st = write_all(&j, err);
    if (st == WS_OK)
        st = keep_names(j.r, err);
    if (j.stage != NULL)
        ws_stage_close(j.stage, false);
    for (size_t i = 0; i < j.n; i++) {
        ws_free(j.tasks[i].B);
        ws_free(j.tasks[i].A);
    }
    if (st == WS_OK)
        ws_decompose_usage_of(&j.r->usage, start,
                              j.pool == NULL ? 1 : ws_pool_size(j.pool));
    ws_pool_free(j.pool);
    ws_residual_close(&j.residual);
    ws_cov_close(&j.cov);
    ws_ckpt_free(j.model);
    if (st == WS_OK)
        *out = j.r;
    else
        ws_decompose_result_free(j.r);
    return st;
}
