/*
 * test_eig.c - eigenvalues by range, Krylov spaces, Rayleigh-Ritz, truncation: judged
 * by residuals and orthogonality
 */
#include "mat_fixture.h"

static const ws_dtype types[] = { WS_DT_F32, WS_DT_F64 };

/** S = Q' diag(v) Q of order n: eigenvalues that are known. */
static ws_mat with_spectrum(ws_dtype type, int64_t n, double (*value)(int64_t i))
{
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    ws_mat Q = fx_random(WS_DT_F64, n, n, 0, 11);
    assert_ok(ws_qr(&Q, NULL, &tmp, &err), err);
    ws_mat D = fx_copy(&Q);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            fx_set(&D, i, j, value(i) * fx_get(&Q, i, j));
    ws_mat S = fx_new(type, n, n, 0), F = ws_mat_f64(calloc((size_t)(n * n), 8), n, n);
    assert_ok(ws_gemm(true, false, 1.0, &Q, &D, 0.0, &F, &err), err);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            fx_set(&S, i, j, 0.5 * (fx_get(&F, i, j) + fx_get(&F, j, i)));
    ws_arena_free(&tmp);
    free(Q.data);
    free(D.data);
    free(F.data);
    return S;
}

static double squares(int64_t i)
{
    return 1.0 / (double)((i + 1) * (i + 1));
}

static double pairs(int64_t i) // every eigenvalue four times
{
    const double x = (double)(i / 4 + 1);
    return 1.0 / (x * x);
}

static double few(int64_t i) // rank 30
{
    return i < 30 ? 30.0 - (double)i : 0.0;
}

static void check_range(ws_dtype type, int64_t n, int64_t first, int64_t last)
{
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    const int64_t k = last - first + 1;
    ws_mat S = with_spectrum(type, n, squares), copy = fx_copy(&S);
    ws_mat Z = fx_new(type, k, n, 3);
    double *w = calloc((size_t)k, sizeof *w);
    ws_ladder step = WS_BY_LAST;
    assert_ok(ws_eig_range(&copy, first, last, w, &Z, &tmp, &step, &err), err);
    assert_int_equal(step, WS_BY_FIRST);
    ws_mat ZS = fx_product(false, false, &Z, &S);
    const double limit = 8.0 * (double)n * fx_eps(&S);
    double off = 0.0;
    for (int64_t i = 0; i < k; i++) {
        assert_true(fabs(w[i] - squares(n - 1 - first - i)) <= limit);
        for (int64_t j = 0; j < n; j++) {
            const double d = fx_get(&ZS, i, j) - w[i] * fx_get(&Z, i, j);
            off += d * d;
        }
    }
    assert_true(sqrt(off) <= limit);
    assert_true(fx_not_orthonormal(&Z, false) <= limit);
    ws_arena_free(&tmp);
    free(S.data);
    free(copy.data);
    free(Z.data);
    free(ZS.data);
    free(w);
}

static void a_range_of_eigenpairs_is_right_at_both_ends(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_range(types[t], 60, 0, 9);
        check_range(types[t], 60, 50, 59);
        check_range(types[t], 60, 20, 20);
        check_range(types[t], 1, 0, 0);
    }
}

static void ranges_outside_and_nan_are_refused(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    double w[2];
    ws_mat S = with_spectrum(WS_DT_F64, 4, squares), Z = fx_new(WS_DT_F64, 2, 4, 0);
    assert_int_equal(ws_eig_range(&S, 3, 4, w, &Z, &tmp, NULL, &err), WS_E_SHAPE);
    fx_set(&S, 0, 3, (double)INFINITY);
    assert_int_equal(ws_eig_range(&S, 0, 1, w, &Z, &tmp, NULL, &err), WS_E_NOT_FINITE);
    ws_arena_free(&tmp);
    free(S.data);
    free(Z.data);
}

static ws_status apply(void *arg, ws_mat *X, ws_mat *Y, ws_err *err)
{
    return ws_gemm(false, false, 1.0, X, arg, 0.0, Y, err);
}

/** The k largest of a spectrum by a Krylov space, against what they are. */
static void check_krylov(double (*value)(int64_t), int64_t k)
{
    enum { N = 300 };
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    ws_mat S = with_spectrum(WS_DT_F64, N, value), Z = fx_new(WS_DT_F64, k, N, 0);
    double *w = calloc((size_t)k, sizeof *w);
    const ws_krylov_opts o = { .n = N, .k = k, .tol = 1e-7, .most = 240, .block = 8 };
    ws_krylov_info info;
    assert_ok(ws_krylov(&o, apply, &S, w, &Z, &tmp, &info, &err), err);
    assert_true(info.separation <= 1e-7);
    for (int64_t i = 0; i < k; i++)
        assert_true(fabs(w[i] - value(i)) <= 1e-12 * value(0));
    assert_true(fx_not_orthonormal(&Z, false) <= 1e-11);
    ws_arena_free(&tmp);
    free(S.data);
    free(Z.data);
    free(w);
}

static void krylov_finds_what_is_there(void **state)
{
    (void)state;
    check_krylov(squares, 20);
    check_krylov(few, 10);
}

static void krylov_finds_multiple_eigenvalues(void **state)
{
    (void)state;
    check_krylov(pairs, 20);
}

static void krylov_goes_on_after_an_invariant_space(void **state)
{
    (void)state;
    check_krylov(few, 30); // the space is spent at 30; the rest is zero
}

static void krylov_says_when_nothing_separates_them(void **state)
{
    (void)state;
    enum { N = 200, K = 10 };
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    ws_mat S = with_spectrum(WS_DT_F64, N, pairs), Z = fx_new(WS_DT_F64, K, N, 0);
    double w[K];
    // 10 of 4 + 4 + 4: the tenth has equals that are not wanted
    const ws_krylov_opts o = { .n = N, .k = K, .tol = 1e-7, .most = 120, .block = 8 };
    ws_krylov_info info;
    assert_int_equal(ws_krylov(&o, apply, &S, w, &Z, &tmp, &info, &err),
                     WS_E_NO_CONVERGENCE);
    assert_true(info.gap < 1e-9);
    // but what they hold is known early
    const ws_krylov_opts by = {
        .n = N, .k = K, .tol = 1e-7, .most = 120, .block = 8, .energy = 1e-6
    };
    assert_ok(ws_krylov(&by, apply, &S, w, &Z, &tmp, &info, &err), err);
    double sum = 0.0, want = 0.0;
    for (int64_t i = 0; i < K; i++) {
        sum += w[i];
        want += pairs(i);
    }
    assert_true(want - sum <= 1e-6);
    ws_arena_free(&tmp);
    free(S.data);
    free(Z.data);
}

static void rayleigh_ritz_makes_orthogonal_rows_of_a_rotated_basis(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        ws_err err = WS_ERR_INIT;
        ws_arena tmp = { 0 };
        double s[6];
        ws_mat U = fx_random(types[t], 6, 20, 0, 12),
               T = fx_random(types[t], 20, 33, 0, 13);
        assert_ok(ws_lq(&U, NULL, &tmp, &err), err);
        ws_mat P = fx_new(types[t], 6, 33, 0);
        assert_ok(ws_gemm(false, false, 1.0, &U, &T, 0.0, &P, &err), err);
        assert_ok(ws_rayleigh_ritz(&U, &P, s, &tmp, &err), err);
        ws_mat again = fx_product(false, false, &U, &T),
               G = fx_product(false, true, &P, &P);
        const double limit = 200 * fx_eps(&U);
        assert_true(fx_distance(&again, &P) <= limit * s[0]);
        assert_true(fx_not_orthonormal(&U, false) <= limit);
        for (int64_t i = 0; i < 6; i++)
            for (int64_t j = 0; j < 6; j++)
                assert_true(fabs(fx_get(&G, i, j) - (i == j ? s[i] * s[i] : 0.0)) <=
                            limit * s[0] * s[0]);
        ws_arena_free(&tmp);
        free(U.data);
        free(T.data);
        free(P.data);
        free(again.data);
        free(G.data);
    }
}

static double slow(int64_t i) // hardly any decay
{
    return 1.0 / (1.0 + 0.01 * (double)i);
}

static void check_truncated(ws_dtype type, double (*value)(int64_t), double slack,
                            ws_ladder most)
{
    enum { N = 220, R = 12 };
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    ws_mat A = with_spectrum(type, N, value);
    ws_mat U = fx_new(type, N, R, 0), Vt = fx_new(type, R, N, 0);
    double s[R], best = 0.0;
    const ws_truncated_opts o = { .rank = R, .slack = slack };
    ws_truncated_info info;
    assert_ok(ws_svd_truncated(&A, &o, &U, s, &Vt, &tmp, &info, &err), err);
    assert_true(info.step <= most);
    for (int64_t i = R; i < N; i++)
        best += value(i) * value(i);
    best = sqrt(best);
    for (int64_t i = 0; i < R; i++)
        for (int64_t j = 0; j < N; j++)
            fx_set(&Vt, i, j, s[i] * fx_get(&Vt, i, j));
    ws_mat back = fx_product(false, false, &U, &Vt);
    const double left = fx_distance(&A, &back), tiny = 1e3 * fx_eps(&A) * value(0);
    assert_true(left <= (1.0 + slack) * best + tiny);
    assert_true(fabs(left - info.residual) <= 1e-3 * left + tiny); // as it says
    assert_true(info.least <= best * 1.001 + tiny); // never claims more than is true
    ws_arena_free(&tmp);
    free(A.data);
    free(U.data);
    free(Vt.data);
    free(back.data);
}

static void truncation_is_as_near_as_asked_for(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_truncated(types[t], squares, 0.01, WS_BY_SECOND);
        check_truncated(types[t], slow, 0.01, WS_BY_SECOND);
        check_truncated(types[t], slow, 1e-9, WS_BY_LAST); // climbs the ladder
    }
}

static void truncation_of_nothing_is_nothing(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    ws_mat A = fx_new(WS_DT_F32, 80, 90, 0), U = fx_new(WS_DT_F32, 80, 4, 0);
    ws_mat Vt = fx_new(WS_DT_F32, 4, 90, 0);
    double s[4];
    const ws_truncated_opts o = { .rank = 4, .slack = 0.01 };
    ws_truncated_info info;
    assert_ok(ws_svd_truncated(&A, &o, &U, s, &Vt, &tmp, &info, &err), err);
    assert_true(info.residual == 0.0 && s[0] == 0.0);
    ws_arena_free(&tmp);
    free(A.data);
    free(U.data);
    free(Vt.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_of_eigenpairs_is_right_at_both_ends),
        cmocka_unit_test(ranges_outside_and_nan_are_refused),
        cmocka_unit_test(krylov_finds_what_is_there),
        cmocka_unit_test(krylov_finds_multiple_eigenvalues),
        cmocka_unit_test(krylov_goes_on_after_an_invariant_space),
        cmocka_unit_test(krylov_says_when_nothing_separates_them),
        cmocka_unit_test(rayleigh_ritz_makes_orthogonal_rows_of_a_rotated_basis),
        cmocka_unit_test(truncation_is_as_near_as_asked_for),
        cmocka_unit_test(truncation_of_nothing_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
