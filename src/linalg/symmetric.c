/*
 * symmetric.c - products with symmetric and triangular matrices
 *
 * Row-major: the upper triangle as it lies is BLAS's lower one of the transpose; cblas
 * takes care of that.
 */
#include "linalg/lapack.h"

#include <string.h>

/** Narrow @p n dimensions; leading dimensions of empty matrices become 1. */
static bool narrow(const int64_t *from, lapack_int *to, int n)
{
    for (int i = 0; i < n; i++) {
        if (!ws_to_lapack_int(from[i], &to[i]))
            return false;
        to[i] = to[i] > 0 ? to[i] : 1;
    }
    return true;
}

static ws_status refuse_fit(const char *what, const ws_mat *A, const ws_mat *C,
                            ws_err *err)
{
    return ws_fail(err, WS_E_SHAPE, "%s: (%lld,%lld) does not fit (%lld,%lld)", what,
                   (long long)A->rows, (long long)A->cols, (long long)C->rows,
                   (long long)C->cols);
}

static ws_status refuse_size(const ws_mat *A, ws_err *err)
{
    return ws_fail(err, WS_E_UNSUPPORTED, "matrix (%lld,%lld) is too large for BLAS",
                   (long long)A->rows, (long long)A->cols);
}

ws_status ws_syrk(bool trans, double alpha, const ws_mat *A, double beta, ws_mat *C,
                  ws_err *err)
{
    const int64_t n = trans ? A->cols : A->rows, k = trans ? A->rows : A->cols;
    if (C->rows != n || C->cols != n || A->dtype != C->dtype)
        return refuse_fit("symmetric product", A, C, err);
    const int64_t from[] = { n, A->ld, C->ld };
    lapack_int to[3], ki;
    if (!narrow(from, to, 3) || !ws_to_lapack_int(k, &ki))
        return refuse_size(A, err);
    if (n == 0)
        return WS_OK;
    ws_blas_pin();
    const CBLAS_TRANSPOSE t = trans ? CblasTrans : CblasNoTrans;
    if (C->dtype == WS_DT_F32)
        cblas_ssyrk(CblasRowMajor, CblasUpper, t, to[0], ki, (float)alpha, A->data,
                    to[1], (float)beta, C->data, to[2]);
    else
        cblas_dsyrk(CblasRowMajor, CblasUpper, t, to[0], ki, alpha, A->data, to[1],
                    beta, C->data, to[2]);
    return WS_OK;
}

void ws_mirror_upper(ws_mat *C)
{
    enum { BLOCK = 64 };
    for (int64_t i0 = 0; i0 < C->rows; i0 += BLOCK)
        for (int64_t j0 = 0; j0 <= i0; j0 += BLOCK)
            for (int64_t i = i0; i < i0 + BLOCK && i < C->rows; i++)
                for (int64_t j = j0; j < j0 + BLOCK && j < i; j++) {
                    if (C->dtype == WS_DT_F32)
                        ((float *)C->data)[i * C->ld + j] =
                            ((const float *)C->data)[j * C->ld + i];
                    else
                        ((double *)C->data)[i * C->ld + j] =
                            ((const double *)C->data)[j * C->ld + i];
                }
}

ws_status ws_symm(bool right, double alpha, const ws_mat *S, const ws_mat *B,
                  double beta, ws_mat *C, ws_err *err)
{
    if (B->rows != C->rows || B->cols != C->cols || S->rows != S->cols ||
        S->rows != (right ? B->cols : B->rows) || S->dtype != C->dtype ||
        B->dtype != C->dtype)
        return refuse_fit("product with a symmetric matrix", S, B, err);
    const int64_t from[] = { S->ld, B->ld, C->ld };
    lapack_int to[3], m, n;
    if (!narrow(from, to, 3) || !ws_to_lapack_int(C->rows, &m) ||
        !ws_to_lapack_int(C->cols, &n))
        return refuse_size(B, err);
    if (m == 0 || n == 0)
        return WS_OK;
    ws_blas_pin();
    const CBLAS_SIDE side = right ? CblasRight : CblasLeft;
    if (C->dtype == WS_DT_F32)
        cblas_ssymm(CblasRowMajor, side, CblasUpper, m, n, (float)alpha, S->data, to[0],
                    B->data, to[1], (float)beta, C->data, to[2]);
    else
        cblas_dsymm(CblasRowMajor, side, CblasUpper, m, n, alpha, S->data, to[0],
                    B->data, to[1], beta, C->data, to[2]);
    return WS_OK;
}

ws_status ws_trsm(bool right, bool trans, const ws_mat *R, ws_mat *B, ws_err *err)
{
    if (R->rows != R->cols || R->rows != (right ? B->cols : B->rows) ||
        R->dtype != B->dtype)
        return refuse_fit("triangular solution", R, B, err);
    const int64_t from[] = { R->ld, B->ld };
    lapack_int to[2], m, n;
    if (!narrow(from, to, 2) || !ws_to_lapack_int(B->rows, &m) ||
        !ws_to_lapack_int(B->cols, &n))
        return refuse_size(B, err);
    if (m == 0 || n == 0)
        return WS_OK;
    ws_blas_pin();
    const CBLAS_SIDE side = right ? CblasRight : CblasLeft;
    const CBLAS_TRANSPOSE t = trans ? CblasTrans : CblasNoTrans;
    if (B->dtype == WS_DT_F32)
        cblas_strsm(CblasRowMajor, side, CblasUpper, t, CblasNonUnit, m, n, 1.0f,
                    R->data, to[0], B->data, to[1]);
    else
        cblas_dtrsm(CblasRowMajor, side, CblasUpper, t, CblasNonUnit, m, n, 1.0,
                    R->data, to[0], B->data, to[1]);
    return WS_OK;
}
