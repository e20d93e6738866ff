/*
 * passthrough.c - reference of merges/passthrough.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    for (size_t i = 0; i < data->n; i++)
        out[i] = ref_get(d, "scale", 0) * data->in[0][i];
}

static void set(struct drive *d, int variant)
{
    const double scales[] = { 1.0, 0.0, -2.5, 0.1 };
    drive_set(d, "scale", scales[variant]);
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("passthrough", 1, false, set, 4, reference);
}

/* 0.5 times (3, -1) is (1.5, -0.5). */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 3, -1 }, want[2] = { 1.5, -0.5 };
    struct drive d = drive_new("passthrough", false, 1, (uint64_t[]){ 2 }, 1);
    (void)unused;
    drive_set(&d, "scale", 0.5);
    ref_assert_hand(&d, (const double *[]){ a }, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_a_case_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
