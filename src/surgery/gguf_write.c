/*
 * gguf_write.c - a Hugging Face model as a GGUF file, streamed
 *
 * Types, names and places of all tensors come first, from headers; then chunks of
 * whole rows, in any order on all threads, are read, brought into GGUF's layout,
 * converted and written to their places.
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/os.h"
#include "ckpt/gguf.h"
#include "surgery/gguf_head.h"
#include "surgery/one_file.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"
#include "wsurg/wsurg.h"

enum {
    ALIGNMENT = 32,
    CHUNK = 1 << 18, // elements of a chunk of rows, one row at least
    MAX_CONFIG = 16 << 20
};

/** A tensor to be written. */
struct item {
    const ws_tensor *t;
    char name[WS_GGUF_NAME + 1];
    uint32_t id; // of its type
    const ws_gguf_type *type;
    ws_gguf_layout layout;
    uint64_t row, rows; // as GGUF has them
    uint64_t head;      // rows of a head; 0: rows as they are
    uint64_t offset;    // in the data, later in the file
    uint64_t bytes;
    uint64_t chunk_rows;
    size_t first_chunk;
};

struct job {
    ws_one_file f; // first: its functions are given this
    ws_gguf_model m;
    ws_gguf_pairs pairs;
    ws_buf head; // the whole header, padded
    struct item *items;
    size_t n, skipped;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to write GGUF");
}

static uint64_t align(uint64_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- planning ---- */

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/** Masks and frequencies that are no weights: the reader computes them. */
static bool is_buffer(const ws_gguf_model *m, const ws_tensor *t)
{
    return ends_with(t->name, ".rotary_emb.inv_freq") ||
           (strcmp(m->architecture, "gpt2") == 0 &&
            (ends_with(t->name, ".attn.masked_bias") ||
             (ends_with(t->name, ".attn.bias") && t->rank == 4)));
}

/** Number of the type that a tensor is written in. */
static ws_status choose_type(const struct job *j, struct item *x, ws_err *err)
{
    const ws_dtype has = x->t->dtype;
    static const uint32_t wanted[] = { [WS_AS_F32] = WS_GGUF_F32,
                                       [WS_AS_F16] = WS_GGUF_F16,
                                       [WS_AS_BF16] = WS_GGUF_BF16,
                                       [WS_AS_Q8_0] = WS_GGUF_Q8_0 };
    if (!ws_dtype_info(has)->arithmetic) {
        ws_fail(err, WS_E_DTYPE, "tensor is %s: not written as GGUF",
                ws_dtype_info(has)->name);
        return ws_err_at(err, j->f.req->model, x->t->name, -1), WS_E_DTYPE;
    }
    if (x->t->rank < 2 || ends_with(x->name, "_norm.weight") ||
        strcmp(x->name, "position_embd.weight") == 0)
        x->id = WS_GGUF_F32;
    else if (j->f.req->as == WS_AS_KEEP)
        x->id = has == WS_DT_F16    ? WS_GGUF_F16
                : has == WS_DT_BF16 ? WS_GGUF_BF16
                                    : WS_GGUF_F32;
    else
        x->id = wanted[j->f.req->as];
    if (x->id == WS_GGUF_Q8_0 && x->row % 32 != 0)
        x->id = WS_GGUF_F16;
    x->type = ws_gguf_type_at(x->id);
    return WS_OK;
}

/** Rows of the file: as the model's, or the columns of a transposed weight. */
static ws_status set_rows(const struct job *j, struct item *x, ws_err *err)
{
    const ws_tensor *t = x->t;
    const bool turned = x->layout == WS_GGUF_TRANSPOSED;
    if (t->rank > 4 || (turned && t->rank != 2) || t->n_elements == 0) {
        ws_fail(err, WS_E_SHAPE, "tensor has a shape that is not written as GGUF");
        return ws_err_at(err, j->f.req->model, t->name, -1), WS_E_SHAPE;
    }
    x->row = t->rank == 0 ? 1 : t->shape[turned ? 0 : t->rank - 1];
    x->rows = t->n_elements / x->row;
    if (turned || x->layout == WS_GGUF_SAME || strcmp(j->m.architecture, "llama") != 0)
        return WS_OK;
    const uint64_t heads = x->layout == WS_GGUF_HEADS_Q ? j->m.heads : j->m.kv_heads;
    const uint64_t rows = t->shape[0];
    if (heads == 0 || rows % heads != 0 || rows / heads % 2 != 0) {
        ws_fail(err, WS_E_SHAPE,
                "%llu rows are no %llu heads of an even number of rows each",
                (unsigned long long)rows, (unsigned long long)heads);
        return ws_err_at(err, j->f.req->model, t->name, -1), WS_E_SHAPE;
    }
    x->head = rows / heads;
    if (t->rank == 1) { // of a bias each number is a row
        x->row = 1;
        x->rows = rows;
    }
    return WS_OK;
}

static ws_status plan_item(struct job *j, struct item *x, ws_err *err)
{
    if (!ws_gguf_from_hf(j->m.architecture, x->t->name, x->name, &x->layout)) {
        ws_fail(err, WS_E_UNSUPPORTED, "tensor has no name in GGUF's architecture '%s'",
                j->m.architecture);
        return ws_err_at(err, j->f.req->model, x->t->name, -1), WS_E_UNSUPPORTED;
    }
    ws_status st = set_rows(j, x, err);
    if (st == WS_OK)
        st = choose_type(j, x, err);
    if (st != WS_OK)
        return st;
    x->bytes = x->t->n_elements / x->type->block * x->type->bytes;
    x->offset = j->f.bytes;
    j->f.bytes = align(j->f.bytes + x->bytes);
    x->chunk_rows = x->row >= CHUNK ? 1 : CHUNK / x->row;
    x->first_chunk = j->f.n_chunks;
    j->f.n_chunks += (size_t)((x->rows + x->chunk_rows - 1) / x->chunk_rows);
    const uint64_t rows = x->rows < x->chunk_rows ? x->rows : x->chunk_rows;
    if (rows * x->row * 8 > j->f.widest)
        j->f.widest = rows * x->row * 8;
    return WS_OK;
}

static ws_status plan_items(struct job *j, ws_err *err)
{
    const size_t n = ws_ckpt_count(j->f.model);
    ws_status st = WS_OK;
    j->items = ws_calloc(n + 1, sizeof *j->items);
    if (j->items == NULL)
        return no_memory(err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        struct item *x = &j->items[j->n];
        x->t = ws_ckpt_tensor(j->f.model, i);
        if (is_buffer(&j->m, x->t)) {
            j->skipped++;
            continue;
        }
        j->n++;
        st = plan_item(j, x, err);
    }
    return st;
}

/** general.file_type: what most of the matrices are. */
static uint64_t file_type(const struct job *j)
{
    uint64_t by[32] = { 0 }, most = 0, found = 0;
    for (size_t i = 0; i < j->n; i++)
        if (j->items[i].t->rank >= 2)
            by[j->items[i].id] += j->items[i].t->n_elements;
    for (uint64_t id = 0; id < 32; id++)
        if (by[id] > most) {
            most = by[id];
            found = id;
        }
    return found == WS_GGUF_Q8_0 ? 7 : found == WS_GGUF_BF16 ? 32 : found;
}

static void put_head(struct job *j)
{
    ws_gguf_pair_u32(&j->pairs, "general.file_type", file_type(j));
    ws_gguf_pair_u32(&j->pairs, "general.quantization_version", 2);
    ws_buf_puts(&j->head, "GGUF");
    ws_gguf_put_u(&j->head, 3, 4);
    ws_gguf_put_u(&j->head, j->n, 8);
    ws_gguf_put_u(&j->head, j->pairs.n, 8);
    ws_buf_add(&j->head, j->pairs.b.p, j->pairs.b.n);
    for (size_t i = 0; i < j->n; i++) {
        const struct item *x = &j->items[i];
        const bool turned = x->layout == WS_GGUF_TRANSPOSED;
        ws_gguf_put_string(&j->head, x->name);
        ws_gguf_put_u(&j->head, (uint64_t)x->t->rank, 4);
        for (int d = 0; d < x->t->rank; d++)
            ws_gguf_put_u(&j->head, x->t->shape[turned ? d : x->t->rank - 1 - d], 8);
        ws_gguf_put_u(&j->head, x->id, 4);
        ws_gguf_put_u(&j->head, x->offset, 8);
    }
    while (j->head.n % ALIGNMENT != 0)
        ws_buf_putc(&j->head, '\0');
    for (size_t i = 0; i < j->n; i++)
        j->items[i].offset += j->head.n;
    j->f.bytes += j->head.n;
}

/* ---- chunks ---- */

/** Rows @p first .. first+n-1 of the file, in the model's dtype. */
static ws_status read_rows(const struct job *j, const struct item *x, uint64_t first,
                           uint64_t n, unsigned char *dst, unsigned char *tmp,
                           ws_err *err)
{
    const size_t size = ws_dtype_info(x->t->dtype)->bits / 8;
    const size_t row = (size_t)x->row * size;
    ws_status st = WS_OK;
    if (x->layout == WS_GGUF_TRANSPOSED) {
        for (uint64_t i = 0; st == WS_OK && i < x->row; i++) {
            st = ws_ckpt_read(j->f.model, x->t, (i * x->rows + first) * size,
                              (size_t)n * size, tmp, err);
            for (uint64_t k = 0; st == WS_OK && k < n; k++)
                memcpy(dst + k * row + i * size, tmp + k * size, size);
        }
        return st;
    }
    if (x->head == 0)
        return ws_ckpt_read(j->f.model, x->t, first * row, (size_t)n * row, dst, err);
    for (uint64_t i = 0; st == WS_OK && i < n; i++) {
        const uint64_t head = (first + i) / x->head, k = (first + i) % x->head;
        const uint64_t from = head * x->head + k % 2 * (x->head / 2) + k / 2;
        st = ws_ckpt_read(j->f.model, x->t, from * row, row, dst + i * row, err);
    }
    return st;
}

/** From the model's dtype at @p src to the type of the file; returns where it is. */
static ws_status convert(struct job *j, const struct item *x, unsigned char *src,
                         size_t n, unsigned char *numbers, unsigned char **out,
                         ws_err *err)
{
    ws_store_tally tally = { 0 };
    *out = src;
    if (x->type->decode == NULL && x->type->dtype == x->t->dtype)
        return WS_OK;
    float *f = (float *)(void *)numbers;
    ws_to_f32(x->t->dtype, src, f, n);
    if (x->id != WS_GGUF_Q8_0) {
        ws_from_f32(x->type->dtype, f, src, n, &tally);
        return ws_one_file_tally(&j->f, x->t, x->type->name, &tally, false, err);
    }
    // finite, and a scale within F16
    const float most = 127.0f * 65504.0f;
    for (size_t i = 0; i < n; i++) {
        tally.not_finite += !(f[i] - f[i] == 0.0f);
        if (f[i] > most || f[i] < -most) {
            tally.overflowed++;
            f[i] = f[i] > 0 ? most : -most;
        }
    }
    const ws_status st =
        ws_one_file_tally(&j->f, x->t, x->type->name, &tally, true, err);
    for (size_t b = 0; st == WS_OK && b < n / 32; b++)
        ws_gguf_q8_0(f + 32 * b, src + b * WS_Q8_0_BYTES);
    return st;
}

static const struct item *item_of(const struct job *j, size_t chunk)
{
    size_t lo = 0, hi = j->n;
    while (hi - lo > 1) {
        const size_t mid = lo + (hi - lo) / 2;
        if (j->items[mid].first_chunk <= chunk)
            lo = mid;
        else
            hi = mid;
    }
    return &j->items[lo];
}

static ws_status write_chunk(ws_one_file *f, size_t chunk, unsigned char *buf,
                             uint64_t *note, ws_err *err)
{
    struct job *j = (struct job *)f;
    const struct item *x = item_of(j, chunk);
    unsigned char *out;
    const uint64_t first = (chunk - x->first_chunk) * x->chunk_rows;
    const uint64_t n =
        x->rows - first < x->chunk_rows ? x->rows - first : x->chunk_rows;
    const uint64_t at = first * x->row / x->type->block * x->type->bytes;
    const size_t bytes = (size_t)(n * x->row / x->type->block * x->type->bytes);
    (void)note;
    ws_status st = read_rows(j, x, first, n, buf, buf + f->widest, err);
    if (st == WS_OK)
        st = convert(j, x, buf, (size_t)(n * x->row), buf + 2 * f->widest, &out, err);
    return st == WS_OK
               ? ws_stage_write(f->stage, f->id, out, bytes, x->offset + at, err)
               : st;
}

/* ---- the file ---- */

/** config.json of the model, or of the directory asked for. */
static ws_status read_config(struct job *j, ws_err *err)
{
    const char *from = j->f.req->write.companions_from;
    size_t len = 0;
    char *own = NULL;
    const char *text = ws_ckpt_config(j->f.model, &len);
    ws_status st = WS_OK;
    if (from != NULL) {
        ws_buf path = { 0 };
        ws_buf_printf(&path, "%s/config.json", from);
        st = path.failed ? no_memory(err)
                         : ws_file_read(&own, &len, path.p, MAX_CONFIG, err);
        ws_buf_free(&path);
        text = own;
    }
    if (st == WS_OK && text == NULL) {
        st = ws_fail(err, WS_E_MISSING, "there is no config.json");
        ws_err_hint(err, "--companions-from DIR, where it is");
    }
    if (st == WS_OK)
        st = ws_gguf_from_config(&j->m, &j->pairs, ws_ckpt_label(j->f.model), text, len,
                                 err);
    if (st != WS_OK)
        ws_err_at(err, from != NULL ? from : j->f.req->model, NULL, -1);
    ws_free(own);
    return st;
}

/** Where the output came from. */
static ws_status put_provenance(struct job *j, ws_err *err)
{
    static const char *const words[] = { "keep", "f32", "f16", "bf16", "q8_0" };
    ws_buf recipe = { 0 }, inputs = { 0 };
    char digest[48];
    if (!j->f.req->write.provenance)
        return WS_OK;
    ws_status st = ws_ckpt_digest_text(j->f.model, j->f.ctx, digest, err);
    if (st != WS_OK)
        return st;
    ws_buf_printf(&recipe,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"convert\",\"to\":"
                  "\"gguf\",\"dtype\":\"%s\"}",
                  words[j->f.req->as]);
    ws_tv_input_add(&inputs, "model", ws_ckpt_label(j->f.model), digest);
    ws_buf_putc(&inputs, ']');
    if (recipe.failed || inputs.failed) {
        st = no_memory(err);
    } else {
        ws_gguf_pair_text(&j->pairs, "wsurg.inputs", inputs.p);
        ws_gguf_pair_text(&j->pairs, "wsurg.recipe", recipe.p);
        ws_gguf_pair_text(&j->pairs, "wsurg.version", ws_version());
    }
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

static ws_status run(struct job *j, const ws_convert_req *req, const ws_ctx *ctx,
                     ws_convert_result *r, ws_err *err)
{
    ws_one_file *f = &j->f;
    ws_status st = ws_one_file_begin(f, req, ctx, err);
    if (st == WS_OK)
        st = read_config(j, err);
    if (st == WS_OK)
        st = plan_items(j, err);
    if (st == WS_OK)
        st = put_provenance(j, err);
    if (st == WS_OK) {
        put_head(j);
        st = j->head.failed || j->pairs.b.failed
                 ? no_memory(err)
                 : ws_one_file_stage(f, j->head.p, j->head.n, err);
    }
    r->architecture = j->m.architecture;
    r->tensors = j->n;
    r->skipped = j->skipped;
    if (st != WS_OK || ws_stage_finished(f->stage))
        return st;
    st = ws_stage_write(f->stage, f->id, j->head.p, j->head.n, 0, err);
    if (st == WS_OK)
        st = ws_one_file_chunks(f, err);
    return st == WS_OK ? ws_one_file_show(f, j->n, r, err) : st;
}

ws_status ws_gguf_write(ws_convert_result **out, const ws_convert_req *req,
                        const ws_ctx *ctx, ws_err *err)
{
    struct job j = { .f = { .write = write_chunk } };
    const double start = ws_os_now();
    ws_convert_result *r = ws_calloc(1, sizeof *r);
    if (r == NULL)
        return no_memory(err);
    const ws_status st = run(&j, req, ctx, r, err);
    ws_one_file_end(&j.f, st, start, r);
    ws_free(j.items);
    ws_buf_free(&j.pairs.b);
    ws_buf_free(&j.head);
    if (st == WS_OK)
        *out = r;
    else
        ws_convert_result_free(r);
    return st;
}

void ws_convert_result_free(ws_convert_result *r)
{
    if (r == NULL)
        return;
    ws_free(r->strings);
    ws_free(r);
}
