/*
 * vocab_source.c - a model with the rows of its embedding and head put in the places of
 * an aligned vocabulary
 *
 * A read is cut into runs of rows that lie together in one source; a run of the same
 * dtype is one read, others go through a window on the stack.
 */
#include "hf/vocab_source.h"

#include <pthread.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "wsurg/source.h"

enum { WINDOW = 2048 }; // numbers

/** A tensor with aligned rows. */
struct rows {
    const char *name;
    const ws_tensor **from; // (n_models)
    size_t width;           // numbers of a row
    ws_dtype dtype;         // as shown
    double *mean; // (width) of the rows before the padding; made when asked for
};

struct vocab_source {
    const ws_vocab_map *map;
    ws_ckpt **all; // (n_models); [k] is owned
    size_t k;
    struct rows *rows;
    size_t n_rows;
    pthread_mutex_t lock; // of the means
    ws_arena arena;
};

/* ---- names ---- */

static bool is_tail(const char *name, const char *tail)
{
    const size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0 &&
           (n == m || name[n - m - 1] == '.');
}

static bool is_embedding(const char *name)
{
    static const char *const tails[] = {
        "embed_tokens.weight",   "wte.weight",      "word_embeddings.weight",
        "tok_embeddings.weight", "embed_in.weight", "shared.weight",
    };
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (is_tail(name, tails[i]))
            return true;
    return false;
}

static bool is_head(const char *name)
{
    static const char *const tails[] = {
        "lm_head.weight",
        "embed_out.weight",
        "output.weight",
        "lm_head.bias",
        "predictions.decoder.weight",
        "predictions.bias",
        "predictions.decoder.bias",
    };
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (is_tail(name, tails[i]))
            return true;
    return false;
}

uint64_t ws_vocab_rows(const ws_ckpt *c)
{
    uint64_t rows = 0;
    for (int head = 0; head < 2 && rows == 0; head++)
        for (size_t i = 0; i < ws_ckpt_count(c) && rows == 0; i++) {
            const ws_tensor *t = ws_ckpt_tensor(c, i);
            if (t->rank == 2 && (head ? is_head(t->name) : is_embedding(t->name)))
                rows = t->shape[0];
        }
    return rows < INT32_MAX ? rows : 0;
}

bool ws_vocab_tensor(const ws_tensor *t, uint64_t rows)
{
    return (is_embedding(t->name) || is_head(t->name)) && rows > 0 &&
           t->rank == (is_tail(t->name, "bias") ? 1 : 2) && t->shape[0] == rows;
}

/* ---- reading ---- */

static size_t bytes_of(ws_dtype d)
{
    return ws_dtype_info(d)->bits / 8u;
}

/** @p n numbers of @p t from number @p first on, as doubles. */
static ws_status read_doubles(const ws_ckpt *c, const ws_tensor *t, uint64_t first,
                              size_t n, double *out, ws_err *err)
{
    double raw[WINDOW];
    const size_t size = bytes_of(t->dtype);
    const ws_status st = ws_ckpt_read(c, t, first * size, n * size, raw, err);
    if (st == WS_OK)
        ws_to_f64(t->dtype, raw, out, n);
    return st;
}

/** Numbers of one row, [first, first + n): the mean over the models that have it. */
static ws_status mean_of_models(const struct vocab_source *s, const struct rows *r,
                                uint64_t row, size_t first, size_t n, double *out,
                                ws_err *err)
{
    double one[WINDOW];
    size_t count = 0;
    memset(out, 0, n * sizeof *out);
    for (size_t m = 0; m < s->map->n_models; m++) {
        const int32_t own = s->map->own[m][row];
        if (own < 0)
            continue;
        const ws_status st = read_doubles(
            s->all[m], r->from[m], (uint64_t)own * r->width + first, n, one, err);
        if (st != WS_OK)
            return st;
        for (size_t i = 0; i < n; i++)
            out[i] += one[i];
        count++;
    }
    for (size_t i = 0; i < n && count > 0; i++)
        out[i] /= (double)count;
    return WS_OK;
}

/** Where the numbers of an output row come from. */
struct place {
    int32_t model; // or a WS_FILL_…
    uint64_t row;
};

static struct place place_of(const struct vocab_source *s, uint64_t row)
{
    const ws_vocab_map *m = s->map;
    const int32_t own = m->own[s->k][row];
    if (own >= 0 && !m->force[row])
        return (struct place){ (int32_t)s->k, (uint64_t)own };
    return (struct place){ m->fill[row].model, (uint64_t)m->fill[row].row };
}

/** Numbers of one row that is no padding, as doubles. */
static ws_status row_doubles(const struct vocab_source *s, const struct rows *r,
                             uint64_t row, size_t first, size_t n, double *out,
                             ws_err *err)
{
    const struct place p = place_of(s, row);
    if (p.model == WS_FILL_MEAN)
        return mean_of_models(s, r, row, first, n, out, err);
    if (p.model >= 0)
        return read_doubles(s->all[p.model], r->from[p.model], p.row * r->width + first,
                            n, out, err);
    memset(out, 0, n * sizeof *out);
    return WS_OK;
}

/** The mean of all rows before the padding, row by row. */
static ws_status make_mean(struct vocab_source *s, struct rows *r, ws_err *err)
{
    double *mean = ws_arena_calloc(&s->arena, r->width + 1, sizeof *mean);
    double one[WINDOW];
    ws_status st = WS_OK;
    if (mean == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for padding rows");
    for (uint64_t row = 0; st == WS_OK && row < s->map->tokens; row++)
        for (size_t at = 0; st == WS_OK && at < r->width; at += WINDOW) {
            const size_t n = r->width - at < WINDOW ? r->width - at : WINDOW;
            st = row_doubles(s, r, row, at, n, one, err);
            for (size_t i = 0; st == WS_OK && i < n; i++)
                mean[at + i] += one[i];
        }
    for (size_t i = 0; i < r->width && s->map->tokens > 0; i++)
        mean[i] /= (double)s->map->tokens;
    if (st == WS_OK)
        r->mean = mean;
    return st;
}

/** Store doubles as the dtype that is shown. */
static void put(const struct rows *r, const double *x, size_t n, void *dst)
{
    ws_store_tally tally = { .first_bad = SIZE_MAX };
    ws_from_f64(r->dtype, x, dst, n, &tally);
}

/** Numbers [first, first + n) of one row, n <= WINDOW, to @p dst. */
static ws_status read_part(struct vocab_source *s, struct rows *r, uint64_t row,
                           size_t first, size_t n, void *dst, ws_err *err)
{
    double x[WINDOW];
    if (row < s->map->tokens) {
        const ws_status st = row_doubles(s, r, row, first, n, x, err);
        if (st == WS_OK)
            put(r, x, n, dst);
        return st;
    }
    pthread_mutex_lock(&s->lock);
    const ws_status st = r->mean == NULL ? make_mean(s, r, err) : WS_OK;
    pthread_mutex_unlock(&s->lock);
    if (st == WS_OK)
        put(r, r->mean + first, n, dst);
    return st;
}

/** How many rows from @p row on, at most @p most, lie one after another in one source
 * of the dtype that is shown; 0 when this one must be made. */
static uint64_t run_of(const struct vocab_source *s, const struct rows *r, uint64_t row,
                       uint64_t most, struct place *p)
{
    if (row >= s->map->tokens)
        return 0;
    *p = place_of(s, row);
    if (p->model < 0 || r->from[p->model]->dtype != r->dtype)
        return 0;
    uint64_t n = 1;
    while (n < most && row + n < s->map->tokens) {
        const struct place q = place_of(s, row + n);
        if (q.model != p->model || q.row != p->row + n)
            break;
        n++;
    }
    return n;
}

static ws_status read_rows(struct vocab_source *s, struct rows *r, uint64_t offset,
                           size_t len, unsigned char *dst, ws_err *err)
{
    const uint64_t row_bytes = (uint64_t)r->width * bytes_of(r->dtype);
    unsigned char one[WINDOW * sizeof(double)];
    while (len > 0) {
        struct place p = { 0 };
        const uint64_t row = offset / row_bytes, at = offset % row_bytes;
        const uint64_t n =
            run_of(s, r, row, (at + len + row_bytes - 1) / row_bytes, &p);
        size_t done;
        ws_status st;
        if (n > 0) {
            const uint64_t left = n * row_bytes - at;
            done = left < len ? (size_t)left : len;
            st = ws_ckpt_read(s->all[p.model], r->from[p.model], p.row * row_bytes + at,
                              done, dst, err);
        } else {
            // whole numbers of the row, from the one that @p at lies in
            const size_t size = bytes_of(r->dtype), first = (size_t)(at / size);
            const size_t most = r->width - first;
            const size_t count = most < WINDOW ? most : WINDOW;
            const size_t lead = (size_t)(at % size);
            st = read_part(s, r, row, first, count, one, err);
            done = count * size - lead < len ? count * size - lead : len;
            if (st == WS_OK)
                memcpy(dst, one + lead, done);
        }
        if (st != WS_OK)
            return st;
        dst += done;
        offset += done;
        len -= done;
    }
    return WS_OK;
}

static struct rows *find_rows(const struct vocab_source *s, const char *name)
{
    for (size_t i = 0; i < s->n_rows; i++)
        if (strcmp(s->rows[i].name, name) == 0)
            return &s->rows[i];
    return NULL;
}

static ws_status source_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    struct vocab_source *s = c->self;
    struct rows *r = find_rows(s, t->name);
    if (r != NULL)
        return read_rows(s, r, offset, len, dst, err);
    return ws_ckpt_read(s->all[s->k], ws_ckpt_find(s->all[s->k], t->name), offset, len,
                        dst, err);
}

static void source_free(struct vocab_source *s)
{
    pthread_mutex_destroy(&s->lock);
    ws_arena_free(&s->arena);
    ws_free(s);
}

static void source_close(void *self)
{
    struct vocab_source *s = self;
    ws_ckpt_free(s->all[s->k]);
    source_free(s);
}

static ws_status source_recheck(const ws_ckpt *c, ws_err *err)
{
    const struct vocab_source *s = c->self;
    return ws_ckpt_recheck(s->all[s->k], err);
}

static const ws_ckpt_ops source_ops = { .read = source_read,
                                        .close = source_close,
                                        .recheck = source_recheck };

/* ---- making one ---- */

/** The tensor of model @p m that has the rows of @p name; a tied partner stands in. */
static const ws_tensor *rows_in(const ws_ckpt *c, const char *name)
{
    const ws_tensor *t = ws_ckpt_find(c, name);
    return t != NULL ? t : ws_tied_tensor(c, name);
}

/** Whether rows of model @p m are shown by @p s, and whether some must be computed. */
static void needs(const struct vocab_source *s, size_t m, bool *used, bool *computed)
{
    const ws_vocab_map *map = s->map;
    *used = false;
    *computed = map->rows > map->tokens;
    for (uint64_t row = 0; row < map->tokens; row++) {
        const struct place p = place_of(s, row);
        *used |= p.model == (int32_t)m;
        if (p.model == WS_FILL_MEAN) {
            *computed = true;
            *used |= map->own[m][row] >= 0;
        }
    }
}

/** Find the rows of tensor @p t in all models, and the dtype to show them in. */
static ws_status rows_make(struct vocab_source *s, struct rows *r, const ws_tensor *t,
                           ws_err *err)
{
    const size_t n = s->map->n_models;
    *r = (struct rows){ .name = t->name, .dtype = t->dtype };
    r->from = ws_arena_calloc(&s->arena, n + 1, sizeof(void *));
    if (r->from == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for aligned rows");
    r->width = t->rank == 2 ? (size_t)t->shape[1] : 1;
    bool convert = false, wide = t->dtype == WS_DT_F64;
    for (size_t m = 0; m < n; m++) {
        bool used, computed;
        needs(s, m, &used, &computed);
        convert |= computed;
        if (!used)
            continue;
        const ws_tensor *from = r->from[m] = rows_in(s->all[m], t->name);
        if (from == NULL) {
            ws_fail(err, WS_E_MISSING, "'%s' has no rows to put into tensor '%s'",
                    ws_ckpt_label(s->all[m]), t->name);
            return WS_E_MISSING;
        }
        if (from->rank != t->rank || (t->rank == 2 && from->shape[1] != t->shape[1]))
            return ws_fail(err, WS_E_SHAPE,
                           "rows of tensor '%s' have %zu numbers, those of '%s' %llu",
                           t->name, r->width, ws_ckpt_label(s->all[m]),
                           (unsigned long long)(from->rank == 2 ? from->shape[1] : 1));
        convert |= from->dtype != t->dtype;
        wide |= from->dtype == WS_DT_F64;
        if (convert && !(ws_dtype_info(from->dtype)->arithmetic &&
                         ws_dtype_info(t->dtype)->arithmetic))
            return ws_fail(err, WS_E_DTYPE, "no arithmetic on %s rows of '%s'",
                           ws_dtype_info(from->dtype)->name, t->name);
    }
    if (convert)
        r->dtype = wide ? WS_DT_F64 : WS_DT_F32;
    return WS_OK;
}

static ws_status fill(struct vocab_source *s, ws_ckpt *c, ws_err *err)
{
    const ws_ckpt *under = s->all[s->k];
    const uint64_t rows = ws_vocab_rows(under);
    ws_status st = ws_ckpt_borrow_files(c, under, err);
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(under); i++) {
        ws_tensor t = *ws_ckpt_tensor(under, i);
        uint64_t shape[2];
        if (ws_vocab_tensor(&t, rows)) {
            struct rows *r = &s->rows[s->n_rows];
            st = rows_make(s, r, ws_ckpt_tensor(under, i), err);
            shape[0] = s->map->rows;
            shape[1] = r->width;
            t.shape = shape;
            t.dtype = r->dtype;
            s->n_rows++;
            if (st == WS_OK)
                st = ws_tensor_measure(&t, err);
        }
        if (st == WS_OK)
            st = ws_ckpt_add_tensor(c, &t, 0, err);
        else
            ws_err_at(err, ws_ckpt_path(under), t.name, -1);
    }
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_meta_count(under); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(under, i, &key, &value);
        st = ws_ckpt_add_meta(c, key, value, err);
    }
    return st == WS_OK ? ws_ckpt_finish(c, err) : st;
}

/** Names and configuration of the model beneath. */
static ws_status dress(const ws_ckpt *under, ws_ckpt *c, ws_err *err)
{
    size_t len;
    const char *config = ws_ckpt_config(under, &len);
    char *label = ws_strdup(ws_ckpt_label(under));
    char *home = ws_strdup(ws_ckpt_home(under));
    char *copy = config == NULL ? NULL : ws_strndup(config, len);
    if (label == NULL || home == NULL || (config != NULL && copy == NULL)) {
        ws_free(label);
        ws_free(home);
        ws_free(copy);
        return ws_fail(err, WS_E_MEMORY, "no memory for aligned rows");
    }
    ws_free(c->label);
    c->label = label;
    c->home = home;
    c->is_dir = ws_ckpt_is_dir(under);
    c->config = copy;
    c->config_len = copy == NULL ? 0 : len;
    return WS_OK;
}

ws_status ws_vocab_source(ws_ckpt **out, const ws_vocab_map *map, ws_ckpt *const *all,
                          size_t k, ws_err *err)
{
    struct vocab_source *s = ws_calloc(1, sizeof *s);
    ws_ckpt *c = NULL, *under = all[k];
    if (s == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for aligned rows");
    pthread_mutex_init(&s->lock, NULL);
    s->map = map;
    s->k = k;
    s->all = ws_arena_calloc(&s->arena, map->n_models + 1, sizeof(void *));
    s->rows = ws_arena_calloc(&s->arena, ws_ckpt_count(under) + 1, sizeof *s->rows);
    ws_status st = s->all == NULL || s->rows == NULL
                       ? ws_fail(err, WS_E_MEMORY, "no memory for aligned rows")
                       : WS_OK;
    for (size_t i = 0; st == WS_OK && i < map->n_models; i++)
        s->all[i] = all[i];
    if (st == WS_OK)
        st = ws_ckpt_new(&c, ws_ckpt_path(under), ws_ckpt_format(under), &source_ops, s,
                         err);
    if (st == WS_OK)
        st = dress(under, c, err);
    if (st == WS_OK)
        st = fill(s, c, err);
    if (st == WS_OK) {
        *out = c;
        return WS_OK;
    }
    if (c == NULL) {
        source_free(s);
        return st;
    }
    s->all[k] = NULL; // the model stays the caller's
    ws_ckpt_free(c);
    return st;
}

const ws_ckpt *ws_vocab_under(const ws_ckpt *c)
{
    if (c->ops != &source_ops)
        return c;
    const struct vocab_source *s = c->self;
    return s->all[s->k];
}

const ws_tensor *ws_vocab_original(const ws_ckpt *c, const ws_tensor *t)
{
    if (c->ops != &source_ops || find_rows(c->self, t->name) == NULL)
        return NULL;
    return ws_ckpt_find(ws_vocab_under(c), t->name);
}

ws_dtype ws_vocab_dtype(const ws_ckpt *c, const ws_tensor *t)
{
    const ws_tensor *own = ws_ckpt_find(ws_vocab_under(c), t->name);
    return own == NULL ? t->dtype : own->dtype;
}

uint64_t ws_vocab_memory(const ws_ckpt *c)
{
    if (c->ops != &source_ops)
        return 0;
    const struct vocab_source *s = c->self;
    uint64_t n = ws_ckpt_memory(s->all[s->k]) + s->arena.total;
    for (size_t i = 0; i < s->n_rows; i++)
        if (s->map->rows > s->map->tokens)
            n += s->rows[i].width * sizeof *s->rows[i].mean;
    return n;
}
