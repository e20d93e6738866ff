/*
 * json.c - strict reading of small JSON files through cJSON
 *
 * cJSON forgives much (formats.md 1.5), so a small walker checks the text first: UTF-8,
 * no raw controls, escapes, numbers, nesting, and nothing after the value. Duplicate
 * keys are looked for in the tree.
 */
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json_walk.h"
#include "base/os.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

enum { MAX_DEPTH = 64 };

struct walk {
    const char *p, *end;
    const char *why; // first fault
};

static bool fault(struct walk *w, const char *why)
{
    if (w->why == NULL)
        w->why = why;
    return false;
}

static void skip_space(struct walk *w)
{
    while (w->p < w->end && strchr(" \t\n\r", *w->p) != NULL && *w->p != '\0')
        w->p++;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/** The four hex digits of a \u escape at p. */
static unsigned hex4(const char *p)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        v = v * 16 + (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return v;
}

/** One \u escape, surrogate pairs included; w->p stands on the 'u'. */
static bool walk_unicode(struct walk *w)
{
    for (int half = 0; half < 2; half++) {
        if (w->end - w->p < 5)
            return fault(w, "cut unicode escape");
        for (int i = 1; i <= 4; i++)
            if (!is_hex(w->p[i]))
                return fault(w, "malformed unicode escape");
        const unsigned v = hex4(w->p + 1);
        if (v == 0)
            return fault(w, "escaped NUL");
        const bool high = v >= 0xD800 && v < 0xDC00, low = v >= 0xDC00 && v < 0xE000;
        if (half == 0 ? low : !low)
            return fault(w, "lone surrogate");
        w->p += 5;
        if (!high)
            return true;
        if (w->end - w->p < 2 || w->p[0] != '\\' || w->p[1] != 'u')
            return fault(w, "lone surrogate");
        w->p++;
    }
    return true;
}

static bool walk_string(struct walk *w)
{
    for (w->p++; w->p < w->end && *w->p != '"';) {
        const unsigned char c = (unsigned char)*w->p;
        if (c < 32)
            return fault(w, "control character in a string");
        w->p++;
        if (c != '\\')
            continue;
        if (w->p == w->end)
            break;
        if (*w->p == 'u') {
            if (!walk_unicode(w))
                return false;
        } else if (strchr("\"\\/bfnrt", *w->p) == NULL || *w->p == '\0') {
            return fault(w, "unknown escape");
        } else {
            w->p++;
        }
    }
    if (w->p == w->end)
        return fault(w, "unterminated string");
    w->p++;
    return true;
}

static size_t walk_digits(struct walk *w)
{
    const char *start = w->p;
    while (w->p < w->end && *w->p >= '0' && *w->p <= '9')
        w->p++;
    return (size_t)(w->p - start);
}

static bool walk_number(struct walk *w)
{
    if (*w->p == '-')
        w->p++;
    const bool zero = w->p < w->end && *w->p == '0';
    const size_t n = walk_digits(w);
    if (n == 0 || (zero && n > 1))
        return fault(w, "malformed number");
    if (w->p < w->end && *w->p == '.') {
        w->p++;
        if (walk_digits(w) == 0)
            return fault(w, "malformed number");
    }
    if (w->p < w->end && (*w->p == 'e' || *w->p == 'E')) {
        w->p++;
        if (w->p < w->end && (*w->p == '+' || *w->p == '-'))
            w->p++;
        if (walk_digits(w) == 0)
            return fault(w, "malformed number");
    }
    return true;
}

static bool walk_word(struct walk *w)
{
    static const char *const words[] = { "true", "false", "null" };
    for (size_t i = 0; i < 3; i++) {
        const size_t n = strlen(words[i]);
        if ((size_t)(w->end - w->p) >= n && memcmp(w->p, words[i], n) == 0) {
            w->p += n;
            return true;
        }
    }
    return fault(w, "unexpected character");
}

static bool walk_scalar(struct walk *w)
{
    if (*w->p == '"')
        return walk_string(w);
    if (*w->p == '-' || (*w->p >= '0' && *w->p <= '9'))
        return walk_number(w);
    return walk_word(w);
}

/** A key and its colon. */
static bool walk_key(struct walk *w)
{
    skip_space(w);
    if (w->p == w->end || *w->p != '"')
        return fault(w, "expected a key");
    if (!walk_string(w))
        return false;
    skip_space(w);
    if (w->p == w->end || *w->p != ':')
        return fault(w, "expected ':'");
    w->p++;
    return true;
}

/** Step over the closing brackets that stand here; `depth` of `closing` are open. */
static void walk_closed(struct walk *w, const char *closing, int *depth, bool *fresh)
{
    while (*depth > 0) {
        skip_space(w);
        if (w->p == w->end || *w->p != closing[*depth - 1])
            return;
        w->p++;
        --*depth;
        *fresh = false;
    }
}

/** One value, without recursion: `closing` has the bracket that ends each level. */
static bool walk_value(struct walk *w)
{
    char closing[MAX_DEPTH];
    int depth = 0;
    for (;;) {
        bool fresh = false; // a level was opened just now: no comma is due
        skip_space(w);
        if (w->p == w->end)
            return fault(w, "unexpected end");
        if (*w->p == '{' || *w->p == '[') {
            if (depth == MAX_DEPTH)
                return fault(w, "nested too deep");
            closing[depth++] = *w->p == '{' ? '}' : ']';
            w->p++;
            fresh = true;
        } else if (!walk_scalar(w)) {
            return false;
        }
        walk_closed(w, closing, &depth, &fresh);
        if (depth == 0)
            return true;
        if (!fresh) {
            if (w->p == w->end)
                return fault(w, "unexpected end");
            if (*w->p != ',')
                return fault(w, "expected ',' or a closing bracket");
            w->p++;
        }
        if (closing[depth - 1] == '}' && !walk_key(w))
            return false;
    }
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** The first key that stands twice in one object of the tree, or NULL; *oom on failure.
 */
static const char *find_duplicate(const cJSON *item, bool *oom)
{
    const size_t n = (size_t)cJSON_GetArraySize(item);
    const char **keys =
        cJSON_IsObject(item) && n > 1 ? ws_calloc(n, sizeof *keys) : NULL;
    if (keys == NULL && cJSON_IsObject(item) && n > 1) {
        *oom = true;
        return NULL;
    }
    const char *twice = NULL;
    size_t i = 0;
    const cJSON *child;
    cJSON_ArrayForEach(child, item)
    {
        if (keys != NULL)
            keys[i++] = child->string;
        if (twice == NULL && child->child != NULL)
            twice = find_duplicate(child, oom);
    }
    if (keys != NULL) {
        qsort(keys, n, sizeof *keys, compare_keys);
        for (size_t k = 1; k < n && twice == NULL; k++)
            if (strcmp(keys[k - 1], keys[k]) == 0)
                twice = keys[k];
    }
    ws_free(keys);
    return twice;
}

ws_status ws_json_check(const char *text, size_t len, ws_err *err)
{
    if (!ws_utf8_valid(text, len))
        return ws_fail(err, WS_E_HEADER, "JSON is not valid UTF-8");
    struct walk w = { text, text + len, NULL };
    if (walk_value(&w)) {
        skip_space(&w);
        if (w.p != w.end)
            fault(&w, "text after the value");
    }
    if (w.why != NULL) {
        ws_fail(err, WS_E_HEADER, "malformed JSON: %s", w.why);
        ws_err_at(err, NULL, NULL, w.p - text);
        return WS_E_HEADER;
    }
    return WS_OK;
}

ws_status ws_json_parse(cJSON **out, const char *text, size_t len, ws_err *err)
{
    ws_status st = ws_json_check(text, len, err);
    if (st != WS_OK)
        return st;
    cJSON *tree = cJSON_ParseWithLength(text, len);
    if (tree == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a JSON tree of %zu bytes", len);
    bool oom = false;
    const char *twice = find_duplicate(tree, &oom);
    if (twice != NULL) {
        char shown[80];
        ws_show(twice, shown, sizeof shown);
        st = ws_fail(err, WS_E_HEADER, "JSON key '%s' stands twice in one object",
                     shown);
    } else if (oom) {
        st = ws_fail(err, WS_E_MEMORY, "no memory to check JSON keys");
    }
    if (st != WS_OK)
        cJSON_Delete(tree);
    else
        *out = tree;
    return st;
}

ws_status ws_file_read(char **out, size_t *len, const char *path, size_t cap,
                       ws_err *err)
{
    int fd;
    uint64_t bytes;
    ws_status st = ws_os_open_read(&fd, path, &bytes, err);
    if (st != WS_OK)
        return st;
    char *text = NULL;
    if (bytes > cap) {
        st = ws_fail(err, WS_E_HEADER, "file has %llu bytes, at most %zu are read",
                     (unsigned long long)bytes, cap);
    } else if ((text = ws_alloc((size_t)bytes + 1)) == NULL) {
        st = ws_fail(err, WS_E_MEMORY, "no memory for %llu bytes",
                     (unsigned long long)bytes);
    } else {
        st = ws_os_pread(fd, path, text, (size_t)bytes, 0, err);
    }
    close(fd);
    if (st != WS_OK) {
        ws_free(text);
        ws_err_at(err, path, NULL, -1);
        return st;
    }
    text[bytes] = '\0';
    *out = text;
    *len = (size_t)bytes;
    return WS_OK;
}

ws_status ws_json_read(cJSON **out, const char *path, size_t cap, ws_err *err)
{
    char *text;
    size_t len;
    ws_status st = ws_file_read(&text, &len, path, cap, err);
    if (st != WS_OK)
        return st;
    st = ws_json_parse(out, text, len, err);
    if (st != WS_OK)
        ws_err_at(err, path, NULL, -1);
    ws_free(text);
    return st;
}

bool ws_json_u64(const cJSON *item, uint64_t *out)
{
    if (!cJSON_IsNumber(item))
        return false;
    const double v = item->valuedouble;
    if (!(v >= 0.0 && v < 9007199254740992.0) || v != (double)(uint64_t)v)
        return false;
    *out = (uint64_t)v;
    return true;
}
