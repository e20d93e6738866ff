/*
 * test_lora_core.c - sums of factored updates against the dense sums
 */
#include "ws_test.h"

#include "surgery/lora_core.h"
#include "surgery/lora_elect.h"

enum { M = 20, N = 30, RA = 3, RB = 5 };

static double A1[RA * N], B1[M * RA], A2[RB * N], B2[M * RB];

static int factors_make(void **state)
{
    (void)state;
    uint64_t x = 7;
    double *all[] = { A1, B1, A2, B2 };
    const size_t n[] = { RA * N, M * RA, RB * N, M * RB };
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < n[k]; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            // halves of small integers: floats hold them and their products
            all[k][i] = ((double)(x >> 56) - 128) / 2;
        }
    return 0;
}

/** D += s B A, of any inner dimension. */
static void add_dense(double *D, double s, const double *B, const double *A, int64_t r,
                      int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < r; k++)
                D[i * n + j] += s * B[i * r + k] * A[k * n + j];
}

/** What a stored sum is, dense. */
static void sum_dense(const ws_lora_sum *s, double *D)
{
    const double scale = s->alpha / (double)s->r;
    memset(D, 0, (size_t)(s->m * s->n) * sizeof *D);
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++)
            for (int64_t k = 0; k < s->r; k++)
                D[i * s->n + j] += scale * s->B[i * s->r + k] * s->A[k * s->n + j];
}

static double distance(const double *X, const double *Y, size_t n, double *norm)
{
    double d = 0, y = 0;
    for (size_t i = 0; i < n; i++) {
        d += (X[i] - Y[i]) * (X[i] - Y[i]);
        y += Y[i] * Y[i];
    }
    *norm = sqrt(y);
    return sqrt(d);
}

static void plus_and_minus_one_are_exact(void **state)
{
    (void)state;
    static double want[M * N], got[M * N];
    memset(want, 0, sizeof want);
    add_dense(want, 2.0, B1, A1, RA, M, N);
    add_dense(want, -2.0, B2, A2, RB, M, N);
    const ws_lora_part p[] = { { RA, 2.0, A1, B1 }, { RB, -2.0, A2, B2 } };
    ws_err err = WS_ERR_INIT;
    ws_lora_sum s;
    assert_ok(ws_lora_concat(&s, p, 2, M, N, &err), err);
    assert_int_equal(s.r, RA + RB);
    assert_true(s.alpha == 2.0 * (RA + RB));
    sum_dense(&s, got);
    assert_memory_equal(got, want, sizeof want);
    double norm;
    distance(got, want, M * N, &norm);
    assert_close(s.norm / norm, 1.0, 1e-13);
    ws_lora_stored f;
    assert_ok(ws_lora_store(&f, &s, WS_DT_F32, &err), err);
    assert_true(f.rounding == 0.0 && s.error == 0.0); // exact, and known to be
    ws_lora_stored_free(&f);
    ws_lora_sum_free(&s);
}

static void what_rounding_changes_is_stated(void **state)
{
    (void)state;
    static double want[M * N], got[M * N];
    const ws_lora_part p[] = { { RA, 0.7, A1, B1 }, { RB, -1.0 / 3, A2, B2 } };
    const ws_dtype dtypes[] = { WS_DT_F32, WS_DT_F16, WS_DT_BF16 };
    for (size_t d = 0; d < 3; d++) {
        ws_err err = WS_ERR_INIT;
        ws_lora_sum s;
        ws_lora_stored f;
        uint16_t half[M * (RA + RB) + N * (RA + RB)];
        ws_store_tally tally;
        double norm;
        assert_ok(ws_lora_concat(&s, p, 2, M, N, &err), err);
        assert_true(s.alpha == s.r); // scales differ: they are in B
        sum_dense(&s, want);
        assert_ok(ws_lora_store(&f, &s, dtypes[d], &err), err);
        for (int side = 0; side < 2; side++) {
            const size_t n = (size_t)(s.r * (side ? N : M));
            float *x = side ? f.A : f.B;
            if (d > 0) { // as a file keeps them
                ws_from_f32(dtypes[d], x, half, n, &tally);
                ws_to_f32(dtypes[d], half, x, n);
            }
            for (size_t i = 0; i < n; i++)
                (side ? s.A : s.B)[i] = (double)x[i];
        }
        sum_dense(&s, got);
        const double made = distance(got, want, M * N, &norm);
        assert_true(made > 0);
        assert_close(f.rounding / made, 1.0, 1e-6);
        ws_lora_stored_free(&f);
        ws_lora_sum_free(&s);
    }
}

/** The best rank-r matrix, from the dense decomposition. */
static void truncate_dense(const double *D, int64_t m, int64_t n, int64_t r, double *T)
{
    const int64_t k = m < n ? m : n;
    double *U = calloc((size_t)(m * k), 8), *s = calloc((size_t)k, 8);
    double *Vt = calloc((size_t)(k * n), 8);
    ws_arena tmp = { 0 };
    ws_err err = WS_ERR_INIT;
    ws_mat d = ws_mat_f64((double *)(uintptr_t)D, m, n), u = ws_mat_f64(U, m, k);
    ws_mat v = ws_mat_f64(Vt, k, n);
    assert_ok(ws_svd_thin(&d, &u, s, &v, &tmp, &err), err);
    memset(T, 0, (size_t)(m * n) * sizeof *T);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t q = 0; q < r; q++)
                T[i * n + j] += U[i * k + q] * s[q] * Vt[q * n + j];
    ws_arena_free(&tmp);
    free(U);
    free(s);
    free(Vt);
}

static void a_cut_is_the_dense_truncation(void **state)
{
    (void)state;
    static double D[M * N], want[M * N], got[M * N];
    const ws_lora_part p[] = { { RA, 0.7, A1, B1 }, { RB, -0.3, A2, B2 } };
    memset(D, 0, sizeof D);
    add_dense(D, 0.7, B1, A1, RA, M, N);
    add_dense(D, -0.3, B2, A2, RB, M, N);
    for (int64_t r = 1; r <= RA + RB; r++) {
        ws_err err = WS_ERR_INIT;
        ws_lora_sum s;
        double norm, whole;
        truncate_dense(D, M, N, r, want);
        assert_ok(ws_lora_compress(&s, p, 2, M, N, r, &err), err);
        assert_int_equal(s.r, r);
        sum_dense(&s, got);
        assert_true(distance(got, want, M * N, &norm) < 1e-6 * norm);
        // the error stated is the error made
        const double error = distance(want, D, M * N, &whole);
        assert_close(s.norm / whole, 1.0, 1e-12);
        assert_true(fabs(s.error - error) < 1e-11 * whole);
        ws_lora_sum_free(&s);
    }
}

static void ranks_above_a_side_are_cut_to_it(void **state)
{
    (void)state;
    // rank 5 and 3 into a matrix of 4 rows
    enum { FEW = 4 };
    static double D[FEW * N], got[FEW * N];
    double norm;
    const ws_lora_part p[] = { { RB, 1.0, A2, B2 }, { RA, 1.0, A1, B1 } };
    ws_err err = WS_ERR_INIT;
    ws_lora_sum s;
    memset(D, 0, sizeof D);
    add_dense(D, 1.0, B2, A2, RB, FEW, N);
    add_dense(D, 1.0, B1, A1, RA, FEW, N);
    assert_ok(ws_lora_compress(&s, p, 2, FEW, N, 100, &err), err);
    assert_int_equal(s.r, FEW);
    sum_dense(&s, got);
    assert_true(distance(got, D, FEW * N, &norm) < 1e-6 * norm);
    ws_lora_sum_free(&s);
}

static void aligned(ws_lora_sum *s, ws_lora_method method, double density, double w1,
                    double w2, bool twice)
{
    const ws_lora_part p[] = {
        { RA, 1.0, A1, B1 }, { twice ? RA : RB, 1.0, twice ? A1 : A2, twice ? B1 : B2 }
    };
    const double w[] = { w1, w2 };
    const ws_lora_merge how = { method, density, 0.0, 0, "m" };
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_lora_align(s, p, w, 2, M, N, INT64_MAX, &how, &err), err);
}

static void without_pruning_methods_are_the_sum(void **state)
{
    (void)state;
    static double D[M * N], got[M * N];
    const ws_lora_method methods[] = { WS_LORA_DARE, WS_LORA_BREADCRUMBS };
    memset(D, 0, sizeof D);
    add_dense(D, 0.5, B1, A1, RA, M, N);
    add_dense(D, -2.0, B2, A2, RB, M, N);
    for (int k = 0; k < 2; k++) {
        ws_lora_sum s;
        double norm;
        aligned(&s, methods[k], 1.0, 0.5, -2.0, false);
        sum_dense(&s, got);
        assert_true(distance(got, D, M * N, &norm) < 1e-6 * norm);
        ws_lora_sum_free(&s);
    }
}

static void ties_of_an_update_with_itself_is_it(void **state)
{
    (void)state;
    static double D[M * N], got[M * N];
    ws_lora_sum s;
    double norm;
    memset(D, 0, sizeof D);
    add_dense(D, 1.0, B1, A1, RA, M, N);
    aligned(&s, WS_LORA_TIES, 1.0, 0.25, 3.0, true);
    sum_dense(&s, got);
    assert_true(distance(got, D, M * N, &norm) < 1e-6 * norm);
    ws_lora_sum_free(&s);
}

static void ranks_above_the_inputs_are_aligned_too(void **state)
{
    (void)state;
    enum { FEW = 4 }; // inputs, of ranks 5 and 3
    static double D[M * FEW], got[M * FEW];
    const ws_lora_part p[] = { { RB, 1.0, A2, B2 }, { RA, -0.5, A1, B1 } };
    const double w[] = { 2.0, 1.0 };
    const ws_lora_merge how = { WS_LORA_DARE, 1.0, 0.0, 0, "m" };
    ws_err err = WS_ERR_INIT;
    ws_lora_sum s;
    double norm;
    memset(D, 0, sizeof D);
    add_dense(D, 2.0, B2, A2, RB, M, FEW);
    add_dense(D, -0.5, B1, A1, RA, M, FEW);
    assert_ok(ws_lora_align(&s, p, w, 2, M, FEW, INT64_MAX, &how, &err), err);
    assert_int_equal(s.r, FEW);
    sum_dense(&s, got);
    assert_true(distance(got, D, M * FEW, &norm) < 1e-12 * norm);
    ws_lora_sum_free(&s);
}

static int descending(const void *a, const void *b)
{
    const double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
    return (x < y) - (x > y);
}

static void the_band_is_that_of_the_sorted_entries(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    static double v[MANY], sorted[MANY];
    uint64_t x = 3;
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < MANY; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            // many scales, signs, equal ones and zeros
            v[i] = (x >> 60 == 0 ? 0.0 : (double)(int64_t)(x >> 40) - (1 << 23)) *
                   ldexp(1.0, (int)(x % 7) * 40 - 120);
            if (round % 2 == 1)
                v[i] = (double)((int)(x >> 61) - 4);
        }
        memcpy(sorted, v, sizeof v);
        qsort(sorted, MANY, sizeof *sorted, descending);
        const double density = 0.1 + 0.15 * round, gamma = 0.05 * round;
        const ws_lora_merge crumbs = { WS_LORA_BREADCRUMBS, density, gamma, 0, "m" };
        const double one = 1.0;
        const size_t from = (size_t)(gamma * MANY), n = (size_t)(density * MANY);
        double want = 0, kept = 0;
        for (size_t i = from; i < from + n && i < MANY; i++)
            want += fabs(sorted[i]);
        ws_lora_elect(v, MANY, &one, 1, &crumbs);
        for (size_t i = 0; i < MANY; i++)
            kept += fabs(v[i]);
        assert_close(kept / want, 1.0, 1e-12);
    }
}

static void entries_are_pruned_and_elected(void **state)
{
    (void)state;
    const double w[] = { 1.0, 1.0 };
    // kept of each: the 2 largest, ties by index
    double V[] = { 3, -1, 2, 1, /**/ -4, 5, 1, -5 };
    const ws_lora_merge ties = { WS_LORA_TIES, 0.5, 0.0, 0, "m" };
    ws_lora_elect(V, 4, w, 2, &ties);
    const double elected[] = { 3, 5, 2, -5 };
    assert_memory_equal(V, elected, sizeof elected);
    // the largest of each dropped, the next 2 kept
    double W[] = { 3, -1, 2, 1, /**/ -4, 5, 1, -5 };
    const ws_lora_merge crumbs = { WS_LORA_BREADCRUMBS, 0.5, 0.25, 0, "m" };
    ws_lora_elect(W, 4, w, 2, &crumbs);
    const double left[] = { -4, -1, 2, -5 };
    assert_memory_equal(W, left, sizeof left);
}

static void dare_keeps_its_share(void **state)
{
    (void)state;
    enum { MANY = 100000 };
    double *v = malloc(MANY * sizeof *v);
    const double w[] = { 1.0 };
    const ws_lora_merge dare = { WS_LORA_DARE, 0.1, 0.0, 5, "m" };
    size_t kept = 0;
    assert_non_null(v);
    for (size_t i = 0; i < MANY; i++)
        v[i] = 1.0;
    ws_lora_elect(v, MANY, w, 1, &dare);
    for (size_t i = 0; i < MANY; i++) {
        assert_true(v[i] == 0.0 || v[i] == 1.0 / 0.1);
        kept += v[i] != 0.0;
    }
    assert_in_range(kept, 9500, 10500);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plus_and_minus_one_are_exact),
        cmocka_unit_test(what_rounding_changes_is_stated),
        cmocka_unit_test(a_cut_is_the_dense_truncation),
        cmocka_unit_test(ranks_above_a_side_are_cut_to_it),
        cmocka_unit_test(without_pruning_methods_are_the_sum),
        cmocka_unit_test(ties_of_an_update_with_itself_is_it),
        cmocka_unit_test(ranks_above_the_inputs_are_aligned_too),
        cmocka_unit_test(the_band_is_that_of_the_sorted_entries),
        cmocka_unit_test(entries_are_pruned_and_elected),
        cmocka_unit_test(dare_keeps_its_share),
    };
    return cmocka_run_group_tests(tests, factors_make, NULL);
}
