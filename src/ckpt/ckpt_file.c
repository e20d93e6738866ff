/*
 * ckpt_file.c - the data files of a checkpoint: descriptors, identity, reading
 *
 * A directory may hold more shards than the process may open, so only descriptors below
 * half the limit are kept; other files are opened for each read and compared with what
 * they were. Opening costs microseconds, reads are of a megabyte.
 */
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "ckpt/ckpt_internal.h"

enum { KEEP_DEFAULT = 256 };

/** Whether @p f is still the file with these facts. */
static bool same_file(const ws_ckpt_file *f, const struct stat *st)
{
    return f->bytes == (uint64_t)st->st_size && f->dev == (uint64_t)st->st_dev &&
           f->ino == (uint64_t)st->st_ino &&
           f->mtime_s == (int64_t)st->st_mtim.tv_sec &&
           f->mtime_ns == (int64_t)st->st_mtim.tv_nsec;
}

static ws_status report_changed(const ws_ckpt_file *f, ws_err *err)
{
    ws_fail(err, WS_E_IO, "file has changed since it was opened");
    ws_err_at(err, f->path, NULL, -1);
    return WS_E_IO;
}

/** The kernel hands out the lowest free number, so it tells how many are in use. */
static bool may_keep(int fd)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur == RLIM_INFINITY)
        return fd < KEEP_DEFAULT;
    return (rlim_t)fd < lim.rlim_cur / 2;
}

/** Room for one more file. */
static ws_status files_grow(ws_ckpt *c, ws_err *err)
{
    if (c->n_files < c->cap_files)
        return WS_OK;
    const size_t cap = c->cap_files == 0 ? 4 : c->cap_files * 2;
    ws_ckpt_file *files = ws_realloc(c->files, cap * sizeof *files);
    if (files != NULL)
        c->files = files;
    int *fds = files == NULL ? NULL : ws_realloc(c->fds, cap * sizeof *fds);
    if (fds == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for %zu files", cap);
    c->fds = fds;
    c->cap_files = cap;
    return WS_OK;
}

ws_status ws_ckpt_add_file(ws_ckpt *c, const char *name, const char *path,
                           uint32_t *index, ws_err *err)
{
    int fd = -1;
    struct stat sb;
    ws_status st = files_grow(c, err);
    if (st != WS_OK)
        return st;
    ws_ckpt_file *f = &c->files[c->n_files];
    st = ws_os_open_read(&fd, path, &f->bytes, err);
    if (st != WS_OK)
        return st;
    f->name = ws_arena_strdup(&c->arena, name);
    f->path = ws_arena_strdup(&c->arena, path);
    if (f->name == NULL || f->path == NULL) {
        close(fd);
        return ws_fail(err, WS_E_MEMORY, "no memory for a file name");
    }
    if (fstat(fd, &sb) != 0 || f->bytes != (uint64_t)sb.st_size) {
        close(fd);
        return report_changed(f, err);
    }
    f->dev = (uint64_t)sb.st_dev;
    f->ino = (uint64_t)sb.st_ino;
    f->mtime_s = (int64_t)sb.st_mtim.tv_sec;
    f->mtime_ns = (int64_t)sb.st_mtim.tv_nsec;
    if (!may_keep(fd)) {
        close(fd);
        fd = -1;
    }
    c->fds[c->n_files] = fd;
    *index = (uint32_t)c->n_files++;
    return WS_OK;
}

ws_status ws_ckpt_borrow_files(ws_ckpt *c, const ws_ckpt *from, ws_err *err)
{
    for (size_t i = 0; i < from->n_files; i++) {
        const ws_status st = files_grow(c, err);
        if (st != WS_OK)
            return st;
        ws_ckpt_file f = from->files[i];
        f.name = ws_arena_strdup(&c->arena, f.name);
        f.path = ws_arena_strdup(&c->arena, f.path);
        if (f.name == NULL || f.path == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for a file name");
        c->files[c->n_files] = f;
        c->fds[c->n_files++] = -1;
    }
    return WS_OK;
}

ws_status ws_ckpt_file_read(const ws_ckpt *c, uint32_t file, uint64_t offset,
                            size_t len, void *dst, ws_err *err)
{
    const ws_ckpt_file *f = &c->files[file];
    if (c->fds[file] >= 0)
        return ws_os_pread(c->fds[file], f->path, dst, len, offset, err);
    int fd;
    uint64_t bytes;
    struct stat sb;
    ws_status st = ws_os_open_read(&fd, f->path, &bytes, err);
    if (st != WS_OK)
        return st;
    if (fstat(fd, &sb) != 0 || !same_file(f, &sb))
        st = report_changed(f, err);
    else
        st = ws_os_pread(fd, f->path, dst, len, offset, err);
    close(fd);
    return st;
}

ws_status ws_ckpt_recheck(const ws_ckpt *c, ws_err *err)
{
    for (size_t i = 0; i < c->n_files; i++) {
        struct stat sb;
        if (stat(c->files[i].path, &sb) != 0 || !same_file(&c->files[i], &sb))
            return report_changed(&c->files[i], err);
    }
    return c->ops != NULL && c->ops->recheck != NULL ? c->ops->recheck(c, err) : WS_OK;
}
