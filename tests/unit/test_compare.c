/*
 * test_compare.c - figures of tensors, and differences between two models
 */
#include "st_fixture.h"
#include "ws_test.h"

#include "wsurg/compare.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/** Any reproducible values; about n distinct ones in -1 .. 1. */
static void fill(float *x, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
}

/* ---- figures ---- */

static ws_stats *stats_of(const st_item *items, size_t n, const ws_ctx *ctx)
{
    ws_err err = WS_ERR_INIT;
    ws_stats *s = NULL;
    uint8_t *image;
    ws_ckpt *c = st_open(items, n, &image);
    assert_ok(ws_stats_new(&s, c, ctx, &err), err);
    ws_ckpt_free(c);
    free(image);
    return s;
}

static void figures_of_a_small_tensor_are_exact(void **state)
{
    (void)state;
    static const float v[] = { 3.0f, -1.0f, 0.0f, 6.0f };
    const st_item items[] = { { "t", WS_DT_F32, 2, { 2, 2 }, v } };
    ws_stats *s = stats_of(items, 1, NULL);
    const ws_tensor_stats *t = &s->tensors[0];
    assert_true(t->numeric);
    assert_true(t->min == -1.0 && t->max == 6.0 && t->mean == 2.0);
    assert_close(t->std, sqrt(30.0 / 4.0), 1e-15);
    assert_close(t->norm, sqrt(46.0), 1e-15);
    assert_int_equal(t->zeros, 1);
    assert_int_equal(t->nans + t->infinities, 0);
    assert_close(s->norm, sqrt(46.0), 1e-15);
    assert_int_equal(s->elements, 4);
    ws_stats_free(s);
}

static void nan_and_infinity_are_counted_and_left_out(void **state)
{
    (void)state;
    const float v[] = { NAN, 2.0f, INFINITY, 4.0f, -INFINITY, -0.0f };
    const st_item items[] = { { "t", WS_DT_F32, 1, { 6 }, v } };
    ws_stats *s = stats_of(items, 1, NULL);
    const ws_tensor_stats *t = &s->tensors[0];
    assert_int_equal(t->nans, 1);
    assert_int_equal(t->infinities, 2);
    assert_int_equal(t->zeros, 1);
    assert_true(t->min == 0.0 && t->max == 4.0 && t->mean == 2.0);
    assert_int_equal(s->nans, 1);
    assert_int_equal(s->infinities, 2);
    ws_stats_free(s);
}

static void nothing_finite_gives_no_figures(void **state)
{
    (void)state;
    const float nan[] = { NAN };
    const uint8_t odd[] = { 1, 2 };
    const st_item items[] = { { "a", WS_DT_F32, 1, { 1 }, nan },
                              { "b", WS_DT_F32, 1, { 0 }, NULL },
                              { "c", WS_DT_F8_E8M0, 1, { 2 }, odd } };
    ws_stats *s = stats_of(items, 3, NULL);
    for (int i = 0; i < 3; i++) {
        const ws_tensor_stats *t = &s->tensors[i];
        assert_true(isnan(t->min) && isnan(t->max) && isnan(t->mean));
        assert_true(isnan(t->std) && isnan(t->norm));
        assert_int_equal(t->numeric, i < 2); // F8_E8M0 comes last
    }
    ws_stats_free(s);
}

static void integers_have_figures_too(void **state)
{
    (void)state;
    static const int64_t i64[] = { -5, 7, 1 };
    static const uint8_t flags[] = { 1, 0, 1, 1 };
    const st_item items[] = { { "b", WS_DT_BOOL, 1, { 4 }, flags },
                              { "i", WS_DT_I64, 1, { 3 }, i64 } };
    ws_stats *s = stats_of(items, 2, NULL); // I64 is first in file order
    assert_true(s->tensors[0].min == -5.0 && s->tensors[0].max == 7.0);
    assert_true(s->tensors[0].mean == 1.0);
    assert_true(s->tensors[1].mean == 0.75);
    ws_stats_free(s);
}

static void deviation_survives_a_mean_far_from_zero(void **state)
{
    (void)state;
    enum { N = 3 << 20 };
    double *v = malloc(N * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < N; i++)
        v[i] = 1e9 + (double)(i % 2);
    const st_item items[] = { { "t", WS_DT_F64, 1, { N }, v } };
    ws_stats *s = stats_of(items, 1, NULL);
    assert_close(s->tensors[0].std, 0.5, 1e-9);
    assert_true(s->tensors[0].mean == 1e9 + 0.5);
    ws_stats_free(s);
    free(v);
}

static void figures_do_not_depend_on_threads_or_memory(void **state)
{
    (void)state;
    enum { N = 2500 * 1013 };
    float *v = malloc(N * sizeof *v);
    assert_non_null(v);
    fill(v, N, 5);
    v[77] = NAN;
    const st_item items[] = { { "t", WS_DT_F32, 2, { 2500, 1013 }, v } };
    ws_ctx ctx = WS_CTX_INIT;
    ctx.threads = 1;
    ws_stats *one = stats_of(items, 1, &ctx);
    ctx.threads = 3;
    ctx.max_memory = 2 << 20;
    ws_stats *three = stats_of(items, 1, &ctx);
    one->tensors[0].t = three->tensors[0].t = NULL;
    assert_memory_equal(one->tensors, three->tensors, sizeof *one->tensors);
    ws_stats_free(one);
    ws_stats_free(three);
    free(v);
}

static void memory_below_one_thread_is_refused(void **state)
{
    (void)state;
    const float v[] = { 1.0f };
    const st_item items[] = { { "t", WS_DT_F32, 1, { 1 }, v } };
    ws_err err = WS_ERR_INIT;
    ws_ctx ctx = WS_CTX_INIT;
    ws_stats *s = NULL;
    uint8_t *image;
    ws_ckpt *c = st_open(items, 1, &image);
    ctx.max_memory = 1000;
    assert_int_equal(ws_stats_new(&s, c, &ctx, &err), WS_E_MEMORY);
    assert_non_null(strstr(err.msg, "the memory limit of 1000 bytes is below the "));
    assert_null(s);
    ws_ckpt_free(c);
    free(image);
}

static void stop_request_interrupts(void **state)
{
    (void)state;
    const float v[] = { 1.0f };
    const st_item items[] = { { "t", WS_DT_F32, 1, { 1 }, v } };
    ws_err err = WS_ERR_INIT;
    const atomic_int stop = 15;
    ws_ctx ctx = WS_CTX_INIT;
    ws_stats *s = NULL;
    uint8_t *image;
    ws_ckpt *c = st_open(items, 1, &image);
    ctx.stop = &stop;
    assert_int_equal(ws_stats_new(&s, c, &ctx, &err), WS_E_INTERRUPTED);
    ws_ckpt_free(c);
    free(image);
}

/* ---- differences ---- */

static ws_diff *diff_of(const st_item *a, size_t na, const st_item *b, size_t nb,
                        const ws_diff_opts *o, const ws_ctx *ctx)
{
    ws_err err = WS_ERR_INIT;
    ws_diff *d = NULL;
    uint8_t *image_a, *image_b;
    ws_ckpt *ca = st_open(a, na, &image_a), *cb = st_open(b, nb, &image_b);
    assert_ok(ws_diff_new(&d, ca, cb, o, ctx, &err), err);
    for (size_t i = 0; i < d->n; i++) { // names outlive the models in these tests
        const char *name = d->tensors[i].name;
        for (size_t k = 0; k < na; k++)
            if (strcmp(a[k].name, name) == 0)
                d->tensors[i].name = a[k].name;
        for (size_t k = 0; k < nb; k++)
            if (strcmp(b[k].name, name) == 0)
                d->tensors[i].name = b[k].name;
        d->tensors[i].a = d->tensors[i].b = NULL;
    }
    ws_ckpt_free(ca);
    ws_ckpt_free(cb);
    free(image_a);
    free(image_b);
    return d;
}

static void equal_models_are_equal(void **state)
{
    (void)state;
    static float v[5000];
    static const int32_t ids[] = { 1, 2, 3 };
    fill(v, COUNT(v), 9);
    v[4] = NAN;
    const st_item items[] = { { "w", WS_DT_F32, 1, { 5000 }, v },
                              { "ids", WS_DT_I32, 1, { 3 }, ids } };
    ws_diff *d = diff_of(items, 2, items, 2, NULL, NULL);
    assert_true(d->equal);
    assert_int_equal(d->n_equal, 2);
    assert_true(d->changed_share == 0.0 && d->relative_norm == 0.0);
    assert_true(d->cosine == 1.0 && d->max_abs == 0.0);
    assert_int_equal(d->tensors[0].not_finite, 1);
    assert_int_equal(d->tensors[0].broken, 0);
    ws_diff_free(d);
}

static void difference_of_values_is_exact(void **state)
{
    (void)state;
    static const float a[] = { 3.0f, 4.0f, 0.0f }, b[] = { 3.0f, 4.0f, 12.0f };
    const st_item x[] = { { "w", WS_DT_F32, 1, { 3 }, a } };
    const st_item y[] = { { "w", WS_DT_F32, 1, { 3 }, b } };
    ws_diff *d = diff_of(x, 1, y, 1, NULL, NULL);
    const ws_tensor_diff *t = &d->tensors[0];
    assert_false(d->equal);
    assert_int_equal(t->state, WS_DIFF_CHANGED);
    assert_int_equal(t->elements, 3);
    assert_int_equal(t->changed, 1);
    assert_true(t->max_abs == 12.0 && t->diff_sq == 144.0 && t->a_sq == 25.0);
    assert_true(t->b_sq == 169.0 && t->dot == 25.0);
    assert_close(t->relative_norm, 12.0 / 5.0, 1e-15);
    assert_close(t->cosine, 25.0 / (5.0 * 13.0), 1e-15);
    assert_close(d->changed_share, 1.0 / 3.0, 1e-15);
    ws_diff_free(d);
}

static void minus_zero_differs_in_bytes_only(void **state)
{
    (void)state;
    const float a[] = { 0.0f, 1.0f }, b[] = { -0.0f, 1.0f };
    const st_item x[] = { { "w", WS_DT_F32, 1, { 2 }, a } };
    const st_item y[] = { { "w", WS_DT_F32, 1, { 2 }, b } };
    ws_diff *d = diff_of(x, 1, y, 1, NULL, NULL);
    assert_int_equal(d->tensors[0].state, WS_DIFF_CHANGED);
    assert_int_equal(d->tensors[0].changed, 0);
    assert_false(d->equal);
    ws_diff_free(d);
    const ws_diff_opts o = { .tolerance = 1e-30 };
    d = diff_of(x, 1, y, 1, &o, NULL);
    assert_int_equal(d->tensors[0].state, WS_DIFF_CLOSE);
    assert_true(d->equal);
    ws_diff_free(d);
}

static void tolerance_is_inclusive(void **state)
{
    (void)state;
    const float a[] = { 1.0f, 2.0f }, b[] = { 1.25f, 1.75f };
    const st_item x[] = { { "w", WS_DT_F32, 1, { 2 }, a } };
    const st_item y[] = { { "w", WS_DT_F32, 1, { 2 }, b } };
    ws_diff_opts o = { .tolerance = 0.25 };
    ws_diff *d = diff_of(x, 1, y, 1, &o, NULL);
    assert_true(d->equal);
    assert_int_equal(d->n_close, 1);
    assert_int_equal(d->tensors[0].changed, 2);
    assert_int_equal(d->tensors[0].beyond, 0);
    ws_diff_free(d);
    o.tolerance = 0.2499;
    d = diff_of(x, 1, y, 1, &o, NULL);
    assert_false(d->equal);
    assert_int_equal(d->tensors[0].beyond, 2);
    ws_diff_free(d);
}

static void not_finite_against_finite_is_beyond_any_tolerance(void **state)
{
    (void)state;
    const float a[] = { NAN, INFINITY, INFINITY, 1.0f };
    const float b[] = { 1.0f, -INFINITY, INFINITY, 2.0f };
    const st_item x[] = { { "w", WS_DT_F32, 1, { 4 }, a } };
    const st_item y[] = { { "w", WS_DT_F32, 1, { 4 }, b } };
    const ws_diff_opts o = { .tolerance = 100.0 };
    ws_diff *d = diff_of(x, 1, y, 1, &o, NULL);
    const ws_tensor_diff *t = &d->tensors[0];
    assert_int_equal(t->not_finite, 3);
    assert_int_equal(t->broken, 2);
    assert_int_equal(t->changed, 3);
    assert_int_equal(t->beyond, 2);
    assert_true(t->max_abs == 1.0 && t->a_sq == 1.0);
    assert_int_equal(t->state, WS_DIFF_CHANGED);
    ws_diff_free(d);
}

static void integers_compare_exactly_whatever_the_tolerance(void **state)
{
    (void)state;
    const int16_t a[] = { 1, 2, 3, 4 }, b[] = { 1, 2, 4, 5 };
    const st_item x[] = { { "i", WS_DT_I16, 1, { 4 }, a } };
    const st_item y[] = { { "i", WS_DT_I16, 1, { 4 }, b } };
    const ws_diff_opts o = { .tolerance = 100.0 };
    ws_diff *d = diff_of(x, 1, y, 1, &o, NULL);
    assert_int_equal(d->tensors[0].state, WS_DIFF_CHANGED);
    assert_int_equal(d->tensors[0].changed, 2);
    assert_true(isnan(d->tensors[0].max_abs) && isnan(d->relative_norm));
    assert_true(d->changed_share == 0.5);
    ws_diff_free(d);
}

static void names_shapes_and_dtypes_are_told_apart(void **state)
{
    (void)state;
    static const float f[] = { 1, 2, 3, 4 };
    static const uint16_t bf[] = { 0x3f80, 0x4000, 0x4040, 0x4090 }; // 1 2 3 4.5
    const st_item x[] = { { "gone", WS_DT_F32, 1, { 1 }, f },
                          { "kind", WS_DT_F32, 1, { 4 }, f },
                          { "same", WS_DT_F32, 1, { 4 }, f },
                          { "shape", WS_DT_F32, 2, { 2, 2 }, f } };
    const st_item y[] = { { "kind", WS_DT_BF16, 1, { 4 }, bf },
                          { "new", WS_DT_F32, 1, { 1 }, f },
                          { "same", WS_DT_F32, 1, { 4 }, f },
                          { "shape", WS_DT_F32, 1, { 4 }, f } };
    ws_diff *d = diff_of(x, 4, y, 4, NULL, NULL);
    static const struct {
        const char *name;
        ws_diff_state state;
    } want[] = { { "gone", WS_DIFF_ONLY_A },
                 { "kind", WS_DIFF_DTYPE },
                 { "same", WS_DIFF_EQUAL },
                 { "shape", WS_DIFF_SHAPE },
                 { "new", WS_DIFF_ONLY_B } };
    assert_int_equal(d->n, 5);
    for (size_t i = 0; i < d->n; i++) {
        assert_string_equal(d->tensors[i].name, want[i].name);
        assert_int_equal(d->tensors[i].state, want[i].state);
    }
    assert_int_equal(d->n_mismatched, 2);
    assert_int_equal(d->n_only_a + d->n_only_b + d->n_equal, 3);
    assert_true(d->tensors[1].max_abs == 0.5); // values compare across dtypes
    assert_true(isnan(d->tensors[3].max_abs));
    size_t worst[10];
    assert_int_equal(ws_diff_worst(d, worst, 10), 4);
    assert_int_equal(ws_diff_worst(d, worst, 2), 2);
    ws_diff_free(d);
}

static void worst_come_first(void **state)
{
    (void)state;
    static const float one[] = { 1 }, b1[] = { 1.5 }, b2[] = { 3 }, b3[] = { 2 };
    const float bad[] = { NAN };
    const st_item x[] = { { "a", WS_DT_F32, 1, { 1 }, one },
                          { "b", WS_DT_F32, 1, { 1 }, one },
                          { "c", WS_DT_F32, 1, { 1 }, one },
                          { "d", WS_DT_F32, 1, { 1 }, one },
                          { "e", WS_DT_F32, 1, { 1 }, one } };
    const st_item y[] = { { "a", WS_DT_F32, 1, { 1 }, b1 },
                          { "b", WS_DT_F32, 1, { 1 }, b2 },
                          { "c", WS_DT_F32, 1, { 1 }, one },
                          { "d", WS_DT_F32, 1, { 1 }, bad },
                          { "e", WS_DT_F32, 1, { 1 }, b3 } };
    ws_diff *d = diff_of(x, 5, y, 5, NULL, NULL);
    size_t worst[10];
    assert_int_equal(ws_diff_worst(d, worst, 10), 4);
    assert_string_equal(d->tensors[worst[0]].name, "d");
    assert_string_equal(d->tensors[worst[1]].name, "b");
    assert_string_equal(d->tensors[worst[2]].name, "e");
    assert_string_equal(d->tensors[worst[3]].name, "a");
    assert_int_equal(ws_diff_worst(d, worst, 1), 1);
    assert_string_equal(d->tensors[worst[0]].name, "d");
    assert_int_equal(ws_diff_worst(d, worst, 0), 0);
    ws_diff_free(d);
}

static void differences_do_not_depend_on_threads_or_memory(void **state)
{
    (void)state;
    enum { N = 1700 * 1500 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    assert_true(a != NULL && b != NULL);
    fill(a, N, 5);
    fill(b, N, 6);
    memcpy(b + 10000, a + 10000, 700000 * sizeof *b);
    b[1234567] = INFINITY;
    const st_item x[] = { { "t", WS_DT_F32, 2, { 1700, 1500 }, a } };
    const st_item y[] = { { "t", WS_DT_F32, 2, { 1700, 1500 }, b } };
    ws_ctx ctx = WS_CTX_INIT;
    ctx.threads = 1;
    ws_diff *one = diff_of(x, 1, y, 1, NULL, &ctx);
    ctx.threads = 3;
    ctx.max_memory = 3 << 20;
    ws_diff *three = diff_of(x, 1, y, 1, NULL, &ctx);
    assert_memory_equal(one->tensors, three->tensors, sizeof *one->tensors);
    assert_int_equal(one->tensors[0].broken, 1);
    assert_true(one->tensors[0].changed <= N - 700000);
    ws_diff_free(one);
    ws_diff_free(three);
    free(a);
    free(b);
}

static bool only_b(void *arg, const char *name)
{
    (void)arg;
    return strcmp(name, "b") == 0;
}

static void unwanted_tensors_are_not_read(void **state)
{
    (void)state;
    static const float one[] = { 1 }, two[] = { 2 };
    const st_item x[] = { { "a", WS_DT_F32, 1, { 1 }, one },
                          { "b", WS_DT_F32, 1, { 1 }, one } };
    const st_item y[] = { { "a", WS_DT_F32, 1, { 1 }, two },
                          { "b", WS_DT_F32, 1, { 1 }, one } };
    const ws_diff_opts o = { .wanted = only_b };
    ws_diff *d = diff_of(x, 2, y, 2, &o, NULL);
    assert_true(d->equal);
    assert_int_equal(d->tensors[0].elements, 0);
    assert_true(isnan(d->tensors[0].max_abs));
    ws_diff_free(d);
}

static void zero_tensors_have_defined_figures(void **state)
{
    (void)state;
    static const float zero[] = { 0 }, one[] = { 1 };
    const st_item x[] = { { "a", WS_DT_F32, 1, { 1 }, zero },
                          { "b", WS_DT_F32, 1, { 1 }, zero } };
    const st_item y[] = { { "a", WS_DT_F32, 1, { 1 }, zero },
                          { "b", WS_DT_F32, 1, { 1 }, one } };
    ws_diff *d = diff_of(x, 2, y, 2, NULL, NULL);
    assert_true(d->tensors[0].relative_norm == 0.0 && d->tensors[0].cosine == 1.0);
    assert_true(isinf(d->tensors[1].relative_norm) && isnan(d->tensors[1].cosine));
    ws_diff_free(d);
}

static void allocation_failures_leak_nothing(void **state)
{
    (void)state;
    static const float one[] = { 1 };
    const st_item x[] = { { "a", WS_DT_F32, 1, { 1 }, one } };
    uint8_t *image;
    ws_ckpt *c = st_open(x, 1, &image);
    ws_ctx ctx = WS_CTX_INIT;
    ctx.threads = 1;
    const long live = ws_alloc_live();
    int ok = 0;
    for (long n = 0; n < 40; n++) {
        ws_diff *d = NULL;
        ws_stats *s = NULL;
        ws_alloc_fail_after(n);
        const ws_status st = ws_diff_new(&d, c, c, NULL, &ctx, NULL);
        ws_alloc_fail_after(n);
        const ws_status ss = ws_stats_new(&s, c, &ctx, NULL);
        ws_alloc_fail_after(-1);
        assert_true(st == WS_OK || (st == WS_E_MEMORY && d == NULL));
        assert_true(ss == WS_OK || (ss == WS_E_MEMORY && s == NULL));
        ok += st == WS_OK && ss == WS_OK;
        ws_diff_free(d);
        ws_stats_free(s);
        assert_int_equal(ws_alloc_live(), live);
    }
    assert_true(ok > 0 && ok < 40);
    ws_ckpt_free(c);
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_of_a_small_tensor_are_exact),
        cmocka_unit_test(nan_and_infinity_are_counted_and_left_out),
        cmocka_unit_test(nothing_finite_gives_no_figures),
        cmocka_unit_test(integers_have_figures_too),
        cmocka_unit_test(deviation_survives_a_mean_far_from_zero),
        cmocka_unit_test(figures_do_not_depend_on_threads_or_memory),
        cmocka_unit_test(memory_below_one_thread_is_refused),
        cmocka_unit_test(stop_request_interrupts),
        cmocka_unit_test(equal_models_are_equal),
        cmocka_unit_test(difference_of_values_is_exact),
        cmocka_unit_test(minus_zero_differs_in_bytes_only),
        cmocka_unit_test(tolerance_is_inclusive),
        cmocka_unit_test(not_finite_against_finite_is_beyond_any_tolerance),
        cmocka_unit_test(integers_compare_exactly_whatever_the_tolerance),
        cmocka_unit_test(names_shapes_and_dtypes_are_told_apart),
        cmocka_unit_test(worst_come_first),
        cmocka_unit_test(differences_do_not_depend_on_threads_or_memory),
        cmocka_unit_test(unwanted_tensors_are_not_read),
        cmocka_unit_test(zero_tensors_have_defined_figures),
        cmocka_unit_test(allocation_failures_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
