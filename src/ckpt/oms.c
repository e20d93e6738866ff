/*
 * oms.c - OpenSSF model-signing statements: written for a signer, read to be checked
 *
 *     {"_type": in-toto Statement v1, "subject": [{name, digest of all}],
 *      "predicateType": model_signing/signature/v1.0,
 *      "predicate": {"serialization": how, "resources": [{name, algorithm, digest}]}}
 *
 * The digest of all is SHA-256 over the resources' binary digests in their order, which
 * is that of path components: "a/b" before "a-b" (formats.md 8.2). No signature is made
 * or checked here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "ckpt/manifest_internal.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

#define STATEMENT "https://in-toto.io/Statement/v1"
#define PREDICATE "https://model_signing/signature/v1.0"

static const char *const ignored_names[] = { ".git", ".gitattributes", ".github",
                                             ".gitignore", "model.sig" };

enum { N_IGNORED = sizeof ignored_names / sizeof *ignored_names };

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a statement");
}

/** Whether @p name is @p path or lies below it. */
static bool lies_below(const char *name, const char *path)
{
    const size_t n = strlen(path);
    return strncmp(name, path, n) == 0 && (name[n] == '\0' || name[n] == '/');
}

bool ws_oms_ignored(const ws_manifest *m, const char *name)
{
    for (size_t i = 0; i < N_IGNORED; i++)
        if (lies_below(name, ignored_names[i]))
            return true;
    for (size_t i = 0; m != NULL && i < m->n_ignore; i++)
        if (lies_below(name, m->ignore[i]))
            return true;
    return false;
}

/* ---- order and digest ---- */

/** Order of path components: the separator comes before every other character. */
static int by_components(const void *a, const void *b)
{
    const unsigned char *x =
        (const unsigned char *)(*(ws_manifest_file *const *)a)->path;
    const unsigned char *y =
        (const unsigned char *)(*(ws_manifest_file *const *)b)->path;
    while (*x != '\0' && *x == *y)
        x++, y++;
    const int cx = *x == '/' ? 1 : *x == '\0' ? 0 : *x + 1;
    const int cy = *y == '/' ? 1 : *y == '\0' ? 0 : *y + 1;
    return cx - cy;
}

/** The files in the statement's order; ws_free. */
static ws_manifest_file **in_order(const ws_manifest *m)
{
    ws_manifest_file **list = ws_calloc(m->n_files + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < m->n_files; i++)
        list[i] = &m->files[i];
    if (list != NULL && m->n_files > 1)
        qsort(list, m->n_files, sizeof *list, by_components);
    return list;
}

/** Digest of all. */
static bool root_digest(ws_manifest_file *const *files, size_t n, char out[65])
{
    char xxh3[33];
    bool good = true;
    ws_hasher *h = ws_hasher_new();
    if (h == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint8_t raw[32];
        good = good && ws_parse_hex(files[i]->sha256, raw, sizeof raw);
        if (good)
            ws_hasher_add(h, raw, sizeof raw);
    }
    good = ws_hasher_end(h, out, xxh3) && good;
    ws_hasher_free(h);
    return good;
}

/* ---- writing ---- */

char *ws_oms_text(const ws_manifest *m, const char *name, size_t *len)
{
    char root[65];
    ws_buf b = { 0 };
    ws_manifest_file **files = in_order(m);
    if (files == NULL || !root_digest(files, m->n_files, root)) {
        ws_free(files);
        return NULL;
    }
    ws_buf_puts(&b, "{\n  \"_type\": \"" STATEMENT "\",\n  \"subject\": [\n    {\n"
                    "      \"name\": ");
    ws_buf_json_string(&b, name, strlen(name));
    ws_buf_printf(&b,
                  ",\n      \"digest\": {\n        \"sha256\": \"%s\"\n      }\n"
                  "    }\n  ],\n  \"predicateType\": \"" PREDICATE "\",\n"
                  "  \"predicate\": {\n    \"serialization\": {\n"
                  "      \"method\": \"files\",\n      \"hash_type\": \"sha256\",\n"
                  "      \"allow_symlinks\": %s,\n      \"ignore_paths\": [",
                  root, m->links ? "true" : "false");
    for (size_t i = 0; i < N_IGNORED; i++)
        ws_buf_printf(&b, "%s\"%s\"", i == 0 ? "" : ", ", ignored_names[i]);
    ws_buf_puts(&b, "]\n    },\n    \"resources\": [");
    for (size_t i = 0; i < m->n_files; i++) {
        ws_buf_printf(&b, "%s\n      {\n        \"name\": ", i == 0 ? "" : ",");
        const char *path = m->is_dir ? files[i]->path : ".";
        ws_buf_json_string(&b, path, strlen(path));
        ws_buf_printf(&b,
                      ",\n        \"algorithm\": \"sha256\",\n"
                      "        \"digest\": \"%s\"\n      }",
                      files[i]->sha256);
    }
    ws_buf_puts(&b, "\n    ]\n  }\n}\n");
    ws_free(files);
    if (b.failed) {
        ws_buf_free(&b);
        return NULL;
    }
    *len = b.n;
    return b.p;
}

/* ---- reading ---- */

static ws_status bad(const char *what, ws_err *err)
{
    return ws_fail(err, WS_E_HEADER, "%s", what);
}

static const char *text_of(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static int base64_value(char c)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

/** The bytes of base64 @p text; false when it is none. */
static bool base64_decode(ws_buf *out, const char *text)
{
    uint32_t bits = 0;
    int n = 0;
    size_t i = 0;
    for (; text[i] != '\0' && text[i] != '='; i++) {
        const int v = base64_value(text[i]);
        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        n += 6;
        if (n >= 8) {
            n -= 8;
            ws_buf_putc(out, (char)(unsigned char)(bits >> n & 0xFF));
        }
    }
    return strspn(text + i, "=") == strlen(text + i) && strlen(text) % 4 == 0;
}

/** The statement that a signature's bundle or envelope bears, in its place. */
static ws_status unwrap(cJSON **tree, ws_err *err)
{
    const cJSON *envelope = cJSON_GetObjectItemCaseSensitive(*tree, "dsseEnvelope");
    const char *payload = text_of(envelope != NULL ? envelope : *tree, "payload");
    cJSON *inner = NULL;
    ws_buf b = { 0 };
    if (payload == NULL)
        return envelope != NULL ? bad("signature has no payload", err) : WS_OK;
    ws_status st = WS_OK;
    if (!base64_decode(&b, payload) || b.n == 0)
        st = bad("payload of the signature is not base64", err);
    else if (b.failed)
        st = no_memory(err);
    else
        st = ws_json_parse(&inner, b.p, b.n, err);
    ws_buf_free(&b);
    if (st == WS_OK) {
        cJSON_Delete(*tree);
        *tree = inner;
    }
    return st;
}

static ws_status resource_take(ws_manifest *m, const cJSON *item, ws_err *err)
{
    ws_manifest_file f = { 0 };
    const char *name = text_of(item, "name"), *algorithm = text_of(item, "algorithm");
    const char *digest = text_of(item, "digest");
    if (name == NULL || algorithm == NULL || digest == NULL)
        return bad("a resource lacks name, algorithm or digest", err);
    if (strcmp(algorithm, "sha256") != 0)
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "resources are digested by '%.40s', not "
                       "sha256",
                       algorithm);
    if (strlen(digest) != 64 || strspn(digest, "0123456789abcdef") != 64)
        return bad("a resource's digest is not 64 hex digits", err);
    const bool self = !m->is_dir && strcmp(name, ".") == 0;
    if (!self && !ws_path_is_safe(name))
        return ws_fail(err, WS_E_HEADER, "resource '%.200s' leaves its directory",
                       name);
    memcpy(f.sha256, digest, 64);
    f.path = ws_strdup(self ? m->single : name);
    if (f.path == NULL)
        return no_memory(err);
    const ws_status st = ws_manifest_add(m, &f, err);
    ws_free(f.path);
    return st;
}

static ws_status ignore_take(ws_manifest *m, const cJSON *list, ws_err *err)
{
    const cJSON *item;
    const int n = cJSON_GetArraySize(list);
    m->ignore = ws_calloc((size_t)n + 1, sizeof *m->ignore);
    if (m->ignore == NULL)
        return no_memory(err);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item))
            return bad("ignore_paths of the statement holds no text", err);
        m->ignore[m->n_ignore] = ws_strdup(item->valuestring);
        if (m->ignore[m->n_ignore++] == NULL)
            return no_memory(err);
    }
    return WS_OK;
}

static ws_status predicate_take(ws_manifest *m, const cJSON *tree, ws_err *err)
{
    const cJSON *predicate = cJSON_GetObjectItemCaseSensitive(tree, "predicate"), *item;
    const cJSON *how = cJSON_GetObjectItemCaseSensitive(predicate, "serialization");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(predicate, "resources");
    const char *method = text_of(how, "method");
    if (method != NULL && strcmp(method, "files") != 0)
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "statement is serialised by '%.40s', files are read here",
                       method);
    if (!cJSON_IsArray(list) || list->child == NULL)
        return bad("statement lists no resources", err);
    ws_status st =
        ignore_take(m, cJSON_GetObjectItemCaseSensitive(how, "ignore_paths"), err);
    cJSON_ArrayForEach(item, list)
    {
        if (st == WS_OK)
            st = resource_take(m, item, err);
    }
    return st;
}

/** What the subject says of all must be what the resources make. */
static ws_status root_check(const ws_manifest *m, const cJSON *tree, ws_err *err)
{
    const cJSON *subjects = cJSON_GetObjectItemCaseSensitive(tree, "subject");
    const cJSON *digest =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(subjects, 0), "digest");
    const char *said = text_of(digest, "sha256");
    char root[65];
    if (cJSON_GetArraySize(subjects) != 1 || said == NULL)
        return bad("statement has not one subject with a sha256", err);
    ws_manifest_file **files = in_order(m);
    const bool made = files != NULL && root_digest(files, m->n_files, root);
    ws_status st = made ? WS_OK : no_memory(err);
    for (size_t i = 1; st == WS_OK && i < m->n_files; i++)
        if (strcmp(files[i - 1]->path, files[i]->path) == 0)
            st = bad("statement lists a resource twice", err);
    ws_free(files);
    if (st == WS_OK && strcmp(root, said) != 0)
        st = bad("digest of the statement's subject is not that of its resources", err);
    return st;
}

ws_status ws_oms_read(ws_manifest *m, ws_err *err)
{
    cJSON *tree = NULL;
    ws_status st = ws_json_read(&tree, m->path, WS_MANIFEST_MAX, err);
    if (st == WS_OK)
        st = unwrap(&tree, err);
    const char *type = st == WS_OK ? text_of(tree, "predicateType") : NULL;
    if (st == WS_OK && (type == NULL || strcmp(type, PREDICATE) != 0))
        st = bad("not a model-signing statement: its predicateType is not "
                 "'" PREDICATE "'",
                 err);
    if (st == WS_OK)
        st = predicate_take(m, tree, err);
    if (st == WS_OK)
        st = root_check(m, tree, err);
    cJSON_Delete(tree);
    if (st != WS_OK)
        ws_err_at(err, m->path, NULL, -1);
    return st;
}
