/*
 * tokenizer_onig.c - regexes written for Oniguruma, rewritten for PCRE2
 *
 * The two differ in the blank that is no White_Space (U+180E), in what a word is, in
 * \h, \v, \u, in the meaning of (?m), in {,n}, and in what brackets inside a class and
 * a plus behind an interval mean. The first ones are rewritten, the last ones refused.
 */
#include "model/tokenizer_onig.h"

#include <string.h>

#include "model/tokenizer_regex.h"

/* Its table counts the raised digits and fractions of Latin-1 in, and no others. */
#define WORD_BODY WS_CLASS_WORD "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define WORD      "[" WORD_BODY "]"

struct rewrite {
    const char *p, *begin, *end;
    ws_buf *out;
    ws_err *err;
};

static ws_status refuse(struct rewrite *w, const char *at, size_t n, const char *why)
{
    char raw[24], shown[40];
    if ((size_t)(w->end - at) < n)
        n = (size_t)(w->end - at);
    if (n > sizeof raw - 1)
        n = sizeof raw - 1;
    memcpy(raw, at, n);
    raw[n] = '\0';
    ws_show(raw, shown, sizeof shown);
    return ws_fail(w->err, WS_E_UNSUPPORTED, "regex has '%s' at byte %zu: %s", shown,
                   (size_t)(at - w->begin), why);
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/** Copy @p n bytes of the pattern. */
static void copy(struct rewrite *w, size_t n)
{
    ws_buf_add(w->out, w->p, n);
    w->p += n;
}

/** \p{...}, \P{...}; w->p on the backslash. */
static ws_status property(struct rewrite *w)
{
    const char *close = memchr(w->p, '}', (size_t)(w->end - w->p));
    if (w->end - w->p < 3 || w->p[2] != '{' || close == NULL)
        return refuse(w, w->p, 3, "a property is written \\p{Name}");
    copy(w, (size_t)(close + 1 - w->p));
    return WS_OK;
}

/** \uHHHH, \xHH and \x{H...}; w->p on the backslash. */
static ws_status codepoint(struct rewrite *w)
{
    const bool u = w->p[1] == 'u';
    const char *d = w->p + 2;
    const bool braces = !u && d < w->end && *d == '{';
    if (braces)
        d++;
    size_t n = 0;
    while (d + n < w->end && is_hex(d[n]) && n < (braces ? 6u : u ? 4u : 2u))
        n++;
    const char *after = d + n;
    if (n == 0 || (u && n < 4) || (braces && (after == w->end || *after != '}')))
        return refuse(w, w->p, 8, "not a code point");
    if (!u && !braces && n == 2 && *d > '7')
        return refuse(w, w->p, 4, "a lone byte above 7F is not supported");
    ws_buf_puts(w->out, "\\x{");
    ws_buf_add(w->out, d, n);
    ws_buf_putc(w->out, '}');
    w->p = after + braces;
    return WS_OK;
}

/** \s, \w and their like become classes; false when c is none of them. */
static bool shorthand(struct rewrite *w, char c, bool in_class)
{
    static const struct {
        char c, body[180];
    } known[] = { { 's', WS_CLASS_SPACE }, { 'w', WORD_BODY }, { 'h', "0-9a-fA-F" } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const bool negated = c == known[i].c - 32;
        if (c != known[i].c && (!negated || in_class))
            continue;
        ws_buf_puts(w->out, in_class ? "" : negated ? "[^" : "[");
        ws_buf_puts(w->out, known[i].body);
        ws_buf_puts(w->out, in_class ? "" : "]");
        w->p += 2;
        return true;
    }
    return false;
}

/** The escape at w->p. */
static ws_status escape(struct rewrite *w, bool in_class)
{
    if (w->end - w->p < 2)
        return ws_fail(w->err, WS_E_HEADER, "regex ends in a backslash");
    const char c = w->p[1];
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (c == 'p' || c == 'P')
        return property(w);
    if (c == 'u' || c == 'x')
        return codepoint(w);
    if (shorthand(w, c, in_class))
        return WS_OK;
    if (in_class && c == 'S') { // differs in U+180E alone
        copy(w, 2);
        return WS_OK;
    }
    if (c == 'v') {
        ws_buf_puts(w->out, "\\x0b");
        w->p += 2;
        return WS_OK;
    }
    if (!in_class && c == 'b') {
        ws_buf_puts(w->out, "(?:(?<=" WORD ")(?!" WORD ")|(?<!" WORD ")(?=" WORD "))");
        w->p += 2;
        return WS_OK;
    }
    if ((c >= '0' && c <= '9') || (letter && strchr("dDntrfae", c) == NULL &&
                                   (in_class || strchr("AzZ", c) == NULL)))
        return refuse(w, w->p, 2, "this escape is not supported");
    // An escaped character of several bytes stands for itself; its tail follows.
    copy(w, 2);
    return WS_OK;
}

static ws_status bracket(struct rewrite *w)
{
    const char *open = w->p;
    copy(w, 1);
    if (w->p < w->end && *w->p == '^')
        copy(w, 1);
    if (w->p < w->end && *w->p == ']')
        return refuse(w, open, 3, "a class that opens with ']' is not supported");
    while (w->p < w->end && *w->p != ']') {
        if (*w->p == '[')
            return refuse(w, w->p, 8, "a class inside a class is not supported");
        if (w->end - w->p > 1 && w->p[0] == '&' && w->p[1] == '&')
            return refuse(w, w->p, 2, "intersection of classes is not supported");
        if (*w->p == '\\') {
            const ws_status st = escape(w, true);
            if (st != WS_OK)
                return st;
        } else {
            copy(w, 1);
        }
    }
    if (w->p == w->end)
        return ws_fail(w->err, WS_E_HEADER, "regex has a class without its end");
    copy(w, 1);
    return WS_OK;
}

/** (?flags) and (?flags:; w->p on the bracket. */
static ws_status flags(struct rewrite *w)
{
    const char *p = w->p + 2;
    while (p < w->end && (*p == 'i' || *p == 'm' || *p == '-'))
        p++;
    if (p == w->end || (*p != ':' && *p != ')') || p == w->p + 2)
        return refuse(w, w->p, 4, "this kind of group is not supported");
    ws_buf_puts(w->out, "(?");
    for (w->p += 2; w->p < p; w->p++) // Oniguruma's m lets the dot match a line feed
        ws_buf_add(w->out, *w->p == 'm' ? "s" : w->p, 1);
    copy(w, 1);
    return WS_OK;
}

static ws_status group(struct rewrite *w)
{
    static const char *const plain[] = { "(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!" };
    if (w->end - w->p > 1 && w->p[1] == '*')
        return refuse(w, w->p, 4, "verbs are not supported");
    if (w->end - w->p < 2 || w->p[1] != '?') {
        copy(w, 1);
        return WS_OK;
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const size_t n = strlen(plain[i]);
        if ((size_t)(w->end - w->p) >= n && memcmp(w->p, plain[i], n) == 0) {
            copy(w, n);
            return WS_OK;
        }
    }
    return flags(w);
}

/** {n}, {n,}, {n,m}, {,m}, or a brace that stands for itself. */
static ws_status interval(struct rewrite *w)
{
    const char *p = w->p + 1;
    while (p < w->end && *p >= '0' && *p <= '9')
        p++;
    const bool low = p > w->p + 1;
    const bool comma = p < w->end && *p == ',';
    const char *high = p += comma;
    while (p < w->end && *p >= '0' && *p <= '9')
        p++;
    if (p == w->end || *p != '}' || (!low && p == high)) {
        ws_buf_putc(w->out, '\\');
        copy(w, 1);
        return WS_OK;
    }
    if (p + 1 < w->end && p[1] == '+')
        return refuse(w, w->p, (size_t)(p + 2 - w->p), "a plus behind an interval");
    if (!low) {
        ws_buf_puts(w->out, "{0");
        w->p++;
    }
    copy(w, (size_t)(p + 1 - w->p));
    return WS_OK;
}

ws_status ws_onig_rewrite(const char *pattern, size_t len, ws_buf *out, ws_err *err)
{
    struct rewrite w = { pattern, pattern, pattern + len, out, err };
    ws_buf_puts(out, "");
    while (w.p < w.end) {
        ws_status st = WS_OK;
        if (*w.p == '\\')
            st = escape(&w, false);
        else if (*w.p == '[')
            st = bracket(&w);
        else if (*w.p == '(')
            st = group(&w);
        else if (*w.p == '{')
            st = interval(&w);
        else
            copy(&w, 1);
        if (st != WS_OK)
            return st;
    }
    if (out->failed)
        return ws_fail(err, WS_E_MEMORY, "no memory for a regex");
    return WS_OK;
}
