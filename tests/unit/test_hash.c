/*
 * test_hash.c - XXH3-128 is the same in one piece, in pieces, and for every kind of
 * processor; values from python-xxhash
 */
#include "base/hash.h"

#include <string.h>

#include "base/xxh_ops.h"
#include "st_fixture.h"

enum { MOST = 5000 };

static _Alignas(WS_XXH_ALIGN) unsigned char memory[8192];
static unsigned char data[MOST];

static void fill(void)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7 + (i >> 8) * 13);
}

static void assert_kind(const ws_xxh_ops *ops, size_t n, size_t piece)
{
    const ws_xxh128 want = ws_xxh_ops_plain.once(data, n), whole = ops->once(data, n);
    assert_memory_equal(&whole, &want, sizeof want);
    ops->reset(memory);
    for (size_t i = 0; i < n; i += piece)
        ops->add(memory, data + i, n - i < piece ? n - i : piece);
    const ws_xxh128 pieces = ops->end(memory);
    assert_memory_equal(&pieces, &want, sizeof want);
}

static void every_kind_gives_the_same_digest(void **state)
{
    (void)state;
    static const size_t lengths[] = { 0, 1, 16, 129, 240, 241, 256, 1024, 1025, MOST };
    static const size_t pieces[] = { 1, 63, 256, 1000, MOST };
    fill();
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            assert_true(ws_xxh_ops_plain.state_size <= sizeof memory);
            assert_kind(&ws_xxh_ops_plain, lengths[i], pieces[p]);
#ifdef __x86_64__
            if (__builtin_cpu_supports("avx2"))
                assert_kind(&ws_xxh_ops_v3, lengths[i], pieces[p]);
            if (__builtin_cpu_supports("avx512bw"))
                assert_kind(&ws_xxh_ops_v4, lengths[i], pieces[p]);
#endif
        }
}

static void digest_is_that_of_other_programs(void **state)
{
    (void)state;
    char hex[33];
    fill();
    ws_xxh128_hex(ws_xxh3(data, sizeof data), hex);
    assert_string_equal(hex, "6efd5227a80551a880c417de53bda261");
    ws_xxh_stream *s = ws_xxh_stream_new();
    assert_non_null(s);
    ws_xxh_stream_add(s, data, 1);
    ws_xxh_stream_reset(s);
    ws_xxh_stream_add(s, data, 4000);
    ws_xxh_stream_add(s, data + 4000, sizeof data - 4000);
    ws_xxh128_hex(ws_xxh_stream_end(s), hex);
    assert_string_equal(hex, "6efd5227a80551a880c417de53bda261");
    ws_xxh_stream_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_gives_the_same_digest),
        cmocka_unit_test(digest_is_that_of_other_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
