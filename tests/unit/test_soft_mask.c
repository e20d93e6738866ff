/*
 * test_soft_mask.c - learned masks in double: their self-checks (seed methods, 4(f)),
 * and gradients through a whole model against central differences
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
#include "surgery/soft_mask.h"
#include "train/pairs.h"

enum { ROWS = 7, COLS = 5, N = ROWS * COLS, BIG = 200000 };

static void fill(double *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((double)(seed >> 8) / 8388608.0 - 1.0) * 0.3;
    }
}

/* ---- one tensor and its arrays ---- */

struct tensor {
    double base[N], delta[2][N], w[N], grad[N], logits[N], dlogits[N];
    const double *deltas[2];
};

struct toy {
    struct tensor t[2];
    ws_soft_block blocks[2];
    double parts[64];
    ws_pool *pool;
    ws_soft s;
};

static void toy_open(struct toy *y, size_t tasks, size_t span)
{
    static const char *const names[] = { "a.weight", "b.weight" };
    *y = (struct toy){ 0 };
    assert_int_equal(ws_pool_new(&y->pool, 2, NULL), WS_OK);
    for (uint32_t i = 0; i < 2; i++) {
        struct tensor *t = &y->t[i];
        fill(t->base, N, 1 + i);
        fill(t->delta[0], N, 11 + i);
        fill(t->delta[1], N, 21 + i);
        fill(t->grad, N, 31 + i);
        fill(t->logits, N, 41 + i);
        t->deltas[0] = t->delta[0];
        t->deltas[1] = t->delta[1];
        y->blocks[i] = (ws_soft_block){ .name = names[i],
                                        .n = N,
                                        .span = span,
                                        .groups = N / span,
                                        .base_dtype = WS_DT_F64,
                                        .base = t->base,
                                        .delta = t->deltas,
                                        .w = t->w,
                                        .grad = t->grad,
                                        .logits = t->logits,
                                        .dlogits = t->dlogits };
    }
    y->s = (ws_soft){ .blocks = y->blocks,
                      .n_blocks = 2,
                      .tasks = tasks,
                      .op = tasks == 1 ? WS_SOFT_NONE : WS_SOFT_SUM,
                      .lambda = 0.3,
                      .keep = 0.5,
                      .drop = 0.2,
                      .temperature = 0.5,
                      .over_all = span == N,
                      .seed = 5,
                      .pool = y->pool,
                      .parts = y->parts };
}

static void toy_close(struct toy *y)
{
    ws_pool_free(y->pool);
    assert_int_equal(ws_alloc_live(), 0);
}

static void compose(struct toy *y)
{
    assert_int_equal(ws_soft_compose(&y->s, NULL), WS_OK);
}

static void set_logits(struct toy *y, double v)
{
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < N; k++)
            y->t[i].logits[k] = v;
}

/** The loss is linear in the weights: sum grad w. */
static double loss_of(struct toy *y)
{
    double sum = 0;
    compose(y);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < N; k++)
            sum += y->t[i].grad[k] * y->t[i].w[k];
    return sum;
}

/* ---- self-checks ---- */

static void high_logits_are_the_operator_without_a_mask(void **state)
{
    struct toy y;
    (void)state;
    for (size_t tasks = 1; tasks <= 2; tasks++) {
        const double lambda = tasks == 1 ? 1.0 : 0.3;
        toy_open(&y, tasks, 1);
        set_logits(&y, 40.0);
        ws_soft_draw(&y.s, 3);
        compose(&y);
        for (int k = 0; k < N; k++) {
            const double more = tasks == 2 ? lambda * y.t[0].delta[1][k] : 0.0;
            const double want = y.t[0].base[k] + lambda * y.t[0].delta[0][k] + more;
            assert_true(fabs(y.t[0].w[k] - want) < 1e-12);
        }
        toy_close(&y);
    }
}

static void without_an_update_the_base_stays(void **state)
{
    struct toy y;
    (void)state;
    toy_open(&y, 1, 1);
    memset(y.t[0].delta[0], 0, sizeof y.t[0].delta[0]);
    ws_soft_draw(&y.s, 1);
    compose(&y);
    assert_memory_equal(y.t[0].w, y.t[0].base, sizeof y.t[0].base);
    y.s.bare = true;
    compose(&y);
    assert_memory_equal(y.t[1].w, y.t[1].base, sizeof y.t[1].base);
    toy_close(&y);
}

static void masks_of_two_tasks_are_one_draw(void **state)
{
    struct toy one, two;
    (void)state;
    toy_open(&one, 1, 1);
    toy_open(&two, 2, 1);
    memset(two.t[0].delta[0], 0, sizeof two.t[0].delta[0]);
    memcpy(two.t[0].delta[1], one.t[0].delta[0], sizeof one.t[0].delta[0]);
    ws_soft_draw(&one.s, 9);
    ws_soft_draw(&two.s, 9);
    compose(&one);
    compose(&two);
    for (int k = 0; k < N; k++)
        assert_true(fabs(0.3 * (one.t[0].w[k] - one.t[0].base[k]) -
                         (two.t[0].w[k] - two.t[0].base[k])) < 1e-15);
    ws_pool_free(two.pool);
    toy_close(&one);
}

/** Mean, second moment and threshold over many draws of one logit. */
static void figures_of(double logit, double temperature, double *mean, double *square,
                       double *above)
{
    static double logits[BIG], y[BIG];
    ws_soft_block b = { .name = "big", .n = BIG, .span = 1, .groups = BIG };
    ws_soft s = { .blocks = &b, .n_blocks = 1, .temperature = temperature, .seed = 1 };
    b.logits = logits;
    for (int i = 0; i < BIG; i++)
        logits[i] = logit;
    ws_soft_draw(&s, 1);
    ws_soft_values(&s, &b, 0, BIG, y);
    *mean = *square = *above = 0;
    for (int i = 0; i < BIG; i++) {
        *mean += y[i] / BIG;
        *square += y[i] * y[i] / BIG;
        *above += (y[i] > 0.5) / (double)BIG;
    }
}

static void half_is_passed_with_the_logits_probability(void **state)
{
    static const double logits[] = { -2.0, -0.5, 0.0, 1.0 };
    static const double temperatures[] = { 0.1, 0.5, 2.0 };
    double mean, square, above;
    (void)state;
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 4; i++) {
            const double want = 1.0 / (1.0 + exp(-logits[i]));
            figures_of(logits[i], temperatures[t], &mean, &square, &above);
            if (fabs(above - want) > 5 * sqrt(want * (1 - want) / BIG))
                fail_msg("logit %g, T %g: %g, not %g", logits[i], temperatures[t],
                         above, want);
        }
    figures_of(0.0, 0.5, &mean, &square, &above);
    assert_true(fabs(mean - 0.5) < 0.004);
    assert_true(fabs(square / (mean * mean) - 1.57) < 0.02); // variance's inflation
}

static void a_cold_soft_mask_is_the_thresholded_one(void **state)
{
    struct toy y;
    double soft[N], hard[N];
    (void)state;
    toy_open(&y, 1, 1);
    ws_soft_draw(&y.s, 2);
    y.s.temperature = 1e-6;
    ws_soft_values(&y.s, &y.blocks[0], 0, N, soft);
    y.s.hard = true;
    ws_soft_values(&y.s, &y.blocks[0], 0, N, hard);
    int ones = 0;
    for (int k = 0; k < N; k++) {
        assert_true(hard[k] == 0.0 || hard[k] == 1.0);
        assert_true(fabs(soft[k] - hard[k]) < 1e-6);
        ones += hard[k] == 1.0;
    }
    compose(&y); // entries in {0, 1 / mean}
    for (int k = 0; k < N; k++) {
        const double f = hard[k] * N / ones;
        assert_true(fabs(y.t[0].w[k] - y.t[0].base[k] - f * y.t[0].delta[0][k]) <
                    1e-14);
    }
    set_logits(&y, -40.0); // nothing: mean 0
    compose(&y);
    assert_memory_equal(y.t[0].w, y.t[0].base, sizeof y.t[0].base);
    ws_soft_backward(&y.s);
    for (int k = 0; k < N; k++)
        assert_true(isfinite(y.t[0].dlogits[k]));
    toy_close(&y);
}

static void the_same_seed_gives_the_same_mask(void **state)
{
    struct toy y;
    double a[N], b[N], part[N];
    (void)state;
    toy_open(&y, 1, 1);
    ws_soft_draw(&y.s, 4);
    ws_soft_values(&y.s, &y.blocks[0], 0, N, a);
    ws_soft_values(&y.s, &y.blocks[0], 10, 8, part);
    assert_memory_equal(part, a + 10, 8 * sizeof *a);
    ws_soft_draw(&y.s, 5);
    ws_soft_values(&y.s, &y.blocks[0], 0, N, b);
    assert_memory_not_equal(a, b, sizeof a);
    ws_soft_draw(&y.s, 4);
    ws_soft_values(&y.s, &y.blocks[0], 0, N, b);
    assert_memory_equal(a, b, sizeof a);
    ws_soft_values(&y.s, &y.blocks[1], 0, N, b);
    assert_memory_not_equal(a, b, sizeof a);
    y.s.seed++;
    ws_soft_draw(&y.s, 4);
    ws_soft_values(&y.s, &y.blocks[0], 0, N, b);
    assert_memory_not_equal(a, b, sizeof a);
    toy_close(&y);
}

/** sum_i y_i dL/dy_i = 0: the mask may be scaled; dL/dy = dL/dl T / (y (1 - y)). */
static void the_gradient_is_blind_to_the_masks_scale(void **state)
{
    static const size_t spans[] = { 1, COLS, N };
    (void)state;
    for (int k = 0; k < 3; k++) {
        struct toy y;
        double v[N], sum = 0, size = 0, mean = 0;
        toy_open(&y, 1, spans[k]);
        ws_soft_draw(&y.s, 1);
        compose(&y);
        ws_soft_backward(&y.s);
        for (int i = 0; i < 2; i++) {
            const ws_soft_block *b = &y.blocks[i];
            ws_soft_values(&y.s, b, 0, b->groups, v);
            for (size_t j = 0; j < b->groups; j++) {
                const double part = b->dlogits[j] * 0.5 / (1 - v[j]);
                sum += part;
                size += fabs(part);
                mean += v[j] / b->mean * (double)b->span / (2 * N);
            }
        }
        assert_true(size > 1e-3);
        assert_true(fabs(sum) < 1e-14 * (1 + size));
        assert_true(fabs(mean - 1) < 1e-14);
        toy_close(&y);
    }
}

static void every_operator_has_its_gradient(void **state)
{
    static const ws_soft_op ops[] = { WS_SOFT_SUM, WS_SOFT_TIES, WS_SOFT_DARE,
                                      WS_SOFT_AVERAGE };
    static const size_t spans[] = { 1, COLS, N };
    (void)state;
    for (int o = 0; o < 4; o++)
        for (int k = 0; k < 3; k++) {
            struct toy y;
            toy_open(&y, 2, spans[k]);
            y.s.op = ops[o];
            y.s.temperature = k == 1 ? 0.7 : 0.5;
            ws_soft_draw(&y.s, 1);
            compose(&y);
            ws_soft_backward(&y.s);
            for (int i = 0; i < 2; i++)
                for (size_t j = 0; j < y.blocks[i].groups; j++) {
                    double *l = &y.t[i].logits[j], old = *l;
                    const double h = 1e-6;
                    *l = old + h;
                    const double up = loss_of(&y);
                    *l = old - h;
                    const double down = loss_of(&y);
                    *l = old;
                    const double want = (up - down) / (2 * h);
                    if (!(fabs(want - y.t[i].dlogits[j]) < 1e-8))
                        fail_msg("operator %d, span %d: %g, differences say %g", o,
                                 (int)spans[k], y.t[i].dlogits[j], want);
                }
            toy_close(&y);
        }
}

/** One tensor worked by hand: two tasks, all in the mask. */
static void ties_and_dare_choose_entries(void **state)
{
    struct toy y;
    int dropped = 0;
    (void)state;
    toy_open(&y, 2, 1);
    set_logits(&y, 40.0);
    memset(y.t[0].base, 0, sizeof y.t[0].base);
    memset(y.t[1].delta, 0, sizeof y.t[1].delta);
    memset(y.t[0].delta, 0, sizeof y.t[0].delta);
    // kept: 4 largest of 70 of each task; 3 - 5 is minus, 4 + 2 plus, 1 too small
    const double a[] = { 3, 4, 1, 7, -9 }, b[] = { -5, 2, 0.5, -6, -1 };
    memcpy(y.t[0].delta[0], a, sizeof a);
    memcpy(y.t[0].delta[1], b, sizeof b);
    y.s.op = WS_SOFT_TIES;
    y.s.keep = 4.0 / (2 * N) + 1e-9;
    y.s.lambda = 0.4;
    ws_soft_draw(&y.s, 1);
    compose(&y);
    const double want[] = { -5, 6, 0, 7, -10 };
    for (int k = 0; k < 5; k++)
        assert_true(fabs(y.t[0].w[k] - 0.4 * want[k]) < 1e-9);
    y.s.op = WS_SOFT_DARE;
    y.s.tasks = 1;
    y.s.lambda = 0.3;
    for (int k = 0; k < N; k++)
        y.t[0].delta[0][k] = 1.0;
    compose(&y);
    for (int k = 0; k < N; k++) {
        const double w = y.t[0].w[k];
        assert_true(w == 0.0 || fabs(w - 0.3 / 0.8) < 1e-9);
        dropped += w == 0.0;
    }
    assert_in_range(dropped, 1, N / 2);
    toy_close(&y);
}

/* ---- preference pairs ---- */

static void a_policy_that_is_the_reference_has_loss_log_2(void **state)
{
    int32_t tokens[] = { 1, 2, 3, 1, 2, 4 }, targets[] = { -100, 3, 9, -100, 4, 9 };
    int64_t start[] = { 0, 3, 6 };
    const ws_batch b = {
        .n = 6, .tokens = tokens, .targets = targets, .n_docs = 2, .start = start
    };
    double logp[6] = { 0, -1, -2, 0, -0.5, -0.25 }, up[6], sum;
    ws_pairs p = { 0 };
    (void)state;
    assert_false(ws_pairs_known(&p, &b));
    assert_int_equal(ws_pairs_loss(&p, &b, logp, 0.1, 1.0, up, &sum, NULL),
                     WS_E_INTERNAL);
    assert_int_equal(ws_pairs_keep(&p, &b, logp, NULL), WS_OK);
    assert_true(ws_pairs_known(&p, &b));
    assert_int_equal(ws_pairs_loss(&p, &b, logp, 0.1, 1.0, up, &sum, NULL), WS_OK);
    assert_true(fabs(sum - log(2.0)) < 1e-15);
    const double want[] = { 0, -0.05, -0.05, 0, 0.05, 0.05 };
    for (int i = 0; i < 6; i++)
        assert_true(fabs(up[i] - want[i]) < 1e-15);
    ws_pairs_free(&p);
}

/* ---- a whole model ---- */

enum { PARTS = 64, T = 13 };

struct whole {
    ws_model *m;
    size_t n;
    double *value[PARTS], *grad[PARTS], *delta[PARTS], *logits[PARTS], *dlogits[PARTS];
    double *base[PARTS];
    const double *deltas[PARTS][1];
    ws_soft_block blocks[PARTS];
    ws_want want[PARTS];
    double parts[4096], logp[T], up[T];
    ws_step *step;
    ws_soft s;
    ws_pairs pairs;
    ws_batch batch;
};

static double *numbers(int64_t n)
{
    double *x = ws_calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    return x;
}

static void whole_open(struct whole *f, const char *family,
                       size_t (*span)(int64_t, int64_t))
{
    char path[512];
    static int32_t tokens[T] = { 3, 7, 7, 28, 0, 11, 3, 7, 7, 28, 17, 20, 5 };
    static int32_t targets[T] = {
        -100, -100, 28, 0, 11, 9, -100, -100, 28, 17, 20, 5, 1
    };
    static int64_t start[3] = { 0, 6, T };
    *f = (struct whole){ 0 };
    snprintf(path, sizeof path, "%s/models/%s", WS_GOLDEN, family);
    assert_int_equal(ws_model_open(&f->m, path, NULL, NULL, NULL), WS_OK);
    f->n = ws_model_part_count(f->m);
    for (size_t i = 0; i < f->n; i++) {
        assert_int_equal(ws_model_master(f->m, i, &f->value[i], NULL), WS_OK);
        const ws_model_part *p = ws_model_part_at(f->m, i);
        f->grad[i] = numbers(p->n);
        f->delta[i] = numbers(p->n);
        f->logits[i] = numbers(p->n);
        f->dlogits[i] = numbers(p->n);
        f->base[i] = numbers(p->n);
        memcpy(f->base[i], f->value[i], (size_t)p->n * sizeof(double));
        fill(f->delta[i], (size_t)p->n, 3 + (uint32_t)i);
        fill(f->logits[i], (size_t)p->n, 103 + (uint32_t)i);
        f->deltas[i][0] = f->delta[i];
        f->want[i].grad = f->grad[i];
        const size_t s = p->rows > 1 ? span(p->rows, p->cols) : 1;
        f->blocks[i] = (ws_soft_block){ .name = p->name,
                                        .n = (size_t)p->n,
                                        .span = s,
                                        .groups = (size_t)p->n / s,
                                        .base_dtype = WS_DT_F64,
                                        .base = f->base[i],
                                        .delta = f->deltas[i],
                                        .w = f->value[i],
                                        .grad = f->grad[i],
                                        .logits = f->logits[i],
                                        .dlogits = f->dlogits[i] };
    }
    const ws_step_opts o = { .rows = T, .positions = 8 };
    const ws_ctx ctx = { .threads = 1 };
    assert_int_equal(ws_step_new(&f->step, f->m, f->want, &o, NULL, &ctx, NULL), WS_OK);
    f->s = (ws_soft){ .blocks = f->blocks,
                      .n_blocks = f->n,
                      .tasks = 1,
                      .temperature = 0.5,
                      .seed = 8,
                      .pool = ws_step_pool(f->step),
                      .parts = f->parts };
    assert_true(ws_soft_chunks(&f->s) * 2 <= 4096);
    f->batch = (ws_batch){
        .n = T, .tokens = tokens, .targets = targets, .n_docs = 2, .start = start
    };
}

static void whole_close(struct whole *f)
{
    for (size_t i = 0; i < f->n; i++) {
        ws_free(f->grad[i]);
        ws_free(f->delta[i]);
        ws_free(f->logits[i]);
        ws_free(f->dlogits[i]);
        ws_free(f->base[i]);
    }
    ws_pairs_free(&f->pairs);
    ws_step_free(f->step);
    ws_model_free(f->m);
    assert_int_equal(ws_alloc_live(), 0);
}

/** Loss of the pair at the logits as they are. */
static double whole_loss(struct whole *f, bool learn)
{
    const ws_step_batch rows = { .rows = T,
                                 .tokens = f->batch.tokens,
                                 .targets = f->batch.targets,
                                 .start = f->batch.start,
                                 .docs = 2 };
    ws_step_result r;
    double sum;
    assert_int_equal(ws_soft_compose(&f->s, NULL), WS_OK);
    assert_int_equal(ws_step_forward(f->step, &rows, f->logp, &r, NULL), WS_OK);
    assert_int_equal(
        ws_pairs_loss(&f->pairs, &f->batch, f->logp, 0.7, 1.0, f->up, &sum, NULL),
        WS_OK);
    if (learn)
        assert_int_equal(ws_step_backward(f->step, f->up, NULL), WS_OK);
    return sum;
}

static void whole_check(const char *family, size_t (*span)(int64_t, int64_t))
{
    static struct whole f;
    whole_open(&f, family, span);
    ws_soft_draw(&f.s, 0);
    f.s.bare = true; // the reference is the base
    assert_int_equal(ws_soft_compose(&f.s, NULL), WS_OK);
    const ws_step_batch rows = { .rows = T,
                                 .tokens = f.batch.tokens,
                                 .targets = f.batch.targets,
                                 .start = f.batch.start,
                                 .docs = 2 };
    ws_step_result r;
    assert_int_equal(ws_step_score(f.step, &rows, f.logp, &r, NULL), WS_OK);
    assert_int_equal(ws_pairs_keep(&f.pairs, &f.batch, f.logp, NULL), WS_OK);
    assert_true(fabs(whole_loss(&f, false) - log(2.0)) < 1e-12);
    f.s.bare = false;
    ws_soft_draw(&f.s, 1);
    whole_loss(&f, true);
    ws_soft_backward(&f.s);
    for (size_t i = 0; i < f.n; i++) {
        const size_t stride = f.blocks[i].groups > 12 ? f.blocks[i].groups / 11 : 1;
        for (size_t j = 0; j < f.blocks[i].groups; j += stride) {
            double *l = &f.logits[i][j], old = *l, h = 1e-4;
            *l = old + h;
            const double up = whole_loss(&f, false);
            *l = old - h;
            const double down = whole_loss(&f, false);
            *l = old;
            const double want = (up - down) / (2 * h), got = f.dlogits[i][j];
            if (!(fabs(want - got) <= 1e-6 * fmax(1e-2, fabs(want))))
                fail_msg("%s %s: gradient %d is %.12g, differences say %.12g", family,
                         f.blocks[i].name, (int)j, got, want);
        }
    }
    whole_close(&f);
}

static size_t of_element(int64_t rows, int64_t cols)
{
    (void)rows;
    (void)cols;
    return 1;
}

static size_t of_row(int64_t rows, int64_t cols)
{
    (void)rows;
    return (size_t)cols;
}

static void gradients_through_a_model_are_the_derivative(void **state)
{
    (void)state;
    whole_check("llama", of_element);
    whole_check("qwen2", of_row);
    whole_check("gpt2", of_row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(high_logits_are_the_operator_without_a_mask),
        cmocka_unit_test(without_an_update_the_base_stays),
        cmocka_unit_test(masks_of_two_tasks_are_one_draw),
        cmocka_unit_test(half_is_passed_with_the_logits_probability),
        cmocka_unit_test(a_cold_soft_mask_is_the_thresholded_one),
        cmocka_unit_test(the_same_seed_gives_the_same_mask),
        cmocka_unit_test(the_gradient_is_blind_to_the_masks_scale),
        cmocka_unit_test(every_operator_has_its_gradient),
        cmocka_unit_test(ties_and_dare_choose_entries),
        cmocka_unit_test(a_policy_that_is_the_reference_has_loss_log_2),
        cmocka_unit_test(gradients_through_a_model_are_the_derivative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
