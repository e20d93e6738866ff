/*
 * atlas_kernel.c - the arithmetic of coefficients, on a run of one tensor's elements
 *
 *   mixed_i += lambda_g(i) tau_i          dlambda_g = sum_{i in g} grad_i tau_i
 *   tau = L R                             of adapters, r numbers of each row at a time
 */
#ifdef WS_MODEL_F64
#define WS_METHOD_F64
#endif
#include "surgery/atlas_kernel.h"

#include <string.h>

#include "wsurg/method.h"

WS_HOT static void add_scaled(ws_real *y, const ws_real *x, ws_real c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += c * x[i];
}

void ws_atlas_add(ws_real *mixed, const ws_real *tau, size_t n, const ws_real *lambda,
                  const uint32_t *group)
{
    if (group == NULL)
        add_scaled(mixed, tau, lambda[0], n);
    else
        for (size_t i = 0; i < n; i++)
            mixed[i] += lambda[group[i]] * tau[i];
}

void ws_atlas_dot(const ws_real *grad, const ws_real *tau, size_t n,
                  const uint32_t *group, uint32_t groups, double *sums)
{
    if (group == NULL) {
        ws_lanes lanes = { 0 };
        ws_lanes_add_dot(&lanes, grad, tau, n);
        sums[0] = ws_lanes_sum(&lanes);
        return;
    }
    memset(sums, 0, groups * sizeof *sums);
    for (size_t i = 0; i < n; i++)
        sums[group[i]] += (double)grad[i] * (double)tau[i];
}

void ws_atlas_rows(const ws_real *L, const ws_real *R, size_t r, size_t cols, size_t at,
                   size_t n, ws_real *out)
{
    memset(out, 0, n * sizeof *out);
    for (size_t len; n > 0; at += len, out += len, n -= len) {
        const size_t row = at / cols, from = at % cols;
        len = cols - from < n ? cols - from : n;
        for (size_t k = 0; k < r; k++)
            add_scaled(out, R + k * cols + from, L[row * r + k], len);
    }
}
