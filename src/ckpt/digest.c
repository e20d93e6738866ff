/*
 * digest.c - content digests of tensors and models (encodings in wsurg/digest.h)
 */
// XXH3's state on the stack: a digest must not fail for lack of memory. Compiled in,
// because the layout of that state is no promise of the shared library.
#define XXH_INLINE_ALL

#include "wsurg/digest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/pool.h"
#include "ckpt/ticker.h"
#include "wsurg/alloc.h"

enum { SLICE_ELEMENTS = 1 << 20, CHUNK = 1 << 20 };

static void add_u64(XXH3_state_t *s, uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    XXH3_128bits_update(s, b, sizeof b);
}

static void add_str(XXH3_state_t *s, const char *text)
{
    const size_t n = strlen(text);
    add_u64(s, n);
    XXH3_128bits_update(s, text, n);
}

static ws_xxh128 state_end(const XXH3_state_t *s)
{
    XXH128_canonical_t c;
    ws_xxh128 out;
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(s));
    memcpy(out.b, c.digest, sizeof out.b);
    return out;
}

static bool shape_empty(int rank, const uint64_t *shape)
{
    for (int i = 0; i < rank; i++)
        if (shape[i] == 0)
            return true;
    return false;
}

uint64_t ws_slice_len(int rank, const uint64_t *shape)
{
    uint64_t row = 1;
    if (shape_empty(rank, shape))
        return SLICE_ELEMENTS;
    for (int i = 1; i < rank; i++)
        row *= shape[i]; // fits: the reader has proved the whole product
    return row >= SLICE_ELEMENTS ? row : SLICE_ELEMENTS / row * row;
}

uint64_t ws_slice_count(int rank, const uint64_t *shape)
{
    uint64_t n = 1;
    if (shape_empty(rank, shape))
        return 0;
    for (int i = 0; i < rank; i++)
        n *= shape[i];
    const uint64_t len = ws_slice_len(rank, shape);
    return n / len + (n % len != 0);
}

void ws_slice_bytes(const ws_tensor *t, uint64_t i, uint64_t *offset, uint64_t *len)
{
    const uint64_t n = ws_slice_len(t->rank, t->shape);
    const uint64_t bits = ws_dtype_info(t->dtype)->bits;
    const uint64_t begin = i * n, end = t->n_elements - begin > n ? begin + n : 0;
    *offset = begin * bits / 8; // fits: the reader has proved n_elements * bits
    *len = (end == 0 ? t->n_bytes : end * bits / 8) - *offset;
}

ws_xxh128 ws_tensor_digest(const ws_tensor *t, const ws_xxh128 *slices, size_t n)
{
    XXH3_state_t s;
    XXH3_128bits_reset(&s);
    add_str(&s, t->name);
    add_str(&s, ws_dtype_info(t->dtype)->name);
    add_u64(&s, (uint64_t)t->rank);
    for (int i = 0; i < t->rank; i++)
        add_u64(&s, t->shape[i]);
    add_u64(&s, n);
    for (size_t i = 0; i < n; i++)
        XXH3_128bits_update(&s, slices[i].b, sizeof slices[i].b);
    return state_end(&s);
}

/** Heap order by name, then the sort: qsort has no place for the names, and a static
 * pointer to them would not be safe among threads. */
static void sift(const char *const *names, size_t *idx, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && strcmp(names[idx[child]], names[idx[child + 1]]) < 0)
            child++;
        if (strcmp(names[idx[root]], names[idx[child]]) >= 0)
            return;
        const size_t tmp = idx[root];
        idx[root] = idx[child];
        idx[child] = tmp;
    }
}

static void sort_by_name(const char *const *names, size_t *idx, size_t n)
{
    for (size_t i = 0; i < n; i++)
        idx[i] = i;
    for (size_t i = n / 2; i-- > 0;)
        sift(names, idx, i, n);
    for (size_t end = n; end-- > 1;) {
        const size_t tmp = idx[0];
        idx[0] = idx[end];
        idx[end] = tmp;
        sift(names, idx, 0, end);
    }
}

ws_xxh128 ws_model_digest(const char *const *names, const ws_xxh128 *tensors, size_t n,
                          size_t *idx)
{
    XXH3_state_t s;
    sort_by_name(names, idx, n);
    XXH3_128bits_reset(&s);
    add_u64(&s, n);
    for (size_t i = 0; i < n; i++) {
        add_str(&s, names[idx[i]]);
        XXH3_128bits_update(&s, tensors[idx[i]].b, sizeof tensors[idx[i]].b);
    }
    return state_end(&s);
}

struct digest_job {
    const ws_ckpt *c;
    size_t n_tensors, n_slices;
    size_t *first;     // (n_tensors + 1) index of each tensor's first slice
    ws_xxh128 *slices; // (n_slices)
    uint8_t *buffers;  // (threads) of CHUNK bytes
    ws_ticker ticker;
    // slice of the report in err: the lowest wins, later ones need not be read
    atomic_size_t failed_at;
    pthread_mutex_t lock;
    ws_status status;
    ws_err err;
};

static void digest_failed(struct digest_job *job, size_t slice, ws_status st,
                          const ws_err *err)
{
    pthread_mutex_lock(&job->lock);
    if (slice < atomic_load(&job->failed_at)) {
        atomic_store(&job->failed_at, slice);
        job->status = st;
        job->err = *err;
    }
    pthread_mutex_unlock(&job->lock);
}

/** Tensor that global slice @p slice belongs to. */
static size_t tensor_of(const struct digest_job *job, size_t slice)
{
    size_t lo = 0, hi = job->n_tensors;
    while (hi - lo > 1) {
        const size_t mid = lo + (hi - lo) / 2;
        if (job->first[mid] <= slice)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/** Digest one slice, chunk by chunk: a slice is one row at least, however long. */
static void digest_slice(void *arg, size_t slice, int thread)
{
    struct digest_job *job = arg;
    const size_t k = tensor_of(job, slice);
    const ws_tensor *t = ws_ckpt_tensor(job->c, k);
    uint8_t *buffer = job->buffers + (size_t)thread * CHUNK;
    uint64_t offset, left;
    XXH3_state_t s;
    ws_slice_bytes(t, slice - job->first[k], &offset, &left);
    XXH3_128bits_reset(&s);
    while (left > 0 && slice < atomic_load(&job->failed_at)) {
        const size_t n = left < CHUNK ? (size_t)left : CHUNK;
        ws_err err = WS_ERR_INIT;
        const ws_status st = ws_ckpt_read(job->c, t, offset, n, buffer, &err);
        if (st != WS_OK) {
            digest_failed(job, slice, st, &err);
            return;
        }
        XXH3_128bits_update(&s, buffer, n);
        offset += n;
        left -= n;
        if (!ws_ticker_add(&job->ticker, n)) {
            ws_fail(&err, WS_E_INTERRUPTED, "interrupted while digesting");
            digest_failed(job, 0, WS_E_INTERRUPTED, &err);
        }
    }
    job->slices[slice] = state_end(&s);
}

/** Lay out the slices of all tensors; WS_E_MEMORY. */
static ws_status digest_start(struct digest_job *job, int threads, uint64_t *bytes,
                              ws_err *err)
{
    job->n_tensors = ws_ckpt_count(job->c);
    job->first = ws_calloc(job->n_tensors + 1, sizeof *job->first);
    job->buffers = ws_alloc((size_t)threads * CHUNK);
    if (job->first == NULL || job->buffers == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to digest '%s'",
                       ws_ckpt_path(job->c));
    for (size_t k = 0; k < job->n_tensors; k++) {
        const ws_tensor *t = ws_ckpt_tensor(job->c, k);
        job->first[k] = job->n_slices;
        job->n_slices += (size_t)ws_slice_count(t->rank, t->shape);
        *bytes += t->n_bytes;
    }
    job->first[job->n_tensors] = job->n_slices;
    job->slices = ws_calloc(job->n_slices, sizeof *job->slices);
    if (job->slices == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to digest '%s'",
                       ws_ckpt_path(job->c));
    return WS_OK;
}

/** Join slices to tensors, tensors to the model; WS_E_MEMORY. */
static ws_status digest_join(const struct digest_job *job, ws_xxh128 *out, ws_err *err)
{
    const size_t n = job->n_tensors;
    const char **names = ws_calloc(n, sizeof *names);
    ws_xxh128 *tensors = ws_calloc(n, sizeof *tensors);
    size_t *idx = ws_calloc(n, sizeof *idx);
    ws_status st = WS_OK;
    if (names == NULL || tensors == NULL || idx == NULL) {
        st =
            ws_fail(err, WS_E_MEMORY, "no memory to digest '%s'", ws_ckpt_path(job->c));
    } else {
        for (size_t k = 0; k < n; k++) {
            const ws_tensor *t = ws_ckpt_tensor(job->c, k);
            names[k] = t->name;
            tensors[k] = ws_tensor_digest(t, job->slices + job->first[k],
                                          job->first[k + 1] - job->first[k]);
        }
        *out = ws_model_digest(names, tensors, n, idx);
    }
    ws_free(names);
    ws_free(tensors);
    ws_free(idx);
    return st;
}

ws_status ws_ckpt_digest(const ws_ckpt *c, const ws_ctx *ctx, ws_xxh128 *out,
                         ws_err *err)
{
    struct digest_job job = { .c = c };
    ws_pool *pool = NULL;
    uint64_t bytes = 0;
    ws_status st = ws_pool_new(&pool, ws_ctx_threads(ctx), err);
    if (st == WS_OK)
        st = digest_start(&job, ws_pool_size(pool), &bytes, err);
    if (st == WS_OK) {
        pthread_mutex_init(&job.lock, NULL);
        atomic_init(&job.failed_at, SIZE_MAX);
        ws_ticker_start(&job.ticker, ctx, "digest", bytes);
        ws_pool_for(pool, job.n_slices, digest_slice, &job);
        ws_ticker_end(&job.ticker);
        pthread_mutex_destroy(&job.lock);
        st = job.status;
        if (st != WS_OK && err != NULL)
            *err = job.err;
    }
    if (st == WS_OK)
        st = digest_join(&job, out, err);
    ws_pool_free(pool);
    ws_free(job.first);
    ws_free(job.slices);
    ws_free(job.buffers);
    return st;
}

ws_status ws_ckpt_digest_text(const ws_ckpt *c, const ws_ctx *ctx, char out[48],
                              ws_err *err)
{
    ws_xxh128 digest;
    char hex[33];
    const ws_status st = ws_ckpt_digest(c, ctx, &digest, err);
    if (st != WS_OK)
        return st;
    ws_xxh128_hex(digest, hex);
    snprintf(out, 48, "xxh3-128:%s", hex);
    return WS_OK;
}
