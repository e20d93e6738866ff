/*
 * tokenizer.c - what a tokenizer is asked
 */
#include "wsurg/tokenizer.h"

#include "model/tokenizer_internal.h"

static void steps_free(ws_steps *s)
{
    for (size_t i = 0; i < s->n; i++)
        ws_regex_free(s->step[i].regex);
    s->n = 0;
}

void ws_tokenizer_free(ws_tokenizer *t)
{
    if (t == NULL)
        return;
    steps_free(&t->normalizer);
    steps_free(&t->pre);
    steps_free(&t->decoder);
    ws_regex_free(t->word);
    ws_trie_free(&t->raw);
    ws_trie_free(&t->normal);
    ws_vocab_free(&t->vocab);
    ws_bpe_free(&t->bpe);
    ws_arena_free(&t->arena);
    ws_free(t);
}

int32_t ws_tokenizer_size(const ws_tokenizer *t)
{
    return t->size;
}

int32_t ws_tokenizer_id(const ws_tokenizer *t, const char *token, size_t len)
{
    size_t low = 0, high = t->n_added;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const ws_span have = t->added[mid].text;
        int order = memcmp(have.p, token, have.n < len ? have.n : len);
        if (order == 0)
            order = (have.n > len) - (have.n < len);
        if (order == 0)
            return t->added[mid].id;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return ws_vocab_find(&t->vocab, (ws_span){ token, len });
}

const char *ws_tokenizer_token(const ws_tokenizer *t, int32_t id, size_t *len)
{
    ws_span s = { 0 };
    if (id >= 0 && id < t->size)
        s = t->added_at[id] >= 0 ? t->added[t->added_at[id]].text : t->vocab.token[id];
    if (len != NULL)
        *len = s.n;
    return s.p;
}

bool ws_tokenizer_special(const ws_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size && t->added_at[id] >= 0 &&
           t->added[t->added_at[id]].special;
}

ws_token_roles ws_tokenizer_roles(const ws_tokenizer *t)
{
    return t->roles;
}

const int32_t *ws_tokenizer_prefix(const ws_tokenizer *t, size_t *n)
{
    *n = t->n_prefix;
    return t->prefix;
}

const int32_t *ws_tokenizer_suffix(const ws_tokenizer *t, size_t *n)
{
    *n = t->n_suffix;
    return t->suffix;
}
