/*
 * run.c - carry a plan out: check, stage, stream, check again, show
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "engine/exec.h"
#include "engine/finish.h"
#include "engine/parts.h"
#include "wsurg/text.h"

/** One run in the making. */
struct run {
    ws_plan *plan;
    const ws_ctx *ctx;
    ws_pool *pool;
    ws_stage *stage;
    ws_exec *exec;
    int *ids; // (n_files), -1 for files of other parts
    const char *target;
    size_t first, n; // tensors of this run
    double start;
};

/* ---- tensors without arithmetic pass through only when identical ---- */

static ws_status differs(const ws_plan *plan, const ws_plan_tensor *pt, size_t k,
                         ws_err *err)
{
    ws_fail(err, WS_E_DTYPE,
            "%s tensor differs from that of '%s': only identical ones pass through",
            ws_dtype_info(pt->t.dtype)->name, plan->inputs[pt->copy_from].label);
    ws_err_at(err, plan->inputs[k].path, pt->t.name, -1);
    ws_err_hint(err, "there is no arithmetic on %s; make the tensors equal first",
                ws_dtype_info(pt->t.dtype)->name);
    return WS_E_DTYPE;
}

static ws_status check_identical(const ws_plan *plan, const ws_plan_tensor *pt,
                                 ws_err *err)
{
    enum { CHUNK = 64 << 10 };
    const ws_tensor *a = ws_plan_source(plan, pt, (size_t)pt->copy_from);
    unsigned char *buf = ws_alloc(2 * (size_t)CHUNK);
    if (buf == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to compare tensors");
    ws_status st = WS_OK;
    for (size_t k = (size_t)pt->copy_from + 1; st == WS_OK && k < plan->n_inputs; k++) {
        const ws_tensor *b = ws_plan_source(plan, pt, k);
        for (uint64_t at = 0; b != NULL && st == WS_OK && at < a->n_bytes;
             at += CHUNK) {
            const size_t n =
                a->n_bytes - at < CHUNK ? (size_t)(a->n_bytes - at) : CHUNK;
            st = ws_ckpt_read(plan->inputs[pt->copy_from].ckpt, a, at, n, buf, err);
            if (st == WS_OK)
                st = ws_ckpt_read(plan->inputs[k].ckpt, b, at, n, buf + CHUNK, err);
            if (st == WS_OK && memcmp(buf, buf + CHUNK, n) != 0)
                st = differs(plan, pt, k, err);
        }
    }
    ws_free(buf);
    return st;
}

static ws_status check_passed_through(const struct run *run, ws_err *err)
{
    for (size_t i = run->first; i < run->first + run->n; i++) {
        const ws_plan_tensor *pt = &run->plan->tensors[i];
        if (pt->action != WS_ACT_COPY || ws_dtype_info(pt->t.dtype)->arithmetic)
            continue;
        const ws_status st = check_identical(run->plan, pt, err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

/* ---- LiNeS: alpha from the norms ---- */

/**
 * alpha = |sum_i tau_i|_1 / (N |tau_merged|_1), over all tensors; Wang et al. 2024,
 * arXiv:2410.17146, section 4.2, with the L1 norm of the authors' code. The tau_i are
 * not sparsified; tau_merged is the method's update with all its parameters.
 */
static ws_status lines_auto(struct run *run, ws_err *err)
{
    ws_plan *plan = run->plan;
    ws_exec *x = NULL;
    ws_status st =
        ws_exec_new(&x, plan, run->pool, NULL, NULL, 0, plan->n_tensors, err);
    if (st == WS_OK)
        st = ws_exec_run(x, err);
    double total = 0.0, update = 0.0;
    for (size_t i = 0; st == WS_OK && i < plan->n_tensors; i++) {
        total += ws_exec_result(x, i)->sums[WS_SUM_TOTAL_L1];
        update += ws_exec_result(x, i)->sums[WS_SUM_UPDATE_L1];
    }
    ws_exec_free(x);
    if (st != WS_OK)
        return st;
    if (!(update > 0.0))
        return ws_fail(
            err, WS_E_NOT_FINITE,
            "--lines auto: the merged update is zero, its norm gives no alpha");
    plan->lines_alpha = total / ((double)plan->n_models * update);
    ws_plan_lines_apply(plan);
    return WS_OK;
}

/* ---- staging ---- */

/** Where the staged file shall appear; `-` is staged in the current directory. */
static ws_status open_stage(struct run *run, ws_err *err)
{
    ws_plan *plan = run->plan;
    const ws_write_opts *w = &plan->req->write;
    const size_t n_paths = plan->priv->n_paths;
    const char **inputs =
        ws_plan_alloc(plan, plan->n_inputs + n_paths + 1, sizeof *inputs);
    if (inputs == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the run");
    for (size_t k = 0; k < plan->n_inputs; k++)
        inputs[k] = plan->inputs[k].path;
    for (size_t k = 0; k < n_paths; k++)
        inputs[plan->n_inputs + k] = plan->priv->paths[k];
    run->target = plan->part_out;
    if (strcmp(plan->out, "-") == 0)
        run->target =
            ws_plan_format(plan, "wsurg-output-%ld.safetensors", (long)getpid());
    char *manifest;
    ws_status st = ws_finish_manifest_path(plan, run->target, &manifest, err);
    if (st != WS_OK)
        return st;
    const ws_stage_opts o = {
        .manifest = manifest,
        .target = run->target,
        .is_dir = plan->out_is_dir,
        .force = w->force,
        .resume = w->resume,
        .key = plan->key,
        .inputs = inputs,
        .n_inputs = plan->n_inputs + n_paths,
    };
    st = ws_stage_open(&run->stage, &o, run->ctx == NULL ? NULL : run->ctx->warnings,
                       err);
    ws_free(manifest);
    return st;
}

static ws_status open_files(struct run *run, ws_err *err)
{
    ws_plan *plan = run->plan;
    run->ids = ws_plan_alloc(plan, plan->n_files + 1, sizeof *run->ids);
    if (run->ids == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the run");
    for (size_t f = 0; f < plan->n_files; f++) {
        const ws_plan_file *pf = &plan->files[f];
        run->ids[f] = -1;
        // a file without tensors belongs to the run that covers its place
        if (pf->first < run->first || pf->first + pf->n > run->first + run->n)
            continue;
        const ws_status st =
            ws_stage_file(run->stage, pf->name, pf->bytes, &run->ids[f], err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

/** Stream everything; the executor's peak and bytes go into the usage. */
static ws_status stream(struct run *run, ws_result *r, ws_err *err)
{
    ws_status st = ws_exec_new(&run->exec, run->plan, run->pool, run->stage, run->ids,
                               run->first, run->n, err);
    if (st == WS_OK && ws_stage_resumed(run->stage))
        st = ws_exec_resume(run->exec, err);
    if (st == WS_OK)
        st = ws_exec_run(run->exec, err);
    if (run->exec != NULL) {
        r->usage.read_bytes += ws_exec_read_bytes(run->exec);
        r->usage.written_bytes += ws_exec_written_bytes(run->exec);
        if (ws_exec_peak_memory(run->exec) > r->usage.peak_memory)
            r->usage.peak_memory = ws_exec_peak_memory(run->exec);
    }
    return st;
}

/** Inputs must still be what was planned with: their bytes went into the output. */
static ws_status recheck_inputs(const struct run *run, ws_err *err)
{
    for (size_t k = 0; k < run->plan->n_inputs; k++) {
        const ws_status st = ws_ckpt_recheck(run->plan->inputs[k].ckpt, err);
        if (st != WS_OK) {
            ws_err_at(err, run->plan->inputs[k].path, NULL, -1);
            return st;
        }
    }
    return WS_OK;
}

/** Under --strict a warning found while running keeps the output from showing. */
static ws_status check_strict(const ws_ctx *ctx, ws_err *err)
{
    if (ctx == NULL || !ctx->strict || ctx->warnings == NULL)
        return WS_OK;
    for (size_t i = 0; i < ctx->warnings->n; i++) {
        const ws_err *w = &ctx->warnings->items[i];
        if (w->tag == NULL || strcmp(w->tag, "note") != 0)
            return ws_fail(err, WS_E_STRICT, "a warning under --strict: %s", w->msg);
    }
    return WS_OK;
}

/** All steps from planned to shown. */
static ws_status run_steps(struct run *run, ws_result *r, ws_err *err)
{
    ws_plan *plan = run->plan;
    ws_status st;
    if ((st = ws_pool_new(&run->pool, plan->priv->exec.threads, err)) != WS_OK)
        return st;
    ws_part_tensors(plan, &run->first, &run->n);
    st = open_stage(run, err);
    if (st == WS_E_EXISTS && plan->req->write.resume) {
        ws_err ignored = WS_ERR_INIT;
        if (ws_plan_is_done(plan, run->ctx, &r->unchanged, &ignored) == WS_OK &&
            r->unchanged)
            return WS_OK;
    }
    if (st != WS_OK)
        return st;
    if (ws_stage_finished(run->stage)) {
        r->unchanged = true;
        return WS_OK;
    }
    if ((st = check_passed_through(run, err)) != WS_OK)
        return st;
    if (plan->has_lines && plan->lines_alpha_auto &&
        (st = lines_auto(run, err)) != WS_OK)
        return st;
    if ((st = open_files(run, err)) != WS_OK || (st = stream(run, r, err)) != WS_OK)
        return st;
    ws_result_note_memory(r, 0);
    ws_result_stats(r, plan, run->exec, run->first, run->n);
    ws_result_warn(r, plan, run->ctx == NULL ? NULL : run->ctx->warnings);
    const ws_finish f = {
        .plan = plan,
        .results = ws_exec_result(run->exec, 0),
        .stage = run->stage,
        .pool = run->pool,
        .ctx = run->ctx,
        .ids = run->ids,
        .target = run->target,
        .first = run->first,
        .n = run->n,
    };
    if ((st = recheck_inputs(run, err)) != WS_OK)
        return st;
    if ((st = check_strict(run->ctx, err)) != WS_OK)
        return st;
    st = ws_finish_run(&f, r, err);
    ws_result_note_memory(r, 0);
    return st;
}

ws_status ws_plan_run(ws_plan *plan, const ws_ctx *ctx, ws_result **out, ws_err *err)
{
    struct run run = { .plan = plan, .ctx = ctx, .start = ws_os_now() };
    ws_result *r = ws_result_new();
    if (r == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    plan->priv->ctx = ctx;
    const ws_status st = run_steps(&run, r, err);
    // a run asked to end leaves its staged work to --resume; Ctrl-C cleans up
    const int stop = ctx != NULL && ctx->stop != NULL ? atomic_load(ctx->stop) : 0;
    if (run.stage != NULL)
        ws_stage_close(run.stage, st == WS_E_INTERRUPTED && stop != SIGINT);
    ws_exec_free(run.exec);
    r->usage.seconds = ws_os_now() - run.start;
    r->usage.threads = run.pool == NULL ? 1 : ws_pool_size(run.pool);
    r->usage.peak_resident = ws_os_memory_peak();
    ws_pool_free(run.pool);
    if (st == WS_OK) {
        *out = r;
    } else {
        ws_result_free(r);
    }
    return st;
}
