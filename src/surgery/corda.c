/*
 * corda.c - one matrix split into a low-rank part and what is left of it
 *
 * The wanted singular vectors come from eigenvectors on the smaller side of T = W C~:
 *
 *   largest    Krylov space of x -> T T' x, T never formed
 *   smallest   Krylov space of the inverse, through factors of W and of C~ apart, which
 *              keeps the digits that a product of both loses; W tall: left vectors of
 *              R C~ with W = Q R, turned by Q = W R^-1; W wide: the R of T' = Q R
 *   else       T formed; eigenvectors of its Gram matrix, or its own decomposition
 *              where the Gram matrix has lost the small end
 *
 * and are made orthonormal again and sorted by Rayleigh-Ritz on U' T, which also gives
 * the singular values to full relative accuracy. Vectors are rows throughout.
 */
#include "surgery/corda.h"

#include <float.h>
#include <math.h>
#include <string.h>

/** What the operators need. */
typedef struct split {
    const ws_mat *W;
    ws_mat *C; // NULL: identity
    const ws_corda_opts *o;
    int64_t m, n, q, r; // q: smaller side
    ws_mat F, S;        // factors of W (or of T) and of C~
    ws_lu lu;
    bool with_lu;
    enum { RIGHT, LEFT, LEFT_OF_R } side; // whose vectors Z holds
    double *work;                         // (block, most of m and n), twice
    ws_arena tmp;
    double norm2; // ||T||^2, NaN when unknown
    double floor; // singular values below are zero
} split;

static ws_status no_memory(const split *s, ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to decompose (%lld,%lld)",
                   (long long)s->m, (long long)s->n);
}

void ws_corda_damp(ws_mat *C, double damp)
{
    double *c = C->data, trace = 0.0;
    const int64_t n = C->rows;
    for (int64_t i = 0; i < n; i++)
        trace += c[i * C->ld + i];
    const double add = n > 0 ? damp * trace / (double)n : 0.0;
    for (int64_t i = 0; i < n; i++)
        c[i * C->ld + i] += add;
    ws_mirror_upper(C);
}

static ws_mat take(split *s, int64_t rows, int64_t cols)
{
    size_t bytes;
    ws_mat M = ws_mat_f64(NULL, rows, cols);
    if (ws_mul_size((size_t)rows * sizeof(double), (size_t)cols, &bytes))
        M.data = ws_arena_alloc(&s->tmp, bytes);
    return M;
}

static ws_mat view(double *data, int64_t rows, int64_t cols)
{
    return ws_mat_f64(data, rows, cols);
}

/** Y = X C~. */
static ws_status by_c(const split *s, const ws_mat *X, ws_mat *Y, ws_err *err)
{
    if (s->C != NULL)
        return ws_gemm(false, false, 1.0, X, s->C, 0.0, Y, err);
    memcpy(Y->data, X->data, (size_t)(X->rows * X->cols) * sizeof(double));
    return WS_OK;
}

/* ---- operators: rows X (k, q) to Y (k, q) ---- */

static ws_status op_largest(void *arg, ws_mat *X, ws_mat *Y, ws_err *err)
{
    const split *s = arg;
    const int64_t k = X->rows, most = s->m > s->n ? s->m : s->n;
    double *one = s->work, *two = s->work + k * most;
    ws_mat a, b;
    ws_status st;
    if (s->m <= s->n) { // x W C~ C~ W'
        a = view(one, k, s->n);
        b = view(two, k, s->n);
        st = ws_gemm(false, false, 1.0, X, s->W, 0.0, &a, err);
        if (st == WS_OK)
            st = by_c(s, &a, &b, err);
        if (st == WS_OK)
            st = by_c(s, &b, &a, err);
        return st == WS_OK ? ws_gemm(false, true, 1.0, &a, s->W, 0.0, Y, err) : st;
    }
    a = view(one, k, s->n); // x C~ W' W C~
    b = view(two, k, s->m);
    st = by_c(s, X, &a, err);
    if (st == WS_OK)
        st = ws_gemm(false, true, 1.0, &a, s->W, 0.0, &b, err);
    if (st == WS_OK)
        st = ws_gemm(false, false, 1.0, &b, s->W, 0.0, &a, err);
    return st == WS_OK ? by_c(s, &a, Y, err) : st;
}

/** X <- X C~^-1 */
static ws_status solve_c(const split *s, ws_mat *X, ws_err *err)
{
    if (s->C == NULL)
        return WS_OK;
    const ws_status st = ws_trsm(true, false, &s->S, X, err);
    return st == WS_OK ? ws_trsm(true, true, &s->S, X, err) : st;
}

/** Each row x by F^-1 x, or F'^-1 x: F is W, or the R of it. */
static ws_status solve_f(const split *s, bool trans, ws_mat *X, ws_err *err)
{
    return s->with_lu ? ws_lu_solve_rows(&s->lu, trans, X, err)
                      : ws_trsm(true, !trans, &s->F, X, err);
}

static ws_status op_smallest(void *arg, ws_mat *X, ws_mat *Y, ws_err *err)
{
    const split *s = arg;
    ws_status st = WS_OK;
    if (s->m < s->n) { // (T T')^-1 = (F' F)^-1
        st = ws_trsm(true, false, &s->F, X, err);
        if (st == WS_OK)
            st = ws_trsm(true, true, &s->F, X, err);
    } else { // F'^-1 C~^-2 F^-1
        st = solve_f(s, false, X, err);
        if (st == WS_OK)
            st = solve_c(s, X, err);
        if (st == WS_OK)
            st = solve_c(s, X, err);
        if (st == WS_OK)
            st = solve_f(s, true, X, err);
    }
    if (st == WS_OK)
        memcpy(Y->data, X->data, (size_t)(X->rows * X->cols) * sizeof(double));
    return st;
}

/** Factors for op_smallest(); WS_E_NO_CONVERGENCE where there are none. */
static ws_status factor(split *s, ws_err *err)
{
    ws_status st = WS_OK;
    if (s->m < s->n) {
        s->F = take(s, s->n, s->m);
        if (s->F.data == NULL)
            return no_memory(s, err);
        st = s->C == NULL ? WS_OK
                          : ws_gemm(false, true, 1.0, s->C, s->W, 0.0, &s->F, err);
        for (int64_t i = 0; s->C == NULL && i < s->n; i++)
            for (int64_t j = 0; j < s->m; j++)
                ((double *)s->F.data)[i * s->m + j] =
                    ((const double *)s->W->data)[j * s->W->ld + i];
        if (st == WS_OK)
            st = ws_qr_r(&s->F, &s->tmp, err);
        s->F.rows = s->m;
        return st;
    }
    s->F = take(s, s->m, s->n);
    if (s->C != NULL)
        s->S = take(s, s->n, s->n);
    if (s->F.data == NULL || (s->C != NULL && s->S.data == NULL))
        return no_memory(s, err);
    for (int64_t i = 0; i < s->m; i++)
        memcpy((double *)s->F.data + i * s->n,
               (const double *)s->W->data + i * s->W->ld,
               (size_t)s->n * sizeof(double));
    s->with_lu = s->m == s->n;
    st = s->with_lu ? ws_lu_factor(&s->lu, &s->F, &s->tmp, err)
                    : ws_qr_r(&s->F, &s->tmp, err);
    s->F.rows = s->n;
    if (st != WS_OK || s->C == NULL)
        return st;
    memcpy(s->S.data, s->C->data, (size_t)(s->n * s->n) * sizeof(double));
    return ws_cholesky(&s->S, err);
}

/** Whether all of the diagonal of a triangle could be divided by. */
static bool regular(const ws_mat *R)
{
    double least = HUGE_VAL, most = 0.0;
    for (int64_t i = 0; i < R->rows; i++) {
        const double x = fabs(((const double *)R->data)[i * R->ld + i]);
        least = fmin(least, x);
        most = fmax(most, x);
    }
    return least > DBL_EPSILON * most;
}

/** Whether so much is wanted of order @p q that a dense method costs less. */
static bool dense(int64_t r, int64_t q)
{
    return r < 1 || 8 * r > q || q < 128;
}

/** Eigenvectors Z (r, q) of the wanted end by a Krylov space. */
static ws_status by_krylov(split *s, ws_mat *Z, ws_decomposed *out, ws_err *err)
{
    const bool fast = s->o->solver == WS_SOLVER_FAST;
    const ws_krylov_opts k = { .n = s->q,
                               .k = s->r,
                               .tol = fast ? 1e-3 : 2e-7,
                               .energy = fast && !s->o->smallest ? 1e-3 : 0.0,
                               .seed = s->o->seed };
    ws_krylov_info info;
    const int64_t most = s->m > s->n ? s->m : s->n;
    ws_status st = WS_OK;
    if (dense(s->r, s->q))
        return ws_fail(err, WS_E_NO_CONVERGENCE, "small enough for a dense method");
    if (s->o->smallest) {
        st = factor(s, err);
        if (st == WS_OK && !regular(&s->F))
            st = ws_fail(err, WS_E_NO_CONVERGENCE, "the matrix is singular");
        out->by = "inverse";
    } else {
        s->work = ws_arena_alloc(&s->tmp, (size_t)most * 2 * 64 * sizeof(double));
        out->by = "krylov";
        if (s->work == NULL)
            return no_memory(s, err);
    }
    double *w = ws_arena_calloc(&s->tmp, (size_t)s->r, sizeof *w);
    if (st == WS_OK && w == NULL)
        st = no_memory(s, err);
    if (st == WS_OK)
        st = ws_krylov(&k, s->o->smallest ? op_smallest : op_largest, s, w, Z, &s->tmp,
                       &info, err);
    if (st != WS_OK)
        return st;
    out->separation = info.separation;
    out->over_best = s->o->smallest ? NAN : sqrt(1.0 + info.loss) - 1.0;
    s->side = s->m <= s->n ? LEFT : s->o->smallest ? LEFT_OF_R : RIGHT;
    // eigenvalues are squares (of the inverse): half of their relative distance
    out->gap = 0.5 * info.gap;
    return WS_OK;
}

/* ---- dense ---- */

static ws_status form(split *s, ws_mat *T, ws_err *err)
{
    *T = take(s, s->m, s->n);
    if (T->data == NULL)
        return no_memory(s, err);
    if (s->C != NULL)
        return ws_gemm(false, false, 1.0, s->W, s->C, 0.0, T, err);
    for (int64_t i = 0; i < s->m; i++)
        memcpy((double *)T->data + i * s->n, (const double *)s->W->data + i * s->W->ld,
               (size_t)s->n * sizeof(double));
    return WS_OK;
}

/** From the decomposition of T itself: Z becomes its left vectors. */
static ws_status by_svd(split *s, const ws_mat *T, ws_mat *Z, ws_decomposed *out,
                        ws_err *err)
{
    ws_mat U = take(s, s->m, s->q), Vt = take(s, s->q, s->n);
    double *sv = ws_arena_calloc(&s->tmp, (size_t)s->q, sizeof *sv);
    if (U.data == NULL || Vt.data == NULL || sv == NULL)
        return no_memory(s, err);
    const ws_status st = ws_svd_thin(T, &U, sv, &Vt, &s->tmp, err);
    if (st != WS_OK)
        return st;
    const int64_t first = s->o->smallest ? s->q - s->r : 0;
    const int64_t in = s->o->smallest ? first : s->r - 1,
                  next = s->o->smallest ? first - 1 : s->r;
    *Z = take(s, s->r, s->m);
    if (Z->data == NULL)
        return no_memory(s, err);
    for (int64_t i = 0; i < s->r; i++)
        for (int64_t j = 0; j < s->m; j++)
            ((double *)Z->data)[i * s->m + j] =
                ((const double *)U.data)[j * s->q + first + i];
    s->side = LEFT;
    const bool all = s->r == s->q;
    out->gap = all || !(sv[0] > 0.0) ? NAN : fabs(sv[in] - sv[next]) / sv[0];
    out->separation = all ? 0.0 : (double)s->q * DBL_EPSILON / fmax(out->gap, DBL_MIN);
    out->condition = sv[s->q - 1] > 0.0 ? sv[0] / sv[s->q - 1] : HUGE_VAL;
    out->over_best = s->o->smallest ? NAN : 0.0;
    out->by = "svd";
    return WS_OK;
}

/** Gram matrix on the smaller side; *lost when it cannot tell the small end. */
static ws_status by_gram(split *s, const ws_mat *T, ws_mat *Z, bool *lost,
                         ws_decomposed *out, ws_err *err)
{
    const int64_t k = s->r < s->q ? s->r + 1 : s->r;
    const int64_t first = s->o->smallest ? 0 : s->q - k;
    ws_mat G = take(s, s->q, s->q), Zk = take(s, k, s->q);
    double *w = ws_arena_calloc(&s->tmp, (size_t)k, sizeof *w), trace = 0.0;
    if (G.data == NULL || Zk.data == NULL || w == NULL)
        return no_memory(s, err);
    ws_status st = ws_syrk(s->m > s->n, 1.0, T, 0.0, &G, err);
    for (int64_t i = 0; i < s->q; i++)
        trace += ((const double *)G.data)[i * s->q + i];
    if (st == WS_OK)
        st = ws_eig_range(&G, first, first + k - 1, w, &Zk, &s->tmp, NULL, err);
    if (st != WS_OK)
        return st;
    // ascending: the smallest stand first, the largest last
    const int64_t skip = s->o->smallest ? 0 : k - s->r;
    memcpy(Z->data, (double *)Zk.data + skip * s->q,
           (size_t)(s->r * s->q) * sizeof(double));
    const double edge = s->o->smallest ? w[s->r - 1] : w[skip];
    const double next = s->o->smallest ? w[k - 1] : w[0];
    const double noise = (double)s->q * DBL_EPSILON * trace;
    s->side = s->m <= s->n ? LEFT : RIGHT;
    *lost = k > s->r && noise > 2e-7 * fabs(edge - next);
    const double top = sqrt(fmax(s->o->smallest ? trace : w[k - 1], DBL_MIN));
    out->gap =
        k > s->r ? fabs(sqrt(fmax(edge, 0.0)) - sqrt(fmax(next, 0.0))) / top : NAN;
    out->separation = k > s->r ? noise / fmax(fabs(edge - next), DBL_MIN) : 0.0;
    out->over_best = s->o->smallest ? NAN : 0.0;
    out->by = "gram";
    return WS_OK;
}

static ws_status by_dense(split *s, ws_mat *Z, ws_decomposed *out, ws_err *err)
{
    ws_mat T;
    // right vectors are multiplied by T: what they hold of the largest grows
    bool lost = s->o->smallest && s->m > s->n;
    ws_status st = form(s, &T, err);
    if (st == WS_OK && !lost)
        st = by_gram(s, &T, Z, &lost, out, err);
    if (st == WS_OK && !lost)
        return WS_OK;
    if (st == WS_OK || st == WS_E_NO_CONVERGENCE)
        st = by_svd(s, &T, Z, out, err);
    return st;
}

/* ---- from vectors to factors ---- */

/** U (r, m): left vectors from Z, whatever it holds. */
static ws_status left_vectors(split *s, ws_mat *Z, ws_mat *U, ws_err *err)
{
    ws_mat V = take(s, s->r, s->n);
    ws_status st = V.data == NULL ? no_memory(s, err) : WS_OK;
    if (st == WS_OK && s->side == LEFT) {
        memcpy(U->data, Z->data, (size_t)(s->r * s->m) * sizeof(double));
    } else if (st == WS_OK && s->side == LEFT_OF_R) { // u = Q z = W R^-1 z
        st = ws_trsm(true, true, &s->F, Z, err);
        if (st == WS_OK)
            st = ws_gemm(false, true, 1.0, Z, s->W, 0.0, U, err);
    } else if (st == WS_OK) { // u = T v, before scaling
        st = by_c(s, Z, &V, err);
        if (st == WS_OK)
            st = ws_gemm(false, true, 1.0, &V, s->W, 0.0, U, err);
    }
    // equal lengths, so that small ones keep their digits; zero stays zero
    for (int64_t i = 0; st == WS_OK && i < s->r; i++) {
        double *u = (double *)U->data + i * s->m, sum = 0.0;
        for (int64_t j = 0; j < s->m; j++)
            sum += u[j] * u[j];
        for (int64_t j = 0; sum > 0.0 && j < s->m; j++)
            u[j] /= sqrt(sum);
    }
    return st == WS_OK ? ws_lq(U, NULL, &s->tmp, err) : st;
}

/** B = U S^1/2, A = S^-1/2 U' W; a singular value of zero gives zero rows. */
static ws_status factors(split *s, ws_mat *U, const double *sv, ws_mat *B, ws_mat *A,
                         ws_decomposed *out, ws_err *err)
{
    const ws_status st = ws_gemm(false, false, 1.0, U, s->W, 0.0, A, err);
    for (int64_t i = 0; st == WS_OK && i < s->r; i++) {
        const bool zero = !(sv[i] > s->floor);
        const double root = zero ? 0.0 : sqrt(sv[i]), inv = zero ? 0.0 : 1.0 / root;
        out->zeros += zero;
        for (int64_t j = 0; j < s->m; j++)
            ((double *)B->data)[j * B->ld + i] =
                root * ((const double *)U->data)[i * s->m + j];
        for (int64_t j = 0; j < s->n; j++)
            ((double *)A->data)[i * A->ld + j] *= inv;
    }
    return st;
}

static double frobenius(const ws_mat *M)
{
    double sum = 0.0;
    for (int64_t i = 0; i < M->rows; i++)
        for (int64_t j = 0; j < M->cols; j++) {
            const double x = ((const double *)M->data)[i * M->ld + j];
            sum += x * x;
        }
    return sqrt(sum);
}

/** The largest singular value, a little too small: a few steps of a block power
 * iteration. */
static ws_status largest(split *s, double *out, ws_err *err)
{
    enum { ROWS = 8, STEPS = 6 };
    const int64_t k = s->q < ROWS ? s->q : ROWS, most = s->m > s->n ? s->m : s->n;
    ws_mat X = take(s, k, s->q), Y = take(s, k, s->q);
    s->work = ws_arena_alloc(&s->tmp, 2 * (size_t)(k * most) * sizeof(double));
    if (X.data == NULL || Y.data == NULL || s->work == NULL)
        return no_memory(s, err);
    for (int64_t i = 0; i < k * s->q; i++) // any vectors that are not orthogonal to it
        ((double *)X.data)[i] = 1.0 + (double)(i % 7) - (double)(i % (k + 5));
    ws_status st = ws_lq(&X, NULL, &s->tmp, err);
    for (int i = 0; i < STEPS && st == WS_OK; i++) {
        st = op_largest(s, &X, &Y, err);
        *out = 0.0;
        for (int64_t r = 0; r < k; r++) { // of orthonormal rows: ||row|| <= s_1^2
            const ws_mat row = view((double *)Y.data + r * s->q, 1, s->q);
            *out = fmax(*out, sqrt(frobenius(&row)));
        }
        memcpy(X.data, Y.data, (size_t)(k * s->q) * sizeof(double));
        if (st == WS_OK)
            st = ws_lq(&X, NULL, &s->tmp, err);
    }
    return st;
}

/** Condition of W C~ where the dense way does not know it and both ends are cheap. */
static ws_status condition(split *s, const double *sv, ws_decomposed *out, ws_err *err)
{
    enum { SMALL = 512 };
    double first = s->r > 0 ? sv[0] : 0.0, last = s->r > 0 ? sv[s->r - 1] : 0.0;
    ws_status st = WS_OK;
    if (!isnan(out->condition))
        return WS_OK;
    if (s->r < s->q && s->o->smallest)
        st = largest(s, &first, err);
    if (s->r < s->q && !s->o->smallest) {
        ws_mat T;
        double *all = ws_arena_calloc(&s->tmp, (size_t)s->q, sizeof *all);
        if (s->q > SMALL)
            return WS_OK;
        st = all == NULL ? no_memory(s, err) : form(s, &T, err);
        if (st == WS_OK)
            st = ws_singular_values(&T, all, &s->tmp, err);
        last = st == WS_OK ? all[s->q - 1] : 0.0;
    }
    if (st == WS_OK)
        out->condition = last > s->floor ? first / last : HUGE_VAL;
    return st;
}

/** ||W C~||^2 from a few random signs (Hutchinson), or exactly where that is cheap. */
static ws_status total(split *s, double *out, ws_err *err)
{
    enum { PROBES = 32 };
    const int64_t k = s->m < PROBES ? s->m : PROBES;
    ws_mat X = take(s, k, s->m), Y = take(s, k, s->n), Z = take(s, k, s->n);
    if (X.data == NULL || Y.data == NULL || Z.data == NULL)
        return no_memory(s, err);
    uint64_t bits = 0x9e3779b97f4a7c15u;
    for (int64_t i = 0; i < k * s->m; i++) {
        bits ^= bits << 13; // xorshift: signs for an estimate that nothing is made of
        bits ^= bits >> 7;
        bits ^= bits << 17;
        ((double *)X.data)[i] =
            k == s->m ? (i % (s->m + 1) == 0 ? 1.0 : 0.0) : (bits >> 63 ? 1.0 : -1.0);
    }
    ws_status st = ws_gemm(false, false, 1.0, &X, s->W, 0.0, &Y, err);
    if (st == WS_OK)
        st = by_c(s, &Y, &Z, err);
    const double norm = frobenius(&Z);
    *out = norm * norm / (k == s->m ? 1.0 : (double)k);
    return st;
}

static ws_status solve(split *s, ws_mat *B, ws_mat *A, ws_decomposed *out, ws_err *err)
{
    ws_mat Z = take(s, s->r, s->q), U = take(s, s->r, s->m), P = take(s, s->r, s->n);
    ws_mat UW = take(s, s->r, s->n);
    double *sv = ws_arena_calloc(&s->tmp, (size_t)s->r + 1, sizeof *sv), all = 0.0;
    if (Z.data == NULL || U.data == NULL || P.data == NULL || UW.data == NULL ||
        sv == NULL)
        return no_memory(s, err);
    ws_err ignored = WS_ERR_INIT;
    ws_status st = by_krylov(s, &Z, out, &ignored);
    if (st == WS_E_NO_CONVERGENCE)
        st = by_dense(s, &Z, out, err);
    else if (st != WS_OK && err != NULL)
        *err = ignored;
    if (st == WS_OK)
        st = left_vectors(s, &Z, &U, err);
    if (st == WS_OK)
        st = ws_gemm(false, false, 1.0, &U, s->W, 0.0, &UW, err);
    if (st == WS_OK)
        st = by_c(s, &UW, &P, err);
    if (st == WS_OK)
        st = ws_rayleigh_ritz(&U, &P, sv, &s->tmp, err);
    if (st == WS_OK)
        st = total(s, &all, err);
    if (st == WS_OK)
        st = factors(s, &U, sv, B, A, out, err);
    if (st == WS_OK)
        st = condition(s, sv, out, err);
    if (st != WS_OK)
        return st;
    double taken = 0.0;
    for (int64_t i = 0; i < s->r; i++)
        taken += sv[i] * sv[i];
    out->s_first = s->r > 0 ? sv[0] : 0.0;
    out->s_last = s->r > 0 ? sv[s->r - 1] : 0.0;
    out->energy = all > 0.0 ? fmin(taken / all, 1.0) : 0.0;
    out->unclear = out->separation > 1e-4 && s->o->solver == WS_SOLVER_EXACT;
    return WS_OK;
}

uint64_t ws_corda_bytes(int64_t m, int64_t n, int64_t r, bool smallest, bool with_c)
{
    const uint64_t q = (uint64_t)(m < n ? m : n), most = (uint64_t)(m < n ? n : m);
    const uint64_t c = with_c ? (uint64_t)n * (uint64_t)n : 0, k = (uint64_t)r;
    uint64_t all = 6 * k * most + 96 * most; // Z, U, P, A U, probes
    if (dense(r, m < n ? m : n)) // T, G and its scratch, or T, U, V and theirs
        all += (uint64_t)m * (uint64_t)n * 3 + 6 * q * q;
    else // basis, small problems; factors
        all += (8 * k + 64) * q + 256 * k * k + 128 * most +
               (smallest ? (uint64_t)m * (uint64_t)n + (m < n ? 0 : c) : 0);
    if (q <= 512) // all singular values, for the condition
        all += 2 * (uint64_t)m * (uint64_t)n;
    return all * sizeof(double) + (1u << 20);
}

ws_status ws_corda(const ws_mat *W, ws_mat *C, const ws_corda_opts *o, ws_mat *B,
                   ws_mat *A, ws_decomposed *out, ws_err *err)
{
    split s = { .W = W, .C = C, .o = o, .m = W->rows, .n = W->cols, .r = o->rank };
    s.q = s.m < s.n ? s.m : s.n;
    *out = (ws_decomposed){ .rows = s.m,
                            .cols = s.n,
                            .rank = s.r,
                            .gap = NAN,
                            .separation = NAN,
                            .over_best = NAN,
                            .condition = NAN,
                            .error = NAN,
                            .by = "none" };
    if (s.r < 1 || s.r > s.q || B->rows != s.m || B->cols != s.r || A->rows != s.r ||
        A->cols != s.n || (C != NULL && (C->rows != s.n || C->cols != s.n)))
        return ws_fail(err, WS_E_SHAPE, "rank %lld of (%lld,%lld) does not fit",
                       (long long)s.r, (long long)s.m, (long long)s.n);
    s.floor = DBL_EPSILON * frobenius(W) * (C == NULL ? 1.0 : frobenius(C));
    if (!(s.floor <= DBL_MAX))
        return ws_fail(err, WS_E_NOT_FINITE,
                       "the matrix or its covariance holds NaN or "
                       "infinity");
    const ws_status st = solve(&s, B, A, out, err);
    ws_arena_free(&s.tmp);
    return st;
}
