/*
 * vocab_tokens.c - the vocabularies of several tokenizer.json files, over one set of
 * tokens
 */
#include "hf/vocab_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_walk.h"
#include "wsurg/text.h"
#include "wsurg/xxh.h"

/* ---- the set ---- */

/** The multiplier is not known to who wrote the file. */
static size_t slot_of(const ws_token_set *set, const char *s, size_t len)
{
    uint64_t h;
    const ws_xxh128 digest = ws_xxh3(s, len);
    memcpy(&h, digest.b, sizeof h);
    size_t at = (size_t)((h * set->salt) >> 32) & (set->n_slots - 1);
    for (; set->slots[at] != 0; at = (at + 1) & (set->n_slots - 1)) {
        const size_t k = set->slots[at] - 1;
        if (set->len[k] == len && memcmp(set->text[k], s, len) == 0)
            break;
    }
    return at;
}

size_t ws_token_set_find(const ws_token_set *set, const char *s, size_t len)
{
    if (set->n_slots == 0)
        return SIZE_MAX;
    const uint32_t k = set->slots[slot_of(set, s, len)];
    return k == 0 ? SIZE_MAX : k - 1;
}

/** Twice as many slots, at most half of them taken. */
static bool set_widen(ws_token_set *set)
{
    const size_t n_slots = set->n_slots == 0 ? 1024 : set->n_slots * 2;
    uint32_t *slots = ws_calloc(n_slots, sizeof *slots);
    if (slots == NULL)
        return false;
    ws_free(set->slots);
    set->slots = slots;
    set->n_slots = n_slots;
    if (set->salt == 0)
        set->salt = (uint64_t)(uintptr_t)slots * 0x9E3779B97F4A7C15u | 1;
    for (size_t i = 0; i < set->n; i++)
        slots[slot_of(set, set->text[i], set->len[i])] = (uint32_t)i + 1;
    return true;
}

static bool set_grow(ws_token_set *set)
{
    const size_t cap = set->cap == 0 ? 1024 : set->cap * 2;
    const char **text = ws_realloc(set->text, cap * sizeof *text);
    if (text != NULL)
        set->text = text;
    uint32_t *len = text == NULL ? NULL : ws_realloc(set->len, cap * sizeof *len);
    if (len == NULL)
        return false;
    set->len = len;
    set->cap = cap;
    return true;
}

size_t ws_token_set_add(ws_token_set *set, const char *s, size_t len)
{
    if (set->n * 2 >= set->n_slots && !set_widen(set))
        return SIZE_MAX;
    const size_t at = slot_of(set, s, len);
    if (set->slots[at] != 0)
        return set->slots[at] - 1;
    char *copy = ws_arena_alloc(&set->arena, len + 1);
    if (copy == NULL || (set->n == set->cap && !set_grow(set)))
        return SIZE_MAX;
    if (len > 0)
        memcpy(copy, s, len);
    copy[len] = '\0';
    set->text[set->n] = copy;
    set->len[set->n] = (uint32_t)len;
    set->slots[at] = (uint32_t)++set->n;
    return set->n - 1;
}

void ws_token_set_free(ws_token_set *set)
{
    ws_arena_free(&set->arena);
    ws_free(set->text);
    ws_free(set->len);
    ws_free(set->slots);
    *set = (ws_token_set){ 0 };
}

/* ---- one file ---- */

/** A file while it is read. */
struct reader {
    ws_token_table *v;
    ws_token_set *set;
    const char *text;
    ws_buf word; // a token unescaped
    size_t cap_added;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a vocabulary");
}

static ws_status malformed(const struct reader *r, const char *at, const char *what,
                           ws_err *err)
{
    ws_fail(err, WS_E_HEADER, "%s", what);
    return ws_err_at(err, NULL, NULL, at - r->text);
}

static bool whole(const char *s, const char *stop, int64_t *out)
{
    char digits[20];
    uint64_t v;
    const size_t n = (size_t)(stop - s);
    if (n >= sizeof digits)
        return false;
    memcpy(digits, s, n);
    digits[n] = '\0';
    if (!ws_parse_u64(digits, &v) || v > INT32_MAX)
        return false;
    *out = (int64_t)v;
    return true;
}

/** Number in the set of the string at @p s; SIZE_MAX without memory. */
static size_t intern(struct reader *r, const char *s, const char *stop)
{
    const size_t most = (size_t)(stop - s);
    if (r->word.cap < most) {
        char *p = ws_realloc(r->word.p, most * 2);
        if (p == NULL)
            return SIZE_MAX;
        r->word.p = p;
        r->word.cap = most * 2;
    }
    const size_t n = ws_json_unescape(s, stop, r->word.p);
    return ws_token_set_add(r->set, r->word.p, n);
}

/** Say that token number @p token has @p id. */
static ws_status set_id(struct reader *r, size_t token, int64_t id, const char *at,
                        ws_err *err)
{
    ws_token_table *v = r->v;
    if (id >= WS_TOKEN_IDS) {
        ws_fail(err, WS_E_UNSUPPORTED, "token id %lld: at most %d are read",
                (long long)id, WS_TOKEN_IDS - 1);
        return ws_err_at(err, NULL, NULL, at - r->text);
    }
    if (token >= v->n_id) {
        const size_t n = token + token / 2 + 1024;
        int32_t *p = ws_realloc(v->id, n * sizeof *p);
        if (p == NULL)
            return no_memory(err);
        for (size_t i = v->n_id; i < n; i++)
            p[i] = -1;
        v->id = p;
        v->n_id = n;
    }
    if (v->id[token] == id)
        return WS_OK;
    if (v->id[token] >= 0)
        return malformed(r, at, "a token has two ids", err);
    v->id[token] = (int32_t)id;
    v->n++;
    if (id >= v->top)
        v->top = (int32_t)id + 1;
    return WS_OK;
}

static ws_status read_token(struct reader *r, const char *s, const char *stop,
                            int64_t id, ws_err *err)
{
    const size_t token = intern(r, s, stop);
    return token == SIZE_MAX ? no_memory(err) : set_id(r, token, id, s, err);
}

/** {"token": id, …} */
static ws_status read_map(struct reader *r, const char *p, const char *end, ws_err *err)
{
    ws_json_member m;
    ws_status st = WS_OK;
    for (p++; st == WS_OK && ws_json_member_next(p, end, &m); p = m.stop) {
        int64_t id;
        if (!whole(m.value, m.stop, &id))
            return malformed(r, m.value, "the id of a token is no whole number", err);
        st = read_token(r, m.name, m.name + m.name_len, id, err);
    }
    return st;
}

/** [["token", score], …]: ids are places in the list. */
static ws_status read_list(struct reader *r, const char *p, const char *end,
                           ws_err *err)
{
    const char *item, *stop;
    int64_t id = 0;
    ws_status st = WS_OK;
    for (p++; st == WS_OK && ws_json_item_next(p, end, &item, &stop); p = stop, id++) {
        const char *word, *word_stop;
        if (*item != '[' || !ws_json_item_next(item + 1, stop, &word, &word_stop) ||
            *word != '"')
            return malformed(r, item, "an entry of the vocabulary is no token", err);
        st = read_token(r, word, word_stop, id, err);
    }
    return st;
}

static ws_status read_model(struct reader *r, const char *p, const char *end,
                            ws_err *err)
{
    ws_json_member type, vocab;
    if (ws_json_member_find(p, end, "type", &type) && *type.value == '"' &&
        (size_t)(type.stop - type.value) < sizeof r->v->type)
        r->v->type[ws_json_unescape(type.value, type.stop, r->v->type)] = '\0';
    if (!ws_json_member_find(p, end, "vocab", &vocab))
        return malformed(r, p, "'model' has no 'vocab'", err);
    if (*vocab.value == '{')
        return read_map(r, vocab.value, vocab.stop, err);
    if (*vocab.value == '[')
        return read_list(r, vocab.value, vocab.stop, err);
    return malformed(r, vocab.value, "'vocab' is neither a map nor a list", err);
}

static bool flag(const char *p, const char *end, const char *key)
{
    ws_json_member m;
    return ws_json_member_find(p, end, key, &m) && *m.value == 't';
}

static ws_status read_added(struct reader *r, const char *p, const char *end,
                            ws_err *err)
{
    ws_token_table *v = r->v;
    ws_json_member id, content;
    int64_t number;
    if (!ws_json_member_find(p, end, "id", &id) || !whole(id.value, id.stop, &number) ||
        !ws_json_member_find(p, end, "content", &content) || *content.value != '"')
        return malformed(r, p, "an added token wants 'id' and 'content'", err);
    const size_t token = intern(r, content.value, content.stop);
    if (token == SIZE_MAX ||
        !ws_grow((void **)&v->added, v->n_added, &r->cap_added, sizeof *v->added))
        return no_memory(err);
    v->added[v->n_added++] =
        (ws_added_token){ (uint32_t)token,
                          { flag(p, end, "single_word"), flag(p, end, "lstrip"),
                            flag(p, end, "rstrip"), flag(p, end, "normalized"),
                            flag(p, end, "special") } };
    return set_id(r, token, number, p, err);
}

/** Numbers of the tokens by id: no id may stand twice. */
static ws_status make_order(struct reader *r, ws_err *err)
{
    ws_token_table *v = r->v;
    int32_t *at = ws_alloc(((size_t)v->top + 1) * sizeof *at);
    v->order = ws_alloc((v->n + 1) * sizeof *v->order);
    if (at == NULL || v->order == NULL) {
        ws_free(at);
        return no_memory(err);
    }
    memset(at, 0xFF, ((size_t)v->top + 1) * sizeof *at);
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < v->n_id; i++) {
        if (v->id[i] < 0)
            continue;
        char a[60], b[60];
        if (at[v->id[i]] >= 0) {
            ws_show(r->set->text[at[v->id[i]]], a, sizeof a);
            ws_show(r->set->text[i], b, sizeof b);
            st = ws_fail(err, WS_E_HEADER, "id %d is of '%s' and of '%s'", v->id[i], a,
                         b);
        }
        at[v->id[i]] = (int32_t)i;
    }
    size_t n = 0;
    for (int32_t i = 0; st == WS_OK && i < v->top; i++)
        if (at[i] >= 0)
            v->order[n++] = at[i];
    ws_free(at);
    return st;
}

ws_status ws_token_table_parse(ws_token_table *v, ws_token_set *set, const char *text,
                               size_t len, ws_err *err)
{
    struct reader r = { .v = v, .set = set, .text = text };
    const char *end = text + len, *item, *stop;
    ws_json_member model, added;
    *v = (ws_token_table){ .bytes = len };
    ws_status st = ws_json_check(text, len, err);
    if (st != WS_OK)
        return st;
    const char *top = ws_json_skip(text, end);
    if (!ws_json_member_find(top, end, "model", &model) || *model.value != '{')
        return ws_fail(err, WS_E_HEADER, "no 'model' in it: no tokenizer.json");
    st = read_model(&r, model.value, model.stop, err);
    if (st == WS_OK && ws_json_member_find(top, end, "added_tokens", &added) &&
        *added.value == '[')
        for (const char *p = added.value + 1;
             st == WS_OK && ws_json_item_next(p, added.stop, &item, &stop); p = stop)
            st = *item == '{' ? read_added(&r, item, stop, err)
                              : malformed(&r, item, "an added token is no map", err);
    if (st == WS_OK)
        st = make_order(&r, err);
    ws_free(r.word.p);
    if (st != WS_OK)
        ws_token_table_free(v);
    return st;
}

ws_status ws_token_table_read(ws_token_table *v, ws_token_set *set, const char *dir,
                              ws_err *err)
{
    char *path = ws_path_join(dir, "tokenizer.json"), *text = NULL;
    size_t len;
    *v = (ws_token_table){ 0 };
    if (path == NULL)
        return no_memory(err);
    ws_status st = ws_file_read(&text, &len, path, WS_TOKENIZER_CAP, err);
    if (st == WS_OK)
        st = ws_token_table_parse(v, set, text, len, err);
    if (st != WS_OK)
        ws_err_at(err, path, NULL, -1);
    ws_free(text);
    ws_free(path);
    return st;
}

void ws_token_table_free(ws_token_table *v)
{
    ws_free(v->id);
    ws_free(v->order);
    ws_free(v->added);
    *v = (ws_token_table){ 0 };
}
