/*
 * multislerp.c - reference of merges/multislerp.c
 */
#include "ref.h"

/** With the tangent step that the kernel leaves out. */
static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double m[REF_MAX], tangent[REF_MAX];
    double total = 0.0, length = 0.0, norm[REF_MODELS] = { 0 }, square = 0.0;
    for (size_t k = 0; k < d->n_models; k++) {
        total += ref_get(d, "weight", k);
        for (size_t i = 0; i < data->n; i++) {
            const double v = d->base ? ref_delta(d, data, k, i) : data->in[k][i];
            norm[k] += v * v;
        }
        norm[k] = sqrt(norm[k]);
    }
    if (ref_get(d, "normalize_weights", 0) == 0.0)
        total = 1.0;
    for (size_t i = 0; i < data->n; i++) {
        m[i] = 0.0;
        for (size_t k = 0; k < d->n_models; k++) {
            const double v = d->base ? ref_delta(d, data, k, i) : data->in[k][i];
            m[i] += ref_get(d, "weight", k) / total * v / (norm[k] + 1e-8);
        }
        square += m[i] * m[i];
    }
    const double size = sqrt(square);
    for (size_t k = 0; k < d->n_models; k++) {
        const double w = ref_get(d, "weight", k) / total;
        double along = 0.0;
        length += w * norm[k];
        for (int pass = 0; pass < 2; pass++)
            for (size_t i = 0; i < data->n; i++) {
                const double v = d->base ? ref_delta(d, data, k, i) : data->in[k][i];
                const double u = v / (norm[k] + 1e-8);
                if (k == 0 && pass == 0)
                    tangent[i] = 0.0;
                if (pass == 0)
                    along += size > 0.0 ? u * m[i] / size : 0.0;
                else
                    tangent[i] += size > 0.0 ? w * (u - along * m[i] / size) : 0.0;
            }
    }
    for (size_t i = 0; i < data->n; i++) {
        const double x = size > 0.0 ? m[i] / size : 0.0;
        out[i] = (d->base ? data->base[i] : 0.0) + (x + tangent[i]) * length;
    }
}

static void set(struct drive *d, int variant)
{
    const double weights[4] = { 0.5, 1.5, 0.25, 1.0 };
    ref_set_each(d, "weight", weights);
    drive_set(d, "normalize_weights", variant);
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("multislerp", 3, false, set, 2, reference);
    ref_compare("multislerp", 2, true, set, 2, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double two[12] = {
        .113546, -.293049, .354713, -.219701,  .390255,  -.477615,
        .709000, -.701588, .870924, -1.091416, 1.440298, -1.242853
    };
    const double three[12] = { .235673, -.295836,  .319209,  -.182225,
                               .280807, -.498871,  .812739,  -.662862,
                               .955000, -1.224720, 1.548342, -1.123979 };
    const double plain[12] = { .850927,  -.965593,  1.207823, -1.261681,
                               1.600034, -2.330424, 3.202212, -2.945627,
                               3.856045, -4.679160, 5.455809, -4.612079 };
    struct drive d = ref_golden_drive("multislerp", 2);
    (void)unused;
    ref_set_each(&d, "weight", (const double[]){ 0.6, 0.4 });
    ref_assert_golden(&d, false, two);
    d = ref_golden_drive("multislerp", 3);
    ref_set_each(&d, "weight", (const double[]){ 0.5, 0.3, 0.2 });
    ref_assert_golden(&d, true, three);
    ref_set_each(&d, "weight", (const double[]){ 2, 1, 1 });
    drive_set(&d, "normalize_weights", 0);
    ref_assert_golden(&d, false, plain);
}

/* (3, 0) and (0, 1) at equal weights: the diagonal, of length 2. */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 3, 0 }, b[2] = { 0, 1 };
    const double want[2] = { 1.4142135623730951, 1.4142135623730951 };
    struct drive d = drive_new("multislerp", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

/* mergekit stops here for three vectors; the weighted sum is what it takes for two. */
static void directions_that_cancel_give_the_weighted_sum(void **unused)
{
    const double a[2] = { 2, 0 }, b[2] = { -1, 0 }, zero[2] = { 0, 0 };
    const double two[2] = { 0.5, 0 }, three[2] = { 1.0 / 3.0, 0 };
    struct drive d = drive_new("multislerp", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, two);
    d = drive_new("multislerp", false, 1, (uint64_t[]){ 2 }, 3);
    ref_assert_hand(&d, (const double *[]){ a, b, zero }, three);
}

static void weights_that_add_up_to_0_are_refused(void **unused)
{
    struct drive d = drive_new("multislerp", false, 1, (uint64_t[]){ 1 }, 2);
    struct ref_data data = { .n = 1 };
    double out[1];
    (void)unused;
    ref_set_each(&d, "weight", (const double[]){ 1, -1 });
    assert_int_equal(ref_run(&d, &data, false, out), WS_E_USAGE);
    assert_string_equal(d.err.msg, "the weights add up to 0, and 'normalize_weights' "
                                   "divides by that");
    drive_set(&d, "normalize_weights", 0);
    assert_ok(ref_run(&d, &data, false, out), d.err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(directions_that_cancel_give_the_weighted_sum),
        cmocka_unit_test(weights_that_add_up_to_0_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
