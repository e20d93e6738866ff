/*
 * test_adapter_source.c - adapters on a base: numbers by hand, any cut of a read, names
 */
#include "st_fixture.h"
#include "temp_dir.h"

#include "hf/adapter_kernel.h"
#include "wsurg/source.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void rectangles_cover_a_range(void **state)
{
    (void)state;
    ws_rect r[3];
    assert_int_equal(ws_rects_of(5, 3, 3, r), 0);
    assert_int_equal(ws_rects_of(5, 6, 8, r), 1);
    assert_true(r[0].i == 1 && r[0].m == 1 && r[0].j == 1 && r[0].n == 2);
    assert_int_equal(ws_rects_of(5, 3, 17, r), 3);
    assert_true(r[0].i == 0 && r[0].m == 1 && r[0].j == 3 && r[0].n == 2);
    assert_true(r[1].i == 1 && r[1].m == 2 && r[1].j == 0 && r[1].n == 5);
    assert_true(r[2].i == 3 && r[2].m == 1 && r[2].j == 0 && r[2].n == 2);
    assert_int_equal(ws_rects_of(5, 5, 15, r), 1);
    assert_true(r[0].i == 1 && r[0].m == 2);
}

static void product_is_a_sum_in_order(void **state)
{
    (void)state;
    enum { M = 3, N = 71, K = 5 };
    double L[M * K], R[K * N], out[M * N], want[M * N];
    for (size_t i = 0; i < M * K; i++)
        L[i] = sin((double)i);
    for (size_t i = 0; i < K * N; i++)
        R[i] = cos(3.0 * (double)i);
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            double sum = 0;
            for (size_t k = 0; k < K; k++)
                sum += L[i * K + k] * R[k * N + j];
            want[i * N + j] = 1.0 + 0.3 * sum;
            out[i * N + j] = 1.0;
        }
    const ws_rect all = { 0, M, 0, N };
    ws_factors_add(L, R, K, N, 0.3, &all, out);
    assert_memory_equal(out, want, sizeof want);
    const ws_rect part = { 1, 2, 33, 7 };
    double some[14] = { 0 };
    for (size_t i = 0; i < 14; i++)
        some[i] = 1.0;
    ws_factors_add(L, R, K, N, 0.3, &part, some);
    assert_memory_equal(some, want + N + 33, 7 * sizeof *some);
    assert_memory_equal(some + 7, want + 2 * N + 33, 7 * sizeof *some);
}

/* ---- on a base ---- */

static const float W[6] = { 1, 2, 3, 4, 5, 6 }; // (2, 3)
static const float A[3] = { 1, 0, -1 };         // (1, 3)
static const float B[2] = { 2, 4 };             // (2, 1)
static const float bias[2] = { 10, 20 };
#define P "base_model.model."

static void adapter_put(const char *dir, const char *config, const st_item *items,
                        size_t n)
{
    char path[64];
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    spit_text(path, config);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    st_write(path, items, n, NULL, 0);
}

/** base.st + @p spec's adapters; the tensor's numbers. */
static void numbers(const char *model, const char *name, ws_fold_dtype dtype,
                    double *out)
{
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    double raw[64];
    assert_ok(ws_source_open(&c, model, dtype, NULL, &err), err);
    const ws_tensor *t = ws_ckpt_find(c, name);
    assert_non_null(t);
    assert_ok(ws_ckpt_read(c, t, 0, (size_t)t->n_bytes, raw, &err), err);
    ws_to_f64(t->dtype, raw, out, (size_t)t->n_elements);
    ws_ckpt_free(c);
}

static void assert_numbers(const char *model, const char *name, const double *want,
                           size_t n)
{
    double got[64];
    numbers(model, name, WS_FOLD_F64, got);
    for (size_t i = 0; i < n; i++)
        assert_close(got[i], want[i], 1e-15);
}

static void base_put(void)
{
    static const st_item items[] = {
        { "model.layers.0.q_proj.weight", WS_DT_F32, 2, { 2, 3 }, W },
        { "model.layers.0.q_proj.bias", WS_DT_F32, 1, { 2 }, bias },
        { "model.embed_tokens.weight", WS_DT_F32, 2, { 2, 3 }, W },
    };
    st_write("base.st", items, COUNT(items), NULL, 0);
}

#define Q P "model.layers.0.q_proj"

static const st_item plain[] = {
    { Q ".lora_A.weight", WS_DT_F32, 2, { 1, 3 }, A },
    { Q ".lora_B.weight", WS_DT_F32, 2, { 2, 1 }, B },
    { Q ".lora_B.bias", WS_DT_F32, 1, { 2 }, B },
};

static void update_is_added(void **state)
{
    (void)state;
    static const double once[] = { 2, 2, 2, 6, 5, 4 }, twice[] = { 3, 2, 1, 8, 5, 2 };
    static const double biases[] = { 11, 22 };
    base_put();
    adapter_put("a",
                "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":0.5,"
                "\"lora_bias\":true}",
                plain, 3);
    assert_numbers("base.st+a", "model.layers.0.q_proj.weight", once, 6);
    assert_numbers("base.st+a", "model.layers.0.q_proj.bias", biases, 2);
    assert_numbers("base.st+a+a", "model.layers.0.q_proj.weight", twice, 6);
}

static void dora_sets_the_norms_of_rows(void **state)
{
    (void)state;
    static const float m[] = { 3, 10 };
    const st_item items[] = { plain[0],
                              plain[1],
                              { Q ".lora_magnitude_vector", WS_DT_F32, 1, { 2 }, m } };
    base_put();
    adapter_put("a",
                "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":0.5,"
                "\"use_dora\":true}",
                items, 3);
    // V = (2,2,2), (6,5,4): norms sqrt(12), sqrt(77)
    const double f = 3 / sqrt(12.0), g = 10 / sqrt(77.0);
    const double want[] = { 2 * f, 2 * f, 2 * f, 6 * g, 5 * g, 4 * g };
    assert_numbers("base.st+a", "model.layers.0.q_proj.weight", want, 6);
}

static void a_tied_pair_comes_apart(void **state)
{
    (void)state;
    static const st_item items[] = {
        { P "model.embed_tokens.lora_embedding_A", WS_DT_F32, 2, { 1, 2 }, B },
        { P "model.embed_tokens.lora_embedding_B", WS_DT_F32, 2, { 3, 1 }, A },
    };
    static const double embedding[] = { 3, 2, 1, 8, 5, 2 };
    static const double head[] = { 1, 2, 3, 4, 5, 6 };
    base_put();
    adapter_put("a", "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":1}", items, 2);
    assert_numbers("base.st+a", "model.embed_tokens.weight", embedding, 6);
    assert_numbers("base.st+a", "lm_head.weight", head, 6);
}

static void any_cut_of_a_read_gives_the_same_bytes(void **state)
{
    (void)state;
    enum { ROWS = 7, COLS = 11 };
    float w[ROWS * COLS], a[3 * COLS], b[ROWS * 3];
    for (size_t i = 0; i < COUNT(w); i++)
        w[i] = sinf((float)i);
    for (size_t i = 0; i < COUNT(a); i++)
        a[i] = cosf((float)i);
    for (size_t i = 0; i < COUNT(b); i++)
        b[i] = sinf(0.3f * (float)i);
    const st_item base[] = { { "q.weight", WS_DT_F32, 2, { ROWS, COLS }, w } };
    const st_item items[] = { { P "q.lora_A.weight", WS_DT_F32, 2, { 3, COLS }, a },
                              { P "q.lora_B.weight", WS_DT_F32, 2, { ROWS, 3 }, b } };
    st_write("base.st", base, 1, NULL, 0);
    adapter_put("a", "{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":2}", items, 2);
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    uint8_t whole[sizeof w], part[sizeof w];
    assert_ok(ws_source_open(&c, "base.st+a", WS_FOLD_BASE, NULL, &err), err);
    const ws_tensor *t = ws_ckpt_find(c, "q.weight");
    assert_int_equal(t->dtype, WS_DT_F32);
    assert_ok(ws_ckpt_read(c, t, 0, sizeof whole, whole, &err), err);
    for (size_t from = 0; from < sizeof w; from += 3)
        for (size_t n = 1; n <= sizeof w - from; n += 29) {
            assert_ok(ws_ckpt_read(c, t, from, n, part, &err), err);
            assert_memory_equal(part, whole + from, n);
        }
    ws_ckpt_free(c);
}

static void figures_are_of_whole_tensors(void **state)
{
    (void)state;
    ws_ckpt *base = NULL, *c = NULL;
    ws_adapter *a = NULL;
    ws_fold_opts o = WS_FOLD_OPTS_INIT;
    ws_err err = WS_ERR_INIT;
    double raw[8];
    base_put();
    adapter_put("a",
                "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":0.5,"
                "\"lora_bias\":true}",
                plain, COUNT(plain));
    o.measure = true;
    o.dtype = WS_FOLD_F64;
    assert_ok(ws_ckpt_open(&base, "base.st", NULL, &err), err);
    assert_ok(ws_adapter_open(&a, "a", NULL, &err), err);
    assert_ok(ws_adapter_source(&c, base, &a, 1, &o, NULL, &err), err);
    const ws_tensor *t = ws_ckpt_find(c, "model.layers.0.q_proj.weight");
    assert_ok(ws_ckpt_read(c, t, 0, 24, raw, &err), err);
    assert_true(isnan(ws_source_figures_of(c, t).update)); // half of it
    assert_ok(ws_ckpt_read(c, t, 24, 24, raw, &err), err);
    // 0.5 [2, 4]' [1, 0, -1]
    assert_close(ws_source_figures_of(c, t).update, sqrt(10.0), 1e-15);
    assert_true(ws_source_figures_of(c, t).lost == 0);
    ws_ckpt_free(c);
}

static void prefixes_of_models_are_found(void **state)
{
    (void)state;
    static const st_item items[] = {
        { "h.0.attn.c_attn.weight", WS_DT_F32, 2, { 2, 3 }, W },
        { "model.norm.weight", WS_DT_F32, 2, { 2, 3 }, W },
    };
    ws_ckpt *c;
    bool known = true;
    uint8_t *image;
    c = st_open(items, 2, &image);
    assert_non_null(ws_module_tensor(c, "transformer.h.0.attn.c_attn", ".weight"));
    assert_non_null(ws_module_tensor(c, "norm", ".weight"));
    assert_null(ws_module_tensor(c, "transformer.norm", ".weight"));
    assert_false(ws_module_is_conv1d(c, "model.layers.0.q_proj", &known));
    assert_true(known);
    ws_module_is_conv1d(c, "transformer.h.0.mlp.c_fc", &known);
    assert_false(known);
    ws_ckpt_free(c);
    free(image);
}

static void memory_that_fails_leaks_nothing(void **state)
{
    (void)state;
    base_put();
    adapter_put("a",
                "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":0.5,"
                "\"lora_bias\":true}",
                plain, 3);
    for (long n = 0;; n++) {
        ws_ckpt *c = NULL;
        ws_err err = WS_ERR_INIT;
        uint8_t raw[64];
        const long live = ws_alloc_live();
        ws_alloc_fail_after(n);
        ws_status st = ws_source_open(&c, "base.st+a", WS_FOLD_F64, NULL, &err);
        if (st == WS_OK)
            st = ws_ckpt_read(c, ws_ckpt_find(c, "model.layers.0.q_proj.weight"), 0, 48,
                              raw, &err);
        ws_alloc_fail_after(-1);
        ws_ckpt_free(c);
        assert_int_equal(ws_alloc_live(), live);
        if (st == WS_OK)
            break;
        assert_int_equal(st, WS_E_MEMORY);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rectangles_cover_a_range),
        cmocka_unit_test(product_is_a_sum_in_order),
        T(update_is_added),
        T(dora_sets_the_norms_of_rows),
        T(a_tied_pair_comes_apart),
        T(any_cut_of_a_read_gives_the_same_bytes),
        T(figures_are_of_whole_tensors),
        T(prefixes_of_models_are_found),
        T(memory_that_fails_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
