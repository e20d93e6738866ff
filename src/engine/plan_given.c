/*
 * plan_given.c - a plan from inputs that are open already: computed tensors, dtypes and
 * headers of their own
 */
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "engine/plan_internal.h"

void ws_plan_given_free(const ws_plan_given *given)
{
    for (size_t i = 0; given != NULL && i < given->n; i++)
        ws_ckpt_free(given->inputs[i]);
}

void ws_plan_take_inputs(ws_plan *plan)
{
    const ws_plan_given *given = plan->priv->given;
    plan->inputs = ws_plan_alloc(plan, given->n + 1, sizeof *plan->inputs);
    if (plan->inputs == NULL) {
        ws_plan_given_free(given);
        return;
    }
    for (; plan->n_inputs < given->n; plan->n_inputs++) {
        ws_ckpt *c = given->inputs[plan->n_inputs];
        plan->inputs[plan->n_inputs] =
            (ws_plan_input){ c, ws_ckpt_label(c), ws_ckpt_path(c) };
    }
    struct ws_plan_priv *priv = plan->priv;
    priv->paths = ws_plan_alloc(plan, given->n_paths + 1, sizeof *priv->paths);
    for (size_t i = 0; priv->paths != NULL && i < given->n_paths; i++)
        priv->paths[priv->n_paths++] = ws_arena_strdup(&priv->arena, given->paths[i]);
    priv->tie_cleared = given->untie;
    priv->vocab_size = given->vocab_size;
    priv->tokenizer_from = given->tokenizer_from == NULL
                               ? NULL
                               : ws_arena_strdup(&priv->arena, given->tokenizer_from);
    plan->has_base = plan->method != NULL && plan->method->base == WS_BASE_REQUIRED;
    plan->n_models = plan->n_inputs - (plan->has_base ? 1 : 0);
}

void ws_plan_take_dtypes(ws_plan *plan)
{
    const ws_plan_given *given = plan->priv->given;
    if (given == NULL || given->dtype == NULL || !plan->req->write.dtype_keep)
        return;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        ws_tensor *t = &plan->tensors[i].t;
        const ws_tensor *from = ws_ckpt_find(plan->inputs[0].ckpt, t->name);
        if (from == NULL || !ws_dtype_info(t->dtype)->arithmetic)
            continue;
        t->dtype = given->dtype(given->arg, from);
        t->n_bytes = t->n_elements * (ws_dtype_info(t->dtype)->bits / 8);
    }
}

/* ---- a header of its own ---- */

static int by_offset(const void *a, const void *b)
{
    const ws_tensor *x = &((const ws_plan_tensor *)a)->t;
    const ws_tensor *y = &((const ws_plan_tensor *)b)->t;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->n_bytes != y->n_bytes)
        return x->n_bytes < y->n_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool same_tensor(const ws_tensor *a, const ws_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

/** The given headers, parsed as a reader would. */
struct headers {
    ws_ckpt *c; // records with the file that holds them
    ws_arena meta;
    uint64_t *len;    // (n_files)
    uint64_t *begins; // (records) offset in the data of its file
    uint64_t *ends;
    size_t n_files;
};

static void headers_free(struct headers *h)
{
    ws_ckpt_free(h->c);
    ws_arena_free(&h->meta);
    ws_free(h->len);
    ws_free(h->begins);
    ws_free(h->ends);
}

/** Take over the ranges of a header just parsed. */
static ws_status keep_ranges(struct headers *h, const ws_st_header_info *info,
                             ws_err *err)
{
    const size_t n = h->c->n + 1;
    uint64_t *begins = ws_realloc(h->begins, n * sizeof *begins);
    if (begins != NULL)
        h->begins = begins;
    uint64_t *ends = begins == NULL ? NULL : ws_realloc(h->ends, n * sizeof *ends);
    if (ends == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a header");
    h->ends = ends;
    for (size_t k = 0; k < info->n; k++) {
        begins[info->ranges[k].record] = info->ranges[k].begin;
        ends[info->ranges[k].record] = info->ranges[k].end;
    }
    return WS_OK;
}

/** The header of file @p file, which begins @p left bytes before the end of all. */
static ws_status header_add(struct headers *h, size_t file, const uint8_t *bytes,
                            uint64_t left, ws_err *err)
{
    ws_st_header_info info = { 0 };
    uint64_t length = 0;
    for (int i = 0; left > 8 && i < 8; i++)
        length |= (uint64_t)bytes[i] << (8 * i);
    if (left <= 8 || length > left - 8 || (file + 1 == h->n_files && length < left - 8))
        return ws_fail(err, WS_E_HEADER,
                       "stored header has another length than it says");
    h->len[file] = length + 8;
    ws_status st = ws_st_header_parse(h->c, (uint32_t)file, (const char *)bytes + 8,
                                      (size_t)length, &h->meta, &info, NULL, err);
    if (st == WS_OK)
        st = keep_ranges(h, &info, err);
    ws_free(info.ranges);
    ws_free(info.meta);
    return st;
}

/** @p h is zero; headers_free() also after a failure. */
static ws_status headers_parse(struct headers *h, const ws_plan_given *given,
                               ws_err *err)
{
    h->n_files = given->n_files == 0 ? 1 : given->n_files;
    h->len = ws_calloc(h->n_files, sizeof *h->len);
    ws_status st = h->len == NULL
                       ? ws_fail(err, WS_E_MEMORY, "no memory for a header")
                       : ws_ckpt_new(&h->c, "header", "safetensors", NULL, NULL, err);
    const uint8_t *bytes = given->header;
    uint64_t left = given->header_len;
    for (size_t f = 0; st == WS_OK && f < h->n_files; f++) {
        st = header_add(h, f, bytes, left, err);
        bytes += h->len[f];
        left -= h->len[f];
    }
    return st;
}

static ws_status not_theirs(ws_err *err)
{
    return ws_fail(err, WS_E_HEADER, "stored header is not that of the tensors");
}

bool ws_plan_take_files(ws_plan *plan)
{
    const ws_plan_given *given = plan->priv->given;
    struct headers h = { 0 };
    ws_err err = WS_ERR_INIT;
    if (given == NULL || given->n_files < 2 || !plan->out_is_dir)
        return false;
    ws_status st = headers_parse(&h, given, &err);
    for (size_t i = 0; st == WS_OK && i < plan->n_tensors; i++) {
        const size_t r = ws_ckpt_lookup(h.c, plan->tensors[i].t.name);
        if (r == SIZE_MAX)
            st = not_theirs(&err);
        else
            plan->tensors[i].t.file = h.c->records[r].t.file;
    }
    headers_free(&h);
    if (st != WS_OK)
        ws_diag_add(plan->priv->errors, &err);
    plan->n_files = given->n_files;
    return true;
}

/** Lay the tensors of a file out as its header says. */
static ws_status lay_out(ws_plan *plan, const struct headers *h, size_t file,
                         ws_err *err)
{
    const ws_plan_file *pf = &plan->files[file];
    ws_plan_tensor *tensors = plan->tensors + pf->first;
    for (size_t i = 0; i < pf->n; i++) {
        ws_tensor *t = &tensors[i].t;
        const size_t r = ws_ckpt_lookup(h->c, t->name);
        if (r == SIZE_MAX || !same_tensor(t, &h->c->records[r].t) ||
            h->c->records[r].t.file != file || h->ends[r] - h->begins[r] != t->n_bytes)
            return not_theirs(err);
        t->offset = h->len[file] + h->begins[r];
    }
    qsort(tensors, pf->n, sizeof *tensors, by_offset);
    uint64_t at = h->len[file];
    for (size_t i = 0; i < pf->n; i++) {
        if (tensors[i].t.offset != at)
            return not_theirs(err);
        at += tensors[i].t.n_bytes;
    }
    return WS_OK;
}

/** Put @p bytes in the place of the file's header. */
static ws_status put_header(ws_plan_file *pf, const uint8_t *bytes, uint64_t len,
                            ws_err *err)
{
    uint8_t *header = ws_alloc((size_t)len);
    if (header == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a header");
    memcpy(header, bytes, (size_t)len);
    pf->bytes += len - pf->header_len;
    ws_free((void *)(uintptr_t)pf->header);
    pf->header = header;
    pf->header_len = len;
    return WS_OK;
}

void ws_plan_take_header(ws_plan *plan)
{
    const ws_plan_given *given = plan->priv->given;
    struct headers h = { 0 };
    ws_err err = WS_ERR_INIT;
    if (given == NULL || given->header == NULL ||
        plan->n_files != (given->n_files == 0 ? 1 : given->n_files))
        return;
    ws_status st = headers_parse(&h, given, &err);
    if (st == WS_OK && h.c->n != plan->n_tensors)
        st = not_theirs(&err);
    const uint8_t *bytes = given->header;
    for (size_t f = 0; st == WS_OK && f < plan->n_files; f++) {
        st = lay_out(plan, &h, f, &err);
        if (st == WS_OK)
            st = put_header(&plan->files[f], bytes, h.len[f], &err);
        bytes += h.len[f];
    }
    headers_free(&h);
    if (st != WS_OK)
        ws_diag_add(plan->priv->errors, &err);
}
