/*
 * mat.c - copies, transposes and checks of matrices
 */
#include "linalg/lapack.h"

#include <string.h>

#include "wsurg/export.h"

enum { BLOCK = 32 }; // a block of either type fits the first-level cache

/** Exponent all ones in any of n elements? Without branches, so that it vectorises. */
WS_HOT static bool finite_f32(const float *x, int64_t n)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        bad |= (u & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}

WS_HOT static bool finite_f64(const double *x, int64_t n)
{
    uint64_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t u;
        memcpy(&u, &x[i], sizeof u);
        bad |= (u & 0x7ff0000000000000u) == 0x7ff0000000000000u;
    }
    return bad == 0;
}

bool ws_mat_finite(const ws_mat *A)
{
    for (int64_t i = 0; i < A->rows; i++) {
        const bool ok = A->dtype == WS_DT_F32
                            ? finite_f32((const float *)A->data + i * A->ld, A->cols)
                            : finite_f64((const double *)A->data + i * A->ld, A->cols);
        if (!ok)
            return false;
    }
    return true;
}

#define DEFINE_TRANSPOSE(name, type)                                                   \
    static void name(const type *a, int64_t rows, int64_t cols, int64_t lda,           \
                     type *dst, int64_t ldd)                                           \
    {                                                                                  \
        for (int64_t i0 = 0; i0 < rows; i0 += BLOCK)                                   \
            for (int64_t j0 = 0; j0 < cols; j0 += BLOCK) {                             \
                const int64_t i1 = i0 + BLOCK < rows ? i0 + BLOCK : rows;              \
                const int64_t j1 = j0 + BLOCK < cols ? j0 + BLOCK : cols;              \
                for (int64_t j = j0; j < j1; j++)                                      \
                    for (int64_t i = i0; i < i1; i++)                                  \
                        dst[j * ldd + i] = a[i * lda + j];                             \
            }                                                                          \
    }
DEFINE_TRANSPOSE(transpose_f32, float)
DEFINE_TRANSPOSE(transpose_f64, double)

void ws_mat_copy(const ws_mat *A, void *dst, int64_t ld, bool transposed)
{
    if (transposed && A->dtype == WS_DT_F32) {
        transpose_f32(A->data, A->rows, A->cols, A->ld, dst, ld);
        return;
    }
    if (transposed) {
        transpose_f64(A->data, A->rows, A->cols, A->ld, dst, ld);
        return;
    }
    const size_t size = A->dtype == WS_DT_F32 ? sizeof(float) : sizeof(double);
    for (int64_t i = 0; i < A->rows; i++)
        memcpy((char *)dst + (size_t)(i * ld) * size,
               (const char *)A->data + (size_t)(i * A->ld) * size,
               (size_t)A->cols * size);
}
