/*
 * lora_core.c - sums of factored updates: concatenated, cut through a small core,
 * merged in aligned coordinates
 */
#include "surgery/lora_core.h"

#include <math.h>
#include <string.h>

#include "surgery/lora_elect.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for factors");
}

void ws_lora_sum_free(ws_lora_sum *s)
{
    ws_free(s->A);
    ws_free(s->B);
    *s = (ws_lora_sum){ 0 };
}

static int64_t rank_sum(const ws_lora_part *parts, size_t n_parts)
{
    int64_t R = 0;
    for (size_t k = 0; k < n_parts; k++)
        R += parts[k].r;
    return R;
}

uint64_t ws_lora_core_bytes(int64_t R, int64_t m, int64_t n)
{
    const uint64_t r = (uint64_t)R, sides = (uint64_t)m + (uint64_t)n;
    const uint64_t p = (uint64_t)(m < R ? m : R), q = (uint64_t)(n < R ? n : R);
    // the parts as they are read, stacked, and LAPACK's copy; bases; the core and its
    // decomposition; factors, in double and as they are stored
    return sizeof(double) * (3 * r * sides + (uint64_t)m * p + (uint64_t)n * q +
                             r * (p + q) + 8 * p * q + 2 * r * sides + 128 * r);
}

uint64_t ws_lora_align_bytes(size_t K, int64_t R, int64_t m, int64_t n)
{
    const uint64_t k = (uint64_t)(m < R ? m : R);
    // the coordinates; the bases of the right sides; factors of the wider parts
    return sizeof(double) * (uint64_t)n *
           (K * k + 2 * (uint64_t)R + (R > n ? (uint64_t)m + (uint64_t)n : 0));
}

static double *matrix(int64_t rows, int64_t cols)
{
    size_t n;
    return rows < 0 || cols < 0 || !ws_mul_size((size_t)rows, (size_t)cols, &n)
               ? NULL
               : ws_calloc(n + 1, sizeof(double));
}

/** [s_1 B_1 ... s_K B_K] (m, R), and [A_1; ...; A_K] (R, n). */
static void stack(const ws_lora_part *parts, size_t n_parts, int64_t m, int64_t n,
                  int64_t R, double *B, double *A)
{
    int64_t at = 0;
    for (size_t k = 0; k < n_parts; k++) {
        const ws_lora_part *p = &parts[k];
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < p->r; j++)
                B[i * R + at + j] = p->s * p->B[i * p->r + j];
        memcpy(A + at * n, p->A, (size_t)(p->r * n) * sizeof *A);
        at += p->r;
    }
}

static ws_status sum_new(ws_lora_sum *out, int64_t m, int64_t n, int64_t r, ws_err *err)
{
    *out = (ws_lora_sum){ .m = m, .n = n, .r = r, .alpha = (double)r, .norm = NAN };
    out->A = matrix(r, n);
    out->B = matrix(m, r);
    return out->A == NULL || out->B == NULL ? no_memory(err) : WS_OK;
}

/** The size that all scales have; 0 when they differ. */
static double common_scale(const ws_lora_part *parts, size_t n_parts)
{
    const double common = fabs(parts[0].s);
    for (size_t k = 1; k < n_parts; k++)
        if (fabs(parts[k].s) != common)
            return 0.0;
    return common;
}

double ws_lora_concat_alpha(const ws_lora_part *parts, size_t n_parts)
{
    const double common = common_scale(parts, n_parts);
    return (double)rank_sum(parts, n_parts) * (common > 0 ? common : 1.0);
}

ws_status ws_lora_concat(ws_lora_sum *out, const ws_lora_part *parts, size_t n_parts,
                         int64_t m, int64_t n, ws_err *err)
{
    const int64_t R = rank_sum(parts, n_parts);
    const double common = common_scale(parts, n_parts);
    const ws_status st = sum_new(out, m, n, R, err);
    if (st != WS_OK)
        return st;
    out->alpha = ws_lora_concat_alpha(parts, n_parts);
    int64_t at = 0;
    for (size_t k = 0; k < n_parts; k++) {
        const ws_lora_part *p = &parts[k];
        const double s = common > 0 ? p->s / common : p->s; // a sign, then
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < p->r; j++)
                out->B[i * R + at + j] = s * p->B[i * p->r + j];
        memcpy(out->A + at * n, p->A, (size_t)(p->r * n) * sizeof *out->A);
        at += p->r;
    }
    return ws_lora_norms(&out->norm, NULL, parts, n_parts, m, n, err);
}

/* ---- as it is stored ---- */

void ws_lora_stored_free(ws_lora_stored *s)
{
    ws_free(s->A);
    ws_free(s->B);
    *s = (ws_lora_stored){ 0 };
}

/** The numbers as they will be read from a file of @p dtype, and what that changes. */
static void round_to(ws_dtype dtype, const double *x, size_t n, float *out,
                     double *change, bool *any)
{
    enum { PART = 1024 };
    char raw[PART * sizeof(double)];
    float back[PART];
    ws_store_tally tally;
    for (size_t at = 0; at < n; at += PART) {
        const size_t k = n - at < PART ? n - at : PART;
        for (size_t i = 0; i < k; i++)
            out[at + i] = (float)x[at + i];
        ws_from_f32(dtype, out + at, raw, k, &tally);
        ws_to_f32(dtype, raw, back, k);
        for (size_t i = 0; i < k; i++) {
            change[at + i] = x[at + i] - (double)back[i];
            *any |= change[at + i] != 0.0;
        }
    }
}

/** sum_ij (X' Y)_ij (U V')_ij = <X U, Y V> for X, Y (m, r) and U, V (r, n). */
static ws_status inner(const double *X, const double *Y, const double *U,
                       const double *V, const ws_lora_sum *s, double *out, ws_err *err)
{
    double *left = matrix(s->r, s->r), *right = matrix(s->r, s->r);
    ws_status st = left == NULL || right == NULL ? no_memory(err) : WS_OK;
    // const is lost, not the contents: ws_gemm() only reads them
    const ws_mat x = ws_mat_f64((double *)(uintptr_t)X, s->m, s->r);
    const ws_mat y = ws_mat_f64((double *)(uintptr_t)Y, s->m, s->r);
    const ws_mat u = ws_mat_f64((double *)(uintptr_t)U, s->r, s->n);
    const ws_mat v = ws_mat_f64((double *)(uintptr_t)V, s->r, s->n);
    if (st == WS_OK) {
        ws_mat l = ws_mat_f64(left, s->r, s->r);
        st = ws_gemm(true, false, 1.0, &x, &y, 0.0, &l, err);
    }
    if (st == WS_OK) {
        ws_mat r = ws_mat_f64(right, s->r, s->r);
        st = ws_gemm(false, true, 1.0, &u, &v, 0.0, &r, err);
    }
    for (int64_t i = 0; st == WS_OK && i < s->r * s->r; i++)
        *out += left[i] * right[i];
    ws_free(left);
    ws_free(right);
    return st;
}

ws_status ws_lora_store(ws_lora_stored *out, const ws_lora_sum *s, ws_dtype dtype,
                        ws_err *err)
{
    const size_t na = (size_t)(s->r * s->n), nb = (size_t)(s->m * s->r);
    *out = (ws_lora_stored){ .A = ws_calloc(na + 1, sizeof *out->A),
                             .B = ws_calloc(nb + 1, sizeof *out->B) };
    double *dA = matrix(s->r, s->n), *dB = matrix(s->m, s->r);
    double *stored = matrix(s->m, s->r), square = 0;
    ws_status st = out->A && out->B && dA && dB && stored ? WS_OK : no_memory(err);
    bool any = false;
    if (st == WS_OK) {
        round_to(dtype, s->A, na, out->A, dA, &any);
        round_to(dtype, s->B, nb, out->B, dB, &any);
        for (size_t i = 0; i < nb; i++)
            stored[i] = s->B[i] - dB[i];
    }
    if (st == WS_OK && any) { // B A - B' A' = dB A + B' dA
        st = inner(dB, dB, s->A, s->A, s, &square, err);
        if (st == WS_OK)
            st = inner(stored, stored, dA, dA, s, &square, err);
        double cross = 0;
        if (st == WS_OK)
            st = inner(dB, stored, s->A, dA, s, &cross, err);
        square += 2 * cross;
    }
    out->rounding = sqrt(fmax(square, 0.0)) * fabs(s->alpha) / (double)s->r;
    ws_free(dA);
    ws_free(dB);
    ws_free(stored);
    if (st != WS_OK)
        ws_lora_stored_free(out);
    return st;
}

/* ---- the core ---- */

/** Orthonormal bases of both sides and what lies between: sum of updates = Qb C Qa. */
struct core {
    int64_t m, n, R, p, q;
    double *Qb; // (m, p)
    double *Rb; // (p, R)
    double *La; // (R, q)
    double *Qa; // (q, n)
};

static void core_free(struct core *c)
{
    ws_free(c->Qb);
    ws_free(c->Rb);
    ws_free(c->La);
    ws_free(c->Qa);
}

static void identity(double *I, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        I[i * n + i] = 1.0;
}

/** B = Qb Rb; takes @p B, also on failure. */
static ws_status left_make(struct core *c, double *B, ws_arena *tmp, ws_err *err)
{
    const int64_t m = c->m, R = c->R;
    double *other = c->p == R ? matrix(R, R) : matrix(m, m);
    c->Qb = c->p == R ? B : other;
    c->Rb = c->p == R ? other : B;
    if (other == NULL)
        return no_memory(err);
    if (c->p < R) { // fewer rows than ranks: B is its own core
        identity(c->Qb, m);
        return WS_OK;
    }
    ws_mat Q = ws_mat_f64(B, m, R), T = ws_mat_f64(other, R, R);
    return ws_qr(&Q, &T, tmp, err);
}

/** A = La Qa; takes @p A, also on failure. */
static ws_status right_make(struct core *c, double *A, ws_arena *tmp, ws_err *err)
{
    const int64_t n = c->n, R = c->R;
    double *other = c->q == R ? matrix(R, R) : matrix(n, n);
    c->Qa = c->q == R ? A : other;
    c->La = c->q == R ? other : A;
    if (other == NULL)
        return no_memory(err);
    if (c->q < R) {
        identity(c->Qa, n);
        return WS_OK;
    }
    ws_mat Q = ws_mat_f64(A, R, n), T = ws_mat_f64(other, R, R);
    return ws_lq(&Q, &T, tmp, err);
}

/** To be freed after a failure, too. */
static ws_status core_make(struct core *c, const ws_lora_part *parts, size_t n_parts,
                           int64_t m, int64_t n, ws_arena *tmp, ws_err *err)
{
    const int64_t R = rank_sum(parts, n_parts);
    *c =
        (struct core){ .m = m, .n = n, .R = R, .p = m < R ? m : R, .q = n < R ? n : R };
    double *B = matrix(m, R), *A = matrix(R, n);
    if (B == NULL || A == NULL) {
        ws_free(B);
        ws_free(A);
        return no_memory(err);
    }
    stack(parts, n_parts, m, n, R, B, A);
    const ws_status left = left_make(c, B, tmp, err);
    if (left != WS_OK) {
        ws_free(A);
        return left;
    }
    return right_make(c, A, tmp, err);
}

/** out (rows, cols) = X (rows, k) Y (k, cols). */
static ws_status product(const double *X, const double *Y, int64_t rows, int64_t k,
                         int64_t cols, double *out, ws_err *err)
{
    // const is lost, not the contents: ws_gemm() only reads them
    const ws_mat x = ws_mat_f64((double *)(uintptr_t)X, rows, k);
    const ws_mat y = ws_mat_f64((double *)(uintptr_t)Y, k, cols);
    ws_mat z = ws_mat_f64(out, rows, cols);
    return ws_gemm(false, false, 1.0, &x, &y, 0.0, &z, err);
}

/** U diag(s) Vt of a (p, q) matrix; the arena's. */
struct svd {
    double *U, *s, *Vt;
    int64_t k;
};

static ws_status svd_make(struct svd *v, double *C, int64_t p, int64_t q, ws_arena *tmp,
                          ws_err *err)
{
    v->k = p < q ? p : q;
    v->U = ws_arena_calloc(tmp, (size_t)(p * v->k) + 1, sizeof *v->U);
    v->s = ws_arena_calloc(tmp, (size_t)v->k + 1, sizeof *v->s);
    v->Vt = ws_arena_calloc(tmp, (size_t)(v->k * q) + 1, sizeof *v->Vt);
    if (v->U == NULL || v->s == NULL || v->Vt == NULL)
        return no_memory(err);
    ws_mat c = ws_mat_f64(C, p, q), U = ws_mat_f64(v->U, p, v->k);
    ws_mat Vt = ws_mat_f64(v->Vt, v->k, q);
    return ws_svd_thin(&c, &U, v->s, &Vt, tmp, err);
}

/** Norm and error of a cut after @p r of the singular values. */
static void errors_set(ws_lora_sum *out, const double *s, int64_t k, int64_t r)
{
    double all = 0, rest = 0;
    for (int64_t i = k - 1; i >= 0; i--) { // small ones first
        all += s[i] * s[i];
        if (i >= r)
            rest += s[i] * s[i];
    }
    out->norm = sqrt(all);
    out->error = sqrt(rest);
}

/** The factors of the first r triplets: B = Qb U sqrt(S), A = sqrt(S) Vt Qa. */
static ws_status factors_make(ws_lora_sum *out, const struct core *c,
                              const struct svd *v, int64_t rank, ws_err *err)
{
    const int64_t r = v->k < rank ? v->k : rank;
    ws_status st = sum_new(out, c->m, c->n, r, err);
    double *left = matrix(c->p, r), *right = matrix(r, c->q);
    if (st == WS_OK && (left == NULL || right == NULL))
        st = no_memory(err);
    for (int64_t j = 0; st == WS_OK && j < r; j++) {
        const double root = sqrt(v->s[j]);
        for (int64_t i = 0; i < c->p; i++)
            left[i * r + j] = v->U[i * v->k + j] * root;
        for (int64_t i = 0; i < c->q; i++)
            right[j * c->q + i] = v->Vt[j * c->q + i] * root;
    }
    if (st == WS_OK)
        st = product(c->Qb, left, c->m, c->p, r, out->B, err);
    if (st == WS_OK)
        st = product(right, c->Qa, r, c->q, c->n, out->A, err);
    if (st == WS_OK)
        errors_set(out, v->s, v->k, r);
    ws_free(left);
    ws_free(right);
    return st;
}

/** C = Rb La of the core; ws_free. */
static ws_status middle_make(const struct core *c, double **out, ws_err *err)
{
    *out = matrix(c->p, c->q);
    return *out == NULL ? no_memory(err)
                        : product(c->Rb, c->La, c->p, c->R, c->q, *out, err);
}

ws_status ws_lora_norms(double *norm, double *largest, const ws_lora_part *parts,
                        size_t n_parts, int64_t m, int64_t n, ws_err *err)
{
    struct core c = { 0 };
    ws_arena tmp = { 0 };
    double *C = NULL, *s = NULL, sum = 0;
    ws_status st = core_make(&c, parts, n_parts, m, n, &tmp, err);
    if (st == WS_OK)
        st = middle_make(&c, &C, err);
    for (int64_t i = 0; i < c.p * c.q && st == WS_OK; i++)
        sum += C[i] * C[i];
    if (st == WS_OK && largest != NULL) {
        s = ws_arena_calloc(&tmp, (size_t)(c.p < c.q ? c.p : c.q) + 1, sizeof *s);
        ws_mat M = ws_mat_f64(C, c.p, c.q);
        st = s == NULL ? no_memory(err) : ws_singular_values(&M, s, &tmp, err);
        if (st == WS_OK)
            *largest = s[0];
    }
    if (st == WS_OK)
        *norm = sqrt(sum);
    ws_free(C);
    core_free(&c);
    ws_arena_free(&tmp);
    return st;
}

ws_status ws_lora_compress(ws_lora_sum *out, const ws_lora_part *parts, size_t n_parts,
                           int64_t m, int64_t n, int64_t rank, ws_err *err)
{
    struct core c = { 0 };
    struct svd v;
    ws_arena tmp = { 0 };
    double *C = NULL;
    *out = (ws_lora_sum){ 0 };
    ws_status st = core_make(&c, parts, n_parts, m, n, &tmp, err);
    if (st == WS_OK)
        st = middle_make(&c, &C, err);
    if (st == WS_OK)
        st = svd_make(&v, C, c.p, c.q, &tmp, err);
    if (st == WS_OK)
        st = factors_make(out, &c, &v, rank, err);
    ws_free(C);
    core_free(&c);
    ws_arena_free(&tmp);
    return st;
}

/* ---- aligned coordinates ---- */

/** Left side of all updates, and each one's right side: D_k = Qb (Rb_k La_k) Qa_k. */
struct aligned {
    struct core c; // of all: its Qb and Rb are used
    struct svd v;  // of [Rb_1 A_1 ... Rb_K A_K] (p, K n), factored
    double *V;     // (K, k, n)
};

/** The V_k, from one LQ per update: [Rb_k L_k] (p, R) = U S Vt, V_k = Vt_k Qa_k. */
static ws_status coordinates(struct aligned *a, const ws_lora_part *parts,
                             size_t n_parts, ws_arena *tmp, ws_err *err)
{
    const int64_t n = a->c.n, p = a->c.p, R = a->c.R;
    double *core = matrix(p, R), *Q = matrix(R, n), *L = matrix(R, R);
    ws_status st = core == NULL || Q == NULL || L == NULL ? no_memory(err) : WS_OK;
    int64_t at = 0;
    for (size_t k = 0; k < n_parts && st == WS_OK; k++, at += parts[k - 1].r) {
        const int64_t r = parts[k].r;
        memcpy(Q + at * n, parts[k].A, (size_t)(r * n) * sizeof *Q);
        ws_mat q = ws_mat_f64(Q + at * n, r, n), l = ws_mat_f64(L, r, r);
        st = ws_lq(&q, &l, tmp, err);
        const ws_mat b = { WS_DT_F64, p, r, R, a->c.Rb + at };
        ws_mat to = { WS_DT_F64, p, r, R, core + at };
        if (st == WS_OK)
            st = ws_gemm(false, false, 1.0, &b, &l, 0.0, &to, err);
    }
    if (st == WS_OK)
        st = svd_make(&a->v, core, p, R, tmp, err);
    const int64_t k_all = a->v.k;
    if (st == WS_OK) {
        a->V = matrix((int64_t)n_parts * k_all, n);
        st = a->V == NULL ? no_memory(err) : WS_OK;
    }
    at = 0;
    for (size_t k = 0; k < n_parts && st == WS_OK; k++, at += parts[k - 1].r) {
        const int64_t r = parts[k].r;
        const ws_mat vt = { WS_DT_F64, k_all, r, R, a->v.Vt + at };
        const ws_mat q = ws_mat_f64(Q + at * n, r, n);
        ws_mat to = ws_mat_f64(a->V + (int64_t)k * k_all * n, k_all, n);
        st = ws_gemm(false, false, 1.0, &vt, &q, 0.0, &to, err);
    }
    ws_free(core);
    ws_free(Q);
    ws_free(L);
    return st;
}

/** U S V with the merged V (k, n), cut to @p rank through one more core. */
static ws_status aligned_sum(ws_lora_sum *out, const struct aligned *a, int64_t rank,
                             ws_err *err)
{
    const int64_t k = a->v.k, m = a->c.m, n = a->c.n;
    double *B = matrix(m, k), *left = matrix(a->c.p, k);
    ws_status st = B == NULL || left == NULL ? no_memory(err) : WS_OK;
    for (int64_t i = 0; st == WS_OK && i < a->c.p; i++)
        for (int64_t j = 0; j < k; j++)
            left[i * k + j] = a->v.U[i * k + j] * a->v.s[j];
    if (st == WS_OK) {
        const ws_mat x = ws_mat_f64(a->c.Qb, m, a->c.p),
                     y = ws_mat_f64(left, a->c.p, k);
        ws_mat z = ws_mat_f64(B, m, k);
        st = ws_gemm(false, false, 1.0, &x, &y, 0.0, &z, err);
    }
    if (st == WS_OK) {
        const ws_lora_part one = { k, 1.0, a->V, B };
        st = ws_lora_compress(out, &one, 1, m, n, rank, err);
    }
    ws_free(B);
    ws_free(left);
    return st;
}

/** Parts of at most n ranks: wider ones as (B A) I, whose factors are in *more. */
static ws_status narrow(ws_lora_part *out, double ***more, const ws_lora_part *parts,
                        size_t n_parts, int64_t m, int64_t n, ws_arena *tmp,
                        ws_err *err)
{
    *more = ws_arena_calloc(tmp, 2 * n_parts + 1, sizeof **more);
    if (*more == NULL)
        return no_memory(err);
    ws_status st = WS_OK;
    for (size_t k = 0; k < n_parts && st == WS_OK; k++) {
        out[k] = parts[k];
        if (parts[k].r <= n)
            continue;
        double *I = (*more)[2 * k] = matrix(n, n),
               *D = (*more)[2 * k + 1] = matrix(m, n);
        if (I == NULL || D == NULL)
            return no_memory(err);
        identity(I, n);
        st = product(parts[k].B, parts[k].A, m, parts[k].r, n, D, err);
        out[k] = (ws_lora_part){ n, parts[k].s, I, D };
    }
    return st;
}

ws_status ws_lora_align(ws_lora_sum *out, const ws_lora_part *parts,
                        const double *weights, size_t n_parts, int64_t m, int64_t n,
                        int64_t rank, const ws_lora_merge *how, ws_err *err)
{
    struct aligned a = { .V = NULL };
    ws_arena tmp = { 0 };
    double **more = NULL;
    *out = (ws_lora_sum){ 0 };
    ws_lora_part *p = ws_arena_calloc(&tmp, n_parts, sizeof *p);
    ws_status st =
        p == NULL ? no_memory(err) : narrow(p, &more, parts, n_parts, m, n, &tmp, err);
    if (st == WS_OK)
        st = core_make(&a.c, p, n_parts, m, n, &tmp, err);
    if (st == WS_OK)
        st = coordinates(&a, p, n_parts, &tmp, err);
    if (st == WS_OK) {
        const size_t each = (size_t)(a.v.k * n);
        ws_lora_elect(a.V, each, weights, n_parts, how);
        st = aligned_sum(out, &a, rank, err);
    }
    for (size_t k = 0; more != NULL && k < 2 * n_parts; k++)
        ws_free(more[k]);
    ws_free(a.V);
    core_free(&a.c);
    ws_arena_free(&tmp);
    return st;
}
