/*
 * ram.c - reference of merges/ram.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    const double epsilon = ref_get(d, "epsilon", 0);
    const double limit = d->f64 ? epsilon : (double)(float)epsilon;
    for (size_t i = 0; i < data->n; i++) {
        double sum = 0.0, count = 0.0;
        for (size_t k = 0; k < d->n_models; k++) {
            const double delta = ref_delta(d, data, k, i);
            if (fabs(delta) > limit) {
                sum += delta;
                count += 1.0;
            }
        }
        out[i] = data->base[i] + d->scale * sum / fmax(count, 1.0);
    }
}

static void set(struct drive *d, int variant)
{
    drive_set(d, "epsilon", variant == 0 ? 1e-5 : 0.008);
    d->scale = variant == 1 ? 0.3 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("ram", 3, true, set, 2, reference);
    ref_compare("ram", 1, true, set, 2, reference);
}

static void matches_the_golden_vector(void **unused)
{
    const double want[12] = { .49,     -.185, .14,     -.356667, .42,   -.62,
                              .776667, -.53,  .913333, -1.245,   1.425, -1.075 };
    struct drive d = ref_golden_drive("ram", 3);
    (void)unused;
    drive_set(&d, "epsilon", 0.1);
    ref_assert_golden(&d, true, want);
}

/* Updates (2, 4, 0) and (0, 8, 0): 2 is the first's alone, 4 and 8 average to 6. */
static void matches_a_case_by_hand(void **unused)
{
    const double a[3] = { 2, 4, 0 }, b[3] = { 0, 8, 0 }, want[3] = { 2, 6, 0 };
    struct drive d = drive_new("ram", false, 1, (uint64_t[]){ 3 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vector),
        cmocka_unit_test(matches_a_case_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
