/*
 * test_manifest.c - manifests say what is there, and find what no longer is
 */
#include "ckpt/manifest_internal.h"
#include "ckpt/stage_manifest.h"
#include "temp_dir.h"
#include "wsurg/alloc.h"

/* digests of sha256sum and xxh128sum */
#define EMPTY_SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define EMPTY_XXH "99aa06d3014798d86001c324468d497f"
#define ABC_SHA   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABC_XXH   "06b05ab6733a618578af5f94892f3950"

static const char two_files[] =
    "{\n"
    "  \"schema\": \"wsurg-manifest/1\",\n"
    "  \"content\": null,\n"
    "  \"files\": [\n"
    "    {\"path\": \"a-b\", \"bytes\": 0, \"sha256\": \"" EMPTY_SHA
    "\", \"xxh3\": \"" EMPTY_XXH "\"},\n"
    "    {\"path\": \"a/b\", \"bytes\": 3, \"sha256\": \"" ABC_SHA
    "\", \"xxh3\": \"" ABC_XXH "\"}\n"
    "  ]\n"
    "}\n";

static void make_dir(void)
{
    assert_int_equal(mkdir("m", 0777), 0);
    assert_int_equal(mkdir("m/a", 0777), 0);
    spit_text("m/a/b", "abc");
    spit_text("m/a-b", "");
}

static ws_manifest *make(const char *path)
{
    ws_err err = WS_ERR_INIT;
    ws_manifest *m = NULL;
    assert_ok(ws_manifest_make(&m, path, NULL, &err), err);
    return m;
}

static ws_manifest *read_and_verify(const char *path)
{
    ws_err err = WS_ERR_INIT;
    ws_manifest *m = NULL;
    assert_ok(ws_manifest_read(&m, path, &err), err);
    assert_ok(ws_manifest_verify(m, NULL, &err), err);
    return m;
}

static void save(const ws_manifest *m)
{
    size_t n;
    char *text = ws_manifest_text(m, &n);
    assert_non_null(text);
    spit(m->path, text, n);
    ws_free(text);
}

static void text_is_sorted_by_bytes_and_ends_in_newline(void **state)
{
    (void)state;
    make_dir();
    ws_manifest *m = make("m");
    size_t n;
    char *text = ws_manifest_text(m, &n);
    assert_string_equal(text, two_files);
    assert_int_equal(n, strlen(two_files));
    assert_string_equal(m->path, "m/manifest.json");
    ws_free(text);
    ws_manifest_free(m);
}

static void file_has_its_manifest_beside_it(void **state)
{
    (void)state;
    spit_text("x.st", "abc");
    ws_manifest *m = make("x.st");
    assert_string_equal(m->path, "x.st.manifest.json");
    assert_int_equal(m->n_files, 1);
    assert_string_equal(m->files[0].path, "x.st");
    assert_string_equal(m->files[0].sha256, ABC_SHA);
    assert_string_equal(m->files[0].xxh3, ABC_XXH);
    save(m);
    ws_manifest_free(m);
    m = read_and_verify("x.st");
    assert_true(m->valid);
    ws_manifest_free(m);
    m = read_and_verify("x.st.manifest.json");
    assert_true(m->valid);
    assert_int_equal(m->n_extra, 0);
    ws_manifest_free(m);
}

static void whole_directory_is_valid(void **state)
{
    (void)state;
    make_dir();
    ws_manifest *m = make("m/");
    snprintf(m->content, sizeof m->content, "xxh3-128:%s", ABC_XXH);
    save(m);
    ws_manifest_free(m);
    const char *const names[] = { "m", "m/", "m/manifest.json" };
    for (size_t i = 0; i < 3; i++) {
        m = read_and_verify(names[i]);
        assert_true(m->valid);
        assert_string_equal(m->content, "xxh3-128:" ABC_XXH);
        assert_int_equal(m->n_files, 2);
        ws_manifest_free(m);
    }
}

static void changed_missing_and_extra_files_are_found_together(void **state)
{
    (void)state;
    make_dir();
    spit_text("m/c", "abc");
    spit_text("m/d", "abc");
    ws_manifest *m = make("m");
    save(m);
    ws_manifest_free(m);
    spit_text("m/a/b", "abd");
    spit_text("m/c", "abcd");
    assert_int_equal(unlink("m/a-b"), 0);
    spit_text("m/x", "");
    spit_text("m/a/y", "");
    m = read_and_verify("m");
    assert_false(m->valid);
    assert_int_equal(m->n_files, 4);
    assert_string_equal(m->files[0].path, "a-b"); // gone
    assert_false(m->files[0].ok);
    assert_string_equal(m->files[0].found_sha256, "");
    assert_int_equal(m->files[0].found_bytes, 0);
    assert_string_equal(m->files[1].path, "a/b"); // another byte
    assert_false(m->files[1].ok);
    assert_int_equal(m->files[1].found_bytes, 3);
    assert_string_equal(
        m->files[1].found_sha256,
        "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9");
    assert_false(m->files[2].ok); // longer
    assert_int_equal(m->files[2].found_bytes, 4);
    assert_true(m->files[3].ok);
    assert_int_equal(m->n_extra, 2);
    assert_string_equal(m->extra[0], "a/y");
    assert_string_equal(m->extra[1], "x");
    ws_manifest_free(m);
}

static void directory_in_place_of_a_file_is_not_ok(void **state)
{
    (void)state;
    make_dir();
    ws_manifest *m = make("m");
    save(m);
    ws_manifest_free(m);
    assert_int_equal(unlink("m/a-b"), 0);
    assert_int_equal(mkdir("m/a-b", 0777), 0);
    m = read_and_verify("m");
    assert_false(m->valid);
    assert_false(m->files[0].ok);
    assert_true(m->files[1].ok);
    ws_manifest_free(m);
}

static void link_to_the_content_counts_as_the_content(void **state)
{
    (void)state;
    make_dir();
    ws_manifest *m = make("m");
    save(m);
    ws_manifest_free(m);
    assert_int_equal(rename("m/a/b", "blob"), 0);
    assert_int_equal(symlink("../../blob", "m/a/b"), 0);
    m = read_and_verify("m");
    assert_true(m->valid);
    ws_manifest_free(m);
    assert_int_equal(unlink("blob"), 0);
    m = read_and_verify("m");
    assert_false(m->valid);
    ws_manifest_free(m);
}

/* ---- refusals ---- */

#define HEAD "{\"schema\":\"wsurg-manifest/1\",\"content\":null,\"files\":["
#define GOOD "\"bytes\":3,\"sha256\":\"" ABC_SHA "\",\"xxh3\":\"" ABC_XXH "\"}"

static void assert_refused(const char *text, ws_status want, const char *msg)
{
    ws_err err = WS_ERR_INIT;
    ws_manifest *m = NULL;
    spit_text("x.manifest.json", text);
    spit_text("x", "abc");
    assert_int_equal(ws_manifest_read(&m, "x", &err), want);
    assert_null(m);
    assert_string_equal(err.msg, msg);
    assert_string_equal(err.path, "x.manifest.json");
}

static void paths_that_leave_the_directory_are_refused(void **state)
{
    (void)state;
    static const char *const paths[] = { "/etc/passwd", "../x", "a/../../x", "a//b",
                                         ".",           "",     "a/",        "./x" };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char text[512], msg[128];
        snprintf(text, sizeof text, HEAD "{\"path\":\"%s\"," GOOD "]}", paths[i]);
        snprintf(msg, sizeof msg, "manifest lists '%s', which leaves its directory",
                 paths[i]);
        assert_refused(text, WS_E_HEADER, msg);
    }
}

static void malformed_manifests_are_refused(void **state)
{
    (void)state;
    assert_refused("{\"schema\":\"other/1\",\"files\":[]}", WS_E_HEADER,
                   "not a manifest: its schema is not 'wsurg-manifest/1'");
    assert_refused("[]", WS_E_HEADER,
                   "not a manifest: its schema is not 'wsurg-manifest/1'");
    assert_refused(HEAD "]}", WS_E_HEADER, "manifest lists no files");
    assert_refused(HEAD "{\"path\":\"x\"}]}", WS_E_HEADER,
                   "manifest lists a file without path, bytes, sha256 or xxh3");
    assert_refused(HEAD "{\"path\":\"x\",\"bytes\":-1,\"sha256\":\"" ABC_SHA
                        "\",\"xxh3\":\"" ABC_XXH "\"}]}",
                   WS_E_HEADER, "manifest has no valid size and digests for 'x'");
    assert_refused(HEAD
                   "{\"path\":\"x\",\"bytes\":3,\"sha256\":\"00\",\"xxh3\":\"" ABC_XXH
                   "\"}]}",
                   WS_E_HEADER, "manifest has no valid size and digests for 'x'");
    assert_refused(HEAD "{\"path\":\"x\"," GOOD ",{\"path\":\"x\"," GOOD "]}",
                   WS_E_HEADER, "manifest lists a file twice");
    assert_refused(
        "{\"schema\":\"wsurg-manifest/1\",\"content\":\"sha256:00\",\"files\":["
        "{\"path\":\"x\"," GOOD "]}",
        WS_E_HEADER, "manifest's content is no xxh3-128 digest");
}

static void model_without_a_manifest_is_missing_it(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_manifest *m = NULL;
    make_dir();
    assert_int_equal(ws_manifest_read(&m, "m", &err), WS_E_MISSING);
    assert_string_equal(err.msg, "'m' has no manifest");
    assert_string_equal(err.hint, "wsurg manifest makes one");
    assert_int_equal(ws_manifest_read(&m, "m/a/b", &err), WS_E_MISSING);
    assert_int_equal(ws_manifest_read(&m, "nothing", &err), WS_E_IO);
    assert_string_equal(err.msg, "cannot open: No such file or directory");
}

static void manifest_elsewhere_is_read_for_its_model(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    make_dir();
    assert_int_equal(mkdir("else", 0777), 0);
    spit_text("else/m.json", two_files);
    ws_manifest *m = NULL;
    assert_ok(ws_manifest_read_for(&m, "else/m.json", "m", &err), err);
    assert_ok(ws_manifest_verify(m, NULL, &err), err);
    assert_true(m->valid);
    ws_manifest_free(m);
}

static void stop_request_interrupts(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_manifest *m = NULL;
    const atomic_int stop = 2;
    const ws_ctx ctx = { .threads = 2, .stop = &stop };
    make_dir();
    assert_int_equal(ws_manifest_make(&m, "m", &ctx, &err), WS_E_INTERRUPTED);
    assert_null(m);
}

/* ---- from a stage, by one and by two threads for a file ---- */

enum { LARGE = (9 << 20) + 12345 };

struct seen {
    uint64_t at[2];
    unsigned sum[2];
    uint64_t fail_at;
};

static ws_status see(void *arg, int file, uint64_t offset, const void *data, size_t len,
                     ws_err *err)
{
    struct seen *s = arg;
    const uint8_t *p = data;
    assert_int_equal(offset, s->at[file]);
    s->at[file] += len;
    for (size_t i = 0; i < len; i++)
        s->sum[file] = s->sum[file] * 31 + p[i];
    return s->at[file] >= s->fail_at ? ws_fail(err, WS_E_SHAPE, "seen enough") : WS_OK;
}

static ws_stage *stage_two(const uint8_t *data)
{
    static const char key[] = "00000000000000000000000000000000";
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    int id;
    const ws_stage_opts o = { .target = "out", .is_dir = true, .key = key };
    assert_ok(ws_stage_open(&s, &o, NULL, &err), err);
    assert_ok(ws_stage_file(s, "z", 3, &id, &err), err);
    assert_ok(ws_stage_write(s, id, "abc", 3, 0, &err), err);
    assert_ok(ws_stage_file(s, "a", LARGE, &id, &err), err);
    assert_ok(ws_stage_write(s, id, data, LARGE, 0, &err), err);
    return s;
}

static void staged_files_are_seen_in_order_by_any_threads(void **state)
{
    (void)state;
    uint8_t *data = malloc(LARGE);
    unsigned sum = 0;
    for (int i = 0; i < LARGE; i++) {
        data[i] = (uint8_t)(i * 13 + i / 1000);
        sum = sum * 31 + data[i];
    }
    spit("plain", data, LARGE);
    ws_manifest *plain = make("plain");
    ws_stage *s = stage_two(data);
    for (int threads = 1; threads <= 5; threads++) {
        ws_err err = WS_ERR_INIT;
        ws_pool *pool = NULL;
        ws_manifest *m = NULL;
        struct seen seen = { .fail_at = UINT64_MAX };
        assert_ok(ws_pool_new(&pool, threads, &err), err);
        assert_ok(ws_manifest_from_stage(&m, s, pool, NULL, see, &seen, &err), err);
        assert_string_equal(m->path, "out/manifest.json");
        assert_string_equal(m->files[0].path, "a");
        assert_string_equal(m->files[0].sha256, plain->files[0].sha256);
        assert_string_equal(m->files[0].xxh3, plain->files[0].xxh3);
        assert_int_equal(m->files[0].bytes, LARGE);
        assert_string_equal(m->files[1].path, "z");
        assert_string_equal(m->files[1].sha256, ABC_SHA);
        assert_int_equal(seen.at[0], 3);
        assert_int_equal(seen.at[1], LARGE);
        assert_int_equal(seen.sum[1], sum);
        ws_manifest_free(m);
        m = NULL;
        seen = (struct seen){ .fail_at = 3 << 20 };
        assert_int_equal(ws_manifest_from_stage(&m, s, pool, NULL, see, &seen, &err),
                         WS_E_SHAPE);
        assert_string_equal(err.msg, "seen enough");
        assert_null(m);
        ws_pool_free(pool);
    }
    ws_stage_close(s, false);
    ws_manifest_free(plain);
    free(data);
}

/* ---- the final check ---- */

enum { HEADER = 64, ROWS = 3, ROW = 700001 };

/** A file of an empty tensor, three slices of U8, and a scalar. */
struct sample {
    uint64_t shape[3][2];
    ws_tensor t[3];
    const ws_tensor *tensors[3];
    ws_xxh128 digests[3], slices[ROWS];
    uint8_t bytes[HEADER + ROWS * ROW + 4];
};

static struct sample *make_sample(void)
{
    struct sample *x = calloc(1, sizeof *x);
    for (size_t i = 0; i < sizeof x->bytes; i++)
        x->bytes[i] = (uint8_t)(i * 13 + i / 1000);
    memcpy(x->shape, (uint64_t[3][2]){ { 0, 5 }, { ROWS, ROW }, { 0, 0 } },
           sizeof x->shape);
    x->t[0] = (ws_tensor){ .name = "none", .dtype = WS_DT_F32, .rank = 2 };
    x->t[1] = (ws_tensor){ .name = "rows", .dtype = WS_DT_U8, .rank = 2 };
    x->t[1].n_elements = x->t[1].n_bytes = ROWS * ROW;
    x->t[2] = (ws_tensor){ .name = "one", .dtype = WS_DT_F32, .n_elements = 1 };
    x->t[2].n_bytes = 4;
    x->t[2].offset = HEADER + ROWS * ROW;
    x->t[0].offset = x->t[1].offset = HEADER;
    for (int i = 0; i < 3; i++) {
        x->t[i].shape = x->shape[i];
        x->tensors[i] = &x->t[i];
    }
    for (size_t i = 0; i < ROWS; i++)
        x->slices[i] = ws_xxh3(x->bytes + HEADER + i * ROW, ROW);
    const ws_xxh128 one = ws_xxh3(x->bytes + HEADER + ROWS * ROW, 4);
    x->digests[0] = ws_tensor_digest(&x->t[0], NULL, 0);
    x->digests[1] = ws_tensor_digest(&x->t[1], x->slices, ROWS);
    x->digests[2] = ws_tensor_digest(&x->t[2], &one, 1);
    return x;
}

/** Stage the sample, cut to @p n bytes, and check it. */
static ws_status check_sample(const struct sample *x, size_t n, int threads,
                              ws_err *err)
{
    static const char key[] = "00000000000000000000000000000000";
    const ws_stage_opts o = { .target = "out.st", .key = key };
    const ws_stage_expect expect = { x->tensors, x->digests, 3 };
    ws_stage *s = NULL;
    ws_pool *pool = NULL;
    ws_manifest *m = NULL;
    int id;
    assert_ok(ws_pool_new(&pool, threads, err), *err);
    assert_ok(ws_stage_open(&s, &o, NULL, err), *err);
    assert_ok(ws_stage_file(s, "", n, &id, err), *err);
    assert_ok(ws_stage_write(s, id, x->bytes, n, 0, err), *err);
    const ws_status st = ws_stage_check(&m, s, pool, NULL, &expect, 1, err);
    if (st == WS_OK) {
        assert_int_equal(m->n_files, 1);
        assert_string_equal(m->files[0].path, "out.st");
        assert_int_equal(m->files[0].bytes, n);
    }
    ws_manifest_free(m);
    ws_stage_close(s, false);
    ws_pool_free(pool);
    return st;
}

static void final_check_accepts_what_was_written(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    struct sample *x = make_sample();
    for (int threads = 1; threads <= 3; threads++)
        assert_ok(check_sample(x, sizeof x->bytes, threads, &err), err);
    free(x);
}

static void final_check_names_the_tensor_that_differs(void **state)
{
    (void)state;
    struct sample *x = make_sample();
    const size_t at[] = { HEADER, HEADER + ROWS * ROW - 1, HEADER + ROWS * ROW + 3 };
    const char *const names[] = { "rows", "rows", "one" };
    for (int i = 0; i < 3; i++) {
        ws_err err = WS_ERR_INIT;
        x->bytes[at[i]] ^= 1;
        assert_int_equal(check_sample(x, sizeof x->bytes, 2, &err), WS_E_IO);
        assert_string_equal(err.msg, "staged bytes are not those that were written");
        assert_string_equal(err.tensor, names[i]);
        assert_string_equal(err.path, "out.st");
        x->bytes[at[i]] ^= 1;
    }
    ws_err err = WS_ERR_INIT;
    assert_int_equal(check_sample(x, sizeof x->bytes - 1, 1, &err), WS_E_IO);
    assert_string_equal(err.tensor, "one");
    x->digests[0].b[3] ^= 1;
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(check_sample(x, sizeof x->bytes, 1, &err), WS_E_IO);
    assert_string_equal(err.tensor, "none");
    free(x);
}

static void each_failed_allocation_is_reported(void **state)
{
    (void)state;
    make_dir();
    for (long n = 0;; n++) {
        ws_err err = WS_ERR_INIT;
        ws_manifest *m = NULL;
        const ws_ctx ctx = { .threads = 2 };
        const long live = ws_alloc_live();
        ws_alloc_fail_after(n);
        ws_status st = ws_manifest_make(&m, "m", &ctx, &err);
        if (st == WS_OK)
            st = ws_manifest_verify(m, &ctx, &err);
        ws_alloc_fail_after(-1);
        const bool valid = m != NULL && m->valid;
        ws_manifest_free(m);
        assert_int_equal(ws_alloc_live(), live);
        if (st == WS_OK) {
            assert_true(valid);
            break;
        }
        assert_int_equal(st, WS_E_MEMORY);
        assert_true(n < 1000);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(text_is_sorted_by_bytes_and_ends_in_newline),
        T(file_has_its_manifest_beside_it),
        T(whole_directory_is_valid),
        T(changed_missing_and_extra_files_are_found_together),
        T(directory_in_place_of_a_file_is_not_ok),
        T(link_to_the_content_counts_as_the_content),
        T(paths_that_leave_the_directory_are_refused),
        T(malformed_manifests_are_refused),
        T(model_without_a_manifest_is_missing_it),
        T(manifest_elsewhere_is_read_for_its_model),
        T(stop_request_interrupts),
        T(staged_files_are_seen_in_order_by_any_threads),
        T(final_check_accepts_what_was_written),
        T(final_check_names_the_tensor_that_differs),
        T(each_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
