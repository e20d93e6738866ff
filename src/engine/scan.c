/*
 * scan.c - a pass over the slices of many tensors on all threads, joined in order
 */
#include "engine/scan.h"

#include <pthread.h>
#include <string.h>

#include "base/pool.h"
#include "wsurg/alloc.h"
#include "wsurg/digest.h"

enum { WAVE = 1024 }; // slices between two joins: bounds the partials held

struct item {
    size_t tensor;
    uint64_t slice;
};

struct scan_run {
    const ws_scan *s;
    ws_ticker ticker;
    char *buffers, *partials; // (threads), (WAVE)
    size_t buffer_stride;
    struct item items[WAVE];
    size_t n_items;
    pthread_mutex_t lock;
    atomic_bool failed;
    size_t failed_at;
    ws_status status;
    ws_err err;
};

ws_status ws_scan_tick(ws_scan_worker *w, uint64_t bytes, ws_err *err)
{
    if (ws_ticker_add(w->ticker, bytes))
        return WS_OK;
    return ws_fail(err, WS_E_INTERRUPTED, "stopped on request");
}

/** The first slice's report wins: the same one whatever thread was fastest. */
static void failed(struct scan_run *run, size_t i, ws_status st, const ws_err *err)
{
    pthread_mutex_lock(&run->lock);
    if (run->status == WS_OK || i < run->failed_at) {
        run->status = st;
        run->failed_at = i;
        run->err = *err;
    }
    pthread_mutex_unlock(&run->lock);
    atomic_store(&run->failed, true);
}

static void scan_item(void *arg, size_t i, int thread)
{
    struct scan_run *run = arg;
    const ws_scan *s = run->s;
    if (atomic_load(&run->failed))
        return;
    ws_scan_worker w = { run->buffers + (size_t)thread * run->buffer_stride,
                         &run->ticker };
    ws_err err = WS_ERR_INIT;
    const ws_status st = s->scan(s->arg, run->items[i].tensor, run->items[i].slice,
                                 run->partials + i * s->partial_size, &w, &err);
    if (st != WS_OK)
        failed(run, i, st, &err);
}

/** Run and join what has gathered. */
static ws_status wave(struct scan_run *run, ws_pool *pool)
{
    const ws_scan *s = run->s;
    memset(run->partials, 0, run->n_items * s->partial_size);
    ws_pool_for(pool, run->n_items, scan_item, run);
    if (run->status != WS_OK)
        return run->status;
    for (size_t i = 0; i < run->n_items; i++)
        s->join(s->arg, run->items[i].tensor, run->partials + i * s->partial_size);
    run->n_items = 0;
    return WS_OK;
}

static ws_status all_waves(struct scan_run *run, ws_pool *pool)
{
    const ws_scan *s = run->s;
    ws_status st = WS_OK;
    for (size_t k = 0; k < s->n && st == WS_OK; k++) {
        const uint64_t n = ws_slice_count(s->tensors[k]->rank, s->tensors[k]->shape);
        for (uint64_t i = 0; i < n && st == WS_OK; i++) {
            run->items[run->n_items++] = (struct item){ k, i };
            if (run->n_items == WAVE)
                st = wave(run, pool);
        }
    }
    return st == WS_OK ? wave(run, pool) : st;
}

/** Threads whose buffers fit the memory; 0 when not even one's do. */
static int threads_that_fit(const ws_scan *s, size_t stride)
{
    const uint64_t fixed = (uint64_t)WAVE * s->partial_size;
    const uint64_t memory = ws_ctx_memory(s->ctx);
    const uint64_t fit = memory > fixed ? (memory - fixed) / stride : 0;
    const int want = ws_ctx_threads(s->ctx);
    return fit < (uint64_t)want ? (int)fit : want;
}

ws_status ws_scan_run(const ws_scan *s, ws_err *err)
{
    struct scan_run run = { .s = s };
    ws_pool *pool = NULL;
    run.buffer_stride = (s->buffer_size + 63) / 64 * 64 + 64;
    const int threads = threads_that_fit(s, run.buffer_stride);
    if (threads == 0)
        return ws_fail(err, WS_E_MEMORY,
                       "the memory limit of %llu bytes is below the %zu that one "
                       "thread needs",
                       (unsigned long long)ws_ctx_memory(s->ctx),
                       run.buffer_stride + WAVE * s->partial_size);
    ws_status st = ws_pool_new(&pool, threads, err);
    if (st != WS_OK)
        return st;
    run.buffers = ws_alloc((size_t)threads * run.buffer_stride);
    run.partials = ws_calloc(WAVE, s->partial_size);
    pthread_mutex_init(&run.lock, NULL);
    ws_ticker_start(&run.ticker, s->ctx, s->event, s->bytes);
    if (run.buffers == NULL || run.partials == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for the buffers of %d threads",
                     threads);
    else
        st = all_waves(&run, pool);
    if (run.status != WS_OK && err != NULL)
        *err = run.err;
    ws_ticker_end(&run.ticker);
    pthread_mutex_destroy(&run.lock);
    ws_free(run.buffers);
    ws_free(run.partials);
    ws_pool_free(pool);
    return st;
}
