/*
 * views.c - reading strided tensors: runs along the dimension whose numbers lie closest
 *
 * A request is cut into blocks of whole rows and, at its ends, rows in part. Within a
 * block the numbers of one run are read together through a window, so that a transposed
 * matrix costs one read per column of the block and not one per number.
 */
#include "ckpt/views.h"

#include <string.h>

enum { WINDOW = 65536 };

struct entry {
    ws_view v;
    uint64_t *shape, *stride; // (rank)
    int rank;
    size_t size; // bytes of an element
};

/** The checkpoint's own state: entries, numbered by the tensors' offsets. */
struct views {
    struct entry *entries;
    size_t n, cap;
    ws_arena arena;
};

static void views_close(void *self)
{
    struct views *s = self;
    ws_free(s->entries);
    ws_arena_free(&s->arena);
    ws_free(s);
}

static void swap_bytes(unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size / 2; i++) {
        const unsigned char b = p[i];
        p[i] = p[size - 1 - i];
        p[size - 1 - i] = b;
    }
}

/** @p count numbers from byte @p at on, @p stride apart, to every @p step bytes of dst.
 */
static ws_status read_run(const ws_ckpt *c, const struct entry *e, uint64_t at,
                          uint64_t stride, uint64_t count, unsigned char *dst,
                          size_t step, ws_err *err)
{
    unsigned char window[WINDOW];
    const uint64_t gap = stride * e->size;
    const bool apart = gap > WINDOW / 2;
    for (uint64_t i = 0; i < count;) {
        uint64_t n = apart || gap == 0 ? 1 : (WINDOW - e->size) / gap + 1;
        if (n > count - i)
            n = count - i;
        const size_t len = (size_t)((n - 1) * gap) + e->size;
        const ws_status st =
            ws_ckpt_file_read(c, e->v.file, at + i * gap, len, window, err);
        if (st != WS_OK)
            return st;
        if (gap == 0) // one number, repeated
            n = count - i;
        for (uint64_t k = 0; k < n; k++)
            memcpy(dst + (i + k) * step, window + k * gap, e->size);
        i += n;
    }
    return WS_OK;
}

/** Whole rows first .. first+n-1 of dimension 0, contiguous to @p dst. */
static ws_status read_rows(const ws_ckpt *c, const struct entry *e, uint64_t first,
                           uint64_t n, unsigned char *dst, ws_err *err)
{
    uint64_t shape[WS_MAX_RANK] = { 0 }, index[WS_MAX_RANK] = { 0 };
    uint64_t step[WS_MAX_RANK] = { 0 }, all = 1;
    int run = 0;
    for (int d = e->rank - 1; d >= 0; d--) {
        shape[d] = d == 0 ? n : e->shape[d];
        step[d] = all * e->size;
        all *= shape[d];
    }
    for (int d = 0; d < e->rank; d++)
        if (shape[d] > 1 && (shape[run] <= 1 || e->stride[d] < e->stride[run]))
            run = d;
    for (;;) {
        uint64_t at = e->v.offset + first * e->stride[0] * e->size, to = 0;
        for (int d = 0; d < e->rank; d++) {
            at += index[d] * e->stride[d] * e->size;
            to += index[d] * step[d];
        }
        const ws_status st = read_run(c, e, at, e->stride[run], shape[run], dst + to,
                                      (size_t)step[run], err);
        if (st != WS_OK)
            return st;
        int d = e->rank - 1;
        for (; d >= 0; d--) {
            if (d == run)
                continue;
            if (++index[d] < shape[d])
                break;
            index[d] = 0;
        }
        if (d < 0)
            return WS_OK;
    }
}

/** A part of row @p row: bytes from .. from+len-1 of it. */
static ws_status read_part(const ws_ckpt *c, const struct entry *e, uint64_t row,
                           size_t row_bytes, size_t from, size_t len,
                           unsigned char *dst, ws_err *err)
{
    unsigned char *whole = ws_alloc(row_bytes);
    if (whole == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a row of %zu bytes", row_bytes);
    const ws_status st = read_rows(c, e, row, 1, whole, err);
    if (st == WS_OK)
        memcpy(dst, whole + from, len);
    ws_free(whole);
    return st;
}

/** Bytes of a tensor that is a view, not yet in our byte order. */
static ws_status read_view(const ws_ckpt *c, const struct entry *e, uint64_t row_bytes,
                           uint64_t offset, size_t len, unsigned char *dst, ws_err *err)
{
    ws_status st = WS_OK;
    while (st == WS_OK && len > 0) {
        const uint64_t row = offset / row_bytes, from = offset % row_bytes;
        size_t n = (size_t)(row_bytes - from);
        if (from != 0 || n > len) {
            n = n < len ? n : len;
            st = read_part(c, e, row, (size_t)row_bytes, (size_t)from, n, dst, err);
        } else {
            const uint64_t rows = len / row_bytes;
            n = (size_t)(rows * row_bytes);
            st = read_rows(c, e, row, rows, dst, err);
        }
        dst += n;
        offset += n;
        len -= n;
    }
    return st;
}

static ws_status views_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                            size_t len, void *dst, ws_err *err)
{
    if (t->file != WS_NO_FILE)
        return ws_ckpt_file_read(c, t->file, t->offset + offset, len, dst, err);
    const struct views *s = c->self;
    const struct entry *e = &s->entries[t->offset];
    // Whole numbers, so that their bytes can be turned.
    const uint64_t first = offset / e->size * e->size;
    const size_t lead = (size_t)(offset - first);
    const size_t all = (lead + len + e->size - 1) / e->size * e->size;
    unsigned char *room = all == len ? dst : ws_alloc(all);
    if (room == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to read %zu bytes", all);
    const uint64_t rows = e->rank > 0 ? e->shape[0] : 1;
    ws_status st = e->rank > 0
                       ? read_view(c, e, t->n_bytes / rows, first, all, room, err)
                       : ws_ckpt_file_read(c, e->v.file, e->v.offset, all, room, err);
    // the halves of a complex number are turned apart
    const size_t part = t->dtype == WS_DT_C64 ? e->size / 2 : e->size;
    for (size_t i = 0; st == WS_OK && e->v.swap && i < all; i += part)
        swap_bytes(room + i, part);
    if (room != dst) {
        if (st == WS_OK)
            memcpy(dst, room + lead, len);
        ws_free(room);
    }
    return st;
}

static const ws_ckpt_ops views_ops = { .read = views_read, .close = views_close };

/** Whether the elements follow each other in row-major order. */
static bool contiguous(const ws_tensor *t, const uint64_t *stride)
{
    uint64_t next = 1;
    for (int d = t->rank - 1; d >= 0; d--) {
        if (t->shape[d] > 1 && stride[d] != next)
            return false;
        next *= t->shape[d];
    }
    return true;
}

/** The last element must lie within the view's bytes, and no tensor may be larger than
 * what it looks into. */
static ws_status check_extent(const ws_tensor *t, const ws_view *v, size_t size,
                              ws_err *err)
{
    uint64_t last = 0, step = 0, end = 0;
    bool fits = true;
    for (int d = 0; d < t->rank; d++)
        fits = fits && ws_mul_u64(t->shape[d] - 1, v->stride[d], &step) &&
               ws_add_u64(last, step, &last);
    fits = fits && ws_add_u64(last, 1, &end) && ws_mul_u64(end, size, &end);
    if (!fits || end > v->bytes)
        ws_fail(err, WS_E_HEADER, "tensor goes past its storage of %llu bytes",
                (unsigned long long)v->bytes);
    else if (t->n_bytes > v->bytes)
        ws_fail(err, WS_E_HEADER, "tensor of %llu bytes repeats a storage of %llu",
                (unsigned long long)t->n_bytes, (unsigned long long)v->bytes);
    else
        return WS_OK;
    return ws_err_at(err, NULL, t->name, -1), WS_E_HEADER;
}

/** A new entry for @p t, whose number becomes the tensor's offset. */
static ws_status add_entry(ws_ckpt *c, ws_tensor *t, const ws_view *v, size_t size,
                           ws_err *err)
{
    if (c->ops == NULL) {
        c->self = ws_calloc(1, sizeof(struct views));
        if (c->self == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for views of tensors");
        c->ops = &views_ops;
    }
    struct views *s = c->self;
    if (s->n == s->cap) {
        const size_t want = s->cap == 0 ? 16 : 2 * s->cap;
        struct entry *p = ws_realloc(s->entries, want * sizeof *p);
        if (p == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for views of tensors");
        s->entries = p;
        s->cap = want;
    }
    const size_t n = (size_t)t->rank * sizeof(uint64_t);
    struct entry *e = &s->entries[s->n];
    *e = (struct entry){ .v = *v, .rank = t->rank, .size = size };
    e->shape = ws_arena_alloc(&s->arena, n + 1);
    e->stride = ws_arena_alloc(&s->arena, n + 1);
    if (e->shape == NULL || e->stride == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for views of tensors");
    if (n > 0) {
        memcpy(e->shape, t->shape, n);
        memcpy(e->stride, v->stride, n);
    }
    e->v.stride = e->stride;
    t->file = WS_NO_FILE;
    t->offset = s->n++;
    return WS_OK;
}

ws_status ws_views_add(ws_ckpt *c, const ws_tensor *tensor, const ws_view *v,
                       ws_err *err)
{
    ws_tensor t = *tensor;
    const size_t size = ws_dtype_info(t.dtype)->bits / 8;
    ws_status st = ws_tensor_measure(&t, err);
    if (st == WS_OK && t.n_elements > 0)
        st = check_extent(&t, v, size, err);
    if (st != WS_OK)
        return st;
    t.file = v->file;
    t.offset = v->offset;
    if (t.n_elements > 0 && (!contiguous(&t, v->stride) || (v->swap && size > 1)))
        st = add_entry(c, &t, v, size, err);
    return st == WS_OK ? ws_ckpt_add_tensor(c, &t, 0, err) : st;
}
