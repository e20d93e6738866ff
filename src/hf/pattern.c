/*
 * pattern.c - patterns over tensor names
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "wsurg/pattern.h"

#include <pcre2.h>
#include <string.h>

#include "base/json.h"
#include "wsurg/alloc.h"

enum { FILE_CAP = 1 << 20, MATCH_LIMIT = 100000 };

struct ws_pattern_set {
    pcre2_code **codes;
    size_t n;
    pcre2_match_context *limits;
};

/** Compile one expression of @p len bytes as the set's next. */
static ws_status add_expression(ws_pattern_set *p, const char *text, size_t len,
                                ws_err *err)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code **grown = ws_realloc(p->codes, (p->n + 1) * sizeof *grown);
    if (grown == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a pattern");
    p->codes = grown;
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)text, len, PCRE2_UTF, &code, &at, NULL);
    if (c == NULL) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(code, why, sizeof why);
        ws_fail(err, WS_E_USAGE, "pattern '%.*s' is malformed at character %zu: %s",
                (int)(len > 120 ? 120 : len), text, (size_t)at, (const char *)why);
        return WS_E_USAGE;
    }
    p->codes[p->n++] = c;
    return WS_OK;
}

static ws_status add_file(ws_pattern_set *p, const char *path, ws_err *err)
{
    char *text;
    size_t len;
    ws_status st = ws_file_read(&text, &len, path, FILE_CAP, err);
    if (st != WS_OK)
        return st;
    for (const char *line = text; st == WS_OK && *line != '\0';) {
        const size_t n = strcspn(line, "\r\n");
        if (n > 0 && line[0] != '#')
            st = add_expression(p, line, n, err);
        line += n + (line[n] != '\0');
    }
    ws_free(text);
    if (st != WS_OK)
        ws_err_at(err, path, NULL, -1);
    return st;
}

ws_status ws_pattern_new(ws_pattern_set **out, const char *text, ws_err *err)
{
    ws_pattern_set *p = ws_calloc(1, sizeof *p);
    if (p == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a pattern");
    p->limits = pcre2_match_context_create(NULL);
    ws_status st = WS_OK;
    if (p->limits == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a pattern");
    else
        pcre2_set_match_limit(p->limits, MATCH_LIMIT);
    if (st == WS_OK)
        st = text[0] == '@' ? add_file(p, text + 1, err)
                            : add_expression(p, text, strlen(text), err);
    if (st != WS_OK)
        ws_pattern_free(p);
    else
        *out = p;
    return st;
}

bool ws_pattern_match(const ws_pattern_set *p, const char *name)
{
    bool found = false;
    for (size_t i = 0; i < p->n && !found; i++) {
        pcre2_match_data *m = pcre2_match_data_create_from_pattern(p->codes[i], NULL);
        found = m != NULL && pcre2_match(p->codes[i], (PCRE2_SPTR)name, strlen(name), 0,
                                         0, m, p->limits) >= 0;
        pcre2_match_data_free(m);
    }
    return found;
}

void ws_pattern_free(ws_pattern_set *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->n; i++)
        pcre2_code_free(p->codes[i]);
    pcre2_match_context_free(p->limits);
    ws_free(p->codes);
    ws_free(p);
}
