/*
 * nuslerp.c - reference of merges/nuslerp.c
 */
#include "ref.h"

static double value(const struct drive *d, const struct ref_data *data, size_t k,
                    size_t i)
{
    return d->base != NULL ? ref_delta(d, data, k, i) : data->in[k][i];
}

/** Entries first, first + stride, ...: @p n of them. */
static void interpolate(const struct drive *d, const struct ref_data *data,
                        size_t first, size_t stride, size_t n, double *out)
{
    const double w0 = ref_get(d, "weight", 0), w1 = ref_get(d, "weight", 1);
    const double t = fabs(w0 + w1) < 1e-6 ? 0.5 : w1 / (w0 + w1);
    double aa = 0.0, bb = 0.0, ab = 0.0;
    for (size_t j = 0; j < n; j++) { // in double: two nearly opposite columns magnify
        const double x = value(d, data, 0, first + j * stride);
        const double y = value(d, data, 1, first + j * stride);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    const double c = aa > 0.0 && bb > 0.0 ? ab / (sqrt(aa) * sqrt(bb)) : 0.0;
    const double theta = acos(fmax(-1.0, fmin(1.0, c)));
    double fa = 1.0 - t, fb = t;
    if (sin(theta) >= 1e-6) {
        fa = sin((1.0 - t) * theta) / sin(theta);
        fb = sin(t * theta) / sin(theta);
    }
    for (size_t j = 0; j < n; j++) {
        const size_t i = first + j * stride;
        out[i] = (d->base != NULL ? data->base[i] : 0.0) + fa * value(d, data, 0, i) +
                 fb * value(d, data, 1, i);
    }
}

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    const size_t last = d->rank > 0 ? (size_t)d->shape[d->rank - 1] : 1;
    const size_t first = d->rank > 0 ? (size_t)d->shape[0] : 1;
    if (ref_get(d, "nuslerp_flatten", 0) != 0.0 || d->rank < 2)
        interpolate(d, data, 0, 1, data->n, out);
    else if (ref_get(d, "nuslerp_row_wise", 0) != 0.0)
        for (size_t i = 0; i < data->n / first; i++)
            interpolate(d, data, i, data->n / first, first, out);
    else
        for (size_t i = 0; i < data->n; i += last)
            interpolate(d, data, i, 1, last, out);
}

static void set(struct drive *d, int variant)
{
    ref_set_each(d, "weight", (const double[]){ 0.6, 0.9 });
    drive_set(d, "nuslerp_flatten", variant == 0);
    drive_set(d, "nuslerp_row_wise", variant == 2);
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("nuslerp", 2, false, set, 3, reference);
    ref_compare("nuslerp", 2, true, set, 3, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double plain[12] = { .115333, -.293540,  .352356,  -.216734,
                               .378999, -.479738,  .714463,  -.706389,
                               .880331, -1.095139, 1.435570, -1.237199 };
    const double based[12] = { .116866, -.323346,  .368514,  -.145273,
                               .338326, -.421387,  .699565,  -.650703,
                               .844298, -1.106045, 1.542787, -1.234167 };
    const double rows[12] = {
        .114446, -.294888, .350977, -.203923,  .301831,  -.364559,
        .691540, -.599051, .849988, -1.100981, 1.515987, -1.231510
    };
    const double columns[12] = { .127185, -.318147,  .353448,  -.173133,
                                 .192879, -.429650,  .704423,  -.670062,
                                 .718116, -1.102360, 1.451304, -1.229156 };
    struct drive d = ref_golden_drive("nuslerp", 2);
    (void)unused;
    ref_set_each(&d, "weight", (const double[]){ 0.6, 0.4 });
    ref_assert_golden(&d, false, plain);
    ref_assert_golden(&d, true, based);
    drive_set(&d, "nuslerp_flatten", 0);
    ref_assert_golden(&d, true, rows);
    drive_set(&d, "nuslerp_row_wise", 1);
    ref_assert_golden(&d, true, columns);
}

/* (1, 0) and (0, 2) at 1:1: theta 90 degrees, both coefficients sin 45. */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 1, 0 }, b[2] = { 0, 2 };
    const double want[2] = { 0.7071067811865476, 1.4142135623730951 };
    struct drive d = drive_new("nuslerp", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

/* In mergekit the sine of a float32 pi passes for an angle and gives noise. */
static void opposite_vectors_are_averaged(void **unused)
{
    const double a[2] = { 3, -4 }, b[2] = { -3, 4 }, want[2] = { 1.5, -2 };
    struct drive d = drive_new("nuslerp", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_set_each(&d, "weight", (const double[]){ 3, 1 });
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

static void weights_that_add_up_to_0_are_a_half_each(void **unused)
{
    const double a[2] = { 1, 1 }, b[2] = { 2, 2 }, want[2] = { 1.5, 1.5 };
    struct drive d = drive_new("nuslerp", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_set_each(&d, "weight", (const double[]){ 1, -1 });
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(opposite_vectors_are_averaged),
        cmocka_unit_test(weights_that_add_up_to_0_are_a_half_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
