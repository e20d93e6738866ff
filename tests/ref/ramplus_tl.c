/*
 * ramplus_tl.c - reference of merges/ramplus_tl.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    const double epsilon = ref_get(d, "epsilon", 0);
    const double limit = d->f64 ? epsilon : (double)(float)epsilon;
    double alone[REF_MODELS] = { 0 }, shared[REF_MODELS] = { 0 };
    static int count[REF_MAX];
    for (size_t i = 0; i < data->n; i++) {
        count[i] = 0;
        for (size_t k = 0; k < d->n_models; k++)
            count[i] += fabs(ref_delta(d, data, k, i)) > limit;
        for (size_t k = 0; k < d->n_models; k++)
            if (fabs(ref_delta(d, data, k, i)) > limit)
                *(count[i] == 1 ? &alone[k] : &shared[k]) += 1.0;
    }
    for (size_t i = 0; i < data->n; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < d->n_models; k++) {
            const double delta = ref_delta(d, data, k, i),
                         alpha = ref_get(d, "alpha", 0);
            const double rho =
                alone[k] > 0.0 ? fmin(shared[k] / alone[k], alpha) : alpha;
            if (fabs(delta) > limit)
                sum += count[i] == 1 ? delta * (1.0 + ref_get(d, "r", 0) * rho)
                                     : delta / count[i];
        }
        out[i] = data->base[i] + d->scale * sum;
    }
}

static void set(struct drive *d, int variant)
{
    drive_set(d, "epsilon", variant == 0 ? 1e-5 : 0.008);
    drive_set(d, "r", variant == 0 ? 0.1 : 0.7);
    drive_set(d, "alpha", variant == 0 ? 0.2 : 3.0);
    d->scale = variant == 1 ? 0.3 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("ramplus_tl", 3, true, set, 2, reference);
    ref_compare("ramplus_tl", 1, true, set, 2, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double usual[12] = { .4978,   -.185,  .1368,   -.356667, .42,   -.62,
                               .776667, -.5246, .913333, -1.245,   1.425, -1.075 };
    const double strong[12] = { .685,    -.185, .06,     -.356667, .42,   -.62,
                                .776667, -.395, .913333, -1.245,   1.425, -1.075 };
    struct drive d = ref_golden_drive("ramplus_tl", 3);
    (void)unused;
    drive_set(&d, "epsilon", 0.1);
    ref_assert_golden(&d, true, usual);
    drive_set(&d, "r", 0.5);
    drive_set(&d, "alpha", 1.0);
    ref_assert_golden(&d, true, strong);
}

/*
 * Updates (2, 4) and (0, 8), r = 0.5, alpha = 3: the first has one entry of its own and
 * shares one, rho = 1, so 2 becomes 2 (1 + 0.5) = 3; 4 and 8 average to 6.
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 2, 4 }, b[2] = { 0, 8 }, want[2] = { 3, 6 };
    struct drive d = drive_new("ramplus_tl", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    drive_set(&d, "r", 0.5);
    drive_set(&d, "alpha", 3.0);
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
