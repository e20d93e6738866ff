/*
 * decompose_text.h - what a decomposition says of itself
 */
#ifndef WS_SURGERY_DECOMPOSE_TEXT_H
#define WS_SURGERY_DECOMPOSE_TEXT_H

#include "ckpt/stage_manifest.h"
#include "surgery/cov_file.h"
#include "wsurg/decompose.h"
#include "wsurg/manifest.h"
#include "wsurg/text.h"

/** Canonical JSON of what was asked for: wsurg.recipe. */
void ws_decompose_recipe(ws_buf *b, const ws_decompose_req *req);

/** decompose.json: the method, the covariances, and every matrix. */
void ws_decompose_report(ws_buf *b, const ws_decompose_req *req,
                         const ws_decompose_result *r, const ws_cov *cov);

/** Sum the layers up; warn of components that nothing tells apart, of zeros, and say in
 * plain words whose knowledge KPM preserves. */
void ws_decompose_warn(const ws_decompose_req *req, ws_decompose_result *r,
                       const ws_cov *cov, ws_diag *warnings);

/** Under --strict a warning keeps the output from showing. */
ws_status ws_decompose_strict(const ws_ctx *ctx, ws_err *err);

/**
 * Check what is staged for a directory, list it in @p r (memory of @p arena), show it.
 * @param expect  (n_expect) what the first staged files must hold
 * @param a, b    inputs that must still be what was opened; may be NULL
 */
ws_status ws_decompose_show(ws_decompose_result *r, const ws_write_opts *w,
                            ws_stage *stage, ws_pool *pool,
                            const ws_stage_expect *expect, size_t n_expect,
                            const ws_ckpt *a, const ws_ckpt *b, const ws_ctx *ctx,
                            ws_arena *arena, ws_err *err);

/** Seconds since @p start, threads, and the process's peak. */
void ws_decompose_usage_of(ws_usage *u, double start, int threads);

/** Whether the inputs are still what was opened; either may be NULL. */
ws_status ws_recheck_given(const ws_ckpt *a, const ws_ckpt *b, ws_err *err);

#endif
