/*
 * arcee_fusion.c - reference of merges/arcee_fusion.c
 */
#include "ref.h"

static double divergence(const double *a, const double *b, size_t n)
{
    double za = 0.0, zb = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        za += exp(a[i]);
        zb += exp(b[i]);
    }
    for (size_t i = 0; i < n; i++) {
        const double p = exp(a[i]) / za + 1e-8;
        const double q = exp(b[i]) / zb + 1e-8;
        sum += p * log(p / q);
    }
    return sum;
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void take_entries(const struct drive *d, const struct ref_data *data,
                         const double *score, double limit, double *out)
{
    for (size_t i = 0; i < data->n; i++)
        out[i] = data->base[i] +
                 (score[i] >= limit ? d->scale * ref_delta(d, data, 0, i) : 0.0);
}

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double score[REF_MAX], sorted[REF_MAX];
    const size_t run = d->rank == 0 ? 1 : (size_t)d->shape[d->rank - 1];
    for (size_t i = 0; i < data->n; i++) {
        const size_t row = i / run * run;
        const double s =
            fabs(ref_delta(d, data, 0, i)) *
            fmax(divergence(data->in[0] + row, data->base + row, run), 0.0);
        score[i] = d->f64 ? s : (double)(float)s;
    }
    memcpy(sorted, score, sizeof sorted);
    qsort(sorted, data->n, sizeof *sorted, rising);
    const double last = (double)(data->n - 1);
    const double q1 = sorted[(size_t)(0.25 * last)], q2 = sorted[(size_t)(0.5 * last)];
    take_entries(d, data, score, q2 + 1.5 * (sorted[(size_t)(0.75 * last)] - q1), out);
}

static void set(struct drive *d, int variant)
{
    d->scale = variant == 1 ? 0.3 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("arcee_fusion", 1, true, set, 2, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    struct drive d = ref_golden_drive("arcee_fusion", 1);
    struct ref_data data = ref_golden();
    double want[12], out[12];
    (void)unused;
    memcpy(want, data.base, sizeof want);
    want[4] = .19;
    ref_assert_golden(&d, true, want);
    memcpy(want, data.base, sizeof want);
    want[0] = .49;
    memcpy(data.in[0], data.in[2], sizeof data.in[0]);
    assert_ok(ref_run(&d, &data, true, out), d.err);
    ref_assert(&d, out, want, 12, 1.5e-6);
}

/*
 * One row: base (0, 0, 0, 0), other (1, 0, 0, 0). Scores are KL times (1, 0, 0, 0), all
 * quartiles 0, so that everything passes. A constant added to the row: KL 0, scores 0,
 * everything passes too, as mergekit has it with at least three quarters of zeros.
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[4] = { 1, 0, 0, 0 };
    struct drive d = drive_new("arcee_fusion", false, 1, (uint64_t[]){ 4 }, 1);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a }, a);
}

/* Rows (0, 0) and (1, -1), (4, -4), and (9, 9): the last diverges by nothing. */
static void a_row_moved_by_a_constant_is_left_out(void **unused)
{
    const double a[8] = { 1, -1, 4, -4, 9, 9, 2, -2 };
    const double want[8] = { 0, 0, 4, -4, 0, 0, 0, 0 };
    struct drive d = drive_new("arcee_fusion", false, 2, (uint64_t[]){ 4, 2 }, 1);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a }, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(a_row_moved_by_a_constant_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
