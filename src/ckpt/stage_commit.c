/*
 * stage_commit.c - the moment an output appears
 *
 * For a file: manifest and data are synced in the staging folder, the journal says that
 * the commit begins, an old manifest goes, one rename shows the file, one more its
 * manifest. A kill in between leaves the file whole, and a resumed run or `finished`
 * the rest. For a directory the manifest is inside, so there is one rename.
 */
#define _GNU_SOURCE // renameat2

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/os.h"
#include "ckpt/manifest_internal.h"
#include "ckpt/stage_internal.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

static ws_status no_memory(const ws_stage *s, ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to commit '%s'", s->target);
}

/** File system says that it does not know this kind of rename. */
static bool unknown_rename(int sys)
{
    return sys == EINVAL || sys == ENOSYS || sys == ENOTSUP;
}

/** Rename `out` and the target by the kernel's own rules; false with errno. */
static bool rename_by(const ws_stage *s, unsigned flags)
{
    if (ws_stage_has_plain_renames()) {
        errno = EINVAL;
        return false;
    }
    return renameat2(s->folder_fd, WS_STAGE_OUT, s->parent_fd, s->name, flags) == 0;
}

/** Rename `out` to the target where nothing is yet. False with errno. */
static bool appear_new(const ws_stage *s)
{
    ws_stage_step();
    if (rename_by(s, RENAME_NOREPLACE))
        return true;
    if (!unknown_rename(errno))
        return false;
    // a link never replaces; a directory rename replaces an empty one at most
    if (!s->is_dir &&
        linkat(s->folder_fd, WS_STAGE_OUT, s->parent_fd, s->name, 0) == 0) {
        ws_stage_step();
        unlinkat(s->folder_fd, WS_STAGE_OUT, 0);
        return true;
    }
    struct stat sb;
    if (!s->is_dir && errno == EEXIST)
        return false;
    if (ws_stage_stat(s, &sb)) {
        errno = EEXIST;
        return false;
    }
    return renameat(s->folder_fd, WS_STAGE_OUT, s->parent_fd, s->name) == 0;
}

/** Put the staged directory in place of the old thing, which goes into the folder. */
static bool appear_exchanged(const ws_stage *s)
{
    struct stat sb;
    if (!ws_stage_stat(s, &sb))
        return appear_new(s);
    ws_stage_step();
    if (rename_by(s, RENAME_EXCHANGE))
        return true;
    if (!unknown_rename(errno))
        return false;
    ws_stage_step();
    if (renameat(s->parent_fd, s->name, s->folder_fd, WS_STAGE_OLD) != 0)
        return false;
    ws_stage_step();
    if (renameat(s->folder_fd, WS_STAGE_OUT, s->parent_fd, s->name) == 0)
        return true;
    const int sys = errno;
    renameat(s->folder_fd, WS_STAGE_OLD, s->parent_fd, s->name);
    errno = sys;
    return false;
}

static ws_status appear(const ws_stage *s, ws_err *err)
{
    bool ok;
    if (!s->force) {
        ok = appear_new(s);
    } else if (s->is_dir) {
        ok = appear_exchanged(s);
    } else {
        ws_stage_step();
        ok = renameat(s->folder_fd, WS_STAGE_OUT, s->parent_fd, s->name) == 0;
    }
    if (ok)
        return WS_OK;
    if (!s->force && (errno == EEXIST || errno == ENOTEMPTY))
        return ws_stage_exists(s, err);
    return ws_stage_fail(s, errno, "rename into place", err);
}

ws_status ws_stage_restore(const ws_stage *s, ws_err *err)
{
    struct stat sb;
    if (fstatat(s->folder_fd, WS_STAGE_OLD, &sb, AT_SYMLINK_NOFOLLOW) != 0 ||
        ws_stage_stat(s, &sb))
        return WS_OK;
    ws_stage_step();
    return renameat(s->folder_fd, WS_STAGE_OLD, s->parent_fd, s->name) == 0
               ? WS_OK
               : ws_stage_fail(s, errno, "put the old directory back", err);
}

/* ---- the manifest ---- */

/** The name inside the target that @p path has, NULL when it lies elsewhere. */
static const char *name_inside(const ws_stage *s, const char *path)
{
    const size_t n = strlen(s->target);
    if (!s->is_dir || path == NULL || strncmp(path, s->target, n) != 0 ||
        path[n] != '/')
        return NULL;
    path += n + strspn(path + n, "/");
    return strchr(path, '/') == NULL && ws_path_is_safe(path) ? path : NULL;
}

/** @p path made independent of the current directory; ws_free. */
static ws_status absolute(const ws_stage *s, const char *path, char **out, ws_err *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL   ? ws_strdup(".")
                   : slash == path ? ws_strdup("/")
                                   : ws_strndup(path, (size_t)(slash - path));
    if (folder == NULL)
        return no_memory(s, err);
    char *real = realpath(folder, NULL);
    const int sys = errno;
    ws_free(folder);
    if (real == NULL) {
        ws_fail_sys(err, WS_E_IO, sys, "cannot open the manifest's folder");
        ws_err_at(err, path, NULL, -1);
        return WS_E_IO;
    }
    ws_buf b = { 0 };
    ws_buf_printf(&b, "%s%s%s", real, strcmp(real, "/") == 0 ? "" : "/",
                  slash == NULL ? path : slash + 1);
    free(real);
    if (b.failed) {
        ws_buf_free(&b);
        return no_memory(s, err);
    }
    *out = b.p;
    return WS_OK;
}

/** Write and sync a new file @p name in the folder @p at. */
static ws_status write_synced(const ws_stage *s, int at, const char *name,
                              const void *data, size_t len, ws_err *err)
{
    unlinkat(at, name, 0);
    ws_stage_step();
    const int fd =
        openat(at, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return ws_stage_fail(s, errno, "create the manifest", err);
    ws_stage_step();
    ws_status st = ws_os_pwrite(fd, s->target, data, len, 0, err);
    ws_stage_step();
    if (st == WS_OK && fsync(fd) != 0)
        st = ws_stage_fail(s, errno, "sync the manifest", err);
    if (close(fd) != 0 && st == WS_OK)
        st = ws_stage_fail(s, errno, "write the manifest", err);
    return st;
}

/** Move the manifest to another file system: copied beside its place, then renamed. */
static ws_status place_far(const ws_stage *s, int at, const char *name, ws_err *err)
{
    char *text = NULL;
    size_t len = 0;
    ws_buf from = { 0 }, temp = { 0 };
    ws_buf_printf(&from, "%s/" WS_STAGE_MANIFEST, s->folder);
    ws_buf_printf(&temp, ".%s.wsurg", name);
    ws_status st = from.failed || temp.failed ? no_memory(s, err) : WS_OK;
    if (st == WS_OK)
        st = ws_file_read(&text, &len, from.p, WS_MANIFEST_MAX, err);
    if (st == WS_OK)
        st = write_synced(s, at, temp.p, text, len, err);
    ws_stage_step();
    if (st == WS_OK && renameat(at, temp.p, at, name) != 0)
        st = ws_stage_fail(s, errno, "put the manifest in place", err);
    ws_free(text);
    ws_buf_free(&from);
    ws_buf_free(&temp);
    return st;
}

/** The folder of the absolute @p path, opened. */
static ws_status open_folder_of(const ws_stage *s, const char *path, int *at,
                                ws_err *err)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return ws_fail(err, WS_E_INTERNAL, "manifest '%s' has no folder", path);
    char *folder = ws_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (folder == NULL)
        return no_memory(s, err);
    *at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int sys = errno;
    ws_free(folder);
    return *at >= 0 ? WS_OK : ws_stage_fail(s, sys, "open the manifest's folder", err);
}

/** Rename the staged manifest to the absolute @p path, in the open folder @p at. */
static ws_status place_manifest(const ws_stage *s, const char *path, int at,
                                ws_err *err)
{
    const char *name = strrchr(path, '/') + 1;
    ws_status st = WS_OK;
    ws_stage_step();
    if (renameat(s->folder_fd, WS_STAGE_MANIFEST, at, name) != 0)
        st = errno == EXDEV ? place_far(s, at, name, err)
                            : ws_stage_fail(s, errno, "put the manifest in place", err);
    ws_stage_step();
    if (st == WS_OK && fsync(at) != 0 && errno != EINVAL)
        st = ws_stage_fail(s, errno, "sync the manifest's folder", err);
    return st;
}

/** Remove a manifest that would describe what the target was before. */
static ws_status remove_manifest(const ws_stage *s, const char *path, ws_err *err)
{
    if (path == NULL || !ws_is_manifest(path))
        return WS_OK;
    ws_stage_step();
    return unlink(path) == 0 || errno == ENOENT
               ? WS_OK
               : ws_stage_fail(s, errno, "remove the old manifest", err);
}

/* ---- commit ---- */

/** Everything that a commit needs to know. */
struct commit {
    ws_stage *s;
    const char *inside; // name of the manifest in a directory, or NULL
    char *beside;       // its absolute path elsewhere, or NULL
    char *usual;        // where the target's manifest lies when nobody says otherwise
};

static ws_status write_manifest(const struct commit *c, const ws_manifest *m,
                                ws_err *err)
{
    if (c->inside == NULL && c->beside == NULL)
        return WS_OK;
    size_t len;
    char *text = ws_manifest_text(m, &len);
    if (text == NULL)
        return no_memory(c->s, err);
    const ws_status st =
        c->inside != NULL
            ? ws_stage_put(c->s, c->inside, text, len, err)
            : write_synced(c->s, c->s->folder_fd, WS_STAGE_MANIFEST, text, len, err);
    ws_free(text);
    return st;
}

/** Sync all, then let the journal know what is about to appear. */
static ws_status begin(const struct commit *c, ws_err *err)
{
    struct stat sb;
    ws_stage *s = c->s;
    const char *manifest = c->beside == NULL ? "" : c->beside;
    ws_status st = ws_stage_sync_files(s, err);
    if (st != WS_OK)
        return st;
    if (fstatat(s->folder_fd, WS_STAGE_OUT, &sb, AT_SYMLINK_NOFOLLOW) != 0)
        return ws_stage_fail(s, errno, "find what is staged", err);
    st = ws_journal_add(s->journal, WS_STAGE_COMMIT, 0, sb.st_ino, manifest,
                        strlen(manifest), err);
    return st == WS_OK ? ws_journal_synced(s->journal, ws_journal_mark(s->journal), err)
                       : st;
}

/** Look once more at the target: much time has gone by since the first look. */
static ws_status look_again(const struct commit *c, ws_err *err)
{
    struct stat sb;
    const ws_stage *s = c->s;
    if (!s->force && ws_stage_stat(s, &sb))
        return ws_stage_exists(s, err);
    const ws_status st = s->force ? ws_stage_replaceable(s, err) : WS_OK;
    return st == WS_OK && c->beside != NULL ? ws_stage_guard_manifest(s, c->beside, err)
                                            : st;
}

/** The rename, and the manifest after it. What may fail for want of memory or of a
 * folder is done before anything is to be seen. */
static ws_status show(const struct commit *c, ws_err *err)
{
    ws_stage *s = c->s;
    int at = -1;
    ws_status st = look_again(c, err);
    if (st == WS_OK && c->beside != NULL)
        st = open_folder_of(s, c->beside, &at, err);
    if (st == WS_OK && !s->is_dir)
        st = remove_manifest(s, c->usual, err);
    if (st == WS_OK && c->beside != NULL)
        st = remove_manifest(s, c->beside, err);
    if (st == WS_OK)
        st = appear(s, err);
    if (st == WS_OK) {
        s->finished = true; // whatever fails now, the output is there and whole
        ws_stage_step();
        if (fsync(s->parent_fd) != 0 && errno != EINVAL)
            st = ws_stage_fail(s, errno, "sync the output's folder", err);
    }
    if (st == WS_OK && c->beside != NULL)
        st = place_manifest(s, c->beside, at, err);
    if (at >= 0)
        close(at);
    return st;
}

ws_status ws_stage_finish(ws_stage *s, const char *manifest, ws_err *err)
{
    struct stat sb;
    if (*manifest == '\0' ||
        fstatat(s->folder_fd, WS_STAGE_MANIFEST, &sb, AT_SYMLINK_NOFOLLOW) != 0)
        return WS_OK;
    int at = -1;
    ws_status st = open_folder_of(s, manifest, &at, err);
    if (st != WS_OK)
        return st;
    st = place_manifest(s, manifest, at, err);
    close(at);
    return st;
}

ws_status ws_stage_commit(ws_stage *s, const ws_manifest *m, const char *manifest_path,
                          ws_err *err)
{
    struct commit c = { .s = s, .inside = name_inside(s, manifest_path) };
    ws_status st = WS_OK;
    c.usual = ws_stage_manifest_path(s->target, s->is_dir);
    if (c.usual == NULL)
        st = no_memory(s, err);
    if (st == WS_OK && manifest_path != NULL && c.inside == NULL)
        st = absolute(s, manifest_path, &c.beside, err);
    if (st == WS_OK)
        st = write_manifest(&c, m, err);
    if (st == WS_OK)
        st = begin(&c, err);
    if (st == WS_OK)
        st = show(&c, err);
    ws_free(c.usual);
    ws_free(c.beside);
    return st;
}
