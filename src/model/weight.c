/*
 * weight.c - the numbers of a weight as the layers see them: expanded from their dtype,
 * task vectors of an overlay added
 *
 *   W = W0 + sum_k lambda_k tau_k, block by block
 */
#include "model/layers.h"

enum { STRETCH = 512 }; // numbers of a task vector expanded at a time, on the stack

WS_HOT static void axpy(ws_real a, const ws_real *x, ws_real *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/** y += sum_k lambda_k tau_k of @p n elements from @p at of the tensor. */
static void terms_add(const ws_overlay *o, int64_t at, ws_real *y, int64_t n)
{
    ws_real t[STRETCH];

    for (int64_t k = 0; k < o->n; k++) {
        const unsigned char *tau = o->tau[k];
        const size_t size = ws_dtype_info(o->tau_dtype[k])->bits / 8u;
        for (int64_t i = 0; i < n; i += STRETCH) {
            const int64_t m = n - i < STRETCH ? n - i : STRETCH;
            ws_to_real(o->tau_dtype[k], tau + (size_t)(at + i) * size, t, (size_t)m);
            axpy(o->lambda[k], t, y + i, m);
        }
    }
}

static bool plain(const ws_weight *w)
{
    return w->dtype == WS_REAL_DT && (w->over == NULL || w->over->n == 0);
}

/** @p n numbers from element @p at of the view. */
static void expand(const ws_weight *w, int64_t at, ws_real *y, int64_t n)
{
    const size_t size = ws_dtype_info(w->dtype)->bits / 8u;

    ws_to_real(w->dtype, w->data + (size_t)at * size, y, (size_t)n);
    if (w->over != NULL && w->over->n > 0)
        terms_add(w->over, w->offset + at, y, n);
}

const ws_real *ws_weight_vector(const ws_weight *w, ws_real *scratch)
{
    if (w->data == NULL)
        return NULL;
    if (plain(w))
        return (const ws_real *)(const void *)w->data;
    expand(w, 0, scratch, w->cols);
    return scratch;
}

void ws_weight_row(const ws_weight *w, int64_t row, ws_real *out)
{
    expand(w, row * w->ld, out, w->cols);
}

void ws_weight_part(const ws_weight *w, int64_t from, int64_t n, ws_real *out)
{
    expand(w, from, out, n);
}

ws_mat ws_weight_block(const ws_weight *w, int64_t r0, int64_t r1, int64_t c0,
                       int64_t c1, ws_real *scratch)
{
    const int64_t s0 = w->transposed ? c0 : r0, s1 = w->transposed ? c1 : r1;
    const int64_t t0 = w->transposed ? r0 : c0, t1 = w->transposed ? r1 : c1;

    if (plain(w)) {
        // a ws_mat serves inputs and outputs; this one is only read
        union {
            const unsigned char *from;
            void *to;
        } data = { .from = w->data + (size_t)(s0 * w->ld + t0) * sizeof(ws_real) };
        return (ws_mat){ WS_REAL_DT, s1 - s0, t1 - t0, w->ld, data.to };
    }
    for (int64_t s = s0; s < s1; s++)
        expand(w, s * w->ld + t0, scratch + (s - s0) * (t1 - t0), t1 - t0);
    return ws_mat_real(scratch, s1 - s0, t1 - t0);
}
