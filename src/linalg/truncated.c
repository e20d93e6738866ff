/*
 * truncated.c - leading singular values from random products
 *
 *   Y = A G,  Q = orth(Y);  repeated: Q = orth(A orth(A' Q));
 *   P = Q' A = X diag(s) Vt,  U = Q X
 *   what is left over:  ||A||^2 - sum s^2, exactly
 *
 * How far that is from the least possible follows from the residuals of the pairs:
 * with R = A V - U diag(s), an eigenvalue of A A' misses at most |R_i|^2 s_i^2 over its
 * distance to what the space does not hold.
 *
 * Rows for columns: the bases are kept as rows, so that everything is a plain product.
 */
#include "linalg/lapack.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "wsurg/random.h"

typedef struct truncated {
    const ws_mat *A;
    const ws_truncated_opts *o;
    int64_t m, n, l; // rows, columns, width of the space
    int powers;
    double norm2;
    ws_arena *tmp; // of this attempt
} truncated;

static ws_mat take(truncated *t, int64_t rows, int64_t cols)
{
    const size_t size = t->A->dtype == WS_DT_F32 ? sizeof(float) : sizeof(double);
    size_t bytes;
    ws_mat M = { t->A->dtype, rows, cols, cols, NULL };
    if (ws_mul_size((size_t)rows, (size_t)cols * size, &bytes))
        M.data = ws_arena_alloc(t->tmp, bytes);
    return M;
}

static double norm2(const ws_mat *A)
{
    double total = 0.0;
    for (int64_t i = 0; i < A->rows; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < A->cols; j++) {
            const double x = A->dtype == WS_DT_F32
                                 ? (double)((const float *)A->data)[i * A->ld + j]
                                 : ((const double *)A->data)[i * A->ld + j];
            sum += x * x;
        }
        total += sum;
    }
    return total;
}

static void draw(const truncated *t, ws_mat *G)
{
    const ws_rng_key key = { t->o->seed, 0x72616e6765u };
    uint32_t word[256];
    const int64_t all = G->rows * G->cols;
    for (int64_t at = 0; at < all; at += 256) {
        const int64_t m = all - at < 256 ? all - at : 256;
        ws_random_fill(&key, (uint64_t)at, word, (size_t)m);
        for (int64_t i = 0; i < m; i++) {
            const double x = (double)word[i] * 0x1p-32 - 0.5;
            if (G->dtype == WS_DT_F32)
                ((float *)G->data)[at + i] = (float)x;
            else
                ((double *)G->data)[at + i] = x;
        }
    }
}

/** Q (l, m): orthonormal rows that span the leading columns of A. */
static ws_status find_range(truncated *t, ws_mat *Q, ws_err *err)
{
    ws_mat G = take(t, t->l, t->n);
    if (G.data == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a range of %lld vectors",
                       (long long)t->l);
    draw(t, &G);
    ws_status st = ws_gemm(false, true, 1.0, &G, t->A, 0.0, Q, err);
    if (st == WS_OK)
        st = ws_lq(Q, NULL, t->tmp, err);
    for (int i = 0; st == WS_OK && i < t->powers; i++) {
        st = ws_gemm(false, false, 1.0, Q, t->A, 0.0, &G, err);
        if (st == WS_OK)
            st = ws_lq(&G, NULL, t->tmp, err);
        if (st == WS_OK)
            st = ws_gemm(false, true, 1.0, &G, t->A, 0.0, Q, err);
        if (st == WS_OK)
            st = ws_lq(Q, NULL, t->tmp, err);
    }
    return st;
}

static double at(const ws_mat *M, int64_t i, int64_t j)
{
    return M->dtype == WS_DT_F32 ? (double)((const float *)M->data)[i * M->ld + j]
                                 : ((const double *)M->data)[i * M->ld + j];
}

/** What the space misses of sum s^2, at most (see the top). Where the spectrum is so
 * flat that the space has not settled, the distances are too large: hence the 2. */
static ws_status missed(truncated *t, const ws_mat *Q, const ws_mat *P, const double *s,
                        double *out, ws_err *err)
{
    const int64_t r = t->o->rank;
    ws_mat R = take(t, r, t->m);
    const ws_mat V = { P->dtype, r, t->n, P->ld, P->data };
    if (R.data == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for residuals");
    // R_i = s_i Y_i A' - s_i^2 U_i, with the rows of P being s_i Y_i
    const ws_status st = ws_gemm(false, true, 1.0, &V, t->A, 0.0, &R, err);
    const double far = t->l < t->m && t->l < t->n ? s[t->l - 1] * s[t->l - 1] : 0.0;
    *out = 0.0;
    for (int64_t i = 0; st == WS_OK && i < r; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < t->m; j++) {
            const double x = at(&R, i, j) - s[i] * s[i] * at(Q, i, j);
            sum += x * x;
        }
        const double gap = fmax(s[i] * s[i] - far, DBL_EPSILON * s[0] * s[0]);
        *out += 2.0 * fmin(sqrt(sum), sum / gap);
    }
    return st;
}

/** One attempt; *good when what is left over is proven near enough to the least. */
static ws_status attempt(truncated *t, ws_mat *U, double *s, ws_mat *Vt,
                         ws_truncated_info *info, bool *good, ws_err *err)
{
    const int64_t r = t->o->rank;
    ws_mat Q = take(t, t->l, t->m), P = take(t, t->l, t->n);
    double *all = ws_arena_calloc(t->tmp, (size_t)t->l, sizeof *all), miss = 0.0;
    if (Q.data == NULL || P.data == NULL || all == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a range of %lld vectors",
                       (long long)t->l);
    ws_status st = find_range(t, &Q, err);
    if (st == WS_OK)
        st = ws_gemm(false, false, 1.0, &Q, t->A, 0.0, &P, err);
    if (st == WS_OK)
        st = ws_rayleigh_ritz(&Q, &P, all, t->tmp, err);
    if (st == WS_OK)
        st = missed(t, &Q, &P, all, &miss, err);
    if (st != WS_OK)
        return st;
    double kept = 0.0;
    for (int64_t i = 0; i < r; i++)
        kept += all[i] * all[i];
    const double left = fmax(t->norm2 - kept, 0.0), least = fmax(left - miss, 0.0);
    info->residual = sqrt(left);
    info->least = sqrt(least);
    const double rounding = t->A->dtype == WS_DT_F32 ? 1e-6 : 1e-14;
    *good = info->residual <= (1.0 + t->o->slack) * info->least ||
            left <= rounding * t->norm2;
    for (int64_t i = 0; *good && i < r; i++) {
        const double inv = all[i] > 0.0 ? 1.0 / all[i] : 0.0;
        s[i] = all[i];
        for (int64_t j = 0; j < t->m; j++) {
            if (U->dtype == WS_DT_F32)
                ((float *)U->data)[j * U->ld + i] = (float)at(&Q, i, j);
            else
                ((double *)U->data)[j * U->ld + i] = at(&Q, i, j);
        }
        for (int64_t j = 0; j < t->n; j++) {
            if (Vt->dtype == WS_DT_F32)
                ((float *)Vt->data)[i * Vt->ld + j] = (float)(at(&P, i, j) * inv);
            else
                ((double *)Vt->data)[i * Vt->ld + j] = at(&P, i, j) * inv;
        }
    }
    return WS_OK;
}

/** The last rung: all of it. */
static ws_status in_full(const truncated *t, ws_mat *U, double *s, ws_mat *Vt,
                         ws_truncated_info *info, ws_err *err)
{
    truncated full = *t;
    const int64_t k = t->m < t->n ? t->m : t->n, r = t->o->rank;
    ws_mat Uk = take(&full, t->m, k), Vk = take(&full, k, t->n);
    double *all = ws_arena_calloc(t->tmp, (size_t)k, sizeof *all), kept = 0.0;
    if (Uk.data == NULL || Vk.data == NULL || all == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a full decomposition");
    const ws_status st = ws_svd_thin(t->A, &Uk, all, &Vk, t->tmp, err);
    if (st != WS_OK)
        return st;
    Uk.cols = r;
    Vk.rows = r;
    ws_mat_copy(&Uk, U->data, U->ld, false);
    ws_mat_copy(&Vk, Vt->data, Vt->ld, false);
    for (int64_t i = r; i < k; i++)
        kept += all[i] * all[i];
    memcpy(s, all, (size_t)r * sizeof *s);
    info->residual = info->least = sqrt(kept);
    info->step = WS_BY_LAST;
    return WS_OK;
}

ws_status ws_svd_truncated(const ws_mat *A, const ws_truncated_opts *o, ws_mat *U,
                           double *s, ws_mat *Vt, ws_arena *tmp,
                           ws_truncated_info *info, ws_err *err)
{
    static const struct {
        int64_t spare;
        int powers;
    } rungs[] = { { 32, 3 }, { 64, 6 } };
    truncated t = { .A = A, .o = o, .m = A->rows, .n = A->cols, .tmp = tmp };
    const int64_t k = t.m < t.n ? t.m : t.n, r = o->rank;
    bool good = false;
    *info = (ws_truncated_info){ .step = WS_BY_FIRST };
    if (r < 0 || r > k || U->rows != t.m || U->cols != r || Vt->rows != r ||
        Vt->cols != t.n || U->dtype != A->dtype || Vt->dtype != A->dtype)
        return ws_fail(err, WS_E_SHAPE,
                       "rank %lld of (%lld,%lld) into (%lld,%lld) and "
                       "(%lld,%lld)",
                       (long long)r, (long long)t.m, (long long)t.n, (long long)U->rows,
                       (long long)U->cols, (long long)Vt->rows, (long long)Vt->cols);
    if (!ws_mat_finite(A))
        return ws_fail(err, WS_E_NOT_FINITE, "matrix (%lld,%lld) holds NaN or infinity",
                       (long long)t.m, (long long)t.n);
    t.norm2 = norm2(A);
    info->norm = info->residual = info->least = sqrt(t.norm2);
    if (r == 0)
        return WS_OK;
    for (int i = 0; i < 2; i++) {
        t.l = r + rungs[i].spare;
        t.powers = rungs[i].powers;
        if (2 * t.l > k)
            break; // the full decomposition costs no more
        ws_arena own = { 0 };
        t.tmp = &own;
        info->step = (ws_ladder)i;
        const ws_status st = attempt(&t, U, s, Vt, info, &good, err);
        ws_arena_free(&own);
        t.tmp = tmp;
        if (st != WS_OK || good)
            return st;
    }
    return in_full(&t, U, s, Vt, info, err);
}
