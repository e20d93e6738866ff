/*
 * test_chat.c - conversations in the words of each format, and which template is which
 */
#include "temp_dir.h"
#include "train/chat_internal.h"
#include "wsurg/alloc.h"

static ws_err err;

static const ws_message talk[] = {
    { "system", "S", 1 },
    { "user", " U ", 3 },
    { "assistant", "A", 1 },
    { "user", "V", 1 },
};

static ws_chat open_chat(const char *name)
{
    ws_chat c;
    err = (ws_err)WS_ERR_INIT;
    assert_ok(ws_chat_open(&c, name, NULL, &err), err);
    snprintf(c.bos, sizeof c.bos, "<s>");
    snprintf(c.eos, sizeof c.eos, "</s>");
    return c;
}

static void assert_render(const char *name, size_t from, size_t n, bool prompt,
                          const char *want)
{
    const ws_chat c = open_chat(name);
    ws_buf b = { 0 };
    assert_ok(ws_chat_render(&c, talk + from, n, prompt, &b, NULL, NULL, &err), err);
    assert_string_equal(b.p, want);
    ws_buf_free(&b);
}

static void formats_say_it_in_their_words(void **state)
{
    (void)state;
    assert_render("chatml", 0, 4, true,
                  "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n U <|im_end|>\n"
                  "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n"
                  "<|im_start|>assistant\n");
    assert_render("qwen2", 1, 1, false,
                  "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
                  "<|im_start|>user\n U <|im_end|>\n");
    assert_render("llama2", 0, 4, true,
                  "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\n U [/INST] A </s>"
                  "<s>[INST] V [/INST]");
    assert_render("llama3", 1, 2, false,
                  "<s><|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
                  "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>");
    assert_render("mistral", 1, 3, true, "<s>[INST]  U  [/INST]A</s>[INST] V [/INST]");
    assert_render("mistral-v1", 0, 4, true,
                  "<s> [INST] S\n\n U  [/INST] A</s> [INST] V [/INST]");
    assert_render("mistral-v3", 0, 3, false, "<s>[INST] S\n\n U [/INST] A</s>");
    assert_render("mistral-v3", 0, 4, true,
                  "<s>[INST]  U [/INST] A</s>[INST] S\n\nV[/INST]");
    assert_render("mistral-v3-tekken", 0, 4, true,
                  "<s>[INST] U [/INST]A</s>[INST]S\n\nV[/INST]");
    assert_render("mistral-v7", 0, 3, false,
                  "<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST]  U [/INST] A</s>");
    assert_render("mistral-v7-tekken", 0, 3, false,
                  "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST] U [/INST]A</s>");
    assert_render("zephyr", 0, 2, true,
                  "<|system|>\nS</s>\n<|user|>\n U </s>\n<|assistant|>\n");
    assert_render("phi3", 1, 2, false,
                  "<|user|>\n U <|end|>\n<|assistant|>\nA<|end|>\n</s>");
    assert_render(
        "gemma3", 0, 2, true,
        "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\n");
    assert_render("vicuna", 0, 4, true,
                  "<s>S USER:  U  ASSISTANT: A</s>USER: V ASSISTANT:");
    assert_render("alpaca", 0, 2, true,
                  "<s>S\n\n### Instruction:\n U \n\n### Response:\n");
    assert_render("qwen3", 1, 2, false,
                  "<|im_start|>user\n U <|im_end|>\n<|im_start|>assistant\n<think>\n\n"
                  "</think>\n\nA<|im_end|>\n");
}

static void the_assistant_is_what_it_wrote_and_its_end(void **state)
{
    (void)state;
    const ws_chat c = open_chat("chatml");
    ws_chat_part part[4];
    size_t n;
    ws_buf b = { 0 };
    assert_ok(ws_chat_render(&c, talk, 4, false, &b, part, &n, &err), err);
    assert_int_equal(n, 1);
    assert_int_equal(part[0].end - part[0].first, 11);
    assert_memory_equal(b.p + part[0].first, "A<|im_end|>", 11);
    ws_buf_free(&b);
}

static void orders_that_a_format_lacks_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        size_t from, n;
        const char *msg;
    } cases[] = {
        { "gemma", 0, 2,
          "turn 1 is of role 'system', which chat format 'gemma' does not have" },
        { "mistral", 2, 1,
          "turn 1 is of role 'assistant', chat format 'mistral' wants 'user'" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const ws_chat c = open_chat(cases[i].format);
        ws_buf b = { 0 };
        assert_int_equal(ws_chat_render(&c, talk + cases[i].from, cases[i].n, false, &b,
                                        NULL, NULL, &err),
                         WS_E_UNSUPPORTED);
        assert_string_equal(err.msg, cases[i].msg);
        ws_buf_free(&b);
    }
    ws_chat c;
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_chat_open(&c, "chatlm", NULL, &err), WS_E_USAGE);
    assert_string_equal(err.msg, "no chat format is called 'chatlm'");
}

#define IM(rest)                                                                       \
    "{% for message in messages %}" rest                                               \
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"   \
    " + '\\n'}}{% endfor %}"

static void templates_are_recognised_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *template, *format, *system;
    } cases[] = {
        { IM(""), "chatml", "" },
        { IM("{% if loop.first and messages[0]['role'] != 'system' %}"
             "{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}"),
          "chatml", "Be kind." },
        // says something of a missing system turn, and we cannot tell what
        { IM("{% if messages[0]['role'] != 'system' %}{{ hello }}{% endif %}"), NULL,
          NULL },
        { IM("{{ message | trim }}"), NULL, NULL },
        { "", NULL, NULL },
        // as mergekit writes it: a line break behind every turn, which Llama 3 has not
        { "{% set content = '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}\n"
          "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif "
          "%}\n"
          "{{ content }}\n{% endfor %}",
          NULL, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ws_chat c = { 0 };
        assert_int_equal(ws_chat_recognise(&c, cases[i].template),
                         cases[i].format != NULL);
        if (!cases[i].format)
            continue;
        assert_string_equal(ws_chat_name_of(&c), cases[i].format);
        assert_string_equal(c.system, cases[i].system);
    }
}

static void the_model_says_its_template_and_tokens(void **state)
{
    (void)state;
    ws_chat c;
    err = (ws_err)WS_ERR_INIT;
    spit_text("tokenizer_config.json",
              "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\"}");
    assert_int_equal(ws_chat_open(&c, NULL, ".", &err), WS_E_MISSING);
    assert_string_equal(err.msg, "the model has no chat template");
    spit_text("chat_template.jinja", IM(""));
    err = (ws_err)WS_ERR_INIT;
    assert_ok(ws_chat_open(&c, NULL, ".", &err), err);
    assert_string_equal(ws_chat_name_of(&c), "chatml");
    assert_string_equal(c.bos, "<s>");
    assert_string_equal(c.eos, "</s>");
    char end[32];
    ws_chat_end(&c, end, sizeof end);
    assert_string_equal(end, "<|im_end|>");
    spit_text("chat_template.jinja", "{{ messages }}");
    assert_int_equal(ws_chat_open(&c, NULL, ".", &err), WS_E_UNSUPPORTED);
    assert_string_equal(err.msg,
                        "the model's chat template is none of those known here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_say_it_in_their_words),
        cmocka_unit_test(the_assistant_is_what_it_wrote_and_its_end),
        cmocka_unit_test(orders_that_a_format_lacks_are_refused),
        cmocka_unit_test(templates_are_recognised_or_refused),
        cmocka_unit_test_setup_teardown(the_model_says_its_template_and_tokens,
                                        temp_setup, temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
