/*
 * stage.c - outputs that appear whole or not at all: the staging folder and its files
 */
#define _GNU_SOURCE // F_OFD_SETLK

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/os.h"
#include "ckpt/manifest_internal.h"
#include "ckpt/stage_internal.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

enum { OPEN_TRIES = 100 };

ws_status ws_stage_fail(const ws_stage *s, int sys, const char *what, ws_err *err)
{
    ws_fail_sys(err, WS_E_IO, sys, "cannot %s", what);
    ws_err_at(err, s->target, NULL, -1);
    return WS_E_IO;
}

/** a, b and c joined; ws_free. */
static char *join(const char *a, const char *b, const char *c)
{
    ws_buf out = { 0 };
    ws_buf_puts(&out, a);
    ws_buf_puts(&out, b);
    ws_buf_puts(&out, c);
    if (out.failed)
        ws_buf_free(&out);
    return out.p;
}

char *ws_stage_manifest_path(const char *target, bool is_dir)
{
    size_t n = strlen(target);
    while (n > 1 && target[n - 1] == '/')
        n--;
    char *clean = ws_strndup(target, n);
    char *path =
        clean == NULL ? NULL : join(clean, is_dir ? "/" : ".", WS_MANIFEST_NAME);
    ws_free(clean);
    return path;
}

/* ---- opening ---- */

/** Cut the target into folder and name. */
static ws_status split_target(ws_stage *s, const char *target, ws_err *err)
{
    size_t n = strlen(target);
    while (n > 1 && target[n - 1] == '/')
        n--;
    s->target = ws_strndup(target, n);
    if (s->target == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to stage '%s'", target);
    char *slash = strrchr(s->target, '/');
    s->name = slash == NULL ? s->target : slash + 1;
    if (*s->name == '\0' || strcmp(s->name, ".") == 0 || strcmp(s->name, "..") == 0)
        return ws_fail(err, WS_E_USAGE, "output '%s' names no file or directory",
                       target);
    if (slash == NULL)
        s->parent = ws_strdup(".");
    else
        s->parent = ws_strndup(s->target, slash == s->target ? 1 : slash - s->target);
    // beside the target as typed, so that reports name it as the user would
    char *prefix = ws_strndup(s->target, (size_t)(s->name - s->target));
    char *dot_name = join(".", s->name, ".wsurg");
    if (prefix != NULL && dot_name != NULL)
        s->folder = join(prefix, dot_name, "");
    if (s->folder != NULL)
        s->out = join(s->folder, "/", WS_STAGE_OUT);
    ws_free(prefix);
    ws_free(dot_name);
    s->doomed_size = n + 32; // dots, ".wsurg", the longest name in the folder
    s->doomed = ws_alloc(s->doomed_size);
    if (s->parent == NULL || s->out == NULL || s->doomed == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to stage '%s'", target);
    s->parent_fd = open(s->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->parent_fd >= 0)
        return WS_OK;
    ws_fail_sys(err, WS_E_IO, errno, "cannot open the output's folder '%s'", s->parent);
    ws_err_at(err, s->target, NULL, -1);
    return WS_E_IO;
}

/** Lock the open file; false with errno when another holds it or no lock exists. */
static bool take_lock(int fd)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, F_OFD_SETLK, &l) == 0)
        return true;
    if (errno == EAGAIN || errno == EACCES)
        return false;
    return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static bool same_file(int fd, int at, const char *name)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstatat(at, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/** In a folder open to all, like /tmp, a staging folder may be another user's trap. */
static bool is_trap(const ws_stage *s)
{
    struct stat parent, sb;
    return fstat(s->parent_fd, &parent) == 0 && (parent.st_mode & S_ISVTX) != 0 &&
           fstat(s->folder_fd, &sb) == 0 && sb.st_uid != geteuid();
}

/** One try at opening and locking the folder. *again: it vanished meanwhile. */
static ws_status try_folder(ws_stage *s, bool *again, ws_err *err)
{
    const char *base = strrchr(s->folder, '/');
    base = base == NULL ? s->folder : base + 1;
    *again = false;
    ws_stage_step();
    if (mkdirat(s->parent_fd, base, 0700) != 0 && errno != EEXIST)
        return ws_stage_fail(s, errno, "make the staging folder", err);
    s->folder_fd =
        openat(s->parent_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->folder_fd < 0) {
        *again = errno == ENOENT;
        return ws_stage_fail(s, errno, "open the staging folder", err);
    }
    if (is_trap(s)) {
        ws_fail(err, WS_E_EXISTS, "staging folder '%s' belongs to another user",
                s->folder);
        ws_err_at(err, s->target, NULL, -1);
        return WS_E_EXISTS;
    }
    ws_stage_step();
    s->lock_fd = openat(s->folder_fd, WS_STAGE_LOCK,
                        O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        *again = errno == ENOENT;
        return ws_stage_fail(s, errno, "open the lock", err);
    }
    if (!take_lock(s->lock_fd)) {
        if (errno != EAGAIN && errno != EACCES && errno != EWOULDBLOCK)
            return ws_stage_fail(s, errno, "lock the staging folder", err);
        ws_fail(err, WS_E_LOCKED, "output '%s' is being written by another run",
                s->target);
        ws_err_at(err, s->target, NULL, -1);
        return WS_E_LOCKED;
    }
    // a run that just ended may have removed what was opened here
    *again = !same_file(s->lock_fd, s->folder_fd, WS_STAGE_LOCK) ||
             !same_file(s->folder_fd, s->parent_fd, base);
    return *again ? ws_stage_fail(s, ENOENT, "open the staging folder", err) : WS_OK;
}

static ws_status open_folder(ws_stage *s, ws_err *err)
{
    bool again = true;
    ws_status st = WS_OK;
    for (int i = 0; again && i < OPEN_TRIES; i++) {
        close_fd(&s->lock_fd);
        close_fd(&s->folder_fd);
        st = try_folder(s, &again, err);
    }
    if (st != WS_OK) // not ours to remove
        close_fd(&s->lock_fd);
    return st;
}

static bool in_folder(const ws_stage *s, const char *name)
{
    struct stat sb;
    return fstatat(s->folder_fd, name, &sb, AT_SYMLINK_NOFOLLOW) == 0;
}

/** Remove @p name, a file or a tree, from the staging folder. Needs no memory: it is
 * what one does when memory is out. */
static ws_status remove_from_folder(const ws_stage *s, const char *name, ws_err *err)
{
    snprintf(s->doomed, s->doomed_size, "%s/%s", s->folder, name);
    ws_stage_step();
    return ws_os_remove_tree(s->doomed, err);
}

/** Clear the folder, the lock left in place. */
static ws_status clear_folder(const ws_stage *s, ws_err *err)
{
    // Without its journal what remains of a cut clearing is never gone on from; but
    // where the output has appeared only the journal knows it, so there it goes last.
    static const char *const names[] = { WS_STAGE_JOURNAL, WS_STAGE_OUT, WS_STAGE_OLD,
                                         WS_STAGE_MANIFEST, WS_STAGE_JOURNAL };
    const size_t first = s->finished ? 1 : 0;
    for (size_t i = first; i < first + 4; i++) {
        const ws_status st = remove_from_folder(s, names[i], err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

static void remove_folder(const ws_stage *s)
{
    if (clear_folder(s, NULL) != WS_OK)
        return;
    const char *base = strrchr(s->folder, '/');
    ws_stage_step();
    unlinkat(s->folder_fd, WS_STAGE_LOCK, 0);
    ws_stage_step();
    unlinkat(s->parent_fd, base == NULL ? s->folder : base + 1, AT_REMOVEDIR);
}

/* ---- going on from a journal ---- */

/** What the journal says about files and the end. */
struct found {
    ws_stage *s;
    char **names; // of the staged files
    size_t n;
    bool whole;     // they are all there, unchanged
    bool committed; // the commit had begun
    uint64_t ino;   // of what was to appear
    char *manifest; // where its manifest was to go, "" nowhere
};

static int out_dir(const ws_stage *s)
{
    return s->is_dir ? s->out_fd : s->folder_fd;
}

static const char *out_name(const ws_stage *s, const char *name)
{
    return s->is_dir ? name : WS_STAGE_OUT;
}

static ws_status found_file(struct found *f, uint64_t bytes, uint64_t ino, char *name,
                            ws_err *err)
{
    struct stat sb;
    char **p = ws_realloc(f->names, (f->n + 1) * sizeof *p);
    if (p == NULL) {
        ws_free(name);
        return ws_fail(err, WS_E_MEMORY, "no memory to read the journal");
    }
    f->names = p;
    f->names[f->n++] = name;
    if (fstatat(out_dir(f->s), out_name(f->s, name), &sb, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(sb.st_mode) || (uint64_t)sb.st_size != bytes || sb.st_ino != ino)
        f->whole = false;
    return WS_OK;
}

static ws_status found_record(void *arg, uint32_t type, uint64_t a, uint64_t b,
                              const void *payload, size_t n, ws_err *err)
{
    struct found *f = arg;
    if (type != WS_STAGE_FILE && type != WS_STAGE_COMMIT)
        return WS_OK;
    char *text = ws_strndup(payload, n);
    if (text == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to read the journal");
    if (type == WS_STAGE_FILE)
        return found_file(f, a, b, text, err);
    ws_free(f->manifest);
    f->manifest = text;
    f->committed = true;
    f->ino = b;
    return WS_OK;
}

static void found_free(struct found *f)
{
    for (size_t i = 0; i < f->n; i++)
        ws_free(f->names[i]);
    ws_free(f->names);
    ws_free(f->manifest);
}

static bool is_found(const struct found *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->names[i], name) == 0)
            return true;
    return false;
}

/** Remove what is staged without a word in the journal: it is made again. */
static ws_status remove_strays(const struct found *f, ws_err *err)
{
    const ws_stage *s = f->s;
    if (!s->is_dir)
        return f->n == 0 ? remove_from_folder(s, WS_STAGE_OUT, err) : WS_OK;
    char **files = NULL;
    size_t n = 0;
    ws_status st = ws_manifest_list(s->out, &files, &n, err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        ws_stage_step();
        if (!is_found(f, files[i]) && unlinkat(s->out_fd, files[i], 0) != 0)
            st = ws_stage_fail(s, errno, "clear the staging folder", err);
    }
    ws_manifest_list_free(files, n);
    return st;
}

/** Open the staged directory; false when there is none. */
static bool open_out(ws_stage *s)
{
    if (s->is_dir)
        s->out_fd = openat(s->folder_fd, WS_STAGE_OUT,
                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return !s->is_dir || s->out_fd >= 0;
}

static ws_status open_journal(ws_stage *s, const char *key, ws_err *err)
{
    const int fd = openat(s->folder_fd, WS_STAGE_JOURNAL,
                          O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? WS_OK
                               : ws_stage_fail(s, errno, "open the journal", err);
    return ws_journal_resume(&s->journal, fd, s->target, key, err);
}

/** Whether the target is what the journal says was to appear. */
static bool has_appeared(const struct found *f)
{
    struct stat sb;
    return f->committed && ws_stage_stat(f->s, &sb) && sb.st_ino == f->ino &&
           S_ISDIR(sb.st_mode) == f->s->is_dir;
}

/** Go on from what a dead run left, where that is possible. */
static ws_status resume(ws_stage *s, const char *key, ws_err *err)
{
    struct found f = { .s = s, .whole = true };
    ws_status st = open_journal(s, key, err);
    if (st != WS_OK || s->journal == NULL)
        return st;
    const bool out = open_out(s);
    st = ws_journal_replay(s->journal, found_record, &f, err);
    if (st == WS_OK && has_appeared(&f)) {
        st = ws_stage_finish(s, f.manifest, err);
        s->finished = st == WS_OK;
    } else if (st == WS_OK && out && f.whole) {
        struct stat sb;
        if (s->force || !ws_stage_stat(s, &sb)) {
            st = remove_strays(&f, err);
            s->resumed = st == WS_OK;
        }
    }
    found_free(&f);
    if (!s->resumed && !s->finished) {
        ws_journal_free(s->journal);
        s->journal = NULL;
        close_fd(&s->out_fd);
    }
    return st;
}

static void note_discarded(const ws_stage *s, bool resume, ws_diag *warnings)
{
    ws_err *e = ws_diag_report(
        warnings, WS_OK, "note",
        resume ? "work of an earlier run for '%s' is discarded: it was another's, of "
                 "other inputs or options"
               : "unfinished work of an earlier run for '%s' is discarded",
        s->target);
    ws_err_at(e, s->target, NULL, -1);
}

/** Begin with an empty folder: journal, and the directory for files. */
static ws_status start(ws_stage *s, const ws_stage_opts *o, ws_diag *warnings,
                       ws_err *err)
{
    if (in_folder(s, WS_STAGE_JOURNAL) || in_folder(s, WS_STAGE_OUT))
        note_discarded(s, o->resume, warnings);
    ws_status st = clear_folder(s, err);
    if (st != WS_OK)
        return st;
    ws_stage_step();
    const int fd = openat(s->folder_fd, WS_STAGE_JOURNAL,
                          O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return ws_stage_fail(s, errno, "make the journal", err);
    if (s->is_dir) {
        ws_stage_step();
        if (mkdirat(s->folder_fd, WS_STAGE_OUT, 0777) != 0 || !open_out(s)) {
            st = ws_stage_fail(s, errno, "make the staged directory", err);
            close(fd);
            return st;
        }
    }
    return ws_journal_new(&s->journal, fd, s->target, o->key, err);
}

/** All of opening but the allocation. */
static ws_status open_steps(ws_stage *s, const ws_stage_opts *o, ws_diag *warnings,
                            ws_err *err)
{
    struct stat sb;
    ws_status st = split_target(s, o->target, err);
    if (st == WS_OK)
        st = ws_stage_guard(s, o, err);
    if (st != WS_OK)
        return st;
    // only a run killed after its output appeared leaves both it and a folder
    if (!s->force && ws_stage_stat(s, &sb) &&
        !(o->resume && lstat(s->folder, &sb) == 0))
        return ws_stage_exists(s, err);
    if ((st = open_folder(s, err)) != WS_OK)
        return st;
    if ((st = ws_stage_restore(s, err)) != WS_OK)
        return st;
    if (o->resume)
        st = resume(s, o->key, err);
    if (st != WS_OK || s->resumed || s->finished)
        return st;
    if (!s->force && ws_stage_stat(s, &sb)) {
        st = ws_stage_exists(s, err);
        if (!in_folder(s, WS_STAGE_JOURNAL))
            remove_folder(s);  // left by a run killed while it cleared up
        close_fd(&s->lock_fd); // what else is staged stays
        return st;
    }
    return start(s, o, warnings, err);
}

ws_status ws_stage_open(ws_stage **out, const ws_stage_opts *o, ws_diag *warnings,
                        ws_err *err)
{
    ws_stage *s = ws_calloc(1, sizeof *s);
    if (s == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to stage '%s'", o->target);
    s->parent_fd = s->folder_fd = s->lock_fd = s->out_fd = -1;
    s->is_dir = o->is_dir;
    s->force = o->force;
    pthread_mutex_init(&s->lock, NULL);
    const ws_status st = open_steps(s, o, warnings, err);
    if (st == WS_OK)
        *out = s;
    else
        ws_stage_close(s, o->resume); // a failure to go on must not cost the work
    return st;
}

void ws_stage_close(ws_stage *s, bool keep)
{
    if (s == NULL)
        return;
    if (s->lock_fd >= 0 && (!keep || s->finished))
        remove_folder(s);
    for (size_t i = 0; i < s->n; i++) {
        close_fd(&s->entries[i]->fd);
        ws_free(s->entries[i]->name);
        ws_free(s->entries[i]->written);
        ws_free(s->entries[i]);
    }
    ws_free(s->entries);
    ws_journal_free(s->journal);
    close_fd(&s->out_fd);
    close_fd(&s->folder_fd);
    close_fd(&s->parent_fd);
    close_fd(&s->lock_fd); // last: while it is held nobody else touches the folder
    pthread_mutex_destroy(&s->lock);
    ws_free(s->target);
    ws_free(s->parent);
    ws_free(s->folder);
    ws_free(s->doomed);
    ws_free(s->out);
    ws_free(s);
}

bool ws_stage_resumed(const ws_stage *s)
{
    return s->resumed;
}

bool ws_stage_finished(const ws_stage *s)
{
    return s->finished;
}

const char *ws_stage_target(const ws_stage *s, bool *is_dir)
{
    *is_dir = s->is_dir;
    return s->target;
}

const char *ws_stage_path(const ws_stage *s)
{
    return s->out;
}

size_t ws_stage_count(const ws_stage *s)
{
    return s->n;
}

const char *ws_stage_name(const ws_stage *s, size_t i, uint64_t *bytes)
{
    *bytes = s->entries[i]->bytes;
    return s->entries[i]->name;
}
