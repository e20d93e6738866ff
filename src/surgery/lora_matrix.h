/*
 * lora_matrix.h - the matrix of an adapter's module, before and after
 */
#ifndef WS_SURGERY_LORA_MATRIX_H
#define WS_SURGERY_LORA_MATRIX_H

#include "wsurg/source.h"

/** A linear of an adapted model; (m, n) is (outputs, inputs). Borrowed. */
typedef struct ws_lora_matrix {
    const ws_ckpt *source, *under; /* adapted model and its base */
    const ws_tensor *tuned, *base; /* of them */
    int64_t m, n;
    bool flipped; /* stored (n, m) */
} ws_lora_matrix;

/** Find module @p mod in @p source, made by ws_adapter_source() with WS_FOLD_F64.
 * @return false: an embedding or a convolution, which is no such matrix */
bool ws_lora_matrix_find(ws_lora_matrix *out, const ws_ckpt *source,
                         const ws_adapter_module *mod);

/** Read (m, n) numbers of the adapted matrix, or of the base's: a ws_intruders_load.
 * @param arg  the const ws_lora_matrix */
ws_status ws_lora_matrix_load(void *arg, bool tuned, double *to, ws_err *err);

#endif
