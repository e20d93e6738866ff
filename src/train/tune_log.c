/*
 * tune_log.c - what each step gave, a line of JSON
 *
 *   {"step":1,"steps":500,"loss":3.9,"lr":0,"grad_norm":1.2,"tokens":1016,
 *    "tokens_per_second":24000}
 *   {"step":100,"steps":500,"val_loss":2.4,"best":true}
 *
 * A resumed run first drops the lines of steps that it makes again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/os.h"
#include "train/tune.h"
#include "wsurg/text.h"

enum { LOG_CAP = 1 << 30 };

static ws_status failed(const ws_tune *t, int sys, ws_err *err)
{
    ws_fail_sys(err, WS_E_IO, sys, "cannot write the log");
    ws_err_at(err, t->req->log, NULL, -1);
    return WS_E_IO;
}

static ws_status put(const ws_tune *t, const char *text, size_t n, ws_err *err)
{
    while (n > 0) {
        const ssize_t k = write(t->log, text, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return failed(t, errno, err);
        text += k;
        n -= (size_t)k;
    }
    return WS_OK;
}

/** Bytes of @p text that stay: whole lines of steps up to @p done. */
static size_t lines_kept(const char *text, size_t n, int64_t done)
{
    static const char head[] = "{\"step\":";
    size_t at = 0;

    while (at < n) {
        const char *end = memchr(text + at, '\n', n - at);
        if (end == NULL || strncmp(text + at, head, sizeof head - 1) != 0 ||
            strtoll(text + at + sizeof head - 1, NULL, 10) > done)
            break;
        at = (size_t)(end - text) + 1;
    }
    return at;
}

ws_status ws_tune_log_open(ws_tune *t, ws_err *err)
{
    char *text = NULL;
    size_t n = 0;

    if (t->req->log == NULL)
        return WS_OK;
    if (t->done > 0 && ws_file_read(&text, &n, t->req->log, LOG_CAP, NULL) == WS_OK)
        n = lines_kept(text, n, t->done);
    else
        n = 0;
    ws_free(text);
    t->log = open(t->req->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (t->log < 0 || ftruncate(t->log, (off_t)n) != 0 ||
        lseek(t->log, 0, SEEK_END) < 0)
        return failed(t, errno, err);
    return WS_OK;
}

ws_status ws_tune_log_step(ws_tune *t, const ws_tune_step *s, ws_err *err)
{
    char line[512];
    int n;

    if (t->log < 0)
        return WS_OK;
    if (s->val)
        n = snprintf(line, sizeof line,
                     "{\"step\":%lld,\"steps\":%lld,\"val_loss\":%.9g,\"best\":%s}\n",
                     (long long)s->step, (long long)s->steps, s->loss,
                     t->best_step == s->step ? "true" : "false");
    else
        n = snprintf(line, sizeof line,
                     "{\"step\":%lld,\"steps\":%lld,\"loss\":%.9g,\"lr\":%.9g,"
                     "\"grad_norm\":%.9g,\"tokens\":%lld,\"tokens_per_second\":%.6g}\n",
                     (long long)s->step, (long long)s->steps, s->loss, s->lr, s->norm,
                     (long long)s->tokens, s->rate);
    return put(t, line, (size_t)n, err);
}
