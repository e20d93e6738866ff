/*
 * mat_fixture.h - matrices for the tests of linear algebra, and their residuals
 */
#ifndef WS_MAT_FIXTURE_H
#define WS_MAT_FIXTURE_H

#include "ws_test.h"

#include <float.h>

#include "wsurg/linalg.h"

/** Deterministic entries in -0.5 .. 0.5. */
static inline double fx_entry(int64_t i, int64_t j, unsigned seed)
{
    uint64_t x =
        (uint64_t)i * 0x9e3779b97f4a7c15u + (uint64_t)j * 0xbf58476d1ce4e5b9u + seed;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53 - 0.5;
}

static inline double fx_get(const ws_mat *M, int64_t i, int64_t j)
{
    return M->dtype == WS_DT_F32 ? (double)((const float *)M->data)[i * M->ld + j]
                                 : ((const double *)M->data)[i * M->ld + j];
}

static inline void fx_set(ws_mat *M, int64_t i, int64_t j, double v)
{
    if (M->dtype == WS_DT_F32)
        ((float *)M->data)[i * M->ld + j] = (float)v;
    else
        ((double *)M->data)[i * M->ld + j] = v;
}

/** Zeroed, with @p gap elements after each row; free .data. */
static inline ws_mat fx_new(ws_dtype dtype, int64_t rows, int64_t cols, int64_t gap)
{
    const size_t size = dtype == WS_DT_F32 ? sizeof(float) : sizeof(double);
    void *data = calloc((size_t)(rows * (cols + gap)) + 1, size);
    assert_non_null(data);
    return (ws_mat){ dtype, rows, cols, cols + gap, data };
}

static inline ws_mat fx_random(ws_dtype dtype, int64_t rows, int64_t cols, int64_t gap,
                               unsigned seed)
{
    ws_mat M = fx_new(dtype, rows, cols, gap);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            fx_set(&M, i, j, fx_entry(i, j, seed));
    return M;
}

static inline ws_mat fx_copy(const ws_mat *A)
{
    ws_mat M = fx_new(A->dtype, A->rows, A->cols, 0);
    for (int64_t i = 0; i < A->rows; i++)
        for (int64_t j = 0; j < A->cols; j++)
            fx_set(&M, i, j, fx_get(A, i, j));
    return M;
}

static inline double fx_eps(const ws_mat *A)
{
    return A->dtype == WS_DT_F32 ? (double)FLT_EPSILON : DBL_EPSILON;
}

/** op(A) * op(B) as doubles, in plain loops. */
static inline ws_mat fx_product(bool ta, bool tb, const ws_mat *A, const ws_mat *B)
{
    const int64_t m = ta ? A->cols : A->rows, k = ta ? A->rows : A->cols;
    const int64_t n = tb ? B->rows : B->cols;
    ws_mat C = fx_new(WS_DT_F64, m, n, 0);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (int64_t l = 0; l < k; l++)
                sum += (ta ? fx_get(A, l, i) : fx_get(A, i, l)) *
                       (tb ? fx_get(B, j, l) : fx_get(B, l, j));
            fx_set(&C, i, j, sum);
        }
    return C;
}

/** ||A - B|| in the Frobenius norm; B NULL: ||A||. */
static inline double fx_distance(const ws_mat *A, const ws_mat *B)
{
    double sum = 0.0;
    for (int64_t i = 0; i < A->rows; i++)
        for (int64_t j = 0; j < A->cols; j++) {
            const double x = fx_get(A, i, j) - (B == NULL ? 0.0 : fx_get(B, i, j));
            sum += x * x;
        }
    return sqrt(sum);
}

/** ||Q Q' - I||, with @p columns ||Q' Q - I||. */
static inline double fx_not_orthonormal(const ws_mat *Q, bool columns)
{
    ws_mat G = fx_product(columns, !columns, Q, Q);
    for (int64_t i = 0; i < G.rows; i++)
        fx_set(&G, i, i, fx_get(&G, i, i) - 1.0);
    const double d = fx_distance(&G, NULL);
    free(G.data);
    return d;
}

#endif
