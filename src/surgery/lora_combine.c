/*
 * lora_combine.c - adapters into one: sums of updates, exact or cut; methods in aligned
 * coordinates; a trained adapter less its initial one
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hf/peft.h"
#include "surgery/lora_core.h"
#include "surgery/lora_open.h"
#include "surgery/matrices.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"

/** Everything that is open. */
struct combine {
    const ws_lora_combine_req *req;
    const ws_ctx *ctx;
    ws_adapter **adapters; // (n): with .initial the last one
    double *weights;       // (n)
    size_t n;
    ws_adapter_factors *factors; // (n_modules) by path; shapes, no numbers
    size_t n_modules;
    uint64_t most; // bytes that the largest module takes
    ws_adapter_sink *sink;
    ws_lora_combined *out;
    ws_arena arena;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for adapters");
}

static ws_status refuse(const ws_adapter *a, ws_status st, const char *what,
                        const char *hint, ws_err *err)
{
    ws_fail(err, st, "%s", what);
    if (hint != NULL)
        ws_err_hint(err, "%s", hint);
    return ws_err_at(err, a->path, NULL, -1), st;
}

/* ---- what can be combined ---- */

static ws_status adapter_check(const struct combine *c, const ws_adapter *a,
                               ws_err *err)
{
    const ws_status st = ws_lora_check_factors(a, err);
    if (st != WS_OK)
        return st;
    if (a->changed_base && a->residual == NULL && c->req->initial == NULL)
        return refuse(a, WS_E_ANCESTRY, "it holds a part of the base it was trained on",
                      "wsurg lora convert ADAPTER --initial ADAPTER0 first", err);
    return WS_OK;
}

/** Adapters of residuals add only on one residual. An initial adapter may have lost, or
 * the trained one, what is recorded: other tools do not write it. */
static ws_status bases_check(const struct combine *c, ws_err *err)
{
    const char *first = c->adapters[0]->residual;
    for (size_t k = 1; k < c->n; k++) {
        const char *other = c->adapters[k]->residual;
        const bool both = first != NULL && other != NULL;
        if (both ? strcmp(first, other) != 0
                 : first != other && c->req->initial == NULL)
            return refuse(c->adapters[k], WS_E_ANCESTRY,
                          "it belongs on another residual than the first", NULL, err);
    }
    return WS_OK;
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* ---- what comes of it ---- */

/** Module @p path in the adapters that have it: how many. @p of and @p parts (n); ranks
 * and scales alone are set, and shapes are checked. */
static ws_status module_find(const struct combine *c, const char *path, size_t *of,
                             ws_lora_part *parts, size_t *n, ws_err *err)
{
    const ws_adapter_module *first = NULL;
    *n = 0;
    for (size_t k = 0; k < c->n; k++) {
        const ws_adapter_module *m = ws_adapter_find(c->adapters[k], path);
        if (m == NULL && c->req->initial != NULL)
            return refuse(
                c->adapters[k], WS_E_MISSING,
                "the trained and the initial adapter have not the same modules", NULL,
                err);
        if (m == NULL)
            continue;
        first = first == NULL ? m : first;
        if (first->embedding != m->embedding || first->in != m->in ||
            first->out != m->out) {
            ws_fail(err, WS_E_SHAPE,
                    "module '%s' is of %lld to %lld, elsewhere %lld to %lld", path,
                    (long long)m->in, (long long)m->out, (long long)first->in,
                    (long long)first->out);
            return ws_err_at(err, c->adapters[k]->path, NULL, -1), WS_E_SHAPE;
        }
        if (c->req->peft_linear && first->r != m->r) {
            ws_fail(err, WS_E_SHAPE, "module '%s': summed factors need equal ranks",
                    path);
            return ws_err_at(err, c->adapters[k]->path, NULL, -1), WS_E_SHAPE;
        }
        of[*n] = k;
        parts[(*n)++] = (ws_lora_part){ .r = m->r, .s = c->weights[k] * m->scale };
    }
    return WS_OK;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/** Shape and scale of one module of the result, and the memory that it takes. */
static ws_status module_plan(struct combine *c, const char *path, size_t *of,
                             ws_lora_part *parts, ws_err *err)
{
    const ws_lora_combine_req *q = c->req;
    ws_adapter_factors *f = &c->factors[c->n_modules++];
    size_t n;
    const ws_status st = module_find(c, path, of, parts, &n, err);
    if (st != WS_OK)
        return st;
    const ws_adapter_module *m = ws_adapter_find(c->adapters[of[0]], path);
    int64_t R = 0;
    for (size_t k = 0; k < n; k++)
        R += parts[k].r;
    const bool aligned = q->method != WS_LORA_LINEAR;
    const bool exact = !q->peft_linear && !aligned && q->rank == 0;
    const int64_t cut = q->rank > 0 ? q->rank : INT64_MAX;
    f->path = path;
    f->embedding = m->embedding;
    f->in = m->in;
    f->out = m->out;
    f->r = q->peft_linear ? m->r
           : exact        ? R
                          : least(least(cut, R), least(m->in, m->out));
    f->alpha = exact ? ws_lora_concat_alpha(parts, n) : (double)f->r;
    const uint64_t bytes = ws_lora_core_bytes(R, m->out, m->in) +
                           (aligned ? ws_lora_align_bytes(n, R, m->out, m->in) : 0);
    c->most = bytes > c->most ? bytes : c->most;
    return WS_OK;
}

/** All modules of all adapters, each once, as they will be. */
static ws_status modules_plan(struct combine *c, ws_err *err)
{
    size_t most = 0, n = 0;
    for (size_t k = 0; k < c->n; k++)
        most += c->adapters[k]->n_modules;
    const char **paths = ws_arena_calloc(&c->arena, most + 1, sizeof *paths);
    size_t *of = ws_arena_calloc(&c->arena, c->n, sizeof *of);
    ws_lora_part *parts = ws_arena_calloc(&c->arena, c->n, sizeof *parts);
    c->factors = ws_arena_calloc(&c->arena, most + 1, sizeof *c->factors);
    c->out->modules =
        ws_arena_calloc(&c->out->arena, most + 1, sizeof *c->out->modules);
    if (paths == NULL || of == NULL || parts == NULL || c->factors == NULL ||
        c->out->modules == NULL)
        return no_memory(err);
    for (size_t k = 0; k < c->n; k++)
        for (size_t i = 0; i < c->adapters[k]->n_modules; i++)
            paths[n++] = c->adapters[k]->modules[i].path;
    qsort((void *)paths, n, sizeof *paths, compare_text);
    ws_status st = WS_OK;
    for (size_t i = 0; i < n && st == WS_OK; i++)
        if (i == 0 || strcmp(paths[i], paths[i - 1]) != 0)
            st = module_plan(c, paths[i], of, parts, err);
    return st;
}

/* ---- one module ---- */

/** A module's updates in memory. */
struct parts {
    ws_lora_part *part; // (n)
    double *weight;     // (n) of them
    size_t n;
};

static void parts_free(struct parts *p)
{
    for (size_t i = 0; i < p->n; i++)
        ws_lora_part_free(&p->part[i]);
    ws_free(p->part);
    ws_free(p->weight);
}

static ws_status parts_read(const struct combine *c, const char *path, struct parts *p,
                            ws_err *err)
{
    *p = (struct parts){ ws_calloc(c->n, sizeof *p->part),
                         ws_calloc(c->n, sizeof *p->weight), 0 };
    ws_status st = p->part == NULL || p->weight == NULL ? no_memory(err) : WS_OK;
    for (size_t k = 0; k < c->n && st == WS_OK; k++) {
        const ws_adapter_module *m = ws_adapter_find(c->adapters[k], path);
        if (m == NULL)
            continue;
        p->weight[p->n] = c->weights[k];
        st = ws_lora_part_read(&p->part[p->n++], c->adapters[k], m, 1.0, err);
    }
    return st;
}

/** PEFT's "linear": sums of factors, each by the root of its weight and scale. */
static ws_status factors_sum(ws_lora_sum *out, const struct parts *p, int64_t m,
                             int64_t n, ws_err *err)
{
    const int64_t r = p->part[0].r;
    *out = (ws_lora_sum){ .m = m, .n = n, .r = r, .alpha = (double)r, .norm = NAN };
    out->A = ws_calloc((size_t)(r * n), sizeof *out->A);
    out->B = ws_calloc((size_t)(m * r), sizeof *out->B);
    if (out->A == NULL || out->B == NULL)
        return no_memory(err);
    for (size_t k = 0; k < p->n; k++) {
        const double s = p->weight[k] * p->part[k].s, root = sqrt(fabs(s));
        for (int64_t i = 0; i < r * n; i++)
            out->A[i] += (s < 0 ? -root : root) * p->part[k].A[i];
        for (int64_t i = 0; i < m * r; i++)
            out->B[i] += root * p->part[k].B[i];
    }
    return WS_OK;
}

static ws_status parts_combine(const struct combine *c, const ws_adapter_factors *f,
                               struct parts *p, ws_lora_sum *sum, ws_err *err)
{
    const ws_lora_combine_req *q = c->req;
    const int64_t m = f->out, n = f->in;
    if (q->peft_linear)
        return factors_sum(sum, p, m, n, err);
    if (q->method != WS_LORA_LINEAR) {
        const bool crumbs = q->method == WS_LORA_BREADCRUMBS;
        const double usual = crumbs ? 0.15 : q->method == WS_LORA_DARE ? 0.1 : 0.2;
        const ws_lora_merge how = { q->method, isnan(q->density) ? usual : q->density,
                                    isnan(q->gamma) ? 0.006 : q->gamma, q->seed,
                                    f->path };
        return ws_lora_align(sum, p->part, p->weight, p->n, m, n, f->r, &how, err);
    }
    for (size_t k = 0; k < p->n; k++)
        p->part[k].s *= p->weight[k];
    return q->rank > 0 ? ws_lora_compress(sum, p->part, p->n, m, n, f->r, err)
                       : ws_lora_concat(sum, p->part, p->n, m, n, err);
}

static ws_status module_combine(void *arg, size_t i, ws_err *err)
{
    struct combine *c = arg;
    const ws_adapter_factors *f = &c->factors[i];
    struct parts p;
    ws_lora_sum sum = { 0 };
    ws_lora_stored stored = { 0 };
    ws_status st = parts_read(c, f->path, &p, err);
    if (st == WS_OK)
        st = parts_combine(c, f, &p, &sum, err);
    parts_free(&p);
    if (st == WS_OK && (sum.r != f->r || sum.alpha != f->alpha))
        st = ws_fail(err, WS_E_INTERNAL, "module '%s' is not as planned", f->path);
    if (st == WS_OK)
        st = ws_lora_store(&stored, &sum, c->req->dtype, err);
    if (st == WS_OK)
        st = ws_adapter_sink_put(c->sink, i, stored.A, stored.B, NULL, err);
    ws_lora_module *to = &c->out->modules[i];
    to->rank = f->r;
    to->norm = sum.norm;
    to->error = sum.error > 0 ? sum.error / sum.norm : 0.0;
    to->rounding = stored.rounding > 0 ? stored.rounding / sum.norm : 0.0;
    ws_lora_stored_free(&stored);
    ws_lora_sum_free(&sum);
    return st;
}

static uint64_t module_bytes(const void *arg, size_t i)
{
    const struct combine *c = arg;
    const ws_adapter_factors *f = &c->factors[i];
    return (uint64_t)f->r * (uint64_t)(f->in + f->out) * sizeof(float);
}

/* ---- the whole adapter ---- */

/** Tensors that replace the base's: of one adapter only. */
static ws_status copies_gather(const struct combine *c, ws_adapter_copy **out,
                               size_t *n, ws_arena *arena, ws_err *err)
{
    const ws_adapter *of = NULL;
    const size_t most = c->req->initial != NULL ? 1 : c->n; // the initial one's are old
    *n = 0;
    for (size_t k = 0; k < most; k++) {
        const ws_adapter *a = c->adapters[k];
        if (a->n_wholes == 0)
            continue;
        if (of != NULL)
            return refuse(a, WS_E_UNSUPPORTED,
                          "a second adapter replaces tensors of the base whole",
                          "wsurg lora fold makes models of them, wsurg merge merges "
                          "those",
                          err);
        of = a;
        const ws_status st = ws_lora_copies(out, n, a, arena, err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

static ws_status provenance(const struct combine *c, ws_buf *recipe, ws_buf *inputs,
                            ws_err *err)
{
    static const char *const words[] = { "linear", "ties", "dare", "breadcrumbs" };
    const ws_lora_combine_req *q = c->req;
    ws_buf_printf(recipe, "{\"schema\":\"wsurg-recipe/1\",\"command\":\"lora %s\"",
                  q->initial != NULL ? "convert" : "combine");
    ws_buf_printf(recipe, ",\"method\":\"%s\",\"rank\":%lld,\"weights\":[",
                  q->peft_linear ? "peft-linear" : words[q->method],
                  (long long)q->rank);
    for (size_t k = 0; k < c->n; k++)
        ws_buf_printf(recipe, "%s%.17g", k == 0 ? "" : ",", c->weights[k]);
    ws_buf_puts(recipe, "]");
    if (q->method != WS_LORA_LINEAR && !isnan(q->density))
        ws_buf_printf(recipe, ",\"density\":%.17g", q->density);
    if (q->method == WS_LORA_BREADCRUMBS && !isnan(q->gamma))
        ws_buf_printf(recipe, ",\"gamma\":%.17g", q->gamma);
    if (q->method == WS_LORA_DARE)
        ws_buf_printf(recipe, ",\"seed\":%llu", (unsigned long long)q->seed);
    ws_buf_puts(recipe, "}");
    ws_status st = WS_OK;
    for (size_t k = 0; k < c->n && st == WS_OK; k++) {
        char digest[48];
        st = ws_ckpt_digest_text(c->adapters[k]->file, c->ctx, digest, err);
        if (st == WS_OK)
            ws_tv_input_add(inputs, "adapter", c->adapters[k]->label, digest);
    }
    ws_buf_putc(inputs, ']');
    return st == WS_OK && (recipe->failed || inputs->failed) ? no_memory(err) : st;
}

/** What all adapters say alike, or NULL. */
static const char *common(const struct combine *c, const char *first,
                          const char *(*get)(const ws_adapter *))
{
    for (size_t k = 1; k < c->n && first != NULL; k++) {
        const char *other = get(c->adapters[k]);
        if (other == NULL || strcmp(first, other) != 0)
            first = NULL;
    }
    return first;
}

static const char *get_base(const ws_adapter *a)
{
    return a->base;
}

static const char *get_content(const ws_adapter *a)
{
    return a->content;
}

static ws_status modules_run(struct combine *c, ws_err *err)
{
    const ws_matrices work = { c->n_modules, "combine", module_combine, module_bytes,
                               c };
    ws_pool *pool = NULL;
    ws_status st = ws_matrices_pool(&pool, "combining adapters", c->most, c->ctx, err);
    if (st == WS_OK)
        st = ws_matrices_run(&work, pool, c->ctx, err);
    ws_pool_free(pool);
    for (size_t i = 0; i < c->n_modules && st == WS_OK; i++) {
        ws_lora_module *to = &c->out->modules[c->out->n_modules++];
        to->name = ws_arena_strdup(&c->out->arena, c->factors[i].path);
        if (to->name == NULL)
            st = no_memory(err);
    }
    return st;
}

static ws_status write_all(struct combine *c, ws_err *err)
{
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_adapter_copy *copies = NULL;
    size_t n_copies = 0;
    const ws_lora_combine_req *q = c->req;
    ws_status st = copies_gather(c, &copies, &n_copies, &c->arena, err);
    if (st == WS_OK && !q->target.no_provenance)
        st = provenance(c, &recipe, &inputs, err);
    const ws_adapter *first = c->adapters[0];
    const bool plain = q->initial != NULL; // of the original, whose name is not known
    const ws_adapter_spec spec = {
        .modules = c->factors,
        .n_modules = c->n_modules,
        .copies = copies,
        .n_copies = n_copies,
        .dtype = q->dtype,
        .base =
            plain && first->residual != NULL ? NULL : common(c, first->base, get_base),
        .task = first->task,
        .content = plain ? NULL : common(c, first->content, get_content),
        .residual = plain ? NULL : first->residual,
        .recipe = recipe.p,
        .inputs = inputs.p,
    };
    if (st == WS_OK)
        st = ws_adapter_sink_create(&c->sink, &spec, &q->target, c->ctx, err);
    if (st == WS_OK)
        st = modules_run(c, err);
    if (st == WS_OK)
        st = ws_adapter_sink_show(c->sink, c->ctx, &c->out->files, err);
    ws_adapter_sink_close(c->sink);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

/** Norm of what is lost of all modules over the norm of all; NAN unknown. */
static double lost_share(const ws_lora_combined *c, bool rounding)
{
    double all = 0, lost = 0;
    for (size_t i = 0; i < c->n_modules; i++) {
        const ws_lora_module *m = &c->modules[i];
        const double one = m->norm * (rounding ? m->rounding : m->error);
        all += m->norm * m->norm;
        lost += one * one;
    }
    return lost == 0 ? 0.0 : sqrt(lost / all);
}

static void figures_sum(ws_lora_combined *out)
{
    for (size_t i = 0; i < out->n_modules; i++)
        out->rank = out->modules[i].rank > out->rank ? out->modules[i].rank : out->rank;
    out->error = lost_share(out, false);
    out->rounding = lost_share(out, true);
}

static ws_status open_all(struct combine *c, ws_err *err)
{
    const ws_lora_combine_req *q = c->req;
    const ws_ctx *ctx = c->ctx;
    c->n = q->n + (q->initial != NULL);
    c->adapters = ws_arena_calloc(&c->arena, c->n + 1, sizeof *c->adapters);
    c->weights = ws_arena_calloc(&c->arena, c->n + 1, sizeof *c->weights);
    if (c->adapters == NULL || c->weights == NULL)
        return no_memory(err);
    for (size_t k = 0; k < c->n; k++)
        c->weights[k] = k == q->n ? -1.0 : q->weights != NULL ? q->weights[k] : 1.0;
    ws_status st = ws_lora_open_adapters(c->adapters, q->adapters, q->n, ctx, err);
    if (st == WS_OK && q->initial != NULL)
        st = ws_lora_open_adapters(c->adapters + q->n, &q->initial, 1, ctx, err);
    for (size_t k = 0; k < c->n && st == WS_OK; k++)
        st = adapter_check(c, c->adapters[k], err);
    if (st == WS_OK)
        st = bases_check(c, err);
    return st == WS_OK ? modules_plan(c, err) : st;
}

ws_status ws_lora_combine(ws_lora_combined **out, const ws_lora_combine_req *req,
                          const ws_ctx *ctx, ws_err *err)
{
    struct combine c = { .req = req, .ctx = ctx };
    c.out = ws_calloc(1, sizeof *c.out);
    ws_status st = c.out == NULL ? no_memory(err) : open_all(&c, err);
    if (st == WS_OK)
        st = write_all(&c, err);
    for (size_t k = 0; c.adapters != NULL && k < c.n; k++)
        ws_adapter_free(c.adapters[k]);
    ws_arena_free(&c.arena);
    if (st == WS_OK) {
        figures_sum(c.out);
        *out = c.out;
    } else {
        ws_lora_combined_free(c.out);
    }
    return st;
}

void ws_lora_combined_free(ws_lora_combined *c)
{
    if (c == NULL)
        return;
    ws_manifest_free(c->files);
    ws_arena arena = c->arena;
    ws_free(c);
    ws_arena_free(&arena);
}
