/*
 * cov_collect.c - X'X of every linear's input, in float per sample, summed in double
 *
 *   X of one sample (t, n);  P = X'X in panels of rows, float;  sum += P, double
 *
 * Panels are a fixed cut of the triangle, so the bits do not depend on threads.
 */
#include "surgery/cov_collect.h"

#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "wsurg/linalg.h"

int ws_cov_slot(const ws_model *m, int64_t layer, ws_linear_kind kind)
{
    switch (kind) {
    case WS_LINEAR_Q:
        return 0;
    case WS_LINEAR_O:
        return 1;
    case WS_LINEAR_GATE:
        return 2;
    case WS_LINEAR_UP:
        return m->layer[layer].gate.data == NULL ? 2 : -1;
    case WS_LINEAR_DOWN:
        return 3;
    default:
        return -1; // k and v have q's input; the head is not decomposed
    }
}

int64_t ws_cov_order(const ws_model *m, int64_t layer, int slot)
{
    const ws_layer *l = &m->layer[layer];
    const ws_weight *const w[] = { &l->q, &l->o,
                                   l->gate.data != NULL ? &l->gate : &l->up, &l->down };
    return w[slot]->data == NULL ? 0 : w[slot]->cols;
}

/** One product on all threads. */
struct product {
    const float *X;
    int64_t t, n;
    double *sum;
    float *panels;
    ws_status status[64];
};

static void panel(void *arg, size_t i, int thread)
{
    struct product *p = arg;
    const int64_t first = (int64_t)i * WS_COV_PANEL;
    const int64_t rows = p->n - first < WS_COV_PANEL ? p->n - first : WS_COV_PANEL;
    const int64_t cols = p->n - first;
    float *out = p->panels + (int64_t)thread * WS_COV_PANEL * p->n;
    // X is only read; the matrix type has no const
    union {
        const float *in;
        float *out;
    } x = { p->X + first };
    const ws_mat A = { WS_DT_F32, p->t, rows, p->n, x.out };
    const ws_mat B = { WS_DT_F32, p->t, cols, p->n, x.out };
    ws_mat C = ws_mat_f32(out, rows, cols);
    const ws_status st = ws_gemm(true, false, 1.0, &A, &B, 0.0, &C, NULL);
    if (st != WS_OK)
        p->status[thread] = st;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = first + r; // its triangle begins after those above it
        double *sum = p->sum + row * p->n - row * (row - 1) / 2;
        for (int64_t c = r; c < cols; c++)
            sum[c - r] += (double)out[r * cols + c];
    }
}

/** |max X|: the largest signed entry, its magnitude; false when X is not finite. */
static bool largest(const float *X, int64_t n, double *out)
{
    float most = X[0], sum = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        most = X[i] > most ? X[i] : most;
        sum += X[i] - X[i]; // NaN as soon as one entry is not finite
    }
    *out = fabs((double)most);
    return sum == 0.0f;
}

ws_status ws_cov_add(ws_pool *pool, ws_normalise normalise, const ws_real *X, int64_t t,
                     int64_t n, float *scaled, float *panels, double *sum, ws_err *err)
{
    double most;
    if (!largest(X, t * n, &most))
        return ws_fail(err, WS_E_NOT_FINITE,
                       "the input of this linear holds NaN or infinity");
    const float inv =
        normalise == WS_NORMALISE_NONE || !(most > 0.0) ? 1.0f : (float)(1.0 / most);
    for (int64_t i = 0; i < t * n; i++)
        scaled[i] = X[i] * inv;
    struct product all = { scaled, t, n, sum, panels, { 0 } };
    ws_pool_for(pool, (size_t)((n + WS_COV_PANEL - 1) / WS_COV_PANEL), panel, &all);
    for (int i = 0; i < ws_pool_size(pool); i++)
        if (all.status[i] != WS_OK)
            return ws_fail(err, all.status[i], "a product of (%lld,%lld) failed",
                           (long long)t, (long long)n);
    return WS_OK;
}

static ws_status input(void *arg, int64_t layer, ws_linear_kind kind,
                       const ws_weight *w, const ws_real *X, int64_t n, ws_err *err)
{
    ws_cov_pass *p = arg;
    if (layer < p->first)
        return WS_OK;
    if (layer > p->last) // all that this pass is for has been seen
        return ws_fail(err, WS_E_INTERRUPTED, "enough");
    const int slot = ws_cov_slot(p->model, layer, kind);
    if (slot < 0)
        return WS_OK;
    const ws_cov_sum *s = &p->sums[(layer - p->first) * WS_COV_SLOTS + slot];
    const ws_status st = ws_cov_add(ws_fwd_pool(p->fwd), p->normalise, X, n, s->n,
                                    p->scaled, p->panels, s->sum, err);
    return st == WS_OK ? st : (ws_err_at(err, NULL, w->name, -1), st);
}

ws_status ws_cov_sample(ws_cov_pass *p, const int32_t *tokens, int64_t n, ws_err *err)
{
    const ws_linear_hook hook = { input, p };
    const ws_span span = { .n = n };
    const ws_real *rows;
    ws_err own = WS_ERR_INIT;
    const ws_status st = ws_fwd_run(p->fwd, tokens, &span, 1, &hook, &rows, &own);
    if (st == WS_E_INTERRUPTED && strcmp(own.msg, "enough") == 0)
        return WS_OK;
    if (st != WS_OK && err != NULL)
        *err = own;
    return st;
}
