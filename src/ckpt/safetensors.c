/*
 * safetensors.c - safetensors files: length word, header, and the layout of the data
 *
 * Checks run in the reference's order (formats.md 1.3): length word, header, then the
 * tensors by (begin, end), which must cover the data without gap or overlap.
 */
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "wsurg/text.h"

#define MAX_HEADER 100000000u

enum { HEAD = 512 }; // bytes looked at to recognise foreign files

static uint64_t load_u64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/**
 * Header length from the first @p have bytes (at most HEAD) of a file of @p bytes.
 * @return WS_OK; WS_E_HEADER; WS_E_UNSUPPORTED
 */
static ws_status length_check(const unsigned char *head, size_t have, uint64_t bytes,
                              uint64_t *n, ws_err *err)
{
    if (bytes < 8) {
        const ws_status st = ws_foreign_check(head, have, err);
        if (st != WS_OK)
            return st;
        ws_fail(err, WS_E_HEADER, "file has %llu bytes, a header begins with 8",
                (unsigned long long)bytes);
        return ws_err_at(err, NULL, NULL, 0), WS_E_HEADER;
    }
    *n = load_u64(head);
    const bool too_large = *n > MAX_HEADER, too_long = *n > bytes - 8;
    const bool json = have > 8 && head[8] != 0 && strchr("{ \t\r\n", head[8]) != NULL;
    if (too_large || too_long || !json) {
        const ws_status st = ws_foreign_check(head, have, err);
        if (st != WS_OK)
            return st;
    }
    if (too_large)
        ws_fail(err, WS_E_HEADER, "header length %llu is above the limit of %u bytes",
                (unsigned long long)*n, MAX_HEADER);
    else if (too_long)
        ws_fail(err, WS_E_HEADER,
                "header length %llu goes past the end of the file (%llu bytes)",
                (unsigned long long)*n, (unsigned long long)bytes);
    else
        return WS_OK;
    return ws_err_at(err, NULL, NULL, 0), WS_E_HEADER;
}

static int compare_ranges(const void *a, const void *b)
{
    const ws_st_range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/** "[2,3]", cut when long. */
static void shape_show(const ws_tensor *t, char *out, size_t size)
{
    ws_buf b = { 0 };
    ws_buf_putc(&b, '[');
    for (int i = 0; i < t->rank && i < 8; i++)
        ws_buf_printf(&b, i == 0 ? "%llu" : ",%llu", (unsigned long long)t->shape[i]);
    ws_buf_puts(&b, t->rank > 8 ? ",...]" : "]");
    ws_show(b.p == NULL ? "" : b.p, out, size);
    ws_buf_free(&b);
}

/** Check one tensor, which should begin at @p cursor, after tensor @p before (or NULL).
 */
static ws_status range_check(struct ws_record *rec, const ws_st_range *r,
                             uint64_t cursor, const ws_tensor *before, ws_err *err)
{
    const unsigned long long begin = r->begin, end = r->end;
    ws_status st = WS_E_HEADER;
    if (r->end < r->begin) {
        ws_fail(err, st, "data_offsets [%llu,%llu] run backwards", begin, end);
    } else if (r->begin > cursor) {
        ws_fail(err, st,
                "data_offsets [%llu,%llu] leave a hole of %llu bytes before them",
                begin, end, begin - (unsigned long long)cursor);
    } else if (r->begin < cursor) {
        char shown[80];
        ws_show(before->name, shown, sizeof shown);
        ws_fail(err, st, "data_offsets [%llu,%llu] overlap those of tensor '%s'", begin,
                end, shown);
    } else if ((st = ws_tensor_measure(&rec->t, err)) == WS_OK &&
               rec->t.n_bytes != r->end - r->begin) {
        char shape[80];
        shape_show(&rec->t, shape, sizeof shape);
        st = WS_E_HEADER;
        ws_fail(err, st, "data_offsets [%llu,%llu] span %llu bytes, %s %s needs %llu",
                begin, end, end - begin, ws_dtype_info(rec->t.dtype)->name, shape,
                (unsigned long long)rec->t.n_bytes);
    }
    if (st != WS_OK)
        ws_err_at(err, NULL, rec->t.name, (int64_t)rec->at);
    return st;
}

/** Check all ranges against each other and the @p data bytes, which begin at @p start;
 * set the tensors' offsets. */
static ws_status layout_check(ws_ckpt *c, ws_st_header_info *info, uint64_t start,
                              uint64_t data, ws_err *err)
{
    uint64_t cursor = 0;
    const ws_tensor *before = NULL;
    if (info->n > 1)
        qsort(info->ranges, info->n, sizeof *info->ranges, compare_ranges);
    for (size_t i = 0; i < info->n; i++) {
        const ws_st_range *r = &info->ranges[i];
        struct ws_record *rec = &c->records[r->record];
        const ws_status st = range_check(rec, r, cursor, before, err);
        if (st != WS_OK)
            return st;
        rec->t.offset = start + r->begin;
        cursor = r->end;
        before = &rec->t;
    }
    if (cursor == data)
        return WS_OK;
    if (cursor > data) {
        ws_fail(err, WS_E_HEADER,
                "file is cut short: tensors need %llu bytes of data, it has %llu",
                (unsigned long long)cursor, (unsigned long long)data);
        ws_err_hint(err, "fetch the file again, or compare its size with the source's");
    } else {
        ws_fail(err, WS_E_HEADER, "file has %llu more bytes than the tensors need",
                (unsigned long long)(data - cursor));
    }
    return ws_err_at(err, NULL, NULL,
                     (int64_t)(start + (cursor < data ? cursor : data))),
           WS_E_HEADER;
}

/** Parse a header and check it against the file's size; keep its metadata or not. */
static ws_status header_load(ws_ckpt *c, uint32_t file, const char *text, size_t n,
                             uint64_t bytes, bool keep_meta, ws_diag *warnings,
                             ws_err *err)
{
    ws_st_header_info info = { 0 };
    ws_arena scratch = { 0 };
    ws_status st = ws_st_header_parse(
        c, file, text, n, keep_meta ? &c->arena : &scratch, &info, warnings, err);
    if (st == WS_OK)
        st = layout_check(c, &info, 8 + n, bytes - 8 - n, err);
    if (st == WS_OK && keep_meta) {
        ws_free(c->meta);
        c->meta = info.meta;
        c->n_meta = info.n_meta;
        c->cap_meta = info.cap_meta;
        info.meta = NULL;
    }
    ws_free(info.meta);
    ws_free(info.ranges);
    ws_arena_free(&scratch);
    return st;
}

ws_status ws_st_load(ws_ckpt *c, uint32_t file, bool keep_meta, ws_diag *warnings,
                     ws_err *err)
{
    const ws_ckpt_file *f = &c->files[file];
    unsigned char head[HEAD];
    const size_t have = f->bytes < sizeof head ? (size_t)f->bytes : sizeof head;
    uint64_t n = 0;
    char *text = NULL;
    ws_status st = ws_ckpt_file_read(c, file, 0, have, head, err);
    if (st == WS_OK)
        st = length_check(head, have, f->bytes, &n, err);
    if (st == WS_OK && (text = ws_alloc((size_t)n)) == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a header of %llu bytes",
                     (unsigned long long)n);
    if (st == WS_OK)
        st = ws_ckpt_file_read(c, file, 8, (size_t)n, text, err);
    if (st == WS_OK)
        st = header_load(c, file, text, (size_t)n, f->bytes, keep_meta, warnings, err);
    if (st != WS_OK)
        ws_err_at(err, f->path, NULL, -1);
    ws_free(text);
    return st;
}

/* ---- a file in memory ---- */

struct memory {
    const unsigned char *data;
};

static ws_status memory_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    (void)err;
    const struct memory *m = c->self;
    memcpy(dst, m->data + t->offset + offset, len);
    return WS_OK;
}

static const ws_ckpt_ops memory_ops = { .read = memory_read, .close = ws_free };

ws_status ws_st_open_memory(ws_ckpt **out, const void *data, size_t len,
                            ws_diag *warnings, ws_err *err)
{
    ws_ckpt *c = NULL;
    uint64_t n = 0;
    struct memory *m = ws_alloc(sizeof *m);
    if (m == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a checkpoint");
    m->data = data;
    ws_status st = ws_ckpt_new(&c, "memory", "safetensors", &memory_ops, m, err);
    if (st != WS_OK) {
        ws_free(m);
        return st;
    }
    st = length_check(data, len < HEAD ? len : HEAD, len, &n, err);
    if (st == WS_OK)
        st = header_load(c, WS_NO_FILE, (const char *)data + 8, (size_t)n, len, true,
                         warnings, err);
    if (st == WS_OK)
        st = ws_ckpt_finish(c, err);
    if (st != WS_OK)
        ws_ckpt_free(c);
    else
        *out = c;
    return st;
}
