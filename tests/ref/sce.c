/*
 * sce.c - reference of merges/sce.c
 */
#include "ref.h"

/** As the arithmetic under test rounds it, or ranks could differ. */
static double variance(const struct drive *d, const struct ref_data *data, size_t i)
{
    const double n = (double)d->n_models;
    double sum = 0.0, square = 0.0;
    float sum_f = 0.0f, square_f = 0.0f;
    bool differs = false;
    for (size_t k = 0; k < d->n_models; k++) {
        sum += ref_delta(d, data, k, i);
        sum_f += (float)ref_delta(d, data, k, i);
        differs = differs || data->in[k][i] != data->in[0][i];
    }
    const double mean = sum / n;
    const float mean_f = sum_f / (float)n;
    for (size_t k = 0; k < d->n_models; k++) {
        const double far = ref_delta(d, data, k, i) - mean;
        const float far_f = (float)ref_delta(d, data, k, i) - mean_f;
        square += far * far;
        square_f += far_f * far_f;
    }
    if (!differs)
        return 0.0;
    return d->f64 ? square / n : (double)(square_f / (float)n);
}

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double v[REF_MAX];
    static bool keep[REF_MAX];
    const double share = ref_get(d, "select_topk", 0);
    double energy[REF_MODELS] = { 0 }, total = 0.0, varied = 0.0;
    for (size_t i = 0; i < data->n; i++) {
        v[i] = variance(d, data, i);
        varied += v[i] != 0.0;
    }
    for (size_t i = 0; i < data->n; i++)
        keep[i] = share >= 1.0 || (v[i] > 0.0 && ref_rank(v, data->n, 1, i) <
                                                     (size_t)floor(share * varied));
    for (size_t k = 0; k < d->n_models; k++) {
        for (size_t i = 0; i < data->n; i++) {
            const double delta = keep[i] ? ref_delta(d, data, k, i) : 0.0;
            energy[k] += delta * delta;
        }
        total += energy[k];
    }
    for (size_t i = 0; i < data->n; i++) {
        double vote = 0.0, sum = 0.0, weights = 0.0;
        for (size_t k = 0; k < d->n_models; k++)
            vote += ref_delta(d, data, k, i);
        for (size_t k = 0; keep[i] && k < d->n_models; k++) {
            const double delta = ref_delta(d, data, k, i);
            if (delta != 0.0 && (delta > 0.0) == (vote >= 0.0)) {
                sum += energy[k] / total * delta;
                weights += energy[k] / total;
            }
        }
        out[i] = data->base[i] + (weights > 0.0 ? d->scale * sum / weights : 0.0);
    }
}

static void set(struct drive *d, int variant)
{
    const double shares[5] = { 1.0, 0.5, 0.1, 0.0, 0.9 };
    drive_set(d, "select_topk", shares[variant]);
    d->scale = variant == 4 ? 0.3 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("sce", 4, true, set, 5, reference);
    ref_compare("sce", 2, true, set, 5, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double all[12] = {
        .373225, -.281249, .14,      -.233253,  .19,      -.449497,
        .928482, -.658818, 1.089696, -1.262220, 1.430252, -.959906
    };
    const double half[12] = { .10,     -.20, .30,      -.229027, .19,  -.454874,
                              .925538, -.80, 1.089108, -1.0,     1.10, -.966185 };
    struct drive d = ref_golden_drive("sce", 3);
    (void)unused;
    ref_assert_golden(&d, true, all);
    drive_set(&d, "select_topk", 0.5);
    ref_assert_golden(&d, true, half);
}

/*
 * Updates (3, 1) and (1, -3): energies 10 and 10, weights a half each. Signs: + in the
 * first entry, mean (3 + 1) / 2 = 2; - in the second (1 - 3 < 0), -3 alone.
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 3, 1 }, b[2] = { 1, -3 }, want[2] = { 2, -3 };
    struct drive d = drive_new("sce", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

/* mergekit 0.1.4 gives the result of the second another shape, and its floors make the
 * weights of the first equal: (3e-4 3 + 1e-4 1) / 2 over what they should be. */
static void small_and_equal_updates_are_no_special_case(void **unused)
{
    const double a[2] = { 3e-4, 0 }, b[2] = { 1e-4, 0 }, zero[2] = { 0, 0 };
    struct drive d = drive_new("sce", true, 1, (uint64_t[]){ 2 }, 2);
    struct ref_data data = { .n = 2 };
    double out[2];
    (void)unused;
    memcpy(data.in[0], a, sizeof a);
    memcpy(data.in[1], b, sizeof b);
    assert_ok(ref_run(&d, &data, true, out), d.err);
    assert_close(out[0] * 1e4, 0.9 * 3 + 0.1 * 1, 1e-12);
    drive_set(&d, "select_topk", 0.5);
    memcpy(data.in[1], a, sizeof a);
    assert_ok(ref_run(&d, &data, true, out), d.err);
    assert_memory_equal(out, zero, sizeof zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(small_and_equal_updates_are_no_special_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
