/*
 * lora_combine.c - adapters into one: sums of updates, exact or cut; methods in aligned
 * coordinates; a trained adapter less its initial one
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "surgery/lora_core.h"
#include "surgery/lora_open.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"

/** Everything that is open. */
struct combine {
    const ws_lora_combine_req *req;
    ws_adapter **adapters; // (n): with .initial the last one
    double *weights;       // (n)
    size_t n;
    const char **paths; // (n_paths) modules, sorted
    size_t n_paths;
    ws_lora_sum *sums;           // (n_paths)
    ws_adapter_factors *factors; // (n_paths)
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

/** Adapters of residuals add only on one residual. */
static ws_status bases_check(const struct combine *c, ws_err *err)
{
    const char *first = c->adapters[0]->residual;
    for (size_t k = 1; k < c->n; k++) {
        const char *other = c->adapters[k]->residual;
        if ((first == NULL) != (other == NULL) ||
            (first != NULL && strcmp(first, other) != 0))
            return refuse(c->adapters[k], WS_E_ANCESTRY,
                          "it belongs on another residual than the first", NULL, err);
    }
    return WS_OK;
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** All modules of all adapters, each once. */
static ws_status paths_gather(struct combine *c, ws_err *err)
{
    size_t most = 0, n = 0;
    for (size_t k = 0; k < c->n; k++)
        most += c->adapters[k]->n_modules;
    c->paths = ws_arena_calloc(&c->arena, most + 1, sizeof *c->paths);
    c->sums = ws_arena_calloc(&c->arena, most + 1, sizeof *c->sums);
    c->factors = ws_arena_calloc(&c->arena, most + 1, sizeof *c->factors);
    if (c->paths == NULL || c->sums == NULL || c->factors == NULL)
        return no_memory(err);
    for (size_t k = 0; k < c->n; k++)
        for (size_t i = 0; i < c->adapters[k]->n_modules; i++)
            c->paths[n++] = c->adapters[k]->modules[i].path;
    qsort((void *)c->paths, n, sizeof *c->paths, compare_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(c->paths[i], c->paths[c->n_paths - 1]) != 0)
            c->paths[c->n_paths++] = c->paths[i];
    return WS_OK;
}

/* ---- one module ---- */

/** A module's updates in memory. */
struct parts {
    ws_lora_part *part; // (n)
    double *weight;     // (n) of them
    size_t n;
    const ws_adapter_module *first;
};

static void parts_free(struct parts *p)
{
    for (size_t i = 0; i < p->n; i++)
        ws_lora_part_free(&p->part[i]);
    ws_free(p->part);
    ws_free(p->weight);
}

static ws_status part_read(struct parts *p, const ws_adapter *a,
                           const ws_adapter_module *m, double weight, ws_err *err)
{
    const ws_adapter_module *f = p->first;
    if (f != NULL &&
        (f->embedding != m->embedding || f->in != m->in || f->out != m->out)) {
        ws_fail(err, WS_E_SHAPE,
                "module '%s' is of %lld to %lld, elsewhere %lld to %lld", m->path,
                (long long)m->in, (long long)m->out, (long long)f->in,
                (long long)f->out);
        return ws_err_at(err, a->path, NULL, -1), WS_E_SHAPE;
    }
    p->first = m;
    p->weight[p->n] = weight;
    return ws_lora_part_read(&p->part[p->n++], a, m, 1.0, err);
}

static ws_status parts_read(const struct combine *c, const char *path, struct parts *p,
                            ws_err *err)
{
    *p = (struct parts){ ws_calloc(c->n, sizeof *p->part),
                         ws_calloc(c->n, sizeof *p->weight), 0, NULL };
    ws_status st = p->part == NULL || p->weight == NULL ? no_memory(err) : WS_OK;
    for (size_t k = 0; k < c->n && st == WS_OK; k++) {
        const ws_adapter_module *m = ws_adapter_find(c->adapters[k], path);
        if (m != NULL)
            st = part_read(p, c->adapters[k], m, c->weights[k], err);
        else if (c->req->initial != NULL)
            st = refuse(c->adapters[k], WS_E_MISSING,
                        "the trained and the initial adapter have not the same modules",
                        NULL, err);
    }
    return st;
}

/** PEFT's "linear": sums of factors, each by the root of its weight and scale. */
static ws_status factors_sum(ws_lora_sum *out, const struct parts *p, ws_err *err)
{
    const int64_t m = p->first->out, n = p->first->in, r = p->part[0].r;
    *out = (ws_lora_sum){ .m = m, .n = n, .r = r, .alpha = (double)r, .norm = NAN };
    out->A = ws_calloc((size_t)(r * n), sizeof *out->A);
    out->B = ws_calloc((size_t)(m * r), sizeof *out->B);
    double *A = ws_calloc((size_t)(r * n), sizeof *A);
    double *B = ws_calloc((size_t)(m * r), sizeof *B);
    ws_status st = out->A == NULL || out->B == NULL || A == NULL || B == NULL
                       ? no_memory(err)
                       : WS_OK;
    for (size_t k = 0; k < p->n && st == WS_OK; k++) {
        const double s = p->weight[k] * p->part[k].s, root = sqrt(fabs(s));
        if (p->part[k].r != r)
            st =
                ws_fail(err, WS_E_SHAPE, "module '%s': summed factors need equal ranks",
                        p->first->path);
        for (int64_t i = 0; st == WS_OK && i < r * n; i++)
            A[i] += (s < 0 ? -root : root) * p->part[k].A[i];
        for (int64_t i = 0; st == WS_OK && i < m * r; i++)
            B[i] += root * p->part[k].B[i];
    }
    for (int64_t i = 0; st == WS_OK && i < r * n; i++)
        out->A[i] = (float)A[i];
    for (int64_t i = 0; st == WS_OK && i < m * r; i++)
        out->B[i] = (float)B[i];
    ws_free(A);
    ws_free(B);
    return st;
}

static ws_status parts_combine(const struct combine *c, const char *path,
                               struct parts *p, ws_lora_sum *sum, ws_err *err)
{
    const ws_lora_combine_req *q = c->req;
    const int64_t m = p->first->out, n = p->first->in;
    const int64_t rank = q->rank > 0 ? q->rank : INT64_MAX;
    if (q->peft_linear)
        return factors_sum(sum, p, err);
    if (q->method != WS_LORA_LINEAR) {
        const bool crumbs = q->method == WS_LORA_BREADCRUMBS;
        const double usual = crumbs ? 0.15 : q->method == WS_LORA_DARE ? 0.1 : 0.2;
        const ws_lora_merge how = { q->method, isnan(q->density) ? usual : q->density,
                                    isnan(q->gamma) ? 0.006 : q->gamma, q->seed, path };
        return ws_lora_align(sum, p->part, p->weight, p->n, m, n, rank, &how, err);
    }
    for (size_t k = 0; k < p->n; k++)
        p->part[k].s *= p->weight[k];
    return q->rank > 0 ? ws_lora_compress(sum, p->part, p->n, m, n, rank, err)
                       : ws_lora_concat(sum, p->part, p->n, m, n, err);
}

static ws_status module_combine(struct combine *c, size_t i, ws_err *err)
{
    struct parts p;
    ws_lora_sum *sum = &c->sums[i];
    ws_status st = parts_read(c, c->paths[i], &p, err);
    if (st == WS_OK && p.first == NULL) // the path came from one of them
        st = ws_fail(err, WS_E_INTERNAL, "no adapter has module '%s'", c->paths[i]);
    if (st == WS_OK && p.first != NULL)
        st = parts_combine(c, c->paths[i], &p, sum, err);
    if (st == WS_OK && p.first != NULL) {
        c->factors[i] = (ws_adapter_factors){ .path = c->paths[i],
                                              .embedding = p.first->embedding,
                                              .r = sum->r,
                                              .in = sum->n,
                                              .out = sum->m,
                                              .alpha = sum->alpha,
                                              .a = sum->A,
                                              .b = sum->B };
        ws_lora_module *to = &c->out->modules[c->out->n_modules++];
        to->name = ws_arena_strdup(&c->out->arena, c->paths[i]);
        to->rank = sum->r;
        to->norm = sum->norm;
        to->error = sum->norm > 0 ? sum->error / sum->norm : 0.0;
        if (to->name == NULL)
            st = no_memory(err);
    }
    parts_free(&p);
    return st;
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
                            const ws_ctx *ctx, ws_err *err)
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
        st = ws_ckpt_digest_text(c->adapters[k]->file, ctx, digest, err);
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

static ws_status write_all(struct combine *c, const ws_ctx *ctx, ws_err *err)
{
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_adapter_copy *copies = NULL;
    size_t n_copies = 0;
    const ws_lora_combine_req *q = c->req;
    ws_status st = copies_gather(c, &copies, &n_copies, &c->arena, err);
    if (st == WS_OK && !q->target.no_provenance)
        st = provenance(c, &recipe, &inputs, ctx, err);
    const ws_adapter *first = c->adapters[0];
    const ws_adapter_spec spec = {
        .modules = c->factors,
        .n_modules = c->n_paths,
        .copies = copies,
        .n_copies = n_copies,
        .dtype = q->dtype,
        .base = common(c, first->base, get_base),
        .task = first->task,
        .content = q->initial == NULL ? common(c, first->content, get_content) : NULL,
        .residual = q->initial == NULL ? first->residual : NULL,
        .recipe = recipe.p,
        .inputs = inputs.p,
    };
    if (st == WS_OK)
        st = ws_adapter_write(&spec, &q->target, ctx, &c->out->files, err);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

static void figures_sum(ws_lora_combined *out)
{
    double all = 0, rest = 0;
    for (size_t i = 0; i < out->n_modules; i++) {
        const ws_lora_module *m = &out->modules[i];
        out->rank = m->rank > out->rank ? m->rank : out->rank;
        all += m->norm * m->norm;
        rest += m->norm * m->error * m->norm * m->error;
    }
    out->error = all > 0 ? sqrt(rest / all) : NAN;
}

static ws_status open_all(struct combine *c, const ws_ctx *ctx, ws_err *err)
{
    const ws_lora_combine_req *q = c->req;
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
    if (st == WS_OK && q->initial == NULL)
        st = bases_check(c, err);
    return st == WS_OK ? paths_gather(c, err) : st;
}

ws_status ws_lora_combine(ws_lora_combined **out, const ws_lora_combine_req *req,
                          const ws_ctx *ctx, ws_err *err)
{
    struct combine c = { .req = req };
    c.out = ws_calloc(1, sizeof *c.out);
    ws_status st = c.out == NULL ? no_memory(err) : open_all(&c, ctx, err);
    if (st == WS_OK) {
        c.out->modules =
            ws_arena_calloc(&c.out->arena, c.n_paths + 1, sizeof *c.out->modules);
        st = c.out->modules == NULL ? no_memory(err) : WS_OK;
    }
    for (size_t i = 0; i < c.n_paths && st == WS_OK; i++)
        st = module_combine(&c, i, err);
    if (st == WS_OK)
        st = write_all(&c, ctx, err);
    for (size_t i = 0; c.sums != NULL && i < c.n_paths; i++)
        ws_lora_sum_free(&c.sums[i]);
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
