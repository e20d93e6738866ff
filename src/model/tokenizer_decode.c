/*
 * tokenizer_decode.c - ids to text, at once and token by token
 *
 * A decoder is a chain of steps, each from a list of strings to a list of strings; the
 * text is the last list joined. Token by token the same chain runs over a short window:
 * the tokens of the last part given and those after it.
 */
#include "model/tokenizer_internal.h"

#define BROKEN "\xEF\xBF\xBD" // U+FFFD

enum {
    IDLE_MOST = 16,    // tokens that make no text certain; four complete any character
    WINDOW_MOST = 256, // tokens, when each ends within a character
};

/** Strings, one behind the other. */
struct list {
    ws_buf text;
    size_t *end;
    size_t n, cap;
};

struct chain {
    struct list list[2];
    ws_matcher matcher;
};

static void chain_free(struct chain *c)
{
    for (int i = 0; i < 2; i++) {
        ws_buf_free(&c->list[i].text);
        ws_free(c->list[i].end);
    }
    ws_matcher_free(&c->matcher);
}

/** The string that was added to l->text ends here. */
static void list_end(struct list *l)
{
    if (l->n == l->cap) {
        const size_t cap = l->cap < 64 ? 64 : l->cap * 2;
        size_t *end = ws_realloc(l->end, cap * sizeof *end);
        if (end == NULL) {
            l->text.failed = true;
            return;
        }
        l->end = end;
        l->cap = cap;
    }
    l->end[l->n++] = l->text.n;
}

static ws_span list_get(const struct list *l, size_t i)
{
    const size_t start = i == 0 ? 0 : l->end[i - 1];
    return (ws_span){ l->text.p + start, l->end[i] - start };
}

/** What @p id is to the decoder; .p NULL: nothing, or special and skipped. */
static ws_span spelling(const ws_tokenizer *t, int32_t id, bool skip_special)
{
    const ws_span none = { 0 };
    if (id < 0 || id >= t->size)
        return none;
    if (t->added_at[id] < 0)
        return t->vocab.token[id];
    const ws_added *a = &t->added[t->added_at[id]];
    // as normalized, where it is: that spelling alone is asked whether it is special
    const bool same =
        a->found.n == a->text.n && memcmp(a->found.p, a->text.p, a->text.n) == 0;
    return skip_special && a->special && same ? none : a->found;
}

/** The bytes that a token's letters stand for, or its own where one is no letter. */
static void byte_level(ws_span token, ws_buf *out)
{
    const size_t before = out->n;
    for (size_t at = 0, size; at < token.n; at += size) {
        const int b = ws_letter_byte(ws_utf8_get(token.p + at, token.n - at, &size));
        if (b < 0) {
            out->n = before;
            ws_buf_add(out, token.p, token.n);
            return;
        }
        ws_buf_putc(out, (char)b);
    }
}

static void all_byte_level(const struct list *in, struct list *out)
{
    ws_buf bytes = { 0 };
    for (size_t i = 0; i < in->n; i++)
        byte_level(list_get(in, i), &bytes);
    ws_utf8_mend(bytes.p, bytes.n, &out->text);
    list_end(out);
    out->text.failed |= bytes.failed;
    ws_buf_free(&bytes);
}

/** Runs of byte tokens become one string, or U+FFFD each when they are no UTF-8. */
static void all_byte_fallback(const struct list *in, struct list *out)
{
    for (size_t i = 0, j; i < in->n; i = j) {
        const size_t start = out->text.n;
        int b;
        for (j = i; j < in->n && (b = ws_byte_token(list_get(in, j))) >= 0; j++)
            ws_buf_putc(&out->text, (char)b);
        if (j == i) {
            const ws_span token = list_get(in, j++);
            ws_buf_add(&out->text, token.p, token.n);
            list_end(out);
        } else if (!out->text.failed &&
                   ws_utf8_valid(out->text.p + start, out->text.n - start)) {
            list_end(out);
        } else {
            out->text.n = start;
            for (size_t k = i; k < j; k++) {
                ws_buf_puts(&out->text, BROKEN);
                list_end(out);
            }
        }
    }
}

static ws_span trim(const ws_step *s, ws_span token)
{
    for (size_t i = 0; i < s->left && ws_span_starts(token, s->text); i++)
        token = (ws_span){ token.p + s->text.n, token.n - s->text.n };
    for (size_t i = 0; i < s->right && token.n >= s->text.n; i++) {
        const char *tail = token.p + token.n - s->text.n;
        if (memcmp(tail, s->text.p, s->text.n) != 0)
            break;
        token.n -= s->text.n;
    }
    return token;
}

static void unmeta(const ws_step *s, ws_span token, bool first, ws_buf *out)
{
    const bool drop = first && s->scheme != WS_META_NEVER;
    const char *hit;
    while ((hit = ws_span_find(token, s->text)) != NULL) {
        ws_buf_add(out, token.p, (size_t)(hit - token.p));
        ws_buf_add(out, " ", drop ? 0 : 1);
        token.n -= (size_t)(hit - token.p) + s->text.n;
        token.p = hit + s->text.n;
    }
    ws_buf_add(out, token.p, token.n);
}

/** A step that treats each string by itself. */
static ws_status each_token(struct chain *c, const ws_step *s, const struct list *in,
                            struct list *out, ws_err *err)
{
    const size_t most = ws_step_most(in->text.n);
    for (size_t i = 0; i < in->n; i++) {
        ws_span token = list_get(in, i);
        ws_status st = WS_OK;
        if (s->kind == WS_STEP_REPLACE) {
            st = ws_step_replace(s, &c->matcher, token, most, &out->text, err);
        } else if (s->kind == WS_STEP_UNMETA) {
            unmeta(s, token, i == 0, &out->text);
        } else {
            token = trim(s, token);
            ws_buf_add(&out->text, token.p, token.n);
        }
        list_end(out);
        if (st != WS_OK)
            return st;
    }
    if (out->text.n >= most)
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "the decoder makes more than 64 times as much of its tokens");
    return WS_OK;
}

static ws_status run_chain(const ws_tokenizer *t, struct chain *c, ws_buf *out,
                           ws_err *err)
{
    int turn = 0;
    for (size_t i = 0; i < t->decoder.n; i++, turn ^= 1) {
        const ws_step *s = &t->decoder.step[i];
        struct list *in = &c->list[turn], *to = &c->list[turn ^ 1];
        to->n = to->text.n = 0;
        ws_status st = WS_OK;
        switch (s->kind) {
        case WS_STEP_BYTE_LEVEL:
            all_byte_level(in, to);
            break;
        case WS_STEP_BYTE_FALLBACK:
            all_byte_fallback(in, to);
            break;
        case WS_STEP_FUSE:
            ws_buf_add(&to->text, in->text.p, in->text.n);
            list_end(to);
            break;
        default:
            st = each_token(c, s, in, to, err);
        }
        if (st == WS_OK && to->text.failed)
            st = ws_fail(err, WS_E_MEMORY, "no memory to decode");
        if (st != WS_OK)
            return st;
    }
    ws_buf_add(out, c->list[turn].text.p, c->list[turn].text.n);
    return out->failed ? ws_fail(err, WS_E_MEMORY, "no memory for decoded text")
                       : WS_OK;
}

static ws_status decode(const ws_tokenizer *t, struct chain *c, const int32_t *ids,
                        size_t n, bool skip_special, ws_buf *out, ws_err *err)
{
    struct list *l = &c->list[0];
    l->n = l->text.n = 0;
    for (size_t i = 0; i < n; i++) {
        const ws_span token = spelling(t, ids[i], skip_special);
        if (token.p == NULL)
            continue;
        if (!t->has_decoder && l->n > 0)
            ws_buf_putc(&l->text, ' ');
        ws_buf_add(&l->text, token.p, token.n);
        list_end(l);
    }
    if (l->text.failed)
        return ws_fail(err, WS_E_MEMORY, "no memory to decode %zu tokens", n);
    return run_chain(t, c, out, err);
}

ws_status ws_decode(const ws_tokenizer *t, const int32_t *ids, size_t n,
                    bool skip_special, ws_buf *out, ws_err *err)
{
    struct chain c = { 0 };
    const ws_status st = decode(t, &c, ids, n, skip_special, out, err);
    chain_free(&c);
    return st;
}

uint32_t ws_tokenizer_bytes(const ws_tokenizer *t, int32_t id)
{
    size_t n;
    const char *p = ws_tokenizer_token(t, id, &n);
    if (p == NULL)
        return 0;
    const ws_span token = { p, n };
    if (t->added_at[id] >= 0)
        return (uint32_t)n;
    for (size_t i = 0; i < t->decoder.n; i++) {
        const ws_step *s = &t->decoder.step[i];
        if (s->kind == WS_STEP_BYTE_FALLBACK && ws_byte_token(token) >= 0)
            return 1;
        ws_span rest = token;
        if (s->kind == WS_STEP_BYTE_LEVEL) {
            size_t letters = 0, size;
            for (size_t at = 0; at < token.n; at += size, letters++)
                if (ws_letter_byte(ws_utf8_get(p + at, token.n - at, &size)) < 0)
                    return (uint32_t)token.n;
            return (uint32_t)letters;
        }
        if (s->text.n == 0 || (s->kind != WS_STEP_REPLACE && s->kind != WS_STEP_UNMETA))
            continue;
        const size_t with = s->kind == WS_STEP_UNMETA ? 1 : s->with.n;
        for (const char *hit; (hit = ws_span_find(rest, s->text)) != NULL;) {
            n = n - s->text.n + with;
            rest.n -= (size_t)(hit - rest.p) + s->text.n;
            rest.p = hit + s->text.n;
        }
    }
    return (uint32_t)n;
}

/* ---- token by token -------------------------------------------------------------- */

struct ws_decoder {
    const ws_tokenizer *t;
    bool skip_special;
    struct chain chain;
    ws_ids ids;   // the window
    size_t old;   // its first ones, of parts before
    size_t idle;  // tokens since text was given
    ws_buf given; // what was given of the window's text
    ws_buf now;   // text of the window
};

ws_status ws_decoder_new(ws_decoder **out, const ws_tokenizer *t, bool skip_special,
                         ws_err *err)
{
    ws_decoder *d = ws_calloc(1, sizeof *d);
    if (d == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to decode");
    d->t = t;
    d->skip_special = skip_special;
    *out = d;
    return WS_OK;
}

void ws_decoder_free(ws_decoder *d)
{
    if (d == NULL)
        return;
    chain_free(&d->chain);
    ws_ids_free(&d->ids);
    ws_buf_free(&d->given);
    ws_buf_free(&d->now);
    ws_free(d);
}

/** Give what d->now has up to @p n beyond d->given: whole characters. */
static ws_status give(ws_decoder *d, size_t n, ws_buf *out, ws_err *err)
{
    const char *p = d->now.p;
    size_t same = 0;
    d->idle = 0;
    if (n == 0)
        return WS_OK;
    while (same < n && same < d->given.n && p[same] == d->given.p[same])
        same++;
    while (same > 0 && same < n && ((unsigned char)p[same] & 0xC0) == 0x80)
        same--;
    ws_buf_add(out, p + same, n - same);
    return out->failed ? ws_fail(err, WS_E_MEMORY, "no memory for decoded text")
                       : WS_OK;
}

/** The window now opens with the tokens that came since it was cut before. */
static ws_status window_cut(ws_decoder *d, ws_err *err)
{
    d->ids.n -= d->old;
    memmove(d->ids.p, d->ids.p + d->old, d->ids.n * sizeof *d->ids.p);
    d->old = d->ids.n;
    d->given.n = 0;
    return decode(d->t, &d->chain, d->ids.p, d->ids.n, d->skip_special, &d->given, err);
}

ws_status ws_decoder_add(ws_decoder *d, int32_t id, ws_buf *out, ws_err *err)
{
    if (spelling(d->t, id, d->skip_special).p == NULL)
        return WS_OK;
    ws_status st = ws_ids_reserve(&d->ids, 1, err);
    if (st != WS_OK)
        return st;
    d->ids.p[d->ids.n++] = id;
    d->now.n = 0;
    st = decode(d->t, &d->chain, d->ids.p, d->ids.n, d->skip_special, &d->now, err);
    if (st != WS_OK)
        return st;
    // what ends in U+FFFD may be the start of a character
    size_t n = d->now.n;
    while (n >= 3 && memcmp(d->now.p + n - 3, BROKEN, 3) == 0)
        n -= 3;
    if (++d->idle >= IDLE_MOST || d->ids.n - d->old >= WINDOW_MOST) {
        st = give(d, d->now.n, out, err);
        return st == WS_OK ? window_cut(d, err) : st;
    }
    if (n <= d->given.n ||
        (d->given.n > 0 && memcmp(d->now.p, d->given.p, d->given.n) != 0))
        return WS_OK;
    if ((st = give(d, n, out, err)) != WS_OK)
        return st;
    if (n == d->now.n)
        return window_cut(d, err);
    d->given.n = 0;
    ws_buf_add(&d->given, d->now.p, n);
    return d->given.failed ? ws_fail(err, WS_E_MEMORY, "no memory to decode") : WS_OK;
}

ws_status ws_decoder_end(ws_decoder *d, ws_buf *out, ws_err *err)
{
    d->now.n = 0;
    ws_status st =
        decode(d->t, &d->chain, d->ids.p, d->ids.n, d->skip_special, &d->now, err);
    if (st == WS_OK)
        st = give(d, d->now.n, out, err);
    d->ids.n = d->old = d->given.n = 0;
    return st;
}
