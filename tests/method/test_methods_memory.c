/*
 * test_methods_memory.c - each allocation of a whole merge failing in turn, by every
 * method: exit 4, nothing leaked, nothing left beside the inputs
 */
#include <dirent.h>

#include "st_fixture.h"
#include "temp_dir.h"

#include "wsurg/alloc.h"
#include "wsurg/merge.h"

enum { ROWS = 6, COLS = 8, N = ROWS * COLS };

/** A model of two blocks, with a tensor that only passes through. */
static uint8_t *model_image(size_t model, size_t *size)
{
    static float x[N], y[N];
    static uint16_t h[N];
    for (size_t i = 0; i < N; i++) {
        const int step = (int)(i * 37 % 23) - 11;
        x[i] = (float)step / 16.0f + (float)(model * (i % 5)) / 256.0f;
        y[i] = x[i] * 0.5f + (float)model / 64.0f;
        h[i] = (uint16_t)(0x3f80 + ((i + model) & 7));
    }
    const st_item items[] = {
        { "model.layers.0.up.weight", WS_DT_F32, 2, { ROWS, COLS }, x },
        { "model.layers.1.up.weight", WS_DT_F32, 2, { ROWS, COLS }, y },
        { "model.norm.weight", WS_DT_BF16, 1, { COLS }, h },
        { "positions", WS_DT_I64, 1, { 2 }, "0123456789abcdef" },
    };
    return st_image(items, sizeof items / sizeof *items, NULL, 0, size);
}

static void write_model(const char *path, size_t model)
{
    size_t size;
    uint8_t *image = model_image(model, &size);
    spit(path, image, size);
    free(image);
}

/** The same in a directory of two shards with an index. */
static void write_dir(const char *dir, size_t model)
{
    static float x[N];
    char path[64];
    for (size_t i = 0; i < N; i++)
        x[i] = (float)((int)(i * 31 % 17) - 8) / 8.0f + (float)(model * i) / 1024.0f;
    const st_item a = { "model.layers.0.w", WS_DT_F32, 2, { ROWS, COLS }, x };
    const st_item b = { "model.layers.1.w", WS_DT_F32, 2, { COLS, ROWS }, x };
    const st_item *const items[] = { &a, &b };
    assert_int_equal(mkdir(dir, 0777), 0);
    for (size_t i = 0; i < 2; i++) {
        size_t size;
        uint8_t *image = st_image(items[i], 1, NULL, 0, &size);
        snprintf(path, sizeof path, "%s/model-0000%zu-of-00002.safetensors", dir,
                 i + 1);
        spit(path, image, size);
        free(image);
    }
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    spit_text(path, "{\"metadata\":{\"total_size\":384},\"weight_map\":{"
                    "\"model.layers.0.w\":\"model-00001-of-00002.safetensors\","
                    "\"model.layers.1.w\":\"model-00002-of-00002.safetensors\"}}");
    snprintf(path, sizeof path, "%s/config.json", dir);
    spit_text(path, "{\"torch_dtype\": \"float32\"}");
}

static size_t entries(void)
{
    size_t n = 0;
    DIR *d = opendir(".");
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/** Plan and run once. */
static ws_status merge(const ws_merge_req *req, ws_ctx *ctx)
{
    ws_diag errors = { 0 }, warnings = { 0 };
    ws_plan *plan = NULL;
    ws_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    ctx->warnings = &warnings;
    ws_status st = ws_plan_new(&plan, req, ctx, &errors);
    if (st == WS_OK) {
        st = ws_plan_run(plan, ctx, &r, &err);
        assert_int_equal(st, err.code);
    } else {
        // the report itself may be what there was no memory for
        assert_true(errors.lost || errors.n > 0);
    }
    ws_result_free(r);
    ws_plan_free(plan);
    ws_diag_free(&errors);
    ws_diag_free(&warnings);
    return st;
}

/** Fail allocation after allocation until a merge needs no more of them. */
static void fail_each(const ws_merge_req *req)
{
    ws_ctx ctx = WS_CTX_INIT;
    ctx.threads = 1;
    const size_t before = entries();
    long failures = 0;
    bool failed = true;
    for (long n = 0; failed; n++) {
        const long live = ws_alloc_live();
        ws_alloc_fail_after(n);
        const ws_status st = merge(req, &ctx);
        failed = ws_alloc_failed();
        ws_alloc_fail_after(-1);
        if (ws_alloc_live() != live)
            fail_msg("%s: allocation %ld leaks", req->method, n);
        if (st == WS_OK) { // only a warning was lost, or nothing
            assert_true(there(req->write.out));
            assert_int_equal(ws_os_remove_tree(req->write.out, NULL), WS_OK);
            unlink("m.safetensors.manifest.json");
        } else if (st != WS_E_MEMORY) {
            fail_msg("%s: allocation %ld: status %d", req->method, n, (int)st);
        }
        if (entries() != before)
            fail_msg("%s: allocation %ld leaves something, status %d", req->method, n,
                     (int)st);
        failures += st != WS_OK;
    }
    assert_true(failures > 100);
    assert_int_equal(ws_status_exit(WS_E_MEMORY), 4);
}

static void merges_of_files(void **state)
{
    (void)state;
    static const char *const models[] = { "base.st", "one.st", "two.st" };
    for (size_t m = 0; m < 3; m++)
        write_model(models[m], m);
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *method = ws_method_at(i);
        ws_merge_req req = WS_MERGE_REQ_INIT;
        const size_t most = method->models.max;
        req.base = method->base == WS_BASE_NONE ? NULL : models[0];
        req.models = models + 1;
        req.n_models = most < 2 ? most : 2;
        req.method = method->name;
        req.write.out = "m.safetensors";
        fail_each(&req);
    }
}

static void merges_of_directories_with_lines(void **state)
{
    (void)state;
    static const char *const models[] = { "one", "two" };
    write_dir("base", 0);
    write_dir("one", 1);
    write_dir("two", 2);
    ws_merge_req req = WS_MERGE_REQ_INIT;
    req.base = "base";
    req.models = models;
    req.n_models = 2;
    req.method = "ties";
    req.lines = "auto,auto";
    req.write.out = "m";
    fail_each(&req);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(merges_of_files),
        TEST(merges_of_directories_with_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
