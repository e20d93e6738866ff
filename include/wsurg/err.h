/*
 * err.h - status codes, error reports and collections of them
 */
#ifndef WSURG_ERR_H
#define WSURG_ERR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wsurg/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One code per cause. ws_status_code() gives its word, ws_status_exit() the exit
 * status. */
typedef enum ws_status {
    WS_OK = 0,
    /* exit 2 */
    WS_E_USAGE,    /**< the request is malformed: unknown name, value out of range */
    WS_E_RECIPE,   /**< a recipe file is wrong */
    WS_E_ANCESTRY, /**< recorded ancestry contradicts the request */
    WS_E_STRICT,   /**< a warning under --strict */
    /* exit 3 */
    WS_E_HEADER,      /**< a file is not what its format demands */
    WS_E_MISSING,     /**< a tensor or file named by an input is not there */
    WS_E_SHAPE,       /**< shapes differ where they must agree */
    WS_E_DTYPE,       /**< dtypes differ, or no arithmetic exists for one */
    WS_E_UNSUPPORTED, /**< valid, but not something this version reads or does */
    /* exit 4 */
    WS_E_MEMORY, /**< would exceed the memory limit, or allocation failed */
    WS_E_DISK,   /**< would exceed the disk limit */
    /* exit 5 */
    WS_E_IO, /**< open, read, write, sync or rename failed; err->sys is errno */
    /* exit 6 */
    WS_E_NOT_FINITE, /**< NaN or infinity met, or a value overflows its output dtype */
    WS_E_NO_CONVERGENCE, /**< an iteration did not converge; err->sys is LAPACK's info
                          */
    /* exit 7 */
    WS_E_EXISTS, /**< the output is already there */
    WS_E_LOCKED, /**< another run is writing the output */
    /* exit 8 */
    WS_E_INTERRUPTED, /**< stopped on request; the work can be resumed */
    /* exit 70 */
    WS_E_INTERNAL, /**< our own mistake */
} ws_status;

/** The word for @p code in JSON reports: "usage", "header", "missing-tensor", ... */
WS_API const char *ws_status_code(ws_status code);

/** The exit status of CLI.md for @p code. */
WS_API int ws_status_exit(ws_status code);

/** One report. Long names are cut in the middle: reporting never allocates. */
typedef struct ws_err {
    ws_status code;
    int sys;        /**< errno or LAPACK info, else 0 */
    int64_t offset; /**< byte in path, -1 if none */
    char path[256], tensor[160], msg[512], hint[256];
    const char
        *tag; /**< static word used instead of the code's, for warnings; or NULL */
} ws_err;

#define WS_ERR_INIT                                                                    \
    {                                                                                  \
        .offset = -1                                                                   \
    }

/**
 * Fill @p err (NULL allowed) and return @p code, so that `return ws_fail(err, ...)`
 * reads well. The message is lower case without a full stop, names found and wanted,
 * and quotes its subject.
 */
WS_API ws_status ws_fail(ws_err *err, ws_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** As ws_fail() for a failed system call: appends strerror(@p sys), keeps it in
 * err->sys. */
WS_API ws_status ws_fail_sys(ws_err *err, ws_status code, int sys, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The static analyzer is told that what fails does not return WS_OK. */
#ifdef __clang_analyzer__
#define ws_fail(err, code, ...) (ws_fail(err, code, __VA_ARGS__), code)
#define ws_fail_sys(err, code, sys, ...)                                               \
    (ws_fail_sys(err, code, sys, __VA_ARGS__), code)
#endif

/** Fill the location fields of @p err that are still empty. NULL and -1 mean unknown.
 * Returns err->code. */
WS_API ws_status ws_err_at(ws_err *err, const char *path, const char *tensor,
                           int64_t offset);

/** Set the one line that says what to do. Keeps an earlier hint. */
WS_API void ws_err_hint(ws_err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** Write @p err as one line "what, in which file, tensor, offset" into @p buf; control
 * bytes escaped. */
WS_API void ws_err_format(const ws_err *err, char *buf, size_t size);

/** A growing list of reports, for places where everything wrong is listed at once. Zero
 * is empty. */
typedef struct ws_diag {
    ws_err *items;
    size_t n, cap;
    bool lost; /**< a report could not be stored for lack of memory */
} ws_diag;

/** Append a copy of @p err. */
WS_API void ws_diag_add(ws_diag *diag, const ws_err *err);

/** Append a report built like ws_fail(); returns the stored item (NULL if lost) for
 * ws_err_at(), ws_err_hint(). */
WS_API ws_err *ws_diag_report(ws_diag *diag, ws_status code, const char *tag,
                              const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/** The report with the lowest exit status, first among equals; NULL when empty. */
WS_API const ws_err *ws_diag_worst(const ws_diag *diag);

WS_API void ws_diag_free(ws_diag *diag);

#ifdef __cplusplus
}
#endif

#endif
