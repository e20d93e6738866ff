/*
 * residual_write.c - a model with some of its tensors computed, into a staged folder
 */
#include "surgery/residual_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hf/shards.h"
#include "wsurg/text.h"

static const char unknown[] = "xxh3-128:00000000000000000000000000000000";

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for the residual");
}

/** Tensors by file as their safetensors header orders them. */
static int by_file(const void *a, const void *b)
{
    const ws_tensor *x = *(const ws_tensor *const *)a,
                    *y = *(const ws_tensor *const *)b;
    return x->file != y->file ? (x->file < y->file ? -1 : 1) : ws_st_order(a, b);
}

static bool take(ws_residual *r)
{
    const size_t n = ws_ckpt_count(r->model), f = ws_ckpt_file_count(r->model);
    r->n = n;
    r->n_files = f;
    r->tensors = ws_arena_calloc(&r->arena, n + 1, sizeof *r->tensors);
    r->order = ws_arena_calloc(&r->arena, n + 1, sizeof *r->order);
    r->source = ws_arena_calloc(&r->arena, n + 1, sizeof *r->source);
    r->digests = ws_arena_calloc(&r->arena, n + 1, sizeof *r->digests);
    r->done = ws_arena_calloc(&r->arena, n + 1, sizeof *r->done);
    r->files = ws_arena_calloc(&r->arena, f + 1, sizeof *r->files);
    return r->tensors && r->order && r->source && r->digests && r->done && r->files;
}

/** Header of file @p f with @p content; also sets the offsets of its tensors. */
static ws_status header_make(ws_residual *r, const struct ws_residual_file *f,
                             const char *content, uint8_t **out, uint64_t *len,
                             ws_err *err)
{
    ws_meta meta[16] = { { "format", "pt" } };
    size_t n = 1;
    for (size_t i = 0; r->n_files == 1 && i < r->n_meta && n < 15; i++)
        meta[n++] = r->meta[i];
    if (r->n_files == 1 && r->n_meta > 0)
        meta[n++] = (ws_meta){ "wsurg.content", content };
    return ws_st_header(out, len, r->order + f->first, f->n, meta, n, err);
}

static ws_status create(ws_residual *r, struct ws_residual_file *f, ws_err *err)
{
    uint8_t *header = NULL;
    ws_buf path = { 0 };
    ws_status st = header_make(r, f, unknown, &header, &f->header_len, err);
    ws_free(header);
    uint64_t bytes = f->header_len;
    for (size_t i = f->first; i < f->first + f->n; i++)
        bytes += r->order[i]->n_bytes;
    ws_buf_printf(&path, "%s%s", r->folder, f->name);
    if (st == WS_OK)
        st = path.failed ? no_memory(err)
                         : ws_stage_file(r->stage, path.p, bytes, &f->id, err);
    ws_buf_free(&path);
    return st;
}

ws_status ws_residual_open(ws_residual *r, const ws_ckpt *model, ws_stage *stage,
                           const char *folder, const ws_meta *meta, size_t n_meta,
                           ws_err *err)
{
    *r = (ws_residual){
        .model = model, .stage = stage, .folder = folder, .meta = meta, .n_meta = n_meta
    };
    if (!take(r))
        return no_memory(err);
    for (size_t i = 0; i < r->n; i++) {
        r->tensors[i] = *ws_ckpt_tensor(model, i);
        r->order[i] = &r->tensors[i];
    }
    qsort(r->order, r->n, sizeof *r->order, by_file);
    size_t at = 0;
    ws_status st = WS_OK;
    for (size_t f = 0; f < r->n_files && st == WS_OK; f++) {
        struct ws_residual_file *to = &r->files[f];
        to->name = ws_ckpt_is_dir(model) ? ws_ckpt_file_at(model, f)->name
                                         : "model.safetensors";
        to->first = at;
        while (at < r->n && r->order[at]->file == f)
            at++;
        to->n = at - to->first;
        st = create(r, to, err);
    }
    for (size_t i = 0; i < r->n; i++)
        r->source[r->order[i] - r->tensors] = i;
    if (st == WS_OK && at != r->n)
        st = ws_fail(err, WS_E_UNSUPPORTED,
                     "tensors that are no part of a file cannot "
                     "be written again");
    return st;
}

/** File that holds tensor order[i]. */
static const struct ws_residual_file *file_of(const ws_residual *r, size_t i)
{
    return &r->files[r->order[i]->file];
}

/** Write slice after slice, from @p data or, when NULL, from the model. */
static ws_status put(ws_residual *r, size_t i, const void *data, ws_err *err)
{
    const ws_tensor *t = &r->tensors[i], *from = ws_ckpt_tensor(r->model, i);
    const size_t at = r->source[i];
    const int id = file_of(r, at)->id;
    const size_t n = (size_t)ws_slice_count(t->rank, t->shape);
    ws_xxh128 *slices = ws_calloc(n + 1, sizeof *slices);
    unsigned char *buf = NULL;
    size_t cap = 0;
    ws_status st = slices == NULL ? no_memory(err) : WS_OK;
    for (size_t k = 0; k < n && st == WS_OK; k++) {
        uint64_t offset, len;
        ws_slice_bytes(t, k, &offset, &len);
        const void *p = data == NULL ? NULL : (const unsigned char *)data + offset;
        if (p == NULL && len > cap) {
            ws_free(buf);
            buf = ws_alloc((size_t)len);
            cap = (size_t)len;
        }
        if (p == NULL) {
            st = buf == NULL
                     ? no_memory(err)
                     : ws_ckpt_read(r->model, from, offset, (size_t)len, buf, err);
            p = buf;
        }
        if (st == WS_OK)
            st = ws_stage_write(r->stage, id, p, (size_t)len, t->offset + offset, err);
        if (st == WS_OK)
            slices[k] = ws_xxh3(p, (size_t)len);
    }
    if (st == WS_OK) {
        r->digests[at] = ws_tensor_digest(t, slices, n);
        r->done[at] = true;
    }
    ws_free(buf);
    ws_free(slices);
    return st;
}

ws_status ws_residual_put(ws_residual *r, size_t i, const void *data, ws_xxh128 *digest,
                          ws_err *err)
{
    const ws_status st = put(r, i, data, err);
    if (st == WS_OK)
        *digest = r->digests[r->source[i]];
    return st;
}

void ws_residual_done(ws_residual *r, size_t i, const ws_xxh128 *digest)
{
    r->digests[r->source[i]] = *digest;
    r->done[r->source[i]] = true;
}

static ws_status content_make(ws_residual *r, char content[48], ws_err *err)
{
    const char **names = ws_arena_calloc(&r->arena, r->n + 1, sizeof *names);
    size_t *idx = ws_arena_calloc(&r->arena, r->n + 1, sizeof *idx);
    char hex[33];
    if (names == NULL || idx == NULL)
        return no_memory(err);
    for (size_t i = 0; i < r->n; i++)
        names[i] = r->order[i]->name;
    ws_xxh128_hex(ws_model_digest(names, r->digests, r->n, idx), hex);
    snprintf(content, 48, "xxh3-128:%s", hex);
    return WS_OK;
}

static ws_status put_index(ws_residual *r, const char *content, ws_err *err)
{
    const char **names = ws_arena_calloc(&r->arena, r->n + 1, sizeof *names);
    const char **files = ws_arena_calloc(&r->arena, r->n + 1, sizeof *files);
    ws_meta meta[16];
    size_t n = 0;
    uint64_t total = 0;
    ws_buf b = { 0 }, path = { 0 };
    if (names == NULL || files == NULL)
        return no_memory(err);
    for (size_t i = 0; i < r->n; i++) {
        names[i] = r->order[i]->name;
        files[i] = file_of(r, i)->name;
        total += r->order[i]->n_bytes;
    }
    for (size_t i = 0; i < r->n_meta && n < 15; i++)
        meta[n++] = r->meta[i];
    if (r->n_meta > 0)
        meta[n++] = (ws_meta){ "wsurg.content", content };
    ws_status st = ws_index_write(&b, names, files, r->n, total, meta, n, err);
    ws_buf_printf(&path, "%smodel.safetensors.index.json", r->folder);
    if (st == WS_OK)
        st = path.failed || b.failed ? no_memory(err)
                                     : ws_stage_put(r->stage, path.p, b.p, b.n, err);
    ws_buf_free(&b);
    ws_buf_free(&path);
    return st;
}

ws_status ws_residual_finish(ws_residual *r, char content[48], ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; i < r->n && st == WS_OK; i++)
        if (!r->done[r->source[i]])
            st = put(r, i, NULL, err);
    if (st == WS_OK)
        st = content_make(r, content, err);
    for (size_t f = 0; f < r->n_files && st == WS_OK; f++) {
        uint8_t *header = NULL;
        uint64_t len = 0;
        st = header_make(r, &r->files[f], content, &header, &len, err);
        if (st == WS_OK && len != r->files[f].header_len)
            st = ws_fail(err, WS_E_INTERNAL, "the header of the residual changed");
        if (st == WS_OK)
            st = ws_stage_write(r->stage, r->files[f].id, header, (size_t)len, 0, err);
        ws_free(header);
    }
    return st == WS_OK && r->n_files > 1 ? put_index(r, content, err) : st;
}

const ws_stage_expect *ws_residual_expect(ws_residual *r)
{
    ws_stage_expect *e = ws_arena_calloc(&r->arena, r->n_files + 1, sizeof *e);
    for (size_t f = 0; e != NULL && f < r->n_files; f++)
        e[f] =
            (ws_stage_expect){ (const ws_tensor *const *)r->order + r->files[f].first,
                               r->digests + r->files[f].first, r->files[f].n };
    return e;
}

void ws_residual_close(ws_residual *r)
{
    ws_arena_free(&r->arena);
}
