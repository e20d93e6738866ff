/*
 * calibrate_samples.h - which tokens a calibration runs over
 */
#ifndef WS_SURGERY_CALIBRATE_SAMPLES_H
#define WS_SURGERY_CALIBRATE_SAMPLES_H

#include "wsurg/calibrate.h"
#include "wsurg/model.h"

/** Chosen samples; ws_samples_free(). */
typedef struct ws_samples {
    int64_t n, longest;
    int32_t *tokens;      /**< of all, one after the other */
    int64_t *start;       /**< (n + 1) */
    const char *sampling; /**< "qa" or "instruction" */
    char digest[33];      /**< of the tokens and their bounds */
} ws_samples;

/**
 * Choose @p req->samples samples of at most @p seq tokens, by the seed.
 *
 * qa: windows of seq tokens at random places of all text (documents one after the
 * other); a text shorter than that is one window. instruction: distinct random
 * documents from their start, cut at seq; where there are fewer, all of them.
 * @return WS_OK; WS_E_USAGE no tokens; as ws_data_open(), ws_tokenizer_open()
 */
ws_status ws_samples_choose(ws_samples *out, const ws_calibrate_req *req,
                            const ws_model *model, int64_t seq, const ws_ctx *ctx,
                            ws_err *err);
void ws_samples_free(ws_samples *s);

#endif
