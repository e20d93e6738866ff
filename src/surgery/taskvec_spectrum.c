/*
 * taskvec_spectrum.c - singular values of the updates of a task vector
 */
#include "surgery/taskvec_spectrum.h"

#include <math.h>
#include <pthread.h>

#include "base/os.h"
#include "base/pool.h"
#include "ckpt/ticker.h"
#include "wsurg/linalg.h"

struct spectrum {
    const ws_taskvec *tv;
    ws_taskvec_tensor_stats *out;
    size_t *index; // (n) tensors with a matrix
    size_t n;
    ws_ticker ticker;
    pthread_mutex_t lock;
    atomic_bool failed;
    size_t failed_at;
    ws_status status;
    ws_err err;
};

void ws_tv_spectrum_figures(const double *s, size_t n, ws_taskvec_tensor_stats *out)
{
    double sum = 0.0, sq = 0.0, entropy = 0.0, held = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += s[i];
        sq += s[i] * s[i];
    }
    out->n_values = n < WS_TASKVEC_LEADING ? n : WS_TASKVEC_LEADING;
    for (size_t i = 0; i < out->n_values; i++)
        out->values[i] = s[i];
    out->effective_rank = NAN;
    out->rank_90 = 0;
    if (!(sum > 0.0))
        return;
    for (size_t i = 0; i < n && s[i] > 0.0; i++)
        entropy -= s[i] / sum * log(s[i] / sum);
    out->effective_rank = exp(entropy);
    for (size_t i = 0; i < n && held < 0.9 * sq; i++) {
        held += s[i] * s[i];
        out->rank_90 = (int64_t)i + 1;
    }
}

static bool is_matrix(const ws_tv_tensor *t)
{
    return t->kind == WS_TV_KIND_UPDATE && t->t.rank >= 2 && t->t.n_elements > 0;
}

static ws_dtype real_of(const ws_tv_tensor *t)
{
    return t->wide ? WS_DT_F64 : WS_DT_F32;
}

/** Bytes that decomposing @p t takes; UINT64_MAX when LAPACK cannot. */
static uint64_t need(const ws_tv_tensor *t)
{
    const uint64_t rows = t->t.shape[0], cols = t->t.n_elements / rows;
    uint64_t bytes;
    if (rows > INT64_MAX || cols > INT64_MAX ||
        ws_singular_values_scratch(real_of(t), (int64_t)rows, (int64_t)cols) ==
            SIZE_MAX ||
        !ws_mul_u64(t->t.n_elements, t->wide ? 8 : 4, &bytes))
        return UINT64_MAX;
    const uint64_t scratch =
        ws_singular_values_scratch(real_of(t), (int64_t)rows, (int64_t)cols);
    const uint64_t least = rows < cols ? rows : cols;
    return bytes + scratch + least * sizeof(double) + sizeof(ws_tv_buffer);
}

/** The whole update, block after block. */
static ws_status load(const ws_taskvec *tv, const ws_tv_tensor *t, char *out,
                      ws_tv_buffer *buf, ws_err *err)
{
    const size_t real = t->wide ? sizeof(double) : sizeof(float);
    for (uint64_t b = 0; b < t->blocks.n_blocks; b++) {
        uint64_t first;
        size_t n;
        ws_tv_block_at(&t->blocks, b, &first, &n);
        const ws_status st =
            ws_taskvec_update(tv, t, b, 0, n, out + first * real, NULL, buf, err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

static ws_status decompose(const ws_taskvec *tv, const ws_tv_tensor *t,
                           ws_taskvec_tensor_stats *out, ws_err *err)
{
    const int64_t rows = (int64_t)t->t.shape[0];
    const int64_t cols = (int64_t)(t->t.n_elements / t->t.shape[0]);
    const size_t n = (size_t)(rows < cols ? rows : cols);
    void *data = ws_alloc((size_t)t->t.n_elements * (t->wide ? 8 : 4));
    double *s = ws_calloc(n, sizeof *s);
    ws_tv_buffer *buf = ws_alloc(sizeof *buf);
    ws_arena tmp = { 0 };
    ws_status st = data == NULL || s == NULL || buf == NULL
                       ? ws_fail(err, WS_E_MEMORY, "no memory for a matrix")
                       : load(tv, t, data, buf, err);
    if (st == WS_OK) {
        ws_mat A = { real_of(t), rows, cols, cols, data };
        st = ws_singular_values(&A, s, &tmp, err);
    }
    if (st == WS_OK) {
        out->rows = rows;
        out->cols = cols;
        ws_tv_spectrum_figures(s, n, out);
    } else {
        ws_err_at(err, ws_ckpt_path(tv->file), t->t.name, -1);
    }
    ws_arena_free(&tmp);
    ws_free(data);
    ws_free(s);
    ws_free(buf);
    return st;
}

static void one(void *arg, size_t i, int thread)
{
    struct spectrum *x = arg;
    ws_err err = WS_ERR_INIT;
    (void)thread;
    if (atomic_load(&x->failed))
        return;
    const ws_tv_tensor *t = &x->tv->tensors[x->index[i]];
    ws_status st = decompose(x->tv, t, &x->out[x->index[i]], &err);
    if (!ws_ticker_add(&x->ticker, t->t.n_elements) && st == WS_OK)
        st = ws_fail(&err, WS_E_INTERRUPTED, "stopped on request");
    if (st == WS_OK)
        return;
    pthread_mutex_lock(&x->lock);
    if (x->status == WS_OK || i < x->failed_at) {
        x->status = st;
        x->failed_at = i;
        x->err = err;
    }
    pthread_mutex_unlock(&x->lock);
    atomic_store(&x->failed, true);
}

/** The matrices, and how many threads the largest of them allows. */
static ws_status gather(struct spectrum *x, ws_arena *arena, const ws_ctx *ctx,
                        int *threads, uint64_t *elements, ws_err *err)
{
    // whole matrices: half of what the process may use, unless a limit is given
    const bool limited = ctx != NULL && ctx->max_memory > 0;
    const uint64_t memory = limited ? ctx->max_memory : ws_os_memory_total() / 2;
    uint64_t most = 1;
    *elements = 0;
    x->index = ws_arena_calloc(arena, x->tv->n + 1, sizeof *x->index);
    if (x->index == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a spectrum");
    for (size_t i = 0; i < x->tv->n; i++) {
        const ws_tv_tensor *t = &x->tv->tensors[i];
        if (!is_matrix(t))
            continue;
        const uint64_t bytes = need(t);
        if (bytes > memory) {
            ws_fail(err, WS_E_MEMORY,
                    "singular values need %llu bytes of memory, the limit is %llu",
                    (unsigned long long)bytes, (unsigned long long)memory);
            ws_err_at(err, ws_ckpt_path(x->tv->file), t->t.name, -1);
            ws_err_hint(err, "--max-memory %lluMiB",
                        (unsigned long long)((bytes >> 20) + 1));
            return WS_E_MEMORY;
        }
        most = bytes > most ? bytes : most;
        x->index[x->n++] = i;
        *elements += t->t.n_elements;
    }
    *threads = ws_ctx_threads(ctx);
    if (memory / most < (uint64_t)*threads)
        *threads = (int)(memory / most);
    return WS_OK;
}

ws_status ws_tv_spectrum(const ws_taskvec *tv, ws_taskvec_tensor_stats *out,
                         const ws_ctx *ctx, ws_err *err)
{
    struct spectrum x = { .tv = tv, .out = out };
    ws_arena arena = { 0 };
    ws_pool *pool = NULL;
    int threads = 1;
    uint64_t elements = 0;
    ws_status st = gather(&x, &arena, ctx, &threads, &elements, err);
    if (st == WS_OK)
        st = ws_pool_new(&pool, threads, err);
    if (st == WS_OK) {
        pthread_mutex_init(&x.lock, NULL);
        ws_ticker_start(&x.ticker, ctx, "decompose", elements);
        ws_pool_for(pool, x.n, one, &x);
        ws_ticker_end(&x.ticker);
        pthread_mutex_destroy(&x.lock);
        st = x.status;
        if (st != WS_OK && err != NULL)
            *err = x.err;
    }
    ws_pool_free(pool);
    ws_arena_free(&arena);
    return st;
}
