/*
 * task_arithmetic.c - reference of merges/task_arithmetic.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double x[REF_MODELS][REF_MAX];
    for (size_t k = 0; k < d->n_models; k++)
        for (size_t i = 0; i < data->n; i++)
            x[k][i] = ref_delta(d, data, k, i);
    ref_add(d, data, x, out);
}

static void set(struct drive *d, int variant)
{
    static const double weights[4][3] = {
        { 1, 1, 1 }, { 0.6, 0.4, 0.3 }, { 1, -1, 0 }, { 0.5, 2, -0.7 }
    };
    ref_set_each(d, "weight", weights[variant]);
    drive_set(d, "lambda", variant % 2 == 0 ? 1.0 : 0.35);
    drive_set(d, "normalize", variant >= 2);
    d->scale = variant == 3 ? 0.25 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("task_arithmetic", 3, true, set, 4, reference);
    ref_compare("task_arithmetic", 1, true, set, 4, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double plain[12] = { .114, -.290, .348, -.214,  .374,  -.474,
                               .706, -.698, .870, -1.082, 1.418, -1.222 };
    const double mean[12] = {
        .099286, -.240714, .33,     -.316429,  .476429, -.525,
        .676429, -.725,    .842143, -1.017857, 1.265,   -1.222143
    };
    struct drive d = ref_golden_drive("task_arithmetic", 2);
    (void)unused;
    ref_set_each(&d, "weight", (double[]){ 0.6, 0.4 });
    ref_assert_golden(&d, true, plain);
    ref_set_each(&d, "weight", (double[]){ 0.6, 0.8 });
    drive_set(&d, "normalize", 1);
    drive_set(&d, "lambda", 0.5);
    ref_assert_golden(&d, true, mean);
}

/* Updates (1, 2) and (4, -8), weights 1 and 0.25, lambda 2: 2 (1 + 1, 2 - 2), that is
 * (4, 0). */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 1, 2 }, b[2] = { 4, -8 }, want[2] = { 4, 0 };
    struct drive d = drive_new("task_arithmetic", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_set_each(&d, "weight", (double[]){ 1, 0.25 });
    drive_set(&d, "lambda", 2);
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
