/*
 * spool.c - a model from standard input, made a file that can be read anywhere
 */
#define _GNU_SOURCE // O_TMPFILE

#include "wsurg/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "ckpt/ckpt_internal.h"
#include "ckpt/ticker.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

enum { CHUNK = 1 << 20, HEAD = 8, MAX_HEADER = 100000000 };

#define DESCRIPTOR "/proc/self/fd/"

struct ws_spool {
    int fd;
    uint64_t bytes;
    char path[40];
};

/** Errors name the input as the user does. */
static ws_status at_stdin(ws_status st, ws_err *err)
{
    ws_err_at(err, "-", NULL, -1);
    return st;
}

static uint64_t header_len(const uint8_t *p)
{
    uint64_t len = 0;
    for (int i = 0; i < HEAD; i++)
        len |= (uint64_t)p[i] << (8 * i);
    return len;
}

/** Whether the first @p n bytes may begin a safetensors file; n < 9 only at the end. */
static ws_status check_head(const uint8_t *p, size_t n, ws_err *err)
{
    const uint64_t len = n > HEAD ? header_len(p) : 0;
    size_t i = HEAD;
    while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\r' || p[i] == '\n'))
        i++;
    if (len > 0 && len <= MAX_HEADER && (i == n || p[i] == '{'))
        return WS_OK;
    ws_status st = ws_foreign_check(p, n, err);
    if (st == WS_OK && n <= HEAD)
        st = ws_fail(err, WS_E_HEADER, "no safetensors file: it ends after %zu bytes",
                     n);
    else if (st == WS_OK && len > MAX_HEADER)
        st = ws_fail(err, WS_E_HEADER,
                     "no safetensors file: its header would have %llu bytes, at most "
                     "%d are allowed",
                     (unsigned long long)len, MAX_HEADER);
    else if (st == WS_OK)
        st = ws_fail(err, WS_E_HEADER,
                     "no safetensors file: its header does not begin with '{'");
    return at_stdin(st, err);
}

/** An empty file without a name in @p folder. */
static ws_status open_nameless(const char *folder, int *fd, ws_err *err)
{
    *fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        ws_buf name = { 0 };
        ws_buf_printf(&name, "%s/.wsurg-stdin-XXXXXX", folder);
        if (name.failed) {
            ws_buf_free(&name);
            return ws_fail(err, WS_E_MEMORY, "no memory to read standard input");
        }
        *fd = mkostemp(name.p, O_CLOEXEC);
        const int sys = errno;
        if (*fd >= 0)
            unlink(name.p);
        ws_buf_free(&name);
        errno = sys;
    }
    if (*fd >= 0)
        return WS_OK;
    ws_fail_sys(err, WS_E_IO, errno, "cannot make a file for standard input");
    ws_err_at(err, folder, NULL, -1);
    return WS_E_IO;
}

/** Fill the buffer as far as the input goes; *n is less only at its end. */
static ws_status fill(int fd, uint8_t *buf, size_t want, size_t *n, const ws_ctx *ctx,
                      ws_err *err)
{
    *n = 0;
    while (*n < want) {
        const ssize_t k = read(fd, buf + *n, want - *n);
        if (ctx != NULL && ctx->stop != NULL && atomic_load(ctx->stop) != 0)
            return ws_fail(err, WS_E_INTERRUPTED,
                           "interrupted while reading standard input");
        if (k < 0 && errno != EINTR)
            return at_stdin(
                ws_fail_sys(err, WS_E_IO, errno, "cannot read standard input"), err);
        if (k == 0)
            break;
        *n += k < 0 ? 0 : (size_t)k;
    }
    return WS_OK;
}

static ws_status too_large(uint64_t limit, ws_err *err)
{
    char shown[24];
    ws_show_bytes(limit, shown);
    ws_fail(err, WS_E_DISK,
            "standard input has more than the %s of disk there is for it", shown);
    ws_err_hint(err, "--max-disk sets the limit");
    return at_stdin(WS_E_DISK, err);
}

/** Copy all of @p fd into the spool. */
static ws_status copy_in(ws_spool *s, int fd, uint64_t limit, const ws_ctx *ctx,
                         ws_err *err)
{
    uint8_t *buf = ws_alloc(CHUNK);
    if (buf == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to read standard input");
    ws_ticker ticker;
    ws_ticker_start(&ticker, ctx, "spool", 0);
    size_t n = 0;
    // little at first, so that what is no model is refused as soon as it shows
    ws_status st = fill(fd, buf, 64, &n, ctx, err);
    if (st == WS_OK)
        st = check_head(buf, n, err);
    while (st == WS_OK && n > 0) {
        if (n > limit - s->bytes)
            st = too_large(limit, err);
        else
            st = ws_os_pwrite(s->fd, "-", buf, n, s->bytes, err);
        if (st != WS_OK)
            break;
        s->bytes += n;
        ws_ticker_add(&ticker, n);
        st = fill(fd, buf, CHUNK, &n, ctx, err);
    }
    ws_ticker_end(&ticker);
    ws_free(buf);
    return st;
}

/** Whether @p fd can be read as a file of its own: regular, at its beginning, and not
 * closed to a second opening. */
static bool is_file(ws_spool *s, int fd)
{
    struct stat sb;
    snprintf(s->path, sizeof s->path, DESCRIPTOR "%d", fd);
    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) || lseek(fd, 0, SEEK_CUR) != 0)
        return false;
    const int again = open(s->path, O_RDONLY | O_CLOEXEC);
    if (again < 0)
        return false;
    close(again);
    s->bytes = (uint64_t)sb.st_size;
    return true;
}

static ws_status check_file(int fd, ws_err *err)
{
    uint8_t head[64];
    size_t n = 0;
    while (n < sizeof head) {
        const ssize_t k = pread(fd, head + n, sizeof head - n, (off_t)n);
        if (k < 0 && errno != EINTR)
            return at_stdin(
                ws_fail_sys(err, WS_E_IO, errno, "cannot read standard input"), err);
        if (k == 0)
            break;
        n += k < 0 ? 0 : (size_t)k;
    }
    return check_head(head, n, err);
}

ws_status ws_spool_new(ws_spool **out, int fd, const char *folder, const ws_ctx *ctx,
                       ws_err *err)
{
    if (isatty(fd))
        return at_stdin(
            ws_fail(err, WS_E_USAGE, "'-' is standard input, which is a terminal"),
            err);
    ws_spool *s = ws_calloc(1, sizeof *s);
    if (s == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to read standard input");
    s->fd = -1;
    ws_status st;
    if (is_file(s, fd)) {
        st = check_file(fd, err);
    } else {
        const uint64_t limit =
            ctx != NULL && ctx->max_disk > 0 ? ctx->max_disk : ws_os_disk_free(folder);
        st = open_nameless(folder, &s->fd, err);
        snprintf(s->path, sizeof s->path, DESCRIPTOR "%d", s->fd);
        if (st == WS_OK)
            st = copy_in(s, fd, limit, ctx, err);
    }
    if (st == WS_OK)
        *out = s;
    else
        ws_spool_free(s);
    return st;
}

const char *ws_spool_shown(const char *path)
{
    const bool spool = strncmp(path, DESCRIPTOR, sizeof DESCRIPTOR - 1) == 0;
    return spool ? "-" : path;
}

const char *ws_spool_path(const ws_spool *s)
{
    return s->path;
}

uint64_t ws_spool_bytes(const ws_spool *s)
{
    return s->bytes;
}

void ws_spool_free(ws_spool *s)
{
    if (s == NULL)
        return;
    if (s->fd >= 0)
        close(s->fd);
    ws_free(s);
}
