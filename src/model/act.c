/*
 * act.c - exponentials and activations, written so that they vectorise
 *
 *   exp(x) = 2^k exp(r), k = round(x / ln 2), |r| <= ln 2 / 2, exp(r) by its series
 *   silu(x) = x s(x), s(x) = 1 / (1 + exp(-x))
 *   gelu_tanh(x) = x s(2 u), u = sqrt(2/pi) (x + 0.044715 x^3): since
 *                  (1 + tanh u) / 2 = s(2 u)
 *   gelu_erf(x) = x Phi(x)
 *
 * The double build takes exp of libm: it is there to be exact, not fast.
 */
#include "model/layers.h"

#include <math.h>
#include <string.h>

#define GELU_A 0.79788456080286535588 // sqrt(2 / pi)
#define GELU_B 0.044715

enum { BLOCK = 256 }; // numbers worked on at a time, on the stack

#ifdef WS_MODEL_F64
static inline double exp_one(double x)
{
    return exp(x);
}
#else
/** Adding and taking away 1.5 * 2^23 rounds to a whole number, which the low bits of
 * the sum then bear. */
static inline float exp_one(float x)
{
    const float magic = 12582912.0f;
    x = x < -87.33f ? -87.33f : x;
    x = x > 88.72f ? 88.72f : x;
    const float t = x * 1.44269504f + magic;
    const float k = t - magic;
    const float r = (x - k * 0.693359375f) - k * -2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r * r + r;
    // 2^k in two factors: k = 128 has no float of its own
    int32_t bits;
    memcpy(&bits, &t, sizeof bits);
    const int32_t whole = bits - 0x4b400000;
    const int32_t half = whole >> 1;
    // of a NaN these are anything, and the product is NaN: so no signed shift
    const uint32_t b1 = (uint32_t)(half + 127) << 23;
    const uint32_t b2 = (uint32_t)(whole - half + 127) << 23;
    float s1, s2;
    memcpy(&s1, &b1, sizeof s1);
    memcpy(&s2, &b2, sizeof s2);
    return (1.0f + p) * s1 * s2;
}
#endif

WS_HOT void ws_act_exp(const ws_real *x, ws_real *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = exp_one(x[i]);
}

WS_HOT ws_real ws_act_exp_sum(ws_real *x, int64_t n, ws_real shift)
{
    ws_real lane[WS_LANES] = { 0 };
    int64_t i = 0;
    for (; i + WS_LANES <= n; i += WS_LANES)
        for (int64_t j = 0; j < WS_LANES; j++) {
            const ws_real e = exp_one(x[i + j] - shift);
            x[i + j] = e;
            lane[j] += e;
        }
    for (int64_t j = 0; i < n; i++, j++) {
        x[i] = exp_one(x[i] - shift);
        lane[j] += x[i];
    }
    ws_real sum = 0;
    for (int64_t j = 0; j < WS_LANES; j++)
        sum += lane[j];
    return sum;
}

WS_HOT ws_real ws_row_max(const ws_real *x, int64_t n)
{
    ws_real lane[WS_LANES];
    for (int64_t j = 0; j < WS_LANES; j++)
        lane[j] = x[0];
    int64_t i = 0;
    for (; i + WS_LANES <= n; i += WS_LANES)
        for (int64_t j = 0; j < WS_LANES; j++)
            lane[j] = lane[j] < x[i + j] ? x[i + j] : lane[j];
    ws_real m = x[0];
    for (; i < n; i++)
        m = m < x[i] ? x[i] : m;
    for (int64_t j = 0; j < WS_LANES; j++)
        m = m < lane[j] ? lane[j] : m;
    return m;
}

/** Value and derivative of the activation at n <= BLOCK places; d may be NULL. */
#define DEFINE_ACT(name, value, slope)                                                 \
    WS_HOT static void name(const ws_real *x, ws_real *y, ws_real *d, int64_t n)       \
    {                                                                                  \
        if (d == NULL) {                                                               \
            for (int64_t i = 0; i < n; i++) {                                          \
                const ws_real v = x[i];                                                \
                value y[i] = a;                                                        \
            }                                                                          \
            return;                                                                    \
        }                                                                              \
        for (int64_t i = 0; i < n; i++) {                                              \
            const ws_real v = x[i];                                                    \
            value slope y[i] = a;                                                      \
            d[i] = b;                                                                  \
        }                                                                              \
    }

#define SILU                                                                           \
    const ws_real s = 1 / (1 + exp_one(-v));                                           \
    const ws_real a = v * s;
#define SILU_SLOPE const ws_real b = s * (1 + v * (1 - s));
#define GELU                                                                           \
    const ws_real u = (ws_real)(2 * GELU_A) * (v + (ws_real)GELU_B * v * v * v);       \
    const ws_real s = 1 / (1 + exp_one(-u));                                           \
    const ws_real a = v * s;
#define GELU_SLOPE                                                                     \
    const ws_real du = (ws_real)(2 * GELU_A) * (1 + (ws_real)(3 * GELU_B) * v * v);    \
    const ws_real b = s + v * s * (1 - s) * du;
#define ERF                                                                            \
    const ws_real phi = (ws_real)(0.5 * erfc(-(double)v * 0.70710678118654752));       \
    const ws_real a = v * phi;
#define ERF_SLOPE                                                                      \
    const ws_real b =                                                                  \
        phi + v * (ws_real)(0.39894228040143268 * exp(-0.5 * (double)v * (double)v));
#define RELU       const ws_real a = v > 0 ? v : 0;
#define RELU_SLOPE const ws_real b = v > 0 ? 1 : 0;

DEFINE_ACT(silu, SILU, SILU_SLOPE)
DEFINE_ACT(gelu_tanh, GELU, GELU_SLOPE)
DEFINE_ACT(gelu_erf, ERF, ERF_SLOPE)
DEFINE_ACT(relu, RELU, RELU_SLOPE)

typedef void act_fn(const ws_real *x, ws_real *y, ws_real *d, int64_t n);

static act_fn *act_of(ws_act_kind act)
{
    switch (act) {
    case WS_ACT_SILU:
        return silu;
    case WS_ACT_GELU_TANH:
        return gelu_tanh;
    case WS_ACT_GELU_ERF:
        return gelu_erf;
    case WS_ACT_RELU:
        break;
    }
    return relu;
}

WS_HOT static void multiply(const ws_real *a, const ws_real *b, ws_real *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

void ws_act_forward(ws_act_kind act, const ws_real *x, ws_real *y, int64_t n)
{
    act_of(act)(x, y, NULL, n);
}

void ws_act_backward(ws_act_kind act, const ws_real *x, const ws_real *dy, ws_real *dx,
                     int64_t n)
{
    ws_real y[BLOCK], d[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t m = n - i < BLOCK ? n - i : BLOCK;
        act_of(act)(x + i, y, d, m);
        multiply(dy + i, d, dx + i, m);
    }
}

void ws_act_gated_forward(ws_act_kind act, const ws_real *g, const ws_real *u,
                          ws_real *y, int64_t n)
{
    ws_real a[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t m = n - i < BLOCK ? n - i : BLOCK;
        act_of(act)(g + i, a, NULL, m);
        multiply(a, u + i, y + i, m);
    }
}

void ws_act_gated_backward(ws_act_kind act, const ws_real *g, const ws_real *u,
                           const ws_real *dy, ws_real *dg, ws_real *du, int64_t n)
{
    ws_real a[BLOCK], d[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t m = n - i < BLOCK ? n - i : BLOCK;
        act_of(act)(g + i, a, d, m);
        multiply(d, u + i, d, m);
        multiply(a, dy + i, a, m); // dy is read before du, which may be u, is written
        multiply(d, dy + i, dg + i, m);
        for (int64_t j = 0; j < m; j++)
            du[i + j] = a[j];
    }
}
