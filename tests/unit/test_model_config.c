/*
 * test_model_config.c - config.json into a descriptor, and what is refused by name
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/desc.h"

#define DIMS                                                                           \
    "\"hidden_size\":64,\"num_hidden_layers\":3,\"num_attention_heads\":8,"            \
    "\"intermediate_size\":96,\"vocab_size\":50"

static ws_err err;

static ws_status parse(ws_model_desc *d, ws_arena *arena, const char *type,
                       const char *more)
{
    char text[2048];
    err = (ws_err)WS_ERR_INIT;
    snprintf(text, sizeof text, "{\"model_type\":\"%s\",%s%s}", type, DIMS, more);
    return ws_model_desc_parse(d, text, strlen(text), "c.json", NULL, arena, &err);
}

static void defaults_are_those_of_the_family(void **state)
{
    ws_model_desc d;
    ws_arena a = { 0 };
    (void)state;

    assert_int_equal(parse(&d, &a, "llama", ""), WS_OK);
    assert_int_equal(d.K, 8);
    assert_int_equal(d.D, 8);
    assert_true(d.eps == 1e-6 && d.rope.theta == 1e4);
    assert_false(d.qkv_bias);
    assert_int_equal(parse(&d, &a, "qwen2", ""), WS_OK);
    assert_true(d.qkv_bias && !d.o_bias);
    assert_int_equal(parse(&d, &a, "qwen3", ""), WS_OK);
    assert_int_equal(d.D, 128);
    assert_true(d.qk_norm);
    ws_arena_free(&a);
}

static void both_generations_of_rope_keys_are_read(void **state)
{
    ws_model_desc d;
    ws_arena a = { 0 };
    (void)state;

    assert_int_equal(parse(&d, &a, "llama",
                           ",\"rope_theta\":5e5,\"rope_scaling\":{\"type\":\"linear\","
                           "\"factor\":2}"),
                     WS_OK);
    assert_true(d.rope.kind == WS_ROPE_LINEAR && d.rope.theta == 5e5);
    assert_int_equal(parse(&d, &a, "llama",
                           ",\"rope_theta\":7.0,\"rope_parameters\":{\"rope_type\":"
                           "\"linear\",\"factor\":4,\"rope_theta\":1e6}"),
                     WS_OK);
    assert_true(d.rope.factor == 4.0 && d.rope.theta == 1e6);
    ws_arena_free(&a);
}

static void windows_follow_the_keys(void **state)
{
    ws_model_desc d;
    ws_arena a = { 0 };
    (void)state;

    assert_int_equal(parse(&d, &a, "mistral", ",\"sliding_window\":9"), WS_OK);
    assert_true(d.window[0] == 9 && d.window[2] == 9);
    assert_int_equal(parse(&d, &a, "qwen2", ",\"sliding_window\":9"), WS_OK);
    assert_true(d.window[2] == 0);
    assert_int_equal(parse(&d, &a, "qwen2",
                           ",\"sliding_window\":9,\"use_sliding_window\":true,"
                           "\"max_window_layers\":2"),
                     WS_OK);
    assert_true(d.window[1] == 0 && d.window[2] == 9);
    ws_arena_free(&a);
}

static void dropout_is_the_largest_that_is_asked_for(void **state)
{
    ws_model_desc d;
    ws_arena a = { 0 };
    (void)state;

    assert_int_equal(parse(&d, &a, "llama", ""), WS_OK);
    assert_true(d.dropout == 0.0);
    assert_int_equal(parse(&d, &a, "llama", ",\"attention_dropout\":0.25"), WS_OK);
    assert_true(d.dropout == 0.25);
    ws_arena_free(&a);
}

/** Every hostile file is refused in one line that names its key. */
static void hostile_values_are_refused_by_name(void **state)
{
    static const struct {
        const char *key, *value;
    } cases[] = {
        { "hidden_size", "-64" },
        { "hidden_size", "1e12" },
        { "hidden_size", "64.5" },
        { "hidden_size", "\"64\"" },
        { "hidden_size", "[64]" },
        { "hidden_size", "9223372036854775808" },
        { "num_hidden_layers", "0" },
        { "num_hidden_layers", "16777216" },
        { "num_attention_heads", "-1" },
        { "num_attention_heads", "7" },
        { "intermediate_size", "{}" },
        { "vocab_size", "true" },
        { "vocab_size", "1e400" },
        { "head_dim", "16777216" },
        { "rms_norm_eps", "-1" },
        { "tie_word_embeddings", "\"yes\"" },
        { "rope_theta", "\"hot\"" },
        { "rope_scaling", "[1]" },
        { "partial_rotary_factor", "1e300" },
        { "partial_rotary_factor", "-1e300" },
        { "rope_scaling", "{\"rope_type\":\"linear\",\"factor\":\"4\"}" },
        { "rope_scaling", "{\"rope_type\":7}" },
        { "model_type", "7" },
        { "model_type", "\"gpt9\"" },
    };
    static const char *const dims[] = { "hidden_size", "num_hidden_layers",
                                        "num_attention_heads", "intermediate_size",
                                        "vocab_size" };
    static const char *const values[] = { "64", "3", "8", "96", "50" };
    ws_model_desc d;
    ws_arena a = { 0 };
    char text[1024];
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const bool type = strcmp(cases[i].key, "model_type") == 0;
        int n = snprintf(text, sizeof text, "{\"%s\":%s", cases[i].key, cases[i].value);
        for (size_t k = 0; k < 5; k++)
            if (strcmp(dims[k], cases[i].key) != 0)
                n += snprintf(text + n, sizeof text - (size_t)n, ",\"%s\":%s", dims[k],
                              values[k]);
        snprintf(text + n, sizeof text - (size_t)n, "%s}",
                 type ? "" : ",\"model_type\":\"llama\"");
        err = (ws_err)WS_ERR_INIT;
        const ws_status st =
            ws_model_desc_parse(&d, text, strlen(text), "c.json", NULL, &a, &err);
        if (st != WS_E_HEADER && st != WS_E_UNSUPPORTED)
            fail_msg("%s %s: status %d", cases[i].key, cases[i].value, (int)st);
        assert_null(strchr(err.msg, '\n'));
        assert_true(err.msg[0] != '\0');
    }
    ws_arena_free(&a);
}

static void what_changes_numbers_unknown_is_refused_by_name(void **state)
{
    static const struct {
        const char *type, *more, *says;
        ws_status st;
    } cases[] = {
        { "mixtral", "", "key 'model_type' is 'mixtral'", WS_E_UNSUPPORTED },
        { "llama", ",\"hidden_act\":\"quick_gelu\"",
          "key 'hidden_act' is 'quick_gelu': that activation is not known here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"attn_logit_softcapping\":50.0",
          "key 'attn_logit_softcapping' changes numbers in a way not known here",
          WS_E_UNSUPPORTED },
        { "qwen3", ",\"is_causal\":false",
          "key 'is_causal' changes numbers in a way not known here", WS_E_UNSUPPORTED },
        { "llama", ",\"rope_interleaved\":true",
          "key 'rope_interleaved' changes numbers in a way not known here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"sliding_window\":4096",
          "key 'sliding_window' changes numbers in a way not known here",
          WS_E_UNSUPPORTED },
        { "mistral", ",\"attention_bias\":true",
          "key 'attention_bias' changes numbers in a way not known here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"activation\":\"geglu\"",
          "key 'activation' changes numbers in a way not known here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"pruned_heads\":{\"1\":[0]}",
          "key 'pruned_heads' changes numbers in a way not known here",
          WS_E_UNSUPPORTED },
        { "qwen3", ",\"v_head_dim\":16",
          "key 'v_head_dim' is none of a qwen3 model that is known here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"use_rope\":false",
          "key 'use_rope' is none of a llama model that is known here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"n_embd\":64",
          "key 'n_embd' is none of a llama model that is known here",
          WS_E_UNSUPPORTED },
        { "llama",
          ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"attn_factor\":2}",
          "key 'attn_factor' of 'rope_scaling' is none of a llama model that is known "
          "here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"rope_parameters\":{\"llama_4_scaling_beta\":0.1}",
          "key 'llama_4_scaling_beta' of 'rope_parameters' is none of a llama model "
          "that "
          "is known here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e4}}",
          "key 'rope_parameters' differs by kind of layer, which is not read here",
          WS_E_UNSUPPORTED },
        { "llama", ",\"rope_scaling\":{\"rope_type\":\"longrope\"}",
          "key 'rope_type' is 'longrope', known are default, linear, dynamic, llama3, "
          "yarn",
          WS_E_UNSUPPORTED },
        { "llama", ",\"num_key_value_heads\":3",
          "key 'num_key_value_heads' does not divide num_attention_heads",
          WS_E_HEADER },
        { "llama", ",\"max_position_embeddings\":-4",
          "key 'max_position_embeddings' is no whole number from 1 to 2^24",
          WS_E_HEADER },
        { "llama", ",\"rms_norm_eps\":\"small\"",
          "key 'rms_norm_eps' is no finite number", WS_E_HEADER },
    };
    ws_model_desc d;
    ws_arena a = { 0 };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(&d, &a, cases[i].type, cases[i].more), cases[i].st);
        assert_string_equal(err.msg, cases[i].says);
        assert_string_equal(err.path, "c.json");
    }
    ws_arena_free(&a);
}

/** Keys beside the dimensions, as published models of each family have them. */
static void published_models_have_no_key_that_is_refused(void **state)
{
    static const struct {
        const char *type, *more;
    } cases[] = {
        // Llama 2, chat
        { "llama", ",\"_name_or_path\":\"x\",\"architectures\":[\"LlamaForCausalLM\"],"
                   "\"attention_bias\":false,\"bos_token_id\":1,\"eos_token_id\":2,"
                   "\"hidden_act\":\"silu\",\"initializer_range\":0.02,"
                   "\"max_length\":4096,\"max_position_embeddings\":4096,"
                   "\"num_key_value_heads\":4,\"pad_token_id\":0,\"pretraining_tp\":1,"
                   "\"rms_norm_eps\":1e-05,\"rope_scaling\":null,"
                   "\"tie_word_embeddings\":false,\"torch_dtype\":\"float16\","
                   "\"transformers_version\":\"4.32.0.dev0\",\"use_cache\":true" },
        // Llama 3.2, by a tool that tunes
        { "llama", ",\"attention_dropout\":0.0,\"bos_token_id\":128000,"
                   "\"eos_token_id\":[128001,128008,128009],\"head_dim\":8,"
                   "\"mlp_bias\":false,\"rope_scaling\":{\"factor\":32.0,"
                   "\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,"
                   "\"original_max_position_embeddings\":8192,"
                   "\"rope_type\":\"llama3\"},\"rope_theta\":500000.0,"
                   "\"unsloth_fixed\":true,\"unsloth_version\":\"2025.1\","
                   "\"torch_dtype\":\"bfloat16\",\"temperature\":0.6,\"top_p\":0.9" },
        // SmolLM2
        { "llama", ",\"is_llama_config\":true,\"rope_interleaved\":false,"
                   "\"transformers.js_config\":{\"dtype\":\"q4\"},\"pad_token_id\":2" },
        // Vicuna, Falcon 3, a yarn-extended Llama 2
        { "llama", ",\"max_sequence_length\":2048" },
        { "llama", ",\"activation\":\"swiglu\"" },
        { "llama", ",\"rope_scaling\":{\"factor\":16.0,\"finetuned\":true,"
                   "\"original_max_position_embeddings\":4096,\"type\":\"yarn\"}" },
        // Mistral 0.1 and Nemo
        { "mistral", ",\"sliding_window\":4096,\"attention_dropout\":0.0" },
        { "mistral", ",\"sliding_window\":null,\"head_dim\":16,\"rope_theta\":1e6" },
        // Qwen 2.5 and 3; the second as transformers 5 writes it
        { "qwen2", ",\"max_window_layers\":2,\"sliding_window\":32768,"
                   "\"use_sliding_window\":false,\"use_mrope\":false" },
        { "qwen3", ",\"attention_bias\":false,\"dtype\":\"bfloat16\",\"head_dim\":16,"
                   "\"layer_types\":[\"full_attention\",\"full_attention\","
                   "\"full_attention\"],\"output_attentions\":false,"
                   "\"chunk_size_feed_forward\":0,\"id2label\":{\"0\":\"LABEL_0\"},"
                   "\"label2id\":{\"LABEL_0\":0},\"problem_type\":null,"
                   "\"rope_parameters\":{\"rope_theta\":1000000,"
                   "\"rope_type\":\"default\"},\"return_dict\":true,"
                   "\"is_encoder_decoder\":false,\"sliding_window\":null,"
                   "\"use_sliding_window\":false" },
    };
    // GPT-2 as published; distilgpt2 adds the labels
    static const char gpt2[] =
        "{\"activation_function\":\"gelu_new\",\"architectures\":[\"GPT2LMHeadModel\"],"
        "\"attn_pdrop\":0.1,\"bos_token_id\":50256,\"embd_pdrop\":0.1,"
        "\"eos_token_id\":50256,\"initializer_range\":0.02,\"layer_norm_epsilon\":1e-"
        "05,"
        "\"model_type\":\"gpt2\",\"n_ctx\":1024,\"n_embd\":64,\"n_head\":4,"
        "\"n_layer\":2,\"n_positions\":1024,\"resid_pdrop\":0.1,"
        "\"summary_activation\":null,\"summary_first_dropout\":0.1,"
        "\"summary_proj_to_labels\":true,\"summary_type\":\"cls_index\","
        "\"summary_use_proj\":true,\"task_specific_params\":{\"text-generation\":"
        "{\"do_sample\":true,\"max_length\":50}},\"vocab_size\":50257,\"_num_labels\":"
        "1,"
        "\"id2label\":{\"0\":\"LABEL_0\"},\"label2id\":{\"LABEL_0\":0},"
        "\"reorder_and_upcast_attn\":false,\"scale_attn_weights\":true}";
    ws_model_desc d;
    ws_arena a = { 0 };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (parse(&d, &a, cases[i].type, cases[i].more) != WS_OK)
            fail_msg("%zu: %s", i, err.msg);
    if (ws_model_desc_parse(&d, gpt2, strlen(gpt2), "c.json", NULL, &a, &err) != WS_OK)
        fail_msg("gpt2: %s", err.msg);
    ws_arena_free(&a);
}

static void unknown_keys_pass_with_a_warning_where_that_is_asked_for(void **state)
{
    const char *text = "{\"model_type\":\"llama\"," DIMS
                       ",\"mood\":\"blue\",\"shade\":3,\"nothing\":null,\"none\":{},"
                       "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2,\"hue\":1}}";
    ws_diag unknown = { 0 };
    ws_model_desc d;
    ws_arena a = { 0 };
    (void)state;

    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(
        ws_model_desc_parse(&d, text, strlen(text), "c.json", NULL, &a, &err),
        WS_E_UNSUPPORTED);
    assert_string_equal(err.msg,
                        "key 'mood' is none of a llama model that is known here");
    assert_string_equal(err.hint, "--lenient: go on with a warning, as if it were not "
                                  "there; the model may be another one without it");
    assert_int_equal(
        ws_model_desc_parse(&d, text, strlen(text), "c.json", &unknown, &a, &err),
        WS_OK);
    assert_int_equal(unknown.n, 3);
    assert_string_equal(unknown.items[1].msg,
                        "key 'shade' is none of a llama model that is known here");
    assert_string_equal(unknown.items[2].msg,
                        "key 'hue' of 'rope_scaling' is none of a "
                        "llama model that is known here");
    assert_true(d.rope.factor == 2.0);
    // What is known to change numbers stays refused.
    text = "{\"model_type\":\"llama\"," DIMS ",\"logit_scale\":2}";
    assert_int_equal(
        ws_model_desc_parse(&d, text, strlen(text), "c.json", &unknown, &a, &err),
        WS_E_UNSUPPORTED);
    ws_diag_free(&unknown);
    ws_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_family),
        cmocka_unit_test(both_generations_of_rope_keys_are_read),
        cmocka_unit_test(windows_follow_the_keys),
        cmocka_unit_test(dropout_is_the_largest_that_is_asked_for),
        cmocka_unit_test(hostile_values_are_refused_by_name),
        cmocka_unit_test(what_changes_numbers_unknown_is_refused_by_name),
        cmocka_unit_test(published_models_have_no_key_that_is_refused),
        cmocka_unit_test(unknown_keys_pass_with_a_warning_where_that_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
