/*
 * decompose_data.h - covariances made on the way to a decomposition
 */
#ifndef WS_SURGERY_DECOMPOSE_DATA_H
#define WS_SURGERY_DECOMPOSE_DATA_H

#include "wsurg/decompose.h"

/**
 * Run @p req->calibrate on the model of @p req, into the hidden file
 * `.NAME.cov.safetensors` beside the output.
 *
 * An output that is in the way is found before the model runs. What a resumed run left
 * there is taken when it is of the same samples, and replaced when not.
 * @param path  out: the file, for the caller to remove and ws_free()
 * @return WS_OK; WS_E_EXISTS; as ws_calibrate()
 */
ws_status ws_decompose_calibrate(char **path, const ws_decompose_req *req,
                                 const ws_ctx *ctx, ws_err *err);

/** Whether @p name in the directory @p out, a safetensors file, came of this recipe and
 * these inputs, as its metadata say. */
bool ws_decompose_is(const char *out, const char *name, const char *recipe,
                     const char *inputs);

#endif
