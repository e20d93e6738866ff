/*
 * gemm.c - matrix products, and the pinning of BLAS to one thread
 */
#include "linalg/lapack.h"

#include <pthread.h>

// Only an OpenMP build of OpenBLAS brings this; it keeps its number per thread and
// prefers it to openblas_set_num_threads().
extern void omp_set_num_threads(int n) __attribute__((weak));

static pthread_once_t pin_once = PTHREAD_ONCE_INIT;

static void pin(void)
{
    openblas_set_num_threads(1);
}

void ws_blas_pin(void)
{
    pthread_once(&pin_once, pin);
    if (openblas_get_parallel() == OPENBLAS_OPENMP && omp_set_num_threads != NULL)
        omp_set_num_threads(1);
}

const char *ws_linalg_config(void)
{
    return openblas_get_config();
}

ws_status ws_gemm(bool trans_a, bool trans_b, double alpha, const ws_mat *A,
                  const ws_mat *B, double beta, ws_mat *C, ws_err *err)
{
    const int64_t m = trans_a ? A->cols : A->rows, k = trans_a ? A->rows : A->cols;
    const int64_t n = trans_b ? B->rows : B->cols, kb = trans_b ? B->cols : B->rows;
    if (k != kb || C->rows != m || C->cols != n || A->dtype != C->dtype ||
        B->dtype != C->dtype)
        return ws_fail(
            err, WS_E_SHAPE,
            "product of (%lld,%lld) and (%lld,%lld) does not fit (%lld,%lld)",
            (long long)m, (long long)k, (long long)kb, (long long)n, (long long)C->rows,
            (long long)C->cols);
    lapack_int mi, ni, ki, lda, ldb, ldc;
    if (!ws_to_lapack_int(m, &mi) || !ws_to_lapack_int(n, &ni) ||
        !ws_to_lapack_int(k, &ki) || !ws_to_lapack_int(A->ld, &lda) ||
        !ws_to_lapack_int(B->ld, &ldb) || !ws_to_lapack_int(C->ld, &ldc))
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "product (%lld,%lld,%lld) is too large for BLAS", (long long)m,
                       (long long)n, (long long)k);
    if (m == 0 || n == 0)
        return WS_OK;
    ws_blas_pin();
    const CBLAS_TRANSPOSE ta = trans_a ? CblasTrans : CblasNoTrans;
    const CBLAS_TRANSPOSE tb = trans_b ? CblasTrans : CblasNoTrans;
    // an empty k leaves A or B with ld 0, which BLAS refuses
    lda = lda > 0 ? lda : 1;
    ldb = ldb > 0 ? ldb : 1;
    if (C->dtype == WS_DT_F32)
        cblas_sgemm(CblasRowMajor, ta, tb, mi, ni, ki, (float)alpha, A->data, lda,
                    B->data, ldb, (float)beta, C->data, ldc);
    else
        cblas_dgemm(CblasRowMajor, ta, tb, mi, ni, ki, alpha, A->data, lda, B->data,
                    ldb, beta, C->data, ldc);
    return WS_OK;
}
