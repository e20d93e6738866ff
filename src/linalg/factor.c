/*
 * factor.c - QR, LQ, Cholesky and LU
 *
 * LAPACK sees every row-major matrix as its transpose: A = Q * R here is A' = R' * Q'
 * there, an LQ. So nothing is ever transposed. Work sizes come from queries in double
 * for both precisions.
 */
#include "linalg/lapack.h"

#include <string.h>

static ws_status refuse_size(const ws_mat *A, ws_err *err)
{
    return ws_fail(err, WS_E_UNSUPPORTED,
                   "matrix (%lld,%lld) is too large for LAPACK's 32-bit sizes",
                   (long long)A->rows, (long long)A->cols);
}

static ws_status refuse_values(const ws_mat *A, ws_err *err)
{
    return ws_fail(err, WS_E_NOT_FINITE, "matrix (%lld,%lld) holds NaN or infinity",
                   (long long)A->rows, (long long)A->cols);
}

static ws_status refuse_memory(const ws_mat *A, ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to factor (%lld,%lld)",
                   (long long)A->rows, (long long)A->cols);
}

static size_t elem_of(const ws_mat *A)
{
    return A->dtype == WS_DT_F32 ? sizeof(float) : sizeof(double);
}

/** One orthogonal factorisation in LAPACK's terms: column-major (m, n). */
typedef struct ortho {
    bool wide;        // A is wide: an LQ, LAPACK's QR
    bool is_float;    // precision
    lapack_int m, n;  // of the transpose
    lapack_int ld;    // of both
    lapack_int lwork; // elements
    lapack_int k;     // reflectors
    void *a, *tau, *work;
} ortho;

static lapack_int call_factor(const ortho *o, void *work, lapack_int lwork)
{
    if (o->is_float)
        return o->wide ? LAPACKE_sgeqrf_work(LAPACK_COL_MAJOR, o->m, o->n, o->a, o->ld,
                                             o->tau, work, lwork)
                       : LAPACKE_sgelqf_work(LAPACK_COL_MAJOR, o->m, o->n, o->a, o->ld,
                                             o->tau, work, lwork);
    return o->wide ? LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, o->m, o->n, o->a, o->ld,
                                         o->tau, work, lwork)
                   : LAPACKE_dgelqf_work(LAPACK_COL_MAJOR, o->m, o->n, o->a, o->ld,
                                         o->tau, work, lwork);
}

static lapack_int call_make_q(const ortho *o, void *work, lapack_int lwork)
{
    if (o->is_float)
        return o->wide ? LAPACKE_sorgqr_work(LAPACK_COL_MAJOR, o->m, o->n, o->k, o->a,
                                             o->ld, o->tau, work, lwork)
                       : LAPACKE_sorglq_work(LAPACK_COL_MAJOR, o->m, o->n, o->k, o->a,
                                             o->ld, o->tau, work, lwork);
    return o->wide ? LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, o->m, o->n, o->k, o->a,
                                         o->ld, o->tau, work, lwork)
                   : LAPACKE_dorglq_work(LAPACK_COL_MAJOR, o->m, o->n, o->k, o->a,
                                         o->ld, o->tau, work, lwork);
}

/** Sizes and scratch. */
static ws_status ortho_make(ortho *o, ws_mat *A, bool wide, ws_arena *tmp, ws_err *err)
{
    *o = (ortho){ .wide = wide, .is_float = A->dtype == WS_DT_F32, .a = A->data };
    if (wide ? A->rows > A->cols : A->rows < A->cols)
        return ws_fail(err, WS_E_SHAPE, "(%lld,%lld) is not %s", (long long)A->rows,
                       (long long)A->cols, wide ? "wide" : "tall");
    if (!ws_to_lapack_int(A->cols, &o->m) || !ws_to_lapack_int(A->rows, &o->n) ||
        !ws_to_lapack_int(A->ld, &o->ld))
        return refuse_size(A, err);
    o->k = wide ? o->n : o->m;
    if (o->k == 0)
        return WS_OK;
    if (!ws_mat_finite(A))
        return refuse_values(A, err);
    ortho q = *o;
    double want[2] = { 0.0, 0.0 }, none = 0.0;
    q.is_float = false;
    q.a = q.tau = &none; // a query reads neither
    call_factor(&q, &want[0], -1);
    call_make_q(&q, &want[1], -1);
    double most = want[0] > want[1] ? want[0] : want[1];
    most = most > 64.0 * o->k ? most : 64.0 * o->k;
    if (most > 2147483647.0)
        return refuse_size(A, err);
    o->lwork = (lapack_int)most;
    o->tau = ws_arena_alloc(tmp, (size_t)o->k * elem_of(A));
    o->work = ws_arena_alloc(tmp, (size_t)o->lwork * elem_of(A));
    return o->tau == NULL || o->work == NULL ? refuse_memory(A, err) : WS_OK;
}

/** Copy the triangle that the factorisation left in A; zero the other half. */
static void copy_triangle(const ws_mat *A, ws_mat *T, bool lower)
{
    const size_t size = elem_of(A);
    for (int64_t i = 0; i < T->rows; i++) {
        char *row = (char *)T->data + (size_t)(i * T->ld) * size;
        const char *from = (const char *)A->data + (size_t)(i * A->ld) * size;
        const int64_t first = lower ? 0 : i, n = lower ? i + 1 : T->cols - i;
        memset(row, 0, (size_t)T->cols * size);
        memcpy(row + (size_t)first * size, from + (size_t)first * size,
               (size_t)n * size);
    }
}

static ws_status orthogonalise(ws_mat *A, ws_mat *T, bool wide, ws_arena *tmp,
                               ws_err *err)
{
    ortho o;
    const int64_t k = wide ? A->rows : A->cols;
    if (T != NULL && (T->rows != k || T->cols != k || T->dtype != A->dtype))
        return ws_fail(err, WS_E_SHAPE, "a triangle of (%lld,%lld) is not (%lld,%lld)",
                       (long long)A->rows, (long long)A->cols, (long long)T->rows,
                       (long long)T->cols);
    const ws_status st = ortho_make(&o, A, wide, tmp, err);
    if (st != WS_OK || o.k == 0)
        return st;
    ws_blas_pin();
    lapack_int info = call_factor(&o, o.work, o.lwork);
    if (info == 0 && T != NULL)
        copy_triangle(A, T, wide);
    if (info == 0)
        info = call_make_q(&o, o.work, o.lwork);
    return info == 0 ? WS_OK
                     : ws_fail(err, WS_E_INTERNAL, "QR was asked for wrongly (info %d)",
                               (int)info);
}

ws_status ws_qr(ws_mat *A, ws_mat *R, ws_arena *tmp, ws_err *err)
{
    return orthogonalise(A, R, false, tmp, err);
}

ws_status ws_lq(ws_mat *A, ws_mat *L, ws_arena *tmp, ws_err *err)
{
    return orthogonalise(A, L, true, tmp, err);
}

ws_status ws_qr_r(ws_mat *A, ws_arena *tmp, ws_err *err)
{
    ortho o;
    const ws_status st = ortho_make(&o, A, false, tmp, err);
    if (st != WS_OK || o.k == 0)
        return st;
    ws_blas_pin();
    const lapack_int info = call_factor(&o, o.work, o.lwork);
    return info == 0 ? WS_OK
                     : ws_fail(err, WS_E_INTERNAL, "QR was asked for wrongly (info %d)",
                               (int)info);
}

ws_status ws_cholesky(ws_mat *S, ws_err *err)
{
    lapack_int n, ld;
    if (S->rows != S->cols)
        return ws_fail(err, WS_E_SHAPE, "(%lld,%lld) is not square", (long long)S->rows,
                       (long long)S->cols);
    if (!ws_to_lapack_int(S->rows, &n) || !ws_to_lapack_int(S->ld, &ld))
        return refuse_size(S, err);
    if (n == 0)
        return WS_OK;
    ws_blas_pin();
    const lapack_int info =
        S->dtype == WS_DT_F32
            ? LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', n, S->data, ld)
            : LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', n, S->data, ld);
    if (info == 0)
        return WS_OK;
    ws_fail(err, info > 0 ? WS_E_NO_CONVERGENCE : WS_E_INTERNAL,
            "matrix (%lld,%lld) is not positive definite (row %d)", (long long)S->rows,
            (long long)S->cols, (int)info);
    if (err != NULL)
        err->sys = (int)info;
    return info > 0 ? WS_E_NO_CONVERGENCE : WS_E_INTERNAL;
}

ws_status ws_lu_factor(ws_lu *out, ws_mat *A, ws_arena *tmp, ws_err *err)
{
    lapack_int n, ld;
    if (A->rows != A->cols)
        return ws_fail(err, WS_E_SHAPE, "(%lld,%lld) is not square", (long long)A->rows,
                       (long long)A->cols);
    if (!ws_to_lapack_int(A->rows, &n) || !ws_to_lapack_int(A->ld, &ld))
        return refuse_size(A, err);
    *out = (ws_lu){ .A = *A };
    if (n == 0)
        return WS_OK;
    if (!ws_mat_finite(A))
        return refuse_values(A, err);
    out->pivot = ws_arena_alloc(tmp, (size_t)n * sizeof *out->pivot);
    if (out->pivot == NULL)
        return refuse_memory(A, err);
    ws_blas_pin();
    const lapack_int info =
        A->dtype == WS_DT_F32
            ? LAPACKE_sgetrf_work(LAPACK_COL_MAJOR, n, n, A->data, ld, out->pivot)
            : LAPACKE_dgetrf_work(LAPACK_COL_MAJOR, n, n, A->data, ld, out->pivot);
    if (info == 0)
        return WS_OK;
    ws_fail(err, info > 0 ? WS_E_NO_CONVERGENCE : WS_E_INTERNAL,
            "matrix (%lld,%lld) is singular (row %d)", (long long)A->rows,
            (long long)A->cols, (int)info);
    if (err != NULL)
        err->sys = (int)info;
    return info > 0 ? WS_E_NO_CONVERGENCE : WS_E_INTERNAL;
}

ws_status ws_lu_solve_rows(const ws_lu *lu, bool trans, ws_mat *X, ws_err *err)
{
    lapack_int n, ld, k, ldx;
    if (X->cols != lu->A.rows || X->dtype != lu->A.dtype)
        return ws_fail(err, WS_E_SHAPE, "rows of %lld do not fit a matrix of %lld",
                       (long long)X->cols, (long long)lu->A.rows);
    if (!ws_to_lapack_int(lu->A.rows, &n) || !ws_to_lapack_int(lu->A.ld, &ld) ||
        !ws_to_lapack_int(X->rows, &k) || !ws_to_lapack_int(X->ld, &ldx))
        return refuse_size(X, err);
    if (n == 0 || k == 0)
        return WS_OK;
    ws_blas_pin();
    // what was factored is A', and rows are LAPACK's columns
    const char op = trans ? 'N' : 'T';
    const lapack_int info =
        X->dtype == WS_DT_F32
            ? LAPACKE_sgetrs_work(LAPACK_COL_MAJOR, op, n, k, lu->A.data, ld, lu->pivot,
                                  X->data, ldx)
            : LAPACKE_dgetrs_work(LAPACK_COL_MAJOR, op, n, k, lu->A.data, ld, lu->pivot,
                                  X->data, ldx);
    return info == 0 ? WS_OK
                     : ws_fail(err, WS_E_INTERNAL,
                               "a solution was asked for wrongly "
                               "(info %d)",
                               (int)info);
}
