/*
 * init.h - a model of random numbers, as transformers would start it
 */
#ifndef WS_TRAIN_INIT_H
#define WS_TRAIN_INIT_H

#include "wsurg/model.h"

/**
 * A model as config.json says, with the numbers that transformers would start from in
 * distribution: matrices normal with deviation `initializer_range` (0.02), norms 1,
 * biases 0; gpt2's projections into the residual stream divided by sqrt(2 L). They
 * follow from seed and tensor name alone.
 *
 * @param config  a folder with config.json, or that file
 * @param dtype   out: the dtype that it asks for; the model itself is float32
 * @return as ws_model_open(); WS_E_UNSUPPORTED the file has another name: config and
 *         tokenizer are copied from its folder
 */
ws_status ws_init_model(ws_model **out, const char *config, uint64_t seed,
                        ws_dtype *dtype, const ws_ctx *ctx, ws_err *err);

#endif
