/*
 * ties.c - reference of merges/ties.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double x[REF_MODELS][REF_MAX], whole[REF_MAX];
    for (size_t k = 0; k < d->n_models; k++) {
        const double density = ref_get(d, "density", k);
        const size_t keep = (size_t)(density * (double)data->n);
        for (size_t i = 0; i < data->n; i++)
            whole[i] = ref_delta(d, data, k, i);
        for (size_t i = 0; i < data->n; i++)
            x[k][i] = ref_rank(whole, data->n, 1, i) < keep ? whole[i] : 0.0;
        ref_rescale(d, whole, x[k], data->n, density);
    }
    ref_vote(d, data, x, out);
}

static void set(struct drive *d, int variant)
{
    static const double weights[2][3] = { { 1, 1, 1 }, { 0.6, -0.45, 0.3 } };
    static const double densities[3][3] = { { 0.2, 0.2, 0.2 },
                                            { 0.5, 0.25, 0.75 },
                                            { 1, 0, 0.9 } };
    ref_set_each(d, "weight", weights[variant % 2]);
    ref_set_each(d, "density", densities[variant % 3]);
    drive_set(d, "normalize", variant < 3);
    drive_set(d, "rescale", variant % 3);
    drive_set(d, "lambda", variant == 1 ? 0.8 : 1.0);
    d->scale = variant == 4 ? 0.5 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("ties", 3, true, set, 6, reference);
    ref_compare("ties", 1, true, set, 6, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double half[12] = { .10, -.20, .30, -.17,  .19,   -.39,
                              .83, -.53, .57, -1.19, 1.418, -1.20 };
    const double three[12] = { .49, -.06, .14,  -.17,      .19,   -.85,
                               .88, -.53, 1.08, -1.226667, 1.418, -.85 };
    const double dense[12] = { .124,  -.272,  .3384, -.2512,  .3512,  -.4992,
                               .7624, -.7136, .7944, -1.0912, 1.3544, -1.232 };
    const double rescaled[12] = { .1,      -.2,       .3,       -.119470,
                                  .121894, -.321400,  .461200,  -.441800,
                                  .462200, -1.231743, 1.503267, -1.2 };
    struct drive d = ref_golden_drive("ties", 2);
    (void)unused;
    ref_set_each(&d, "weight", (double[]){ 0.6, 0.4 });
    drive_set(&d, "density", 0.5);
    ref_assert_golden(&d, true, half);
    drive_set(&d, "rescale", 0);
    ref_assert_golden(&d, true, rescaled);
    drive_set(&d, "rescale", 2);
    drive_set(&d, "density", 1.0);
    drive_set(&d, "normalize", 0);
    drive_set(&d, "lambda", 0.8);
    ref_assert_golden(&d, true, dense);
    d = ref_golden_drive("ties", 3);
    ref_set_each(&d, "weight", (double[]){ 0.6, 0.4, 0.3 });
    ref_set_each(&d, "density", (double[]){ 0.5, 0.25, 0.75 });
    ref_assert_golden(&d, true, three);
}

/*
 * Updates (4, -3, 1, 2) and (-2, 3, 5, 3), half kept: (4, -3, 0, 0) and, of the equal
 * threes the first, (0, 3, 5, 0). Sums 4, 0, 5, 0: a sum of 0 elects +, so the second
 * entry is 3 of the second model alone. (4, 3, 5, 0).
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[4] = { 4, -3, 1, 2 }, b[4] = { -2, 3, 5, 3 };
    const double want[4] = { 4, 3, 5, 0 };
    struct drive d = drive_new("ties", false, 1, (uint64_t[]){ 4 }, 2);
    (void)unused;
    drive_set(&d, "density", 0.5);
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
    assert_int_equal(d.tally[0].kept, 2);
    assert_int_equal(d.tally[0].dropped_small, 2);
    assert_int_equal(d.tally[0].dropped_large, 0);
    assert_close(d.tally[1].kept_sq, 34.0, 1e-12);
}

static void a_density_that_keeps_nothing_leaves_the_base(void **unused)
{
    const double a[3] = { 1, 2, 3 }, zero[3] = { 0, 0, 0 };
    struct drive d = drive_new("ties", false, 1, (uint64_t[]){ 3 }, 1);
    (void)unused;
    drive_set(&d, "density", 0.3);
    ref_assert_hand(&d, (const double *[]){ a }, zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(a_density_that_keeps_nothing_leaves_the_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
