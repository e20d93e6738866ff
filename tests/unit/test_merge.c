/*
 * test_merge.c - what a plan and its run promise, whatever the method
 */
#include "st_fixture.h"
#include "temp_dir.h"

#include "base/json.h"
#include "wsurg/wsurg.h"

enum { ROWS = 1200, COLS = 1000 }; // more than one slice

/** Values that differ from model to model; exact in BF16 and F32. */
static float value(size_t model, size_t i)
{
    const unsigned h = (unsigned)(i * 2654435761u) ^ (unsigned)(i >> 7);
    const float base = (float)((int)(h % 512) - 256) / 64.0f;
    const float update = (float)((int)((h >> 9) % 97) - 48) / 512.0f;
    return base + (model == 0 ? 0.0f : update * (float)model);
}

static float *fill(size_t model, size_t n)
{
    float *x = test_malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = value(model, i);
    return x;
}

/** A model of three blocks and an embedding. */
static void write_model(const char *path, size_t model)
{
    float *x = fill(model, (size_t)ROWS * COLS);
    const st_item items[] = {
        { "embed.weight", WS_DT_F32, 2, { 30, 40 }, x },
        { "layers.0.mlp.0.weight", WS_DT_F32, 2, { 50, 60 }, x + 1200 },
        { "layers.1.mlp.0.weight", WS_DT_F32, 2, { ROWS, COLS }, x },
        { "layers.2.norm.weight", WS_DT_F32, 1, { 77 }, x + 5000 },
        { "layers.2.scale", WS_DT_F32, 0, { 0 }, x + 9000 },
        { "nothing", WS_DT_F32, 2, { 0, 7 }, x },
        { "positions", WS_DT_I64, 1, { 4 }, "0123456789abcdef0123456789abcdef" },
    };
    size_t size;
    uint8_t *image = st_image(items, sizeof items / sizeof *items, NULL, 0, &size);
    spit(path, image, size);
    free(image);
    test_free(x);
}

static int setup(void **state)
{
    if (temp_setup(state) != 0)
        return -1;
    write_model("base.st", 0);
    write_model("one.st", 1);
    write_model("two.st", 2);
    return 0;
}

/** Merge as the command line would; the request's models are given as a NULL-ended
 * list. */
static ws_status merge(ws_merge_req *req, const char *const *models, const ws_ctx *ctx,
                       ws_result **r, ws_diag *errors)
{
    ws_plan *plan = NULL;
    ws_err err = WS_ERR_INIT;
    req->models = models;
    for (req->n_models = 0; models[req->n_models] != NULL; req->n_models++)
        ;
    req->write.provenance = false;
    req->write.manifest = "none";
    req->write.force = true;
    ws_status st = ws_plan_new(&plan, req, ctx, errors);
    if (st != WS_OK)
        return st;
    st = ws_plan_run(plan, ctx, r, &err);
    if (st != WS_OK)
        ws_diag_add(errors, &err);
    ws_plan_free(plan);
    return st;
}

static void merge_ok(ws_merge_req *req, const char *const *models, const ws_ctx *ctx)
{
    ws_diag errors = { 0 };
    ws_result *r = NULL;
    if (merge(req, models, ctx, &r, &errors) != WS_OK)
        fail_msg("%s", errors.items[0].msg);
    ws_result_free(r);
    ws_diag_free(&errors);
}

/** Values of an F32 tensor in a file; test_free. */
static float *read_f32(const char *path, const char *name, size_t *n)
{
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    const ws_tensor *t = ws_ckpt_find(c, name);
    assert_non_null(t);
    assert_int_equal(t->dtype, WS_DT_F32);
    float *x = test_malloc((size_t)t->n_bytes + 1);
    assert_ok(ws_ckpt_read(c, t, 0, (size_t)t->n_bytes, x, &err), err);
    *n = (size_t)t->n_elements;
    ws_ckpt_free(c);
    return x;
}

static void assert_same_tensor(const char *a, const char *b, const char *name)
{
    size_t na, nb;
    float *x = read_f32(a, name, &na), *y = read_f32(b, name, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(x, y, na * sizeof *x);
    test_free(x);
    test_free(y);
}

static void assert_same_file(const char *a, const char *b)
{
    char *x, *y;
    size_t nx, ny;
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_file_read(&x, &nx, a, 1u << 30, &err), err);
    assert_ok(ws_file_read(&y, &ny, b, 1u << 30, &err), err);
    assert_int_equal(nx, ny);
    assert_memory_equal(x, y, nx);
    ws_free(x);
    ws_free(y);
}

static void
every_method_gives_the_same_bytes_at_any_thread_count_and_budget(void **state)
{
    (void)state;
    static const struct {
        int threads;
        uint64_t memory;
    } ways[] = {
        { 1, 64u << 20 }, { 2, 64u << 20 }, { 8, 256u << 20 }, { 3, 4ull << 30 }
    };
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *m = ws_method_at(i);
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            const char *models[] = { "one.st", m->models.max > 1 ? "two.st" : NULL,
                                     NULL };
            ws_merge_req req = WS_MERGE_REQ_INIT;
            const ws_ctx ctx = { .threads = ways[w].threads,
                                 .max_memory = ways[w].memory };
            req.base = m->base == WS_BASE_REQUIRED ? "base.st" : NULL;
            req.method = m->name;
            req.write.out = w == 0 ? "first.st" : "other.st";
            merge_ok(&req, models, &ctx);
            if (w > 0)
                assert_same_file("first.st", "other.st");
        }
    }
}

static void lines_with_alpha_1_beta_0_changes_nothing(void **state)
{
    (void)state;
    static const char *const methods[] = { "task_arithmetic", "ties", "breadcrumbs",
                                           "dare_ties", "model_stock" };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const char *models[] = { "one.st", "two.st", NULL };
        ws_merge_req req = WS_MERGE_REQ_INIT;
        req.base = "base.st";
        req.method = methods[i];
        req.write.out = "plain.st";
        merge_ok(&req, models, NULL);
        req.lines = "1,0";
        req.write.out = "lined.st";
        merge_ok(&req, models, NULL);
        assert_same_file("plain.st", "lined.st");
    }
}

static void
lines_with_alpha_0_beta_1_keeps_the_first_block_and_all_outside(void **state)
{
    (void)state;
    const char *models[] = { "one.st", NULL };
    ws_merge_req req = WS_MERGE_REQ_INIT;
    req.base = "base.st";
    req.method = "task_arithmetic";
    req.lines = "0,1";
    req.write.out = "lined.st";
    merge_ok(&req, models, NULL);
    assert_same_tensor("lined.st", "base.st", "embed.weight");
    assert_same_tensor("lined.st", "base.st", "layers.0.mlp.0.weight");
    assert_same_tensor("lined.st", "one.st", "layers.2.norm.weight");
    size_t n;
    float *b = read_f32("base.st", "layers.1.mlp.0.weight", &n);
    float *o = read_f32("one.st", "layers.1.mlp.0.weight", &n);
    float *l = read_f32("lined.st", "layers.1.mlp.0.weight", &n);
    for (size_t i = 0; i < n; i++)
        assert_bits(l[i], b[i] + 0.5f * (o[i] - b[i]));
    test_free(b);
    test_free(o);
    test_free(l);
}

static void lines_auto_is_one_over_n_for_sums(void **state)
{
    (void)state;
    const char *models[] = { "one.st", "two.st", NULL };
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_diag errors = { 0 };
    ws_result *r = NULL;
    req.base = "base.st";
    req.method = "task_arithmetic";
    req.lines = "auto,auto";
    req.write.out = "lined.st";
    assert_int_equal(merge(&req, models, NULL, &r, &errors), WS_OK);
    assert_close(r->lines_alpha, 0.5, 1e-9);
    assert_close(r->lines_beta, 0.5, 1e-9);
    assert_int_equal(r->lines_outside, 3);
    ws_result_free(r);
    ws_diag_free(&errors);
}

static void figures_of_a_run_are_those_of_the_tensors(void **state)
{
    (void)state;
    const char *models[] = { "one.st", "two.st", NULL };
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_diag errors = { 0 };
    ws_result *r = NULL;
    req.base = "base.st";
    req.method = "breadcrumbs";
    req.write.out = "out.st";
    assert_int_equal(merge(&req, models, NULL, &r, &errors), WS_OK);
    double base = 0.0, d = 0.0;
    static const char *const names[] = { "embed.weight", "layers.0.mlp.0.weight",
                                         "layers.1.mlp.0.weight",
                                         "layers.2.norm.weight", "layers.2.scale" };
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        size_t n;
        float *b = read_f32("base.st", names[k], &n),
              *o = read_f32("one.st", names[k], &n);
        for (size_t i = 0; i < n; i++) {
            base += (double)b[i] * (double)b[i];
            d += ((double)o[i] - (double)b[i]) * ((double)o[i] - (double)b[i]);
        }
        test_free(b);
        test_free(o);
    }
    assert_close(r->models[0].relative_norm, sqrt(d / base), 1e-6);
    assert_close(r->models[1].relative_norm, 2.0 * sqrt(d / base), 1e-6);
    assert_close(r->cosines[1], 1.0, 1e-6);
    assert_true(fabs(r->models[0].kept - 0.15) < 1e-3);
    assert_true(fabs(r->models[0].dropped_large - 0.006) < 1e-3);
    assert_int_equal(r->merged, 6 - 1); // a tensor without elements is as it was
    assert_int_equal(r->copied, 2);
    ws_result_free(r);
    ws_diag_free(&errors);
}

static void tensors_without_elements_never_stall_the_threads(void **state)
{
    (void)state;
    const st_item items[] = { { "a", WS_DT_F32, 1, { 0 }, "" },
                              { "b", WS_DT_F32, 2, { 2, 0 }, "" },
                              { "c", WS_DT_F32, 0, { 0 }, "\0\0\200?" } };
    size_t size;
    uint8_t *image = st_image(items, 3, NULL, 0, &size);
    spit("tiny.st", image, size);
    free(image);
    const char *models[] = { "tiny.st", NULL };
    ws_merge_req req = WS_MERGE_REQ_INIT;
    const ws_ctx ctx = { .threads = 4 };
    req.method = "passthrough";
    req.write.out = "out.st";
    for (int i = 0; i < 50; i++)
        merge_ok(&req, models, &ctx);
    assert_same_tensor("out.st", "tiny.st", "c");
}

static void not_finite_input_names_model_tensor_and_byte(void **state)
{
    (void)state;
    float bad[] = { 1.0f, NAN, 2.0f };
    const st_item items[] = { { "w", WS_DT_F32, 1, { 3 }, bad } };
    size_t size;
    uint8_t *image = st_image(items, 1, NULL, 0, &size);
    spit("bad.st", image, size);
    free(image);
    bad[1] = 0.0f;
    image = st_image(items, 1, NULL, 0, &size);
    spit("good.st", image, size);
    free(image);
    const char *models[] = { "good.st", "bad.st", NULL };
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_diag errors = { 0 };
    ws_result *r = NULL;
    req.method = "linear";
    req.write.out = "out.st";
    assert_int_equal(merge(&req, models, NULL, &r, &errors), WS_E_NOT_FINITE);
    assert_string_equal(errors.items[0].msg, "NaN or infinity in 'bad'");
    assert_string_equal(errors.items[0].path, "bad.st");
    assert_string_equal(errors.items[0].tensor, "w");
    assert_int_equal(errors.items[0].offset, (int64_t)size - 8);
    assert_int_equal(access("out.st", F_OK), -1);
    assert_int_equal(access(".out.st.wsurg", F_OK), -1);
    ws_diag_free(&errors);
}

static void integers_that_differ_are_refused(void **state)
{
    (void)state;
    const st_item a[] = { { "ids", WS_DT_I32, 1, { 2 }, "aaaabbbb" } };
    const st_item b[] = { { "ids", WS_DT_I32, 1, { 2 }, "aaaabbbc" } };
    size_t size;
    uint8_t *image = st_image(a, 1, NULL, 0, &size);
    spit("a.st", image, size);
    free(image);
    image = st_image(b, 1, NULL, 0, &size);
    spit("b.st", image, size);
    free(image);
    const char *models[] = { "a.st", "b.st", NULL };
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_diag errors = { 0 };
    ws_result *r = NULL;
    req.method = "linear";
    req.write.out = "out.st";
    assert_int_equal(merge(&req, models, NULL, &r, &errors), WS_E_DTYPE);
    assert_string_equal(
        errors.items[0].msg,
        "I32 tensor differs from that of 'a': only identical ones pass through");
    assert_string_equal(errors.items[0].path, "b.st");
    assert_int_equal(access("out.st", F_OK), -1);
    ws_diag_free(&errors);
}

static void overflow_is_an_error_or_saturates(void **state)
{
    (void)state;
    const float big[] = { 40000.0f, -1.0f };
    const st_item items[] = { { "w", WS_DT_F32, 1, { 2 }, big } };
    size_t size;
    uint8_t *image = st_image(items, 1, NULL, 0, &size);
    spit("big.st", image, size);
    free(image);
    const char *models[] = { "big.st", NULL };
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_diag errors = { 0 };
    ws_result *r = NULL;
    static const char *const sets[] = { "scale=2" };
    req.method = "passthrough";
    req.sets = sets;
    req.n_sets = 1;
    req.write.out = "out.st";
    req.write.dtype_keep = false;
    req.write.dtype = WS_DT_F16;
    assert_int_equal(merge(&req, models, NULL, &r, &errors), WS_E_NOT_FINITE);
    assert_string_equal(errors.items[0].msg, "result overflows F16 at element 0");
    assert_string_equal(errors.items[0].hint,
                        "--overflow saturate stores the largest F16 instead; --dtype "
                        "chooses a wider one");
    ws_diag_free(&errors);
    req.write.overflow = WS_OVERFLOW_SATURATE;
    assert_int_equal(merge(&req, models, NULL, &r, &errors), WS_OK);
    assert_int_equal(r->overflowed, 1);
    ws_result_free(r);
    ws_diag_free(&errors);
}

static void a_wrong_base_is_noticed(void **state)
{
    (void)state;
    // unrelated updates of a common base, one of them taken for the base
    float *b = fill(0, 4096);
    for (size_t m = 0; m < 3; m++) {
        float *x = test_malloc(4096 * sizeof *x);
        for (size_t i = 0; i < 4096; i++)
            x[i] = b[i] +
                   (m == 0 ? 0.0f
                           : (float)((i * (m == 1 ? 7919 : 104729)) % 101) - 50.0f) /
                       64.0f;
        const st_item items[] = { { "w", WS_DT_F32, 1, { 4096 }, x } };
        size_t size;
        uint8_t *image = st_image(items, 1, NULL, 0, &size);
        spit(m == 0 ? "b.st" : m == 1 ? "x.st" : "y.st", image, size);
        free(image);
        test_free(x);
    }
    test_free(b);
    const char *models[] = { "b.st", "y.st", NULL };
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_diag errors = { 0 }, warnings = { 0 };
    const ws_ctx ctx = { .warnings = &warnings };
    ws_result *r = NULL;
    req.base = "x.st";
    req.method = "task_arithmetic";
    req.write.out = "out.st";
    assert_int_equal(merge(&req, models, &ctx, &r, &errors), WS_OK);
    assert_int_equal(warnings.n, 1);
    assert_string_equal(warnings.items[0].tag, "closer-base");
    assert_non_null(
        strstr(warnings.items[0].msg, "'b' fits better as the base than 'x'"));
    assert_string_equal(warnings.items[0].hint, "--base b.st");
    ws_result_free(r);
    ws_diag_free(&warnings);
    ws_diag_free(&errors);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        CASE(every_method_gives_the_same_bytes_at_any_thread_count_and_budget),
        CASE(lines_with_alpha_1_beta_0_changes_nothing),
        CASE(lines_with_alpha_0_beta_1_keeps_the_first_block_and_all_outside),
        CASE(lines_auto_is_one_over_n_for_sums),
        CASE(figures_of_a_run_are_those_of_the_tensors),
        CASE(tensors_without_elements_never_stall_the_threads),
        CASE(not_finite_input_names_model_tensor_and_byte),
        CASE(integers_that_differ_are_refused),
        CASE(overflow_is_an_error_or_saturates),
        CASE(a_wrong_base_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
