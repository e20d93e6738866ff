/*
 * lora_soften.c - intruder dimensions of an adapter scaled down
 *
 *     D' = D + sum_k (lambda - 1) s_k u_k v_k'     D = s B A, k the intruders of W + D
 *
 * D / s and the sum are factors side by side; they are cut to the module's rank through
 * their core, and stored with the module's own scale.
 */
#include <math.h>
#include <string.h>

#include "hf/peft.h"
#include "surgery/intruders.h"
#include "surgery/lora_core.h"
#include "surgery/lora_matrix.h"
#include "surgery/lora_open.h"
#include "surgery/matrices.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"

struct job {
    const ws_lora_soften_req *req;
    ws_ckpt *source;
    const ws_adapter *a;
    ws_adapter_factors *factors; // (n_modules) shapes, no numbers
    ws_lora_softening *done;     // (n_modules)
    ws_adapter_sink *sink;
    ws_arena arena;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to soften an adapter");
}

void ws_lora_softened_free(ws_lora_softened *s)
{
    if (s == NULL)
        return;
    ws_manifest_free(s->files);
    ws_arena arena = s->arena;
    ws_free(s);
    ws_arena_free(&arena);
}

/* ---- one module ---- */

/** The intruders' change of D / s as factors; ws_lora_part_free. */
static ws_status change_make(ws_lora_part *out, const ws_intruders *found, double below,
                             double factor, int64_t m, int64_t n, ws_err *err)
{
    int64_t r = 0;
    for (int64_t k = 0; k < found->k; k++)
        r += found->cosine[k] < below;
    double *A = ws_calloc((size_t)(r * n) + 1, sizeof *A);
    double *B = ws_calloc((size_t)(m * r) + 1, sizeof *B);
    *out = (ws_lora_part){ r, 1.0, A, B };
    if (A == NULL || B == NULL)
        return no_memory(err);
    int64_t at = 0;
    for (int64_t k = 0; k < found->k; k++) {
        if (!(found->cosine[k] < below))
            continue;
        memcpy(A + at * n, found->Vt + k * n, (size_t)n * sizeof *A);
        for (int64_t i = 0; i < m; i++)
            B[i * r + at] = factor * found->s[k] * found->U[k * m + i];
        at++;
    }
    return WS_OK;
}

/** D / s softened, cut to the module's rank. */
static ws_status soften(const struct job *j, size_t i, const ws_lora_part *plain,
                        const ws_intruders *found, ws_lora_sum *out, ws_err *err)
{
    const ws_adapter_module *m = &j->a->modules[i];
    ws_lora_softening *d = &j->done[i];
    ws_lora_part both[2] = { *plain, { 0 } };
    ws_status st = change_make(&both[1], found, j->req->intruders.below,
                               (j->req->lambda - 1.0) / m->scale, m->out, m->in, err);
    d->intruders = (size_t)both[1].r;
    const bool changes = both[1].r > 0 && j->req->lambda != 1.0;
    if (st == WS_OK)
        st = ws_lora_norms(&d->before, NULL, plain, 1, m->out, m->in, err);
    if (st == WS_OK)
        st = changes ? ws_lora_compress(out, both, 2, m->out, m->in, m->r, err)
                     : ws_lora_concat(out, plain, 1, m->out, m->in, err);
    d->before *= fabs(m->scale);
    d->after = sqrt(fmax(out->norm * out->norm - out->error * out->error, 0.0)) *
               fabs(m->scale);
    d->error = out->error > 0 ? out->error / out->norm : 0.0;
    ws_lora_part_free(&both[1]);
    return st;
}

/** The module's factors, softened where it has intruders. */
static ws_status module_make(const struct job *j, size_t i, ws_lora_sum *out,
                             ws_err *err)
{
    const ws_adapter_module *m = &j->a->modules[i];
    ws_lora_matrix matrix;
    ws_intruders found = { 0 };
    ws_lora_part plain;
    ws_status st = ws_lora_part_read(&plain, j->a, m, 1.0, err);
    plain.s = 1.0; // the scale is the configuration's, as before
    const bool is_matrix =
        m->scale != 0.0 && ws_lora_matrix_find(&matrix, j->source, m);
    if (st == WS_OK && is_matrix)
        st = ws_intruders_find(&found, m->out, m->in, j->req->intruders.top,
                               ws_lora_matrix_load, &matrix, err);
    if (st == WS_OK)
        st = is_matrix ? soften(j, i, &plain, &found, out, err)
                       : ws_lora_concat(out, &plain, 1, m->out, m->in, err);
    ws_intruders_free(&found);
    ws_lora_part_free(&plain);
    return st;
}

static ws_status run_one(void *arg, size_t i, ws_err *err)
{
    struct job *j = arg;
    ws_lora_sum sum = { 0 };
    ws_lora_stored stored = { 0 };
    ws_status st = module_make(j, i, &sum, err);
    if (st == WS_OK && sum.r != j->factors[i].r)
        st = ws_fail(err, WS_E_INTERNAL, "a module's rank is not as planned");
    if (st == WS_OK)
        st = ws_lora_store(&stored, &sum, j->req->dtype, err);
    if (st == WS_OK)
        st = ws_adapter_sink_put(j->sink, i, stored.A, stored.B, NULL, err);
    if (st != WS_OK)
        ws_err_at(err, j->req->adapter, j->a->modules[i].path, -1);
    ws_lora_stored_free(&stored);
    ws_lora_sum_free(&sum);
    return st;
}

static uint64_t bytes_of(const void *arg, size_t i)
{
    const struct job *j = arg;
    return (uint64_t)j->a->modules[i].in * (uint64_t)j->a->modules[i].out;
}

/** Shapes of the result, which are the adapter's. */
static ws_status modules_plan(struct job *j, ws_err *err)
{
    const size_t n = j->a->n_modules;
    j->factors = ws_arena_calloc(&j->arena, n + 1, sizeof *j->factors);
    j->done = ws_arena_calloc(&j->arena, n + 1, sizeof *j->done);
    if (j->factors == NULL || j->done == NULL)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const ws_adapter_module *m = &j->a->modules[i];
        j->done[i].name = m->path;
        j->done[i].rank = m->r;
        j->factors[i] = (ws_adapter_factors){ .path = m->path,
                                              .embedding = m->embedding,
                                              .r = m->r,
                                              .in = m->in,
                                              .out = m->out,
                                              .alpha = m->alpha };
    }
    return WS_OK;
}

static ws_status run_all(struct job *j, const ws_ctx *ctx, ws_err *err)
{
    const int64_t top = j->req->intruders.top;
    uint64_t most = 0;
    ws_pool *pool = NULL;
    for (size_t i = 0; i < j->a->n_modules; i++) {
        const ws_adapter_module *m = &j->a->modules[i];
        const int64_t q = m->in < m->out ? m->in : m->out, k = top < q ? top : q;
        uint64_t bytes = ws_lora_core_bytes(m->r + k, m->out, m->in);
        if (!m->embedding)
            bytes += ws_intruders_bytes(m->out, m->in, k);
        most = bytes > most ? bytes : most;
    }
    ws_status st = ws_matrices_pool(&pool, "softening the adapter", most, ctx, err);
    const ws_matrices work = { j->a->n_modules, "soften", run_one, bytes_of, j };
    if (st == WS_OK)
        st = ws_matrices_run(&work, pool, ctx, err);
    ws_pool_free(pool);
    return st;
}

/* ---- the whole adapter ---- */

static ws_status provenance(const struct job *j, ws_buf *recipe, ws_buf *inputs,
                            const ws_ctx *ctx, ws_err *err)
{
    const ws_lora_soften_req *q = j->req;
    char digest[48];
    ws_buf_printf(recipe,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"lora soften\","
                  "\"lambda\":%.17g,\"top\":%lld,\"below\":%.17g}",
                  q->lambda, (long long)q->intruders.top, q->intruders.below);
    const ws_ckpt *base = ws_source_base(j->source);
    ws_status st = ws_ckpt_digest_text(base, ctx, digest, err);
    if (st == WS_OK) {
        ws_tv_input_add(inputs, "base", ws_ckpt_label(base), digest);
        st = ws_ckpt_digest_text(j->a->file, ctx, digest, err);
    }
    if (st == WS_OK)
        ws_tv_input_add(inputs, "adapter", j->a->label, digest);
    ws_buf_putc(inputs, ']');
    return st == WS_OK && (recipe->failed || inputs->failed) ? no_memory(err) : st;
}

static ws_status write_all(struct job *j, const ws_ctx *ctx, ws_manifest **files,
                           ws_err *err)
{
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_adapter_copy *copies = NULL;
    size_t n_copies = 0;
    ws_status st = ws_lora_copies(&copies, &n_copies, j->a, &j->arena, err);
    if (st == WS_OK && !j->req->target.no_provenance)
        st = provenance(j, &recipe, &inputs, ctx, err);
    const ws_adapter_spec spec = { .modules = j->factors,
                                   .n_modules = j->a->n_modules,
                                   .copies = copies,
                                   .n_copies = n_copies,
                                   .dtype = j->req->dtype,
                                   .rslora = j->a->rslora,
                                   .base = j->a->base,
                                   .task = j->a->task,
                                   .content = j->a->content,
                                   .residual = j->a->residual,
                                   .recipe = recipe.p,
                                   .inputs = inputs.p };
    if (st == WS_OK)
        st = ws_adapter_sink_create(&j->sink, &spec, &j->req->target, ctx, err);
    if (st == WS_OK)
        st = run_all(j, ctx, err);
    if (st == WS_OK)
        st = ws_adapter_sink_show(j->sink, ctx, files, err);
    ws_adapter_sink_close(j->sink);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

/** What was found, in memory of the result. */
static ws_status report(const struct job *j, ws_lora_softened *out, ws_err *err)
{
    out->modules = j->a->n_modules;
    out->changed =
        ws_arena_calloc(&out->arena, j->a->n_modules + 1, sizeof *out->changed);
    if (out->changed == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->a->n_modules; i++) {
        if (j->done[i].intruders == 0)
            continue;
        ws_lora_softening *to = &out->changed[out->n_changed++];
        *to = j->done[i];
        to->name = ws_arena_strdup(&out->arena, to->name);
        if (to->name == NULL)
            return no_memory(err);
        out->intruders += to->intruders;
    }
    return WS_OK;
}

ws_status ws_lora_soften(ws_lora_softened **out, const ws_lora_soften_req *req,
                         const ws_ctx *ctx, ws_err *err)
{
    struct job j = { .req = req };
    ws_fold_opts o = WS_FOLD_OPTS_INIT;
    ws_lora_softened *s = ws_calloc(1, sizeof *s);
    if (s == NULL)
        return no_memory(err);
    o.dtype = WS_FOLD_F64;
    o.residual = req->residual;
    ws_status st = ws_lora_open(&j.source, req->base, &req->adapter, 1, &o, ctx, err);
    if (st == WS_OK) {
        j.a = ws_source_adapter(j.source, 0);
        st = ws_lora_check_factors(j.a, err);
    }
    if (st == WS_OK)
        st = modules_plan(&j, err);
    if (st == WS_OK)
        st = write_all(&j, ctx, &s->files, err);
    if (st == WS_OK)
        st = report(&j, s, err);
    ws_arena_free(&j.arena);
    ws_ckpt_free(j.source);
    if (st == WS_OK)
        *out = s;
    else
        ws_lora_softened_free(s);
    return st;
}
