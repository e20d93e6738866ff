/*
 * test_companions.c - what is carried beside the weights, and what is not
 */
#include "hf/companions.h"
#include "temp_dir.h"
#include "wsurg/alloc.h"

static const char key[] = "0123456789abcdef0123456789abcdef";

static ws_status carry(const ws_companion_opts *o, ws_diag *warnings, ws_err *err)
{
    ws_stage *s = NULL;
    const ws_stage_opts so = { .target = "out", .is_dir = true, .key = key };
    ws_status st = ws_stage_open(&s, &so, NULL, err);
    if (st == WS_OK)
        st = ws_companions_carry(s, "base", o, warnings, err);
    if (st == WS_OK)
        st = ws_stage_commit(s, NULL, NULL, err);
    ws_stage_close(s, false);
    return st;
}

static void make_base(const char *config)
{
    static const char *const names[] = {
        "LICENSE",
        "LICENSE.py",
        "NOTICE.txt",
        "README.md",
        "USE_POLICY.md",
        "added_tokens.json",
        "chat_template.jinja",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "model.safetensors.index.json",
        "modeling_own.py",
        "notes.txt",
        "optimizer.pt",
        "pytorch_model.bin",
        "special_tokens_map.json",
        "spiece.model",
        "tekken.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "training_args.bin",
        "vocab.json",
        "vocab.txt",
        ".gitattributes",
        "additional_chat_templates/tool.jinja",
        "additional_chat_templates/evil.py",
        "original/params.json",
    };
    assert_int_equal(mkdir("base", 0777), 0);
    assert_int_equal(mkdir("base/additional_chat_templates", 0777), 0);
    assert_int_equal(mkdir("base/original", 0777), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "base/%s", names[i]);
        spit_text(path, names[i]);
    }
    if (config != NULL)
        spit_text("base/config.json", config);
}

static void known_files_are_carried_and_the_rest_is_named(void **state)
{
    (void)state;
    static const char *const want[] = {
        "LICENSE",
        "NOTICE.txt",
        "USE_POLICY.md",
        "added_tokens.json",
        "additional_chat_templates/tool.jinja",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "special_tokens_map.json",
        "spiece.model",
        "tekken.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    };
    ws_err err = WS_ERR_INIT;
    ws_diag warnings = { 0 };
    const ws_companion_opts o = { .dtype_set = false };
    make_base("{\"model_type\": \"llama\"}\n");
    assert_ok(carry(&o, &warnings, &err), err);
    ws_manifest *m = NULL;
    assert_ok(ws_manifest_make(&m, "out", NULL, &err), err);
    assert_int_equal(m->n_files, sizeof want / sizeof *want);
    for (size_t i = 0; i < m->n_files; i++) {
        char path[128];
        snprintf(path, sizeof path, "out/%s", want[i]);
        assert_string_equal(m->files[i].path, want[i]);
        if (strcmp(want[i], "config.json") != 0)
            assert_file(path, want[i]);
    }
    ws_manifest_free(m);
    assert_file("out/config.json", "{\"model_type\": \"llama\"}\n");
    assert_int_equal(warnings.n, 2);
    assert_string_equal(warnings.items[0].tag, "note");
    assert_string_equal(warnings.items[0].path, "base");
    assert_string_equal(warnings.items[0].msg,
                        "not carried over: README.md, notes.txt");
    assert_string_equal(warnings.items[1].tag, "note");
    assert_string_equal(warnings.items[1].path, "base");
    assert_string_equal(warnings.items[1].msg,
                        "code is not carried over: LICENSE.py, modeling_own.py");
    ws_diag_free(&warnings);
}

static void config_follows_the_written_dtype(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    const ws_companion_opts o = { .dtype_set = true, .dtype = WS_DT_BF16 };
    make_base("{\n  \"torch_dtype\": \"float32\",\n  \"text_config\": {\"dtype\": "
              "\"float32\"},\n  \"x\": 1\n}\n");
    assert_ok(carry(&o, NULL, &err), err);
    assert_file("out/config.json", "{\n  \"torch_dtype\": \"bfloat16\",\n  "
                                   "\"text_config\": {\"dtype\": "
                                   "\"bfloat16\"},\n  \"x\": 1\n}\n");
}

static void untied_head_is_said_everywhere(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    const ws_companion_opts o = { .untie = true };
    make_base(
        "{\n  \"text_config\": {\"tie_word_embeddings\": true},\n  \"x\": 1\n}\n");
    assert_ok(carry(&o, NULL, &err), err);
    assert_file("out/config.json", "{\n  \"text_config\": {\"tie_word_embeddings\": "
                                   "false},\n  \"x\": 1,\n  \"tie_word_embeddings\": "
                                   "false\n}\n");
}

static void custom_code_is_a_warning(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_diag warnings = { 0 };
    const ws_companion_opts o = { .dtype_set = false };
    make_base("{\"auto_map\": {\"AutoModel\": \"modeling_own.Own\"}}");
    assert_ok(carry(&o, &warnings, &err), err);
    assert_int_equal(warnings.n, 3);
    assert_string_equal(warnings.items[0].tag, "custom-code");
    assert_string_equal(warnings.items[0].msg,
                        "config.json names Python code of its own (auto_map), which is "
                        "not carried");
    assert_string_equal(warnings.items[0].path, "base/config.json");
    assert_false(there("out/modeling_own.py"));
    assert_file("out/config.json",
                "{\"auto_map\": {\"AutoModel\": \"modeling_own.Own\"}}");
    ws_diag_free(&warnings);
}

static void malformed_config_is_refused(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    const ws_companion_opts o = { .dtype_set = false };
    make_base("{\"a\": 1,}");
    assert_int_equal(carry(&o, NULL, &err), WS_E_HEADER);
    assert_string_equal(err.path, "base/config.json");
    assert_false(there("out"));
    assert_false(there(".out.wsurg"));
}

static void links_of_a_cache_are_followed(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    const ws_companion_opts o = { .dtype_set = false };
    make_base(NULL);
    assert_int_equal(rename("base/tokenizer.json", "blob"), 0);
    assert_int_equal(symlink("../blob", "base/tokenizer.json"), 0);
    assert_ok(carry(&o, NULL, &err), err);
    assert_file("out/tokenizer.json", "tokenizer.json");
    struct stat sb;
    assert_int_equal(lstat("out/tokenizer.json", &sb), 0);
    assert_true(S_ISREG(sb.st_mode));
}

static void lost_companion_is_an_error(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    const ws_companion_opts o = { .dtype_set = false };
    make_base(NULL);
    assert_int_equal(unlink("base/tokenizer.json"), 0);
    assert_int_equal(symlink("../gone", "base/tokenizer.json"), 0);
    assert_int_equal(carry(&o, NULL, &err), WS_E_IO);
    assert_string_equal(err.msg, "cannot open: No such file or directory");
    assert_string_equal(err.path, "base/tokenizer.json");
}

static void each_failed_allocation_leaves_nothing(void **state)
{
    (void)state;
    make_base("{\"auto_map\": 1, \"torch_dtype\": \"float32\"}");
    const ws_companion_opts o = { .dtype_set = true,
                                  .dtype = WS_DT_F16,
                                  .untie = true };
    for (long n = 0;; n++) {
        ws_err err = WS_ERR_INIT;
        const long live = ws_alloc_live();
        ws_alloc_fail_after(n);
        const ws_status st = carry(&o, NULL, &err);
        ws_alloc_fail_after(-1);
        assert_int_equal(ws_alloc_live(), live);
        if (st == WS_OK)
            break;
        assert_int_equal(st, WS_E_MEMORY);
        assert_false(there("out"));
        assert_true(n < 2000);
    }
    assert_file("out/config.json", "{\"auto_map\": 1, \"torch_dtype\": \"float16\", "
                                   "\"tie_word_embeddings\": false}");
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(known_files_are_carried_and_the_rest_is_named),
        T(config_follows_the_written_dtype),
        T(untied_head_is_said_everywhere),
        T(custom_code_is_a_warning),
        T(malformed_config_is_refused),
        T(links_of_a_cache_are_followed),
        T(lost_companion_is_an_error),
        T(each_failed_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
