/*
 * stage_manifest.h - a manifest made in the final check of what is staged
 */
#ifndef WS_CKPT_STAGE_MANIFEST_H
#define WS_CKPT_STAGE_MANIFEST_H

#include "base/pool.h"
#include "ckpt/stage.h"

/**
 * Sees the bytes of staged file @p file (number as in ws_stage_name(); for files made
 * by ws_stage_file() that is their id) in order, from one thread at a time, different
 * files from different threads. A failure ends the check.
 */
typedef ws_status ws_stage_see(void *arg, int file, uint64_t offset, const void *data,
                               size_t len, ws_err *err);

/**
 * Read each staged file once through, opened anew, and make the manifest of them;
 * @p see (may be NULL) compares on the way. `content` is left to the caller. Progress
 * event "check".
 * @return WS_OK; what @p see returned; WS_E_IO; WS_E_INTERRUPTED; WS_E_MEMORY
 */
WS_API ws_status ws_manifest_from_stage(ws_manifest **out, const ws_stage *s,
                                        ws_pool *pool, const ws_ctx *ctx,
                                        ws_stage_see *see, void *arg, ws_err *err);

/** What one staged file must hold: its tensors in order of their offsets (from the
 * start of the file), and their digests. */
typedef struct ws_stage_expect {
    const ws_tensor *const *tensors; /**< (n) */
    const ws_xxh128 *digests;        /**< (n) */
    size_t n;
} ws_stage_expect;

/**
 * As ws_manifest_from_stage(), comparing the tensors of the first @p n_files staged
 * files with @p expect on the way: the final check and the manifest in one reading.
 * Bytes outside the tensors (headers) are not looked at here.
 * @return also WS_E_IO, naming the tensor, when the bytes are not what was written
 */
WS_API ws_status ws_stage_check(ws_manifest **out, const ws_stage *s, ws_pool *pool,
                                const ws_ctx *ctx, const ws_stage_expect *expect,
                                size_t n_files, ws_err *err);

#endif
