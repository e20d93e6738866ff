/*
 * test_plan_cost.c - what a plan says that it will take is what it takes
 */
#include "st_fixture.h"
#include "temp_dir.h"

#include "wsurg/merge.h"

/** A model of n tensors of two elements. */
static void write_tiny_tensors(const char *path, size_t n)
{
    enum { NAME = 40 };
    static const float values[] = { 1.5f, -2.0f };
    char *names = test_malloc(n * NAME);
    st_item *items = test_malloc(n * sizeof *items);
    size_t size;
    for (size_t i = 0; i < n; i++) {
        snprintf(names + i * NAME, NAME, "model.layers.%zu.tiny.weight", i);
        items[i] = (st_item){ names + i * NAME, WS_DT_F32, 1, { 2 }, values };
    }
    uint8_t *image = st_image(items, n, NULL, 0, &size);
    spit(path, image, size);
    free(image);
    test_free(items);
    test_free(names);
}

static void memory_of_many_tiny_tensors_is_as_predicted(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(WS_NO_CLONES)
    skip(); // sanitizers and valgrind add their own to every block
#endif
    write_tiny_tensors("tiny.st", 200000);
    write_tiny_tensors("tuned.st", 200000);
    const char *models[] = { "tuned.st" };
    const uint64_t before = ws_os_memory_now();
    ws_merge_req req = WS_MERGE_REQ_INIT;
    const ws_ctx ctx = { .threads = 2, .max_memory = (uint64_t)1 << 30 };
    ws_diag errors = { 0 };
    ws_plan *plan = NULL;
    ws_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    req.base = "tiny.st";
    req.models = models;
    req.n_models = 1;
    req.method = "ties";
    req.write.out = "out.st";
    assert_int_equal(ws_plan_new(&plan, &req, &ctx, &errors), WS_OK);
    assert_ok(ws_plan_run(plan, &ctx, &r, &err), err);
    const double want = (double)plan->cost.memory;
    const double got = (double)(r->usage.peak_memory - before);
    const double slack = want * 0.1 > 0x1p24 ? want * 0.1 : 0x1p24;
    if (fabs(want - got) > slack)
        fail_msg("predicted %.0f MiB, took %.0f", want / 0x1p20, got / 0x1p20);
    ws_result_free(r);
    ws_plan_free(plan);
    ws_diag_free(&errors);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(memory_of_many_tiny_tensors_is_as_predicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
