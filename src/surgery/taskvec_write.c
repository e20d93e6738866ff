/*
 * taskvec_write.c - computed tensors through the engine into a file
 */
#include "surgery/taskvec_write.h"

#include <stdio.h>
#include <string.h>

#include "hf/quantized.h"
#include "wsurg/digest.h"
#include "wsurg/source.h"

/** What the engine is left at least, if fewer threads can do it. */
#define ENGINE_BYTES (16u << 20)

ws_status ws_tv_ctx(ws_ctx *out, const ws_ctx *ctx, size_t per_thread, size_t fixed,
                    ws_err *err)
{
    static const ws_ctx none = WS_CTX_INIT;
    const uint64_t limit = ws_ctx_memory(ctx);
    *out = ctx != NULL ? *ctx : none;
    out->threads = ws_ctx_threads(ctx);
    uint64_t taken = fixed + (uint64_t)out->threads * per_thread;
    for (; out->threads > 1 && limit < taken + ENGINE_BYTES; taken -= per_thread)
        out->threads--;
    if (limit >= taken + ENGINE_BYTES) {
        out->max_memory = limit - taken;
        return WS_OK;
    }
    char want[24], have[24];
    ws_show_bytes(taken + ENGINE_BYTES, want);
    ws_show_bytes(limit, have);
    ws_fail(err, WS_E_MEMORY, "needs at least %s of memory, the limit is %s", want,
            have);
    ws_err_hint(err, "--max-memory %lluMiB",
                (unsigned long long)((taken + ENGINE_BYTES) >> 20) + 1);
    return WS_E_MEMORY;
}

ws_status ws_tv_copy(const ws_write_opts *w, const ws_plan_given *given,
                     size_t per_thread, size_t fixed, const ws_ctx *ctx,
                     ws_result **out, ws_err *err)
{
    ws_ctx less;
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_plan *plan = NULL;
    ws_diag errors = { 0 };
    ws_status st = ws_tv_ctx(&less, ctx, per_thread, fixed, err);
    if (st != WS_OK) {
        ws_plan_given_free(given);
        return st;
    }
    req.method = "passthrough";
    req.write = *w;
    st = ws_plan_build(&plan, &req, given, &less, &errors);
    if (st == WS_OK)
        st = ws_plan_run(plan, &less, out, err);
    else if (err != NULL && ws_diag_worst(&errors) != NULL)
        *err = *ws_diag_worst(&errors);
    ws_plan_free(plan);
    ws_diag_free(&errors);
    return st;
}

void ws_tv_input_add(ws_buf *b, const char *role, const char *label,
                     const char *content)
{
    ws_buf_printf(b, "%c{\"role\":\"%s\",\"label\":", b->n == 0 ? '[' : ',', role);
    ws_buf_json_string(b, label, strlen(label));
    ws_buf_printf(b, ",\"content\":\"%s\"}", content);
}

ws_status ws_tv_open_model(ws_ckpt **out, const char *path, const ws_ctx *ctx,
                           ws_err *err)
{
    const ws_status st = ws_source_open(out, path, WS_FOLD_BASE, ctx, err);
    if (st != WS_OK)
        return ws_err_at(err, path, NULL, -1), st;
    const ws_ckpt_kind kind = ws_ckpt_kind_of(*out);
    const ws_status why = kind == WS_KIND_MODEL ? ws_quant_refuse(*out, err)
                                                : ws_source_refuse_kind(kind, err);
    if (why == WS_OK)
        return WS_OK;
    ws_ckpt_free(*out);
    *out = NULL;
    return ws_err_at(err, path, NULL, -1), why;
}
