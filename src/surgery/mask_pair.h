/*
 * mask_pair.h - base and model side by side, what is made of the base, and where a
 * mask's inputs are named
 */
#ifndef WS_SURGERY_MASK_PAIR_H
#define WS_SURGERY_MASK_PAIR_H

#include "ckpt/ckpt_internal.h"
#include "surgery/mask_file.h"
#include "wsurg/text.h"

/** Two models of the same tensors. */
typedef struct ws_mask_pair {
    ws_ckpt *base, *model;
} ws_mask_pair;

ws_status ws_mask_pair_open(ws_mask_pair *p, const char *base, const char *model,
                            const ws_ctx *ctx, ws_err *err);
void ws_mask_pair_close(ws_mask_pair *p);

/** The model's tensor for @p t of the base, of the same shape, both arithmetic.
 * WS_E_MISSING; WS_E_SHAPE; WS_E_DTYPE. */
ws_status ws_mask_pair_find(const ws_mask_pair *p, const ws_tensor *t,
                            const ws_tensor **out, ws_err *err);

/** Entries @p first .. @p first + n - 1 of @p t of @p c as doubles; n <=
 * WS_MASK_PIECE. */
ws_status ws_mask_numbers(const ws_ckpt *c, const ws_tensor *t, uint64_t first,
                          size_t n, double *out, ws_err *err);

/** model - base there, in double; @p in is the model's tensor for @p t. */
ws_status ws_mask_pair_delta(const ws_mask_pair *p, const ws_tensor *t,
                             const ws_tensor *in, uint64_t first, size_t n, double *out,
                             ws_err *err);

/** The dtype in which tensor @p t, the @p i-th of the base, is made. */
typedef ws_dtype ws_mask_dtype(const void *self, size_t i, const ws_tensor *t);

/** A checkpoint of the base's tensors, made by @p ops on @p self: read() gets the index
 * of the base's tensor as offset. Files and metadata are the base's but for wsurg's. */
ws_status ws_mask_made(ws_ckpt **out, const ws_ckpt *base, const ws_ckpt_ops *ops,
                       void *self, ws_mask_dtype *dtype, ws_err *err);

/** ws_mask_apply() where the model is an adapter alone; fills @p r. */
ws_status ws_mask_apply_factors(const ws_mask_apply_req *req, const ws_ctx *ctx,
                                ws_mask_result *r, ws_err *err);

/** Add an input to provenance with its digest, which reads all of it. */
ws_status ws_mask_input(ws_buf *b, const char *role, const ws_ckpt *c,
                        const ws_ctx *ctx, ws_err *err);

#endif
