/*
 * linalg.h - dense linear algebra: matrix products and singular values
 *
 * Matrices are row-major: element (i, j) is data[i * ld + j]. The library calls BLAS
 * and LAPACK with one thread each, so that results do not depend on the number of
 * threads; the caller spreads whole matrices over the pool. Results may differ in the
 * last bits between kinds of CPU.
 */
#ifndef WSURG_LINALG_H
#define WSURG_LINALG_H

#include "wsurg/alloc.h"
#include "wsurg/dtype.h"
#include "wsurg/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A matrix in somebody else's memory. */
typedef struct ws_mat {
    ws_dtype dtype; /**< WS_DT_F32 or WS_DT_F64: the arithmetic, too */
    int64_t rows, cols;
    int64_t ld; /**< elements from one row to the next, >= cols */
    void *data; /**< aligned for its type */
} ws_mat;

/** A (rows, cols) matrix of floats without gaps. */
static inline ws_mat ws_mat_f32(float *data, int64_t rows, int64_t cols)
{
    return (ws_mat){ WS_DT_F32, rows, cols, cols, data };
}

/** As ws_mat_f32(), of doubles. */
static inline ws_mat ws_mat_f64(double *data, int64_t rows, int64_t cols)
{
    return (ws_mat){ WS_DT_F64, rows, cols, cols, data };
}

/** BLAS's own description of itself: version, CPU kind, largest number of threads.
 * Static. */
WS_API const char *ws_linalg_config(void);

/**
 * Matrix product C = alpha * op(A) * op(B) + beta * C, op(X) = X or its transpose.
 *
 * @param trans_a,trans_b whether op transposes
 * @param A     op(A) is (m, k)
 * @param B     op(B) is (k, n)
 * @param C     (m, n); must not overlap A or B. Not read when beta is 0
 * @pre         one dtype for all three
 * @return      WS_OK; WS_E_SHAPE the shapes do not fit; WS_E_UNSUPPORTED a side of 2^31
 *              or more
 * @source      BLAS sgemm, dgemm
 */
WS_API ws_status ws_gemm(bool trans_a, bool trans_b, double alpha, const ws_mat *A,
                         const ws_mat *B, double beta, ws_mat *C, ws_err *err);

/** Bytes that ws_svd_thin() takes from its arena for an (m, n) matrix; SIZE_MAX when
 * LAPACK cannot do it. */
WS_API size_t ws_svd_scratch(ws_dtype dtype, int64_t m, int64_t n);

/**
 * Thin singular value decomposition A = U * diag(s) * Vt, r = min(m, n).
 *
 * @param A    (m, n); unchanged
 * @param U    (m, r) out, orthonormal columns
 * @param s    (r) out, descending, >= 0, the unit of A
 * @param Vt   (r, n) out, orthonormal rows
 * @param tmp  scratch, ws_svd_scratch(A->dtype, m, n) bytes; the caller frees the arena
 * @pre        one dtype for all three; A overlaps neither U nor Vt
 * @return     WS_OK; WS_E_SHAPE the shapes do not fit; WS_E_NOT_FINITE A holds NaN or
 *             infinity; WS_E_MEMORY; WS_E_NO_CONVERGENCE (err->sys is LAPACK's info);
 *             WS_E_UNSUPPORTED too large for LAPACK's 32-bit sizes
 * @source     LAPACK gesdd, and gesvd where that does not converge. The signs of paired
 *             columns of U and rows of Vt are not fixed.
 */
WS_API ws_status ws_svd_thin(const ws_mat *A, ws_mat *U, double *s, ws_mat *Vt,
                             ws_arena *tmp, ws_err *err);

/** Bytes that ws_singular_values() takes from its arena; SIZE_MAX when LAPACK cannot do
 * it. */
WS_API size_t ws_singular_values_scratch(ws_dtype dtype, int64_t m, int64_t n);

/**
 * Singular values alone, cheaper than ws_svd_thin().
 *
 * @param A    (m, n); overwritten
 * @param s    (min(m, n)) out, descending, >= 0, the unit of A
 * @param tmp  scratch, ws_singular_values_scratch(A->dtype, m, n) bytes
 * @return     WS_OK; WS_E_NOT_FINITE, WS_E_MEMORY, WS_E_NO_CONVERGENCE,
 *             WS_E_UNSUPPORTED as in ws_svd_thin()
 * @source     LAPACK gesdd without vectors (dqds iteration)
 */
WS_API ws_status ws_singular_values(ws_mat *A, double *s, ws_arena *tmp, ws_err *err);

#ifdef __cplusplus
}
#endif

#endif
