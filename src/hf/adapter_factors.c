/*
 * adapter_factors.c - what adapters add to a tensor, as factors instead of sums
 *
 *   W' = W + L R        L = [s_1 B_1, s_2 B_2, ...], R = [A_1; A_2; ...]
 *
 * with A and B turned round and in each other's place where W is stored (in, out).
 */
#include "hf/adapter_factors.h"

#include "hf/adapter_map.h"

/** A factor as (rows, cols) with @p ld numbers to a row, turned round where @p flip,
 * times @p s. */
static ws_status factor_read(const ws_layer *l, const ws_tensor *t, bool flip, double s,
                             float *to, size_t ld, ws_err *err)
{
    float *x = ws_calloc((size_t)t->n_elements, sizeof *x);
    if (x == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for an adapter's factors");
    const size_t rows = (size_t)t->shape[0], cols = (size_t)t->n_elements / rows;
    const ws_status st = ws_adapter_read_f32(l->adapter, t, x, err);
    for (size_t i = 0; st == WS_OK && i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            to[flip ? j * ld + i : i * ld + j] = (float)(s * (double)x[i * cols + j]);
    ws_free(x);
    return st;
}

ws_adapted_kind ws_source_factors_of(const ws_ckpt *c, const ws_tensor *t, size_t *r,
                                     size_t *rows, size_t *cols)
{
    const ws_adapted *o = ws_source_adapted(c, t);
    if (o->whole != NULL || o->base == NULL)
        return WS_ADAPTED_ELSE;
    *r = 0;
    for (size_t k = 0; k < o->n_layers; k++) {
        const ws_layer *l = &o->layers[k];
        if (l->kind != WS_LAYER_FACTORS || l->module->magnitude != NULL)
            return WS_ADAPTED_ELSE;
        *r += (size_t)l->module->r;
    }
    if (*r == 0)
        return WS_ADAPTED_NOT;
    *cols = ws_adapted_cols(o);
    *rows = (size_t)t->n_elements / *cols;
    return WS_ADAPTED_FACTORS;
}

ws_status ws_source_factors_read(const ws_ckpt *c, const ws_tensor *t, float *L,
                                 float *R, ws_err *err)
{
    const ws_adapted *o = ws_source_adapted(c, t);
    size_t r = 0, from = 0;
    const size_t cols = ws_adapted_cols(o);
    ws_status st = WS_OK;
    for (size_t k = 0; k < o->n_layers; k++)
        r += (size_t)o->layers[k].module->r;
    for (size_t k = 0; st == WS_OK && k < o->n_layers; k++) {
        const ws_layer *l = &o->layers[k];
        const ws_tensor *left = l->flipped ? l->module->a : l->module->b;
        const ws_tensor *right = l->flipped ? l->module->b : l->module->a;
        st = factor_read(l, left, l->flipped, l->s, L + from, r, err);
        if (st == WS_OK)
            st = factor_read(l, right, l->flipped, 1.0, R + from * cols, cols, err);
        from += (size_t)l->module->r;
    }
    return st;
}
