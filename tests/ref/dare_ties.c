/*
 * dare_ties.c - reference of merges/dare_ties.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double x[REF_MODELS][REF_MAX], whole[REF_MAX];
    for (size_t k = 0; k < d->n_models; k++) {
        const double density = ref_get(d, "density", k);
        for (size_t i = 0; i < data->n; i++) {
            whole[i] = ref_delta(d, data, k, i);
            x[k][i] = ref_kept(d, k, i, density) ? whole[i] : 0.0;
        }
        ref_rescale(d, whole, x[k], data->n, density);
    }
    ref_vote(d, data, x, out);
}

static void set(struct drive *d, int variant)
{
    static const double weights[2][3] = { { 1, 1, 1 }, { 0.6, -0.45, 0.31 } };
    static const double densities[3][3] = { { 0.1, 0.1, 0.1 },
                                            { 0.5, 0.25, 0.9 },
                                            { 1, 0, 0.5 } };
    ref_set_each(d, "weight", weights[variant % 2]);
    ref_set_each(d, "density", densities[variant % 3]);
    drive_set(d, "rescale", (variant + 1) % 3);
    drive_set(d, "normalize", variant == 5 || variant == 1);
    d->scale = variant == 4 ? 0.5 : 1.0;
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("dare_ties", 3, true, set, 6, reference);
    ref_compare("dare_ties", 1, true, set, 6, reference);
}

/*
 * 64 ones of which `kept` stay: the L1 norm 64 is restored by 64 / kept each; the other
 * model has weight 0, hence no vote.
 */
static void matches_a_case_by_hand(void **unused)
{
    double a[64], b[64], want[64];
    size_t kept = 0;
    struct drive d = drive_new("dare_ties", false, 1, (uint64_t[]){ 64 }, 2);
    (void)unused;
    drive_set(&d, "density", 0.5);
    for (size_t i = 0; i < 64; i++) {
        a[i] = 1.0;
        b[i] = -3.0;
        kept += ref_kept(&d, 0, i, 0.5);
    }
    for (size_t i = 0; i < 64; i++)
        want[i] = ref_kept(&d, 0, i, 0.5) ? 64.0 / (double)kept : 0.0;
    ref_set_each(&d, "weight", (double[]){ 1, 0 });
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
    assert_int_equal(d.tally[0].kept, kept);
    assert_int_equal(d.tally[0].dropped_random, 64 - kept);
}

/* Keep rate within five standard errors; the L1 norm of the update is restored. */
static void keeps_the_share_and_the_norm(void **unused)
{
    const struct ref_data data = ref_random_data(2048, 9);
    static double out[2048];
    struct drive d = drive_new("dare_ties", false, 2, (uint64_t[]){ 2, 1024 }, 1);
    (void)unused;
    drive_set(&d, "density", 0.3);
    assert_ok(ref_run(&d, &data, true, out), d.err);
    double before = 0.0, after = 0.0;
    for (size_t i = 0; i < 2048; i++) {
        before += fabs(data.in[0][i] - data.base[i]);
        after += fabs(out[i] - data.base[i]);
    }
    assert_close(after / before, 1.0, 1e-5);
    assert_true(fabs((double)d.tally[0].kept - 0.3 * 2048) < 5.0 * sqrt(0.21 * 2048));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(keeps_the_share_and_the_norm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
