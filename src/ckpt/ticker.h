/*
 * ticker.h - progress of work that many threads do: counts, and calls back now and then
 */
#ifndef WS_CKPT_TICKER_H
#define WS_CKPT_TICKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "wsurg/ctx.h"

typedef struct ws_ticker {
    const ws_ctx *ctx;
    const char *event; /**< static word */
    uint64_t total;    /**< bytes */
    atomic_ullong done;
    double start, last;
    pthread_mutex_t lock;
} ws_ticker;

/** Start counting towards @p total bytes. @p ctx may be NULL. */
WS_API void ws_ticker_start(ws_ticker *t, const ws_ctx *ctx, const char *event,
                            uint64_t total);

/** Count @p bytes more; calls ctx->progress when a tenth of a second has gone by since
 * the last call. False when ctx->stop asks to end. Thread-safe. */
WS_API bool ws_ticker_add(ws_ticker *t, uint64_t bytes);

/** Tell ctx->progress, if there is one, of step @p done of @p steps of work by one
 * thread that began at @p began (ws_os_now()). */
WS_API void ws_ticker_step(const ws_ctx *ctx, const char *event, uint64_t done,
                           uint64_t steps, double began);

/** Report the last state and end. */
WS_API void ws_ticker_end(ws_ticker *t);

#endif
