/*
 * plan.c - from a request to a plan, in steps; every mistake is gathered before any
 * weight is read
 */
#include "wsurg/merge.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/plan_internal.h"
#include "wsurg/text.h"

void *ws_plan_alloc(ws_plan *plan, size_t n, size_t size)
{
    void *p = ws_arena_calloc(&plan->priv->arena, n, size);
    if (p == NULL)
        ws_diag_report(plan->priv->errors, WS_E_MEMORY, NULL, "no memory for the plan");
    return p;
}

const char *ws_plan_format(ws_plan *plan, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n < 0 ? NULL : ws_plan_alloc(plan, (size_t)n + 1, 1);
    if (p != NULL)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}

/** The method, or a mistake that names the nearest ones. */
static const ws_method *find_method(const ws_merge_req *req, ws_diag *errors)
{
    const ws_method *m = req->method == NULL ? NULL : ws_method_find(req->method);
    if (m != NULL)
        return m;
    ws_err *e;
    if (req->method == NULL) {
        e = ws_diag_report(errors, WS_E_USAGE, NULL, "no method named");
        ws_err_hint(e, "--method NAME; 'wsurg methods' lists them");
        return NULL;
    }
    size_t best = SIZE_MAX;
    const char *nearest = "linear";
    for (size_t i = 0; i < ws_method_count(); i++) {
        const size_t d = ws_edit_distance(req->method, ws_method_at(i)->name);
        if (d < best) {
            best = d;
            nearest = ws_method_at(i)->name;
        }
    }
    char shown[80];
    ws_show(req->method, shown, sizeof shown);
    e = ws_diag_report(errors, WS_E_USAGE, NULL, "unknown method '%s'", shown);
    ws_err_hint(e, "nearest is '%s'; 'wsurg methods' lists all", nearest);
    return NULL;
}

ws_status ws_plan_new(ws_plan **out, const ws_merge_req *req, const ws_ctx *ctx,
                      ws_diag *errors)
{
    return ws_plan_build(out, req, NULL, ctx, errors);
}

static ws_status build(ws_plan **out, const ws_merge_req *req,
                       const ws_plan_given *given, struct ws_recipe_stages *stages,
                       const ws_ctx *ctx, ws_diag *errors)
{
    const size_t before = errors->n;
    ws_plan *plan = ws_calloc(1, sizeof *plan);
    struct ws_plan_priv *priv = ws_calloc(1, sizeof *priv);
    if (plan == NULL || priv == NULL) {
        ws_free(plan);
        ws_free(priv);
        ws_plan_given_free(given);
        ws_diag_report(errors, WS_E_MEMORY, NULL, "no memory for the plan");
        return WS_E_MEMORY;
    }
    plan->priv = priv;
    priv->req = *req;
    priv->ctx = ctx;
    priv->errors = errors;
    priv->given = given;
    priv->stages = stages;
    priv->is_stage = stages != NULL;
    priv->hash_inputs = req->write.provenance;
    plan->req = &priv->req;
    plan->lines_alpha = plan->lines_beta = NAN;
    if (req->recipe != NULL)
        ws_plan_recipe_begin(plan);
    plan->method = find_method(&priv->req, errors);
    // each step needs the ones before; those that do not are run to gather more
    // mistakes
    if (given != NULL)
        ws_plan_take_inputs(plan);
    else
        ws_plan_open_inputs(plan);
    if (plan->method != NULL && plan->n_inputs > 0)
        ws_plan_params(plan);
    if (plan->method != NULL && priv->req.coefficients != NULL)
        ws_plan_coefficients(plan);
    if (plan->method != NULL)
        ws_plan_lines_parse(plan);
    static void (*const steps[])(
        ws_plan *) = { ws_plan_match,       ws_plan_recipe_inherit, ws_plan_take_dtypes,
                       ws_plan_layers,      ws_plan_recipe_stages,  ws_plan_layout,
                       ws_plan_take_header, ws_plan_price };
    for (size_t i = 0; i < sizeof steps / sizeof *steps && errors->n == before; i++)
        steps[i](plan);
    if (errors->n > before) {
        const ws_status st = ws_diag_worst(errors)->code;
        ws_plan_free(plan);
        return st;
    }
    priv->given = NULL;
    *out = plan;
    return WS_OK;
}

ws_status ws_plan_build(ws_plan **out, const ws_merge_req *req,
                        const ws_plan_given *given, const ws_ctx *ctx, ws_diag *errors)
{
    return build(out, req, given, NULL, ctx, errors);
}

ws_status ws_plan_build_stage(ws_plan **out, const ws_merge_req *req,
                              struct ws_recipe_stages *stages, const ws_ctx *ctx,
                              ws_diag *errors)
{
    return build(out, req, NULL, stages, ctx, errors);
}

void ws_plan_free(ws_plan *plan)
{
    if (plan == NULL)
        return;
    for (size_t i = 0; i < plan->n_inputs; i++)
        ws_ckpt_free(plan->inputs[i].ckpt);
    ws_plan_recipe_free(plan);
    ws_plan_coefficients_free(plan);
    for (size_t i = 0; plan->files != NULL && i < plan->n_files; i++)
        ws_free((void *)(uintptr_t)plan->files[i].header);
    ws_arena_free(&plan->priv->arena);
    ws_free(plan->priv);
    ws_free(plan);
}
