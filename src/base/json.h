/*
 * json.h - strict reading of small JSON files through cJSON
 *
 * Not for safetensors headers (formats.md 1.5). Refuses invalid UTF-8, a BOM, trailing
 * bytes, duplicate keys at any level, nesting above 64, raw control characters and
 * escaped NULs.
 */
#ifndef WS_BASE_JSON_H
#define WS_BASE_JSON_H

#include <cjson/cJSON.h>

#include "wsurg/err.h"

/** Parse @p len bytes; the caller frees with cJSON_Delete. WS_E_HEADER with the offset
 * when refused. */
WS_API ws_status ws_json_parse(cJSON **out, const char *text, size_t len, ws_err *err);

/** Read and parse the file at @p path of at most @p cap bytes. */
WS_API ws_status ws_json_read(cJSON **out, const char *path, size_t cap, ws_err *err);

/** Whole file of at most @p cap bytes, NUL-terminated, from ws_alloc; a regular file or
 * WS_E_IO, WS_E_HEADER if larger. */
WS_API ws_status ws_file_read(char **out, size_t *len, const char *path, size_t cap,
                              ws_err *err);

/** The number as an exact non-negative integer below 2^53. */
WS_API bool ws_json_u64(const cJSON *item, uint64_t *out);

#endif
