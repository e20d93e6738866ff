/*
 * test_corda.c - the identities of CorDA, and its factors against a full decomposition
 *
 * What is compared is B A and projections, never entries of U, A or B: signs and
 * rotations inside clusters are nobody's business.
 */
#include "mat_fixture.h"

#include "surgery/corda.h"

/** A layer: W (m, n), C~ (n, n) damped, T = W C~ and its decomposition. */
typedef struct layer {
    int64_t m, n, q;
    ws_mat W, C, T, U, Vt;
    double *s;
    ws_arena tmp;
} layer;

static ws_mat product(const ws_mat *A, const ws_mat *B)
{
    ws_err err = WS_ERR_INIT;
    ws_mat C = fx_new(WS_DT_F64, A->rows, B->cols, 0);
    assert_ok(ws_gemm(false, false, 1.0, A, B, 0.0, &C, &err), err);
    return C;
}

/** Activations with channel scales over three decades and two outliers. */
static layer layer_new(int64_t m, int64_t n, double outlier)
{
    ws_err err = WS_ERR_INIT;
    layer l = { .m = m, .n = n, .q = m < n ? m : n };
    l.W = fx_random(WS_DT_F64, m, n, 0, 21);
    ws_mat X = fx_random(WS_DT_F64, 2 * n, n, 0, 22);
    for (int64_t j = 0; j < n; j++) {
        const double scale =
            pow(10.0, 2.0 * fx_entry(j, 0, 23)) * (j % 61 == 5 ? outlier : 1.0);
        for (int64_t i = 0; i < X.rows; i++)
            fx_set(&X, i, j, scale * fx_get(&X, i, j));
    }
    l.C = fx_new(WS_DT_F64, n, n, 0);
    assert_ok(ws_syrk(true, 1.0, &X, 0.0, &l.C, &err), err);
    ws_corda_damp(&l.C, 0.01);
    free(X.data);
    l.T = product(&l.W, &l.C);
    l.U = fx_new(WS_DT_F64, m, l.q, 0);
    l.Vt = fx_new(WS_DT_F64, l.q, n, 0);
    l.s = calloc((size_t)l.q, sizeof *l.s);
    assert_ok(ws_svd_thin(&l.T, &l.U, l.s, &l.Vt, &l.tmp, &err), err);
    return l;
}

static void layer_free(layer *l)
{
    free(l->W.data);
    free(l->C.data);
    free(l->T.data);
    free(l->U.data);
    free(l->Vt.data);
    free(l->s);
    ws_arena_free(&l->tmp);
}

typedef struct parts {
    ws_mat A, B, BA, rest;
    ws_decomposed d;
} parts;

static parts split(const layer *l, const ws_mat *C, int64_t r, bool smallest,
                   ws_solver solver)
{
    ws_err err = WS_ERR_INIT;
    const ws_corda_opts o = { .rank = r, .smallest = smallest, .solver = solver };
    parts p = { .A = fx_new(WS_DT_F64, r, l->n, 0),
                .B = fx_new(WS_DT_F64, l->m, r, 0) };
    ws_mat copy = C == NULL ? l->C : fx_copy(C);
    assert_ok(ws_corda(&l->W, C == NULL ? NULL : &copy, &o, &p.B, &p.A, &p.d, &err),
              err);
    if (C != NULL)
        free(copy.data);
    p.BA = product(&p.B, &p.A);
    p.rest = fx_copy(&l->W);
    for (int64_t i = 0; i < l->m; i++)
        for (int64_t j = 0; j < l->n; j++)
            fx_set(&p.rest, i, j, fx_get(&l->W, i, j) - fx_get(&p.BA, i, j));
    return p;
}

static void parts_free(parts *p)
{
    free(p->A.data);
    free(p->B.data);
    free(p->BA.data);
    free(p->rest.data);
}

/** ||P - Q|| / ||Q|| */
static double relative(const ws_mat *P, const ws_mat *Q)
{
    return fx_distance(P, Q) / fx_distance(Q, NULL);
}

/** U_r U_r' W of the full decomposition. */
static ws_mat reference(const layer *l, int64_t r, bool smallest)
{
    const ws_mat U = { WS_DT_F64, l->m, r, l->q,
                       (double *)l->U.data + (smallest ? l->q - r : 0) };
    ws_mat UW = fx_product(true, false, &U, &l->W),
           P = fx_product(false, false, &U, &UW);
    free(UW.data);
    return P;
}

/** Largest entry of |G - diag(s)|, G = P P' or P' P. */
static double off_diagonal(const ws_mat *P, bool columns, const double *s, int64_t r)
{
    ws_mat G = fx_product(columns, !columns, P, P);
    double most = 0.0;
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < r; j++)
            most = fmax(most, fabs(fx_get(&G, i, j) - (i == j ? s[i] : 0.0)));
    free(G.data);
    return most;
}

static void check_identities(const layer *l, int64_t r, bool smallest)
{
    parts p = split(l, &l->C, r, smallest, WS_SOLVER_EXACT);
    const double *s = l->s + (smallest ? l->q - r : 0);
    const double unit = s[0];
    ws_mat want = reference(l, r, smallest);
    assert_true(relative(&p.BA, &want) <= (smallest ? 1e-4 : 1e-6));
    // U = B S^-1/2 is orthonormal; S is descending and not negative
    ws_mat U = fx_copy(&p.B), columns = fx_new(WS_DT_F64, 1, r, 0);
    for (int64_t j = 0; j < r; j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < l->m; i++)
            sum += fx_get(&U, i, j) * fx_get(&U, i, j);
        assert_true(sum >= 0.0 &&
                    (j == 0 || sum <= fx_get(&columns, 0, j - 1) * 1.001));
        fx_set(&columns, 0, j, sum);
        for (int64_t i = 0; i < l->m; i++)
            fx_set(&U, i, j, fx_get(&U, i, j) / sqrt(sum));
    }
    for (int64_t j = 0; j < r; j++)
        ((double *)columns.data)[j] = 1.0;
    assert_true(off_diagonal(&U, true, columns.data, r) <= 1e-12);
    free(U.data);
    free(columns.data);
    // B' B = S_r and (A C~)(A C~)' = S_r
    ws_mat AC = product(&p.A, &l->C);
    assert_true(off_diagonal(&p.B, true, s, r) <= (smallest ? 1e-5 : 1e-8) * unit);
    assert_true(off_diagonal(&AC, false, s, r) <= (smallest ? 1e-5 : 1e-8) * unit);
    // U_r' W' = 0
    ws_mat UW = fx_product(true, false, &p.B, &p.rest);
    assert_true(fx_distance(&UW, NULL) <=
                1e-9 * fx_distance(&p.B, NULL) * fx_distance(&l->W, NULL));
    // ||B A C~||^2 = sum of the chosen s^2, ||W' C~||^2 = sum of the others
    double chosen = 0.0, others = 0.0;
    for (int64_t i = 0; i < l->q; i++) {
        const bool in = smallest ? i >= l->q - r : i < r;
        *(in ? &chosen : &others) += l->s[i] * l->s[i];
    }
    ws_mat BAC = product(&p.BA, &l->C), RC = product(&p.rest, &l->C);
    const double total = sqrt(chosen + others);
    assert_true(fabs(fx_distance(&BAC, NULL) - sqrt(chosen)) <= 1e-8 * total);
    assert_true(fabs(fx_distance(&RC, NULL) - sqrt(others)) <= 1e-8 * total);
    assert_close(p.d.s_first, s[0], 1e-9 * fmax(1.0, s[0]));
    assert_true(fabs(p.d.s_last - s[r - 1]) <= 1e-6 * s[r - 1] + 1e-12 * l->s[0]);
    assert_int_equal(p.d.zeros, 0);
    free(want.data);
    free(AC.data);
    free(UW.data);
    free(BAC.data);
    free(RC.data);
    parts_free(&p);
}

static void the_identities_hold_in_both_modes_and_all_shapes(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {
        { 24, 24, 5 }, { 40, 24, 6 }, { 24, 40, 6 }, { 30, 30, 1 }, { 1, 9, 1 }
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        layer l = layer_new(shapes[i][0], shapes[i][1], 30.0);
        check_identities(&l, shapes[i][2], false);
        check_identities(&l, shapes[i][2], true);
        layer_free(&l);
    }
}

static void krylov_and_inverse_agree_with_the_full_decomposition(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = { { 160, 160 }, { 220, 160 }, { 160, 220 } };
    for (size_t i = 0; i < 3; i++) {
        layer l = layer_new(shapes[i][0], shapes[i][1], 30.0);
        // an eighth of the order, the most that is not left to the dense methods
        parts large = split(&l, &l.C, 20, false, WS_SOLVER_EXACT);
        parts small = split(&l, &l.C, 20, true, WS_SOLVER_EXACT);
        assert_string_equal(large.d.by, "krylov");
        assert_string_equal(small.d.by, "inverse");
        check_identities(&l, 20, false);
        check_identities(&l, 20, true);
        parts_free(&large);
        parts_free(&small);
        layer_free(&l);
    }
}

static void outliers_of_a_thousand_do_not_matter(void **state)
{
    (void)state;
    layer l = layer_new(150, 150, 1000.0);
    for (int64_t r = 12; r <= 30; r += 18) // by Krylov space and dense
        for (int mode = 0; mode < 2; mode++) {
            parts p = split(&l, &l.C, r, mode == 1, WS_SOLVER_EXACT);
            ws_mat want = reference(&l, r, mode == 1);
            assert_true(relative(&p.BA, &want) <= (mode == 1 ? 1e-4 : 1e-6));
            free(want.data);
            parts_free(&p);
        }
    layer_free(&l);
}

static void fast_is_within_a_thousandth_of_the_best(void **state)
{
    (void)state;
    layer l = layer_new(200, 180, 30.0);
    parts p = split(&l, &l.C, 15, false, WS_SOLVER_FAST);
    assert_string_equal(p.d.by, "krylov");
    ws_mat RC = product(&p.rest, &l.C);
    double best = 0.0;
    for (int64_t i = 15; i < l.q; i++)
        best += l.s[i] * l.s[i];
    const double over = fx_distance(&RC, NULL) / sqrt(best) - 1.0;
    assert_true(over <= 1e-3);
    assert_true(over <= p.d.over_best + 1e-9 && p.d.over_best <= 1e-3);
    free(RC.data);
    parts_free(&p);
    layer_free(&l);
}

static void the_scale_of_c_moves_between_a_and_b_only(void **state)
{
    (void)state;
    layer l = layer_new(24, 30, 30.0);
    ws_mat C4 = fx_copy(&l.C);
    for (int64_t i = 0; i < 30 * 30; i++)
        ((double *)C4.data)[i] *= 4.0;
    for (int mode = 0; mode < 2; mode++) {
        parts a = split(&l, &l.C, 6, mode == 1, WS_SOLVER_EXACT);
        parts b = split(&l, &C4, 6, mode == 1, WS_SOLVER_EXACT);
        assert_true(relative(&b.BA, &a.BA) <= 1e-9);
        assert_close(fx_distance(&b.B, NULL) / fx_distance(&a.B, NULL), 2.0, 1e-9);
        assert_close(fx_distance(&b.A, NULL) / fx_distance(&a.A, NULL), 0.5, 1e-9);
        parts_free(&a);
        parts_free(&b);
    }
    free(C4.data);
    layer_free(&l);
}

static void full_rank_takes_all_and_the_modes_are_complements(void **state)
{
    (void)state;
    layer l = layer_new(26, 20, 30.0);
    for (int mode = 0; mode < 2; mode++) {
        parts all = split(&l, &l.C, 20, mode == 1, WS_SOLVER_EXACT);
        assert_true(relative(&all.BA, &l.W) <= 1e-9);
        parts_free(&all);
    }
    parts large = split(&l, &l.C, 7, false, WS_SOLVER_EXACT);
    parts small = split(&l, &l.C, 13, true, WS_SOLVER_EXACT);
    assert_true(relative(&large.rest, &small.BA) <= 1e-7);
    parts_free(&large);
    parts_free(&small);
    layer_free(&l);
}

static void without_covariance_it_is_pissa(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    layer l = layer_new(28, 22, 30.0);
    ws_mat eye = fx_new(WS_DT_F64, 22, 22, 0), U = fx_new(WS_DT_F64, 28, 22, 0);
    ws_mat Vt = fx_new(WS_DT_F64, 22, 22, 0);
    double s[22];
    for (int64_t i = 0; i < 22; i++)
        fx_set(&eye, i, i, 1.0);
    parts a = split(&l, &eye, 5, false, WS_SOLVER_EXACT);
    parts b = split(&l, NULL, 5, false, WS_SOLVER_EXACT);
    assert_true(relative(&a.BA, &b.BA) <= 1e-10);
    assert_ok(ws_svd_thin(&l.W, &U, s, &Vt, &l.tmp, &err), err);
    for (int64_t i = 0; i < 28; i++)
        for (int64_t j = 0; j < 22; j++)
            fx_set(&U, i, j, fx_get(&U, i, j) * (j < 5 ? s[j] : 0.0));
    ws_mat want = product(&U, &Vt);
    assert_true(relative(&b.BA, &want) <= 1e-10);
    assert_close(b.d.s_first, s[0], 1e-10);
    free(eye.data);
    free(U.data);
    free(Vt.data);
    free(want.data);
    parts_free(&a);
    parts_free(&b);
    layer_free(&l);
}

static void no_other_subspace_leaves_less(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    layer l = layer_new(30, 26, 30.0);
    parts p = split(&l, &l.C, 6, false, WS_SOLVER_EXACT);
    ws_mat RC = product(&p.rest, &l.C);
    const double best = fx_distance(&RC, NULL);
    for (unsigned k = 0; k < 8; k++) {
        ws_mat U = fx_random(WS_DT_F64, 30, 6, 0, 40 + k);
        for (int64_t i = 0; k % 2 == 1 && i < 30; i++) // odd: near the best
            for (int64_t j = 0; j < 6; j++)
                fx_set(&U, i, j, fx_get(&l.U, i, j) + 0.01 * fx_get(&U, i, j));
        assert_ok(ws_qr(&U, NULL, &l.tmp, &err), err);
        ws_mat UT = fx_product(true, false, &U, &l.T), back = product(&U, &UT);
        assert_true(fx_distance(&l.T, &back) >= best * (1.0 - 1e-12));
        free(U.data);
        free(UT.data);
        free(back.data);
    }
    free(RC.data);
    parts_free(&p);
    layer_free(&l);
}

static void singular_values_of_zero_give_zero_rows(void **state)
{
    (void)state;
    layer l = layer_new(20, 24, 30.0);
    for (int64_t j = 0; j < 24; j++) // two outputs that nothing reaches
        for (int64_t i = 18; i < 20; i++)
            fx_set(&l.W, i, j, 0.0);
    parts p = split(&l, &l.C, 4, true, WS_SOLVER_EXACT);
    assert_int_equal(p.d.zeros, 2);
    for (int64_t k = 2; k < 4; k++) {
        for (int64_t j = 0; j < 24; j++)
            assert_true(fx_get(&p.A, k, j) == 0.0);
        for (int64_t i = 0; i < 20; i++)
            assert_true(fx_get(&p.B, i, k) == 0.0);
    }
    parts_free(&p);
    layer_free(&l);
}

static void components_that_are_equal_are_called_unclear(void **state)
{
    (void)state;
    layer l = layer_new(12, 12, 1.0);
    for (int64_t i = 0; i < 12; i++)
        for (int64_t j = 0; j < 12; j++) {
            fx_set(&l.W, i, j, i == j ? (i < 4 ? 3.0 : 1.0) : 0.0);
            fx_set(&l.C, i, j, i == j ? 1.0 : 0.0);
        }
    parts two = split(&l, &l.C, 2, false, WS_SOLVER_EXACT);
    parts four = split(&l, &l.C, 4, false, WS_SOLVER_EXACT);
    assert_true(two.d.unclear);
    assert_false(four.d.unclear);
    parts_free(&two);
    parts_free(&four);
    layer_free(&l);
}

static void ranks_that_do_not_fit_and_nan_are_refused(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_mat W = fx_random(WS_DT_F64, 6, 8, 0, 1), A = fx_new(WS_DT_F64, 7, 8, 0);
    ws_mat B = fx_new(WS_DT_F64, 6, 7, 0);
    ws_decomposed d;
    ws_corda_opts o = { .rank = 7 };
    assert_int_equal(ws_corda(&W, NULL, &o, &B, &A, &d, &err), WS_E_SHAPE);
    o.rank = 2;
    A.rows = B.cols = B.ld = 2;
    fx_set(&W, 3, 3, (double)NAN);
    assert_int_equal(ws_corda(&W, NULL, &o, &B, &A, &d, &err), WS_E_NOT_FINITE);
    free(W.data);
    free(A.data);
    free(B.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_identities_hold_in_both_modes_and_all_shapes),
        cmocka_unit_test(krylov_and_inverse_agree_with_the_full_decomposition),
        cmocka_unit_test(outliers_of_a_thousand_do_not_matter),
        cmocka_unit_test(fast_is_within_a_thousandth_of_the_best),
        cmocka_unit_test(the_scale_of_c_moves_between_a_and_b_only),
        cmocka_unit_test(full_rank_takes_all_and_the_modes_are_complements),
        cmocka_unit_test(without_covariance_it_is_pissa),
        cmocka_unit_test(no_other_subspace_leaves_less),
        cmocka_unit_test(singular_values_of_zero_give_zero_rows),
        cmocka_unit_test(components_that_are_equal_are_called_unclear),
        cmocka_unit_test(ranks_that_do_not_fit_and_nan_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
