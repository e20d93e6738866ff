/*
 * config_keys.c - which keys of config.json may stand there unread
 *
 * Every key is in one of three lists, or refused: read by config.c, harmless, or
 * neutral at one value. Models have been published whose model_type is llama or qwen3
 * and whose own key makes them something else, so a key of unknown meaning is no
 * trifle.
 */
#include "model/config_keys.h"

#include <string.h>

enum {
    LLAMA = 1,
    MISTRAL = 2,
    QWEN2 = 4,
    QWEN3 = 8,
    GPT2 = 16,
    QWEN = QWEN2 | QWEN3,
    ROPE = LLAMA | MISTRAL | QWEN,
    ALL = ROPE | GPT2,
};

struct key {
    const char *name;
    unsigned families;
};

/** Read by config.c. */
static const struct key read_keys[] = {
    { "model_type", ALL },
    { "vocab_size", ALL },
    { "tie_word_embeddings", ALL },
    { "bos_token_id", ALL },
    { "eos_token_id", ALL },
    { "attention_dropout", ALL },
    { "hidden_dropout", ALL },
    { "resid_pdrop", ALL },
    { "embd_pdrop", ALL },
    { "attn_pdrop", ALL },
    { "hidden_size", ROPE },
    { "num_hidden_layers", ROPE },
    { "num_attention_heads", ROPE },
    { "num_key_value_heads", ROPE },
    { "intermediate_size", ROPE },
    { "head_dim", ROPE },
    { "max_position_embeddings", ROPE },
    { "rms_norm_eps", ROPE },
    { "hidden_act", ROPE },
    { "rope_theta", ROPE },
    { "rope_scaling", ROPE },
    { "rope_parameters", ROPE },
    { "partial_rotary_factor", ROPE },
    { "original_max_position_embeddings", ROPE },
    { "layer_types", ROPE },
    { "attention_bias", LLAMA | QWEN3 },
    { "mlp_bias", LLAMA },
    { "sliding_window", MISTRAL | QWEN },
    { "use_sliding_window", QWEN },
    { "max_window_layers", QWEN },
    { "n_embd", GPT2 },
    { "n_layer", GPT2 },
    { "n_head", GPT2 },
    { "n_inner", GPT2 },
    { "n_positions", GPT2 },
    { "layer_norm_epsilon", GPT2 },
    { "activation_function", GPT2 },
    { "scale_attn_weights", GPT2 },
    { "scale_attn_by_inverse_layer_idx", GPT2 },
};

/** No number that these models compute depends on them. */
static const struct key harmless[] = {
    // where it came from, what code wrote it, how it is kept and run
    { "_name_or_path", ALL },
    { "_commit_hash", ALL },
    { "_attn_implementation", ALL },
    { "_attn_implementation_autoset", ALL },
    { "_attn_implementation_internal", ALL },
    { "_experts_implementation", ALL },
    { "_flash_attn_2_enabled", ALL },
    { "attn_implementation", ALL },
    { "use_flash_attn", ALL },
    { "architectures", ALL },
    { "auto_map", ALL },
    { "transformers_version", ALL },
    { "transformers.js_config", ALL },
    { "unsloth_version", ALL },
    { "unsloth_fixed", ALL },
    { "nemo_version", ALL },
    { "is_llama_config", LLAMA },
    { "torch_dtype", ALL },
    { "dtype", ALL },
    { "torchscript", ALL },
    { "use_bfloat16", ALL },
    { "use_cache", ALL },
    { "gradient_checkpointing", ALL },
    { "use_reentrant_checkpointing", ALL },
    { "chunk_size_feed_forward", ALL },
    { "pretraining_tp", ALL },
    { "tf_legacy_loss", ALL },
    { "initializer_range", ALL },
    { "initializer_factor", ALL },
    { "neftune_noise_alpha", ALL },
    { "reorder_and_upcast_attn", GPT2 },
    // how long a text may be, where no table of positions says it
    { "max_sequence_length", ROPE },
    { "model_max_length", ROPE },
    { "seq_length", ROPE },
    { "n_ctx", GPT2 },
    { "max_window_layers", LLAMA | MISTRAL },
    // tokens
    { "pad_token_id", ALL },
    { "sep_token_id", ALL },
    { "cls_token_id", ALL },
    { "mask_token_id", ALL },
    { "unk_token_id", ALL },
    { "decoder_start_token_id", ALL },
    { "tokenizer_class", ALL },
    { "prefix", ALL },
    { "predict_special_tokens", GPT2 },
    { "n_special", GPT2 },
    // heads other than that of a language model, and what is returned
    { "id2label", ALL },
    { "label2id", ALL },
    { "num_labels", ALL },
    { "_num_labels", ALL },
    { "problem_type", ALL },
    { "finetuning_task", ALL },
    { "task_specific_params", ALL },
    { "classifier_dropout", ALL },
    { "summary_activation", GPT2 },
    { "summary_first_dropout", GPT2 },
    { "summary_proj_to_labels", GPT2 },
    { "summary_type", GPT2 },
    { "summary_use_proj", GPT2 },
    { "output_attentions", ALL },
    { "output_hidden_states", ALL },
    { "output_scores", ALL },
    { "output_past", ALL },
    { "return_dict", ALL },
    { "return_dict_in_generate", ALL },
    { "keys_to_ignore_at_inference", ALL },
    // encoders, which these are not
    { "is_decoder", ALL },
    { "tie_encoder_decoder", ALL },
    { "cross_attention_hidden_size", ALL },
    // how text was drawn, which options of generate say
    { "max_length", ALL },
    { "min_length", ALL },
    { "max_new_tokens", ALL },
    { "do_sample", ALL },
    { "early_stopping", ALL },
    { "num_beams", ALL },
    { "num_beam_groups", ALL },
    { "diversity_penalty", ALL },
    { "temperature", ALL },
    { "top_k", ALL },
    { "top_p", ALL },
    { "typical_p", ALL },
    { "repetition_penalty", ALL },
    { "length_penalty", ALL },
    { "no_repeat_ngram_size", ALL },
    { "encoder_no_repeat_ngram_size", ALL },
    { "bad_words_ids", ALL },
    { "num_return_sequences", ALL },
    { "forced_bos_token_id", ALL },
    { "forced_eos_token_id", ALL },
    { "remove_invalid_values", ALL },
    { "exponential_decay_length_penalty", ALL },
    { "suppress_tokens", ALL },
    { "begin_suppress_tokens", ALL },
    // names of parts that only another family's class looks at
    { "attention_bias", QWEN2 },
};

/** Change numbers, and nothing here reads them: only at the value that changes none. */
static const struct neutral {
    const char *name;
    enum { ONLY_NULL, ONLY_FALSE, ONLY_TRUE, ONLY_ONE, ONLY_WORD } at;
    const char *word;
    unsigned families;
} neutral[] = {
    { "quantization_config", ONLY_NULL, NULL, ALL },
    { "quantization", ONLY_NULL, NULL, ALL },
    { "compression_config", ONLY_NULL, NULL, ALL },
    { "attn_logit_softcapping", ONLY_NULL, NULL, ALL },
    { "final_logit_softcapping", ONLY_NULL, NULL, ALL },
    { "embedding_multiplier", ONLY_ONE, NULL, ALL },
    { "residual_multiplier", ONLY_ONE, NULL, ALL },
    { "attention_multiplier", ONLY_ONE, NULL, ALL },
    { "attention_value_scale", ONLY_ONE, NULL, ALL },
    { "logits_scaling", ONLY_ONE, NULL, ALL },
    { "logit_scale", ONLY_ONE, NULL, ALL },
    { "query_pre_attn_scalar", ONLY_NULL, NULL, ALL },
    { "no_rope_layers", ONLY_NULL, NULL, ALL },
    { "rope_local_base_freq", ONLY_NULL, NULL, ALL },
    { "rope_interleaved", ONLY_FALSE, NULL, ALL },
    { "num_experts", ONLY_NULL, NULL, ALL },
    { "num_local_experts", ONLY_NULL, NULL, ALL },
    { "clip_qkv", ONLY_NULL, NULL, ALL },
    { "alibi", ONLY_FALSE, NULL, ALL },
    { "is_causal", ONLY_TRUE, NULL, ALL },
    { "use_bidirectional_attention", ONLY_FALSE, NULL, ALL },
    { "use_qk_norm", ONLY_FALSE, NULL, LLAMA | MISTRAL | QWEN2 | GPT2 },
    { "qk_layernorm", ONLY_FALSE, NULL, ALL },
    { "qk_layer_norms", ONLY_FALSE, NULL, ALL },
    { "use_mrope", ONLY_FALSE, NULL, ALL },
    { "use_logn_attn", ONLY_FALSE, NULL, ALL },
    { "use_dynamic_ntk", ONLY_FALSE, NULL, ALL },
    { "bias", ONLY_FALSE, NULL, ROPE },
    { "use_bias", ONLY_FALSE, NULL, ROPE },
    { "lm_head_bias", ONLY_FALSE, NULL, ALL },
    { "attention_bias", ONLY_FALSE, NULL, MISTRAL },
    { "mlp_bias", ONLY_FALSE, NULL, MISTRAL | QWEN },
    { "sliding_window", ONLY_NULL, NULL, LLAMA },
    { "use_sliding_window", ONLY_FALSE, NULL, LLAMA | MISTRAL },
    { "activation", ONLY_WORD, "swiglu", ROPE },
    { "add_cross_attention", ONLY_FALSE, NULL, ALL },
    { "is_encoder_decoder", ONLY_FALSE, NULL, ALL },
    { "prune_heads", ONLY_NULL, NULL, ALL },
    { "pruned_heads", ONLY_NULL, NULL, ALL },
};

/** Members of rope_scaling and rope_parameters. */
static const struct key rope_keys[] = {
    { "rope_type", ROPE },        { "type", ROPE },
    { "rope_theta", ROPE },       { "partial_rotary_factor", ROPE },
    { "factor", ROPE },           { "low_freq_factor", ROPE },
    { "high_freq_factor", ROPE }, { "original_max_position_embeddings", ROPE },
    { "beta_fast", ROPE },        { "beta_slow", ROPE },
    { "truncate", ROPE },         { "mscale", ROPE },
    { "mscale_all_dim", ROPE },   { "attention_factor", ROPE },
    { "finetuned", ROPE }, // a remark: trained with it
    { "full_attention", ROPE },   { "sliding_attention", ROPE }, // refused by config.c
};

static bool listed(const struct key *list, size_t n, const char *name, unsigned family)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0 && (list[i].families & family) != 0)
            return true;
    return false;
}

#define LISTED(list, name, family)                                                     \
    listed(list, sizeof(list) / sizeof(list)[0], name, family)

/** Null, and objects and lists of nothing, ask for nothing. */
static bool empty(const cJSON *item)
{
    return cJSON_IsNull(item) ||
           ((cJSON_IsObject(item) || cJSON_IsArray(item)) && item->child == NULL);
}

static bool is_neutral(const struct neutral *n, const cJSON *item)
{
    switch (n->at) {
    case ONLY_FALSE:
        return cJSON_IsFalse(item);
    case ONLY_TRUE:
        return cJSON_IsTrue(item);
    case ONLY_ONE:
        return cJSON_IsNumber(item) && item->valuedouble == 1.0;
    case ONLY_WORD:
        return cJSON_IsString(item) && strcmp(item->valuestring, n->word) == 0;
    default: // of what is counted, none; of what may be wanted, not
        return cJSON_IsFalse(item) ||
               (cJSON_IsNumber(item) && item->valuedouble == 0.0);
    }
}

struct check {
    unsigned family;
    const char *type, *path;
    ws_diag *unknown;
    ws_err *err;
};

/** A key in no list: refused, or warned of. @p in is "" or " of 'rope_scaling'". */
static ws_status unknown_key(const struct check *c, const char *key, const char *in)
{
    static const char text[] = "key '%s'%s is none of a %s model that is known here";

    if (c->unknown != NULL) {
        ws_err *e =
            ws_diag_report(c->unknown, WS_OK, "unknown-key", text, key, in, c->type);
        if (e != NULL)
            ws_err_at(e, c->path, NULL, -1);
        return WS_OK;
    }
    const ws_status st = ws_fail(c->err, WS_E_UNSUPPORTED, text, key, in, c->type);
    ws_err_hint(c->err, "--lenient: go on with a warning, as if it were not there; the "
                        "model may be another one without it");
    return ws_err_at(c->err, c->path, NULL, -1), st;
}

static ws_status key_check(const struct check *c, const cJSON *item)
{
    const char *key = item->string;

    if (empty(item) || LISTED(read_keys, key, c->family) ||
        LISTED(harmless, key, c->family))
        return WS_OK;
    for (size_t i = 0; i < sizeof neutral / sizeof neutral[0]; i++) {
        if (strcmp(neutral[i].name, key) != 0 || !(neutral[i].families & c->family))
            continue;
        if (is_neutral(&neutral[i], item))
            return WS_OK;
        ws_fail(c->err, WS_E_UNSUPPORTED,
                "key '%s' changes numbers in a way not known here", key);
        return ws_err_at(c->err, c->path, NULL, -1), WS_E_UNSUPPORTED;
    }
    return unknown_key(c, key, "");
}

static unsigned family_of(const char *type)
{
    static const struct key types[] = { { "llama", LLAMA },
                                        { "mistral", MISTRAL },
                                        { "qwen2", QWEN2 },
                                        { "qwen3", QWEN3 },
                                        { "gpt2", GPT2 } };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, type) == 0)
            return types[i].families;
    return 0;
}

ws_status ws_config_keys_check(const cJSON *root, const char *family, const char *path,
                               ws_diag *unknown, ws_err *err)
{
    static const struct {
        const char *key, *in;
    } nested[] = { { "rope_scaling", " of 'rope_scaling'" },
                   { "rope_parameters", " of 'rope_parameters'" } };
    const struct check c = { family_of(family), family, path, unknown, err };
    const cJSON *item;
    ws_status st;

    cJSON_ArrayForEach(item, root)
    {
        st = key_check(&c, item);
        if (st)
            return st;
    }
    for (size_t i = 0; (c.family & ROPE) != 0 && i < 2; i++) {
        const cJSON *o = cJSON_GetObjectItemCaseSensitive(root, nested[i].key);
        if (!cJSON_IsObject(o))
            continue;
        cJSON_ArrayForEach(item, o)
        {
            if (empty(item) || LISTED(rope_keys, item->string, ROPE))
                continue;
            st = unknown_key(&c, item->string, nested[i].in);
            if (st)
                return st;
        }
    }
    return WS_OK;
}
