/*
 * consensus_ties.c - reference of merges/consensus_ties.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double x[REF_MODELS][REF_MAX], trimmed[REF_MODELS][REF_MAX];
    for (size_t k = 0; k < d->n_models; k++) {
        const size_t keep = (size_t)(ref_get(d, "density", k) * (double)data->n);
        for (size_t i = 0; i < data->n; i++)
            x[k][i] = ref_delta(d, data, k, i);
        for (size_t i = 0; i < data->n; i++)
            trimmed[k][i] = ref_rank(x[k], data->n, 1, i) < keep ? x[k][i] : 0.0;
    }
    for (size_t i = 0; i < data->n; i++) {
        double vote = 0.0, mixed = 0.0, weights = 0.0, count = 0.0;
        for (size_t k = 0; k < d->n_models; k++)
            vote += ref_get(d, "weight", k) * trimmed[k][i];
        for (size_t k = 0; k < d->n_models; k++) {
            const double y = ref_get(d, "weight", k) * trimmed[k][i];
            if (y != 0.0 && (y > 0.0) == (vote >= 0.0)) {
                mixed += y;
                weights += ref_get(d, "weight", k);
            }
        }
        if (ref_get(d, "normalize", 0) != 0.0 && weights != 0.0)
            mixed /= weights;
        for (size_t k = 0; k < d->n_models; k++)
            count += fabs(x[k][i]) > ref_get(d, "lambda", k) * fabs(mixed - x[k][i]);
        out[i] = data->base[i] + (count >= ref_get(d, "k", 0) ? d->scale * mixed : 0.0);
    }
}

/** Factors that no ratio of the data's magnitudes meets. */
static void set(struct drive *d, int variant)
{
    ref_set_each(d, "weight", (const double[]){ 0.53, 1.0, 0.27, 0.71 });
    ref_set_each(d, "density", (const double[]){ 0.5, 0.2, 1.0, 0.7 });
    ref_set_each(d, "lambda", (const double[]){ 0.517, 0.233, 1.019, 2.041 });
    drive_set(d, "k", variant);
    drive_set(d, "normalize", variant % 2);
    d->scale = variant == 2 ? 0.3 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("consensus_ties", 4, true, set, 4, reference);
    ref_compare("consensus_ties", 2, true, set, 3, reference);
}

/*
 * Updates (3, 1, 0.1) and (1, -2, 0.2), density 2/3: (3, 1, 0) and (1, -2, 0). Votes +,
 * -, +: the mixture is (2, -2, 0). Rests 1, 3, 0.1 and 1, 0, 0.2. At lambda 1 the first
 * stands out in entry 0 (3 > 1; 1 > 3 no), the second in entry 1 (1 > 1 no; 2 > 0).
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[3] = { 3, 1, 0.1 }, b[3] = { 1, -2, 0.2 };
    const double one[3] = { 2, -2, 0 }, two[3] = { 0, 0, 0 };
    struct drive d = drive_new("consensus_ties", false, 1, (uint64_t[]){ 3 }, 2);
    (void)unused;
    drive_set(&d, "density", 0.67);
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
