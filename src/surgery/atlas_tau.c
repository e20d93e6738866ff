/*
 * atlas_tau.c - task vectors: where their numbers are, and reading them
 *
 * tau = model - base in float32, made anew whenever it is needed from the numbers as
 * they are stored. These stay in their files, or come into memory where there is room;
 * the numbers are the same. An adapter on the base itself stays in factors: tau = L R,
 * with as many rows at a time as a tile covers.
 */
#include <string.h>

#include "hf/adapter_factors.h"
#include "model/model_internal.h"
#include "surgery/atlas_kernel.h"
#include "surgery/atlas_run.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for task vectors");
}

bool ws_atlas_tau_any(const ws_atlas_tau *t)
{
    return t->t != NULL || t->L != NULL;
}

/* ---- reading ---- */

/** Elements as they are stored, as float. */
static ws_status numbers(const ws_atlas_tau *s, size_t at, size_t n, float *out,
                         ws_err *err)
{
    const size_t size = ws_dtype_info(s->t->dtype)->bits / 8;
    unsigned char raw[WS_ATLAS_TILE * sizeof(double)];
    const unsigned char *from = raw;
    if (s->data != NULL) {
        from = s->data + at * size;
    } else {
        const ws_status st = ws_ckpt_read(s->from, s->t, at * size, n * size, raw, err);
        if (st != WS_OK)
            return st;
    }
    ws_to_f32(s->t->dtype, from, out, n);
    return WS_OK;
}

ws_status ws_atlas_base(const ws_atlas_block *b, size_t at, size_t n, float *out,
                        ws_err *err)
{
    return numbers(&b->base, at, n, out, err);
}

/** out may be x. */
WS_HOT static void subtract(float *out, const float *x, const float *base, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] - base[i];
}

ws_status ws_atlas_tau_tile(const ws_atlas_block *b, size_t k, size_t at, size_t n,
                            const float *base, float *out, bool *any, ws_err *err)
{
    const ws_atlas_tau *s = &b->tau[k];
    *any = ws_atlas_tau_any(s);
    if (s->L != NULL) {
        ws_atlas_rows(s->L, s->R, s->r, s->cols, at, n, out);
        return WS_OK;
    }
    if (s->t == NULL)
        return WS_OK;
    if (s->data != NULL && s->t->dtype == WS_DT_F32) { // where they lie: no copy
        const size_t size = sizeof(float);
        subtract(out, (const float *)(const void *)(s->data + at * size), base, n);
        return WS_OK;
    }
    const ws_status st = numbers(s, at, n, out, err);
    if (st == WS_OK)
        subtract(out, out, base, n);
    return st;
}

/* ---- finding ---- */

/** The tensor of @p c for a block, of the same number of elements. */
static ws_status find(const ws_ckpt *c, const char *path, const ws_atlas_block *b,
                      ws_atlas_tau *out, ws_err *err)
{
    const ws_tensor *t = ws_ckpt_find(c, b->name);
    if (t == NULL)
        ws_fail(err, WS_E_MISSING, "tensor of the base is not there");
    else if (t->n_elements != (uint64_t)b->n)
        ws_fail(err, WS_E_SHAPE, "tensor has %llu numbers, the base's %llu",
                (unsigned long long)t->n_elements, (unsigned long long)b->n);
    else if (!ws_dtype_info(t->dtype)->arithmetic)
        ws_fail(err, WS_E_DTYPE, "no arithmetic for dtype %s",
                ws_dtype_info(t->dtype)->name);
    else {
        *out = (ws_atlas_tau){ .from = c, .t = t };
        return WS_OK;
    }
    return ws_err_at(err, path, b->name, -1);
}

/** Whether the numbers differ from the base's anywhere. */
static ws_status differs(const ws_atlas_block *b, size_t k, bool *out, ws_err *err)
{
    float x[WS_ATLAS_TILE] = { 0 }, y[WS_ATLAS_TILE];
    ws_status st = WS_OK;
    *out = false;
    for (size_t at = 0, n; st == WS_OK && !*out && at < b->n; at += n) {
        bool any = false;
        n = b->n - at < WS_ATLAS_TILE ? b->n - at : WS_ATLAS_TILE;
        st = ws_atlas_base(b, at, n, y, err);
        if (st == WS_OK)
            st = ws_atlas_tau_tile(b, k, at, n, y, x, &any, err);
        for (size_t i = 0; st == WS_OK && i < n; i++)
            *out = *out || x[i] != 0.0f;
    }
    return st;
}

/** The factors of an adapter on the base. */
static ws_status factors_load(ws_atlas *a, const ws_ckpt *c, ws_atlas_tau *s,
                              size_t rows, ws_err *err)
{
    const ws_tensor *t = s->t;
    s->t = NULL;
    s->L = ws_calloc(rows, s->r * sizeof(float));
    s->R = ws_calloc(s->r, s->cols * sizeof(float));
    a->bytes += (rows + s->cols) * s->r * sizeof(float);
    return s->L == NULL || s->R == NULL ? no_memory(err)
                                        : ws_source_factors_read(c, t, s->L, s->R, err);
}

static ws_status tau_find(ws_atlas *a, ws_atlas_block *b, size_t k, ws_err *err)
{
    ws_atlas_tau *s = &b->tau[k];
    bool changed = false;
    size_t rows = 0;
    ws_status st = find(a->models[k], a->req->models[k], b, s, err);
    if (st != WS_OK)
        return st;
    const ws_adapted_kind kind =
        a->factored[k]
            ? ws_source_factors_of(a->models[k], s->t, &s->r, &rows, &s->cols)
            : WS_ADAPTED_ELSE;
    if (kind == WS_ADAPTED_FACTORS)
        return factors_load(a, a->models[k], s, rows, err);
    if (kind != WS_ADAPTED_NOT)
        st = differs(b, k, &changed, err);
    if (st == WS_OK && !changed)
        *s = (ws_atlas_tau){ 0 };
    return st;
}

ws_status ws_atlas_tau_find(ws_atlas *a, ws_atlas_block *b, bool *changed, ws_err *err)
{
    ws_status st = find(a->model->ckpt, a->req->base, b, &b->base, err);
    *changed = false;
    for (size_t k = 0; st == WS_OK && k < a->req->n_models; k++) {
        st = tau_find(a, b, k, err);
        *changed = *changed || ws_atlas_tau_any(&b->tau[k]);
    }
    return st;
}

/* ---- memory ---- */

uint64_t ws_atlas_tau_bytes(const ws_atlas *a)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < a->n_blocks; i++) {
        const ws_atlas_block *b = &a->blocks[i];
        bytes += b->base.t->n_bytes;
        for (size_t k = 0; k < a->req->n_models; k++)
            bytes += b->tau[k].t != NULL ? b->tau[k].t->n_bytes : 0;
    }
    return bytes;
}

static ws_status load(ws_atlas *a, ws_atlas_tau *s, uint64_t *room, ws_err *err)
{
    if (s->t == NULL || s->data != NULL || s->t->n_bytes > *room)
        return WS_OK;
    s->data = ws_alloc((size_t)s->t->n_bytes);
    if (s->data == NULL)
        return no_memory(err);
    *room -= s->t->n_bytes;
    a->bytes += s->t->n_bytes;
    a->resident += s->t->n_bytes;
    return ws_ckpt_read(s->from, s->t, 0, s->t->n_bytes, s->data, err);
}

ws_status ws_atlas_tau_load(ws_atlas *a, uint64_t room, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < a->n_blocks; i++) {
        st = load(a, &a->blocks[i].base, &room, err);
        for (size_t k = 0; st == WS_OK && k < a->req->n_models; k++)
            st = load(a, &a->blocks[i].tau[k], &room, err);
    }
    return st;
}

void ws_atlas_tau_free(ws_atlas_tau *t)
{
    ws_free(t->data);
    ws_free(t->L);
    ws_free(t->R);
    *t = (ws_atlas_tau){ 0 };
}

void ws_atlas_tau_drop(ws_atlas *a, ws_atlas_block *b, size_t k)
{
    if (b->tau[k].data != NULL) {
        a->bytes -= b->tau[k].t->n_bytes;
        a->resident -= b->tau[k].t->n_bytes;
    }
    ws_atlas_tau_free(&b->tau[k]);
}
