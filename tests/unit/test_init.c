/*
 * test_init.c - new models: which numbers they start from
 */
#include "train/init.h"

#include "model/train_step.h"
#include "ws_test.h"

static ws_model *made(const char *family, uint64_t seed)
{
    char path[512];
    ws_model *m = NULL;
    ws_dtype dtype;
    ws_err err = WS_ERR_INIT;

    snprintf(path, sizeof path, "%s/models/%s", WS_GOLDEN, family);
    assert_ok(ws_init_model(&m, path, seed, &dtype, NULL, &err), err);
    assert_int_equal(dtype, WS_DT_F32);
    return m;
}

/** Mean and deviation of a part. */
static void moments(const ws_model_part *p, double *mean, double *deviation)
{
    const float *x = p->data;
    double sum = 0, squares = 0;

    for (int64_t i = 0; i < p->n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    *mean = sum / (double)p->n;
    *deviation = sqrt(squares / (double)p->n - *mean * *mean);
}

static const ws_model_part *part(const ws_model *m, const char *name)
{
    const int64_t i = ws_model_part_find(m, name);
    assert_true(i >= 0);
    return ws_model_part_at(m, (size_t)i);
}

static void matrices_are_normal_norms_one_and_biases_zero(void **state)
{
    ws_model *m = made("gpt2", 0);
    double mean, deviation, into;
    (void)state;

    moments(part(m, "transformer.wte.weight"), &mean, &deviation);
    assert_true(fabs(mean) < 0.2 * deviation);
    assert_true(deviation > 0.0);
    moments(part(m, "transformer.h.0.mlp.c_proj.weight"), &mean, &into);
    assert_close(into / deviation, 1.0 / sqrt(2.0 * (double)m->d.L), 0.15);
    moments(part(m, "transformer.h.0.ln_1.weight"), &mean, &deviation);
    assert_true(mean == 1.0 && deviation == 0.0);
    moments(part(m, "transformer.h.0.attn.c_attn.bias"), &mean, &deviation);
    assert_true(mean == 0.0 && deviation == 0.0);
    ws_model_free(m);
}

static void the_seed_decides(void **state)
{
    ws_model *a = made("llama", 1), *b = made("llama", 1), *c = made("llama", 2);
    (void)state;

    for (size_t i = 0; i < ws_model_part_count(a); i++) {
        const ws_model_part *p = ws_model_part_at(a, i);
        const size_t n = (size_t)p->n * sizeof(float);
        assert_memory_equal(p->data, ws_model_part_at(b, i)->data, n);
        if (p->rows > 1)
            assert_memory_not_equal(p->data, ws_model_part_at(c, i)->data, n);
    }
    ws_model_free(a);
    ws_model_free(b);
    ws_model_free(c);
}

static void every_family_can_be_started(void **state)
{
    static const char *const families[] = { "llama_bias_tied", "mistral", "qwen2",
                                            "qwen3", "gpt2_scaled" };
    (void)state;

    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        ws_model_free(made(families[i], 3));
    assert_int_equal(ws_alloc_live(), 0);
}

static void a_configuration_of_another_name_is_refused(void **state)
{
    ws_model *m = NULL;
    ws_dtype dtype;
    ws_err err = WS_ERR_INIT;
    (void)state;

    assert_int_equal(ws_init_model(&m, "x/tiny.json", 0, &dtype, NULL, &err),
                     WS_E_UNSUPPORTED);
    assert_string_equal(err.msg, "the configuration must be called config.json");
    assert_string_equal(err.path, "x/tiny.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices_are_normal_norms_one_and_biases_zero),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(every_family_can_be_started),
        cmocka_unit_test(a_configuration_of_another_name_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
