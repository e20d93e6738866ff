/*
 * pool.h - the one thread pool
 */
#ifndef WS_BASE_POOL_H
#define WS_BASE_POOL_H

#include "wsurg/err.h"

typedef struct ws_pool ws_pool;

/** @p n threads, the caller's included (1: none are started). */
WS_API ws_status ws_pool_new(ws_pool **out, int n, ws_err *err);
WS_API int ws_pool_size(const ws_pool *pool);

/** Run fn(arg, t) on every thread t = 0 .. size-1 and wait; the caller is thread 0. One
 * run at a time. */
WS_API void ws_pool_run(ws_pool *pool, void (*fn)(void *arg, int thread), void *arg);

/** Run fn(arg, i, t) for i = 0 .. n-1, handed out in order; waits. What fn writes must
 * not depend on t. */
WS_API void ws_pool_for(ws_pool *pool, size_t n,
                        void (*fn)(void *arg, size_t i, int thread), void *arg);
WS_API void ws_pool_free(ws_pool *pool);

#endif
