/*
 * taskvec_pair.c - the updates between a base and a model
 *
 *     update = model - base;  exact entry where round(base + update) != model, in bits
 *
 * Entries with the base's bits have an update of zero, which leaves them alone.
 */
#include "surgery/taskvec_pair.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "engine/scan.h"
#include "wsurg/digest.h"

/* ---- one block ---- */

#define DEFINE_PAIR(suffix, type)                                                      \
    WS_HOT static void subtract_##suffix(type *out, const type *a, const type *b,      \
                                         size_t n)                                     \
    {                                                                                  \
        for (size_t i = 0; i < n; i++)                                                 \
            out[i] = a[i] - b[i];                                                      \
    }                                                                                  \
    WS_HOT static void add_##suffix(type *out, const type *a, const type *b, size_t n) \
    {                                                                                  \
        for (size_t i = 0; i < n; i++)                                                 \
            out[i] = a[i] + b[i];                                                      \
    }
DEFINE_PAIR(f32, float)
DEFINE_PAIR(f64, double)

/** No update where the bits agree; the base's bits where there is no update. */
#define DEFINE_BITS(name, bits, real)                                                  \
    WS_HOT static void clear_##name(real *update, const bits *base, const bits *model, \
                                    size_t n)                                          \
    {                                                                                  \
        for (size_t i = 0; i < n; i++)                                                 \
            update[i] = base[i] == model[i] ? 0 : update[i];                           \
    }                                                                                  \
    WS_HOT static void keep_##name(bits *out, const bits *base, const real *update,    \
                                   size_t n)                                           \
    {                                                                                  \
        for (size_t i = 0; i < n; i++)                                                 \
            out[i] = update[i] == 0 ? base[i] : out[i];                                \
    }
DEFINE_BITS(u16, uint16_t, float)
DEFINE_BITS(u32, uint32_t, float)
DEFINE_BITS(u64, uint64_t, double)

static void clear_equal(void *update, const void *base, const void *model, size_t size,
                        size_t n)
{
    if (size == 2)
        clear_u16(update, base, model, n);
    else if (size == 4)
        clear_u32(update, base, model, n);
    else
        clear_u64(update, base, model, n);
}

static void keep_base(void *out, const void *base, const void *update, size_t size,
                      size_t n)
{
    if (size == 2)
        keep_u16(out, base, update, n);
    else if (size == 4)
        keep_u32(out, base, update, n);
    else
        keep_u64(out, base, update, n);
}

/** Entries whose bits the update does not give, from @p from on. */
static void note_exact(ws_tv_made *m, const void *got, const void *want, size_t size,
                       size_t from, size_t n)
{
    const char *g = got, *w = want;
    m->n_side = 0;
    if (memcmp(g, w, n * size) == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        if (memcmp(g + i * size, w + i * size, size) == 0)
            continue;
        memcpy((char *)m->bits + m->n_side * size, w + i * size, size);
        m->side[m->n_side++] = (uint32_t)(from + i);
    }
}

/** Base and model are in scratch 0 and 1 as bytes. */
static void make_update(const ws_tensor *base, const ws_tv_plan *p, size_t from,
                        size_t n, ws_tv_made *m)
{
    const size_t size = ws_dtype_info(p->t.dtype)->bits / 8;
    void *raw_base = m->scratch[0], *raw_model = m->scratch[1];
    void *x = m->scratch[2], *y = m->scratch[3];
    ws_store_tally tally = { 0 };
    if (p->wide) {
        ws_to_f64(base->dtype, raw_base, x, n);
        ws_to_f64(p->t.dtype, raw_model, y, n);
        subtract_f64(m->update, y, x, n);
    } else {
        ws_to_f32(base->dtype, raw_base, x, n);
        ws_to_f32(p->t.dtype, raw_model, y, n);
        subtract_f32((void *)m->update, y, x, n);
    }
    // a wide update of a narrow dtype comes with another dtype of the base
    if (!p->converted)
        clear_equal(m->update, raw_base, raw_model, size, n);
    if (p->wide) {
        add_f64(y, x, m->update, n);
        ws_from_f64(p->t.dtype, y, x, n, &tally);
    } else {
        add_f32(y, x, (const void *)m->update, n);
        ws_from_f32(p->t.dtype, y, x, n, &tally);
    }
    if (!p->converted)
        keep_base(x, raw_base, m->update, size, n);
    note_exact(m, x, raw_model, size, from, n);
}

ws_status ws_tv_pair_make(void *self, size_t tensor, uint64_t b, size_t from, size_t to,
                          ws_tv_made *m, ws_err *err)
{
    const ws_tv_pair *pair = self;
    const ws_tv_plan *p = &pair->plans[tensor];
    const ws_tensor *base = pair->base_of[tensor];
    const size_t size_b = ws_dtype_info(base->dtype)->bits / 8;
    const size_t size_m = ws_dtype_info(p->t.dtype)->bits / 8;
    uint64_t first;
    size_t n;
    ws_tv_block_at(&p->blocks, b, &first, &n);
    first += from;
    n = to - from;
    ws_status st =
        ws_ckpt_read(pair->base, base, first * size_b, n * size_b, m->scratch[0], err);
    if (st == WS_OK)
        st = ws_ckpt_read(pair->model, ws_ckpt_find(pair->model, p->t.name),
                          first * size_m, n * size_m, m->scratch[1], err);
    if (st == WS_OK)
        make_update(base, p, from, n, m);
    return st;
}

/* ---- matching ---- */

static bool is_float(ws_dtype dt)
{
    return dt == WS_DT_F64 || dt == WS_DT_F32 || dt == WS_DT_F16 || dt == WS_DT_BF16;
}

static bool same_shape(const ws_tensor *a, const ws_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

static ws_status match(ws_tv_pair *pair, size_t k, ws_err *err)
{
    const ws_tensor *t = ws_ckpt_tensor(pair->model, k);
    const ws_tensor *base = ws_ckpt_find(pair->base, t->name);
    ws_tv_plan *p = &pair->plans[k];
    *p = (ws_tv_plan){ .t = *t, .kind = WS_TV_KIND_WHOLE };
    p->whole_of = pair->model;
    p->whole = t;
    if (base == NULL || !same_shape(base, t))
        return WS_OK;
    if (!is_float(base->dtype) || !is_float(t->dtype)) {
        if (base->dtype == t->dtype)
            p->kind = WS_TV_KIND_SAME; // until a byte differs
        return WS_OK;
    }
    pair->base_of[k] = base;
    p->wide = base->dtype == WS_DT_F64 || t->dtype == WS_DT_F64;
    p->converted = base->dtype != t->dtype;
    return ws_tv_plan_update(p, &pair->arena, err);
}

/* ---- the scan ---- */

/** What is read together: a tensor of both, or of one of them. */
struct job {
    size_t plan; // SIZE_MAX: only digested
    const ws_tensor *base, *model;
    ws_xxh128 *base_slices, *model_slices;
    size_t done; // slices joined
};

struct partial {
    ws_xxh128 base, model;
    bool differ;
};

struct scan {
    ws_tv_pair *pair;
    struct job *jobs; // (n)
    const ws_tensor **tensors;
    size_t n;
};

/** The two running digests of a slice. */
struct hashes {
    ws_xxh_stream *base, *model;
};

static ws_status scan_update(const struct scan *s, const struct job *job,
                             uint64_t slice, struct hashes *h, ws_scan_worker *w,
                             ws_err *err)
{
    ws_tv_plan *p = &s->pair->plans[job->plan];
    ws_tv_made *m = w->buffer;
    const size_t size_b = ws_dtype_info(job->base->dtype)->bits / 8;
    const size_t size_m = ws_dtype_info(job->model->dtype)->bits / 8;
    const uint64_t begin = slice * p->blocks.per_slice;
    for (uint64_t b = begin; b < begin + p->blocks.per_slice && b < p->blocks.n_blocks;
         b++) {
        uint64_t first;
        size_t n;
        ws_tv_block_at(&p->blocks, b, &first, &n);
        ws_status st = ws_tv_pair_make(s->pair, job->plan, b, 0, n, m, err);
        if (st == WS_OK)
            st = ws_scan_tick(w, n * (size_b + size_m), err);
        if (st != WS_OK)
            return st;
        ws_xxh_stream_add(h->base, m->scratch[0], n * size_b);
        ws_xxh_stream_add(h->model, m->scratch[1], n * size_m);
        ws_tv_plan_count(p, b, m);
    }
    return WS_OK;
}

/** Digest a slice of one or both, byte for byte. */
static ws_status scan_bytes(const struct scan *s, const struct job *job, uint64_t slice,
                            struct hashes *h, bool *differ, ws_scan_worker *w,
                            ws_err *err)
{
    ws_tv_made *m = w->buffer;
    const ws_tensor *t = job->model != NULL ? job->model : job->base;
    uint64_t at, left;
    ws_slice_bytes(t, slice, &at, &left);
    while (left > 0) {
        const size_t n =
            left < sizeof m->scratch[0] ? (size_t)left : sizeof m->scratch[0];
        ws_status st = WS_OK;
        if (job->base != NULL)
            st = ws_ckpt_read(s->pair->base, job->base, at, n, m->scratch[0], err);
        if (st == WS_OK && job->model != NULL)
            st = ws_ckpt_read(s->pair->model, job->model, at, n, m->scratch[1], err);
        if (st == WS_OK)
            st = ws_scan_tick(w, n, err);
        if (st != WS_OK)
            return st;
        if (job->base != NULL)
            ws_xxh_stream_add(h->base, m->scratch[0], n);
        if (job->model != NULL)
            ws_xxh_stream_add(h->model, m->scratch[1], n);
        if (job->base != NULL && job->model != NULL &&
            memcmp(m->scratch[0], m->scratch[1], n) != 0)
            *differ = true;
        at += n;
        left -= n;
    }
    return WS_OK;
}

static ws_status scan_slice(void *arg, size_t index, uint64_t slice, void *partial,
                            ws_scan_worker *w, ws_err *err)
{
    const struct scan *s = arg;
    const struct job *job = &s->jobs[index];
    struct partial *p = partial;
    struct hashes h = { ws_xxh_stream_new(), ws_xxh_stream_new() };
    ws_status st;
    if (h.base == NULL || h.model == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for digests");
    else if (job->plan != SIZE_MAX && s->pair->base_of[job->plan] != NULL)
        st = scan_update(s, job, slice, &h, w, err);
    else
        st = scan_bytes(s, job, slice, &h, &p->differ, w, err);
    if (st == WS_OK) {
        p->base = ws_xxh_stream_end(h.base);
        p->model = ws_xxh_stream_end(h.model);
    }
    ws_xxh_stream_free(h.base);
    ws_xxh_stream_free(h.model);
    return st;
}

static void join_slice(void *arg, size_t index, const void *partial)
{
    struct scan *s = arg;
    struct job *job = &s->jobs[index];
    const struct partial *p = partial;
    if (job->base_slices != NULL)
        job->base_slices[job->done] = p->base;
    if (job->model_slices != NULL)
        job->model_slices[job->done] = p->model;
    job->done++;
    if (p->differ)
        s->pair->plans[job->plan].kind = WS_TV_KIND_WHOLE;
}

/** A job for the slices of the tensors given; either may be NULL. */
static bool job_add(struct scan *s, size_t plan, const ws_tensor *base,
                    const ws_tensor *model)
{
    const ws_tensor *t = model != NULL ? model : base;
    const size_t n = (size_t)ws_slice_count(t->rank, t->shape);
    ws_arena *arena = &s->pair->arena;
    struct job *job = &s->jobs[s->n];
    *job = (struct job){ .plan = plan, .base = base, .model = model };
    s->tensors[s->n++] = t;
    if (base != NULL)
        job->base_slices = ws_arena_calloc(arena, n + 1, sizeof *job->base_slices);
    if (model != NULL)
        job->model_slices = ws_arena_calloc(arena, n + 1, sizeof *job->model_slices);
    return (base == NULL || job->base_slices != NULL) &&
           (model == NULL || job->model_slices != NULL);
}

/** Everything in both models is read once. */
static ws_status jobs_fill(struct scan *s, uint64_t *bytes, ws_err *err)
{
    const ws_tv_pair *pair = s->pair;
    const size_t most = 2 * pair->n + ws_ckpt_count(pair->base) + 1;
    ws_arena *arena = &s->pair->arena;
    bool ok = true;
    s->jobs = ws_arena_calloc(arena, most, sizeof *s->jobs);
    s->tensors = ws_arena_calloc(arena, most, sizeof *s->tensors);
    if (s->jobs == NULL || s->tensors == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
    *bytes = 0;
    for (size_t k = 0; k < pair->n && ok; k++) {
        const ws_tensor *t = ws_ckpt_tensor(pair->model, k);
        const ws_tensor *base = ws_ckpt_find(pair->base, t->name);
        *bytes += t->n_bytes + (base != NULL ? base->n_bytes : 0);
        if (base == NULL || pair->base_of[k] != NULL ||
            pair->plans[k].kind == WS_TV_KIND_SAME)
            ok = job_add(s, k, base, t);
        else // another shape or dtype: each by itself
            ok = job_add(s, SIZE_MAX, base, NULL) && job_add(s, SIZE_MAX, NULL, t);
    }
    for (size_t i = 0; i < pair->n_removed && ok; i++) {
        const ws_tensor *t = ws_ckpt_find(pair->base, pair->removed[i]);
        *bytes += t->n_bytes;
        ok = job_add(s, SIZE_MAX, t, NULL);
    }
    return ok ? WS_OK : ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
}

/** The digest of base or model from the slices of all jobs. */
static ws_status digest_of(const struct scan *s, bool of_base, char out[48],
                           ws_err *err)
{
    ws_arena tmp = { 0 };
    const char **names = ws_arena_calloc(&tmp, s->n, sizeof *names);
    ws_xxh128 *digests = ws_arena_calloc(&tmp, s->n, sizeof *digests);
    size_t *idx = ws_arena_calloc(&tmp, s->n, sizeof *idx), n = 0;
    ws_status st = WS_OK;
    if (names == NULL || digests == NULL || idx == NULL) {
        st = ws_fail(err, WS_E_MEMORY, "no memory for digests");
    } else {
        for (size_t i = 0; i < s->n; i++) {
            const struct job *job = &s->jobs[i];
            const ws_tensor *t = of_base ? job->base : job->model;
            if (t == NULL)
                continue;
            names[n] = t->name;
            digests[n++] = ws_tensor_digest(
                t, of_base ? job->base_slices : job->model_slices, job->done);
        }
        char hex[33];
        ws_xxh128_hex(ws_model_digest(names, digests, n, idx), hex);
        snprintf(out, 48, "xxh3-128:%s", hex);
    }
    ws_arena_free(&tmp);
    return st;
}

ws_status ws_tv_pair_scan(ws_tv_pair *pair, const ws_ckpt *base, const ws_ckpt *model,
                          const ws_ctx *ctx, ws_err *err)
{
    pair->base = base;
    pair->model = model;
    pair->n = ws_ckpt_count(model);
    pair->plans = ws_arena_calloc(&pair->arena, pair->n + 1, sizeof *pair->plans);
    pair->base_of = ws_arena_calloc(&pair->arena, pair->n + 1, sizeof *pair->base_of);
    pair->removed =
        ws_arena_calloc(&pair->arena, ws_ckpt_count(base) + 1, sizeof *pair->removed);
    if (pair->plans == NULL || pair->base_of == NULL || pair->removed == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
    ws_status st = WS_OK;
    for (size_t k = 0; k < pair->n && st == WS_OK; k++)
        st = match(pair, k, err);
    for (size_t i = 0; i < ws_ckpt_count(base); i++)
        if (ws_ckpt_find(model, ws_ckpt_tensor(base, i)->name) == NULL)
            pair->removed[pair->n_removed++] = ws_ckpt_tensor(base, i)->name;
    struct scan s = { .pair = pair };
    uint64_t bytes = 0;
    if (st == WS_OK)
        st = jobs_fill(&s, &bytes, err);
    const ws_scan scan = { .ctx = ctx,
                           .event = "read",
                           .bytes = bytes,
                           .tensors = s.tensors,
                           .n = s.n,
                           .partial_size = sizeof(struct partial),
                           .buffer_size = sizeof(ws_tv_made),
                           .arg = &s,
                           .scan = scan_slice,
                           .join = join_slice };
    if (st == WS_OK)
        st = ws_scan_run(&scan, err);
    if (st == WS_OK)
        st = digest_of(&s, true, pair->base_digest, err);
    if (st == WS_OK)
        st = digest_of(&s, false, pair->model_digest, err);
    return st;
}

void ws_tv_pair_free(ws_tv_pair *pair)
{
    ws_arena_free(&pair->arena);
}
