/*
 * attention.c - grouped-query attention by blocks of query rows
 *
 *   forward   S = scale Q K^T over the visible keys, P = softmax(S), O = P V
 *   backward  P = exp(S - lse) again; dV = P^T dO; dP = dO V^T;
 *             dS = P (dP - sum_d dO O); dQ = scale dS K; dK = scale dS^T Q
 *
 * One block: b query rows of one kv head with its G query heads stacked, (b G, D), by
 * all keys that its last row sees. Rows times rows never exist. What a row must not
 * see is set to 0 after the exponential.
 */
#include "model/layers.h"

#include <math.h>
#include <stdatomic.h>

enum { STACK = 64 }; // b G, when G does not exceed it

struct job {
    const ws_scratch *s;
    const ws_attention *a;
    const ws_real *Q, *Kx, *V;
    ws_real *O, *lse;
    int64_t b; // query rows of a block
    atomic_int failed;
};

static int64_t block_rows(const ws_attention *a)
{
    const int64_t G = a->H / a->K;
    return G >= STACK ? 1 : STACK / G;
}

static int64_t blocks_of(const ws_span *span, int64_t b)
{
    return (span->n + b - 1) / b;
}

int64_t ws_attention_scratch(const ws_attention *a, int64_t keys)
{
    const int64_t stacked = block_rows(a) * (a->H / a->K);
    return stacked * (keys + 2 * a->D);
}

/** First key that a query at @p position sees. */
static int64_t first_key(const ws_attention *a, int64_t position)
{
    return a->window > 0 && position >= a->window ? position - a->window + 1 : 0;
}

/** Softmax of the visible part of one row of S, 0 elsewhere; returns its lse. */
static ws_real softmax_row(ws_real *s, int64_t n, int64_t lo, int64_t hi)
{
    for (int64_t k = 0; k < lo; k++)
        s[k] = 0;
    for (int64_t k = hi; k < n; k++)
        s[k] = 0;
    const ws_real max = ws_row_max(s + lo, hi - lo);
    const ws_real sum = ws_act_exp_sum(s + lo, hi - lo, max);
    const ws_real f = 1 / sum;
    for (int64_t k = lo; k < hi; k++)
        s[k] *= f;
    return max + (ws_real)log((double)sum);
}

/** @p n rows of one kv head among keys, values or their gradients. */
static ws_mat key_rows(const ws_real *from, int64_t n, const ws_attention *a)
{
    // a ws_mat serves inputs and outputs; only the caller's own outputs are written
    union {
        const ws_real *from;
        void *to;
    } u = { .from = from };
    return (ws_mat){ WS_REAL_DT, n, a->D, a->K * a->D, u.to };
}

/** Query rows q0 .. q1 of a span, one kv head. */
static void block_forward(struct job *j, const ws_span *p, int64_t q0, int64_t q1,
                          int64_t kv, ws_real *scratch)
{
    const ws_attention *a = j->a;
    const int64_t G = a->H / a->K, D = a->D, wide = a->H * D, rows = (q1 - q0) * G;
    const int64_t k0 = first_key(a, p->past + q0), k1 = p->past + q1, nk = k1 - k0;
    ws_real *q = scratch, *o = q + rows * D, *S = o + rows * D;
    const int64_t first = ((p->key + k0) * a->K + kv) * D;

    for (int64_t i = q0; i < q1; i++)
        for (int64_t d = 0; d < G * D; d++)
            q[(i - q0) * G * D + d] =
                (ws_real)a->scale * j->Q[(p->row + i) * wide + kv * G * D + d];
    ws_mat mq = ws_mat_real(q, rows, D), mS = ws_mat_real(S, rows, nk);
    const ws_mat mk = key_rows(j->Kx + first, nk, a),
                 mv = key_rows(j->V + first, nk, a);
    ws_mat mo = ws_mat_real(o, rows, D);
    ws_status st = ws_gemm(false, true, 1.0, &mq, &mk, 0.0, &mS, NULL);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t i = q0 + r / G, at = p->past + i;
        const ws_real lse =
            softmax_row(S + r * nk, nk, first_key(a, at) - k0, at + 1 - k0);
        if (j->lse != NULL)
            j->lse[(p->row + i) * a->H + kv * G + r % G] = lse;
    }
    if (st == WS_OK)
        st = ws_gemm(false, false, 1.0, &mS, &mv, 0.0, &mo, NULL);
    if (st)
        atomic_store(&j->failed, (int)st);
    for (int64_t i = q0; i < q1; i++)
        for (int64_t d = 0; d < G * D; d++)
            j->O[(p->row + i) * wide + kv * G * D + d] = o[(i - q0) * G * D + d];
}

static void tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    int64_t block = (int64_t)index / j->a->K;
    const int64_t kv = (int64_t)index % j->a->K;
    const ws_span *p = j->a->span;

    while (block >= blocks_of(p, j->b))
        block -= blocks_of(p++, j->b);
    const int64_t q0 = block * j->b;
    const int64_t q1 = q0 + j->b < p->n ? q0 + j->b : p->n;
    block_forward(j, p, q0, q1, kv, j->s->panel[thread]);
}

ws_status ws_attention_forward(const ws_scratch *s, const ws_attention *a,
                               const ws_real *Q, const ws_real *Kx, const ws_real *V,
                               ws_real *O, ws_real *lse, ws_err *err)
{
    struct job j = { s, a, Q, Kx, V, O, lse, block_rows(a), 0 };
    int64_t n = 0, work = 0;

    for (int64_t i = 0; i < a->n_span; i++) {
        n += blocks_of(&a->span[i], j.b) * a->K;
        work += a->span[i].n * (a->span[i].past + a->span[i].n) * a->H * a->D;
    }
    if (work < (1 << 18) || s->pool == NULL)
        for (int64_t i = 0; i < n; i++)
            tile(&j, (size_t)i, 0);
    else
        ws_pool_for(s->pool, (size_t)n, tile, &j);
    const int st = atomic_load(&j.failed);
    return st == WS_OK ? WS_OK
                       : ws_fail(err, (ws_status)st, "attention cannot be done");
}

/* ---- backward ---- */

struct back {
    const ws_scratch *s;
    const ws_attention *a;
    const ws_real *Q, *Kx, *V, *O, *lse, *dO;
    ws_real *dQ, *dK, *dV;
    int64_t b;
    atomic_int failed;
};

int64_t ws_attention_backward_scratch(const ws_attention *a, int64_t keys)
{
    const int64_t stacked = block_rows(a) * (a->H / a->K);
    return stacked * (2 * keys + 3 * a->D + 1);
}

/** Scratch of one block; rows are stacked, (b G). */
struct back_block {
    int64_t rows, k0, nk;
    ws_real *q;      // (rows, D), scaled
    ws_real *dO;     // (rows, D)
    ws_real *dQ;     // (rows, D)
    ws_real *inner;  // (rows) sum_d dO O
    ws_real *P, *dP; // (rows, nk)
};

/** q = scale x of one head, and sum_d dO O in fixed lanes. */
WS_HOT static ws_real gather_row(const ws_real *x, const ws_real *dO, const ws_real *O,
                                 ws_real scale, ws_real *q, ws_real *to, int64_t D)
{
    double lane[WS_LANES] = { 0 }, sum = 0;
    int64_t d = 0;
    for (; d + WS_LANES <= D; d += WS_LANES)
        for (int64_t j = 0; j < WS_LANES; j++)
            lane[j] += (double)dO[d + j] * (double)O[d + j];
    for (int64_t j = 0; d < D; d++, j++)
        lane[j] += (double)dO[d] * (double)O[d];
    for (int64_t j = 0; j < WS_LANES; j++)
        sum += lane[j];
    for (d = 0; d < D; d++) {
        q[d] = scale * x[d];
        to[d] = dO[d];
    }
    return (ws_real)sum;
}

static void back_gather(const struct back *j, const ws_span *p, int64_t q0, int64_t kv,
                        struct back_block *k)
{
    const int64_t G = j->a->H / j->a->K, D = j->a->D, wide = j->a->H * D;

    for (int64_t r = 0; r < k->rows; r++) {
        const int64_t at = (p->row + q0 + r / G) * wide + (kv * G + r % G) * D;
        k->inner[r] = gather_row(j->Q + at, j->dO + at, j->O + at, (ws_real)j->a->scale,
                                 k->q + r * D, k->dO + r * D, D);
    }
}

WS_HOT static void ds_row(const ws_real *P, ws_real *dP, ws_real inner, int64_t n)
{
    for (int64_t c = 0; c < n; c++)
        dP[c] = P[c] * (dP[c] - inner);
}

/** P and dS of the rows, from scores and dP. */
static void back_rows(const struct back *j, const ws_span *p, int64_t q0, int64_t kv,
                      struct back_block *k, bool scores)
{
    const int64_t G = j->a->H / j->a->K;

    for (int64_t r = 0; r < k->rows; r++) {
        const int64_t i = q0 + r / G, at = p->past + i;
        const int64_t lo = first_key(j->a, at) - k->k0, hi = at + 1 - k->k0;
        ws_real *P = k->P + r * k->nk, *dP = k->dP + r * k->nk;
        if (!scores) {
            ds_row(P, dP, k->inner[r], k->nk);
            continue;
        }
        for (int64_t c = 0; c < lo; c++)
            P[c] = 0;
        for (int64_t c = hi; c < k->nk; c++)
            P[c] = 0;
        ws_act_exp_sum(P + lo, hi - lo,
                       j->lse[(p->row + i) * j->a->H + kv * G + r % G]);
    }
}

static void block_backward(struct back *j, const ws_span *p, int64_t q0, int64_t q1,
                           int64_t kv, ws_real *scratch)
{
    const ws_attention *a = j->a;
    const int64_t G = a->H / a->K, D = a->D, wide = a->H * D, rows = (q1 - q0) * G;
    struct back_block k = { .rows = rows, .k0 = first_key(a, p->past + q0) };

    k.nk = p->past + q1 - k.k0;
    k.q = scratch;
    k.dO = k.q + rows * D;
    k.dQ = k.dO + rows * D;
    k.inner = k.dQ + rows * D;
    k.P = k.inner + rows;
    k.dP = k.P + rows * k.nk;
    const int64_t first = ((p->key + k.k0) * a->K + kv) * D;
    const ws_mat K = key_rows(j->Kx + first, k.nk, a),
                 V = key_rows(j->V + first, k.nk, a);
    ws_mat dK = key_rows(j->dK + first, k.nk, a), dV = key_rows(j->dV + first, k.nk, a);
    const ws_mat q = ws_mat_real(k.q, rows, D), dO = ws_mat_real(k.dO, rows, D);
    ws_mat P = ws_mat_real(k.P, rows, k.nk), dP = ws_mat_real(k.dP, rows, k.nk);
    ws_mat dQ = ws_mat_real(k.dQ, rows, D);

    back_gather(j, p, q0, kv, &k);
    ws_status st = ws_gemm(false, true, 1.0, &q, &K, 0.0, &P, NULL);
    back_rows(j, p, q0, kv, &k, true);
    st = st ? st : ws_gemm(true, false, 1.0, &P, &dO, 1.0, &dV, NULL);
    st = st ? st : ws_gemm(false, true, 1.0, &dO, &V, 0.0, &dP, NULL);
    back_rows(j, p, q0, kv, &k, false);
    st = st ? st : ws_gemm(false, false, a->scale, &dP, &K, 0.0, &dQ, NULL);
    st = st ? st : ws_gemm(true, false, 1.0, &dP, &q, 1.0, &dK, NULL);
    if (st)
        atomic_store(&j->failed, (int)st);
    for (int64_t i = q0; i < q1; i++)
        for (int64_t d = 0; d < G * D; d++)
            j->dQ[(p->row + i) * wide + kv * G * D + d] = k.dQ[(i - q0) * G * D + d];
}

/** All blocks of one kv head of one span, in order: dK and dV are theirs alone. */
static void back_tile(void *arg, size_t index, int thread)
{
    struct back *j = arg;
    const ws_span *p = &j->a->span[(int64_t)index / j->a->K];

    for (int64_t q0 = 0; q0 < p->n; q0 += j->b)
        block_backward(j, p, q0, q0 + j->b < p->n ? q0 + j->b : p->n,
                       (int64_t)index % j->a->K, j->s->panel[thread]);
}

ws_status ws_attention_backward(const ws_scratch *s, const ws_attention *a,
                                const ws_real *Q, const ws_real *Kx, const ws_real *V,
                                const ws_real *O, const ws_real *lse, const ws_real *dO,
                                ws_real *dQ, ws_real *dK, ws_real *dV, ws_err *err)
{
    struct back j = { s, a, Q, Kx, V, O, lse, dO, dQ, dK, dV, block_rows(a), 0 };
    const int64_t n = a->n_span * a->K;

    if (s->pool == NULL)
        for (int64_t i = 0; i < n; i++)
            back_tile(&j, (size_t)i, 0);
    else
        ws_pool_for(s->pool, (size_t)n, back_tile, &j);
    const int st = atomic_load(&j.failed);
    return st == WS_OK ? WS_OK
                       : ws_fail(err, (ws_status)st, "attention cannot be done");
}
