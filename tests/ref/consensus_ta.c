/*
 * consensus_ta.c - reference of merges/consensus_ta.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    for (size_t i = 0; i < data->n; i++) {
        double mixed = 0.0, count = 0.0;
        float mixed_f = 0.0f;
        for (size_t k = 0; k < d->n_models; k++) {
            mixed += ref_get(d, "weight", k) * ref_delta(d, data, k, i);
            mixed_f += (float)ref_get(d, "weight", k) * (float)ref_delta(d, data, k, i);
        }
        if (!d->f64)
            mixed = (double)mixed_f;
        for (size_t k = 0; k < d->n_models; k++) {
            const double delta = ref_delta(d, data, k, i), rest = mixed - delta;
            const float rest_f = mixed_f - (float)delta;
            const double far =
                d->f64 ? ref_get(d, "lambda", k) * fabs(rest)
                       : (double)((float)ref_get(d, "lambda", k) * fabsf(rest_f));
            count += fabs(delta) > far;
        }
        out[i] = data->base[i] + (count >= ref_get(d, "k", 0) ? d->scale * mixed : 0.0);
    }
}

static void set(struct drive *d, int variant)
{
    ref_set_each(d, "weight", (const double[]){ 0.5, 1.0, 0.25, -0.5 });
    ref_set_each(d, "lambda", (const double[]){ 0.5, 0.25, 1.0, 2.0 });
    drive_set(d, "k", variant);
    d->scale = variant == 2 ? 0.3 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("consensus_ta", 4, true, set, 4, reference);
    ref_compare("consensus_ta", 1, true, set, 2, reference);
}

/*
 * Updates (3, 1, 2) and (1, 1, -2), mixed (4, 2, 0), rests (1, 1, -2) and (3, 1, 2). At
 * lambda 0.5 one stands out in the first entry (3 > 0.5; 1 > 1.5 no), both in the
 * second (1 > 0.5) and in the third (2 > 1), but there the mixture is 0.
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[3] = { 3, 1, 2 }, b[3] = { 1, 1, -2 };
    const double one[3] = { 4, 2, 0 }, two[3] = { 0, 2, 0 };
    struct drive d = drive_new("consensus_ta", false, 1, (uint64_t[]){ 3 }, 2);
    (void)unused;
    drive_set(&d, "lambda", 0.5);
    ref_assert_hand(&d, (const double *[]){ a, b }, one);
    drive_set(&d, "k", 2);
    ref_assert_hand(&d, (const double *[]){ a, b }, two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_a_case_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
