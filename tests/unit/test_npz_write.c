/*
 * test_npz_write.c - npz archives: checksums, zip64, names, killed runs
 */
#include "st_fixture.h"
#include "temp_dir.h"

#include <sys/wait.h>

#include "base/crc32.h"
#include "ckpt/step.h"
#include "ckpt/zip_write.h"
#include "wsurg/convert.h"

/** The report of a failure. */
static void assert_refused(ws_status st, ws_status want, const ws_err *err,
                           const char *msg)
{
    assert_int_equal(st, want);
    assert_string_equal(err->msg, msg);
}

static void crc_is_that_of_zip_and_joins_anywhere(void **state)
{
    static const char text[] = "123456789, and some more than eight bytes at a time";
    const size_t n = sizeof text - 1;
    ws_crc32 c;
    (void)state;
    ws_crc32_init(&c);
    assert_int_equal(ws_crc32_add(&c, 0, text, 9), 0xCBF43926); // the known answer
    const uint32_t whole = ws_crc32_add(&c, 0, text, n);
    for (size_t cut = 0; cut <= n; cut++) {
        const uint32_t a = ws_crc32_add(&c, 0, text, cut);
        const uint32_t b = ws_crc32_add(&c, 0, text + cut, n - cut);
        assert_int_equal(ws_crc32_add(&c, a, text + cut, n - cut), whole);
        assert_int_equal(ws_crc32_join(a, b, n - cut), whole);
    }
}

static void write_at(int fd, uint64_t at, const ws_buf *b)
{
    assert_false(b->failed);
    assert_int_equal(pwrite(fd, b->p, b->n, (off_t)at), (ssize_t)b->n);
}

/** A member of 5 GiB, and one behind it: both its sizes and the other's offset need
 * zip64 fields. The file is a hole but for its headers. */
static void zip64_fields_are_read_back(void **state)
{
    const ws_tensor big = { .name = "a",
                            .rank = 2,
                            .shape = (const uint64_t[]){ 5 << 18, 1 << 10 } };
    const ws_tensor small = { .name = "b", .rank = 0 };
    ws_buf big_npy = { 0 }, small_npy = { 0 }, local = { 0 }, directory = { 0 };
    (void)state;
    ws_npy_put_header(&big_npy, &big, WS_DT_F32);
    ws_npy_put_header(&small_npy, &small, WS_DT_F32);
    const ws_zip_member m = { .name = "a.npy", .bytes = big_npy.n + (5ull << 30) };
    const ws_zip_member k = { .name = "b.npy", .bytes = small_npy.n + 4 };
    const int fd = open("x.npz", O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    ws_zip_put_local(&local, &m, 1);
    ws_buf_add(&local, big_npy.p, big_npy.n);
    write_at(fd, 0, &local);
    const uint64_t second = local.n + (5ull << 30);
    local.n = 0;
    ws_zip_put_local(&local, &k, 2);
    ws_buf_add(&local, small_npy.p, small_npy.n);
    ws_buf_add(&local, "\0\0\x80\x3f", 4);
    write_at(fd, second, &local);
    ws_zip_put_entry(&directory, &m, 1, 0);
    ws_zip_put_entry(&directory, &k, 2, second);
    const uint64_t at = second + local.n;
    ws_zip_put_end(&directory, 2, at, directory.n);
    write_at(fd, at, &directory);
    close(fd);

    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    float one = 0.0f;
    assert_ok(ws_ckpt_open(&c, "x.npz", NULL, &err), err);
    assert_int_equal(ws_ckpt_count(c), 2);
    assert_int_equal(ws_ckpt_find(c, "a")->n_bytes, 5ull << 30);
    assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, "b"), 0, 4, &one, &err), err);
    assert_true(one == 1.0f);
    ws_ckpt_free(c);
    ws_buf_free(&big_npy);
    ws_buf_free(&small_npy);
    ws_buf_free(&local);
    ws_buf_free(&directory);
}

static void small_archives_have_no_zip64_fields(void **state)
{
    ws_buf b = { 0 };
    const ws_zip_member m = { .name = "\xc3\xbc.npy", .bytes = 0xFFFFFFFE };
    (void)state;
    ws_zip_put_local(&b, &m, 0);
    assert_int_equal(b.n, 30 + 6);
    assert_int_equal((unsigned char)b.p[7], 8); // the name is UTF-8
    b.n = 0;
    ws_zip_put_end(&b, 65534, 0xFFFFFFFE, 7);
    assert_int_equal(b.n, 22);
    b.n = 0;
    ws_zip_put_end(&b, 65535, 0, 7);
    assert_int_equal(b.n, 56 + 20 + 22);
    ws_buf_free(&b);
}

/** Of several chunks, with an empty tensor and a scalar between. */
static void make_model(const char *path)
{
    enum { MANY = 600000 };
    float *x = malloc(MANY * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < MANY; i++)
        x[i] = (float)(int)(i % 4001) - 2000.0f;
    const st_item items[] = {
        { "b/large", WS_DT_F32, 2, { 600, 1000 }, x },
        { "a", WS_DT_F32, 1, { 3 }, x },
        { "empty", WS_DT_F32, 2, { 0, 4 }, x },
        { "zero", WS_DT_I64, 0, { 0 }, x },
        { "half", WS_DT_F16, 1, { 300000 }, x },
    };
    size_t n = 0;
    uint8_t *image = st_image(items, 5, NULL, 0, &n);
    spit(path, image, n);
    free(image);
    free(x);
}

static ws_status convert(const char *model, const char *out, ws_convert_as as,
                         bool resume, ws_err *err)
{
    ws_convert_result *r = NULL;
    ws_convert_req req = { .model = model, .as = as, .write = WS_WRITE_OPTS_INIT };
    req.write.out = out;
    req.write.manifest = "none";
    req.write.resume = resume;
    const ws_ctx ctx = { .threads = 1 };
    const ws_status st = ws_npz_write(&r, &req, &ctx, err);
    ws_convert_result_free(r);
    return st;
}

static void assert_same_bytes(const char *a, const char *b)
{
    char x[4096], y[4096];
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    size_t n;
    assert_true(f != NULL && g != NULL);
    do {
        n = fread(x, 1, sizeof x, f);
        assert_int_equal(fread(y, 1, sizeof y, g), n);
        assert_memory_equal(x, y, n);
    } while (n > 0);
    fclose(f);
    fclose(g);
}

static void killed_anywhere_it_resumes_to_the_same_bytes(void **state)
{
    ws_err err = WS_ERR_INIT;
    (void)state;
    make_model("m.st");
    assert_ok(convert("m.st", "whole.npz", WS_AS_KEEP, false, &err), err);
    int killed = 0;
    for (long n = 0;; n++) {
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            ws_stage_kill_after(n);
            _exit(convert("m.st", "out.npz", WS_AS_KEEP, false, NULL) != WS_OK);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
        killed++;
        if (there("out.npz"))
            assert_same_bytes("out.npz", "whole.npz");
        const ws_status st = convert("m.st", "out.npz", WS_AS_KEEP, true, &err);
        assert_true(st == WS_OK || (st == WS_E_EXISTS && there("out.npz")));
        assert_same_bytes("out.npz", "whole.npz");
        assert_int_equal(unlink("out.npz"), 0);
    }
    assert_true(killed > 10);
    assert_same_bytes("out.npz", "whole.npz");
}

static void names_that_readers_take_differently_are_refused(void **state)
{
    static const char *const bad[] = { "../a", "/a", "a/./b", "a\\b" };
    const float one = 1.0f;
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const st_item item = { bad[i], WS_DT_F32, 0, { 0 }, &one };
        uint8_t *image = st_image(&item, 1, NULL, 0, &n);
        spit("m.st", image, n);
        free(image);
        ws_err err = WS_ERR_INIT;
        assert_refused(convert("m.st", "o.npz", WS_AS_KEEP, false, &err),
                       WS_E_UNSUPPORTED, &err,
                       "tensor's name is no plain path: not written as npz");
        assert_false(there("o.npz"));
    }
    const st_item two[] = { { "A", WS_DT_F32, 0, { 0 }, &one },
                            { "a", WS_DT_F32, 0, { 0 }, &one } };
    uint8_t *image = st_image(two, 2, NULL, 0, &n);
    spit("m.st", image, n);
    free(image);
    ws_err err = WS_ERR_INIT;
    assert_refused(
        convert("m.st", "o.npz", WS_AS_KEEP, false, &err), WS_E_UNSUPPORTED, &err,
        "tensor's name is another's but for letter case: not written as npz");
}

static void dtypes_that_numpy_lacks_are_refused_or_made_others(void **state)
{
    const uint16_t bits[2] = { 0x3fc0, 0xc000 }; // 1.5, -2
    const st_item item = { "w", WS_DT_BF16, 1, { 2 }, bits };
    ws_err err = WS_ERR_INIT;
    size_t n = 0;
    float x[2];
    ws_ckpt *c = NULL;
    (void)state;
    uint8_t *image = st_image(&item, 1, NULL, 0, &n);
    spit("m.st", image, n);
    free(image);
    assert_refused(convert("m.st", "o.npz", WS_AS_KEEP, false, &err), WS_E_DTYPE, &err,
                   "tensor is BF16, which NumPy has not");
    assert_string_equal(err.tensor, "w");
    err = (ws_err)WS_ERR_INIT;
    assert_ok(convert("m.st", "o.npz", WS_AS_F32, false, &err), err);
    assert_ok(ws_ckpt_open(&c, "o.npz", NULL, &err), err);
    assert_int_equal(ws_ckpt_find(c, "w")->dtype, WS_DT_F32);
    assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, "w"), 0, 8, x, &err), err);
    assert_true(x[0] == 1.5f && x[1] == -2.0f);
    ws_ckpt_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_is_that_of_zip_and_joins_anywhere),
        cmocka_unit_test_setup_teardown(zip64_fields_are_read_back, temp_setup,
                                        temp_teardown),
        cmocka_unit_test(small_archives_have_no_zip64_fields),
        cmocka_unit_test_setup_teardown(killed_anywhere_it_resumes_to_the_same_bytes,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(names_that_readers_take_differently_are_refused,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(
            dtypes_that_numpy_lacks_are_refused_or_made_others, temp_setup,
            temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
