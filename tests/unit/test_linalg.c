/*
 * test_linalg.c - matrix products and the copies of matrices
 */
#include "ws_test.h"

#include "linalg/lapack.h"
#include "wsurg/linalg.h"

/** C by its definition, in double. */
static double product(const double *a, bool ta, int64_t lda, const double *b, bool tb,
                      int64_t ldb, int64_t k, int64_t i, int64_t j)
{
    double sum = 0.0;
    for (int64_t l = 0; l < k; l++)
        sum += (ta ? a[l * lda + i] : a[i * lda + l]) *
               (tb ? b[j * ldb + l] : b[l * ldb + j]);
    return sum;
}

static void fill(double *x, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (double)(seed >> 8) / 16777216.0 - 0.5;
    }
}

enum { M = 7, N = 5, K = 9, LD = 12 };

static void check_double(bool ta, bool tb)
{
    ws_err err = WS_ERR_INIT;
    double a[LD * LD], b[LD * LD], c[LD * LD], before[LD * LD];
    fill(a, LD * LD, 1);
    fill(b, LD * LD, 2);
    fill(c, LD * LD, 3);
    memcpy(before, c, sizeof c);
    const ws_mat A = { WS_DT_F64, ta ? K : M, ta ? M : K, LD, a };
    const ws_mat B = { WS_DT_F64, tb ? N : K, tb ? K : N, LD, b };
    ws_mat C = { WS_DT_F64, M, N, LD, c };
    assert_ok(ws_gemm(ta, tb, 2.0, &A, &B, 0.5, &C, &err), err);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < LD; j++) {
            const double was = before[i * LD + j];
            const double want =
                j < N ? 2.0 * product(a, ta, LD, b, tb, LD, K, i, j) + 0.5 * was : was;
            assert_close(c[i * LD + j], want, 1e-14);
        }
}

static void product_in_double_with_every_transpose(void **state)
{
    (void)state;
    check_double(false, false);
    check_double(true, false);
    check_double(false, true);
    check_double(true, true);
}

static void product_of_whole_numbers_in_float_is_exact(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    float a[] = { 1, 2, 3, 4, 5, 6 }, b[] = { 7, 8, 9, 10, 11, 12 };
    float c[] = { NAN, NAN, NAN, NAN };
    const ws_mat A = ws_mat_f32(a, 2, 3), B = ws_mat_f32(b, 3, 2);
    ws_mat C = ws_mat_f32(c, 2, 2);
    assert_ok(ws_gemm(false, false, 1.0, &A, &B, 0.0, &C, &err), err);
    const float want[] = { 58, 64, 139, 154 };
    assert_memory_equal(c, want, sizeof want);
}

static void product_over_nothing_only_scales(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    float none = 0.0f, c[] = { 4, 8 };
    const ws_mat A = ws_mat_f32(&none, 1, 0), B = { WS_DT_F32, 0, 2, 2, &none };
    ws_mat C = ws_mat_f32(c, 1, 2);
    assert_ok(ws_gemm(false, false, 1.0, &A, &B, 0.25, &C, &err), err);
    assert_bits(c[0], 1.0f);
    assert_bits(c[1], 2.0f);
}

static void misfit_is_refused_by_name(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    float x[8] = { 0 };
    const ws_mat A = ws_mat_f32(x, 2, 3), B = ws_mat_f32(x, 2, 2);
    ws_mat C = ws_mat_f32(x, 2, 2);
    assert_int_equal(ws_gemm(false, false, 1.0, &A, &B, 0.0, &C, &err), WS_E_SHAPE);
    assert_string_equal(err.msg, "product of (2,3) and (2,2) does not fit (2,2)");
}

static void side_beyond_32_bits_is_refused(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    float x[1] = { 0 };
    const ws_mat A = { WS_DT_F32, 1, 1, INT64_C(1) << 31, x }, B = ws_mat_f32(x, 1, 1);
    ws_mat C = ws_mat_f32(x, 1, 1);
    assert_int_equal(ws_gemm(false, false, 1.0, &A, &B, 0.0, &C, &err),
                     WS_E_UNSUPPORTED);
    lapack_int out;
    assert_false(ws_to_lapack_int(INT64_C(1) << 31, &out));
    assert_false(ws_to_lapack_int(-1, &out));
    assert_true(ws_to_lapack_int(INT32_MAX, &out));
}

static void copies_and_transposes_keep_every_element(void **state)
{
    (void)state;
    enum { R = 67, C = 35 };
    static float a[R * LD * 4], t[C * R];
    for (int i = 0; i < R; i++)
        for (int j = 0; j < C; j++)
            a[i * LD * 4 + j] = (float)(i * C + j);
    const ws_mat A = { WS_DT_F32, R, C, LD * 4, a };
    ws_mat_copy(&A, t, R, true);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < C; j++)
            assert_bits(t[j * R + i], (float)(i * C + j));
    ws_mat_copy(&A, t, C, false);
    for (int i = 0; i < R * C; i++)
        assert_bits(t[i], (float)i);
}

static void not_finite_is_seen_anywhere_but_in_the_gap(void **state)
{
    (void)state;
    double a[3 * 5] = { 0 };
    const ws_mat A = { WS_DT_F64, 3, 4, 5, a };
    a[4] = a[9] = a[14] = NAN;
    assert_true(ws_mat_finite(&A));
    a[13] = -INFINITY;
    assert_false(ws_mat_finite(&A));
    float f[] = { 1e38f, -1e38f, 0.0f };
    const ws_mat F = ws_mat_f32(f, 1, 3);
    assert_true(ws_mat_finite(&F));
    f[2] = NAN;
    assert_false(ws_mat_finite(&F));
}

static void blas_says_what_it_is_and_runs_on_one_thread(void **state)
{
    (void)state;
    assert_non_null(strstr(ws_linalg_config(), "OpenBLAS"));
    ws_blas_pin();
    assert_int_equal(openblas_get_num_threads(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_in_double_with_every_transpose),
        cmocka_unit_test(product_of_whole_numbers_in_float_is_exact),
        cmocka_unit_test(product_over_nothing_only_scales),
        cmocka_unit_test(misfit_is_refused_by_name),
        cmocka_unit_test(side_beyond_32_bits_is_refused),
        cmocka_unit_test(copies_and_transposes_keep_every_element),
        cmocka_unit_test(not_finite_is_seen_anywhere_but_in_the_gap),
        cmocka_unit_test(blas_says_what_it_is_and_runs_on_one_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
