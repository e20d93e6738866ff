/*
 * norm.c - RMS norm and layer norm, one row at a time
 *
 *   forward   r = (mean((x - mu)^2) + eps)^-1/2, h = (x - mu) r, y = s h + b
 *             RMS: mu = 0, b = 0; s = w, or 1 + w
 *   backward  g = dy s
 *             dx = r (g - h mean(g h))            RMS
 *             dx = r (g - mean(g) - h mean(g h))  layer norm
 *             dw = sum dy h, db = sum dy
 */
#include "model/layers.h"

#include <math.h>

/** sum of (x - mu)^power over the row, power 1 or 2, in double and fixed lanes. */
WS_HOT static double sum_square(const ws_real *x, double mu, int64_t n)
{
    double lane[WS_LANES] = { 0 };
    int64_t i = 0;
    for (; i + WS_LANES <= n; i += WS_LANES)
        for (int64_t j = 0; j < WS_LANES; j++) {
            const double v = (double)x[i + j] - mu;
            lane[j] += v * v;
        }
    for (int64_t j = 0; i < n; i++, j++)
        lane[j] += ((double)x[i] - mu) * ((double)x[i] - mu);
    double sum = 0;
    for (int64_t j = 0; j < WS_LANES; j++)
        sum += lane[j];
    return sum;
}

WS_HOT static double sum_plain(const ws_real *x, int64_t n)
{
    double lane[WS_LANES] = { 0 };
    int64_t i = 0;
    for (; i + WS_LANES <= n; i += WS_LANES)
        for (int64_t j = 0; j < WS_LANES; j++)
            lane[j] += (double)x[i + j];
    for (int64_t j = 0; i < n; i++, j++)
        lane[j] += (double)x[i];
    double sum = 0;
    for (int64_t j = 0; j < WS_LANES; j++)
        sum += lane[j];
    return sum;
}

WS_HOT static void scale_rms(const ws_real *x, const ws_real *w, ws_real *y, int64_t n,
                             ws_real plus, ws_real r)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (plus + w[i]) * (x[i] * r);
}

WS_HOT static void scale_layer(const ws_real *x, const ws_real *w, const ws_real *b,
                               ws_real *y, int64_t n, ws_real mu, ws_real r)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = w[i] * ((x[i] - mu) * r) + b[i];
}

void ws_norm_forward(ws_norm_kind kind, double eps, const ws_real *x, const ws_real *w,
                     const ws_real *b, ws_real *y, int64_t n, ws_real stat[2])
{
    const double mu = kind == WS_NORM_LAYER ? sum_plain(x, n) / (double)n : 0.0;
    const double r = 1.0 / sqrt(sum_square(x, mu, n) / (double)n + eps);
    if (stat != NULL) {
        stat[0] = (ws_real)mu;
        stat[1] = (ws_real)r;
    }
    if (kind == WS_NORM_LAYER)
        scale_layer(x, w, b, y, n, (ws_real)mu, (ws_real)r);
    else
        scale_rms(x, w, y, n, kind == WS_NORM_RMS_PLUS1 ? 1 : 0, (ws_real)r);
}

/** Sums of g and of g h over the row, in double and fixed lanes. */
WS_HOT static void back_sums(const ws_real *x, const ws_real *w, const ws_real *dy,
                             ws_real mu, ws_real r, ws_real plus, int64_t n,
                             double sums[2])
{
    double g_lane[WS_LANES] = { 0 }, gh_lane[WS_LANES] = { 0 };
    int64_t i = 0;
    for (; i + WS_LANES <= n; i += WS_LANES)
        for (int64_t j = 0; j < WS_LANES; j++) {
            const ws_real h = (x[i + j] - mu) * r, g = dy[i + j] * (plus + w[i + j]);
            g_lane[j] += (double)g;
            gh_lane[j] += (double)g * (double)h;
        }
    for (int64_t j = 0; i < n; i++, j++) {
        const ws_real h = (x[i] - mu) * r, g = dy[i] * (plus + w[i]);
        g_lane[j] += (double)g;
        gh_lane[j] += (double)g * (double)h;
    }
    sums[0] = sums[1] = 0;
    for (int64_t j = 0; j < WS_LANES; j++) {
        sums[0] += g_lane[j];
        sums[1] += gh_lane[j];
    }
}

WS_HOT static void back_dx(const ws_real *x, const ws_real *w, const ws_real *dy,
                           ws_real mu, ws_real r, ws_real plus, ws_real g_mean,
                           ws_real gh_mean, ws_real *dx, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const ws_real h = (x[i] - mu) * r, g = dy[i] * (plus + w[i]);
        dx[i] += r * (g - g_mean - h * gh_mean);
    }
}

void ws_norm_backward(ws_norm_kind kind, const ws_real *x, const ws_real *w,
                      const ws_real *dy, const ws_real stat[2], ws_real *dx,
                      ws_real *dw, ws_real *db, int64_t n)
{
    const ws_real mu = stat[0], r = stat[1], plus = kind == WS_NORM_RMS_PLUS1 ? 1 : 0;
    double sums[2];

    back_sums(x, w, dy, mu, r, plus, n, sums);
    const ws_real g_mean = kind == WS_NORM_LAYER ? (ws_real)(sums[0] / (double)n) : 0;
    back_dx(x, w, dy, mu, r, plus, g_mean, (ws_real)(sums[1] / (double)n), dx, n);
    for (int64_t i = 0; dw != NULL && i < n; i++)
        dw[i] += dy[i] * ((x[i] - mu) * r);
    for (int64_t i = 0; db != NULL && i < n; i++)
        db[i] += dy[i];
}
