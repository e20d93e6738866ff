/*
 * text.h - growing byte buffers, UTF-8, and text made safe to show
 */
#ifndef WSURG_TEXT_H
#define WSURG_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wsurg/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A growing buffer, always NUL-terminated once something was added. Zero is empty.
 * Errors stick in .failed. */
typedef struct ws_buf {
    char *p;
    size_t n, cap;
    bool failed; /**< an addition found no memory; content is incomplete */
} ws_buf;

WS_API void ws_buf_add(ws_buf *b, const void *data, size_t n);
WS_API void ws_buf_puts(ws_buf *b, const char *s);
WS_API void ws_buf_putc(ws_buf *b, char c);
WS_API void ws_buf_printf(ws_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** A JSON string with its quotes, escaped as safetensors writes it: \" \\ \b \f \n \r
 * \t, other controls \u00xx. */
WS_API void ws_buf_json_string(ws_buf *b, const char *s, size_t n);
WS_API void ws_buf_free(ws_buf *b);

/** "dir/name", from the heap; NULL without memory. */
WS_API char *ws_path_join(const char *dir, const char *name);

/** Whether n bytes are valid UTF-8 (no overlong forms, no surrogates, nothing above
 * U+10FFFF). */
WS_API bool ws_utf8_valid(const char *s, size_t n);

/**
 * Copy @p s to @p out with control bytes and invalid UTF-8 shown as \xNN; cut in the
 * middle with "…" when it does not fit @p size bytes.
 */
WS_API void ws_show(const char *s, char *out, size_t size);

/** Number of single-character edits between two names, '-' equal to '_'; for "did you
 * mean". */
WS_API size_t ws_edit_distance(const char *a, const char *b);

/** Whether two names are equal with '-' and '_' the same. */
WS_API bool ws_name_equal(const char *a, const char *b);

/** "1.04 MB": decimal units, three significant digits. */
WS_API void ws_show_bytes(uint64_t n, char out[24]);

/**
 * Parse "256MiB", "5GB", "1.5GiB", "0B": number and unit (B, KB, MB, GB, TB decimal;
 * KiB... binary). False when malformed, without unit, or past 2^63.
 */
WS_API bool ws_parse_bytes(const char *s, uint64_t *out);

/** Parse a whole decimal number with strtod's syntax, independent of the locale, no
 * hex, no inf or nan. */
WS_API bool ws_parse_real(const char *s, double *out);
WS_API bool ws_parse_u64(const char *s, uint64_t *out);

/** Parse exactly @p n bytes written as two hex digits each, of either case. */
WS_API bool ws_parse_hex(const char *s, uint8_t *out, size_t n);

#ifdef __cplusplus
}
#endif

#endif
