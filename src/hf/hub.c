/*
 * hub.c - names of models in the hub's cache on this disk: org/name[@revision]
 *
 *     CACHE/models--org--name/refs/main          the commit that a revision means
 *     CACHE/models--org--name/snapshots/COMMIT/  a model directory, of links
 *     CACHE/models--org--name/blobs/             what they lead to
 *
 * CACHE is $HF_HUB_CACHE, else $HF_HOME/hub, else huggingface/hub in the user's cache.
 * Nothing is ever fetched: what is absent is answered with the command that fetches it.
 */
#include "hf/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

enum { MAX_PART = 96, MAX_REVISION = 200, MAX_REF = 256 };

/** org/name@revision in its parts; .org is empty where there is none. */
struct reference {
    char org[MAX_PART + 1], name[MAX_PART + 1], revision[MAX_REVISION + 1];
    bool revision_given;
};

static const char letters[] =
    "abcdefghijklmnopqrstuvwxyz_ABCDEFGHIJKLMNOPQRSTUVWXYZ.0123456789-";

/** One part of a repository's name, by the hub's rules. */
static bool part_take(char out[MAX_PART + 1], const char *s, size_t n)
{
    if (n == 0 || n > MAX_PART || strspn(s, letters) < n || s[0] == '-' ||
        s[0] == '.' || s[n - 1] == '-' || s[n - 1] == '.')
        return false;
    memcpy(out, s, n);
    out[n] = '\0';
    return strstr(out, "--") == NULL && strstr(out, "..") == NULL;
}

/** Whether @p s may be put behind refs/ or snapshots/: it stays below them. */
static bool revision_ok(const char *s)
{
    const size_t n = strlen(s);
    return n > 0 && n <= MAX_REVISION && s[0] != '/' && s[0] != '.' &&
           strstr(s, "..") == NULL && strstr(s, "/.") == NULL &&
           strspn(s, "/abcdefghijklmnopqrstuvwxyz_ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                     ".0123456789-") == n;
}

static bool reference_parse(struct reference *r, const char *text)
{
    const char *at = strchr(text, '@');
    const size_t n = at != NULL ? (size_t)(at - text) : strlen(text);
    const char *slash = memchr(text, '/', n);
    const char *name = slash != NULL ? slash + 1 : text;
    *r = (struct reference){ .revision = "main", .revision_given = at != NULL };
    if (at != NULL && !revision_ok(at + 1))
        return false;
    if (at != NULL)
        memcpy(r->revision, at + 1, strlen(at));
    if (slash != NULL && !part_take(r->org, text, (size_t)(slash - text)))
        return false;
    return part_take(r->name, name, n - (size_t)(name - text));
}

/** Whether @p text was rather meant as a path: by its ending, or because the folder in
 * front is there. */
static bool looks_like_path(const struct reference *r)
{
    static const char *const tails[] = { ".safetensors", ".st",  ".gguf", ".npz",
                                         ".npy",         ".bin", ".pt",   ".pth",
                                         ".ckpt",        ".json" };
    struct stat sb;
    const size_t n = strlen(r->name);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        const size_t k = strlen(tails[i]);
        if (n > k && strcmp(r->name + n - k, tails[i]) == 0)
            return true;
    }
    return r->org[0] == '\0' || stat(r->org, &sb) == 0;
}

/** The cache's folder, as the hub's own tools find it. */
static void cache_root(ws_buf *b)
{
    const struct {
        const char *variable, *below;
    } places[] = { { "HF_HUB_CACHE", "" },
                   { "HUGGINGFACE_HUB_CACHE", "" },
                   { "HF_HOME", "/hub" },
                   { "XDG_CACHE_HOME", "/huggingface/hub" },
                   { "HOME", "/.cache/huggingface/hub" } };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *v = getenv(places[i].variable); // NOLINT(concurrency-mt-unsafe)
        if (v == NULL || v[0] == '\0')
            continue;
        ws_buf_printf(b, "%s%s", v, places[i].below);
        return;
    }
    ws_buf_puts(b, ".cache/huggingface/hub");
}

static bool is_dir(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

/** "hf download org/name", with the revision where one was asked for. */
static void say_command(ws_err *err, const struct reference *r)
{
    ws_err_hint(err, "nothing is fetched here: hf download %s%s%s%s%s", r->org,
                r->org[0] != '\0' ? "/" : "", r->name,
                r->revision_given ? " --revision " : "",
                r->revision_given ? r->revision : "");
}

/** The commit that refs/REVISION holds; false where there is no such file, or it holds
 * something else. */
static bool ref_read(const char *repo, const char *revision, char out[MAX_REF])
{
    ws_buf path = { 0 };
    char *text = NULL;
    size_t len = 0;
    ws_buf_printf(&path, "%s/refs/%s", repo, revision);
    const bool there =
        !path.failed && ws_file_read(&text, &len, path.p, MAX_REF - 1, NULL) == WS_OK;
    ws_buf_free(&path);
    while (there && len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    const bool good =
        there && strlen(text) == len && revision_ok(text) && strchr(text, '/') == NULL;
    if (good)
        memcpy(out, text, len + 1);
    ws_free(text);
    return good;
}

/** The snapshot of the revision in the repository's folder @p repo. */
static ws_status snapshot_find(char **out, const char *repo, const struct reference *r,
                               ws_err *err)
{
    char commit[MAX_REF];
    ws_buf path = { 0 };
    const bool named = ref_read(repo, r->revision, commit);
    ws_buf_printf(&path, "%s/snapshots/%s", repo, named ? commit : r->revision);
    if (path.failed) {
        ws_buf_free(&path);
        return ws_fail(err, WS_E_MEMORY, "no memory for a path");
    }
    if (is_dir(path.p)) {
        *out = path.p;
        return WS_OK;
    }
    ws_fail(err, WS_E_IO, "the hub's cache has the model but not its revision '%s'",
            r->revision);
    ws_err_at(err, repo, NULL, -1);
    say_command(err, r);
    ws_buf_free(&path);
    return WS_E_IO;
}

ws_status ws_hub_find(char **out, const char *name, ws_err *err)
{
    struct reference r;
    struct stat sb;
    ws_buf repo = { 0 };
    ws_status st = WS_OK;
    *out = NULL;
    if (!reference_parse(&r, name) || lstat(name, &sb) == 0)
        return WS_OK;
    cache_root(&repo);
    const size_t root = repo.n;
    ws_buf_printf(&repo, "/models--%s%s%s", r.org, r.org[0] != '\0' ? "--" : "",
                  r.name);
    if (repo.failed) {
        st = ws_fail(err, WS_E_MEMORY, "no memory for a path");
    } else if (is_dir(repo.p)) {
        st = snapshot_find(out, repo.p, &r, err);
    } else if (!looks_like_path(&r)) {
        repo.p[root] = '\0';
        st = ws_fail(err, WS_E_IO,
                     "no such file or directory, and no such model in the hub's cache "
                     "'%s'",
                     repo.p);
        ws_err_at(err, name, NULL, -1);
        say_command(err, &r);
    }
    ws_buf_free(&repo);
    return st;
}
