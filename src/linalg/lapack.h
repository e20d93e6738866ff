/*
 * lapack.h - what every file that calls BLAS or LAPACK starts with
 */
#ifndef WS_LINALG_LAPACK_H
#define WS_LINALG_LAPACK_H

#include <cblas.h>
#include <lapacke.h>

#include "wsurg/linalg.h"

/** Pin BLAS to one thread in the calling thread; before every call of BLAS or LAPACK.
 */
void ws_blas_pin(void);

/** The only place that narrows a dimension; false when it does not fit. */
static inline bool ws_to_lapack_int(int64_t n, lapack_int *out)
{
    *out = (lapack_int)n;
    return n >= 0 && *out == n;
}

/** Whether all of @p A is finite. */
bool ws_mat_finite(const ws_mat *A);

/** Copy (rows, cols) @p A into @p dst of leading dimension @p ld; transposed, element
 * (i, j) goes to dst[j * ld + i]. */
void ws_mat_copy(const ws_mat *A, void *dst, int64_t ld, bool transposed);

#endif
