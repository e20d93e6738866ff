/*
 * vocab_write.c - the files of a tokenizer, changed as an alignment wants it
 */
#include "hf/vocab_write.h"

#include <string.h>

#include "base/json_walk.h"

/** A file while it is copied with changes. */
struct copy {
    ws_buf *out;
    const char *from, *end; // not yet copied
    const ws_tokenizer_edit *edit;
    ws_token_set gone; // tokens that go
    ws_buf word, other;
    bool memory;
};

/** Copy up to @p to. */
static void flush(struct copy *c, const char *to)
{
    ws_buf_add(c->out, c->from, (size_t)(to - c->from));
    c->from = to;
}

static bool is_gone(const struct copy *c, const char *s, const char *stop)
{
    size_t id = 0;
    if (c->edit->gone == NULL || s == stop)
        return false;
    for (; s < stop; s++) {
        if (*s < '0' || *s > '9' || id >= c->edit->n_gone)
            return false;
        id = id * 10 + (size_t)(*s - '0');
    }
    return id < c->edit->n_gone && c->edit->gone[id] != 0;
}

/** The string at @p s unescaped into @p b; false without memory. */
static bool unescape(ws_buf *b, const char *s, const char *stop)
{
    const size_t most = (size_t)(stop - s);
    if (b->cap < most) {
        char *p = ws_realloc(b->p, most * 2);
        if (p == NULL)
            return false;
        b->p = p;
        b->cap = most * 2;
    }
    b->n = ws_json_unescape(s, stop, b->p);
    return true;
}

/* ---- lists and objects, item by item ---- */

/** An item of a list, or a member of an object, as it stands in the text. */
struct item {
    const char *begin, *stop; // name and value of a member
    ws_json_member m;         // of an object
};

static bool item_next(const char *p, const char *end, bool object, struct item *x)
{
    if (!object)
        return ws_json_item_next(p, end, &x->begin, &x->stop);
    if (!ws_json_member_next(p, end, &x->m))
        return false;
    x->begin = x->m.name;
    x->stop = x->m.stop;
    return true;
}

typedef bool (*keep_fn)(struct copy *c, const struct item *x);

/**
 * Copy the list or object at @p open (to @p stop) without the items that @p keep does
 * not want. Up to its closing bracket; *lead is the white space before its items.
 * @return how many items were copied
 */
static size_t copy_items(struct copy *c, const char *open, const char *stop,
                         keep_fn keep, const char **lead, size_t *lead_len)
{
    const bool object = *open == '{';
    struct item x;
    size_t n = 0;
    *lead = "";
    *lead_len = 0;
    flush(c, open + 1);
    for (const char *p = open + 1; item_next(p, stop, object, &x); p = x.stop) {
        const char *space = ws_json_skip(p, stop); // the comma, or the item
        if (space < x.begin)
            p = space + 1;
        *lead = p;
        *lead_len = (size_t)(x.begin - p);
        c->from = p;
        if (keep(c, &x)) {
            if (n++ > 0)
                ws_buf_putc(c->out, ',');
            flush(c, x.stop);
        }
        c->from = x.stop;
    }
    return n;
}

static void add_flag(ws_buf *b, const char *name, bool value)
{
    ws_buf_printf(b, ",\"%s\":%s", name, value ? "true" : "false");
}

/** The members that say how an added token is looked for. */
static void add_flags(ws_buf *b, const ws_token_add *t)
{
    ws_buf_puts(b, "\"content\":");
    ws_buf_json_string(b, t->text, t->len);
    add_flag(b, "single_word", t->flags.single_word);
    add_flag(b, "lstrip", t->flags.lstrip);
    add_flag(b, "rstrip", t->flags.rstrip);
    add_flag(b, "normalized", t->flags.normalized);
    add_flag(b, "special", t->flags.special);
    ws_buf_putc(b, '}');
}

/* ---- tokenizer.json ---- */

/** Gather the tokens of the vocabulary that go. */
static void gather_gone(struct copy *c, const char *vocab, const char *stop)
{
    ws_json_member m;
    if (c->edit->gone == NULL || *vocab != '{')
        return;
    for (const char *p = vocab + 1; ws_json_member_next(p, stop, &m); p = m.stop) {
        if (!is_gone(c, m.value, m.stop))
            continue;
        c->memory |= !unescape(&c->word, m.name, m.name + m.name_len) ||
                     ws_token_set_add(&c->gone, c->word.p, c->word.n) == SIZE_MAX;
        if (c->memory)
            return;
    }
}

static bool keep_word(struct copy *c, const struct item *x)
{
    return !is_gone(c, x->m.value, x->m.stop);
}

static bool goes(struct copy *c, const char *s, size_t n)
{
    return ws_token_set_find(&c->gone, s, n) != SIZE_MAX;
}

/** "left right" or ["left", "right"]: neither of them goes, nor what they make. */
static bool keep_merge(struct copy *c, const struct item *x)
{
    const char *left = x->begin, *left_stop = x->stop, *right, *right_stop;
    if (*x->begin == '[') {
        if (!ws_json_item_next(x->begin + 1, x->stop, &left, &left_stop) ||
            !ws_json_item_next(left_stop, x->stop, &right, &right_stop))
            return true;
        c->memory |= !unescape(&c->word, left, left_stop) ||
                     !unescape(&c->other, right, right_stop);
        if (c->memory || goes(c, c->word.p, c->word.n) ||
            goes(c, c->other.p, c->other.n))
            return false;
        ws_buf_add(&c->word, c->other.p, c->other.n);
    } else {
        c->memory |= !unescape(&c->word, left, left_stop);
        char *space = c->memory ? NULL : memchr(c->word.p, ' ', c->word.n);
        if (space == NULL)
            return !c->memory;
        const size_t n = (size_t)(space - c->word.p), rest = c->word.n - n - 1;
        if (goes(c, c->word.p, n) || goes(c, space + 1, rest))
            return false;
        memmove(space, space + 1, rest);
        c->word.n--;
    }
    c->memory |= c->word.failed;
    return !c->memory && !goes(c, c->word.p, c->word.n);
}

static bool keep_added(struct copy *c, const struct item *x)
{
    ws_json_member id;
    return *x->begin != '{' || !ws_json_member_find(x->begin, x->stop, "id", &id) ||
           !is_gone(c, id.value, id.stop);
}

static void put_model(struct copy *c, const ws_json_member *model)
{
    const char *lead;
    size_t n;
    ws_json_member m;
    if (c->edit->gone == NULL || *model->value != '{')
        return;
    if (ws_json_member_find(model->value, model->stop, "vocab", &m))
        gather_gone(c, m.value, m.stop);
    for (const char *p = model->value + 1; ws_json_member_next(p, model->stop, &m);
         p = m.stop) {
        if (ws_json_member_is(&m, "vocab") && *m.value == '{')
            copy_items(c, m.value, m.stop, keep_word, &lead, &n);
        else if (ws_json_member_is(&m, "merges") && *m.value == '[')
            copy_items(c, m.value, m.stop, keep_merge, &lead, &n);
    }
}

/** New tokens at the end of the list of added ones; *n items stand before them. */
static void put_new(struct copy *c, size_t n, const char *lead, size_t lead_len)
{
    const ws_tokenizer_edit *e = c->edit;
    for (size_t i = 0; i < e->n_add; i++) {
        ws_buf_puts(c->out, n++ > 0 ? "," : "");
        ws_buf_add(c->out, lead, lead_len);
        ws_buf_printf(c->out, "{\"id\":%d,", e->add[i].id);
        add_flags(c->out, &e->add[i]);
    }
}

static ws_status copy_end(struct copy *c, ws_err *err)
{
    flush(c, c->end);
    const bool failed = c->memory || c->out->failed;
    ws_token_set_free(&c->gone);
    ws_buf_free(&c->word);
    ws_buf_free(&c->other);
    return failed ? ws_fail(err, WS_E_MEMORY, "no memory for the tokenizer") : WS_OK;
}

bool ws_tokenizer_is_edited(const ws_tokenizer_edit *edit)
{
    return edit->n_add > 0 || edit->gone != NULL;
}

/** The '{' of a file that is an object; NULL after a report. */
static const char *object_of(const char *text, size_t len, ws_err *err)
{
    if (ws_json_check(text, len, err) != WS_OK)
        return NULL;
    const char *p = ws_json_skip(text, text + len);
    if (*p == '{')
        return p;
    ws_fail(err, WS_E_HEADER, "not a JSON object");
    return NULL;
}

ws_status ws_tokenizer_write(ws_buf *out, const char *text, size_t len,
                             const ws_tokenizer_edit *edit, ws_err *err)
{
    struct copy c = { .out = out, .from = text, .end = text + len, .edit = edit };
    const char *top = object_of(text, len, err), *lead;
    ws_json_member m;
    bool listed = false;
    size_t lead_len;
    if (top == NULL)
        return WS_E_HEADER;
    for (const char *p = top + 1; ws_json_member_next(p, c.end, &m); p = m.stop)
        listed |= ws_json_member_is(&m, "added_tokens") && *m.value == '[';
    if (!listed && edit->n_add > 0) {
        flush(&c, top + 1);
        ws_buf_puts(out, "\"added_tokens\":[");
        put_new(&c, 0, "", 0);
        ws_buf_puts(out, "],");
    }
    for (const char *p = top + 1; ws_json_member_next(p, c.end, &m); p = m.stop) {
        if (ws_json_member_is(&m, "added_tokens") && *m.value == '[') {
            const size_t n =
                copy_items(&c, m.value, m.stop, keep_added, &lead, &lead_len);
            put_new(&c, n, lead, lead_len);
        } else if (ws_json_member_is(&m, "model")) {
            put_model(&c, &m);
        }
    }
    return copy_end(&c, err);
}

/* ---- tokenizer_config.json, added_tokens.json ---- */

static bool keep_decoder(struct copy *c, const struct item *x)
{
    return !is_gone(c, x->m.name + 1, x->m.name + x->m.name_len - 1);
}

static void put_decoder(struct copy *c, const ws_json_member *m)
{
    const char *lead;
    size_t lead_len,
        n = copy_items(c, m->value, m->stop, keep_decoder, &lead, &lead_len);
    for (size_t i = 0; i < c->edit->n_add; i++) {
        ws_buf_puts(c->out, n++ > 0 ? "," : "");
        ws_buf_add(c->out, lead, lead_len);
        ws_buf_printf(c->out, "\"%d\":{", c->edit->add[i].id);
        add_flags(c->out, &c->edit->add[i]);
    }
}

ws_status ws_tokenizer_write_config(ws_buf *out, const char *text, size_t len,
                                    const ws_tokenizer_edit *edit,
                                    const char *chat_template, ws_err *err)
{
    struct copy c = { .out = out, .from = text, .end = text + len, .edit = edit };
    const char *top = object_of(text, len, err);
    ws_json_member m;
    if (top == NULL)
        return WS_E_HEADER;
    if (chat_template != NULL &&
        !ws_json_member_find(top, c.end, "chat_template", &m)) {
        flush(&c, top + 1);
        ws_buf_puts(out, "\n  \"chat_template\": ");
        ws_buf_json_string(out, chat_template, strlen(chat_template));
        const char *next = ws_json_skip(top + 1, c.end);
        ws_buf_puts(out, next < c.end && *next == '}' ? "\n" : ",");
    }
    for (const char *p = top + 1; ws_json_member_next(p, c.end, &m); p = m.stop) {
        if (ws_json_member_is(&m, "added_tokens_decoder") && *m.value == '{') {
            put_decoder(&c, &m);
        } else if (chat_template != NULL && ws_json_member_is(&m, "chat_template")) {
            flush(&c, m.value);
            ws_buf_json_string(out, chat_template, strlen(chat_template));
            c.from = m.stop;
        }
    }
    return copy_end(&c, err);
}

ws_status ws_tokenizer_write_added(ws_buf *out, const char *text, size_t len,
                                   const ws_tokenizer_edit *edit, ws_err *err)
{
    struct copy c = { .out = out, .from = text, .end = text + len, .edit = edit };
    const char *top = object_of(text, len, err), *lead;
    size_t lead_len;
    if (top == NULL)
        return WS_E_HEADER;
    size_t n = copy_items(&c, top, c.end, keep_word, &lead, &lead_len);
    for (size_t i = 0; i < edit->n_add; i++) {
        ws_buf_puts(out, n++ > 0 ? "," : "");
        ws_buf_add(out, lead, lead_len);
        ws_buf_json_string(out, edit->add[i].text, edit->add[i].len);
        ws_buf_printf(out, ":%d", edit->add[i].id);
    }
    return copy_end(&c, err);
}
