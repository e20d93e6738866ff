/*
 * rope.c - rotary positions
 *
 *   f_i = theta^(-2i/r), i < r/2, r dimensions turned, angle = position * f_i
 *   y_i = x_i cos - x_(i+r/2) sin,  y_(i+r/2) = x_(i+r/2) cos + x_i sin
 *
 *   linear   f / factor
 *   dynamic  past the longest length: theta (factor n / max - (factor - 1))^(r/(r-2));
 *            n is the longest sequence of the run, fixed for it
 *   llama3   wave length 2 pi / f: short ones keep f, long ones f / factor, a blend
 *            between
 *   yarn     a blend by dimension of f and f / factor, everything times a factor
 *
 * Frequencies and angles are rounded to float on the way, as transformers does.
 */
#include "model/layers.h"

#include <math.h>

#define PI 3.14159265358979323846

/** Dimension whose wave turns @p turns times within the original length. */
static double yarn_dim(const ws_rope *rope, double turns)
{
    return (double)rope->dim * log(rope->original / (turns * 2.0 * PI)) /
           (2.0 * log(rope->theta));
}

static double yarn_ramp(const ws_rope *rope, int64_t i)
{
    double lo = yarn_dim(rope, rope->beta_fast), hi = yarn_dim(rope, rope->beta_slow);
    if (rope->truncate) {
        lo = floor(lo);
        hi = ceil(hi);
    }
    lo = fmax(lo, 0.0);
    hi = fmin(hi, (double)(rope->dim - 1));
    if (lo == hi)
        hi += 0.001;
    return fmin(fmax(((double)i - lo) / (hi - lo), 0.0), 1.0);
}

static double llama3_frequency(const ws_rope *rope, double f)
{
    const double wave = 2.0 * PI / f;
    if (wave < rope->original / rope->high)
        return f;
    if (wave > rope->original / rope->low)
        return f / rope->factor;
    const double m = (rope->original / wave - rope->low) / (rope->high - rope->low);
    return (1.0 - m) * f / rope->factor + m * f;
}

static double frequency(const ws_rope *rope, double theta, int64_t i)
{
    const float power = (float)(2 * i) / (float)rope->dim;
    const double f = (double)(1.0f / powf((float)theta, power));
    switch (rope->kind) {
    case WS_ROPE_LINEAR:
        return f / rope->factor;
    case WS_ROPE_LLAMA3:
        return llama3_frequency(rope, f);
    case WS_ROPE_YARN: {
        const double ramp = yarn_ramp(rope, i);
        return f * (1.0 - ramp) + f / rope->factor * ramp;
    }
    case WS_ROPE_NONE:
    case WS_ROPE_PLAIN:
    case WS_ROPE_DYNAMIC:
        break;
    }
    return f;
}

void ws_rope_table(const ws_rope *rope, int64_t max_positions, int64_t n_pos,
                   ws_real *cosine, ws_real *sine)
{
    const int64_t half = rope->dim / 2;
    const double a = rope->kind == WS_ROPE_YARN ? rope->attention_factor : 1.0;
    double theta = rope->theta;

    if (rope->kind == WS_ROPE_DYNAMIC && n_pos > max_positions && rope->dim > 2)
        theta *= pow(rope->factor * (double)n_pos / (double)max_positions -
                         (rope->factor - 1.0),
                     (double)rope->dim / (double)(rope->dim - 2));
    for (int64_t i = 0; i < half; i++) {
        const float f = (float)frequency(rope, theta, i);
        for (int64_t p = 0; p < n_pos; p++) {
            const double angle = (double)((float)p * f);
            cosine[p * half + i] = (ws_real)(cos(angle) * a);
            sine[p * half + i] = (ws_real)(sin(angle) * a);
        }
    }
}

WS_HOT static void turn(ws_real *x, int64_t half, const ws_real *c, const ws_real *s,
                        ws_real sign)
{
    for (int64_t i = 0; i < half; i++) {
        const ws_real a = x[i], b = x[half + i], t = sign * s[i];
        x[i] = a * c[i] - b * t;
        x[half + i] = b * c[i] + a * t;
    }
}

void ws_rope_apply(ws_real *x, int64_t heads, int64_t D, int64_t dim, const ws_real *c,
                   const ws_real *s, bool back)
{
    for (int64_t h = 0; h < heads; h++)
        turn(x + h * D, dim / 2, c, s, back ? -1 : 1);
}
