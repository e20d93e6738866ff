/*
 * test_schedule.c - learning rates against those of transformers
 */
#include "train/schedule.h"

#include "ws_test.h"
#include "wsurg/ckpt.h"

enum { STEPS = 40 };

static const char *const names[] = {
    "constant",   "constant_with_warmup", "linear",
    "cosine",     "cosine_with_restarts", "cosine_with_min_lr",
    "polynomial", "inverse_sqrt",         "warmup_stable_decay",
};

static void compare(ws_ckpt *c, int kind, int warmup)
{
    const bool stable = kind == WS_SCHEDULE_STABLE_DECAY;
    const ws_schedule s = { .kind = (ws_schedule_kind)kind,
                            .lr = 0.25,
                            .warmup = warmup,
                            .steps = STEPS,
                            .decay = stable ? 10 : 0,
                            .min_rate = stable ? 0.2 : 0.1,
                            .power = 2.0 };
    double want[STEPS];
    char key[64];
    ws_err err = WS_ERR_INIT;

    snprintf(key, sizeof key, "%s.%d", names[kind], warmup);
    const ws_tensor *t = ws_ckpt_find(c, key);
    assert_non_null(t);
    assert_ok(ws_ckpt_read(c, t, 0, sizeof want, want, &err), err);
    for (int i = 0; i < STEPS; i++)
        if (!(fabs(s.lr * ws_schedule_factor(&s, i) - want[i]) <= 1e-15))
            fail_msg("%s at step %d: %.17g, transformers has %.17g", key, i,
                     s.lr * ws_schedule_factor(&s, i), want[i]);
}

static void rates_are_those_of_transformers(void **state)
{
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    (void)state;

    assert_ok(ws_ckpt_open(&c, WS_GOLDEN "/train/schedule.safetensors", NULL, &err),
              err);
    for (int kind = 0; kind <= WS_SCHEDULE_STABLE_DECAY; kind++) {
        compare(c, kind, 0);
        compare(c, kind, 7);
    }
    ws_ckpt_free(c);
}

static void the_first_step_of_a_warm_up_is_at_rate_zero(void **state)
{
    const ws_schedule s = {
        .kind = WS_SCHEDULE_COSINE, .lr = 1.0, .warmup = 4, .steps = 9
    };
    (void)state;
    assert_true(ws_schedule_factor(&s, 0) == 0.0);
    assert_true(ws_schedule_factor(&s, 2) == 0.5);
    assert_true(ws_schedule_factor(&s, 4) == 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_those_of_transformers),
        cmocka_unit_test(the_first_step_of_a_warm_up_is_at_rate_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
