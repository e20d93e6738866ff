/*
 * breadcrumbs_ties.c - reference of merges/breadcrumbs_ties.c
 */
#include "ref.h"

/** Ranks are those of the tensor, or of the row with scope=row. */
static void prune(const struct drive *d, size_t k, const double *whole, size_t n,
                  double *x)
{
    const bool rows = ref_get(d, "scope", 0) == 1.0;
    const size_t run = rows && d->rank > 0 ? (size_t)d->shape[d->rank - 1] : n;
    const double density = ref_get(d, "density", k), gamma = ref_get(d, "gamma", k);
    const size_t keep = (size_t)(density * (double)run);
    size_t drop = (size_t)(gamma * (double)run);
    if (keep + drop > run)
        drop = run - keep;
    for (size_t i = 0; i < n; i++) {
        const size_t first = i / run * run;
        const size_t rank = ref_rank(whole + first, run, 1, i - first);
        const bool kept =
            (rank >= drop && rank < drop + keep) || (rows && d->rank == 0);
        x[i] = kept ? whole[i] : 0.0;
    }
    if (!(rows && d->rank == 0))
        ref_rescale(d, whole, x, n, density);
}

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double x[REF_MODELS][REF_MAX], whole[REF_MAX];
    for (size_t k = 0; k < d->n_models; k++) {
        for (size_t i = 0; i < data->n; i++)
            whole[i] = ref_delta(d, data, k, i);
        prune(d, k, whole, data->n, x[k]);
    }
    ref_vote(d, data, x, out);
}

static void set(struct drive *d, int variant)
{
    static const double weights[2][3] = { { 1, 1, 1 }, { 0.6, -0.45, 0.3 } };
    static const double densities[3][3] = { { 0.15, 0.15, 0.15 },
                                            { 0.5, 0.25, 0.9 },
                                            { 1, 0, 0.97 } };
    static const double gammas[3][3] = { { 0.006, 0.006, 0.006 },
                                         { 0, 0.1, 0.3 },
                                         { 0.05, 0.5, 0.05 } };
    ref_set_each(d, "weight", weights[variant % 2]);
    ref_set_each(d, "density", densities[variant % 3]);
    ref_set_each(d, "gamma", gammas[variant % 3]);
    drive_set(d, "scope", variant % 4 >= 2);
    drive_set(d, "rescale", (variant + 2) % 3);
    drive_set(d, "normalize", variant == 5 || variant == 6);
    d->scale = variant == 4 ? 0.5 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("breadcrumbs_ties", 3, true, set, 12, reference);
    ref_compare("breadcrumbs_ties", 1, true, set, 12, reference);
}

static void matches_the_golden_vector(void **unused)
{
    const double quarter[12] = { .13,  -.266, .336,  -.352,  .56,  -.474,
                                 .778, -.80,  1.002, -1.114, 1.10, -1.24 };
    struct drive d = ref_golden_drive("breadcrumbs_ties", 2);
    (void)unused;
    ref_set_each(&d, "weight", (double[]){ 0.6, 0.4 });
    drive_set(&d, "density", 0.5);
    drive_set(&d, "gamma", 0.25);
    ref_assert_golden(&d, true, quarter);
}

/*
 * Updates (4, -3, 1, 2) and (-2, 3, 5, 1), density 0.5, gamma 0.25: without the
 * largest, two stay of each: (0, -3, 0, 2) and (-2, 3, 0, 0). Sums -2, 0, 0, 2; 0
 * elects +: (-2, 3, 0, 2).
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[4] = { 4, -3, 1, 2 }, b[4] = { -2, 3, 5, 1 };
    const double want[4] = { -2, 3, 0, 2 };
    struct drive d = drive_new("breadcrumbs_ties", false, 1, (uint64_t[]){ 4 }, 2);
    (void)unused;
    drive_set(&d, "density", 0.5);
    drive_set(&d, "gamma", 0.25);
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
