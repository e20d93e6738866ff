/*
 * nearswap.c - reference of merges/nearswap.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    const double t = ref_get(d, "t", 0);
    for (size_t i = 0; i < data->n; i++) {
        const double delta = ref_delta(d, data, 0, i);
        const double step = fabs(delta) <= t ? delta : delta < 0.0 ? -t : t;
        out[i] = data->base[i] + d->scale * step;
    }
}

static void set(struct drive *d, int variant)
{
    drive_set(d, "t", variant == 0 ? 0.005 : variant == 1 ? 0.0 : 0.3);
    d->scale = variant == 2 ? 0.5 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("nearswap", 1, true, set, 3, reference);
}

static void matches_the_golden_vector(void **unused)
{
    const double want[12] = { .15, -.25, .32, -.35,  .45,  -.55,
                              .75, -.81, .95, -1.05, 1.15, -1.17 };
    struct drive d = ref_golden_drive("nearswap", 1);
    (void)unused;
    drive_set(&d, "t", 0.05);
    ref_assert_golden(&d, true, want);
}

/* Updates 3, -3, 0.5 and t = 1: one each way, and the whole of the small one. */
static void matches_a_case_by_hand(void **unused)
{
    const double a[3] = { 3, -3, 0.5 }, want[3] = { 1, -1, 0.5 };
    struct drive d = drive_new("nearswap", false, 1, (uint64_t[]){ 3 }, 1);
    (void)unused;
    drive_set(&d, "t", 1.0);
    ref_assert_hand(&d, (const double *[]){ a }, want);
}

/* mergekit divides by at least 1e-6, so that of an update of 1e-7 a tenth were left. */
static void a_small_t_moves_small_updates_whole(void **unused)
{
    struct drive d = drive_new("nearswap", true, 1, (uint64_t[]){ 1 }, 1);
    struct ref_data data = { .n = 1 };
    double out[1];
    (void)unused;
    data.in[0][0] = 1e-7;
    drive_set(&d, "t", 2e-7);
    assert_ok(ref_run(&d, &data, true, out), d.err);
    assert_close(out[0] * 1e7, 1.0, 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vector),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(a_small_t_moves_small_updates_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
