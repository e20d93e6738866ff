/*
 * test_pattern.c - regular expressions over tensor names
 */
#include "st_fixture.h"
#include "ws_test.h"

#include <unistd.h>

#include "wsurg/alloc.h"
#include "wsurg/pattern.h"

static bool matches(ws_pattern *p, const char *name)
{
    ws_err err = WS_ERR_INIT;
    bool hit = false;
    assert_ok(ws_pattern_match(p, name, &hit, &err), err);
    return hit;
}

static ws_pattern *make(const char *text)
{
    ws_err err = WS_ERR_INIT;
    ws_pattern *p = NULL;
    assert_ok(ws_pattern_new(&p, text, &err), err);
    assert_string_equal(ws_pattern_text(p), text);
    return p;
}

static void expression_is_found_anywhere(void **state)
{
    (void)state;
    ws_pattern *p = make("layers\\.[02]\\.mlp");
    assert_true(matches(p, "model.layers.0.mlp.up_proj.weight"));
    assert_true(matches(p, "model.layers.2.mlp.up_proj.weight"));
    assert_false(matches(p, "model.layers.1.mlp.up_proj.weight"));
    assert_false(matches(p, "model.layers.20.mlp.up_proj.weight"));
    assert_int_equal(ws_pattern_hits(p), 2);
    ws_pattern_free(p);
    p = make("^lm_head");
    assert_true(matches(p, "lm_head.weight"));
    assert_false(matches(p, "model.lm_head.weight"));
    ws_pattern_free(p);
}

static void characters_beyond_ascii_are_characters(void **state)
{
    (void)state;
    ws_pattern *p = make("^.$");
    assert_true(matches(p, "\xc3\xa9"));
    assert_false(matches(p, "ab"));
    ws_pattern_free(p);
}

static void file_holds_one_expression_per_line(void **state)
{
    (void)state;
    char path[] = "/tmp/wsurg-pattern-XXXXXX", text[64];
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    st_put(path, "norm\r\n\n^embed", 13);
    snprintf(text, sizeof text, "@%s", path);
    ws_pattern *p = make(text);
    assert_true(matches(p, "model.norm.weight"));
    assert_true(matches(p, "embed.weight"));
    assert_false(matches(p, "model.embed.weight"));
    ws_pattern_free(p);

    ws_err err = WS_ERR_INIT;
    st_put(path, "\n\n", 2);
    assert_int_equal(ws_pattern_new(&p, text, &err), WS_E_USAGE);
    assert_string_equal(err.msg, "no pattern in the file");
    assert_string_equal(err.path, path);
    unlink(path);
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_pattern_new(&p, text, &err), WS_E_IO);
}

static void mistake_is_shown_with_its_place(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_pattern *p = NULL;
    assert_int_equal(ws_pattern_new(&p, "layers.(0", &err), WS_E_USAGE);
    assert_string_equal(err.msg, "pattern 'layers.(0' is no regular expression: "
                                 "missing closing parenthesis (at 9)");
    assert_int_equal(err.offset, 9);
    assert_null(p);
}

static void endless_backtracking_is_cut_off(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    bool hit;
    ws_pattern *p = make("^(a|aa|aaa)+$");
    assert_int_equal(ws_pattern_match(p,
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
                                      &hit, &err),
                     WS_E_USAGE);
    assert_string_equal(err.msg, "pattern '^(a|aa|aaa)+$' takes more than 1000000 "
                                 "steps");
    ws_pattern_free(p);
}

static void allocation_failures_leak_nothing(void **state)
{
    (void)state;
    const long live = ws_alloc_live();
    int ok = 0;
    for (long n = 0; n < 20; n++) {
        ws_pattern *p = NULL;
        bool hit = false;
        ws_alloc_fail_after(n);
        ws_status st = ws_pattern_new(&p, "a+b", NULL);
        if (st == WS_OK)
            st = ws_pattern_match(p, "aab", &hit, NULL);
        ws_alloc_fail_after(-1);
        assert_true(st == WS_OK || st == WS_E_MEMORY);
        ok += st == WS_OK;
        ws_pattern_free(p);
        assert_int_equal(ws_alloc_live(), live);
    }
    assert_true(ok > 0 && ok < 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expression_is_found_anywhere),
        cmocka_unit_test(characters_beyond_ascii_are_characters),
        cmocka_unit_test(file_holds_one_expression_per_line),
        cmocka_unit_test(mistake_is_shown_with_its_place),
        cmocka_unit_test(endless_backtracking_is_cut_off),
        cmocka_unit_test(allocation_failures_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
