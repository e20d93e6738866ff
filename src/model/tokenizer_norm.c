/*
 * tokenizer_norm.c - normalizers
 *
 * Each step reads one buffer and writes the other. Canonical composition leaves alone
 * what is already composed: only a run of other characters, with the one before it that
 * they may compose with, goes through utf8proc.
 */
#include "model/tokenizer_internal.h"

#include <stdlib.h>
#include <utf8proc.h>

/** Code points and their classes, of one run. */
struct run {
    int32_t *c;
    size_t n, cap;
    bool failed;
};

static bool run_reserve(struct run *r, size_t more)
{
    if (r->n + more <= r->cap)
        return true;
    const size_t cap = (r->n + more) * 2 + 64;
    int32_t *c = ws_realloc(r->c, cap * sizeof *c);
    if (c == NULL) {
        r->failed = true;
        return false;
    }
    r->c = c;
    r->cap = cap;
    return true;
}

static unsigned class_of(int32_t c)
{
    return (unsigned)utf8proc_get_property(c)->combining_class;
}

static int compare_keys(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/** Sort marks [from, to) by class, equal ones as they stand. */
static bool sort_marks(int32_t *c, size_t from, size_t to)
{
    if (to - from <= 16) { // insertion
        for (size_t i = from + 1; i < to; i++) {
            const int32_t v = c[i];
            const unsigned k = class_of(v);
            size_t j = i;
            for (; j > from && class_of(c[j - 1]) > k; j--)
                c[j] = c[j - 1];
            c[j] = v;
        }
        return true;
    }
    const size_t n = to - from;
    uint64_t *key = ws_alloc(n * sizeof *key);
    int32_t *old = ws_alloc(n * sizeof *old);
    if (key != NULL && old != NULL) {
        memcpy(old, c + from, n * sizeof *old);
        for (size_t i = 0; i < n; i++)
            key[i] = (uint64_t)class_of(old[i]) << 32 | (uint32_t)i;
        qsort(key, n, sizeof *key, compare_keys);
        for (size_t i = 0; i < n; i++)
            c[from + i] = old[(uint32_t)key[i]];
    }
    const bool ok = key != NULL && old != NULL;
    ws_free(key);
    ws_free(old);
    return ok;
}

/** Decompose, order, and for NFC and NFKC compose the characters of @p in. */
static void form_run(const ws_step *s, struct run *r, ws_span in, ws_buf *out)
{
    const utf8proc_option_t how =
        (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                            (s->compat ? UTF8PROC_COMPAT : 0));
    r->n = 0;
    for (size_t at = 0, size; at < in.n; at += size) {
        const uint32_t c = ws_utf8_get(in.p + at, in.n - at, &size);
        if (!run_reserve(r, 32))
            return;
        int unused = 0;
        const utf8proc_ssize_t n =
            utf8proc_decompose_char((int32_t)c, r->c + r->n, 32, how, &unused);
        r->n += n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0, j; i < r->n; i = j + 1) {
        for (j = i; j < r->n && class_of(r->c[j]) != 0; j++)
            ;
        if (!sort_marks(r->c, i, j))
            r->failed = true;
    }
    if (s->compose) {
        const utf8proc_ssize_t n = utf8proc_normalize_utf32(
            r->c, (utf8proc_ssize_t)r->n,
            (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
        r->n = n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < r->n; i++) {
        char text[4];
        ws_buf_add(out, text, ws_utf8_put((uint32_t)r->c[i], text));
    }
}

bool ws_nfc_inert(uint32_t c)
{
    return c < 0x300 || (c >= 0x400 && c < 0x483) || (c >= 0x48A && c < 0x559) ||
           (c >= 0x2010 && c < 0x20D0) || (c >= 0x3041 && c < 0x3097) ||
           (c >= 0x30A1 && c < 0x30FB) || (c >= 0x3400 && c < 0xA000) ||
           (c >= 0xAC00 && c < 0xD7A4) || (c >= 0xFF01 && c < 0xFFBF) ||
           (c >= 0x1F300 && c < 0x1FAFF);
}

static ws_status step_form(const ws_step *s, ws_span in, ws_buf *out, ws_err *err)
{
    const bool nfc = s->compose && !s->compat;
    struct run r = { 0 };
    size_t done = 0, last = 0, size; // last: the character before `at`
    for (size_t at = 0; at < in.n;) {
        uint32_t c = (unsigned char)in.p[at];
        size = 1;
        if (c >= 0x80)
            c = ws_utf8_get(in.p + at, in.n - at, &size);
        if (c < 0x80 || (nfc && ws_nfc_inert(c))) {
            last = at;
            at += size;
            continue;
        }
        const size_t begin = last;
        while (at < in.n) { // up to what composes with nothing before it
            c = ws_utf8_get(in.p + at, in.n - at, &size);
            if (c < 0x80 || (nfc && ws_nfc_inert(c)))
                break;
            at += size;
        }
        ws_buf_add(out, in.p + done, begin - done);
        form_run(s, &r, (ws_span){ in.p + begin, at - begin }, out);
        done = last = at;
    }
    ws_buf_add(out, in.p + done, in.n - done);
    if (r.failed)
        out->failed = true;
    ws_free(r.c);
    return out->failed ? ws_fail(err, WS_E_MEMORY, "no memory to normalize text")
                       : WS_OK;
}

static void step_lowercase(ws_span in, ws_buf *out)
{
    for (size_t at = 0, size; at < in.n; at += size) {
        const uint32_t c = ws_utf8_get(in.p + at, in.n - at, &size);
        char text[4];
        if (c == 0x130) // the one whose lower case is two characters
            ws_buf_puts(out, "i\xCC\x87");
        else if (c < 0x80)
            ws_buf_putc(out, (char)(c >= 'A' && c <= 'Z' ? c + 32 : c));
        else
            ws_buf_add(out, text,
                       ws_utf8_put((uint32_t)utf8proc_tolower((int32_t)c), text));
    }
}

static ws_status too_much(size_t n, ws_err *err)
{
    return ws_fail(err, WS_E_UNSUPPORTED,
                   "the tokenizer makes more than 64 times as much of %zu bytes", n);
}

ws_status ws_step_replace(const ws_step *s, ws_matcher *m, ws_span in, size_t most,
                          ws_buf *out, ws_err *err)
{
    size_t done = 0;
    if (s->regex == NULL) {
        const char *hit;
        while (out->n < most &&
               (hit = ws_span_find((ws_span){ in.p + done, in.n - done }, s->text)) !=
                   NULL) {
            ws_buf_add(out, in.p + done, (size_t)(hit - in.p) - done);
            ws_buf_add(out, s->with.p, s->with.n);
            done = (size_t)(hit - in.p) + s->text.n;
        }
    } else {
        ws_regex_walk w = ws_regex_walk_begin(s->regex, m, in.p, in.n);
        size_t start, end;
        bool found;
        while (out->n < most) {
            const ws_status st = ws_regex_walk_next(&w, &start, &end, &found, err);
            if (st != WS_OK)
                return st;
            if (!found)
                break;
            ws_buf_add(out, in.p + done, start - done);
            ws_buf_add(out, s->with.p, s->with.n);
            done = end;
        }
    }
    ws_buf_add(out, in.p + done, in.n - done);
    return WS_OK;
}

/** One step from @p in to @p out, or only a narrower *in. */
static ws_status step_run(const ws_step *s, ws_matcher *m, ws_span *in, size_t most,
                          ws_buf *out, ws_err *err)
{
    ws_status st = WS_OK;
    out->n = 0;
    switch (s->kind) {
    case WS_STEP_FORM:
        st = step_form(s, *in, out, err);
        break;
    case WS_STEP_LOWERCASE:
        step_lowercase(*in, out);
        break;
    case WS_STEP_STRIP: {
        const size_t left = s->left ? ws_space_left(*in) : 0;
        *in = (ws_span){ in->p + left, in->n - left };
        in->n -= s->right ? ws_space_right(*in) : 0;
        return WS_OK;
    }
    case WS_STEP_PREPEND:
        ws_buf_add(out, s->with.p, in->n > 0 ? s->with.n : 0);
        ws_buf_add(out, in->p, in->n);
        break;
    default:
        st = ws_step_replace(s, m, *in, most, out, err);
    }
    if (st == WS_OK && out->failed)
        st = ws_fail(err, WS_E_MEMORY, "no memory to normalize text");
    if (st == WS_OK)
        *in = (ws_span){ out->p, out->n };
    return st;
}

ws_status ws_normalize(const ws_steps *steps, ws_matcher *m, ws_span in,
                       ws_buf_pair *scratch, ws_span *out, ws_err *err)
{
    const size_t most = ws_step_most(in.n), n = in.n;
    for (size_t i = 0, turn = 0; i < steps->n; i++) {
        const ws_status st =
            step_run(&steps->step[i], m, &in, most, &scratch->buf[turn], err);
        if (st != WS_OK)
            return st;
        if (in.n > most)
            return too_much(n, err);
        turn ^= steps->step[i].kind != WS_STEP_STRIP;
    }
    *out = in;
    return WS_OK;
}
