/*
 * taskvec_source.c - task vectors on a base, as a checkpoint like any other
 *
 *     out = base + scale * sum_k update_k
 *
 * A read decodes the blocks that it touches. Buffers are kept and lent: a read per
 * thread is in work at most.
 */
#include "hf/taskvec_source.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "wsurg/text.h"

/** Where a tensor of the source comes from. */
struct origin {
    const ws_tensor *base;        // NULL: only in a vector
    const ws_tv_tensor **updates; // (n vectors); NULL: no vector updates it
    const ws_taskvec *whole_of;   // the vector that holds it whole
    const ws_tensor *whole;
    ws_dtype dtype; // when written
    bool wide;
    ws_tv_blocks blocks;
};

/** What one read works with. */
struct lent {
    struct lent *next;
    ws_tv_buffer buf;
    double base[WS_TV_BLOCK], update[WS_TV_BLOCK], term[WS_TV_BLOCK];
    double raw[WS_TV_BLOCK], out[WS_TV_BLOCK];
};

static_assert(sizeof(struct lent) <= WS_TASKVEC_READ_BYTES, "what a read takes");

struct source {
    const ws_ckpt *base;
    ws_taskvec **vectors; // (n)
    double *weights;      // (n) all the scale
    size_t n;
    bool exact;
    struct origin *origins; // (n_origins): a tensor's offset is its index
    size_t n_origins;
    ws_arena arena;
    pthread_mutex_t lock;
    struct lent *free;
};

/* ---- arithmetic ---- */

#define DEFINE_ARITHMETIC(suffix, type)                                                \
    WS_HOT static void madd_##suffix(type *acc, const type *x, type w, size_t n)       \
    {                                                                                  \
        for (size_t i = 0; i < n; i++)                                                 \
            acc[i] += w * x[i];                                                        \
    }                                                                                  \
    WS_HOT static void sum_##suffix(type *out, const type *a, const type *b, size_t n) \
    {                                                                                  \
        for (size_t i = 0; i < n; i++)                                                 \
            out[i] = a[i] + b[i];                                                      \
    }
DEFINE_ARITHMETIC(f32, float)
DEFINE_ARITHMETIC(f64, double)

ws_status ws_taskvec_add(const ws_taskvec_sum *s, uint64_t b, size_t from, size_t to,
                         void *out, void *tmp, ws_tv_buffer *buf, ws_err *err)
{
    const size_t n = to - from;
    memset(out, 0, n * (s->wide ? sizeof(double) : sizeof(float)));
    for (size_t k = 0; k < s->n; k++) {
        const ws_tv_tensor *t = s->tensors[k];
        if (t == NULL || t->kind != WS_TV_KIND_UPDATE)
            continue;
        const ws_status st =
            ws_taskvec_update(s->vectors[k], t, b, from, to, tmp, NULL, buf, err);
        if (st != WS_OK)
            return st;
        if (!s->wide) {
            madd_f32(out, tmp, (float)s->weights[k], n);
        } else {
            if (!t->wide) // from the end, in place
                for (size_t i = n; i-- > 0;) {
                    float v;
                    memcpy(&v, (const char *)tmp + i * sizeof v, sizeof v);
                    ((double *)tmp)[i] = (double)v;
                }
            madd_f64(out, tmp, s->weights[k], n);
        }
    }
    return WS_OK;
}

/** Where an update is zero, the base's bits stay. */
#define DEFINE_KEEP(name, bits, real)                                                  \
    static void name(void *out, const void *base, const real *update, size_t n)        \
    {                                                                                  \
        bits *to = out;                                                                \
        const bits *from = base;                                                       \
        for (size_t i = 0; i < n; i++)                                                 \
            to[i] = update[i] == 0 ? from[i] : to[i];                                  \
    }
DEFINE_KEEP(keep_u8, uint8_t, float)
DEFINE_KEEP(keep_u16, uint16_t, float)
DEFINE_KEEP(keep_u32, uint32_t, float)
DEFINE_KEEP(keep_u64, uint64_t, double)

static void keep_base(void *out, const void *base, const void *update, size_t size,
                      size_t n)
{
    switch (size) {
    case 8:
        keep_u64(out, base, update, n);
        break;
    case 4:
        keep_u32(out, base, update, n);
        break;
    case 2:
        keep_u16(out, base, update, n);
        break;
    default:
        keep_u8(out, base, update, n);
    }
}

/* ---- reading ---- */

static struct lent *borrow(struct source *s)
{
    pthread_mutex_lock(&s->lock);
    struct lent *l = s->free;
    if (l != NULL)
        s->free = l->next;
    pthread_mutex_unlock(&s->lock);
    return l != NULL ? l : ws_alloc(sizeof *l);
}

static void give_back(struct source *s, struct lent *l)
{
    pthread_mutex_lock(&s->lock);
    l->next = s->free;
    s->free = l;
    pthread_mutex_unlock(&s->lock);
}

/** Exact entries of a block into the elements from .. to-1 at l->out. */
static ws_status patch(const struct source *s, const ws_tv_tensor *t, uint64_t b,
                       size_t from, size_t to, struct lent *l, ws_err *err)
{
    const size_t size = ws_dtype_info(t->t.dtype)->bits / 8;
    size_t n;
    const ws_status st = ws_taskvec_exact(s->vectors[0], t, b, &n, &l->buf, err);
    if (st != WS_OK)
        return st;
    for (size_t i = 0; i < n; i++) {
        const size_t at = l->buf.index[i];
        if (at >= from && at < to)
            memcpy((char *)l->out + (at - from) * size,
                   (const char *)l->buf.values + i * size, size);
    }
    return WS_OK;
}

/** Elements from .. to-1 of block @p b into l->out, in the source's dtype. */
static ws_status block_make(const struct source *s, const struct origin *o, uint64_t b,
                            size_t from, size_t to, struct lent *l, ws_err *err)
{
    const size_t size = ws_dtype_info(o->base->dtype)->bits / 8, n = to - from;
    const ws_taskvec_sum sum = { (const ws_taskvec *const *)s->vectors, o->updates,
                                 s->weights, s->n, o->wide };
    uint64_t first;
    size_t in_block;
    ws_tv_block_at(&o->blocks, b, &first, &in_block);
    ws_status st =
        ws_ckpt_read(s->base, o->base, (first + from) * size, n * size, l->raw, err);
    if (st == WS_OK)
        st = ws_taskvec_add(&sum, b, from, to, l->update, l->term, &l->buf, err);
    if (st != WS_OK)
        return st;
    void *sums = s->exact ? l->base : l->out; // unrounded numbers
    if (o->wide) {
        ws_to_f64(o->base->dtype, l->raw, l->base, n);
        sum_f64(sums, l->base, l->update, n);
    } else {
        ws_to_f32(o->base->dtype, l->raw, (float *)(void *)l->base, n);
        sum_f32(sums, (const float *)(void *)l->base, (const float *)(void *)l->update,
                n);
    }
    if (!s->exact)
        return WS_OK;
    ws_store_tally tally = { 0 };
    if (o->wide)
        ws_from_f64(o->dtype, l->base, l->out, n, &tally);
    else
        ws_from_f32(o->dtype, (const float *)(void *)l->base, l->out, n, &tally);
    if (o->dtype == o->base->dtype)
        keep_base(l->out, l->raw, l->update, size, n);
    return patch(s, o->updates[0], b, from, to, l, err);
}

static ws_status source_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    struct source *s = c->self;
    const struct origin *o = &s->origins[t->offset];
    if (o->whole != NULL)
        return ws_ckpt_read(o->whole_of->file, o->whole, offset, len, dst, err);
    if (o->updates == NULL)
        return ws_ckpt_read(s->base, o->base, offset, len, dst, err);
    struct lent *l = borrow(s);
    if (l == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to read a task vector");
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    ws_status st = WS_OK;
    while (len > 0 && st == WS_OK) {
        const uint64_t element = offset / size;
        const uint64_t b = ws_tv_block_of(&o->blocks, element);
        uint64_t first;
        size_t in_block;
        ws_tv_block_at(&o->blocks, b, &first, &in_block);
        const size_t from = (size_t)(element - first), skip = (size_t)(offset % size);
        // whole elements that cover the bytes wanted of this block
        size_t n = skip + len < (in_block - from) * size
                       ? (skip + len + size - 1) / size
                       : in_block - from;
        st = block_make(s, o, b, from, from + n, l, err);
        const size_t bytes = n * size - skip < len ? n * size - skip : len;
        if (st == WS_OK)
            memcpy(dst, (const char *)l->out + skip, bytes);
        dst = (char *)dst + bytes;
        offset += bytes;
        len -= bytes;
    }
    give_back(s, l);
    return st;
}

static void source_close(void *self)
{
    struct source *s = self;
    while (s->free != NULL) {
        struct lent *l = s->free;
        s->free = l->next;
        ws_free(l);
    }
    for (size_t k = 0; k < s->n; k++)
        ws_taskvec_free(s->vectors[k]);
    pthread_mutex_destroy(&s->lock);
    ws_arena_free(&s->arena);
    ws_free(s);
}

static ws_status source_recheck(const ws_ckpt *c, ws_err *err)
{
    const struct source *s = c->self;
    for (size_t k = 0; k < s->n; k++) {
        const ws_status st = ws_ckpt_recheck(s->vectors[k]->file, err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

static const ws_ckpt_ops source_ops = {
    .read = source_read,
    .close = source_close,
    .recheck = source_recheck,
};

/* ---- what comes from where ---- */

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a task vector on its base");
}

static bool same_shape(const ws_tensor *a, const ws_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

/** Whether two vectors hold the same whole tensor. */
static ws_status same_whole(const ws_taskvec *a, const ws_tensor *ta,
                            const ws_taskvec *b, const ws_tensor *tb, ws_err *err)
{
    enum { CHUNK = 16 << 10 };
    unsigned char x[CHUNK], y[CHUNK];
    ws_status st = WS_OK;
    bool same = ta->dtype == tb->dtype && same_shape(ta, tb);
    for (uint64_t at = 0; same && st == WS_OK && at < ta->n_bytes; at += CHUNK) {
        const size_t n = ta->n_bytes - at < CHUNK ? (size_t)(ta->n_bytes - at) : CHUNK;
        st = ws_ckpt_read(a->file, ta, at, n, x, err);
        if (st == WS_OK)
            st = ws_ckpt_read(b->file, tb, at, n, y, err);
        same = st != WS_OK || memcmp(x, y, n) == 0;
    }
    if (st == WS_OK && !same) {
        st = ws_fail(err, WS_E_SHAPE, "'%s' and '%s' hold different tensors whole",
                     ws_ckpt_label(a->file), ws_ckpt_label(b->file));
        ws_err_at(err, ws_ckpt_path(b->file), NULL, -1);
    }
    return st;
}

static ws_status conflict(const ws_taskvec *tv, const char *does, const char *other,
                          ws_err *err)
{
    ws_fail(err, WS_E_SHAPE, "'%s' %s the tensor, another vector %s it",
            ws_ckpt_label(tv->file), does, other);
    ws_err_at(err, ws_ckpt_path(tv->file), NULL, -1);
    return WS_E_SHAPE;
}

/** An update must suit the base's tensor and the updates before it. */
static ws_status take_update(struct source *s, struct origin *o, size_t k,
                             const ws_tv_tensor *t, bool *seen, ws_err *err)
{
    const ws_taskvec *tv = s->vectors[k];
    if (o->base == NULL || !same_shape(o->base, &t->t) ||
        !ws_dtype_info(o->base->dtype)->arithmetic) {
        ws_fail(err, WS_E_SHAPE, "the base has no tensor that the update suits");
        ws_err_at(err, ws_ckpt_path(tv->file), t->t.name, -1);
        ws_err_hint(err, "another base than this one was its");
        return WS_E_SHAPE;
    }
    if (*seen && o->dtype != t->t.dtype) {
        ws_fail(err, WS_E_DTYPE, "the vectors make it %s and %s",
                ws_dtype_info(o->dtype)->name, ws_dtype_info(t->t.dtype)->name);
        ws_err_at(err, ws_ckpt_path(tv->file), t->t.name, -1);
        return WS_E_DTYPE;
    }
    if (o->updates == NULL)
        o->updates = ws_arena_calloc(&s->arena, s->n, sizeof *o->updates);
    if (o->updates == NULL)
        return no_memory(err);
    o->updates[k] = t;
    o->dtype = t->t.dtype;
    o->wide |= t->wide || o->base->dtype == WS_DT_F64;
    o->blocks = t->blocks;
    *seen = true;
    return WS_OK;
}

/** Gather what the vectors do to one name; *gone when they take it away. */
static ws_status origin_fill(struct source *s, const char *name, struct origin *o,
                             bool *gone, ws_err *err)
{
    bool updated = false;
    ws_status st = WS_OK;
    *gone = false;
    for (size_t k = 0; k < s->n && st == WS_OK; k++) {
        const ws_taskvec *tv = s->vectors[k];
        const ws_tv_tensor *t = ws_taskvec_find(tv, name);
        if (t == NULL && ws_taskvec_removes(tv, name)) {
            *gone = true;
        } else if (t != NULL && t->kind == WS_TV_KIND_WHOLE) {
            const ws_tensor *whole = t->stored[WS_TV_WHOLE];
            if (o->whole != NULL)
                st = same_whole(o->whole_of, o->whole, tv, whole, err);
            o->whole = whole;
            o->whole_of = tv;
        } else if (t != NULL && t->kind == WS_TV_KIND_UPDATE) {
            st = take_update(s, o, k, t, &updated, err);
        }
        if (st == WS_OK && updated && (o->whole != NULL || *gone))
            st = conflict(tv, *gone ? "removes" : "replaces", "updates", err);
        if (st == WS_OK && o->whole != NULL && *gone)
            st = conflict(tv, "removes", "replaces", err);
    }
    if (st != WS_OK)
        ws_err_at(err, NULL, name, -1);
    return st;
}

/** The tensor that the source shows for an origin. */
static ws_tensor show(const struct source *s, const struct origin *o, const char *name,
                      uint32_t last_file, size_t index)
{
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): an update needs the base
    ws_tensor t = *(o->whole != NULL ? o->whole : o->base);
    t.name = name;
    if (o->updates != NULL)
        t.dtype = s->exact ? o->dtype : o->wide ? WS_DT_F64 : WS_DT_F32;
    t.n_bytes = t.n_elements * ws_dtype_info(t.dtype)->bits / 8;
    t.file = o->base != NULL ? o->base->file : last_file;
    t.offset = index;
    return t;
}

static ws_status add(struct source *s, ws_ckpt *c, const ws_tensor *base,
                     const char *name, ws_err *err)
{
    const size_t files = ws_ckpt_file_count(s->base);
    struct origin *o = &s->origins[s->n_origins];
    bool gone;
    *o = (struct origin){ .base = base, .dtype = WS_DT_F32 };
    if (base != NULL)
        o->dtype = base->dtype;
    const ws_status st = origin_fill(s, name, o, &gone, err);
    if (st != WS_OK || gone)
        return st;
    if (o->whole != NULL)
        o->dtype = o->whole->dtype;
    const ws_tensor t =
        show(s, o, name, files == 0 ? WS_NO_FILE : (uint32_t)files - 1, s->n_origins);
    s->n_origins++;
    return ws_ckpt_add_tensor(c, &t, 0, err);
}

static ws_status fill(struct source *s, ws_ckpt *c, ws_err *err)
{
    size_t most = ws_ckpt_count(s->base);
    for (size_t k = 0; k < s->n; k++)
        most += s->vectors[k]->n;
    s->origins = ws_arena_calloc(&s->arena, most + 1, sizeof *s->origins);
    if (s->origins == NULL)
        return no_memory(err);
    ws_status st = ws_ckpt_borrow_files(c, s->base, err);
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(s->base); i++) {
        const ws_tensor *t = ws_ckpt_tensor(s->base, i);
        st = add(s, c, t, t->name, err);
    }
    for (size_t k = 0; k < s->n; k++)
        for (size_t i = 0; st == WS_OK && i < s->vectors[k]->n; i++) {
            const ws_tv_tensor *t = &s->vectors[k]->tensors[i];
            if (ws_ckpt_find(s->base, t->t.name) != NULL ||
                ws_ckpt_lookup(c, t->t.name) != SIZE_MAX)
                continue;
            if (t->kind == WS_TV_KIND_SAME) {
                ws_fail(err, WS_E_MISSING, "the base lacks the tensor");
                ws_err_at(err, ws_ckpt_path(s->vectors[k]->file), t->t.name, -1);
                st = WS_E_MISSING;
            } else {
                st = add(s, c, NULL, t->t.name, err);
            }
        }
    const ws_taskvec *first = s->vectors[0];
    for (size_t i = 0; st == WS_OK && i < first->n_meta; i++)
        if (strncmp(first->meta[i].key, "wsurg.", 6) != 0)
            st = ws_ckpt_add_meta(c, first->meta[i].key, first->meta[i].value, err);
    return st;
}

ws_status ws_taskvec_source(ws_ckpt **out, const ws_ckpt *base,
                            ws_taskvec *const *vectors, size_t n, double scale,
                            bool exact, ws_err *err)
{
    struct source *s = ws_calloc(1, sizeof *s);
    ws_ckpt *c = NULL;
    if (s == NULL)
        return no_memory(err);
    pthread_mutex_init(&s->lock, NULL);
    s->base = base;
    s->exact = exact && n == 1 && scale == 1.0 && vectors[0]->exact;
    s->vectors = ws_arena_calloc(&s->arena, n + 1, sizeof *s->vectors);
    s->weights = ws_arena_calloc(&s->arena, n + 1, sizeof *s->weights);
    ws_status st = s->vectors == NULL || s->weights == NULL ? no_memory(err) : WS_OK;
    for (size_t k = 0; st == WS_OK && k < n; k++) {
        s->vectors[k] = vectors[k];
        s->weights[k] = scale;
    }
    s->n = st == WS_OK ? n : 0;
    if (st == WS_OK)
        st = ws_ckpt_new(&c, ws_ckpt_path(n == 1 ? vectors[0]->file : base), "taskvec",
                         &source_ops, s, err);
    if (st == WS_OK)
        st = fill(s, c, err);
    if (st == WS_OK)
        st = ws_ckpt_finish(c, err);
    if (st == WS_OK) {
        *out = c;
        return WS_OK;
    }
    s->n = 0; // the vectors stay the caller's
    if (c != NULL)
        ws_ckpt_free(c);
    else
        source_close(s);
    return st;
}

ws_status ws_taskvec_open(ws_ckpt **out, const char *path, const ws_ckpt *base,
                          ws_diag *warnings, ws_err *err)
{
    ws_taskvec *tv = NULL;
    ws_status st = ws_taskvec_load(&tv, path, warnings, err);
    if (st == WS_OK)
        st = ws_taskvec_source(out, base, &tv, 1, 1.0, true, err);
    if (st != WS_OK)
        ws_taskvec_free(tv);
    return st;
}

bool ws_taskvec_is_source(const ws_ckpt *c)
{
    return c->ops == &source_ops;
}

ws_dtype ws_taskvec_dtype(const ws_ckpt *source, const ws_tensor *t)
{
    const struct source *s = source->self;
    return s->origins[t->offset].dtype;
}

const char *ws_taskvec_other_base(const ws_ckpt *source, const char *digest)
{
    const struct source *s = source->self;
    for (size_t k = 0; k < s->n; k++)
        if (strcmp(s->vectors[k]->base, digest) != 0)
            return s->vectors[k]->base;
    return NULL;
}
