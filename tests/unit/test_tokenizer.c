/*
 * test_tokenizer.c - text to ids and back through every part
 */
#include <unistd.h>

#include "tokenizer_fixture.h"

#define DECODER "\"decoder\":" BYTE_LEVEL ","
#define PRE     "\"pre_tokenizer\":" BYTE_LEVEL ","
#define SPLIT(regex, behavior, invert)                                                 \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"," \
    "\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"" behavior                   \
    "\",\"invert\":" invert "}," NO_REGEX "]},"

static void low_ranks_merge_first_and_the_leftmost_of_equals(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open(PRE DECODER, "");
    assert_ids(t, "hello hello", 11, false, "259 260");
    assert_ids(t, "aaa", 3, false, "261 97");
    assert_ids(t, "12 3\n", 5, false, "262 32 51 10");
    assert_ids(t, "", 0, false, "");
    assert_ids(t, "\0\xC3\xA9", 3, false, "0 195 169");
    ws_tokenizer_free(t);
}

static void broken_utf8_reads_as_replacement_characters(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open(PRE DECODER, "");
    assert_ids(t, "h\xFF", 2, false, "104 239 191 189");
    assert_ids(t, "\xF0\x9F\x98h", 4, false, "239 191 189 104");
    assert_ids(t, "\xED\xA0\x80", 3, false, "239 191 189 239 191 189 239 191 189");
    ws_tokenizer_free(t);
}

#define WHOLE(ignore)                                                                  \
    "{\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"model\":{\"type\":\"BPE\","   \
    "\"ignore_merges\":" ignore ",\"vocab\":{\"a\":0,\"aa\":1,\"aaa\":2},"             \
    "\"merges\":[[\"a\",\"a\"]]}}"

static void whole_words_come_before_merges_where_asked(void **state)
{
    (void)state;
    ws_tokenizer *t = text_open(WHOLE("true"));
    assert_ids(t, "aaa aa aaaa", 11, false, "2 1 1 1");
    ws_tokenizer_free(t);
    t = text_open(WHOLE("false"));
    assert_ids(t, "aaa aa aaaa", 11, false, "1 0 1 1 1");
    ws_tokenizer_free(t);
}

static void splits_treat_matches_as_told(void **state)
{
    (void)state;
    // "1" + "2" is 262 within a piece, 49 50 across two
    static const struct {
        const char *parts, *text, *want;
    } cases[] = {
        { SPLIT("x", "Removed", "false"), "12x12", "262 262" },
        { SPLIT("x", "Removed", "true"), "12x12", "120" },
        { SPLIT("1", "Isolated", "false"), "1212", "49 50 49 50" },
        { SPLIT("1", "MergedWithNext", "false"), "1212", "262 262" },
        { SPLIT("1", "MergedWithPrevious", "false"), "212", "50 49 50" },
        { SPLIT("2", "MergedWithPrevious", "false"), "122", "262 50" },
        { SPLIT("[12]", "Contiguous", "false"), "x12x", "120 262 120" },
        { SPLIT("[12]", "Isolated", "false"), "x12x", "120 49 50 120" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ws_tokenizer *t = toy_open(cases[i].parts, "");
        assert_ids(t, cases[i].text, strlen(cases[i].text), false, cases[i].want);
        ws_tokenizer_free(t);
    }
}

static void digits_stand_alone_or_together(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open("\"pre_tokenizer\":{\"type\":\"Sequence\","
                               "\"pretokenizers\":[{\"type\":\"Digits\","
                               "\"individual_digits\":true}," BYTE_LEVEL "]},",
                               "");
    assert_ids(t, "12", 2, false, "49 50");
    ws_tokenizer_free(t);
    t = toy_open(
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
        "\"Digits\",\"individual_digits\":false}," NO_REGEX "]},",
        "");
    assert_ids(t, "12h", 3, false, "262 104");
    ws_tokenizer_free(t);
}

#define FLAGS(s, l, r, n, special)                                                     \
    "\"single_word\":" s ",\"lstrip\":" l ",\"rstrip\":" r ",\"normalized\":" n        \
    ",\"special\":" special "}"

static void added_tokens_are_cut_out_leftmost_and_longest(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open(
        PRE DECODER
        "\"added_tokens\":["
        "{\"id\":9,\"content\":\"<a\"," FLAGS(
            "false", "false", "false", "false",
            "true") ","
                    "{\"id\":9,\"content\":\"<a>\"," FLAGS(
                        "false", "true", "true", "false",
                        "true") ","
                                "{\"id\":9,\"content\":\"cat\"," FLAGS(
                                    "true", "false", "false", "false",
                                    "false") ","
                                             "{\"id\":9,\"content\":\"he\"," FLAGS(
                                                 "false", "false", "false", "false",
                                                 "false") "],",
        "");
    assert_ids(t, "x <a> \n y", 9, false, "120 264 121");
    assert_ids(t, "<a<a>", 5, false, "263 264");
    assert_ids(t, "cat cats", 8, false, "265 32 99 97 116 115");
    assert_ids(t, "hello", 5, false, "256 257 111"); // "he" is in the vocabulary
    assert_int_equal(ws_tokenizer_size(t), 266);
    assert_int_equal(ws_tokenizer_id(t, "<a>", 3), 264);
    assert_int_equal(ws_tokenizer_id(t, "hell", 4), HELL);
    assert_int_equal(ws_tokenizer_id(t, "nothing", 7), -1);
    size_t n;
    assert_string_equal(ws_tokenizer_token(t, 265, &n), "cat");
    assert_int_equal(n, 3);
    assert_null(ws_tokenizer_token(t, 266, &n));
    assert_null(ws_tokenizer_token(t, -1, &n));
    assert_true(ws_tokenizer_special(t, 263) && !ws_tokenizer_special(t, 265));
    const int32_t ids[] = { HELLO, 263, 264, 265, 1000, -5 };
    assert_text(t, ids, 6, true, "hellocat");
    assert_text(t, ids, 6, false, "hello<a<a>cat");
    ws_tokenizer_free(t);
}

static void normalized_added_tokens_are_found_in_normalized_text(void **state)
{
    (void)state;
    ws_tokenizer *t =
        toy_open(PRE DECODER
                 "\"normalizer\":{\"type\":\"Lowercase\"},\"added_tokens\":["
                 "{\"content\":\"Day\"," FLAGS("false", "false", "false", "true",
                                               "false") ","
                                                        "{\"content\":\"[DAY]\"," FLAGS(
                                                            "false", "false", "false",
                                                            "false", "false") "],",
                 "");
    assert_ids(t, "DAY[DAY]day[day]", 16, false, "263 264 263 91 263 93");
    ws_tokenizer_free(t);
}

static void normalizers_run_in_turn(void **state)
{
    (void)state;
    static const struct {
        const char *normalizers, *text, *want;
    } cases[] = {
        { "{\"type\":\"NFC\"}", "e\xCC\x81 \xE2\x84\xAB", "\xC3\xA9 \xC3\x85" },
        { "{\"type\":\"NFD\"}", "\xC3\xA9", "e\xCC\x81" },
        { "{\"type\":\"NFKC\"}", "\xEF\xAC\x81\xC2\xB2", "fi2" },
        { "{\"type\":\"NFKD\"}", "\xEF\xAC\x81\xC3\xA9", "fie\xCC\x81" },
        { "{\"type\":\"Lowercase\"}", "A\xC3\x89\xC4\xB0\xCE\xA3",
          "a\xC3\xA9i\xCC\x87\xCF\x83" },
        { "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}",
          " \xE3\x80\x80x ", "x " },
        { "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}", " \t\n",
          "" },
        { "{\"type\":\"Prepend\",\"prepend\":\"_\"},{\"type\":\"Replace\",\"pattern\":"
          "{\"String\":\"a\"},\"content\":\"bb\"}",
          "aca", "_bbcbb" },
        { "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"}",
          "a \n b", "a b" },
        { "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},\"content\":\"-\"}",
          "axb", "-a-b-" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char parts[600];
        snprintf(parts, sizeof parts,
                 PRE DECODER
                 "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s]},",
                 cases[i].normalizers);
        ws_tokenizer *t = toy_open(parts, "");
        assert_round(t, cases[i].text, cases[i].want);
        ws_tokenizer_free(t);
    }
}

/** A vocabulary of marks: <unk> 0, <s> 1, bytes 61..64 as <0xNN>, letters. */
#define MARKS                                                                          \
    "\"vocab\":{\"<unk>\":0,\"<s>\":1,\"<0xC3>\":2,\"<0xA9>\":3,\"<0xE4>\":4,"         \
    "\"\xE2\x96\x81\":5,\"a\":6,\"b\":7,\"ab\":8,\"\xE2\x96\x81"                       \
    "ab\":9,\"\xE2\x96\x81\xE2\x96\x81\":10,\"<0xB8>\":11},\"merges\":[[\"a\",\"b\"]," \
    "[\"\xE2\x96\x81\",\"ab\"],[\"\xE2\x96\x81\",\"\xE2\x96\x81\"]]"
#define LLAMA                                                                          \
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","    \
    "\"prepend\":\"\xE2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" "  \
    "\"},"                                                                             \
    "\"content\":\"\xE2\x96\x81\"}]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":" \
    "["                                                                                \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" "  \
    "\"},"                                                                             \
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":" \
    "\" \","                                                                           \
    "\"start\":1,\"stop\":0}]},"
#define FALLBACK "\"unk_token\":\"<unk>\",\"byte_fallback\":true,"

static void characters_fall_back_to_bytes_or_to_unk(void **state)
{
    (void)state;
    ws_tokenizer *t = text_open(
        "{" LLAMA "\"model\":{\"type\":\"BPE\",\"fuse_unk\":true," FALLBACK MARKS "}}");
    assert_ids(t, "ab ab", 5, false, "9 9");
    assert_ids(t, "  ab", 4, false, "10 9");
    assert_ids(t, "\xC3\xA9", 2, false, "5 2 3");
    assert_ids(t, "xya", 3, false, "5 0 6"); // fused
    assert_ids(t,
               "x\xC3\xA9"
               "a",
               4, false, "5 2 3 0 6");              // bytes overtake a waiting unk
    assert_ids(t, "\xE4\xB8\xAD", 3, false, "5 0"); // <0xAD> is missing
    assert_int_equal(ws_tokenizer_roles(t).unk, 0);
    assert_int_equal(ws_tokenizer_roles(t).bos, -1);
    assert_int_equal(ws_tokenizer_bytes(t, 9), 3);
    assert_int_equal(ws_tokenizer_bytes(t, 2), 1);
    assert_int_equal(ws_tokenizer_bytes(t, 10), 2);
    assert_int_equal(ws_tokenizer_bytes(t, 12), 0);
    const int32_t whole[] = { 9, 2, 3, 9 }, broken[] = { 2, 3, 2, 6 };
    assert_text(t, whole, 4, true, "ab\xC3\xA9 ab");
    assert_text(t, broken, 4, true,
                "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                "a");
    ws_tokenizer_free(t);

    t = text_open("{" LLAMA "\"model\":{" FALLBACK MARKS "}}");
    assert_ids(t, "xya", 3, false, "5 0 0 6");
    ws_tokenizer_free(t);
    t = text_open("{\"model\":{" MARKS "}}");
    assert_ids(t, "xyab", 4, false, "8"); // without unk_token they are dropped
    ws_tokenizer_free(t);
}

static void an_unk_token_that_is_missing_is_told_when_needed(void **state)
{
    (void)state;
    ws_tokenizer *t = text_open("{\"model\":{\"unk_token\":\"<none>\"," MARKS "}}");
    ws_encoder *e = NULL;
    ws_ids ids = { 0 };
    assert_ids(t, "ab", 2, false, "8");
    assert_ok(ws_encoder_new(&e, t, &err), err);
    assert_int_equal(ws_encode(e, "abx", 3, false, &ids, &err), WS_E_UNSUPPORTED);
    assert_string_equal(err.msg,
                        "a character is not in the vocabulary, nor is unk_token");
    assert_int_equal(ids.n, 0);
    ws_ids_free(&ids);
    ws_encoder_free(e);
    ws_tokenizer_free(t);
}

#define META(scheme, cut)                                                              \
    "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":"     \
    "\"" scheme "\",\"split\":" cut "}"

static void metaspace_prepends_as_its_scheme_says(void **state)
{
    (void)state;
    static const struct {
        const char *parts, *want;
    } cases[] = {
        { "\"pre_tokenizer\":" META("always", "true") ",", "9 1 9 9" },
        { "\"pre_tokenizer\":" META("first", "false") ",", "9 1 8 9" },
        { "\"pre_tokenizer\":" META("never", "true") ",", "8 1 8 9" },
    };
    for (size_t i = 0; i < 3; i++) {
        char json[1200];
        snprintf(json, sizeof json,
                 "{%s\"added_tokens\":[{\"content\":\"<s>\",\"special\":true}],"
                 "\"decoder\":" META("always", "true") ",\"model\":{" MARKS "}}",
                 cases[i].parts);
        ws_tokenizer *t = text_open(json);
        assert_ids(t, "ab<s>ab ab", 10, false, cases[i].want);
        const int32_t ids[] = { 9, 9 };
        assert_text(t, ids, 2, true, "ab ab");
        ws_tokenizer_free(t);
    }
}

static void the_template_goes_around_a_text(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open(
        "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[" BYTE_LEVEL
        ",{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"B\","
        "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":"
        "{\"id\":\"E\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"B\":{\"id\":"
        "\"B\","
        "\"ids\":[7],\"tokens\":[\"B\"]},\"E\":{\"id\":\"E\",\"ids\":[8,9],\"tokens\":"
        "[\"E\",\"F\"]}}}]}," PRE,
        "");
    assert_ids(t, "he", 2, true, "7 256 8 9");
    assert_ids(t, "he", 2, false, "256");
    size_t n;
    assert_int_equal(ws_tokenizer_prefix(t, &n)[0], 7);
    assert_int_equal(n, 1);
    assert_int_equal(ws_tokenizer_suffix(t, &n)[1], 9);
    assert_int_equal(n, 2);
    assert_int_equal(ws_tokenizer_roles(t).bos, 7);
    ws_tokenizer_free(t);
}

static void without_a_decoder_tokens_are_joined_by_spaces(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open("", "");
    const int32_t ids[] = { HE, LL };
    assert_text(t, ids, 2, true, "he ll");
    ws_tokenizer_free(t);
}

static void decoding_token_by_token_gives_whole_characters(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open(PRE DECODER, "");
    ws_decoder *d = NULL;
    ws_buf out = { 0 };
    static const int32_t ids[] = { HELLO, 0xE4, 0xB8, 0xAD, 32, 0xE4, 'x', 0xC3 };
    static const size_t after[] = { 5, 5, 5, 8, 9, 9, 13, 13 };
    assert_ok(ws_decoder_new(&d, t, true, &err), err);
    for (int round = 0; round < 2; round++) { // ws_decoder_end() makes it as new
        out.n = 0;
        for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
            assert_ok(ws_decoder_add(d, ids[i], &out, &err), err);
            assert_int_equal(out.n, after[i]);
        }
        assert_ok(ws_decoder_end(d, &out, &err), err);
        assert_string_equal(out.p, "hello\xE4\xB8\xAD \xEF\xBF\xBDx\xEF\xBF\xBD");
    }
    ws_buf_free(&out);
    ws_decoder_free(d);
    ws_tokenizer_free(t);
}

static void endless_broken_bytes_are_not_held_back_for_ever(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open(PRE DECODER, "");
    ws_decoder *d = NULL;
    ws_buf out = { 0 };
    assert_ok(ws_decoder_new(&d, t, true, &err), err);
    for (int i = 0; i < 1000; i++)
        assert_ok(ws_decoder_add(d, 0x80, &out, &err), err);
    assert_true(out.n >= 3 * 984);
    assert_ok(ws_decoder_end(d, &out, &err), err);
    assert_int_equal(out.n, 3000);
    ws_buf_free(&out);
    ws_decoder_free(d);
    ws_tokenizer_free(t);
}

static void a_model_directory_opens_with_its_roles(void **state)
{
    (void)state;
    ws_tokenizer *t = NULL;
    assert_ok(ws_tokenizer_open(&t, WS_EXAMPLES "/models/base", &err), err);
    const ws_token_roles r = ws_tokenizer_roles(t);
    assert_int_equal(r.bos, 1);
    assert_int_equal(r.eos, 2);
    assert_int_equal(r.unk, 0);
    assert_int_equal(r.pad, 2);
    // tokenizers 0.23.3 says so
    assert_ids(t, "the fox ran to the sun.", 23, true,
               "1 304 292 289 422 319 285 298 332 299 332 292 289 424 49");
    assert_ids(t, "sum: 3+4=7\n", 11, true, "1 380 313 266 261 267 274 270 13");
    assert_ids(t, "<s>hi</s>", 9, true, "1 1 360 2");
    assert_ids(t, "\xC3\xA9\xE4\xB8\xAD", 5, true, "1 198 172 231 187 176");
    assert_round(t, "a  b", "a  b");
    ws_tokenizer_free(t);
}

static void a_directory_without_the_file_says_so(void **state)
{
    (void)state;
    ws_tokenizer *t = NULL;
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_tokenizer_open(&t, WS_EXAMPLES, &err), WS_E_MISSING);
    assert_string_equal(err.msg, "'tokenizer.json' is not in the directory");
    assert_int_equal(ws_tokenizer_open(&t, WS_EXAMPLES "/none.json", NULL), WS_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(low_ranks_merge_first_and_the_leftmost_of_equals),
        cmocka_unit_test(broken_utf8_reads_as_replacement_characters),
        cmocka_unit_test(whole_words_come_before_merges_where_asked),
        cmocka_unit_test(splits_treat_matches_as_told),
        cmocka_unit_test(digits_stand_alone_or_together),
        cmocka_unit_test(added_tokens_are_cut_out_leftmost_and_longest),
        cmocka_unit_test(normalized_added_tokens_are_found_in_normalized_text),
        cmocka_unit_test(normalizers_run_in_turn),
        cmocka_unit_test(characters_fall_back_to_bytes_or_to_unk),
        cmocka_unit_test(an_unk_token_that_is_missing_is_told_when_needed),
        cmocka_unit_test(metaspace_prepends_as_its_scheme_says),
        cmocka_unit_test(the_template_goes_around_a_text),
        cmocka_unit_test(without_a_decoder_tokens_are_joined_by_spaces),
        cmocka_unit_test(decoding_token_by_token_gives_whole_characters),
        cmocka_unit_test(endless_broken_bytes_are_not_held_back_for_ever),
        cmocka_unit_test(a_model_directory_opens_with_its_roles),
        cmocka_unit_test(a_directory_without_the_file_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
