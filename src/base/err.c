/*
 * err.c - status codes, error reports and collections of them
 */
#include "wsurg/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "wsurg/alloc.h"
#include "wsurg/text.h"

static const struct {
    const char *word;
    int exit;
} table[] = {
    [WS_OK] = { "ok", 0 },
    [WS_E_USAGE] = { "usage", 2 },
    [WS_E_RECIPE] = { "recipe", 2 },
    [WS_E_ANCESTRY] = { "ancestry", 2 },
    [WS_E_STRICT] = { "strict", 2 },
    [WS_E_HEADER] = { "header", 3 },
    [WS_E_MISSING] = { "missing-tensor", 3 },
    [WS_E_SHAPE] = { "shape", 3 },
    [WS_E_DTYPE] = { "dtype", 3 },
    [WS_E_UNSUPPORTED] = { "unsupported", 3 },
    [WS_E_MEMORY] = { "memory", 4 },
    [WS_E_DISK] = { "disk", 4 },
    [WS_E_IO] = { "io", 5 },
    [WS_E_NOT_FINITE] = { "not-finite", 6 },
    [WS_E_NO_CONVERGENCE] = { "no-convergence", 6 },
    [WS_E_EXISTS] = { "exists", 7 },
    [WS_E_LOCKED] = { "locked", 7 },
    [WS_E_INTERRUPTED] = { "interrupted", 8 },
    [WS_E_INTERNAL] = { "internal", 70 },
};

const char *ws_status_code(ws_status code)
{
    return (size_t)code < sizeof table / sizeof *table ? table[code].word : "internal";
}

int ws_status_exit(ws_status code)
{
    return (size_t)code < sizeof table / sizeof *table ? table[code].exit : 70;
}

/** Copy with the middle cut out when it is too long: both ends of a name tell most. */
static void copy_cut(char *dst, size_t size, const char *src)
{
    const size_t n = strlen(src);
    if (n < size) {
        memcpy(dst, src, n + 1);
        return;
    }
    const size_t tail = (size - 4) / 2, head = size - 4 - tail;
    memcpy(dst, src, head);
    memcpy(dst + head, "...", 3);
    memcpy(dst + head + 3, src + n - tail, tail);
    dst[size - 1] = '\0';
}

static void __attribute__((format(printf, 3, 0)))
report_start(ws_err *err, ws_status code, const char *fmt, va_list ap)
{
    *err = (ws_err)WS_ERR_INIT;
    err->code = code;
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
}

// The static analyzer is given macros of these names, see err.h.
#undef ws_fail
#undef ws_fail_sys

ws_status ws_fail(ws_err *err, ws_status code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        report_start(err, code, fmt, ap);
        va_end(ap);
    }
    return code;
}

ws_status ws_fail_sys(ws_err *err, ws_status code, int sys, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        report_start(err, code, fmt, ap);
        va_end(ap);
        err->sys = sys;
        const size_t n = strlen(err->msg);
        char why[128];
        if (strerror_r(sys, why, sizeof why) != 0)
            snprintf(why, sizeof why, "error %d", sys);
        snprintf(err->msg + n, sizeof err->msg - n, ": %s", why);
    }
    return code;
}

ws_status ws_err_at(ws_err *err, const char *path, const char *tensor, int64_t offset)
{
    if (err == NULL)
        return WS_E_INTERNAL;
    if (path != NULL && err->path[0] == '\0')
        copy_cut(err->path, sizeof err->path, path);
    if (tensor != NULL && err->tensor[0] == '\0')
        copy_cut(err->tensor, sizeof err->tensor, tensor);
    if (offset >= 0 && err->offset < 0)
        err->offset = offset;
    return err->code;
}

void ws_err_hint(ws_err *err, const char *fmt, ...)
{
    if (err == NULL || err->hint[0] != '\0')
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->hint, sizeof err->hint, fmt, ap);
    va_end(ap);
}

void ws_err_format(const ws_err *err, char *buf, size_t size)
{
    char raw[sizeof err->msg + sizeof err->path + sizeof err->tensor + 64];
    int n = snprintf(raw, sizeof raw, "%s", err->msg);
    // a message that quotes the path already need not say it again
    char quoted[sizeof err->path + 2];
    snprintf(quoted, sizeof quoted, "'%s'", err->path);
    if (err->path[0] != '\0' && strstr(err->msg, quoted) == NULL)
        n += snprintf(raw + n, sizeof raw - (size_t)n, ", in '%s'", err->path);
    snprintf(quoted, sizeof quoted, "'%s'", err->tensor);
    if (err->tensor[0] != '\0' && strstr(err->msg, quoted) == NULL)
        n += snprintf(raw + n, sizeof raw - (size_t)n, ", tensor '%s'", err->tensor);
    if (err->offset >= 0)
        snprintf(raw + n, sizeof raw - (size_t)n, ", at byte %lld",
                 (long long)err->offset);
    ws_show(raw, buf, size);
}

void ws_diag_add(ws_diag *diag, const ws_err *err)
{
    if (diag == NULL)
        return;
    if (diag->n == diag->cap) {
        const size_t cap = diag->cap == 0 ? 8 : diag->cap * 2;
        ws_err *p = ws_realloc(diag->items, cap * sizeof *p);
        if (p == NULL) {
            diag->lost = true;
            return;
        }
        diag->items = p;
        diag->cap = cap;
    }
    diag->items[diag->n++] = *err;
}

ws_err *ws_diag_report(ws_diag *diag, ws_status code, const char *tag, const char *fmt,
                       ...)
{
    if (diag == NULL)
        return NULL;
    ws_err e;
    va_list ap;
    va_start(ap, fmt);
    report_start(&e, code, fmt, ap);
    va_end(ap);
    e.tag = tag;
    const size_t before = diag->n;
    ws_diag_add(diag, &e);
    return diag->n > before ? &diag->items[before] : NULL;
}

const ws_err *ws_diag_worst(const ws_diag *diag)
{
    const ws_err *worst = NULL;
    for (size_t i = 0; i < diag->n; i++)
        if (worst == NULL ||
            ws_status_exit(diag->items[i].code) < ws_status_exit(worst->code))
            worst = &diag->items[i];
    return worst;
}

void ws_diag_free(ws_diag *diag)
{
    ws_free(diag->items);
    *diag = (ws_diag){ 0 };
}
