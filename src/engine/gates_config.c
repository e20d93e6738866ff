/*
 * gates_config.c - whether config.json says what the tensors are
 *
 * Sizes of embedding, blocks, heads and feed-forward layers, their number, the tie of
 * the head, the dtype. A key that is not there contradicts nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/gates_internal.h"

/** What is being compared. */
struct config {
    ws_gate *gate;
    const ws_ckpt *c;
    const cJSON *tree; // of the language model
};

static void against(struct config *k, const char *what, uint64_t found, const char *key,
                    uint64_t said)
{
    char note[WS_GATE_NOTE];
    snprintf(note, sizeof note, "config.json: %s %llu", key, (unsigned long long)said);
    ws_gate_count(k->gate, what, (double)found, note);
}

/** The first of the keys (n) that holds a whole number; its name in *key. */
static bool number(const struct config *k, const char *const *keys, size_t n,
                   const char **key, uint64_t *out)
{
    for (size_t i = 0; i < n; i++) {
        *key = keys[i];
        if (ws_json_u64(cJSON_GetObjectItemCaseSensitive(k->tree, keys[i]), out))
            return true;
    }
    return false;
}

#define NUMBER(k, key, out, ...)                                                       \
    number(k, (const char *const[]){ __VA_ARGS__ },                                    \
           sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *), key, out)

static bool ends_in(const char *name, const char *tail)
{
    const size_t n = strlen(name), k = strlen(tail);
    return n >= k && strcmp(name + n - k, tail) == 0;
}

/** Dimension @p dim of @p t must be @p want, which @p key says. */
static void size_check(struct config *k, const ws_tensor *t, int dim, const char *key,
                       uint64_t want)
{
    if (t->rank > dim && t->shape[dim] != want)
        against(k, t->name, t->shape[dim], key, want);
}

/** What follows from hidden size, heads and inner size, tensor by tensor. */
struct sizes {
    uint64_t vocab, hidden, inner, q, kv; // 0: unknown
    const char *vocab_key, *hidden_key, *inner_key;
};

static void sizes_read(const struct config *k, struct sizes *s)
{
    const char *key;
    uint64_t heads = 0, head_dim = 0, kv = 0;
    *s = (struct sizes){ 0 };
    NUMBER(k, &s->vocab_key, &s->vocab, "vocab_size");
    NUMBER(k, &s->hidden_key, &s->hidden, "hidden_size", "n_embd");
    NUMBER(k, &s->inner_key, &s->inner, "intermediate_size", "n_inner");
    NUMBER(k, &key, &heads, "num_attention_heads", "n_head");
    if (!NUMBER(k, &key, &kv, "num_key_value_heads"))
        kv = heads;
    if (!NUMBER(k, &key, &head_dim, "head_dim") && heads > 0)
        head_dim = s->hidden % heads == 0 ? s->hidden / heads : 0;
    s->q = heads * head_dim; // each below 2^53: a product that wraps equals no shape
    s->kv = kv * head_dim;
}

static void tensor_check(struct config *k, const ws_tensor *t, const struct sizes *s)
{
    const char *name = t->name;
    if (t->rank != 2)
        return;
    if (ends_in(name, "embed_tokens.weight") || ends_in(name, "wte.weight")) {
        if (s->vocab > 0)
            size_check(k, t, 0, s->vocab_key, s->vocab);
        if (s->hidden > 0)
            size_check(k, t, 1, s->hidden_key, s->hidden);
    } else if (ends_in(name, "self_attn.q_proj.weight") && s->q > 0) {
        size_check(k, t, 0, "num_attention_heads * head_dim", s->q);
    } else if ((ends_in(name, "self_attn.k_proj.weight") ||
                ends_in(name, "self_attn.v_proj.weight")) &&
               s->kv > 0) {
        size_check(k, t, 0, "num_key_value_heads * head_dim", s->kv);
    } else if ((ends_in(name, ".mlp.up_proj.weight") ||
                ends_in(name, ".mlp.gate_proj.weight")) &&
               s->inner > 0) {
        size_check(k, t, 0, s->inner_key, s->inner);
    } else if (ends_in(name, ".mlp.c_fc.weight") && s->hidden > 0) {
        size_check(k, t, 1, s->inner > 0 ? s->inner_key : "4 * n_embd",
                   s->inner > 0 ? s->inner : 4 * s->hidden);
    }
}

/** Number of the block that @p name stands in; false outside the blocks. */
static bool block_of(const char *name, uint64_t *out)
{
    static const char *const marks[] = { ".layers.", ".h.", "h.", "layers." };
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const char *p =
            marks[i][0] == '.'
                ? strstr(name, marks[i])
                : (strncmp(name, marks[i], strlen(marks[i])) == 0 ? name : NULL);
        if (p == NULL)
            continue;
        p += strlen(marks[i]);
        const size_t digits = strspn(p, "0123456789");
        if (digits == 0 || digits > 6 || p[digits] != '.')
            continue;
        *out = strtoul(p, NULL, 10);
        return true;
    }
    return false;
}

static void blocks_check(struct config *k)
{
    uint64_t said = 0, n = 0, block = 0;
    const char *key;
    if (!NUMBER(k, &key, &said, "num_hidden_layers", "n_layer", "n_layers",
                "num_layers"))
        return;
    for (size_t i = 0; i < ws_ckpt_count(k->c); i++)
        if (block_of(ws_ckpt_tensor(k->c, i)->name, &block) && block + 1 > n)
            n = block + 1;
    if (n != said)
        against(k, key, n, key, said);
    const cJSON *types = cJSON_GetObjectItemCaseSensitive(k->tree, "layer_types");
    if (cJSON_IsArray(types) && (uint64_t)cJSON_GetArraySize(types) != said)
        against(k, "layer_types", (uint64_t)cJSON_GetArraySize(types), key, said);
}

/** Whether two tensors of one dtype and shape have the same bytes. */
static ws_status same_bytes(const ws_ckpt *c, const ws_tensor *a, const ws_tensor *b,
                            bool *same, ws_err *err)
{
    enum { SOME = 64 << 10 };
    ws_status st = WS_OK;
    *same = a->dtype == b->dtype && a->n_bytes == b->n_bytes;
    char *buf = *same ? ws_alloc((size_t)2 * SOME) : NULL;
    if (*same && buf == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to compare a tied pair");
    for (uint64_t at = 0; st == WS_OK && *same && at < a->n_bytes; at += SOME) {
        const uint64_t left = a->n_bytes - at;
        const size_t n = left < SOME ? (size_t)left : SOME;
        st = ws_ckpt_read(c, a, at, n, buf, err);
        if (st == WS_OK)
            st = ws_ckpt_read(c, b, at, n, buf + SOME, err);
        *same = st == WS_OK && memcmp(buf, buf + SOME, n) == 0;
    }
    ws_free(buf);
    return st;
}

/** A head beside its embedding says untied; none says tied (formats.md 2.4). */
static ws_status tie_check(struct config *k, ws_err *err)
{
    static const char *const untied[] = { "llama", "mistral", "qwen2", "qwen3" };
    const ws_tensor *head = ws_ckpt_find(k->c, "lm_head.weight"), *embed = NULL;
    const cJSON *flag =
        cJSON_GetObjectItemCaseSensitive(k->tree, "tie_word_embeddings");
    const char *type =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(k->tree, "model_type"));
    bool tied = cJSON_IsTrue(flag), known = cJSON_IsBool(flag), same = false;
    for (size_t i = 0; i < sizeof untied / sizeof *untied; i++)
        known = known || (type != NULL && strcmp(type, untied[i]) == 0);
    for (size_t i = 0; embed == NULL && i < ws_ckpt_count(k->c); i++) {
        const ws_tensor *t = ws_ckpt_tensor(k->c, i);
        if (ends_in(t->name, "embed_tokens.weight") || ends_in(t->name, "wte.weight"))
            embed = t;
    }
    if (!known || embed == NULL)
        return WS_OK;
    if (head == NULL && !tied)
        ws_gate_count(k->gate, "lm_head.weight", 0.0,
                      "not there; config.json: tie_word_embeddings false");
    if (head == NULL || !tied)
        return WS_OK;
    const ws_status st = same_bytes(k->c, head, embed, &same, err);
    if (st == WS_OK && !same)
        ws_gate_count(k->gate, "lm_head.weight", 1.0,
                      "not the embedding; config.json: tie_word_embeddings true");
    return st;
}

/** The dtype named must be that of most bytes of matrices. */
static void dtype_check(struct config *k)
{
    uint64_t bytes[WS_DT_COUNT] = { 0 };
    size_t most = 0;
    const char *key = "dtype";
    const char *said =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(k->tree, key));
    if (said == NULL) {
        key = "torch_dtype";
        said = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(k->tree, key));
    }
    for (size_t i = 0; i < ws_ckpt_count(k->c); i++) {
        const ws_tensor *t = ws_ckpt_tensor(k->c, i);
        if (t->rank >= 2 && ws_dtype_info(t->dtype)->arithmetic)
            bytes[t->dtype] += t->n_bytes;
    }
    for (size_t i = 1; i < WS_DT_COUNT; i++)
        if (bytes[i] > bytes[most])
            most = i;
    if (said == NULL || bytes[most] == 0)
        return;
    const char *found = ws_dtype_info((ws_dtype)most)->torch_name;
    char note[WS_GATE_NOTE], shown[32];
    if (strncmp(said, "torch.", 6) == 0)
        said += 6;
    if (found == NULL || strcmp(said, found) == 0)
        return;
    ws_show(said, shown, sizeof shown);
    snprintf(note, sizeof note, "most weights are %s; config.json: %s", found, shown);
    ws_gate_count(k->gate, key, 1.0, note);
}

ws_status ws_gate_config(ws_gates *g, const ws_ckpt *c, ws_err *err)
{
    size_t len = 0;
    const char *text = ws_ckpt_config(c, &len);
    cJSON *tree = NULL;
    struct sizes s;
    if (text == NULL) {
        ws_fail(err, WS_E_MISSING, "there is no config.json that could be consistent");
        return ws_err_at(err, ws_ckpt_path(c), NULL, -1), WS_E_MISSING;
    }
    ws_status st = ws_json_parse(&tree, text, len, err);
    if (st != WS_OK)
        return ws_err_at(err, ws_ckpt_path(c), NULL, -1), st;
    struct config k = { ws_gate_new(g, "config-consistent", 0.0), c, tree };
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(tree, "text_config");
    if (cJSON_IsObject(inner))
        k.tree = inner;
    sizes_read(&k, &s);
    for (size_t i = 0; i < ws_ckpt_count(c); i++)
        tensor_check(&k, ws_ckpt_tensor(c, i), &s);
    blocks_check(&k);
    dtype_check(&k);
    st = tie_check(&k, err);
    cJSON_Delete(tree);
    return st;
}
