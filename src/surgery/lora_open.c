/*
 * lora_open.c - a base and adapters, opened together
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
        st = ws_fail(err, WS_E_USAGE, "the base is not a model");
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
