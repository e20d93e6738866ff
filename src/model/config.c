/*
 * config.c - config.json into the descriptor of a model
 *
 * Both generations of keys are read: rope_theta and rope_scaling, or rope_parameters.
 * A default is that of the family's configuration class. What is not known to be
 * harmless is refused by name, never guessed.
 */
#include "model/desc.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "model/config_keys.h"

enum { MAX_DIM = 1 << 24, MAX_LAYERS = 4096 };

/** Values of a family that its config.json need not say. */
struct family {
    const char *model_type;
    ws_norm_kind norm;
    double eps;
    double theta;
    int64_t max_positions;
    bool qkv_bias;    // fixed, whatever attention_bias says
    bool bias_by_key; // attention_bias and mlp_bias count
    bool qk_norm;
    bool window;       // sliding_window counts
    bool window_asked; // only with use_sliding_window, from max_window_layers on
    bool tied;
    int64_t head_dim; // 0: C / H
};

static const struct family families[] = {
    { "llama", WS_NORM_RMS, 1e-6, 1e4, 2048, false, true, false, false, false, false,
      0 },
    { "mistral", WS_NORM_RMS, 1e-6, 1e4, 131072, false, false, false, true, false,
      false, 0 },
    { "qwen2", WS_NORM_RMS, 1e-6, 1e4, 32768, true, false, false, true, true, false,
      0 },
    { "qwen3", WS_NORM_RMS, 1e-6, 1e4, 32768, false, true, true, true, true, false,
      128 },
};

struct reader {
    const cJSON *root;
    const char *path;
    ws_diag *unknown; // NULL: a key of unknown meaning is refused
    ws_err *err;
    ws_status st; // first fault
};

static ws_status refuse(struct reader *r, ws_status code, const char *key,
                        const char *why)
{
    if (r->st == WS_OK) {
        r->st = ws_fail(r->err, code, "key '%s' %s", key, why);
        ws_err_at(r->err, r->path, NULL, -1);
    }
    return r->st;
}

/** The value, NULL when it is absent or null. */
static const cJSON *get(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

static double real_of(struct reader *r, const cJSON *o, const char *key, double dflt)
{
    const cJSON *item = get(o, key);
    if (item == NULL)
        return dflt;
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble)) {
        refuse(r, WS_E_HEADER, key, "is no finite number");
        return dflt;
    }
    return item->valuedouble;
}

/** A positive whole number; @p dflt 0 means that it must be there. */
static int64_t dim_of(struct reader *r, const char *key, int64_t dflt)
{
    const cJSON *item = get(r->root, key);
    uint64_t v;
    if (item == NULL && dflt > 0)
        return dflt;
    if (item == NULL) {
        refuse(r, WS_E_HEADER, key, "is missing");
        return 1;
    }
    if (!ws_json_u64(item, &v) || v < 1 || v > MAX_DIM) {
        refuse(r, WS_E_HEADER, key, "is no whole number from 1 to 2^24");
        return 1;
    }
    return (int64_t)v;
}

static bool flag_of(struct reader *r, const char *key, bool dflt)
{
    const cJSON *item = get(r->root, key);
    if (item == NULL)
        return dflt;
    if (!cJSON_IsBool(item))
        refuse(r, WS_E_HEADER, key, "is neither true nor false");
    return cJSON_IsTrue(item);
}

static const char *word_of(struct reader *r, const cJSON *o, const char *key,
                           const char *dflt)
{
    const cJSON *item = get(o, key);
    if (item == NULL)
        return dflt;
    if (!cJSON_IsString(item)) {
        refuse(r, WS_E_HEADER, key, "is no text");
        return dflt;
    }
    return item->valuestring;
}

static void act_read(struct reader *r, ws_model_desc *d, const char *key,
                     const char *dflt)
{
    static const struct {
        const char *name;
        ws_act_kind act;
    } acts[] = {
        { "silu", WS_ACT_SILU },          { "swish", WS_ACT_SILU },
        { "gelu_new", WS_ACT_GELU_TANH }, { "gelu_pytorch_tanh", WS_ACT_GELU_TANH },
        { "gelu", WS_ACT_GELU_ERF },      { "relu", WS_ACT_RELU }
    };
    const char *name = word_of(r, r->root, key, dflt);
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++)
        if (strcmp(name, acts[i].name) == 0) {
            d->act = acts[i].act;
            return;
        }
    if (r->st == WS_OK) {
        r->st =
            ws_fail(r->err, WS_E_UNSUPPORTED,
                    "key '%s' is '%s': that activation is not known here", key, name);
        ws_err_at(r->err, r->path, NULL, -1);
    }
}

static void rope_kind_read(struct reader *r, ws_model_desc *d, const cJSON *o)
{
    static const struct {
        const char *name;
        ws_rope_kind kind;
    } kinds[] = { { "default", WS_ROPE_PLAIN },
                  { "linear", WS_ROPE_LINEAR },
                  { "dynamic", WS_ROPE_DYNAMIC },
                  { "llama3", WS_ROPE_LLAMA3 },
                  { "yarn", WS_ROPE_YARN } };
    const char *name = word_of(r, o, "rope_type", word_of(r, o, "type", "default"));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(name, kinds[i].name) == 0) {
            d->rope.kind = kinds[i].kind;
            return;
        }
    if (r->st == WS_OK) {
        r->st = ws_fail(r->err, WS_E_UNSUPPORTED,
                        "key 'rope_type' is '%s', known are default, linear, dynamic, "
                        "llama3, yarn",
                        name);
        ws_err_at(r->err, r->path, NULL, -1);
    }
}

static double yarn_mscale(double factor, double m)
{
    return factor <= 1.0 ? 1.0 : 0.1 * m * log(factor) + 1.0;
}

static void yarn_read(struct reader *r, ws_rope *p, const cJSON *o, double max_pos)
{
    p->beta_fast = real_of(r, o, "beta_fast", 32.0);
    p->beta_slow = real_of(r, o, "beta_slow", 1.0);
    const cJSON *truncate = get(o, "truncate");
    p->truncate = truncate == NULL || cJSON_IsTrue(truncate);
    if (get(o, "factor") == NULL)
        p->factor = max_pos / p->original;
    const double all = real_of(r, o, "mscale_all_dim", 0.0);
    const double one = real_of(r, o, "mscale", 0.0);
    p->attention_factor = one != 0.0 && all != 0.0 ? yarn_mscale(p->factor, one) /
                                                         yarn_mscale(p->factor, all)
                                                   : yarn_mscale(p->factor, 1.0);
    p->attention_factor = real_of(r, o, "attention_factor", p->attention_factor);
}

static void rope_read(struct reader *r, ws_model_desc *d, const struct family *f)
{
    const cJSON *v5 = get(r->root, "rope_parameters");
    const cJSON *o = v5 != NULL ? v5 : get(r->root, "rope_scaling");
    ws_rope *p = &d->rope;

    if (o != NULL && !cJSON_IsObject(o)) {
        refuse(r, WS_E_HEADER, v5 ? "rope_parameters" : "rope_scaling", "is no object");
        return;
    }
    if (get(o, "full_attention") != NULL || get(o, "sliding_attention") != NULL) {
        refuse(r, WS_E_UNSUPPORTED, "rope_parameters",
               "differs by kind of layer, which is not read here");
        return;
    }
    p->kind = WS_ROPE_PLAIN;
    p->attention_factor = 1.0;
    if (o != NULL)
        rope_kind_read(r, d, o);
    p->theta = real_of(r, r->root, "rope_theta", f->theta);
    p->theta = real_of(r, o, "rope_theta", p->theta);
    double partial = real_of(r, r->root, "partial_rotary_factor", 1.0);
    partial = real_of(r, o, "partial_rotary_factor", partial);
    if (!(partial >= 0.0 && partial <= 1.0))
        partial = 0.0; // refused below
    p->dim = (int64_t)((double)d->D * partial);
    p->factor = real_of(r, o, "factor", 1.0);
    p->low = real_of(r, o, "low_freq_factor", 1.0);
    p->high = real_of(r, o, "high_freq_factor", 4.0);
    p->original = real_of(r, r->root, "original_max_position_embeddings",
                          (double)d->max_positions);
    p->original = real_of(r, o, "original_max_position_embeddings", p->original);
    if (p->kind == WS_ROPE_YARN)
        yarn_read(r, p, o, (double)d->max_positions);
    if (!(p->theta > 1.0) || !(p->factor > 0.0) || !(p->original > 0.0) ||
        !(p->high > p->low) || !(p->low > 0.0) || !(p->beta_fast >= p->beta_slow))
        refuse(r, WS_E_HEADER, v5 ? "rope_parameters" : "rope_scaling",
               "has values out of range");
    if (p->dim < 2 || p->dim % 2 != 0 || p->dim > d->D)
        refuse(r, WS_E_HEADER, "partial_rotary_factor",
               "does not turn an even number of dimensions of a head");
}

/** Which layers see only the last keys. */
static void windows_read(struct reader *r, ws_model_desc *d, const struct family *f)
{
    const cJSON *types = get(r->root, "layer_types");
    int64_t w = 0, from = 0;

    if (f->window && get(r->root, "sliding_window") != NULL)
        w = dim_of(r, "sliding_window", 1);
    if (f->window_asked) {
        if (!flag_of(r, "use_sliding_window", false))
            w = 0;
        const cJSON *m = get(r->root, "max_window_layers");
        uint64_t v = 28;
        if (m != NULL && !ws_json_u64(m, &v))
            refuse(r, WS_E_HEADER, "max_window_layers", "is no whole number");
        from = v > MAX_LAYERS ? MAX_LAYERS : (int64_t)v;
    }
    if (types != NULL && (!cJSON_IsArray(types) || cJSON_GetArraySize(types) != d->L)) {
        refuse(r, WS_E_HEADER, "layer_types", "does not name every layer");
        return;
    }
    const cJSON *item = types ? types->child : NULL;
    for (int64_t l = 0; l < d->L; l++, item = item ? item->next : NULL) {
        d->window[l] = l >= from ? w : 0;
        if (item == NULL)
            continue;
        const char *name = cJSON_IsString(item) ? item->valuestring : "";
        if (strcmp(name, "sliding_attention") == 0 && w > 0)
            d->window[l] = w;
        else if (strcmp(name, "full_attention") == 0)
            d->window[l] = 0;
        else if (strcmp(name, "sliding_attention") != 0)
            refuse(r, WS_E_UNSUPPORTED, "layer_types",
                   "names a kind other than full_attention and sliding_attention");
        else
            refuse(r, WS_E_HEADER, "layer_types", "has windows of no size");
    }
}

/** eos_token_id: one, or a list. */
static void ends_read(struct reader *r, ws_model_desc *d)
{
    const cJSON *item = get(r->root, "eos_token_id");
    uint64_t v;

    d->bos = -1;
    if (get(r->root, "bos_token_id") && ws_json_u64(get(r->root, "bos_token_id"), &v))
        d->bos = (int64_t)v;
    if (item != NULL && cJSON_IsArray(item))
        item = item->child;
    for (; item != NULL && d->n_eos < 16; item = item->next) {
        if (ws_json_u64(item, &v))
            d->eos[d->n_eos++] = (int64_t)v;
        if (item->next == NULL || get(r->root, "eos_token_id") == item)
            break;
    }
}

/** The largest share that transformers would drop in training. */
static double dropout_read(struct reader *r, bool gpt2)
{
    static const char *const keys[] = { "attention_dropout", "hidden_dropout",
                                        "resid_pdrop", "embd_pdrop", "attn_pdrop" };
    double most = 0.0;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const double p = real_of(r, r->root, keys[i], gpt2 && i >= 2 ? 0.1 : 0.0);
        most = p > most ? p : most;
    }
    return most;
}

static void rope_family(struct reader *r, ws_model_desc *d, const struct family *f)
{
    d->C = dim_of(r, "hidden_size", 0);
    d->L = dim_of(r, "num_hidden_layers", 0);
    d->H = dim_of(r, "num_attention_heads", 0);
    d->K = dim_of(r, "num_key_value_heads", d->H);
    d->F = dim_of(r, "intermediate_size", 0);
    d->V = dim_of(r, "vocab_size", 0);
    if (r->st)
        return;
    if (f->head_dim == 0 && get(r->root, "head_dim") == NULL && d->C % d->H != 0)
        refuse(r, WS_E_HEADER, "hidden_size",
               "is no multiple of num_attention_heads, and head_dim is not given");
    d->D =
        dim_of(r, "head_dim", f->head_dim ? f->head_dim : d->C / d->H + (d->C < d->H));
    d->max_positions = dim_of(r, "max_position_embeddings", f->max_positions);
    d->norm = f->norm;
    d->eps = real_of(r, r->root, "rms_norm_eps", f->eps);
    d->qk_norm = f->qk_norm;
    const bool bias = f->bias_by_key && flag_of(r, "attention_bias", false);
    d->qkv_bias = f->qkv_bias || bias;
    d->o_bias = bias;
    d->mlp_bias = strcmp(f->model_type, "llama") == 0 && flag_of(r, "mlp_bias", false);
    d->gated = true;
    d->tied = flag_of(r, "tie_word_embeddings", f->tied);
    d->scale = 1.0 / sqrt((double)d->D);
    act_read(r, d, "hidden_act", "silu");
    rope_read(r, d, f);
}

static void gpt2_family(struct reader *r, ws_model_desc *d)
{
    d->C = dim_of(r, "n_embd", 768);
    d->L = dim_of(r, "n_layer", 12);
    d->H = d->K = dim_of(r, "n_head", 12);
    d->V = dim_of(r, "vocab_size", 50257);
    d->F = dim_of(r, "n_inner", 4 * d->C);
    d->max_positions = dim_of(r, "n_positions", 1024);
    if (r->st)
        return;
    if (d->C % d->H != 0)
        refuse(r, WS_E_HEADER, "n_embd", "is no multiple of n_head");
    d->D = d->C / d->H;
    d->norm = WS_NORM_LAYER;
    d->eps = real_of(r, r->root, "layer_norm_epsilon", 1e-5);
    d->learned = d->conv1d = d->qkv_bias = d->o_bias = d->mlp_bias = true;
    d->fusion = WS_FUSION_QKV;
    d->tied = flag_of(r, "tie_word_embeddings", true);
    d->scale = flag_of(r, "scale_attn_weights", true) ? 1.0 / sqrt((double)d->D) : 1.0;
    d->scale_by_layer = flag_of(r, "scale_attn_by_inverse_layer_idx", false);
    act_read(r, d, "activation_function", "gelu_new");
}

static void desc_fill(struct reader *r, ws_model_desc *d, ws_arena *arena)
{
    const char *type = word_of(r, r->root, "model_type", NULL);
    const struct family *f = NULL;

    if (type == NULL) {
        refuse(r, WS_E_HEADER, "model_type", "is missing");
        return;
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(type, families[i].model_type) == 0)
            f = &families[i];
    const bool gpt2 = strcmp(type, "gpt2") == 0;
    if (f == NULL && !gpt2) {
        r->st = ws_fail(r->err, WS_E_UNSUPPORTED, "key 'model_type' is '%s'", type);
        ws_err_at(r->err, r->path, NULL, -1);
        ws_err_hint(r->err, "known are llama, mistral, qwen2, qwen3 and gpt2");
        return;
    }
    snprintf(d->family, sizeof d->family, "%s", type);
    d->block = WS_BLOCK_PRE;
    d->embed_scale = 1.0;
    if (r->st == WS_OK)
        r->st = ws_config_keys_check(r->root, type, r->path, r->unknown, r->err);
    d->dropout = dropout_read(r, gpt2);
    if (gpt2)
        gpt2_family(r, d);
    else
        rope_family(r, d, f);
    if (r->st)
        return;
    if (d->L > MAX_LAYERS)
        refuse(r, WS_E_HEADER, "num_hidden_layers", "is above 4096");
    else if (d->H % d->K != 0)
        refuse(r, WS_E_HEADER, "num_key_value_heads",
               "does not divide num_attention_heads");
    else if (!(d->eps >= 0.0) || d->D > 4096 || d->H * d->D > MAX_DIM)
        refuse(r, WS_E_HEADER, "head_dim", "or the norm's eps is out of range");
    if (r->st)
        return;
    d->window = ws_arena_calloc(arena, (size_t)d->L, sizeof *d->window);
    if (d->window == NULL)
        r->st =
            ws_fail(r->err, WS_E_MEMORY, "no memory for %lld layers", (long long)d->L);
    else if (f != NULL)
        windows_read(r, d, f);
    ends_read(r, d);
}

ws_status ws_model_desc_parse(ws_model_desc *d, const char *text, size_t len,
                              const char *path, ws_diag *unknown, ws_arena *arena,
                              ws_err *err)
{
    cJSON *json = NULL;
    ws_status st = ws_json_parse(&json, text, len, err);
    if (st)
        return ws_err_at(err, path, NULL, -1), st;

    struct reader r = { .root = json, .path = path, .unknown = unknown, .err = err };
    *d = (ws_model_desc){ 0 };
    if (!cJSON_IsObject(json))
        refuse(&r, WS_E_HEADER, "model_type", "is missing: no JSON object");
    else
        desc_fill(&r, d, arena);
    cJSON_Delete(json);
    return r.st;
}
