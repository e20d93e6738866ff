/*
 * test_data.c - files as rows: what is in them, in which order, what is refused
 *
 * The tokenizer is that of examples/models: one token for most letters, <s> in front.
 */
#include "temp_dir.h"
#include "wsurg/data.h"

static ws_err err;
static ws_tokenizer *tokenizer;
static const char base[] = WS_EXAMPLES "/models/base";

static int open_tokenizer(void **state)
{
    (void)state;
    err = (ws_err)WS_ERR_INIT;
    return ws_tokenizer_open(&tokenizer, base, &err) != WS_OK;
}

static int close_tokenizer(void **state)
{
    (void)state;
    ws_tokenizer_free(tokenizer);
    return 0;
}

static ws_status try_open(ws_data **d, const char *path, const ws_data_opts *o)
{
    const ws_data_source s = { "data", path, 1.0 };
    err = (ws_err)WS_ERR_INIT;
    *d = NULL;
    return ws_data_open(d, &s, 1, tokenizer, o, NULL, &err);
}

static ws_data *open_text(const char *path, const char *text, const ws_data_opts *o)
{
    ws_data *d;
    spit_text(path, text);
    assert_ok(try_open(&d, path, o), err);
    return d;
}

static void put_token(ws_buf *b, int32_t id)
{
    size_t n;
    const char *s = ws_tokenizer_token(tokenizer, id, &n);
    if (id == 13)
        ws_buf_puts(b, "/");
    else
        ws_buf_add(b, s, n);
}

/** A batch as "tokens>targets tokens>targets", "_" a target that does not count. */
static const char *shown(const ws_batch *b)
{
    static char out[4096];
    ws_buf t = { 0 };
    ws_buf_puts(&t, "");
    for (int64_t k = 0; k < b->n_docs; k++) {
        ws_buf_puts(&t, k ? " " : "");
        for (int64_t i = b->start[k]; i < b->start[k + 1]; i++)
            put_token(&t, b->tokens[i]);
        ws_buf_puts(&t, ">");
        for (int64_t i = b->start[k]; i < b->start[k + 1]; i++)
            if (b->targets[i] == WS_IGNORE)
                ws_buf_puts(&t, "_");
            else
                put_token(&t, b->targets[i]);
    }
    snprintf(out, sizeof out, "%s", t.p);
    ws_buf_free(&t);
    return out;
}

static void assert_batch(const ws_data *d, uint64_t position, int64_t rows,
                         const char *want)
{
    ws_batch b = { 0 };
    assert_ok(ws_data_batch(d, position, rows, &b, &err), err);
    assert_string_equal(shown(&b), want);
    ws_batch_free(&b);
}

#define OPTS(...)                                                                      \
    &(const ws_data_opts)                                                              \
    {                                                                                  \
        __VA_ARGS__                                                                    \
    }

static void running_text_is_cut_without_losing_a_target(void **state)
{
    (void)state;
    ws_data *d = open_text("a.txt", "abcdefghjk", OPTS(.length = 4, .in_order = true));
    const ws_data_info *f = ws_data_info_of(d);
    assert_int_equal(f->rows, 3);
    assert_int_equal(f->tokens, 11);
    assert_int_equal(f->longest, 4);
    assert_batch(d, 0, 3, "<s>abc>abcd defg>efgh hj>jk");
    assert_batch(d, 3, 1, "<s>abc>abcd"); // the next epoch
    ws_data_free(d);
}

static void a_position_is_one_integer_of_a_shuffle(void **state)
{
    (void)state;
    const char *letters = "zyxwvutsrqponmlkjihgfabcde";
    ws_data *d = open_text("a.txt", letters, OPTS(.length = 1, .bos = WS_BOS_NONE));
    ws_data *other =
        open_text("a.txt", letters, OPTS(.length = 1, .bos = WS_BOS_NONE, .seed = 1));
    ws_batch b = { 0 }, one = { 0 };
    int64_t moved = 0, differ = 0, epochs = 0;

    assert_int_equal(ws_data_info_of(d)->rows, 25);
    assert_ok(ws_data_batch(d, 0, 50, &b, &err), err);
    for (int e = 0; e < 2; e++) {
        int seen[512] = { 0 };
        for (int i = 0; i < 25; i++)
            assert_int_equal(seen[b.tokens[25 * e + i]]++, 0);
    }
    for (uint64_t p = 0; p < 50; p++) { // whatever is asked for together
        assert_ok(ws_data_batch(d, p, 1, &one, &err), err);
        assert_int_equal(one.tokens[0], b.tokens[p]);
        moved += p < 25 && b.tokens[p] - 285 + 'a' != letters[p];
        epochs += p < 25 && b.tokens[p] != b.tokens[p + 25];
        assert_ok(ws_data_batch(other, p, 1, &one, &err), err);
        differ += one.tokens[0] != b.tokens[p];
    }
    assert_true(moved > 15 && differ > 30 && epochs > 15);
    ws_batch_free(&b);
    ws_batch_free(&one);
    ws_data_free(d);
    ws_data_free(other);
}

static void completions_are_scored_and_prompts_are_not(void **state)
{
    (void)state;
    const char *lines = "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n\n"
                        "{\"prompt\":\"abcdefgh\",\"completion\":\"x\"}\r\n"
                        "{\"prompt\":\"a\",\"completion\":\"bcdefgh\"}";
    ws_data *d = open_text("a.jsonl", lines, OPTS(.length = 6, .in_order = true));
    const ws_data_info *f = ws_data_info_of(d);
    assert_int_equal(f->kind, WS_DATA_COMPLETION);
    assert_int_equal(f->skipped, 1); // the second has no room for its completion
    assert_int_equal(f->truncated, 2);
    assert_int_equal(f->lost, 4 + 3);
    assert_batch(d, 0, 2, "<s>abcd>__cd</s> <s>abcde>_bcdef");
    ws_data_free(d);
    d = open_text("a.jsonl", lines,
                  OPTS(.length = 20, .in_order = true, .loss = WS_LOSS_ALL,
                       .eos = WS_EOS_NONE, .limit = 1));
    assert_batch(d, 0, 1, "<s>abc>abcd");
    ws_data_free(d);
}

static void bytes_and_scored_targets_are_counted(void **state)
{
    (void)state;
    ws_data *d = open_text("a.jsonl", "{\"prompt\":\"ab\",\"completion\":\"sum: c\"}",
                           OPTS(.length = 20, .eos = WS_EOS_NONE));
    ws_batch b = { 0 };
    assert_ok(ws_data_batch(d, 0, 1, &b, &err), err);
    assert_int_equal(b.scored, 2);
    assert_int_equal(b.bytes, 6);
    ws_batch_free(&b);
    ws_data_free(d);
}

static void packing_fills_rows_and_keeps_documents_apart(void **state)
{
    (void)state;
    const char *lines = "{\"text\":\"abc\"}\n{\"text\":\"defghj\"}\n{\"text\":\"j\"}\n"
                        "{\"text\":\"ponmlkjihg\"}\n{\"text\":\"\"}\n";
    const ws_data_opts o = {
        .length = 8, .pack = true, .in_order = true, .bos = WS_BOS_NONE
    };
    ws_data *d = open_text("a.jsonl", lines, &o);
    const ws_data_info *f = ws_data_info_of(d);
    assert_int_equal(f->rows, 3);
    assert_int_equal(f->most_documents, 2);
    assert_int_equal(f->skipped, 1);
    // 8, 6 + 2 and 3 + 1: the longest part of the longest document has a row alone
    assert_batch(d, 0, 1, "ponmlkji>onmlkjih");
    assert_batch(d, 1, 1, "defghj>efghj</s> hg>g</s>");
    assert_batch(d, 2, 1, "abc>bc</s> j></s>");
    ws_data_free(d);
}

static void many_packed_rows_hold_every_segment_once(void **state)
{
    (void)state;
    FILE *out = fopen("many.jsonl", "w");
    int64_t want = 0, have = 0;
    assert_non_null(out);
    for (int i = 0; i < 300; i++) {
        const int n = 1 + i * 7919 % 37;
        fprintf(out, "{\"text\":\"%.*s\"}\n", n,
                "zyxwvutsrqponmlkjihgfabcdezyxwvutsrqponmlkjihgfabcde");
        want += n + 1;
    }
    fclose(out);
    ws_data *d;
    ws_batch b = { 0 };
    assert_ok(try_open(&d, "many.jsonl", OPTS(.length = 64, .pack = true)), err);
    const int64_t rows = ws_data_info_of(d)->rows;
    for (int64_t p = 0; p < rows; p++) {
        assert_ok(ws_data_batch(d, (uint64_t)p, 1, &b, &err), err);
        assert_in_range(b.n, 1, 64);
        have += b.n;
    }
    assert_int_equal(have, want);
    assert_true(rows <= want / 64 + 2); // next to no room is lost
    ws_batch_free(&b);
    ws_data_free(d);
}

static void pairs_come_as_two_documents(void **state)
{
    (void)state;
    ws_data *d = open_text("a.jsonl",
                           "{\"prompt\":\"ab\",\"chosen\":\"c\",\"rejected\":\"de\"}\n",
                           OPTS(.length = 9));
    assert_int_equal(ws_data_info_of(d)->kind, WS_DATA_PAIRS);
    assert_int_equal(ws_data_info_of(d)->rows, 1);
    assert_batch(d, 0, 1, "<s>abc>__c</s> <s>abde>__de</s>");
    ws_data_free(d);
    const char *chats =
        "{\"chosen\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
        "\"content\":\"b\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"assistant\",\"content\":\"c\"}]}\n";
    d = open_text("b.jsonl", chats,
                  OPTS(.length = 20, .chat_format = "mistral", .model = base));
    assert_batch(d, 0, 1,
                 "<s>[I<0x4E><0x53><0x54>]▁a▁[<0x2F>I<0x4E><0x53><0x54>]b>"
                 "______________b</s> "
                 "<s>[I<0x4E><0x53><0x54>]▁a▁[<0x2F>I<0x4E><0x53><0x54>]c>"
                 "______________c</s>");
    ws_data_free(d);
}

static void only_the_assistant_is_scored_where_asked(void **state)
{
    (void)state;
    const char *line =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
        "\"content\":\"bc\"},{\"role\":\"user\",\"content\":\"d\"},{\"role\":"
        "\"assistant\",\"content\":\"e\"}]}";
    const ws_data_opts o = { .length = 512,
                             .chat_format = "vicuna",
                             .model = base,
                             .loss = WS_LOSS_COMPLETION };
    ws_data *d = open_text("a.jsonl", line, &o);
    ws_batch b = { 0 };
    assert_ok(ws_data_batch(d, 0, 1, &b, &err), err);
    assert_int_equal(b.scored, 5); // bc </s> and e </s>
    ws_batch_free(&b);
    assert_string_equal(ws_data_info_of(d)->chat_format, "vicuna");
    ws_data_free(d);
}

static void weights_say_how_often_an_epoch_goes_through_a_file(void **state)
{
    (void)state;
    spit_text("a.txt", "abcde");
    spit_text("b.txt", "vwxyz");
    const ws_data_source s[] = { { "a", "a.txt", 2.0 }, { "b", "b.txt", 0.5 } };
    ws_data *d = NULL;
    ws_batch b = { 0 };
    int count[512] = { 0 };
    assert_ok(ws_data_open(&d, s, 2, tokenizer, OPTS(.length = 1, .bos = WS_BOS_NONE),
                           NULL, &err),
              err);
    assert_int_equal(ws_data_info_of(d)->rows, 10);
    assert_ok(ws_data_batch(d, 0, 20, &b, &err), err);
    for (int i = 0; i < 20; i++)
        count[b.tokens[i]]++;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(count[285 + i], 4);      // a b c d
        assert_int_equal(count[285 + 21 + i], 1); // v w x y, over two epochs
    }
    ws_batch_free(&b);
    ws_data_free(d);
}

static void put32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

static void token_files_are_read_where_they_are(void **state)
{
    (void)state;
    static unsigned char file[1024 + 20];
    ws_data *d;
    const ws_data_opts o = { .length = 8, .in_order = true };

    spit("raw.bin", "\x1d\x01\x1e\x01\x1f\x01", 6); // a b c
    assert_ok(try_open(&d, "raw.bin", &o), err);
    assert_batch(d, 0, 1, "ab>bc");
    assert_int_equal(ws_data_info_of(d)->memory_bytes, 0);
    ws_data_free(d);

    put32(file, 20240801);
    put32(file + 4, 7);
    put32(file + 8, 3);
    put32(file + 1024, 285);
    put32(file + 1028, 286);
    put32(file + 1032, 300);
    spit("wide.bin", file, 1036);
    assert_ok(try_open(&d, "wide.bin", &o), err);
    assert_batch(d, 0, 1, "ab>bp");
    ws_data_free(d);

    put32(file + 1032, 432);
    spit("wide.bin", file, 1036);
    assert_ok(try_open(&d, "wide.bin", &o), err);
    ws_batch b = { 0 };
    assert_int_equal(ws_data_batch(d, 0, 1, &b, &err), WS_E_HEADER);
    assert_string_equal(err.msg, "token 432 is beyond the vocabulary of 432");
    assert_string_equal(err.path, "wide.bin");
    assert_int_equal(err.offset, 1032);
    ws_batch_free(&b);
    ws_data_free(d);

    put32(file + 8, 4);
    spit("wide.bin", file, 1036);
    assert_int_equal(try_open(&d, "wide.bin", &o), WS_E_HEADER);
    assert_string_equal(err.msg,
                        "the header promises 4 tokens, the file has 1036 bytes");

    char npy[128 + 16];
    memset(npy, ' ', sizeof npy);
    memcpy(npy, "\x93NUMPY\x01\x00\x76\x00", 10);
    const char dict[] = "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }";
    memcpy(npy + 10, dict, sizeof dict - 1);
    memcpy(npy + 128, "\x1d\x01\0\0\0\0\0\0\x1e\x01\0\0\0\0\0\0", 16);
    spit("a.npy", npy, sizeof npy);
    assert_ok(try_open(&d, "a.npy", &o), err);
    assert_batch(d, 0, 1, "a>b");
    ws_data_free(d);
    spit("a.npy", npy, sizeof npy - 1);
    assert_int_equal(try_open(&d, "a.npy", &o), WS_E_HEADER);
    assert_string_equal(err.msg, "an array of 2 numbers in 15 bytes");
}

static void mistakes_name_line_and_offset(void **state)
{
    (void)state;
    static const struct {
        const char *path, *text, *msg;
        ws_status code;
        int64_t offset;
    } cases[] = {
        { "a.jsonl", "{\"text\":\"abc\"}\n{\"text\":abc}\n",
          "line 2: malformed JSON: unexpected character", WS_E_HEADER, 23 },
        { "a.jsonl", "{\"text\":\"abc\"}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n",
          "line 2: another kind of record than the first", WS_E_UNSUPPORTED, 15 },
        { "a.jsonl", "{\"txt\":1}\n",
          "line 1: none of 'text', 'prompt' and 'completion', 'messages', 'chosen' and "
          "'rejected'",
          WS_E_UNSUPPORTED, 0 },
        { "a.jsonl", "\n\n{\"text\":1}", "line 3: 'text' is no text", WS_E_HEADER, 2 },
        { "a.jsonl", "[{\"text\":\"a\"}]",
          "the file is one JSON array, wanted one object a line", WS_E_UNSUPPORTED,
          -1 },
        { "a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
          "line 1: no model is given whose chat template to follow", WS_E_MISSING, 0 },
        { "a.jsonl", "", "the data has nothing to predict", WS_E_USAGE, -1 },
        { "a.txt", "", "the data has nothing to predict", WS_E_USAGE, -1 },
        { "a.bin", "abc", "3 bytes are no whole number of uint16 tokens", WS_E_HEADER,
          -1 },
        { "a.npy", "abc", "this is no .npy file of version 1 to 3", WS_E_HEADER, -1 },
        { "a.parquet", "PAR1", "data in '.parquet' is not read", WS_E_UNSUPPORTED, -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ws_data *d;
        spit_text(cases[i].path, cases[i].text);
        assert_int_equal(try_open(&d, cases[i].path, OPTS(.length = 8)), cases[i].code);
        assert_string_equal(err.msg, cases[i].msg);
        assert_string_equal(err.path, cases[i].path);
        assert_int_equal(err.offset, cases[i].offset);
        assert_null(d);
    }
}

static void a_source_is_a_name_and_a_file(void **state)
{
    (void)state;
    ws_arena arena = { 0 };
    ws_data_source s;
    spit_text("x=y.txt", "a");
    assert_ok(ws_data_source_parse(&s, "kjv=dir/a.txt", &arena, &err), err);
    assert_string_equal(s.name, "kjv");
    assert_string_equal(s.path, "dir/a.txt");
    assert_ok(ws_data_source_parse(&s, "dir/a.eval.txt", &arena, &err), err);
    assert_string_equal(s.name, "a.eval");
    assert_ok(ws_data_source_parse(&s, "x=y.txt", &arena, &err), err);
    assert_string_equal(s.name, "x=y"); // an existing path wins
    assert_string_equal(s.path, "x=y.txt");
    assert_int_equal(ws_data_source_parse(&s, "=a", &arena, &err), WS_E_USAGE);
    ws_arena_free(&arena);
}

static void texts_come_whole_with_their_bytes(void **state)
{
    (void)state;
    ws_data *d = open_text("a.jsonl",
                           "{\"prompt\":\"ab\",\"completion\":\"c\"}\n"
                           "{\"prompt\":\"d\",\"completion\":\"sum:\"}",
                           OPTS(.length = 20, .eos = WS_EOS_NONE));
    ws_data_text t;
    assert_ok(ws_data_text_get(d, 0, &t, &err), err);
    assert_int_equal(t.n, 7);
    assert_int_equal(t.n_docs, 2);
    assert_int_equal(t.start[1], 4);
    assert_int_equal(t.bytes[6], 4);
    const uint8_t scored[] = { 0, 0, 0, 1, 0, 0, 1 };
    assert_memory_equal(t.scored, scored, 7);
    ws_data_text_free(&t);
    ws_data_free(d);
}

static void a_set_that_runs_out_of_memory_frees_all(void **state)
{
    (void)state;
    spit_text("a.jsonl", "{\"prompt\":\"ab\",\"completion\":\"c\"}\n"
                         "{\"prompt\":\"d\",\"completion\":\"sum:\"}");
    const ws_data_source s = { "data", "a.jsonl", 1.0 };
    const ws_data_opts o = { .length = 8, .pack = true };
    const long live = ws_alloc_live();
    for (long n = 0;; n++) {
        ws_data *d = NULL;
        ws_alloc_fail_after(n);
        const ws_status st = ws_data_open(&d, &s, 1, tokenizer, &o, NULL, NULL);
        ws_alloc_fail_after(-1);
        ws_data_free(d);
        if (ws_alloc_live() != live)
            fail_msg("allocation %ld: %ld blocks are left", n, ws_alloc_live() - live);
        if (st == WS_OK)
            break;
        assert_int_equal(st, WS_E_MEMORY);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        T(running_text_is_cut_without_losing_a_target),
        T(a_position_is_one_integer_of_a_shuffle),
        T(completions_are_scored_and_prompts_are_not),
        T(bytes_and_scored_targets_are_counted),
        T(packing_fills_rows_and_keeps_documents_apart),
        T(many_packed_rows_hold_every_segment_once),
        T(pairs_come_as_two_documents),
        T(only_the_assistant_is_scored_where_asked),
        T(weights_say_how_often_an_epoch_goes_through_a_file),
        T(token_files_are_read_where_they_are),
        T(mistakes_name_line_and_offset),
        T(a_source_is_a_name_and_a_file),
        T(texts_come_whole_with_their_bytes),
        T(a_set_that_runs_out_of_memory_frees_all),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
