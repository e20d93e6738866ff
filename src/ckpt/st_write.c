/*
 * st_write.c - the header of a safetensors file, byte for byte as the reference does
 *
 * Compact JSON: `__metadata__` first, then the tensors in file order (dtype rank, then
 * name), fields dtype, shape, data_offsets; padded with spaces to a multiple of 8. Data
 * follows without gaps: as widths never grow in that order, every tensor is aligned.
 * Metadata is sorted by key, where the reference's order changes from run to run.
 */
#include "ckpt/st_write.h"

#include <stdlib.h>
#include <string.h>

#include "wsurg/alloc.h"
#include "wsurg/text.h"

#define MAX_HEADER 100000000u

int ws_st_order(const void *a, const void *b)
{
    const ws_tensor *x = *(const ws_tensor *const *)a;
    const ws_tensor *y = *(const ws_tensor *const *)b;
    if (x->dtype != y->dtype)
        return x->dtype < y->dtype ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_meta(const void *a, const void *b)
{
    return strcmp(((const ws_meta *)a)->key, ((const ws_meta *)b)->key);
}

/** Decimal digits; a header may have millions of numbers, printf is slow. */
static void put_u64(ws_buf *b, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    ws_buf_add(b, digits + at, sizeof digits - at);
}

static ws_status metadata_put(ws_buf *b, const ws_meta *meta, size_t n, ws_err *err)
{
    ws_status st = WS_OK;
    ws_meta *sorted = ws_calloc(n, sizeof *sorted);
    if (sorted == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for metadata");
    memcpy(sorted, meta, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_meta);
    ws_buf_puts(b, "\"__metadata__\":{");
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        const char *key = sorted[i].key, *value = sorted[i].value;
        if (i > 0 && strcmp(sorted[i - 1].key, key) == 0)
            st = ws_fail(err, WS_E_INTERNAL, "metadata key '%.64s' given twice", key);
        if (i > 0)
            ws_buf_putc(b, ',');
        ws_buf_json_string(b, key, strlen(key));
        ws_buf_putc(b, ':');
        ws_buf_json_string(b, value, strlen(value));
    }
    ws_buf_putc(b, '}');
    ws_free(sorted);
    return st;
}

/** One tensor whose data begins at @p begin. */
static ws_status tensor_put(ws_buf *b, const ws_tensor *t, uint64_t begin, ws_err *err)
{
    const size_t n = strlen(t->name);
    if (n == 0)
        return ws_fail(err, WS_E_UNSUPPORTED, "tensor without a name is not written");
    if (strcmp(t->name, "__metadata__") == 0 || !ws_utf8_valid(t->name, n)) {
        ws_fail(err, WS_E_UNSUPPORTED,
                "tensor name cannot stand in a safetensors file");
        return ws_err_at(err, NULL, t->name, -1), WS_E_UNSUPPORTED;
    }
    ws_buf_json_string(b, t->name, n);
    ws_buf_puts(b, ":{\"dtype\":\"");
    ws_buf_puts(b, ws_dtype_info(t->dtype)->name);
    ws_buf_puts(b, "\",\"shape\":[");
    for (int i = 0; i < t->rank; i++) {
        if (i > 0)
            ws_buf_putc(b, ',');
        put_u64(b, t->shape[i]);
    }
    ws_buf_puts(b, "],\"data_offsets\":[");
    put_u64(b, begin);
    ws_buf_putc(b, ',');
    put_u64(b, begin + t->n_bytes);
    ws_buf_puts(b, "]}");
    return WS_OK;
}

static ws_status tensors_put(ws_buf *b, ws_tensor *const *tensors, size_t n,
                             ws_err *err)
{
    uint64_t begin = 0;
    for (size_t i = 0; i < n && !b->failed; i++) {
        uint64_t end;
        if (!ws_add_u64(begin, tensors[i]->n_bytes, &end) || end > INT64_MAX)
            return ws_fail(err, WS_E_UNSUPPORTED, "file would be above 2^63 bytes");
        if (b->p[b->n - 1] != '{' || b->n > 9)
            ws_buf_putc(b, ',');
        const ws_status st = tensor_put(b, tensors[i], begin, err);
        if (st != WS_OK)
            return st;
        begin = end;
    }
    return WS_OK;
}

ws_status ws_st_header(uint8_t **out, uint64_t *len, ws_tensor *const *tensors,
                       size_t n, const ws_meta *meta, size_t n_meta, ws_err *err)
{
    ws_buf b = { 0 };
    ws_status st = WS_OK;
    ws_buf_add(&b, "\0\0\0\0\0\0\0\0{", 9);
    if (n_meta > 0)
        st = metadata_put(&b, meta, n_meta, err);
    if (st == WS_OK)
        st = tensors_put(&b, tensors, n, err);
    ws_buf_putc(&b, '}');
    while (!b.failed && b.n % 8 != 0)
        ws_buf_putc(&b, ' ');
    if (st == WS_OK && b.failed)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a header");
    if (st == WS_OK && b.n - 8 > MAX_HEADER)
        st = ws_fail(err, WS_E_UNSUPPORTED,
                     "header would have %zu bytes, at most %u are allowed", b.n - 8,
                     MAX_HEADER);
    if (st != WS_OK) {
        ws_buf_free(&b);
        return st;
    }
    for (int i = 0; i < 8; i++)
        b.p[i] = (char)((uint64_t)(b.n - 8) >> (8 * i) & 0xFF);
    uint64_t at = b.n;
    for (size_t i = 0; i < n; i++) {
        tensors[i]->offset = at;
        at += tensors[i]->n_bytes;
    }
    *out = (uint8_t *)b.p;
    *len = b.n;
    return WS_OK;
}
