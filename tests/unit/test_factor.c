/*
 * test_factor.c - products of triangles and factorisations, by their residuals
 */
#include "mat_fixture.h"

static const ws_dtype types[] = { WS_DT_F32, WS_DT_F64 };

static void syrk_is_the_upper_triangle_of_gemm(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++)
        for (int trans = 0; trans < 2; trans++) {
            ws_err err = WS_ERR_INIT;
            ws_mat A = fx_random(types[t], trans ? 37 : 21, trans ? 21 : 37, 3, 1);
            ws_mat C = fx_new(types[t], 21, 21, 2);
            fx_set(&C, 5, 4, 7.0);
            assert_ok(ws_syrk(trans, 2.0, &A, 0.0, &C, &err), err);
            assert_true(fx_get(&C, 5, 4) == 7.0); // below the diagonal: untouched
            ws_mirror_upper(&C);
            ws_mat want = fx_product(trans, !trans, &A, &A);
            for (int64_t i = 0; i < 21; i++)
                for (int64_t j = 0; j < 21; j++)
                    assert_close(fx_get(&C, i, j), 2.0 * fx_get(&want, i, j),
                                 64 * fx_eps(&A));
            free(A.data);
            free(C.data);
            free(want.data);
        }
}

static void symm_reads_the_upper_triangle_only(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        ws_err err = WS_ERR_INIT;
        ws_mat S = fx_random(types[t], 19, 19, 1, 2),
               B = fx_random(types[t], 8, 19, 0, 3);
        ws_mat full = fx_copy(&S), C = fx_new(types[t], 8, 19, 4);
        ws_mirror_upper(&full);
        assert_ok(ws_symm(true, 1.0, &S, &B, 0.0, &C, &err), err);
        ws_mat want = fx_product(false, false, &B, &full);
        assert_true(fx_distance(&C, &want) <=
                    20 * fx_eps(&S) * fx_distance(&want, NULL));
        assert_int_equal(ws_symm(false, 1.0, &S, &B, 0.0, &C, &err), WS_E_SHAPE);
        free(S.data);
        free(B.data);
        free(full.data);
        free(C.data);
        free(want.data);
    }
}

static void check_ortho(ws_dtype type, int64_t rows, int64_t cols, bool wide)
{
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    const int64_t k = wide ? rows : cols;
    ws_mat A = fx_random(type, rows, cols, 5, 4), Q = fx_copy(&A);
    ws_mat T = fx_new(type, k, k, 1);
    if (wide)
        assert_ok(ws_lq(&Q, &T, &tmp, &err), err);
    else
        assert_ok(ws_qr(&Q, &T, &tmp, &err), err);
    ws_mat back =
        wide ? fx_product(false, false, &T, &Q) : fx_product(false, false, &Q, &T);
    const double limit = 8.0 * (double)(rows + cols) * fx_eps(&A);
    assert_true(fx_distance(&back, &A) <= limit * fx_distance(&A, NULL));
    assert_true(fx_not_orthonormal(&Q, !wide) <= limit);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++)
            if (wide ? j > i : j < i)
                assert_true(fx_get(&T, i, j) == 0.0);
    ws_arena_free(&tmp);
    free(A.data);
    free(Q.data);
    free(T.data);
    free(back.data);
}

static void qr_and_lq_give_back_their_matrix(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        check_ortho(types[t], 90, 40, false);
        check_ortho(types[t], 40, 40, false);
        check_ortho(types[t], 33, 120, true);
        check_ortho(types[t], 1, 7, true);
    }
}

static void qr_refuses_what_it_cannot_do(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    ws_mat A = fx_random(WS_DT_F64, 3, 5, 0, 4);
    assert_int_equal(ws_qr(&A, NULL, &tmp, &err), WS_E_SHAPE);
    fx_set(&A, 2, 2, (double)NAN);
    assert_int_equal(ws_lq(&A, NULL, &tmp, &err), WS_E_NOT_FINITE);
    ws_arena_free(&tmp);
    free(A.data);
}

static void cholesky_multiplies_back_and_refuses_the_indefinite(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        ws_err err = WS_ERR_INIT;
        ws_mat X = fx_random(types[t], 60, 31, 0, 5), S = fx_new(types[t], 31, 31, 2);
        assert_ok(ws_syrk(true, 1.0, &X, 0.0, &S, &err), err);
        ws_mat R = fx_copy(&S);
        assert_ok(ws_cholesky(&R, &err), err);
        for (int64_t i = 0; i < 31; i++) {
            for (int64_t j = 0; j < i; j++)
                fx_set(&R, i, j, 0.0);
        }
        ws_mirror_upper(&S);
        ws_mat back = fx_product(true, false, &R, &R);
        assert_true(fx_distance(&back, &S) <=
                    31 * 4 * fx_eps(&S) * fx_distance(&S, NULL));
        fx_set(&S, 7, 7, -1.0);
        assert_int_equal(ws_cholesky(&S, &err), WS_E_NO_CONVERGENCE);
        assert_int_equal(err.sys, 8);
        free(X.data);
        free(S.data);
        free(R.data);
        free(back.data);
    }
}

static void trsm_solves_from_either_side(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++)
        for (int mode = 0; mode < 4; mode++) {
            const bool right = (mode & 1) != 0, trans = (mode & 2) != 0;
            ws_err err = WS_ERR_INIT;
            ws_mat R = fx_new(types[t], 17, 17, 0);
            ws_mat X = fx_random(types[t], right ? 6 : 17, right ? 17 : 6, 0, 6);
            for (int64_t i = 0; i < 17; i++)
                for (int64_t j = i; j < 17; j++)
                    fx_set(&R, i, j, i == j ? 2.0 : fx_entry(i, j, 7));
            ws_mat B = right ? fx_product(false, trans, &X, &R)
                             : fx_product(trans, false, &R, &X);
            ws_mat got = fx_new(types[t], X.rows, X.cols, 0);
            for (int64_t i = 0; i < X.rows; i++)
                for (int64_t j = 0; j < X.cols; j++)
                    fx_set(&got, i, j, fx_get(&B, i, j));
            assert_ok(ws_trsm(right, trans, &R, &got, &err), err);
            assert_true(fx_distance(&got, &X) <= 1e3 * fx_eps(&R));
            free(R.data);
            free(X.data);
            free(B.data);
            free(got.data);
        }
}

static void lu_solves_rows_of_both_kinds(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++)
        for (int trans = 0; trans < 2; trans++) {
            ws_err err = WS_ERR_INIT;
            ws_arena tmp = { 0 };
            ws_mat A = fx_random(types[t], 23, 23, 0, 8), F = fx_copy(&A);
            ws_mat X = fx_random(types[t], 4, 23, 0, 9),
                   got = fx_new(types[t], 4, 23, 2);
            for (int64_t i = 0; i < 23; i++) {
                fx_set(&A, i, i, 4.0);
                fx_set(&F, i, i, 4.0);
            }
            // rows: y = A x is Y = X A'
            ws_mat Y = fx_product(false, !trans, &X, &A);
            for (int64_t i = 0; i < 4; i++)
                for (int64_t j = 0; j < 23; j++)
                    fx_set(&got, i, j, fx_get(&Y, i, j));
            ws_lu lu;
            assert_ok(ws_lu_factor(&lu, &F, &tmp, &err), err);
            assert_ok(ws_lu_solve_rows(&lu, trans, &got, &err), err);
            assert_true(fx_distance(&got, &X) <= 1e3 * fx_eps(&A));
            ws_arena_free(&tmp);
            free(A.data);
            free(F.data);
            free(X.data);
            free(got.data);
            free(Y.data);
        }
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    ws_mat zero = fx_new(WS_DT_F64, 4, 4, 0);
    ws_lu lu;
    assert_int_equal(ws_lu_factor(&lu, &zero, &tmp, &err), WS_E_NO_CONVERGENCE);
    ws_arena_free(&tmp);
    free(zero.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(syrk_is_the_upper_triangle_of_gemm),
        cmocka_unit_test(symm_reads_the_upper_triangle_only),
        cmocka_unit_test(qr_and_lq_give_back_their_matrix),
        cmocka_unit_test(qr_refuses_what_it_cannot_do),
        cmocka_unit_test(cholesky_multiplies_back_and_refuses_the_indefinite),
        cmocka_unit_test(trsm_solves_from_either_side),
        cmocka_unit_test(lu_solves_rows_of_both_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
