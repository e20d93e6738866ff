/*
 * lora_open.c - a base and adapters, opened together; factors read
 */
#include "surgery/lora_open.h"

#include <string.h>

/** An adapter that records its base is told from others where that costs no reading. */
static void warn_other_base(const ws_ckpt *base, const ws_adapter *a, const ws_ctx *ctx)
{
    const char *content = ws_ckpt_meta(base, "wsurg.content");
    if (a->content == NULL || content == NULL || strcmp(a->content, content) == 0)
        return;
    ws_err *w = ws_diag_report(ctx == NULL ? NULL : ctx->warnings, WS_OK, "other-base",
                               "the adapter was trained on a model of contents %s; "
                               "'%s' has %s",
                               a->content, ws_ckpt_path(base), content);
    ws_err_at(w, a->path, NULL, -1);
}

ws_status ws_lora_open_adapters(ws_adapter **out, const char *const *paths, size_t n,
                                const ws_ctx *ctx, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t k = 0; k < n && st == WS_OK; k++)
        st =
            ws_adapter_open(&out[k], paths[k], ctx == NULL ? NULL : ctx->warnings, err);
    return st;
}

ws_status ws_lora_open(ws_ckpt **out, const char *base, const char *const *paths,
                       size_t n, const ws_fold_opts *o, const ws_ctx *ctx, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_adapter **a = ws_calloc(n + 1, sizeof *a);
    ws_status st =
        a == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for adapters") : WS_OK;
    if (st == WS_OK)
        st = ws_source_open(&c, base, WS_FOLD_BASE, ctx, err);
    if (st == WS_OK && ws_ckpt_kind_of(c) != WS_KIND_MODEL) {
        st = ws_source_refuse_kind(ws_ckpt_kind_of(c), err);
        ws_err_at(err, base, NULL, -1);
    }
    if (st == WS_OK)
        st = ws_lora_open_adapters(a, paths, n, ctx, err);
    for (size_t k = 0; k < n && st == WS_OK; k++)
        warn_other_base(c, a[k], ctx);
    if (st == WS_OK)
        st = ws_adapter_source(out, c, a, n, o, ctx, err);
    if (st != WS_OK) {
        for (size_t k = 0; a != NULL && k < n; k++)
            ws_adapter_free(a[k]);
        ws_ckpt_free(c);
    }
    ws_free(a);
    return st;
}

void ws_lora_part_free(ws_lora_part *p)
{
    ws_free((void *)(uintptr_t)p->A);
    ws_free((void *)(uintptr_t)p->B);
    *p = (ws_lora_part){ 0 };
}

ws_status ws_lora_part_read(ws_lora_part *out, const ws_adapter *a,
                            const ws_adapter_module *m, double weight, ws_err *err)
{
    double *A = ws_calloc((size_t)m->a->n_elements, sizeof *A);
    double *B = ws_calloc((size_t)m->b->n_elements, sizeof *B);
    *out = (ws_lora_part){ m->r, weight * m->scale, A, B };
    ws_status st = A == NULL || B == NULL
                       ? ws_fail(err, WS_E_MEMORY, "no memory for factors")
                       : ws_adapter_read_f64(a, m->a, A, err);
    return st == WS_OK ? ws_adapter_read_f64(a, m->b, B, err) : st;
}

ws_status ws_lora_check_factors(const ws_adapter *a, ws_err *err)
{
    const char *what = a->dora         ? "DoRA updates do not add"
                       : a->n_rows > 0 ? "trained rows do not add"
                                       : NULL;
    for (size_t i = 0; i < a->n_modules && what == NULL; i++)
        what = a->modules[i].b_bias != NULL ? "biases of B have no place in the sum"
               : a->modules[i].a->rank != 2 ? "factors of convolutions"
                                            : NULL;
    if (what == NULL)
        return WS_OK;
    ws_fail(err, WS_E_UNSUPPORTED, "%s", what);
    ws_err_hint(err, "wsurg lora fold adds them to a model one by one");
    return ws_err_at(err, a->path, NULL, -1), WS_E_UNSUPPORTED;
}

ws_status ws_lora_copies(ws_adapter_copy **out, size_t *n, const ws_adapter *a,
                         ws_arena *arena, ws_err *err)
{
    *n = a->n_wholes;
    *out = ws_arena_calloc(arena, a->n_wholes + 1, sizeof **out);
    if (*out == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for adapters");
    for (size_t i = 0; i < a->n_wholes; i++) {
        const ws_adapter_whole *w = &a->wholes[i];
        const size_t len = strlen(w->name);
        const bool bias = len > 5 && strcmp(w->name + len - 5, ".bias") == 0;
        (*out)[i] = (ws_adapter_copy){
            .name = w->name, .from = a->file, .t = w->t, .bias = bias && !w->saved
        };
    }
    return WS_OK;
}
