/*
 * taskvec_pair.h - the updates between a base and a model, and which entries need bits
 * of their own
 */
#ifndef WS_SURGERY_TASKVEC_PAIR_H
#define WS_SURGERY_TASKVEC_PAIR_H

#include "surgery/taskvec_encode.h"

/** A base, a model, and for each tensor of the model what is stored of it. */
typedef struct ws_tv_pair {
    const ws_ckpt *base, *model;
    const ws_tensor **base_of; /**< (n) the base's tensor of an update; else NULL */
    ws_tv_plan *plans;         /**< (n) in the model's file order */
    size_t n;
    const char **removed; /**< (n_removed) */
    size_t n_removed;
    char base_digest[48], model_digest[48];
    ws_arena arena;
} ws_tv_pair;

/**
 * Match the two, read both once: digests, and the counts of every update.
 *
 * An update is stored for F64, F32, F16 and BF16 on both sides in one shape; other
 * tensors are the base's, byte for byte, or stored whole.
 * @param pair  zero; ws_tv_pair_free() also after a failure
 * @return WS_OK; WS_E_IO; WS_E_INTERRUPTED; WS_E_MEMORY
 */
ws_status ws_tv_pair_scan(ws_tv_pair *pair, const ws_ckpt *base, const ws_ckpt *model,
                          const ws_ctx *ctx, ws_err *err);
void ws_tv_pair_free(ws_tv_pair *pair);

/** ws_tv_maker.make of a pair: @p self is the ws_tv_pair. */
ws_status ws_tv_pair_make(void *self, size_t tensor, uint64_t b, size_t from, size_t to,
                          ws_tv_made *m, ws_err *err);

#endif
