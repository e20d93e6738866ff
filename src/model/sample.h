/*
 * sample.h - the choice of a next token
 */
#ifndef WS_MODEL_SAMPLE_H
#define WS_MODEL_SAMPLE_H

#include "wsurg/generate.h"

/** Scratch of one thread for any number of texts. */
typedef struct ws_sampler ws_sampler;

ws_status ws_sampler_new(ws_sampler **out, int64_t V, const ws_generate_opts *o,
                         ws_err *err);
void ws_sampler_free(ws_sampler *s);

/** The token after logits @p z (V), which are overwritten; -1 when they are not finite.
 *
 * @param seen    (V) tokens of the text so far
 * @param sample  number of the text
 * @param index   of the token in it
 */
int32_t ws_sampler_next(ws_sampler *s, float *z, const bool *seen, uint64_t sample,
                        uint64_t index);

#endif
