/*
 * intruders.c - directions of a tuned matrix that its base did not have
 */
#include "surgery/intruders.h"

#include <math.h>

/** The matrix at hand, V first and W then, and its Gram matrix. */
struct work {
    int64_t m, n, q, k;
    ws_mat X; // (m, n)
    ws_mat G; // (q, q)
    ws_arena tmp;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for singular vectors");
}

void ws_intruders_free(ws_intruders *i)
{
    ws_free(i->s);
    ws_free(i->cosine);
    ws_free(i->U);
    ws_free(i->Vt);
    *i = (ws_intruders){ 0 };
}

uint64_t ws_intruders_bytes(int64_t m, int64_t n, int64_t top)
{
    const uint64_t q = (uint64_t)(m < n ? m : n), sides = (uint64_t)m + (uint64_t)n;
    // X; the Gram matrix, all its eigenvectors, LAPACK's copies; the triplets
    return sizeof(double) * ((uint64_t)m * (uint64_t)n + 4 * q * q + 128 * q +
                             4 * (uint64_t)top * sides);
}

/** Load V or W, its Gram matrix on the smaller side: X X' or X' X. */
static ws_status gram_load(struct work *w, bool tuned, ws_intruders_load *load,
                           void *arg, ws_err *err)
{
    const ws_status st = load(arg, tuned, w->X.data, err);
    return st == WS_OK ? ws_syrk(w->m > w->n, 1.0, &w->X, 0.0, &w->G, err) : st;
}

/** Make every row of @p M unit; its norms to @p s. */
static void rows_unit(ws_mat *M, double *s)
{
    for (int64_t i = 0; i < M->rows; i++) {
        double *row = (double *)M->data + i * M->ld, sum = 0;
        for (int64_t j = 0; j < M->cols; j++)
            sum += row[j] * row[j];
        s[i] = sqrt(sum);
        for (int64_t j = 0; j < M->cols && s[i] > 0; j++)
            row[j] /= s[i];
    }
}

/** The k leading triplets of V: eigenvectors on the smaller side, the others from X. */
static ws_status triplets_make(struct work *w, ws_intruders *out, ws_err *err)
{
    const int64_t k = w->k, q = w->q;
    const bool wide = w->m <= w->n;
    double *values = ws_arena_calloc(&w->tmp, (size_t)k, sizeof *values);
    double *up = ws_arena_calloc(&w->tmp, (size_t)(k * q), sizeof *up); // ascending
    if (values == NULL || up == NULL)
        return no_memory(err);
    ws_mat Z = ws_mat_f64(up, k, q);
    ws_status st = ws_eig_range(&w->G, q - k, q - 1, values, &Z, &w->tmp, NULL, err);
    if (st != WS_OK)
        return st;
    double *near = wide ? out->U : out->Vt, *far = wide ? out->Vt : out->U;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < q; j++)
            near[i * q + j] = up[(k - 1 - i) * q + j];
    const ws_mat N = ws_mat_f64(near, k, q);
    ws_mat F = ws_mat_f64(far, k, wide ? w->n : w->m);
    st = ws_gemm(false, !wide, 1.0, &N, &w->X, 0.0, &F, err); // s v' = u' X
    if (st == WS_OK)
        rows_unit(&F, out->s);
    return st;
}

/** c_k of each triplet against all left singular vectors of the W in X. */
static ws_status cosines_make(struct work *w, ws_intruders *out, ws_err *err)
{
    const int64_t k = w->k, q = w->q, n = w->n;
    const bool wide = w->m <= w->n;
    double *values = ws_arena_calloc(&w->tmp, (size_t)q, sizeof *values);
    double *all = ws_arena_calloc(&w->tmp, (size_t)(q * q), sizeof *all);
    double *along = ws_arena_calloc(&w->tmp, (size_t)(k * n), sizeof *along);
    double *dots = ws_arena_calloc(&w->tmp, (size_t)(k * q), sizeof *dots);
    if (values == NULL || all == NULL || along == NULL || dots == NULL)
        return no_memory(err);
    ws_mat Z = ws_mat_f64(all, q, q), D = ws_mat_f64(dots, k, q);
    const ws_mat U = ws_mat_f64(out->U, k, w->m);
    ws_status st = ws_eig_range(&w->G, 0, q - 1, values, &Z, &w->tmp, NULL, err);
    if (st == WS_OK && wide) // <u, U_W,j>
        st = ws_gemm(false, true, 1.0, &U, &Z, 0.0, &D, err);
    if (st == WS_OK && !wide) { // U_W,j = W z_j / s_j
        ws_mat T = ws_mat_f64(along, k, n);
        st = ws_gemm(false, false, 1.0, &U, &w->X, 0.0, &T, err);
        if (st == WS_OK)
            st = ws_gemm(false, true, 1.0, &T, &Z, 0.0, &D, err);
    }
    const double least = 1e-7 * sqrt(fmax(values[q - 1], 0.0));
    for (int64_t i = 0; i < k && st == WS_OK; i++)
        for (int64_t j = 0; j < q; j++) {
            const double s = sqrt(fmax(values[j], 0.0));
            const double c = fabs(dots[i * q + j]) / (wide ? 1.0 : s);
            if (s > least && c > out->cosine[i])
                out->cosine[i] = c;
        }
    return st;
}

static double norm_of(const ws_mat *X)
{
    double sum = 0;
    for (int64_t i = 0; i < X->rows; i++)
        for (int64_t j = 0; j < X->cols; j++) {
            const double x = ((const double *)X->data)[i * X->ld + j];
            sum += x * x;
        }
    return sqrt(sum);
}

ws_status ws_intruders_find(ws_intruders *out, int64_t m, int64_t n, int64_t top,
                            ws_intruders_load *load, void *arg, ws_err *err)
{
    struct work w = { .m = m, .n = n, .q = m < n ? m : n };
    w.k = top < w.q ? top : w.q;
    w.X = ws_mat_f64(ws_calloc((size_t)(m * n), sizeof(double)), m, n);
    w.G = ws_mat_f64(ws_calloc((size_t)(w.q * w.q), sizeof(double)), w.q, w.q);
    *out = (ws_intruders){ .k = w.k,
                           .s = ws_calloc((size_t)w.k, sizeof(double)),
                           .cosine = ws_calloc((size_t)w.k, sizeof(double)),
                           .U = ws_calloc((size_t)(w.k * m), sizeof(double)),
                           .Vt = ws_calloc((size_t)(w.k * n), sizeof(double)) };
    ws_status st = w.X.data && w.G.data && out->s && out->cosine && out->U && out->Vt
                       ? gram_load(&w, true, load, arg, err)
                       : no_memory(err);
    if (st == WS_OK)
        st = triplets_make(&w, out, err);
    ws_arena_free(&w.tmp);
    w.tmp = (ws_arena){ 0 };
    if (st == WS_OK)
        st = gram_load(&w, false, load, arg, err);
    if (st == WS_OK) {
        out->base_norm = norm_of(&w.X);
        st = cosines_make(&w, out, err);
    }
    ws_arena_free(&w.tmp);
    ws_free(w.X.data);
    ws_free(w.G.data);
    if (st != WS_OK)
        ws_intruders_free(out);
    return st;
}
