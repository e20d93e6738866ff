/*
 * tokenizer_regex.c - the regexes of tokenizer.json, run by PCRE2
 *
 * PCRE2 runs with UTF and UCP, multi-line anchors (Oniguruma has no others) and its JIT
 * compiler where the system allows one. tokenizer_onig.c rewrites the patterns.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "model/tokenizer_regex.h"

#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#include "model/tokenizer_onig.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

enum {
    MATCH_LIMIT = 20000000, // steps of one search
    HEAP_LIMIT = 65536,     // KiB
    STACK_FIRST = 32 << 10,
    STACK_MOST = 4 << 20, // bytes of the JIT's own stack
};

struct ws_regex {
    pcre2_code *code;
    bool jit;
};

static void *take(size_t size, void *unused)
{
    (void)unused;
    return ws_alloc(size);
}

static void give(void *p, void *unused)
{
    (void)unused;
    ws_free(p);
}

static ws_status compile(ws_regex **out, const char *pattern, size_t len,
                         uint32_t options, ws_err *err)
{
    ws_regex *r = ws_calloc(1, sizeof *r);
    pcre2_general_context *heap = pcre2_general_context_create(take, give, NULL);
    pcre2_compile_context *c = heap ? pcre2_compile_context_create(heap) : NULL;
    ws_status st = WS_OK;
    if (r == NULL || c == NULL) {
        st = ws_fail(err, WS_E_MEMORY, "no memory for a regex");
        goto out;
    }
    pcre2_set_newline(c, PCRE2_NEWLINE_LF);
    int code;
    size_t at;
    r->code =
        pcre2_compile((PCRE2_SPTR)pattern, len, PCRE2_UTF | options, &code, &at, c);
    if (r->code == NULL) {
        char why[120] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        st = code == PCRE2_ERROR_HEAP_FAILED
                 ? ws_fail(err, WS_E_MEMORY, "no memory for a regex")
                 : ws_fail(err, WS_E_UNSUPPORTED, "%s at byte %zu of the regex", why,
                           at);
        goto out;
    }
#ifndef WS_NO_CLONES // code made at run time is beyond sanitizers and valgrind
    r->jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
#endif
    *out = r;
    r = NULL;
out:
    ws_free(r);
    pcre2_compile_context_free(c);
    pcre2_general_context_free(heap);
    return st;
}

ws_status ws_regex_pcre(ws_regex **out, const char *pattern, size_t len, ws_err *err)
{
    return compile(out, pattern, len,
                   PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, err);
}

ws_status ws_regex_literal(ws_regex **out, const char *text, size_t len, ws_err *err)
{
    return compile(out, text, len, PCRE2_LITERAL, err);
}

ws_status ws_regex_new(ws_regex **out, const char *pattern, size_t len, ws_err *err)
{
    ws_buf rewritten = { 0 };
    ws_status st = ws_onig_rewrite(pattern, len, &rewritten, err);
    if (st == WS_OK)
        st = ws_regex_pcre(out, rewritten.p, rewritten.n, err);
    ws_buf_free(&rewritten);
    return st;
}

void ws_regex_free(ws_regex *r)
{
    if (r == NULL)
        return;
    pcre2_code_free(r->code);
    ws_free(r);
}

static ws_status matcher_make(ws_matcher *m, ws_err *err)
{
    pcre2_general_context *heap = pcre2_general_context_create(take, give, NULL);
    if (heap != NULL) {
        // one pair of offsets: groups are of no interest
        m->data = pcre2_match_data_create(1, heap);
        m->context = pcre2_match_context_create(heap);
        m->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, heap);
    }
    pcre2_general_context_free(heap);
    if (m->data == NULL || m->context == NULL) {
        ws_matcher_free(m);
        return ws_fail(err, WS_E_MEMORY, "no memory to match a regex");
    }
    pcre2_set_match_limit(m->context, MATCH_LIMIT);
    pcre2_set_heap_limit(m->context, HEAP_LIMIT);
    if (m->stack != NULL)
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return WS_OK;
}

void ws_matcher_free(ws_matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (ws_matcher){ 0 };
}

ws_status ws_regex_find(const ws_regex *r, ws_matcher *m, const char *text, size_t len,
                        size_t from, size_t *start, size_t *end, bool *found,
                        ws_err *err)
{
    ws_status st;
    if (m->data == NULL && (st = matcher_make(m, err)) != WS_OK)
        return st;
    const PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int n = PCRE2_ERROR_JIT_STACKLIMIT;
    if (r->jit)
        n = pcre2_jit_match(r->code, subject, len, from, 0, m->data, m->context);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT)
        n = pcre2_match(r->code, subject, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                        m->data, m->context);
    *found = n >= 0;
    if (n >= 0) {
        const size_t *at = pcre2_get_ovector_pointer(m->data);
        *start = at[0];
        *end = at[1];
        return WS_OK;
    }
    if (n == PCRE2_ERROR_NOMATCH)
        return WS_OK;
    if (n == PCRE2_ERROR_NOMEMORY)
        return ws_fail(err, WS_E_MEMORY, "no memory to match a regex");
    char why[120] = "";
    pcre2_get_error_message(n, (PCRE2_UCHAR *)why, sizeof why);
    return ws_fail(err, WS_E_UNSUPPORTED, "a regex of the tokenizer gave up: %s", why);
}

ws_regex_walk ws_regex_walk_begin(const ws_regex *r, ws_matcher *m, const char *text,
                                  size_t len)
{
    return (ws_regex_walk){ r, m, text, len, 0, SIZE_MAX };
}

ws_status ws_regex_walk_next(ws_regex_walk *w, size_t *start, size_t *end, bool *found,
                             ws_err *err)
{
    *found = false;
    while (w->at <= w->len) {
        const ws_status st = ws_regex_find(w->regex, w->matcher, w->text, w->len, w->at,
                                           start, end, found, err);
        if (st != WS_OK || !*found)
            return st;
        if (*start != *end || *end != w->last_end) {
            w->at = w->last_end = *end;
            return WS_OK;
        }
        // an empty match where the last one ended: look on behind the next character
        *found = false;
        do
            w->at++;
        while (w->at < w->len && ((unsigned char)w->text[w->at] & 0xC0) == 0x80);
    }
    return WS_OK;
}
