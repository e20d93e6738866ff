/*
 * exec.c - the executor: hands slices to threads in file order, joins them in slice
 * order
 *
 *     tensor:  pass 0 -> pass 1 -> ... -> apply        each phase: all slices
 *     slice:   scan (or apply) on any thread -> joined when all before it are
 *
 * A slice's partial lies in a ring slot until it is joined; no slice is handed out
 * whose slot is still taken, so memory is bounded and no thread runs far ahead.
 */
#include "engine/exec.h"

#include <pthread.h>
#include <string.h>

#include "base/os.h"
#include "engine/sums.h"
#include "engine/tile.h"
#include "wsurg/alloc.h"

enum {
    APPLY = -1,       /**< phase after the passes */
    RECORD_SLICE = 1, /**< journal: a = tensor, b = slice */
    SLOTS_PER_THREAD = 2,
};

/** One tensor in work. */
struct work {
    bool used;
    size_t index; // of the plan's tensor
    const ws_plan_tensor *pt;
    const ws_method *method;
    void *state;
    uint32_t *blocks; // (n_keep) of the keep: for the sources of the first slices
    uint64_t n_keep;
    bool filled;    // a pass over all elements has brought them there
    size_t partial; // bytes of a slot
    unsigned char *slots;
    bool *done;     // (n_slots)
    double **kept;  // (n_slices) sums of slices written before; NULL: none
    int phase;      // pass number or APPLY
    bool whole;     // the method wants the tensor in one tile: one unit, all slices
    uint64_t units; // slices, or 1
    uint64_t next, joined;
    bool joining;
    bool copies_equal;     // if all sources are equal, the first is copied
    atomic_bool different; // pass 0 found sources that differ
};

struct ws_exec {
    const ws_plan *plan;
    ws_exec_mode mode;
    ws_pool *pool;
    ws_stage *stage;
    const int *ids;
    size_t first, end, next; // tensors of this run; next to open
    size_t n_slots, n_sums;
    bool hash;
    ws_tensor_result *results; // (plan->n_tensors), those of the run filled
    ws_xxh128 **in_slices;     // (n_tensors) (n_inputs, n_slices)
    double ***kept;            // (n_tensors) (n_slices) sums that the journal holds
    ws_arena arena;
    struct work *works; // (window)
    int window;
    unsigned char *keep;  // keep_bytes, in blocks
    uint32_t *free_block; // (n_free) blocks that no tensor in work has
    size_t n_free;
    size_t turn;             // index of the oldest tensor in work
    ws_scratch *scratch;     // (threads)
    pthread_mutex_t writing; // of the output: a file takes one write at a time
    pthread_mutex_t lock;
    pthread_cond_t change;
    uint64_t version; // counts changes: settle() lets the lock go while one looks
    ws_err err;
    bool failed;
    atomic_uint_least64_t read_bytes, written_bytes, progress_bytes, peak;
    uint64_t total_bytes;
    double start, last_report;
};

/* ---- set-up ---- */

static size_t carry_bytes(const ws_plan *plan)
{
    size_t most = 0;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const ws_plan_tensor *pt = &plan->tensors[i];
        const ws_method *m = pt->job.method;
        if (pt->action != WS_ACT_MERGE || m->carry_size == NULL)
            continue;
        const size_t n = m->carry_size(&pt->job);
        most = n > most ? n : most;
    }
    return most;
}

uint64_t ws_exec_thread_bytes(const ws_plan *plan, size_t tile)
{
    uint64_t most = 0;
    for (size_t i = plan->priv->first_tensor; i < plan->priv->end_tensor; i++) {
        ws_tile_layout l;
        if (!ws_tile_layout_make(plan, &plan->tensors[i], tile, &l))
            return UINT64_MAX / 128;
        most = l.total > most ? l.total : most;
    }
    // hash states, lanes and carry
    return most + (plan->n_inputs + 1) * 1024 +
           ws_sums_count(plan->n_models) * sizeof(ws_lanes) + carry_bytes(plan);
}

/** Whether passes run over the tensor: kernels never see one without elements. */
static bool has_passes(const ws_plan_tensor *pt, const ws_method *m)
{
    return pt->action == WS_ACT_MERGE && m->passes != NULL && pt->job.n > 0;
}

/** Whether what a pass has read is read again. */
static bool keeps(const ws_plan_tensor *pt, const ws_method *m)
{
    return has_passes(pt, m) &&
           (m->unit == NULL || m->unit(&pt->job) != WS_UNIT_TENSOR);
}

/** Bytes of a slot: a pass's partial or an applied slice's sums. */
static size_t slot_bytes(const ws_plan *plan, const ws_plan_tensor *pt)
{
    const ws_method *m = pt->job.method;
    size_t n = ws_sums_count(plan->n_models) * sizeof(double);
    if (has_passes(pt, m)) {
        const size_t p = m->passes->partial_size(&pt->job);
        n = p > n ? p : n;
    }
    return (n + 63) & ~(size_t)63;
}

static size_t state_bytes(const ws_plan_tensor *pt)
{
    const ws_method *m = pt->job.method;
    if (!has_passes(pt, m))
        return 0;
    return m->passes->state_size(&pt->job);
}

uint64_t ws_exec_keep_bytes(const ws_plan *plan, uint64_t *slice)
{
    uint64_t most = 0;
    *slice = 0;
    for (size_t i = plan->priv->first_tensor; i < plan->priv->end_tensor; i++) {
        const ws_plan_tensor *pt = &plan->tensors[i];
        const ws_method *m = pt->job.method;
        if (!keeps(pt, m))
            continue;
        const uint64_t one = ws_tile_slice_bytes(pt), n = pt->job.n_slices * one;
        *slice = one > *slice ? one : *slice;
        most = n > most ? n : most;
    }
    return most;
}

uint64_t ws_exec_tensor_bytes(const ws_plan *plan, int threads)
{
    uint64_t most = 0;
    for (size_t i = plan->priv->first_tensor; i < plan->priv->end_tensor; i++) {
        const ws_plan_tensor *pt = &plan->tensors[i];
        const uint64_t n =
            state_bytes(pt) +
            slot_bytes(plan, pt) * (uint64_t)(threads * SLOTS_PER_THREAD) +
            pt->job.n_slices * (plan->n_inputs + 2) * sizeof(ws_xxh128);
        most = n > most ? n : most;
    }
    return most;
}

/** Memory for sources that are kept. */
static bool make_keep(ws_exec *x)
{
    const ws_exec_config *c = &x->plan->priv->exec;
    const size_t n = c->keep_bytes == 0 ? 0 : c->keep_bytes / c->block_bytes;
    x->keep = ws_alloc(c->keep_bytes + 1);
    x->free_block = ws_calloc(n + 1, sizeof *x->free_block);
    if (x->keep == NULL || x->free_block == NULL)
        return false;
    for (; x->n_free < n; x->n_free++)
        x->free_block[x->n_free] = (uint32_t)x->n_free;
    return true;
}

/** Digest arrays and sums of every tensor of the run. */
static bool make_results(ws_exec *x)
{
    const ws_plan *plan = x->plan;
    x->results = ws_arena_calloc(&x->arena, plan->n_tensors, sizeof *x->results);
    x->in_slices = ws_arena_calloc(&x->arena, plan->n_tensors, sizeof *x->in_slices);
    x->kept = ws_arena_calloc(&x->arena, plan->n_tensors, sizeof *x->kept);
    if (x->results == NULL || x->in_slices == NULL || x->kept == NULL)
        return false;
    for (size_t i = x->first; i < x->end; i++) {
        ws_tensor_result *r = &x->results[i];
        const uint64_t n = plan->tensors[i].job.n_slices;
        r->sums = ws_arena_calloc(&x->arena, x->n_sums, sizeof *r->sums);
        r->in = ws_arena_calloc(&x->arena, plan->n_inputs, sizeof *r->in);
        r->slices = ws_arena_calloc(&x->arena, n, sizeof *r->slices);
        x->in_slices[i] =
            ws_arena_calloc(&x->arena, n * plan->n_inputs, sizeof **x->in_slices);
        if (r->sums == NULL || r->in == NULL || r->slices == NULL ||
            x->in_slices[i] == NULL)
            return false;
        for (size_t k = 0; k < plan->n_inputs; k++)
            x->total_bytes += plan->tensors[i].t.n_bytes;
    }
    return true;
}

/** A block for each thread, as large as the tensors of this run want. */
static ws_status make_scratch(ws_exec *x, ws_err *err)
{
    const ws_plan *plan = x->plan;
    const size_t carry = carry_bytes(plan);
    size_t block = 64;
    for (size_t i = x->first; i < x->end; i++) {
        ws_tile_layout l;
        if (ws_tile_layout_make(plan, &plan->tensors[i], plan->priv->exec.tile, &l) &&
            l.total > block)
            block = l.total;
    }
    ws_status st = WS_OK;
    for (int t = 0; st == WS_OK && t < ws_pool_size(x->pool); t++)
        st = ws_scratch_init(&x->scratch[t], plan, block, carry, err);
    return st;
}

ws_status ws_exec_new(ws_exec **out, const ws_plan *plan, ws_pool *pool,
                      ws_stage *stage, const int *ids, size_t first, size_t n,
                      ws_err *err)
{
    ws_exec *x = ws_calloc(1, sizeof *x);
    if (x == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the executor");
    const int threads = ws_pool_size(pool);
    x->plan = plan;
    x->mode = stage == NULL ? WS_EXEC_NORMS : WS_EXEC_WRITE;
    x->pool = pool;
    x->stage = stage;
    x->ids = ids;
    x->first = x->next = first;
    x->end = first + n;
    x->n_slots = (size_t)threads * SLOTS_PER_THREAD;
    x->n_sums = ws_sums_count(plan->n_models);
    x->hash = stage != NULL;
    x->window = plan->priv->exec.window;
    pthread_mutex_init(&x->writing, NULL);
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->change, NULL);
    x->works = ws_calloc((size_t)x->window, sizeof *x->works);
    x->scratch = ws_calloc((size_t)threads, sizeof *x->scratch);
    ws_status st = WS_OK;
    if (x->works == NULL || x->scratch == NULL || !make_keep(x) || !make_results(x))
        st = ws_fail(err, WS_E_MEMORY, "no memory for the executor");
    if (st == WS_OK)
        st = make_scratch(x, err);
    if (st != WS_OK) {
        ws_exec_free(x);
        return st;
    }
    *out = x;
    return WS_OK;
}

static void work_close(ws_exec *x, struct work *w)
{
    for (uint64_t i = 0; i < w->n_keep; i++)
        x->free_block[x->n_free++] = w->blocks[i];
    ws_free(w->blocks);
    ws_free(w->state);
    ws_free(w->slots);
    ws_free(w->done);
    *w = (struct work){ 0 };
}

void ws_exec_free(ws_exec *x)
{
    if (x == NULL)
        return;
    for (int i = 0; x->works != NULL && i < x->window; i++)
        work_close(x, &x->works[i]);
    for (int t = 0; x->scratch != NULL && t < ws_pool_size(x->pool); t++)
        ws_scratch_free(&x->scratch[t], x->plan);
    ws_free(x->works);
    ws_free(x->keep);
    ws_free(x->free_block);
    ws_free(x->scratch);
    ws_arena_free(&x->arena);
    pthread_cond_destroy(&x->change);
    pthread_mutex_destroy(&x->lock);
    pthread_mutex_destroy(&x->writing);
    ws_free(x);
}

/* ---- journal ---- */

/** Digest of a slice of one source of a tensor. */
static ws_xxh128 *in_slice(const ws_exec *x, size_t tensor, size_t input,
                           uint64_t slice)
{
    return &x->in_slices[tensor][input * x->plan->tensors[tensor].job.n_slices + slice];
}

/** Payload of a slice's record: output digest, input digests, sums. */
static size_t record_bytes(const ws_exec *x)
{
    return (1 + x->plan->n_inputs) * sizeof(ws_xxh128) + x->n_sums * sizeof(double);
}

static ws_status record_slice(ws_exec *x, const struct work *w, uint64_t slice,
                              const double *sums, ws_err *err)
{
    const ws_tensor_result *r = &x->results[w->index];
    const size_t n_in = x->plan->n_inputs;
    unsigned char payload[(1 + 65) * sizeof(ws_xxh128) + 1024 * sizeof(double)];
    const size_t n = record_bytes(x);
    if (n > sizeof payload)
        return ws_fail(err, WS_E_INTERNAL, "journal record of %zu bytes", n);
    memcpy(payload, &r->slices[slice], sizeof(ws_xxh128));
    for (size_t k = 0; k < n_in; k++)
        memcpy(payload + (1 + k) * sizeof(ws_xxh128), in_slice(x, w->index, k, slice),
               sizeof(ws_xxh128));
    memcpy(payload + (1 + n_in) * sizeof(ws_xxh128), sums, x->n_sums * sizeof *sums);
    return ws_stage_record(x->stage, RECORD_SLICE, w->index, slice, payload, n, err);
}

/** Take one record over: the slice counts as written. */
static ws_status replay(void *arg, uint32_t type, uint64_t a, uint64_t b,
                        const void *payload, size_t n, ws_err *err)
{
    ws_exec *x = arg;
    if (type != RECORD_SLICE)
        return WS_OK;
    if (a < x->first || a >= x->end || b >= x->plan->tensors[a].job.n_slices ||
        n != record_bytes(x))
        return ws_fail(err, WS_E_INTERNAL, "journal record of an unknown slice");
    const uint64_t n_slices = x->plan->tensors[a].job.n_slices;
    const size_t n_in = x->plan->n_inputs, n_digests = (1 + n_in) * sizeof(ws_xxh128);
    if (x->kept[a] == NULL)
        x->kept[a] = ws_arena_calloc(&x->arena, n_slices, sizeof **x->kept);
    double *sums = ws_arena_calloc(&x->arena, x->n_sums, sizeof *sums);
    if (x->kept[a] == NULL || sums == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the journal");
    const unsigned char *p = payload;
    memcpy(&x->results[a].slices[b], p, sizeof(ws_xxh128));
    for (size_t k = 0; k < n_in; k++)
        memcpy(in_slice(x, a, k, b), p + (1 + k) * sizeof(ws_xxh128),
               sizeof(ws_xxh128));
    memcpy(sums, p + n_digests, x->n_sums * sizeof *sums);
    x->kept[a][b] = sums;
    return WS_OK;
}

ws_status ws_exec_resume(ws_exec *x, ws_err *err)
{
    return ws_stage_replay(x->stage, replay, x, err);
}

/* ---- one slice ---- */

/** A slice in a thread's hands. */
struct unit {
    struct work *w;
    uint64_t slice;
    int phase;
};

static uint64_t slice_first(const struct unit *u)
{
    return u->slice * u->w->pt->job.slice_len;
}

static uint64_t slice_end(const struct unit *u)
{
    const ws_job *job = &u->w->pt->job;
    if (u->w->whole)
        return job->n;
    const uint64_t end = slice_first(u) + job->slice_len;
    return end < job->n ? end : job->n;
}

static unsigned char *slot_of(const ws_exec *x, const struct unit *u)
{
    return u->w->slots + u->slice % x->n_slots * u->w->partial;
}

/** Where the sources of a unit are kept; NULL where there is no room. */
static unsigned char *keep_of(const ws_exec *x, const struct unit *u)
{
    if (u->slice >= u->w->n_keep)
        return NULL;
    return x->keep + u->w->blocks[u->slice] * x->plan->priv->exec.block_bytes;
}

/** What the pass under way looks at. */
static ws_sample sample_of(const struct work *w)
{
    const ws_passes *passes = w->method->passes;
    return passes->sample == NULL ? (ws_sample){ 0, 0 }
                                  : passes->sample(&w->pt->job, w->phase, w->state);
}

static ws_tile_job tile_job(ws_exec *x, const struct unit *u)
{
    ws_tile_job j = {
        .plan = x->plan,
        .pt = u->w->pt,
        .method = u->w->method,
        .state = u->w->state,
        .slice = u->slice,
        .scanning = u->phase != APPLY,
        .hash_inputs = x->hash && u->phase == APPLY && x->plan->priv->hash_inputs,
        .read_bytes = &x->read_bytes,
        .whole_digests = u->w->whole ? x->in_slices[u->w->index] : NULL,
        .keep = keep_of(x, u),
        .kept = u->w->filled,
    };
    ws_tile_layout_make(x->plan, u->w->pt, x->plan->priv->exec.tile, &j.layout);
    return j;
}

/** A pass over one slice, into its slot. */
static ws_status scan_slice(ws_exec *x, const struct unit *u, ws_scratch *s,
                            ws_err *err)
{
    ws_tile_job j = tile_job(x, u);
    unsigned char *partial = slot_of(x, u);
    memset(partial, 0, u->w->partial);
    memset(s->carry, 0, s->carry_size);
    const ws_sample sample = sample_of(u->w);
    if (sample.period != 0)
        j.keep = NULL;
    const bool look = u->w->copies_equal && u->phase == 0;
    bool different = false;
    uint64_t first = slice_first(u), n = j.layout.chunk;
    while (ws_tile_next_run(sample, &first, &n, slice_end(u))) {
        const ws_status st = ws_tile_scan(&j, s, u->phase, first, (size_t)n, partial,
                                          look ? &different : NULL, err);
        if (st != WS_OK)
            return st;
        first += n;
        n = j.layout.chunk;
    }
    if (different)
        atomic_store_explicit(&u->w->different, true, memory_order_relaxed);
    return WS_OK;
}

/** Fold a thread's sums of a slice into its slot; digests into the tensor's arrays. */
static void close_slice(ws_exec *x, const struct unit *u, ws_scratch *s, double *sums)
{
    const ws_plan_tensor *pt = u->w->pt;
    for (size_t i = 0; i < x->n_sums; i++)
        if (s->lanes[i].count > 0)
            sums[i] = ws_lanes_sum(&s->lanes[i]);
    for (size_t k = 0; k < pt->job.n_models; k++) {
        const ws_tally *t = &s->tally[k];
        double *m = sums + WS_SUM_FIXED + (size_t)WS_SUMS_PER_MODEL * pt->model_of[k];
        m[0] = (double)t->kept;
        m[1] = (double)t->dropped_small;
        m[2] = (double)t->dropped_large;
        m[3] = (double)t->dropped_random;
        m[4] = t->kept_sq;
    }
    if (!x->hash || u->w->whole)
        return;
    const size_t n_in = x->plan->n_inputs;
    x->results[u->w->index].slices[u->slice] = ws_xxh_stream_end(s->hash[n_in]);
    for (size_t k = 0; k < n_in && x->plan->priv->hash_inputs; k++)
        *in_slice(x, u->w->index, k, u->slice) = ws_xxh_stream_end(s->hash[k]);
}

/** Journal a unit: its slice, or all slices with the sums at the first. */
static ws_status record_unit(ws_exec *x, const struct unit *u, double *sums,
                             ws_err *err)
{
    if (!u->w->whole)
        return record_slice(x, u->w, u->slice, sums, err);
    double *none = ws_calloc(x->n_sums, sizeof *none);
    ws_status st =
        none == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the journal") : WS_OK;
    for (uint64_t i = 0; st == WS_OK && i < u->w->pt->job.n_slices; i++)
        st = record_slice(x, u->w, i, i == 0 ? sums : none, err);
    ws_free(none);
    return st;
}

/** Write what is ready. While another thread writes it can wait, unless it @p must be
 * now: threads that meet in the kernel cost more than a buffer. */
static ws_status write_ready(ws_exec *x, const struct unit *u, ws_scratch *s, bool must,
                             ws_err *err)
{
    ws_status st = WS_OK;
    if (must)
        pthread_mutex_lock(&x->writing);
    else if (pthread_mutex_trylock(&x->writing) != 0)
        return WS_OK;
    for (size_t i = 0; st == WS_OK && i < s->n_ready; i++)
        st = ws_stage_write(x->stage, x->ids[u->w->pt->t.file], s->ready[i].bytes,
                            s->ready[i].n_bytes, s->ready[i].offset, err);
    pthread_mutex_unlock(&x->writing);
    s->n_ready = 0;
    return st;
}

/** A chunk's bytes into the digest and, sooner or later, the file. */
static ws_status write_chunk(ws_exec *x, const struct unit *u, ws_scratch *s,
                             uint64_t first, size_t n, const void *bytes, bool must,
                             ws_err *err)
{
    const ws_plan_tensor *pt = u->w->pt;
    const size_t n_in = x->plan->n_inputs;
    const uint64_t bits = ws_dtype_info(pt->t.dtype)->bits;
    const uint64_t offset = first * bits / 8;
    const size_t len = (size_t)((first + n) * bits / 8 - offset);
    if (u->w->whole)
        ws_digest_slices(&pt->t, bytes, x->results[u->w->index].slices);
    else
        ws_xxh_stream_add(s->hash[n_in], bytes, len);
    atomic_fetch_add(&x->written_bytes, len);
    atomic_fetch_add(&x->progress_bytes, len * n_in);
    s->ready[s->n_ready++] = (ws_chunk){ bytes, len, pt->t.offset + offset };
    return write_ready(x, u, s, must || s->n_ready == WS_CHUNKS_READY, err);
}

/** The last phase of one slice: to bytes, written and journaled. */
static ws_status apply_slice(ws_exec *x, const struct unit *u, ws_scratch *s,
                             ws_err *err)
{
    const ws_tile_job j = tile_job(x, u);
    const bool copy =
        u->w->pt->action == WS_ACT_COPY || (u->w->copies_equal && !u->w->different);
    double *sums = (double *)(void *)slot_of(x, u);
    memset(sums, 0, u->w->partial);
    memset(s->lanes, 0, x->n_sums * sizeof *s->lanes);
    memset(s->tally, 0, (x->plan->n_models + 1) * sizeof *s->tally);
    memset(s->carry, 0, s->carry_size);
    s->n_ready = 0;
    for (size_t k = 0; k <= x->plan->n_inputs && x->hash; k++)
        ws_xxh_stream_reset(s->hash[k]);
    const uint64_t end = slice_end(u);
    for (uint64_t first = slice_first(u), n; first < end; first += n) {
        const void *bytes = ws_tile_bytes(&j, s);
        n = end - first < j.layout.chunk ? end - first : j.layout.chunk;
        ws_status st = copy
                           ? ws_tile_copy(&j, s, first, (size_t)n, sums, &bytes, err)
                           : ws_tile_apply(&j, s, first, (size_t)n, x->mode, sums, err);
        if (st == WS_OK && x->mode == WS_EXEC_WRITE)
            st = write_chunk(x, u, s, first, (size_t)n, bytes, copy || first + n == end,
                             err);
        if (st != WS_OK)
            return st;
    }
    close_slice(x, u, s, sums);
    return x->mode == WS_EXEC_WRITE ? record_unit(x, u, sums, err) : WS_OK;
}

/** Join the slot of slice @p s: the oldest one not joined. */
static void join_slice(ws_exec *x, struct work *w, uint64_t slice)
{
    const struct unit u = { w, slice, w->phase };
    if (w->phase != APPLY) {
        w->method->passes->join(&w->pt->job, w->phase, w->state, slot_of(x, &u), slice);
        return;
    }
    const double *from = w->kept != NULL && w->kept[slice] != NULL
                             ? w->kept[slice]
                             : (const double *)(const void *)slot_of(x, &u);
    double *sums = x->results[w->index].sums;
    for (size_t i = 0; i < x->n_sums; i++)
        sums[i] += from[i];
}

/* ---- scheduling; all with the lock held unless said otherwise ---- */

static bool fully_kept(const ws_exec *x, size_t index)
{
    const uint64_t n = x->plan->tensors[index].job.n_slices;
    if (x->kept[index] == NULL)
        return n == 0;
    for (uint64_t s = 0; s < n; s++)
        if (x->kept[index][s] == NULL)
            return false;
    return true;
}

/** The tensor is through: its digests from those of its slices. */
static void finish_tensor(ws_exec *x, size_t index)
{
    const ws_plan_tensor *pt = &x->plan->tensors[index];
    ws_tensor_result *r = &x->results[index];
    const size_t n = pt->job.n_slices;
    r->out = ws_tensor_digest(&pt->t, r->slices, n);
    for (size_t k = 0; k < x->plan->n_inputs; k++) {
        const ws_tensor *t = ws_plan_source(x->plan, pt, k);
        if (t != NULL)
            r->in[k] = ws_tensor_digest(t, &x->in_slices[index][k * n], n);
    }
}

/** The phase that follows pass @p phase - 1: a pass that begin() wants, or apply. */
static int phase_after(const struct work *w, int phase)
{
    const ws_passes *passes = w->pt->action == WS_ACT_MERGE ? w->method->passes : NULL;
    return passes != NULL && passes->begin(&w->pt->job, phase, w->state) ? phase
                                                                         : APPLY;
}

/** Blocks for as many slices as there are. */
static bool take_blocks(ws_exec *x, struct work *w)
{
    const uint64_t n = w->units < x->n_free ? w->units : x->n_free;
    w->blocks = ws_calloc(n + 1, sizeof *w->blocks);
    for (; w->blocks != NULL && w->n_keep < n; w->n_keep++)
        w->blocks[w->n_keep] = x->free_block[--x->n_free];
    return w->blocks != NULL;
}

/** Put the next tensor that has work left into @p w; false without memory. */
static bool open_tensor(ws_exec *x, struct work *w, size_t index)
{
    const ws_plan_tensor *pt = &x->plan->tensors[index];
    *w = (struct work){ .used = true, .index = index, .pt = pt };
    w->method = pt->job.method;
    w->partial = slot_bytes(x->plan, pt);
    w->kept = x->kept[index];
    const size_t state = state_bytes(pt);
    w->state = state > 0 ? ws_calloc(1, state) : NULL;
    w->slots = ws_alloc(w->partial * x->n_slots);
    w->done = ws_calloc(x->n_slots, sizeof *w->done);
    if ((state > 0 && w->state == NULL) || w->slots == NULL || w->done == NULL)
        return false;
    w->copies_equal = pt->action == WS_ACT_MERGE && w->method->passes != NULL &&
                      w->method->passes->sample == NULL &&
                      w->method->keeps_equal != NULL &&
                      w->method->keeps_equal(&pt->job);
    const bool kept = fully_kept(x, index);
    w->whole = !kept && pt->action == WS_ACT_MERGE && w->method->unit != NULL &&
               w->method->unit(&pt->job) == WS_UNIT_TENSOR;
    w->units = w->whole ? 1 : pt->job.n_slices;
    w->phase = kept ? APPLY : phase_after(w, 0);
    if (w->phase != APPLY && keeps(pt, w->method) && !take_blocks(x, w))
        return false;
    // only a pass over everything can tell
    w->copies_equal = w->copies_equal && w->phase == 0;
    return true;
}

/** Something has changed that a waiting thread may look for. */
static void announce(ws_exec *x)
{
    x->version++;
    pthread_cond_broadcast(&x->change);
}

static void fail(ws_exec *x, const ws_err *err)
{
    if (!x->failed)
        x->err = *err;
    x->failed = true;
    announce(x);
}

/** Hand out the slices that the journal holds: they only wait to be joined. */
static void pass_over_kept(ws_exec *x, struct work *w)
{
    while (w->phase == APPLY && w->kept != NULL && w->next < w->units &&
           w->next - w->joined < x->n_slots && w->kept[w->next] != NULL) {
        w->done[w->next % x->n_slots] = true;
        w->next++;
    }
}

/** A slice of @p w that can be handed out now. */
static bool take_slice(ws_exec *x, struct work *w, struct unit *u)
{
    if (!w->used)
        return false;
    pass_over_kept(x, w);
    if (w->next >= w->units || w->next - w->joined >= x->n_slots)
        return false;
    *u = (struct unit){ w, w->next++, w->phase };
    return true;
}

/** Join the oldest slice of @p w. Lets the lock go meanwhile. */
static void settle_slice(ws_exec *x, struct work *w)
{
    pthread_mutex_unlock(&x->lock);
    join_slice(x, w, w->joined);
    pthread_mutex_lock(&x->lock);
    w->done[w->joined % x->n_slots] = false;
    w->joined++;
}

/** All slices of the phase are joined: begin the next one, or close the tensor. */
static void settle_phase(ws_exec *x, struct work *w)
{
    pthread_mutex_unlock(&x->lock);
    const bool last = w->phase == APPLY;
    int phase = APPLY;
    if (!last) {
        w->filled = w->filled || sample_of(w).period == 0;
        phase = phase_after(w, w->phase + 1);
    } else if (x->hash) {
        finish_tensor(x, w->index);
    }
    pthread_mutex_lock(&x->lock);
    w->phase = phase;
    w->next = w->joined = 0;
    if (last)
        work_close(x, w);
}

/** Do for @p w what waits to be done between slices. One thread at a time does it. */
static void settle(ws_exec *x, struct work *w)
{
    while (w->used && !w->joining) {
        pass_over_kept(x, w);
        const bool through = w->joined == w->units;
        if (!through && !w->done[w->joined % x->n_slots])
            return;
        w->joining = true;
        if (through)
            settle_phase(x, w);
        else
            settle_slice(x, w);
        w->joining = false;
        announce(x);
    }
}

/** The next slice for a thread; waits for one. False when all is done or has failed. */
static bool next_unit(ws_exec *x, struct unit *u, ws_err *err)
{
    for (;;) {
        bool busy = false;
        const uint64_t seen = x->version;
        for (int i = 0; i < x->window && !x->failed; i++) {
            struct work *w = &x->works[(x->turn + (size_t)i) % (size_t)x->window];
            settle(x, w);
            if (take_slice(x, w, u))
                return true;
            busy |= w->used;
        }
        if (x->failed)
            return false;
        struct work *free_work = NULL;
        for (int i = 0; i < x->window && free_work == NULL; i++)
            free_work = x->works[i].used ? NULL : &x->works[i];
        if (free_work != NULL && x->next < x->end) {
            // the oldest tensor in work comes first when slices are looked for
            x->turn = (size_t)(free_work - x->works) + 1;
            if (open_tensor(x, free_work, x->next++))
                continue;
            ws_fail(err, WS_E_MEMORY, "no memory for a tensor in work");
            ws_err_at(err, NULL, x->plan->tensors[x->next - 1].t.name, -1);
            fail(x, err);
            return false;
        }
        if (!busy && x->next == x->end)
            return false;
        if (x->version == seen)
            pthread_cond_wait(&x->change, &x->lock);
    }
}

/** Progress and peak memory, at most ten times a second. */
static void report(ws_exec *x)
{
    const ws_ctx *ctx = x->plan->priv->ctx;
    const double now = ws_os_now();
    if (now - x->last_report < 0.1)
        return;
    x->last_report = now;
    const uint64_t memory = ws_os_memory_now();
    if (memory > x->peak)
        x->peak = memory;
    if (ctx == NULL || ctx->progress == NULL || x->mode != WS_EXEC_WRITE)
        return;
    ws_progress p = { .event = "merge", .unit = "bytes", .total = x->total_bytes };
    p.done = x->progress_bytes;
    p.seconds = now - x->start;
    p.eta =
        p.done == 0 ? -1.0 : p.seconds * (double)(p.total - p.done) / (double)p.done;
    ctx->progress(ctx->payload, &p);
}

static bool must_stop(const ws_exec *x)
{
    const ws_ctx *ctx = x->plan->priv->ctx;
    return ctx != NULL && ctx->stop != NULL && atomic_load(ctx->stop) != 0;
}

static void run_thread(void *arg, int thread)
{
    ws_exec *x = arg;
    struct unit u;
    ws_err err = WS_ERR_INIT;
    pthread_mutex_lock(&x->lock);
    while (next_unit(x, &u, &err)) {
        report(x);
        pthread_mutex_unlock(&x->lock);
        ws_status st =
            must_stop(x)       ? ws_fail(&err, WS_E_INTERRUPTED, "stopped on request")
            : u.phase == APPLY ? apply_slice(x, &u, &x->scratch[thread], &err)
                               : scan_slice(x, &u, &x->scratch[thread], &err);
        pthread_mutex_lock(&x->lock);
        if (st != WS_OK) {
            ws_err_at(&err, NULL, u.w->pt->t.name, -1);
            fail(x, &err);
            break;
        }
        u.w->done[u.slice % x->n_slots] = true;
        settle(x, u.w);
        announce(x);
    }
    pthread_mutex_unlock(&x->lock);
}

ws_status ws_exec_run(ws_exec *x, ws_err *err)
{
    x->start = ws_os_now();
    ws_pool_run(x->pool, run_thread, x);
    x->last_report = 0.0;
    report(x);
    if (!x->failed)
        return WS_OK;
    if (err != NULL)
        *err = x->err;
    return x->err.code;
}

const ws_tensor_result *ws_exec_result(const ws_exec *x, size_t index)
{
    return &x->results[index];
}

uint64_t ws_exec_read_bytes(const ws_exec *x)
{
    return x->read_bytes;
}

uint64_t ws_exec_written_bytes(const ws_exec *x)
{
    return x->written_bytes;
}

uint64_t ws_exec_peak_memory(const ws_exec *x)
{
    return x->peak;
}
