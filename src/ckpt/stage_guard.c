/*
 * stage_guard.c - what an output may not replace: its inputs, and what is not ours
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "ckpt/manifest_internal.h"
#include "ckpt/stage_internal.h"
#include "wsurg/alloc.h"

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

bool ws_stage_stat(const ws_stage *s, struct stat *sb)
{
    return fstatat(s->parent_fd, s->name, sb, AT_SYMLINK_NOFOLLOW) == 0;
}

ws_status ws_stage_exists(const ws_stage *s, ws_err *err)
{
    ws_fail(err, WS_E_EXISTS, "output '%s' exists", s->target);
    ws_err_at(err, s->target, NULL, -1);
    ws_err_hint(err, "--force replaces it");
    return WS_E_EXISTS;
}

static ws_status refuse(const ws_stage *s, ws_err *err, const char *how,
                        const char *input)
{
    ws_fail(err, WS_E_EXISTS, "output '%s' %s input '%s'", s->target, how, input);
    ws_err_at(err, s->target, NULL, -1);
    ws_err_hint(err, "choose another output: an input is never replaced");
    return WS_E_EXISTS;
}

/** Whether the real path @p path or one of the folders above it is @p dir. */
static bool lies_in(const char *path, const struct stat *dir)
{
    char *p = realpath(path, NULL);
    bool found = false;
    while (p != NULL && !found) {
        struct stat sb;
        found = stat(p, &sb) == 0 && same(&sb, dir);
        char *slash = strrchr(p, '/');
        if (slash == NULL || strcmp(p, "/") == 0)
            break;
        slash[slash == p ? 1 : 0] = '\0';
    }
    free(p);
    return found;
}

/** Folder part of @p path: ws_free; NULL when memory is out. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return ws_strdup(".");
    return slash == path ? ws_strdup("/") : ws_strndup(path, (size_t)(slash - path));
}

static ws_status guard_input(const ws_stage *s, const char *input, ws_err *err)
{
    struct stat in, here;
    if (stat(input, &in) != 0)
        return WS_OK; // whoever reads it says so
    const bool there = fstatat(s->parent_fd, s->name, &here, 0) == 0;
    if (there && same(&in, &here))
        return refuse(s, err, "is the", input);
    if (S_ISDIR(in.st_mode) && lies_in(s->parent, &in))
        return refuse(s, err, "lies inside the", input);
    if (!there || !S_ISDIR(here.st_mode))
        return WS_OK;
    // a link inside the target may lead out of it: look at the name and at the file
    char *folder = folder_of(input);
    if (folder == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to check '%s'", input);
    const bool held = lies_in(folder, &here) || lies_in(input, &here);
    ws_free(folder);
    return held ? refuse(s, err, "holds the", input) : WS_OK;
}

static ws_status guard_manifest_input(const char *path, const char *input, ws_err *err)
{
    struct stat a, b;
    if (stat(path, &a) != 0 || stat(input, &b) != 0 || !same(&a, &b))
        return WS_OK;
    ws_fail(err, WS_E_EXISTS, "manifest '%s' is the input '%s'", path, input);
    ws_err_at(err, path, NULL, -1);
    return WS_E_EXISTS;
}

ws_status ws_stage_guard_manifest(const ws_stage *s, const char *path, ws_err *err)
{
    struct stat sb;
    if (lstat(path, &sb) != 0 || (s->force && S_ISREG(sb.st_mode)) ||
        ws_is_manifest(path))
        return WS_OK;
    ws_fail(err, WS_E_EXISTS, "'%s' exists and is no manifest", path);
    ws_err_at(err, path, NULL, -1);
    ws_err_hint(err, "--manifest FILE puts the manifest elsewhere");
    return WS_E_EXISTS;
}

static ws_status not_listed(const ws_stage *s, const char *name, ws_err *err)
{
    ws_fail(err, WS_E_EXISTS,
            "output '%s' holds '%s', which its manifest does not list", s->target,
            name);
    ws_err_at(err, s->target, NULL, -1);
    ws_err_hint(err, "--force replaces only what wsurg wrote: move the directory away");
    return WS_E_EXISTS;
}

/** Whether a directory on the target's place may go: its manifest lists all its files.
 * An empty one may. */
static ws_status replaceable_dir(const ws_stage *s, ws_err *err)
{
    ws_manifest *m = NULL;
    char **files = NULL;
    size_t n = 0;
    ws_status st = ws_manifest_list(s->target, &files, &n, err);
    if (st == WS_OK && n > 0) {
        ws_err why = WS_ERR_INIT;
        st = ws_manifest_read(&m, s->target, &why);
        if (st == WS_E_MISSING)
            st = not_listed(s, files[0], err);
        else if (st != WS_OK && err != NULL)
            *err = why;
    }
    for (size_t i = 0; st == WS_OK && i < n; i++)
        if (strcmp(files[i], WS_MANIFEST_NAME) != 0 && !ws_manifest_has(m, files[i]))
            st = not_listed(s, files[i], err);
    ws_manifest_list_free(files, n);
    ws_manifest_free(m);
    return st;
}

static ws_status wrong_kind(const ws_stage *s, const char *is, ws_err *err)
{
    ws_fail(err, WS_E_EXISTS, "output '%s' is %s", s->target, is);
    ws_err_at(err, s->target, NULL, -1);
    return WS_E_EXISTS;
}

ws_status ws_stage_replaceable(const ws_stage *s, ws_err *err)
{
    struct stat sb, to;
    if (!ws_stage_stat(s, &sb))
        return WS_OK;
    if (S_ISLNK(sb.st_mode) && fstatat(s->parent_fd, s->name, &to, 0) == 0 &&
        !S_ISREG(to.st_mode) && !S_ISDIR(to.st_mode))
        sb = to;
    if (S_ISLNK(sb.st_mode))
        return WS_OK;
    if (S_ISDIR(sb.st_mode))
        return s->is_dir ? replaceable_dir(s, err)
                         : wrong_kind(s, "a directory, but one file is written", err);
    if (S_ISREG(sb.st_mode))
        return s->is_dir ? wrong_kind(s, "a file, but a directory is written", err)
                         : WS_OK;
    wrong_kind(s, "neither a file nor a directory", err);
    ws_err_hint(err, "'-o -' writes to standard output");
    return WS_E_EXISTS;
}

ws_status ws_stage_guard(const ws_stage *s, const ws_stage_opts *o, ws_err *err)
{
    for (size_t i = 0; i < o->n_inputs; i++) {
        ws_status st = guard_input(s, o->inputs[i], err);
        if (st == WS_OK && o->manifest != NULL)
            st = guard_manifest_input(o->manifest, o->inputs[i], err);
        if (st != WS_OK)
            return st;
    }
    const ws_status st = s->force ? ws_stage_replaceable(s, err) : WS_OK;
    if (st != WS_OK || o->manifest == NULL)
        return st;
    return ws_stage_guard_manifest(s, o->manifest, err);
}
