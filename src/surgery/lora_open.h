/*
 * lora_open.h - a base and adapters, opened together
 */
#ifndef WS_SURGERY_LORA_OPEN_H
#define WS_SURGERY_LORA_OPEN_H

#include "surgery/lora_core.h"
#include "wsurg/source.h"

/** Open base and adapters as one checkpoint. @p paths (n). */
ws_status ws_lora_open(ws_ckpt **out, const char *base, const char *const *paths,
                       size_t n, const ws_fold_opts *o, const ws_ctx *ctx, ws_err *err);

/** Open @p n adapters into @p out (n), which must be zeroed: on failure too, what is
 * open is the caller's. */
ws_status ws_lora_open_adapters(ws_adapter **out, const char *const *paths, size_t n,
                                const ws_ctx *ctx, ws_err *err);

/** Read the factors of module @p m of @p a; .s is its scale times @p weight. The part
 * is to be freed, after a failure too. */
ws_status ws_lora_part_read(ws_lora_part *out, const ws_adapter *a,
                            const ws_adapter_module *m, double weight, ws_err *err);
void ws_lora_part_free(ws_lora_part *p);

/** Whether @p a is factors of matrices and no more, beside tensors that replace the
 * base's: WS_E_UNSUPPORTED for DoRA, biases of B, trained rows, convolutions. */
ws_status ws_lora_check_factors(const ws_adapter *a, ws_err *err);

/** The tensors of @p a that replace the base's, to be written with another adapter; the
 * arena's. */
ws_status ws_lora_copies(ws_adapter_copy **out, size_t *n, const ws_adapter *a,
                         ws_arena *arena, ws_err *err);

#endif
