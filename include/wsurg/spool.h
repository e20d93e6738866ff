/*
 * spool.h - a model from standard input, made a file that can be read anywhere
 *
 * The file has no name: it goes when the process does, however that ends.
 */
#ifndef WSURG_SPOOL_H
#define WSURG_SPOOL_H

#include "wsurg/ctx.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ws_spool ws_spool;

/**
 * Read a safetensors file from descriptor @p fd to its end into a nameless file in
 * @p folder. What does not begin like one is refused at once. A regular file at its
 * beginning (standard input redirected from one) is used as it is, without a copy.
 *
 * At most ctx->max_disk bytes, or what is free in @p folder, are taken. Progress event
 * "spool", total unknown (0).
 * @return WS_OK; WS_E_USAGE @p fd is a terminal; WS_E_HEADER not a safetensors file;
 * WS_E_UNSUPPORTED another known format; WS_E_DISK the limit is reached; WS_E_IO;
 * WS_E_INTERRUPTED; WS_E_MEMORY
 */
WS_API ws_status ws_spool_new(ws_spool **out, int fd, const char *folder,
                              const ws_ctx *ctx, ws_err *err);

/** A path for ws_ckpt_open(), good while the spool lives. */
WS_API const char *ws_spool_path(const ws_spool *s);

/** What to show of a path: "-" of a spool's, any other as it is. */
WS_API const char *ws_spool_shown(const char *path);

WS_API uint64_t ws_spool_bytes(const ws_spool *s);

/** Forget it; the file is gone when no reader has it open any more. NULL is fine. */
WS_API void ws_spool_free(ws_spool *s);

#ifdef __cplusplus
}
#endif

#endif
