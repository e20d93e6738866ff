/*
 * data_tokens.c - token files: their headers, and ids read where they are
 *
 *   .bin  raw little-endian uint16, or 256 int32 {20240520, 1, n} + uint16, or
 *         {20240801, 7, n} + uint32
 *   .npy  version 1 to 3, one dimension, '<u2', '<u4', '<i4', '<i8'
 *
 * Sources: karpathy/nanoGPT data/, karpathy/llm.c dev/data/data_common.py,
 * numpy.lib.format.
 */
#include <string.h>

#include "base/os.h"
#include "train/data_internal.h"

enum { HEAD_BYTES = 1 << 16, LLMC_HEADER = 1024, CHUNK_IDS = 4096 };

static const size_t id_bytes[] = { 2, 4, 4, 8 };

static uint64_t le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static ws_status llmc_header(ws_source *s, const unsigned char *head, uint64_t bytes,
                             ws_err *err)
{
    const uint64_t magic = le(head, 4), version = le(head + 4, 4), n = le(head + 8, 4);
    const bool wide = magic == 20240801;
    const uint64_t wanted = wide ? 7 : 1;

    if (version != wanted) {
        ws_fail(err, WS_E_UNSUPPORTED, "version %llu of a token file, wanted %llu",
                (unsigned long long)version, (unsigned long long)wanted);
        ws_err_at(err, NULL, NULL, 4);
        return WS_E_UNSUPPORTED;
    }
    s->type = wide ? WS_ID_U32 : WS_ID_U16;
    s->offset = LLMC_HEADER;
    s->n = n;
    if (bytes != LLMC_HEADER + n * id_bytes[s->type]) {
        ws_fail(err, WS_E_HEADER,
                "the header promises %llu tokens, the file has %llu bytes",
                (unsigned long long)n, (unsigned long long)bytes);
        ws_err_at(err, NULL, NULL, 8);
        return WS_E_HEADER;
    }
    return WS_OK;
}

ws_status ws_bin_header(ws_source *s, const unsigned char *head, size_t n,
                        uint64_t bytes, ws_err *err)
{
    const uint64_t magic = n >= LLMC_HEADER ? le(head, 4) : 0;

    if (magic == 20240520 || magic == 20240801)
        return llmc_header(s, head, bytes, err);
    if (magic == 20240522)
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "an evaluation file of llm.c is not read");
    if (bytes % 2 != 0)
        return ws_fail(err, WS_E_HEADER,
                       "%llu bytes are no whole number of uint16 tokens",
                       (unsigned long long)bytes);
    s->type = WS_ID_U16;
    s->offset = 0;
    s->n = bytes / 2;
    return WS_OK;
}

/** The value after 'key': in the text of a numpy header; NULL: not there. */
static const char *npy_value(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    if (!at)
        return NULL;
    at += strlen(key);
    at += strspn(at, " ");
    if (*at++ != ':')
        return NULL;
    return at + strspn(at, " ");
}

static ws_status npy_type(ws_source *s, const char *descr, ws_err *err)
{
    static const struct {
        const char *name;
        ws_id_type type;
    } known[] = {
        { "'<u2'", WS_ID_U16 },
        { "'<u4'", WS_ID_U32 },
        { "'<i4'", WS_ID_I32 },
        { "'<i8'", WS_ID_I64 },
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(descr, known[i].name, 5) == 0) {
            s->type = known[i].type;
            return WS_OK;
        }
    return ws_fail(err, WS_E_UNSUPPORTED,
                   "an array of %.12s, wanted '<u2', '<u4', '<i4' or '<i8'", descr);
}

/** "(N,)" */
static ws_status npy_shape(ws_source *s, const char *shape, ws_err *err)
{
    uint64_t n = 0;
    const char *p = shape;
    bool good = *p++ == '(' && *p >= '0' && *p <= '9';

    for (; good && *p >= '0' && *p <= '9'; p++) {
        good = n < UINT64_C(1) << 50;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (!good || p[0] != ',' || p[1] != ')')
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "an array of shape %.24s, wanted one dimension", shape);
    s->n = n;
    return WS_OK;
}

static ws_status npy_dict(ws_source *s, const char *text, ws_err *err)
{
    const char *descr = npy_value(text, "'descr'");
    const char *shape = npy_value(text, "'shape'");

    if (!descr || !shape)
        return ws_fail(err, WS_E_HEADER, "the header names no %s",
                       descr ? "shape" : "descr");
    const ws_status st = npy_type(s, descr, err);
    return st ? st : npy_shape(s, shape, err);
}

ws_status ws_npy_header(ws_source *s, const unsigned char *head, size_t n,
                        uint64_t bytes, ws_err *err)
{
    if (n < 12 || memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3)
        return ws_fail(err, WS_E_HEADER, "this is no .npy file of version 1 to 3");
    const size_t field = head[6] == 1 ? 2 : 4, from = 8 + field;
    const uint64_t len = le(head + 8, field);
    if (len > n - from)
        return ws_fail(err, WS_E_HEADER, "a header of %llu bytes",
                       (unsigned long long)len);
    char *text = ws_strndup((const char *)head + from, (size_t)len);
    if (!text)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    for (size_t i = 0; i < len; i++) // shown in errors: printable
        if (text[i] < ' ' || text[i] > '~')
            text[i] = ' ';
    ws_status st = npy_dict(s, text, err);
    ws_free(text);
    s->offset = from + len;
    if (st == WS_OK && bytes - s->offset != s->n * id_bytes[s->type])
        st = ws_fail(err, WS_E_HEADER, "an array of %llu numbers in %llu bytes",
                     (unsigned long long)s->n, (unsigned long long)(bytes - s->offset));
    return st;
}

ws_status ws_source_tokens(ws_data *d, ws_source *s, ws_err *err)
{
    const bool npy = strcmp(s->path + strlen(s->path) - 4, ".npy") == 0;
    uint64_t bytes;
    ws_status st = ws_os_open_read(&s->fd, s->path, &bytes, err);

    if (st)
        return st;
    const size_t n = bytes < HEAD_BYTES ? (size_t)bytes : HEAD_BYTES;
    unsigned char *head = ws_alloc(n);
    if (!head)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    st = ws_os_pread(s->fd, s->path, head, n, 0, err);
    if (st == WS_OK)
        st = npy ? ws_npy_header(s, head, n, bytes, err)
                 : ws_bin_header(s, head, n, bytes, err);
    ws_free(head);
    s->running = true;
    s->kind = WS_DATA_TEXT;
    if (d->o.limit > 0 && s->n > (uint64_t)d->o.limit)
        s->n = (uint64_t)d->o.limit;
    return st;
}

/** One id of a token file; -1 when it does not fit. */
static int64_t id_read(const unsigned char *p, ws_id_type type)
{
    const uint64_t v = le(p, id_bytes[type]);
    return v > INT32_MAX ? -1 : (int64_t)v;
}

static ws_status ids_read(const ws_data *d, const ws_source *s, uint64_t first,
                          uint64_t n, int32_t *out, ws_err *err)
{
    const size_t size = id_bytes[s->type];
    const int64_t vocab = d->o.vocab ? d->o.vocab
                          : d->t     ? ws_tokenizer_size(d->t)
                                     : INT32_MAX;
    unsigned char part[CHUNK_IDS * 8];

    for (uint64_t i = 0; i < n;) {
        const uint64_t k = n - i < CHUNK_IDS ? n - i : CHUNK_IDS;
        const uint64_t at = s->offset + (first + i) * size;
        const ws_status st =
            ws_os_pread(s->fd, s->path, part, (size_t)k * size, at, err);
        if (st)
            return st;
        for (uint64_t j = 0; j < k; j++) {
            const int64_t id = id_read(part + j * size, s->type);
            if (id < 0 || id >= vocab) {
                ws_fail(err, WS_E_HEADER, "token %llu is beyond the vocabulary of %lld",
                        (unsigned long long)le(part + j * size, size),
                        (long long)vocab);
                ws_err_at(err, s->path, NULL, (int64_t)(at + j * size));
                return WS_E_HEADER;
            }
            out[i + j] = (int32_t)id;
        }
        i += k;
    }
    return WS_OK;
}

ws_status ws_source_ids(const ws_data *d, const ws_source *s, uint64_t first,
                        uint64_t n, int32_t *out, ws_err *err)
{
    if (s->fd >= 0)
        return ids_read(d, s, first, n, out, err);
    for (uint64_t i = 0; i < n; i++)
        out[i] = s->narrow ? (int32_t)s->narrow[first + i] : s->wide[first + i];
    return WS_OK;
}
