/*
 * pattern.c - patterns over tensor names, by PCRE2
 *
 * Expressions come from users and names from files, so a match is bounded in steps and
 * memory. A match that gives up has no answer: taking it for "not found" would let a
 * gate pass.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "wsurg/pattern.h"

#include <pcre2.h>
#include <string.h>

#include "base/json.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

enum { FILE_CAP = 1 << 20, STEPS = 1000000, HEAP_KIB = 4096 };

struct ws_pattern_set {
    pcre2_general_context *general;
    pcre2_compile_context *compile;
    pcre2_match_context *limits;
    pcre2_code **codes; // (n)
    char **texts;       // (n) the expressions
    size_t n, cap;
};

static void *take(PCRE2_SIZE size, void *unused)
{
    (void)unused;
    return ws_alloc(size);
}

static void give(void *p, void *unused)
{
    (void)unused;
    ws_free(p);
}

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a pattern");
}

static bool grow(ws_pattern_set *p)
{
    if (p->n < p->cap)
        return true;
    const size_t cap = p->cap == 0 ? 4 : 2 * p->cap;
    pcre2_code **codes = ws_realloc(p->codes, cap * sizeof *codes);
    if (codes != NULL)
        p->codes = codes;
    char **texts = ws_realloc(p->texts, cap * sizeof *texts);
    if (texts != NULL)
        p->texts = texts;
    if (codes == NULL || texts == NULL)
        return false;
    p->cap = cap;
    return true;
}

static ws_status malformed(const char *text, int code, size_t at, ws_err *err)
{
    PCRE2_UCHAR why[120];
    char shown[160];
    pcre2_get_error_message(code, why, sizeof why);
    ws_show(text, shown, sizeof shown);
    return ws_fail(err, WS_E_USAGE, "pattern '%s' is malformed at character %zu: %s",
                   shown, at, (const char *)why);
}

/** Compile one expression of @p len bytes as the set's next. */
static ws_status add_expression(ws_pattern_set *p, const char *text, size_t len,
                                ws_err *err)
{
    char *copy = grow(p) ? ws_strndup(text, len) : NULL;
    int code = 0;
    PCRE2_SIZE at = 0;
    if (copy == NULL)
        return no_memory(err);
    pcre2_code *c =
        pcre2_compile((PCRE2_SPTR)text, len, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code,
                      &at, p->compile);
    if (c != NULL) {
        p->codes[p->n] = c;
        p->texts[p->n++] = copy;
        return WS_OK;
    }
    // PCRE2 has no name for it: "failed to allocate heap memory" at compile time
    const ws_status st = code == PCRE2_ERROR_HEAP_FAILED
                             ? no_memory(err)
                             : malformed(copy, code, at, err);
    ws_free(copy);
    return st;
}

static ws_status add_file(ws_pattern_set *p, const char *path, ws_err *err)
{
    char *text = NULL;
    size_t len = 0;
    ws_status st = ws_file_read(&text, &len, path, FILE_CAP, err);
    for (size_t at = 0; st == WS_OK && at < len;) {
        const char *line = text + at, *end = memchr(line, '\n', len - at);
        size_t n = end != NULL ? (size_t)(end - line) : len - at;
        at += n + 1;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        if (n > 0 && line[0] != '#')
            st = add_expression(p, line, n, err);
    }
    if (st == WS_OK && p->n == 0)
        st = ws_fail(err, WS_E_USAGE, "no pattern in the file");
    ws_free(text);
    if (st != WS_OK)
        ws_err_at(err, path, NULL, -1);
    return st;
}

ws_status ws_pattern_new(ws_pattern_set **out, const char *text, ws_err *err)
{
    ws_pattern_set *p = ws_calloc(1, sizeof *p);
    if (p == NULL)
        return no_memory(err);
    p->general = pcre2_general_context_create(take, give, NULL);
    if (p->general != NULL) {
        p->compile = pcre2_compile_context_create(p->general);
        p->limits = pcre2_match_context_create(p->general);
    }
    ws_status st = WS_OK;
    if (p->compile == NULL || p->limits == NULL) {
        st = no_memory(err);
    } else {
        pcre2_set_match_limit(p->limits, STEPS);
        pcre2_set_depth_limit(p->limits, STEPS);
        pcre2_set_heap_limit(p->limits, HEAP_KIB);
        st = text[0] == '@' ? add_file(p, text + 1, err)
                            : add_expression(p, text, strlen(text), err);
    }
    if (st != WS_OK)
        ws_pattern_free(p);
    else
        *out = p;
    return st;
}

static ws_status gave_up(const ws_pattern_set *p, size_t i, int rc, const char *name,
                         ws_err *err)
{
    PCRE2_UCHAR why[120];
    char shown[160];
    if (rc == PCRE2_ERROR_NOMEMORY)
        return no_memory(err);
    ws_show(p->texts[i], shown, sizeof shown);
    pcre2_get_error_message(rc, why, sizeof why);
    ws_fail(err, WS_E_USAGE, "pattern '%s' gives no answer: %s", shown,
            (const char *)why);
    ws_err_at(err, NULL, name, -1);
    ws_err_hint(err, "avoid nested repetitions such as (a+)+");
    return WS_E_USAGE;
}

ws_status ws_pattern_match(const ws_pattern_set *p, const char *name, bool *hit,
                           ws_err *err)
{
    pcre2_match_data *m = pcre2_match_data_create(1, p->general);
    ws_status st = m == NULL ? no_memory(err) : WS_OK;
    bool found = false;
    for (size_t i = 0; i < p->n && !found && st == WS_OK; i++) {
        const int rc = pcre2_match(p->codes[i], (PCRE2_SPTR)name, strlen(name), 0, 0, m,
                                   p->limits);
        found = rc >= 0;
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            st = gave_up(p, i, rc, name, err);
    }
    pcre2_match_data_free(m);
    if (st == WS_OK)
        *hit = found;
    return st;
}

void ws_pattern_free(ws_pattern_set *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->n; i++) {
        pcre2_code_free(p->codes[i]);
        ws_free(p->texts[i]);
    }
    pcre2_match_context_free(p->limits);
    pcre2_compile_context_free(p->compile);
    pcre2_general_context_free(p->general);
    ws_free(p->codes);
    ws_free(p->texts);
    ws_free(p);
}
