/*
 * tokenizer_regex.h - the regexes of tokenizer.json, run by PCRE2
 *
 * They are written for Oniguruma. What means the same to PCRE2 passes, what differs is
 * rewritten, and what has no equal is refused.
 */
#ifndef WS_MODEL_TOKENIZER_REGEX_H
#define WS_MODEL_TOKENIZER_REGEX_H

#include "wsurg/err.h"

/** A compiled pattern; immutable, for any number of threads. */
typedef struct ws_regex ws_regex;

/** One thread's memory for matching. Zero is empty. */
typedef struct ws_matcher {
    void *data, *context, *stack;
} ws_matcher;

/** Compile a regex as Oniguruma reads it (its default syntax, UTF-8). WS_E_HEADER it is
 * malformed; WS_E_UNSUPPORTED a construct without equal; WS_E_MEMORY. */
ws_status ws_regex_new(ws_regex **out, const char *pattern, size_t len, ws_err *err);

/** Compile a regex that is already PCRE2's. */
ws_status ws_regex_pcre(ws_regex **out, const char *pattern, size_t len, ws_err *err);

/** Compile a pattern that stands for itself; @p len >= 1. */
ws_status ws_regex_literal(ws_regex **out, const char *text, size_t len, ws_err *err);
void ws_regex_free(ws_regex *r);

/**
 * First match in the valid UTF-8 @p text from @p from on. *found tells; a match has
 * bytes [*start, *end).
 *
 * @return WS_OK; WS_E_UNSUPPORTED the search took too long; WS_E_MEMORY
 */
ws_status ws_regex_find(const ws_regex *r, ws_matcher *m, const char *text, size_t len,
                        size_t from, size_t *start, size_t *end, bool *found,
                        ws_err *err);
void ws_matcher_free(ws_matcher *m);

/** All matches of a text in turn; empty ones right behind a match do not count. */
typedef struct ws_regex_walk {
    const ws_regex *regex;
    ws_matcher *matcher;
    const char *text;
    size_t len, at, last_end; /**< last_end: SIZE_MAX before the first match */
} ws_regex_walk;

ws_regex_walk ws_regex_walk_begin(const ws_regex *r, ws_matcher *m, const char *text,
                                  size_t len);
ws_status ws_regex_walk_next(ws_regex_walk *w, size_t *start, size_t *end, bool *found,
                             ws_err *err);

/** Bodies of classes, in PCRE2's spelling. */
#define WS_CLASS_SPACE                                                                 \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"                   \
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WS_CLASS_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"

#endif
