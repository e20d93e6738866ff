/*
 * loss.c - cross-entropy of one row of logits
 *
 *   lse = max + ln sum exp(z - max);  log p(y) = z_y - lse
 *   gradient of -log p(y): softmax(z) - onehot(y)
 */
#include "model/layers.h"

#include <math.h>

void ws_ce_forward(ws_real *z, int64_t V, int64_t label, ws_ce_row *out)
{
    const ws_real max = ws_row_max(z, V);
    const double at = label >= 0 ? (double)z[label] : 0.0;

    // a NaN in the row makes max, and so everything, NaN or leaves argmax at 0
    out->argmax = 0;
    for (int64_t i = 0; i < V; i++)
        if (z[i] == max) {
            out->argmax = i;
            break;
        }
    const double sum = (double)ws_act_exp_sum(z, V, max);
    out->lse = (double)max + log(sum);
    out->logp = at - out->lse;
}

WS_HOT static void scale_row(ws_real *z, int64_t V, ws_real f)
{
    for (int64_t i = 0; i < V; i++)
        z[i] *= f;
}

/** In double and fixed lanes. */
WS_HOT static double sum_row(const ws_real *z, int64_t V)
{
    double lane[WS_LANES] = { 0 };
    int64_t i = 0;
    for (; i + WS_LANES <= V; i += WS_LANES)
        for (int64_t j = 0; j < WS_LANES; j++)
            lane[j] += (double)z[i + j];
    for (int64_t j = 0; i < V; i++, j++)
        lane[j] += (double)z[i];
    double sum = 0;
    for (int64_t j = 0; j < WS_LANES; j++)
        sum += lane[j];
    return sum;
}

void ws_ce_backward(ws_real *z, int64_t V, int64_t label, double scale)
{
    const double sum = sum_row(z, V);

    scale_row(z, V, (ws_real)(scale / sum));
    z[label] -= (ws_real)scale;
}
