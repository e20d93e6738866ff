/*
 * test_spool.c - standard input as a nameless file, refused early when no model
 */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>

#include "st_fixture.h"
#include "temp_dir.h"
#include "wsurg/spool.h"

static const float ones[3] = { 1, 1, 1 };
static const st_item items[] = { { "a", WS_DT_F32, 1, { 3 }, ones } };

struct feed {
    int fd;
    const void *data;
    size_t n;
};

static void *feed(void *arg)
{
    const struct feed *f = arg;
    for (size_t at = 0; at < f->n;) {
        const size_t some = f->n - at < 1000 ? f->n - at : 1000;
        const ssize_t k = write(f->fd, (const char *)f->data + at, some);
        if (k <= 0)
            break;
        at += (size_t)k;
    }
    close(f->fd);
    return NULL;
}

/** Spool @p n bytes that come through a pipe. */
static ws_status spool_pipe(ws_spool **s, const void *data, size_t n, const ws_ctx *ctx,
                            ws_err *err)
{
    int fds[2];
    pthread_t thread;
    assert_int_equal(pipe(fds), 0);
    struct feed f = { fds[1], data, n };
    assert_int_equal(pthread_create(&thread, NULL, feed, &f), 0);
    const ws_status st = ws_spool_new(s, fds[0], ".", ctx, err);
    close(fds[0]);
    pthread_join(thread, NULL);
    return st;
}

static void assert_nothing_here(void)
{
    DIR *dir = opendir(".");
    const struct dirent *e;
    while ((e = readdir(dir)) != NULL)
        assert_true(strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    closedir(dir);
}

static void model_from_a_pipe_opens_as_a_checkpoint(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    size_t n;
    uint8_t *image = st_image(items, 1, NULL, 0, &n);
    ws_spool *s = NULL;
    ws_ckpt *c = NULL;
    assert_ok(spool_pipe(&s, image, n, NULL, &err), err);
    assert_int_equal(ws_spool_bytes(s), n);
    assert_nothing_here();
    assert_ok(ws_ckpt_open(&c, ws_spool_path(s), NULL, &err), err);
    float got[3] = { 0 };
    assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, "a"), 0, sizeof got, got, &err), err);
    assert_memory_equal(got, ones, sizeof got);
    assert_ok(ws_ckpt_recheck(c, &err), err);
    ws_ckpt_free(c);
    ws_spool_free(s);
    free(image);
}

static void large_input_comes_through_whole(void **state)
{
    (void)state;
    enum { N = (3 << 20) + 77 };
    ws_err err = WS_ERR_INIT;
    ws_spool *s = NULL;
    uint8_t *data = malloc(N), *got = malloc(N);
    for (int i = 0; i < N; i++)
        data[i] = (uint8_t)(i * 7 + i / 999);
    memcpy(data, "\x10\0\0\0\0\0\0\0{", 9);
    assert_ok(spool_pipe(&s, data, N, NULL, &err), err);
    FILE *f = fopen(ws_spool_path(s), "rb");
    assert_non_null(f);
    assert_int_equal(fread(got, 1, N, f), N);
    fclose(f);
    assert_memory_equal(got, data, N);
    ws_spool_free(s);
    free(data);
    free(got);
}

static void redirected_file_is_used_as_it_is(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_spool *s = NULL;
    ws_ckpt *c = NULL;
    struct stat a, b;
    st_write("m.st", items, 1, NULL, 0);
    const int fd = open("m.st", O_RDONLY);
    assert_ok(ws_spool_new(&s, fd, "no/such/folder", NULL, &err), err);
    assert_int_equal(stat(ws_spool_path(s), &a), 0);
    assert_int_equal(stat("m.st", &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_ok(ws_ckpt_open(&c, ws_spool_path(s), NULL, &err), err);
    ws_ckpt_free(c);
    ws_spool_free(s);
    // half read it is a stream like any other
    char skipped[3];
    assert_int_equal(read(fd, skipped, 3), 3);
    assert_int_equal(ws_spool_new(&s, fd, ".", NULL, &err), WS_E_HEADER);
    close(fd);
}

static void assert_refused(const void *data, size_t n, ws_status want, const char *msg)
{
    ws_err err = WS_ERR_INIT;
    ws_spool *s = NULL;
    assert_int_equal(spool_pipe(&s, data, n, NULL, &err), want);
    assert_null(s);
    assert_string_equal(err.msg, msg);
    assert_string_equal(err.path, "-");
    assert_nothing_here();
}

static void what_is_no_model_is_refused_at_once(void **state)
{
    (void)state;
    assert_refused("", 0, WS_E_HEADER, "file is empty");
    assert_refused("\x10\0\0\0\0\0\0\0", 8, WS_E_HEADER,
                   "no safetensors file: it ends after 8 bytes");
    assert_refused("\x10\0\0\0\0\0\0\0x", 9, WS_E_HEADER,
                   "no safetensors file: its header does not begin with '{'");
    assert_refused("\0\0\0\0\0\0\0\0{}", 10, WS_E_HEADER,
                   "no safetensors file: its header does not begin with '{'");
    assert_refused(
        "\x01\xe1\xf5\x05\0\0\0\0{", 9, WS_E_HEADER,
        "no safetensors file: its header would have 100000001 bytes, at most "
        "100000000 are allowed");
    assert_refused("GGUF\3\0\0\0\0\0\0\0", 12, WS_E_UNSUPPORTED,
                   "file is GGUF where a safetensors file is expected");
}

/** An endless feed shows that nobody waits for its end. */
static void refusal_does_not_wait_for_the_end(void **state)
{
    (void)state;
    int fds[2];
    ws_err err = WS_ERR_INIT;
    ws_spool *s = NULL;
    char head[64];
    memset(head, 'x', sizeof head);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], head, sizeof head), sizeof head);
    assert_int_equal(ws_spool_new(&s, fds[0], ".", NULL, &err), WS_E_HEADER);
    close(fds[0]);
    close(fds[1]);
}

static void header_length_that_looks_like_json_is_no_json(void **state)
{
    (void)state;
    // 123 is '{': a header of that length is fine
    ws_err err = WS_ERR_INIT;
    ws_spool *s = NULL;
    char data[8 + 123];
    memset(data, ' ', sizeof data);
    memcpy(data, "{\0\0\0\0\0\0\0{}", 10);
    assert_ok(spool_pipe(&s, data, sizeof data, NULL, &err), err);
    ws_spool_free(s);
}

static void disk_limit_holds(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_spool *s = NULL;
    size_t n;
    uint8_t *image = st_image(items, 1, NULL, 0, &n);
    ws_ctx ctx = { .max_disk = n - 1 };
    assert_int_equal(spool_pipe(&s, image, n, &ctx, &err), WS_E_DISK);
    assert_string_equal(
        err.msg, "standard input has more than the 75 B of disk there is for it");
    assert_string_equal(err.hint, "--max-disk sets the limit");
    ctx.max_disk = n;
    assert_ok(spool_pipe(&s, image, n, &ctx, &err), err);
    ws_spool_free(s);
    free(image);
}

static void stop_request_interrupts(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_spool *s = NULL;
    const atomic_int stop = 15;
    const ws_ctx ctx = { .stop = &stop };
    assert_int_equal(spool_pipe(&s, "x", 1, &ctx, &err), WS_E_INTERRUPTED);
    assert_string_equal(err.msg, "interrupted while reading standard input");
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(model_from_a_pipe_opens_as_a_checkpoint),
        T(large_input_comes_through_whole),
        T(redirected_file_is_used_as_it_is),
        T(what_is_no_model_is_refused_at_once),
        T(refusal_does_not_wait_for_the_end),
        T(header_length_that_looks_like_json_is_no_json),
        T(disk_limit_holds),
        T(stop_request_interrupts),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
