/*
 * karcher.c - reference of merges/karcher.c
 */
#include "ref.h"

static double dot(const double *a, const double *b, size_t n)
{
    long double sum = 0.0L;
    for (size_t i = 0; i < n; i++)
        sum += (long double)a[i] * (long double)b[i];
    return (double)sum;
}

/** On the vectors themselves, where the kernel has their products. */
static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    static double u[REF_MODELS][REF_MAX], m[REF_MAX], step[REF_MAX];
    const size_t n = data->n;
    double mean = 0.0, valid = 0.0;
    memset(m, 0, sizeof m);
    for (size_t k = 0; k < d->n_models; k++) {
        const double norm = sqrt(dot(data->in[k], data->in[k], n));
        mean += norm / (double)d->n_models;
        valid += norm > 0.0;
        for (size_t i = 0; i < n; i++) {
            u[k][i] = norm > 0.0 ? data->in[k][i] / norm : 0.0;
            m[i] += u[k][i];
        }
    }
    const double size = sqrt(dot(m, m, n));
    for (size_t i = 0; i < n; i++)
        m[i] = size / valid < 1e-5 ? u[0][i] : m[i] / size;
    for (int pass = 0; pass < (int)ref_get(d, "max_iter", 0); pass++) {
        memset(step, 0, sizeof step);
        for (size_t k = 0; k < d->n_models; k++) {
            const double c = fmax(-1.0, fmin(1.0, dot(m, u[k], n))), phi = acos(c);
            if (phi < 1e-5 || sin(phi) < 1e-8)
                continue;
            for (size_t i = 0; i < n; i++)
                step[i] += phi / sin(phi) / valid * (u[k][i] - c * m[i]);
        }
        const double far = sqrt(dot(step, step, n));
        if (far < 1e-5)
            break;
        for (size_t i = 0; i < n; i++)
            m[i] = cos(far) * m[i] + sin(far) * step[i] / far;
        const double again = sqrt(dot(m, m, n));
        for (size_t i = 0; i < n; i++)
            m[i] /= again;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = mean * m[i];
}

static void set(struct drive *d, int variant)
{
    drive_set(d, "max_iter", variant == 0 ? 10 : 1);
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("karcher", 3, false, set, 2, reference);
    ref_compare("karcher", 2, false, set, 2, reference);
}

static void matches_the_golden_vectors(void **unused)
{
    const double tunes[12] = { .233217, -.217706,  .295049,  -.363349,
                               .469329, -.598675,  .788498,  -.709704,
                               .925837, -1.159806, 1.351415, -1.144102 };
    const double updates[12] = { .243370,  -.040005, -.015988, .123673,
                                 -.110746, .054481,  .132350,  .221675,
                                 .002819,  -.262038, .465403,  .160328 };
    struct drive d = ref_golden_drive("karcher", 3);
    struct ref_data data = ref_golden();
    double out[12];
    (void)unused;
    ref_assert_golden(&d, false, tunes);
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < 12; i++)
            data.in[k][i] = (double)(float)(data.in[k][i] - data.base[i]);
    assert_ok(ref_run(&d, &data, false, out), d.err);
    ref_assert(&d, out, updates, 12, 1.5e-6);
}

/* (2, 0) and (0, 4): the diagonal, of length 3. */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 2, 0 }, b[2] = { 0, 4 };
    const double want[2] = { 2.121320343559643, 2.121320343559643 };
    struct drive d = drive_new("karcher", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

static void opposite_vectors_give_the_first_direction(void **unused)
{
    const double a[2] = { 3, -4 }, b[2] = { -6, 8 }, want[2] = { 4.5, -6 };
    struct drive d = drive_new("karcher", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

/* mergekit takes vectors shorter than tol for zeros, and so these two. */
static void zeros_dilute_and_small_vectors_do_not_vanish(void **unused)
{
    const double a[2] = { 4, 0 }, zero[2] = { 0, 0 }, want[2] = { 2, 0 };
    const double small[2] = { 1e-6, 0 }, want_small[2] = { 1, 0 };
    struct drive d = drive_new("karcher", false, 1, (uint64_t[]){ 2 }, 2);
    struct ref_data data = { .n = 2 };
    double out[2];
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ a, zero }, want);
    ref_assert_hand(&d, (const double *[]){ zero, zero }, zero);
    memcpy(data.in[0], small, sizeof small);
    memcpy(data.in[1], small, sizeof small);
    assert_ok(ref_run(&d, &data, false, out), d.err);
    out[0] *= 1e6;
    ref_assert(&d, out, want_small, 2, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(opposite_vectors_give_the_first_direction),
        cmocka_unit_test(zeros_dilute_and_small_vectors_do_not_vanish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
