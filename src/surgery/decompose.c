/*
 * decompose.c - a model into an adapter and a residual
 *
 *   W' = round(W - B A),  B and A as stored (float32), the product in double
 *
 * One task per matrix, whole matrices in double, as many at once as threads and memory
 * allow. What is finished goes to the staged files and into the journal at once:
 * nothing is kept, and a killed run goes on behind it.
 */
#include "wsurg/decompose.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "base/pool.h"
#include "hf/companions.h"
#include "hf/peft.h"
#include "surgery/corda.h"
#include "surgery/cov_file.h"
#include "surgery/decompose_data.h"
#include "surgery/decompose_text.h"
#include "surgery/linears.h"
#include "surgery/matrices.h"
#include "surgery/residual_write.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"
#include "wsurg/wsurg.h"

/** One matrix. */
struct task {
    size_t index; // in the model
    const ws_tensor *t, *cov;
    int64_t m, n; // outputs, inputs
    uint64_t bytes;
    bool done; // by the run that is gone on from
};

enum { RECORD_MATRIX = 1 }; // a: number of the task, payload: struct record

/** A finished matrix, as the journal has it. */
struct record {
    ws_xxh128 factors[2], residual; // digests
    ws_decomposed d;                // without its pointers
    char by[16];
};

struct job {
    const ws_decompose_req *req;
    const ws_ctx *ctx;
    ws_decompose_result *r;
    ws_ckpt *model;
    ws_cov cov;
    const char *cov_path;
    char *calibrated; // path of covariances made on the way; NULL: none
    bool conv1d;
    char digest[48]; // of the model
    struct task *tasks;
    size_t n;
    ws_stage *stage;
    ws_residual residual;
    ws_adapter_sink *adapter;
    ws_pool *pool;
    pthread_mutex_t syncing;
    double synced; // when
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to decompose");
}

/* ---- targets ---- */

static ws_status add_task(struct job *j, size_t index, ws_err *err)
{
    const ws_tensor *t = ws_ckpt_tensor(j->model, index);
    struct task *k = &j->tasks[j->n];
    const bool with_c = j->req->method == WS_CORDA;
    if (!ws_dtype_info(t->dtype)->arithmetic || t->shape[0] > INT32_MAX ||
        t->shape[1] > INT32_MAX) {
        ws_fail(err, WS_E_DTYPE, "a %s matrix of this size cannot be decomposed",
                ws_dtype_info(t->dtype)->name);
        return ws_err_at(err, j->req->model, t->name, -1), WS_E_DTYPE;
    }
    *k = (struct task){ .index = index, .t = t };
    k->m = (int64_t)t->shape[j->conv1d ? 1 : 0];
    k->n = (int64_t)t->shape[j->conv1d ? 0 : 1];
    ws_decomposed *d = &j->r->layers[j->n++];
    const int64_t q = k->m < k->n ? k->m : k->n;
    d->rank = j->req->split.rank < q ? j->req->split.rank : q;
    k->bytes = ws_corda_bytes(k->m, k->n, d->rank, j->req->split.smallest, with_c) +
               2 * t->n_elements * sizeof(double) + t->n_bytes +
               4 * (uint64_t)(k->m + k->n) * (uint64_t)d->rank * sizeof(double) +
               (with_c ? (uint64_t)k->n * (uint64_t)k->n * sizeof(double) : 0);
    return WS_OK;
}

static ws_status find_tasks(struct job *j, ws_err *err)
{
    const size_t n = ws_ckpt_count(j->model);
    ws_arena *arena = &j->r->arena;
    ws_targets wanted;
    j->tasks = ws_arena_calloc(arena, n + 1, sizeof *j->tasks);
    j->r->layers = ws_arena_calloc(arena, n + 1, sizeof *j->r->layers);
    ws_status st = ws_targets_open(&wanted, j->req->targets, j->req->n_targets, err);
    if (st == WS_OK && (j->tasks == NULL || j->r->layers == NULL))
        st = no_memory(err);
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        bool in = false;
        st = ws_targets_match(&wanted, ws_ckpt_tensor(j->model, i), &in, err);
        if (st == WS_OK && in)
            st = add_task(j, i, err);
    }
    if (st == WS_OK)
        st = ws_targets_all_hit(&wanted, err);
    if (st == WS_OK && j->n == 0)
        st = ws_fail(err, WS_E_USAGE,
                     "the model has no matrices in numbered blocks: "
                     "--target names what to decompose");
    ws_targets_close(&wanted);
    j->r->n_layers = j->n;
    return st;
}

/** The covariance that each target goes by. */
static ws_status find_covariances(struct job *j, ws_err *err)
{
    for (size_t i = 0; i < j->n; i++) {
        struct task *k = &j->tasks[i];
        int64_t n = 0;
        k->cov = ws_cov_find(&j->cov, k->t->name, &n);
        if (k->cov != NULL && n == k->n)
            continue;
        if (k->cov == NULL) {
            ws_fail(err, WS_E_MISSING, "no covariance of the inputs of this linear");
            ws_err_hint(err, "--target chooses the linears");
        } else {
            ws_fail(err, WS_E_SHAPE,
                    "the covariance is of %lld inputs, the linear has %lld",
                    (long long)n, (long long)k->n);
        }
        ws_err_at(err, j->cov_path, k->t->name, -1);
        return k->cov == NULL ? WS_E_MISSING : WS_E_SHAPE;
    }
    return WS_OK;
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

/** Round the factors to how they are stored, and back, and stage them; with keep_base
 * as [B, B] and [A; -A]: nothing at the start, and of what training changes only the
 * change remains. */
static ws_status put_factors(struct job *j, size_t i, ws_mat *B, ws_mat *A,
                             ws_xxh128 digests[2], ws_err *err)
{
    const int64_t m = B->rows, n = A->cols, r = B->cols;
    const int64_t twice = j->req->keep_base ? 2 : 1;
    float *b = ws_alloc((size_t)(twice * m * r) * sizeof *b);
    float *a = ws_alloc((size_t)(twice * r * n) * sizeof *a);
    ws_status st = b == NULL || a == NULL ? no_memory(err) : WS_OK;
    for (int64_t k = 0; st == WS_OK && k < m * r; k++) {
        double *x = (double *)B->data + k;
        float *to = b + k / r * twice * r + k % r;
        to[0] = to[(twice - 1) * r] = (float)*x;
        *x = (double)to[0];
    }
    for (int64_t k = 0; st == WS_OK && k < r * n; k++) {
        double *x = (double *)A->data + k;
        a[k] = (float)*x;
        *x = (double)a[k];
        if (twice > 1)
            a[r * n + k] = -a[k];
    }
    if (st == WS_OK)
        st = ws_adapter_sink_put(j->adapter, i, a, b, digests, err);
    ws_free(b);
    ws_free(a);
    return st;
}

/** W - B A into the residual; the identity's error into @p d. W becomes B A. */
static ws_status write_residual(struct job *j, const struct task *k, ws_mat *W,
                                const ws_mat *B, const ws_mat *A, ws_decomposed *d,
                                ws_xxh128 *digest, ws_err *err)
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
        st = ws_residual_put(&j->residual, k->index, out, digest, err);
    ws_free(R.data);
    ws_free(out);
    ws_free(row);
    return st;
}

/** What the journal says from then on; synced now and then: machines crash. */
static ws_status record(struct job *j, size_t i, const ws_decomposed *d,
                        struct record *done, ws_err *err)
{
    done->d = *d;
    done->d.name = done->d.by = NULL;
    snprintf(done->by, sizeof done->by, "%s", d->by);
    ws_status st =
        ws_stage_record(j->stage, RECORD_MATRIX, i, 0, done, sizeof *done, err);
    pthread_mutex_lock(&j->syncing);
    if (st == WS_OK && ws_os_now() - j->synced > 60.0) {
        st = ws_stage_sync(j->stage, err);
        j->synced = ws_os_now();
    }
    pthread_mutex_unlock(&j->syncing);
    return st;
}

static ws_status run_task(struct job *j, size_t i, ws_decomposed *d, ws_err *err)
{
    const ws_decompose_req *q = j->req;
    const struct task *k = &j->tasks[i];
    struct record done;
    ws_corda_opts o = q->split;
    o.rank = d->rank;
    memset(&done, 0, sizeof done); // its padding, too, goes to the journal
    ws_mat W = ws_mat_f64(ws_alloc((size_t)(k->m * k->n) * sizeof(double)), k->m, k->n);
    ws_mat B =
        ws_mat_f64(ws_alloc((size_t)(k->m * o.rank) * sizeof(double)), k->m, o.rank);
    ws_mat A =
        ws_mat_f64(ws_alloc((size_t)(o.rank * k->n) * sizeof(double)), o.rank, k->n);
    ws_mat C = ws_mat_f64(NULL, k->n, k->n);
    if (k->cov != NULL)
        C.data = ws_alloc((size_t)(k->n * k->n) * sizeof(double));
    ws_status st = W.data && B.data && A.data && (k->cov == NULL || C.data)
                       ? load(j, k, &W, err)
                       : no_memory(err);
    if (st == WS_OK && k->cov != NULL)
        st = ws_cov_read(&j->cov, k->cov, &C, err);
    if (st == WS_OK && k->cov != NULL)
        ws_corda_damp(&C, q->damp);
    if (st == WS_OK)
        st = ws_corda(&W, k->cov == NULL ? NULL : &C, &o, &B, &A, d, err);
    d->name = k->t->name;
    ws_free(C.data);
    if (st == WS_OK)
        st = put_factors(j, i, &B, &A, done.factors, err);
    if (st == WS_OK && !q->keep_base)
        st = write_residual(j, k, &W, &B, &A, d, &done.residual, err);
    if (st == WS_OK && q->keep_base)
        d->error = 0.0;
    ws_free(W.data);
    ws_free(B.data);
    ws_free(A.data);
    if (st == WS_OK)
        st = record(j, i, d, &done, err);
    if (st != WS_OK)
        ws_err_at(err, q->model, k->t->name, -1);
    return st;
}

static ws_status run_one(void *arg, size_t i, ws_err *err)
{
    struct job *j = arg;
    return j->tasks[i].done ? WS_OK : run_task(j, i, &j->r->layers[i], err);
}

static ws_status replay(void *arg, uint32_t type, uint64_t a, uint64_t b,
                        const void *payload, size_t n, ws_err *err)
{
    static const char *const words[] = { "krylov", "inverse", "gram", "svd", "none" };
    struct job *j = arg;
    struct record done;
    (void)b;
    (void)err;
    if (type != RECORD_MATRIX || a >= j->n || n != sizeof done)
        return WS_OK;
    memcpy(&done, payload, n);
    ws_decomposed *d = &j->r->layers[a];
    *d = done.d;
    d->name = j->tasks[a].t->name;
    d->by = "none";
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strncmp(done.by, words[i], sizeof done.by) == 0)
            d->by = words[i];
    ws_adapter_sink_done(j->adapter, a, done.factors);
    if (!j->req->keep_base)
        ws_residual_done(&j->residual, j->tasks[a].index, &done.residual);
    j->r->resumed += !j->tasks[a].done;
    j->tasks[a].done = true;
    return WS_OK;
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
    uint64_t most = 1;
    size_t at = 0;
    for (size_t i = 0; i < j->n; i++) {
        const struct task *k = &j->tasks[i];
        at = k->bytes > most ? i : at;
        most = k->bytes > most ? k->bytes : most;
    }
    if (limit < most) {
        char want[24], have[24];
        ws_show_bytes(most, want);
        ws_show_bytes(limit, have);
        ws_fail(err, WS_E_MEMORY, "decomposing takes %s of memory, the limit is %s",
                want, have);
        ws_err_hint(err, "--max-memory %lluMiB", (unsigned long long)(most >> 20) + 1);
        return ws_err_at(err, j->req->model, j->tasks[at].t->name, -1), WS_E_MEMORY;
    }
    int threads = ws_ctx_threads(j->ctx);
    if (limit / most < (uint64_t)threads)
        threads = (int)(limit / most);
    ws_status st = ws_pool_new(&j->pool, threads, err);
    if (st != WS_OK)
        return st;
    j->synced = ws_os_now();
    const ws_matrices work = { j->n, "decompose", run_one, bytes_of, j };
    return ws_matrices_run(&work, j->pool, j->ctx, err);
}

/* ---- the outputs ---- */

/** Lay the adapter out: shapes are known, digests take their fixed width. */
static ws_status open_adapter(struct job *j, const char *recipe, const char *inputs,
                              ws_err *err)
{
    static const char later[] = "xxh3-128:00000000000000000000000000000000";
    const bool keep = j->req->keep_base;
    ws_adapter_factors *f = ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *f);
    if (f == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->n; i++) {
        const struct task *k = &j->tasks[i];
        const int64_t r = j->r->layers[i].rank * (keep ? 2 : 1);
        f[i] = (ws_adapter_factors){ .path = ws_linear_module(&j->r->arena, j->conv1d,
                                                              k->t->name),
                                     .r = r,
                                     .in = k->n,
                                     .out = k->m,
                                     .alpha = (double)r };
        if (f[i].path == NULL)
            return no_memory(err);
    }
    const ws_adapter_spec spec = {
        .modules = f,
        .n_modules = j->n,
        .dtype = WS_DT_F32,
        .fan_in_fan_out = j->conv1d,
        .base = keep ? j->req->model : "../residual",
        .content = later,
        .residual = keep ? NULL : later,
        .recipe = recipe,
        .inputs = inputs,
    };
    return ws_adapter_sink_open(&j->adapter, &spec, !j->req->write.provenance, j->stage,
                                "adapter/", err);
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
    // the residual's files were created first, then the adapter's
    const size_t n = j->req->keep_base ? 0 : j->residual.n_files;
    ws_stage_expect *expect = ws_arena_calloc(&j->r->arena, n + 1, sizeof *expect);
    const ws_stage_expect *of = n == 0 ? NULL : ws_residual_expect(&j->residual);
    if (expect == NULL || (n > 0 && of == NULL))
        return no_memory(err);
    for (size_t i = 0; i < n; i++)
        expect[i] = of[i];
    expect[n] = ws_adapter_sink_expect(j->adapter);
    return ws_decompose_show(j->r, &j->req->write, j->stage, j->pool, expect, n + 1,
                             j->model, j->cov.file, j->ctx, &j->r->arena, err);
}

/** Stage the output; r->unchanged where a run that is resumed has finished it. */
static ws_status stage_open(struct job *j, const char *recipe, const char *from,
                            ws_err *err)
{
    const char *inputs[] = { j->req->model, j->cov_path };
    const ws_write_opts *w = &j->req->write;
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
                              .n_inputs = j->cov_path == NULL ? 1 : 2,
                              .manifest = w->manifest };
    const ws_status st =
        ws_stage_open(&j->stage, &o, j->ctx == NULL ? NULL : j->ctx->warnings, err);
    if (st == WS_OK)
        j->r->unchanged = ws_stage_finished(j->stage);
    else if (st == WS_E_EXISTS && w->resume)
        j->r->unchanged =
            ws_decompose_is(w->out, "adapter/" WS_ADAPTER_WEIGHTS, recipe, from);
    if (!j->r->unchanged)
        return st;
    j->r->n_layers = 0;
    return WS_OK;
}

/** Everything staged: every matrix, then what stands around them. */
static ws_status stage_all(struct job *j, const char *recipe, const char *inputs,
                           ws_err *err)
{
    const bool keep = j->req->keep_base;
    const ws_meta meta[] = { { "wsurg.inputs", inputs },
                             { "wsurg.recipe", recipe },
                             { "wsurg.version", ws_version() } };
    const size_t n_meta = j->req->write.provenance ? 3 : 0;
    ws_buf report = { 0 };
    ws_status st = WS_OK;
    if (!keep)
        st = ws_residual_open(&j->residual, j->model, j->stage, "residual/", meta,
                              n_meta, err);
    if (st == WS_OK)
        st = open_adapter(j, recipe, inputs, err);
    if (st == WS_OK && ws_stage_resumed(j->stage))
        st = ws_stage_replay(j->stage, replay, j, err);
    if (st == WS_OK)
        st = run_all(j, err);
    if (st == WS_OK && !keep)
        st = put_residual(j, err);
    if (st == WS_OK)
        st = ws_adapter_sink_finish(j->adapter, keep ? j->digest : j->r->residual,
                                    j->r->residual, err);
    if (st == WS_OK && !keep) {
        ws_decompose_report(&report, j->req, j->r, &j->cov);
        st = report.failed
                 ? no_memory(err)
                 : ws_stage_put(j->stage, "decompose.json", report.p, report.n, err);
    }
    ws_buf_free(&report);
    return st;
}

/** From opened inputs to what shows. */
static ws_status write_all(struct job *j, ws_err *err)
{
    ws_diag *warnings = j->ctx == NULL ? NULL : j->ctx->warnings;
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_decompose_recipe(&recipe, j->req);
    ws_status st = WS_OK;
    ws_tv_input_add(&inputs, "model", ws_ckpt_label(j->model), j->digest);
    if (j->cov.file != NULL) {
        char content[48];
        st = ws_ckpt_digest_text(j->cov.file, j->ctx, content, err);
        if (st == WS_OK)
            ws_tv_input_add(&inputs, "covariance",
                            j->calibrated != NULL ? "calibration"
                                                  : ws_ckpt_label(j->cov.file),
                            content);
    }
    ws_buf_putc(&inputs, ']');
    if (st == WS_OK && (recipe.failed || inputs.failed))
        st = no_memory(err);
    if (st == WS_OK)
        st = stage_open(j, recipe.p, inputs.p, err);
    if (st == WS_OK && !j->r->unchanged) {
        st = stage_all(j, recipe.p, inputs.p, err);
        if (st == WS_OK)
            ws_decompose_warn(j->req, j->r, &j->cov, warnings);
        if (st == WS_OK)
            st = ws_decompose_strict(j->ctx, err);
        if (st == WS_OK)
            st = show(j, err);
    }
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

/** Open the covariances, or make them; refuse those of another model or another
 * normalisation. */
static ws_status open_cov(struct job *j, ws_err *err)
{
    const ws_decompose_req *q = j->req;
    ws_status st = WS_OK;
    j->cov_path = q->cov;
    if (q->calibrate != NULL) {
        st = ws_decompose_calibrate(&j->calibrated, q, j->ctx, err);
        j->cov_path = j->calibrated;
    }
    if (st == WS_OK)
        st = ws_cov_open(&j->cov, j->cov_path, j->ctx == NULL ? NULL : j->ctx->warnings,
                         err);
    if (st != WS_OK)
        return st;
    if (strcmp(j->cov.model, j->digest) != 0) {
        ws_fail(err, WS_E_ANCESTRY,
                "the covariances are of another model: contents %s, "
                "not %s",
                j->cov.model, j->digest);
        return ws_err_at(err, j->cov_path, NULL, -1), WS_E_ANCESTRY;
    }
    if (q->normalise != NULL && strcmp(q->normalise, j->cov.normalise) != 0) {
        ws_fail(err, WS_E_USAGE,
                "--normalise %s, but the covariances were made with %s", q->normalise,
                j->cov.normalise);
        return ws_err_at(err, j->cov_path, NULL, -1), WS_E_USAGE;
    }
    j->r->cov_samples = j->cov.samples;
    j->r->cov_tokens = j->cov.tokens;
    return find_covariances(j, err);
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

static void job_close(struct job *j, bool keep)
{
    ws_stage_close(j->stage, keep);
    ws_adapter_sink_close(j->adapter);
    ws_pool_free(j->pool);
    ws_residual_close(&j->residual);
    ws_cov_close(&j->cov);
    if (j->calibrated != NULL && !keep)
        remove(j->calibrated);
    ws_free(j->calibrated);
    ws_ckpt_free(j->model);
    pthread_mutex_destroy(&j->syncing);
}

ws_status ws_decompose(ws_decompose_result **out, const ws_decompose_req *req,
                       const ws_ctx *ctx, ws_err *err)
{
    struct job j = { .req = req, .ctx = ctx, .r = ws_calloc(1, sizeof *j.r) };
    const double start = ws_os_now();
    pthread_mutex_init(&j.syncing, NULL);
    ws_status st = j.r == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK)
        st = ws_tv_open_model(&j.model, req->model, ctx, err);
    if (st == WS_OK) {
        j.conv1d = ws_linear_transposed(j.model);
        st = find_tasks(&j, err);
    }
    if (st == WS_OK)
        st = ws_ckpt_digest_text(j.model, ctx, j.digest, err);
    if (st == WS_OK && req->method == WS_CORDA)
        st = open_cov(&j, err);
    if (st == WS_OK)
        st = write_all(&j, err);
    if (st == WS_OK && !j.r->unchanged)
        st = keep_names(j.r, err);
    if (st == WS_OK)
        ws_decompose_usage_of(&j.r->usage, start,
                              j.pool == NULL ? 1 : ws_pool_size(j.pool));
    // asked to end, it leaves its staged work to --resume; Ctrl-C cleans up
    const int stop = ctx != NULL && ctx->stop != NULL ? atomic_load(ctx->stop) : 0;
    job_close(&j, st == WS_E_INTERRUPTED && stop != SIGINT);
    if (st == WS_OK)
        *out = j.r;
    else
        ws_decompose_result_free(j.r);
    return st;
}
