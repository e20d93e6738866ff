/*
 * taskvec_write.h - computed tensors through the engine into a file
 */
#ifndef WS_SURGERY_TASKVEC_WRITE_H
#define WS_SURGERY_TASKVEC_WRITE_H

#include "engine/plan_internal.h"
#include "wsurg/taskvec.h"
#include "wsurg/text.h"

/**
 * Write the one input of @p given unchanged (`passthrough`) and free it.
 * @param per_thread, fixed  bytes that making its tensors takes beside the engine's
 * @return WS_OK, or the worst of what is wrong
 */
ws_status ws_tv_copy(const ws_write_opts *w, const ws_plan_given *given,
                     size_t per_thread, size_t fixed, const ws_ctx *ctx,
                     ws_result **out, ws_err *err);

/** @p ctx (may be NULL) with that much less memory, and fewer threads where too little
 * would be left; WS_E_MEMORY when one is too many. */
ws_status ws_tv_ctx(ws_ctx *out, const ws_ctx *ctx, size_t per_thread, size_t fixed,
                    ws_err *err);

/** One entry of wsurg.inputs: {"role","label","content"}; "[" before the first. */
void ws_tv_input_add(ws_buf *b, const char *role, const char *label,
                     const char *content);

/** Open a model: WS_E_USAGE for another kind of file. */
ws_status ws_tv_open_model(ws_ckpt **out, const char *path, const ws_ctx *ctx,
                           ws_err *err);

#endif
