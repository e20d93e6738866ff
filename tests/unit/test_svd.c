/*
 * test_svd.c - singular value decompositions, judged by their residuals, never by bytes
 */
#include "ws_test.h"

#include <float.h>

#include "wsurg/linalg.h"

/** Deterministic entries in -0.5 .. 0.5. */
static double entry(int64_t i, int64_t j, unsigned seed)
{
    uint64_t x =
        (uint64_t)i * 0x9e3779b97f4a7c15u + (uint64_t)j * 0xbf58476d1ce4e5b9u + seed;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53 - 0.5;
}

static double get(const ws_mat *M, int64_t i, int64_t j)
{
    return M->dtype == WS_DT_F32 ? (double)((const float *)M->data)[i * M->ld + j]
                                 : ((const double *)M->data)[i * M->ld + j];
}

static void set(ws_mat *M, int64_t i, int64_t j, double v)
{
    if (M->dtype == WS_DT_F32)
        ((float *)M->data)[i * M->ld + j] = (float)v;
    else
        ((double *)M->data)[i * M->ld + j] = v;
}

static ws_mat mat_new(ws_dtype dtype, int64_t rows, int64_t cols, int64_t gap)
{
    const size_t size = dtype == WS_DT_F32 ? sizeof(float) : sizeof(double);
    void *data = calloc((size_t)(rows * (cols + gap)) + 1, size);
    assert_non_null(data);
    return (ws_mat){ dtype, rows, cols, cols + gap, data };
}

/** ||A - U diag(s) Vt|| / ||A||, ||U'U - I||, ||Vt Vt' - I|| in the Frobenius norm. */
typedef struct residuals {
    double back, u, vt;
} residuals;

static double norm_eye_less(const ws_mat *M, bool columns)
{
    const int64_t r = columns ? M->cols : M->rows, len = columns ? M->rows : M->cols;
    double sum = 0.0;
    for (int64_t a = 0; a < r; a++)
        for (int64_t b = 0; b < r; b++) {
            double dot = a == b ? -1.0 : 0.0;
            for (int64_t l = 0; l < len; l++)
                dot +=
                    columns ? get(M, l, a) * get(M, l, b) : get(M, a, l) * get(M, b, l);
            sum += dot * dot;
        }
    return sqrt(sum);
}

static residuals residuals_of(const ws_mat *A, const ws_mat *U, const double *s,
                              const ws_mat *Vt)
{
    double diff = 0.0, norm = 0.0;
    const double unit = s[0] > 0.0 ? s[0] : 1.0; // squares of 1e300 do not exist
    for (int64_t i = 0; i < A->rows; i++)
        for (int64_t j = 0; j < A->cols; j++) {
            const double a = get(A, i, j) / unit;
            double sum = 0.0;
            for (int64_t k = 0; k < U->cols; k++)
                sum += get(U, i, k) * (s[k] / unit) * get(Vt, k, j);
            diff += (a - sum) * (a - sum);
            norm += a * a;
        }
    return (residuals){ norm > 0.0 ? sqrt(diff / norm) : sqrt(diff),
                        norm_eye_less(U, true), norm_eye_less(Vt, false) };
}

/** Decompose A and hold every residual under c * n * eps; also values alone. */
static void check(ws_mat *A, double *s)
{
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    const int64_t m = A->rows, n = A->cols, r = m < n ? m : n;
    ws_mat U = mat_new(A->dtype, m, r, 3), Vt = mat_new(A->dtype, r, n, 2);
    ws_mat before = mat_new(A->dtype, m, n, 0);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            set(&before, i, j, get(A, i, j));
    assert_ok(ws_svd_thin(A, &U, s, &Vt, &tmp, &err), err);
    assert_true(tmp.total <= ws_svd_scratch(A->dtype, m, n) + (256 << 10));
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            assert_true(get(A, i, j) == get(&before, i, j));

    const double eps = A->dtype == WS_DT_F32 ? FLT_EPSILON : DBL_EPSILON;
    const double limit = 4.0 * (double)(m > n ? m : n) * eps;
    const residuals res = residuals_of(A, &U, s, &Vt);
    assert_true(res.back <= limit);
    assert_true(res.u <= limit);
    assert_true(res.vt <= limit);
    for (int64_t k = 0; k < r; k++)
        assert_true(s[k] >= 0.0 && (k == 0 || s[k] <= s[k - 1]));
    ws_arena_free(&tmp);

    double *alone = calloc((size_t)r + 1, sizeof *alone);
    assert_ok(ws_singular_values(&before, alone, &tmp, &err), err);
    for (int64_t k = 0; k < r; k++)
        assert_true(fabs(alone[k] - s[k]) <= limit * (s[0] > 0.0 ? s[0] : 1.0));
    ws_arena_free(&tmp);
    free(alone);
    free(U.data);
    free(Vt.data);
    free(before.data);
}

static void check_random(ws_dtype dtype, int64_t m, int64_t n, double scale)
{
    ws_mat A = mat_new(dtype, m, n, 5);
    double s[128];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            set(&A, i, j, scale * entry(i, j, 7));
    check(&A, s);
    free(A.data);
}

static void residuals_are_small_for_every_shape(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = { { 1, 1 },   { 1, 9 },   { 9, 1 },   { 2, 2 },
                                         { 31, 31 }, { 17, 90 }, { 90, 17 }, { 64, 65 },
                                         { 65, 64 }, { 3, 400 }, { 400, 3 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_random(WS_DT_F32, shapes[i][0], shapes[i][1], 1.0);
        check_random(WS_DT_F64, shapes[i][0], shapes[i][1], 1.0);
    }
}

static void residuals_are_small_for_very_large_and_very_small_values(void **state)
{
    (void)state;
    check_random(WS_DT_F32, 20, 30, 1e30);
    check_random(WS_DT_F32, 30, 20, 1e-30);
    check_random(WS_DT_F64, 20, 30, 1e300);
    check_random(WS_DT_F64, 30, 20, 1e-300);
}

static void known_values_come_back_in_order(void **state)
{
    (void)state;
    // diag(3, -5, 0, 4) padded to (4, 6): singular values 5 4 3 0
    static const double d[] = { 3, -5, 0, 4 }, want[] = { 5, 4, 3, 0 };
    ws_mat A = mat_new(WS_DT_F32, 4, 6, 0);
    double s[4];
    for (int i = 0; i < 4; i++)
        set(&A, i, i, d[i]);
    check(&A, s);
    for (int i = 0; i < 4; i++)
        assert_close(s[i], want[i], 1e-6);
    free(A.data);
}

static void rank_one_has_one_value_and_zero_none(void **state)
{
    (void)state;
    ws_mat A = mat_new(WS_DT_F64, 40, 25, 0);
    double s[25];
    check(&A, s);
    assert_true(s[0] == 0.0);
    for (int64_t i = 0; i < 40; i++)
        for (int64_t j = 0; j < 25; j++)
            set(&A, i, j, (double)(i + 1) * (double)(j + 1));
    check(&A, s);
    // ||u|| ||v|| with sums of squares 40*41*81/6 = 22140 and 25*26*51/6 = 5525
    assert_close(s[0], sqrt(22140.0 * 5525.0), 1e-12);
    assert_true(s[1] < 1e-10);
    free(A.data);
}

static void empty_matrix_has_no_values(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    float x = 0.0f;
    double s = -1.0;
    ws_mat A = ws_mat_f32(&x, 0, 3), U = ws_mat_f32(&x, 0, 0),
           Vt = ws_mat_f32(&x, 0, 3);
    assert_ok(ws_svd_thin(&A, &U, &s, &Vt, &tmp, &err), err);
    assert_ok(ws_singular_values(&A, &s, &tmp, &err), err);
    assert_true(s == -1.0);
    ws_arena_free(&tmp);
}

static void not_finite_is_refused(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    float a[] = { 1, 2, NAN, 4 }, u[4], v[4];
    double s[2];
    ws_mat A = ws_mat_f32(a, 2, 2), U = ws_mat_f32(u, 2, 2), Vt = ws_mat_f32(v, 2, 2);
    assert_int_equal(ws_svd_thin(&A, &U, s, &Vt, &tmp, &err), WS_E_NOT_FINITE);
    assert_string_equal(err.msg, "matrix (2,2) holds NaN or infinity, which has no "
                                 "singular values");
    a[2] = INFINITY;
    assert_int_equal(ws_singular_values(&A, s, &tmp, NULL), WS_E_NOT_FINITE);
    ws_arena_free(&tmp);
}

static void misfit_is_refused_by_name(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    float x[6] = { 0 };
    double s[2];
    ws_mat A = ws_mat_f32(x, 2, 3), U = ws_mat_f32(x, 2, 2), Vt = ws_mat_f32(x, 3, 2);
    assert_int_equal(ws_svd_thin(&A, &U, s, &Vt, &tmp, &err), WS_E_SHAPE);
    assert_string_equal(err.msg, "(2,3) does not decompose into (2,2) and (3,2)");
}

static void memory_that_is_out_is_reported(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_mat A = mat_new(WS_DT_F32, 200, 150, 0), U = mat_new(WS_DT_F32, 200, 150, 0);
    ws_mat Vt = mat_new(WS_DT_F32, 150, 150, 0);
    double s[150];
    for (long n = 0; n < 2; n++) {
        ws_arena tmp = { 0 };
        ws_alloc_fail_after(n);
        assert_int_equal(ws_svd_thin(&A, &U, s, &Vt, &tmp, &err), WS_E_MEMORY);
        ws_alloc_fail_after(-1);
        ws_arena_free(&tmp);
    }
    free(A.data);
    free(U.data);
    free(Vt.data);
}

static void scratch_exceeds_what_a_float_can_count(void **state)
{
    (void)state;
    // the float query would give 2^24-odd sizes here, rounded down
    const int64_t n = 3001;
    const size_t elems = ws_svd_scratch(WS_DT_F32, n, n) / sizeof(float);
    assert_true(elems >= (size_t)(n * n + 4 * n * n + 7 * n));
    // 5 n^2 elements pass 2^31 here
    assert_true(ws_svd_scratch(WS_DT_F32, 30000, 25000) == SIZE_MAX);
    assert_true(ws_singular_values_scratch(WS_DT_F32, 30000, 25000) < 64u << 20);
    assert_true(ws_svd_scratch(WS_DT_F64, INT64_C(1) << 31, 2) == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(residuals_are_small_for_every_shape),
        cmocka_unit_test(residuals_are_small_for_very_large_and_very_small_values),
        cmocka_unit_test(known_values_come_back_in_order),
        cmocka_unit_test(rank_one_has_one_value_and_zero_none),
        cmocka_unit_test(empty_matrix_has_no_values),
        cmocka_unit_test(not_finite_is_refused),
        cmocka_unit_test(misfit_is_refused_by_name),
        cmocka_unit_test(memory_that_is_out_is_reported),
        cmocka_unit_test(scratch_exceeds_what_a_float_can_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
