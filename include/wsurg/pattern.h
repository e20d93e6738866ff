/*
 * pattern.h - patterns over tensor names
 *
 * A pattern is a PCRE2 expression found anywhere in the name, or `@FILE` with one per
 * line; blank lines and lines that begin with '#' are passed over.
 */
#ifndef WSURG_PATTERN_H
#define WSURG_PATTERN_H

#include "wsurg/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ws_pattern_set ws_pattern_set;

/**
 * Compile @p text.
 * @return WS_OK, with *out to be freed; WS_E_USAGE a malformed expression, with its
 *         place, or a file without one; WS_E_IO, WS_E_HEADER the file cannot be read or
 *         is larger than 1 MiB; WS_E_MEMORY
 */
WS_API ws_status ws_pattern_new(ws_pattern_set **out, const char *text, ws_err *err);

/**
 * Whether one of the expressions is found in @p name, into *hit. Steps and memory of a
 * match are bounded, so that none runs for long. Thread-safe.
 * @return WS_OK; WS_E_USAGE an expression takes too many steps on this name, so that
 *         there is no answer; WS_E_MEMORY
 */
WS_API ws_status ws_pattern_match(const ws_pattern_set *p, const char *name, bool *hit,
                                  ws_err *err);
WS_API void ws_pattern_free(ws_pattern_set *p);

#ifdef __cplusplus
}
#endif

#endif
