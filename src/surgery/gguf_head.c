/*
 * gguf_head.c - the metadata of a GGUF file, from config.json (formats.md 5.5)
 */
#include "surgery/gguf_head.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

void ws_gguf_put_u(ws_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        ws_buf_putc(b, (char)(unsigned char)(v >> 8 * i));
}

void ws_gguf_put_string(ws_buf *b, const char *s)
{
    ws_gguf_put_u(b, strlen(s), 8);
    ws_buf_puts(b, s);
}

void ws_gguf_pair_text(ws_gguf_pairs *p, const char *key, const char *value)
{
    ws_gguf_put_string(&p->b, key);
    ws_gguf_put_u(&p->b, 8, 4);
    ws_gguf_put_string(&p->b, value);
    p->n++;
}

void ws_gguf_pair_u32(ws_gguf_pairs *p, const char *key, uint64_t value)
{
    ws_gguf_put_string(&p->b, key);
    ws_gguf_put_u(&p->b, 4, 4);
    ws_gguf_put_u(&p->b, value, 4);
    p->n++;
}

static void pair_f32(ws_gguf_pairs *p, const char *key, double value)
{
    const float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    ws_gguf_put_string(&p->b, key);
    ws_gguf_put_u(&p->b, 6, 4);
    ws_gguf_put_u(&p->b, bits, 4);
    p->n++;
}

/** A key of a model's configuration, by the names that it goes under. */
struct key {
    const char *gguf;     /* after the architecture and a dot */
    const char *names[3]; /* in config.json */
    bool real, needed;
    double fallback; /* of one not needed; 0: leave it out */
};

static const struct key llama_keys[] = {
    { "block_count", { "num_hidden_layers" }, false, true, 0 },
    { "context_length", { "max_position_embeddings" }, false, true, 0 },
    { "embedding_length", { "hidden_size" }, false, true, 0 },
    { "feed_forward_length", { "intermediate_size" }, false, true, 0 },
    { "attention.head_count", { "num_attention_heads" }, false, true, 0 },
    { "attention.layer_norm_rms_epsilon", { "rms_norm_eps" }, true, false, 1e-6 },
    { "rope.freq_base", { "rope_theta" }, true, false, 10000.0 },
    { "attention.key_length", { "head_dim" }, false, false, 0 },
    { "attention.value_length", { "head_dim" }, false, false, 0 },
    { "vocab_size", { "vocab_size" }, false, false, 0 },
};

static const struct key gpt2_keys[] = {
    { "block_count", { "n_layer", "num_hidden_layers" }, false, true, 0 },
    { "context_length",
      { "n_ctx", "n_positions", "max_position_embeddings" },
      false,
      true,
      0 },
    { "embedding_length", { "n_embd", "hidden_size" }, false, true, 0 },
    { "attention.head_count", { "n_head", "num_attention_heads" }, false, true, 0 },
    { "attention.layer_norm_epsilon", { "layer_norm_epsilon" }, true, false, 1e-5 },
};

static const cJSON *find(const cJSON *tree, const struct key *k)
{
    for (size_t i = 0; i < 3 && k->names[i] != NULL; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, k->names[i]);
        if (item != NULL && !cJSON_IsNull(item))
            return item;
    }
    // newer configurations keep it in an object
    const cJSON *rope = cJSON_GetObjectItemCaseSensitive(tree, "rope_parameters");
    return rope == NULL ? NULL : cJSON_GetObjectItemCaseSensitive(rope, k->names[0]);
}

static ws_status put_key(ws_gguf_pairs *p, const char *architecture, const cJSON *tree,
                         const struct key *k, uint64_t *value, ws_err *err)
{
    char name[96];
    const cJSON *item = find(tree, k);
    uint64_t whole = 0;
    snprintf(name, sizeof name, "%s.%s", architecture, k->gguf);
    if (item == NULL && k->needed)
        return ws_fail(err, WS_E_MISSING, "config.json has no %s", k->names[0]);
    if (item == NULL && k->fallback == 0.0)
        return WS_OK;
    if (item != NULL && (k->real ? !cJSON_IsNumber(item)
                                 : !ws_json_u64(item, &whole) || whole > INT32_MAX))
        return ws_fail(err, WS_E_HEADER, "%s of config.json is no %s", k->names[0],
                       k->real ? "number" : "whole number below 2^31");
    if (k->real)
        pair_f32(p, name, item == NULL ? k->fallback : item->valuedouble);
    else
        ws_gguf_pair_u32(p, name, whole);
    *value = whole;
    return WS_OK;
}

/** Scaled rotations would need metadata, or a tensor, of their own. */
static ws_status check_rope(const cJSON *tree, ws_err *err)
{
    static const char *const names[] = { "rope_scaling", "rope_parameters" };
    for (size_t i = 0; i < 2; i++) {
        const cJSON *rope = cJSON_GetObjectItemCaseSensitive(tree, names[i]);
        const char *type =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(rope, "rope_type"));
        if (type == NULL)
            type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(rope, "type"));
        if (!cJSON_IsObject(rope) || (type != NULL && strcmp(type, "default") == 0))
            continue;
        if (i == 1 && type == NULL)
            continue;
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "config.json scales its rotations ('%s'): not written as GGUF",
                       names[i]);
    }
    return WS_OK;
}

static const char *architecture_of(const char *model_type)
{
    static const char *const known[][2] = { { "llama", "llama" },
                                            { "mistral", "llama" },
                                            { "qwen2", "qwen2" },
                                            { "qwen3", "qwen3" },
                                            { "gpt2", "gpt2" } };
    for (size_t i = 0; model_type != NULL && i < sizeof known / sizeof *known; i++)
        if (strcmp(model_type, known[i][0]) == 0)
            return known[i][1];
    return NULL;
}

static ws_status put_all(ws_gguf_model *m, ws_gguf_pairs *p, const cJSON *tree,
                         ws_err *err)
{
    const bool gpt2 = strcmp(m->architecture, "gpt2") == 0;
    const struct key *keys = gpt2 ? gpt2_keys : llama_keys;
    const size_t n = gpt2 ? sizeof gpt2_keys / sizeof *gpt2_keys
                          : sizeof llama_keys / sizeof *llama_keys;
    uint64_t value = 0, embedding = 0;
    ws_status st = gpt2 ? WS_OK : check_rope(tree, err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        st = put_key(p, m->architecture, tree, &keys[i], &value, err);
        if (strcmp(keys[i].gguf, "attention.head_count") == 0)
            m->heads = value;
        if (strcmp(keys[i].gguf, "embedding_length") == 0)
            embedding = value;
    }
    if (st != WS_OK)
        return st;
    const struct key inner = { "feed_forward_length", { "n_inner" }, false, false, 0 };
    const struct key kv = {
        "attention.head_count_kv", { "num_key_value_heads" }, false, false, 0
    };
    if (gpt2 && find(tree, &inner) == NULL)
        ws_gguf_pair_u32(p, "gpt2.feed_forward_length", 4 * embedding);
    else if (gpt2)
        return put_key(p, m->architecture, tree, &inner, &value, err);
    if (gpt2)
        return WS_OK;
    m->kv_heads = m->heads;
    if (find(tree, &kv) != NULL)
        return put_key(p, m->architecture, tree, &kv, &m->kv_heads, err);
    char name[64];
    snprintf(name, sizeof name, "%s.attention.head_count_kv", m->architecture);
    ws_gguf_pair_u32(p, name, m->heads);
    return WS_OK;
}

ws_status ws_gguf_from_config(ws_gguf_model *m, ws_gguf_pairs *p, const char *name,
                              const char *text, size_t len, ws_err *err)
{
    cJSON *tree = NULL;
    ws_status st = ws_json_parse(&tree, text, len, err);
    if (st != WS_OK)
        return st;
    const char *type =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "model_type"));
    m->architecture = architecture_of(type);
    if (m->architecture == NULL) {
        char shown[64];
        ws_show(type == NULL ? "" : type, shown, sizeof shown);
        st = ws_fail(err, WS_E_UNSUPPORTED,
                     "config.json says model_type '%s', GGUF is written for llama, "
                     "mistral, qwen2, qwen3 and gpt2",
                     shown);
    }
    if (st == WS_OK) {
        ws_gguf_pair_text(p, "general.architecture", m->architecture);
        ws_gguf_pair_text(p, "general.type", "model");
        ws_gguf_pair_text(p, "general.name", name);
        st = put_all(m, p, tree, err);
    }
    cJSON_Delete(tree);
    return st;
}
