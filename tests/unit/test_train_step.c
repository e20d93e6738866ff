/*
 * test_train_step.c - a whole model's gradients against central differences, in double
 *
 * The models are those that transformers saved (tests/golden), two documents packed in
 * one batch, some targets ignored.
 */
#define WS_MODEL_F64

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/train_step.h"

enum { T = 13, V = 29, PARTS = 64, RANK = 3 };

static const char *const families[] = {
    "llama", "llama_bias_tied", "llama_dynamic", "llama_yarn", "mistral",
    "qwen2", "qwen2_window",    "qwen3",         "gpt2",       "gpt2_scaled",
};

static const int32_t tokens[T] = { 3, 7, 7, 28, 0, 11, 4, 9, 3, 3, 17, 20, 5 };
static const int32_t targets[T] = { 7, 7, 28, -100, -100, 4, 9, 3, -100, 17, 20, 5, 1 };
static const float weights[T] = { 1, 1, 0.5f, 9, 9, 1, 1, 2, 9, 1, 1, 1, 1 };
static const int64_t starts[2] = { 0, 5 };
static const ws_step_batch batch = { .rows = T,
                                     .tokens = tokens,
                                     .targets = targets,
                                     .weights = weights,
                                     .start = starts,
                                     .docs = 2 };

static void fill(double *x, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((double)(seed >> 8) / 8388608.0 - 1.0) * 0.3;
    }
}

struct fixture {
    ws_model *m;
    size_t n;
    double *value[PARTS], *grad[PARTS];
    ws_want want[PARTS];
};

static void open_family(struct fixture *f, const char *family)
{
    char path[512];
    ws_err err = WS_ERR_INIT;

    *f = (struct fixture){ 0 };
    snprintf(path, sizeof path, "%s/models/%s", WS_GOLDEN, family);
    if (ws_model_open(&f->m, path, NULL, NULL, &err) != WS_OK)
        fail_msg("%s: %s", family, err.msg);
    f->n = ws_model_part_count(f->m);
    assert_true(f->n <= PARTS);
    for (size_t i = 0; i < f->n; i++) {
        assert_int_equal(ws_model_master(f->m, i, &f->value[i], NULL), WS_OK);
        f->grad[i] = ws_calloc((size_t)ws_model_part_at(f->m, i)->n, sizeof(double));
        assert_non_null(f->grad[i]);
        f->want[i].grad = f->grad[i];
    }
}

static void close_family(struct fixture *f)
{
    for (size_t i = 0; i < f->n; i++)
        ws_free(f->grad[i]);
    ws_model_free(f->m);
    assert_int_equal(ws_alloc_live(), 0);
}

static ws_step *step_of(const struct fixture *f, ws_keep keep, int threads)
{
    const ws_step_opts o = { .rows = T + 3, .positions = 8, .keep = keep };
    const ws_ctx ctx = { .threads = threads };
    ws_step *s = NULL;
    ws_err err = WS_ERR_INIT;
    if (ws_step_new(&s, f->m, f->want, &o, NULL, &ctx, &err) != WS_OK)
        fail_msg("%s", err.msg);
    return s;
}

static double scored(ws_step *s)
{
    ws_step_result r;
    assert_int_equal(ws_step_score(s, &batch, NULL, &r, NULL), WS_OK);
    return r.loss / 8;
}

/** d loss / d x by central differences at some of the @p n places. */
static void check(ws_step *s, const char *what, double *x, const double *dx, int64_t n)
{
    const int64_t stride = n > 24 ? n / 23 : 1;

    for (int64_t i = 0; i < n; i += stride) {
        const double old = x[i], h = 1e-5 * fmax(1.0, fabs(old));
        x[i] = old + h;
        const double up = scored(s);
        x[i] = old - h;
        const double down = scored(s);
        x[i] = old;
        const double want = (up - down) / (2 * h);
        if (!(fabs(want - dx[i]) <= 1e-6 * fmax(1e-3, fabs(want))))
            fail_msg("%s: gradient %lld is %.12g, differences say %.12g", what,
                     (long long)i, dx[i], want);
    }
}

static void every_gradient_is_the_derivative(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof families / sizeof families[0]; k++) {
        struct fixture f;
        ws_step_result r;
        char what[256];

        open_family(&f, families[k]);
        ws_step *s = step_of(&f, WS_KEEP_ALL, 1);
        assert_int_equal(ws_step_run(s, &batch, 1.0 / 8, NULL, &r, NULL), WS_OK);
        assert_int_equal(r.rows, 10);
        assert_true(fabs(r.weight - 10.5) < 1e-12);
        assert_true(fabs(r.loss / 8 - scored(s)) < 1e-12);
        for (size_t i = 0; i < f.n; i++) {
            const ws_model_part *p = ws_model_part_at(f.m, i);
            snprintf(what, sizeof what, "%s %s", families[k], p->name);
            check(s, what, f.value[i], f.grad[i], p->n);
        }
        ws_step_free(s);
        close_family(&f);
    }
}

static void clear(struct fixture *f)
{
    for (size_t i = 0; i < f->n; i++)
        memset(f->grad[i], 0, (size_t)ws_model_part_at(f->m, i)->n * sizeof(double));
}

static void same_bytes(const struct fixture *f, const struct fixture *g,
                       const char *what)
{
    for (size_t i = 0; i < f->n; i++)
        if (memcmp(f->grad[i], g->grad[i],
                   (size_t)ws_model_part_at(f->m, i)->n * sizeof(double)) != 0)
            fail_msg("%s: '%s' has other bytes", what, ws_model_part_at(f->m, i)->name);
}

static void policy_and_threads_do_not_change_bytes(void **state)
{
    static const ws_keep keeps[] = { WS_KEEP_SMALL, WS_KEEP_INPUT, WS_KEEP_AUTO };
    (void)state;

    for (size_t k = 0; k < sizeof families / sizeof families[0]; k++) {
        struct fixture f, g;
        ws_step_result r;
        open_family(&f, families[k]);
        ws_step *s = step_of(&f, WS_KEEP_ALL, 1);
        assert_int_equal(ws_step_run(s, &batch, 0.25, NULL, &r, NULL), WS_OK);
        ws_step_free(s);
        for (size_t i = 0; i < 3; i++) {
            open_family(&g, families[k]);
            s = step_of(&g, keeps[i], 3);
            assert_int_equal(ws_step_run(s, &batch, 0.25, NULL, &r, NULL), WS_OK);
            same_bytes(&f, &g, families[k]);
            ws_step_free(s);
            for (size_t j = 0; j < g.n; j++)
                ws_free(g.grad[j]);
            ws_model_free(g.m);
        }
        close_family(&f);
    }
}

static void the_limit_decides_what_is_kept(void **state)
{
    struct fixture f;
    ws_step_opts o = { .rows = 8, .limit = 1 << 30 };
    const ws_ctx ctx = { .threads = 1 };
    ws_step_memory all, less;
    ws_err err = WS_ERR_INIT;
    (void)state;

    open_family(&f, "qwen3");
    assert_int_equal(ws_step_plan(f.m, f.want, &o, &ctx, &all, NULL), WS_OK);
    assert_int_equal(all.layers_all, 2);
    assert_true(all.flops > 0);
    o.limit = all.total - 1;
    assert_int_equal(ws_step_plan(f.m, f.want, &o, &ctx, &less, NULL), WS_OK);
    assert_true(less.layers_all < 2);
    assert_true(less.total <= o.limit);
    o.limit = 1000;
    assert_int_equal(ws_step_plan(f.m, f.want, &o, &ctx, &less, &err), WS_E_MEMORY);
    assert_non_null(strstr(err.msg, "the limit is"));
    close_family(&f);
}

/** Frozen parts have no gradient, and those of the others stay what they were. */
static void freezing_changes_no_other_gradient(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof families / sizeof families[0]; k++) {
        struct fixture f, g;
        ws_step_result r;
        ws_want all[PARTS];

        open_family(&f, families[k]);
        open_family(&g, families[k]);
        memcpy(all, g.want, sizeof all);
        ws_step *s = step_of(&f, WS_KEEP_ALL, 1);
        assert_int_equal(ws_step_run(s, &batch, 0.25, NULL, &r, NULL), WS_OK);
        ws_step_free(s);
        for (size_t i = 0; i < f.n; i++) { // one part alone trains
            const size_t bytes = (size_t)ws_model_part_at(f.m, i)->n * sizeof(double);
            memset(g.want, 0, sizeof g.want);
            g.want[i] = all[i];
            s = step_of(&g, i % 2 ? WS_KEEP_ALL : WS_KEEP_INPUT, 1);
            assert_int_equal(ws_step_run(s, &batch, 0.25, NULL, &r, NULL), WS_OK);
            if (memcmp(f.grad[i], g.grad[i], bytes) != 0)
                fail_msg("%s: '%s' alone has another gradient", families[k],
                         ws_model_part_at(f.m, i)->name);
            ws_step_free(s);
        }
        for (size_t j = 0; j < g.n; j++)
            ws_free(g.grad[j]);
        ws_model_free(g.m);
        close_family(&f);
    }
}

/* ---- overlays ---- */

struct low {
    double A[RANK * 20], B[64 * RANK], gain[RANK];
    double dA[RANK * 20], dB[64 * RANK], dgain[RANK];
    ws_overlay over;
};

static void low_rank_gradients_are_the_derivative(void **state)
{
    static struct low low[PARTS];
    (void)state;

    for (size_t k = 0; k < sizeof families / sizeof families[0]; k++) {
        struct fixture f;
        ws_step_result r;
        open_family(&f, families[k]);
        memset(low, 0, sizeof low);
        memset(f.want, 0, sizeof f.want);
        for (size_t i = 0; i < f.n; i++) {
            const ws_model_part *p = ws_model_part_at(f.m, i);
            if (p->kind != WS_PART_LINEAR || (p->rows > 20 && p->cols > 20))
                continue;
            struct low *l = &low[i];
            if ((p->transposed ? p->rows : p->cols) > 20)
                continue;
            fill(l->A, RANK * 20, 5 + (uint32_t)i);
            fill(l->B, 64 * RANK, 6 + (uint32_t)i);
            fill(l->gain, RANK, 7);
            l->over = (ws_overlay){ .rank = RANK,
                                    .A = l->A,
                                    .B = l->B,
                                    .gain = l->gain,
                                    .dA = l->dA,
                                    .dB = l->dB,
                                    .dgain = l->dgain };
            f.want[i].over = &l->over;
        }
        ws_step *s = step_of(&f, WS_KEEP_SMALL, 1);
        assert_int_equal(ws_step_run(s, &batch, 1.0 / 8, NULL, &r, NULL), WS_OK);
        for (size_t i = 0; i < f.n; i++) {
            const ws_model_part *p = ws_model_part_at(f.m, i);
            const int64_t in = p->transposed ? p->rows : p->cols;
            const int64_t out = p->transposed ? p->cols : p->rows;
            if (f.want[i].over == NULL)
                continue;
            check(s, p->name, low[i].A, low[i].dA, RANK * in);
            check(s, p->name, low[i].B, low[i].dB, out * RANK);
            check(s, p->name, low[i].gain, low[i].dgain, RANK);
        }
        ws_step_free(s);
        close_family(&f);
    }
}

/** Sums dw * tau by panels; the dot product with a task vector. */
struct dots {
    const double *tau[PARTS];
    double sum[PARTS];
};

static void dot_panel(void *arg, const ws_grad_panel *p)
{
    struct dots *d = arg;
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t j = 0; j < p->cols; j++)
            d->sum[p->part] +=
                p->dw[i * p->cols + j] * d->tau[p->part][p->offset + i * p->ld + j];
}

/** With W = W0 + lambda tau: dL/dlambda = <dL/dW, tau>, for every part. */
static void coefficients_of_task_vectors_have_their_gradients(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof families / sizeof families[0]; k++) {
        struct fixture f;
        static struct dots d;
        static ws_overlay over[PARTS];
        static const void *tau[PARTS];
        static double lambda[PARTS];
        static const ws_dtype dtype = WS_DT_F64;
        const ws_grad_sink sink = { dot_panel, &d };
        ws_step_result r;

        open_family(&f, families[k]);
        d = (struct dots){ 0 };
        for (size_t i = 0; i < f.n; i++) {
            fill(f.grad[i], ws_model_part_at(f.m, i)->n, 11 + (uint32_t)i);
            d.tau[i] = f.grad[i];
            tau[i] = f.grad[i];
            lambda[i] = 0.1 * (double)(i % 3);
            over[i] = (ws_overlay){
                .n = 1, .tau = &tau[i], .tau_dtype = &dtype, .lambda = &lambda[i]
            };
            f.want[i] = (ws_want){ .sink = &sink, .over = &over[i] };
        }
        ws_step *s = step_of(&f, WS_KEEP_ALL, 1);
        assert_int_equal(ws_step_run(s, &batch, 1.0 / 8, NULL, &r, NULL), WS_OK);
        for (size_t i = 0; i < f.n; i++)
            check(s, ws_model_part_at(f.m, i)->name, &lambda[i], &d.sum[i], 1);
        ws_step_free(s);
        close_family(&f);
    }
}

/* ---- losses built outside ---- */

static void upstream_gradients_stand_for_any_loss(void **state)
{
    struct fixture f, g;
    double logp[T], up[T];
    ws_step_result r;
    (void)state;

    open_family(&f, "qwen2");
    open_family(&g, "qwen2");
    ws_step *s = step_of(&f, WS_KEEP_ALL, 1), *t = step_of(&g, WS_KEEP_ALL, 1);
    assert_int_equal(ws_step_run(s, &batch, 0.5, logp, &r, NULL), WS_OK);
    double loss = 0;
    for (int i = 0; i < T; i++) {
        up[i] = -0.5 * (double)weights[i];
        loss -= (double)weights[i] * logp[i];
        assert_true(targets[i] >= 0 || logp[i] == 0);
    }
    assert_true(fabs(loss - r.loss) < 1e-12);
    assert_int_equal(ws_step_forward(t, &batch, logp, &r, NULL), WS_OK);
    assert_int_equal(ws_step_backward(t, up, NULL), WS_OK);
    same_bytes(&f, &g, "upstream");
    ws_err err = WS_ERR_INIT;
    assert_int_equal(ws_step_backward(t, up, &err), WS_E_INTERNAL);
    ws_step_free(s);
    ws_step_free(t);
    for (size_t j = 0; j < g.n; j++)
        ws_free(g.grad[j]);
    ws_model_free(g.m);
    close_family(&f);
}

/** Cross-entropy, spelt out. */
static double own_loss(void *arg, int64_t row, double *z, int64_t n, int thread)
{
    double sum = 0;
    (void)arg;
    (void)thread;
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i]);
    const double loss = log(sum) - z[targets[row]];
    for (int64_t i = 0; i < n; i++)
        z[i] = exp(z[i]) / sum - (i == targets[row]);
    return loss;
}

static void a_loss_of_the_logits_may_be_given(void **state)
{
    const ws_row_loss loss = { own_loss, NULL };
    struct fixture f, g;
    ws_step_result r, q;
    (void)state;

    open_family(&f, "gpt2");
    open_family(&g, "gpt2");
    ws_step *s = step_of(&f, WS_KEEP_ALL, 1), *t = step_of(&g, WS_KEEP_ALL, 1);
    assert_int_equal(ws_step_run(s, &batch, 0.5, NULL, &r, NULL), WS_OK);
    assert_int_equal(ws_step_run_loss(t, &batch, 0.5, &loss, &q, NULL), WS_OK);
    assert_true(fabs(r.loss - q.loss) < 1e-10);
    for (size_t i = 0; i < f.n; i++)
        for (int64_t k = 0; k < ws_model_part_at(f.m, i)->n; k++)
            assert_true(fabs(f.grad[i][k] - g.grad[i][k]) < 1e-12);
    ws_step_free(s);
    ws_step_free(t);
    for (size_t j = 0; j < g.n; j++)
        ws_free(g.grad[j]);
    ws_model_free(g.m);
    close_family(&f);
}

static void batches_accumulate_and_packing_is_separation(void **state)
{
    struct fixture f, g;
    ws_step_result r;
    (void)state;

    open_family(&f, "llama");
    open_family(&g, "llama");
    ws_step *s = step_of(&f, WS_KEEP_ALL, 1), *t = step_of(&g, WS_KEEP_ALL, 1);
    assert_int_equal(ws_step_run(s, &batch, 0.5, NULL, &r, NULL), WS_OK);
    ws_step_batch one = {
        .rows = 5, .tokens = tokens, .targets = targets, .weights = weights
    };
    ws_step_batch two = {
        .rows = 8, .tokens = tokens + 5, .targets = targets + 5, .weights = weights + 5
    };
    assert_int_equal(ws_step_run(t, &one, 0.5, NULL, &r, NULL), WS_OK);
    assert_int_equal(ws_step_run(t, &two, 0.5, NULL, &r, NULL), WS_OK);
    for (size_t i = 0; i < f.n; i++)
        for (int64_t k = 0; k < ws_model_part_at(f.m, i)->n; k++)
            assert_true(fabs(f.grad[i][k] - g.grad[i][k]) < 1e-12);
    clear(&g);
    ws_step_free(s);
    ws_step_free(t);
    for (size_t j = 0; j < g.n; j++)
        ws_free(g.grad[j]);
    ws_model_free(g.m);
    close_family(&f);
}

static void what_does_not_fit_is_refused(void **state)
{
    struct fixture f;
    ws_step_result r;
    ws_err err = WS_ERR_INIT;
    int32_t wrong[T];
    const int64_t disorder[2] = { 0, 0 };
    (void)state;

    open_family(&f, "llama");
    ws_step *s = step_of(&f, WS_KEEP_ALL, 1);
    memcpy(wrong, tokens, sizeof wrong);
    wrong[3] = V;
    ws_step_batch b = batch;
    b.tokens = wrong;
    assert_int_equal(ws_step_run(s, &b, 1, NULL, &r, &err), WS_E_USAGE);
    assert_string_equal(err.msg, "token 29 is not below the vocabulary of 29");
    b = batch;
    b.docs = 0;
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_step_run(s, &b, 1, NULL, &r, &err), WS_E_USAGE);
    assert_string_equal(err.msg, "a document of 13 tokens, the step takes 8");
    b = batch;
    b.start = disorder;
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_step_run(s, &b, 1, NULL, &r, &err), WS_E_USAGE);
    assert_string_equal(err.msg, "the starts of documents are in disorder");
    b = batch;
    b.rows = T + 4;
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_step_run(s, &b, 1, NULL, &r, &err), WS_E_USAGE);
    ws_step_free(s);
    const ws_overlay over = { .rank = 2 };
    ws_overlay mutable_over = over;
    f.want[0].over = &mutable_over;
    const ws_step_opts o = { .rows = 4 };
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_step_new(&s, f.m, f.want, &o, NULL, NULL, &err), WS_E_USAGE);
    assert_non_null(strstr(err.msg, "is no linear: it takes no low rank"));
    close_family(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_is_the_derivative),
        cmocka_unit_test(policy_and_threads_do_not_change_bytes),
        cmocka_unit_test(the_limit_decides_what_is_kept),
        cmocka_unit_test(freezing_changes_no_other_gradient),
        cmocka_unit_test(low_rank_gradients_are_the_derivative),
        cmocka_unit_test(coefficients_of_task_vectors_have_their_gradients),
        cmocka_unit_test(upstream_gradients_stand_for_any_loss),
        cmocka_unit_test(a_loss_of_the_logits_may_be_given),
        cmocka_unit_test(batches_accumulate_and_packing_is_separation),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
