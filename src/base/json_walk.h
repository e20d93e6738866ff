/*
 * json_walk.h - finding places in JSON text without a tree: for files that are large,
 * or whose other bytes must stay
 *
 * The text is checked once by ws_json_check() (or more strictly by ws_json_parse());
 * everything else here trusts it. Text that was not checked gives wrong places, never a
 * read past its end.
 */
#ifndef WS_BASE_JSON_WALK_H
#define WS_BASE_JSON_WALK_H

#include "wsurg/err.h"

/** Whether @p text is one JSON value in valid UTF-8, nested at most 64 deep; repeated
 * keys are not looked for. WS_OK; WS_E_HEADER with the offset. */
WS_API ws_status ws_json_check(const char *text, size_t len, ws_err *err);

/** One member of an object. */
typedef struct ws_json_member {
    const char *name;         /**< at its opening quote */
    size_t name_len;          /**< quotes included */
    const char *value, *stop; /**< first byte of the value, and the one after it */
} ws_json_member;

/** The first byte from @p p on that is no white space. */
WS_API const char *ws_json_skip(const char *p, const char *end);

/** End of the value that begins at @p p. */
WS_API const char *ws_json_end(const char *p, const char *end);

/**
 * The member after @p p, which stands behind '{' or behind the last value. False at the
 * object's end, where m->stop is its '}'.
 */
WS_API bool ws_json_member_next(const char *p, const char *end, ws_json_member *m);

/** Whether the member is called @p key, which needs no escapes. */
WS_API bool ws_json_member_is(const ws_json_member *m, const char *key);

/** Member @p key of the object whose '{' is at @p object; false when there is none. */
WS_API bool ws_json_member_find(const char *object, const char *end, const char *key,
                                ws_json_member *m);

/** The value that begins behind @p p in a list, p as for members; false at its end. */
WS_API bool ws_json_item_next(const char *p, const char *end, const char **item,
                              const char **stop);

/**
 * The text of the string from its opening quote at @p s to @p stop, unescaped into
 * @p out (of at least stop - s bytes; no NUL is added).
 * @return bytes written
 */
WS_API size_t ws_json_unescape(const char *s, const char *stop, char *out);

#endif
