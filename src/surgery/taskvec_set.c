/*
 * taskvec_set.c - several task vectors, opened together
 */
#include "surgery/taskvec_set.h"

#include <string.h>

#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"

ws_status ws_tv_set_open(ws_tv_set *set, const char *const *paths, size_t n,
                         const ws_ctx *ctx, ws_err *err)
{
    ws_status st = WS_OK;
    if (n < 1 || n > WS_TV_SET_MOST)
        return ws_fail(err, WS_E_USAGE, "1 to %d task vectors, got %zu", WS_TV_SET_MOST,
                       n);
    for (size_t k = 0; k < n && st == WS_OK; k++) {
        st = ws_taskvec_load(&set->vectors[k], paths[k],
                             ctx == NULL ? NULL : ctx->warnings, err);
        set->n += st == WS_OK;
    }
    return st;
}

ws_status ws_tv_set_digest(ws_tv_set *set, const ws_ctx *ctx, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t k = 0; k < set->n && st == WS_OK; k++)
        st = ws_ckpt_digest_text(set->vectors[k]->file, ctx, set->digests[k], err);
    return st;
}

ws_status ws_tv_set_one_base(const ws_tv_set *set, ws_err *err)
{
    for (size_t k = 1; k < set->n; k++) {
        if (strcmp(set->vectors[k]->base, set->vectors[0]->base) == 0)
            continue;
        ws_fail(err, WS_E_ANCESTRY,
                "the task vector was made from another base than "
                "'%s'",
                ws_ckpt_path(set->vectors[0]->file));
        ws_err_at(err, ws_ckpt_path(set->vectors[k]->file), NULL, -1);
        return WS_E_ANCESTRY;
    }
    return WS_OK;
}

void ws_tv_set_free(ws_tv_set *set)
{
    for (size_t k = 0; k < set->n && !set->lent; k++)
        ws_taskvec_free(set->vectors[k]);
}
