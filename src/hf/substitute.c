/*
 * substitute.c - 's/PATTERN/REPLACEMENT/' on names, by PCRE2
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "hf/substitute.h"

#include <pcre2.h>
#include <string.h>

#include "wsurg/ckpt.h"
#include "wsurg/text.h"

enum { STEPS = 1000000 };

struct ws_substitution {
    pcre2_code *code;
    pcre2_match_context *limits;
    char *text;         // as given
    ws_buf replacement; // as PCRE2 wants it
    uint32_t flags;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a substitution");
}

static ws_status malformed(const char *text, const char *why, ws_err *err)
{
    char shown[160];
    ws_show(text, shown, sizeof shown);
    ws_fail(err, WS_E_USAGE, "'%s' is no substitution: %s", shown, why);
    ws_err_hint(err, "'s/PATTERN/REPLACEMENT/', as in 's/^model\\.//'");
    return WS_E_USAGE;
}

/** The part from @p p to the next @p mark that no backslash hides; NULL without one.
 * A hidden mark stands for itself. */
static const char *part_take(ws_buf *to, const char *p, char mark)
{
    for (; *p != '\0' && *p != mark; p++) {
        if (*p == '\\' && p[1] == mark) {
            p++;
        } else if (*p == '\\' && p[1] != '\0') {
            ws_buf_putc(to, *p++);
        }
        ws_buf_putc(to, *p);
    }
    ws_buf_puts(to, "");
    return *p == mark ? p + 1 : NULL;
}

/** sed's \1 as PCRE2's ${1}; other backslashes make the next character itself. */
static void replacement_make(ws_buf *to, const char *p)
{
    for (; *p != '\0'; p++) {
        if (*p == '\\' && p[1] >= '0' && p[1] <= '9')
            ws_buf_printf(to, "${%c}", *++p);
        else if (*p == '\\' && p[1] == '$')
            ws_buf_puts(to, "$$"), p++;
        else if (*p == '\\' && p[1] != '\0')
            ws_buf_putc(to, *++p);
        else
            ws_buf_putc(to, *p);
    }
    ws_buf_puts(to, "");
}

static ws_status compile(ws_substitution *s, const ws_buf *pattern, uint32_t options,
                         ws_err *err)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    PCRE2_UCHAR why[120];
    s->code =
        pcre2_compile((PCRE2_SPTR)pattern->p, pattern->n,
                      PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | options, &code, &at, NULL);
    s->limits = pcre2_match_context_create(NULL);
    if (s->limits == NULL || code == PCRE2_ERROR_HEAP_FAILED)
        return no_memory(err);
    pcre2_set_match_limit(s->limits, STEPS);
    pcre2_set_depth_limit(s->limits, STEPS);
    if (s->code != NULL)
        return WS_OK;
    pcre2_get_error_message(code, why, sizeof why);
    return malformed(s->text, (const char *)why, err);
}

static ws_status parse(ws_substitution *s, ws_err *err)
{
    const char *text = s->text, *p;
    ws_buf pattern = { 0 }, replacement = { 0 };
    uint32_t options = 0;
    const char mark = *(text[0] == 's' ? text + 1 : "");
    ws_status st = WS_OK;
    if (mark == '\0' || mark == '\\' || (mark >= '0' && mark <= '9') ||
        (mark >= 'a' && mark <= 'z') || (mark >= 'A' && mark <= 'Z'))
        return malformed(text, "it does not begin with s/", err);
    p = part_take(&pattern, text + 2, mark);
    if (p != NULL)
        p = part_take(&replacement, p, mark);
    if (p == NULL)
        st = malformed(text, "three marks part it", err);
    else if (pattern.n == 0)
        st = malformed(text, "its pattern is empty", err);
    for (; st == WS_OK && *p != '\0'; p++) {
        if (*p == 'g')
            s->flags |= PCRE2_SUBSTITUTE_GLOBAL;
        else if (*p == 'i')
            options |= PCRE2_CASELESS;
        else
            st = malformed(text, "only g and i may follow it", err);
    }
    if (st == WS_OK && (pattern.failed || replacement.failed))
        st = no_memory(err);
    if (st == WS_OK)
        st = compile(s, &pattern, options, err);
    if (st == WS_OK)
        replacement_make(&s->replacement, replacement.p);
    ws_buf_free(&pattern);
    ws_buf_free(&replacement);
    return st == WS_OK && s->replacement.failed ? no_memory(err) : st;
}

ws_status ws_substitution_new(ws_substitution **out, const char *text, ws_err *err)
{
    ws_substitution *s = ws_calloc(1, sizeof *s);
    if (s == NULL || (s->text = ws_strdup(text)) == NULL) {
        ws_free(s);
        return no_memory(err);
    }
    const ws_status st = parse(s, err);
    if (st == WS_OK)
        *out = s;
    else
        ws_substitution_free(s);
    return st;
}

ws_status ws_substitution_apply(const ws_substitution *s, const char *name,
                                const char **out, ws_arena *arena, ws_err *err)
{
    PCRE2_UCHAR made[WS_MAX_NAME + 1], why[120];
    PCRE2_SIZE n = sizeof made;
    char shown[160];
    const int rc =
        pcre2_substitute(s->code, (PCRE2_SPTR)name, strlen(name), 0,
                         PCRE2_SUBSTITUTE_UNSET_EMPTY | s->flags, NULL, s->limits,
                         (PCRE2_SPTR)s->replacement.p, s->replacement.n, made, &n);
    *out = NULL;
    if (rc == 0)
        return WS_OK;
    ws_show(s->text, shown, sizeof shown);
    if (rc > 0 && n > 0) {
        *out = ws_arena_strdup(arena, (const char *)made);
        return *out != NULL ? WS_OK : no_memory(err);
    }
    if (rc > 0) {
        ws_fail(err, WS_E_USAGE, "'%s' leaves no name", shown);
    } else if (rc == PCRE2_ERROR_NOMEMORY) {
        ws_fail(err, WS_E_USAGE, "'%s' makes a name of more than %d bytes", shown,
                WS_MAX_NAME);
    } else {
        pcre2_get_error_message(rc, why, sizeof why);
        ws_fail(err, WS_E_USAGE, "'%s' gives no answer: %s", shown, (const char *)why);
    }
    return ws_err_at(err, NULL, name, -1), WS_E_USAGE;
}

void ws_substitution_free(ws_substitution *s)
{
    if (s == NULL)
        return;
    pcre2_code_free(s->code);
    pcre2_match_context_free(s->limits);
    ws_buf_free(&s->replacement);
    ws_free(s->text);
    ws_free(s);
}
