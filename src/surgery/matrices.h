/*
 * matrices.h - one piece of work for every matrix of a model, on all threads of a pool
 */
#ifndef WS_SURGERY_MATRICES_H
#define WS_SURGERY_MATRICES_H

#include "base/pool.h"
#include "wsurg/ctx.h"

/** What is done. Called from several threads, each matrix once. */
typedef struct ws_matrices {
    size_t n;
    const char *event; /**< of the progress: a static word */
    ws_status (*run)(void *arg, size_t i, ws_err *err);
    uint64_t (*bytes)(const void *arg, size_t i); /**< that count for the progress */
    void *arg;
} ws_matrices;

/**
 * Of several that fail the first in order of those that ran is reported; no new one
 * begins after a failure.
 * @return WS_OK; what .run says; WS_E_INTERRUPTED
 */
ws_status ws_matrices_run(const ws_matrices *w, ws_pool *pool, const ws_ctx *ctx,
                          ws_err *err);

/**
 * A pool of as many threads as the limit leaves memory for, when each needs @p most
 * bytes: @p ctx's limit, or half of what the process may use.
 * @param doing  what takes them: "combining adapters"
 * @return WS_OK; WS_E_MEMORY not even one
 */
ws_status ws_matrices_pool(ws_pool **out, const char *doing, uint64_t most,
                           const ws_ctx *ctx, ws_err *err);

#endif
