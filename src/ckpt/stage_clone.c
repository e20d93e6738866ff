/*
 * stage_clone.c - bytes of an input into a staged file without passing through here
 *
 * Whole files are shared with the input where the file system can (a reflink); ranges
 * are copied by the kernel, and by reading and writing where it cannot.
 */
#define _GNU_SOURCE // copy_file_range

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/os.h"
#include "ckpt/stage_internal.h"
#include "wsurg/alloc.h"

enum { CHUNK = 1 << 20 };

/** What the kernel is given at once, so that a signal does not wait for long. */
static const uint64_t step_bytes = 64u << 20;

/** Where neither file system nor kernel can do it. */
static ws_status copy_through(const struct ws_transfer *t, uint64_t done, ws_err *err)
{
    char *buf = ws_alloc(CHUNK);
    ws_status st =
        buf == NULL ? ws_fail(err, WS_E_MEMORY, "no memory to copy a file") : WS_OK;
    for (uint64_t at = done; st == WS_OK && at < t->len; at += CHUNK) {
        const size_t n = t->len - at < CHUNK ? (size_t)(t->len - at) : CHUNK;
        st = ws_os_pread(t->in, t->from, buf, n, t->from_offset + at, err);
        ws_stage_step();
        if (st == WS_OK)
            st = ws_os_pwrite(t->out, t->target, buf, n, t->offset + at, err);
    }
    ws_free(buf);
    return st;
}

/** Bytes that the kernel copied, from the first on; the rest is left to others. */
static uint64_t copy_inside(const struct ws_transfer *t)
{
    uint64_t done = 0;
    while (done < t->len) {
        const uint64_t left = t->len - done;
        off_t src = (off_t)(t->from_offset + done), dst = (off_t)(t->offset + done);
        ws_stage_step();
        const ssize_t n =
            copy_file_range(t->in, &src, t->out, &dst,
                            (size_t)(left < step_bytes ? left : step_bytes), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (uint64_t)n;
    }
    return done;
}

ws_status ws_stage_transfer(const struct ws_transfer *t, bool whole, ws_err *err)
{
    ws_stage_step();
    if (whole && ioctl(t->out, FICLONE, t->in) == 0)
        return WS_OK;
    return copy_through(t, copy_inside(t), err);
}

ws_status ws_stage_clone(ws_stage *s, int id, uint64_t offset, const char *from,
                         uint64_t from_offset, uint64_t len, ws_err *err)
{
    struct ws_transfer t = { .target = s->target,
                             .from = from,
                             .offset = offset,
                             .from_offset = from_offset,
                             .len = len };
    uint64_t bytes = 0;
    pthread_mutex_lock(&s->lock);
    const struct ws_stage_entry *e = s->entries[id];
    pthread_mutex_unlock(&s->lock);
    t.out = e->fd;
    ws_status st = ws_os_open_read(&t.in, from, &bytes, err);
    if (st != WS_OK)
        return st;
    const bool whole =
        offset == 0 && from_offset == 0 && len == bytes && len == e->bytes;
    st = ws_stage_transfer(&t, whole, err);
    close(t.in);
    return st;
}
