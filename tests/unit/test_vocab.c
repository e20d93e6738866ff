/*
 * test_vocab.c - vocabularies: tokens read, rows put together by token, files written
 */
#include "hf/vocab_source.h"
#include "hf/vocab_write.h"
#include "temp_dir.h"
#include "wsurg/dtype.h"

#define ADDED(id, text, special)                                                       \
    "{\"id\":" id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false,"  \
    "\"rstrip\":false,\"normalized\":false,\"special\":" special "}"

static const char tokens_a[] = "{\"added_tokens\": [\n  " ADDED(
    "4", "<s>", "true") "\n],\n \"model\": {\"type\": "
                        "\"BPE\", \"vocab\": {\"x\": 0, \"\\u00e9\": 1, \"y\": 2, "
                        "\"xy\": 3}, \"merges\": "
                        "[\"x y\"]}}";
static const char tokens_b[] =
    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"y\": 0, \"x\": 1, \"w\": 2}, "
    "\"merges\": []}, \"added_tokens\": [" ADDED("3", "<t>", "false") "]}";

static void make_dir(const char *dir, const char *tokenizer)
{
    char path[64];
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    spit(path, tokenizer, strlen(tokenizer));
}

/** Align a (5 rows) and b (4 rows). */
static const ws_vocab_map *align(ws_arena *arena, ws_vocab_policy policy, bool fills,
                                 uint64_t multiple)
{
    static const ws_vocab_model models[] = { { "a", "a", 5 }, { "b", "b", 4 } };
    const ws_vocab_want want = { .policy = policy,
                                 .base_fills = fills,
                                 .multiple = multiple };
    ws_diag errors = { 0 };
    make_dir("a", tokens_a);
    make_dir("b", tokens_b);
    const ws_vocab_map *m = ws_vocab_align(arena, models, 2, &want, &errors, NULL);
    assert_int_equal(errors.n, 0);
    assert_non_null(m);
    return m;
}

static void tokens_are_read_with_escapes_and_flags(void **state)
{
    (void)state;
    ws_token_set set = { 0 };
    ws_token_table t;
    assert_int_equal(ws_token_table_parse(&t, &set, tokens_a, strlen(tokens_a), NULL),
                     0);
    assert_int_equal(t.n, 5);
    assert_int_equal(t.top, 5);
    assert_string_equal(t.type, "BPE");
    assert_int_equal(ws_token_table_id(&t, ws_token_set_find(&set, "\xc3\xa9", 2)), 1);
    assert_int_equal(t.n_added, 1);
    assert_true(t.added[0].flags.special);
    assert_false(t.added[0].flags.normalized);
    ws_token_table_free(&t);
    ws_token_set_free(&set);
}

static void broken_vocabularies_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "[1]",
        "{\"model\": {\"vocab\": 3}}",
        "{\"model\": {\"vocab\": {\"a\": -1}}}",
        "{\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}}}",
        "{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}}}",
        "{\"model\": {\"vocab\": {\"a\": 16777216}}}",
        "{\"model\": {\"vocab\": [3]}}",
        "{\"model\": {\"vocab\": {}}, \"added_tokens\": [{\"id\": 1}]}",
        "{\"model\": {\"vocab\": {}}, \"added_tokens\": [7]}",
        "{\"model\": {\"vocab\": {\"a\": 0}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ws_token_set set = { 0 };
        ws_token_table t;
        ws_err err = WS_ERR_INIT;
        assert_int_not_equal(
            ws_token_table_parse(&t, &set, bad[i], strlen(bad[i]), &err), WS_OK);
        assert_true(err.msg[0] != '\0');
        ws_token_set_free(&set);
    }
}

static void union_adds_ordinary_tokens_then_added_ones(void **state)
{
    (void)state;
    ws_arena arena = { 0 };
    const ws_vocab_map *m = align(&arena, WS_VOCAB_UNION, true, 4);
    assert_int_equal(m->tokens, 7);
    assert_int_equal(m->rows, 8);
    assert_int_equal(m->edit.n_add, 2);
    assert_string_equal(m->edit.add[0].text, "w");
    assert_int_equal(m->edit.add[0].id, 5);
    assert_true(m->edit.add[0].flags.normalized);
    assert_string_equal(m->edit.add[1].text, "<t>");
    assert_int_equal(m->edit.add[1].id, 6);
    static const int32_t own[2][7] = { { 0, 1, 2, 3, 4, -1, -1 },
                                       { 1, -1, 0, -1, -1, 2, 3 } };
    for (int k = 0; k < 2; k++)
        for (int r = 0; r < 7; r++)
            assert_int_equal(m->own[k][r], own[k][r]);
    assert_int_equal(m->fill[5].model, 1); // the only one that has it
    assert_int_equal(m->fill[0].model, 0); // both have it: the base's
    ws_arena_free(&arena);
}

static void without_a_base_what_several_have_is_averaged(void **state)
{
    (void)state;
    ws_arena arena = { 0 };
    const ws_vocab_map *m = align(&arena, WS_VOCAB_UNION, false, 0);
    assert_int_equal(m->fill[0].model, WS_FILL_MEAN);
    assert_int_equal(m->fill[3].model, 0);
    assert_int_equal(m->facts.averaged, 0); // both have what would be averaged
    ws_arena_free(&arena);
}

static void common_keeps_ids_and_cuts_merges(void **state)
{
    (void)state;
    ws_arena arena = { 0 };
    ws_buf b = { 0 };
    const ws_vocab_map *m = align(&arena, WS_VOCAB_COMMON, true, 0);
    assert_int_equal(m->tokens, 3);
    assert_int_equal(m->facts.removed, 3);
    assert_int_equal(m->own[0][1], 1); // the row of a token left out stays the base's
    assert_int_equal(ws_tokenizer_write(&b, tokens_a, strlen(tokens_a), &m->edit, NULL),
                     WS_OK);
    assert_string_equal(b.p,
                        "{\"added_tokens\": [\n],\n \"model\": {\"type\": \"BPE\", "
                        "\"vocab\": {\"x\": 0, \"y\": 2}, \"merges\": []}}");
    ws_buf_free(&b);
    ws_arena_free(&arena);
}

static void added_tokens_join_the_files(void **state)
{
    (void)state;
    static const char config[] =
        "{\"added_tokens_decoder\": {\"4\": {}}, \"chat_template\":"
        " \"old\"}";
    static const char added[] = "{\"<s>\": 4}";
    ws_arena arena = { 0 };
    ws_buf b = { 0 };
    const ws_vocab_map *m = align(&arena, WS_VOCAB_UNION, true, 0);
    assert_int_equal(ws_tokenizer_write(&b, tokens_a, strlen(tokens_a), &m->edit, NULL),
                     WS_OK);
    assert_non_null(
        strstr(b.p, "\n  {\"id\":5,\"content\":\"w\",\"single_word\":false"));
    assert_non_null(
        strstr(b.p, "\"special\":false}\n],\n \"model\": {\"type\": \"BPE\""));
    b.n = 0;
    assert_int_equal(
        ws_tokenizer_write_config(&b, config, strlen(config), &m->edit, "a\"b", NULL),
        WS_OK);
    assert_non_null(strstr(b.p, "{\"4\": {},\"5\":{\"content\":\"w\","));
    assert_non_null(strstr(b.p, "}, \"chat_template\": \"a\\\"b\"}"));
    b.n = 0;
    assert_int_equal(ws_tokenizer_write_added(&b, added, strlen(added), &m->edit, NULL),
                     WS_OK);
    assert_string_equal(b.p, "{\"<s>\": 4,\"w\":5,\"<t>\":6}");
    ws_buf_free(&b);
    ws_arena_free(&arena);
}

static void differences_are_said_in_words(void **state)
{
    (void)state;
    const ws_vocab_model a = { "a", "a", 5 }, b = { "b", "b", 4 };
    ws_vocab_gap gap;
    make_dir("a", tokens_a);
    make_dir("b", tokens_b);
    assert_int_equal(ws_vocab_compare(&gap, &a, &b, NULL), WS_OK);
    assert_int_equal(gap.more, 2);
    assert_int_equal(gap.fewer, 3);
    assert_int_equal(gap.moved, 4);
    assert_string_equal(gap.what,
                        "has 2 tokens that 'a' lacks ('w', '<t>'), and lacks 3 "
                        "of its tokens ('\xc3\xa9', 'xy', '<s>')");
    assert_int_equal(ws_vocab_compare(&gap, &a, &a, NULL), WS_OK);
    assert_int_equal(gap.moved + gap.more + gap.fewer, 0);
    const ws_vocab_model none = { "c", "c", 4 };
    ws_err err = WS_ERR_INIT;
    assert_int_equal(ws_vocab_compare(&gap, &a, &none, &err), WS_E_MISSING);
    assert_int_equal(ws_vocab_compare(&gap, &a, &none, NULL), WS_E_MISSING);
}

/* ---- rows ---- */

/** A model with an embedding of @p rows x 3 floats: row r is 10 r + k, times @p f. */
static ws_ckpt *model_of(const char *path, uint64_t rows, float f)
{
    char header[200];
    float data[3 * 8];
    for (uint64_t i = 0; i < rows * 3; i++)
        data[i] = f * (float)(i / 3 * 10 + i % 3);
    const int n =
        snprintf(header, sizeof header,
                 "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":["
                 "%d,3],\"data_offsets\":[0,%d]}}",
                 (int)rows, (int)rows * 12);
    unsigned char file[400] = { 0 };
    file[0] = (unsigned char)n;
    memcpy(file + 8, header, (size_t)n);
    memcpy(file + 8 + n, data, rows * 12);
    spit(path, file, 8 + (size_t)n + rows * 12);
    ws_ckpt *c = NULL;
    assert_int_equal(ws_ckpt_open(&c, path, NULL, NULL), WS_OK);
    return c;
}

static void rows_come_together_whatever_the_cut(void **state)
{
    (void)state;
    ws_arena arena = { 0 };
    const ws_vocab_map *m = align(&arena, WS_VOCAB_UNION, true, 8);
    ws_ckpt *all[2] = { model_of("a.safetensors", 5, 1),
                        model_of("b.safetensors", 4, -1) };
    ws_ckpt *view = NULL;
    assert_int_equal(ws_vocab_source(&view, m, all, 1, NULL), WS_OK);
    const ws_tensor *t = ws_ckpt_find(view, "model.embed_tokens.weight");
    assert_int_equal(t->shape[0], 8);
    assert_ptr_equal(ws_vocab_under(view), all[1]);
    assert_int_equal(ws_vocab_original(view, t)->shape[0], 4);
    float got[24];
    assert_int_equal(ws_ckpt_read(view, t, 0, sizeof got, got, NULL), WS_OK);
    // x, y, w of b: rows 1, 0, 2; three of a; <t> of b; the mean of the others
    static const float lead[8] = { -10, 10, 0, 30, 40, -20, -30, 20.0f / 7 };
    static const float step[8] = { -1, 1, -1, 1, 1, -1, -1, -1.0f / 7 };
    for (int r = 0; r < 8; r++)
        for (int k = 0; k < 3; k++)
            assert_true(fabsf(got[r * 3 + k] - (lead[r] + (float)k * step[r])) < 1e-6f);
    for (size_t from = 0; from < sizeof got; from += 5)
        for (size_t n = 1; from + n <= sizeof got; n += 7) {
            unsigned char part[sizeof got];
            assert_int_equal(ws_ckpt_read(view, t, from, n, part, NULL), WS_OK);
            assert_memory_equal(part, (unsigned char *)got + from, n);
        }
    ws_ckpt_free(view);
    ws_ckpt_free(all[0]);
    ws_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_read_with_escapes_and_flags),
        cmocka_unit_test(broken_vocabularies_are_refused),
        cmocka_unit_test_setup_teardown(union_adds_ordinary_tokens_then_added_ones,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(without_a_base_what_several_have_is_averaged,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(common_keeps_ids_and_cuts_merges, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(added_tokens_join_the_files, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(differences_are_said_in_words, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(rows_come_together_whatever_the_cut, temp_setup,
                                        temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
