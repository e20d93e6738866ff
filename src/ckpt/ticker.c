/*
 * ticker.c - progress of work that many threads do
 */
#include "ckpt/ticker.h"

#include "base/os.h"

void ws_ticker_start(ws_ticker *t, const ws_ctx *ctx, const char *event, uint64_t total)
{
    t->ctx = ctx;
    t->event = event;
    t->total = total;
    atomic_init(&t->done, 0);
    t->start = t->last = ws_os_now();
    pthread_mutex_init(&t->lock, NULL);
}

static void report(const ws_ticker *t, double now)
{
    const uint64_t done = atomic_load(&t->done);
    const double seconds = now - t->start;
    const ws_progress p = {
        .event = t->event,
        .unit = "bytes",
        .done = done,
        .total = t->total,
        .seconds = seconds,
        .eta = done > 0 && done <= t->total
                   ? seconds * (double)(t->total - done) / (double)done
                   : -1.0,
    };
    t->ctx->progress(t->ctx->payload, &p);
}

bool ws_ticker_add(ws_ticker *t, uint64_t bytes)
{
    atomic_fetch_add(&t->done, bytes);
    if (t->ctx == NULL)
        return true;
    if (t->ctx->progress != NULL && pthread_mutex_trylock(&t->lock) == 0) {
        const double now = ws_os_now();
        if (now - t->last >= 0.1) {
            t->last = now;
            report(t, now);
        }
        pthread_mutex_unlock(&t->lock);
    }
    return t->ctx->stop == NULL || atomic_load(t->ctx->stop) == 0;
}

void ws_ticker_end(ws_ticker *t)
{
    if (t->ctx != NULL && t->ctx->progress != NULL)
        report(t, ws_os_now());
    pthread_mutex_destroy(&t->lock);
}

void ws_ticker_step(const ws_ctx *ctx, const char *event, uint64_t done, uint64_t steps,
                    double began)
{
    if (ctx->progress == NULL)
        return;
    const double seconds = ws_os_now() - began;
    const ws_progress p = { .event = event,
                            .unit = "steps",
                            .done = done,
                            .total = steps,
                            .seconds = seconds,
                            .eta = seconds / (double)done * (double)(steps - done) };
    ctx->progress(ctx->payload, &p);
}
