/*
 * json_walk.c - finding places in JSON text without a tree
 */
#include "base/json_walk.h"

#include <string.h>

/** End of the string that begins at @p p (its opening quote). */
static const char *string_end(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\')
            p++;
    return p < end ? p + 1 : end;
}

const char *ws_json_skip(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
        p++;
    return p;
}

const char *ws_json_end(const char *p, const char *end)
{
    int depth = 0;
    while (p < end) {
        if (*p == '"') {
            p = string_end(p, end);
            if (depth == 0)
                return p;
            continue;
        }
        if (*p == '{' || *p == '[')
            depth++;
        else if ((*p == '}' || *p == ']') && --depth <= 0)
            return depth == 0 ? p + 1 : p;
        else if (depth == 0 && (*p == ',' || ws_json_skip(p, p + 1) > p))
            return p;
        p++;
    }
    return end;
}

bool ws_json_member_next(const char *p, const char *end, ws_json_member *m)
{
    p = ws_json_skip(p, end);
    if (p < end && *p == ',')
        p = ws_json_skip(p + 1, end);
    m->stop = p;
    if (p == end || *p != '"')
        return false;
    m->name = p;
    p = string_end(p, end);
    m->name_len = (size_t)(p - m->name);
    p = ws_json_skip(p, end);
    m->value = ws_json_skip(p < end ? p + 1 : end, end); // over the colon
    m->stop = ws_json_end(m->value, end);
    return true;
}

bool ws_json_member_is(const ws_json_member *m, const char *key)
{
    const size_t n = strlen(key);
    return m->name_len == n + 2 && memcmp(m->name + 1, key, n) == 0;
}

bool ws_json_member_find(const char *object, const char *end, const char *key,
                         ws_json_member *m)
{
    if (object == end || *object != '{')
        return false;
    for (const char *p = object + 1; ws_json_member_next(p, end, m); p = m->stop)
        if (ws_json_member_is(m, key))
            return true;
    return false;
}

bool ws_json_item_next(const char *p, const char *end, const char **item,
                       const char **stop)
{
    p = ws_json_skip(p, end);
    if (p < end && *p == ',')
        p = ws_json_skip(p + 1, end);
    if (p == end || *p == ']')
        return false;
    *item = p;
    *stop = ws_json_end(p, end);
    return true;
}

/* ---- strings ---- */

static uint32_t hex4(const char *p)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        v = v * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return v;
}

static size_t put_utf8(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t ws_json_unescape(const char *s, const char *stop, char *out)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    char *o = out;
    for (s++; s < stop && *s != '"'; s++) {
        if (*s != '\\' || s + 1 >= stop) {
            *o++ = *s;
            continue;
        }
        s++;
        if (*s != 'u' || stop - s < 5) {
            const char *f = strchr(from, *s);
            *o++ = *(f == NULL || *f == '\0' ? s : to + (f - from));
            continue;
        }
        uint32_t c = hex4(s + 1);
        s += 4;
        if (c >= 0xD800 && c < 0xDC00 && stop - s >= 7) { // its other half follows
            c = 0x10000 + ((c & 0x3FF) << 10) + (hex4(s + 3) & 0x3FF);
            s += 6;
        }
        o += put_utf8(c, o);
    }
    return (size_t)(o - out);
}
