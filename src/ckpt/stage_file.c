/*
 * stage_file.c - the files of a stage: made, written, read back, synced, journaled
 */
#define _GNU_SOURCE // sync_file_range

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/os.h"
#include "ckpt/manifest_internal.h"
#include "ckpt/stage_internal.h"
#include "ckpt/ticker.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

enum { COPY_CHUNK = 1 << 20 };

/** Bytes after which a stretch of a large file is handed to the disk, so that the last
 * sync finds little left to do. */
static const uint64_t window_bytes = 32u << 20;

static int dir_of(const ws_stage *s)
{
    return s->is_dir ? s->out_fd : s->folder_fd;
}

static const char *name_of(const ws_stage *s, const char *name)
{
    return s->is_dir ? name : WS_STAGE_OUT;
}

static ws_status no_memory(const ws_stage *s, ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to stage '%s'", s->target);
}

/** As ws_stage_fail() for the file @p name of the target. */
static ws_status fail_at(const ws_stage *s, const char *name, int sys, const char *what,
                         ws_err *err)
{
    ws_fail_sys(err, WS_E_IO, sys, "cannot %s", what);
    ws_buf path = { 0 };
    ws_buf_printf(&path, *name == '\0' ? "%s" : "%s/%s", s->target, name);
    ws_err_at(err, path.failed ? s->target : path.p, NULL, -1);
    ws_buf_free(&path);
    return WS_E_IO;
}

static ws_status check_name(const ws_stage *s, const char *name, ws_err *err)
{
    if (s->is_dir ? ws_path_is_safe(name) : *name == '\0')
        return WS_OK;
    return ws_fail(err, WS_E_INTERNAL, "'%s' is no name for a file of '%s'", name,
                   s->target);
}

/** Make the folders that @p name lies in. */
static ws_status make_parents(const ws_stage *s, const char *name, ws_err *err)
{
    for (const char *slash = name; (slash = strchr(slash, '/')) != NULL; slash++) {
        char *folder = ws_strndup(name, (size_t)(slash - name));
        if (folder == NULL)
            return no_memory(s, err);
        ws_stage_step();
        const bool ok = mkdirat(s->out_fd, folder, 0777) == 0 || errno == EEXIST;
        const int sys = errno;
        ws_free(folder);
        if (!ok)
            return fail_at(s, name, sys, "make the folder", err);
    }
    return WS_OK;
}

/** Windows of @p bytes for early write-back; none where there is no disk. */
static bool want_windows(int fd, uint64_t bytes)
{
    struct statfs fs;
    return bytes >= 2 * window_bytes && fstatfs(fd, &fs) == 0 &&
           (uint32_t)fs.f_type != TMPFS_MAGIC && (uint32_t)fs.f_type != RAMFS_MAGIC;
}

/** Add an entry; takes @p fd on success. Replaces one of the same name. */
static ws_status add_entry(ws_stage *s, const char *name, int fd, uint64_t bytes,
                           int *id, ws_err *err)
{
    struct ws_stage_entry *e = ws_calloc(1, sizeof *e);
    ws_status st = WS_OK;
    if (e == NULL || (e->name = ws_strdup(name)) == NULL) {
        ws_free(e);
        return no_memory(s, err);
    }
    e->fd = fd;
    e->bytes = bytes;
    if (fd >= 0 && want_windows(fd, bytes)) {
        e->n_windows = (size_t)(bytes / window_bytes); // the rest is the last sync's
        e->written = ws_calloc(e->n_windows, sizeof *e->written);
        if (e->written == NULL)
            e->n_windows = 0; // it only made things faster
    }
    pthread_mutex_lock(&s->lock);
    if (s->n == s->cap) {
        const size_t cap = s->cap == 0 ? 16 : 2 * s->cap;
        struct ws_stage_entry **p = ws_realloc(s->entries, cap * sizeof *p);
        if (p == NULL)
            st = no_memory(s, err);
        else
            s->entries = p, s->cap = cap;
    }
    if (st == WS_OK) {
        if (id != NULL)
            *id = (int)s->n;
        s->entries[s->n++] = e;
    }
    pthread_mutex_unlock(&s->lock);
    if (st != WS_OK) {
        ws_free(e->name);
        ws_free(e->written);
        ws_free(e);
    }
    return st;
}

/** A new file in the staged directory, or the staged file: nothing may be there. */
static ws_status create(const ws_stage *s, const char *name, int *fd, ws_err *err)
{
    ws_stage_step();
    *fd = openat(dir_of(s), name_of(s, name),
                 O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    return *fd >= 0 ? WS_OK : fail_at(s, name, errno, "create", err);
}

/** Reopen what a resumed journal vouched for; *fd is -1 when the run had not come to
 * it. */
static ws_status reopen(const ws_stage *s, const char *name, uint64_t bytes, int *fd,
                        ws_err *err)
{
    struct stat sb;
    *fd = openat(dir_of(s), name_of(s, name), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return errno == ENOENT ? WS_OK : fail_at(s, name, errno, "reopen", err);
    if (fstat(*fd, &sb) == 0 && (uint64_t)sb.st_size == bytes)
        return WS_OK;
    close(*fd);
    return ws_fail(err, WS_E_INTERNAL,
                   "staged file '%s' has %lld bytes where the same plan wants %llu",
                   name, (long long)sb.st_size, (unsigned long long)bytes);
}

static ws_status record_file(ws_stage *s, const char *name, int fd, uint64_t bytes,
                             ws_err *err)
{
    struct stat sb;
    if (fstat(fd, &sb) != 0)
        return fail_at(s, name, errno, "examine", err);
    return ws_journal_add(s->journal, WS_STAGE_FILE, bytes, sb.st_ino, name,
                          strlen(name), err);
}

ws_status ws_stage_file(ws_stage *s, const char *name, uint64_t bytes, int *id,
                        ws_err *err)
{
    int fd = -1;
    ws_status st = check_name(s, name, err);
    if (st == WS_OK)
        st = make_parents(s, name, err);
    if (st == WS_OK && s->resumed)
        st = reopen(s, name, bytes, &fd, err);
    if (st != WS_OK)
        return st;
    if (fd < 0) {
        if ((st = create(s, name, &fd, err)) != WS_OK)
            return st;
        ws_stage_step();
        // sparse: reserving blocks would cost a second pass over the pages of a tmpfs
        if (ftruncate(fd, (off_t)bytes) != 0)
            st = fail_at(s, name, errno, "grow", err);
        else
            st = record_file(s, name, fd, bytes, err);
    }
    if (st == WS_OK)
        st = add_entry(s, name, fd, bytes, id, err);
    if (st != WS_OK)
        close(fd);
    return st;
}

static struct ws_stage_entry *entry(ws_stage *s, int id)
{
    pthread_mutex_lock(&s->lock);
    struct ws_stage_entry *e = s->entries[id];
    pthread_mutex_unlock(&s->lock);
    return e;
}

/** Count a write, and start the write-back of each window that is full now. */
static void count_windows(struct ws_stage_entry *e, uint64_t offset, uint64_t len)
{
    for (uint64_t end = offset + len; offset < end;) {
        const uint64_t w = offset / window_bytes;
        const uint64_t stop =
            (w + 1) * window_bytes < end ? (w + 1) * window_bytes : end;
        const uint64_t n = stop - offset;
        if (w >= e->n_windows)
            return;
        const uint64_t before = atomic_fetch_add(&e->written[w], n);
        if (before < window_bytes && before + n >= window_bytes)
            sync_file_range(e->fd, (off_t)(w * window_bytes), (off_t)window_bytes,
                            SYNC_FILE_RANGE_WRITE); // a failure shows in fsync
        offset = stop;
    }
}

ws_status ws_stage_write(ws_stage *s, int id, const void *data, size_t len,
                         uint64_t offset, ws_err *err)
{
    struct ws_stage_entry *e = entry(s, id);
    ws_stage_step();
    const ws_status st = ws_os_pwrite(e->fd, s->target, data, len, offset, err);
    if (st == WS_OK && e->n_windows > 0)
        count_windows(e, offset, len);
    return st;
}

ws_status ws_stage_read(ws_stage *s, int id, void *data, size_t len, uint64_t offset,
                        ws_err *err)
{
    return ws_os_pread(entry(s, id)->fd, s->target, data, len, offset, err);
}

/** Make room for a file that is put whole: what a killed run left of it goes. */
static ws_status create_again(ws_stage *s, const char *name, int *fd, ws_err *err)
{
    ws_status st = check_name(s, name, err);
    if (st == WS_OK && !s->is_dir)
        st = ws_fail(err, WS_E_INTERNAL, "'%s' is no directory to put files in",
                     s->target);
    if (st == WS_OK)
        st = make_parents(s, name, err);
    if (st != WS_OK)
        return st;
    ws_stage_step();
    if (unlinkat(s->out_fd, name, 0) != 0 && errno != ENOENT)
        return fail_at(s, name, errno, "replace", err);
    return create(s, name, fd, err);
}

/** Record a file that was put; one put before under that name is gone. */
static ws_status note_put(ws_stage *s, const char *name, uint64_t bytes, ws_err *err)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->entries[i]->name, name) == 0) {
            s->entries[i]->bytes = bytes;
            return WS_OK;
        }
    return add_entry(s, name, -1, bytes, NULL, err);
}

ws_status ws_stage_put(ws_stage *s, const char *name, const void *data, size_t len,
                       ws_err *err)
{
    int fd = -1;
    ws_status st = create_again(s, name, &fd, err);
    if (st != WS_OK)
        return st;
    ws_stage_step();
    st = ws_os_pwrite(fd, s->target, data, len, 0, err);
    if (close(fd) != 0 && st == WS_OK)
        st = fail_at(s, name, errno, "write", err);
    return st == WS_OK ? note_put(s, name, len, err) : st;
}

ws_status ws_stage_copy(ws_stage *s, const char *name, const char *from, ws_err *err)
{
    struct ws_transfer t = { .out = -1, .target = s->target, .from = from };
    ws_status st = ws_os_open_read(&t.in, from, &t.len, err);
    if (st != WS_OK)
        return st;
    st = create_again(s, name, &t.out, err);
    if (st == WS_OK)
        st = ws_stage_transfer(&t, true, err);
    if (t.out >= 0 && close(t.out) != 0 && st == WS_OK)
        st = fail_at(s, name, errno, "write", err);
    close(t.in);
    return st == WS_OK ? note_put(s, name, t.len, err) : st;
}

/* ---- journal and sync ---- */

ws_status ws_stage_record(ws_stage *s, uint32_t type, uint64_t a, uint64_t b,
                          const void *payload, size_t n, ws_err *err)
{
    if (type >= WS_JOURNAL_OWN)
        return ws_fail(err, WS_E_INTERNAL, "journal record of reserved type %u", type);
    return ws_journal_add(s->journal, type, a, b, payload, n, err);
}

/** Hands on what is not the stage's own. */
struct replay {
    ws_journal_visit *visit;
    void *arg;
};

static ws_status replay_record(void *arg, uint32_t type, uint64_t a, uint64_t b,
                               const void *payload, size_t n, ws_err *err)
{
    const struct replay *r = arg;
    return type >= WS_JOURNAL_OWN ? WS_OK
                                  : r->visit(r->arg, type, a, b, payload, n, err);
}

ws_status ws_stage_replay(ws_stage *s, ws_journal_visit *visit, void *arg, ws_err *err)
{
    struct replay r = { .visit = visit, .arg = arg };
    return s->resumed ? ws_journal_replay(s->journal, replay_record, &r, err) : WS_OK;
}

static ws_status sync_entry(const ws_stage *s, const struct ws_stage_entry *e,
                            ws_err *err)
{
    const int fd = e->fd >= 0 ? e->fd
                              : openat(dir_of(s), name_of(s, e->name),
                                       O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail_at(s, e->name, errno, "reopen", err);
    ws_stage_step();
    const bool ok = fsync(fd) == 0;
    const int sys = errno;
    if (e->fd < 0)
        close(fd);
    return ok ? WS_OK : fail_at(s, e->name, sys, "sync", err);
}

/** Sync a folder by its descriptor. Some file systems cannot, and say EINVAL. */
static ws_status sync_folder(const ws_stage *s, int fd, ws_err *err)
{
    ws_stage_step();
    return fsync(fd) == 0 || errno == EINVAL
               ? WS_OK
               : ws_stage_fail(s, errno, "sync the folder", err);
}

/** Sync the folders inside the staged directory that @p name lies in. */
static ws_status sync_parents(const ws_stage *s, const char *name, ws_err *err)
{
    ws_status st = WS_OK;
    for (const char *slash = name; st == WS_OK && (slash = strchr(slash, '/')) != NULL;
         slash++) {
        char *folder = ws_strndup(name, (size_t)(slash - name));
        if (folder == NULL)
            return no_memory(s, err);
        const int fd = openat(s->out_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        st = fd >= 0 ? sync_folder(s, fd, err)
                     : fail_at(s, name, errno, "open the folder", err);
        if (fd >= 0)
            close(fd);
        ws_free(folder);
    }
    return st;
}

ws_status ws_stage_sync_files(ws_stage *s, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < s->n; i++)
        st = sync_entry(s, s->entries[i], err);
    for (size_t i = 0; st == WS_OK && i < s->n; i++)
        st = sync_parents(s, s->entries[i]->name, err);
    if (st == WS_OK && s->is_dir)
        st = sync_folder(s, s->out_fd, err);
    if (st == WS_OK)
        st = sync_folder(s, s->folder_fd, err);
    return st == WS_OK ? sync_folder(s, s->parent_fd, err) : st;
}

ws_status ws_stage_sync(ws_stage *s, ws_err *err)
{
    // what is asserted while the files are being synced may not be on disk
    const uint64_t mark = ws_journal_mark(s->journal);
    const ws_status st = ws_stage_sync_files(s, err);
    return st == WS_OK ? ws_journal_synced(s->journal, mark, err) : st;
}

/* ---- to standard output ---- */

static ws_status write_all(int fd, const char *p, size_t n, const ws_ctx *ctx,
                           ws_err *err)
{
    while (n > 0) {
        const ssize_t k = write(fd, p, n);
        if (ctx != NULL && ctx->stop != NULL && atomic_load(ctx->stop) != 0)
            return ws_fail(err, WS_E_INTERRUPTED,
                           "interrupted while writing to standard output");
        if (k < 0 && errno != EINTR)
            return ws_fail_sys(err, WS_E_IO, errno, "cannot write to standard output");
        p += k < 0 ? 0 : k;
        n -= k < 0 ? 0 : (size_t)k;
    }
    return WS_OK;
}

ws_status ws_stage_emit(ws_stage *s, int fd, const ws_ctx *ctx, ws_err *err)
{
    if (isatty(fd)) {
        ws_fail(err, WS_E_USAGE, "standard output is a terminal: a model is not text");
        ws_err_hint(err, "redirect it, or name a file with -o");
        return WS_E_USAGE;
    }
    if (s->is_dir)
        return ws_fail(err, WS_E_USAGE, "a directory cannot go to standard output");
    char *buf = ws_alloc(COPY_CHUNK);
    if (buf == NULL)
        return no_memory(s, err);
    ws_status st = WS_OK;
    const uint64_t bytes = s->entries[0]->bytes;
    ws_ticker ticker;
    ws_ticker_start(&ticker, ctx, "send", bytes);
    for (uint64_t at = 0; st == WS_OK && at < bytes; at += COPY_CHUNK) {
        const size_t n = bytes - at < COPY_CHUNK ? (size_t)(bytes - at) : COPY_CHUNK;
        st = ws_stage_read(s, 0, buf, n, at, err);
        if (st == WS_OK)
            st = write_all(fd, buf, n, ctx, err);
        ws_ticker_add(&ticker, n);
    }
    ws_ticker_end(&ticker);
    ws_free(buf);
    return st;
}
