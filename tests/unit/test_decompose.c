/*
 * test_decompose.c - a model into residual and adapter, in every dtype and mode; what
 * an output says of itself
 */
#include "st_fixture.h"
#include "temp_dir.h"

#include <math.h>

#include "wsurg/adapter.h"
#include "wsurg/decompose.h"
#include "wsurg/digest.h"

enum { M = 12, N = 9 };

static const char name[] = "model.layers.0.mlp.up_proj.weight";

/** Entries in -1 .. 1, never twice the same. */
static double entry(int64_t i)
{
    return sin((double)(7 * i + 1) * 0.37 + (double)(i * i % 101));
}

static void model_write(ws_dtype dtype, const double *w)
{
    unsigned char raw[M * N * 8], norm[N * 8];
    double ones[N];
    ws_store_tally tally;
    for (int i = 0; i < N; i++)
        ones[i] = 1.0;
    ws_from_f64(dtype, w, raw, M * N, &tally);
    ws_from_f64(dtype, ones, norm, N, &tally);
    const st_item items[] = { { name, dtype, 2, { M, N }, raw },
                              { "model.norm.weight", dtype, 1, { N }, norm } };
    st_write("model.safetensors", items, 2, NULL, 0);
}

static void content_of(const char *path, char out[48])
{
    ws_err err = WS_ERR_INIT;
    ws_ckpt *c = NULL;
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    assert_ok(ws_ckpt_digest_text(c, NULL, out, &err), err);
    ws_ckpt_free(c);
}

/** Covariances of the model in the current folder: X'X of 20 uneven rows. */
static void cov_write(const char *data)
{
    float packed[N * (N + 1) / 2];
    char text[512], digest[48];
    int at = 0;
    content_of("model.safetensors", digest);
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++) {
            double sum = 0.0;
            for (int k = 0; k < 20; k++)
                sum += entry(1000 + k * N + i) * entry(1000 + k * N + j);
            packed[at++] = (float)(sum * pow(2.0, i % 4 + j % 4));
        }
    snprintf(
        text, sizeof text,
        "{\"schema\":\"wsurg-covariance/1\",\"model\":\"%s\",\"normalise\":\"none\""
        ",\"sampling\":\"qa\",\"seq\":8,\"samples\":4,\"tokens\":20,%s"
        "\"tensors\":{\"%s\":\"cov.%s\"}}",
        digest, data, name, name);
    const ws_meta meta[] = { { "format", "pt" },
                             { "wsurg.covariance", text },
                             { "wsurg.kind", "covariance" } };
    char stored[128];
    snprintf(stored, sizeof stored, "cov.%s", name);
    const st_item item = { stored, WS_DT_F32, 1, { N * (N + 1) / 2 }, packed };
    st_write("cov.safetensors", &item, 1, meta, 3);
}

static ws_decompose_result *run(ws_decompose_method method, bool smallest, int64_t rank,
                                bool keep_base, ws_diag *warnings)
{
    ws_err err = WS_ERR_INIT;
    ws_decompose_result *r = NULL;
    ws_decompose_req req = WS_DECOMPOSE_REQ_INIT;
    const ws_ctx ctx = { .warnings = warnings };
    req.model = "model.safetensors";
    req.method = method;
    req.cov = method == WS_CORDA ? "cov.safetensors" : NULL;
    req.split.rank = rank;
    req.split.smallest = smallest;
    req.keep_base = keep_base;
    req.write.out = "out";
    req.write.force = true;
    assert_ok(ws_decompose(&r, &req, &ctx, &err), err);
    return r;
}

/** W' + B A against W: all in double. */
static void check_sum(ws_dtype dtype, const double *w, double unit, double least)
{
    ws_err err = WS_ERR_INIT;
    ws_ckpt *c = NULL;
    ws_adapter *a = NULL;
    unsigned char raw[M * N * 8];
    double rest[M * N];
    char digest[48];
    assert_ok(ws_ckpt_open(&c, "out/residual", NULL, &err), err);
    const ws_tensor *t = ws_ckpt_find(c, name);
    assert_int_equal(t->dtype, dtype);
    assert_ok(ws_ckpt_read(c, t, 0, (size_t)t->n_bytes, raw, &err), err);
    ws_to_f64(dtype, raw, rest, M * N);
    assert_ok(ws_adapter_open(&a, "out/adapter", NULL, &err), err);
    assert_int_equal(a->n_modules, 1);
    const ws_adapter_module *f = &a->modules[0];
    assert_string_equal(f->path, "model.layers.0.mlp.up_proj");
    assert_true(f->scale == 1.0);
    double *A = calloc((size_t)(f->r * N), sizeof *A);
    double *B = calloc((size_t)(M * f->r), sizeof *B);
    assert_true(A != NULL && B != NULL);
    assert_ok(ws_adapter_read_f64(a, f->a, A, &err), err);
    assert_ok(ws_adapter_read_f64(a, f->b, B, &err), err);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double ba = 0.0;
            for (int64_t k = 0; k < f->r; k++)
                ba += B[i * f->r + k] * A[k * N + j];
            const double want = w[i * N + j];
            assert_true(fabs(rest[i * N + j] + ba - want) <=
                        unit * fabs(want - ba) + least);
        }
    // the adapter knows its residual
    assert_ok(ws_ckpt_digest_text(c, NULL, digest, &err), err);
    assert_string_equal(a->residual, digest);
    assert_string_equal(a->content, digest);
    free(A);
    free(B);
    ws_adapter_free(a);
    ws_ckpt_free(c);
}

static void residual_plus_adapter_is_the_model_within_its_rounding(void **state)
{
    (void)state;
    static const struct {
        ws_dtype dtype;
        double unit, least; // half of a step; of the smallest numbers
    } kinds[] = { { WS_DT_F64, 0x1p-53, 1e-15 }, // sums of products here and there
                  { WS_DT_F32, 0x1p-24, 1e-15 },
                  { WS_DT_F16, 0x1p-11, 0x1p-25 },
                  { WS_DT_BF16, 0x1p-8, 1e-15 } };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        double w[M * N];
        unsigned char raw[M * N * 8];
        ws_store_tally tally;
        for (int i = 0; i < M * N; i++)
            w[i] = entry(i);
        ws_from_f64(kinds[k].dtype, w, raw, M * N, &tally);
        ws_to_f64(kinds[k].dtype, raw, w, M * N); // as the model has them
        model_write(kinds[k].dtype, w);
        cov_write("");
        static const int64_t ranks[] = { 1, 4, N, 100 };
        for (int mode = 0; mode < 3; mode++)
            for (size_t i = 0; i < 4; i++) {
                ws_decompose_result *r = run(mode == 2 ? WS_PISSA : WS_CORDA, mode == 1,
                                             ranks[i], false, NULL);
                assert_int_equal(r->layers[0].rank, ranks[i] < N ? ranks[i] : N);
                assert_true(r->error <= kinds[k].unit * 2.0);
                assert_true(r->layers[0].condition >= 1.0);
                check_sum(kinds[k].dtype, w, kinds[k].unit, kinds[k].least);
                ws_decompose_result_free(r);
            }
    }
}

static void keep_base_is_nothing_at_the_start(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_adapter *a = NULL;
    double w[M * N], A[6 * N], B[M * 6];
    char digest[48];
    for (int i = 0; i < M * N; i++)
        w[i] = entry(i);
    model_write(WS_DT_F32, w);
    ws_decompose_result *r = run(WS_PISSA, false, 3, true, NULL);
    assert_string_equal(r->residual, "");
    ws_decompose_result_free(r);
    assert_int_equal(access("out/residual", F_OK), -1);
    assert_ok(ws_adapter_open(&a, "out/adapter", NULL, &err), err);
    content_of("model.safetensors", digest);
    assert_null(a->residual);
    assert_string_equal(a->content, digest);
    assert_int_equal(a->modules[0].r, 6);
    assert_true(a->modules[0].scale == 1.0);
    assert_ok(ws_adapter_read_f64(a, a->modules[0].a, A, &err), err);
    assert_ok(ws_adapter_read_f64(a, a->modules[0].b, B, &err), err);
    for (int k = 0; k < 3; k++) {
        for (int j = 0; j < N; j++)
            assert_true(A[k * N + j] == -A[(k + 3) * N + j] && A[k * N + j] != 0.0);
        for (int i = 0; i < M; i++)
            assert_true(B[i * 6 + k] == B[i * 6 + k + 3]);
    }
    ws_adapter_free(a);
}

static const ws_err *tagged(const ws_diag *d, const char *tag)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->items[i].tag != NULL && strcmp(d->items[i].tag, tag) == 0)
            return &d->items[i];
    return NULL;
}

static void kpm_says_whose_knowledge_it_preserves(void **state)
{
    (void)state;
    double w[M * N];
    for (int i = 0; i < M * N; i++)
        w[i] = entry(i);
    model_write(WS_DT_F32, w);
    cov_write("\"data\":[\"nq\",\"trivia\"],");
    ws_diag d = { 0 };
    ws_decompose_result_free(run(WS_CORDA, true, 3, false, &d));
    const ws_err *note = tagged(&d, "note");
    assert_non_null(note);
    assert_string_equal(note->msg,
                        "kpm preserves what the model knows of 'nq', 'trivia' (4 "
                        "samples, 20 tokens), in the frozen residual, and of nothing "
                        "else: training moves what those inputs use least");
    ws_diag_free(&d);
    cov_write(""); // of an older file, that has no names
    ws_decompose_result_free(run(WS_CORDA, true, 3, false, &d));
    assert_non_null(strstr(tagged(&d, "note")->msg, "knows of the calibration data ("));
    ws_diag_free(&d);
    ws_decompose_result_free(run(WS_CORDA, false, 3, false, &d));
    assert_null(tagged(&d, "note"));
    ws_diag_free(&d);
}

static void components_nobody_can_tell_apart_are_warned_of(void **state)
{
    (void)state;
    double w[M * N] = { 0 };
    for (int i = 0; i < N; i++)
        w[i * N + i] = i < 4 ? 3.0 : 1.0;
    model_write(WS_DT_F32, w);
    ws_diag d = { 0 };
    ws_decompose_result_free(run(WS_PISSA, false, 2, false, &d));
    const ws_err *e = tagged(&d, "unclear");
    assert_non_null(e);
    assert_string_equal(e->tensor, name);
    ws_diag_free(&d);
    ws_decompose_result_free(run(WS_PISSA, false, 4, false, &d));
    assert_null(tagged(&d, "unclear"));
    ws_diag_free(&d);
}

static void covariances_of_another_model_are_refused(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_decompose_result *r = NULL;
    ws_decompose_req req = WS_DECOMPOSE_REQ_INIT;
    double w[M * N];
    for (int i = 0; i < M * N; i++)
        w[i] = entry(i);
    model_write(WS_DT_F32, w);
    cov_write("");
    w[5] += 0.5;
    model_write(WS_DT_F32, w);
    req.model = "model.safetensors";
    req.cov = "cov.safetensors";
    req.write.out = "out";
    assert_int_equal(ws_decompose(&r, &req, NULL, &err), WS_E_ANCESTRY);
    assert_int_equal(access("out", F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            residual_plus_adapter_is_the_model_within_its_rounding, temp_setup,
            temp_teardown),
        cmocka_unit_test_setup_teardown(keep_base_is_nothing_at_the_start, temp_setup,
                                        temp_teardown),
        cmocka_unit_test_setup_teardown(kpm_says_whose_knowledge_it_preserves,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(components_nobody_can_tell_apart_are_warned_of,
                                        temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(covariances_of_another_model_are_refused,
                                        temp_setup, temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
