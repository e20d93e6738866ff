/*
 * taskvec_set.h - several task vectors, opened together
 */
#ifndef WS_SURGERY_TASKVEC_SET_H
#define WS_SURGERY_TASKVEC_SET_H

#include "hf/taskvec_file.h"
#include "wsurg/ctx.h"

enum { WS_TV_SET_MOST = 64 };

typedef struct ws_tv_set {
    ws_taskvec *vectors[WS_TV_SET_MOST];
    char digests[WS_TV_SET_MOST][48];
    size_t n;
    bool lent; /**< somebody else frees the vectors */
} ws_tv_set;

/** Open 1 to WS_TV_SET_MOST. @p set is zero; ws_tv_set_free() also after a failure.
 * WS_E_USAGE for another number, and as ws_taskvec_load(). */
ws_status ws_tv_set_open(ws_tv_set *set, const char *const *paths, size_t n,
                         const ws_ctx *ctx, ws_err *err);

/** The contents of all. */
ws_status ws_tv_set_digest(ws_tv_set *set, const ws_ctx *ctx, ws_err *err);

/** WS_E_ANCESTRY unless all were made from one base. */
ws_status ws_tv_set_one_base(const ws_tv_set *set, ws_err *err);
void ws_tv_set_free(ws_tv_set *set);

#endif
