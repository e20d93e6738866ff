/*
 * tokenizer_added.c - added tokens cut out of a text
 *
 * All spellings are looked for at once in a trie, leftmost and longest first. The
 * search goes on behind a match, also where the match was no word or has taken in
 * blanks.
 */
#include "model/tokenizer_internal.h"

#define NO_VALUE UINT32_MAX

typedef struct ws_trie_node {
    uint32_t child, sibling; // 0: none
    uint32_t value;
    unsigned char byte;
} node;

static uint32_t node_new(ws_trie *t, unsigned char byte)
{
    if (t->n == t->cap) {
        const uint32_t cap = t->cap < 64 ? 64 : t->cap * 2;
        node *grown = ws_realloc(t->node, cap * sizeof *grown);
        if (grown == NULL)
            return 0;
        t->node = grown;
        t->cap = cap;
    }
    t->node[t->n] = (node){ 0, 0, NO_VALUE, byte };
    return t->n++;
}

/** The child of @p at for @p byte, or 0. */
static uint32_t child_of(const ws_trie *t, uint32_t at, unsigned char byte)
{
    uint32_t c = t->node[at].child;
    while (c != 0 && t->node[c].byte != byte)
        c = t->node[c].sibling;
    return c;
}

ws_status ws_trie_add(ws_trie *t, ws_span s, uint32_t value, ws_err *err)
{
    uint32_t at = 0;
    if (t->n == 0)
        node_new(t, 0);
    for (size_t i = 0; i < s.n && t->n > 0; i++) {
        const unsigned char byte = (unsigned char)s.p[i];
        uint32_t next = i == 0 ? t->first[byte] : child_of(t, at, byte);
        if (next == 0) {
            next = node_new(t, byte);
            if (next == 0)
                break;
            if (i == 0) {
                t->first[byte] = next;
            } else {
                t->node[next].sibling = t->node[at].child;
                t->node[at].child = next;
            }
        }
        at = next;
        if (i + 1 == s.n) {
            t->node[at].value = value;
            return WS_OK;
        }
    }
    return ws_fail(err, WS_E_MEMORY, "no memory for added tokens");
}

bool ws_trie_find(const ws_trie *t, ws_span s, size_t from, size_t *start, size_t *end,
                  uint32_t *value)
{
    if (t->n == 0)
        return false;
    for (size_t at = from; at < s.n; at++) {
        uint32_t i = t->first[(unsigned char)s.p[at]];
        if (i == 0)
            continue;
        size_t depth = 1;
        *value = NO_VALUE;
        for (;;) {
            if (t->node[i].value != NO_VALUE) {
                *value = t->node[i].value;
                *end = at + depth;
            }
            if (at + depth == s.n)
                break;
            i = child_of(t, i, (unsigned char)s.p[at + depth]);
            if (i == 0)
                break;
            depth++;
        }
        if (*value != NO_VALUE) {
            *start = at;
            return true;
        }
    }
    return false;
}

void ws_trie_free(ws_trie *t)
{
    ws_free(t->node);
    t->node = NULL;
    t->n = t->cap = 0;
}

/** Whether the character of @p s that starts at @p at, or ends there, is one of
 * words. */
static ws_status word_at(const ws_tokenizer *t, ws_matcher *m, ws_span s, size_t at,
                         bool before, bool *is, ws_err *err)
{
    *is = false;
    if (at == (before ? 0 : s.n))
        return WS_OK;
    size_t begin = at, size, start, end;
    if (before)
        do
            begin--;
        while (begin > 0 && ((unsigned char)s.p[begin] & 0xC0) == 0x80);
    ws_utf8_get(s.p + begin, s.n - begin, &size);
    return ws_regex_find(t->word, m, s.p + begin, size, 0, &start, &end, is, err);
}

ws_status ws_added_cut(const ws_tokenizer *t, const ws_trie *trie, ws_matcher *m,
                       ws_span s, ws_added_each each, void *arg, ws_err *err)
{
    size_t done = 0, search = 0, start, end;
    uint32_t value;
    while (ws_trie_find(trie, s, search, &start, &end, &value)) {
        const ws_added *a = &t->added[value];
        ws_status st = WS_OK;
        search = end;
        if (a->single_word) {
            bool left, right = false;
            st = word_at(t, m, s, start, true, &left, err);
            if (st == WS_OK)
                st = word_at(t, m, s, end, false, &right, err);
            if (st != WS_OK)
                return st;
            if (left || right)
                continue;
        }
        if (a->lstrip) {
            start -= ws_space_right((ws_span){ s.p, start });
            if (start < done)
                start = done;
        }
        if (a->rstrip)
            end += ws_space_left((ws_span){ s.p + end, s.n - end });
        if (done < start)
            st = each(arg, NULL, done, start, err);
        if (st == WS_OK)
            st = each(arg, a, start, end, err);
        if (st != WS_OK)
            return st;
        done = end;
    }
    return done < s.n ? each(arg, NULL, done, s.n, err) : WS_OK;
}
