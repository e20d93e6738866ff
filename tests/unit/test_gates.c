/*
 * test_gates.c - gates: what passes, what does not, and who is named
 */
#include "st_fixture.h"
#include "ws_test.h"

#include "wsurg/gates.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const float one[] = { 1, 2, 3, 4 }, two[] = { 1, 2, 3, 5 },
                   bad[] = { 1, NAN, 3, 4 };
static const float zero[] = { 0, 0, 0, 0 };
static const int32_t ids[] = { 1, 2 }, other_ids[] = { 1, 3 };

static const st_item base[] = { { "a.w", WS_DT_F32, 1, { 4 }, one },
                                { "b.w", WS_DT_F32, 1, { 4 }, one },
                                { "ids", WS_DT_I32, 1, { 2 }, ids } };

static ws_status run(const st_item *items, size_t n, const ws_gates_opts *o,
                     ws_gates *g, ws_err *err)
{
    uint8_t *image, *image_base;
    ws_ckpt *c = st_open(items, n, &image),
            *b = st_open(base, COUNT(base), &image_base);
    const ws_status st = ws_gates_run(g, c, b, o, NULL, err);
    for (size_t i = 0; i < g->n; i++) // names outlive the models in these tests
        for (size_t k = 0; k < g->gates[i].n_worst; k++) {
            const char *name = g->gates[i].worst[k].tensor;
            static char kept[8][32];
            snprintf(kept[(i + k) % 8], sizeof kept[0], "%s", name);
            g->gates[i].worst[k].tensor = kept[(i + k) % 8];
        }
    ws_ckpt_free(c);
    ws_ckpt_free(b);
    free(image);
    free(image_base);
    return st;
}

static ws_gates_opts all(void)
{
    ws_gates_opts o = WS_GATES_OPTS_INIT;
    o.finite = o.same = true;
    o.frozen = "^a";
    o.only = "^b";
    o.max_rel_delta = 0.5;
    o.min_cosine = 0.9;
    return o;
}

static void equal_model_passes_every_gate(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    const ws_gates_opts o = all();
    assert_ok(run(base, COUNT(base), &o, &g, &err), err);
    assert_true(g.passed);
    static const char *const names[] = { "finite", "same",          "frozen",
                                         "only",   "max-rel-delta", "min-cosine" };
    assert_int_equal(g.n, 6);
    for (size_t i = 0; i < g.n; i++) {
        assert_string_equal(g.gates[i].name, names[i]);
        assert_true(g.gates[i].passed);
        assert_int_equal(g.gates[i].n_worst, 0);
    }
    assert_true(g.gates[5].value == 1.0 && g.gates[5].limit == 0.9);
}

static void change_of_an_allowed_tensor_passes(void **state)
{
    (void)state;
    const st_item m[] = { base[0], { "b.w", WS_DT_F32, 1, { 4 }, two }, base[2] };
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    const ws_gates_opts o = all();
    assert_ok(run(m, 3, &o, &g, &err), err);
    assert_true(g.passed);
    assert_close(g.gates[4].value, 1.0 / sqrt(30.0), 1e-12);
}

static void change_of_a_frozen_tensor_fails_both_byte_gates(void **state)
{
    (void)state;
    const st_item m[] = { { "a.w", WS_DT_F32, 1, { 4 }, two }, base[1], base[2] };
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    ws_gates_opts o = WS_GATES_OPTS_INIT;
    o.frozen = "^a";
    o.only = "^b";
    assert_ok(run(m, 3, &o, &g, &err), err);
    assert_false(g.passed);
    assert_int_equal(g.n, 2);
    for (int i = 0; i < 2; i++) {
        assert_false(g.gates[i].passed);
        assert_true(g.gates[i].value == 1.0);
        assert_string_equal(g.gates[i].worst[0].tensor, "a.w");
        assert_true(g.gates[i].worst[0].value == 1.0);
    }
}

static void limits_are_inclusive(void **state)
{
    (void)state;
    const st_item m[] = { { "a.w", WS_DT_F32, 1, { 4 }, two }, base[1], base[2] };
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    ws_gates_opts o = WS_GATES_OPTS_INIT;
    o.max_rel_delta = 1.0 / sqrt(30.0);
    assert_ok(run(m, 3, &o, &g, &err), err);
    assert_true(g.passed);
    o.max_rel_delta = 0.18;
    assert_ok(run(m, 3, &o, &g, &err), err);
    assert_false(g.passed);
    assert_string_equal(g.gates[0].worst[0].tensor, "a.w");
}

/** What figures cannot show fails the gates of figures, too. */
static void check_unjudged(const st_item *m, size_t n, const char *name)
{
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    ws_gates_opts o = WS_GATES_OPTS_INIT;
    o.max_rel_delta = 1e30;
    o.min_cosine = 0.1;
    assert_ok(run(m, n, &o, &g, &err), err);
    assert_false(g.passed);
    assert_true(isinf(g.gates[0].value));
    assert_true(g.gates[1].value == 0.0);
    assert_string_equal(g.gates[0].worst[0].tensor, name);
    assert_string_equal(g.gates[1].worst[0].tensor, name);
}

static void what_cannot_be_judged_does_not_pass(void **state)
{
    (void)state;
    const st_item nan[] = { { "a.w", WS_DT_F32, 1, { 4 }, bad }, base[1], base[2] };
    check_unjudged(nan, 3, "a.w");
    const st_item shape[] = { base[0], { "b.w", WS_DT_F32, 1, { 3 }, one }, base[2] };
    check_unjudged(shape, 3, "b.w");
    const st_item missing[] = { base[0], base[1] };
    check_unjudged(missing, 2, "ids");
    const st_item integers[] = { base[0],
                                 base[1],
                                 { "ids", WS_DT_I32, 1, { 2 }, other_ids } };
    check_unjudged(integers, 3, "ids");
    const st_item more[] = {
        base[0], base[1], base[2], { "new", WS_DT_F32, 1, { 4 }, one }
    };
    check_unjudged(more, 4, "new");
}

static void zeroed_tensor_has_no_cosine(void **state)
{
    (void)state;
    const st_item m[] = { { "a.w", WS_DT_F32, 1, { 4 }, zero }, base[1], base[2] };
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    ws_gates_opts o = WS_GATES_OPTS_INIT;
    o.min_cosine = 0.0;
    assert_ok(run(m, 3, &o, &g, &err), err);
    assert_true(g.passed && g.gates[0].value == 0.0);
    o.min_cosine = 1e-9;
    assert_ok(run(m, 3, &o, &g, &err), err);
    assert_false(g.passed);
}

static void names_shapes_and_dtypes_are_counted(void **state)
{
    (void)state;
    const uint16_t half[] = { 0, 0, 0, 0 };
    const st_item m[] = { { "a.w", WS_DT_F16, 1, { 4 }, half },
                          { "b.w", WS_DT_F32, 2, { 2, 2 }, one },
                          { "new", WS_DT_F32, 1, { 1 }, one } };
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    ws_gates_opts o = WS_GATES_OPTS_INIT;
    o.same = true;
    assert_ok(run(m, 3, &o, &g, &err), err);
    assert_false(g.passed);
    assert_true(g.gates[0].value == 4.0); // dtype, shape, gone, new
    assert_int_equal(g.gates[0].n_worst, 4);
}

static void not_finite_values_are_counted_and_named(void **state)
{
    (void)state;
    const float worse[] = { NAN, INFINITY, 1, 2 };
    const st_item m[] = { { "a.w", WS_DT_F32, 1, { 4 }, bad },
                          { "b.w", WS_DT_F32, 1, { 4 }, worse },
                          base[2] };
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    ws_gates_opts o = WS_GATES_OPTS_INIT;
    o.finite = true;
    assert_ok(run(m, 3, &o, &g, &err), err);
    assert_false(g.passed);
    assert_true(g.gates[0].value == 3.0);
    assert_string_equal(g.gates[0].worst[0].tensor, "b.w");
    assert_string_equal(g.gates[0].worst[1].tensor, "a.w");
}

static void patterns_must_hit_and_answer(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_gates g;
    ws_gates_opts o = WS_GATES_OPTS_INIT;
    o.frozen = "nothing";
    assert_int_equal(run(base, COUNT(base), &o, &g, &err), WS_E_USAGE);
    assert_string_equal(err.msg, "--frozen 'nothing' hits no tensor");
    const st_item m[] = { { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
                            WS_DT_F32,
                            1,
                            { 4 },
                            one } };
    err = (ws_err)WS_ERR_INIT;
    o.frozen = "^(a|aa|aaa)+$";
    assert_int_equal(run(m, 1, &o, &g, &err), WS_E_USAGE);
    assert_non_null(strstr(err.msg, "gives no answer"));
    err = (ws_err)WS_ERR_INIT;
    uint8_t *image;
    ws_ckpt *c = st_open(base, COUNT(base), &image);
    o.frozen = "a";
    assert_int_equal(ws_gates_run(&g, c, NULL, &o, NULL, &err), WS_E_USAGE);
    ws_ckpt_free(c);
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_model_passes_every_gate),
        cmocka_unit_test(change_of_an_allowed_tensor_passes),
        cmocka_unit_test(change_of_a_frozen_tensor_fails_both_byte_gates),
        cmocka_unit_test(limits_are_inclusive),
        cmocka_unit_test(what_cannot_be_judged_does_not_pass),
        cmocka_unit_test(zeroed_tensor_has_no_cosine),
        cmocka_unit_test(names_shapes_and_dtypes_are_counted),
        cmocka_unit_test(not_finite_values_are_counted_and_named),
        cmocka_unit_test(patterns_must_hit_and_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
