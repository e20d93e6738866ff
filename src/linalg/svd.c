/*
 * svd.c - thin singular value decomposition, and singular values alone
 *
 *   A = U * diag(s) * Vt,  A (m, n), U (m, r), s (r), Vt (r, n), r = min(m, n)
 *
 * LAPACK always gets the tall form, column-major (max(m, n), r): it is the faster one,
 * by a third and more. A wide row-major A is that form as it lies, with U and V in each
 * other's place; a tall one is transposed by the copy that LAPACK needs anyhow.
 *
 * Work sizes come from a query in double for both precisions: the float query returns
 * its answer as a float, which is too small from about r = 2896 on.
 */
#include "linalg/lapack.h"

#include <string.h>

/** One problem in LAPACK's terms: column-major (m, n), m >= n. */
typedef struct problem {
    ws_dtype dtype;
    lapack_int m, n;
    char job;         // of gesdd: 'S', 'O' or 'N'
    size_t elem;      // bytes of one element
    lapack_int lwork; // elements
    size_t bytes;     // of scratch, all parts
} problem;

/** Elements that gesdd must have, by its documentation, for m >= n. */
static int64_t gesdd_least(char job, int64_t m, int64_t n)
{
    const int64_t most = m > 7 * n ? m : 7 * n;
    if (job == 'N')
        return 3 * n + most;
    if (job == 'S')
        return 4 * n * n + 7 * n;
    const int64_t square = 5 * n * n + 4 * n;
    return 3 * n + (m > square ? m : square);
}

static int64_t larger(double a, int64_t b)
{
    return a > (double)b ? (int64_t)a : b;
}

/** Work size in elements that serves gesdd and, where there are vectors, gesvd. */
static bool work_size(char job, lapack_int m, lapack_int n, lapack_int *lwork)
{
    double none = 0.0, want = 0.0;
    lapack_int iwork = 0;
    int64_t size = gesdd_least(job, m, n);
    if (LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, job, m, n, &none, m, &none, &none, m,
                            &none, n, &want, -1, &iwork) == 0)
        size = larger(want, size);
    if (job != 'N') {
        const int64_t least =
            3 * (int64_t)n + m > 5 * (int64_t)n ? 3 * (int64_t)n + m : 5 * (int64_t)n;
        size = size > least ? size : least;
        if (LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, job, 'S', m, n, &none, m, &none,
                                &none, m, &none, n, &want, -1) == 0)
            size = larger(want, size);
    }
    return ws_to_lapack_int(size, lwork);
}

/** Sizes of everything for a row-major (m, n) matrix; false when LAPACK cannot do it.
 */
static bool problem_make(problem *p, ws_dtype dtype, int64_t m, int64_t n, char job)
{
    *p = (problem){ .dtype = dtype, .job = job };
    p->elem = dtype == WS_DT_F32 ? sizeof(float) : sizeof(double);
    if (!ws_to_lapack_int(m > n ? m : n, &p->m) ||
        !ws_to_lapack_int(m > n ? n : m, &p->n))
        return false;
    if (p->n == 0)
        return true;
    ws_blas_pin();
    if (!work_size(job, p->m, p->n, &p->lwork))
        return false;
    const size_t matrix = job == 'N' ? 0 : (size_t)p->m * (size_t)p->n;
    // the copy of A, s, work, iwork (8 n), and the arena's rounding of each
    const size_t elems = matrix + (size_t)p->n + (size_t)p->lwork;
    p->bytes = elems * p->elem + 8 * (size_t)p->n * sizeof(lapack_int) + 4 * (size_t)64;
    return true;
}

size_t ws_svd_scratch(ws_dtype dtype, int64_t m, int64_t n)
{
    problem p;
    return problem_make(&p, dtype, m, n, m > n ? 'O' : 'S') ? p.bytes : SIZE_MAX;
}

size_t ws_singular_values_scratch(ws_dtype dtype, int64_t m, int64_t n)
{
    problem p;
    return problem_make(&p, dtype, m, n, 'N') ? p.bytes : SIZE_MAX;
}

/** Where LAPACK reads and writes. */
typedef struct buffers {
    void *a; // (m, n), destroyed; with job 'O' U comes back in it
    lapack_int lda;
    void *s;      // (n)
    void *u, *vt; // with 'S' (m, n) and (n, n); with 'O' only vt
    lapack_int ldu, ldvt;
    void *work;
    lapack_int *iwork;
} buffers;

static lapack_int call_gesdd(const problem *p, const buffers *b)
{
    if (p->dtype == WS_DT_F32)
        return LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, p->job, p->m, p->n, b->a, b->lda,
                                   b->s, b->u, b->ldu, b->vt, b->ldvt, b->work,
                                   p->lwork, b->iwork);
    return LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, p->job, p->m, p->n, b->a, b->lda, b->s,
                               b->u, b->ldu, b->vt, b->ldvt, b->work, p->lwork,
                               b->iwork);
}

static lapack_int call_gesvd(const problem *p, const buffers *b)
{
    if (p->dtype == WS_DT_F32)
        return LAPACKE_sgesvd_work(LAPACK_COL_MAJOR, p->job, 'S', p->m, p->n, b->a,
                                   b->lda, b->s, b->u, b->ldu, b->vt, b->ldvt, b->work,
                                   p->lwork);
    return LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, p->job, 'S', p->m, p->n, b->a, b->lda,
                               b->s, b->u, b->ldu, b->vt, b->ldvt, b->work, p->lwork);
}

static bool buffers_take(buffers *b, const problem *p, ws_arena *tmp)
{
    if (p->job != 'N') {
        b->a = ws_arena_alloc(tmp, (size_t)p->m * (size_t)p->n * p->elem);
        b->lda = p->m;
        if (b->a == NULL)
            return false;
    }
    b->s = ws_arena_alloc(tmp, (size_t)p->n * p->elem);
    b->work = ws_arena_alloc(tmp, (size_t)p->lwork * p->elem);
    b->iwork = ws_arena_alloc(tmp, 8 * (size_t)p->n * sizeof *b->iwork);
    return b->s != NULL && b->work != NULL && b->iwork != NULL;
}

static void values_out(const problem *p, const void *from, double *s)
{
    for (lapack_int i = 0; i < p->n; i++)
        s[i] = p->dtype == WS_DT_F32 ? (double)((const float *)from)[i]
                                     : ((const double *)from)[i];
}

static ws_status refuse_size(const ws_mat *A, ws_err *err)
{
    return ws_fail(err, WS_E_UNSUPPORTED,
                   "matrix (%lld,%lld) is too large for LAPACK's 32-bit sizes",
                   (long long)A->rows, (long long)A->cols);
}

static ws_status refuse_values(const ws_mat *A, ws_err *err)
{
    return ws_fail(err, WS_E_NOT_FINITE,
                   "matrix (%lld,%lld) holds NaN or infinity, which has no singular "
                   "values",
                   (long long)A->rows, (long long)A->cols);
}

static ws_status refuse_memory(const problem *p, ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY,
                   "no memory for the %zu bytes that singular values of (%lld,%lld) "
                   "need",
                   p->bytes, (long long)p->m, (long long)p->n);
}

static ws_status refuse_info(const ws_mat *A, lapack_int info, ws_err *err)
{
    const ws_status code = info > 0 ? WS_E_NO_CONVERGENCE : WS_E_INTERNAL;
    ws_fail(err, code, "singular values of (%lld,%lld) %s (info %d)",
            (long long)A->rows, (long long)A->cols,
            info > 0 ? "did not converge" : "were asked for wrongly", (int)info);
    if (err != NULL)
        err->sys = (int)info;
    return code;
}

static void transpose_square(ws_mat *M)
{
    for (int64_t i = 0; i < M->rows; i++)
        for (int64_t j = 0; j < i; j++) {
            if (M->dtype == WS_DT_F32) {
                float *a = M->data, t = a[i * M->ld + j];
                a[i * M->ld + j] = a[j * M->ld + i];
                a[j * M->ld + i] = t;
            } else {
                double *a = M->data, t = a[i * M->ld + j];
                a[i * M->ld + j] = a[j * M->ld + i];
                a[j * M->ld + i] = t;
            }
        }
}

/** Have both algorithms, one after the other, on a fresh copy of A. */
static lapack_int decompose(const problem *p, const buffers *b, const ws_mat *A,
                            bool tall)
{
    ws_mat_copy(A, b->a, p->m, tall);
    const lapack_int info = call_gesdd(p, b);
    if (info <= 0)
        return info;
    ws_mat_copy(A, b->a, p->m, tall);
    return call_gesvd(p, b);
}

ws_status ws_svd_thin(const ws_mat *A, ws_mat *U, double *s, ws_mat *Vt, ws_arena *tmp,
                      ws_err *err)
{
    const int64_t m = A->rows, n = A->cols, r = m < n ? m : n;
    const bool tall = m > n;
    if (U->rows != m || U->cols != r || Vt->rows != r || Vt->cols != n ||
        U->dtype != A->dtype || Vt->dtype != A->dtype)
        return ws_fail(err, WS_E_SHAPE,
                       "(%lld,%lld) does not decompose into (%lld,%lld) and "
                       "(%lld,%lld)",
                       (long long)m, (long long)n, (long long)U->rows,
                       (long long)U->cols, (long long)Vt->rows, (long long)Vt->cols);
    problem p;
    buffers b = { 0 };
    if (!problem_make(&p, A->dtype, m, n, tall ? 'O' : 'S') ||
        !ws_to_lapack_int(tall ? Vt->ld : U->ld, &b.ldvt) ||
        !ws_to_lapack_int(tall ? m : Vt->ld, &b.ldu))
        return refuse_size(A, err);
    if (r == 0)
        return WS_OK;
    if (!ws_mat_finite(A))
        return refuse_values(A, err);
    if (!buffers_take(&b, &p, tmp))
        return refuse_memory(&p, err);

    // wide: A' = V * diag(s) * U', column-major, is the same memory as Vt and U here
    b.u = tall ? b.a : Vt->data;
    b.vt = tall ? Vt->data : U->data;
    const lapack_int info = decompose(&p, &b, A, tall);
    if (info != 0)
        return refuse_info(A, info, err);
    if (tall) {
        const ws_mat cols = { A->dtype, n, m, m, b.a };
        ws_mat_copy(&cols, U->data, U->ld, true);
        ws_mat square = { A->dtype, n, n, Vt->ld, Vt->data };
        transpose_square(&square);
    }
    values_out(&p, b.s, s);
    return WS_OK;
}

ws_status ws_singular_values(ws_mat *A, double *s, ws_arena *tmp, ws_err *err)
{
    problem p;
    buffers b = { .a = A->data };
    if (!problem_make(&p, A->dtype, A->rows, A->cols, 'N') ||
        !ws_to_lapack_int(A->ld, &b.lda))
        return refuse_size(A, err);
    if (p.n == 0)
        return WS_OK;
    if (!ws_mat_finite(A))
        return refuse_values(A, err);
    if (!buffers_take(&b, &p, tmp))
        return refuse_memory(&p, err);
    // in place: as it lies, A is column-major (cols, rows); nothing to transpose into
    if (!ws_to_lapack_int(A->cols, &p.m) || !ws_to_lapack_int(A->rows, &p.n))
        return refuse_size(A, err);
    b.ldu = b.ldvt = 1;
    const lapack_int info = call_gesdd(&p, &b);
    if (info != 0)
        return refuse_info(A, info, err);
    p.n = A->rows < A->cols ? (lapack_int)A->rows : (lapack_int)A->cols;
    values_out(&p, b.s, s);
    return WS_OK;
}
