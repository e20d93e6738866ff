/*
 * test_cov_collect.c - covariances of one input: sums of X'X
 */
#include "mat_fixture.h"

#include "surgery/cov_collect.h"

/** C (n, n), symmetric, of one sample X (t, n) added to what @p sum holds. */
static void add(ws_normalise how, const ws_mat *X, double *sum, int threads)
{
    ws_err err = WS_ERR_INIT;
    ws_pool *pool = NULL;
    const int64_t t = X->rows, n = X->cols;
    ws_real *x = calloc((size_t)(t * n), sizeof *x);
    float *scaled = calloc((size_t)(t * n), sizeof *scaled);
    float *panels = calloc((size_t)(threads * WS_COV_PANEL * n), sizeof *panels);
    assert_true(x != NULL && scaled != NULL && panels != NULL);
    for (int64_t i = 0; i < t; i++)
        for (int64_t j = 0; j < n; j++)
            x[i * n + j] = (ws_real)fx_get(X, i, j);
    assert_ok(ws_pool_new(&pool, threads, &err), err);
    assert_ok(ws_cov_add(pool, how, x, t, n, scaled, panels, sum, &err), err);
    ws_pool_free(pool);
    free(x);
    free(scaled);
    free(panels);
}

static double *sum_new(int64_t n)
{
    double *sum = calloc((size_t)(n * (n + 1) / 2), sizeof *sum);
    assert_non_null(sum);
    return sum;
}

/** The formula: two loops over X / |max X|, the largest signed entry. */
static double *naive(ws_normalise how, const ws_mat *X)
{
    double most = fx_get(X, 0, 0);
    for (int64_t i = 0; i < X->rows; i++)
        for (int64_t j = 0; j < X->cols; j++)
            most = fmax(most, fx_get(X, i, j));
    const double by = how == WS_NORMALISE_NONE ? 1.0 : fabs(most);
    double *sum = sum_new(X->cols), *at = sum;
    for (int64_t i = 0; i < X->cols; i++)
        for (int64_t j = i; j < X->cols; j++, at++)
            for (int64_t k = 0; k < X->rows; k++)
                *at += fx_get(X, k, i) / by * fx_get(X, k, j) / by;
    return sum;
}

static double distance(const double *a, const double *b, int64_t n)
{
    double off = 0.0, all = 0.0;
    for (int64_t i = 0; i < n * (n + 1) / 2; i++) {
        off += (a[i] - b[i]) * (a[i] - b[i]);
        all += b[i] * b[i];
    }
    return sqrt(off / all);
}

static void it_is_the_sum_of_products_over_tokens(void **state)
{
    (void)state;
    static const int64_t orders[] = { 1, 7, WS_COV_PANEL, WS_COV_PANEL + 33 };
    for (size_t k = 0; k < 4; k++)
        for (int how = WS_NORMALISE_PEFT; how <= WS_NORMALISE_NONE; how++) {
            ws_mat X = fx_random(WS_DT_F64, 19, orders[k], 0, 3);
            double *sum = sum_new(orders[k]), *want = naive((ws_normalise)how, &X);
            add((ws_normalise)how, &X, sum, 2);
            assert_true(distance(sum, want, orders[k]) < 1e-6);
            add((ws_normalise)how, &X, sum, 1); // it adds
            for (int64_t i = 0; i < orders[k] * (orders[k] + 1) / 2; i++)
                want[i] *= 2.0;
            assert_true(distance(sum, want, orders[k]) < 1e-6);
            free(sum);
            free(want);
            free(X.data);
        }
}

static void the_order_of_tokens_and_the_scale_of_a_sample_do_not_matter(void **state)
{
    (void)state;
    enum { T = 30, N = 40 };
    ws_mat X = fx_random(WS_DT_F64, T, N, 0, 5), Y = fx_copy(&X), Z = fx_copy(&X);
    for (int64_t i = 0; i < T; i++)
        for (int64_t j = 0; j < N; j++) {
            fx_set(&Y, i, j, fx_get(&X, (7 * i + 3) % T, j));
            fx_set(&Z, i, j, 3.7 * fx_get(&X, i, j));
        }
    double *x = sum_new(N), *y = sum_new(N), *z = sum_new(N), *none = sum_new(N);
    add(WS_NORMALISE_PEFT, &X, x, 1);
    add(WS_NORMALISE_PEFT, &Y, y, 1);
    add(WS_NORMALISE_PEFT, &Z, z, 1);
    add(WS_NORMALISE_NONE, &Z, none, 1);
    assert_true(distance(y, x, N) < 1e-6);
    assert_true(distance(z, x, N) < 1e-6);
    assert_true(distance(none, x, N) > 1.0); // unless it is asked for
    free(x);
    free(y);
    free(z);
    free(none);
    free(X.data);
    free(Y.data);
    free(Z.data);
}

static void it_is_positive_semidefinite_and_the_same_for_any_threads(void **state)
{
    (void)state;
    enum { N = 150, T = 60 }; // of rank 60
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    ws_mat X = fx_random(WS_DT_F64, T, N, 0, 9), Z = fx_new(WS_DT_F64, N, N, 0);
    ws_mat C = fx_new(WS_DT_F64, N, N, 0);
    double *one = sum_new(N), *four = sum_new(N), w[N];
    add(WS_NORMALISE_PEFT, &X, one, 1);
    add(WS_NORMALISE_PEFT, &X, four, 4);
    assert_memory_equal(one, four, N * (N + 1) / 2 * sizeof *one);
    int64_t at = 0;
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = i; j < N; j++)
            fx_set(&C, i, j, one[at++]);
    assert_ok(ws_eig_range(&C, 0, N - 1, w, &Z, &tmp, NULL, &err), err);
    assert_true(w[0] > -1e-5 * w[N - 1]);
    assert_true(w[N - T] > 1e-3 * w[N - 1] && w[N - T - 1] < 1e-5 * w[N - 1]);
    ws_arena_free(&tmp);
    free(one);
    free(four);
    free(X.data);
    free(Z.data);
    free(C.data);
}

static void what_is_not_finite_is_refused(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_pool *pool = NULL;
    ws_real x[6] = { 1, 2, 3, 4, (ws_real)INFINITY, 6 };
    float scaled[6], panels[WS_COV_PANEL * 3];
    double sum[6] = { 0 };
    assert_ok(ws_pool_new(&pool, 1, &err), err);
    assert_int_equal(
        ws_cov_add(pool, WS_NORMALISE_PEFT, x, 2, 3, scaled, panels, sum, &err),
        WS_E_NOT_FINITE);
    x[4] = (ws_real)NAN;
    assert_int_equal(
        ws_cov_add(pool, WS_NORMALISE_NONE, x, 2, 3, scaled, panels, sum, &err),
        WS_E_NOT_FINITE);
    assert_true(sum[0] == 0.0);
    ws_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_sum_of_products_over_tokens),
        cmocka_unit_test(the_order_of_tokens_and_the_scale_of_a_sample_do_not_matter),
        cmocka_unit_test(it_is_positive_semidefinite_and_the_same_for_any_threads),
        cmocka_unit_test(what_is_not_finite_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
