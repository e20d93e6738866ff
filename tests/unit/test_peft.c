/*
 * test_peft.c - adapter directories: what is read, what is refused by name, what is
 * written
 */
#include "st_fixture.h"
#include "temp_dir.h"

#include "hf/peft.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/** Factors of one module: rank 2, (3, 4). */
static const float A[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static const float B[6] = { 1, 0, 0, 1, 1, 1 };

#define MODULE "base_model.model.model.layers.0.self_attn.q_proj"

static const st_item pair[] = {
    { MODULE ".lora_A.weight", WS_DT_F32, 2, { 2, 4 }, A },
    { MODULE ".lora_B.weight", WS_DT_F32, 2, { 3, 2 }, B },
};

/** Open an adapter of @p items with @p config. */
static ws_status open_parts(ws_adapter **out, const char *config, const st_item *items,
                            size_t n, ws_diag *warnings, ws_err *err)
{
    uint8_t *image;
    ws_ckpt *c = st_open(items, n, &image);
    const ws_status st =
        ws_adapter_from(out, "dir/x/", config, strlen(config), c, warnings, err);
    if (st != WS_OK)
        ws_ckpt_free(c);
    free(image); // headers are parsed, data is not read
    return st;
}

static void alpha_over_r_is_the_scale(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_adapter *a = NULL;
    assert_ok(open_parts(&a, "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":16}", pair,
                         2, NULL, &err),
              err);
    assert_int_equal(a->n_modules, 1);
    assert_string_equal(a->label, "x");
    const ws_adapter_module *m = ws_adapter_find(a, "model.layers.0.self_attn.q_proj");
    assert_non_null(m);
    assert_int_equal(m->r, 2);
    assert_int_equal(m->in, 4);
    assert_int_equal(m->out, 3);
    assert_true(m->scale == 8.0);
    ws_adapter_free(a);
}

static void rslora_divides_by_the_root(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_adapter *a = NULL;
    assert_ok(open_parts(&a,
                         "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":16,"
                         "\"use_rslora\":true}",
                         pair, 2, NULL, &err),
              err);
    assert_true(a->modules[0].scale == 16.0 / sqrt(2.0));
    ws_adapter_free(a);
}

static void first_pattern_that_matches_counts(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_diag warnings = { 0 };
    ws_adapter *a = NULL;
    assert_ok(open_parts(&a,
                         "{\"peft_type\":\"LORA\",\"r\":64,\"lora_alpha\":1,"
                         "\"rank_pattern\":{\"k_proj\":7,\"q_proj\":2},"
                         "\"alpha_pattern\":{\"layers.[0-3].self_attn.q_proj\":6,"
                         "\"q_proj\":8,\"roj\":3}}",
                         pair, 2, &warnings, &err),
              err);
    assert_int_equal(a->modules[0].r, 2);
    assert_true(a->modules[0].alpha == 6.0 && a->modules[0].scale == 3.0);
    assert_int_equal(warnings.n, 1);
    assert_string_equal(warnings.items[0].tag, "pattern-overlap");
    ws_diag_free(&warnings);
    ws_adapter_free(a);
}

/** Configurations that are refused, and how. */
static const struct {
    const char *config;
    ws_status st;
    const char *msg;
} wrong_configs[] = {
    { "[]", WS_E_HEADER, "configuration is not a JSON object" },
    { "{}", WS_E_HEADER, "'peft_type' is missing" },
    { "{\"peft_type\":\"IA3\"}", WS_E_UNSUPPORTED,
      "peft_type is 'IA3': only LORA adapters are read" },
    { "{\"peft_type\":\"LORA\",\"r\":0}", WS_E_HEADER,
      "'r' is not a whole number from 1" },
    { "{\"peft_type\":\"LORA\",\"r\":2.5}", WS_E_HEADER,
      "'r' is not a whole number from 1" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":\"16\"}", WS_E_HEADER,
      "'lora_alpha' is not a number" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"use_dora\":1}", WS_E_HEADER,
      "'use_dora' is not true or false" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"use_qalora\":true}", WS_E_UNSUPPORTED,
      "'use_qalora' is set: such an adapter is no plain update" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"layer_replication\":[[0,2]]}",
      WS_E_UNSUPPORTED,
      "'layer_replication' is set: such an adapter is no plain "
      "update" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"use_newest\":0.5}", WS_E_UNSUPPORTED,
      "'use_newest' is set: the field is unknown and may change numbers" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"init_lora_weights\":\"magic\"}",
      WS_E_UNSUPPORTED,
      "init_lora_weights is 'magic', which is unknown: whether it changed the base "
      "cannot be told" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"rank_pattern\":{\"(?=q)\":2}}",
      WS_E_UNSUPPORTED,
      "rank_pattern key '(?=q)' is an expression that is not read here" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"rank_pattern\":{\"(q\":2}}", WS_E_HEADER,
      "rank_pattern key '(q' is no valid expression" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"alpha_pattern\":{\"q\":null}}", WS_E_HEADER,
      "alpha_pattern of 'q' is not a valid number" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"modules_to_save\":\"lm_head\"}", WS_E_HEADER,
      "'modules_to_save' is not a list of names" },
    { "{\"peft_type\":\"LORA\",\"r\":3}", WS_E_SHAPE,
      "factors have ranks 2 and 2, the configuration says 3" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"use_dora\":true}", WS_E_MISSING,
      "'use_dora' is set, but the module has no magnitude" },
    { "{\"peft_type\":\"LORA\",\"r\":2,\"lora_bias\":true}", WS_E_MISSING,
      "'lora_bias' is set, but B has no bias" },
};

static void a_field_that_could_change_numbers_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(wrong_configs); i++) {
        ws_err err = WS_ERR_INIT;
        ws_adapter *a = NULL;
        const long live = ws_alloc_live();
        assert_int_equal(open_parts(&a, wrong_configs[i].config, pair, 2, NULL, &err),
                         wrong_configs[i].st);
        assert_string_equal(err.msg, wrong_configs[i].msg);
        if (i < 15)
            assert_string_equal(err.path, "dir/x/adapter_config.json");
        assert_int_equal(ws_alloc_live(), live);
    }
}

static void fields_of_training_and_empty_ones_are_passed_over(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_adapter *a = NULL;
    assert_ok(open_parts(&a,
                         "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":2,"
                         "\"lora_dropout\":0.1,\"eva_config\":{\"rho\":2.0},"
                         "\"target_modules\":\"all-linear\",\"use_newest\":null,"
                         "\"kasa_config\":{},\"task_type\":\"CAUSAL_LM\","
                         "\"fan_in_fan_out\":true,\"init_lora_weights\":\"pissa\","
                         "\"base_model_name_or_path\":\"some/base\"}",
                         pair, 2, NULL, &err),
              err);
    assert_true(a->changed_base);
    assert_string_equal(a->init, "pissa");
    assert_string_equal(a->base, "some/base");
    assert_true(a->modules[0].scale == 1.0);
    ws_adapter_free(a);
}

#define PLAIN "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":2}"

static void spellings_of_other_tools_are_read(void **state)
{
    (void)state;
    static const st_item items[] = {
        { "model.q.lora_A.default.weight", WS_DT_F32, 2, { 2, 4 }, A },
        { "base_model.model.q.lora_B.default.weight", WS_DT_F32, 2, { 3, 2 }, B },
        { "model.wte.lora_embedding_A.default", WS_DT_F32, 2, { 2, 3 }, B },
        { "model.wte.lora_embedding_B.default", WS_DT_F32, 2, { 4, 2 }, A },
    };
    ws_err err = WS_ERR_INIT;
    ws_adapter *a = NULL;
    // the first factor has no prefix, the second "base_model.model." over "q"
    assert_int_equal(open_parts(&a, PLAIN, items, 4, NULL, &err), WS_E_MISSING);
    assert_string_equal(err.msg, "the module has only one of the factors A and B");
    st_item right[4];
    memcpy(right, items, sizeof right);
    right[1].name = "base_model.model.model.q.lora_B.default.weight";
    assert_ok(open_parts(&a, PLAIN, right, 4, NULL, &err), err);
    assert_int_equal(a->n_modules, 2);
    assert_string_equal(a->modules[0].path, "model.q");
    assert_string_equal(a->modules[1].path, "model.wte");
    assert_true(a->modules[1].embedding);
    assert_int_equal(a->modules[1].in, 3);
    ws_adapter_free(a);
}

/** A tensor beside the pair, and how it is refused. */
static const struct {
    st_item item;
    ws_status st;
    const char *msg;
} wrong_tensors[] = {
    { { MODULE ".lora_C.weight", WS_DT_F32, 1, { 2 }, A },
      WS_E_UNSUPPORTED,
      "no rule says what the adapter's tensor is for" },
    { { "alone", WS_DT_F32, 1, { 2 }, A },
      WS_E_UNSUPPORTED,
      "no rule says what the adapter's tensor is for" },
    { { MODULE ".lora_A.default.weight", WS_DT_F32, 2, { 2, 4 }, A },
      WS_E_HEADER,
      "tensor stands twice under different spellings" },
    { { MODULE ".lora_magnitude_vector", WS_DT_F32, 1, { 3 }, A },
      WS_E_HEADER,
      "a magnitude, but 'use_dora' is not set" },
    { { MODULE ".lora_B.bias", WS_DT_F32, 1, { 3 }, A },
      WS_E_HEADER,
      "a bias of B, which the configuration does not have" },
    { { MODULE ".lora_B.bias", WS_DT_F32, 1, { 2 }, A },
      WS_E_SHAPE,
      "bias has another length than B has rows" },
    { { MODULE ".bias", WS_DT_F32, 1, { 3 }, A },
      WS_E_HEADER,
      "a bias, but 'bias' of the configuration is none" },
    { { MODULE ".lora_embedding_A", WS_DT_F32, 2, { 2, 4 }, A },
      WS_E_MISSING,
      "the module has only one of the factors A and B" },
    { { "base_model.model.k.lora_A.weight", WS_DT_F32, 2, { 2, 4 }, A },
      WS_E_MISSING,
      "the module has only one of the factors A and B" },
    { { "base_model.model.k.lora_magnitude_vector", WS_DT_F32, 1, { 2 }, A },
      WS_E_MISSING,
      "the module has no factors A and B" },
    { { "base_model.model.e.token_adapter.trainable_tokens_delta",
        WS_DT_F32,
        2,
        { 2, 4 },
        A },
      WS_E_HEADER,
      "trained rows, but 'trainable_token_indices' has none for them" },
    { { "base_model.model.e.weight", WS_DT_I32, 1, { 2 }, A },
      WS_E_DTYPE,
      "a tensor without arithmetic" },
};

static void every_tensor_has_a_use_or_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(wrong_tensors); i++) {
        const st_item items[] = { pair[0], pair[1], wrong_tensors[i].item };
        ws_err err = WS_ERR_INIT;
        ws_adapter *a = NULL;
        const long live = ws_alloc_live();
        assert_int_equal(open_parts(&a, PLAIN, items, 3, NULL, &err),
                         wrong_tensors[i].st);
        assert_string_equal(err.msg, wrong_tensors[i].msg);
        assert_true(err.tensor[0] != '\0');
        assert_int_equal(ws_alloc_live(), live);
    }
}

static void replaced_tensors_and_rows_are_gathered(void **state)
{
    (void)state;
    static const st_item items[] = {
        { "base_model.model.lm_head.weight", WS_DT_F32, 2, { 2, 4 }, A },
        { "base_model.model.q.bias", WS_DT_F32, 1, { 3 }, A },
        { "base_model.model.score.modules_to_save.weight", WS_DT_F32, 2, { 2, 4 }, A },
        { "base_model.model.e.token_adapter.trainable_tokens_delta",
          WS_DT_F32,
          2,
          { 2, 4 },
          A },
    };
    ws_err err = WS_ERR_INIT;
    ws_adapter *a = NULL;
    assert_ok(open_parts(&a,
                         "{\"peft_type\":\"LORA\",\"bias\":\"all\","
                         "\"modules_to_save\":[\"score\"],"
                         "\"trainable_token_indices\":{\"e\":[5,3]}}",
                         items, 4, NULL, &err),
              err);
    assert_int_equal(a->n_wholes, 3);
    assert_string_equal(a->wholes[0].name, "lm_head.weight");
    assert_false(a->wholes[0].saved);
    assert_string_equal(a->wholes[1].name, "q.bias");
    assert_string_equal(a->wholes[2].name, "score.weight");
    assert_true(a->wholes[2].saved);
    assert_int_equal(a->n_rows, 1);
    assert_string_equal(a->rows[0].path, "e");
    assert_int_equal(a->rows[0].rows[0], 5);
    assert_int_equal(a->rows[0].rows[1], 3);
    ws_adapter_free(a);
}

/* ---- writing ---- */

static const float mag[3] = { 1, 2, 3 };

static const ws_adapter_factors factors[] = {
    { .path = "model.a", .r = 2, .in = 4, .out = 3, .alpha = 4, .a = A, .b = B },
    { .path = "model.b", .r = 2, .in = 4, .out = 3, .alpha = 4, .a = A, .b = B },
    { .path = "model.c", .r = 1, .in = 4, .out = 3, .alpha = 0.3, .a = A, .b = B },
};

static void whole_numbers_have_no_exponent(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    static const float many[40] = { 1 };
    const ws_adapter_factors two[] = {
        { .path = "a", .r = 2, .in = 4, .out = 3, .alpha = 20, .a = A, .b = B },
        { .path = "b", .r = 10, .in = 4, .out = 3, .alpha = 100, .a = many, .b = many },
    };
    const ws_adapter_spec spec = { .modules = two, .n_modules = 2, .dtype = WS_DT_F32 };
    const ws_adapter_target to = { .out = "out", .manifest = "none" };
    assert_ok(ws_adapter_write(&spec, &to, NULL, NULL, &err), err);
    const char *text = slurp("out/adapter_config.json", NULL);
    assert_non_null(strstr(text, "\"lora_alpha\": 20,"));
    assert_non_null(strstr(text, "\"rank_pattern\": {\n    \"b\": 10\n  }"));
    assert_non_null(strstr(text, "\"alpha_pattern\": {\n    \"b\": 100\n  }"));
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_manifest *files = NULL;
    ws_adapter *a = NULL;
    const uint64_t shape[] = { 3 };
    const ws_tensor t = {
        .dtype = WS_DT_F32, .rank = 1, .shape = shape, .n_elements = 3, .n_bytes = 12
    };
    const ws_adapter_copy copy = { .name = "norm.weight", .t = &t, .data = mag };
    const ws_adapter_spec spec = { .modules = factors,
                                   .n_modules = 3,
                                   .copies = &copy,
                                   .n_copies = 1,
                                   .dtype = WS_DT_F32,
                                   .base = "the \"base\"",
                                   .residual = "xxh3-128:00" };
    const ws_adapter_target to = { .out = "out/" };
    assert_ok(ws_adapter_write(&spec, &to, NULL, &files, &err), err);
    assert_int_equal(files->n_files, 2);
    ws_manifest_free(files);
    assert_true(there("out/manifest.json"));
    assert_ok(ws_adapter_open(&a, "out", NULL, &err), err);
    assert_int_equal(a->n_modules, 3);
    assert_int_equal(a->modules[0].r, 2);
    assert_true(a->modules[1].scale == 2.0);
    assert_int_equal(a->modules[2].r, 1);
    assert_true(a->modules[2].scale == 0.3);
    assert_string_equal(a->base, "the \"base\"");
    assert_string_equal(a->residual, "xxh3-128:00");
    assert_null(a->content);
    assert_int_equal(a->n_wholes, 1);
    assert_true(a->wholes[0].saved);
    float got[8];
    assert_ok(ws_adapter_read_f32(a, a->modules[0].a, got, &err), err);
    assert_memory_equal(got, A, sizeof A);
    ws_adapter_free(a);
    assert_int_equal(ws_adapter_write(&spec, &to, NULL, NULL, &err), WS_E_EXISTS);
}

static void configuration_has_sorted_keys(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    const ws_adapter_spec spec = {
        .modules = factors, .n_modules = 3, .dtype = WS_DT_F16, .rslora = true
    };
    const ws_adapter_target to = { .out = "out", .manifest = "none" };
    assert_ok(ws_adapter_write(&spec, &to, NULL, NULL, &err), err);
    assert_false(there("out/manifest.json"));
    assert_file("out/adapter_config.json",
                "{\n  \"alpha_pattern\": {\n    \"model.c\": 0.3\n  },\n"
                "  \"auto_mapping\": null,\n"
                "  \"base_model_name_or_path\": null,\n  \"bias\": \"none\",\n"
                "  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n"
                "  \"init_lora_weights\": true,\n  \"lora_alpha\": 4,\n"
                "  \"lora_bias\": false,\n  \"lora_dropout\": 0.0,\n"
                "  \"modules_to_save\": null,\n  \"peft_type\": \"LORA\",\n"
                "  \"r\": 2,\n  \"rank_pattern\": {\n    \"model.c\": 1\n  },\n"
                "  \"revision\": null,\n  \"target_modules\": [\n    \"model.a\",\n"
                "    \"model.b\",\n    \"model.c\"\n  ],\n"
                "  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n"
                "  \"use_rslora\": true\n}\n");
}

static void a_factor_that_is_not_finite_is_not_written(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    float bad[8] = { 1, 2, NAN };
    const ws_adapter_factors m = {
        .path = "m", .r = 2, .in = 4, .out = 3, .alpha = 1, .a = bad, .b = B
    };
    const ws_adapter_spec spec = { .modules = &m, .n_modules = 1, .dtype = WS_DT_F32 };
    const ws_adapter_target to = { .out = "out" };
    assert_int_equal(ws_adapter_write(&spec, &to, NULL, NULL, &err), WS_E_NOT_FINITE);
    assert_string_equal(err.msg, "a factor holds NaN or infinity");
    assert_false(there("out"));
}

static void a_directory_without_parts_says_which(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_adapter *a = NULL;
    assert_int_equal(mkdir("d", 0700), 0);
    assert_false(ws_adapter_is("d"));
    assert_int_equal(ws_adapter_open(&a, "d", NULL, &err), WS_E_MISSING);
    assert_string_equal(err.msg,
                        "no adapter: the directory has no 'adapter_config.json'");
    spit_text("d/adapter_config.json", PLAIN);
    assert_true(ws_adapter_is("d"));
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_adapter_open(&a, "d", NULL, &err), WS_E_MISSING);
    assert_string_equal(err.msg, "adapter has neither 'adapter_model.safetensors' nor "
                                 "'adapter_model.bin'");
    spit_text("d/adapter_model.bin", "no zip");
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_adapter_open(&a, "d", NULL, &err), WS_E_HEADER);
    assert_non_null(strstr(err.path, "adapter_model.bin"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alpha_over_r_is_the_scale),
        cmocka_unit_test(rslora_divides_by_the_root),
        cmocka_unit_test(first_pattern_that_matches_counts),
        cmocka_unit_test(a_field_that_could_change_numbers_is_refused),
        cmocka_unit_test(fields_of_training_and_empty_ones_are_passed_over),
        cmocka_unit_test(spellings_of_other_tools_are_read),
        cmocka_unit_test(every_tensor_has_a_use_or_is_refused),
        cmocka_unit_test(replaced_tensors_and_rows_are_gathered),
        T(what_is_written_is_read_again),
        T(configuration_has_sorted_keys),
        T(whole_numbers_have_no_exponent),
        T(a_factor_that_is_not_finite_is_not_written),
        T(a_directory_without_parts_says_which),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
