/*
 * test_recipe.c - recipes: values, their precedence, and mistakes with their places
 */
#include "ws_test.h"

#include "engine/recipe_internal.h"

static ws_recipe *read(const char *text)
{
    ws_diag errors = { 0 };
    ws_recipe *r = NULL;
    const ws_status st =
        ws_recipe_parse(&r, "r.yml", text, strlen(text), false, &errors, NULL);
    if (st != WS_OK)
        print_error("%s, in %s\n", errors.items[0].msg, errors.items[0].path);
    assert_int_equal(st, WS_OK);
    ws_diag_free(&errors);
    return r;
}

/** All reports of a recipe, one a line: "place: message". */
static void assert_mistakes(const char *text, const char *expected)
{
    ws_diag errors = { 0 };
    ws_recipe *r = NULL;
    ws_buf b = { 0 };
    ws_buf_puts(&b, "");
    assert_int_equal(ws_recipe_parse(&r, "r", text, strlen(text), false, &errors, NULL),
                     WS_E_RECIPE);
    assert_null(r);
    for (size_t i = 0; i < errors.n; i++)
        ws_buf_printf(&b, "%s: %s\n", errors.items[i].path, errors.items[i].msg);
    assert_string_equal(b.p, expected);
    ws_buf_free(&b);
    ws_diag_free(&errors);
}

static const ws_param *param(const ws_recipe_doc *doc, const char *name)
{
    const ws_param *p = doc->method->params;
    while (p->name != NULL && strcmp(p->name, name) != 0)
        p++;
    assert_non_null(p->name);
    return p;
}

/** Value of @p name for the tensor @p tensor of source @p source; NAN if none. */
static double value(const ws_recipe *r, const char *name, size_t source,
                    const char *tensor, double t)
{
    const ws_recipe_doc *doc = ws_recipe_at(r, 0);
    const ws_recipe_query q = { .slice = &doc->slices[0],
                                .source = &doc->slices[0].sources[source],
                                .in_name = tensor,
                                .out_name = tensor,
                                .t = t };
    ws_place at;
    double v = NAN;
    return ws_recipe_value(doc, param(doc, name), &q, &v, &at) ? v : NAN;
}

#define SLERP "merge_method: slerp\nbase_model: a\nmodels:\n- model: a\n- model: b\n"

static void gradient_is_interpolated_over_the_layers(void **state)
{
    (void)state;
    static const double expected[][7] = {
        { 1 },
        { 0, 1 },
        { 0, 0.43333333333333335, 0.56666666666666665, 1 },
        { 0, 0.5, 0.3, 0.7, 1 },
        { 0, 1.0 / 3, 0.43333333333333335, 0.3, 0.56666666666666665, 0.8, 1 },
    };
    static const int layers[] = { 1, 2, 4, 5, 7 };
    ws_recipe *r = read(SLERP "parameters: {t: [0, 0.5, 0.3, 0.7, 1]}\n");
    for (size_t i = 0; i < 5; i++)
        for (int l = 0; l < layers[i]; l++) {
            const double t = layers[i] == 1 ? 1.0 : (double)l / (layers[i] - 1);
            assert_close(value(r, "t", 0, "x", t), expected[i][l], 1e-15);
        }
    ws_recipe_free(r);
}

static void first_filter_that_fits_holds(void **state)
{
    (void)state;
    ws_recipe *r = read(SLERP "parameters:\n  t:\n"
                              "  - {filter: self_attn, value: [0, 1]}\n"
                              "  - {filter: attn, value: 0.25}\n"
                              "  - filter: '*'\n    value: 1e-1\n"
                              "  - value: 0.75\n");
    assert_close(value(r, "t", 0, "layers.0.self_attn.q", 0.5), 0.5, 0);
    assert_close(value(r, "t", 0, "layers.0.linear_attn.q", 0.5), 0.25, 0);
    assert_close(value(r, "t", 0, "layers.0.mlp", 0.5), 0.1, 0);
    ws_recipe_free(r);
}

static void model_comes_before_slice_and_document(void **state)
{
    (void)state;
    ws_recipe *r =
        read("merge_method: ties\nbase_model: a\nslices:\n- sources:\n"
             "  - model: b\n    layer_range: [0, 2]\n"
             "    parameters: {weight: [{filter: mlp, value: 0.5}]}\n"
             "  - model: a\n    layer_range: [0, 2]\n"
             "  parameters: {weight: 0.25, lambda: 2}\n"
             "parameters: {weight: 0.125, density: '1e-1', normalize: no}\n");
    assert_close(value(r, "weight", 0, "mlp", 0), 0.5, 0);
    assert_close(value(r, "weight", 0, "norm", 0), 0.25, 0);
    assert_close(value(r, "lambda", 0, "norm", 0), 2, 0);
    assert_close(value(r, "density", 0, "norm", 0), 0.1, 0);
    assert_close(value(r, "normalize", 0, "norm", 0), 0, 0);
    assert_true(isnan(value(r, "rescale", 0, "norm", 0)));
    ws_recipe_free(r);
}

static void anchors_aliases_and_merged_maps(void **state)
{
    (void)state;
    ws_recipe *r = read("merge_method: dare-ties\nbase_model: &base C:\\models\\base\n"
                        "models:\n"
                        "- model: *base\n"
                        "- model: \"D:\\\\models\\\\x\"\n"
                        "  parameters: &p {weight: 0.5, density: 0.25}\n"
                        "- model: y\n"
                        "  parameters: {<<: *p, weight: 2}\n");
    const ws_recipe_doc *doc = ws_recipe_at(r, 0);
    assert_string_equal(doc->method->name, "dare_ties");
    assert_int_equal(ws_recipe_model_count(doc), 3);
    assert_string_equal(ws_recipe_model(doc, 0), "C:\\models\\base");
    assert_string_equal(ws_recipe_model(doc, 1), "D:\\models\\x");
    assert_close(value(r, "weight", 2, "x", 0), 2, 0);
    assert_close(value(r, "density", 2, "x", 0), 0.25, 0);
    ws_recipe_free(r);
}

static void mistakes_are_reported_together_with_their_places(void **state)
{
    (void)state;
    assert_mistakes("merge_method: tyes\nmodles: []\ndtype: bf17\n",
                    "r:2:1: unknown key 'modles' in the recipe\n"
                    "r:1:15: unknown method 'tyes'\n"
                    "r:3:8: dtype is 'bf17', wanted float32, float16 or bfloat16\n"
                    "r:1:1: neither 'models' nor 'slices' is given\n");
    assert_mistakes(SLERP "  parameters: {t: 0.5}\nt: 1\nparameters: {t: [], u: 1}\n",
                    "r:7:1: parameter 't' stands in the recipe itself\n"
                    "r:8:17: t has an empty list\n"
                    "r:8:21: method 'slerp' has no parameter 'u'\n"
                    "r:6:16: t is one value for all models: under a model it has no "
                    "effect\n");
    assert_mistakes("merge_method: ties\nmodels: [{model: a}, {model: a}]\n",
                    "r:1:15: method 'ties' needs a 'base_model'\n"
                    "r:2:22: model 'a' is listed twice, first in line 2\n");
    assert_mistakes("merge_method: passthrough\nslices:\n- sources:\n"
                    "  - {model: a, layer_range: [0, 2]}\n"
                    "  - {model: b, layer_range: [2, 3]}\n"
                    "- sources: [{model: a, layer_range: [3, 1]}]\n",
                    "r:5:29: layer_range spans 1 layers, the first source's spans 2\n"
                    "r:6:37: layer_range ends at 1 before it begins at 3\n");
}

static void broken_yaml_is_one_mistake(void **state)
{
    (void)state;
    assert_mistakes("a: [1\n", "r:2:1: not valid YAML: did not find expected ',' or "
                               "']', while parsing a flow sequence\n");
    assert_mistakes("a: *b\n", "r:1:4: alias '*b' names nothing before it\n");
    assert_mistakes("a: &x [*x]\n", "r:1:8: alias '*x' names nothing before it\n");
    assert_mistakes("", "r: the recipe is empty\n");
}

static void lenient_reading_warns_of_what_has_no_effect(void **state)
{
    (void)state;
    const char *text = SLERP "paramters: {}\nparameters: {t: 1, q: 2}\n";
    ws_diag errors = { 0 }, warnings = { 0 };
    ws_recipe *r = NULL;
    assert_int_equal(
        ws_recipe_parse(&r, "r", text, strlen(text), true, &errors, &warnings), WS_OK);
    assert_int_equal(errors.n, 0);
    assert_int_equal(warnings.n, 2);
    assert_string_equal(warnings.items[1].path, "r:7:20");
    ws_recipe_free(r);
    ws_diag_free(&warnings);
}

static void a_model_may_be_a_document(void **state)
{
    (void)state;
    ws_recipe *r = read("name: x\n" SLERP "parameters: {t: 1}\n---\n"
                        "merge_method: slerp\nbase_model: x\nmodels: "
                        "[{model: x+adapter}, {model: xy}]\nparameters: {t: 1}\n");
    const ws_recipe_doc *doc = ws_recipe_result(r);
    assert_int_equal(ws_recipe_count(r), 2);
    assert_ptr_equal(doc, ws_recipe_at(r, 1));
    assert_int_equal(doc->refs[0].doc, 0);
    assert_null(doc->refs[0].adapters);
    assert_int_equal(doc->refs[1].doc, 0);
    assert_string_equal(doc->refs[1].adapters, "+adapter");
    assert_true(doc->refs[2].doc == SIZE_MAX);
    ws_recipe_free(r);
    r = read("name: last\nmerge_method: linear\nmodels: [{model: first}]\n"
             "parameters: {weight: 1}\n---\nname: first\n" SLERP
             "parameters: {t: 1}\n");
    assert_ptr_equal(ws_recipe_result(r), ws_recipe_at(r, 0));
    ws_recipe_free(r);
}

static void every_failing_allocation_is_survived(void **state)
{
    (void)state;
    const char *text = SLERP "parameters: {t: [{filter: a, value: [0, 1]}]}\n"
                             "name: x\n---\nmerge_method: linear\n"
                             "models: [{model: x}]\nparameters: {weight: 1}\n";
    for (long n = 0;; n++) {
        ws_diag errors = { 0 };
        ws_recipe *r = NULL;
        ws_alloc_fail_after(n);
        const ws_status st =
            ws_recipe_parse(&r, "r", text, strlen(text), false, &errors, NULL);
        const bool failed = ws_alloc_failed();
        ws_alloc_fail_after(-1);
        ws_recipe_free(r);
        ws_diag_free(&errors);
        if (!failed)
            break;
        assert_int_not_equal(st, WS_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_is_interpolated_over_the_layers),
        cmocka_unit_test(first_filter_that_fits_holds),
        cmocka_unit_test(model_comes_before_slice_and_document),
        cmocka_unit_test(anchors_aliases_and_merged_maps),
        cmocka_unit_test(mistakes_are_reported_together_with_their_places),
        cmocka_unit_test(broken_yaml_is_one_mistake),
        cmocka_unit_test(lenient_reading_warns_of_what_has_no_effect),
        cmocka_unit_test(a_model_may_be_a_document),
        cmocka_unit_test(every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
