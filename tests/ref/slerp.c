/*
 * slerp.c - reference of merges/slerp.c
 */
#include "ref.h"

static void reference(const struct drive *d, const struct ref_data *data, double *out)
{
    const double t = ref_get(d, "t", 0);
    long double aa = 0.0L, bb = 0.0L, ab = 0.0L;
    for (size_t i = 0; i < data->n; i++) {
        const long double a = (long double)data->in[0][i],
                          b = (long double)data->in[1][i];
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    const double na = (double)sqrtl(aa), nb = (double)sqrtl(bb);
    double c = (double)ab;
    if (na > 1e-8)
        c /= na;
    if (nb > 1e-8)
        c /= nb;
    double ca = 1.0 - t, cb = t;
    if (fabs(c) <= 0.9995) {
        ca = sin((1.0 - t) * acos(c)) / sin(acos(c));
        cb = sin(t * acos(c)) / sin(acos(c));
    }
    for (size_t i = 0; i < data->n; i++)
        out[i] = ca * data->in[0][i] + cb * data->in[1][i];
}

static void set(struct drive *d, int variant)
{
    const double ts[] = { 0.5, 0.0, 1.0, 0.35, -0.5, 1.5 };
    drive_set(d, "t", ts[variant]);
}

static void matches_the_formula(void **unused)
{
    (void)unused;
    ref_compare("slerp", 2, false, set, 6, reference);
}

/** Row x of the golden vectors: two of base, A, B, C or of the updates. */
static void assert_golden(const double *a, const double *b, const double *want)
{
    struct ref_data data = { .n = 12 };
    struct drive d = ref_golden_drive("slerp", 2);
    double out[12];
    memcpy(data.in[0], a, sizeof out);
    memcpy(data.in[1], b, sizeof out);
    drive_set(&d, "t", 0.35);
    assert_ok(ref_run(&d, &data, false, out), d.err);
    ref_assert(&d, out, want, 12, 1.5e-6);
}

static void matches_the_golden_vectors(void **unused)
{
    const struct ref_data g = ref_golden();
    const double parallel[12] = { .119781, -.295865,  .348615,  -.211070,
                                  .355649, -.486466,  .729581,  -.720005,
                                  .904889, -1.108006, 1.431139, -1.229880 };
    const double base_c[12] = { .239024, -.152254,  .246088,  -.481570,
                                .508120, -.694026,  .805565,  -.789620,
                                .979067, -1.115395, 1.102991, -1.087046 };
    const double updates[12] = { .021653,  -.124274, .063550, .257020,
                                 -.184994, .168054,  .016943, .131338,
                                 -.026838, -.119564, .432136, -.026363 };
    double da[12], db[12];
    (void)unused;
    for (int i = 0; i < 12; i++) {
        da[i] = (double)(float)(g.in[0][i] - g.base[i]);
        db[i] = (double)(float)(g.in[1][i] - g.base[i]);
    }
    assert_golden(g.in[0], g.in[1], parallel);
    assert_golden(g.base, g.in[2], base_c);
    assert_golden(da, db, updates);
}

/*
 * (2, 0) and (0, 1) are perpendicular: theta = pi/2, t = 1/3 gives
 * sin(pi/3) (2, 0) + sin(pi/6) (0, 1) = (1.7320508, 0.5), over sin(pi/2) = 1.
 */
static void matches_a_case_by_hand(void **unused)
{
    const double a[2] = { 2, 0 }, b[2] = { 0, 1 },
                 want[2] = { 1.7320508075688772, 0.5 };
    struct drive d = drive_new("slerp", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    drive_set(&d, "t", 1.0 / 3.0);
    ref_assert_hand(&d, (const double *[]){ a, b }, want);
}

/* A tensor of zeros is perpendicular: sin(t pi/2) times the other; opposite tensors are
 * parallel: (1-t) a + t b. */
static void zeros_and_opposites_are_defined(void **unused)
{
    const double zero[2] = { 0, 0 }, b[2] = { 3, -4 }, c[2] = { -3, 4 };
    const double half[2] = { 3 * sqrt(0.5), -4 * sqrt(0.5) };
    struct drive d = drive_new("slerp", false, 1, (uint64_t[]){ 2 }, 2);
    (void)unused;
    ref_assert_hand(&d, (const double *[]){ zero, b }, half);
    ref_assert_hand(&d, (const double *[]){ b, c }, zero);
}

static void both_ends_are_exact(void **unused)
{
    float a[3] = { -0.0f, 0.1f, 3.0f }, b[3] = { 1.0f, 0.2f, -7.0f }, out[3];
    struct drive d = drive_new("slerp", false, 1, (uint64_t[]){ 3 }, 2);
    (void)unused;
    d.in[0] = a;
    d.in[1] = b;
    drive_set(&d, "t", 0.0);
    assert_ok(drive_run(&d, out), d.err);
    assert_memory_equal(out, a, sizeof a);
    drive_set(&d, "t", 1.0);
    assert_ok(drive_run(&d, out), d.err);
    assert_memory_equal(out, b, sizeof b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_formula),
        cmocka_unit_test(matches_the_golden_vectors),
        cmocka_unit_test(matches_a_case_by_hand),
        cmocka_unit_test(zeros_and_opposites_are_defined),
        cmocka_unit_test(both_ends_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
