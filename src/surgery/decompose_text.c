/*
 * decompose_text.c - what a decomposition says of itself
 */
#include "surgery/decompose_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "wsurg/wsurg.h"

static void put_text(ws_buf *b, const char *s)
{
    if (s == NULL)
        ws_buf_puts(b, "null");
    else
        ws_buf_json_string(b, s, strlen(s));
}

static void put_number(ws_buf *b, const char *key, double v)
{
    if (isfinite(v))
        ws_buf_printf(b, ",\"%s\":%.9g", key, v);
    else
        ws_buf_printf(b, ",\"%s\":null", key);
}

static const char *method_of(const ws_decompose_req *req)
{
    return req->method == WS_CORDA ? "corda" : "pissa";
}

static const char *mode_of(const ws_decompose_req *req)
{
    return req->split.smallest ? "kpm" : "ipm";
}

void ws_decompose_recipe(ws_buf *b, const ws_decompose_req *req)
{
    ws_buf_printf(
        b,
        "{\"schema\":\"wsurg-recipe/1\",\"command\":\"decompose\",\"method\":"
        "\"%s\",\"mode\":\"%s\",\"rank\":%lld,\"damp\":%.17g,\"solver\":\"%s\","
        "\"keep_base\":%s,\"seed\":%llu,\"target\":[",
        method_of(req), mode_of(req), (long long)req->split.rank,
        req->method == WS_CORDA ? req->damp : 0.0,
        req->split.solver == WS_SOLVER_FAST ? "fast" : "exact",
        req->keep_base ? "true" : "false", (unsigned long long)req->split.seed);
    for (size_t i = 0; i < req->n_targets; i++) {
        if (i > 0)
            ws_buf_putc(b, ',');
        put_text(b, req->targets[i]);
    }
    ws_buf_puts(b, "]}");
}

static void report_layer(ws_buf *b, const ws_decomposed *d)
{
    ws_buf_puts(b, "{\"tensor\":");
    put_text(b, d->name);
    ws_buf_printf(b, ",\"rows\":%lld,\"cols\":%lld,\"rank\":%lld,\"solver\":\"%s\"",
                  (long long)d->rows, (long long)d->cols, (long long)d->rank, d->by);
    put_number(b, "s_first", d->s_first);
    put_number(b, "s_last", d->s_last);
    put_number(b, "energy", d->energy);
    put_number(b, "gap", d->gap);
    put_number(b, "separation", d->separation);
    put_number(b, "over_best", d->over_best);
    put_number(b, "condition", d->condition);
    ws_buf_printf(b, ",\"zeros\":%lld,\"unclear\":%s", (long long)d->zeros,
                  d->unclear ? "true" : "false");
    put_number(b, "error", d->error);
    ws_buf_putc(b, '}');
}

void ws_decompose_report(ws_buf *b, const ws_decompose_req *req,
                         const ws_decompose_result *r, const ws_cov *cov)
{
    ws_buf_printf(b,
                  "{\"schema\":\"wsurg-decompose/1\",\"method\":\"%s\",\"mode\":\"%s\"",
                  method_of(req), mode_of(req));
    ws_buf_printf(b, ",\"rank\":%lld", (long long)req->split.rank);
    put_number(b, "damp", req->method == WS_CORDA ? req->damp : NAN);
    ws_buf_puts(b, ",\"residual\":");
    put_text(b, r->residual);
    ws_buf_puts(b, ",\"covariances\":");
    if (cov->tree == NULL) {
        ws_buf_puts(b, "null");
    } else {
        ws_buf_printf(b, "{\"samples\":%llu,\"tokens\":%llu,\"normalise\":",
                      (unsigned long long)cov->samples,
                      (unsigned long long)cov->tokens);
        put_text(b, cov->normalise);
        ws_buf_puts(b, ",\"sampling\":");
        put_text(b, cov->sampling);
        ws_buf_puts(b, ",\"data\":");
        ws_cov_data_json(cov, b);
        ws_buf_putc(b, '}');
    }
    ws_buf_puts(b, ",\"layers\":[");
    for (size_t i = 0; i < r->n_layers; i++) {
        ws_buf_puts(b, i == 0 ? "\n" : ",\n");
        report_layer(b, &r->layers[i]);
    }
    ws_buf_puts(b, "\n]}\n");
}

/** Whose knowledge is kept, in plain words. */
static void say_whose(const ws_cov *cov, ws_diag *warnings)
{
    char names[96] = "the calibration data";
    size_t n = 0;
    for (const cJSON *c = cov->data != NULL ? cov->data->child : NULL; c != NULL;
         c = c->next, n++) {
        const char *name = cJSON_GetStringValue(c);
        const size_t at = n == 0 ? 0 : strlen(names);
        if (name != NULL && at + 8 < sizeof names)
            snprintf(names + at, sizeof names - at, "%s'%.40s'", n == 0 ? "" : ", ",
                     name);
    }
    ws_diag_report(warnings, WS_OK, "note",
                   "kpm preserves what the model knows of %s (%llu samples, %llu "
                   "tokens), in the frozen residual, and of nothing else: training "
                   "moves what those inputs use least",
                   names, (unsigned long long)cov->samples,
                   (unsigned long long)cov->tokens);
}

void ws_decompose_warn(const ws_decompose_req *req, ws_decompose_result *r,
                       const ws_cov *cov, ws_diag *warnings)
{
    size_t unclear = 0, zeros = 0;
    const char *first = NULL, *zero = NULL;
    r->energy = r->error = 0.0;
    for (size_t i = 0; i < r->n_layers; i++) {
        const ws_decomposed *d = &r->layers[i];
        r->energy += d->energy / (double)r->n_layers;
        r->error = fmax(r->error, d->error);
        first = first == NULL && d->unclear ? d->name : first;
        zero = zero == NULL && d->zeros > 0 ? d->name : zero;
        unclear += d->unclear;
        zeros += d->zeros > 0;
    }
    if (unclear > 0) {
        ws_err *e = ws_diag_report(warnings, WS_OK, "unclear",
                                   "of %zu matrices the components taken cannot be "
                                   "told from their neighbours: "
                                   "another rank cuts elsewhere",
                                   unclear);
        ws_err_at(e, NULL, first, -1);
    }
    if (zeros > 0) {
        ws_err *e =
            ws_diag_report(warnings, WS_OK, "zeros",
                           "of %zu matrices some components are zero: such rows "
                           "of A and B have no gradient and will not be trained",
                           zeros);
        ws_err_at(e, NULL, zero, -1);
    }
    if (req->method == WS_CORDA && req->split.smallest)
        say_whose(cov, warnings);
}

ws_status ws_decompose_strict(const ws_ctx *ctx, ws_err *err)
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

static ws_status list_outputs(ws_decompose_result *r, const char *out,
                              const ws_manifest *m, const char *manifest,
                              ws_arena *arena, ws_err *err)
{
    const size_t len = strlen(out);
    const char *slash = len > 0 && out[len - 1] == '/' ? "" : "/";
    r->outputs = ws_arena_calloc(arena, m->n_files + 1, sizeof *r->outputs);
    bool ok = r->outputs != NULL;
    for (size_t i = 0; ok && i < m->n_files; i++) {
        const ws_manifest_file *f = &m->files[i];
        const size_t n = len + 1 + strlen(f->path) + 1;
        char *path = ws_arena_alloc(arena, n);
        if ((ok = path != NULL))
            snprintf(path, n, "%s%s%s", out, slash, f->path);
        r->outputs[i] = (ws_out_file){ .path = path, .bytes = f->bytes };
        memcpy(r->outputs[i].sha256, f->sha256, sizeof f->sha256);
        memcpy(r->outputs[i].xxh3, f->xxh3, sizeof f->xxh3);
        r->usage.written_bytes += f->bytes;
        r->n_outputs++;
    }
    if (ok && manifest != NULL)
        ok = (r->manifest = ws_arena_strdup(arena, manifest)) != NULL;
    return ok ? WS_OK : ws_fail(err, WS_E_MEMORY, "no memory for the report");
}

ws_status ws_decompose_show(ws_decompose_result *r, const ws_write_opts *w,
                            ws_stage *stage, ws_pool *pool,
                            const ws_stage_expect *expect, size_t n_expect,
                            const ws_ckpt *a, const ws_ckpt *b, const ws_ctx *ctx,
                            ws_arena *arena, ws_err *err)
{
    const bool none = w->manifest != NULL && strcmp(w->manifest, "none") == 0;
    ws_manifest *m = NULL;
    char *path = NULL;
    ws_status st = ws_stage_sync(stage, err);
    if (st == WS_OK)
        st = ws_stage_check(&m, stage, pool, ctx, expect, n_expect, err);
    if (st == WS_OK && !none) {
        path = w->manifest != NULL ? ws_strdup(w->manifest)
                                   : ws_stage_manifest_path(w->out, true);
        if (path == NULL)
            st = ws_fail(err, WS_E_MEMORY, "no memory for the manifest");
    }
    if (st == WS_OK)
        st = ws_recheck_given(a, b, err);
    if (st == WS_OK)
        st = list_outputs(r, w->out, m, path, arena, err);
    if (st == WS_OK)
        st = ws_stage_commit(stage, m, path, err);
    ws_manifest_free(m);
    ws_free(path);
    return st;
}

void ws_decompose_usage_of(ws_usage *u, double start, int threads)
{
    u->seconds = ws_os_now() - start;
    u->threads = threads;
    u->peak_resident = u->peak_memory = ws_os_memory_peak();
}

ws_status ws_recheck_given(const ws_ckpt *a, const ws_ckpt *b, ws_err *err)
{
    const ws_status st = a == NULL ? WS_OK : ws_ckpt_recheck(a, err);
    return st == WS_OK && b != NULL ? ws_ckpt_recheck(b, err) : st;
}
