/*
 * test_shards.c - shards as huggingface_hub cuts them, and the bytes of the index
 */
#include "hf/shards.h"
#include "ws_test.h"

static void assert_shards(const uint64_t *sizes, size_t n, uint64_t limit,
                          const char *want, size_t want_n)
{
    uint32_t shard[16];
    char got[17] = "";
    assert_int_equal(ws_shard_assign(sizes, n, limit, shard), want_n);
    for (size_t i = 0; i < n; i++)
        got[i] = (char)('0' + shard[i]);
    assert_string_equal(got, want);
}

static void shards_close_when_the_next_does_not_fit(void **state)
{
    (void)state;
    const uint64_t sizes[] = { 4, 3, 3, 5, 5, 1 };
    assert_shards(sizes, 6, 10, "000112", 3);
    assert_shards(sizes, 6, 7, "001233", 4);
    assert_shards(sizes, 6, 21, "000000", 1);
    assert_shards(sizes, 6, 20, "000001", 2);
    assert_shards(sizes, 0, 10, "", 1);
}

static void tensor_above_the_limit_gets_its_shard_at_once(void **state)
{
    (void)state;
    // the open shard goes on around it, and is numbered when it closes
    const uint64_t sizes[] = { 2, 20, 3, 30, 6 };
    assert_shards(sizes, 5, 10, "20213", 4);
    const uint64_t only[] = { 20, 30 };
    assert_shards(only, 2, 10, "01", 2);
}

static void sizes_near_the_end_of_the_range_do_not_wrap(void **state)
{
    (void)state;
    const uint64_t sizes[] = { UINT64_MAX - 1, UINT64_MAX - 1, 0, 1 };
    assert_shards(sizes, 4, UINT64_MAX, "0111", 2);
    assert_shards(sizes, 4, 0, "0132", 4);
}

static void index_has_total_first_and_sorted_names(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_buf b = { 0 };
    static const char *const names[] = { "b", "a.10", "a.2", "q\"" };
    static const char *const files[] = { "model-00001-of-00002.safetensors",
                                         "model-00002-of-00002.safetensors",
                                         "model-00002-of-00002.safetensors",
                                         "model-00001-of-00002.safetensors" };
    const ws_meta meta[] = { { "wsurg.version", "1" }, { "format", "pt" } };
    assert_ok(ws_index_write(&b, names, files, 4, 12345678901234u, meta, 2, &err), err);
    assert_string_equal(b.p, "{\n"
                             "  \"metadata\": {\n"
                             "    \"total_size\": 12345678901234,\n"
                             "    \"format\": \"pt\",\n"
                             "    \"wsurg.version\": \"1\"\n"
                             "  },\n"
                             "  \"weight_map\": {\n"
                             "    \"a.10\": \"model-00002-of-00002.safetensors\",\n"
                             "    \"a.2\": \"model-00002-of-00002.safetensors\",\n"
                             "    \"b\": \"model-00001-of-00002.safetensors\",\n"
                             "    \"q\\\"\": \"model-00001-of-00002.safetensors\"\n"
                             "  }\n"
                             "}\n");
    ws_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_close_when_the_next_does_not_fit),
        cmocka_unit_test(tensor_above_the_limit_gets_its_shard_at_once),
        cmocka_unit_test(sizes_near_the_end_of_the_range_do_not_wrap),
        cmocka_unit_test(index_has_total_first_and_sorted_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
