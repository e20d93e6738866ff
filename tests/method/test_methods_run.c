/*
 * test_methods_run.c - what every merge method must do, whatever it computes
 */
#include "method/drive.h"
#include "wsurg/alloc.h"

enum { MODELS = 3 };

/** One method, in one arithmetic, on inputs of its own. */
struct trial {
    struct drive d;
    size_t bytes;
    void *base, *in[MODELS], *out, *again;
};

static double next(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (double)(*s >> 11) / 4503599627370496.0 - 1.0;
}

static void put(const struct trial *t, void *array, size_t i, double value)
{
    const float f = (float)value;
    if (t->d.f64)
        ((double *)array)[i] = value;
    else
        ((float *)array)[i] = f;
}

static double get(const struct trial *t, const void *array, size_t i)
{
    return t->d.f64 ? ((const double *)array)[i] : (double)((const float *)array)[i];
}

static size_t models_of(const ws_method *m)
{
    return m->models.max < MODELS ? m->models.max : MODELS;
}

static struct trial trial_new(const ws_method *m, bool f64, int rank,
                              const uint64_t *shape)
{
    struct trial t = { .d = drive_new(m->name, f64, rank, shape, models_of(m)) };
    uint64_t s = 5;
    t.bytes = (size_t)t.d.n * (f64 ? 8 : 4);
    t.base = drive_calloc(1, t.bytes);
    t.out = drive_calloc(1, t.bytes);
    t.again = drive_calloc(1, t.bytes);
    for (size_t k = 0; k < MODELS; k++)
        t.in[k] = drive_calloc(1, t.bytes);
    for (size_t i = 0; i < t.d.n; i++) {
        const double b = next(&s);
        put(&t, t.base, i, b);
        for (size_t k = 0; k < MODELS; k++) {
            const double z = next(&s), size = z < -0.5 ? 0.0 : 0.01;
            put(&t, t.in[k], i, (double)(float)b + (double)(float)(size * next(&s)));
        }
    }
    t.d.base = m->base == WS_BASE_REQUIRED ? t.base : NULL;
    for (size_t k = 0; k < t.d.n_models; k++)
        t.d.in[k] = t.in[k];
    t.d.tile = 64;
    return t;
}

static void trial_free(struct trial *t)
{
    free(t->base);
    free(t->out);
    free(t->again);
    for (size_t k = 0; k < MODELS; k++)
        free(t->in[k]);
}

/** Call @p check for every method in both arithmetics on a matrix of 24 x 70. */
static void each(void (*check)(struct trial *t))
{
    const uint64_t shape[2] = { 24, 70 };
    for (size_t i = 0; i < ws_method_count(); i++)
        for (int f64 = 0; f64 < 2; f64++) {
            struct trial t = trial_new(ws_method_at(i), f64 == 1, 2, shape);
            check(&t);
            trial_free(&t);
        }
}

static void assert_same(const struct trial *t, const void *a, const void *b,
                        const char *what)
{
    if (memcmp(a, b, t->bytes) != 0)
        fail_msg("%s, %s: %s changes the result", t->d.method->name,
                 t->d.f64 ? "f64" : "f32", what);
}

static void check_equal_inputs(struct trial *t)
{
    struct drive_job work;
    drive_job(&t->d, &work);
    if (t->d.method->keeps_equal == NULL || !t->d.method->keeps_equal(&work.job))
        return;
    for (size_t k = 0; k < t->d.n_models; k++)
        t->d.in[k] = t->base;
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    for (size_t i = 0; i < t->d.n; i++)
        assert_close(get(t, t->out, i), get(t, t->base, i), t->d.f64 ? 1e-15 : 2e-7);
    if (t->d.method->base == WS_BASE_REQUIRED) // no update: not even rounding
        assert_same(t, t->out, t->base, "an equal input");
}

static void equal_inputs_give_that_input(void **unused)
{
    (void)unused;
    each(check_equal_inputs);
}

static void check_order(struct trial *t)
{
    const size_t n = t->d.n_models;
    if (t->d.method->random || drive_param(&t->d, "t") >= 0)
        return; // the place of a model is part of its numbers
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    for (size_t k = 0; k < n; k++)
        t->d.in[k] = t->in[n - 1 - k];
    assert_ok(drive_run(&t->d, t->again), t->d.err);
    for (size_t i = 0; i < t->d.n; i++)
        assert_close(get(t, t->again, i), get(t, t->out, i), t->d.f64 ? 1e-14 : 1e-6);
}

static void the_order_of_models_does_not_matter(void **unused)
{
    (void)unused;
    each(check_order);
}

static void check_alias(struct trial *t)
{
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    memcpy(t->again, t->in[0], t->bytes);
    t->d.in[0] = t->again;
    assert_ok(drive_run(&t->d, t->again), t->d.err);
    assert_same(t, t->again, t->out, "out in place of in[0]");
}

static void out_may_be_the_first_input(void **unused)
{
    (void)unused;
    each(check_alias);
}

static void check_tiles(struct trial *t)
{
    const size_t tiles[] = { 1, 7, 70, 141, 1000, 1 << 20 };
    ws_tally tally[WS_MODELS_MAX];
    t->d.slice_len = 350;
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    memcpy(tally, t->d.tally, sizeof tally);
    for (size_t i = 0; i < sizeof tiles / sizeof tiles[0]; i++) {
        t->d.tile = tiles[i];
        assert_ok(drive_run(&t->d, t->again), t->d.err);
        assert_same(t, t->again, t->out, "the size of tiles");
        assert_memory_equal(t->d.tally, tally, sizeof tally);
    }
}

static void any_cut_into_tiles_gives_the_same_bits(void **unused)
{
    (void)unused;
    each(check_tiles);
}

static void check_inputs(struct trial *t)
{
    void *copy = drive_calloc(MODELS + 1, t->bytes);
    for (size_t k = 0; k < MODELS; k++)
        memcpy((char *)copy + k * t->bytes, t->in[k], t->bytes);
    memcpy((char *)copy + MODELS * t->bytes, t->base, t->bytes);
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    for (size_t k = 0; k < MODELS; k++)
        assert_memory_equal(t->in[k], (char *)copy + k * t->bytes, t->bytes);
    assert_memory_equal(t->base, (char *)copy + MODELS * t->bytes, t->bytes);
    free(copy);
}

static void inputs_stay_as_they_are(void **unused)
{
    (void)unused;
    each(check_inputs);
}

static void check_scale(struct trial *t)
{
    if (!t->d.method->scaled)
        return;
    put(t, t->base, 0, -0.0);
    t->d.scale = 0.0;
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    assert_same(t, t->out, t->base, "an update scaled by 0");
    t->d.scale = 1.0;
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    t->d.scale = 0.5;
    assert_ok(drive_run(&t->d, t->again), t->d.err);
    for (size_t i = 0; i < t->d.n; i++) {
        const double b = get(t, t->base, i);
        assert_close(get(t, t->again, i), b + 0.5 * (get(t, t->out, i) - b), 1e-6);
    }
}

static void scale_multiplies_the_update(void **unused)
{
    (void)unused;
    each(check_scale);
}

static void check_seed(struct trial *t)
{
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    assert_ok(drive_run(&t->d, t->again), t->d.err);
    assert_same(t, t->again, t->out, "running again");
    t->d.seed = 1;
    assert_ok(drive_run(&t->d, t->again), t->d.err);
    const bool same = memcmp(t->again, t->out, t->bytes) == 0;
    assert_int_equal(same, !t->d.method->random);
    t->d.seed = 0;
    t->d.name = "u";
    assert_ok(drive_run(&t->d, t->again), t->d.err);
    assert_int_equal(memcmp(t->again, t->out, t->bytes) == 0, !t->d.method->random);
}

static void only_random_methods_depend_on_seed_and_name(void **unused)
{
    (void)unused;
    each(check_seed);
}

static void check_ends(struct trial *t)
{
    const struct drive fresh = t->d;
    for (int p = 0; fresh.method->params[p].name != NULL; p++)
        for (int end = 0; end < 2; end++) {
            const ws_param *q = &fresh.method->params[p];
            double v = end == 0 ? q->min : q->max;
            if (q->kind == WS_PARAM_CHOICE && end == 1) {
                v = 0.0;
                for (const char *c = q->choices; *c != '\0'; c++)
                    v += *c == '|';
            }
            t->d = fresh;
            drive_set(&t->d, q->name, v);
            const ws_status st = drive_run(&t->d, t->out);
            if (st != WS_OK) {
                assert_int_equal(st, WS_E_USAGE);
                assert_true(t->d.err.msg[0] != '\0' && t->d.err.hint[0] != '\0');
                continue;
            }
            for (size_t i = 0; i < t->d.n; i++)
                assert_true(isfinite(get(t, t->out, i)));
        }
}

static void every_parameter_works_at_both_ends(void **unused)
{
    (void)unused;
    each(check_ends);
}

static void check_wild(struct trial *t)
{
    const double wild[] = { NAN, INFINITY, -INFINITY, -0.0, 1e38, -1e38, 1e-45 };
    uint64_t s = 2;
    for (size_t i = 0; i < t->d.n; i++) {
        const size_t kind = (size_t)((next(&s) + 1.0) * 8.0);
        if (kind < 7)
            put(t, (i % 4 == 3) ? t->base : t->in[i % 4], i, wild[kind]);
    }
    assert_ok(drive_run(&t->d, t->out), t->d.err);
    for (size_t k = 0; k < t->d.n_models; k++) {
        const ws_tally *y = &t->d.tally[k];
        const uint64_t all =
            y->kept + y->dropped_small + y->dropped_large + y->dropped_random;
        assert_true(all == 0 || all == t->d.n);
    }
}

static void non_finite_inputs_do_no_harm(void **unused)
{
    (void)unused;
    each(check_wild);
}

static void small_and_empty_shapes_work(void **unused)
{
    const uint64_t shapes[][4] = { { 0 },       { 1 },         { 2 },    { 0, 4 },
                                   { 4, 0 },    { 1, 1 },      { 1, 5 }, { 5, 1 },
                                   { 2, 1, 3 }, { 1, 2, 2, 2 } };
    const int ranks[] = { 1, 1, 1, 2, 2, 2, 2, 2, 3, 4 };
    (void)unused;
    for (size_t m = 0; m < ws_method_count(); m++)
        for (int i = -1; i < 10; i++)
            for (int f64 = 0; f64 < 2; f64++) {
                const uint64_t *shape = i < 0 ? NULL : shapes[i];
                struct trial t =
                    trial_new(ws_method_at(m), f64 == 1, i < 0 ? 0 : ranks[i], shape);
                assert_ok(drive_run(&t.d, t.out), t.d.err);
                for (size_t e = 0; e < t.d.n; e++)
                    assert_true(isfinite(get(&t, t.out, e)));
                trial_free(&t);
            }
}

/* Large enough for the selection to sample; what sampling passes leave out changes
 * nothing. */
static void sampling_spares_work_and_changes_nothing(void **unused)
{
    const uint64_t shape[2] = { 600, 1000 };
    (void)unused;
    for (size_t m = 0; m < ws_method_count(); m++) {
        if (ws_method_at(m)->update == NULL)
            continue;
        struct trial t = trial_new(ws_method_at(m), false, 2, shape);
        t.d.slice_len = 100000;
        t.d.tile = 3000;
        assert_ok(drive_run(&t.d, t.out), t.d.err);
        const int passes = t.d.passes;
        t.d.all_tiles = true;
        t.d.tile = 500;
        assert_ok(drive_run(&t.d, t.again), t.d.err);
        assert_int_equal(t.d.passes, passes);
        assert_same(&t, t.again, t.out, "reading everything");
        trial_free(&t);
    }
}

static void check_allocations(struct trial *t)
{
    const long live = ws_alloc_live();
    ws_alloc_fail_after(0);
    const ws_status st = drive_run(&t->d, t->out);
    ws_alloc_fail_after(-1);
    assert_ok(st, t->d.err);
    assert_int_equal(ws_alloc_live(), live);
}

static void kernels_allocate_nothing(void **unused)
{
    (void)unused;
    each(check_allocations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_inputs_give_that_input),
        cmocka_unit_test(the_order_of_models_does_not_matter),
        cmocka_unit_test(out_may_be_the_first_input),
        cmocka_unit_test(any_cut_into_tiles_gives_the_same_bits),
        cmocka_unit_test(inputs_stay_as_they_are),
        cmocka_unit_test(scale_multiplies_the_update),
        cmocka_unit_test(only_random_methods_depend_on_seed_and_name),
        cmocka_unit_test(every_parameter_works_at_both_ends),
        cmocka_unit_test(non_finite_inputs_do_no_harm),
        cmocka_unit_test(small_and_empty_shapes_work),
        cmocka_unit_test(sampling_spares_work_and_changes_nothing),
        cmocka_unit_test(kernels_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
