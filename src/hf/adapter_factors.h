/*
 * adapter_factors.h - what adapters add to a tensor, as factors instead of sums
 */
#ifndef WS_HF_ADAPTER_FACTORS_H
#define WS_HF_ADAPTER_FACTORS_H

#include "wsurg/source.h"

typedef enum ws_adapted_kind {
    WS_ADAPTED_NOT,     /**< the base's tensor as it is */
    WS_ADAPTED_FACTORS, /**< base + L R */
    WS_ADAPTED_ELSE     /**< DoRA, a bias, replaced rows, another tensor */
} ws_adapted_kind;

/** What tensor @p t of an adapted checkpoint is; of factors, @p r is the sum of all
 * ranks and (@p rows, @p cols) the stored matrix. */
WS_API ws_adapted_kind ws_source_factors_of(const ws_ckpt *c, const ws_tensor *t,
                                            size_t *r, size_t *rows, size_t *cols);

/**
 * Read them.
 *
 * @param L  (rows, r) out, every adapter's scale in it
 * @param R  (r, cols) out
 * @return WS_OK; WS_E_NOT_FINITE; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_source_factors_read(const ws_ckpt *c, const ws_tensor *t, float *L,
                                        float *R, ws_err *err);

#endif
