/*
 * tokenizer_vocab.c - spellings and their ids, both ways
 */
#include "model/tokenizer_internal.h"

static uint32_t hash(ws_span s)
{
    uint64_t h = 0x9E3779B97F4A7C15ull ^ s.n, w;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        memcpy(&w, s.p + i, 8);
        h = (h ^ w) * 0xD6E8FEB86659FD93ull;
        h ^= h >> 32;
    }
    if (i < s.n) {
        w = 0;
        memcpy(&w, s.p + i, s.n - i);
        h = (h ^ w) * 0xD6E8FEB86659FD93ull;
        h ^= h >> 32;
    }
    h *= 0xD6E8FEB86659FD93ull;
    return (uint32_t)(h >> 32);
}

ws_status ws_vocab_init(ws_vocab *v, int32_t n, int32_t count, ws_err *err)
{
    uint32_t slots = 16;
    while (slots < (uint32_t)count * 2)
        slots *= 2;
    v->token = ws_calloc((size_t)n + 1, sizeof *v->token);
    v->slot = ws_alloc(slots * sizeof *v->slot);
    if (v->token == NULL || v->slot == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a vocabulary of %d tokens",
                       (int)count);
    memset(v->slot, 0xFF, slots * sizeof *v->slot);
    v->mask = slots - 1;
    v->n = n;
    return WS_OK;
}

/** Where @p token stands, or the free slot where it belongs. */
static uint32_t slot_of(const ws_vocab *v, ws_span token)
{
    uint32_t i = hash(token) & v->mask;
    for (; v->slot[i] >= 0; i = (i + 1) & v->mask) {
        const ws_span have = v->token[v->slot[i]];
        if (have.n == token.n && memcmp(have.p, token.p, token.n) == 0)
            break;
    }
    return i;
}

bool ws_vocab_add(ws_vocab *v, ws_span token, int32_t id)
{
    const uint32_t i = slot_of(v, token);
    if (v->slot[i] >= 0 || v->token[id].p != NULL)
        return false;
    v->slot[i] = id;
    v->token[id] = token;
    v->count++;
    return true;
}

int32_t ws_vocab_find(const ws_vocab *v, ws_span token)
{
    return v->slot == NULL ? -1 : v->slot[slot_of(v, token)];
}

void ws_vocab_free(ws_vocab *v)
{
    ws_free(v->token);
    ws_free(v->slot);
    *v = (ws_vocab){ 0 };
}
