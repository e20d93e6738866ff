/*
 * adapter_source.c - adapters on a base, as a checkpoint like any other
 *
 *     W' = W + sum_k s_k B_k A_k          rounded once, or not yet
 *
 * A read makes the elements that it covers, in chunks. Factors are loaded when a tensor
 * is first read and kept for the few tensors read last; DoRA's norms take one pass over
 * the base's tensor when it is loaded.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hf/adapter_kernel.h"
#include "hf/adapter_map.h"
#include "hf/config_edit.h"
#include "wsurg/digest.h"
#include "wsurg/text.h"

enum { CHUNK = 16384 };

/** One layer's factors as L (rows, r) and R (r, cols) of the stored matrix. */
struct product {
    double *L, *R;
    double *vector; // a bias
    double *rows;   // rows written over
};

/** What reading an adapted tensor needs; loaded by need. */
struct ws_folding {
    struct product *products; // (n_layers)
    double *dora;             // factor of each stored row or column; NULL: none
    bool dora_by_row;
    uint64_t bytes;
    int users;
    uint64_t used; // tick of the last use
};

/** What one read works with. */
struct lent {
    struct lent *next;
    double out[CHUNK], was[CHUNK], back[CHUNK];
    double raw[CHUNK]; // bytes of the base
};

struct source {
    ws_ckpt *base;
    ws_adapter **adapters; // (n)
    size_t n;
    ws_fold_opts opts;
    ws_adapter_map map;
    ws_arena arena;
    pthread_mutex_t lock;
    pthread_cond_t loaded;
    struct lent *free;
    size_t *kept; // (n_kept) origins that are loaded, or being loaded
    size_t n_kept, keep;
    uint64_t tick;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for adapters on a base");
}

/* ---- loading ---- */

static void folding_free(struct ws_folding *f, size_t n)
{
    if (f == NULL)
        return;
    for (size_t i = 0; f->products != NULL && i < n; i++) {
        ws_free(f->products[i].L);
        ws_free(f->products[i].R);
        ws_free(f->products[i].vector);
        ws_free(f->products[i].rows);
    }
    ws_free(f->products);
    ws_free(f->dora);
    ws_free(f);
}

/** A tensor of an adapter as doubles, as it is or transposed; ws_free. */
static ws_status numbers(const ws_adapter *a, const ws_tensor *t, bool flip,
                         double **out, ws_err *err)
{
    double *x = ws_calloc((size_t)t->n_elements, sizeof *x), *y = NULL;
    ws_status st = x == NULL ? no_memory(err) : ws_adapter_read_f64(a, t, x, err);
    const size_t rows = t->rank == 0 ? 1 : (size_t)t->shape[0];
    const size_t cols = rows == 0 ? 0 : (size_t)t->n_elements / rows;
    if (st == WS_OK && flip) {
        y = ws_calloc((size_t)t->n_elements, sizeof *y);
        if (y == NULL)
            st = no_memory(err);
        for (size_t i = 0; st == WS_OK && i < rows; i++)
            for (size_t j = 0; j < cols; j++)
                y[j * rows + i] = x[i * cols + j];
        ws_free(x);
        x = y;
    }
    if (st == WS_OK)
        *out = x;
    else
        ws_free(x);
    return st;
}

static ws_status product_load(const ws_layer *l, struct product *p, ws_err *err)
{
    if (l->kind == WS_LAYER_ROWS)
        return numbers(l->adapter, l->rows->t, false, &p->rows, err);
    if (l->kind == WS_LAYER_BIAS)
        return numbers(l->adapter, l->module->b_bias, false, &p->vector, err);
    const ws_tensor *a = l->module->a, *b = l->module->b;
    ws_status st = numbers(l->adapter, l->flipped ? a : b, l->flipped, &p->L, err);
    if (st == WS_OK)
        st = numbers(l->adapter, l->flipped ? b : a, l->flipped, &p->R, err);
    return st;
}

/** Elements from .. to-1 of the base (or of what replaces it) as double. */
static ws_status base_read(const struct source *s, const ws_adapted *o, uint64_t from,
                           size_t n, struct lent *l, double *out, ws_err *err)
{
    const ws_tensor *t = ws_adapted_tensor(o);
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    const ws_ckpt *c = o->whole != NULL ? o->whole_of->file : s->base;
    const ws_status st = ws_ckpt_read(c, t, from * size, n * size, l->raw, err);
    if (st == WS_OK)
        ws_to_f64(t->dtype, l->raw, out, n);
    return st;
}

/** out += all factors and biases, for elements from .. from+n-1. */
static void layers_add(const ws_adapted *o, const struct ws_folding *f, uint64_t from,
                       size_t n, double *out)
{
    const size_t cols = ws_adapted_cols(o);
    ws_rect rects[3];
    const size_t n_rects = ws_rects_of(cols, (size_t)from, (size_t)from + n, rects);
    for (size_t k = 0; k < o->n_layers; k++) {
        const ws_layer *l = &o->layers[k];
        if (l->kind == WS_LAYER_BIAS)
            for (size_t i = 0; i < n; i++)
                out[i] += l->s * f->products[k].vector[from + i];
        if (l->kind != WS_LAYER_FACTORS)
            continue;
        double *to = out;
        for (size_t i = 0; i < n_rects; i++) {
            ws_factors_add(f->products[k].L, f->products[k].R, (size_t)l->module->r,
                           cols, l->s, &rects[i], to);
            to += rects[i].m * rects[i].n;
        }
    }
}

/** DoRA: m_i / ||V_i|| for every stored row, or column where outputs are columns. */
static ws_status dora_load(const struct source *s, const ws_adapted *o,
                           struct ws_folding *f, const ws_layer *l, struct lent *tmp,
                           ws_err *err)
{
    const ws_tensor *t = ws_adapted_tensor(o);
    const size_t cols = ws_adapted_cols(o), m = (size_t)l->module->out;
    double *sums = ws_calloc(m, sizeof *sums), *magnitude = NULL;
    ws_status st = sums == NULL ? no_memory(err)
                                : numbers(l->adapter, l->module->magnitude, false,
                                          &magnitude, err);
    f->dora_by_row = !l->flipped;
    for (uint64_t e = 0; st == WS_OK && e < t->n_elements; e += CHUNK) {
        const size_t n =
            t->n_elements - e < CHUNK ? (size_t)(t->n_elements - e) : CHUNK;
        st = base_read(s, o, e, n, tmp, tmp->out, err);
        if (st != WS_OK)
            break;
        layers_add(o, f, e, n, tmp->out);
        for (size_t i = 0; i < n; i++) {
            const size_t at = (size_t)(e + i);
            sums[f->dora_by_row ? at / cols : at % cols] += tmp->out[i] * tmp->out[i];
        }
    }
    for (size_t i = 0; st == WS_OK && i < m; i++) {
        if (sums[i] == 0.0) {
            st = ws_fail(err, WS_E_NOT_FINITE,
                         "output %zu has norm 0: its direction is not defined", i);
            ws_err_at(err, ws_ckpt_path(l->adapter->file), l->module->magnitude->name,
                      -1);
        }
        sums[i] = magnitude[i] / sqrt(sums[i]);
    }
    ws_free(magnitude);
    f->dora = sums;
    return st;
}

static ws_status folding_load(const struct source *s, const ws_adapted *o,
                              struct ws_folding **out, struct lent *tmp, ws_err *err)
{
    struct ws_folding *f = ws_calloc(1, sizeof *f);
    ws_status st = f == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK) {
        f->products = ws_calloc(o->n_layers + 1, sizeof *f->products);
        st = f->products == NULL ? no_memory(err) : WS_OK;
    }
    const ws_layer *dora = NULL;
    for (size_t k = 0; st == WS_OK && k < o->n_layers; k++) {
        st = product_load(&o->layers[k], &f->products[k], err);
        if (o->layers[k].kind == WS_LAYER_FACTORS &&
            o->layers[k].module->magnitude != NULL)
            dora = &o->layers[k];
    }
    if (st == WS_OK && dora != NULL)
        st = dora_load(s, o, f, dora, tmp, err);
    if (st == WS_OK)
        *out = f;
    else
        folding_free(f, o->n_layers);
    return st;
}

/** Room for one more: the least recently used that nobody uses goes. Locked. */
static void evict(struct source *s)
{
    while (s->n_kept >= s->keep) {
        size_t oldest = SIZE_MAX;
        for (size_t i = 0; i < s->n_kept; i++) {
            const struct ws_folding *f = s->map.origins[s->kept[i]].folding;
            if (f == NULL || f->users > 0)
                continue;
            if (oldest == SIZE_MAX ||
                f->used < s->map.origins[s->kept[oldest]].folding->used)
                oldest = i;
        }
        if (oldest == SIZE_MAX)
            return; // as many readers as that
        ws_adapted *o = &s->map.origins[s->kept[oldest]];
        folding_free(o->folding, o->n_layers);
        o->folding = NULL;
        s->kept[oldest] = s->kept[--s->n_kept];
    }
}

/** Whether origin @p i is being loaded by another thread. Locked. */
static bool is_coming(const struct source *s, size_t i)
{
    for (size_t k = 0; k < s->n_kept; k++)
        if (s->kept[k] == i)
            return s->map.origins[i].folding == NULL;
    return false;
}

static void forget(struct source *s, size_t i)
{
    for (size_t k = 0; k < s->n_kept; k++)
        if (s->kept[k] == i) {
            s->kept[k] = s->kept[--s->n_kept];
            return;
        }
}

static ws_status folding_take(struct source *s, size_t i, struct lent *tmp, ws_err *err)
{
    ws_adapted *o = &s->map.origins[i];
    struct ws_folding *f = NULL;
    ws_status st = WS_OK;
    pthread_mutex_lock(&s->lock);
    while (is_coming(s, i))
        pthread_cond_wait(&s->loaded, &s->lock);
    if (o->folding == NULL) {
        evict(s);
        s->kept[s->n_kept++] = i;
        pthread_mutex_unlock(&s->lock);
        st = folding_load(s, o, &f, tmp, err);
        pthread_mutex_lock(&s->lock);
        if (st == WS_OK)
            o->folding = f;
        else
            forget(s, i);
        pthread_cond_broadcast(&s->loaded);
    }
    if (st == WS_OK) {
        o->folding->users++;
        o->folding->used = ++s->tick;
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

static void folding_give(struct source *s, ws_adapted *o)
{
    pthread_mutex_lock(&s->lock);
    o->folding->users--;
    pthread_mutex_unlock(&s->lock);
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

static void rows_put(const ws_adapted *o, const struct ws_folding *f, uint64_t from,
                     size_t n, double *out)
{
    const uint64_t cols = ws_adapted_cols(o);
    for (size_t k = 0; k < o->n_layers; k++) {
        const ws_layer *l = &o->layers[k];
        if (l->kind != WS_LAYER_ROWS)
            continue;
        for (size_t i = 0; i < l->rows->n; i++) {
            const uint64_t first = (uint64_t)l->rows->rows[i] * cols;
            const uint64_t lo = first > from ? first : from;
            const uint64_t hi = first + cols < from + n ? first + cols : from + n;
            if (lo < hi)
                memcpy(out + (lo - from), f->products[k].rows + i * cols + (lo - first),
                       (size_t)(hi - lo) * sizeof *out);
        }
    }
}

/** The dtype that a tensor has when a fold keeps dtypes. */
static ws_dtype kept_dtype(const ws_adapted *o)
{
    const ws_tensor *t = o->base != NULL ? o->base : o->whole;
    return t == NULL ? WS_DT_F32 : t->dtype;
}

static ws_dtype out_dtype(const struct source *s, const ws_adapted *o)
{
    return s->opts.out_set ? s->opts.out : kept_dtype(o);
}

/** Sums of the update's and of the rounding error's squares. */
static void measure(struct source *s, ws_adapted *o, struct lent *l, size_t n)
{
    const ws_dtype dt = out_dtype(s, o);
    ws_store_tally tally;
    double update = 0, lost = 0;
    ws_from_f64(dt, l->out, l->raw, n, &tally);
    ws_to_f64(dt, l->raw, l->back, n);
    for (size_t i = 0; i < n; i++) {
        const double d = l->out[i] - l->was[i], e = l->back[i] - l->out[i];
        update += d * d;
        lost += e * e;
    }
    pthread_mutex_lock(&s->lock);
    o->update_sq += update;
    o->lost_sq += lost;
    o->measured += n;
    pthread_mutex_unlock(&s->lock);
}

/** Elements from .. from+n-1 into l->out, not rounded. */
static ws_status chunk_make(struct source *s, ws_adapted *o, uint64_t from, size_t n,
                            struct lent *l, ws_err *err)
{
    const struct ws_folding *f = o->folding;
    const ws_status st = base_read(s, o, from, n, l, l->out, err);
    if (st != WS_OK || o->n_layers == 0)
        return st;
    if (s->opts.measure)
        memcpy(l->was, l->out, n * sizeof *l->out);
    layers_add(o, f, from, n, l->out);
    const size_t cols = ws_adapted_cols(o);
    if (f->dora != NULL)
        for (size_t i = 0; i < n; i++) {
            const size_t at = (size_t)(from + i);
            l->out[i] *= f->dora[f->dora_by_row ? at / cols : at % cols];
        }
    rows_put(o, f, from, n, l->out);
    if (s->opts.measure)
        measure(s, o, l, n);
    return WS_OK;
}

/** Chunk's numbers as @p t shows them, into l->raw. */
static ws_status chunk_store(const struct source *s, const ws_tensor *t, size_t n,
                             struct lent *l, ws_err *err)
{
    ws_store_tally tally;
    ws_from_f64(t->dtype, l->out, l->raw, n, &tally);
    if (tally.overflowed == 0 || s->opts.dtype != WS_FOLD_BASE)
        return WS_OK;
    return ws_fail(err, WS_E_NOT_FINITE, "a value is too large for %s",
                   ws_dtype_info(t->dtype)->name);
}

static ws_status source_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    struct source *s = c->self;
    ws_adapted *o = &s->map.origins[t->offset];
    const ws_tensor *from = ws_adapted_tensor(o);
    if (o->n_layers == 0 && from->dtype == t->dtype)
        return ws_ckpt_read(o->whole != NULL ? o->whole_of->file : s->base, from,
                            offset, len, dst, err);
    struct lent *l = borrow(s);
    if (l == NULL)
        return no_memory(err);
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    ws_status st =
        o->n_layers == 0 ? WS_OK : folding_take(s, (size_t)t->offset, l, err);
    const bool taken = st == WS_OK && o->n_layers > 0;
    while (len > 0 && st == WS_OK) {
        const uint64_t element = offset / size;
        const size_t skip = (size_t)(offset % size);
        // whole elements that cover the bytes wanted
        const size_t want = (skip + len + size - 1) / size;
        const size_t n = want < CHUNK ? want : CHUNK;
        st = chunk_make(s, o, element, n, l, err);
        if (st == WS_OK)
            st = chunk_store(s, t, n, l, err);
        if (st != WS_OK)
            break;
        const size_t bytes = n * size - skip < len ? n * size - skip : len;
        memcpy(dst, (const char *)l->raw + skip, bytes);
        dst = (char *)dst + bytes;
        offset += bytes;
        len -= bytes;
    }
    if (taken)
        folding_give(s, o);
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
    for (size_t i = 0; i < s->n_kept; i++) {
        const ws_adapted *o = &s->map.origins[s->kept[i]];
        folding_free(o->folding, o->n_layers);
    }
    ws_free(s->kept);
    for (size_t k = 0; k < s->n; k++)
        ws_adapter_free(s->adapters[k]);
    ws_ckpt_free(s->base);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->loaded);
    ws_arena_free(&s->arena);
    ws_free(s);
}

static ws_status source_recheck(const ws_ckpt *c, ws_err *err)
{
    const struct source *s = c->self;
    ws_status st = ws_ckpt_recheck(s->base, err);
    for (size_t k = 0; k < s->n && st == WS_OK; k++)
        st = ws_ckpt_recheck(s->adapters[k]->file, err);
    return st;
}

static const ws_ckpt_ops source_ops = {
    .read = source_read,
    .close = source_close,
    .recheck = source_recheck,
};

/* ---- making ---- */

/** An adapter that holds a part of its base may go on that base only. */
static ws_status bases_check(const struct source *s, const ws_ctx *ctx, ws_err *err)
{
    char digest[48] = "";
    for (size_t k = 0; k < s->map.n; k++) {
        const ws_adapter *a = s->map.adapters[k];
        if (a->residual != NULL && digest[0] == '\0') {
            ws_xxh128 sum;
            char hex[33];
            const ws_status st = ws_ckpt_digest(s->map.base, ctx, &sum, err);
            if (st != WS_OK)
                return st;
            ws_xxh128_hex(sum, hex);
            snprintf(digest, sizeof digest, "xxh3-128:%s", hex);
        }
        const bool other = a->residual != NULL && strcmp(a->residual, digest) != 0;
        const bool unproved =
            a->residual == NULL && a->changed_base && !s->opts.residual;
        if (other)
            ws_fail(err, WS_E_ANCESTRY,
                    "the adapter belongs on the residual that it was made with, "
                    "contents %s, not on '%s'",
                    a->residual, ws_ckpt_path(s->map.base));
        else if (unproved)
            ws_fail(err, WS_E_ANCESTRY,
                    "init_lora_weights '%s' changed the base: on the original model a "
                    "part would count twice",
                    a->init);
        if (other || unproved) {
            ws_err_hint(err, other
                                 ? "name that residual as the base"
                                 : "wsurg lora convert ADAPTER --initial ADAPTER0, or "
                                   "--residual if the base is the residual");
            return ws_err_at(err, a->path, NULL, -1), WS_E_ANCESTRY;
        }
    }
    return WS_OK;
}

/** The tensor that the source shows for an origin. */
static ws_tensor show(const struct source *s, const ws_adapted *o, size_t index)
{
    const size_t files = ws_ckpt_file_count(s->base);
    ws_tensor t = *ws_adapted_tensor(o);
    const bool changed = o->n_layers > 0 || o->whole != NULL;
    t.name = o->name;
    if (changed && s->opts.dtype == WS_FOLD_BASE)
        t.dtype = kept_dtype(o);
    else if (changed && o->n_layers > 0)
        t.dtype = s->opts.dtype == WS_FOLD_F64 || kept_dtype(o) == WS_DT_F64 ||
                          t.dtype == WS_DT_F64
                      ? WS_DT_F64
                      : WS_DT_F32;
    t.n_bytes = t.n_elements * (ws_dtype_info(t.dtype)->bits / 8);
    if (!changed)
        t.n_bytes = ws_adapted_tensor(o)->n_bytes; // dtypes below a byte
    t.file = o->base != NULL ? o->base->file
             : files == 0    ? WS_NO_FILE
                             : (uint32_t)files - 1;
    t.offset = index;
    return t;
}

static ws_status config_make(const struct source *s, ws_ckpt *c, ws_err *err)
{
    size_t len = 0;
    const char *text = ws_ckpt_config(s->base, &len);
    ws_buf b = { 0 }, sized = { 0 };
    if (text == NULL)
        return WS_OK;
    if (!s->map.facts.untied || ws_config_check(text, len, NULL) != WS_OK)
        ws_buf_add(&b, text, len);
    else if (ws_config_has(text, len, "tie_word_embeddings"))
        ws_config_replace(&b, text, len, "tie_word_embeddings", "false");
    else
        ws_config_add(&b, text, len, "tie_word_embeddings", "false");
    if (s->map.facts.vocab_size > 0 && !b.failed) {
        char rows[24];
        snprintf(rows, sizeof rows, "%llu",
                 (unsigned long long)s->map.facts.vocab_size);
        ws_config_replace(&sized, b.p, b.n, "vocab_size", rows);
        ws_buf_free(&b);
        b = sized;
    }
    if (b.failed) {
        ws_buf_free(&b);
        return no_memory(err);
    }
    c->config = b.p; // the checkpoint's now
    c->config_len = b.n;
    return WS_OK;
}

/** base+a+b, of the base's path or label and the adapters'. */
static char *name_make(const struct source *s, bool label)
{
    ws_buf b = { 0 };
    ws_buf_puts(&b, label ? ws_ckpt_label(s->map.base) : ws_ckpt_path(s->map.base));
    for (size_t k = 0; k < s->map.n; k++)
        ws_buf_printf(&b, "+%s",
                      label ? s->map.adapters[k]->label : s->map.adapters[k]->path);
    if (b.failed)
        ws_buf_free(&b);
    return b.p;
}

static ws_status checkpoint_fill(struct source *s, ws_ckpt *c, ws_err *err)
{
    char *label = name_make(s, true);
    char *home = ws_strdup(ws_ckpt_home(s->base));
    if (label == NULL || home == NULL) {
        ws_free(label);
        ws_free(home);
        return no_memory(err);
    }
    ws_free(c->label);
    c->label = label;
    c->home = home;
    c->is_dir = s->base->is_dir;
    ws_status st = ws_ckpt_borrow_files(c, s->base, err);
    for (size_t i = 0; i < s->map.n_origins && st == WS_OK; i++) {
        const ws_tensor t = show(s, &s->map.origins[i], i);
        st = ws_ckpt_add_tensor(c, &t, 0, err);
    }
    for (size_t i = 0; i < ws_ckpt_meta_count(s->base) && st == WS_OK; i++) {
        const char *key, *value;
        ws_ckpt_meta_at(s->base, i, &key, &value);
        if (strncmp(key, "wsurg.", 6) != 0)
            st = ws_ckpt_add_meta(c, key, value, err);
    }
    if (st == WS_OK)
        st = config_make(s, c, err);
    return st == WS_OK ? ws_ckpt_finish(c, err) : st;
}

static ws_status source_fill(struct source *s, ws_ckpt *base,
                             ws_adapter *const *adapters, size_t n, const ws_ctx *ctx,
                             ws_err *err)
{
    s->adapters = ws_arena_calloc(&s->arena, n + 1, sizeof *s->adapters);
    if (s->adapters == NULL)
        return no_memory(err);
    memcpy(s->adapters, adapters, n * sizeof *adapters);
    s->base = base;
    s->map = (ws_adapter_map){ .base = base,
                               .adapters = s->adapters,
                               .n = n,
                               .scale = s->opts.scale,
                               .arena = &s->arena };
    s->keep = (size_t)ws_ctx_threads(ctx) + 2;
    ws_status st = ws_adapter_map_fill(&s->map, err);
    if (st == WS_OK)
        st = bases_check(s, ctx, err);
    if (st != WS_OK)
        return st;
    s->kept = ws_calloc(s->map.n_origins + 1, sizeof *s->kept);
    return s->kept == NULL ? no_memory(err) : WS_OK;
}

ws_status ws_adapter_source(ws_ckpt **out, ws_ckpt *base, ws_adapter *const *adapters,
                            size_t n, const ws_fold_opts *o, const ws_ctx *ctx,
                            ws_err *err)
{
    struct source *s = ws_calloc(1, sizeof *s);
    ws_ckpt *c = NULL;
    char *path = NULL;
    if (s == NULL)
        return no_memory(err);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->loaded, NULL);
    s->opts = *o;
    ws_status st = source_fill(s, base, adapters, n, ctx, err);
    if (st == WS_OK) {
        path = name_make(s, false);
        st = path == NULL ? no_memory(err) : WS_OK;
    }
    if (st == WS_OK)
        st = ws_ckpt_new(&c, path, "adapted", &source_ops, s, err);
    if (st == WS_OK)
        st = checkpoint_fill(s, c, err);
    ws_free(path);
    if (st == WS_OK) {
        s->n = n;
        *out = c;
        return WS_OK;
    }
    s->n = 0; // base and adapters stay the caller's
    s->base = NULL;
    if (c != NULL)
        ws_ckpt_free(c);
    else
        source_close(s);
    return st;
}

/* ---- asking ---- */

bool ws_source_is_adapted(const ws_ckpt *c)
{
    return c->ops == &source_ops;
}

/** Bytes of a tensor's factors when they are loaded, at their most. */
static uint64_t origin_bytes(const ws_adapted *o)
{
    uint64_t bytes = 0, most = 0;
    for (size_t k = 0; k < o->n_layers; k++) {
        const ws_layer *l = &o->layers[k];
        if (l->kind == WS_LAYER_ROWS) {
            bytes += 8 * l->rows->t->n_elements;
        } else if (l->kind == WS_LAYER_BIAS) {
            bytes += 8 * l->module->b_bias->n_elements;
        } else {
            const uint64_t a = l->module->a->n_elements, b = l->module->b->n_elements;
            bytes += 8 * (a + b);
            if (l->module->magnitude != NULL)
                bytes += 16 * (uint64_t)l->module->out;
            // while it is read: bytes as stored, and its transpose
            most = 16 * (a > b ? a : b) > most ? 16 * (a > b ? a : b) : most;
        }
    }
    return bytes + most;
}

uint64_t ws_source_memory(const ws_ckpt *c, int threads)
{
    if (!ws_source_is_adapted(c))
        return 0;
    const struct source *s = c->self;
    uint64_t largest = 0;
    for (size_t i = 0; i < s->map.n_origins; i++) {
        const uint64_t n = origin_bytes(&s->map.origins[i]);
        largest = n > largest ? n : largest;
    }
    return (uint64_t)threads * sizeof(struct lent) + s->keep * largest;
}

ws_source_figures ws_source_figures_of(const ws_ckpt *c, const ws_tensor *t)
{
    const struct source *s = c->self;
    const ws_adapted *o = &s->map.origins[t->offset];
    ws_source_figures f = { .folded = o->n_layers > 0,
                            .replaced = o->whole != NULL,
                            .dtype = kept_dtype(o),
                            .update = NAN,
                            .lost = NAN };
    // a run that goes on has read a part: nothing is known of the whole then
    if (!f.folded || o->update_sq == 0 || o->measured != t->n_elements)
        return f;
    f.update = sqrt(o->update_sq);
    f.lost = f.update > 0 ? sqrt(o->lost_sq) / f.update : NAN;
    return f;
}

ws_source_facts ws_source_facts_of(const ws_ckpt *c)
{
    const struct source *s = c->self;
    return s->map.facts;
}

const ws_adapted *ws_source_adapted(const ws_ckpt *c, const ws_tensor *t)
{
    const struct source *s = c->self;
    return &s->map.origins[t->offset];
}

size_t ws_source_used(const ws_ckpt *c, size_t k)
{
    const struct source *s = c->self;
    size_t n = 0;
    for (size_t i = 0; i < s->map.n_origins; i++) {
        const ws_adapted *o = &s->map.origins[i];
        n += o->whole != NULL && o->whole_of == s->adapters[k];
        for (size_t j = 0; j < o->n_layers; j++)
            if (o->layers[j].adapter == s->adapters[k])
                n += o->layers[j].kind != WS_LAYER_FACTORS
                         ? 1
                         : 2 + (o->layers[j].module->magnitude != NULL);
    }
    return n;
}

const ws_adapter *ws_source_adapter(const ws_ckpt *c, size_t k)
{
    const struct source *s = c->self;
    return ws_source_is_adapted(c) && k < s->n ? s->adapters[k] : NULL;
}

const ws_ckpt *ws_source_base(const ws_ckpt *c)
{
    const struct source *s = c->self;
    return s->base;
}

void ws_source_stop_measuring(ws_ckpt *c)
{
    struct source *s = c->self;
    s->opts.measure = false;
}

void ws_source_identify(const ws_ckpt *c, ws_buf *out)
{
    const struct source *s = c->self;
    if (!ws_source_is_adapted(c))
        return;
    ws_buf_printf(out, "adapted %.17g\n", s->opts.scale);
    for (size_t k = 0; k < s->n; k++) {
        const ws_adapter *a = s->adapters[k];
        const ws_ckpt_file *f = ws_ckpt_file_at(a->file, 0);
        ws_buf_printf(out, "%llu %llu %llu %lld.%09lld %lld %.17g %d\n",
                      (unsigned long long)f->bytes, (unsigned long long)f->dev,
                      (unsigned long long)f->ino, (long long)f->mtime_s,
                      (long long)f->mtime_ns, (long long)a->r, a->alpha, a->rslora);
        for (size_t i = 0; i < a->n_modules; i++)
            ws_buf_printf(out, "%.17g\n", a->modules[i].scale);
    }
}
