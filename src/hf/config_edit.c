/*
 * config_edit.c - change values of config.json in place, leaving every other byte
 */
#include "hf/config_edit.h"

#include <string.h>

static const char *const nested[] = { "text_config", "llm_config", "language_config",
                                      "thinker_config" };

/** End of the string that begins at @p p (its opening quote). */
static const char *string_end(const char *p)
{
    for (p++; *p != '"'; p++)
        if (*p == '\\')
            p++;
    return p + 1;
}

/** End of the value that begins at @p p. The text is valid JSON. */
static const char *value_end(const char *p, const char *end)
{
    int depth = 0;
    while (p < end) {
        if (*p == '"') {
            p = string_end(p);
            if (depth == 0)
                return p;
            continue;
        }
        if (*p == '{' || *p == '[')
            depth++;
        else if ((*p == '}' || *p == ']') && --depth <= 0)
            return depth == 0 ? p + 1 : p;
        else if (depth == 0 && strchr(", \t\r\n", *p) != NULL)
            return p;
        p++;
    }
    return end;
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && strchr(" \t\r\n", *p) != NULL)
        p++;
    return p;
}

static bool key_is(const char *start, const char *end, const char *key)
{
    const size_t n = strlen(key);
    return (size_t)(end - start) == n + 2 && memcmp(start + 1, key, n) == 0;
}

static bool is_nested(const char *start, const char *end)
{
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++)
        if (key_is(start, end, nested[i]))
            return true;
    return false;
}

/** Members of the object whose '{' is at @p p, up to and with its '}'. */
static const char *copy_object(ws_buf *out, const char *p, const char *end,
                               const char *key, const char *value, int level,
                               size_t *count)
{
    ws_buf_putc(out, *p++);
    while (p < end) {
        const char *start = p;
        p = skip_space(p, end);
        if (*p == '}' || *p == ',') {
            ws_buf_add(out, start, (size_t)(p + 1 - start));
            if (*p++ == '}')
                return p;
            continue;
        }
        const char *name = p;
        p = string_end(p);
        const char *name_end = p;
        p = skip_space(skip_space(p, end) + 1, end); // over the colon
        ws_buf_add(out, start, (size_t)(p - start));
        if (level == 0 && *p == '{' && is_nested(name, name_end)) {
            p = copy_object(out, p, end, key, value, 1, count);
            continue;
        }
        const char *stop = value_end(p, end);
        if (key_is(name, name_end, key)) {
            ws_buf_puts(out, value);
            ++*count;
        } else {
            ws_buf_add(out, p, (size_t)(stop - p));
        }
        p = stop;
    }
    return p;
}

size_t ws_config_replace(ws_buf *out, const char *text, size_t len, const char *key,
                         const char *value)
{
    const char *end = text + len;
    const char *p = skip_space(text, end);
    size_t count = 0;
    ws_buf_add(out, text, (size_t)(p - text));
    if (p < end && *p == '{')
        p = copy_object(out, p, end, key, value, 0, &count);
    ws_buf_add(out, p, (size_t)(end - p));
    return count;
}
