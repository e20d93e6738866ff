/*
 * filehash.h - SHA-256 and XXH3-128 of many files, each read once, on all threads
 */
#ifndef WS_CKPT_FILEHASH_H
#define WS_CKPT_FILEHASH_H

#include "base/pool.h"
#include "wsurg/ctx.h"

/** One file to digest, and its result. */
typedef struct ws_filehash_item {
    char *path;     /**< to open; the caller's */
    uint64_t bytes; /**< expected size at first, for the order of work; then found */
    char sha256[65], xxh3[33]; /**< empty unless status is WS_OK */
    ws_status status;          /**< WS_OK; WS_E_IO with err */
    ws_err err;
} ws_filehash_item;

/**
 * Sees the bytes of item @p i in order, from one thread at a time, different items from
 * different threads. A failure ends the whole run.
 */
typedef ws_status ws_filehash_see(void *arg, size_t i, uint64_t offset,
                                  const void *data, size_t len, ws_err *err);

/**
 * Digest @p n files on @p pool, 1 MiB of memory for each thread, or 4 for each two. A
 * file that cannot be read fails alone. @p see may be NULL. Two threads share a file,
 * one for each digest, where there are more threads than large files.
 * @return WS_OK; what @p see returned; WS_E_INTERRUPTED; WS_E_MEMORY
 */
WS_API ws_status ws_filehash_run(ws_filehash_item *items, size_t n, ws_pool *pool,
                                 const ws_ctx *ctx, const char *event,
                                 ws_filehash_see *see, void *arg, ws_err *err);

#endif
