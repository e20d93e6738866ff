/*
 * lora_open.h - a base and adapters, opened together
 */
#ifndef WS_SURGERY_LORA_OPEN_H
#define WS_SURGERY_LORA_OPEN_H

#include "wsurg/source.h"

/** Open base and adapters as one checkpoint. @p paths (n). */
ws_status ws_lora_open(ws_ckpt **out, const char *base, const char *const *paths,
                       size_t n, const ws_fold_opts *o, const ws_ctx *ctx, ws_err *err);

/** Open @p n adapters into @p out (n), which must be zeroed: on failure too, what is
 * open is the caller's. */
ws_status ws_lora_open_adapters(ws_adapter **out, const char *const *paths, size_t n,
                                const ws_ctx *ctx, ws_err *err);

#endif
