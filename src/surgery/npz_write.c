/*
 * npz_write.c - a model as an npz archive of NumPy, streamed
 *
 *     local header, npy header, data; for each array in order of names
 *     directory, end record
 *
 * Sizes follow from shapes, so every place is known before the first byte is read.
 * Chunks of data are written in any order; each keeps the checksum of its bytes, and
 * these are joined for the headers, which are written last.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32.h"
#include "base/os.h"
#include "ckpt/zip_write.h"
#include "surgery/one_file.h"
#include "wsurg/text.h"

enum { CHUNK = 1 << 18 }; // elements

/** An array to be written. */
struct array {
    const ws_tensor *t;
    ws_dtype dtype;
    ws_zip_member m;            // .bytes: npy header and data
    uint64_t local, head, data; // its header's place, bytes of npy header, data's place
    size_t first_chunk;
};

struct job {
    ws_one_file f; // first: its functions are given this
    ws_arena arena;
    ws_crc32 crc;
    struct array *arrays;
    size_t n;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to write npz");
}

static ws_status refuse(const struct job *j, const ws_tensor *t, ws_status st,
                        ws_err *err)
{
    return ws_err_at(err, j->f.req->model, t->name, -1), st;
}

/* ---- planning ---- */

static ws_status choose_dtype(const struct job *j, struct array *a, ws_err *err)
{
    static const ws_dtype wanted[] = {
        [WS_AS_F32] = WS_DT_F32, [WS_AS_F16] = WS_DT_F16, [WS_AS_BF16] = WS_DT_BF16
    };
    const ws_convert_as as = j->f.req->as;
    a->dtype = as == WS_AS_KEEP || !ws_dtype_info(a->t->dtype)->arithmetic ? a->t->dtype
                                                                           : wanted[as];
    if (ws_npy_word(a->dtype) != NULL)
        return WS_OK;
    ws_fail(err, WS_E_DTYPE, "tensor is %s, which NumPy has not",
            ws_dtype_info(a->dtype)->name);
    if (ws_dtype_info(a->t->dtype)->arithmetic)
        ws_err_hint(err, "--dtype f32 holds its numbers exactly");
    return refuse(j, a->t, WS_E_DTYPE, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct array *)a)->t->name,
                  ((const struct array *)b)->t->name);
}

static int by_folded_name(const void *a, const void *b)
{
    const struct array *const *x = a, *const *y = b;
    return ws_zip_name_compare((*x)->m.name, (*y)->m.name);
}

/** Names must be such that every reader of archives sees the same. */
static ws_status check_names(const struct job *j, ws_err *err)
{
    const struct array **order = ws_calloc(j->n + 1, sizeof *order);
    ws_status st = WS_OK;
    if (order == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->n; i++)
        order[i] = &j->arrays[i];
    qsort(order, j->n, sizeof *order, by_folded_name);
    for (size_t i = 0; st == WS_OK && i < j->n; i++) {
        if (order[i]->t->name[0] == '\0' || !ws_zip_name_good(order[i]->m.name))
            st = ws_fail(err, WS_E_UNSUPPORTED,
                         "tensor's name is no plain path: not written as npz");
        else if (i > 0 && by_folded_name(&order[i - 1], &order[i]) == 0)
            st = ws_fail(err, WS_E_UNSUPPORTED,
                         "tensor's name is another's but for letter case: not written "
                         "as npz");
        if (st != WS_OK) {
            ws_err_hint(err, "'wsurg rename' gives it another");
            refuse(j, order[i]->t, st, err);
        }
    }
    ws_free(order);
    return st;
}

/** Place one array; @p head gathers all headers, with no checksums yet. */
static ws_status place(struct job *j, struct array *a, ws_buf *head, ws_err *err)
{
    const size_t size = ws_dtype_info(a->dtype)->bits / 8;
    const size_t before = head->n;
    uint64_t bytes = 0;
    if (!ws_mul_u64(a->t->n_elements, size, &bytes) || bytes > INT64_MAX / 2)
        return ws_fail(err, WS_E_DTYPE, "tensor has more than 2^62 bytes as %s",
                       ws_dtype_info(a->dtype)->name),
               refuse(j, a->t, WS_E_DTYPE, err);
    ws_npy_put_header(head, a->t, a->dtype);
    a->head = head->n - before;
    a->m.bytes = a->head + bytes;
    ws_zip_put_local(head, &a->m, 0);
    a->local = j->f.bytes;
    a->data = a->local + (head->n - before);
    j->f.bytes = a->data + bytes;
    a->first_chunk = j->f.n_chunks;
    j->f.n_chunks += (size_t)((a->t->n_elements + CHUNK - 1) / CHUNK);
    return j->f.bytes <= INT64_MAX
               ? WS_OK
               : ws_fail(err, WS_E_DTYPE, "archive would have more than 2^63 bytes");
}

static ws_status plan_arrays(struct job *j, ws_buf *head, ws_err *err)
{
    j->n = ws_ckpt_count(j->f.model);
    j->f.widest = CHUNK * 8;
    j->arrays = ws_calloc(j->n + 1, sizeof *j->arrays);
    if (j->arrays == NULL)
        return no_memory(err);
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < j->n; i++) {
        struct array *a = &j->arrays[i];
        a->t = ws_ckpt_tensor(j->f.model, i);
        const size_t n = strlen(a->t->name);
        char *name = ws_arena_alloc(&j->arena, n + sizeof ".npy");
        if (name == NULL)
            return no_memory(err);
        memcpy(name, a->t->name, n);
        memcpy(name + n, ".npy", sizeof ".npy");
        a->m.name = name;
        st = choose_dtype(j, a, err);
    }
    if (st == WS_OK)
        st = check_names(j, err);
    if (st == WS_OK)
        qsort(j->arrays, j->n, sizeof *j->arrays, by_name);
    for (size_t i = 0; st == WS_OK && i < j->n; i++)
        st = place(j, &j->arrays[i], head, err);
    return st == WS_OK && head->failed ? no_memory(err) : st;
}

/* ---- chunks ---- */

/** @p n elements of the model's dtype at @p src in the array's; returns where. */
static ws_status convert(struct job *j, const struct array *a, unsigned char *src,
                         size_t n, unsigned char *numbers, unsigned char *dst,
                         unsigned char **out, ws_err *err)
{
    ws_store_tally tally = { 0 };
    *out = src;
    if (a->dtype == a->t->dtype)
        return WS_OK;
    *out = dst;
    if (a->t->dtype == WS_DT_F64) {
        double *d = (double *)(void *)numbers;
        ws_to_f64(a->t->dtype, src, d, n);
        ws_from_f64(a->dtype, d, dst, n, &tally);
    } else {
        float *f = (float *)(void *)numbers;
        ws_to_f32(a->t->dtype, src, f, n);
        ws_from_f32(a->dtype, f, dst, n, &tally);
    }
    return ws_one_file_tally(&j->f, a->t, ws_dtype_info(a->dtype)->name, &tally, false,
                             err);
}

static const struct array *array_of(const struct job *j, size_t chunk)
{
    size_t lo = 0, hi = j->n;
    while (hi - lo > 1) {
        const size_t mid = lo + (hi - lo) / 2;
        if (j->arrays[mid].first_chunk <= chunk)
            lo = mid;
        else
            hi = mid;
    }
    return &j->arrays[lo];
}

/** Elements of chunk @p i of an array. */
static size_t chunk_elements(const struct array *a, uint64_t i)
{
    const uint64_t left = a->t->n_elements - i * CHUNK;
    return left < CHUNK ? (size_t)left : CHUNK;
}

static ws_status write_chunk(ws_one_file *f, size_t chunk, unsigned char *buf,
                             uint64_t *note, ws_err *err)
{
    struct job *j = (struct job *)f;
    const struct array *a = array_of(j, chunk);
    const uint64_t i = chunk - a->first_chunk;
    const size_t n = chunk_elements(a, i);
    const size_t from = ws_dtype_info(a->t->dtype)->bits / 8;
    const size_t to = ws_dtype_info(a->dtype)->bits / 8;
    unsigned char *out = NULL;
    ws_status st = ws_ckpt_read(f->model, a->t, i * CHUNK * from, n * from, buf, err);
    if (st == WS_OK)
        st = convert(j, a, buf, n, buf + f->widest, buf + 2 * f->widest, &out, err);
    if (st != WS_OK)
        return st;
    *note = ws_crc32_add(&j->crc, 0, out, n * to);
    return ws_stage_write(f->stage, f->id, out, n * to, a->data + i * CHUNK * to, err);
}

/* ---- headers ---- */

/** Both headers of one array, whose checksum is joined from its chunks'. */
static ws_status finish_array(struct job *j, const struct array *a, ws_buf *directory,
                              ws_err *err)
{
    const size_t size = ws_dtype_info(a->dtype)->bits / 8;
    ws_buf npy = { 0 }, local = { 0 };
    ws_npy_put_header(&npy, a->t, a->dtype);
    uint32_t crc = npy.failed ? 0 : ws_crc32_add(&j->crc, 0, npy.p, npy.n);
    for (uint64_t i = 0; i * CHUNK < a->t->n_elements; i++)
        crc = ws_crc32_join(crc, (uint32_t)j->f.notes[a->first_chunk + i],
                            chunk_elements(a, i) * size);
    ws_zip_put_local(&local, &a->m, crc);
    ws_zip_put_entry(directory, &a->m, crc, a->local);
    if (!npy.failed)
        ws_buf_add(&local, npy.p, npy.n);
    const ws_status st =
        npy.failed || local.failed || directory->failed
            ? no_memory(err)
            : ws_stage_write(j->f.stage, j->f.id, local.p, local.n, a->local, err);
    ws_buf_free(&npy);
    ws_buf_free(&local);
    return st;
}

/** The directory's bytes do not depend on checksums: made twice, the first time to
 * know its length. */
static ws_status put_directory(struct job *j, uint64_t at, ws_err *err)
{
    ws_buf b = { 0 };
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < j->n; i++)
        st = finish_array(j, &j->arrays[i], &b, err);
    if (st == WS_OK) {
        ws_zip_put_end(&b, j->n, at, b.n);
        st = b.failed ? no_memory(err)
                      : ws_stage_write(j->f.stage, j->f.id, b.p, b.n, at, err);
    }
    ws_buf_free(&b);
    return st;
}

static ws_status run(struct job *j, const ws_convert_req *req, const ws_ctx *ctx,
                     ws_convert_result *r, ws_buf *head, ws_err *err)
{
    ws_one_file *f = &j->f;
    ws_status st = ws_one_file_begin(f, req, ctx, err);
    if (st == WS_OK)
        st = plan_arrays(j, head, err);
    const uint64_t directory = f->bytes;
    if (st == WS_OK) { // as long as it will be
        ws_buf b = { 0 };
        for (size_t i = 0; i < j->n; i++)
            ws_zip_put_entry(&b, &j->arrays[i].m, 0, j->arrays[i].local);
        ws_zip_put_end(&b, j->n, directory, b.n);
        f->bytes += b.n;
        st = b.failed ? no_memory(err) : WS_OK;
        ws_buf_free(&b);
    }
    if (st == WS_OK)
        st = ws_one_file_stage(f, head->p, head->n, err);
    r->tensors = j->n;
    if (st != WS_OK || ws_stage_finished(f->stage))
        return st;
    st = ws_one_file_chunks(f, err);
    if (st == WS_OK)
        st = put_directory(j, directory, err);
    return st == WS_OK ? ws_one_file_show(f, j->n, r, err) : st;
}

ws_status ws_npz_write(ws_convert_result **out, const ws_convert_req *req,
                       const ws_ctx *ctx, ws_err *err)
{
    struct job j = { .f = { .write = write_chunk } };
    const double start = ws_os_now();
    ws_buf head = { 0 };
    ws_convert_result *r = ws_calloc(1, sizeof *r);
    if (r == NULL)
        return no_memory(err);
    ws_crc32_init(&j.crc);
    const ws_status st = run(&j, req, ctx, r, &head, err);
    ws_one_file_end(&j.f, st, start, r);
    ws_free(j.arrays);
    ws_arena_free(&j.arena);
    ws_buf_free(&head);
    if (st == WS_OK)
        *out = r;
    else
        ws_convert_result_free(r);
    return st;
}
