/*
 * compare.c - differences between two models
 */
#include "wsurg/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/compare_kernel.h"
#include "engine/scan.h"
#include "wsurg/alloc.h"
#include "wsurg/digest.h"

enum { READ_BYTES = 256 << 10 };

struct diff_job {
    const ws_ckpt *a, *b;
    double tolerance;
    ws_diff *out;
    const ws_tensor **tensors; // (n_read) a's, of the pairs to be read
    size_t *index;             // (n_read) in out->tensors
};

struct diff_buffer {
    double a[WS_COMPARE_TILE], b[WS_COMPARE_TILE];
    uint8_t raw_a[READ_BYTES], raw_b[READ_BYTES];
};

static bool shapes_equal(const ws_tensor *a, const ws_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

static bool arithmetic(const ws_tensor *t)
{
    return ws_dtype_info(t->dtype)->arithmetic;
}

/** Whether values are compared; otherwise bytes are, where the dtypes agree. */
static bool has_values(const ws_tensor_diff *d)
{
    return arithmetic(d->a) && arithmetic(d->b);
}

/* ---- one slice ---- */

/** Elements n at raw_a and raw_b, as values. */
static void add_values(struct diff_buffer *buf, const ws_tensor_diff *d, size_t n,
                       double tolerance, ws_diff_sums *sums)
{
    const size_t size_a = ws_dtype_info(d->a->dtype)->bits / 8;
    const size_t size_b = ws_dtype_info(d->b->dtype)->bits / 8;
    const bool one_dtype = d->a->dtype == d->b->dtype;
    for (size_t i = 0; i < n; i += WS_COMPARE_TILE) {
        const size_t k = n - i < WS_COMPARE_TILE ? n - i : WS_COMPARE_TILE;
        const uint8_t *a = buf->raw_a + i * size_a, *b = buf->raw_b + i * size_b;
        ws_to_f64(d->a->dtype, a, buf->a, k);
        if (one_dtype && memcmp(a, b, k * size_a) == 0) {
            ws_diff_add_same(sums, buf->a, k);
            continue;
        }
        sums->bytes_differ |= one_dtype;
        ws_to_f64(d->b->dtype, b, buf->b, k);
        ws_diff_add(sums, buf->a, buf->b, k, tolerance);
    }
}

static void add_bytes(const struct diff_buffer *buf, size_t len, size_t size,
                      ws_diff_sums *sums)
{
    if (memcmp(buf->raw_a, buf->raw_b, len) == 0)
        return;
    const uint64_t n = ws_count_unequal(buf->raw_a, buf->raw_b, len / size, size);
    sums->bytes_differ = true;
    sums->changed += n;
    sums->beyond += n;
}

static ws_status scan_slice(void *arg, size_t pair, uint64_t slice, void *partial,
                            ws_scan_worker *w, ws_err *err)
{
    const struct diff_job *job = arg;
    const ws_tensor_diff *d = &job->out->tensors[job->index[pair]];
    struct diff_buffer *buf = w->buffer;
    uint64_t at, left; // bytes of a; elements of less than a byte go by bytes
    ws_slice_bytes(d->a, slice, &at, &left);
    const unsigned bits_a = ws_dtype_info(d->a->dtype)->bits;
    const unsigned bits_b = ws_dtype_info(d->b->dtype)->bits;
    const size_t size_a = bits_a < 8 ? 1 : bits_a / 8;
    const size_t size_b = bits_b < 8 ? 1 : bits_b / 8;
    const size_t most = READ_BYTES / (size_a > size_b ? size_a : size_b);
    while (left > 0) {
        const size_t n = left / size_a < most ? (size_t)(left / size_a) : most;
        ws_status st = ws_ckpt_read(job->a, d->a, at, n * size_a, buf->raw_a, err);
        if (st == WS_OK)
            st = ws_ckpt_read(job->b, d->b, at / size_a * size_b, n * size_b,
                              buf->raw_b, err);
        if (st == WS_OK)
            st = ws_scan_tick(w, n * (size_a + size_b), err);
        if (st != WS_OK)
            return st;
        if (has_values(d))
            add_values(buf, d, n, job->tolerance, partial);
        else
            add_bytes(buf, n * size_a, size_a, partial);
        at += n * size_a;
        left -= n * size_a;
    }
    return WS_OK;
}

static void join_slice(void *arg, size_t pair, const void *partial)
{
    struct diff_job *job = arg;
    ws_tensor_diff *d = &job->out->tensors[job->index[pair]];
    const ws_diff_sums *p = partial;
    d->changed += p->changed;
    d->beyond += p->beyond;
    d->not_finite += p->not_finite;
    d->broken += p->broken;
    if (p->bytes_differ && d->state == WS_DIFF_EQUAL)
        d->state = WS_DIFF_CHANGED;
    if (!has_values(d))
        return;
    d->diff_sq += ws_compare_sum(p->diff_sq);
    d->a_sq += ws_compare_sum(p->a_sq);
    d->b_sq += ws_compare_sum(p->b_sq);
    d->dot += ws_compare_sum(p->dot);
    for (int l = 0; l < WS_COMPARE_LANES; l++)
        d->max_abs = p->max_abs[l] > d->max_abs ? p->max_abs[l] : d->max_abs;
}

/* ---- what to compare ---- */

static ws_diff_state state_from_headers(const ws_tensor *a, const ws_tensor *b)
{
    if (a == NULL || b == NULL)
        return a == NULL ? WS_DIFF_ONLY_B : WS_DIFF_ONLY_A;
    if (!shapes_equal(a, b))
        return WS_DIFF_SHAPE;
    return a->dtype == b->dtype ? WS_DIFF_EQUAL : WS_DIFF_DTYPE;
}

static void pair_add(struct diff_job *job, const ws_tensor *a, const ws_tensor *b,
                     const ws_diff_opts *o, size_t *n_read, uint64_t *bytes)
{
    ws_tensor_diff *d = &job->out->tensors[job->out->n];
    const ws_tensor *named = a != NULL ? a : b;
    *d = (ws_tensor_diff){ .name = named->name, .a = a, .b = b };
    d->relative_norm = d->cosine = d->max_abs = NAN;
    d->diff_sq = d->a_sq = d->b_sq = d->dot = NAN;
    d->state = state_from_headers(a, b);
    const bool wanted = o->wanted == NULL || o->wanted(o->arg, named->name);
    const bool comparable =
        d->state == WS_DIFF_EQUAL || (d->state == WS_DIFF_DTYPE && has_values(d));
    if (wanted && comparable) {
        d->elements = a->n_elements;
        if (has_values(d))
            d->max_abs = d->diff_sq = d->a_sq = d->b_sq = d->dot = 0.0;
        job->tensors[*n_read] = a;
        job->index[(*n_read)++] = job->out->n;
        *bytes += a->n_bytes + b->n_bytes;
    }
    job->out->n++;
}

static void job_fill(struct diff_job *job, const ws_diff_opts *o, size_t *n_read,
                     uint64_t *bytes)
{
    for (size_t i = 0; i < ws_ckpt_count(job->a); i++) {
        const ws_tensor *a = ws_ckpt_tensor(job->a, i);
        pair_add(job, a, ws_ckpt_find(job->b, a->name), o, n_read, bytes);
    }
    for (size_t i = 0; i < ws_ckpt_count(job->b); i++) {
        const ws_tensor *b = ws_ckpt_tensor(job->b, i);
        if (ws_ckpt_find(job->a, b->name) == NULL)
            pair_add(job, NULL, b, o, n_read, bytes);
    }
}

/* ---- figures from sums ---- */

static double relative(double diff_sq, double a_sq)
{
    if (diff_sq == 0.0)
        return 0.0;
    return sqrt(diff_sq) / sqrt(a_sq); // infinite for a zero a
}

static double cosine_of(double diff_sq, double a_sq, double b_sq, double dot)
{
    if (diff_sq == 0.0)
        return 1.0;                                   // not 1 - 1e-16
    const double c = dot / (sqrt(a_sq) * sqrt(b_sq)); // 0/0 for one zero side
    return c > 1.0 ? 1.0 : c < -1.0 ? -1.0 : c;
}

static void tensor_finish(ws_tensor_diff *d, double tolerance)
{
    if (d->state == WS_DIFF_CHANGED && tolerance > 0.0 && d->beyond == 0)
        d->state = WS_DIFF_CLOSE;
    if (isnan(d->diff_sq))
        return;
    d->relative_norm = relative(d->diff_sq, d->a_sq);
    d->cosine = cosine_of(d->diff_sq, d->a_sq, d->b_sq, d->dot);
}

static void count_state(ws_diff *out, ws_diff_state state)
{
    switch (state) {
    case WS_DIFF_EQUAL:
        out->n_equal++;
        break;
    case WS_DIFF_CLOSE:
        out->n_close++;
        break;
    case WS_DIFF_CHANGED:
        out->n_changed++;
        break;
    case WS_DIFF_DTYPE:
    case WS_DIFF_SHAPE:
        out->n_mismatched++;
        break;
    case WS_DIFF_ONLY_A:
        out->n_only_a++;
        break;
    case WS_DIFF_ONLY_B:
        out->n_only_b++;
        break;
    }
}

static void job_finish(struct diff_job *job)
{
    ws_diff *out = job->out;
    uint64_t changed = 0, elements = 0;
    double diff_sq = 0.0, a_sq = 0.0, b_sq = 0.0, dot = 0.0;
    bool figures = false;
    out->max_abs = NAN;
    for (size_t i = 0; i < out->n; i++) {
        ws_tensor_diff *d = &out->tensors[i];
        tensor_finish(d, job->tolerance);
        count_state(out, d->state);
        changed += d->changed;
        elements += d->elements;
        if (isnan(d->max_abs))
            continue;
        figures = true;
        diff_sq += d->diff_sq;
        a_sq += d->a_sq;
        b_sq += d->b_sq;
        dot += d->dot;
        out->max_abs = d->max_abs > out->max_abs || isnan(out->max_abs) ? d->max_abs
                                                                        : out->max_abs;
    }
    out->equal = out->n_equal + out->n_close == out->n;
    out->changed_share = elements > 0 ? (double)changed / (double)elements : 0.0;
    out->relative_norm = figures ? relative(diff_sq, a_sq) : NAN;
    out->cosine = figures ? cosine_of(diff_sq, a_sq, b_sq, dot) : NAN;
}

ws_status ws_diff_new(ws_diff **out, const ws_ckpt *a, const ws_ckpt *b,
                      const ws_diff_opts *o, const ws_ctx *ctx, ws_err *err)
{
    static const ws_diff_opts defaults = WS_DIFF_OPTS_INIT;
    const size_t count = ws_ckpt_count(a) + ws_ckpt_count(b);
    size_t n = 0;
    uint64_t bytes = 0;
    struct diff_job job = { .a = a, .b = b, .out = ws_calloc(1, sizeof *job.out) };
    ws_status st = WS_OK;
    o = o != NULL ? o : &defaults;
    job.tolerance = o->tolerance;
    job.tensors = ws_calloc(count, sizeof *job.tensors);
    job.index = ws_calloc(count, sizeof *job.index);
    if (job.out != NULL)
        job.out->tensors = ws_calloc(count, sizeof *job.out->tensors);
    if (job.out == NULL || job.out->tensors == NULL || job.tensors == NULL ||
        job.index == NULL) {
        st = ws_fail(err, WS_E_MEMORY, "no memory to compare %zu tensors", count);
    } else {
        job_fill(&job, o, &n, &bytes);
        const ws_scan scan = { .ctx = ctx,
                               .event = "compare",
                               .bytes = bytes,
                               .tensors = job.tensors,
                               .n = n,
                               .partial_size = sizeof(ws_diff_sums),
                               .buffer_size = sizeof(struct diff_buffer),
                               .arg = &job,
                               .scan = scan_slice,
                               .join = join_slice };
        st = ws_scan_run(&scan, err);
    }
    if (st == WS_OK) {
        job_finish(&job);
        *out = job.out;
    } else {
        ws_diff_free(job.out);
    }
    ws_free(job.tensors);
    ws_free(job.index);
    return st;
}

void ws_diff_free(ws_diff *d)
{
    if (d == NULL)
        return;
    ws_free(d->tensors);
    ws_free(d);
}

const char *ws_diff_state_word(ws_diff_state state)
{
    static const char *const words[] = { "equal", "close",  "changed", "dtype",
                                         "shape", "only-a", "only-b" };
    return words[state];
}

/* ---- worst ---- */

/** Whether x is worse than y; ties keep their order. */
static bool worse(const ws_tensor_diff *x, const ws_tensor_diff *y)
{
    const bool no_x = x->state >= WS_DIFF_DTYPE, no_y = y->state >= WS_DIFF_DTYPE;
    if (no_x != no_y)
        return no_x;
    if (no_x || (x->broken > 0) != (y->broken > 0))
        return x->broken > y->broken;
    const double rx = isnan(x->relative_norm) ? HUGE_VAL : x->relative_norm;
    const double ry = isnan(y->relative_norm) ? HUGE_VAL : y->relative_norm;
    return rx > ry;
}

size_t ws_diff_worst(const ws_diff *d, size_t *index, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++) {
        if (d->tensors[i].state == WS_DIFF_EQUAL)
            continue;
        size_t at = n;
        while (at > 0 && worse(&d->tensors[i], &d->tensors[index[at - 1]]))
            at--;
        if (at == cap)
            continue;
        n += n < cap;
        for (size_t k = n - 1; k > at; k--)
            index[k] = index[k - 1];
        index[at] = i;
    }
    return n;
}
