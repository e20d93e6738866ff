/*
 * test_model_layers.c - each layer's backward against central differences, in double
 */
#define WS_MODEL_F64

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/layers.h"

enum { MAX = 2048 };

/** Numbers in -1 .. 1 that look like chance. */
static void fill(double *x, int n, uint32_t seed)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (double)(seed >> 8) / 8388608.0 - 1.0;
    }
}

static double weighted(const double *y, const double *dy, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += y[i] * dy[i];
    return sum;
}

/** d sum(dy * f) / dx by central differences, compared with @p dx. */
static void check(double *x, int n, const double *dx, double (*f)(void *), void *arg)
{
    for (int i = 0; i < n; i++) {
        const double old = x[i], h = 1e-5 * fmax(1.0, fabs(old));
        x[i] = old + h;
        const double up = f(arg);
        x[i] = old - h;
        const double down = f(arg);
        x[i] = old;
        const double want = (up - down) / (2 * h);
        if (!(fabs(want - dx[i]) <= 1e-6 * fmax(1e-2, fabs(want))))
            fail_msg("gradient %d is %.12g, differences say %.12g", i, dx[i], want);
    }
}

/* ---- norms ---- */

struct norm_case {
    ws_norm_kind kind;
    double x[7], w[7], b[7], dy[7];
};

static double norm_value(void *arg)
{
    const struct norm_case *c = arg;
    double y[7];
    ws_norm_forward(c->kind, 1e-5, c->x, c->w, c->b, y, 7, NULL);
    return weighted(y, c->dy, 7);
}

static void norms_backward_is_the_derivative(void **state)
{
    (void)state;
    for (int kind = WS_NORM_RMS; kind <= WS_NORM_LAYER; kind++) {
        struct norm_case c = { .kind = (ws_norm_kind)kind };
        double y[7], dx[7] = { 0 }, dw[7] = { 0 }, db[7] = { 0 }, stat[2];
        fill(c.x, 7, 1);
        fill(c.w, 7, 2);
        fill(c.b, 7, 3);
        fill(c.dy, 7, 4);
        ws_norm_forward(c.kind, 1e-5, c.x, c.w, c.b, y, 7, stat);
        ws_norm_backward(c.kind, c.x, c.w, c.dy, stat, dx, dw, db, 7);
        check(c.x, 7, dx, norm_value, &c);
        check(c.w, 7, dw, norm_value, &c);
        if (kind == WS_NORM_LAYER)
            check(c.b, 7, db, norm_value, &c);
    }
}

/* ---- activations ---- */

struct act_case {
    ws_act_kind act;
    bool gated;
    double x[300], u[300], dy[300];
};

static double act_value(void *arg)
{
    const struct act_case *c = arg;
    double y[300];
    if (c->gated)
        ws_act_gated_forward(c->act, c->x, c->u, y, 300);
    else
        ws_act_forward(c->act, c->x, y, 300);
    return weighted(y, c->dy, 300);
}

static void activations_backward_is_the_derivative(void **state)
{
    (void)state;
    for (int act = WS_ACT_SILU; act <= WS_ACT_RELU; act++) {
        static struct act_case c;
        double dx[300], dg[300], du[300];
        c.act = (ws_act_kind)act;
        fill(c.x, 300, 5);
        for (int i = 0; i < 300; i++)
            c.x[i] *= 4.0;
        fill(c.u, 300, 6);
        fill(c.dy, 300, 7);
        c.gated = false;
        ws_act_backward(c.act, c.x, c.dy, dx, 300);
        check(c.x, 300, dx, act_value, &c);
        c.gated = true;
        ws_act_gated_backward(c.act, c.x, c.u, c.dy, dg, du, 300);
        check(c.x, 300, dg, act_value, &c);
        check(c.u, 300, du, act_value, &c);
    }
}

/* ---- rotary positions ---- */

static void turning_back_undoes_turning(void **state)
{
    const ws_rope rope = { .kind = WS_ROPE_PLAIN, .dim = 4, .theta = 100.0 };
    double c[2 * 5], s[2 * 5], x[12], y[12];
    (void)state;

    ws_rope_table(&rope, 5, 5, c, s);
    fill(x, 12, 8);
    memcpy(y, x, sizeof x);
    ws_rope_apply(y, 2, 6, 4, c + 6, s + 6, false);
    assert_true(fabs(y[0] - x[0]) > 1e-3);
    assert_true(y[4] == x[4] && y[5] == x[5]);
    ws_rope_apply(y, 2, 6, 4, c + 6, s + 6, true);
    for (int i = 0; i < 12; i++)
        assert_true(fabs(x[i] - y[i]) < 1e-12);
}

/* ---- linear ---- */

struct linear_case {
    int n, in, out;
    double w[MAX], b[MAX], x[MAX], dy[MAX], dw[MAX];
    ws_weight weight, bias;
    ws_scratch s;
};

static double linear_value(void *arg)
{
    const struct linear_case *c = arg;
    static double y[MAX];
    assert_int_equal(ws_linear_forward(&c->s, &c->weight, &c->bias, c->x, c->in, c->n,
                                       y, c->out, false, NULL),
                     WS_OK);
    return weighted(y, c->dy, c->n * c->out);
}

static void keep(void *arg, const ws_grad_panel *p)
{
    struct linear_case *c = arg;
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t k = 0; k < p->cols; k++)
            c->dw[p->offset + i * p->ld + k] = p->dw[i * p->cols + k];
}

static void linear_check(int n, int in, int out, bool transposed)
{
    static struct linear_case c;
    static double panel[256 * 301], dx[MAX], grad[MAX];
    double *panels[1] = { panel };
    const ws_grad_sink sink = { keep, &c };

    memset(grad, 0, sizeof grad);
    c = (struct linear_case){ .n = n, .in = in, .out = out };
    fill(c.w, in * out, 9);
    fill(c.b, out, 10);
    fill(c.x, n * in, 11);
    fill(c.dy, n * out, 12);
    c.weight = (ws_weight){ .name = "w",
                            .dtype = WS_DT_F64,
                            .data = (const unsigned char *)c.w,
                            .rows = out,
                            .cols = in,
                            .ld = transposed ? out : in,
                            .transposed = transposed };
    c.bias = (ws_weight){ .name = "b",
                          .dtype = WS_DT_F64,
                          .data = (const unsigned char *)c.b,
                          .rows = 1,
                          .cols = out,
                          .ld = out };
    c.s = (ws_scratch){ .panel = panels, .panel_len = 256 * 301 };
    assert_int_equal(
        ws_linear_dx(&c.s, &c.weight, c.dy, out, n, dx, in, false, false, NULL), WS_OK);
    check(c.x, n * in, dx, linear_value, &c);
    assert_int_equal(
        ws_linear_dw(&c.s, &c.weight, c.dy, out, c.x, in, n, grad, &sink, 0, NULL),
        WS_OK);
    check(c.w, in * out, c.dw, linear_value, &c);
    check(c.w, in * out, grad, linear_value, &c); // the sum beside the panels
}

static void linear_backward_is_the_derivative(void **state)
{
    (void)state;
    linear_check(7, 5, 11, false);
    linear_check(7, 5, 11, true);
    linear_check(2, 70, 3, false); // the kernel for few rows
    linear_check(2, 70, 3, true);
    linear_check(5, 2, 300, false); // more than one panel
    linear_check(5, 2, 300, true);
    linear_check(5, 300, 3, false);
}

static void panel_count(void *arg, const ws_grad_panel *p)
{
    int64_t *seen = arg; // panels, and the rows of each while all have as many
    seen[1] = seen[0]++ == 0 || seen[1] == p->rows ? p->rows : -1;
}

/** Three would leave one of two threads waiting. */
static void common_widths_are_cut_into_even_numbers_of_tiles(void **state)
{
    static const int64_t outs[][2] = { { 768, 4 }, { 896, 4 }, { 3072, 8 }, { 96, 1 } };
    static double panel[512], x[1], dy[3072];
    double *panels[1] = { panel };
    const ws_scratch s = { .panel = panels, .panel_len = 512 };
    (void)state;
    for (size_t k = 0; k < sizeof outs / sizeof outs[0]; k++) {
        const int64_t out = outs[k][0];
        const ws_weight w = { .name = "w", .rows = out, .cols = 1, .ld = 1 };
        int64_t seen[2] = { 0 };
        const ws_grad_sink sink = { panel_count, seen };
        assert_int_equal(ws_linear_dw(&s, &w, dy, out, x, 1, 1, NULL, &sink, 0, NULL),
                         WS_OK);
        assert_int_equal(seen[0], outs[k][1]);
        assert_int_equal(seen[0] * seen[1], out);
    }
}

/* ---- attention ---- */

struct attention_case {
    ws_attention a;
    ws_scratch s;
    double q[MAX], k[MAX], v[MAX], dy[MAX];
    int rows;
};

static double attention_value(void *arg)
{
    const struct attention_case *c = arg;
    static double o[MAX];
    assert_int_equal(
        ws_attention_forward(&c->s, &c->a, c->q, c->k, c->v, o, NULL, NULL), WS_OK);
    return weighted(o, c->dy, c->rows * (int)(c->a.H * c->a.D));
}

static void attention_check(int H, int K, int window)
{
    // two sequences; with G = 32 a block is two rows, so blocks meet, too
    static const ws_span spans[] = { { 0, 5, 0, 0 }, { 5, 4, 5, 0 } };
    static struct attention_case c;
    static double panel[64 * 64], o[MAX], lse[MAX], dq[MAX], dk[MAX], dv[MAX];
    double *panels[1] = { panel };

    c = (struct attention_case){ .rows = 9 };
    c.a = (ws_attention){ .H = H,
                          .K = K,
                          .D = 3,
                          .window = window,
                          .scale = 0.7,
                          .span = spans,
                          .n_span = 2 };
    c.s = (ws_scratch){ .panel = panels, .panel_len = 64 * 64 };
    assert_true(ws_attention_backward_scratch(&c.a, 9) <= c.s.panel_len);
    fill(c.q, 9 * H * 3, 14);
    fill(c.k, 9 * K * 3, 15);
    fill(c.v, 9 * K * 3, 16);
    fill(c.dy, 9 * H * 3, 17);
    memset(dk, 0, sizeof dk);
    memset(dv, 0, sizeof dv);
    assert_int_equal(ws_attention_forward(&c.s, &c.a, c.q, c.k, c.v, o, lse, NULL),
                     WS_OK);
    assert_int_equal(ws_attention_backward(&c.s, &c.a, c.q, c.k, c.v, o, lse, c.dy, dq,
                                           dk, dv, NULL),
                     WS_OK);
    check(c.q, 9 * H * 3, dq, attention_value, &c);
    check(c.k, 9 * K * 3, dk, attention_value, &c);
    check(c.v, 9 * K * 3, dv, attention_value, &c);
}

static void attention_backward_is_the_derivative(void **state)
{
    (void)state;
    attention_check(4, 2, 0);
    attention_check(4, 4, 3);
    attention_check(32, 1, 0);
    attention_check(64, 2, 2);
}

/* ---- loss ---- */

struct ce_case {
    double z[19];
    int64_t label;
};

static double ce_value(void *arg)
{
    const struct ce_case *c = arg;
    double z[19];
    ws_ce_row row;
    memcpy(z, c->z, sizeof z);
    ws_ce_forward(z, 19, c->label, &row);
    return -0.25 * row.logp;
}

static void cross_entropy_backward_is_the_derivative(void **state)
{
    struct ce_case c = { .label = 6 };
    double z[19];
    ws_ce_row row;
    (void)state;

    fill(c.z, 19, 13);
    memcpy(z, c.z, sizeof z);
    ws_ce_forward(z, 19, 6, &row);
    ws_ce_backward(z, 19, 6, 0.25);
    check(c.z, 19, z, ce_value, &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_backward_is_the_derivative),
        cmocka_unit_test(activations_backward_is_the_derivative),
        cmocka_unit_test(turning_back_undoes_turning),
        cmocka_unit_test(linear_backward_is_the_derivative),
        cmocka_unit_test(common_widths_are_cut_into_even_numbers_of_tiles),
        cmocka_unit_test(attention_backward_is_the_derivative),
        cmocka_unit_test(cross_entropy_backward_is_the_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
