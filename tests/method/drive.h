/*
 * drive.h - runs a merge method on arrays in memory, as the engine would: slices,
 * passes, tiles
 *
 *     struct drive d = drive_new("ties", false, 2, (uint64_t[]){ 3, 4 }, 2);
 *     drive_set(&d, "density", 0.5);
 *     d.base = base, d.in[0] = a, d.in[1] = b;
 *     drive_run(&d, out);
 */
#ifndef WS_TEST_DRIVE_H
#define WS_TEST_DRIVE_H

#include "ws_test.h"
#include "wsurg/digest.h"
#include "wsurg/method.h"

#include "base/hash.h"

enum { DRIVE_PARAMS = 16, DRIVE_OPTS = 512 };

struct drive {
    const ws_method *method; // the twin that runs
    bool f64;
    const char *name; // of the tensor
    int rank;
    uint64_t shape[8], n;
    uint64_t seed;
    uint64_t slice_len; // 0: the engine's own
    size_t tile;        // elements per tile
    bool all_tiles;     // do not spare what a sampling pass ignores
    size_t n_models;
    double scale;
    double values[DRIVE_PARAMS][WS_MODELS_MAX];
    const void *base, *in[WS_MODELS_MAX]; // float, or double with f64
    // results
    ws_err err;
    int passes;
    ws_tally tally[WS_MODELS_MAX];
};

/** With the command line's defaults; a parameter without one is 1. */
static inline struct drive drive_new(const char *method, bool f64, int rank,
                                     const uint64_t *shape, size_t n_models)
{
    struct drive d = { .f64 = f64,
                       .name = "t",
                       .rank = rank,
                       .n = 1,
                       .tile = 4096,
                       .n_models = n_models,
                       .scale = 1.0,
                       .err = WS_ERR_INIT };
    d.method = ws_method_find(method);
    assert_non_null(d.method);
    if (f64)
        d.method = ws_method_f64(d.method);
    for (int i = 0; i < rank; i++) {
        d.shape[i] = shape[i];
        d.n *= shape[i];
    }
    for (int p = 0; d.method->params[p].name != NULL; p++)
        for (size_t k = 0; k < WS_MODELS_MAX; k++)
            d.values[p][k] =
                isnan(d.method->params[p].cli) ? 1.0 : d.method->params[p].cli;
    return d;
}

static inline int drive_param(const struct drive *d, const char *name)
{
    for (int p = 0; d->method->params[p].name != NULL; p++)
        if (strcmp(d->method->params[p].name, name) == 0)
            return p;
    return -1;
}

static inline void drive_set(struct drive *d, const char *name, double value)
{
    const int p = drive_param(d, name);
    assert_true(p >= 0);
    for (size_t k = 0; k < WS_MODELS_MAX; k++)
        d->values[p][k] = value;
}

static inline void drive_set_model(struct drive *d, const char *name, size_t k,
                                   double value)
{
    const int p = drive_param(d, name);
    assert_true(p >= 0);
    d->values[p][k] = value;
}

/** The options struct that the engine would build. */
static inline void drive_opts(const struct drive *d, unsigned char *opts)
{
    for (int p = 0; d->method->params[p].name != NULL; p++) {
        const ws_param *q = &d->method->params[p];
        unsigned char *at = opts + q->offset;
        const double v = d->values[p][0], *each = d->values[p];
        const int64_t integer = (int64_t)v;
        const ws_choice choice = { (int)v };
        const bool flag = v != 0.0;
        if (q->per_model)
            memcpy(at, &each, sizeof each);
        else if (q->kind == WS_PARAM_REAL)
            memcpy(at, &v, sizeof v);
        else if (q->kind == WS_PARAM_INTEGER)
            memcpy(at, &integer, sizeof integer);
        else if (q->kind == WS_PARAM_BOOLEAN)
            memcpy(at, &flag, sizeof flag);
        else
            memcpy(at, &choice, sizeof choice);
    }
}

static inline void *drive_calloc(size_t n, size_t size)
{
    void *p = calloc(n > 0 ? n : 1, size > 0 ? size : 1);
    assert_non_null(p);
    return p;
}

/** Work on one tensor. */
struct drive_run {
    const struct drive *d;
    const ws_job *job;
    size_t size; // of an element
    size_t tile, n_tmp;
    void *state, *partial, *carry, *tmp[4 * WS_MODELS_MAX];
    size_t partial_size, carry_size;
};

/** One tile of a pass (pass >= 0), or of the writing. */
static inline void drive_tile(struct drive_run *r, int pass, uint64_t slice,
                              uint64_t first, size_t n, void *out, ws_tally *tally)
{
    const size_t at = (size_t)first * r->size;
    const void *in[WS_MODELS_MAX];
    for (size_t k = 0; k < r->d->n_models; k++)
        in[k] = (const char *)r->d->in[k] + at;
    const ws_tile tile = {
        .first = first,
        .n = n,
        .slice = slice,
        .base = r->d->base != NULL ? (const char *)r->d->base + at : NULL,
        .in = in,
        .out = out != NULL ? (char *)out + at : NULL,
        .tmp = r->tmp,
        .carry = r->carry,
        .tally = tally,
    };
    if (pass >= 0)
        r->d->method->passes->scan(r->job, pass, r->state, &tile, r->partial);
    else
        r->d->method->apply(r->job, r->state, &tile);
}

/** All tiles of one slice. */
static inline void drive_slice(struct drive_run *r, int pass, uint64_t slice,
                               ws_sample sample, void *out, ws_tally *tally)
{
    const uint64_t start = slice * r->job->slice_len;
    const uint64_t end =
        start + r->job->slice_len < r->job->n ? start + r->job->slice_len : r->job->n;
    if (r->carry != NULL)
        memset(r->carry, 0, r->carry_size);
    for (uint64_t i = start, n; i < end; i += n) {
        n = end - i < r->tile ? end - i : r->tile;
        if (sample.period > 0 && !r->d->all_tiles) {
            const uint64_t at = i % sample.period;
            if (at >= sample.span) {
                n = sample.period - at;
                continue;
            }
            n = sample.span - at < n ? sample.span - at : n;
        }
        drive_tile(r, pass, slice, i, (size_t)n, out, tally);
    }
}

static inline int drive_passes(struct drive_run *r)
{
    const ws_passes *p = r->d->method->passes;
    int pass = 0;
    if (p == NULL)
        return 0;
    r->state = drive_calloc(1, p->state_size(r->job));
    r->partial_size = p->partial_size(r->job);
    r->partial = drive_calloc(1, r->partial_size);
    for (; p->begin(r->job, pass, r->state); pass++) {
        ws_sample sample = { 0, 0 };
        assert_true(pass < 64);
        if (p->sample != NULL)
            sample = p->sample(r->job, pass, r->state);
        for (uint64_t s = 0; s < r->job->n_slices; s++) {
            memset(r->partial, 0, r->partial_size);
            drive_slice(r, pass, s, sample, NULL, NULL);
            p->join(r->job, pass, r->state, r->partial, s);
        }
    }
    return pass;
}

/** What the method's unit allows of the tile and slice lengths that were asked for. */
static inline void drive_cut(struct drive_run *r, ws_job *job)
{
    const ws_unit unit =
        job->method->unit != NULL ? job->method->unit(job) : WS_UNIT_ELEMENT;
    r->tile = r->d->tile;
    if (unit == WS_UNIT_ROW) {
        const size_t row = (size_t)job->row;
        r->tile = r->tile / row > 0 ? r->tile / row * row : row;
    }
    if (unit == WS_UNIT_TENSOR) {
        job->slice_len = job->n;
        job->n_slices = 1;
        r->tile = (size_t)job->n;
    }
}

/** A job and what it points to. */
struct drive_job {
    ws_job job;
    unsigned char opts[DRIVE_OPTS];
    ws_rng_key rng[WS_MODELS_MAX];
};

static inline void drive_job(const struct drive *d, struct drive_job *out)
{
    memset(out, 0, sizeof *out);
    assert_true(d->method->opts_size <= DRIVE_OPTS);
    drive_opts(d, out->opts);
    for (size_t k = 0; k < d->n_models; k++) {
        uint64_t key[2];
        ws_rng_key_make(d->seed, d->method->name, k, d->name, key);
        out->rng[k] = (ws_rng_key){ key[0], key[1] };
    }
    out->job = (ws_job){ .method = d->method,
                         .name = d->name,
                         .rank = d->rank,
                         .shape = d->shape,
                         .n = d->n,
                         .row = 1,
                         .n_models = d->n_models,
                         .has_base = d->base != NULL,
                         .opts = out->opts,
                         .scale = d->scale,
                         .rng = out->rng };
    ws_job *job = &out->job;
    for (int i = 1; i < d->rank; i++)
        job->row *= d->shape[i];
    job->slice_len = d->slice_len > 0 ? d->slice_len : ws_slice_len(d->rank, d->shape);
    job->n_slices = d->n > 0 ? (d->n + job->slice_len - 1) / job->slice_len : 0;
}

static inline void drive_write(struct drive_run *r, struct drive *d, void *out)
{
    for (uint64_t s = r->job->n_slices; s-- > 0;) { // any order will do
        ws_tally tally[WS_MODELS_MAX] = { 0 };
        drive_slice(r, -1, s, (ws_sample){ 0, 0 }, out, tally);
        for (size_t k = 0; k < d->n_models; k++) {
            d->tally[k].kept += tally[k].kept;
            d->tally[k].dropped_small += tally[k].dropped_small;
            d->tally[k].dropped_large += tally[k].dropped_large;
            d->tally[k].dropped_random += tally[k].dropped_random;
            d->tally[k].kept_sq += tally[k].kept_sq;
        }
    }
}

/** Check, passes, then all slices. */
static inline ws_status drive_run(struct drive *d, void *out)
{
    struct drive_job work;
    struct drive_run r = { .d = d, .job = &work.job, .size = d->f64 ? 8 : 4 };

    drive_job(d, &work);
    memset(d->tally, 0, sizeof d->tally);
    d->err = (ws_err)WS_ERR_INIT;
    if (d->method->check != NULL && d->method->check(&work.job, &d->err) != WS_OK)
        return d->err.code;
    if (d->n == 0)
        return WS_OK;
    drive_cut(&r, &work.job);
    r.n_tmp = d->method->n_tmp < 0 ? (size_t)-d->method->n_tmp * d->n_models
                                   : (size_t)d->method->n_tmp;
    for (size_t i = 0; i < r.n_tmp; i++)
        r.tmp[i] = drive_calloc(r.tile, r.size);
    r.carry_size = d->method->carry_size != NULL ? d->method->carry_size(&work.job) : 0;
    r.carry = r.carry_size > 0 ? drive_calloc(1, r.carry_size) : NULL;
    d->passes = drive_passes(&r);
    drive_write(&r, d, out);
    for (size_t i = 0; i < r.n_tmp; i++)
        free(r.tmp[i]);
    free(r.carry);
    free(r.state);
    free(r.partial);
    return WS_OK;
}

#endif
