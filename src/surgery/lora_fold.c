/*
 * lora_fold.c - adapters folded into their base: one model
 *
 *     W' = round(W + sum_k s_k B_k A_k)      sums in double, one rounding
 *
 * The adapted base is a checkpoint like any other; the engine copies it. With a gate on
 * rounding a first pass over the adapted tensors measures what would get lost.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "surgery/lora_open.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"
#include "wsurg/lora.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for the result");
}

void ws_lora_folded_free(ws_lora_folded *f)
{
    if (f == NULL)
        return;
    ws_result_free(f->run);
    ws_arena arena = f->arena;
    ws_free(f);
    ws_arena_free(&arena);
}

static ws_dtype dtype_of(void *source, const ws_tensor *t)
{
    return ws_source_is_adapted(source) && t->file != WS_NO_FILE
               ? ws_source_figures_of(source, t).dtype
               : t->dtype;
}

/* ---- facts of the adapters ---- */

static ws_status adapters_list(ws_lora_folded *f, const ws_ckpt *source, size_t n,
                               ws_err *err)
{
    f->adapters = ws_arena_calloc(&f->arena, n + 1, sizeof *f->adapters);
    if (f->adapters == NULL)
        return no_memory(err);
    for (size_t k = 0; k < n; k++) {
        const ws_adapter *a = ws_source_adapter(source, k);
        ws_lora_adapter *to = &f->adapters[f->n_adapters++];
        to->path = ws_arena_strdup(&f->arena, a->path);
        to->tensors = ws_ckpt_count(a->file);
        to->used = ws_source_used(source, k);
        to->scale = a->n_modules > 0 ? a->modules[0].scale : NAN;
        for (size_t i = 0; i < a->n_modules; i++) {
            to->rank = a->modules[i].r > to->rank ? a->modules[i].r : to->rank;
            if (a->modules[i].scale != a->modules[0].scale)
                to->scale = NAN;
        }
        if (to->path == NULL)
            return no_memory(err);
        if (to->used != to->tensors) {
            ws_fail(err, WS_E_INTERNAL, "%zu of %zu tensors found a use", to->used,
                    to->tensors);
            return ws_err_at(err, a->path, NULL, -1), WS_E_INTERNAL;
        }
    }
    return WS_OK;
}

/* ---- figures ---- */

/** Sums over reads of any cut end in bits that differ from run to run: what is shown
 * does not. */
static double nine_digits(double x)
{
    char text[32];
    if (!isfinite(x))
        return x;
    snprintf(text, sizeof text, "%.9g", x);
    double y = x;
    return ws_parse_real(text, &y) ? y : x;
}

/** Figures of all tensors, from what reading them has gathered. */
static ws_status figures_take(ws_lora_folded *f, const ws_ckpt *source, ws_err *err)
{
    double update_sq = 0, lost_sq = 0;
    const size_t n = ws_ckpt_count(source);
    f->n_tensors = f->folded = f->replaced = f->copied = 0;
    f->tensors = ws_arena_calloc(&f->arena, n + 1, sizeof *f->tensors);
    if (f->tensors == NULL)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const ws_tensor *t = ws_ckpt_tensor(source, i);
        const ws_source_figures g = ws_source_figures_of(source, t);
        f->folded += g.folded;
        f->replaced += g.replaced && !g.folded;
        f->copied += !g.folded && !g.replaced;
        if (!g.folded && !g.replaced)
            continue;
        ws_lora_tensor *to = &f->tensors[f->n_tensors++];
        *to =
            (ws_lora_tensor){ ws_arena_strdup(&f->arena, t->name), g.folded, g.replaced,
                              nine_digits(g.update), nine_digits(g.lost) };
        if (to->name == NULL)
            return no_memory(err);
        if (isfinite(g.update) && isfinite(g.lost)) {
            update_sq += g.update * g.update;
            lost_sq += g.update * g.lost * g.update * g.lost;
        }
    }
    f->lost = update_sq > 0 ? nine_digits(sqrt(lost_sq / update_sq)) : NAN;
    return WS_OK;
}

/** Read every folded tensor once, for its figures alone. */
static ws_status measure(ws_ckpt *source, ws_err *err)
{
    enum { PART = 1 << 17 };
    void *buf = ws_alloc(PART);
    ws_status st = buf == NULL ? no_memory(err) : WS_OK;
    for (size_t i = 0; i < ws_ckpt_count(source) && st == WS_OK; i++) {
        const ws_tensor *t = ws_ckpt_tensor(source, i);
        if (!ws_source_figures_of(source, t).folded)
            continue;
        for (uint64_t at = 0; at < t->n_bytes && st == WS_OK; at += PART) {
            const uint64_t left = t->n_bytes - at;
            st = ws_ckpt_read(source, t, at, left < PART ? (size_t)left : PART, buf,
                              err);
        }
    }
    ws_free(buf);
    return st;
}

static ws_status gate(ws_lora_folded *f, ws_ckpt *source, double most, ws_err *err)
{
    f->within = true;
    if (isnan(most))
        return WS_OK;
    ws_status st = measure(source, err);
    if (st == WS_OK)
        st = figures_take(f, source, err);
    ws_source_stop_measuring(source);
    for (size_t i = 0; i < f->n_tensors && st == WS_OK; i++)
        f->within &= !(f->tensors[i].lost > most);
    return st;
}

/* ---- writing ---- */

static void recipe_make(ws_buf *b, const ws_lora_fold_req *req, const ws_ckpt *source,
                        const char (*digests)[48])
{
    ws_buf_puts(b, "{\"schema\":\"wsurg-recipe/1\",\"command\":\"lora fold\","
                   "\"adapters\":[");
    for (size_t k = 0; k < req->n; k++) {
        const char *label = ws_source_adapter(source, k)->label;
        ws_buf_puts(b, k == 0 ? "{\"label\":" : ",{\"label\":");
        ws_buf_json_string(b, label, strlen(label));
        ws_buf_printf(b, ",\"content\":\"%s\"}", digests[k + 1]);
    }
    ws_buf_printf(b, "],\"scale\":%.17g}", req->scale);
}

/** Digests of base and adapters, where provenance is asked for. */
static ws_status digests_take(const ws_lora_fold_req *req, const ws_ckpt *source,
                              char (*digests)[48], const ws_ctx *ctx, ws_err *err)
{
    ws_status st = WS_OK;
    if (!req->write.provenance)
        return WS_OK;
    st = ws_ckpt_digest_text(ws_source_base(source), ctx, digests[0], err);
    for (size_t k = 0; k < req->n && st == WS_OK; k++)
        st = ws_ckpt_digest_text(ws_source_adapter(source, k)->file, ctx,
                                 digests[k + 1], err);
    return st;
}

/** Through the engine into the output; the source is the plan's. */
static ws_status run(const ws_lora_fold_req *req, const ws_plan_given *given,
                     const ws_ctx *ctx, ws_lora_folded *f, bool measured, ws_err *err)
{
    ws_merge_req merge = WS_MERGE_REQ_INIT;
    ws_plan *plan = NULL;
    ws_diag errors = { 0 };
    merge.method = "passthrough";
    merge.write = req->write;
    ws_status st = ws_plan_build(&plan, &merge, given, ctx, &errors);
    if (st == WS_OK)
        st = ws_plan_run(plan, ctx, &f->run, err);
    else if (err != NULL && ws_diag_worst(&errors) != NULL)
        *err = *ws_diag_worst(&errors);
    if (st == WS_OK && !measured)
        st = figures_take(f, plan->inputs[0].ckpt, err);
    ws_plan_free(plan);
    ws_diag_free(&errors);
    return st;
}

static ws_status write_model(const ws_lora_fold_req *req, ws_ckpt *source,
                             const ws_ctx *ctx, ws_lora_folded *f, ws_err *err)
{
    const ws_ckpt *base = ws_source_base(source);
    const ws_source_facts facts = ws_source_facts_of(source);
    ws_buf recipe = { 0 }, inputs = { 0 };
    char(*digests)[48] = ws_calloc(req->n + 1, sizeof *digests);
    const char **paths = ws_calloc(req->n + 2, sizeof *paths);
    ws_status st = digests == NULL || paths == NULL
                       ? no_memory(err)
                       : digests_take(req, source, digests, ctx, err);
    if (st == WS_OK) {
        recipe_make(&recipe, req, source, (const char(*)[48])digests);
        ws_tv_input_add(&inputs, "base", ws_ckpt_label(base), digests[0]);
        paths[0] = ws_ckpt_home(base);
        for (size_t k = 0; k < req->n; k++) {
            ws_tv_input_add(&inputs, "adapter", ws_source_adapter(source, k)->label,
                            digests[k + 1]);
            paths[k + 1] = req->adapters[k];
        }
        ws_buf_putc(&inputs, ']');
        st = recipe.failed || inputs.failed ? no_memory(err) : WS_OK;
    }
    const ws_plan_given given = { .inputs = &source,
                                  .n = 1,
                                  .recipe = recipe.p,
                                  .provenance = inputs.p,
                                  .paths = paths,
                                  .n_paths = req->n + 1,
                                  .untie = facts.untied,
                                  .vocab_size = facts.vocab_size,
                                  .tokenizer_from = facts.vocab_from,
                                  .dtype = dtype_of,
                                  .arg = source };
    if (st == WS_OK)
        st = run(req, &given, ctx, f, !isnan(req->max_lost), err);
    else
        ws_ckpt_free(source);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    ws_free(digests);
    ws_free((void *)paths);
    return st;
}

ws_status ws_lora_fold(ws_lora_folded **out, const ws_lora_fold_req *req,
                       const ws_ctx *ctx, ws_err *err)
{
    ws_lora_folded *f = ws_calloc(1, sizeof *f);
    ws_ckpt *source = NULL;
    ws_fold_opts o = WS_FOLD_OPTS_INIT;
    if (f == NULL)
        return no_memory(err);
    o.scale = req->scale;
    o.dtype = WS_FOLD_F64;
    o.residual = req->residual;
    o.measure = true;
    o.out_set = !req->write.dtype_keep;
    o.out = req->write.dtype;
    ws_status st =
        ws_lora_open(&source, req->base, req->adapters, req->n, &o, ctx, err);
    if (st == WS_OK) {
        const ws_source_facts facts = ws_source_facts_of(source);
        f->untied = facts.untied;
        if (facts.vocab_from != NULL)
            f->tokenizer_from = ws_arena_strdup(&f->arena, facts.vocab_from);
        st = adapters_list(f, source, req->n, err);
        if (st == WS_OK)
            st = gate(f, source, req->max_lost, err);
        if (st == WS_OK && f->within)
            st = write_model(req, source, ctx, f, err);
        else
            ws_ckpt_free(source);
    }
    if (st == WS_OK)
        *out = f;
    else
        ws_lora_folded_free(f);
    return st;
}
