/*
 * della_linear.c - reference of merges/della_linear.c
 */
#include "ref.h"

/** Keep probability of element i: by its rank along the second dimension, a vector
 * being one row. */
static double keep_probability(const struct drive *d, size_t k, const double *whole,
                               size_t i)
{
    const double density = ref_get(d, "density", k), epsilon = ref_get(d, "epsilon", k);
    size_t m = d->rank > 1 ? (size_t)d->shape[1] : (size_t)d->n, stride = 1;
    for (int r = 2; r < d->rank; r++)
        stride *= (size_t)d->shape[r];
    if (density <= 0.0 || density >= 1.0 || m == 1)
        return density;
    const size_t first = i / (m * stride) * (m * stride) + i % stride;
    const size_t rank = ref_rank(whole + first, m, stride, (i - first) / stride);
    return density - epsilon + 2.0 * epsilon * (double)(m - 1 - rank) / (double)(m - 1);
}

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double x[REF_MODELS][REF_MAX], whole[REF_MAX];
    for (size_t k = 0; k < d->n_models; k++) {
        for (size_t i = 0; i < data->n; i++)
            whole[i] = ref_delta(d, data, k, i);
        for (size_t i = 0; i < data->n; i++) {
            const double p = keep_probability(d, k, whole, i);
            x[k][i] = ref_kept(d, k, i, p) ? whole[i] : 0.0;
            if (ref_get(d, "rescale", 0) == 1.0 && p > 0.0)
                x[k][i] /= p;
        }
        if (ref_get(d, "rescale", 0) == 0.0)
            ref_rescale(d, whole, x[k], data->n, 1.0);
    }
    ref_add(d, data, x, out);
}

static void set(struct drive *d, int variant)
{
    static const double weights[2][3] = { { 1, 1, 1 }, { 0.6, -0.45, 0.31 } };
    static const double densities[3][3] = { { 0.5, 0.5, 0.5 },
                                            { 0.3, 0.25, 0.7 },
                                            { 1, 0, 0.5 } };
    static const double epsilons[3][3] = { { 0.15, 0.15, 0.15 },
                                           { 0.2, 0, 0.29 },
                                           { 0.15, 0.15, 0.4 } };
    ref_set_each(d, "weight", weights[variant % 2]);
    ref_set_each(d, "density", densities[variant % 3]);
    ref_set_each(d, "epsilon", epsilons[variant % 3]);
    drive_set(d, "rescale", (variant + 1) % 3);
    drive_set(d, "normalize", variant == 5 || variant == 1);
    d->scale = variant == 4 ? 0.5 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("della_linear", 3, true, set, 6, reference);
    ref_compare("della_linear", 1, true, set, 6, reference);
}

/*
 * One row (8, 1, -4), density 0.5, epsilon 0.2: ranks from the smallest 2, 0, 1, so
 * that they stay with 0.7, 0.3 and 0.5; with inverse_density what stays is divided by
 * that.
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[3] = { 8, 1, -4 }, p[3] = { 0.7, 0.3, 0.5 };
    double want[3];
    struct drive d = drive_new("della_linear", false, 2, (uint64_t[]){ 1, 3 }, 1);
    (void)unused;
    drive_set(&d, "epsilon", 0.2);
    drive_set(&d, "rescale", 1);
    for (d.seed = 0; d.seed < 8; d.seed++) {
        for (size_t i = 0; i < 3; i++)
            want[i] = ref_kept(&d, 0, i, p[i]) ? a[i] / p[i] : 0.0;
        ref_assert_hand(&d, (const double *[]){ a }, want);
    }
}

/* Rows of 1024 with magnitudes that rise: the keep rate of each eighth follows the
 * ramp, within five standard errors of its 8192 draws. */
static void keep_rates_follow_the_ranks(void **unused)
{
    enum { ROW = 1024, ROWS = 64 };
    static float base[ROWS * ROW], in[ROWS * ROW], out[ROWS * ROW];
    struct drive d = drive_new("della_linear", false, 2, (uint64_t[]){ ROWS, ROW }, 1);
    (void)unused;
    drive_set(&d, "epsilon", 0.2);
    drive_set(&d, "rescale", 2);
    for (size_t i = 0; i < ROWS * ROW; i++)
        in[i] = (float)(i % ROW + 1) * (i % 3 == 0 ? -1.0f : 1.0f);
    d.base = base;
    d.in[0] = in;
    assert_ok(drive_run(&d, out), d.err);
    for (size_t e = 0; e < 8; e++) {
        const double middle = (double)(e * ROW / 8) + (ROW / 8 - 1) / 2.0;
        const double p = 0.3 + 0.4 * middle / (ROW - 1);
        double kept = 0.0;
        for (size_t i = 0; i < ROWS * ROW; i++)
            kept += i % ROW / (ROW / 8) == e && out[i] != 0.0f;
        assert_true(fabs(kept / 8192.0 - p) < 5.0 * sqrt(p * (1.0 - p) / 8192.0));
    }
}

static void refuses_probabilities_outside_0_and_1(void **unused)
{
    const struct ref_data data = ref_golden();
    double out[12];
    struct drive d = ref_golden_drive("della_linear", 2);
    (void)unused;
    drive_set_model(&d, "density", 1, 0.85);
    assert_int_equal(ref_run(&d, &data, true, out), WS_E_USAGE);
    assert_string_equal(d.err.msg, "'density' 0.85 with 'epsilon' 0.15 gives "
                                   "probabilities from 0.7 to 1, not between 0 and 1");
    assert_string_equal(d.err.hint, "with this density take an epsilon below 0.15");
    drive_set_model(&d, "density", 1, 1.0);
    assert_int_equal(ref_run(&d, &data, true, out), WS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(keep_rates_follow_the_ranks),
        cmocka_unit_test(refuses_probabilities_outside_0_and_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
