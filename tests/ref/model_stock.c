/*
 * model_stock.c - reference of merges/model_stock.c
 */
#include "ref.h"

/** t of entries first .. first+n-1. */
static double ratio(const struct drive *d, const struct ref_data *data, size_t first,
                    size_t n)
{
    const double N = (double)d->n_models;
    double sum = 0.0;
    for (size_t a = 0; a < d->n_models; a++)
        for (size_t b = a + 1; b < d->n_models; b++) {
            long double aa = 0.0L, bb = 0.0L, ab = 0.0L;
            for (size_t i = first; i < first + n; i++) {
                const long double x = (long double)ref_delta(d, data, a, i);
                const long double y = (long double)ref_delta(d, data, b, i);
                aa += x * x;
                bb += y * y;
                ab += x * y;
            }
            if (aa > 0.0L && bb > 0.0L)
                sum += fmax(-1.0, fmin(1.0, (double)(ab / sqrtl(aa) / sqrtl(bb))));
        }
    const double c = sum / (N * (N - 1.0) / 2.0);
    if (1.0 + (N - 1.0) * c < 1e-6)
        return 0.0;
    return N * c / (1.0 + (N - 1.0) * c);
}

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    const bool rows = ref_get(d, "filter_wise", 0) != 0.0 && d->rank > 1;
    const size_t run = rows ? (size_t)d->shape[d->rank - 1] : data->n;
    for (size_t first = 0; first < data->n; first += run) {
        const double t = ratio(d, data, first, run);
        for (size_t i = first; i < first + run; i++) {
            double mean = 0.0;
            for (size_t k = 0; k < d->n_models; k++)
                mean += data->in[k][i] / (double)d->n_models;
            const double full = t * mean + (1.0 - t) * data->base[i];
            out[i] = data->base[i] + d->scale * (full - data->base[i]);
        }
    }
}

static void set(struct drive *d, int variant)
{
    drive_set(d, "filter_wise", variant % 2);
    d->scale = variant / 2 == 1 ? 0.3 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("model_stock", 3, true, set, 4, reference);
    ref_compare("model_stock", 2, true, set, 4, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double whole[12] = {
        .032258, -.194919, .308468, -.422016, .525403, -.605081,
        .661048, -.852500, .893226, -.930564, .993306, -1.247420
    };
    const double rows[12] = { .030632, -.194797,  .308671,  -.422545,
                              .597710, -.619542,  .550178,  -1.001935,
                              .901534, -1.015723, 1.124160, -1.189262 };
    struct drive d = ref_golden_drive("model_stock", 3);
    (void)unused;
    ref_assert_golden(&d, true, whole);
    drive_set(&d, "filter_wise", 1);
    ref_assert_golden(&d, true, rows);
}

/*
 * Updates (1, 0) and (1, 1): c = 1/sqrt 2, t = 2c / (1 + c) = 0.8284271, the mean is
 * (1, 0.5): out = (0.8284271, 0.4142136).
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 1, 0 }, b[2] = { 1, 1 };
    const double want[2] = { 0.8284271247461903, 0.41421356237309515 };
    struct drive d = drive_new("model_stock", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

static void small_updates_count_as_large_ones(void **unused)
{
    const double a[2] = { 1e-10, 0 }, b[2] = { 1e-10, 1e-10 };
    struct drive d = drive_new("model_stock", true, 1, (uint64_t[]){ 2 }, 2);
    struct ref_data data = { .n = 2 };
    double out[2];
    (void)unused;
    memcpy(data.in[0], a, sizeof a);
    memcpy(data.in[1], b, sizeof b);
    assert_ok(ref_run(&d, &data, true, out), d.err);
    assert_close(out[0] * 1e10, 0.8284271247461903, 1e-12);
}

static void opposite_and_missing_updates_leave_the_base(void **unused)
{
    const double a[2] = { 3, -4 }, b[2] = { -1.5, 2 }, zero[2] = { 0, 0 };
    struct drive d = drive_new("model_stock", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, zero);
    ref_assert_hand(&d, (const double *[]){ zero, zero }, zero);
    ref_assert_hand(&d, (const double *[]){ a, zero }, zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(small_updates_count_as_large_ones),
        cmocka_unit_test(opposite_and_missing_updates_leave_the_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
