/*
 * layer_linear.c - the one linear layer: Y = X W^T + b, dX = dY W, dW = dY^T X
 *
 * Weights stay in their own dtype; a panel of 256 rows is expanded beside the product
 * that needs it, in a buffer that the cache keeps. Tiles are 512 rows of X by 256
 * outputs, whatever the number of threads, and each is one product on one thread. One
 * to four rows, as in generation, take a kernel of their own, bound by memory alone.
 */
#include "model/layers.h"

#include <stdatomic.h>

enum { TILE = WS_PANEL_ROWS, ROW_TILE = 512, FEW_ROWS = 4, FEW_PANEL = 64 };

/** Below this many multiplications, waking the pool costs more than it gives. */
#define SERIAL_WORK (1 << 20)

const ws_real *ws_weight_vector(const ws_weight *w, ws_real *scratch)
{
    if (w->data == NULL)
        return NULL;
    if (w->dtype == WS_REAL_DT)
        return (const ws_real *)(const void *)w->data;
    ws_to_real(w->dtype, w->data, scratch, (size_t)w->cols);
    return scratch;
}

/** The block W[r0 .. r1, c0 .. c1) as a matrix: where it lies, or expanded into
 * @p scratch. Stored (in, out), it comes out transposed. */
static ws_mat block(const ws_weight *w, int64_t r0, int64_t r1, int64_t c0, int64_t c1,
                    ws_real *scratch)
{
    const int64_t s0 = w->transposed ? c0 : r0, s1 = w->transposed ? c1 : r1;
    const int64_t t0 = w->transposed ? r0 : c0, t1 = w->transposed ? r1 : c1;
    const size_t size = ws_dtype_info(w->dtype)->bits / 8u;
    const unsigned char *at = w->data + (size_t)(s0 * w->ld + t0) * size;

    if (w->dtype == WS_REAL_DT) {
        // a ws_mat serves inputs and outputs; this one is only read
        union {
            const unsigned char *from;
            void *to;
        } data = { .from = at };
        return (ws_mat){ WS_REAL_DT, s1 - s0, t1 - t0, w->ld, data.to };
    }
    for (int64_t s = s0; s < s1; s++) {
        ws_to_real(w->dtype, at, scratch + (s - s0) * (t1 - t0), (size_t)(t1 - t0));
        at += (size_t)w->ld * size;
    }
    return ws_mat_real(scratch, s1 - s0, t1 - t0);
}

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
    const ws_dw_sink *sink;
    int64_t tiles; // along the rows of X
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

static int64_t tiles_of(int64_t n)
{
    return (n + TILE - 1) / TILE;
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
    ws_real b[TILE];
    const size_t size = ws_dtype_info(bias->dtype)->bits / 8u;

    ws_to_real(bias->dtype, bias->data + (size_t)r0 * size, b, (size_t)(r1 - r0));
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = r0; r < r1; r++)
            Y[i * ldy + r] += b[r - r0];
}

static void forward_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const int64_t i0 = (int64_t)index % j->tiles * ROW_TILE;
    const int64_t i1 = least(i0 + ROW_TILE, j->n);
    const int64_t r0 = (int64_t)index / j->tiles * TILE;
    const int64_t r1 = least(r0 + TILE, j->w->rows);
    const ws_mat W = block(j->w, r0, r1, 0, j->w->cols, j->s->panel[thread]);
    const ws_mat X = input(j->X + i0 * j->ldx, i1 - i0, j->w->cols, j->ldx);
    ws_mat Y = { WS_REAL_DT, i1 - i0, r1 - r0, j->ldy, j->Y + i0 * j->ldy + r0 };

    const ws_status st =
        ws_gemm(false, !j->w->transposed, 1.0, &X, &W, j->add ? 1.0 : 0.0, &Y, NULL);
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
        const ws_mat W = block(w, r0, r1, c, c + 1, j->s->panel[thread]);
        for (int64_t i = 0; i < j->n; i++)
            axpy(j->X[i * j->ldx + c], W.data, j->Y + i * j->ldy + r0, r1 - r0);
    }
    for (int64_t r = r0; !w->transposed && r < r1; r++) {
        const ws_mat W = block(w, r, r + 1, 0, w->cols, j->s->panel[thread]);
        for (int64_t i = 0; i < j->n; i++)
            j->Y[i * j->ldy + r] += dot(W.data, j->X + i * j->ldx, w->cols);
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
                     .tiles = row_tiles_of(n) };
    const int64_t work = n * w->rows * w->cols;

    if (n <= FEW_ROWS)
        return job_run(&j, (w->rows + FEW_PANEL - 1) / FEW_PANEL, work, few_tile, err);
    return job_run(&j, j.tiles * tiles_of(w->rows), work, forward_tile, err);
}

static void dx_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const int64_t i0 = (int64_t)index % j->tiles * ROW_TILE;
    const int64_t i1 = least(i0 + ROW_TILE, j->n);
    const int64_t c0 = (int64_t)index / j->tiles * TILE;
    const int64_t c1 = least(c0 + TILE, j->w->cols);
    ws_mat dX = { WS_REAL_DT, i1 - i0, c1 - c0, j->ldx, j->dX + i0 * j->ldx + c0 };

    for (int64_t r0 = 0; r0 < j->w->rows; r0 += TILE) {
        const int64_t r1 = least(r0 + TILE, j->w->rows);
        const ws_mat W = block(j->w, r0, r1, c0, c1, j->s->panel[thread]);
        const ws_mat dY = input(j->dY + i0 * j->ldy + r0, i1 - i0, r1 - r0, j->ldy);
        const ws_status st = ws_gemm(false, j->w->transposed, 1.0, &dY, &W,
                                     j->add || r0 > 0 ? 1.0 : 0.0, &dX, NULL);
        if (st)
            atomic_store(&j->failed, (int)st);
    }
}

ws_status ws_linear_dx(const ws_scratch *s, const ws_weight *w, const ws_real *dY,
                       int64_t ldy, int64_t n, ws_real *dX, int64_t ldx, bool add,
                       ws_err *err)
{
    struct job j = { .s = s,
                     .w = w,
                     .dY = dY,
                     .ldy = ldy,
                     .dX = dX,
                     .ldx = ldx,
                     .n = n,
                     .add = add,
                     .tiles = row_tiles_of(n) };

    return job_run(&j, j.tiles * tiles_of(w->cols), n * w->rows * w->cols, dx_tile,
                   err);
}

static void dw_tile(void *arg, size_t index, int thread)
{
    struct job *j = arg;
    const int64_t r0 = (int64_t)index * TILE, r1 = least(r0 + TILE, j->w->rows);
    ws_mat dW = ws_mat_real(j->s->panel[thread], r1 - r0, j->w->cols);
    const ws_mat dY = input(j->dY + r0, j->n, r1 - r0, j->ldy);
    const ws_mat X = input(j->X, j->n, j->w->cols, j->ldx);

    const ws_status st = ws_gemm(true, false, 1.0, &dY, &X, 0.0, &dW, NULL);
    if (st)
        atomic_store(&j->failed, (int)st);
    else
        j->sink->panel(j->sink->arg, j->w, r0, r1 - r0, dW.data, thread);
}

ws_status ws_linear_dw(const ws_scratch *s, const ws_weight *w, const ws_real *dY,
                       int64_t ldy, const ws_real *X, int64_t ldx, int64_t n,
                       const ws_dw_sink *sink, ws_err *err)
{
    struct job j = {
        .s = s, .w = w, .dY = dY, .ldy = ldy, .X = X, .ldx = ldx, .n = n, .sink = sink
    };

    return job_run(&j, tiles_of(w->rows), n * w->rows * w->cols, dw_tile, err);
}
