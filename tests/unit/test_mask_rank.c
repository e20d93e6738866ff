/*
 * test_mask_rank.c - the K largest, against a sort
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "surgery/mask_rank.h"
#include "wsurg/alloc.h"

enum { N = 5000, PIECE = 700 };

static float numbers[N];

/** Numbers of many magnitudes, a third of them of few values, some zero. */
static void fill(void)
{
    uint32_t seed = 7;
    for (size_t i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        const uint32_t r = seed >> 8;
        numbers[i] =
            r % 3 == 0 ? (float)(r % 5) : (float)r * (r % 7 < 3 ? 1e-20f : 1e-3f);
    }
}

static ws_rank_cut cut_of(uint64_t count)
{
    ws_rank *r = NULL;
    assert_int_equal(ws_rank_new(&r, count, NULL), WS_OK);
    for (int pass = 0; pass < WS_RANK_PASSES; pass++) {
        ws_rank_begin(r, pass);
        for (size_t at = 0; at < N; at += PIECE)
            ws_rank_add(r, numbers + at, N - at < PIECE ? N - at : PIECE);
    }
    const ws_rank_cut cut = ws_rank_cut_of(r);
    ws_rank_free(r);
    return cut;
}

static int larger_then_earlier(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    if (numbers[x] != numbers[y])
        return numbers[x] > numbers[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

static void the_cut_is_that_of_a_sort(void **state)
{
    static size_t order[N];
    static bool in[N];
    (void)state;
    fill();
    for (size_t i = 0; i < N; i++)
        order[i] = i;
    qsort(order, N, sizeof *order, larger_then_earlier);
    for (uint64_t count = 1; count < 4000; count += count < 50 ? 1 : 97) {
        const ws_rank_cut cut = cut_of(count);
        memset(in, 0, sizeof in);
        for (size_t k = 0; k < count; k++)
            in[order[k]] = numbers[order[k]] > 0.0f;
        for (size_t i = 0; i < N; i++)
            if (ws_rank_in(&cut, numbers[i], i) != in[i])
                fail_msg("%d of %d: entry %d, %g", (int)count, N, (int)i,
                         (double)numbers[i]);
        assert_int_equal(cut.kept, count);
        assert_int_equal(cut.seen, N);
    }
}

static void zeros_are_never_in(void **state)
{
    size_t nonzero = 0;
    (void)state;
    fill();
    for (size_t i = 0; i < N; i++)
        nonzero += numbers[i] != 0.0f;
    const ws_rank_cut cut = cut_of(N);
    assert_int_equal(cut.kept, nonzero);
    assert_true(nonzero < N);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(ws_rank_in(&cut, numbers[i], i), numbers[i] != 0.0f);
}

static void of_equal_ones_the_first_come_in(void **state)
{
    (void)state;
    for (size_t i = 0; i < N; i++)
        numbers[i] = 0.5f;
    const ws_rank_cut cut = cut_of(1234);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(ws_rank_in(&cut, numbers[i], i), i < 1234);
    assert_int_equal(ws_alloc_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cut_is_that_of_a_sort),
        cmocka_unit_test(zeros_are_never_in),
        cmocka_unit_test(of_equal_ones_the_first_come_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
