/*
 * show.c - numbers, shares, paths and shell words as text
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

void ws_show_share(double share, int decimals, char out[24])
{
    const double p = 100.0 * share;

    if (!isfinite(p))
        snprintf(out, 24, "?");
    else if (p != 0.0 && fabs(p) < 0.05)
        snprintf(out, 24, "%.2g %%", p);
    else
        snprintf(out, 24, "%.*f %%", decimals, p);
}

void ws_show_num(double v, char out[32])
{
    if (fabs(v) < 1e15 && v == floor(v)) {
        snprintf(out, 32, "%.0f", v);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            return;
    }
}

void ws_show_quoted(const char *s, char *out, size_t size)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_-./=,:+@%";
    size_t n = strlen(out);

    if (*s && s[strspn(s, plain)] == '\0') {
        snprintf(out + n, size - n, "%s", s);
        return;
    }
    if (n + 1 < size)
        out[n++] = '\'';
    for (; *s && n + 5 < size; s++) {
        if (*s == '\'') {
            memcpy(out + n, "'\\''", 4);
            n += 4;
        } else {
            out[n++] = *s;
        }
    }
    if (n + 1 < size)
        out[n++] = '\'';
    out[n < size ? n : size - 1] = '\0';
}

size_t ws_folder_length(const char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    return n;
}

const char *ws_base_name(ws_arena *arena, const char *path)
{
    const char *last = path + ws_folder_length(path);
    const size_t n = strcspn(last, "/");
    char *name = ws_arena_alloc(arena, n + 1);

    if (!name)
        return path;
    memcpy(name, last, n); // the arena's memory is zeroed
    return name;
}
