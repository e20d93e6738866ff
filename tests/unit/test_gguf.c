/*
 * test_gguf.c - GGUF files: what is read, what is refused, names and layouts
 */
#include "ckpt/gguf.h"
#include "temp_dir.h"
#include "wsurg/text.h"

/* ---- writing ---- */

static void put_u(ws_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        ws_buf_putc(b, (char)(v >> 8 * i));
}

static void put_string(ws_buf *b, const char *s)
{
    put_u(b, strlen(s), 8);
    ws_buf_puts(b, s);
}

static void put_front(ws_buf *b, unsigned version, uint64_t tensors, uint64_t pairs)
{
    ws_buf_puts(b, "GGUF");
    put_u(b, version, 4);
    put_u(b, tensors, 8);
    put_u(b, pairs, 8);
}

static void put_text(ws_buf *b, const char *key, const char *value)
{
    put_string(b, key);
    put_u(b, 8, 4);
    put_string(b, value);
}

static void put_u32(ws_buf *b, const char *key, uint64_t value)
{
    put_string(b, key);
    put_u(b, 4, 4);
    put_u(b, value, 4);
}

static void put_info(ws_buf *b, const char *name, uint64_t columns, uint64_t rows,
                     unsigned type, uint64_t offset)
{
    put_string(b, name);
    put_u(b, rows == 0 ? 1 : 2, 4);
    put_u(b, columns, 8);
    if (rows != 0)
        put_u(b, rows, 8);
    put_u(b, type, 4);
    put_u(b, offset, 8);
}

static void put_padding(ws_buf *b)
{
    while (b->n % 32 != 0)
        ws_buf_putc(b, '\0');
}

/** Open what @p b holds, which is freed. */
static ws_status open_file(ws_ckpt **c, ws_buf *b, ws_err *err)
{
    spit("x.gguf", b->p, b->n);
    ws_buf_free(b);
    return ws_ckpt_open(c, "x.gguf", NULL, err);
}

/* ---- reading ---- */

/** 4 heads' worth of rows come back in Hugging Face's order: 0 2 1 3 of each head. */
static void rows_of_llama_heads_are_put_back(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_front(&b, 3, 2, 3);
    put_text(&b, "general.architecture", "llama");
    put_u32(&b, "llama.attention.head_count", 2);
    put_u32(&b, "llama.attention.head_count_kv", 1);
    put_info(&b, "blk.7.attn_q.weight", 2, 8, 0, 0);
    put_info(&b, "blk.7.attn_k.weight", 2, 4, 0, 64);
    put_padding(&b);
    for (int i = 0; i < 24; i++) {
        const float v = (float)i;
        ws_buf_add(&b, &v, sizeof v);
    }
    assert_int_equal(open_file(&c, &b, &err), WS_OK);
    assert_string_equal(ws_ckpt_format(c), "gguf");
    const ws_tensor *q = ws_ckpt_find(c, "model.layers.7.self_attn.q_proj.weight");
    const ws_tensor *k = ws_ckpt_find(c, "model.layers.7.self_attn.k_proj.weight");
    assert_true(q != NULL && k != NULL && q->rank == 2);
    assert_true(q->shape[0] == 8 && q->shape[1] == 2);
    const float want_q[] = { 0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15 };
    const float want_k[] = { 16, 17, 20, 21, 18, 19, 22, 23 };
    float got[16];
    assert_int_equal(ws_ckpt_read(c, q, 0, 64, got, &err), WS_OK);
    assert_memory_equal(got, want_q, sizeof want_q);
    assert_int_equal(ws_ckpt_read(c, k, 0, 32, got, &err), WS_OK);
    assert_memory_equal(got, want_k, sizeof want_k);
    // any range of bytes, also within numbers
    unsigned char part[21];
    assert_int_equal(ws_ckpt_read(c, q, 11, sizeof part, part, &err), WS_OK);
    assert_memory_equal(part, (const unsigned char *)want_q + 11, sizeof part);
    ws_ckpt_free(c);
}

/** [out, in] of the file is [in, out] of a Conv1D. */
static void weights_of_gpt2_are_transposed(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_front(&b, 2, 2, 1);
    put_text(&b, "general.architecture", "gpt2");
    put_info(&b, "blk.0.ffn_up.weight", 2, 3, 0, 0);
    put_info(&b, "blk.0.ffn_up.bias", 3, 0, 0, 32);
    put_padding(&b);
    for (int i = 0; i < 11; i++) {
        const float v = (float)i;
        ws_buf_add(&b, &v, sizeof v);
    }
    assert_int_equal(open_file(&c, &b, &err), WS_OK);
    const ws_tensor *w = ws_ckpt_find(c, "transformer.h.0.mlp.c_fc.weight");
    const ws_tensor *bias = ws_ckpt_find(c, "transformer.h.0.mlp.c_fc.bias");
    assert_true(w != NULL && bias != NULL && w->shape[0] == 2 && w->shape[1] == 3);
    const float want[] = { 0, 2, 4, 1, 3, 5 }, want_bias[] = { 8, 9, 10 };
    float got[6];
    for (size_t from = 0; from < sizeof want; from++)
        for (size_t n = 1; n <= sizeof want - from; n++) {
            assert_int_equal(ws_ckpt_read(c, w, from, n, got, &err), WS_OK);
            assert_memory_equal(got, (const unsigned char *)want + from, n);
        }
    assert_int_equal(ws_ckpt_read(c, bias, 0, 12, got, &err), WS_OK);
    assert_memory_equal(got, want_bias, sizeof want_bias);
    ws_ckpt_free(c);
}

static void q8_0_is_quantised_as_the_reference_does(void **state)
{
    (void)state;
    float x[32] = { 0 }, back[32];
    unsigned char block[WS_Q8_0_BYTES];
    x[3] = -254.0f; // the scale is 2
    x[4] = 5.0f;    // half away from zero
    x[5] = -5.0f;
    ws_gguf_q8_0(x, block);
    assert_true(block[0] == 0x00 && block[1] == 0x40);
    assert_true((int8_t)block[5] == -127 && (int8_t)block[6] == 3);
    assert_true((int8_t)block[7] == -3);
    ws_gguf_type_at(WS_GGUF_Q8_0)->decode(block, back);
    assert_true(back[3] == -254.0f && back[4] == 6.0f && back[0] == 0.0f);
    x[3] = x[4] = x[5] = 0.0f;
    ws_gguf_q8_0(x, block);
    for (size_t i = 0; i < sizeof block; i++)
        assert_int_equal(block[i], 0);
}

static void names_go_both_ways(void **state)
{
    (void)state;
    static const char *const pairs[][3] = {
        { "llama", "token_embd.weight", "model.embed_tokens.weight" },
        { "llama", "output.weight", "lm_head.weight" },
        { "llama", "blk.31.ffn_down.weight", "model.layers.31.mlp.down_proj.weight" },
        { "qwen2", "blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias" },
        { "qwen3", "blk.0.attn_q_norm.weight",
          "model.layers.0.self_attn.q_norm.weight" },
        { "gpt2", "position_embd.weight", "transformer.wpe.weight" },
        { "gpt2", "blk.11.attn_qkv.bias", "transformer.h.11.attn.c_attn.bias" },
    };
    char name[WS_GGUF_HF_NAME];
    ws_gguf_layout layout;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_true(ws_gguf_to_hf(pairs[i][0], pairs[i][1], name, &layout));
        assert_string_equal(name, pairs[i][2]);
        assert_true(ws_gguf_from_hf(pairs[i][0], pairs[i][2], name, &layout));
        assert_string_equal(name, pairs[i][1]);
    }
    assert_true(ws_gguf_from_hf("gpt2", "h.0.mlp.c_fc.weight", name, &layout));
    assert_string_equal(name, "blk.0.ffn_up.weight");
    assert_int_equal(layout, WS_GGUF_TRANSPOSED);
    assert_false(ws_gguf_to_hf("llama", "blk..attn_q.weight", name, &layout));
    assert_false(ws_gguf_to_hf("llama", "blk.0.attn_q", name, &layout));
    assert_false(ws_gguf_to_hf("mamba", "token_embd.weight", name, &layout));
}

/* ---- refusals ---- */

static void refused(ws_buf *b, ws_status want, const char *says)
{
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    const ws_status st = open_file(&c, b, &err);
    if (st != want || strstr(err.msg, says) == NULL)
        fail_msg("status %d, want %d: '%s', want '%s'", st, want, err.msg, says);
    assert_null(c);
}

/** A file of one tensor, described by the arguments, with 64 bytes of data. */
static void one_tensor(ws_buf *b, const char *name, uint64_t columns, uint64_t rows,
                       unsigned type, uint64_t offset)
{
    put_front(b, 3, 1, 0);
    put_info(b, name, columns, rows, type, offset);
    put_padding(b);
    for (int i = 0; i < 64; i++)
        ws_buf_putc(b, '\0');
}

static void counts_and_lengths_are_checked_before_use(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    static const struct {
        unsigned version;
        uint64_t tensors, pairs;
        ws_status want;
        const char *says;
    } fronts[] = {
        { 1, 0, 0, WS_E_UNSUPPORTED, "GGUF version 1 is not read" },
        { 0x03000000, 0, 0, WS_E_UNSUPPORTED, "of a big-endian machine" },
        { 3, UINT64_MAX, 0, WS_E_HEADER, "number of tensors is beyond" },
        { 3, 1ull << 62, 0, WS_E_HEADER, "number of tensors is beyond" },
        { 3, 0, UINT64_MAX / 13, WS_E_HEADER, "number of metadata pairs is beyond" },
    };
    for (size_t i = 0; i < sizeof fronts / sizeof *fronts; i++) {
        put_front(&b, fronts[i].version, fronts[i].tensors, fronts[i].pairs);
        refused(&b, fronts[i].want, fronts[i].says);
    }
    ws_buf_puts(&b, "GGUF\3");
    refused(&b, WS_E_HEADER, "file is cut short");
    // a string, a list and a list of strings longer than the file
    const unsigned types[] = { 8, 9, 9 }, inner[] = { 0, 4, 8 };
    for (int i = 0; i < 3; i++) {
        put_front(&b, 3, 0, 1);
        put_string(&b, "key.of.it");
        put_u(&b, types[i], 4);
        if (types[i] == 9)
            put_u(&b, inner[i], 4);
        put_u(&b, 1ull << 61, 8);
        put_u(&b, 0, 8);
        refused(&b, WS_E_HEADER, i == 0 ? "file is cut short" : "past the end");
    }
    put_front(&b, 3, 0, 1);
    put_string(&b, "nested");
    put_u(&b, 9, 4);
    put_u(&b, 9, 4);
    put_u(&b, 1, 8);
    refused(&b, WS_E_HEADER, "a list of lists");
    put_front(&b, 3, 0, 1);
    put_string(&b, "key");
    put_u(&b, 13, 4);
    refused(&b, WS_E_HEADER, "a value of the metadata has an unknown type");
    put_front(&b, 3, 0, 1);
    put_string(&b, "bool");
    put_u(&b, 7, 4);
    put_u(&b, 2, 1);
    put_u(&b, 0, 8);
    refused(&b, WS_E_HEADER, "neither 0 nor 1");
    put_front(&b, 3, 0, 2);
    put_text(&b, "twice", "a");
    put_text(&b, "twice", "b");
    refused(&b, WS_E_HEADER, "metadata key 'twice' stands twice");
}

static void alignment_is_a_small_power_of_two(void **state)
{
    (void)state;
    const uint64_t wrong[] = { 0, 3, 1u << 30, 0x80000000u };
    ws_buf b = { 0 };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put_front(&b, 3, 0, 1);
        put_u32(&b, "general.alignment", wrong[i]);
        refused(&b, WS_E_HEADER, "general.alignment is no power of two");
    }
    put_front(&b, 3, 0, 1);
    put_text(&b, "general.alignment", "32");
    refused(&b, WS_E_HEADER, "general.alignment is no number");
}

#define LONG_NAME "1234567890123456789012345678901234567890123456789012345678901234"

static void tensors_are_checked(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    static const struct {
        const char *name;
        uint64_t columns, rows;
        unsigned type;
        uint64_t offset;
        ws_status want;
        const char *says;
    } cases[] = {
        { LONG_NAME, 4, 4, 0, 0, WS_E_HEADER, "name of a tensor of 64 bytes" },
        { "a", 4, 4, 0, 32, WS_E_HEADER, "tensor begins at 32 of the data" },
        { "a", 4, 4, 4, 0, WS_E_HEADER, "tensor has the unknown type 4" },
        { "a", 4, 4, 4000000000u, 0, WS_E_HEADER, "unknown type 4000000000" },
        { "a", 256, 1, 10, 0, WS_E_UNSUPPORTED, "tensor is of type Q2_K" },
        { "a", 33, 1, 8, 0, WS_E_HEADER, "33 elements are no whole blocks of 32" },
        { "a", 1ull << 63, 1, 0, 0, WS_E_HEADER, "negative dimension" },
        { "a", 1ull << 40, 1ull << 40, 0, 0, WS_E_HEADER, "shape of tensor overflows" },
        { "a", 1ull << 60, 1, 24, 0, WS_E_HEADER, "past the end of the file" },
        { "a", 1ull << 59, 4, 2, 0, WS_E_HEADER, "shape of tensor overflows" },
        { "a", 4, 5, 0, 0, WS_E_HEADER, "file is cut short: tensors end at" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        one_tensor(&b, cases[i].name, cases[i].columns, cases[i].rows, cases[i].type,
                   cases[i].offset);
        refused(&b, cases[i].want, cases[i].says);
    }
    put_front(&b, 3, 1, 0);
    put_string(&b, "a");
    put_u(&b, 5, 4);
    for (int i = 0; i < 7; i++)
        put_u(&b, 1, 8);
    refused(&b, WS_E_HEADER, "more than 4 dimensions");
    put_front(&b, 3, 2, 0);
    put_info(&b, "a", 8, 0, 0, 0);
    put_info(&b, "a", 8, 0, 0, 32);
    put_padding(&b);
    for (int i = 0; i < 64; i++)
        ws_buf_putc(&b, '\0');
    refused(&b, WS_E_HEADER, "tensor stands twice");
}

static void the_last_padding_may_be_missing(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_front(&b, 3, 1, 0);
    put_info(&b, "a", 3, 0, 24, 0);
    put_padding(&b);
    ws_buf_puts(&b, "xyz");
    assert_int_equal(open_file(&c, &b, &err), WS_OK);
    ws_ckpt_free(c);
}

static void heads_must_divide_the_rows(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    const uint64_t heads[] = { 0, 3, 4 };
    for (size_t i = 0; i < 3; i++) {
        put_front(&b, 3, 1, 2);
        put_text(&b, "general.architecture", "llama");
        put_u32(&b, "llama.attention.head_count", heads[i]);
        put_info(&b, "blk.0.attn_q.weight", 4, 4, 0, 0);
        put_padding(&b);
        for (int k = 0; k < 64; k++)
            ws_buf_putc(&b, '\0');
        refused(&b, WS_E_HEADER, "heads of an even number of rows");
    }
}

static void parts_of_a_split_model_are_one(void **state)
{
    (void)state;
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    static const char *const paths[] = { "m-00001-of-00002.gguf",
                                         "m-00002-of-00002.gguf" };
    for (unsigned i = 0; i < 2; i++) {
        ws_buf b = { 0 };
        put_front(&b, 3, 1, i == 0 ? 3 : 2);
        put_u32(&b, "split.no", i);
        put_u32(&b, "split.count", 2);
        if (i == 0)
            put_text(&b, "general.architecture", "llama");
        put_info(&b, i == 0 ? "token_embd.weight" : "output.weight", 1, 1, 0, 0);
        put_padding(&b);
        put_u(&b, 0x3f800000 + i, 4);
        spit(paths[i], b.p, b.n);
        ws_buf_free(&b);
    }
    assert_int_equal(ws_ckpt_open(&c, paths[0], NULL, &err), WS_OK);
    assert_int_equal(ws_ckpt_count(c), 2);
    assert_non_null(ws_ckpt_find(c, "lm_head.weight"));
    uint32_t v = 0;
    assert_int_equal(ws_ckpt_read(c, ws_ckpt_find(c, "lm_head.weight"), 0, 4, &v, &err),
                     WS_OK);
    assert_int_equal(v, 0x3f800001);
    ws_ckpt_free(c);
    c = NULL;
    assert_int_equal(ws_ckpt_open(&c, paths[1], NULL, &err), WS_E_USAGE);
    assert_string_equal(err.msg, "file is part 2 of 2 of a split model");
    unlink(paths[1]);
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_ckpt_open(&c, paths[0], NULL, &err), WS_E_MISSING);
    assert_string_equal(err.msg, "part 2 of 2 is not there");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_of_llama_heads_are_put_back, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(weights_of_gpt2_are_transposed, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(q8_0_is_quantised_as_the_reference_does,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(names_go_both_ways, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(counts_and_lengths_are_checked_before_use,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(alignment_is_a_small_power_of_two, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(tensors_are_checked, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(the_last_padding_may_be_missing, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(heads_must_divide_the_rows, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(parts_of_a_split_model_are_one, temp_setup,
                                        temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
