/*
 * layer_linear.c - the one linear layer: Y = X W^T + b, dX = dY W, dW = dY^T X
 *
 *   with a low-rank overlay  H = X A^T diag(gain),  Y += H B^T
 *                            E = dY B,  dX += E diag(gain) A
 *                            dB += dY^T H,  dA += diag(gain) E^T X,
 *                            dgain_j += sum_t E_tj (X A^T)_tj
 *
 * Weights stay in their own dtype; a panel is expanded beside the product that needs
 * it, in a buffer that the cache keeps. Tiles are cut by shape alone, whatever the
 * number of threads, and each is one product on one thread. One to four rows, as in
 * generation, take a kernel of their own, bound by memory alone.
 */
#include "model/layers.h"

#include <stdatomic.h>
#include <string.h>

enum { LEAST = 256, MOST = 768 }; // width of a tile
enum { ROW_TILE = 512, STEP = 768, FEW_ROWS = 4, FEW_PANEL = 64 };
enum { THIN_ROWS = 64, THIN_COLS = 256 }; // tiles of the low-rank products

/** Below this many multiplications, waking the pool costs more than it gives. */
#define SERIAL_WORK (1 << 20)

/** A matrix of somebody's constant numbers. */
static ws_mat input(const ws_real *data, int64_t rows, int64_t cols, int64_t ld)
{
    union {
        const ws_real *from;
        void *to;
    } u = { .from = data };
    return (ws_mat){ WS_REAL_DT, rows, cols, ld, u.to };
}

struct job {
    const ws_scratch *s;
    const ws_weight *w, *bias;
    const ws_real *X, *dY;
    ws_real *Y, *dX;
    int64_t ldx, ldy, n;
    bool add;
    int64_t tiles;       // along the rows of X
    int64_t width;       // of a tile along the outputs or inputs
    ws_real *low, *low2; // (n, rank)
    ws_real *grad;
    const ws_grad_sink *sink;
    int64_t summand;
    atomic_int failed;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t row_tiles_of(int64_t n)
{
    return (n + ROW_TILE - 1) / ROW_TILE;
}

/** Width of the tiles that cut @p n outputs or inputs: wide ones pack X less often,
 * eight of them or more keep eight threads at work. More than one are even in number:
 * of three, one of two threads would wait for a quarter of the time. */
static int64_t width_of(int64_t n)
{
    const int64_t fit = least(n / LEAST, 8), needed = (n + MOST - 1) / MOST;
    const int64_t cuts = needed > fit ? needed : fit;
    const int64_t tiles = cuts > 1 ? (cuts + 1) / 2 * 2 : 1;

    return ((n + tiles - 1) / tiles + 15) / 16 * 16;
}

int64_t ws_linear_panel(int64_t rows, int64_t cols, bool transposed)
{
    const int64_t forward = width_of(rows) * cols;
    const int64_t dw = transposed ? width_of(cols) * rows : forward;
    const int64_t dx = least(rows, STEP) * width_of(cols),
                  most = forward > dw ? forward : dw;
    return most > dx ? most : dx;
}

static int64_t tiles_of(int64_t n, int64_t width)
{
    return (n + width - 1) / width;
}

/** Run on the pool, or here when there is too little to do. */
static ws_status job_run(struct job *j, int64_t n, int64_t work,
                         void (*fn)(void *, size_t, int), ws_err *err)
{
    if (n == 1 || work < SERIAL_WORK || j->s->pool == NULL)
        for (int64_t i = 0; i < n; i++)
            fn(j, (size_t)i, 0);
    else
        ws_pool_for(j->s->pool, (size_t)n, fn, j);
    const int st = atomic_load(&j->failed);
    if (st != WS_OK)
        return ws_fail(err, (ws_status)st, "product with '%s' cannot be done",
                       j->w->name);
    return WS_OK;
}

static void bias_add(const ws_weight *bias, int64_t r0, int64_t r1, ws_real *Y,
                     int64_t ldy, int64_t n)
{
    ws_real b[MOST];

    ws_weight_part(bias, r0, r1 - r0, b);
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = r0; r < r1; r++)
            Y[i * ldy + r] += b[r - r0];
}

static void low_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const ws_overlay *o = j->w->over;
    const int64_t i0 = (int64_t)index * THIN_ROWS, i1 = least(i0 + THIN_ROWS, j->n);
    ws_mat H = ws_mat_real(j->low + i0 * o->rank, i1 - i0, o->rank);
    ws_status st;
    (void)thread;

    if (j->X != NULL) { // X A^T
        const ws_mat X = input(j->X + i0 * j->ldx, i1 - i0, j->w->cols, j->ldx);
        const ws_mat A = input(o->A, o->rank, j->w->cols, j->w->cols);
        st = ws_gemm(false, true, 1.0, &X, &A, 0.0, &H, NULL);
    } else { // dY B
        const ws_mat dY = input(j->dY + i0 * j->ldy, i1 - i0, j->w->rows, j->ldy);
        const ws_mat B =
            input(o->B + j->w->from * o->rank, j->w->rows, o->rank, o->rank);
        st = ws_gemm(false, false, 1.0, &dY, &B, 0.0, &H, NULL);
    }
    if (st)
        atomic_store(&j->failed, (int)st);
}

/** (n, rank) numbers of the low-rank path into @p low: X A^T, or dY B when X is NULL;
 * with @p gained, times the gain. */
static ws_status low_make(struct job *j, ws_real *low, bool gained, ws_err *err)
{
    const ws_overlay *o = j->w->over;
    const int64_t in = j->X ? j->w->cols : j->w->rows;

    j->low = low;
    ws_status st =
        job_run(j, tiles_of(j->n, THIN_ROWS), j->n * in * o->rank, low_tile, err);
    for (int64_t i = 0; gained && i < j->n; i++)
        for (int64_t r = 0; r < o->rank; r++)
            low[i * o->rank + r] *= o->gain[r];
    return st;
}

static bool has_low(const ws_weight *w)
{
    return w->over != NULL && w->over->rank > 0;
}

static void forward_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const int64_t i0 = (int64_t)index % j->tiles * ROW_TILE;
    const int64_t i1 = least(i0 + ROW_TILE, j->n);
    const int64_t r0 = (int64_t)index / j->tiles * j->width;
    const int64_t r1 = least(r0 + j->width, j->w->rows);
    const ws_mat W = ws_weight_block(j->w, r0, r1, 0, j->w->cols, j->s->panel[thread]);
    const ws_mat X = input(j->X + i0 * j->ldx, i1 - i0, j->w->cols, j->ldx);
    ws_mat Y = { WS_REAL_DT, i1 - i0, r1 - r0, j->ldy, j->Y + i0 * j->ldy + r0 };

    ws_status st =
        ws_gemm(false, !j->w->transposed, 1.0, &X, &W, j->add ? 1.0 : 0.0, &Y, NULL);
    const ws_overlay *o = j->w->over;
    if (st == WS_OK && j->low != NULL && o != NULL) {
        const ws_mat H = input(j->low + i0 * o->rank, i1 - i0, o->rank, o->rank);
        const ws_mat B =
            input(o->B + (j->w->from + r0) * o->rank, r1 - r0, o->rank, o->rank);
        st = ws_gemm(false, true, 1.0, &H, &B, 1.0, &Y, NULL);
    }
    if (st)
        atomic_store(&j->failed, (int)st);
    if (j->bias != NULL && j->bias->data != NULL)
        bias_add(j->bias, r0, r1, j->Y + i0 * j->ldy, j->ldy, i1 - i0);
}

WS_HOT static ws_real dot(const ws_real *a, const ws_real *b, int64_t n)
{
    enum { WIDE = 4 * WS_LANES };
    ws_real lane[WIDE] = { 0 };
    int64_t i = 0;
    for (; i + WIDE <= n; i += WIDE)
        for (int64_t k = 0; k < WIDE; k++)
            lane[k] += a[i + k] * b[i + k];
    for (int64_t k = 0; i < n; i++, k++)
        lane[k] += a[i] * b[i];
    for (int64_t w = WIDE / 2; w >= 1; w /= 2)
        for (int64_t k = 0; k < w; k++)
            lane[k] += lane[k + w];
    return lane[0];
}

#ifndef WS_MODEL_F64
/** dot() of @p n BF16 numbers, widened on the way: the same sums in the same order. */
WS_HOT static float dot_bf16(const unsigned char *a, const float *b, int64_t n)
{
    enum { WIDE = 4 * WS_LANES };
    float lane[WIDE] = { 0 };
    int64_t i = 0;
    for (; i + WIDE <= n; i += WIDE)
        for (int64_t k = 0; k < WIDE; k++) {
            uint16_t half;
            memcpy(&half, a + 2 * (i + k), sizeof half);
            const uint32_t bits = (uint32_t)half << 16;
            float value;
            memcpy(&value, &bits, sizeof value);
            lane[k] += value * b[i + k];
        }
    for (int64_t k = 0; i < n; i++, k++) {
        float value;
        ws_to_f32(WS_DT_BF16, a + 2 * i, &value, 1);
        lane[k] += value * b[i];
    }
    for (int64_t w = WIDE / 2; w >= 1; w /= 2)
        for (int64_t k = 0; k < w; k++)
            lane[k] += lane[k + w];
    return lane[0];
}
#endif

/** Output @p r of BF16 weights that lie in memory as they are used; false: others. */
static bool few_bf16(const struct job *j, int64_t r)
{
#ifdef WS_MODEL_F64
    (void)j;
    (void)r;
    return false;
#else
    const ws_weight *w = j->w;

    if (w->dtype != WS_DT_BF16 || w->transposed || w->over != NULL)
        return false;
    const unsigned char *row = w->data + (size_t)(r * w->ld) * 2;
    for (int64_t i = 0; i < j->n; i++)
        j->Y[i * j->ldy + r] += dot_bf16(row, j->X + i * j->ldx, w->cols);
    return true;
#endif
}

WS_HOT static void axpy(ws_real a, const ws_real *x, ws_real *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/** A few rows by FEW_PANEL outputs: each weight is touched once. */
static void few_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const ws_weight *w = j->w;
    const int64_t r0 = (int64_t)index * FEW_PANEL, r1 = least(r0 + FEW_PANEL, w->rows);

    if (!j->add)
        for (int64_t i = 0; i < j->n; i++)
            for (int64_t r = r0; r < r1; r++)
                j->Y[i * j->ldy + r] = 0;
    for (int64_t c = 0; w->transposed && c < w->cols; c++) {
        const ws_mat W = ws_weight_block(w, r0, r1, c, c + 1, j->s->panel[thread]);
        for (int64_t i = 0; i < j->n; i++)
            axpy(j->X[i * j->ldx + c], W.data, j->Y + i * j->ldy + r0, r1 - r0);
    }
    for (int64_t r = r0; !w->transposed && r < r1; r++) {
        if (few_bf16(j, r))
            continue;
        const ws_mat W = ws_weight_block(w, r, r + 1, 0, w->cols, j->s->panel[thread]);
        for (int64_t i = 0; i < j->n; i++)
            j->Y[i * j->ldy + r] += dot(W.data, j->X + i * j->ldx, w->cols);
    }
    for (int64_t i = 0; j->low != NULL && i < j->n; i++) {
        const ws_overlay *o = w->over;
        for (int64_t r = r0; r < r1; r++)
            j->Y[i * j->ldy + r] +=
                dot(o->B + (w->from + r) * o->rank, j->low + i * o->rank, o->rank);
    }
    if (j->bias != NULL && j->bias->data != NULL)
        bias_add(j->bias, r0, r1, j->Y, j->ldy, j->n);
}

ws_status ws_linear_forward(const ws_scratch *s, const ws_weight *w,
                            const ws_weight *bias, const ws_real *X, int64_t ldx,
                            int64_t n, ws_real *Y, int64_t ldy, bool add, ws_err *err)
{
    struct job j = { .s = s,
                     .w = w,
                     .bias = bias,
                     .X = X,
                     .ldx = ldx,
                     .Y = Y,
                     .ldy = ldy,
                     .n = n,
                     .add = add,
                     .tiles = row_tiles_of(n),
                     .width = width_of(w->rows) };
    const int64_t work = n * w->rows * w->cols;

    if (has_low(w)) {
        const ws_status st = low_make(&j, s->low, true, err);
        if (st)
            return st;
    }
    if (n <= FEW_ROWS)
        return job_run(&j, tiles_of(w->rows, FEW_PANEL), work, few_tile, err);
    return job_run(&j, j.tiles * tiles_of(w->rows, j.width), work, forward_tile, err);
}

static void dx_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const int64_t i0 = (int64_t)index % j->tiles * ROW_TILE;
    const int64_t i1 = least(i0 + ROW_TILE, j->n);
    const int64_t c0 = (int64_t)index / j->tiles * j->width;
    const int64_t c1 = least(c0 + j->width, j->w->cols);
    ws_mat dX = { WS_REAL_DT, i1 - i0, c1 - c0, j->ldx, j->dX + i0 * j->ldx + c0 };
    // a weight that need not be expanded goes in one product
    const int64_t step = j->w->dtype == WS_REAL_DT && !j->w->over ? j->w->rows : STEP;
    ws_status st = WS_OK;

    for (int64_t r0 = 0; st == WS_OK && r0 < j->w->rows; r0 += step) {
        const int64_t r1 = least(r0 + step, j->w->rows);
        const ws_mat W = ws_weight_block(j->w, r0, r1, c0, c1, j->s->panel[thread]);
        const ws_mat dY = input(j->dY + i0 * j->ldy + r0, i1 - i0, r1 - r0, j->ldy);
        st = ws_gemm(false, j->w->transposed, 1.0, &dY, &W,
                     j->add || r0 > 0 ? 1.0 : 0.0, &dX, NULL);
    }
    if (st == WS_OK && j->low != NULL) {
        const ws_overlay *o = j->w->over;
        const ws_mat E = input(j->low + i0 * o->rank, i1 - i0, o->rank, o->rank);
        const ws_mat A = input(o->A + c0, o->rank, c1 - c0, j->w->cols);
        st = ws_gemm(false, false, 1.0, &E, &A, 1.0, &dX, NULL);
    }
    if (st)
        atomic_store(&j->failed, (int)st);
}

ws_status ws_linear_dx(const ws_scratch *s, const ws_weight *w, const ws_real *dY,
                       int64_t ldy, int64_t n, ws_real *dX, int64_t ldx, bool add,
                       bool low_made, ws_err *err)
{
    struct job j = { .s = s,
                     .w = w,
                     .low = has_low(w) ? s->low : NULL,
                     .dY = dY,
                     .ldy = ldy,
                     .dX = dX,
                     .ldx = ldx,
                     .n = n,
                     .add = add,
                     .tiles = row_tiles_of(n),
                     .width = width_of(w->cols) };

    if (has_low(w) && !low_made) {
        const ws_status st = low_make(&j, s->low, true, err);
        if (st)
            return st;
    }
    return job_run(&j, j.tiles * tiles_of(w->cols, j.width), n * w->rows * w->cols,
                   dx_tile, err);
}

WS_HOT static void add_to(const ws_real *x, ws_real *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

/** Stored rows s0 .. s1 of dW: dY^T X, or X^T dY of a weight that is transposed. */
static void dw_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const ws_weight *w = j->w;
    const int64_t all = w->transposed ? w->cols : w->rows;
    const int64_t wide = w->transposed ? w->rows : w->cols;
    const int64_t s0 = (int64_t)index * j->width, s1 = least(s0 + j->width, all);
    const ws_real *tall = w->transposed ? j->X : j->dY;
    const ws_real *flat = w->transposed ? j->dY : j->X;
    const int64_t ld_tall = w->transposed ? j->ldx : j->ldy;
    const ws_mat T = input(tall + s0, j->n, s1 - s0, ld_tall);
    const ws_mat X = input(flat, j->n, wide, w->transposed ? j->ldy : j->ldx);
    const int64_t at = w->offset + s0 * w->ld;
    ws_real *grad = j->grad ? j->grad + at : NULL;
    ws_mat dW = { WS_REAL_DT, s1 - s0, wide, j->sink ? wide : w->ld,
                  j->sink ? j->s->panel[thread] : grad };

    const ws_status st =
        ws_gemm(true, false, 1.0, &T, &X, j->sink ? 0.0 : 1.0, &dW, NULL);
    if (st)
        atomic_store(&j->failed, (int)st);
    if (st || j->sink == NULL)
        return;
    for (int64_t r = 0; grad != NULL && r < s1 - s0; r++)
        add_to(j->s->panel[thread] + r * wide, grad + r * w->ld, wide);
    j->sink->panel(j->sink->arg, &(ws_grad_panel){ w->part, at, s1 - s0, wide, w->ld,
                                                   dW.data, j->summand, thread });
}

ws_status ws_linear_dw(const ws_scratch *s, const ws_weight *w, const ws_real *dY,
                       int64_t ldy, const ws_real *X, int64_t ldx, int64_t n,
                       ws_real *grad, const ws_grad_sink *sink, int64_t summand,
                       ws_err *err)
{
    const int64_t stored = w->transposed ? w->cols : w->rows;
    struct job j = { .s = s,
                     .w = w,
                     .dY = dY,
                     .ldy = ldy,
                     .X = X,
                     .ldx = ldx,
                     .n = n,
                     .width = width_of(stored),
                     .grad = grad,
                     .sink = sink,
                     .summand = summand };

    return job_run(&j, tiles_of(stored, j.width), n * w->rows * w->cols, dw_tile, err);
}

/* ---- gradients of the low-rank term ---- */

static void da_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const ws_overlay *o = j->w->over;
    const int64_t c0 = (int64_t)index * THIN_COLS,
                  c1 = least(c0 + THIN_COLS, j->w->cols);
    const ws_mat E = input(j->low, j->n, o->rank, o->rank);
    const ws_mat X = input(j->X + c0, j->n, c1 - c0, j->ldx);
    ws_mat dA = { WS_REAL_DT, o->rank, c1 - c0, j->w->cols, o->dA + c0 };
    (void)thread;

    const ws_status st = ws_gemm(true, false, 1.0, &E, &X, 1.0, &dA, NULL);
    if (st)
        atomic_store(&j->failed, (int)st);
}

static void db_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const ws_overlay *o = j->w->over;
    const int64_t r0 = (int64_t)index * THIN_COLS,
                  r1 = least(r0 + THIN_COLS, j->w->rows);
    const ws_mat H = input(j->low2, j->n, o->rank, o->rank);
    const ws_mat dY = input(j->dY + r0, j->n, r1 - r0, j->ldy);
    ws_mat dB = ws_mat_real(o->dB + (j->w->from + r0) * o->rank, r1 - r0, o->rank);
    (void)thread;

    const ws_status st = ws_gemm(true, false, 1.0, &dY, &H, 1.0, &dB, NULL);
    if (st)
        atomic_store(&j->failed, (int)st);
}

/** dgain, and the gain into both factors. */
static void gains(const ws_overlay *o, ws_real *E, ws_real *H, int64_t n)
{
    for (int64_t r = 0; r < o->rank; r++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += (double)E[i * o->rank + r] * (double)H[i * o->rank + r];
            E[i * o->rank + r] *= o->gain[r];
            H[i * o->rank + r] *= o->gain[r];
        }
        if (o->dgain != NULL)
            o->dgain[r] += (ws_real)sum;
    }
}

ws_status ws_linear_dlow(const ws_scratch *s, const ws_weight *w, const ws_real *dY,
                         int64_t ldy, const ws_real *X, int64_t ldx, int64_t n,
                         ws_err *err)
{
    const ws_overlay *o = w->over;
    struct job j = { .s = s, .w = w, .X = X, .ldx = ldx, .n = n };
    ws_real *H = s->low + n * o->rank;

    ws_status st = low_make(&j, H, false, err);
    j = (struct job){ .s = s, .w = w, .dY = dY, .ldy = ldy, .n = n };
    if (st == WS_OK)
        st = low_make(&j, s->low, false, err);
    if (st)
        return st;
    gains(o, s->low, H, n);
    j.X = X;
    j.ldx = ldx;
    j.low2 = H;
    if (o->dA != NULL)
        st = job_run(&j, tiles_of(w->cols, THIN_COLS), n * w->cols * o->rank, da_tile,
                     err);
    if (st == WS_OK && o->dB != NULL)
        st = job_run(&j, tiles_of(w->rows, THIN_COLS), n * w->rows * o->rank, db_tile,
                     err);
    return st;
}
