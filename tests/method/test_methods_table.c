/*
 * test_methods_table.c - every descriptor is complete and in bounds
 */
#include "method/drive.h"

#include <ctype.h>

static int choice_words(const char *choices)
{
    int n = 1;
    for (; *choices != '\0'; choices++)
        n += *choices == '|';
    return n;
}

static void methods_are_sorted_and_found_by_name(void **unused)
{
    (void)unused;
    assert_true(ws_method_count() >= 12);
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *m = ws_method_at(i);
        char dashed[64];
        if (i > 0)
            assert_true(strcmp(ws_method_at(i - 1)->name, m->name) < 0);
        snprintf(dashed, sizeof dashed, "%s", m->name);
        for (char *c = dashed; *c != '\0'; c++)
            *c = *c == '_' ? '-' : *c;
        assert_ptr_equal(ws_method_find(m->name), m);
        assert_ptr_equal(ws_method_find(dashed), m);
    }
    assert_null(ws_method_at(ws_method_count()));
    assert_null(ws_method_find("tie"));
    assert_null(ws_method_find("tiesx"));
    assert_null(ws_method_find("TIES"));
    assert_null(ws_method_find(""));
}

static void twins_differ_only_in_arithmetic(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *m = ws_method_at(i), *twin = ws_method_f64(m);
        assert_non_null(twin);
        assert_ptr_equal(ws_method_f64(twin), twin);
        assert_string_equal(twin->name, m->name);
        assert_true(twin->apply != m->apply);
        assert_int_equal(twin->opts_size, m->opts_size);
        assert_int_equal(twin->n_tmp, m->n_tmp);
    }
    assert_null(ws_method_f64(NULL));
}

static void texts_are_there(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *m = ws_method_at(i);
        for (const char *c = m->name; *c != '\0'; c++)
            assert_true(islower((unsigned char)*c) || *c == '_');
        assert_true(strlen(m->summary) > 8 && strlen(m->summary) < 80);
        assert_true(m->summary[strlen(m->summary) - 1] != '.');
        assert_non_null(strstr(m->formula, "out = "));
        assert_true(strstr(m->source, "arXiv:") || strstr(m->source, "doi:") ||
                    strstr(m->source, "no paper"));
        assert_true(m->notes == NULL || m->notes[strlen(m->notes) - 1] == '.');
    }
}

static void kernels_fit_together(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *m = ws_method_at(i);
        assert_in_range(m->models.min, 1, m->models.max);
        assert_in_range(m->models.max, m->models.min, WS_MODELS_MAX);
        assert_non_null(m->apply);
        assert_true(!m->scaled || m->base == WS_BASE_REQUIRED);
        assert_true(m->update == NULL || m->scaled);
        if (m->passes != NULL) {
            assert_non_null(m->passes->state_size);
            assert_non_null(m->passes->partial_size);
            assert_non_null(m->passes->begin);
            assert_non_null(m->passes->scan);
            assert_non_null(m->passes->join);
        }
    }
}

static void assert_default(const ws_param *p, double value)
{
    assert_in_range(isnan(value) ? 0 : 1, 1, 1);
    assert_true(value >= p->min && value <= p->max);
    if (p->kind == WS_PARAM_BOOLEAN)
        assert_true(value == 0.0 || value == 1.0);
    if (p->kind == WS_PARAM_CHOICE)
        assert_true(value == floor(value) && (int)value < choice_words(p->choices));
}

static void parameters_are_sane(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *m = ws_method_at(i);
        for (const ws_param *p = m->params; p->name != NULL; p++) {
            for (const ws_param *q = m->params; q < p; q++)
                assert_string_not_equal(q->name, p->name);
            assert_true(p->offset < m->opts_size);
            assert_true(strlen(p->help) > 8);
            assert_true(p->min < p->max);
            assert_true(!p->per_model || p->kind == WS_PARAM_REAL);
            assert_true((p->choices != NULL) == (p->kind == WS_PARAM_CHOICE));
            assert_default(p, p->cli); // the command line never lacks one
            if (!isnan(p->recipe))
                assert_default(p, p->recipe);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_are_sorted_and_found_by_name),
        cmocka_unit_test(twins_differ_only_in_arithmetic),
        cmocka_unit_test(texts_are_there),
        cmocka_unit_test(kernels_fit_together),
        cmocka_unit_test(parameters_are_sane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
