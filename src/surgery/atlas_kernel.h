/*
 * atlas_kernel.h - the arithmetic of coefficients, on a run of one tensor's elements
 *
 * Compiled a second time in double for the comparison with finite differences.
 */
#ifndef WS_SURGERY_ATLAS_KERNEL_H
#define WS_SURGERY_ATLAS_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "model/real.h"

#ifdef WS_MODEL_F64
#define ws_atlas_add  ws_atlas_add_f64
#define ws_atlas_dot  ws_atlas_dot_f64
#define ws_atlas_rows ws_atlas_rows_f64
#endif

/** mixed_i += lambda_g tau_i, g = group[i]. @param group NULL: all are of group 0 */
void ws_atlas_add(ws_real *mixed, const ws_real *tau, size_t n, const ws_real *lambda,
                  const uint32_t *group);

/** sums_g = sum of grad_i tau_i over the elements of group g, products and sums in
 * double. @param sums (groups) out */
void ws_atlas_dot(const ws_real *grad, const ws_real *tau, size_t n,
                  const uint32_t *group, uint32_t groups, double *sums);

/**
 * Elements at .. at+n-1 of L R.
 *
 * @param L   (rows, r)
 * @param R   (r, cols)
 */
void ws_atlas_rows(const ws_real *L, const ws_real *R, size_t r, size_t cols, size_t at,
                   size_t n, ws_real *out);

#endif
