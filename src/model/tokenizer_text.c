/*
 * tokenizer_text.c - UTF-8, white space, and the letters that stand for bytes
 */
#include "model/tokenizer_internal.h"

uint32_t ws_utf8_get(const char *p, size_t n, size_t *size)
{
    const unsigned char *s = (const unsigned char *)p;
    if (s[0] < 0x80 || n < 2) {
        *size = 1;
        return s[0];
    }
    if (s[0] < 0xE0) {
        *size = 2;
        return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    }
    if (s[0] < 0xF0 && n > 2) {
        *size = 3;
        return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    }
    *size = n > 3 ? 4 : n;
    if (n < 4)
        return 0xFFFD;
    return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 |
           (s[3] & 0x3Fu);
}

size_t ws_utf8_put(uint32_t c, char out[4])
{
    unsigned char *o = (unsigned char *)out;
    if (c < 0x80) {
        o[0] = (unsigned char)c;
        return 1;
    }
    if (c < 0x800) {
        o[0] = (unsigned char)(0xC0 | c >> 6);
        o[1] = (unsigned char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        o[0] = (unsigned char)(0xE0 | c >> 12);
        o[1] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
        o[2] = (unsigned char)(0x80 | (c & 0x3F));
        return 3;
    }
    o[0] = (unsigned char)(0xF0 | c >> 18);
    o[1] = (unsigned char)(0x80 | (c >> 12 & 0x3F));
    o[2] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
    o[3] = (unsigned char)(0x80 | (c & 0x3F));
    return 4;
}

bool ws_is_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t ws_space_left(ws_span s)
{
    size_t at = 0, size;
    while (at < s.n && ws_is_space(ws_utf8_get(s.p + at, s.n - at, &size)))
        at += size;
    return at;
}

size_t ws_space_right(ws_span s)
{
    size_t end = s.n, size;
    while (end > 0) {
        size_t at = end - 1;
        while (at > 0 && ((unsigned char)s.p[at] & 0xC0) == 0x80)
            at--;
        if (!ws_is_space(ws_utf8_get(s.p + at, end - at, &size)))
            break;
        end = at;
    }
    return s.n - end;
}

/** Bytes of the character that starts at @p s, or 0 and in *broken the bytes of the
 * longest start of one (Unicode 3.9, best practice for U+FFFD). */
static size_t sequence(const unsigned char *s, size_t n, size_t *broken)
{
    const unsigned a = s[0];
    unsigned low = 0x80, high = 0xBF;
    *broken = 1;
    if (a < 0x80)
        return 1;
    if (a < 0xC2 || a > 0xF4)
        return 0;
    if (a == 0xE0)
        low = 0xA0;
    else if (a == 0xED)
        high = 0x9F;
    else if (a == 0xF0)
        low = 0x90;
    else if (a == 0xF4)
        high = 0x8F;
    const size_t want = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    for (size_t i = 1; i < want; i++) {
        if (i == n || s[i] < low || s[i] > high)
            return 0;
        *broken = i + 1;
        low = 0x80;
        high = 0xBF;
    }
    return want;
}

void ws_utf8_mend(const char *p, size_t n, ws_buf *out)
{
    size_t from = 0, at = 0, broken;
    if (n == 0)
        return;
    while (at < n) {
        const size_t size = sequence((const unsigned char *)p + at, n - at, &broken);
        if (size > 0) {
            at += size;
            continue;
        }
        ws_buf_add(out, p + from, at - from);
        ws_buf_puts(out, "\xEF\xBF\xBD");
        from = at += broken;
    }
    ws_buf_add(out, p + from, n - from);
}

/** Bytes that stand for themselves; the others get letters from U+0100 on. */
static bool plain_byte(unsigned b)
{
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
}

uint32_t ws_byte_letter(unsigned b)
{
    if (plain_byte(b))
        return b;
    if (b <= 32) // 00-20
        return 0x100 + b;
    if (b == 0xAD)
        return 0x143;
    return 0x100 + b - 0x7F + 33; // 7F-A0
}

int ws_letter_byte(uint32_t c)
{
    if (c < 0x100)
        return plain_byte(c) ? (int)c : -1;
    if (c <= 0x120)
        return (int)(c - 0x100);
    if (c <= 0x142)
        return (int)(c - 0x100 - 33 + 0x7F);
    return c == 0x143 ? 0xAD : -1;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    const char low = (char)(c | 32);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

int ws_byte_token(ws_span t)
{
    if (t.n != 6 || memcmp(t.p, "<0x", 3) != 0 || t.p[5] != '>')
        return -1;
    const int high = t.p[3] == '+' ? 0 : hex_digit(t.p[3]), low = hex_digit(t.p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

const char *ws_span_find(ws_span hay, ws_span needle)
{
    const char *p = hay.p, *end = hay.p + hay.n;
    while ((size_t)(end - p) >= needle.n) {
        p = memchr(p, *needle.p, (size_t)(end - p) - needle.n + 1);
        if (p == NULL)
            return NULL;
        if (needle.n == 1 || memcmp(p + 1, needle.p + 1, needle.n - 1) == 0)
            return p;
        p++;
    }
    return NULL;
}
