/*
 * test_rng.c - Philox against the known answers of Random123, and the streams made of
 * it
 */
#include "ws_test.h"

#include "base/hash.h"
#include "base/rng.h"

/* kat_vectors of Random123: philox4x32, 10 rounds. */
static void philox_gives_the_known_answers(void **unused)
{
    const struct {
        ws_rng_key key;
        uint64_t counter;
        uint32_t words[4];
    } known[] = {
        { { 0, 0 }, 0, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { UINT64_MAX, UINT64_MAX },
          UINT64_MAX,
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x299f31d0a4093822, 0x0370734413198a2e },
          0x85a308d3243f6a88,
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t out[4 * WS_PHILOX_BATCH];
        ws_philox(&known[i].key, known[i].counter, out);
        assert_memory_equal(out, known[i].words, sizeof known[i].words);
    }
}

static void batches_are_counters_in_a_row(void **unused)
{
    const ws_rng_key key = { 0x0123456789abcdef, 42 };
    const uint64_t first = UINT32_MAX - 20; // the counter's low word wraps
    uint32_t batch[4 * WS_PHILOX_BATCH], one[4 * WS_PHILOX_BATCH];
    (void)unused;
    ws_philox(&key, first, batch);
    for (size_t j = 0; j < WS_PHILOX_BATCH; j++) {
        ws_philox(&key, first + j, one);
        assert_memory_equal(batch + 4 * j, one, 16);
    }
}

static void any_cut_gives_the_same_words(void **unused)
{
    const ws_rng_key key = { 7, 9 };
    uint32_t whole[2000], part[2000];
    uint64_t s = 1;
    (void)unused;
    ws_random_fill(&key, 1000003, whole, 2000);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0, n; i < 2000; i += n) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            n = 1 + (size_t)(s >> 33) % (round < 10 ? 9 : 700);
            n = n < 2000 - i ? n : 2000 - i;
            ws_random_fill(&key, 1000003 + i, part + i, n);
        }
        assert_memory_equal(part, whole, sizeof whole);
    }
    ws_random_fill(&key, 0, part, 0);
}

static void words_are_lanes_of_counters(void **unused)
{
    const ws_rng_key key = { 7, 9 };
    uint32_t words[4 * WS_PHILOX_BATCH], third;
    (void)unused;
    ws_philox(&key, 5, words);
    ws_random_fill(&key, 5 * 4 + 3, &third, 1);
    assert_int_equal(third, words[3]);
}

static void thresholds_are_exact(void **unused)
{
    (void)unused;
    assert_int_equal(ws_random_threshold(0.0), 0);
    assert_int_equal(ws_random_threshold(-1.0), 0);
    assert_int_equal(ws_random_threshold(NAN), 0);
    assert_int_equal(ws_random_threshold(0.5), 2147483648u);
    assert_int_equal(ws_random_threshold(0.1), 429496729u);
    assert_true(ws_random_threshold(1.0) == 4294967296u);
    assert_true(ws_random_threshold(2.0) == 4294967296u);
    assert_int_equal(ws_random_threshold(0x1p-32), 1);
    assert_int_equal(ws_random_threshold(0x1p-33), 0);
}

/* Names and numbers carry their lengths: no two tuples share an encoding. */
static void keys_tell_all_parts_apart(void **unused)
{
    uint64_t a[2], b[2];
    (void)unused;
    ws_rng_key_make(0, "ties", 1, "a", a);
    assert_true(a[0] == 0xe28c0354797b559c && a[1] == 0xbbe8d01ffdf12495);
    ws_rng_key_make(1, "ties", 1, "a", b);
    assert_memory_not_equal(a, b, sizeof a);
    ws_rng_key_make(0, "ties", 2, "a", b);
    assert_memory_not_equal(a, b, sizeof a);
    ws_rng_key_make(0, "ties", 1, "b", b);
    assert_memory_not_equal(a, b, sizeof a);
    ws_rng_key_make(0, "tie", 1, "a", b);
    assert_memory_not_equal(a, b, sizeof a);
    ws_rng_key_make(0, "ties", 1, "a", b);
    assert_memory_equal(a, b, sizeof a);
}

static void bits_are_balanced(void **unused)
{
    static uint32_t words[1 << 16];
    ws_rng_key key;
    uint64_t raw[2];
    (void)unused;
    ws_rng_key_make(0, "dare_linear", 0, "model.embed_tokens.weight", raw);
    key = (ws_rng_key){ raw[0], raw[1] };
    ws_random_fill(&key, 0, words, 1 << 16);
    for (int bit = 0; bit < 32; bit++) {
        int ones = 0;
        for (size_t i = 0; i < 1 << 16; i++)
            ones += (words[i] >> bit) & 1;
        assert_in_range(ones, 32768 - 5 * 128, 32768 + 5 * 128);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_known_answers),
        cmocka_unit_test(batches_are_counters_in_a_row),
        cmocka_unit_test(any_cut_gives_the_same_words),
        cmocka_unit_test(words_are_lanes_of_counters),
        cmocka_unit_test(thresholds_are_exact),
        cmocka_unit_test(keys_tell_all_parts_apart),
        cmocka_unit_test(bits_are_balanced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
