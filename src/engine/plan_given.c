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

/** Range of each record; the header lists them in its own order. NULL: no memory. */
static const ws_st_range **ranges_by_record(const ws_st_header_info *info)
{
    const ws_st_range **of = ws_calloc(info->n, sizeof *of);
    for (size_t k = 0; of != NULL && k < info->n; k++)
        of[info->ranges[k].record] = &info->ranges[k];
    return of;
}

/** Lay the plan's tensors out as the header says; false when it is not theirs. */
static bool lay_out(ws_plan *plan, const ws_ckpt *c, const ws_st_range *const *of,
                    uint64_t header_len)
{
    for (size_t i = 0; i < plan->n_tensors; i++) {
        ws_tensor *t = &plan->tensors[i].t;
        const size_t r = ws_ckpt_lookup(c, t->name);
        if (r == SIZE_MAX || !same_tensor(t, &c->records[r].t) ||
            of[r]->end - of[r]->begin != t->n_bytes)
            return false;
        t->offset = header_len + of[r]->begin;
    }
    qsort(plan->tensors, plan->n_tensors, sizeof *plan->tensors, by_offset);
    uint64_t at = header_len;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        if (plan->tensors[i].t.offset != at)
            return false;
        at += plan->tensors[i].t.n_bytes;
    }
    return true;
}

/** Whether the header, parsed as a reader would, is one for the plan's tensors. */
static ws_status adopt(ws_plan *plan, const ws_plan_given *given, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_st_header_info info = { 0 };
    ws_arena meta = { 0 };
    const uint8_t *bytes = given->header;
    uint64_t length = 0;
    for (int i = 0; given->header_len > 8 && i < 8; i++)
        length |= (uint64_t)bytes[i] << (8 * i);
    ws_status st = WS_OK;
    if (length != given->header_len - 8)
        st = ws_fail(err, WS_E_HEADER, "stored header has another length than it says");
    if (st == WS_OK)
        st = ws_ckpt_new(&c, "header", "safetensors", NULL, NULL, err);
    if (st == WS_OK)
        st = ws_st_header_parse(c, 0, (const char *)bytes + 8, (size_t)length, &meta,
                                &info, NULL, err);
    const ws_st_range **of = st == WS_OK ? ranges_by_record(&info) : NULL;
    if (st == WS_OK && of == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a header");
    if (st == WS_OK &&
        (info.n != plan->n_tensors || !lay_out(plan, c, of, given->header_len)))
        st = ws_fail(err, WS_E_HEADER, "stored header is not that of the tensors");
    ws_free((void *)of);
    ws_free(info.ranges);
    ws_free(info.meta);
    ws_arena_free(&meta);
    ws_ckpt_free(c);
    return st;
}

void ws_plan_take_header(ws_plan *plan)
{
    const ws_plan_given *given = plan->priv->given;
    ws_err err = WS_ERR_INIT;
    if (given == NULL || given->header == NULL || plan->n_files != 1)
        return;
    ws_plan_file *pf = &plan->files[0];
    uint8_t *header = ws_alloc((size_t)given->header_len);
    const ws_status st = header == NULL
                             ? ws_fail(&err, WS_E_MEMORY, "no memory for a header")
                             : adopt(plan, given, &err);
    if (st != WS_OK) {
        ws_free(header);
        ws_diag_add(plan->priv->errors, &err);
        return;
    }
    memcpy(header, given->header, (size_t)given->header_len);
    pf->bytes += given->header_len - pf->header_len;
    ws_free((void *)(uintptr_t)pf->header);
    pf->header = header;
    pf->header_len = given->header_len;
}
