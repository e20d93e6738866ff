/*
 * tokenizer_encode.c - text to ids
 *
 * Pieces run through the steps of the pre-tokenizer depth first, so that nothing but
 * the piece at hand is kept. Each step that changes text has a buffer of its own.
 */
#include "model/tokenizer_internal.h"

enum { MAX_TEXT = (1 << 30) - 1 };

struct ws_encoder {
    const ws_tokenizer *t;
    ws_matcher matcher;
    ws_bpe_work work;
    ws_buf mended;
    ws_buf_pair norm;
    ws_buf buf[WS_TOK_MAX_STEPS];
    ws_span raw, normal; // what ws_added_cut() cuts now
    bool first;          // .normal opens the text
    ws_ids *out;
};

ws_status ws_encoder_new(ws_encoder **out, const ws_tokenizer *t, ws_err *err)
{
    ws_encoder *e = ws_calloc(1, sizeof *e);
    if (e == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to encode");
    e->t = t;
    const ws_status st = ws_bpe_work_init(&e->work, &t->bpe, err);
    if (st != WS_OK) {
        ws_encoder_free(e);
        return st;
    }
    *out = e;
    return WS_OK;
}

void ws_encoder_free(ws_encoder *e)
{
    if (e == NULL)
        return;
    ws_matcher_free(&e->matcher);
    ws_bpe_work_free(&e->work);
    ws_buf_free(&e->mended);
    ws_buf_free(&e->norm.buf[0]);
    ws_buf_free(&e->norm.buf[1]);
    for (size_t i = 0; i < WS_TOK_MAX_STEPS; i++)
        ws_buf_free(&e->buf[i]);
    ws_free(e);
}

void ws_ids_free(ws_ids *ids)
{
    ws_free(ids->p);
    *ids = (ws_ids){ 0 };
}

static ws_status run_steps(ws_encoder *e, size_t i, ws_span piece, bool first,
                           ws_err *err);

/** Matches and what lies between them, on their way to become pieces. */
struct fold {
    ws_encoder *e;
    size_t next; // step
    ws_span text;
    bool first;
    ws_split_behavior behavior;
    size_t start, end; // waiting piece, where .have
    bool have, was_match;
};

static inline ws_status fold_give(const struct fold *f, size_t start, size_t end,
                                  ws_err *err)
{
    if (start >= end)
        return WS_OK;
    return run_steps(f->e, f->next, (ws_span){ f->text.p + start, end - start },
                     f->first && start == 0, err);
}

static ws_status fold_end(struct fold *f, ws_err *err)
{
    const bool have = f->have;
    f->have = false;
    return have ? fold_give(f, f->start, f->end, err) : WS_OK;
}

/** Bytes [start, end) do match, or do not. */
static ws_status fold_add(struct fold *f, size_t start, size_t end, bool match,
                          ws_err *err)
{
    bool joins = false; // the waiting piece
    switch (f->behavior) {
    case WS_SPLIT_REMOVED:
        return match ? WS_OK : fold_give(f, start, end, err);
    case WS_SPLIT_ISOLATED:
        return fold_give(f, start, end, err);
    case WS_SPLIT_CONTIGUOUS:
        joins = match == f->was_match;
        break;
    case WS_SPLIT_PREVIOUS:
        joins = match && !f->was_match;
        break;
    case WS_SPLIT_NEXT:
        joins = !match && f->was_match;
        break;
    }
    f->was_match = match;
    if (f->have && joins) {
        f->end = end;
        return WS_OK;
    }
    const ws_status st = fold_end(f, err);
    f->start = start;
    f->end = end;
    f->have = true;
    return st;
}

static ws_status split(ws_encoder *e, size_t i, ws_span text, bool first, ws_err *err)
{
    const ws_step *s = &e->t->pre.step[i];
    struct fold f = {
        .e = e, .next = i + 1, .text = text, .first = first, .behavior = s->behavior
    };
    ws_regex_walk w = ws_regex_walk_begin(s->regex, &e->matcher, text.p, text.n);
    size_t done = 0, start, end;
    for (;;) {
        bool found;
        ws_status st = ws_regex_walk_next(&w, &start, &end, &found, err);
        if (st == WS_OK && !found)
            break;
        if (st == WS_OK && done != start)
            st = fold_add(&f, done, start, s->invert, err);
        if (st == WS_OK)
            st = fold_add(&f, start, end, !s->invert, err);
        if (st != WS_OK)
            return st;
        done = end;
    }
    if (done != text.n) {
        const ws_status st = fold_add(&f, done, text.n, s->invert, err);
        if (st != WS_OK)
            return st;
    }
    return fold_end(&f, err);
}

/** Blanks become the mark, and one goes before the text where it should and is not. */
static void meta(const ws_step *s, ws_span in, bool first, ws_buf *out)
{
    const bool put =
        s->scheme == WS_META_ALWAYS || (s->scheme == WS_META_FIRST && first);
    if (put && *in.p != ' ' && !ws_span_starts(in, s->with))
        ws_buf_add(out, s->with.p, s->with.n);
    size_t done = 0;
    const char *blank;
    while ((blank = memchr(in.p + done, ' ', in.n - done)) != NULL) {
        const size_t at = (size_t)(blank - in.p);
        ws_buf_add(out, in.p + done, at - done);
        ws_buf_add(out, s->with.p, s->with.n);
        done = at + 1;
    }
    ws_buf_add(out, in.p + done, in.n - done);
}

static void letters(ws_span in, ws_buf *out)
{
    char text[4];
    for (size_t i = 0; i < in.n; i++)
        ws_buf_add(out, text,
                   ws_utf8_put(ws_byte_letter((unsigned char)in.p[i]), text));
}

/** Steps from @p i on, then the model. The piece is not empty. */
static ws_status run_steps(ws_encoder *e, size_t i, ws_span piece, bool first,
                           ws_err *err)
{
    const ws_tokenizer *t = e->t;
    for (; i < t->pre.n; i++) {
        const ws_step *s = &t->pre.step[i];
        ws_buf *buf = &e->buf[i];
        buf->n = 0;
        if (s->kind == WS_STEP_SPLIT)
            return split(e, i, piece, first, err);
        if (s->kind == WS_STEP_SPACE) {
            if (*piece.p == ' ')
                continue;
            ws_buf_putc(buf, ' ');
            ws_buf_add(buf, piece.p, piece.n);
        } else if (s->kind == WS_STEP_META) {
            meta(s, piece, first, buf);
        } else {
            letters(piece, buf);
        }
        if (buf->failed)
            return ws_fail(err, WS_E_MEMORY, "no memory to split text");
        piece = (ws_span){ buf->p, buf->n };
    }
    return ws_bpe_encode(&t->bpe, &t->vocab, &e->work, piece, e->out, err);
}

static ws_status add_ids(ws_ids *out, const int32_t *ids, size_t n, ws_err *err)
{
    const ws_status st = ws_ids_reserve(out, n, err);
    for (size_t i = 0; i < n && st == WS_OK; i++)
        out->p[out->n++] = ids[i];
    return st;
}

static ws_status each_normal(void *arg, const ws_added *a, size_t start, size_t end,
                             ws_err *err)
{
    ws_encoder *e = arg;
    if (a != NULL)
        return add_ids(e->out, &a->id, 1, err);
    return run_steps(e, 0, (ws_span){ e->normal.p + start, end - start },
                     e->first && start == 0, err);
}

static ws_status each_raw(void *arg, const ws_added *a, size_t start, size_t end,
                          ws_err *err)
{
    ws_encoder *e = arg;
    if (a != NULL)
        return add_ids(e->out, &a->id, 1, err);
    const ws_tokenizer *t = e->t;
    const ws_span text = { e->raw.p + start, end - start };
    e->first = start == 0;
    const ws_status st =
        ws_normalize(&t->normalizer, &e->matcher, text, &e->norm, &e->normal, err);
    if (st != WS_OK)
        return st;
    return ws_added_cut(t, &t->normal, &e->matcher, e->normal, each_normal, e, err);
}

ws_status ws_encode(ws_encoder *e, const char *text, size_t len, bool special,
                    ws_ids *out, ws_err *err)
{
    const ws_tokenizer *t = e->t;
    const size_t before = out->n;
    if (len > MAX_TEXT)
        return ws_fail(err, WS_E_USAGE, "a text of %zu bytes, at most %d are encoded",
                       len, MAX_TEXT);
    e->raw = (ws_span){ text, len };
    if (!ws_utf8_valid(text, len)) {
        e->mended.n = 0;
        ws_utf8_mend(text, len, &e->mended);
        if (e->mended.failed)
            return ws_fail(err, WS_E_MEMORY, "no memory for a text of %zu bytes", len);
        e->raw = (ws_span){ e->mended.p, e->mended.n };
    }
    e->out = out;
    ws_status st = WS_OK;
    if (special)
        st = add_ids(out, t->prefix, t->n_prefix, err);
    if (st == WS_OK)
        st = ws_added_cut(t, &t->raw, &e->matcher, e->raw, each_raw, e, err);
    if (st == WS_OK && special)
        st = add_ids(out, t->suffix, t->n_suffix, err);
    if (st != WS_OK)
        out->n = before;
    return st;
}
