/*
 * test_optim.c - ten steps of every optimiser against PyTorch's
 */
#include "train/optim.h"

#include "ws_test.h"
#include "wsurg/alloc.h"
#include "wsurg/ckpt.h"

enum { STEPS = 10, N1 = 70, N2 = 33, N = N1 + N2 };

static void golden(ws_ckpt *c, const char *name, const char *what, float *to, size_t n)
{
    char key[64];
    ws_err err = WS_ERR_INIT;

    snprintf(key, sizeof key, "%s.%s", name, what);
    const ws_tensor *t = ws_ckpt_find(c, key);
    assert_non_null(t);
    assert_int_equal(t->n_bytes, n * sizeof *to);
    assert_ok(ws_ckpt_read(c, t, 0, n * sizeof *to, to, &err), err);
}

/** What a case trains: two tensors in one block of memory. */
struct state {
    float p[N], g[N], m[N], v[N];
    ws_slot_f32 slots[2];
    ws_pool *pool;
    ws_optim *o;
};

static void state_open(struct state *s, const ws_optim_opts *o, int threads)
{
    ws_err err = WS_ERR_INIT;

    memset(s->m, 0, sizeof s->m);
    memset(s->v, 0, sizeof s->v);
    for (int k = 0; k < 2; k++) {
        const size_t at = k ? N1 : 0;
        s->slots[k] = (ws_slot_f32){ .name = k ? "b" : "a",
                                     .n = k ? N2 : N1,
                                     .p = s->p + at,
                                     .g = s->g + at,
                                     .m = s->m + at,
                                     .v = s->v + at,
                                     .decay = o->weight_decay };
        if (o->kind == WS_OPTIM_SGD && o->momentum <= 0.0)
            s->slots[k].m = NULL;
    }
    assert_ok(ws_pool_new(&s->pool, threads, &err), err);
    assert_ok(ws_optim_new(&s->o, o, s->slots, 2, s->pool, &err), err);
}

static void state_close(struct state *s)
{
    ws_optim_free(s->o);
    ws_pool_free(s->pool);
}

static void compare(const char *name, const ws_optim_opts *o, double lr)
{
    static float gradients[STEPS * N], want[STEPS * N];
    static struct state s;
    float norms[STEPS];
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    int64_t bad;

    assert_ok(ws_ckpt_open(&c, WS_GOLDEN "/train/optim.safetensors", NULL, &err), err);
    golden(c, name, "start", s.p, N);
    golden(c, name, "gradients", gradients, STEPS * N);
    golden(c, name, "states", want, STEPS * N);
    golden(c, name, "norms", norms, STEPS);
    state_open(&s, o, 2);
    for (int i = 0; i < STEPS; i++) {
        memcpy(s.g, gradients + i * N, sizeof s.g);
        const double norm = ws_optim_norm(s.o, &bad);
        assert_int_equal(bad, -1);
        assert_close(norm, norms[i], 1e-6);
        ws_optim_step(s.o, i + 1, lr, ws_optim_clip(norm, o->clip));
        for (int k = 0; k < N; k++)
            if (!(fabsf(s.p[k] - want[i * N + k]) <= 3e-7f))
                fail_msg("%s step %d: number %d is %.9g, PyTorch has %.9g", name, i, k,
                         (double)s.p[k], (double)want[i * N + k]);
    }
    state_close(&s);
    ws_ckpt_free(c);
    assert_int_equal(ws_alloc_live(), 0);
}

static void adamw_steps_as_in_pytorch(void **state)
{
    (void)state;
    compare("adamw",
            &(ws_optim_opts){ .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .weight_decay = 0.1,
                              .clip = 1.0 },
            3e-3);
    compare("adamw_far",
            &(ws_optim_opts){ .beta1 = 0.3, .beta2 = 0.99, .eps = 1e-4, .clip = 1.0 },
            3e-3);
}

static void sgd_steps_as_in_pytorch(void **state)
{
    (void)state;
    compare(
        "sgd",
        &(ws_optim_opts){
            .kind = WS_OPTIM_SGD, .momentum = 0.9, .weight_decay = 0.01, .clip = 1.0 },
        0.05);
    compare("sgd_plain", &(ws_optim_opts){ .kind = WS_OPTIM_SGD, .clip = 1.0 }, 0.05);
}

static const ws_optim_opts plain = {
    .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.5, .clip = 1.0
};

static void masked_entries_keep_number_and_moments(void **state)
{
    static struct state s;
    uint8_t mask[N1];
    int64_t bad;
    (void)state;

    for (int k = 0; k < N; k++)
        s.p[k] = 1.0f + (float)k;
    for (int k = 0; k < N1; k++)
        mask[k] = k % 3 == 0;
    state_open(&s, &plain, 1);
    s.slots[0].mask = mask;
    for (int i = 1; i <= 3; i++) {
        for (int k = 0; k < N; k++)
            s.g[k] = k < N1 && !mask[k] ? INFINITY : 0.25f;
        const double norm = ws_optim_norm(s.o, &bad);
        assert_int_equal(bad, -1); // what is masked does not count
        assert_close(norm, 0.25 * sqrt(24 + N2), 1e-12);
        ws_optim_step(s.o, i, 0.1, 1.0f);
    }
    for (int k = 0; k < N; k++) {
        const bool trained = k >= N1 || mask[k];
        assert_int_equal(s.p[k] != 1.0f + (float)k, trained);
        assert_int_equal(s.m[k] != 0.0f, trained);
        assert_int_equal(s.v[k] != 0.0f, trained);
    }
    state_close(&s);
}

static void the_first_tensor_that_is_not_finite_is_named(void **state)
{
    static struct state s;
    int64_t bad;
    (void)state;

    memset(s.g, 0, sizeof s.g);
    state_open(&s, &plain, 1);
    s.g[N1 + 3] = NAN;
    assert_true(isnan(ws_optim_norm(s.o, &bad)));
    assert_int_equal(bad, 1);
    s.g[5] = -INFINITY;
    (void)ws_optim_norm(s.o, &bad);
    assert_int_equal(bad, 0);
    state_close(&s);
}

static void clipping_is_that_of_pytorch(void **state)
{
    (void)state;
    assert_bits(ws_optim_clip(0.5, 1.0), 1.0f);
    assert_bits(ws_optim_clip(4.0, 1.0), 1.0f / (4.0f + 1e-6f));
    assert_bits(ws_optim_clip(4.0, 0.0), 1.0f);
}

/** Three blocks, one of them short. */
static void threads_do_not_change_a_bit(void **state)
{
    enum { BIG = 150001 };
    float *data[2];
    ws_err err = WS_ERR_INIT;
    int64_t bad;
    (void)state;

    for (int run = 0; run < 2; run++) {
        float *x = data[run] = ws_calloc(4 * BIG, sizeof *x);
        ws_slot_f32 slot = { .name = "x",
                             .n = BIG,
                             .p = x,
                             .g = x + BIG,
                             .m = x + 2 * BIG,
                             .v = x + 3 * BIG,
                             .decay = 0.5 };
        ws_pool *pool = NULL;
        ws_optim *o = NULL;
        for (int k = 0; k < 2 * BIG; k++)
            x[k] = (float)(k % 1009 * 7919 % 1000) / 500.0f - 1.0f;
        assert_ok(ws_pool_new(&pool, run ? 4 : 1, &err), err);
        assert_ok(ws_optim_new(&o, &plain, &slot, 1, pool, &err), err);
        for (int i = 1; i < 4; i++)
            ws_optim_step(o, i, 1e-2, ws_optim_clip(ws_optim_norm(o, &bad), 1.0));
        ws_optim_free(o);
        ws_pool_free(pool);
    }
    assert_memory_equal(data[0], data[1], 4 * BIG * sizeof(float));
    ws_free(data[0]);
    ws_free(data[1]);
}

/** One tensor of three rows trained for three steps, with factors of its rows. */
static void rows_train(const float *soft, const ws_optim_opts *opts, float out[2][3000])
{
    enum { ROW = 1000, ALL = 3 * ROW };
    static float x[4 * ALL];
    ws_slot_f32 slot = { .name = "x",
                         .n = ALL,
                         .p = x,
                         .g = x + ALL,
                         .m = x + 2 * ALL,
                         .v = x + 3 * ALL,
                         .soft = soft,
                         .span = ROW,
                         .decay = 0.5 };
    ws_pool *pool = NULL;
    ws_optim *o = NULL;
    int64_t bad;
    assert_int_equal(ws_pool_new(&pool, 2, NULL), WS_OK);
    assert_int_equal(ws_optim_new(&o, opts, &slot, 1, pool, NULL), WS_OK);
    memset(x, 0, sizeof x);
    for (int k = 0; k < 2 * ALL; k++)
        x[k] = (float)(k % 1009 * 7919 % 1000) / 500.0f - 1.0f;
    memcpy(out[0], x, ALL * sizeof *x);
    for (int i = 1; i < 4; i++) {
        (void)ws_optim_norm(o, &bad);
        ws_optim_step(o, i, 1e-2, 1.0f);
    }
    memcpy(out[1], x, ALL * sizeof *x);
    ws_optim_free(o);
    ws_pool_free(pool);
}

/** Factor 0: frozen, decay and all; 1: as without; between: that much of the step. */
static void factors_scale_the_steps_of_rows(void **state)
{
    static const float ones[] = { 1, 1, 1 }, some[] = { 0, 0.25f, 1 };
    static float plain_x[2][3000], one[2][3000], soft[2][3000];
    const ws_optim_opts sgd = { .kind = WS_OPTIM_SGD };
    (void)state;
    rows_train(NULL, &plain, plain_x);
    rows_train(ones, &plain, one);
    rows_train(some, &plain, soft);
    assert_memory_equal(plain_x[1], one[1], sizeof one[1]);
    assert_memory_equal(soft[1], soft[0], 1000 * sizeof(float));
    assert_memory_equal(soft[1] + 2000, one[1] + 2000, 1000 * sizeof(float));
    assert_memory_not_equal(soft[1] + 1000, one[1] + 1000, 1000 * sizeof(float));
    rows_train(NULL, &sgd, plain_x);
    rows_train(some, &sgd, soft);
    for (int k = 1000; k < 2000; k++) { // decay is part of the step: nearly a quarter
        const double whole = (double)plain_x[1][k] - (double)plain_x[0][k];
        const double part = (double)soft[1][k] - (double)soft[0][k];
        assert_true(fabs(part - 0.25 * whole) < 0.02 * fabs(whole) + 1e-6);
    }
}

static void clearing_touches_gradients_alone(void **state)
{
    struct state s;
    (void)state;
    for (int k = 0; k < N; k++)
        s.p[k] = s.g[k] = 1.0f;
    state_open(&s, &plain, 2);
    ws_optim_clear(s.o);
    for (int k = 0; k < N; k++) {
        assert_true(s.g[k] == 0.0f);
        assert_true(s.p[k] == 1.0f);
    }
    state_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_scale_the_steps_of_rows),
        cmocka_unit_test(adamw_steps_as_in_pytorch),
        cmocka_unit_test(sgd_steps_as_in_pytorch),
        cmocka_unit_test(masked_entries_keep_number_and_moments),
        cmocka_unit_test(the_first_tensor_that_is_not_finite_is_named),
        cmocka_unit_test(clipping_is_that_of_pytorch),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(clearing_touches_gradients_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
