/*
 * recipe_flow.c - a merge as a model of another: its tensors are made when they are
 * read, and never stand on disk
 *
 *     read(tensor, bytes) -> the slices that hold them -> sources -> method -> bytes
 *
 * Slices are cut by the shape alone, so a reader that goes through a tensor by slices
 * has each made once. A tensor's passes run when its first slice is wanted, in slice
 * order; other threads that want it wait.
 */
#include "engine/recipe_flow.h"

#include <pthread.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "engine/sums.h"
#include "engine/tile.h"
#include "hf/config_edit.h"
#include "wsurg/digest.h"

enum { TILE = 4096 };

/** What the passes over one tensor found. */
struct held {
    size_t tensor;
    void *state;
    bool equal; // inputs were the same everywhere: bytes are copied
    bool coming;
    int users;
    uint64_t used; // tick of the last use
};

/** What one reader works with: a slice as made, and scratch to make another. */
struct lent {
    struct lent *next;
    ws_scratch scratch;
    unsigned char *bytes; // (slot)
    bool made;            // .bytes hold the slice
    size_t tensor;
    uint64_t slice;
};

struct ws_flow {
    ws_plan *plan;
    int threads;
    size_t block, carry, slot, partial, state; // largest of all tensors, bytes
    pthread_mutex_t lock;
    pthread_cond_t loaded;
    struct held *held; // (keep)
    size_t n_held, keep;
    struct lent *free;
    size_t n_lent;
    size_t uses; // slices that one reader may go through at once
    uint64_t tick;
    atomic_uint_least64_t read_bytes;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a merge on the way");
}

/* ---- sizes ---- */

static bool is_whole(const ws_plan_tensor *pt)
{
    const ws_method *m = pt->job.method;
    return pt->action == WS_ACT_MERGE && m->unit != NULL &&
           m->unit(&pt->job) == WS_UNIT_TENSOR;
}

static const ws_passes *passes_of(const ws_plan_tensor *pt)
{
    return pt->action == WS_ACT_MERGE && pt->job.n > 0 ? pt->job.method->passes : NULL;
}

/** Bytes from .. of piece @p slice of the tensor: a slice, or all. */
static void piece(const ws_plan_tensor *pt, uint64_t slice, uint64_t *offset,
                  uint64_t *len)
{
    *offset = 0;
    *len = pt->t.n_bytes;
    if (!is_whole(pt))
        ws_slice_bytes(&pt->t, slice, offset, len);
}

static void larger(size_t *a, uint64_t b)
{
    if (b > *a)
        *a = (size_t)b;
}

static void measure(ws_flow *f)
{
    for (size_t i = 0; i < f->plan->n_tensors; i++) {
        const ws_plan_tensor *pt = &f->plan->tensors[i];
        const ws_passes *passes = passes_of(pt);
        ws_tile_layout l;
        uint64_t offset, len = 0;
        if (pt->job.n_slices > 0)
            piece(pt, 0, &offset, &len);
        larger(&f->slot, len);
        larger(&f->block,
               ws_tile_layout_make(f->plan, pt, TILE, &l) ? l.total : SIZE_MAX / 128);
        if (pt->action == WS_ACT_MERGE && pt->job.method->carry_size != NULL)
            larger(&f->carry, pt->job.method->carry_size(&pt->job));
        if (passes != NULL) {
            larger(&f->state, passes->state_size(&pt->job));
            larger(&f->partial, passes->partial_size(&pt->job));
        }
    }
}

/** Buffers: those in use, and one for each thread so that none takes another's. */
static size_t most_lent(const ws_flow *f)
{
    return (size_t)f->threads * (f->uses + 1);
}

uint64_t ws_flow_memory(const ws_flow *f)
{
    const struct ws_plan_priv *priv = f->plan->priv;
    uint64_t n = priv->arena.total - priv->untouched;
    for (size_t k = 0; k < f->plan->n_inputs; k++)
        n += ws_ckpt_memory(f->plan->inputs[k].ckpt);
    return n + f->keep * ((uint64_t)f->state + f->partial) +
           most_lent(f) * ((uint64_t)f->slot + f->block + f->carry + 4096);
}

void ws_flow_expect(ws_flow *f, size_t uses)
{
    f->uses += uses;
}

/* ---- making and freeing ---- */

ws_status ws_flow_new(ws_flow **out, ws_plan *plan, int threads, ws_err *err)
{
    ws_flow *f = ws_calloc(1, sizeof *f);
    if (f == NULL) {
        ws_plan_free(plan);
        return no_memory(err);
    }
    f->plan = plan;
    f->threads = threads;
    f->keep = (size_t)threads + 2;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->loaded, NULL);
    f->held = ws_calloc(f->keep, sizeof *f->held);
    if (f->held == NULL) {
        ws_flow_free(f);
        return no_memory(err);
    }
    measure(f);
    *out = f;
    return WS_OK;
}

static void lent_free(ws_flow *f, struct lent *l)
{
    if (l == NULL)
        return;
    ws_scratch_free(&l->scratch, f->plan);
    ws_free(l->bytes);
    ws_free(l);
}

void ws_flow_free(ws_flow *f)
{
    if (f == NULL)
        return;
    while (f->free != NULL) {
        struct lent *l = f->free;
        f->free = l->next;
        lent_free(f, l);
    }
    for (size_t i = 0; f->held != NULL && i < f->n_held; i++)
        ws_free(f->held[i].state);
    ws_free(f->held);
    ws_plan_free(f->plan);
    pthread_cond_destroy(&f->loaded);
    pthread_mutex_destroy(&f->lock);
    ws_free(f);
}

const ws_plan *ws_flow_plan(const ws_flow *f)
{
    return f->plan;
}

/* ---- passes ---- */

static ws_tile_job tile_job(ws_flow *f, const ws_plan_tensor *pt, const void *state,
                            uint64_t slice, bool scanning)
{
    ws_tile_job j = { .plan = f->plan,
                      .pt = pt,
                      .method = pt->job.method,
                      .state = state,
                      .slice = slice,
                      .scanning = scanning,
                      .read_bytes = &f->read_bytes };
    ws_tile_layout_make(f->plan, pt, TILE, &j.layout);
    return j;
}

static bool must_stop(const ws_flow *f)
{
    const ws_ctx *ctx = f->plan->priv->ctx;
    return ctx != NULL && ctx->stop != NULL && atomic_load(ctx->stop) != 0;
}

/** Elements of piece @p slice: first and end. */
static void elements(const ws_plan_tensor *pt, uint64_t slice, uint64_t *first,
                     uint64_t *end)
{
    const ws_job *job = &pt->job;
    *first = is_whole(pt) ? 0 : slice * job->slice_len;
    *end = is_whole(pt) || job->n - *first < job->slice_len ? job->n
                                                            : *first + job->slice_len;
}

/** The passes over one tensor. */
struct walk {
    ws_flow *f;
    struct lent *l;
    const ws_plan_tensor *pt;
    const ws_passes *passes;
    void *state;
    bool same; // so far all inputs are
};

/** Pass @p pass over one slice, into @p partial. */
static ws_status scan_slice(struct walk *w, int pass, uint64_t slice, void *partial,
                            ws_err *err)
{
    const ws_job *job = &w->pt->job;
    const ws_tile_job j = tile_job(w->f, w->pt, w->state, slice, true);
    ws_scratch *s = &w->l->scratch;
    uint64_t first, end, n = j.layout.chunk;
    ws_sample sample = { 0, 0 };
    bool different = false;
    if (w->passes->sample != NULL)
        sample = w->passes->sample(job, pass, w->state);
    elements(w->pt, slice, &first, &end);
    memset(s->carry, 0, s->carry_size);
    while (ws_tile_next_run(sample, &first, &n, end)) {
        const ws_status st = ws_tile_scan(&j, s, pass, first, (size_t)n, partial,
                                          w->same ? &different : NULL, err);
        if (st != WS_OK)
            return st;
        first += n;
        n = j.layout.chunk;
    }
    w->same = w->same && !different;
    return WS_OK;
}

/** All passes over a tensor; whether its inputs were the same everywhere. */
static ws_status run_passes(struct walk *w, bool *equal, ws_err *err)
{
    const ws_job *job = &w->pt->job;
    const size_t size = w->passes->partial_size(job);
    const uint64_t n = is_whole(w->pt) ? 1 : job->n_slices;
    const bool may_copy = w->passes->sample == NULL &&
                          job->method->keeps_equal != NULL &&
                          job->method->keeps_equal(job);
    void *partial = ws_alloc(size + 1);
    ws_status st = partial == NULL ? no_memory(err) : WS_OK;
    *equal = false;
    for (int pass = 0; st == WS_OK && w->passes->begin(job, pass, w->state); pass++) {
        w->same = may_copy && pass == 0; // only a pass over everything can tell
        for (uint64_t s = 0; st == WS_OK && s < n; s++) {
            if (must_stop(w->f))
                st = ws_fail(err, WS_E_INTERRUPTED, "stopped on request");
            memset(partial, 0, size);
            if (st == WS_OK)
                st = scan_slice(w, pass, s, partial, err);
            if (st == WS_OK)
                w->passes->join(job, pass, w->state, partial, s);
        }
        *equal = pass == 0 ? w->same : *equal;
    }
    ws_free(partial);
    return st;
}

/** Index among the held of @p tensor; SIZE_MAX. Locked. */
static size_t find_held(const ws_flow *f, size_t tensor)
{
    for (size_t i = 0; i < f->n_held; i++)
        if (f->held[i].tensor == tensor)
            return i;
    return SIZE_MAX;
}

/** A place for one more: the least recently used that nobody uses goes. Locked; waits
 * for one to be given back where all are in use. */
static struct held *make_room(ws_flow *f)
{
    while (f->n_held == f->keep) {
        size_t oldest = SIZE_MAX;
        for (size_t i = 0; i < f->n_held; i++)
            if (f->held[i].users == 0 && !f->held[i].coming &&
                (oldest == SIZE_MAX || f->held[i].used < f->held[oldest].used))
                oldest = i;
        if (oldest == SIZE_MAX) {
            pthread_cond_wait(&f->loaded, &f->lock);
            continue;
        }
        ws_free(f->held[oldest].state);
        f->held[oldest] = f->held[--f->n_held];
    }
    return &f->held[f->n_held++];
}

/** What the passes over tensor @p i found, run now or found before; in use until
 * release(). */
static ws_status hold(ws_flow *f, struct lent *l, size_t i, const ws_passes *passes,
                      void **state, bool *equal, ws_err *err)
{
    const ws_plan_tensor *pt = &f->plan->tensors[i];
    ws_status st = WS_OK;
    pthread_mutex_lock(&f->lock);
    size_t at = find_held(f, i);
    while (at != SIZE_MAX && f->held[at].coming) {
        pthread_cond_wait(&f->loaded, &f->lock);
        at = find_held(f, i);
    }
    if (at == SIZE_MAX) {
        *make_room(f) = (struct held){ .tensor = i, .coming = true };
        pthread_mutex_unlock(&f->lock);
        struct walk w = { f, l, pt, passes, NULL, false };
        bool same = false;
        w.state = ws_calloc(1, passes->state_size(&pt->job) + 1);
        st = w.state == NULL ? no_memory(err) : run_passes(&w, &same, err);
        pthread_mutex_lock(&f->lock);
        at = find_held(f, i);
        if (st == WS_OK) {
            f->held[at] = (struct held){ .tensor = i, .state = w.state, .equal = same };
        } else {
            ws_free(w.state);
            f->held[at] = f->held[--f->n_held];
        }
        pthread_cond_broadcast(&f->loaded);
    }
    if (st == WS_OK) {
        f->held[at].users++;
        f->held[at].used = ++f->tick;
        *state = f->held[at].state;
        *equal = f->held[at].equal;
    }
    pthread_mutex_unlock(&f->lock);
    return st;
}

static void release(ws_flow *f, size_t i)
{
    pthread_mutex_lock(&f->lock);
    f->held[find_held(f, i)].users--;
    pthread_cond_broadcast(&f->loaded);
    pthread_mutex_unlock(&f->lock);
}

/* ---- slices ---- */

/** Apply the method to piece @p slice of the tensor, into l->bytes. */
static ws_status apply_slice(ws_flow *f, struct lent *l, const ws_plan_tensor *pt,
                             const void *state, bool equal, uint64_t slice, ws_err *err)
{
    const ws_tile_job j = tile_job(f, pt, state, slice, false);
    const uint64_t bits = ws_dtype_info(pt->t.dtype)->bits;
    const bool copy = pt->action == WS_ACT_COPY || equal;
    double sums[WS_SUM_FIXED] = { 0 };
    uint64_t first, end, from, to;
    elements(pt, slice, &first, &end);
    const uint64_t begin = first * bits / 8;
    memset(l->scratch.carry, 0, l->scratch.carry_size);
    memset(l->scratch.tally, 0, (f->plan->n_models + 1) * sizeof *l->scratch.tally);
    for (size_t n; first < end; first += n) {
        const void *bytes = ws_tile_bytes(&j, &l->scratch);
        n = end - first < j.layout.chunk ? (size_t)(end - first) : j.layout.chunk;
        const ws_status st =
            copy ? ws_tile_copy(&j, &l->scratch, first, n, sums, &bytes, err)
                 : ws_tile_apply(&j, &l->scratch, first, n, WS_EXEC_MAKE, sums, err);
        if (st != WS_OK)
            return st;
        from = first * bits / 8;
        to = (first + n) * bits / 8;
        memcpy(l->bytes + (from - begin), bytes, (size_t)(to - from));
    }
    return WS_OK;
}

static ws_status make_slice(ws_flow *f, struct lent *l, size_t i, uint64_t slice,
                            ws_err *err)
{
    const ws_plan_tensor *pt = &f->plan->tensors[i];
    const ws_passes *passes = passes_of(pt);
    void *state = NULL;
    bool equal = false;
    l->made = false;
    ws_status st = passes != NULL ? hold(f, l, i, passes, &state, &equal, err) : WS_OK;
    if (st != WS_OK)
        return st;
    st = apply_slice(f, l, pt, state, equal, slice, err);
    if (passes != NULL)
        release(f, i);
    l->made = st == WS_OK;
    l->tensor = i;
    l->slice = slice;
    return st;
}

/* ---- reading ---- */

static struct lent *lent_new(ws_flow *f, ws_err *err)
{
    struct lent *l = ws_calloc(1, sizeof *l);
    if (l == NULL) {
        no_memory(err);
        return NULL;
    }
    l->bytes = ws_alloc(f->slot + 1);
    if (l->bytes != NULL &&
        ws_scratch_init(&l->scratch, f->plan, f->block, f->carry, err) == WS_OK)
        return l;
    if (l->bytes == NULL)
        no_memory(err);
    lent_free(f, l);
    return NULL;
}

static bool holds(const struct lent *l, size_t tensor, uint64_t slice)
{
    return l->made && l->tensor == tensor && l->slice == slice;
}

/** The buffer that holds the slice; else a new one, or, when there are enough, the one
 * that was given back longest ago. */
static struct lent *borrow(ws_flow *f, size_t tensor, uint64_t slice, ws_err *err)
{
    pthread_mutex_lock(&f->lock);
    struct lent **at = &f->free, *l = NULL;
    while (*at != NULL && !holds(*at, tensor, slice) && (*at)->next != NULL)
        at = &(*at)->next;
    if (*at != NULL && (holds(*at, tensor, slice) || f->n_lent >= most_lent(f))) {
        l = *at;
        *at = l->next;
    }
    f->n_lent += l == NULL;
    pthread_mutex_unlock(&f->lock);
    return l != NULL ? l : lent_new(f, err);
}

static void give_back(ws_flow *f, struct lent *l)
{
    pthread_mutex_lock(&f->lock);
    l->next = f->free;
    f->free = l;
    pthread_mutex_unlock(&f->lock);
}

/** The tensor whose bytes are those of @p pt; NULL when there is none. */
static const ws_tensor *copied(const ws_flow *f, const ws_plan_tensor *pt)
{
    if (pt->action != WS_ACT_COPY)
        return NULL;
    const size_t k = (size_t)pt->copy_from, base = f->plan->has_base ? 1 : 0;
    const ws_tensor *t = k < base ? pt->base : pt->in[k - base];
    return t->dtype == pt->t.dtype ? t : NULL;
}

static ws_status flow_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                           size_t len, void *dst, ws_err *err)
{
    ws_flow *f = c->self;
    const size_t i = (size_t)t->offset;
    const ws_plan_tensor *pt = &f->plan->tensors[i];
    const uint64_t bits = ws_dtype_info(pt->t.dtype)->bits;
    ws_status st = WS_OK;
    const ws_tensor *same = copied(f, pt);
    if (same != NULL)
        return ws_ckpt_read(f->plan->inputs[pt->copy_from].ckpt, same, offset, len, dst,
                            err);
    for (size_t done = 0; st == WS_OK && done < len;) {
        const uint64_t slice =
            is_whole(pt) ? 0 : (offset + done) * 8 / bits / pt->job.slice_len;
        uint64_t begin, n;
        piece(pt, slice, &begin, &n);
        struct lent *l = borrow(f, i, slice, err);
        if (l == NULL)
            return WS_E_MEMORY;
        if (!holds(l, i, slice))
            st = make_slice(f, l, i, slice, err);
        if (st == WS_OK) {
            const uint64_t skip = offset + done - begin;
            const size_t take = n - skip < len - done ? (size_t)(n - skip) : len - done;
            memcpy((unsigned char *)dst + done, l->bytes + skip, take);
            done += take;
        }
        give_back(f, l);
    }
    return st;
}

static ws_status flow_recheck(const ws_ckpt *c, ws_err *err)
{
    const ws_plan *plan = ((const ws_flow *)c->self)->plan;
    ws_status st = WS_OK;
    for (size_t k = 0; st == WS_OK && k < plan->n_inputs; k++)
        st = ws_ckpt_recheck(plan->inputs[k].ckpt, err);
    return st;
}

static const ws_ckpt_ops flow_ops = { .read = flow_read, .recheck = flow_recheck };

/* ---- as a checkpoint ---- */

const char *ws_plan_donor(const ws_plan *plan)
{
    const char *from = plan->req->write.companions_from;
    if (from == NULL && ws_ckpt_is_dir(plan->inputs[0].ckpt))
        from = ws_ckpt_home(plan->inputs[0].ckpt);
    return from;
}

/** The first input's configuration, as the result's would be. */
static ws_status config_make(ws_ckpt *c, const ws_plan *plan, ws_err *err)
{
    const struct ws_plan_priv *priv = plan->priv;
    size_t len = 0;
    const char *text = ws_ckpt_config(plan->inputs[0].ckpt, &len);
    ws_buf b = { 0 }, stacked = { 0 };
    if (text == NULL || ws_config_check(text, len, NULL) != WS_OK)
        return WS_OK;
    if (!priv->tie_cleared)
        ws_buf_add(&b, text, len);
    else if (ws_config_has(text, len, "tie_word_embeddings"))
        ws_config_replace(&b, text, len, "tie_word_embeddings", "false");
    else
        ws_config_add(&b, text, len, "tie_word_embeddings", "false");
    if (!b.failed && priv->layer_from != NULL) {
        ws_config_layers(&stacked, b.p, b.n, priv->donor_layers, priv->layer_from,
                         priv->n_layer_from);
        ws_buf_free(&b);
        b = stacked;
    }
    c->config = b.failed ? NULL : ws_strndup(b.p, b.n);
    c->config_len = b.n;
    ws_buf_free(&b);
    return c->config == NULL ? no_memory(err) : WS_OK;
}

static ws_status fill(ws_ckpt *c, const ws_flow *f, const char *name, ws_err *err)
{
    const ws_plan *plan = f->plan;
    const char *donor = ws_plan_donor(plan);
    ws_free(c->label);
    c->label = ws_strdup(name); // no path: a dot in it begins no ending
    c->home = donor == NULL ? NULL : ws_strdup(donor);
    c->is_dir = plan->out_is_dir;
    if (c->label == NULL || (donor != NULL && c->home == NULL))
        return no_memory(err);
    ws_status st = config_make(c, plan, err);
    for (size_t i = 0; st == WS_OK && i < plan->n_tensors; i++) {
        ws_tensor t = plan->tensors[i].t;
        t.file = WS_NO_FILE;
        t.offset = i;
        st = ws_ckpt_add_tensor(c, &t, 0, err);
    }
    for (size_t k = 0; st == WS_OK && k < plan->n_inputs; k++)
        st = ws_ckpt_borrow_files(c, plan->inputs[k].ckpt, err);
    return st == WS_OK ? ws_ckpt_finish(c, err) : st;
}

ws_status ws_flow_open(ws_ckpt **out, ws_flow *f, const char *name, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_status st = ws_ckpt_new(&c, name, "merge", &flow_ops, f, err);
    if (st == WS_OK)
        st = fill(c, f, name, err);
    if (st == WS_OK)
        *out = c;
    else
        ws_ckpt_free(c);
    return st;
}
