/*
 * fuzz_safetensors.c - whole safetensors files, from memory
 *
 * Nothing crashes, refusals say why, memory is a bounded multiple of the input. What is
 * accepted covers the data exactly, reads in full, is accepted again with the same
 * result, and survives being written and read once more.
 */
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "fuzz.h"

/* The worst case of the tables is metadata of tiny pairs; see st_header.c. */
enum { MEMORY_BASE = 256 << 10, MEMORY_FACTOR = 32 };

static void check_refusal(const ws_ckpt *c, ws_status st, const ws_err *err)
{
    MUST(c == NULL);
    MUST(err->code == st && err->msg[0] != '\0');
    MUST(st == WS_E_HEADER || st == WS_E_UNSUPPORTED);
}

/** The tensors stand back to back from the end of the header to the end of the file. */
static void check_layout(const ws_ckpt *c, const uint8_t *data, size_t size)
{
    uint64_t n = 0;
    memcpy(&n, data, 8);
    uint64_t cursor = 8 + n;
    for (size_t i = 0; i < ws_ckpt_count(c); i++) {
        const ws_tensor *t = ws_ckpt_tensor(c, i);
        MUST(t->offset == cursor && t->n_bytes <= size - cursor);
        MUST(t->rank <= WS_MAX_RANK && strlen(t->name) <= WS_MAX_NAME);
        MUST(ws_ckpt_find(c, t->name) == t);
        uint8_t first, last;
        if (t->n_bytes > 0) {
            MUST(ws_ckpt_read(c, t, 0, 1, &first, NULL) == WS_OK);
            MUST(ws_ckpt_read(c, t, t->n_bytes - 1, 1, &last, NULL) == WS_OK);
            MUST(first == data[t->offset] && last == data[t->offset + t->n_bytes - 1]);
        }
        MUST(ws_ckpt_read(c, t, t->n_bytes, 1, &last, NULL) == WS_E_INTERNAL);
        cursor += t->n_bytes;
    }
    MUST(cursor == size);
}

static void check_equal(const ws_ckpt *a, const ws_ckpt *b)
{
    MUST(ws_ckpt_count(a) == ws_ckpt_count(b));
    MUST(ws_ckpt_meta_count(a) == ws_ckpt_meta_count(b));
    for (size_t i = 0; i < ws_ckpt_count(a); i++) {
        const ws_tensor *x = ws_ckpt_tensor(a, i), *y = ws_ckpt_find(b, x->name);
        MUST(y != NULL && x->dtype == y->dtype && x->rank == y->rank);
        MUST(x->n_bytes == y->n_bytes && x->n_elements == y->n_elements);
        MUST(x->rank == 0 ||
             memcmp(x->shape, y->shape, (size_t)x->rank * sizeof *x->shape) == 0);
    }
    for (size_t i = 0; i < ws_ckpt_meta_count(a); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(a, i, &key, &value);
        MUST(ws_ckpt_meta(b, key) != NULL && strcmp(ws_ckpt_meta(b, key), value) == 0);
    }
}

/** Write the header anew, put zeros for the data, read that and compare. */
static void check_written(const ws_ckpt *c, uint64_t data_bytes)
{
    const size_t n = c->n, n_meta = c->n_meta;
    ws_tensor *copy = calloc(n + 1, sizeof *copy);
    ws_tensor **order = calloc(n + 1, sizeof *order);
    MUST(copy != NULL && order != NULL);
    for (size_t i = 0; i < n; i++) {
        copy[i] = *ws_ckpt_tensor(c, i);
        order[i] = &copy[i];
    }
    if (n > 1)
        qsort(order, n, sizeof *order, ws_st_order);
    uint8_t *head = NULL;
    uint64_t len = 0;
    ws_err err = WS_ERR_INIT;
    const ws_status st = ws_st_header(&head, &len, order, n, c->meta, n_meta, &err);
    if (ws_ckpt_find(c, "") != NULL) { // read, but never written
        MUST(st == WS_E_UNSUPPORTED);
    } else {
        MUST(st == WS_OK && len % 8 == 0);
        uint8_t *file = calloc(1, (size_t)(len + data_bytes));
        MUST(file != NULL);
        memcpy(file, head, (size_t)len);
        ws_ckpt *again = NULL;
        ws_diag warnings = { 0 };
        MUST(ws_st_open_memory(&again, file, (size_t)(len + data_bytes), &warnings,
                               &err) == WS_OK);
        MUST(warnings.n == 0);
        check_equal(c, again);
        ws_ckpt_free(again);
        free(file);
        ws_free(head);
    }
    free(order);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const long live = ws_alloc_live();
    ws_ckpt *c = NULL, *again = NULL;
    ws_diag warnings = { 0 };
    ws_err err = WS_ERR_INIT;
    const ws_status st = ws_st_open_memory(&c, data, size, &warnings, &err);
    MUST(warnings.n <= 4);
    if (st != WS_OK) {
        check_refusal(c, st, &err);
        MUST(ws_st_open_memory(&c, data, size, NULL, NULL) == st);
    } else {
        MUST(c->arena.total + c->cap * sizeof *c->records +
                 c->n_slots * sizeof *c->slots + c->cap_meta * sizeof *c->meta <=
             MEMORY_BASE + MEMORY_FACTOR * size);
        check_layout(c, data, size);
        MUST(ws_st_open_memory(&again, data, size, NULL, &err) == WS_OK);
        check_equal(c, again);
        uint64_t n = 0;
        memcpy(&n, data, 8);
        check_written(c, size - 8 - n);
    }
    ws_ckpt_free(again);
    ws_ckpt_free(c);
    ws_diag_free(&warnings);
    MUST(ws_alloc_live() == live);
    return 0;
}
