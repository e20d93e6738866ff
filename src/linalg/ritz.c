/*
 * ritz.c - Rayleigh-Ritz for singular vectors
 *
 *   P = U T (k, n),  P = X diag(s) Y,  U <- X' U,  P <- diag(s) Y
 */
#include "linalg/lapack.h"

#include <string.h>

ws_status ws_rayleigh_ritz(ws_mat *U, ws_mat *P, double *s, ws_arena *tmp, ws_err *err)
{
    const int64_t k = U->rows, m = U->cols, n = P->cols;
    if (P->rows != k || n < k || P->dtype != U->dtype)
        return ws_fail(err, WS_E_SHAPE, "(%lld,%lld) and (%lld,%lld) are no pair",
                       (long long)k, (long long)m, (long long)P->rows, (long long)n);
    const size_t size = U->dtype == WS_DT_F32 ? sizeof(float) : sizeof(double);
    ws_mat X = { U->dtype, k, k, k, ws_arena_alloc(tmp, (size_t)(k * k) * size) };
    ws_mat Y = { U->dtype, k, n, n, ws_arena_alloc(tmp, (size_t)(k * n) * size) };
    ws_mat V = { U->dtype, k, m, m, ws_arena_alloc(tmp, (size_t)(k * m) * size) };
    if (X.data == NULL || Y.data == NULL || V.data == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for Rayleigh-Ritz");
    ws_status st = ws_svd_thin(P, &X, s, &Y, tmp, err);
    if (st == WS_OK)
        st = ws_gemm(true, false, 1.0, &X, U, 0.0, &V, err);
    if (st != WS_OK)
        return st;
    ws_mat_copy(&V, U->data, U->ld, false);
    ws_mat_copy(&Y, P->data, P->ld, false);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++) {
            if (P->dtype == WS_DT_F32)
                ((float *)P->data)[i * P->ld + j] *= (float)s[i];
            else
                ((double *)P->data)[i * P->ld + j] *= s[i];
        }
    return WS_OK;
}
