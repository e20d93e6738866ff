/*
 * test_kernel_lanes.c - sums in lanes, and products between vectors
 */
#include "ws_test.h"

#include "engine/kernel_select.h"
#include "engine/kernel_update.h"
#include "wsurg/method.h"

enum { N = 3000 };

static float x32[N], y32[N];
static double x64[N], y64[N];

static int fill(void **unused)
{
    uint64_t s = 3;
    (void)unused;
    for (size_t i = 0; i < N; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        x64[i] = (double)(int64_t)s / 1e18;
        s = s * 6364136223846793005u + 1442695040888963407u;
        y64[i] = (double)(int64_t)s / 1e18;
        x32[i] = (float)x64[i];
        y32[i] = (float)y64[i];
    }
    return 0;
}

/** Term i to lane i mod 16, then halves of the lanes onto each other. */
static double by_definition(const double *terms, size_t n)
{
    double lane[16] = { 0 };
    for (size_t i = 0; i < n; i++)
        lane[i % 16] += terms[i];
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            lane[j] += lane[j + half];
    return lane[0];
}

static void sums_follow_the_definition_to_the_bit(void **unused)
{
    const size_t sizes[] = { 0, 1, 15, 16, 17, 1000, N };
    static double terms[4][N];
    (void)unused;
    for (size_t i = 0; i < N; i++) {
        terms[0][i] = fabs((double)x32[i]);
        terms[1][i] = (double)x32[i] * (double)y32[i];
        terms[2][i] = fabs(x64[i]);
        terms[3][i] = x64[i] * y64[i];
    }
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        ws_lanes l[4] = { 0 };
        ws_lanes_add_abs_f32(&l[0], x32, sizes[s]);
        ws_lanes_add_dot_f32(&l[1], x32, y32, sizes[s]);
        ws_lanes_add_abs_f64(&l[2], x64, sizes[s]);
        ws_lanes_add_dot_f64(&l[3], x64, y64, sizes[s]);
        for (int k = 0; k < 4; k++) {
            assert_true(ws_lanes_sum(&l[k]) == by_definition(terms[k], sizes[s]));
            assert_int_equal(l[k].count, sizes[s]);
        }
    }
}

static void any_cut_gives_the_same_bits(void **unused)
{
    ws_lanes whole = { 0 };
    (void)unused;
    ws_lanes_add_dot_f32(&whole, x32, y32, N);
    for (size_t step = 1; step < 200; step++) {
        ws_lanes cut = { 0 };
        for (size_t i = 0; i < N; i += step)
            ws_lanes_add_dot_f32(&cut, x32 + i, y32 + i, N - i < step ? N - i : step);
        assert_memory_equal(&cut, &whole, sizeof cut);
    }
}

static void differences_may_overwrite_an_operand(void **unused)
{
    float a[5] = { 1, 2, 3, 4, 5 };
    const float b[5] = { 5, 4, 3, 2, 1 }, want[5] = { -4, -2, 0, 2, 4 };
    double c[2] = { 1, 2 };
    (void)unused;
    ws_delta_f32(a, a, b, 5);
    assert_memory_equal(a, want, sizeof a);
    ws_delta_f64(c, c, c, 2);
    assert_true(c[0] == 0.0 && c[1] == 0.0);
}

static void products_stand_in_a_triangle(void **unused)
{
    const float a[3] = { 1, 2, 3 }, b[3] = { 0, 1, 0 }, c[3] = { -1, 0, 2 };
    const void *v[3] = { a, b, c };
    const double want[3][3] = { { 14, 2, 5 }, { 0, 1, 0 }, { 0, 0, 5 } };
    const ws_job job = { .n_models = 3 };
    ws_lanes lanes[6] = { 0 };
    double state[6] = { 0 };
    (void)unused;
    assert_int_equal(ws_gram_pairs(3), 6);
    assert_int_equal(ws_gram_state_size(&job), sizeof state);
    assert_int_equal(ws_gram_partial_size(&job), sizeof lanes);
    assert_true(ws_gram_begin(&job, 0, state) && !ws_gram_begin(&job, 1, state));
    ws_gram_add_f32(lanes, v, 3, 3);
    ws_gram_join(&job, 0, state, lanes, 0);
    ws_gram_join(&job, 0, state, lanes, 1); // twice: slices add up
    for (size_t j = 0; j < 3; j++)
        for (size_t i = 0; i <= j; i++)
            assert_true(state[ws_gram_at(i, j)] == 2.0 * want[i][j]);
}

static void long_vectors_are_summed_in_order(void **unused)
{
    const void *v[2] = { x64, y64 };
    ws_lanes lanes[3] = { 0 }, dot = { 0 };
    (void)unused;
    ws_gram_add_f64(lanes, v, 2, N);
    ws_lanes_add_dot_f64(&dot, x64, y64, N);
    assert_memory_equal(&lanes[ws_gram_at(0, 1)], &dot, sizeof dot);
}

/** One element by the formula. */
static float mixed_plainly(const struct mix *m, void *const *x, float base, size_t i)
{
    float sum = 0.0f, mixed = 0.0f, share = 0.0f;
    for (size_t k = 0; k < m->n_models; k++)
        sum += m->coefficient[k] * ((const float *)x[k])[i];
    for (size_t k = 0; k < m->n_models && m->consensus; k++) {
        const float t = m->coefficient[k] * ((const float *)x[k])[i];
        if ((sum >= 0.0f ? t : -t) > 0.0f) {
            mixed += t;
            share += m->weight[k];
        }
    }
    if (!m->consensus)
        mixed = sum;
    else if (m->normalize && share != 0.0f)
        mixed /= share;
    const float u = m->gain * mixed;
    return u == 0.0f ? base : base + u;
}

static void combined_to_the_bit_on_any_processor(void **unused)
{
    static float third[N], out[N];
    void *const x[] = { x32, y32, third };
    (void)unused;
    for (size_t i = 0; i < N; i++)
        third[i] = i % 5 == 0 ? 0.0f : i % 7 == 0 ? -x32[i] : y32[N - 1 - i];
    third[3] = NAN, third[8] = INFINITY, third[9] = -0.0f;
    for (int way = 0; way < 4; way++) {
        const struct mix m = { .n_models = way == 3 ? 2 : 3,
                               .consensus = way > 0,
                               .normalize = way > 1,
                               .coefficient = { 0.5f, -1.25f, 1.0f },
                               .weight = { 1.0f, 1.0f, 0.25f },
                               .gain = 0.75f };
        for (size_t n = 0; n <= N; n += n < 40 ? 1 : 592) {
            memset(out, 0, sizeof out);
            ws_mix(&m, 0, x, y32, n, out);
            for (size_t i = 0; i < n; i++) {
                const float want = mixed_plainly(&m, x, y32[i], i);
                assert_true(isnan(want) ? isnan(out[i])
                                        : memcmp(&out[i], &want, sizeof want) == 0);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_follow_the_definition_to_the_bit),
        cmocka_unit_test(any_cut_gives_the_same_bits),
        cmocka_unit_test(differences_may_overwrite_an_operand),
        cmocka_unit_test(products_stand_in_a_triangle),
        cmocka_unit_test(long_vectors_are_summed_in_order),
        cmocka_unit_test(combined_to_the_bit_on_any_processor),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
