/*
 * test_intruders.c - directions that a base lacks: planted ones are found, and softened
 */
#include "mat_fixture.h"
#include "st_fixture.h"
#include "temp_dir.h"

#include "surgery/intruders.h"
#include "wsurg/lora.h"
#include "wsurg/source.h"

enum { SHORT = 20, LONG = 30, SIDE = 30 };

/** W (m, n) with W_ii = i + 1, but 0 in row @p gap; V = W + size u v'. */
struct planted {
    int64_t m, n, gap;
    double size, u[SIDE], v[SIDE];
};

static ws_status planted_load(void *arg, bool tuned, double *to, ws_err *err)
{
    const struct planted *p = arg;
    (void)err;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++)
            to[i * p->n + j] = (i == j && i != p->gap ? (double)(i + 1) : 0.0) +
                               (tuned ? p->size * p->u[i] * p->v[j] : 0.0);
    return WS_OK;
}

static struct planted even(int64_t m, int64_t n)
{
    struct planted p = { .m = m, .n = n, .gap = -1 };
    for (int64_t i = 0; i < m; i++)
        p.u[i] = 1.0 / sqrt((double)m);
    for (int64_t j = 0; j < n; j++)
        p.v[j] = (j % 2 == 0 ? 1.0 : -1.0) / sqrt((double)n);
    return p;
}

static void find(ws_intruders *out, struct planted *p, int64_t top)
{
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_intruders_find(out, p->m, p->n, top, planted_load, p, &err), err);
}

static void the_base_has_all_its_directions(void **state)
{
    (void)state;
    const int64_t sides[][2] = { { SHORT, LONG }, { LONG, SHORT }, { SHORT, SHORT } };
    for (size_t i = 0; i < 3; i++) {
        struct planted p = even(sides[i][0], sides[i][1]);
        ws_intruders x;
        find(&x, &p, 100); // more than there are
        assert_int_equal(x.k, SHORT);
        double norm_sq = 0;
        for (int64_t k = 0; k < x.k; k++) {
            assert_close(x.s[k], SHORT - k, 1e-12);
            assert_close(x.cosine[k], 1.0, 1e-12);
            norm_sq += x.s[k] * x.s[k];
        }
        assert_close(x.base_norm, sqrt(norm_sq), 1e-12);
        ws_intruders_free(&x);
    }
}

static void a_planted_direction_is_found(void **state)
{
    (void)state;
    const int64_t sides[][2] = { { SHORT, LONG }, { LONG, SHORT } };
    for (size_t i = 0; i < 2; i++) {
        struct planted p = even(sides[i][0], sides[i][1]);
        ws_intruders x;
        p.size = 1e6; // nothing turns it then: u is the first left vector
        find(&x, &p, 3);
        assert_close(x.s[0] / 1e6, 1.0, 1e-5);
        assert_close(x.cosine[0], 1.0 / sqrt((double)p.m), 1e-5);
        for (int64_t j = 0; j < p.m; j++)
            assert_close(fabs(x.U[j]), p.u[j], 1e-4);
        for (int64_t j = 0; j < p.n; j++)
            assert_close(fabs(x.Vt[j]), fabs(p.v[j]), 1e-4);
        assert_true(x.cosine[1] > 0.5);
        ws_intruders_free(&x);
    }
}

static void directions_without_a_size_are_none_of_the_base(void **state)
{
    (void)state;
    const int64_t sides[][2] = { { SHORT, LONG }, { LONG, SHORT } };
    for (size_t i = 0; i < 2; i++) {
        struct planted p = { .m = sides[i][0], .n = sides[i][1], .gap = 3, .size = 99 };
        ws_intruders x;
        p.u[3] = 1.0;
        p.v[3] = 1.0;
        find(&x, &p, 2);
        assert_close(x.s[0], 99, 1e-12);
        assert_true(x.cosine[0] < 1e-12); // e_3 is no left vector of W
        assert_close(x.cosine[1], 1.0, 1e-12);
        ws_intruders_free(&x);
    }
}

static void what_loading_says_is_passed_on(void **state)
{
    (void)state;
    struct planted p = even(SHORT, LONG);
    ws_intruders x;
    ws_err err = WS_ERR_INIT;
    const int live = (int)ws_alloc_live();
    p.u[0] = NAN;
    p.size = 1;
    assert_int_equal(ws_intruders_find(&x, p.m, p.n, 2, planted_load, &p, &err),
                     WS_E_NOT_FINITE);
    assert_int_equal((int)ws_alloc_live(), live);
}

/* ---- an adapter ---- */

#define Q "model.layers.0.q_proj"
#define P "base_model.model."

/** base.st with a diagonal matrix; "spike": one direction of size 60 in rank 3. */
static void files_put(bool transposed)
{
    static float W[SHORT * LONG], A[3 * LONG], B[3 * LONG];
    const size_t m = transposed ? LONG : SHORT, n = transposed ? SHORT : LONG;
    struct planted p = even((int64_t)m, (int64_t)n);
    memset(W, 0, sizeof W);
    memset(A, 0, sizeof A);
    memset(B, 0, sizeof B);
    for (size_t i = 0; i < SHORT; i++)
        W[i * n + i] = (float)(i + 1);
    for (size_t j = 0; j < n; j++)
        A[j] = (float)(6.0 * p.v[j]);
    for (size_t i = 0; i < m; i++)
        B[i * 3] = (float)(5.0 * p.u[i]);
    const st_item base[] = { { Q ".weight", WS_DT_F32, 2, { m, n }, W } };
    const st_item factors[] = { { P Q ".lora_A.weight", WS_DT_F32, 2, { 3, n }, A },
                                { P Q ".lora_B.weight", WS_DT_F32, 2, { m, 3 }, B } };
    st_write("base.st", base, 1, NULL, 0);
    assert_int_equal(mkdir("spike", 0700), 0);
    spit_text("spike/adapter_config.json",
              "{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":6}"); // scale 2
    st_write("spike/adapter_model.safetensors", factors, 2, NULL, 0);
}

/** Singular values (SHORT) of the matrix of MODEL. */
static void values_of(const char *model, double *s)
{
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    static double X[SHORT * LONG];
    assert_ok(ws_source_open(&c, model, WS_FOLD_F64, NULL, &err), err);
    const ws_tensor *t = ws_ckpt_find(c, Q ".weight");
    assert_ok(ws_ckpt_read(c, t, 0, (size_t)t->n_bytes, X, &err), err);
    ws_mat M = ws_mat_f64(X, (int64_t)t->shape[0], (int64_t)t->shape[1]);
    assert_ok(ws_singular_values(&M, s, &tmp, &err), err);
    ws_arena_free(&tmp);
    ws_ckpt_free(c);
}

static ws_lora_softened *soften(double lambda, const char *out)
{
    ws_lora_soften_req req = { .base = "base.st",
                               .adapter = "spike",
                               .intruders = WS_INTRUDER_OPTS_INIT,
                               .lambda = lambda,
                               .dtype = WS_DT_F32,
                               .target = { .out = out } };
    ws_lora_softened *s = NULL;
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_lora_soften(&s, &req, NULL, &err), err);
    return s;
}

static void softened_values_are_lambda_times_as_large(bool transposed)
{
    double before[SHORT], after[SHORT];
    files_put(transposed);
    values_of("base.st+spike", before);
    ws_lora_softened *s = soften(0.5, "gentle");
    assert_int_equal(s->intruders, 1);
    assert_string_equal(s->changed[0].name, Q);
    assert_close(s->changed[0].before, 60.0, 1e-6);
    assert_true(s->changed[0].error < 1e-7); // of three ranks two are taken
    ws_lora_softened_free(s);
    values_of("base.st+gentle", after);
    assert_close(after[0], 0.5 * before[0], 1e-6);
    for (size_t k = 1; k < SHORT; k++)
        assert_close(after[k], before[k], 1e-6);
}

static void softened_wide(void **state)
{
    (void)state;
    softened_values_are_lambda_times_as_large(false);
}

static void softened_tall(void **state)
{
    (void)state;
    softened_values_are_lambda_times_as_large(true);
}

static void lambda_of_one_changes_nothing(void **state)
{
    (void)state;
    double before[SHORT], after[SHORT];
    files_put(false);
    ws_lora_softened *s = soften(1.0, "same");
    assert_int_equal(s->intruders, 1);
    ws_lora_softened_free(s);
    values_of("base.st+spike", before);
    values_of("base.st+same", after);
    assert_memory_equal(before, after, sizeof before);
}

static void a_look_counts_what_softening_changes(void **state)
{
    (void)state;
    files_put(false);
    const ws_lora_look_req req = { .adapter = "spike",
                                   .base = "base.st",
                                   .intruders = WS_INTRUDER_OPTS_INIT };
    ws_lora_look *look = NULL;
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_lora_look_at(&look, &req, NULL, &err), err);
    assert_int_equal(look->n_layers, 1);
    assert_int_equal(look->intruders, 1);
    const ws_lora_layer *l = &look->layers[0];
    assert_int_equal(l->n_top, 10);
    assert_true(l->top[0].intruder && !l->top[1].intruder);
    assert_close(l->norm, 60.0, 1e-6);
    assert_close(l->largest, 60.0, 1e-6);
    assert_true(l->scale == 2.0 && l->rank == 3 && l->in == LONG && l->out == SHORT);
    ws_lora_look_free(look);
    // with less memory than one matrix takes
    const ws_ctx little = { .max_memory = 1000, .threads = 1 };
    assert_int_equal(ws_lora_look_at(&look, &req, &little, &err), WS_E_MEMORY);
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_base_has_all_its_directions),
        cmocka_unit_test(a_planted_direction_is_found),
        cmocka_unit_test(directions_without_a_size_are_none_of_the_base),
        cmocka_unit_test(what_loading_says_is_passed_on),
        T(softened_wide),
        T(softened_tall),
        T(lambda_of_one_changes_nothing),
        T(a_look_counts_what_softening_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
