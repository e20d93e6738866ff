/*
 * gguf_read.c - bytes of GGUF tensors as Hugging Face lays them out
 *
 * A request is cut into whole elements; these come from runs of elements of the file,
 * and a run of a quantised tensor from the blocks that it touches.
 */
#include <string.h>

#include "ckpt/gguf.h"

enum { RUN = 2048 }; // elements decoded together, whole blocks

struct gguf {
    ws_gguf_place *places; // numbered by the tensors' offsets
    size_t n, cap;
};

static void gguf_close(void *self)
{
    struct gguf *g = self;
    ws_free(g->places);
    ws_free(g);
}

/** Elements first .. first+n-1 of the file's order, @p n at most RUN. */
static ws_status decode_run(const ws_ckpt *c, const ws_gguf_place *p, uint64_t first,
                            size_t n, void *dst, ws_err *err)
{
    unsigned char raw[(RUN / 32 + 2) * 34];
    float numbers[RUN + 512];
    const ws_gguf_type *type = p->type;
    const uint64_t block = first / type->block;
    const size_t skip = (size_t)(first % type->block);
    const size_t blocks = (skip + n + type->block - 1) / type->block;
    const ws_status st = ws_ckpt_file_read(c, p->file, p->at + block * type->bytes,
                                           blocks * type->bytes, raw, err);
    if (st != WS_OK)
        return st;
    for (size_t i = 0; i < blocks; i++)
        type->decode(raw + i * type->bytes, numbers + i * type->block);
    memcpy(dst, numbers + skip, n * sizeof *numbers);
    return WS_OK;
}

/** Elements first .. first+n-1 of the file's order. */
static ws_status read_run(const ws_ckpt *c, const ws_gguf_place *p, uint64_t first,
                          uint64_t n, unsigned char *dst, ws_err *err)
{
    if (p->type->decode == NULL) {
        const size_t size = p->type->bytes;
        return ws_ckpt_file_read(c, p->file, p->at + first * size, (size_t)(n * size),
                                 dst, err);
    }
    ws_status st = WS_OK;
    while (st == WS_OK && n > 0) {
        const size_t some = n < RUN ? (size_t)n : RUN;
        st = decode_run(c, p, first, some, dst, err);
        dst += some * sizeof(float);
        first += some;
        n -= some;
    }
    return st;
}

/** Elements of a tensor whose rows within heads stand in another order. */
static ws_status read_heads(const ws_ckpt *c, const ws_gguf_place *p, size_t size,
                            uint64_t first, uint64_t n, unsigned char *dst, ws_err *err)
{
    ws_status st = WS_OK;
    while (st == WS_OK && n > 0) {
        const uint64_t row = first / p->row, from = first % p->row;
        const uint64_t some = p->row - from < n ? p->row - from : n;
        st = read_run(c, p, ws_gguf_row(row, p->head) * p->row + from, some, dst, err);
        dst += some * size;
        first += some;
        n -= some;
    }
    return st;
}

/** Elements of [in, out] from a file of [out, in]: a run of every row of the file. */
static ws_status read_transposed(const ws_ckpt *c, const ws_gguf_place *p, size_t size,
                                 uint64_t first, uint64_t n, unsigned char *dst,
                                 ws_err *err)
{
    unsigned char run[RUN * 8];
    const uint64_t wide = p->rows, last = first + n - 1; // elements of a row of ours
    for (uint64_t j = 0; j < wide; j++) {
        uint64_t i = first / wide + (first % wide > j);
        const uint64_t end = last / wide + (last % wide >= j);
        while (i < end) {
            const uint64_t some = end - i < RUN ? end - i : RUN;
            const ws_status st = read_run(c, p, j * p->row + i, some, run, err);
            if (st != WS_OK)
                return st;
            for (uint64_t k = 0; k < some; k++)
                memcpy(dst + ((i + k) * wide + j - first) * size, run + k * size, size);
            i += some;
        }
    }
    return WS_OK;
}

static ws_status read_elements(const ws_ckpt *c, const ws_gguf_place *p, size_t size,
                               uint64_t first, uint64_t n, unsigned char *dst,
                               ws_err *err)
{
    if (p->transposed)
        return read_transposed(c, p, size, first, n, dst, err);
    if (p->head != 0)
        return read_heads(c, p, size, first, n, dst, err);
    return read_run(c, p, first, n, dst, err);
}

static ws_status gguf_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                           size_t len, void *to, ws_err *err)
{
    const struct gguf *g = c->self;
    const ws_gguf_place *p = &g->places[t->offset];
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    unsigned char *dst = to, one[8] = { 0 };
    ws_status st = WS_OK;
    while (st == WS_OK && len > 0) {
        const size_t skip = (size_t)(offset % size);
        size_t n = len / size * size;
        if (skip == 0 && n > 0) {
            st = read_elements(c, p, size, offset / size, n / size, dst, err);
        } else { // the ends may lie within an element
            n = size - skip < len ? size - skip : len;
            st = read_elements(c, p, size, offset / size, 1, one, err);
            memcpy(dst, one + skip, n);
        }
        dst += n;
        offset += n;
        len -= n;
    }
    return st;
}

static const ws_ckpt_ops gguf_ops = { .read = gguf_read, .close = gguf_close };

ws_status ws_gguf_add(ws_ckpt *c, const ws_tensor *t, const ws_gguf_place *p,
                      uint64_t at, ws_err *err)
{
    if (c->ops == NULL) {
        c->self = ws_calloc(1, sizeof(struct gguf));
        if (c->self == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for the places of tensors");
        c->ops = &gguf_ops;
    }
    struct gguf *g = c->self;
    if (g->n == g->cap) {
        const size_t want = g->cap == 0 ? 64 : 2 * g->cap;
        ws_gguf_place *places = ws_realloc(g->places, want * sizeof *places);
        if (places == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for the places of tensors");
        g->places = places;
        g->cap = want;
    }
    ws_tensor numbered = *t;
    numbered.file = p->file;
    numbered.offset = g->n;
    const ws_status st = ws_ckpt_add_tensor(c, &numbered, at, err);
    if (st == WS_OK)
        g->places[g->n++] = *p;
    return st;
}
