/*
 * data.c - a data set: its sources, and which rows stand at which position
 *
 * Position p is entry i = p mod R of epoch e = p div R, R the rows of an epoch. Entry i
 * is shuffled among the R; it is then draw j of a source, whose draws over all epochs
 * go through its rows pass by pass, each pass with a shuffle of its own.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "train/data_internal.h"

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

ws_status ws_data_source_parse(ws_data_source *out, const char *spec, ws_arena *arena,
                               ws_err *err)
{
    const char *eq = strchr(spec, '='), *slash;
    char *name = ws_arena_strdup(arena, spec);

    if (!name)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    *out = (ws_data_source){ .path = name, .weight = 1.0 };
    if (eq && access(spec, F_OK) != 0) {
        out->path = name + (eq - spec) + 1;
        name[eq - spec] = '\0';
        out->name = name;
        if (!name[0] || !out->path[0])
            return ws_fail(err, WS_E_USAGE, "data '%s' is not NAME=FILE", spec);
        return WS_OK;
    }
    if (!spec[0])
        return ws_fail(err, WS_E_USAGE, "an empty name of a data file");
    slash = strrchr(spec, '/');
    char *stem = ws_arena_strdup(arena, slash ? slash + 1 : spec);
    if (!stem)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    char *dot = strrchr(stem, '.');
    if (dot && dot != stem)
        *dot = '\0';
    out->name = stem;
    return WS_OK;
}

ws_status ws_data_grow(ws_data *d, void **p, uint64_t *cap, uint64_t want, size_t size,
                       ws_err *err)
{
    uint64_t to = *cap ? *cap : 1024;

    if (want <= *cap)
        return WS_OK;
    while (to < want)
        to += to / 2;
    const uint64_t held = d->held + (to - *cap) * size;
    if (to > SIZE_MAX / size || held > d->limit) {
        ws_fail(err, WS_E_MEMORY, "the tokens of the data exceed the memory limit");
        ws_err_hint(err, "token files (.bin, .npy) are read where they are");
        return WS_E_MEMORY;
    }
    void *q = ws_realloc(*p, (size_t)to * size);
    if (!q)
        return ws_fail(err, WS_E_MEMORY, "no memory for the tokens of the data");
    *p = q;
    *cap = to;
    d->held = held;
    return WS_OK;
}

static bool bit(const uint8_t *bits, uint64_t i)
{
    return (bits[i / 8] >> (i % 8) & 1) != 0;
}

bool ws_source_scored(const ws_source *s, uint64_t i)
{
    return !s->unscored || !bit(s->unscored, i);
}

/** Room for @p more ids, in whichever width. */
static ws_status ids_reserve(ws_data *d, ws_source *s, uint64_t more, ws_err *err)
{
    const uint64_t old = s->cap;
    void *p = d->narrow ? (void *)s->narrow : (void *)s->wide;
    const size_t size = d->narrow ? sizeof *s->narrow : sizeof *s->wide;
    ws_status st = ws_data_grow(d, &p, &s->cap, s->n + more, size, err);

    if (d->narrow)
        s->narrow = p;
    else
        s->wide = p;
    if (st || !s->unscored || s->cap == old)
        return st;
    uint8_t *bits = ws_realloc(s->unscored, (size_t)(s->cap / 8 + 1));
    if (!bits)
        return ws_fail(err, WS_E_MEMORY, "no memory for the tokens of the data");
    memset(bits + old / 8 + 1, 0, (size_t)(s->cap / 8 - old / 8));
    s->unscored = bits;
    return WS_OK;
}

static ws_status mark(ws_source *s, const bool *mask, size_t n, ws_err *err)
{
    if (!s->unscored) {
        s->unscored = ws_calloc((size_t)(s->cap / 8 + 1), 1);
        if (!s->unscored)
            return ws_fail(err, WS_E_MEMORY, "no memory for the tokens of the data");
    }
    for (size_t i = 0; i < n; i++)
        if (!mask[i])
            s->unscored[(s->n + i) / 8] |= (uint8_t)(1u << (s->n + i) % 8);
    return WS_OK;
}

ws_status ws_source_add(ws_data *d, ws_source *s, const ws_ids *ids, const bool *mask,
                        ws_err *err)
{
    ws_status st = ids_reserve(d, s, ids->n, err);

    if (st == WS_OK && mask)
        st = mark(s, mask, ids->n, err);
    if (st == WS_OK) {
        void *p = s->doc;
        st = ws_data_grow(d, &p, &s->cap_docs, s->n_docs + 2, sizeof *s->doc, err);
        s->doc = p;
    }
    if (st)
        return st;
    for (size_t i = 0; i < ids->n; i++)
        if (d->narrow)
            s->narrow[s->n + i] = (uint16_t)ids->p[i];
        else
            s->wide[s->n + i] = ids->p[i];
    s->doc[s->n_docs++] = s->n;
    s->n += ids->n;
    s->doc[s->n_docs] = s->n;
    return WS_OK;
}

/* ---- opening ---- */

static ws_status opts_check(const ws_data_source *src, size_t n, const ws_data_opts *o,
                            ws_err *err)
{
    if (n == 0)
        return ws_fail(err, WS_E_USAGE, "no data is given");
    if (o->length < 1 || o->length > (1 << 24))
        return ws_fail(err, WS_E_USAGE, "rows of %lld positions, wanted 1 to 2^24",
                       (long long)o->length);
    for (size_t i = 0; i < n; i++)
        if (!(src[i].weight > 0.0 && src[i].weight <= 1e6))
            return ws_fail(err, WS_E_USAGE,
                           "data '%s' has weight %g, wanted above 0, at most 1e6",
                           src[i].name, src[i].weight);
    return WS_OK;
}

/** Endings that no reader is for, and the way out. */
static ws_status refuse_foreign(const char *path, ws_err *err)
{
    static const struct {
        const char *end, *hint;
    } foreign[] = {
        { ".parquet", "convert to JSONL: pandas.read_parquet(F).to_json(G, "
                      "orient='records', lines=True)" },
        { ".arrow", "convert to JSONL, one object a line" },
        { ".csv", "convert to JSONL, one object a line" },
        { ".tsv", "convert to JSONL, one object a line" },
        { ".gz", "decompress it first" },
        { ".zst", "decompress it first" },
    };

    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (ends_with(path, foreign[i].end)) {
            ws_fail(err, WS_E_UNSUPPORTED, "data in '%s' is not read", foreign[i].end);
            ws_err_hint(err, "%s", foreign[i].hint);
            return WS_E_UNSUPPORTED;
        }
    return WS_OK;
}

static ws_status source_open(ws_data *d, ws_source *s, ws_err *err)
{
    const char *path = s->path;
    const bool tokens = ends_with(path, ".bin") || ends_with(path, ".npy");
    ws_status st = refuse_foreign(path, err);

    if (st == WS_OK && !tokens && !d->t)
        st = ws_fail(err, WS_E_USAGE, "text needs a tokenizer");
    if (st == WS_OK && tokens)
        st = ws_source_tokens(d, s, err);
    else if (st == WS_OK && (ends_with(path, ".jsonl") || ends_with(path, ".json") ||
                             ends_with(path, ".ndjson")))
        st = ws_source_jsonl(d, s, err);
    else if (st == WS_OK)
        st = ws_source_text(d, s, err);
    if (st == WS_OK)
        st = ws_source_rows(d, s, err);
    if (st)
        ws_err_at(err, path, NULL, -1);
    return st;
}

static ws_status sources_join(ws_data *d, const ws_data_source *src, ws_err *err)
{
    ws_data_info *f = &d->info;

    f->kind = d->source[0].kind;
    for (size_t i = 0; i < d->n; i++) {
        ws_source *s = &d->source[i];
        if ((s->kind == WS_DATA_PAIRS) != (f->kind == WS_DATA_PAIRS))
            return ws_fail(err, WS_E_USAGE, "'%s' and '%s' mix pairs with other data",
                           d->source[0].path, s->path);
        s->share = s->rows ? (uint64_t)llround(src[i].weight * (double)s->rows) : 0;
        if (s->rows && s->share == 0)
            s->share = 1;
        f->rows += (int64_t)s->share;
        f->tokens += s->n;
        f->documents += s->running ? 1 : s->n_docs;
    }
    f->memory_bytes = d->held;
    f->chat_format = d->has_chat ? ws_chat_name_of(&d->chat) : NULL;
    if (f->rows == 0) {
        ws_fail(err, WS_E_USAGE, "the data has nothing to predict");
        ws_err_at(err, d->source[0].path, NULL, -1);
        return WS_E_USAGE;
    }
    return WS_OK;
}

ws_status ws_data_open(ws_data **out, const ws_data_source *sources, size_t n,
                       const ws_tokenizer *t, const ws_data_opts *opts,
                       const ws_ctx *ctx, ws_err *err)
{
    ws_status st = opts_check(sources, n, opts, err);
    if (st)
        return st;
    ws_data *d = ws_calloc(1, sizeof *d);
    if (!d)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    *d = (ws_data){ .n = n, .t = t, .o = *opts, .ctx = ctx };
    d->limit = ctx && ctx->max_memory ? ctx->max_memory : ws_os_memory_total() / 2;
    d->narrow = t && ws_tokenizer_size(t) <= 65536;
    d->source = ws_arena_calloc(&d->arena, n, sizeof *d->source);
    if (!d->source)
        st = ws_fail(err, WS_E_MEMORY, "out of memory");
    for (size_t i = 0; st == WS_OK && i < n; i++)
        d->source[i].fd = -1;
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        d->source[i].name = ws_arena_strdup(&d->arena, sources[i].name);
        d->source[i].path = ws_arena_strdup(&d->arena, sources[i].path);
        if (!d->source[i].name || !d->source[i].path)
            st = ws_fail(err, WS_E_MEMORY, "out of memory");
        else
            st = source_open(d, &d->source[i], err);
    }
    if (st == WS_OK)
        st = sources_join(d, sources, err);
    if (st) {
        ws_data_free(d);
        return st;
    }
    *out = d;
    return WS_OK;
}

void ws_data_free(ws_data *d)
{
    if (!d)
        return;
    for (size_t i = 0; d->source && i < d->n; i++) {
        ws_source *s = &d->source[i];
        ws_free(s->narrow);
        ws_free(s->wide);
        ws_free(s->unscored);
        ws_free(s->doc);
        ws_free(s->seg);
        ws_free(s->row);
        if (s->fd >= 0)
            close(s->fd);
    }
    ws_arena_free(&d->arena);
    ws_free(d);
}

const ws_data_info *ws_data_info_of(const ws_data *d)
{
    return &d->info;
}

/* ---- batches ---- */

static ws_status batch_reserve(ws_batch *b, int64_t more, int64_t docs, ws_err *err)
{
    if (b->n + more > b->cap) {
        const int64_t cap = b->n + more + b->cap / 2;
        int32_t *x = ws_realloc(b->tokens, (size_t)cap * sizeof *x);
        if (x)
            b->tokens = x;
        int32_t *y = ws_realloc(b->targets, (size_t)cap * sizeof *y);
        if (y)
            b->targets = y;
        if (!x || !y)
            return ws_fail(err, WS_E_MEMORY, "no memory for a batch");
        b->cap = cap;
    }
    if (b->n_docs + docs + 1 > b->cap_docs) {
        const int64_t cap = b->n_docs + docs + 1 + b->cap_docs / 2;
        int64_t *s = ws_realloc(b->start, (size_t)cap * sizeof *s);
        if (!s)
            return ws_fail(err, WS_E_MEMORY, "no memory for a batch");
        b->start = s;
        b->cap_docs = cap;
    }
    return WS_OK;
}

/** One more document: @p n tokens of @p s from @p first on, the last only a target. */
static ws_status segment_add(const ws_data *d, const ws_source *s, uint64_t first,
                             uint64_t n, ws_batch *b, ws_err *err)
{
    // one more for the last token, which is then overwritten or left
    ws_status st = batch_reserve(b, (int64_t)n, 1, err);
    int32_t *x = b->tokens + b->n, *y = b->targets + b->n;

    if (st == WS_OK)
        st = ws_source_ids(d, s, first, n, x, err);
    if (st)
        return st;
    for (uint64_t i = 0; i + 1 < n; i++) {
        const bool scored = ws_source_scored(s, first + i + 1);
        y[i] = scored ? x[i + 1] : WS_IGNORE;
        b->scored += scored;
        if (scored && d->t)
            b->bytes += ws_tokenizer_bytes(d->t, x[i + 1]);
    }
    b->n += (int64_t)n - 1;
    b->start[++b->n_docs] = b->n;
    return WS_OK;
}

static ws_status row_add(const ws_data *d, const ws_source *s, uint64_t r, ws_batch *b,
                         ws_err *err)
{
    const uint64_t T = (uint64_t)d->o.length;
    uint64_t from = r, to = r + 1;
    ws_status st = WS_OK;

    if (s->running) {
        const uint64_t left = s->n - r * T;
        return segment_add(d, s, r * T, left < T + 1 ? left : T + 1, b, err);
    }
    if (s->kind == WS_DATA_PAIRS) {
        from = 2 * r;
        to = from + 2;
    } else if (s->row) {
        from = s->row[r];
        to = s->row[r + 1];
    }
    for (uint64_t k = from; st == WS_OK && k < to; k++)
        st = segment_add(d, s, s->seg[k].first, s->seg[k].n, b, err);
    return st;
}

ws_status ws_data_batch(const ws_data *d, uint64_t position, int64_t rows,
                        ws_batch *out, ws_err *err)
{
    const uint64_t R = (uint64_t)d->info.rows;
    ws_status st = batch_reserve(out, 0, 0, err);

    if (st)
        return st;
    out->n = out->n_docs = out->scored = 0;
    out->bytes = 0;
    out->start[0] = 0;
    for (int64_t k = 0; st == WS_OK && k < rows; k++) {
        const uint64_t p = position + (uint64_t)k, epoch = p / R;
        uint64_t i = p % R;
        size_t which = 0;
        if (!d->o.in_order)
            i = ws_shuffle(d->o.seed, "epoch", epoch, R, i);
        while (i >= d->source[which].share)
            i -= d->source[which++].share;
        const ws_source *s = &d->source[which];
        const uint64_t draw = epoch * s->share + i;
        i = draw % s->rows;
        if (!d->o.in_order)
            i = ws_shuffle(d->o.seed, s->name, draw / s->rows, s->rows, i);
        st = row_add(d, s, i, out, err);
    }
    return st;
}

void ws_batch_free(ws_batch *b)
{
    ws_free(b->tokens);
    ws_free(b->targets);
    ws_free(b->start);
    *b = (ws_batch){ 0 };
}

/* ---- texts in order ---- */

ws_status ws_data_text_get(const ws_data *d, size_t i, ws_data_text *out, ws_err *err)
{
    const ws_source *s = &d->source[i];
    const uint64_t docs = s->running ? 1 : s->n_docs;

    *out = (ws_data_text){ .name = s->name,
                           .path = s->path,
                           .kind = s->kind,
                           .running = s->running,
                           .n = (int64_t)s->n,
                           .n_docs = (int64_t)docs };
    out->tokens = ws_calloc((size_t)s->n, sizeof *out->tokens);
    out->start = ws_calloc((size_t)docs + 1, sizeof *out->start);
    out->bytes = d->t ? ws_calloc((size_t)s->n, sizeof *out->bytes) : NULL;
    out->scored = s->unscored ? ws_calloc((size_t)s->n, 1) : NULL;
    ws_status st = WS_OK;
    if (!out->tokens || !out->start || (d->t && !out->bytes) ||
        (s->unscored && !out->scored))
        st = ws_fail(err, WS_E_MEMORY, "no memory for the tokens of '%s'", s->name);
    if (st == WS_OK)
        st = ws_source_ids(d, s, 0, s->n, out->tokens, err);
    if (st) {
        ws_data_text_free(out);
        return st;
    }
    for (uint64_t k = 0; k < s->n; k++) {
        if (out->bytes)
            out->bytes[k] = ws_tokenizer_bytes(d->t, out->tokens[k]);
        if (out->scored)
            out->scored[k] = ws_source_scored(s, k);
    }
    for (uint64_t k = 0; k <= docs; k++)
        out->start[k] = (int64_t)(s->running ? k * s->n : s->doc[k]);
    return WS_OK;
}

void ws_data_text_free(ws_data_text *t)
{
    ws_free(t->tokens);
    ws_free(t->bytes);
    ws_free(t->scored);
    ws_free(t->start);
    *t = (ws_data_text){ 0 };
}
