/*
 * test_train_golden.c - gradients in float32 against those of transformers
 *
 * tests/golden/models/NAME/gradients.safetensors, by make_gradients.py: the mean
 * cross-entropy of the ids in expect.safetensors, differentiated.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/train_step.h"
#include "wsurg/ckpt.h"

enum { PARTS = 64, MOST_IDS = 64 };

static ws_ckpt *file_open(const char *family, const char *name)
{
    char path[512];
    ws_err err = WS_ERR_INIT;
    ws_ckpt *c = NULL;

    snprintf(path, sizeof path, "%s/models/%s/%s", WS_GOLDEN, family, name);
    if (ws_ckpt_open(&c, path, NULL, &err) != WS_OK)
        fail_msg("%s: %s", path, err.msg);
    return c;
}

static void read_whole(const ws_ckpt *c, const char *name, void *to, uint64_t bytes)
{
    const ws_tensor *t = ws_ckpt_find(c, name);

    if (t == NULL)
        fail_msg("no '%s'", name);
    assert_int_equal(t->n_bytes, bytes);
    assert_int_equal(ws_ckpt_read(c, t, 0, t->n_bytes, to, NULL), WS_OK);
}

/** Ids, and beside each the one that follows it. */
static int64_t ids_read(const char *family, int32_t *ids, int32_t *next)
{
    ws_ckpt *c = file_open(family, "expect.safetensors");
    const ws_tensor *t = ws_ckpt_find(c, "ids");
    int64_t wide[MOST_IDS];

    assert_non_null(t);
    const int64_t n = (int64_t)t->n_elements;
    assert_in_range(n, 2, MOST_IDS);
    read_whole(c, "ids", wide, (uint64_t)n * sizeof *wide);
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (int32_t)wide[i];
        next[i] = i + 1 < n ? (int32_t)wide[i + 1] : -100;
    }
    ws_ckpt_free(c);
    return n;
}

/** 1e-3 of each number, and 1e-5 of the largest for those that cancel. */
static void compare(const char *family, const ws_model_part *p, const float *got,
                    const ws_ckpt *c)
{
    float *want = ws_calloc((size_t)p->n, sizeof *want);
    double most = 0.0;

    assert_non_null(want);
    read_whole(c, p->name, want, (uint64_t)p->n * sizeof *want);
    for (int64_t i = 0; i < p->n; i++)
        most = fmax(most, fabs((double)want[i]));
    assert_true(most > 0.0);
    for (int64_t i = 0; i < p->n; i++) {
        const double w = (double)want[i], g = (double)got[i];
        if (!(fabs(g - w) <= 1e-3 * fabs(w) + 1e-5 * most))
            fail_msg("%s %s [%lld]: %.8g, transformers has %.8g", family, p->name,
                     (long long)i, g, w);
    }
    ws_free(want);
}

static void family_check(const char *family)
{
    char path[512];
    int32_t ids[MOST_IDS], next[MOST_IDS];
    const int64_t n = ids_read(family, ids, next);
    const ws_step_batch batch = { .rows = n, .tokens = ids, .targets = next };
    const ws_step_opts o = { .rows = n };
    const ws_ctx ctx = { .threads = 2 };
    ws_want want[PARTS] = { 0 };
    ws_model *m = NULL;
    ws_step *s = NULL;
    ws_step_result r;
    ws_err err = WS_ERR_INIT;
    float *value, loss;

    snprintf(path, sizeof path, "%s/models/%s", WS_GOLDEN, family);
    if (ws_model_open(&m, path, NULL, NULL, &err) != WS_OK)
        fail_msg("%s: %s", family, err.msg);
    const size_t parts = ws_model_part_count(m);
    assert_in_range(parts, 1, PARTS);
    for (size_t i = 0; i < parts; i++) {
        assert_int_equal(ws_model_master(m, i, &value, NULL), WS_OK);
        want[i].grad = ws_calloc((size_t)ws_model_part_at(m, i)->n, sizeof(float));
        assert_non_null(want[i].grad);
    }
    if (ws_step_new(&s, m, want, &o, NULL, &ctx, &err) != WS_OK)
        fail_msg("%s: %s", family, err.msg);
    assert_int_equal(ws_step_run(s, &batch, 1.0 / (double)(n - 1), NULL, &r, NULL),
                     WS_OK);
    ws_ckpt *c = file_open(family, "gradients.safetensors");
    read_whole(c, "loss", &loss, sizeof loss);
    assert_true(fabs(r.loss / (double)(n - 1) - (double)loss) < 1e-5);
    assert_int_equal(ws_ckpt_count(c), parts + 1);
    for (size_t i = 0; i < parts; i++)
        compare(family, ws_model_part_at(m, i), want[i].grad, c);
    ws_ckpt_free(c);
    ws_step_free(s);
    for (size_t i = 0; i < parts; i++)
        ws_free(want[i].grad);
    ws_model_free(m);
    assert_int_equal(ws_alloc_live(), 0);
}

static void llama_tied_with_biases_and_grouped_heads(void **state)
{
    (void)state;
    family_check("llama_bias_tied");
}

static void qwen3_with_norms_of_queries(void **state)
{
    (void)state;
    family_check("qwen3");
}

static void gpt2_with_fused_transposed_linears(void **state)
{
    (void)state;
    family_check("gpt2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_tied_with_biases_and_grouped_heads),
        cmocka_unit_test(qwen3_with_norms_of_queries),
        cmocka_unit_test(gpt2_with_fused_transposed_linears),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
