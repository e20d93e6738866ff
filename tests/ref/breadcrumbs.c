/*
 * breadcrumbs.c - reference of merges/breadcrumbs.c
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
    ref_add(d, data, x, out);
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
    drive_set(d, "normalize", variant == 5);
    d->scale = variant == 4 ? 0.5 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("breadcrumbs", 3, true, set, 12, reference);
    ref_compare("breadcrumbs", 1, true, set, 12, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double tenth[12] = { .10,  -.266, .30, -.214,  .56,   -.516,
                               .706, -.692, .87, -1.114, 1.274, -1.20 };
    const double quarter[12] = { .13,  -.266, .336,  -.352,  .56,  -.474,
                                 .706, -.80,  1.002, -1.114, 1.10, -1.24 };
    struct drive d = ref_golden_drive("breadcrumbs", 2);
    (void)unused;
    ref_set_each(&d, "weight", (double[]){ 0.6, 0.4 });
    drive_set(&d, "density", 0.5);
    drive_set(&d, "gamma", 0.1);
    ref_assert_golden(&d, true, tenth);
    drive_set(&d, "gamma", 0.25);
    ref_assert_golden(&d, true, quarter);
    assert_int_equal(d.tally[0].kept, 6);
    assert_int_equal(d.tally[0].dropped_large, 3);
    assert_int_equal(d.tally[0].dropped_small, 3);
}

/*
 * Ten numbers, density 0.3, gamma 0.2: by falling magnitude -10 9 -8 7 6 ..., the two
 * largest fall, -8 7 6 stay. lambda 0.5 halves them.
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[10] = { 1, 2, 3, 4, 5, 6, 7, -8, 9, -10 };
    const double want[10] = { 0, 0, 0, 0, 0, 3, 3.5, -4, 0, 0 };
    struct drive d = drive_new("breadcrumbs", false, 1, (uint64_t[]){ 10 }, 1);
    (void)unused;
    drive_set(&d, "density", 0.3);
    drive_set(&d, "gamma", 0.2);
    drive_set(&d, "lambda", 0.5);
    ref_assert_hand(&d, (const double *[]){ a }, want);
}

/* Mergekit drops the whole update here: gamma n is below 1. */
static void small_tensors_keep_their_share(void **unused)
{
    struct drive d = drive_new("breadcrumbs", false, 1, (uint64_t[]){ 50 }, 1);
    const struct ref_data data = ref_random_data(50, 1);
    double out[50];
    (void)unused;
    drive_set(&d, "density", 0.9);
    drive_set(&d, "gamma", 0.01);
    assert_ok(ref_run(&d, &data, true, out), d.err);
    assert_int_equal(d.tally[0].kept, 45);
    assert_int_equal(d.tally[0].dropped_large, 0);
}

/* density + gamma above 1: the share kept counts, fewer large ones fall. */
static void the_share_kept_comes_first(void **unused)
{
    const double a[4] = { 1, 2, 3, 4 }, want[4] = { 1, 2, 3, 0 };
    struct drive d = drive_new("breadcrumbs", false, 1, (uint64_t[]){ 4 }, 1);
    (void)unused;
    drive_set(&d, "density", 0.75);
    drive_set(&d, "gamma", 0.5);
    ref_assert_hand(&d, (const double *[]){ a }, want);
}

static void a_number_is_kept_in_row_scope_and_dropped_in_tensor_scope(void **unused)
{
    const double a[1] = { 2 }, zero[1] = { 0 };
    struct drive d = drive_new("breadcrumbs", false, 0, NULL, 1);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a }, zero);
    drive_set(&d, "scope", 1);
    ref_assert_hand(&d, (const double *[]){ a }, a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(small_tensors_keep_their_share),
        cmocka_unit_test(the_share_kept_comes_first),
        cmocka_unit_test(a_number_is_kept_in_row_scope_and_dropped_in_tensor_scope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
