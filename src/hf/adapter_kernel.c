/*
 * adapter_kernel.c - (m, r) times (r, n) in double, added to a tile
 *
 * Columns in strips whose sums stay in registers; each row of a strip runs over k once.
 */
#include "hf/adapter_kernel.h"

#include <string.h>

#include "wsurg/export.h"

enum { STRIP = 32 };

size_t ws_rects_of(size_t cols, size_t from, size_t to, ws_rect out[3])
{
    size_t n = 0;
    if (from >= to)
        return 0;
    const size_t col = from % cols;
    if (col > 0) { // the rest of a row
        const size_t len = to - from < cols - col ? to - from : cols - col;
        out[n++] = (ws_rect){ from / cols, 1, col, len };
        from += len;
    }
    const size_t rows = (to - from) / cols;
    if (rows > 0) {
        out[n++] = (ws_rect){ from / cols, rows, 0, cols };
        from += rows * cols;
    }
    if (from < to)
        out[n++] = (ws_rect){ from / cols, 1, 0, to - from };
    return n;
}

/** One full strip of one row. */
WS_HOT static void strip_add(const double *l, const double *R, size_t r, size_t ld,
                             double s, double *out)
{
    double sum[STRIP] = { 0 };
    for (size_t k = 0; k < r; k++) {
        const double x = l[k], *row = R + k * ld;
        for (size_t j = 0; j < STRIP; j++)
            sum[j] += x * row[j];
    }
    for (size_t j = 0; j < STRIP; j++)
        out[j] += s * sum[j];
}

/** The last columns of one row. */
static void rest_add(const double *l, const double *R, size_t r, size_t ld, double s,
                     double *out, size_t n)
{
    double sum[STRIP] = { 0 };
    for (size_t k = 0; k < r; k++)
        for (size_t j = 0; j < n; j++)
            sum[j] += l[k] * R[k * ld + j];
    for (size_t j = 0; j < n; j++)
        out[j] += s * sum[j];
}

void ws_factors_add(const double *L, const double *R, size_t r, size_t cols, double s,
                    const ws_rect *at, double *out)
{
    for (size_t j = 0; j < at->n; j += STRIP) {
        const double *strip = R + at->j + j;
        const size_t n = at->n - j < STRIP ? at->n - j : STRIP;
        for (size_t i = 0; i < at->m; i++) {
            const double *l = L + (at->i + i) * r;
            double *to = out + i * at->n + j;
            if (n == STRIP)
                strip_add(l, strip, r, cols, s, to);
            else
                rest_add(l, strip, r, cols, s, to, n);
        }
    }
}
