/*
 * test_atlas.c - gradients of coefficients against central differences, in double, and
 * the groups of a block
 */
#define WS_MODEL_F64

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hf/coefficients.h"
#include "model/train_step.h"
#include "surgery/atlas_kernel.h"

enum { T = 13, PARTS = 64, MODELS = 2, GROUPS = 3, MOST = 4096 };

static const int32_t tokens[T] = { 3, 7, 7, 28, 0, 11, 4, 9, 3, 3, 17, 20, 5 };
static const int32_t targets[T] = { 7, 7, 28, -100, -100, 4, 9, 3, -100, 17, 20, 5, 1 };
static const int64_t starts[2] = { 0, 5 };
static const ws_step_batch batch = {
    .rows = T, .tokens = tokens, .targets = targets, .start = starts, .docs = 2
};

static void fill(double *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((double)(seed >> 8) / 8388608.0 - 1.0) * 0.3;
    }
}

/** A model whose parts are mixtures. */
struct fixture {
    ws_model *m;
    size_t n;
    struct block {
        size_t n;
        double *w, *grad, *base, *tau[MODELS];
        uint32_t *group;
        double lambda[MODELS * GROUPS], dlambda[MODELS * GROUPS];
    } block[PARTS];
    ws_want want[PARTS];
    ws_step *step;
};

static double *doubles(size_t n)
{
    double *x = ws_calloc(n, sizeof *x);
    assert_non_null(x);
    return x;
}

static void block_open(struct fixture *f, size_t i)
{
    const ws_model_part *p = ws_model_part_at(f->m, i);
    struct block *b = &f->block[i];
    const ws_rng_key key = ws_coefficients_key(5, p->name);
    b->n = (size_t)p->n;
    assert_int_equal(ws_model_master(f->m, i, &b->w, NULL), WS_OK);
    b->grad = doubles(b->n);
    b->base = doubles(b->n);
    b->group = ws_calloc(b->n, sizeof *b->group);
    assert_non_null(b->group);
    ws_random_groups(&key, GROUPS, 0, b->group, b->n);
    memcpy(b->base, b->w, b->n * sizeof(double));
    for (size_t k = 0; k < MODELS; k++) {
        b->tau[k] = doubles(b->n);
        fill(b->tau[k], b->n, (uint32_t)(17 + 5 * i + k));
    }
    fill(b->lambda, MODELS * GROUPS, (uint32_t)(3 + i));
    f->want[i].grad = b->grad;
}

static void fixture_open(struct fixture *f, const char *family)
{
    char path[512];
    ws_err err = WS_ERR_INIT;
    const ws_step_opts o = { .rows = T, .positions = 8 };
    const ws_ctx ctx = { .threads = 1 };
    memset(f, 0, sizeof *f);
    snprintf(path, sizeof path, "%s/models/%s", WS_GOLDEN, family);
    if (ws_model_open(&f->m, path, NULL, NULL, &err) != WS_OK)
        fail_msg("%s: %s", family, err.msg);
    f->n = ws_model_part_count(f->m);
    assert_true(f->n <= PARTS);
    for (size_t i = 0; i < f->n; i++)
        block_open(f, i);
    assert_int_equal(ws_step_new(&f->step, f->m, f->want, &o, NULL, &ctx, &err), WS_OK);
}

static void fixture_close(struct fixture *f)
{
    ws_step_free(f->step);
    for (size_t i = 0; i < f->n; i++) {
        struct block *b = &f->block[i];
        ws_free(b->grad);
        ws_free(b->base);
        ws_free(b->group);
        for (size_t k = 0; k < MODELS; k++)
            ws_free(b->tau[k]);
    }
    ws_model_free(f->m);
    assert_int_equal(ws_alloc_live(), 0);
}

static void compose(struct block *b)
{
    memcpy(b->w, b->base, b->n * sizeof(double));
    for (size_t k = 0; k < MODELS; k++)
        ws_atlas_add(b->w, b->tau[k], b->n, b->lambda + k * GROUPS, b->group);
}

static double loss_of(struct fixture *f, struct block *b)
{
    ws_step_result r;
    compose(b);
    assert_int_equal(ws_step_score(f->step, &batch, NULL, &r, NULL), WS_OK);
    return r.loss / 8;
}

static void check(struct fixture *f, struct block *b, const char *what, size_t i)
{
    const double old = b->lambda[i], h = 1e-5;
    b->lambda[i] = old + h;
    const double up = loss_of(f, b);
    b->lambda[i] = old - h;
    const double down = loss_of(f, b);
    b->lambda[i] = old;
    compose(b);
    const double want = (up - down) / (2 * h);
    if (!(fabs(want - b->dlambda[i]) <= 1e-6 * fmax(1e-2, fabs(want))))
        fail_msg("%s: coefficient %zu has gradient %.12g, differences say %.12g", what,
                 i, b->dlambda[i], want);
}

/** W = W0 + sum_k lambda_kg tau_k for groups g of its elements; one dense backward. */
static void gradients_are_the_derivative(void **state)
{
    static const char *const families[] = { "llama", "llama_bias_tied", "qwen2",
                                            "gpt2" };
    static struct fixture f;
    (void)state;
    for (size_t m = 0; m < sizeof families / sizeof families[0]; m++) {
        ws_step_result r;
        fixture_open(&f, families[m]);
        for (size_t i = 0; i < f.n; i++)
            compose(&f.block[i]);
        assert_int_equal(ws_step_run(f.step, &batch, 1.0 / 8, NULL, &r, NULL), WS_OK);
        for (size_t i = 0; i < f.n; i++) {
            struct block *b = &f.block[i];
            for (size_t k = 0; k < MODELS; k++)
                ws_atlas_dot(b->grad, b->tau[k], b->n, b->group, GROUPS,
                             b->dlambda + k * GROUPS);
            for (size_t c = 0; c < MODELS * GROUPS; c++)
                check(&f, b, ws_model_part_at(f.m, i)->name, c);
        }
        fixture_close(&f);
    }
}

/** Forgetting one batch and holding another is the difference of their gradients. */
static void negation_is_control_less_target(void **state)
{
    static struct fixture f;
    const ws_step_batch control = { .rows = 5, .tokens = tokens, .targets = targets };
    ws_step_result r;
    (void)state;
    fixture_open(&f, "llama");
    double *want[PARTS];
    assert_int_equal(ws_step_run(f.step, &control, 0.25, NULL, &r, NULL), WS_OK);
    for (size_t i = 0; i < f.n; i++) {
        want[i] = doubles(f.block[i].n);
        memcpy(want[i], f.block[i].grad, f.block[i].n * sizeof(double));
        memset(f.block[i].grad, 0, f.block[i].n * sizeof(double));
    }
    assert_int_equal(ws_step_run(f.step, &batch, 0.125, NULL, &r, NULL), WS_OK);
    for (size_t i = 0; i < f.n; i++)
        for (size_t j = 0; j < f.block[i].n; j++) {
            want[i][j] -= f.block[i].grad[j];
            f.block[i].grad[j] = 0;
        }
    assert_int_equal(ws_step_run(f.step, &control, 0.25, NULL, &r, NULL), WS_OK);
    assert_int_equal(ws_step_run(f.step, &batch, -0.125, NULL, &r, NULL), WS_OK);
    for (size_t i = 0; i < f.n; i++) {
        for (size_t j = 0; j < f.block[i].n; j++)
            assert_true(fabs(f.block[i].grad[j] - want[i][j]) < 1e-14);
        ws_free(want[i]);
    }
    fixture_close(&f);
}

static void groups_share_out_a_block(void **state)
{
    enum { N = 200000, K = 7 };
    static uint32_t all[N], again[N];
    size_t count[K] = { 0 };
    const ws_rng_key key = ws_coefficients_key(1, "a.weight");
    const ws_rng_key other = ws_coefficients_key(2, "a.weight");
    const double p = 1.0 / K, sigma = sqrt(N * p * (1 - p));
    (void)state;
    ws_random_groups(&key, K, 0, all, N);
    for (size_t i = 0; i < N; i++) {
        assert_true(all[i] < K);
        count[all[i]]++;
    }
    for (size_t g = 0; g < K; g++)
        assert_true(fabs((double)count[g] - N * p) < 5 * sigma);
    // the same for any cut
    for (size_t at = 0, n = 1; at < N; at += n, n = n % 4093 + 7)
        ws_random_groups(&key, K, at, again + at, n < N - at ? n : N - at);
    assert_memory_equal(all, again, sizeof all);
    ws_random_groups(&other, K, 0, again, N);
    assert_memory_not_equal(all, again, sizeof all);
    ws_random_groups(&key, 1, 0, again, N);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(again[i], 0);
}

static void gradients_of_groups_add_up(void **state)
{
    static double g[MOST], tau[MOST];
    static uint32_t group[MOST], turned[MOST];
    double all, part[GROUPS], swapped[GROUPS], sum = 0;
    const ws_rng_key key = ws_coefficients_key(9, "b");
    (void)state;
    fill(g, MOST, 1);
    fill(tau, MOST, 2);
    ws_random_groups(&key, GROUPS, 0, group, MOST);
    for (size_t i = 0; i < MOST; i++)
        turned[i] = (group[i] + 1) % GROUPS;
    ws_atlas_dot(g, tau, MOST, NULL, 1, &all);
    ws_atlas_dot(g, tau, MOST, group, GROUPS, part);
    ws_atlas_dot(g, tau, MOST, turned, GROUPS, swapped);
    for (size_t k = 0; k < GROUPS; k++) {
        sum += part[k];
        assert_true(part[k] == swapped[(k + 1) % GROUPS]);
    }
    assert_true(fabs(sum - all) < 1e-12);
}

/** <G, s B A> = s trace(A G^T B) */
static void factors_have_the_trace_as_gradient(void **state)
{
    enum { OUT = 23, IN = 17, R = 3 };
    static double G[OUT * IN], B[OUT * R], A[R * IN], tau[OUT * IN];
    double sum, trace = 0;
    (void)state;
    fill(G, OUT * IN, 1);
    fill(B, OUT * R, 2); // the scale is in it
    fill(A, R * IN, 3);
    for (size_t at = 0, n = 5; at < OUT * IN; at += n, n = 41) // rows and parts of them
        ws_atlas_rows(B, A, R, IN, at, n < OUT * IN - at ? n : OUT * IN - at, tau + at);
    ws_atlas_dot(G, tau, OUT * IN, NULL, 1, &sum);
    for (size_t k = 0; k < R; k++)
        for (size_t i = 0; i < OUT; i++) {
            double ag = 0; // row k of A times column i of G^T
            for (size_t j = 0; j < IN; j++)
                ag += A[k * IN + j] * G[i * IN + j];
            trace += ag * B[i * R + k];
        }
    assert_true(fabs(sum - trace) < 1e-12 * fabs(trace));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_the_derivative),
        cmocka_unit_test(negation_is_control_less_target),
        cmocka_unit_test(groups_share_out_a_block),
        cmocka_unit_test(gradients_of_groups_add_up),
        cmocka_unit_test(factors_have_the_trace_as_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
