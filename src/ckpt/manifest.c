/*
 * manifest.c - manifests: made, written, read and verified
 */
#define _GNU_SOURCE // openat, fdopendir, O_NOFOLLOW

#include "wsurg/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/os.h"
#include "ckpt/filehash.h"
#include "ckpt/manifest_internal.h"
#include "ckpt/stage_manifest.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

static const char schema[] = "wsurg-manifest/1";

enum { MAX_DEPTH = 32 };

static ws_status no_memory(const char *path, ws_err *err)
{
    ws_fail(err, WS_E_MEMORY, "no memory for the manifest");
    ws_err_at(err, path, NULL, -1);
    return WS_E_MEMORY;
}

bool ws_path_is_safe(const char *name)
{
    for (const char *p = name; *p != '\0'; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            return false;
    if (!ws_utf8_valid(name, strlen(name)))
        return false;
    for (const char *p = name;; p++) {
        const size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += n;
        if (*p == '\0')
            return true;
    }
}

/* ---- in memory ---- */

ws_manifest *ws_manifest_new(const char *path)
{
    ws_manifest *m = ws_calloc(1, sizeof *m);
    if (m != NULL && (m->path = ws_strdup(path)) == NULL) {
        ws_free(m);
        m = NULL;
    }
    return m;
}

void ws_manifest_free(ws_manifest *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->n_files; i++)
        ws_free(m->files[i].path);
    for (size_t i = 0; i < m->n_extra; i++)
        ws_free(m->extra[i]);
    for (size_t i = 0; i < m->n_ignore; i++)
        ws_free(m->ignore[i]);
    ws_free(m->ignore);
    ws_free(m->single);
    ws_free(m->files);
    ws_free(m->extra);
    ws_free(m->root);
    ws_free(m->path);
    ws_free(m);
}

ws_status ws_manifest_add(ws_manifest *m, const ws_manifest_file *f, ws_err *err)
{
    // grown by powers of two: n is one when the block is full
    if ((m->n_files & (m->n_files - 1)) == 0) {
        const size_t cap = m->n_files == 0 ? 1 : 2 * m->n_files;
        ws_manifest_file *p = ws_realloc(m->files, cap * sizeof *p);
        if (p == NULL)
            return no_memory(m->path, err);
        m->files = p;
    }
    ws_manifest_file *to = &m->files[m->n_files];
    *to = *f;
    to->path = ws_strdup(f->path);
    if (to->path == NULL)
        return no_memory(m->path, err);
    m->n_files++;
    return WS_OK;
}

static int by_path(const void *a, const void *b)
{
    const ws_manifest_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

static void sort_files(ws_manifest *m)
{
    if (m->n_files > 1)
        qsort(m->files, m->n_files, sizeof *m->files, by_path);
}

bool ws_manifest_has(const ws_manifest *m, const char *name)
{
    size_t lo = 0, hi = m->n_files;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = strcmp(m->files[mid].path, name);
        if (c == 0)
            return true;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

char *ws_manifest_text(const ws_manifest *m, size_t *len)
{
    ws_buf b = { 0 };
    ws_buf_printf(&b, "{\n  \"schema\": \"%s\",\n  \"content\": ", schema);
    if (m->content[0] == '\0')
        ws_buf_puts(&b, "null");
    else
        ws_buf_json_string(&b, m->content, strlen(m->content));
    ws_buf_puts(&b, ",\n  \"files\": [");
    for (size_t i = 0; i < m->n_files; i++) {
        const ws_manifest_file *f = &m->files[i];
        ws_buf_puts(&b, i == 0 ? "\n    {\"path\": " : ",\n    {\"path\": ");
        ws_buf_json_string(&b, f->path, strlen(f->path));
        ws_buf_printf(&b, ", \"bytes\": %llu, \"sha256\": \"%s\", \"xxh3\": \"%s\"}",
                      (unsigned long long)f->bytes, f->sha256, f->xxh3);
    }
    ws_buf_puts(&b, "\n  ]\n}\n");
    if (b.failed) {
        ws_buf_free(&b);
        return NULL;
    }
    *len = b.n;
    return b.p;
}

/* ---- files of a directory ---- */

struct listing {
    const char *root;
    char **files;
    size_t n, cap;
};

static ws_status listing_add(struct listing *l, char *name, ws_err *err)
{
    if (l->n == l->cap) {
        const size_t cap = l->cap == 0 ? 16 : 2 * l->cap;
        char **p = ws_realloc(l->files, cap * sizeof *p);
        if (p == NULL) {
            ws_free(name);
            return no_memory(l->root, err);
        }
        l->files = p;
        l->cap = cap;
    }
    l->files[l->n++] = name;
    return WS_OK;
}

static ws_status list_failed(const struct listing *l, const char *below, int sys,
                             ws_err *err)
{
    ws_fail_sys(err, WS_E_IO, sys, "cannot list the directory '%s'",
                *below == '\0' ? l->root : below);
    ws_err_at(err, l->root, NULL, -1);
    return WS_E_IO;
}

static ws_status list_dir(struct listing *l, int fd, const char *below, int depth,
                          ws_err *err);

/** One entry of the directory @p at, which is @p below. */
static ws_status list_entry(struct listing *l, int at, const char *below,
                            const char *name, int depth, ws_err *err)
{
    struct stat sb;
    ws_buf path = { 0 };
    ws_buf_printf(&path, "%s%s%s", below, *below == '\0' ? "" : "/", name);
    if (path.failed) {
        ws_buf_free(&path);
        return no_memory(l->root, err);
    }
    ws_status st;
    if (fstatat(at, name, &sb, AT_SYMLINK_NOFOLLOW) != 0) {
        st = list_failed(l, path.p, errno, err);
    } else if (S_ISDIR(sb.st_mode)) {
        const int fd =
            openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        st = fd < 0 ? list_failed(l, path.p, errno, err)
                    : list_dir(l, fd, path.p, depth + 1, err);
    } else {
        return listing_add(l, path.p, err); // takes the name
    }
    ws_buf_free(&path);
    return st;
}

/** List the open directory @p fd (closed here). */
static ws_status list_dir(struct listing *l, int fd, const char *below, int depth,
                          ws_err *err)
{
    DIR *dir = depth > MAX_DEPTH ? NULL : fdopendir(fd);
    if (dir == NULL) {
        const int sys = depth > MAX_DEPTH ? ELOOP : errno;
        close(fd);
        return list_failed(l, below, sys, err);
    }
    ws_status st = WS_OK;
    const struct dirent *e;
    while (st == WS_OK &&
           (e = readdir(dir)) != NULL) // NOLINT(concurrency-mt-unsafe): own stream
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            st = list_entry(l, dirfd(dir), below, e->d_name, depth, err);
    closedir(dir);
    return st;
}

static int by_string(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

ws_status ws_manifest_list(const char *path, char ***files, size_t *n, ws_err *err)
{
    struct listing l = { .root = path };
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const ws_status st =
        fd < 0 ? list_failed(&l, "", errno, err) : list_dir(&l, fd, "", 0, err);
    if (st != WS_OK) {
        ws_manifest_list_free(l.files, l.n);
        return st;
    }
    if (l.n > 1)
        qsort(l.files, l.n, sizeof *l.files, by_string);
    *files = l.files;
    *n = l.n;
    return WS_OK;
}

void ws_manifest_list_free(char **files, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ws_free(files[i]);
    ws_free(files);
}

/* ---- digesting the listed files ---- */

/** Path of @p name below @p root; ws_free. */
static char *below(const char *root, const char *name)
{
    ws_buf b = { 0 };
    const size_t n = strlen(root);
    ws_buf_printf(&b, "%s%s%s", root, n > 0 && root[n - 1] == '/' ? "" : "/", name);
    if (b.failed)
        ws_buf_free(&b);
    return b.p;
}

static void items_free(ws_filehash_item *items, size_t n)
{
    for (size_t i = 0; items != NULL && i < n; i++)
        ws_free(items[i].path);
    ws_free(items);
}

/** One item for each file of @p m, below @p root (NULL: the file at @p file itself). */
static ws_status items_new(ws_filehash_item **out, const ws_manifest *m,
                           const char *root, const char *file, ws_err *err)
{
    ws_filehash_item *items = ws_calloc(m->n_files, sizeof *items);
    bool ok = items != NULL;
    for (size_t i = 0; ok && i < m->n_files; i++) {
        struct stat sb;
        items[i].err = (ws_err)WS_ERR_INIT;
        items[i].path = root == NULL ? ws_strdup(file) : below(root, m->files[i].path);
        ok = items[i].path != NULL;
        // only for the order of work
        if (ok && stat(items[i].path, &sb) == 0 && S_ISREG(sb.st_mode))
            items[i].bytes = (uint64_t)sb.st_size;
    }
    if (!ok) {
        items_free(items, m->n_files);
        return no_memory(m->path, err);
    }
    *out = items;
    return WS_OK;
}

/** Take the digests of @p items as those expected; the first failure is the whole's. */
static ws_status take_digests(ws_manifest *m, const ws_filehash_item *items,
                              ws_err *err)
{
    for (size_t i = 0; i < m->n_files; i++) {
        if (items[i].status != WS_OK) {
            if (err != NULL)
                *err = items[i].err;
            return items[i].status;
        }
        m->files[i].bytes = items[i].bytes;
        memcpy(m->files[i].sha256, items[i].sha256, sizeof m->files[i].sha256);
        memcpy(m->files[i].xxh3, items[i].xxh3, sizeof m->files[i].xxh3);
    }
    return WS_OK;
}

/* ---- making ---- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/** Folder that @p path lies in; ws_free. */
static char *folder_of(const char *path)
{
    const char *name = last_part(path);
    if (name == path)
        return ws_strdup(".");
    return ws_strndup(path, name - path == 1 ? 1 : (size_t)(name - path) - 1);
}

/** A manifest without files for the model at @p path, with its root. */
static ws_status manifest_for(ws_manifest **out, const char *path, bool is_dir,
                              ws_err *err)
{
    char *own = ws_stage_manifest_path(path, is_dir);
    ws_manifest *m = own == NULL ? NULL : ws_manifest_new(own);
    ws_free(own);
    if (m != NULL) {
        m->is_dir = is_dir;
        m->root = is_dir ? ws_strdup(path) : folder_of(path);
    }
    if (m == NULL || m->root == NULL) {
        ws_manifest_free(m);
        return no_memory(path, err);
    }
    *out = m;
    return WS_OK;
}

static ws_status add_name(ws_manifest *m, const char *name, ws_err *err)
{
    ws_manifest_file f = { 0 };
    if (!ws_path_is_safe(name)) {
        char shown[128];
        ws_show(name, shown, sizeof shown);
        ws_fail(err, WS_E_UNSUPPORTED, "file name '%s' is not text without controls",
                shown);
        ws_err_at(err, m->root, NULL, -1);
        return WS_E_UNSUPPORTED;
    }
    f.path = ws_strdup(name);
    if (f.path == NULL)
        return no_memory(m->path, err);
    const ws_status st = ws_manifest_add(m, &f, err);
    ws_free(f.path);
    return st;
}

static ws_status add_dir(ws_manifest *m, ws_err *err)
{
    char **files = NULL;
    size_t n = 0;
    ws_status st = ws_manifest_list(m->root, &files, &n, err);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        if (m->is_oms ? !ws_oms_ignored(NULL, files[i])
                      : strcmp(files[i], WS_MANIFEST_NAME) != 0)
            st = add_name(m, files[i], err);
    ws_manifest_list_free(files, n);
    return st;
}

/** Whether a file of @p m is a link, which a statement must say. */
static bool any_link(const ws_manifest *m)
{
    bool found = false;
    for (size_t i = 0; i < m->n_files; i++) {
        struct stat sb;
        char *path = below(m->root, m->files[i].path);
        found |= path != NULL && lstat(path, &sb) == 0 && S_ISLNK(sb.st_mode);
        ws_free(path);
    }
    return found;
}

static ws_status make(ws_manifest **out, const char *path, bool is_oms,
                      const ws_ctx *ctx, ws_err *err)
{
    struct stat sb;
    ws_manifest *m = NULL;
    ws_pool *pool = NULL;
    ws_filehash_item *items = NULL;
    if (stat(path, &sb) != 0) {
        ws_fail_sys(err, WS_E_IO, errno, "cannot open");
        ws_err_at(err, path, NULL, -1);
        return WS_E_IO;
    }
    const bool is_dir = S_ISDIR(sb.st_mode);
    ws_status st = manifest_for(&m, path, is_dir, err);
    if (st == WS_OK)
        m->is_oms = is_oms;
    if (st == WS_OK)
        st = is_dir ? add_dir(m, err) : add_name(m, last_part(path), err);
    if (st == WS_OK)
        st = items_new(&items, m, m->root, NULL, err);
    if (st == WS_OK)
        st = ws_pool_new(&pool, ws_ctx_threads(ctx), err);
    if (st == WS_OK)
        st = ws_filehash_run(items, m->n_files, pool, ctx, "digest", NULL, NULL, err);
    if (st == WS_OK)
        st = take_digests(m, items, err);
    items_free(items, m == NULL ? 0 : m->n_files);
    ws_pool_free(pool);
    if (st == WS_OK && is_oms)
        m->links = any_link(m);
    if (st == WS_OK)
        *out = m;
    else
        ws_manifest_free(m);
    return st;
}

ws_status ws_manifest_make(ws_manifest **out, const char *path, const ws_ctx *ctx,
                           ws_err *err)
{
    return make(out, path, false, ctx, err);
}

ws_status ws_oms_make(ws_manifest **out, const char *path, const ws_ctx *ctx,
                      ws_err *err)
{
    return make(out, path, true, ctx, err);
}

/** A file for each staged one, named as in the target. */
static ws_status stage_files(ws_manifest *m, const ws_stage *s, ws_err *err)
{
    bool is_dir;
    const char *target = ws_stage_target(s, &is_dir);
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < ws_stage_count(s); i++) {
        uint64_t bytes;
        const char *name = ws_stage_name(s, i, &bytes);
        st = add_name(m, is_dir ? name : last_part(target), err);
    }
    return st;
}

/** Numbers the files as the stage does. */
struct stage_see {
    ws_stage_see *see;
    void *arg;
};

static ws_status see_staged(void *arg, size_t i, uint64_t offset, const void *data,
                            size_t len, ws_err *err)
{
    const struct stage_see *s = arg;
    return s->see(s->arg, (int)i, offset, data, len, err);
}

ws_status ws_manifest_from_stage(ws_manifest **out, const ws_stage *s, ws_pool *pool,
                                 const ws_ctx *ctx, ws_stage_see *see, void *arg,
                                 ws_err *err)
{
    ws_manifest *m = NULL;
    ws_filehash_item *items = NULL;
    struct stage_see seen = { .see = see, .arg = arg };
    bool is_dir;
    const char *target = ws_stage_target(s, &is_dir), *path = ws_stage_path(s);
    ws_status st = manifest_for(&m, target, is_dir, err);
    if (st == WS_OK)
        st = stage_files(m, s, err);
    if (st == WS_OK)
        st = items_new(&items, m, is_dir ? path : NULL, path, err);
    if (st == WS_OK)
        st = ws_filehash_run(items, m->n_files, pool, ctx, "check",
                             see == NULL ? NULL : see_staged, &seen, err);
    if (st == WS_OK)
        st = take_digests(m, items, err);
    items_free(items, m == NULL ? 0 : m->n_files);
    if (st != WS_OK) {
        ws_manifest_free(m);
        return st;
    }
    sort_files(m);
    *out = m;
    return WS_OK;
}

/* ---- reading ---- */

static ws_status bad(const ws_manifest *m, ws_err *err, const char *what)
{
    ws_fail(err, WS_E_HEADER, "%s", what);
    ws_err_at(err, m->path, NULL, -1);
    return WS_E_HEADER;
}

static bool is_digest(const char *text, size_t n)
{
    return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

static const char *string_of(const cJSON *object, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static ws_status parse_file(ws_manifest *m, const cJSON *item, ws_err *err)
{
    ws_manifest_file f = { 0 };
    const char *path = string_of(item, "path"), *sha = string_of(item, "sha256"),
               *xxh = string_of(item, "xxh3");
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(item, "bytes");
    if (path == NULL || sha == NULL || xxh == NULL || bytes == NULL)
        return bad(m, err, "manifest lists a file without path, bytes, sha256 or xxh3");
    if (!ws_path_is_safe(path)) {
        ws_fail(err, WS_E_HEADER, "manifest lists '%.200s', which leaves its directory",
                path);
        ws_err_at(err, m->path, NULL, -1);
        return WS_E_HEADER;
    }
    if (!ws_json_u64(bytes, &f.bytes) || !is_digest(sha, 64) || !is_digest(xxh, 32)) {
        ws_fail(err, WS_E_HEADER, "manifest has no valid size and digests for '%.200s'",
                path);
        ws_err_at(err, m->path, NULL, -1);
        return WS_E_HEADER;
    }
    memcpy(f.sha256, sha, 64);
    memcpy(f.xxh3, xxh, 32);
    f.path = ws_strdup(path);
    if (f.path == NULL)
        return no_memory(m->path, err);
    const ws_status st = ws_manifest_add(m, &f, err);
    ws_free(f.path);
    return st;
}

static ws_status parse(ws_manifest *m, const cJSON *tree, ws_err *err)
{
    const char *s = string_of(tree, "schema"), *content = string_of(tree, "content");
    const cJSON *files = cJSON_GetObjectItemCaseSensitive(tree, "files"), *item;
    if (s == NULL || strcmp(s, schema) != 0)
        return bad(m, err, "not a manifest: its schema is not 'wsurg-manifest/1'");
    if (content != NULL) {
        if (strncmp(content, "xxh3-128:", 9) != 0 || !is_digest(content + 9, 32))
            return bad(m, err, "manifest's content is no xxh3-128 digest");
        memcpy(m->content, content, strlen(content) + 1);
    }
    if (!cJSON_IsArray(files) || files->child == NULL)
        return bad(m, err, "manifest lists no files");
    cJSON_ArrayForEach(item, files)
    {
        const ws_status st = parse_file(m, item, err);
        if (st != WS_OK)
            return st;
    }
    sort_files(m);
    for (size_t i = 1; i < m->n_files; i++)
        if (strcmp(m->files[i - 1].path, m->files[i].path) == 0)
            return bad(m, err, "manifest lists a file twice");
    return WS_OK;
}

/** Read the manifest at m->path. */
static ws_status load(ws_manifest *m, ws_err *err)
{
    cJSON *tree = NULL;
    ws_status st = ws_json_read(&tree, m->path, WS_MANIFEST_MAX, err);
    if (st == WS_OK)
        st = parse(m, tree, err);
    cJSON_Delete(tree);
    return st;
}

bool ws_is_manifest(const char *path)
{
    struct stat sb;
    if (lstat(path, &sb) != 0 || !S_ISREG(sb.st_mode))
        return false;
    ws_manifest *m = ws_manifest_new(path);
    const bool ok = m != NULL && load(m, NULL) == WS_OK;
    ws_manifest_free(m);
    return ok;
}

static bool exists(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0;
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static ws_status missing(const char *path, ws_err *err)
{
    ws_fail(err, WS_E_MISSING, "'%s' has no manifest", path);
    ws_err_at(err, path, NULL, -1);
    ws_err_hint(err, "wsurg manifest makes one");
    return WS_E_MISSING;
}

/** Set root and kind of a manifest named itself. */
static ws_status root_of_manifest(ws_manifest *m, ws_err *err)
{
    m->is_dir = strcmp(last_part(m->path), WS_MANIFEST_NAME) == 0;
    m->root = folder_of(m->path);
    return m->root == NULL ? no_memory(m->path, err) : WS_OK;
}

ws_status ws_manifest_read(ws_manifest **out, const char *path, ws_err *err)
{
    struct stat sb;
    ws_manifest *m = NULL;
    if (stat(path, &sb) != 0) {
        ws_fail_sys(err, WS_E_IO, errno, "cannot open");
        ws_err_at(err, path, NULL, -1);
        return WS_E_IO;
    }
    ws_status st = manifest_for(&m, path, S_ISDIR(sb.st_mode), err);
    if (st != WS_OK)
        return st;
    if (!exists(m->path)) {
        ws_manifest_free(m);
        m = NULL;
        if (S_ISDIR(sb.st_mode) || !ends_with(path, ".json"))
            return missing(path, err);
        m = ws_manifest_new(path);
        st = m == NULL ? no_memory(path, err) : root_of_manifest(m, err);
    }
    if (st == WS_OK)
        st = load(m, err);
    if (st == WS_OK)
        *out = m;
    else
        ws_manifest_free(m);
    return st;
}

static ws_status read_for(ws_manifest **out, const char *file, const char *path,
                          bool is_oms, ws_err *err)
{
    struct stat sb;
    if (!exists(file))
        return missing(file, err);
    ws_manifest *m = ws_manifest_new(file);
    if (m == NULL)
        return no_memory(file, err);
    m->is_dir = stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
    m->root = m->is_dir ? ws_strdup(path) : folder_of(path);
    m->single = ws_strdup(last_part(path));
    m->is_oms = is_oms;
    ws_status st = m->root == NULL || m->single == NULL ? no_memory(file, err) : WS_OK;
    if (st == WS_OK)
        st = is_oms ? ws_oms_read(m, err) : load(m, err);
    if (st == WS_OK) {
        sort_files(m);
        *out = m;
    } else {
        ws_manifest_free(m);
    }
    return st;
}

ws_status ws_manifest_read_for(ws_manifest **out, const char *file, const char *path,
                               ws_err *err)
{
    return read_for(out, file, path, false, err);
}

ws_status ws_oms_read_for(ws_manifest **out, const char *file, const char *path,
                          ws_err *err)
{
    return read_for(out, file, path, true, err);
}

/* ---- verifying ---- */

static ws_status add_extra(ws_manifest *m, const char *name, ws_err *err)
{
    char **p = ws_realloc(m->extra, (m->n_extra + 1) * sizeof *p);
    if (p == NULL)
        return no_memory(m->path, err);
    m->extra = p;
    p[m->n_extra] = ws_strdup(name);
    if (p[m->n_extra] == NULL)
        return no_memory(m->path, err);
    m->n_extra++;
    return WS_OK;
}

/** Whether @p name below the root is the manifest itself. */
static bool is_itself(const ws_manifest *m, const char *name)
{
    struct stat a, b;
    char *path = below(m->root, name);
    const bool same = path != NULL && stat(path, &a) == 0 && stat(m->path, &b) == 0 &&
                      a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    ws_free(path);
    return same;
}

static ws_status find_extra(ws_manifest *m, ws_err *err)
{
    char **files = NULL;
    size_t n = 0;
    ws_status st = ws_manifest_list(m->root, &files, &n, err);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        if (!ws_manifest_has(m, files[i]) && !is_itself(m, files[i]) &&
            !(m->is_oms && ws_oms_ignored(m, files[i])))
            st = add_extra(m, files[i], err);
    ws_manifest_list_free(files, n);
    return st;
}

/** Whether a file that could not be digested is simply not there, or no file. */
static bool is_missing(const char *path)
{
    struct stat sb;
    if (stat(path, &sb) == 0)
        return !S_ISREG(sb.st_mode);
    return errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
}

/** Compare what was found; a file that is not there is an answer, not an error. */
static ws_status compare(ws_manifest_file *f, const ws_filehash_item *item,
                         bool sha_only, ws_err *err)
{
    const bool read = item->status == WS_OK;
    f->found_bytes = read ? item->bytes : 0;
    memcpy(f->found_sha256, item->sha256, sizeof f->found_sha256);
    memcpy(f->found_xxh3, item->xxh3, sizeof f->found_xxh3);
    if (sha_only)
        f->bytes = f->found_bytes;
    f->ok = read && f->bytes == item->bytes && strcmp(f->sha256, item->sha256) == 0 &&
            (sha_only || strcmp(f->xxh3, item->xxh3) == 0);
    if (read || is_missing(item->path))
        return WS_OK;
    if (err != NULL)
        *err = item->err;
    return item->status;
}

static ws_status compare_all(ws_manifest *m, const ws_filehash_item *items, ws_err *err)
{
    ws_status st = WS_OK;
    m->valid = m->n_extra == 0;
    for (size_t i = 0; i < m->n_files; i++) {
        const ws_status one =
            compare(&m->files[i], &items[i], m->is_oms, st == WS_OK ? err : NULL);
        if (st == WS_OK)
            st = one;
        m->valid = m->valid && m->files[i].ok;
    }
    return st;
}

ws_status ws_manifest_verify(ws_manifest *m, const ws_ctx *ctx, ws_err *err)
{
    ws_pool *pool = NULL;
    ws_filehash_item *items = NULL;
    ws_manifest_list_free(m->extra, m->n_extra);
    m->extra = NULL;
    m->n_extra = 0;
    m->valid = false;
    ws_status st = items_new(&items, m, m->root, NULL, err);
    if (st == WS_OK)
        st = ws_pool_new(&pool, ws_ctx_threads(ctx), err);
    if (st == WS_OK && m->is_dir)
        st = find_extra(m, err);
    if (st == WS_OK)
        st = ws_filehash_run(items, m->n_files, pool, ctx, "verify", NULL, NULL, err);
    if (st == WS_OK)
        st = compare_all(m, items, err);
    items_free(items, m->n_files);
    ws_pool_free(pool);
    return st;
}
