/*
 * npy.c - NumPy's arrays, alone or in a zip archive
 *
 * The header is a Python literal of one known shape, read by a parser that knows
 * nothing else. formats.md 6; NEP 1.
 */
#include <string.h>

#include "ckpt/archive.h"
#include "wsurg/text.h"

enum { MAX_HEADER = 10000, MAX_SHAPE = 32 };

/** A header being read. */
struct literal {
    const char *p, *end;
    uint64_t base; /* byte of the file where the text begins */
    const char *begin;
    ws_err *err;
};

/** What it says. */
struct header {
    ws_dtype dtype;
    bool swap, fortran;
    int rank;
    uint64_t shape[MAX_SHAPE];
    unsigned seen; /* bit per key */
};

static ws_status bad(const struct literal *l, const char *what)
{
    ws_fail(l->err, WS_E_HEADER, "npy header: %s", what);
    const uint64_t at = l->base + (uint64_t)(l->p - l->begin);
    return ws_err_at(l->err, NULL, NULL, (int64_t)at), WS_E_HEADER;
}

static void skip_blanks(struct literal *l)
{
    while (l->p < l->end && (*l->p == ' ' || *l->p == '\n'))
        l->p++;
}

/** Take @p c after blanks; whether it was there. */
static bool take(struct literal *l, char c)
{
    skip_blanks(l);
    if (l->p == l->end || *l->p != c)
        return false;
    l->p++;
    return true;
}

static bool take_word(struct literal *l, const char *word)
{
    const size_t n = strlen(word);
    skip_blanks(l);
    if ((size_t)(l->end - l->p) < n || memcmp(l->p, word, n) != 0)
        return false;
    l->p += n;
    return true;
}

/** A quoted string without escapes. */
static ws_status take_string(struct literal *l, char *out, size_t size)
{
    skip_blanks(l);
    if (l->p == l->end || (*l->p != '\'' && *l->p != '"'))
        return bad(l, "a string is missing; arrays of records are not read");
    const char quote = *l->p++;
    size_t n = 0;
    for (; l->p < l->end && *l->p != quote; l->p++) {
        if (n + 1 == size || *l->p == '\\' || (unsigned char)*l->p < 0x20)
            return bad(l, "a string is too long or escaped");
        out[n++] = *l->p;
    }
    if (l->p == l->end)
        return bad(l, "a string does not end");
    l->p++;
    out[n] = '\0';
    return WS_OK;
}

/** Byte order, kind and size, as '<f4'. */
static ws_status read_descr(struct literal *l, struct header *h)
{
    static const struct {
        const char *word;
        ws_dtype dtype;
    } kinds[] = {
        { "b1", WS_DT_BOOL }, { "i1", WS_DT_I8 },  { "i2", WS_DT_I16 },
        { "i4", WS_DT_I32 },  { "i8", WS_DT_I64 }, { "u1", WS_DT_U8 },
        { "u2", WS_DT_U16 },  { "u4", WS_DT_U32 }, { "u8", WS_DT_U64 },
        { "f2", WS_DT_F16 },  { "f4", WS_DT_F32 }, { "f8", WS_DT_F64 },
        { "c8", WS_DT_C64 },
    };
    char word[16];
    const ws_status st = take_string(l, word, sizeof word);
    if (st != WS_OK)
        return st;
    h->swap = word[0] == '>';
    if (word[0] != '\0' && strchr("<>|=", word[0]) != NULL)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (strcmp(word + 1, kinds[i].word) == 0) {
                h->dtype = kinds[i].dtype;
                return WS_OK;
            }
    char shown[40];
    ws_show(word, shown, sizeof shown);
    ws_fail(l->err, WS_E_UNSUPPORTED,
            "npy header: type '%s' is no plain number: not read", shown);
    return WS_E_UNSUPPORTED;
}

static ws_status read_number(struct literal *l, uint64_t *out)
{
    uint64_t v = 0;
    skip_blanks(l);
    const char *from = l->p;
    for (; l->p < l->end && *l->p >= '0' && *l->p <= '9'; l->p++)
        if (!ws_mul_u64(v, 10, &v) || !ws_add_u64(v, (uint64_t)(*l->p - '0'), &v))
            return bad(l, "a dimension is beyond 64 bits");
    if (l->p == from)
        return bad(l, "a dimension is no whole number");
    if (l->p < l->end && *l->p == 'L') // Python 2
        l->p++;
    *out = v;
    return WS_OK;
}

static ws_status read_shape(struct literal *l, struct header *h)
{
    if (!take(l, '('))
        return bad(l, "shape is no tuple");
    while (!take(l, ')')) {
        if (h->rank == MAX_SHAPE)
            return bad(l, "more than 32 dimensions");
        const ws_status st = read_number(l, &h->shape[h->rank]);
        if (st != WS_OK)
            return st;
        h->rank++;
        if (!take(l, ',') && !take(l, ')'))
            return bad(l, "shape is no tuple");
        if (l->p[-1] == ')')
            return h->rank == 1 ? bad(l, "shape is a number, no tuple") : WS_OK;
    }
    return WS_OK;
}

static ws_status read_entry(struct literal *l, struct header *h)
{
    static const char *const keys[] = { "descr", "fortran_order", "shape" };
    char key[16];
    ws_status st = take_string(l, key, sizeof key);
    if (st != WS_OK)
        return st;
    unsigned k = 0;
    while (k < 3 && strcmp(key, keys[k]) != 0)
        k++;
    if (k == 3 || (h->seen & 1u << k) != 0)
        return bad(l, "a key is unknown or stands twice");
    h->seen |= 1u << k;
    if (!take(l, ':'))
        return bad(l, "a key has no value");
    if (k == 0)
        return read_descr(l, h);
    if (k == 2)
        return read_shape(l, h);
    h->fortran = take_word(l, "True");
    return h->fortran || take_word(l, "False")
               ? WS_OK
               : bad(l, "fortran_order is neither True nor False");
}

static ws_status read_literal(struct literal *l, struct header *h)
{
    if (!take(l, '{'))
        return bad(l, "no dictionary");
    while (!take(l, '}')) {
        const ws_status st = read_entry(l, h);
        if (st != WS_OK)
            return st;
        if (take(l, ','))
            continue;
        if (!take(l, '}'))
            return bad(l, "an entry does not end");
        break;
    }
    skip_blanks(l);
    if (l->p != l->end)
        return bad(l, "text after the dictionary");
    return h->seen == 7 ? WS_OK : bad(l, "descr, fortran_order or shape is missing");
}

/** Length of the text before the data, and where it begins. */
static ws_status read_front(const ws_ckpt *c, uint32_t file, uint64_t offset,
                            uint64_t bytes, size_t *begin, size_t *n, ws_err *err)
{
    unsigned char h[12] = { 0 };
    const size_t have = bytes < sizeof h ? (size_t)bytes : sizeof h;
    const ws_status st = ws_ckpt_file_read(c, file, offset, have, h, err);
    if (st != WS_OK)
        return st;
    *begin = h[6] == 1 ? 10 : 12;
    *n = (size_t)h[8] | (size_t)h[9] << 8;
    if (h[6] != 1)
        *n |= (size_t)h[10] << 16 | (size_t)h[11] << 24;
    if (have < 12 || memcmp(h, "\x93NUMPY", 6) != 0 || h[6] < 1 || h[6] > 3)
        ws_fail(err, WS_E_HEADER, "no npy array of version 1 to 3");
    else if (*n > MAX_HEADER || *n > bytes - *begin)
        ws_fail(err, WS_E_HEADER, "npy header of %zu bytes is too long", *n);
    else
        return WS_OK;
    return ws_err_at(err, NULL, NULL, (int64_t)offset), WS_E_HEADER;
}

/** Strides of the array's layout, in elements; dimensions of 0 leave no elements. */
static void strides_of(const struct header *h, uint64_t stride[MAX_SHAPE])
{
    uint64_t next = 1;
    for (int i = 0; i < h->rank; i++) {
        const int d = h->fortran ? i : h->rank - 1 - i;
        stride[d] = next;
        next *= h->shape[d]; // measured before it is used
    }
}

ws_status ws_npy_load(ws_ckpt *c, uint32_t file, const char *name, uint64_t offset,
                      uint64_t bytes, ws_err *err)
{
    char text[MAX_HEADER];
    size_t begin = 0, n = 0;
    struct header h = { 0 };
    uint64_t stride[MAX_SHAPE];
    ws_status st = read_front(c, file, offset, bytes, &begin, &n, err);
    if (st == WS_OK)
        st = ws_ckpt_file_read(c, file, offset + begin, n, text, err);
    if (st == WS_OK) {
        struct literal l = { text, text + n, offset + begin, text, err };
        st = read_literal(&l, &h);
    }
    ws_tensor t = { .name = name, .dtype = h.dtype, .rank = h.rank, .shape = h.shape };
    if (st == WS_OK)
        st = ws_tensor_measure(&t, err);
    const uint64_t data = bytes - begin - n;
    if (st == WS_OK && t.n_bytes != data) {
        st = ws_fail(err, WS_E_HEADER,
                     "array has %llu bytes of data, its shape needs %llu",
                     (unsigned long long)data, (unsigned long long)t.n_bytes);
        ws_err_at(err, NULL, NULL, (int64_t)(offset + begin + n));
    }
    if (st != WS_OK)
        return ws_err_at(err, NULL, name, -1), st;
    strides_of(&h, stride);
    const ws_view v = { .file = file,
                        .offset = offset + begin + n,
                        .bytes = data,
                        .stride = stride,
                        .swap = h.swap };
    return ws_views_add(c, &t, &v, err);
}

ws_status ws_npz_load(ws_ckpt *c, uint32_t file, const ws_zip *zip, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < zip->n; i++) {
        const ws_zip_member *m = &zip->members[i];
        const size_t n = strlen(m->name);
        if (n <= 4 || strcmp(m->name + n - 4, ".npy") != 0)
            return ws_fail(err, WS_E_UNSUPPORTED,
                           "archive is neither PyTorch's nor NumPy's: member '%.100s'",
                           m->name);
        char *name = ws_strndup(m->name, n - 4);
        if (name == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for the name of an array");
        st = ws_npy_load(c, file, name, m->offset, m->bytes, err);
        ws_free(name);
    }
    return st;
}
