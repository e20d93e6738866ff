/*
 * gguf.c - GGUF files, version 2 and 3: header, metadata, tensors (formats.md 5)
 *
 * Read through a window, field by field; nothing in the header is aligned. Offsets of
 * tensors are fully determined by their sizes, and checked against that. Metadata
 * becomes text: numbers as they are written, long lists by their length.
 */
#include "ckpt/gguf.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 65536,
    MAX_TENSORS = 1 << 17,
    MAX_PAIRS = 1 << 16,
    MAX_KEY = 65535,
    MAX_TEXT = 1 << 20, // longer values are not kept
    MAX_ALIGNMENT = 1 << 20,
    MAX_DIMS = 4,
    SHOWN_ITEMS = 64, // longer lists are told by their length
};

enum {
    V_U8,
    V_I8,
    V_U16,
    V_I16,
    V_U32,
    V_I32,
    V_F32,
    V_BOOL,
    V_STRING,
    V_ARRAY,
    V_U64,
    V_I64,
    V_F64,
    V_COUNT
};

static const struct {
    const char *name;
    size_t bytes; // least of one value
} values[V_COUNT] = {
    [V_U8] = { "u8", 1 },       [V_I8] = { "i8", 1 },     [V_U16] = { "u16", 2 },
    [V_I16] = { "i16", 2 },     [V_U32] = { "u32", 4 },   [V_I32] = { "i32", 4 },
    [V_F32] = { "f32", 4 },     [V_BOOL] = { "bool", 1 }, [V_STRING] = { "string", 8 },
    [V_ARRAY] = { "list", 12 }, [V_U64] = { "u64", 8 },   [V_I64] = { "i64", 8 },
    [V_F64] = { "f64", 8 },
};

/** A header being read. */
struct input {
    const ws_ckpt *c;
    uint32_t file;
    uint64_t at, end;
    unsigned char *window; // WINDOW bytes from byte .from on, .have of them
    uint64_t from;
    size_t have;
    ws_err *err;
};

/** What the parts of one file have in common. */
struct gguf_file {
    ws_ckpt *c;
    struct input in;
    ws_buf key, value;
    bool first; // of a split checkpoint: its metadata count
    uint64_t n_tensors, alignment;
    uint64_t split_no, split_count, split_tensors;
};

/* ---- bytes ---- */

static ws_status bad(const struct input *in, uint64_t at, const char *what)
{
    ws_fail(in->err, WS_E_HEADER, "%s", what);
    return ws_err_at(in->err, NULL, NULL, (int64_t)at), WS_E_HEADER;
}

static ws_status cut_short(const struct input *in)
{
    return bad(in, in->at, "file is cut short: its header goes past its end");
}

static ws_status take(struct input *in, void *to, size_t n)
{
    unsigned char *dst = to;
    if (n > in->end - in->at)
        return cut_short(in);
    while (n > 0) {
        if (in->at < in->from || in->at >= in->from + in->have) {
            const uint64_t left = in->end - in->at;
            in->from = in->at;
            in->have = left < WINDOW ? (size_t)left : WINDOW;
            const ws_status st = ws_ckpt_file_read(in->c, in->file, in->from, in->have,
                                                   in->window, in->err);
            if (st != WS_OK)
                return in->have = 0, st;
        }
        const size_t skip = (size_t)(in->at - in->from);
        const size_t some = in->have - skip < n ? in->have - skip : n;
        if (dst != NULL) {
            memcpy(dst, in->window + skip, some);
            dst += some;
        }
        in->at += some;
        n -= some;
    }
    return WS_OK;
}

/** A little-endian number of @p n bytes. */
static ws_status take_uint(struct input *in, size_t n, uint64_t *out)
{
    unsigned char raw[8] = { 0 };
    const ws_status st = take(in, raw, n);
    uint64_t v = 0;
    for (size_t i = 8; i-- > 0;)
        v = v << 8 | raw[i];
    if (st == WS_OK)
        *out = v;
    return st;
}

/** Pass over @p n bytes without looking at them. */
static ws_status pass(struct input *in, uint64_t n)
{
    if (n > in->end - in->at)
        return cut_short(in);
    in->at += n;
    return WS_OK;
}

/** A string of at most @p most bytes, checked to be text, in place of what @p b has. */
static ws_status take_text(struct input *in, uint64_t most, const char *what, ws_buf *b)
{
    const uint64_t at = in->at;
    uint64_t n = 0;
    ws_status st = take_uint(in, 8, &n);
    if (st != WS_OK)
        return st;
    if (n > in->end - in->at)
        return cut_short(in);
    if (n > most) {
        ws_fail(in->err, WS_E_HEADER, "%s of %llu bytes: the limit is %llu", what,
                (unsigned long long)n, (unsigned long long)most);
        return ws_err_at(in->err, NULL, NULL, (int64_t)at), WS_E_HEADER;
    }
    b->n = 0;
    char chunk[512];
    for (uint64_t left = n; st == WS_OK && left > 0;) {
        const size_t some = left < sizeof chunk ? (size_t)left : sizeof chunk;
        st = take(in, chunk, some);
        if (st == WS_OK)
            ws_buf_add(b, chunk, some);
        left -= some;
    }
    if (st == WS_OK)
        ws_buf_puts(b, ""); // an empty text is one too
    if (st == WS_OK && b->failed)
        return ws_fail(in->err, WS_E_MEMORY, "no memory for a text of the header");
    if (st == WS_OK && (memchr(b->p, 0, b->n) != NULL || !ws_utf8_valid(b->p, b->n))) {
        ws_fail(in->err, WS_E_HEADER, "%s is no UTF-8 text", what);
        return ws_err_at(in->err, NULL, NULL, (int64_t)at), WS_E_HEADER;
    }
    return st;
}

/* ---- metadata ---- */

/** The shortest decimal that is @p v again. */
static void put_float(ws_buf *b, double v, bool wide)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        const double back = strtod(text, NULL);
        if (!isfinite(v) || (wide ? back == v : (float)back == (float)v))
            break;
    }
    ws_buf_puts(b, text);
}

static ws_status take_number(struct input *in, uint64_t type, ws_buf *b)
{
    uint64_t v = 0;
    const uint64_t at = in->at;
    const ws_status st = take_uint(in, values[type].bytes, &v);
    const unsigned bits = 64 - 8 * (unsigned)values[type].bytes;
    float f;
    double d;
    if (st != WS_OK)
        return st;
    switch (type) {
    case V_F32: {
        const uint32_t low = (uint32_t)v;
        memcpy(&f, &low, sizeof f);
        put_float(b, (double)f, false);
        break;
    }
    case V_F64:
        memcpy(&d, &v, sizeof d);
        put_float(b, d, true);
        break;
    case V_BOOL:
        if (v > 1)
            return bad(in, at, "a bool of the metadata is neither 0 nor 1");
        ws_buf_puts(b, v ? "true" : "false");
        break;
    case V_I8:
    case V_I16:
    case V_I32:
    case V_I64:
        ws_buf_printf(b, "%lld", (long long)((int64_t)(v << bits) >> bits));
        break;
    default:
        ws_buf_printf(b, "%llu", (unsigned long long)v);
    }
    return WS_OK;
}

static ws_status pass_strings(struct input *in, uint64_t n)
{
    ws_status st = WS_OK;
    for (uint64_t i = 0; st == WS_OK && i < n; i++) {
        uint64_t len = 0;
        st = take_uint(in, 8, &len);
        if (st == WS_OK)
            st = pass(in, len);
    }
    return st;
}

static ws_status take_list(struct input *in, ws_buf *b)
{
    const uint64_t at = in->at;
    uint64_t type = 0, n = 0;
    ws_status st = take_uint(in, 4, &type);
    if (st == WS_OK)
        st = take_uint(in, 8, &n);
    if (st != WS_OK)
        return st;
    if (type >= V_COUNT)
        return bad(in, at, "a list of the metadata has an unknown type");
    if (type == V_ARRAY)
        return bad(in, at, "a list of lists in the metadata: not read");
    if (n > (in->end - in->at) / values[type].bytes)
        return bad(in, at, "a list of the metadata goes past the end of the file");
    if (type == V_STRING || n > SHOWN_ITEMS) {
        ws_buf_printf(b, "list of %llu %s", (unsigned long long)n, values[type].name);
        return type == V_STRING ? pass_strings(in, n)
                                : pass(in, n * values[type].bytes);
    }
    ws_buf_putc(b, '[');
    for (uint64_t i = 0; st == WS_OK && i < n; i++) {
        ws_buf_puts(b, i == 0 ? "" : ", ");
        st = take_number(in, type, b);
    }
    ws_buf_putc(b, ']');
    return st;
}

static ws_status take_value(struct input *in, uint64_t type, ws_buf *b)
{
    b->n = 0;
    if (type >= V_COUNT)
        return bad(in, in->at - 4, "a value of the metadata has an unknown type");
    if (type == V_ARRAY)
        return take_list(in, b);
    if (type != V_STRING)
        return take_number(in, type, b);
    uint64_t n = 0;
    const uint64_t at = in->at;
    ws_status st = take_uint(in, 8, &n);
    if (st == WS_OK && n > MAX_TEXT) {
        ws_buf_printf(b, "text of %llu bytes", (unsigned long long)n);
        return pass(in, n);
    }
    in->at = at;
    return st == WS_OK ? take_text(in, MAX_TEXT, "a value of the metadata", b) : st;
}

/** Values that say how the rest is read. */
static ws_status use_value(struct gguf_file *g, uint64_t type, uint64_t at)
{
    const struct {
        const char *key;
        uint64_t *to;
    } uses[] = {
        { "general.alignment", &g->alignment },
        { "split.no", &g->split_no },
        { "split.count", &g->split_count },
        { "split.tensors.count", &g->split_tensors },
    };
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        if (strcmp(g->key.p, uses[i].key) != 0)
            continue;
        if (type == V_STRING || !ws_parse_u64(g->value.p, uses[i].to)) {
            ws_fail(g->in.err, WS_E_HEADER, "%s is no number", uses[i].key);
            return ws_err_at(g->in.err, NULL, NULL, (int64_t)at), WS_E_HEADER;
        }
        if (i == 0 &&
            (type != V_U32 || g->alignment == 0 ||
             (g->alignment & (g->alignment - 1)) != 0 || g->alignment > MAX_ALIGNMENT))
            return bad(
                &g->in, at,
                "general.alignment is no power of two up to 1048576 of type u32");
    }
    return WS_OK;
}

static ws_status take_pair(struct gguf_file *g)
{
    struct input *in = &g->in;
    const uint64_t at = in->at;
    uint64_t type = 0;
    ws_status st = take_text(in, MAX_KEY, "a key of the metadata", &g->key);
    if (st == WS_OK && g->key.n == 0)
        return bad(in, at, "a key of the metadata is empty");
    if (st == WS_OK)
        st = take_uint(in, 4, &type);
    if (st == WS_OK)
        st = take_value(in, type, &g->value);
    if (st == WS_OK && (g->key.failed || g->value.failed))
        return ws_fail(in->err, WS_E_MEMORY, "no memory for metadata");
    if (st == WS_OK)
        st = use_value(g, type, at);
    if (st == WS_OK && g->first && strncmp(g->key.p, "split.", 6) != 0)
        st = ws_ckpt_add_meta(g->c, g->key.p, g->value.p, in->err);
    return st;
}

const char *ws_gguf_meta(const ws_ckpt *c, const char *key)
{
    for (size_t i = 0; i < c->n_meta; i++)
        if (strcmp(c->meta[i].key, key) == 0)
            return c->meta[i].value;
    return NULL;
}

static bool meta_u64(const ws_ckpt *c, const char *key, uint64_t *out)
{
    const char *text = ws_gguf_meta(c, key);
    return text != NULL && ws_parse_u64(text, out);
}

/* ---- tensors ---- */

/** A tensor as its file says. */
struct info {
    ws_tensor t;
    uint64_t dims[MAX_DIMS]; // slowest first
    uint64_t at;             // of its entry
    ws_gguf_place place;
    uint64_t bytes; // in the file
};

static ws_status take_dims(struct input *in, struct info *x)
{
    uint64_t n = 0;
    ws_status st = take_uint(in, 4, &n);
    if (st != WS_OK)
        return st;
    if (n > MAX_DIMS)
        return bad(in, in->at - 4, "tensor has more than 4 dimensions");
    x->t.rank = (int)n;
    for (uint64_t i = 0; st == WS_OK && i < n; i++) {
        st = take_uint(in, 8, &x->dims[n - 1 - i]);
        if (st == WS_OK && x->dims[n - 1 - i] > INT64_MAX)
            return bad(in, in->at - 8, "tensor has a negative dimension");
    }
    return st;
}

static ws_status check_type(const struct input *in, struct info *x, uint64_t id)
{
    const ws_gguf_type *type = ws_gguf_type_at(id);
    const uint64_t at = in->at - 4;
    if (type == NULL) {
        ws_fail(in->err, WS_E_HEADER, "tensor has the unknown type %llu",
                (unsigned long long)id);
        return ws_err_at(in->err, NULL, NULL, (int64_t)at), WS_E_HEADER;
    }
    if (!type->read) {
        ws_fail(in->err, WS_E_UNSUPPORTED, "tensor is of type %s, which is not read",
                type->name);
        ws_err_hint(in->err, "fetch the model in F16, BF16, Q8_0 or one of Q4_0 to "
                             "Q6_K");
        return ws_err_at(in->err, NULL, NULL, (int64_t)at), WS_E_UNSUPPORTED;
    }
    ws_gguf_place *p = &x->place;
    p->type = type;
    p->row = x->t.rank > 0 ? x->dims[x->t.rank - 1] : 1;
    if (p->row % type->block != 0) {
        ws_fail(in->err, WS_E_HEADER,
                "rows of %llu elements are no whole blocks of %u of type %s",
                (unsigned long long)p->row, type->block, type->name);
        return ws_err_at(in->err, NULL, NULL, (int64_t)at), WS_E_HEADER;
    }
    x->t.dtype = type->dtype;
    x->t.shape = x->dims;
    ws_status st = ws_tensor_measure(&x->t, in->err);
    if (st == WS_OK && x->t.n_bytes > INT64_MAX) // so that sizes can be added
        st = bad(in, at, "shape of tensor overflows: more than 2^63 bytes");
    if (st != WS_OK)
        return st;
    p->rows = p->row == 0 ? 0 : x->t.n_elements / p->row;
    x->bytes = x->t.n_elements / type->block * type->bytes;
    return WS_OK;
}

/** One entry; its data must begin at @p offset from the start of the data. */
static ws_status take_info(struct gguf_file *g, struct info *x, uint64_t offset)
{
    struct input *in = &g->in;
    uint64_t id = 0, said = 0;
    x->at = in->at;
    ws_status st = take_text(in, WS_GGUF_NAME, "name of a tensor", &g->key);
    if (st == WS_OK)
        st = take_dims(in, x);
    if (st == WS_OK)
        st = take_uint(in, 4, &id);
    if (st == WS_OK)
        st = check_type(in, x, id);
    if (st == WS_OK)
        st = take_uint(in, 8, &said);
    if (st == WS_OK && said != offset) {
        ws_fail(in->err, WS_E_HEADER,
                "tensor begins at %llu of the data, those before it end at %llu",
                (unsigned long long)said, (unsigned long long)offset);
        ws_err_at(in->err, NULL, NULL, (int64_t)in->at - 8);
        st = WS_E_HEADER;
    }
    if (st != WS_OK && g->key.n > 0)
        ws_err_at(in->err, NULL, g->key.p, -1);
    return st;
}

/** Heads of the rows of a q or k projection of llama, whose rows stand in turn. */
static ws_status set_heads(const struct gguf_file *g, struct info *x, bool key)
{
    uint64_t heads = 0;
    const bool known =
        (key && meta_u64(g->c, "llama.attention.head_count_kv", &heads)) ||
        meta_u64(g->c, "llama.attention.head_count", &heads);
    const uint64_t rows = x->t.rank > 0 ? x->dims[0] : 0;
    if (!known || heads == 0 || rows % heads != 0 || rows / heads % 2 != 0) {
        ws_fail(g->in.err, WS_E_HEADER,
                "%llu rows are no %llu heads of an even number of rows each",
                (unsigned long long)rows, (unsigned long long)heads);
        ws_err_hint(g->in.err, "llama.attention.head_count of the metadata says so");
        return WS_E_HEADER;
    }
    x->place.head = rows / heads;
    x->place.row = x->t.n_elements / (rows == 0 ? 1 : rows);
    return WS_OK;
}

/** Give it the name and the layout that Hugging Face's files have. */
static ws_status translate(struct gguf_file *g, struct info *x, size_t *unnamed)
{
    char name[WS_GGUF_HF_NAME];
    ws_gguf_layout layout = WS_GGUF_SAME;
    const char *architecture = ws_gguf_meta(g->c, "general.architecture");
    ws_status st = WS_OK;
    x->t.name = g->key.p;
    if (ws_gguf_ignored(g->key.p))
        return WS_OK;
    if (ws_gguf_to_hf(architecture, g->key.p, name, &layout))
        x->t.name = name;
    else
        ++*unnamed;
    if (layout == WS_GGUF_TRANSPOSED) {
        if (x->t.rank != 2)
            st = bad(&g->in, x->at, "a weight of GPT-2 has not two dimensions");
        const uint64_t rows = x->dims[0];
        x->dims[0] = x->dims[1];
        x->dims[1] = rows;
        x->place.transposed = true;
    } else if (layout != WS_GGUF_SAME && x->t.n_elements > 0) {
        st = set_heads(g, x, layout == WS_GGUF_HEADS_K);
    }
    if (st == WS_OK)
        st = ws_gguf_add(g->c, &x->t, &x->place, x->at, g->in.err);
    if (st != WS_OK)
        ws_err_at(g->in.err, NULL, x->t.name, (int64_t)x->at);
    x->t.name = NULL; // it may have been the one above
    return st;
}

/** Read the entries twice: where the data begins is only known after the last. */
static ws_status take_tensors(struct gguf_file *g, size_t *unnamed)
{
    struct input *in = &g->in;
    const uint64_t entries = in->at;
    uint64_t data = 0, offset = 0;
    ws_status st = WS_OK;
    for (int round = 0; st == WS_OK && round < 2; round++) {
        in->at = entries;
        uint64_t end = 0; // of the last tensor's bytes
        offset = 0;
        for (uint64_t i = 0; st == WS_OK && i < g->n_tensors; i++) {
            struct info x = { .place = { .file = in->file } };
            st = take_info(g, &x, offset);
            if (st != WS_OK)
                break;
            x.place.at = data + offset;
            end = offset + x.bytes;
            if (end > in->end) { // so nothing below overflows
                st = bad(in, x.at, "tensor goes past the end of the file");
                ws_err_at(in->err, NULL, g->key.p, -1);
                break;
            }
            offset = (end + g->alignment - 1) & ~(g->alignment - 1);
            if (round == 1)
                st = translate(g, &x, unnamed);
        }
        data = (in->at + g->alignment - 1) & ~(g->alignment - 1);
        if (st == WS_OK && g->n_tensors > 0 &&
            (data > in->end || end > in->end - data)) {
            ws_fail(in->err, WS_E_HEADER,
                    "file is cut short: tensors end at %llu, it has %llu bytes",
                    (unsigned long long)(data + end), (unsigned long long)in->end);
            ws_err_hint(in->err,
                        "fetch the file again, or compare its size with the source's");
            ws_err_at(in->err, NULL, NULL, (int64_t)in->end);
            st = WS_E_HEADER;
        }
    }
    return st;
}

/* ---- a file ---- */

static ws_status take_front(struct gguf_file *g, uint64_t *n_pairs)
{
    struct input *in = &g->in;
    uint64_t magic = 0, version = 0;
    ws_status st = take_uint(in, 4, &magic);
    if (st == WS_OK)
        st = take_uint(in, 4, &version);
    if (st == WS_OK)
        st = take_uint(in, 8, &g->n_tensors);
    if (st == WS_OK)
        st = take_uint(in, 8, n_pairs);
    if (st != WS_OK)
        return st;
    if (magic != 0x46554747) // a part of a split model
        return bad(in, 0, "file does not begin with GGUF");
    if ((version & 0xffff) == 0 || version < 2 || version > 3) {
        ws_fail(in->err, WS_E_UNSUPPORTED, "GGUF version %llu%s is not read",
                (unsigned long long)version,
                (version & 0xffff) == 0 ? " (of a big-endian machine)" : "");
        return ws_err_at(in->err, NULL, NULL, 4), WS_E_UNSUPPORTED;
    }
    if (g->n_tensors > (in->end - in->at) / 24 || g->n_tensors > MAX_TENSORS)
        return bad(in, 8,
                   "number of tensors is beyond the file or the limit of 131072");
    if (*n_pairs > (in->end - in->at) / 13 || *n_pairs > MAX_PAIRS)
        return bad(in, 16,
                   "number of metadata pairs is beyond the file or the limit of 65536");
    return WS_OK;
}

static ws_status take_file(struct gguf_file *g, size_t *unnamed)
{
    uint64_t n_pairs = 0;
    ws_status st = take_front(g, &n_pairs);
    g->alignment = 32;
    for (uint64_t i = 0; st == WS_OK && i < n_pairs; i++)
        st = take_pair(g);
    return st == WS_OK ? take_tensors(g, unnamed) : st;
}

/** Read file number @p file; what it says of its split goes to @p g. */
static ws_status load_one(struct gguf_file *g, uint32_t file, size_t *unnamed,
                          ws_err *err)
{
    const ws_ckpt_file *f = &g->c->files[file];
    g->in = (struct input){ .c = g->c, .file = file, .end = f->bytes, .err = err };
    g->split_no = g->split_count = g->split_tensors = 0;
    g->in.window = ws_alloc(WINDOW);
    ws_status st = g->in.window == NULL
                       ? ws_fail(err, WS_E_MEMORY, "no memory to read a header")
                       : take_file(g, unnamed);
    ws_free(g->in.window);
    ws_buf_free(&g->key);
    ws_buf_free(&g->value);
    if (st != WS_OK)
        ws_err_at(err, g->c->files[file].path, NULL, -1);
    return st;
}

/* ---- split checkpoints ---- */

#define SPLIT_END "-00001-of-00000.gguf"

/** The path of part @p no (from 0) of @p count beside that of the first. */
static char *part_path(const char *first, uint64_t no, uint64_t count)
{
    const size_t n = strlen(first), end = sizeof SPLIT_END - 1;
    char want[sizeof SPLIT_END + 16];
    ws_buf b = { 0 };
    snprintf(want, sizeof want, "-%05llu-of-%05llu.gguf", 1ull,
             (unsigned long long)count);
    if (n < end || strlen(want) != end || strcmp(first + n - end, want) != 0)
        return NULL;
    ws_buf_add(&b, first, n - end);
    ws_buf_printf(&b, "-%05llu-of-%05llu.gguf", (unsigned long long)no + 1,
                  (unsigned long long)count);
    if (b.failed)
        ws_buf_free(&b);
    return b.p;
}

static ws_status load_part(struct gguf_file *g, const char *path, uint64_t no,
                           uint64_t count, size_t *unnamed, ws_err *err)
{
    const char *slash = strrchr(path, '/');
    uint32_t file = 0;
    ws_err why = WS_ERR_INIT;
    ws_status st =
        ws_ckpt_add_file(g->c, slash == NULL ? path : slash + 1, path, &file, &why);
    if (st == WS_E_IO && why.sys == ENOENT) {
        st = ws_fail(&why, WS_E_MISSING, "part %llu of %llu is not there",
                     (unsigned long long)no + 1, (unsigned long long)count);
        ws_err_at(&why, path, NULL, -1);
    }
    if (st == WS_OK)
        st = load_one(g, file, unnamed, &why);
    if (st == WS_OK && (g->split_no != no || g->split_count != count)) {
        st = ws_fail(
            &why, WS_E_HEADER, "file says it is part %llu of %llu, not %llu of %llu",
            (unsigned long long)g->split_no + 1, (unsigned long long)g->split_count,
            (unsigned long long)no + 1, (unsigned long long)count);
        ws_err_at(&why, path, NULL, -1);
    }
    if (st != WS_OK && err != NULL)
        *err = why;
    return st;
}

static ws_status load_split(struct gguf_file *g, size_t *unnamed, ws_err *err)
{
    char *first = ws_strdup(g->c->files[0].path);
    const uint64_t count = g->split_count, tensors = g->split_tensors;
    ws_status st =
        first == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for a path") : WS_OK;
    if (st == WS_OK && g->split_no != 0) {
        st = ws_fail(err, WS_E_USAGE, "file is part %llu of %llu of a split model",
                     (unsigned long long)g->split_no + 1, (unsigned long long)count);
        ws_err_hint(err, "name the first part");
    }
    g->first = false;
    for (uint64_t i = 1; st == WS_OK && i < count; i++) {
        char *path = part_path(first, i, count);
        if (path == NULL) {
            st =
                ws_fail(err, WS_E_HEADER,
                        "file is the first of %llu parts, but its name does not end in "
                        "-00001-of-%05llu.gguf",
                        (unsigned long long)count, (unsigned long long)count);
        } else {
            st = load_part(g, path, i, count, unnamed, err);
        }
        ws_free(path);
    }
    if (st == WS_OK && tensors != 0 && g->c->n > tensors)
        st = ws_fail(err, WS_E_HEADER, "the parts hold %zu tensors, not %llu", g->c->n,
                     (unsigned long long)tensors);
    ws_free(first);
    return st;
}

ws_status ws_gguf_load(ws_ckpt *c, uint32_t file, bool *known, ws_diag *warnings,
                       ws_err *err)
{
    struct gguf_file g = { .c = c, .first = true };
    size_t unnamed = 0;
    char magic[4] = "";
    const bool room = c->files[file].bytes >= sizeof magic;
    ws_status st =
        room ? ws_ckpt_file_read(c, file, 0, sizeof magic, magic, err) : WS_OK;
    *known = st == WS_OK && memcmp(magic, "GGUF", sizeof magic) == 0;
    if (!*known)
        return st;
    c->format = "gguf";
    st = load_one(&g, file, &unnamed, err);
    if (st == WS_OK && g.split_count > 1)
        st = load_split(&g, &unnamed, err);
    if (st == WS_OK && unnamed > 0) {
        const char *architecture = ws_gguf_meta(c, "general.architecture");
        char shown[64];
        ws_show(architecture == NULL ? "" : architecture, shown, sizeof shown);
        ws_err *w = ws_diag_report(
            warnings, WS_OK, "gguf-names",
            "%zu tensors of architecture '%s' keep GGUF's names and layout: those of "
            "Hugging Face are not known here",
            unnamed, shown);
        if (w != NULL)
            ws_err_at(w, c->path, NULL, -1);
    }
    return st;
}
