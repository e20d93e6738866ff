/*
 * eig.c - symmetric eigenproblems by index range
 *
 *   S z = w z,  S (n, n), rows of Z (k, n) orthonormal
 *
 * LAPACK's column-major (n, k) eigenvectors are the rows here. syevr first (MRRR); it
 * has been seen to fail on clusters, and its vectors are checked, so syevx (bisection
 * and inverse iteration) and syevd (divide and conquer, all of them) stand behind it.
 * Work sizes are LAPACK's documented ones, as integers: the float queries return floats
 * that are too small from about n = 2896 on.
 */
#include "linalg/lapack.h"

#include <float.h>
#include <math.h>
#include <string.h>

/** One problem. */
typedef struct eig {
    const ws_mat *S;
    ws_mat copy; // (n, n) without gaps: destroyed by each attempt
    bool is_float;
    lapack_int n, first, last; // 1-based, inclusive
    void *w, *z;               // (n) and (n, k) column-major, in the matrix's type
    void *work;
    lapack_int *iwork, *fail;
    lapack_int lwork, liwork;
    ws_arena *tmp;
} eig;

static size_t elem_of(const eig *e)
{
    return e->is_float ? sizeof(float) : sizeof(double);
}

/** Own sizes, for all of syevr and syevx with blocks of up to 64. */
static bool take(eig *e)
{
    const int64_t n = e->n, k = (int64_t)e->last - e->first + 1;
    const size_t size = elem_of(e);
    size_t whole, part;
    if (!ws_mul_size((size_t)n, (size_t)n * size, &whole) ||
        !ws_mul_size((size_t)n, (size_t)k * size, &part) ||
        !ws_to_lapack_int(n * (64 + 6) > 26 * n ? n * (64 + 6) : 26 * n, &e->lwork) ||
        !ws_to_lapack_int(10 * n, &e->liwork))
        return false;
    e->copy = (ws_mat){ e->S->dtype, n, n, n, ws_arena_alloc(e->tmp, whole) };
    e->w = ws_arena_alloc(e->tmp, (size_t)n * size);
    e->z = ws_arena_alloc(e->tmp, part);
    e->work = ws_arena_alloc(e->tmp, (size_t)e->lwork * size);
    e->iwork = ws_arena_alloc(e->tmp, (size_t)e->liwork * sizeof *e->iwork);
    e->fail = ws_arena_alloc(e->tmp, 2 * (size_t)n * sizeof *e->fail);
    return e->copy.data && e->w && e->z && e->work && e->iwork && e->fail;
}

static lapack_int by_syevr(eig *e, lapack_int *found)
{
    const lapack_int n = e->n;
    if (e->is_float)
        return LAPACKE_ssyevr_work(LAPACK_COL_MAJOR, 'V', 'I', 'L', n, e->copy.data, n,
                                   0.0f, 0.0f, e->first, e->last, 0.0f, found, e->w,
                                   e->z, n, e->fail, e->work, e->lwork, e->iwork,
                                   e->liwork);
    return LAPACKE_dsyevr_work(LAPACK_COL_MAJOR, 'V', 'I', 'L', n, e->copy.data, n, 0.0,
                               0.0, e->first, e->last, 0.0, found, e->w, e->z, n,
                               e->fail, e->work, e->lwork, e->iwork, e->liwork);
}

static lapack_int by_syevx(eig *e, lapack_int *found)
{
    const lapack_int n = e->n;
    if (e->is_float)
        return LAPACKE_ssyevx_work(LAPACK_COL_MAJOR, 'V', 'I', 'L', n, e->copy.data, n,
                                   0.0f, 0.0f, e->first, e->last, 2.0f * FLT_MIN, found,
                                   e->w, e->z, n, e->work, e->lwork, e->iwork, e->fail);
    return LAPACKE_dsyevx_work(LAPACK_COL_MAJOR, 'V', 'I', 'L', n, e->copy.data, n, 0.0,
                               0.0, e->first, e->last, 2.0 * DBL_MIN, found, e->w, e->z,
                               n, e->work, e->lwork, e->iwork, e->fail);
}

/** All eigenpairs; those wanted are moved to the front. */
static lapack_int by_syevd(eig *e, lapack_int *found)
{
    const int64_t n = e->n;
    lapack_int lwork, liwork;
    if (!ws_to_lapack_int(1 + 6 * n + 2 * n * n, &lwork) ||
        !ws_to_lapack_int(3 + 5 * n, &liwork))
        return -1;
    void *work = ws_arena_alloc(e->tmp, (size_t)lwork * elem_of(e));
    if (work == NULL)
        return LAPACK_WORK_MEMORY_ERROR;
    const lapack_int info =
        e->is_float
            ? LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, 'V', 'L', e->n, e->copy.data, e->n,
                                  e->w, work, lwork, e->iwork, liwork)
            : LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', e->n, e->copy.data, e->n,
                                  e->w, work, lwork, e->iwork, liwork);
    const size_t size = elem_of(e);
    const size_t skip = (size_t)e->first - 1, k = (size_t)(e->last - e->first) + 1;
    if (info != 0)
        return info;
    memmove(e->w, (char *)e->w + skip * size, k * size);
    memcpy(e->z, (char *)e->copy.data + skip * (size_t)n * size, k * (size_t)n * size);
    *found = (lapack_int)k;
    return 0;
}

/** Whether what came back is whole, finite and orthonormal to its precision. */
static bool sound(const eig *e, lapack_int found)
{
    const int64_t n = e->n, k = (int64_t)e->last - e->first + 1;
    const ws_mat Z = { e->S->dtype, k, n, n, e->z };
    if (found != k || !ws_mat_finite(&Z))
        return false;
    // neighbours are where orthogonality goes: the Gram band of width one
    const double limit =
        64.0 * (double)n * (e->is_float ? (double)FLT_EPSILON : DBL_EPSILON);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = i; j < k && j <= i + 1; j++) {
            double dot = i == j ? -1.0 : 0.0;
            for (int64_t l = 0; l < n; l++)
                dot += e->is_float ? (double)((const float *)e->z)[i * n + l] *
                                         (double)((const float *)e->z)[j * n + l]
                                   : ((const double *)e->z)[i * n + l] *
                                         ((const double *)e->z)[j * n + l];
            if (!(fabs(dot) <= limit))
                return false;
        }
    return true;
}

static ws_status attempts(eig *e, ws_ladder *step, ws_err *err)
{
    static lapack_int (*const by[])(eig *, lapack_int *) = { by_syevr, by_syevx,
                                                             by_syevd };
    lapack_int info = 0, found = 0;
    for (int i = 0; i < 3; i++) {
        ws_mat_copy(e->S, e->copy.data, e->n, false);
        found = 0;
        info = by[i](e, &found);
        if (info == LAPACK_WORK_MEMORY_ERROR)
            return ws_fail(err, WS_E_MEMORY, "no memory for eigenvalues of order %d",
                           (int)e->n);
        if (info == 0 && sound(e, found)) {
            *step = (ws_ladder)i;
            return WS_OK;
        }
    }
    ws_fail(err, WS_E_NO_CONVERGENCE,
            "eigenvalues of order %d did not converge "
            "(info %d)",
            (int)e->n, (int)info);
    if (err != NULL)
        err->sys = (int)info;
    return WS_E_NO_CONVERGENCE;
}

static bool upper_finite(const ws_mat *S)
{
    const size_t size = S->dtype == WS_DT_F32 ? sizeof(float) : sizeof(double);
    for (int64_t i = 0; i < S->rows; i++) {
        char *row = (char *)S->data + (size_t)(i * S->ld + i) * size;
        const ws_mat part = { S->dtype, 1, S->cols - i, S->cols - i, row };
        if (!ws_mat_finite(&part))
            return false;
    }
    return true;
}

ws_status ws_eig_range(ws_mat *S, int64_t first, int64_t last, double *w, ws_mat *Z,
                       ws_arena *tmp, ws_ladder *step, ws_err *err)
{
    const int64_t n = S->rows, k = last - first + 1;
    eig e = { .S = S, .is_float = S->dtype == WS_DT_F32, .tmp = tmp };
    ws_ladder rung = WS_BY_FIRST;
    if (S->cols != n || first < 0 || last >= n || k < 1 || Z->rows != k ||
        Z->cols != n || Z->dtype != S->dtype)
        return ws_fail(err, WS_E_SHAPE,
                       "eigenvectors %lld to %lld of (%lld,%lld) into (%lld,%lld)",
                       (long long)first, (long long)last, (long long)n,
                       (long long)S->cols, (long long)Z->rows, (long long)Z->cols);
    if (!ws_to_lapack_int(n, &e.n) || !ws_to_lapack_int(first + 1, &e.first) ||
        !ws_to_lapack_int(last + 1, &e.last) || n * (64 + 6) > INT32_MAX)
        return ws_fail(err, WS_E_UNSUPPORTED, "order %lld is too large for LAPACK",
                       (long long)n);
    if (!upper_finite(S))
        return ws_fail(err, WS_E_NOT_FINITE,
                       "matrix of order %lld holds NaN or "
                       "infinity",
                       (long long)n);
    if (!take(&e))
        return ws_fail(err, WS_E_MEMORY, "no memory for eigenvalues of order %lld",
                       (long long)n);
    ws_blas_pin();
    const ws_status st = attempts(&e, &rung, err);
    if (st != WS_OK)
        return st;
    const ws_mat rows = { S->dtype, k, n, n, e.z };
    ws_mat_copy(&rows, Z->data, Z->ld, false);
    for (int64_t i = 0; i < k; i++)
        w[i] = e.is_float ? (double)((const float *)e.w)[i] : ((const double *)e.w)[i];
    if (step != NULL)
        *step = rung;
    return WS_OK;
}
