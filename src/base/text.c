/*
 * text.c - growing byte buffers, UTF-8, and text made safe to show
 */
#include "wsurg/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wsurg/alloc.h"

/** Room for n more bytes and a NUL. */
static bool buf_grow(ws_buf *b, size_t n)
{
    size_t need;
    if (b->failed || !ws_add_size(b->n, n, &need) || !ws_add_size(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (b->p != NULL && need <= b->cap)
        return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        if (!ws_mul_size(cap, 2, &cap))
            cap = need;
    char *p = ws_realloc(b->p, cap);
    if (p == NULL) {
        b->failed = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

void ws_buf_add(ws_buf *b, const void *data, size_t n)
{
    if (!buf_grow(b, n))
        return;
    if (n > 0)
        memcpy(b->p + b->n, data, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void ws_buf_puts(ws_buf *b, const char *s)
{
    ws_buf_add(b, s, strlen(s));
}

void ws_buf_putc(ws_buf *b, char c)
{
    ws_buf_add(b, &c, 1);
}

void ws_buf_printf(ws_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && buf_grow(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void ws_buf_json_string(ws_buf *b, const char *s, size_t n)
{
    static const char named[32] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'
    };
    ws_buf_putc(b, '"');
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') {
            ws_buf_putc(b, '\\');
            ws_buf_putc(b, (char)c);
        } else if (c >= 32) {
            ws_buf_putc(b, (char)c);
        } else if (named[c] != '\0') {
            ws_buf_putc(b, '\\');
            ws_buf_putc(b, named[c]);
        } else {
            ws_buf_printf(b, "\\u%04x", c);
        }
    }
    ws_buf_putc(b, '"');
}

void ws_buf_free(ws_buf *b)
{
    ws_free(b->p);
    *b = (ws_buf){ 0 };
}

char *ws_path_join(const char *dir, const char *name)
{
    ws_buf b = { 0 };
    const size_t n = strlen(dir);
    ws_buf_add(&b, dir, n);
    if (n > 0 && dir[n - 1] != '/')
        ws_buf_putc(&b, '/');
    ws_buf_puts(&b, name);
    if (b.failed)
        ws_buf_free(&b);
    return b.p;
}

/** Length of the valid UTF-8 sequence at s (n bytes left), or 0. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    const size_t len = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || n < len)
        return 0;
    // the second byte carries the limits against overlong forms, surrogates and
    // U+110000
    const unsigned char lo = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    const unsigned char hi = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < lo || s[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return len;
}

bool ws_utf8_valid(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    for (size_t i = 0; i < n;) {
        const size_t len = utf8_len(p + i, n - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

void ws_show(const char *s, char *out, size_t size)
{
    ws_buf b = { 0 };
    const size_t n = strlen(s);
    for (size_t i = 0; i < n;) {
        const unsigned char c = (unsigned char)s[i];
        size_t len = utf8_len((const unsigned char *)s + i, n - i);
        // C1 controls (U+0080..U+009F) steer terminals as C0 does
        const bool c1 = len == 2 && c == 0xC2 && (unsigned char)s[i + 1] < 0xA0;
        if (len == 0 || c < 32 || c == 127 || c1) {
            len = len == 0 ? 1 : len;
            for (size_t k = 0; k < len; k++)
                ws_buf_printf(&b, "\\x%02x", (unsigned char)s[i + k]);
        } else {
            ws_buf_add(&b, s + i, len);
        }
        i += len;
    }
    if (b.failed || b.p == NULL) {
        snprintf(out, size, "%s", "");
    } else if (b.n < size) {
        memcpy(out, b.p, b.n + 1);
    } else if (size > 8) {
        size_t tail = (size - 4) / 2, head = size - 4 - tail;
        while (head > 0 && ((unsigned char)b.p[head] & 0xC0) == 0x80)
            head--;
        while (tail > 0 && ((unsigned char)b.p[b.n - tail] & 0xC0) == 0x80)
            tail--;
        snprintf(out, size, "%.*s\u2026%s", (int)head, b.p, b.p + b.n - tail);
    } else if (size > 0) {
        out[0] = '\0';
    }
    ws_buf_free(&b);
}

static char fold(char c)
{
    return (char)(c == '_' ? '-' : c);
}

bool ws_name_equal(const char *a, const char *b)
{
    for (; fold(*a) == fold(*b); a++, b++)
        if (*a == '\0')
            return true;
    return false;
}

size_t ws_edit_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    size_t row[MAX + 1];
    const size_t na = strlen(a), nb = strlen(b);
    if (nb > MAX || na > MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t up = row[j];
            size_t best = diagonal + (fold(a[i - 1]) != fold(b[j - 1]));
            if (up + 1 < best)
                best = up + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[nb];
}

void ws_show_bytes(uint64_t n, char out[24])
{
    static const char *const unit[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
    double v = (double)n;
    size_t u = 0;
    while (v >= 999.5 && u < 6) {
        v /= 1000.0;
        u++;
    }
    const int digits = u == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;
    snprintf(out, 24, "%.*f %s", digits, v, unit[u]);
}

bool ws_parse_real(const char *s, double *out)
{
    // strtod follows the locale and takes hex, inf and nan: check the shape first and
    // accumulate digits so that only the shape "1234e-5" is ever handed to it
    ws_buf b = { 0 };
    const char *p = s;
    long shift = 0;
    size_t digits = 0;
    if (*p == '-' || *p == '+')
        ws_buf_putc(&b, *p++);
    for (; *p >= '0' && *p <= '9'; p++, digits++)
        ws_buf_putc(&b, *p);
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++, digits++, shift--)
            ws_buf_putc(&b, *p);
    bool ok = digits > 0 && digits < 400;
    if (ok && (*p == 'e' || *p == 'E')) {
        const char *q = p + 1 + (p[1] == '-' || p[1] == '+');
        long e = 0;
        ok = *q >= '0' && *q <= '9';
        for (; *q >= '0' && *q <= '9' && e < 100000; q++)
            e = e * 10 + (*q - '0');
        shift += p[1] == '-' ? -e : e;
        p = q;
    }
    ws_buf_printf(&b, "e%ld", shift);
    ok = ok && *p == '\0' && !b.failed;
    if (ok) {
        const double v = strtod(b.p, NULL);
        ok = isfinite(v);
        if (ok)
            *out = v;
    }
    ws_buf_free(&b);
    return ok;
}

bool ws_parse_u64(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++)
        if (*s < '0' || *s > '9' || !ws_mul_u64(v, 10, &v) ||
            !ws_add_u64(v, (uint64_t)(*s - '0'), &v))
            return false;
    *out = v;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool ws_parse_hex(const char *s, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++, s += 2) {
        const int high = hex_digit(s[0]), low = high < 0 ? -1 : hex_digit(s[1]);
        if (low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return *s == '\0';
}

bool ws_parse_bytes(const char *s, uint64_t *out)
{
    static const struct {
        const char *name;
        double factor;
    } unit[] = {
        { "B", 1 },
        { "KB", 1e3 },
        { "kB", 1e3 },
        { "MB", 1e6 },
        { "GB", 1e9 },
        { "TB", 1e12 },
        { "KiB", 1024.0 },
        { "MiB", 1048576.0 },
        { "GiB", 1073741824.0 },
        { "TiB", 1099511627776.0 },
    };
    const size_t n = strspn(s, "0123456789.");
    char number[32];
    double v;
    if (n == 0 || n >= sizeof number)
        return false;
    memcpy(number, s, n);
    number[n] = '\0';
    if (!ws_parse_real(number, &v))
        return false;
    s += n;
    while (*s == ' ')
        s++;
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
        if (strcmp(s, unit[i].name) != 0)
            continue;
        v *= unit[i].factor;
        if (!(v < 9.2e18))
            return false;
        *out = (uint64_t)v;
        return true;
    }
    return false;
}
