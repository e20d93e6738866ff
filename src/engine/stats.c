/*
 * stats.c - figures of the tensors of one model
 *
 * Deviations are summed from the first value of each slice, and slices are joined by
 * Chan's formulas, so that a mean far from zero costs no digits:
 *
 *     M2 = M2a + M2b + (mean_b - mean_a)^2 na nb / (na + nb)
 */
#include "wsurg/compare.h"

#include <math.h>
#include <string.h>

#include "engine/compare_kernel.h"
#include "engine/scan.h"
#include "wsurg/alloc.h"
#include "wsurg/digest.h"

enum { READ_BYTES = 256 << 10 };

/** One tensor's sums over its slices so far. */
struct joined {
    uint64_t n;
    double mean, m2, sq;
};

struct stats_job {
    const ws_ckpt *c;
    ws_stats *out;
    const ws_tensor **tensors; // (n_wanted) numeric ones
    size_t *index;             // (n_wanted) in out->tensors
    struct joined *joined;     // (n_wanted)
};

/** What a thread holds: bytes as read, and one tile of values. */
struct stats_buffer {
    double tile[WS_COMPARE_TILE];
    uint8_t raw[READ_BYTES];
};

static ws_status scan_slice(void *arg, size_t tensor, uint64_t slice, void *partial,
                            ws_scan_worker *w, ws_err *err)
{
    struct stats_job *job = arg;
    struct stats_buffer *buf = w->buffer;
    const ws_tensor *t = job->tensors[tensor];
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    uint64_t offset, left;
    ws_slice_bytes(t, slice, &offset, &left);
    while (left > 0) {
        const size_t len = left < READ_BYTES ? (size_t)left : READ_BYTES;
        ws_status st = ws_ckpt_read(job->c, t, offset, len, buf->raw, err);
        if (st == WS_OK)
            st = ws_scan_tick(w, len, err);
        if (st != WS_OK)
            return st;
        if (t->dtype == WS_DT_BOOL)
            ws_stats_add_bool(partial, buf->raw, len);
        for (size_t i = 0; i < len; i += WS_COMPARE_TILE * size) {
            const size_t rest = (len - i) / size;
            const size_t n = rest < WS_COMPARE_TILE ? rest : WS_COMPARE_TILE;
            ws_value_f64(t->dtype, buf->raw + i, buf->tile, n);
            ws_stats_add(partial, buf->tile, n);
        }
        offset += len;
        left -= len;
    }
    return WS_OK;
}

static void join_slice(void *arg, size_t tensor, const void *partial)
{
    struct stats_job *job = arg;
    struct joined *j = &job->joined[tensor];
    ws_tensor_stats *s = &job->out->tensors[job->index[tensor]];
    const ws_stats_sums *p = partial;
    s->zeros += p->zeros;
    s->nans += p->nans;
    s->infinities += p->infinities;
    s->not_bool += p->not_bool;
    if (p->n == 0)
        return;
    const double na = (double)j->n, nb = (double)p->n;
    const double dev = ws_compare_sum(p->dev);
    const double mean = p->shift + dev / nb;
    double m2 = ws_compare_sum(p->dev_sq) - dev * dev / nb;
    m2 = m2 > 0.0 ? m2 : 0.0;
    const double apart = j->n == 0 ? 0.0 : mean - j->mean;
    j->mean = j->n == 0 ? mean : j->mean + apart * nb / (na + nb);
    j->m2 += m2 + apart * apart * na * nb / (na + nb);
    j->sq += ws_compare_sum(p->sq);
    for (int l = 0; l < WS_COMPARE_LANES; l++) {
        if (j->n == 0 && l == 0) {
            s->min = p->min[0];
            s->max = p->max[0];
        }
        s->min = p->min[l] < s->min ? p->min[l] : s->min;
        s->max = p->max[l] > s->max ? p->max[l] : s->max;
    }
    j->n += p->n;
}

/** The list of tensors to read; their bytes into *bytes. */
static void job_fill(struct stats_job *job, size_t *n, uint64_t *bytes)
{
    ws_stats *out = job->out;
    *n = 0;
    *bytes = 0;
    for (size_t i = 0; i < out->n; i++) {
        const ws_tensor *t = ws_ckpt_tensor(job->c, i);
        ws_tensor_stats *s = &out->tensors[i];
        *s = (ws_tensor_stats){ .t = t, .numeric = ws_value_known(t->dtype) };
        s->min = s->max = s->mean = s->std = s->norm = NAN;
        if (!s->numeric)
            continue;
        job->tensors[*n] = t;
        job->index[(*n)++] = i;
        *bytes += t->n_bytes;
    }
}

static void job_finish(struct stats_job *job, size_t n)
{
    ws_stats *out = job->out;
    double sq = 0.0;
    for (size_t k = 0; k < n; k++) {
        const struct joined *j = &job->joined[k];
        ws_tensor_stats *s = &out->tensors[job->index[k]];
        if (j->n > 0) {
            s->mean = j->mean;
            s->std = sqrt(j->m2 / (double)j->n);
            s->norm = sqrt(j->sq);
        }
        sq += j->sq;
    }
    out->norm = sqrt(sq);
    for (size_t i = 0; i < out->n; i++) {
        const ws_tensor_stats *s = &out->tensors[i];
        out->elements += s->t->n_elements;
        out->zeros += s->zeros;
        out->nans += s->nans;
        out->infinities += s->infinities;
        out->not_bool += s->not_bool;
    }
}

ws_status ws_stats_new(ws_stats **out, const ws_ckpt *c, const ws_ctx *ctx, ws_err *err)
{
    const size_t count = ws_ckpt_count(c);
    size_t n = 0;
    uint64_t bytes = 0;
    struct stats_job job = { .c = c, .out = ws_calloc(1, sizeof *job.out) };
    ws_status st = WS_OK;
    job.tensors = ws_calloc(count, sizeof *job.tensors);
    job.index = ws_calloc(count, sizeof *job.index);
    job.joined = ws_calloc(count, sizeof *job.joined);
    if (job.out != NULL)
        job.out->tensors = ws_calloc(count, sizeof *job.out->tensors);
    if (job.out == NULL || job.out->tensors == NULL || job.tensors == NULL ||
        job.index == NULL || job.joined == NULL) {
        st = ws_fail(err, WS_E_MEMORY, "no memory for the figures of %zu tensors",
                     count);
    } else {
        job.out->n = count;
        job_fill(&job, &n, &bytes);
        const ws_scan scan = { .ctx = ctx,
                               .event = "read",
                               .bytes = bytes,
                               .tensors = job.tensors,
                               .n = n,
                               .partial_size = sizeof(ws_stats_sums),
                               .buffer_size = sizeof(struct stats_buffer),
                               .arg = &job,
                               .scan = scan_slice,
                               .join = join_slice };
        st = ws_scan_run(&scan, err);
    }
    if (st == WS_OK) {
        job_finish(&job, n);
        *out = job.out;
    } else {
        ws_stats_free(job.out);
    }
    ws_free(job.tensors);
    ws_free(job.index);
    ws_free(job.joined);
    return st;
}

void ws_stats_free(ws_stats *s)
{
    if (s == NULL)
        return;
    ws_free(s->tensors);
    ws_free(s);
}
