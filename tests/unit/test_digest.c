/*
 * test_digest.c - digests against an independent program's (python-xxhash over the
 * encodings of wsurg/digest.h), and their independence of threads and order
 */
#include <unistd.h>

#include "st_fixture.h"
#include "wsurg/digest.h"
#include "wsurg/text.h"

static void assert_hex(ws_xxh128 h, const char *want)
{
    char hex[33];
    ws_xxh128_hex(h, hex);
    assert_string_equal(hex, want);
}

static void hex_is_parsed_exactly(void **state)
{
    (void)state;
    uint8_t b[2] = { 0 };
    assert_true(ws_parse_hex("0aFe", b, 2));
    assert_int_equal(b[0], 0x0a);
    assert_int_equal(b[1], 0xfe);
    assert_false(ws_parse_hex("0aF", b, 2));
    assert_false(ws_parse_hex("0aFe0", b, 2));
    assert_false(ws_parse_hex("0aFg", b, 2));
    assert_false(ws_parse_hex("0x1f", b, 2));
    assert_false(ws_parse_hex("", b, 1));
}

static uint64_t slice_len(int rank, uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t shape[3] = { a, b, c };
    return ws_slice_len(rank, shape);
}

static uint64_t slice_count(int rank, uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t shape[3] = { a, b, c };
    return ws_slice_count(rank, shape);
}

static void slices_are_whole_rows(void **state)
{
    (void)state;
    enum { M = 1 << 20 };
    assert_int_equal(slice_len(0, 0, 0, 0), M);
    assert_int_equal(slice_count(0, 0, 0, 0), 1);
    assert_int_equal(slice_len(1, 5, 0, 0), M);
    assert_int_equal(slice_count(1, M, 0, 0), 1);
    assert_int_equal(slice_count(1, M + 1, 0, 0), 2);
    assert_int_equal(slice_len(2, 10, 3, 0), 1048575); // 349525 rows
    assert_int_equal(slice_count(2, 349525, 3, 0), 1);
    assert_int_equal(slice_count(2, 349526, 3, 0), 2);
    assert_int_equal(slice_len(2, 10, M, 0), M);
    assert_int_equal(slice_len(2, 10, M + 1, 0), M + 1);
    assert_int_equal(slice_count(2, 10, M + 1, 0), 10);
    assert_int_equal(slice_len(3, 10, 1024, 1000), 1024000);
    assert_int_equal(slice_count(3, 10, 1024, 1000), 10);
}

static void empty_tensors_have_no_slices(void **state)
{
    (void)state;
    assert_int_equal(slice_count(1, 0, 0, 0), 0);
    assert_int_equal(slice_count(2, 5, 0, 0), 0);
    assert_int_equal(slice_len(2, 5, 0, 0), 1 << 20);
    // sizes that would overflow must not be multiplied
    assert_int_equal(slice_count(3, 0, UINT64_MAX, UINT64_MAX), 0);
    assert_int_equal(slice_len(3, 0, UINT64_MAX, UINT64_MAX), 1 << 20);
}

static void slices_of_half_bytes_round_down(void **state)
{
    (void)state;
    const uint64_t shape[] = { 2, 1048577 };
    const ws_tensor t = { .name = "t",
                          .dtype = WS_DT_F4,
                          .rank = 2,
                          .shape = shape,
                          .n_elements = 2097154,
                          .n_bytes = 1048577 };
    uint64_t at, len;
    ws_slice_bytes(&t, 0, &at, &len);
    assert_int_equal(at, 0);
    assert_int_equal(len, 524288);
    ws_slice_bytes(&t, 1, &at, &len);
    assert_int_equal(at, 524288);
    assert_int_equal(len, 524289);
}

static const uint8_t counting[24] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                      12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23 };

static const st_item small[] = {
    { "b.weight", WS_DT_F32, 2, { 2, 3 }, counting },
    { "a.scale", WS_DT_F16, 0, { 0 }, "\x00\x3c" },
    { "empty", WS_DT_I64, 2, { 0, 7 }, "" },
};

static void tensor_digest_is_as_documented(void **state)
{
    (void)state;
    const uint64_t shape[] = { 2, 3 }, none[] = { 0, 7 };
    const ws_xxh128 slice = ws_xxh3(counting, 24);
    ws_tensor t = { .name = "b.weight", .dtype = WS_DT_F32, .rank = 2, .shape = shape };
    assert_hex(ws_tensor_digest(&t, &slice, 1), "646ac19c7789f51aa30d0027cddbd273");
    t = (ws_tensor){ .name = "empty", .dtype = WS_DT_I64, .rank = 2, .shape = none };
    assert_hex(ws_tensor_digest(&t, NULL, 0), "f7267fa68cb63ed1d41ebaeeccd0c51d");
}

static void model_digest_does_not_depend_on_order(void **state)
{
    (void)state;
    enum { N = 9 };
    const char *names[N];
    char text[N][4];
    ws_xxh128 d[N];
    size_t idx[N];
    ws_xxh128 first = { { 0 } };
    for (int turn = 0; turn < N; turn++) {
        for (int i = 0; i < N; i++) {
            const int k = (i * 4 + turn) % N;
            snprintf(text[i], sizeof text[i], "t%d", k);
            names[i] = text[i];
            d[i] = ws_xxh3(text[i], 2);
        }
        const ws_xxh128 h = ws_model_digest(names, d, N, idx);
        for (int i = 1; i < N; i++)
            assert_true(strcmp(names[idx[i - 1]], names[idx[i]]) < 0);
        if (turn == 0)
            first = h;
        assert_memory_equal(&h, &first, sizeof h);
    }
    assert_hex(ws_model_digest(NULL, NULL, 0, NULL),
               "2c0a8a99dc147d5445c3b49d035665b2");
}

static void assert_ckpt(const st_item *items, size_t n, const char *want)
{
    uint8_t *image;
    ws_err err = WS_ERR_INIT;
    ws_ckpt *c = st_open(items, n, &image);
    for (int threads = 1; threads <= 8; threads *= 2) {
        const ws_ctx ctx = { .threads = threads };
        ws_xxh128 d;
        assert_ok(ws_ckpt_digest(c, &ctx, &d, &err), err);
        assert_hex(d, want);
    }
    ws_ckpt_free(c);
    free(image);
}

static void checkpoint_digest_is_the_same_for_any_threads(void **state)
{
    (void)state;
    enum { BIG = 3 * 700000, F4 = 1048577 };
    uint8_t *big = malloc(BIG), *f4 = malloc(F4);
    for (int i = 0; i < BIG; i++)
        big[i] = (uint8_t)(i * 7 + i / 4096);
    for (int i = 0; i < F4; i++)
        f4[i] = (uint8_t)(i * 5 + i / 77);
    const st_item items[] = {
        { "f4", WS_DT_F4, 2, { 2, 1048577 }, f4 },
        { "big", WS_DT_U8, 2, { 3, 700000 }, big },
    };
    assert_ckpt(small, 3, "d61705f4d5279c08ae96a936ae702d32");
    assert_ckpt(items, 2, "fcc717a495ba1c7f1020f3edfa0f8bce");
    assert_ckpt(NULL, 0, "2c0a8a99dc147d5445c3b49d035665b2");
    free(big);
    free(f4);
}

static void stop_request_interrupts(void **state)
{
    (void)state;
    uint8_t *image;
    ws_err err = WS_ERR_INIT;
    ws_ckpt *c = st_open(small, 3, &image);
    const atomic_int stop = 15;
    const ws_ctx ctx = { .threads = 2, .stop = &stop };
    ws_xxh128 d;
    assert_int_equal(ws_ckpt_digest(c, &ctx, &d, &err), WS_E_INTERRUPTED);
    assert_string_equal(err.msg, "interrupted while digesting");
    ws_ckpt_free(c);
    free(image);
}

static void count_progress(void *payload, const ws_progress *p)
{
    assert_string_equal(p->event, "digest");
    assert_string_equal(p->unit, "bytes");
    assert_int_equal(p->total, 26);
    *(uint64_t *)payload = p->done;
}

static void progress_ends_at_the_total(void **state)
{
    (void)state;
    uint8_t *image;
    ws_err err = WS_ERR_INIT;
    ws_ckpt *c = st_open(small, 3, &image);
    uint64_t done = 0;
    const ws_ctx ctx = { .threads = 2, .progress = count_progress, .payload = &done };
    ws_xxh128 d;
    assert_ok(ws_ckpt_digest(c, &ctx, &d, &err), err);
    assert_int_equal(done, 26);
    ws_ckpt_free(c);
    free(image);
}

static void file_cut_while_read_names_the_tensor(void **state)
{
    (void)state;
    char path[] = "/tmp/wsurg-digest-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    st_write(path, small, 3, NULL, 0);
    ws_err err = WS_ERR_INIT;
    ws_ckpt *c = NULL;
    ws_xxh128 d;
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_int_equal(ws_ckpt_digest(c, NULL, &d, &err), WS_E_IO);
    assert_string_equal(err.path, path);
    assert_string_equal(err.tensor, "b.weight");
    ws_ckpt_free(c);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_is_parsed_exactly),
        cmocka_unit_test(slices_are_whole_rows),
        cmocka_unit_test(empty_tensors_have_no_slices),
        cmocka_unit_test(slices_of_half_bytes_round_down),
        cmocka_unit_test(tensor_digest_is_as_documented),
        cmocka_unit_test(model_digest_does_not_depend_on_order),
        cmocka_unit_test(checkpoint_digest_is_the_same_for_any_threads),
        cmocka_unit_test(stop_request_interrupts),
        cmocka_unit_test(progress_ends_at_the_total),
        cmocka_unit_test(file_cut_while_read_names_the_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
