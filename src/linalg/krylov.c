/*
 * krylov.c - the largest eigenvalues of an operator that can only be applied
 *
 *   basis V (d, n), rows orthonormal, grown block by block:
 *     Y = V_last S,  H = V S V',  Y - (Y V') V = L Q,  V = [V; Q]
 *   H = X diag(w) X',  Z = X' V,  residual of pair i: |(L' part of) X_i|
 *
 * With blocks of a quarter of what is wanted the basis ends at about four times as many
 * vectors where the spectrum falls as that of a weight matrix does; one product of the
 * operator per vector, none formed. Orthogonality is kept by projecting twice; a block
 * that is spent (an invariant space was found) goes on with new random vectors, so
 * multiple eigenvalues are found, too.
 */
#include "linalg/lapack.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "wsurg/random.h"

/** The state; all from one arena. */
typedef struct krylov {
    const ws_krylov_opts *o;
    int64_t n, k, b, most;
    int64_t d;  // vectors in the basis whose products are known
    double *V;  // (most + b, n)
    double *H;  // (most, most), ld most: V S V'
    double *h;  // (b, most) new rows of it
    double *Y;  // (b, n)
    double *X;  // (b, n) what the operator may overwrite
    double *L;  // (b, b) of the last orthogonalisation
    double *G;  // (most, most) scratch: a copy of H
    double *w;  // (most) ascending
    double *Xt; // (most, most) its eigenvectors, rows
    double top; // largest eigenvalue of H, once known
    uint64_t drawn;
    ws_arena *tmp;
} krylov;

static ws_status no_memory(int64_t n, ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a Krylov space of order %lld",
                   (long long)n);
}

static int64_t clamp(int64_t x, int64_t lo, int64_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

static bool krylov_take(krylov *s)
{
    const size_t n = (size_t)s->n, b = (size_t)s->b, most = (size_t)s->most;
    const size_t d = sizeof(double);
    s->V = ws_arena_alloc(s->tmp, (most + b) * n * d);
    s->H = ws_arena_calloc(s->tmp, most * most, d);
    s->h = ws_arena_alloc(s->tmp, b * (most + b) * d);
    s->Y = ws_arena_alloc(s->tmp, b * n * d);
    s->X = ws_arena_alloc(s->tmp, b * n * d);
    s->L = ws_arena_alloc(s->tmp, b * b * d);
    s->G = ws_arena_alloc(s->tmp, most * most * d);
    s->w = ws_arena_alloc(s->tmp, most * d);
    s->Xt = ws_arena_alloc(s->tmp, most * most * d);
    return s->V && s->H && s->h && s->Y && s->X && s->L && s->G && s->w && s->Xt;
}

/** New random rows into @p out (rows, n). */
static void draw(krylov *s, double *out, int64_t rows)
{
    const ws_rng_key key = { s->o->seed, 0x6b72796c6f76u };
    uint32_t word[256];
    const int64_t all = rows * s->n;
    for (int64_t at = 0; at < all; at += 256) {
        const int64_t m = all - at < 256 ? all - at : 256;
        ws_random_fill(&key, s->drawn, word, (size_t)m);
        s->drawn += 256;
        for (int64_t i = 0; i < m; i++)
            out[at + i] = (double)word[i] * 0x1p-32 - 0.5;
    }
}

/** Take the components along the first @p d basis vectors out of Y, twice; what was
 * taken is added to h (b, d). */
static ws_status project_out(krylov *s, ws_mat *Y, int64_t d, ws_mat *h, ws_err *err)
{
    const ws_mat V = ws_mat_f64(s->V, d, s->n);
    ws_mat part = { WS_DT_F64, Y->rows, d, s->most + s->b, s->h };
    ws_status st = WS_OK;
    for (int pass = 0; st == WS_OK && pass < 2 && d > 0; pass++) {
        st = ws_gemm(false, true, 1.0, Y, &V, 0.0, &part, err);
        if (st == WS_OK)
            st = ws_gemm(false, false, -1.0, &part, &V, 1.0, Y, err);
        for (int64_t i = 0; h != NULL && i < Y->rows; i++)
            for (int64_t j = 0; j < d; j++)
                ((double *)h->data)[i * h->ld + j] += s->h[i * part.ld + j];
    }
    return st;
}

/** A random unit vector orthogonal to all rows of the basis into its row @p i. */
static ws_status replace(krylov *s, int64_t i, int64_t rows, ws_err *err)
{
    ws_mat row = ws_mat_f64(s->X, 1, s->n);
    draw(s, s->X, 1);
    ws_status st = project_out(s, &row, rows, NULL, err);
    if (st == WS_OK)
        st = ws_lq(&row, NULL, s->tmp, err);
    if (st == WS_OK)
        memcpy(s->V + i * s->n, s->X, (size_t)s->n * sizeof(double));
    return st;
}

/** Orthonormal rows of Y into the basis after its first @p d; L as in Y = L Q. */
static ws_status extend(krylov *s, ws_mat *Y, int64_t d, ws_err *err)
{
    ws_mat L = ws_mat_f64(s->L, s->b, s->b),
           Q = ws_mat_f64(s->V + d * s->n, s->b, s->n);
    double norm = s->top;
    ws_mat_copy(Y, Q.data, s->n, false);
    ws_status st = ws_lq(&Q, &L, s->tmp, err);
    for (int64_t i = 0; i < s->b; i++)
        norm = fmax(norm, fabs(s->L[i * s->b + i]));
    // spent where nothing new came: a random direction carries on
    for (int64_t i = 0; st == WS_OK && i < s->b; i++)
        if (!(fabs(s->L[i * s->b + i]) > 1e3 * DBL_EPSILON * norm))
            st = replace(s, d + i, d + s->b, err);
    // where L was small, Q has lost its orthogonality to V: once more
    if (st == WS_OK)
        st = project_out(s, &Q, d, NULL, err);
    ws_mat again = ws_mat_f64(s->G, s->b, s->b);
    if (st == WS_OK)
        st = ws_lq(&Q, &again, s->tmp, err);
    // a sign that the second orthogonalisation turned belongs to L, too
    for (int64_t j = 0; st == WS_OK && j < s->b; j++)
        if (s->G[j * s->b + j] < 0.0)
            for (int64_t i = 0; i < s->b; i++)
                s->L[i * s->b + j] = -s->L[i * s->b + j];
    return st;
}

/** Multiply the newest block: b more rows of H. */
static ws_status multiply(krylov *s, ws_operator *op, void *arg, ws_mat *Y, ws_err *err)
{
    ws_mat X = ws_mat_f64(s->X, s->b, s->n);
    const ws_mat last = ws_mat_f64(s->V + s->d * s->n, s->b, s->n);
    ws_mat h = { WS_DT_F64, s->b, s->d + s->b, s->most, s->H + s->d * s->most };
    ws_mat_copy(&last, s->X, s->n, false);
    ws_status st = op(arg, &X, Y, err);
    if (st == WS_OK && !ws_mat_finite(Y))
        st = ws_fail(err, WS_E_NOT_FINITE, "the operator gave NaN or infinity");
    if (st == WS_OK)
        st = project_out(s, Y, s->d + s->b, &h, err);
    s->d += s->b;
    return st;
}

/** Eigenpairs of H; how good the wanted ones are. */
static ws_status judge(krylov *s, ws_krylov_info *info, ws_err *err)
{
    const int64_t d = s->d, k = s->k;
    ws_mat G = { WS_DT_F64, d, d, s->most, s->G }, Xt = ws_mat_f64(s->Xt, d, d);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = i; j < d; j++)
            s->G[i * s->most + j] =
                i / s->b == j / s->b
                    ? 0.5 * (s->H[i * s->most + j] + s->H[j * s->most + i])
                    : s->H[j * s->most + i];
    ws_arena tmp = { 0 };
    const ws_status st = ws_eig_range(&G, 0, d - 1, s->w, &Xt, &tmp, NULL, err);
    ws_arena_free(&tmp);
    if (st != WS_OK)
        return st;
    const double *w = s->w + d - 1; // w[-i] is the i-th largest
    const int64_t middle = k + (d - k) / 2 < d ? k + (d - k) / 2 : d - 1;
    const double next = k < d ? w[-k] : 0.0, far = w[-middle];
    double loss = 0.0, rest = 0.0;
    s->top = w[0];
    info->separation = 0.0;
    for (int64_t i = 0; i < k; i++) {
        const double *x = s->Xt + (d - 1 - i) * d + d - s->b;
        double sum = 0.0;
        for (int64_t c = 0; c < s->b; c++) {
            double r = 0.0; // row c of the new block sees L' x
            for (int64_t a = 0; a < s->b; a++)
                r += x[a] * s->L[a * s->b + c];
            sum += r * r;
        }
        const double res = sqrt(sum), gap = w[-i] - next;
        const double tiny = DBL_EPSILON * fabs(w[0]);
        info->separation = fmax(info->separation, res / fmax(gap, tiny));
        loss += fmin(res, sum / fmax(w[-i] - far, tiny));
    }
    for (int64_t i = k; i < d; i++)
        rest += fmax(w[-i], 0.0);
    info->gap = w[-(k - 1)] > 0.0 ? (w[-(k - 1)] - next) / w[-(k - 1)] : 0.0;
    info->loss = rest > 0.0 ? loss / rest : loss > 0.0 ? HUGE_VAL : 0.0;
    return WS_OK;
}

static ws_status vectors_out(krylov *s, double *w, ws_mat *Z, ws_err *err)
{
    const ws_mat V = ws_mat_f64(s->V, s->d, s->n);
    // largest first
    for (int64_t i = 0; i < s->k; i++) {
        memcpy(s->G + i * s->d, s->Xt + (s->d - 1 - i) * s->d,
               (size_t)s->d * sizeof(double));
        w[i] = s->w[s->d - 1 - i];
    }
    const ws_mat X = ws_mat_f64(s->G, s->k, s->d);
    return ws_gemm(false, false, 1.0, &X, &V, 0.0, Z, err);
}

static bool good_enough(const krylov *s, const ws_krylov_info *info)
{
    return info->separation <= s->o->tol ||
           (s->o->energy > 0.0 && info->loss <= s->o->energy);
}

/** Vectors until it should be good, from how fast the last ones made it better. */
static int64_t next_look(const krylov *s, double now, double before, int64_t looked)
{
    const double rate = log(before / now) / (double)(s->d - looked); // per vector
    const double wanted = log(now / s->o->tol) / rate;
    if (s->o->energy > 0.0 || !(rate > 0.0) || !isfinite(wanted))
        return 2 * s->b;
    return clamp((int64_t)(0.9 * wanted), s->b, 8 * s->b);
}

static ws_status iterate(krylov *s, ws_operator *op, void *arg, ws_krylov_info *info,
                         ws_err *err)
{
    ws_mat Y = ws_mat_f64(s->Y, s->b, s->n);
    draw(s, s->Y, s->b);
    ws_status st = extend(s, &Y, 0, err);
    // looking costs an eigenproblem of the basis: not before it can be good
    const int64_t half = s->o->energy > 0.0 ? 3 * s->k / 2 : 5 * s->k / 2;
    int64_t look = half > s->k + s->b ? half : s->k + s->b, looked = 0;
    double before = HUGE_VAL;
    while (st == WS_OK) {
        st = multiply(s, op, arg, &Y, err);
        info->products = s->d;
        const bool full = s->d + s->b > s->most;
        ws_arena tmp = { 0 }, *own = s->tmp;
        s->tmp = &tmp; // of this block only
        if (st == WS_OK)
            st = extend(s, &Y, s->d, err);
        s->tmp = own;
        ws_arena_free(&tmp);
        if (st != WS_OK || (s->d < look && !full))
            continue;
        st = judge(s, info, err);
        if (st == WS_OK && good_enough(s, info))
            return WS_OK;
        if (st == WS_OK && full)
            return ws_fail(err, WS_E_NO_CONVERGENCE,
                           "%lld eigenvalues are not separated after %lld products",
                           (long long)s->k, (long long)s->d);
        look = s->d + next_look(s, info->separation, before, looked);
        looked = s->d;
        before = info->separation;
    }
    return st;
}

ws_status ws_krylov(const ws_krylov_opts *o, ws_operator *op, void *arg, double *w,
                    ws_mat *Z, ws_arena *tmp, ws_krylov_info *info, ws_err *err)
{
    krylov s = { .o = o, .n = o->n, .k = o->k, .tmp = tmp };
    *info = (ws_krylov_info){ .separation = HUGE_VAL, .loss = HUGE_VAL };
    if (o->k < 1 || o->k > o->n || Z->rows != o->k || Z->cols != o->n ||
        Z->dtype != WS_DT_F64)
        return ws_fail(err, WS_E_SHAPE,
                       "%lld eigenvectors of order %lld into "
                       "(%lld,%lld)",
                       (long long)o->k, (long long)o->n, (long long)Z->rows,
                       (long long)Z->cols);
    s.b = o->block > 0 ? o->block : clamp((o->k + 3) / 4, 8, 64);
    s.most = o->most > 0 ? o->most : clamp(8 * o->k, 8 * s.b, o->n - s.b);
    s.most -= s.most % s.b;
    lapack_int fits;
    if (!ws_to_lapack_int(s.most * s.most, &fits))
        return ws_fail(err, WS_E_UNSUPPORTED, "%lld eigenvectors are too many",
                       (long long)o->k);
    if (s.most < o->k + s.b || s.most + s.b > o->n)
        return ws_fail(err, WS_E_NO_CONVERGENCE,
                       "%lld of %lld eigenvectors: too many for a Krylov space",
                       (long long)o->k, (long long)o->n);
    if (!krylov_take(&s))
        return no_memory(o->n, err);
    const ws_status st = iterate(&s, op, arg, info, err);
    return st == WS_OK ? vectors_out(&s, w, Z, err) : st;
}
