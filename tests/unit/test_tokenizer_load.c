/*
 * test_tokenizer_load.c - tokenizer.json: what is refused, and how it is said
 */
#include "tokenizer_fixture.h"

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}"

static const struct {
    const char *json;
    ws_status status;
    const char *msg;
} refused[] = {
    { "[]", WS_E_HEADER, "tokenizer.json is not an object" },
    { "{}", WS_E_HEADER, "'model' is not an object" },
    { "{\"version\":\"2.0\"," MODEL "}", WS_E_UNSUPPORTED, "'version' is not \"1.0\"" },
    { "{\"model\":{\"type\":\"Unigram\"}}", WS_E_UNSUPPORTED,
      "model: type 'Unigram' is not supported" },
    { "{\"model\":{}}", WS_E_HEADER, "model: 'vocab' is not an object" },
    { "{\"model\":{\"vocab\":{}}}", WS_E_HEADER, "model: 'merges' is not a list" },
    { "{\"model\":{\"fuse_unk\":1}}", WS_E_HEADER,
      "model: 'fuse_unk' is neither true nor false" },
    { "{\"model\":{\"unk_token\":3,\"vocab\":{},\"merges\":[]}}", WS_E_HEADER,
      "model: 'unk_token' is not a string" },
    { "{\"model\":{\"end_of_word_suffix\":\"</w>\"}}", WS_E_UNSUPPORTED,
      "model: 'end_of_word_suffix' is not supported" },
    { "{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", WS_E_HEADER,
      "model.vocab: the id of 'a' is not a whole number below 2^21" },
    { "{\"model\":{\"vocab\":{\"a\":4000000000},\"merges\":[]}}", WS_E_HEADER,
      "model.vocab: the id of 'a' is not a whole number below 2^21" },
    { "{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", WS_E_HEADER,
      "model.vocab: the id of 'b' is another token's too" },
    { "{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", WS_E_HEADER,
      "JSON key 'a' stands twice in one object" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", WS_E_HEADER,
      "model.merges[0]: not two tokens" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}}", WS_E_HEADER,
      "model.merges[0]: not two tokens" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", WS_E_HEADER,
      "model.merges[0]: 'b' is not in the vocabulary" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", WS_E_HEADER,
      "model.merges[0]: 'aa' is not in the vocabulary" },
    { "{\"normalizer\":3," MODEL "}", WS_E_HEADER,
      "normalizer: 'type' is not a string" },
    { "{\"normalizer\":{\"type\":\"Precompiled\"}," MODEL "}", WS_E_UNSUPPORTED,
      "normalizer: the normalizer 'Precompiled' is not supported" },
    { "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{"
      "\"type\":"
      "\"Nmt\"}]}," MODEL "}",
      WS_E_UNSUPPORTED,
      "normalizer.normalizers[1]: the normalizer 'Nmt' is not supported" },
    { "{\"normalizer\":{\"type\":\"Sequence\"}," MODEL "}", WS_E_HEADER,
      "normalizer: 'normalizers' is not a list" },
    { "{\"normalizer\":{\"type\":\"Prepend\"}," MODEL "}", WS_E_HEADER,
      "normalizer: 'prepend' is not a string" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"content\":\"\",\"pattern\":\"a\"}," MODEL
      "}",
      WS_E_HEADER, "normalizer: 'pattern' is neither a String nor a Regex" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"String\":"
      "\"\"}}," MODEL "}",
      WS_E_UNSUPPORTED, "normalizer: a pattern of 0 bytes, 1 to 4096 are supported" },
    { "{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL "}", WS_E_UNSUPPORTED,
      "pre_tokenizer: the pre-tokenizer 'UnicodeScripts' is not supported" },
    { "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Odd\"}," MODEL "}",
      WS_E_UNSUPPORTED, "pre_tokenizer: the behavior 'Odd' is not supported" },
    { "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Removed\",\"invert\":"
      "false,"
      "\"pattern\":{\"Regex\":\"(a\"}}," MODEL "}",
      WS_E_UNSUPPORTED,
      "pre_tokenizer: missing closing parenthesis at byte 2 of the regex" },
    { "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}," MODEL "}",
      WS_E_HEADER, "pre_tokenizer: 'replacement' is not one character" },
    { "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_"
      "space\":"
      "false}," MODEL "}",
      WS_E_HEADER,
      "pre_tokenizer: add_prefix_space is false, prepend_scheme 'always'" },
    { "{\"decoder\":{\"type\":\"CTC\"}," MODEL "}", WS_E_UNSUPPORTED,
      "decoder: the decoder 'CTC' is not supported" },
    { "{\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1}," MODEL "}",
      WS_E_HEADER, "decoder: 'start' is not a whole number" },
    { "{\"post_processor\":{\"type\":\"BertProcessing\"}," MODEL "}", WS_E_UNSUPPORTED,
      "post_processor: the post-processor 'BertProcessing' is not supported" },
    { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}," MODEL "}",
      WS_E_UNSUPPORTED, "post_processor: 'single' lacks a Sequence" },
    { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"
      "\"SpecialToken\":"
      "{\"id\":\"x\"}}]}," MODEL "}",
      WS_E_HEADER,
      "post_processor: 'single' names a token that 'special_tokens' lacks" },
    { "{\"added_tokens\":{}," MODEL "}", WS_E_HEADER, "'added_tokens' is not a list" },
    { "{\"added_tokens\":[{\"id\":1}]," MODEL "}", WS_E_HEADER,
      "added_tokens[0]: 'content' is not a string" },
    { "{\"added_tokens\":[{\"content\":\"x\"},{\"content\":\"x\"}]," MODEL "}",
      WS_E_HEADER, "added_tokens: 'x' stands twice" },
    { "{\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},"
      "\"added_tokens\":[{\"content\":\" \",\"normalized\":true}]," MODEL "}",
      WS_E_UNSUPPORTED, "added_tokens: ' ' is nothing when normalized" },
};

static void faults_are_named_with_their_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ws_tokenizer *t = NULL;
        err = (ws_err)WS_ERR_INIT;
        const ws_status st =
            ws_tokenizer_parse(&t, refused[i].json, strlen(refused[i].json), &err);
        assert_string_equal(err.msg, refused[i].msg);
        assert_int_equal(st, refused[i].status);
        assert_null(t);
    }
}

static void too_many_parts_are_refused(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    ws_tokenizer *t = NULL;
    ws_buf_puts(&b, "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < 100; i++)
        ws_buf_printf(&b, "%s{\"type\":\"BertPreTokenizer\"}", i > 0 ? "," : "");
    ws_buf_puts(&b, "]}," MODEL "}");
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_tokenizer_parse(&t, b.p, b.n, &err), WS_E_UNSUPPORTED);
    assert_string_equal(err.msg, "pre_tokenizer.pretokenizers[31]: more than 60 parts");
    ws_buf_free(&b);
}

static void a_normalizer_cannot_blow_a_text_up(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    ws_encoder *e = NULL;
    ws_ids ids = { 0 };
    ws_buf_puts(&b, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 60; i++)
        ws_buf_printf(&b,
                      "%s{\"type\":\"Replace\",\"content\":\"aa\",\"pattern\":"
                      "{\"String\":\"a\"}}",
                      i > 0 ? "," : "");
    ws_buf_puts(&b, "]},");
    ws_tokenizer *t = toy_open(b.p, "");
    assert_ok(ws_encoder_new(&e, t, &err), err);
    assert_int_equal(ws_encode(e, "a", 1, false, &ids, &err), WS_E_UNSUPPORTED);
    assert_string_equal(err.msg,
                        "the tokenizer makes more than 64 times as much of 1 bytes");
    ws_ids_free(&ids);
    ws_encoder_free(e);
    ws_tokenizer_free(t);
    ws_buf_free(&b);
}

static const char everything[] =
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{"
    "\"type\":"
    "\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"y\"}]},\"pre_tokenizer\":"
    "{"
    "\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\",\"replacement\":"
    "\"_\"},"
    "{\"type\":\"Digits\",\"individual_digits\":true}," BYTE_LEVEL
    "]},\"decoder\":{\"type\":"
    "\"Sequence\",\"decoders\":[" BYTE_LEVEL
    ",{\"type\":\"Replace\",\"pattern\":{\"Regex\":"
    "\"_\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},"
    "\"added_tokens\":[{\"content\":\"<s>\",\"special\":true},{\"content\":\"cat\","
    "\"single_word\":true,\"normalized\":true}],";

/** Open, encode, decode; every outcome but success must be for lack of memory. */
static ws_status use(void)
{
    static const char text[] =
        "hello e\xCC\x81<s> cat 12\xFFxx aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    ws_tokenizer *t = NULL;
    ws_encoder *e = NULL;
    ws_decoder *d = NULL;
    ws_ids ids = { 0 };
    ws_buf out = { 0 };
    ws_status st = toy_parse(&t, everything, "");
    if (st == WS_OK)
        st = ws_encoder_new(&e, t, &err);
    if (st == WS_OK)
        st = ws_encode(e, text, sizeof text, true, &ids, &err);
    if (st == WS_OK)
        st = ws_decode(t, ids.p, ids.n, false, &out, &err);
    if (st == WS_OK)
        st = ws_decoder_new(&d, t, true, &err);
    for (size_t i = 0; i < ids.n && st == WS_OK; i++)
        st = ws_decoder_add(d, ids.p[i], &out, &err);
    if (st == WS_OK)
        st = ws_decoder_end(d, &out, &err);
    ws_decoder_free(d);
    ws_buf_free(&out);
    ws_ids_free(&ids);
    ws_encoder_free(e);
    ws_tokenizer_free(t);
    return st;
}

static void each_allocation_that_fails_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    const long live = ws_alloc_live();
    ws_buf kept = { 0 };
    long n = 0;
    ws_status st = WS_E_MEMORY;
    ws_buf_puts(&kept, "");
    for (; st != WS_OK && n < 2000; n++) {
        ws_alloc_fail_after(n);
        st = use();
        ws_alloc_fail_after(-1);
        assert_int_equal(ws_alloc_live(), live + 1);
        // a document that the toy could not write is no JSON
        assert_true(st == WS_OK || st == WS_E_MEMORY || st == WS_E_HEADER);
        assert_true(st == WS_OK || err.code == st);
    }
    assert_int_equal(st, WS_OK);
    ws_buf_free(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_named_with_their_place),
        cmocka_unit_test(too_many_parts_are_refused),
        cmocka_unit_test(a_normalizer_cannot_blow_a_text_up),
        cmocka_unit_test(each_allocation_that_fails_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
