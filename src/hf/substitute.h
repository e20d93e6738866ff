/*
 * substitute.h - 's/PATTERN/REPLACEMENT/' on names
 */
#ifndef WS_HF_SUBSTITUTE_H
#define WS_HF_SUBSTITUTE_H

#include "wsurg/alloc.h"
#include "wsurg/err.h"

typedef struct ws_substitution ws_substitution;

/**
 * Compile @p text: `s`, a character that parts the rest, a PCRE2 expression, its
 * replacement with \1..\9 or $1 for groups, and `g` (every place) and `i` (any case).
 * @return WS_OK; WS_E_USAGE; WS_E_MEMORY
 */
WS_API ws_status ws_substitution_new(ws_substitution **out, const char *text,
                                     ws_err *err);

/**
 * The name that @p name becomes, in @p arena; *out is NULL where nothing matches.
 * @return WS_OK; WS_E_USAGE the result is empty or longer than WS_MAX_NAME, a group
 *         that is not there, or an expression that takes too many steps; WS_E_MEMORY
 */
WS_API ws_status ws_substitution_apply(const ws_substitution *s, const char *name,
                                       const char **out, ws_arena *arena, ws_err *err);
WS_API void ws_substitution_free(ws_substitution *s);

#endif
