/*
 * matrices.c - work over many matrices: progress, and the first of its failures
 */
#include "surgery/matrices.h"

#include <pthread.h>

#include "base/os.h"
#include "ckpt/ticker.h"
#include "wsurg/text.h"

struct state {
    const ws_matrices *w;
    ws_ticker ticker;
    pthread_mutex_t lock; // of what follows
    ws_status status;
    size_t failed_at;
    ws_err err;
};

static void one(void *arg, size_t i, int thread)
{
    struct state *s = arg;
    ws_err err = WS_ERR_INIT;
    (void)thread;
    pthread_mutex_lock(&s->lock);
    const bool failed = s->status != WS_OK;
    pthread_mutex_unlock(&s->lock);
    if (failed)
        return;
    ws_status st = s->w->run(s->w->arg, i, &err);
    if (!ws_ticker_add(&s->ticker, s->w->bytes(s->w->arg, i)) && st == WS_OK)
        st = ws_fail(&err, WS_E_INTERRUPTED, "stopped on request");
    if (st == WS_OK)
        return;
    pthread_mutex_lock(&s->lock);
    if (s->status == WS_OK || i < s->failed_at) {
        s->status = st;
        s->failed_at = i;
        s->err = err;
    }
    pthread_mutex_unlock(&s->lock);
}

ws_status ws_matrices_run(const ws_matrices *w, ws_pool *pool, const ws_ctx *ctx,
                          ws_err *err)
{
    struct state s = { .w = w };
    uint64_t total = 0;
    for (size_t i = 0; i < w->n; i++)
        total += w->bytes(w->arg, i);
    pthread_mutex_init(&s.lock, NULL);
    ws_ticker_start(&s.ticker, ctx, w->event, total);
    ws_pool_for(pool, w->n, one, &s);
    ws_ticker_end(&s.ticker);
    pthread_mutex_destroy(&s.lock);
    if (s.status != WS_OK && err != NULL)
        *err = s.err;
    return s.status;
}

ws_status ws_matrices_pool(ws_pool **out, const char *doing, uint64_t most,
                           const ws_ctx *ctx, ws_err *err)
{
    const uint64_t limit =
        ctx != NULL && ctx->max_memory > 0 ? ctx->max_memory : ws_os_memory_total() / 2;
    uint64_t threads = (uint64_t)ws_ctx_threads(ctx);
    most = most > 0 ? most : 1;
    if (limit < most) {
        char want[24], have[24];
        ws_show_bytes(most, want);
        ws_show_bytes(limit, have);
        ws_fail(err, WS_E_MEMORY, "%s takes %s of memory, the limit is %s", doing, want,
                have);
        ws_err_hint(err, "--max-memory %lluMiB", (unsigned long long)(most >> 20) + 1);
        return WS_E_MEMORY;
    }
    threads = limit / most < threads ? limit / most : threads;
    return ws_pool_new(out, (int)threads, err);
}
