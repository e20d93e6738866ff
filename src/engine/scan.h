/*
 * scan.h - a pass over the slices of many tensors on all threads, joined in order
 *
 * Slices are those of ws_slice_len(): from the shape alone. Each is scanned into a
 * zeroed partial of its own, and partials are joined tensor by tensor in slice order,
 * so that no bit depends on the number of threads.
 */
#ifndef WS_ENGINE_SCAN_H
#define WS_ENGINE_SCAN_H

#include "ckpt/ticker.h"
#include "wsurg/ckpt.h"

/** What a slice callback works with. */
typedef struct ws_scan_worker {
    void *buffer; /**< .buffer_size bytes, 64-byte aligned, of this thread */
    ws_ticker *ticker;
} ws_scan_worker;

typedef struct ws_scan {
    const ws_ctx *ctx;               /**< may be NULL */
    const char *event;               /**< static word for progress */
    uint64_t bytes;                  /**< to be read in all, for progress */
    const ws_tensor *const *tensors; /**< (n): their shapes give the slices */
    size_t n;
    size_t partial_size, buffer_size;
    void *arg;
    /** Scan slice @p slice of tensor @p tensor (index into tensors) into @p partial. */
    ws_status (*scan)(void *arg, size_t tensor, uint64_t slice, void *partial,
                      ws_scan_worker *w, ws_err *err);
    /** Join a partial; one thread, in order. */
    void (*join)(void *arg, size_t tensor, const void *partial);
} ws_scan;

/**
 * Run it. Uses fewer threads when their buffers exceed the context's memory.
 * @return WS_OK; what scan returned, of several failures the first slice's;
 * WS_E_INTERRUPTED on request; WS_E_MEMORY
 */
WS_API ws_status ws_scan_run(const ws_scan *s, ws_err *err);

/** Count @p bytes read; WS_E_INTERRUPTED when the run shall stop. */
WS_API ws_status ws_scan_tick(ws_scan_worker *w, uint64_t bytes, ws_err *err);

#endif
