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
    return ws_model_desc_parse(d, text, strlen(text), "c.json", arena, &err);
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
            ws_model_desc_parse(&d, text, strlen(text), "c.json", &a, &err);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_family),
        cmocka_unit_test(both_generations_of_rope_keys_are_read),
        cmocka_unit_test(windows_follow_the_keys),
        cmocka_unit_test(dropout_is_the_largest_that_is_asked_for),
        cmocka_unit_test(hostile_values_are_refused_by_name),
        cmocka_unit_test(what_changes_numbers_unknown_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
