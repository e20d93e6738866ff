/*
 * linalg.h - dense linear algebra: products, factorisations, singular values and
 * eigenvalues, whole or in part
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

/* ---- products of symmetric matrices, triangles ---- */

/**
 * Upper triangle of C = alpha * A * A' + beta * C; with @p trans of alpha * A' * A.
 * What is below the diagonal of C is neither read nor written.
 *
 * @param A  (n, k), with @p trans (k, n)
 * @param C  (n, n)
 * @return   as ws_gemm()
 * @source   BLAS syrk: half of the work of ws_gemm()
 */
WS_API ws_status ws_syrk(bool trans, double alpha, const ws_mat *A, double beta,
                         ws_mat *C, ws_err *err);

/** Copy the upper triangle of the square @p C over its lower one. */
WS_API void ws_mirror_upper(ws_mat *C);

/**
 * C = alpha * S * B + beta * C, S symmetric and given by its upper triangle; with
 * @p right C = alpha * B * S + beta * C.
 * @return as ws_gemm()
 * @source BLAS symm
 */
WS_API ws_status ws_symm(bool right, double alpha, const ws_mat *S, const ws_mat *B,
                         double beta, ws_mat *C, ws_err *err);

/**
 * Solve op(R) * X = B in place of B, R upper triangular, op(R) = R or its transpose;
 * with @p right X * op(R) = B. Below the diagonal R is not read.
 * @return as ws_gemm()
 * @source BLAS trsm
 */
WS_API ws_status ws_trsm(bool right, bool trans, const ws_mat *R, ws_mat *B,
                         ws_err *err);

/* ---- factorisations ---- */

/**
 * Thin QR: A = Q * R, for rows >= cols.
 *
 * @param A    (m, n) in; Q out, orthonormal columns
 * @param R    (n, n) out, upper triangular; NULL: not wanted
 * @param tmp  scratch; the caller frees the arena
 * @return     WS_OK; WS_E_SHAPE; WS_E_NOT_FINITE; WS_E_MEMORY; WS_E_UNSUPPORTED too
 *             large for LAPACK's 32-bit sizes
 * @source     LAPACK gelqf, orglq of the transpose, which is A as it lies
 */
WS_API ws_status ws_qr(ws_mat *A, ws_mat *R, ws_arena *tmp, ws_err *err);

/**
 * Thin LQ: A = L * Q, for rows <= cols. As ws_qr(); Q replaces A and has orthonormal
 * rows; @p L (m, m) is lower triangular or NULL.
 * @source LAPACK geqrf, orgqr of the transpose
 */
WS_API ws_status ws_lq(ws_mat *A, ws_mat *L, ws_arena *tmp, ws_err *err);

/**
 * The R of A = Q * R alone, in the upper triangle of the first rows of A; the rest of A
 * is destroyed. @pre rows >= cols. As ws_qr().
 */
WS_API ws_status ws_qr_r(ws_mat *A, ws_arena *tmp, ws_err *err);

/**
 * Cholesky: S = R' * R, in place, upper triangles.
 * @return WS_OK; WS_E_NO_CONVERGENCE not positive definite (err->sys: first row that
 *         fails, from 1); WS_E_SHAPE, WS_E_UNSUPPORTED
 * @source LAPACK potrf
 */
WS_API ws_status ws_cholesky(ws_mat *S, ws_err *err);

/** A square matrix as a product of triangles, to solve with. */
typedef struct ws_lu {
    ws_mat A;       /**< borrowed, holds the factors */
    int32_t *pivot; /**< (n) the arena's */
} ws_lu;

/**
 * Factor the square @p A in place.
 * @return WS_OK; WS_E_NO_CONVERGENCE exactly singular (err->sys: the row);
 *         WS_E_NOT_FINITE; WS_E_SHAPE; WS_E_MEMORY; WS_E_UNSUPPORTED
 * @source LAPACK getrf, partial pivoting
 */
WS_API ws_status ws_lu_factor(ws_lu *out, ws_mat *A, ws_arena *tmp, ws_err *err);

/** Replace each row x of @p X (k, n) by inv(A) x, or with @p trans by inv(A') x.
 * @source LAPACK getrs */
WS_API ws_status ws_lu_solve_rows(const ws_lu *lu, bool trans, ws_mat *X, ws_err *err);

/* ---- symmetric eigenproblems ---- */

/** Which algorithm gave a result, the first choice first: what a ladder reports. */
typedef enum ws_ladder {
    WS_BY_FIRST,  /**< the one asked for */
    WS_BY_SECOND, /**< its first stand-in */
    WS_BY_LAST    /**< the slow and sure one */
} ws_ladder;

/**
 * Eigenvalues number @p first to @p last (0 the smallest) of a symmetric matrix, with
 * eigenvectors.
 *
 * @param S     (n, n), upper triangle; destroyed
 * @param w     (k = last - first + 1) out, ascending
 * @param Z     (k, n) out: eigenvectors are its rows, orthonormal
 * @param tmp   scratch: about n^2 elements, twice as many on the last rung
 * @param step  out, may be NULL: which algorithm did it
 * @return      WS_OK; WS_E_NOT_FINITE; WS_E_NO_CONVERGENCE all three failed;
 *              WS_E_SHAPE; WS_E_MEMORY; WS_E_UNSUPPORTED
 * @source      LAPACK syevr, else syevx, else syevd of all
 */
WS_API ws_status ws_eig_range(ws_mat *S, int64_t first, int64_t last, double *w,
                              ws_mat *Z, ws_arena *tmp, ws_ladder *step, ws_err *err);

/** A symmetric linear operator: row by row, Y = X * S; X and Y (k, n), doubles, do not
 * overlap. @p X may be overwritten. */
typedef ws_status ws_operator(void *arg, ws_mat *X, ws_mat *Y, ws_err *err);

typedef struct ws_krylov_opts {
    int64_t n;     /**< order of the operator */
    int64_t k;     /**< eigenpairs wanted */
    int64_t block; /**< vectors multiplied at once; 0: chosen from k */
    int64_t most;  /**< most basis vectors; 0: chosen */
    double tol;    /**< stop when every residual is below tol * distance of its
                          eigenvalue to the first one not wanted */
    double energy; /**< > 0: stop also when sum(wanted) is within this share of the
                          sum of what is not wanted (see ws_krylov_info.loss) */
    uint64_t seed; /**< of the first block */
} ws_krylov_opts;

/** How far it went. */
typedef struct ws_krylov_info {
    int64_t products;  /**< vectors multiplied */
    double separation; /**< largest residual over distance: bounds the sine of the angle
                            between the space found and the true one */
    double gap;        /**< (w[k-1] - w[k]) / w[k-1] */
    double loss; /**< sum of residual^2 / distance of the wanted, over the sum of the
                      Ritz values not wanted: how much more than the least is left over,
                      relatively. The sum below is at most the true one, so this errs
                      upwards */
} ws_krylov_info;

/**
 * The largest eigenvalues of a positive semidefinite operator, with eigenvectors.
 *
 * Block Krylov space with full orthogonalisation (twice), Rayleigh-Ritz in it.
 *
 * @param w     (k) out, descending
 * @param Z     (k, n) out, orthonormal rows, double
 * @param tmp   scratch: the basis, most * n doubles, and less
 * @param info  out, also where it does not converge
 * @return      WS_OK; WS_E_NO_CONVERGENCE the basis is full: take a dense method;
 *              WS_E_NOT_FINITE; WS_E_MEMORY; WS_E_UNSUPPORTED; what @p op returns
 * @source      Golub and Underwood 1977, block Lanczos, with explicit projection
 */
WS_API ws_status ws_krylov(const ws_krylov_opts *o, ws_operator *op, void *arg,
                           double *w, ws_mat *Z, ws_arena *tmp, ws_krylov_info *info,
                           ws_err *err);

/**
 * Rayleigh-Ritz for singular vectors: rotate U so that the rows of P = U * T are
 * orthogonal, largest first.
 *
 * @param U    (k, m) orthonormal rows; rotated
 * @param P    (k, n) U * T, n >= k; rotated along: P = diag(s) * orthonormal rows
 * @param s    (k) out, descending
 * @param tmp  scratch
 * @return     as ws_svd_thin()
 */
WS_API ws_status ws_rayleigh_ritz(ws_mat *U, ws_mat *P, double *s, ws_arena *tmp,
                                  ws_err *err);

/* ---- leading singular values ---- */

typedef struct ws_truncated_opts {
    int64_t rank; /**< wanted; at most min(m, n) */
    double slack; /**< what may be left over, beyond the least: 0.01 is 1 % */
    uint64_t seed;
} ws_truncated_opts;

typedef struct ws_truncated_info {
    double norm;     /**< ||A|| (Frobenius) */
    double residual; /**< ||A - U * diag(s) * Vt||: exact, from norm and s */
    double least;    /**< no rank-r matrix comes nearer than this: an estimate from
                          below, out of the residuals of the pairs found */
    ws_ladder step;  /**< randomised; with a wider space and more powers; full */
} ws_truncated_info;

/**
 * Truncated singular value decomposition, randomised.
 *
 * A range of rank + oversampling random products, power iterations with
 * orthogonalisation, then the decomposition of the projected matrix. What is left over
 * is known exactly afterwards; the least possible is estimated from below by the
 * residuals of the pairs. Where they do not agree within .slack, the ladder
 * goes on: more power iterations and a wider space, then the full decomposition.
 *
 * @param A    (m, n) float or double; unchanged
 * @param U    (m, r) out
 * @param s    (r) out, descending
 * @param Vt   (r, n) out; rows of singular values 0 are 0
 * @return     as ws_svd_thin()
 * @source     Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithm 4.4
 */
WS_API ws_status ws_svd_truncated(const ws_mat *A, const ws_truncated_opts *o,
                                  ws_mat *U, double *s, ws_mat *Vt, ws_arena *tmp,
                                  ws_truncated_info *info, ws_err *err);

#ifdef __cplusplus
}
#endif

#endif
