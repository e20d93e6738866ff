/*
 * st_header.c - the JSON header of a safetensors file, parsed strictly
 *
 * One pass over the bytes, no tree and no recursion; numbers are exact 64-bit integers.
 * Stricter than the reference reader, which takes the last of two equal names, arrays
 * in place of objects and NUL in names (formats.md 1.4). What is legal but odd is
 * counted, and reported once per kind and file, so that a header cannot flood its
 * reader with warnings.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "wsurg/text.h"

enum {
    MAX_DEPTH = 8,             // of brackets; the format needs 3
    MAX_RAW = 6 * WS_MAX_NAME, // a name all in \u escapes
    HAVE_DTYPE = 1,
    HAVE_SHAPE = 2,
    HAVE_OFFSETS = 4,
};

/** A string in the text, between its quotes. */
struct span {
    size_t at, n;
    bool escaped;
};

struct oddity {
    uint64_t count;
    size_t at;
    char tensor[160];
};

struct parser {
    ws_ckpt *c;
    uint32_t file;
    const unsigned char *text;
    size_t n, at;
    ws_arena *meta_arena;
    ws_st_header_info *info;
    ws_err *err;
    const char *tensor; // being read, for errors
    struct oddity unknown, nameless;
    size_t null_meta_at; // + 1; 0: none
    bool leading;
    uint64_t shape[WS_MAX_RANK];
    char name[MAX_RAW + 1];
};

/** What stands at `at`, for "found ...". */
static const char *found(const struct parser *p, size_t at, char buf[16])
{
    if (at >= p->n)
        return "the end of the header";
    if (p->text[at] > 32 && p->text[at] < 127)
        snprintf(buf, 16, "'%c'", p->text[at]);
    else
        snprintf(buf, 16, "byte 0x%02x", p->text[at]);
    return buf;
}

/** Report @p msg at byte @p at of the text. */
static ws_status refuse(struct parser *p, size_t at, ws_status code, const char *msg)
{
    ws_fail(p->err, code, "%s", msg);
    ws_err_at(p->err, NULL, p->tensor, (int64_t)at + 8);
    return code;
}

static ws_status refuse_header(struct parser *p, size_t at, const char *msg)
{
    return refuse(p, at, WS_E_HEADER, msg);
}

static ws_status expected(struct parser *p, const char *what)
{
    char buf[16];
    ws_fail(p->err, WS_E_HEADER, "malformed header: expected %s, found %s", what,
            found(p, p->at, buf));
    ws_err_at(p->err, NULL, p->tensor, (int64_t)p->at + 8);
    return WS_E_HEADER;
}

static void skip_space(struct parser *p)
{
    while (p->at < p->n && (p->text[p->at] == ' ' || p->text[p->at] == '\n' ||
                            p->text[p->at] == '\t' || p->text[p->at] == '\r'))
        p->at++;
}

/** The byte after white space, 0 at the end. */
static unsigned char peek(struct parser *p)
{
    skip_space(p);
    return p->at < p->n ? p->text[p->at] : 0;
}

static bool take(struct parser *p, unsigned char c)
{
    if (peek(p) != c)
        return false;
    p->at++;
    return true;
}

/* ---- strings ---- */

/** Value of four hex digits at @p at; false when they are none. */
static bool hex4(const struct parser *p, size_t at, unsigned *out)
{
    unsigned v = 0;
    if (at > p->n || p->n - at < 4)
        return false;
    for (size_t i = at; i < at + 4; i++) {
        const unsigned char c = p->text[i], low = c | 32;
        if (c >= '0' && c <= '9')
            v = v * 16 + (c - '0');
        else if (low >= 'a' && low <= 'f')
            v = v * 16 + (low - 'a' + 10u);
        else
            return false;
    }
    *out = v;
    return true;
}

/** Check the escape whose backslash is at p->at, and step over it. */
static ws_status escape_check(struct parser *p)
{
    const size_t at = p->at;
    const unsigned char c = at + 1 < p->n ? p->text[at + 1] : 0;
    unsigned v, w;
    p->at += 2;
    if (c != 'u')
        return c != 0 && strchr("\"\\/bfnrt", c) != NULL
                   ? WS_OK
                   : refuse_header(p, at,
                                   "malformed header: unknown escape in a string");
    if (!hex4(p, at + 2, &v))
        return refuse_header(p, at, "malformed header: malformed \\u escape");
    p->at += 4;
    if (v == 0)
        return refuse_header(p, at, "NUL in a string is refused");
    if (v < 0xD800 || v > 0xDFFF)
        return WS_OK;
    if (v > 0xDBFF || p->n - p->at < 6 || p->text[p->at] != '\\' ||
        p->text[p->at + 1] != 'u' || !hex4(p, p->at + 2, &w) || w < 0xDC00 ||
        w > 0xDFFF)
        return refuse_header(p, at, "malformed header: lone surrogate in a string");
    p->at += 6;
    return WS_OK;
}

/** A string, with its opening quote at p->at. */
static ws_status string_scan(struct parser *p, struct span *out)
{
    const size_t open = p->at++;
    *out = (struct span){ p->at, 0, false };
    while (p->at < p->n) {
        const unsigned char c = p->text[p->at];
        if (c == '"') {
            out->n = p->at++ - out->at;
            return WS_OK;
        }
        if (c < 32)
            return refuse_header(p, p->at,
                                 "malformed header: raw control character in a string");
        if (c != '\\') {
            p->at++;
            continue;
        }
        out->escaped = true;
        const ws_status st = escape_check(p);
        if (st != WS_OK)
            return st;
    }
    return refuse_header(p, open, "malformed header: string without end");
}

static size_t utf8_put(char *dst, unsigned v)
{
    if (v < 0x80) {
        dst[0] = (char)v;
        return 1;
    }
    const size_t more = v < 0x800 ? 1 : v < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = { 0, 0xC0, 0xE0, 0xF0 };
    dst[0] = (char)(lead[more] | v >> (6 * more));
    for (size_t i = 1; i <= more; i++)
        dst[i] = (char)(0x80 | (v >> (6 * (more - i)) & 0x3F));
    return more + 1;
}

/** Copy a scanned string to @p dst (at least n + 1 bytes), escapes resolved; length. */
static size_t string_copy(const struct parser *p, struct span s, char *dst)
{
    static const char plain[] = "\"\\/bfnrt", value[] = "\"\\/\b\f\n\r\t";
    if (!s.escaped) {
        memcpy(dst, p->text + s.at, s.n);
        dst[s.n] = '\0';
        return s.n;
    }
    size_t n = 0;
    for (size_t i = s.at; i < s.at + s.n;) {
        if (p->text[i] != '\\') {
            dst[n++] = (char)p->text[i++];
            continue;
        }
        unsigned v = 0, low = 0;
        if (p->text[i + 1] != 'u') {
            dst[n++] = value[strchr(plain, p->text[i + 1]) - plain];
            i += 2;
            continue;
        }
        (void)hex4(p, i + 2, &v); // checked by escape_check()
        i += 6;
        if (v >= 0xD800 && v <= 0xDFFF) {
            (void)hex4(p, i + 2, &low);
            v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
            i += 6;
        }
        n += utf8_put(dst + n, v);
    }
    dst[n] = '\0';
    return n;
}

/** A key and its colon, unescaped into p->name; *len is its length, or SIZE_MAX when it
 * is longer than any name may be. */
static ws_status key_read(struct parser *p, size_t *at, size_t *len)
{
    struct span s;
    if (peek(p) != '"')
        return expected(p, "a key in quotes");
    *at = p->at;
    const ws_status st = string_scan(p, &s);
    if (st != WS_OK)
        return st;
    if (!take(p, ':'))
        return expected(p, "':'");
    *len = SIZE_MAX;
    p->name[0] = '\0';
    if (s.n <= MAX_RAW)
        *len = string_copy(p, s, p->name);
    return WS_OK;
}

/* ---- numbers ---- */

/** A number that is an unsigned integer of 64 bits. */
static ws_status integer_read(struct parser *p, const char *what, uint64_t *out)
{
    char msg[96];
    const unsigned char first = peek(p);
    const size_t at = p->at;
    uint64_t v = 0;
    if (first < '0' || first > '9') {
        snprintf(msg, sizeof msg, "%s must be an unsigned integer", what);
        return refuse_header(p, at, msg);
    }
    while (p->at < p->n && p->text[p->at] >= '0' && p->text[p->at] <= '9') {
        const uint64_t digit = p->text[p->at++] - (uint64_t)'0';
        if (!ws_mul_u64(v, 10, &v) || !ws_add_u64(v, digit, &v)) {
            snprintf(msg, sizeof msg, "%s is above 2^64-1", what);
            return refuse_header(p, at, msg);
        }
    }
    const unsigned char next = p->at < p->n ? p->text[p->at] : 0;
    if ((first == '0' && p->at > at + 1) || next == '.' || next == 'e' || next == 'E') {
        snprintf(msg, sizeof msg, "%s must be an unsigned integer", what);
        return refuse_header(p, at, msg);
    }
    *out = v;
    return WS_OK;
}

/** Step over digits; how many. */
static size_t digits_skip(struct parser *p)
{
    const size_t at = p->at;
    while (p->at < p->n && p->text[p->at] >= '0' && p->text[p->at] <= '9')
        p->at++;
    return p->at - at;
}

/** Step over any JSON number. */
static ws_status number_skip(struct parser *p)
{
    const size_t at = p->at;
    p->at += p->text[p->at] == '-';
    const bool zero = p->at < p->n && p->text[p->at] == '0';
    const size_t whole = digits_skip(p);
    bool ok = whole > 0 && !(zero && whole > 1);
    if (ok && p->at < p->n && p->text[p->at] == '.') {
        p->at++;
        ok = digits_skip(p) > 0;
    }
    if (ok && p->at < p->n && (p->text[p->at] | 32) == 'e') {
        p->at++;
        p->at += p->at < p->n && (p->text[p->at] == '+' || p->text[p->at] == '-');
        ok = digits_skip(p) > 0;
    }
    return ok ? WS_OK : refuse_header(p, at, "malformed header: malformed number");
}

static bool word_take(struct parser *p, const char *word)
{
    const size_t n = strlen(word);
    if (p->n - p->at < n || memcmp(p->text + p->at, word, n) != 0)
        return false;
    p->at += n;
    return true;
}

static ws_status scalar_skip(struct parser *p)
{
    struct span s;
    const unsigned char c = peek(p);
    if (c == '"')
        return string_scan(p, &s);
    if (c == '-' || (c >= '0' && c <= '9'))
        return number_skip(p);
    if (word_take(p, "true") || word_take(p, "false") || word_take(p, "null"))
        return WS_OK;
    return expected(p, "a value");
}

/** A key and its colon, of no interest. */
static ws_status key_skip(struct parser *p)
{
    struct span s;
    if (peek(p) != '"')
        return expected(p, "a key in quotes");
    const ws_status st = string_scan(p, &s);
    if (st != WS_OK)
        return st;
    return take(p, ':') ? WS_OK : expected(p, "':'");
}

/** Step over any value inside @p depth open brackets. */
static ws_status value_skip(struct parser *p, int depth)
{
    unsigned char closing[MAX_DEPTH];
    const int outer = depth;
    ws_status st = WS_OK;
    for (;;) {
        const unsigned char c = peek(p);
        bool fresh = false;
        if (c == '{' || c == '[') {
            if (depth == MAX_DEPTH)
                return refuse_header(p, p->at, "header is nested deeper than 8 levels");
            closing[depth++] = c == '{' ? '}' : ']';
            p->at++;
            fresh = true;
        } else {
            st = scalar_skip(p);
        }
        // close what ends here; then the next element, or done
        while (st == WS_OK && depth > outer && peek(p) == closing[depth - 1]) {
            p->at++;
            depth--;
            fresh = false;
        }
        if (st != WS_OK || depth == outer)
            return st;
        if (!fresh && !take(p, ','))
            return expected(p, closing[depth - 1] == '}' ? "',' or '}'" : "',' or ']'");
        if (closing[depth - 1] == '}')
            st = key_skip(p);
        if (st != WS_OK)
            return st;
    }
}

/* ---- one tensor ---- */

static ws_status dtype_read(struct parser *p, ws_dtype *out)
{
    struct span s;
    if (peek(p) != '"')
        return refuse_header(p, p->at, "dtype must be a string");
    const size_t at = p->at;
    const ws_status st = string_scan(p, &s);
    if (st != WS_OK)
        return st;
    char name[6 * 16 + 1], shown[64], msg[128];
    if (s.n < sizeof name) {
        const size_t n = string_copy(p, s, name);
        if (ws_dtype_parse(name, n, out))
            return WS_OK;
        ws_show(name, shown, sizeof shown);
    } else {
        snprintf(shown, sizeof shown, "%.16s...", (const char *)p->text + s.at);
    }
    snprintf(msg, sizeof msg, "unknown dtype '%s'", shown);
    refuse(p, at, WS_E_UNSUPPORTED, msg);
    ws_dtype near;
    if (s.n < sizeof name && ws_dtype_parse_user(name, &near))
        ws_err_hint(p->err, "safetensors spells it '%s'", ws_dtype_info(near)->name);
    return WS_E_UNSUPPORTED;
}

static ws_status shape_read(struct parser *p, int *rank)
{
    *rank = 0;
    if (!take(p, '['))
        return refuse_header(p, p->at, "shape must be an array");
    if (take(p, ']'))
        return WS_OK;
    do {
        if (*rank == WS_MAX_RANK) {
            char msg[80];
            snprintf(msg, sizeof msg, "shape has more than %d dimensions", WS_MAX_RANK);
            return refuse_header(p, p->at, msg);
        }
        const ws_status st = integer_read(p, "a dimension", &p->shape[*rank]);
        if (st != WS_OK)
            return st;
        ++*rank;
    } while (take(p, ','));
    return take(p, ']') ? WS_OK : expected(p, "',' or ']' in shape");
}

static ws_status offsets_read(struct parser *p, ws_st_range *r)
{
    static const char *const msg = "data_offsets must be an array of two integers";
    if (!take(p, '['))
        return refuse_header(p, p->at, msg);
    if (peek(p) == ']')
        return refuse_header(p, p->at, msg);
    ws_status st = integer_read(p, "an offset", &r->begin);
    if (st != WS_OK)
        return st;
    if (!take(p, ','))
        return refuse_header(p, p->at, msg);
    st = integer_read(p, "an offset", &r->end);
    if (st != WS_OK)
        return st;
    return take(p, ']') ? WS_OK : refuse_header(p, p->at, msg);
}

static void oddity_note(struct parser *p, struct oddity *o, size_t at)
{
    if (o->count++ > 0)
        return;
    o->at = at;
    snprintf(o->tensor, sizeof o->tensor, "%.*s", (int)sizeof o->tensor - 1, p->tensor);
}

/** One field of a tensor; its key is in field (len bytes). */
static ws_status field_read(struct parser *p, const char *field, size_t at,
                            ws_tensor *t, ws_st_range *r, unsigned *have)
{
    unsigned bit = 0;
    if (strcmp(field, "dtype") == 0)
        bit = HAVE_DTYPE;
    else if (strcmp(field, "shape") == 0)
        bit = HAVE_SHAPE;
    else if (strcmp(field, "data_offsets") == 0)
        bit = HAVE_OFFSETS;
    if ((*have & bit) != 0) {
        char msg[64];
        snprintf(msg, sizeof msg, "field '%s' stands twice", field);
        return refuse_header(p, at, msg);
    }
    *have |= bit;
    if (bit == HAVE_DTYPE)
        return dtype_read(p, &t->dtype);
    if (bit == HAVE_SHAPE)
        return shape_read(p, &t->rank);
    if (bit == HAVE_OFFSETS)
        return offsets_read(p, r);
    oddity_note(p, &p->unknown, at);
    return value_skip(p, 2);
}

/** A field's key, short enough to be compared; longer ones become "". */
static ws_status field_key(struct parser *p, size_t *at, char out[32])
{
    struct span s;
    if (peek(p) != '"')
        return expected(p, "a key in quotes");
    *at = p->at;
    const ws_status st = string_scan(p, &s);
    if (st != WS_OK)
        return st;
    if (!take(p, ':'))
        return expected(p, "':'");
    char buf[6 * 16 + 1] = "";
    if (s.n < sizeof buf)
        string_copy(p, s, buf);
    snprintf(out, 32, "%.31s", buf);
    return WS_OK;
}

static ws_status range_add(struct parser *p, ws_st_range r)
{
    ws_st_header_info *info = p->info;
    if (info->n == info->cap) {
        const size_t cap = info->cap == 0 ? 16 : info->cap + info->cap / 2;
        ws_st_range *q = ws_realloc(info->ranges, cap * sizeof *q);
        if (q == NULL)
            return refuse(p, p->at, WS_E_MEMORY, "no memory for the header's tables");
        info->ranges = q;
        info->cap = cap;
    }
    info->ranges[info->n++] = r;
    return WS_OK;
}

/** The object of the tensor called p->name, whose key stands at @p at. */
static ws_status tensor_read(struct parser *p, size_t at)
{
    ws_tensor t = { .name = p->name, .file = p->file, .shape = p->shape };
    ws_st_range r = { 0, 0, (uint32_t)p->c->n };
    unsigned have = 0;
    ws_status st = WS_OK;
    if (!take(p, '{'))
        return refuse_header(p, p->at, "tensor must be an object");
    if (!take(p, '}')) {
        do {
            char field[32];
            size_t key_at = 0;
            st = field_key(p, &key_at, field);
            if (st == WS_OK)
                st = field_read(p, field, key_at, &t, &r, &have);
            if (st != WS_OK)
                return st;
        } while (take(p, ','));
        if (!take(p, '}'))
            return expected(p, "',' or '}'");
    }
    if (have != (HAVE_DTYPE | HAVE_SHAPE | HAVE_OFFSETS)) {
        char msg[64];
        snprintf(msg, sizeof msg, "field '%s' is missing",
                 (have & HAVE_DTYPE) == 0   ? "dtype"
                 : (have & HAVE_SHAPE) == 0 ? "shape"
                                            : "data_offsets");
        return refuse_header(p, at, msg);
    }
    st = ws_ckpt_add_tensor(p->c, &t, (uint64_t)at + 8, p->err);
    if (st != WS_OK)
        return ws_err_at(p->err, NULL, p->tensor, (int64_t)at + 8), st;
    return range_add(p, r);
}

/* ---- metadata ---- */

/** A string from the text in the metadata arena; NULL without memory. */
static const char *meta_string(struct parser *p, struct span s)
{
    char *dst = ws_arena_alloc(p->meta_arena, s.n + 1);
    if (dst != NULL)
        string_copy(p, s, dst);
    return dst;
}

static ws_status meta_add(struct parser *p, struct span key, struct span value)
{
    ws_st_header_info *info = p->info;
    if (info->n_meta == info->cap_meta) {
        const size_t cap = info->cap_meta == 0 ? 16 : info->cap_meta * 2;
        ws_meta *q = ws_realloc(info->meta, cap * sizeof *q);
        if (q == NULL)
            return refuse(p, p->at, WS_E_MEMORY, "no memory for metadata");
        info->meta = q;
        info->cap_meta = cap;
    }
    const ws_meta m = { meta_string(p, key), meta_string(p, value) };
    if (m.key == NULL || m.value == NULL)
        return refuse(p, p->at, WS_E_MEMORY, "no memory for metadata");
    info->meta[info->n_meta++] = m;
    return WS_OK;
}

static int compare_meta(const void *a, const void *b)
{
    return strcmp(((const ws_meta *)a)->key, ((const ws_meta *)b)->key);
}

/** Sort the pairs and refuse a key that stands twice. */
static ws_status meta_check(struct parser *p, size_t at)
{
    ws_st_header_info *info = p->info;
    if (info->n_meta > 1)
        qsort(info->meta, info->n_meta, sizeof *info->meta, compare_meta);
    for (size_t i = 1; i < info->n_meta; i++) {
        if (strcmp(info->meta[i - 1].key, info->meta[i].key) != 0)
            continue;
        char shown[64], msg[128];
        ws_show(info->meta[i].key, shown, sizeof shown);
        snprintf(msg, sizeof msg, "metadata key '%s' stands twice", shown);
        return refuse_header(p, at, msg);
    }
    return WS_OK;
}

/** The value of `__metadata__`, whose key stands at @p at. */
static ws_status metadata_read(struct parser *p, size_t at)
{
    if (peek(p) == 'n' && word_take(p, "null")) {
        p->null_meta_at = at + 1;
        return WS_OK;
    }
    if (!take(p, '{'))
        return refuse_header(p, p->at, "__metadata__ must be an object of strings");
    if (take(p, '}'))
        return WS_OK;
    do {
        struct span key, value;
        if (peek(p) != '"')
            return expected(p, "a key in quotes");
        ws_status st = string_scan(p, &key);
        if (st == WS_OK && !take(p, ':'))
            return expected(p, "':'");
        if (st == WS_OK && peek(p) != '"')
            return refuse_header(p, p->at, "__metadata__ must be an object of strings");
        if (st == WS_OK)
            st = string_scan(p, &value);
        if (st == WS_OK)
            st = meta_add(p, key, value);
        if (st != WS_OK)
            return st;
    } while (take(p, ','));
    return take(p, '}') ? meta_check(p, at) : expected(p, "',' or '}'");
}

/* ---- the header ---- */

/** One member of the header's object. */
static ws_status member_read(struct parser *p, bool *have_meta)
{
    size_t at = 0, len = 0;
    ws_status st = key_read(p, &at, &len);
    if (st != WS_OK)
        return st;
    if (len > WS_MAX_NAME) {
        char msg[80];
        snprintf(msg, sizeof msg, "tensor name is longer than %d bytes", WS_MAX_NAME);
        return refuse_header(p, at, msg);
    }
    if (strcmp(p->name, "__metadata__") == 0) {
        if (*have_meta)
            return refuse_header(p, at, "__metadata__ stands twice");
        *have_meta = true;
        return metadata_read(p, at);
    }
    p->tensor = p->name;
    if (len == 0)
        oddity_note(p, &p->nameless, at);
    st = tensor_read(p, at);
    p->tensor = NULL;
    return st;
}

/** Offset of the first byte that is not UTF-8. */
static size_t utf8_fault(const struct parser *p)
{
    const char *s = (const char *)p->text;
    size_t i = 0;
    while (i < p->n) {
        size_t len = 1;
        while (len <= 4 && len <= p->n - i && !ws_utf8_valid(s + i, len))
            len++;
        if (len > 4 || len > p->n - i)
            break;
        i += len;
    }
    return i;
}

static ws_status document_read(struct parser *p)
{
    bool have_meta = false;
    if (!ws_utf8_valid((const char *)p->text, p->n))
        return refuse_header(p, utf8_fault(p), "header is not valid UTF-8");
    if (p->n == 0)
        return refuse_header(p, 0, "header is empty");
    if (p->n >= 3 && memcmp(p->text, "\xEF\xBB\xBF", 3) == 0)
        return refuse_header(p, 0, "header begins with a byte order mark");
    p->leading = p->text[0] != '{';
    if (!take(p, '{'))
        return expected(p, "'{'");
    if (!take(p, '}')) {
        do {
            const ws_status st = member_read(p, &have_meta);
            if (st != WS_OK)
                return st;
        } while (take(p, ','));
        if (!take(p, '}'))
            return expected(p, "',' or '}'");
    }
    skip_space(p);
    return p->at == p->n ? WS_OK : expected(p, "only spaces after the header's object");
}

/** One warning with its place. */
static void warn(const struct parser *p, ws_diag *warnings, const char *tag, size_t at,
                 const char *tensor, const char *msg)
{
    ws_err *w = ws_diag_report(warnings, WS_OK, tag, "%s", msg);
    const char *path = p->file < p->c->n_files ? p->c->files[p->file].path : p->c->path;
    if (w != NULL)
        ws_err_at(w, path, tensor, (int64_t)at + 8);
}

static void warn_oddity(const struct parser *p, ws_diag *warnings, const char *tag,
                        const struct oddity *o, const char *what)
{
    char msg[128];
    if (o->count == 0)
        return;
    if (o->count == 1)
        snprintf(msg, sizeof msg, "%s", what);
    else
        snprintf(msg, sizeof msg, "%s, first of %llu", what,
                 (unsigned long long)o->count);
    warn(p, warnings, tag, o->at, o->tensor, msg);
}

ws_status ws_st_header_parse(ws_ckpt *c, uint32_t file, const char *text, size_t n,
                             ws_arena *meta_arena, ws_st_header_info *info,
                             ws_diag *warnings, ws_err *err)
{
    struct parser *p = ws_calloc(1, sizeof *p);
    if (p == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to parse a header");
    p->c = c;
    p->file = file;
    p->text = (const unsigned char *)text;
    p->n = n;
    p->meta_arena = meta_arena;
    p->info = info;
    p->err = err;
    const ws_status st = document_read(p);
    if (st == WS_OK) {
        if (p->leading)
            warn(p, warnings, "leading-space", 0, NULL,
                 "header begins with white space");
        if (p->null_meta_at > 0)
            warn(p, warnings, "null-metadata", p->null_meta_at - 1, NULL,
                 "__metadata__ is null");
        warn_oddity(p, warnings, "unknown-field", &p->unknown,
                    "unknown field of a tensor, ignored");
        warn_oddity(p, warnings, "empty-name", &p->nameless, "tensor without a name");
    }
    ws_free(p);
    return st;
}
