/*
 * linear.c - reference of merges/linear.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    for (size_t i = 0; i < data->n; i++) {
        long double sum = 0.0L, weights = 0.0L;
        for (size_t k = 0; k < d->n_models; k++) {
            sum += (long double)ref_get(d, "weight", k) * (long double)data->in[k][i];
            weights += (long double)ref_get(d, "weight", k);
        }
        if (ref_get(d, "normalize", 0) != 0.0)
            sum /= weights;
        out[i] = (double)sum;
    }
}

static void set(struct drive *d, int variant)
{
    static const double weights[3][3] = { { 1, 1, 1 },
                                          { 0.6, 0.4, 0.25 },
                                          { 2, -1, 0 } };
    ref_set_each(d, "weight", weights[variant % 3]);
    drive_set(d, "normalize", variant < 3);
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("linear", 3, false, set, 6, reference);
    ref_compare("linear", 1, false, set, 3, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double two[12] = { .114, -.290, .348, -.214,  .374,  -.474,
                             .706, -.698, .870, -1.082, 1.418, -1.222 };
    const double sum[12] = { .360,  -.880,  1.030, -.620,  1.030, -1.450,
                             2.180, -2.150, 2.710, -3.300, 4.240, -3.640 };
    const double three[12] = { .2125, -.235, .2925, -.310,  .385,  -.575,
                               .790,  -.725, .9525, -1.150, 1.330, -1.1225 };
    struct drive d = ref_golden_drive("linear", 2);
    (void)unused;
    ref_set_each(&d, "weight", (double[]){ 0.6, 0.4 });
    ref_assert_golden(&d, false, two);
    ref_set_each(&d, "weight", (double[]){ 2, 1 });
    drive_set(&d, "normalize", 0);
    ref_assert_golden(&d, false, sum);
    d = ref_golden_drive("linear", 3);
    ref_set_each(&d, "weight", (double[]){ 2, 1, 1 });
    ref_assert_golden(&d, false, three);
}

/*
 * Weights 3 and 1 of (4, 0) and (0, 8): (3*4 + 1*0, 3*0 + 1*8) = (12, 8);
 * over 3 + 1: (3, 2).
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 4, 0 }, b[2] = { 0, 8 }, want[2] = { 3, 2 };
    struct drive d = drive_new("linear", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_set_each(&d, "weight", (double[]){ 3, 1 });
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

static void refuses_weights_that_cancel(void **unused)
{
    const struct ref_data data = ref_golden();
    double out[12];
    struct drive d = ref_golden_drive("linear", 3);
    (void)unused;
    ref_set_each(&d, "weight", (double[]){ 0.1, 0.2, -0.3 });
    assert_int_equal(ref_run(&d, &data, false, out), WS_E_USAGE);
    assert_string_equal(d.err.msg,
                        "the weights add up to 0, and 'normalize' divides by that");
    assert_string_equal(d.err.hint,
                        "change a weight, or set normalize=false for the plain sum");
    drive_set(&d, "normalize", 0);
    assert_int_equal(ref_run(&d, &data, false, out), WS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(refuses_weights_that_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
