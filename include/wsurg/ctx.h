/*
 * ctx.h - what a run may use, and whom it tells: threads, memory, disk, progress,
 * warnings, stop requests
 */
#ifndef WSURG_CTX_H
#define WSURG_CTX_H

#ifdef __cplusplus
#include <atomic>
using std::atomic_int;
#else
#include <stdatomic.h>
#endif
#include <stdbool.h>

#include "wsurg/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WS_MEMORY_DEFAULT (256ull << 20)

/** One progress report; a callback gets it at most about ten times a second, from one
 * thread at a time. */
typedef struct ws_progress {
    const char *event; /**< "read", "check", ...: static words */
    const char *unit;  /**< "bytes", "steps", ... */
    uint64_t done, total;
    double seconds, eta; /**< eta < 0: unknown */
    const char *note;    /**< a few words more, or NULL */
} ws_progress;

typedef struct ws_ctx {
    int threads; /**< 0: all that the process may use (affinity, cgroup) */
    uint64_t
        max_memory; /**< bytes of anonymous and shared memory; 0: WS_MEMORY_DEFAULT */
    uint64_t max_disk; /**< bytes of new disk use; 0: what is free */
    ws_diag *warnings; /**< where warnings and notes gather; may be NULL */
    void (*progress)(void *payload, const ws_progress *p); /**< may be NULL */
    void *payload;
    const atomic_int *stop; /**< nonzero asks the run to stop cleanly: its value is the
                               signal; may be NULL */
    bool strict;            /**< warnings (not those tagged "note") make a run fail with
                    WS_E_STRICT before its output shows */
    bool lenient;    /**< a key of config.json whose meaning is not known is a warning
                    where `warnings` is given, and no refusal */
    bool dequantise; /**< FP8 models are read as the numbers that they stand for */
} ws_ctx;

#define WS_CTX_INIT                                                                    \
    {                                                                                  \
        0                                                                              \
    }

/** What a run has cost, for reports. */
typedef struct ws_usage {
    double seconds;
    int threads;
    uint64_t peak_memory;   /**< largest RssAnon + RssShmem seen, bytes */
    uint64_t peak_resident; /**< VmHWM, bytes */
    uint64_t read_bytes, written_bytes;
} ws_usage;

/** Number of threads that @p ctx gives: its own number, or all that the process may
 * use; 1..64. */
WS_API int ws_ctx_threads(const ws_ctx *ctx);

/**
 * What this process has cost so far: seconds since @p began, threads of @p ctx, largest
 * memory; what was read and written is left alone.
 *
 * @param began  from ws_usage_begin()
 */
WS_API void ws_usage_take(ws_usage *u, double began, const ws_ctx *ctx);

/** The time to count from, seconds of a clock that is never set. */
WS_API double ws_usage_begin(void);

/** Memory limit of @p ctx in bytes. */
WS_API uint64_t ws_ctx_memory(const ws_ctx *ctx);

#ifdef __cplusplus
}
#endif

#endif
