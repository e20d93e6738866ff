/*
 * test_model_logits.c - small models of every family against what transformers said
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wsurg/alloc.h"
#include "wsurg/eval.h"
#include "wsurg/generate.h"
#include "wsurg/model.h"

enum { T = 13, V = 29 };

static const char *const families[] = {
    "llama",        "llama_bias_tied", "llama_linear", "llama_dynamic",
    "llama_llama3", "llama_yarn",      "mistral",      "qwen2",
    "qwen2_window", "qwen3",           "gpt2",         "gpt2_scaled",
};

static void path_of(char out[512], const char *family, const char *end)
{
    snprintf(out, 512, "%s/models/%s%s", WS_GOLDEN, family, end);
}

/** Ids and logits as transformers gave them. */
static void expected(const char *family, int32_t ids[T], float logits[T * V])
{
    char path[512];
    ws_ckpt *c = NULL;
    int64_t wide[T];

    path_of(path, family, "/expect.safetensors");
    assert_int_equal(ws_ckpt_open(&c, path, NULL, NULL), WS_OK);
    assert_int_equal(
        ws_ckpt_read(c, ws_ckpt_find(c, "ids"), 0, sizeof wide, wide, NULL), WS_OK);
    assert_int_equal(ws_ckpt_read(c, ws_ckpt_find(c, "logits"), 0,
                                  T * V * sizeof *logits, logits, NULL),
                     WS_OK);
    for (int i = 0; i < T; i++)
        ids[i] = (int32_t)wide[i];
    ws_ckpt_free(c);
}

static ws_model *opened(const char *family)
{
    char path[512];
    ws_model *m = NULL;
    ws_err err = WS_ERR_INIT;

    path_of(path, family, "");
    if (ws_model_open(&m, path, NULL, NULL, &err) != WS_OK)
        fail_msg("%s: %s", family, err.msg);
    return m;
}

static void logits_equal_those_of_transformers(void **state)
{
    static float want[T * V], got[T * V];
    int32_t ids[T];
    (void)state;

    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        ws_model *m = opened(families[f]);
        expected(families[f], ids, want);
        assert_int_equal(ws_model_logits(m, ids, T, got, NULL, NULL), WS_OK);
        for (int i = 0; i < T * V; i++)
            if (!(fabsf(got[i] - want[i]) <= 1e-4f))
                fail_msg("%s: logit %d is %g, wanted %g", families[f], i,
                         (double)got[i], (double)want[i]);
        ws_model_free(m);
    }
    assert_int_equal(ws_alloc_live(), 0);
}

static void threads_do_not_change_bytes(void **state)
{
    static float one[T * V], three[T * V];
    int32_t ids[T];
    ws_ctx ctx = WS_CTX_INIT;
    (void)state;

    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        ws_model *m = opened(families[f]);
        expected(families[f], ids, one);
        ctx.threads = 1;
        assert_int_equal(ws_model_logits(m, ids, T, one, &ctx, NULL), WS_OK);
        ctx.threads = 3;
        assert_int_equal(ws_model_logits(m, ids, T, three, &ctx, NULL), WS_OK);
        assert_memory_equal(one, three, sizeof one);
        ws_model_free(m);
    }
}

struct heard {
    int32_t id[T];
    int n;
};

static bool hear(void *arg, int32_t id)
{
    struct heard *h = arg;
    h->id[h->n++] = id;
    return true;
}

/** Greedy tokens by whole forward passes. */
static int greedy(const ws_model *m, int32_t *ids, int from, int to)
{
    static float z[T * V];
    for (int n = from; n < to; n++) {
        assert_int_equal(ws_model_logits(m, ids, n, z, NULL, NULL), WS_OK);
        const float *last = z + (n - 1) * V;
        ids[n] = 0;
        for (int i = 1; i < V; i++)
            if (last[i] > last[ids[n]])
                ids[n] = i;
        for (int e = 0; e < ws_model_info_of(m)->n_eos; e++)
            if (ids[n] == ws_model_info_of(m)->eos[e])
                return n;
    }
    return to;
}

static void cached_generation_equals_whole_passes(void **state)
{
    static float logits[T * V];
    int32_t ids[T];
    (void)state;

    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        // what dynamic scaling turns by follows from the length of the whole run
        if (strcmp(families[f], "llama_dynamic") == 0)
            continue;
        ws_model *m = opened(families[f]);
        struct heard h = { .n = 0 };
        ws_generate_opts o = WS_GENERATE_OPTS_INIT;
        ws_generate_result r;
        expected(families[f], ids, logits);
        o.max_tokens = T - 4;
        assert_int_equal(ws_generate(m, ids, 4, &o, hear, &h, &r, NULL, NULL), WS_OK);
        const int end = greedy(m, ids, 4, T);
        assert_int_equal(h.n, end - 4);
        assert_memory_equal(h.id, ids + 4, (size_t)h.n * sizeof h.id[0]);
        ws_model_free(m);
    }
}

static void a_seed_gives_its_tokens_at_any_number_of_threads(void **state)
{
    const int32_t prompt[] = { 1, 5, 7 };
    ws_model *m = opened("llama");
    struct heard a = { .n = 0 }, b = { .n = 0 };
    ws_generate_opts o = WS_GENERATE_OPTS_INIT;
    ws_generate_result r;
    ws_ctx ctx = WS_CTX_INIT;
    (void)state;

    o.max_tokens = T;
    o.temperature = 1.5;
    o.top_k = 20;
    o.top_p = 0.95;
    o.seed = 3;
    ctx.threads = 1;
    assert_int_equal(ws_generate(m, prompt, 3, &o, hear, &a, &r, &ctx, NULL), WS_OK);
    ctx.threads = 2;
    assert_int_equal(ws_generate(m, prompt, 3, &o, hear, &b, &r, &ctx, NULL), WS_OK);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(&a, &b, sizeof a.id[0] * (size_t)a.n);
    ws_model_free(m);
}

static void loss_is_that_of_the_logits(void **state)
{
    static float z[T * V];
    int32_t ids[T];
    ws_eval_score s;
    const ws_eval_opts o = { .window = T, .bos = -1 };
    ws_model *m = opened("qwen3");
    double sum = 0;
    (void)state;

    expected("qwen3", ids, z);
    for (int i = 0; i + 1 < T; i++) {
        double all = 0;
        for (int c = 0; c < V; c++)
            all += exp((double)z[i * V + c]);
        sum += log(all) - (double)z[i * V + ids[i + 1]];
    }
    const ws_eval_text text = { .name = "t", .tokens = ids, .n = T };
    assert_int_equal(ws_eval_run(m, m, &text, 1, &o, &s, NULL, NULL), WS_OK);
    assert_int_equal(s.tokens, T - 1);
    assert_int_equal(s.windows, 1);
    assert_true(fabs(s.loss - sum / (T - 1)) < 1e-5);
    assert_true(fabs(s.kl) < 1e-6);
    assert_true(s.agreement == 1.0);
    assert_true(isnan(s.loss_se));
    ws_eval_score_free(&s);
    ws_model_free(m);
}

static void overlapping_windows_score_each_token_once(void **state)
{
    static float z[T * V];
    int32_t ids[T];
    ws_eval_score s;
    const ws_eval_opts o = { .window = 5, .stride = 2, .bos = -1 };
    ws_model *m = opened("llama");
    (void)state;

    expected("llama", ids, z);
    const ws_eval_text text = { .name = "t", .tokens = ids, .n = T };
    assert_int_equal(ws_eval_run(m, NULL, &text, 1, &o, &s, NULL, NULL), WS_OK);
    assert_int_equal(s.windows, 5);
    assert_int_equal(s.tokens, T - 1);
    ws_eval_score_free(&s);
    ws_model_free(m);
}

static void too_little_memory_is_refused_before_the_start(void **state)
{
    char path[512];
    ws_model *m = NULL;
    ws_err err = WS_ERR_INIT;
    ws_ctx ctx = WS_CTX_INIT;
    (void)state;

    ctx.max_memory = 10000;
    path_of(path, "llama", "");
    assert_int_equal(ws_model_open(&m, path, NULL, &ctx, &err), WS_E_MEMORY);
    assert_string_equal(err.msg, "the weights take 17.9 kB, the limit is 10.0 kB");
    assert_null(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_those_of_transformers),
        cmocka_unit_test(threads_do_not_change_bytes),
        cmocka_unit_test(cached_generation_equals_whole_passes),
        cmocka_unit_test(a_seed_gives_its_tokens_at_any_number_of_threads),
        cmocka_unit_test(loss_is_that_of_the_logits),
        cmocka_unit_test(overlapping_windows_score_each_token_once),
        cmocka_unit_test(too_little_memory_is_refused_before_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
