/*
 * quantized.h - models whose weights are packed or scaled: known, and F8 dequantised
 */
#ifndef WS_HF_QUANTIZED_H
#define WS_HF_QUANTIZED_H

#include "wsurg/ckpt.h"

typedef enum ws_quant_kind {
    WS_QUANT_NONE,
    WS_QUANT_FP8, /**< F8 weights with scales beside them */
    WS_QUANT_GPTQ,
    WS_QUANT_AWQ,
    WS_QUANT_BITSANDBYTES,
    WS_QUANT_MXFP4,
    WS_QUANT_OTHER, /**< config.json says so, and is not known here */
} ws_quant_kind;

/** What a model is, told by its tensors and config.json. */
typedef struct ws_quant {
    ws_quant_kind kind;
    char method[40];     /**< quant_method of config.json; or empty */
    const char *witness; /**< a tensor that shows it; or NULL */
} ws_quant;

/** @return WS_OK; WS_E_MEMORY */
WS_API ws_status ws_quant_detect(const ws_ckpt *c, ws_quant *out, ws_err *err);

/** The report that there is no arithmetic on @p c: WS_E_UNSUPPORTED, with its name;
 * WS_OK where there is. */
WS_API ws_status ws_quant_refuse(const ws_ckpt *c, ws_err *err);

/**
 * An FP8 model as numbers: each F8 weight with a scale becomes F32, value times scale,
 * rounded once; its scales go. Scales are of the tensor, of its rows, or of blocks (of
 * `weight_block_size`, else 128 x 128). Other models come back as they are.
 * @param c    taken on success
 * @param out  @p c itself, or a checkpoint on it
 * @return WS_OK; WS_E_UNSUPPORTED another kind of quantisation, or scales of a form not
 *         known; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_quant_numbers(ws_ckpt **out, ws_ckpt *c, ws_err *err);

/** Whether @p c was made by ws_quant_numbers() and is none of its inputs. */
WS_API bool ws_quant_is_numbers(const ws_ckpt *c);

#endif
