/*
 * extract_find.c - what a fine-tune changed: linears to decompose, tensors to copy
 */
#include <stdio.h>
#include <string.h>

#include "surgery/extract_job.h"
#include "surgery/linears.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to extract");
}

static ws_status same_bytes(const ws_extract_job *j, const ws_tensor *a,
                            const ws_tensor *b, bool *same, ws_err *err)
{
    enum { CHUNK = 1 << 20 };
    char *buf = ws_alloc(2 * (size_t)CHUNK);
    ws_status st = buf == NULL ? no_memory(err) : WS_OK;
    *same = a->dtype == b->dtype;
    for (uint64_t at = 0; st == WS_OK && *same && at < a->n_bytes; at += CHUNK) {
        const size_t n = a->n_bytes - at < CHUNK ? (size_t)(a->n_bytes - at) : CHUNK;
        st = ws_ckpt_read(j->base, a, at, n, buf, err);
        if (st == WS_OK)
            st = ws_ckpt_read(j->tuned, b, at, n, buf + CHUNK, err);
        *same = memcmp(buf, buf + CHUNK, n) == 0;
    }
    ws_free(buf);
    return st;
}

static void not_represented(ws_extract_job *j, const char *name)
{
    if (j->r->missing++ == 0)
        j->r->missing_first = name;
}

static ws_status add_one(ws_extract_job *j, const ws_tensor *t, bool in, ws_err *err)
{
    const ws_tensor *b = ws_ckpt_find(j->base, t->name);
    const bool fits =
        b != NULL && b->rank == t->rank &&
        memcmp(b->shape, t->shape, (size_t)t->rank * sizeof *t->shape) == 0;
    if (in && fits && ws_dtype_info(t->dtype)->arithmetic &&
        ws_dtype_info(b->dtype)->arithmetic) {
        ws_extract_task *k = &j->tasks[j->n++];
        *k = (ws_extract_task){ .b = b, .t = t };
        k->m = (int64_t)t->shape[j->conv1d ? 1 : 0];
        k->n = (int64_t)t->shape[j->conv1d ? 0 : 1];
        k->q = k->m < k->n ? k->m : k->n;
        return WS_OK;
    }
    if (in && b != NULL) {
        ws_fail(err, WS_E_SHAPE, "base and fine-tune have other shapes or dtypes here");
        return ws_err_at(err, j->req->tuned, t->name, -1), WS_E_SHAPE;
    }
    bool same = false;
    const ws_status st = fits ? same_bytes(j, b, t, &same, err) : WS_OK;
    if (st != WS_OK || same)
        return st;
    const size_t len = strlen(t->name);
    if (!fits) { // no tensor of the base that it could stand for
        not_represented(j, t->name);
        return WS_OK;
    }
    j->r->whole++;
    j->copies[j->n_copies++] =
        (ws_adapter_copy){ .name = t->name,
                           .from = j->tuned,
                           .t = t,
                           .bias = len > 5 && strcmp(t->name + len - 5, ".bias") == 0 };
    return WS_OK;
}

ws_status ws_extract_find(ws_extract_job *j, ws_err *err)
{
    const size_t n = ws_ckpt_count(j->tuned);
    ws_arena *a = &j->r->arena;
    ws_targets targets;
    j->tasks = ws_arena_calloc(a, n + 1, sizeof *j->tasks);
    j->copies = ws_arena_calloc(a, n + 1, sizeof *j->copies);
    j->r->layers = ws_arena_calloc(a, n + 1, sizeof *j->r->layers);
    ws_status st = ws_targets_open(&targets, j->req->targets, j->req->n_targets, err);
    if (st == WS_OK && (j->tasks == NULL || j->copies == NULL || j->r->layers == NULL))
        st = no_memory(err);
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        bool in = false;
        const ws_tensor *t = ws_ckpt_tensor(j->tuned, i);
        st = ws_targets_match(&targets, t, &in, err);
        if (st == WS_OK)
            st = add_one(j, t, in, err);
    }
    if (st == WS_OK)
        st = ws_targets_all_hit(&targets, err);
    if (st == WS_OK && j->n == 0)
        st = ws_fail(err, WS_E_USAGE, "base and fine-tune share no linears");
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(j->base); i++)
        if (ws_ckpt_find(j->tuned, ws_ckpt_tensor(j->base, i)->name) == NULL)
            not_represented(j, ws_ckpt_tensor(j->base, i)->name);
    ws_targets_close(&targets);
    return st;
}

ws_status ws_extract_load(const ws_extract_job *j, const ws_extract_task *k, ws_mat *D,
                          ws_err *err)
{
    const int64_t rows = (int64_t)k->t->shape[0], cols = (int64_t)k->t->shape[1];
    const size_t sb = ws_dtype_info(k->b->dtype)->bits / 8;
    const size_t st_size = ws_dtype_info(k->t->dtype)->bits / 8;
    char *raw = ws_alloc((size_t)cols * (sb > st_size ? sb : st_size));
    double *a = ws_alloc(2 * (size_t)cols * sizeof *a);
    ws_status st = raw == NULL || a == NULL ? no_memory(err) : WS_OK;
    for (int64_t i = 0; i < rows && st == WS_OK; i++) {
        const uint64_t at = (uint64_t)i * (uint64_t)cols;
        st = ws_ckpt_read(j->base, k->b, at * sb, (size_t)cols * sb, raw, err);
        if (st != WS_OK)
            break;
        ws_to_f64(k->b->dtype, raw, a, (size_t)cols);
        st = ws_ckpt_read(j->tuned, k->t, at * st_size, (size_t)cols * st_size, raw,
                          err);
        if (st != WS_OK)
            break;
        ws_to_f64(k->t->dtype, raw, a + cols, (size_t)cols);
        for (int64_t c = 0; c < cols; c++)
            ((float *)D->data)[j->conv1d ? c * k->n + i : i * k->n + c] =
                (float)(a[cols + c] - a[c]);
    }
    ws_free(raw);
    ws_free(a);
    return st;
}
