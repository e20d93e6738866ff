/*
 * test_pattern.c - regular expressions over tensor names
 */
#include "temp_dir.h"
#include "ws_test.h"

#include "wsurg/alloc.h"
#include "wsurg/pattern.h"

static bool matches(ws_pattern_set *p, const char *name)
{
    ws_err err = WS_ERR_INIT;
    bool hit = false;
    assert_ok(ws_pattern_match(p, name, &hit, &err), err);
    return hit;
}

static ws_pattern_set *make(const char *text)
{
    ws_err err = WS_ERR_INIT;
    ws_pattern_set *p = NULL;
    assert_ok(ws_pattern_new(&p, text, &err), err);
    return p;
}

static void expression_is_found_anywhere(void **state)
{
    (void)state;
    ws_pattern_set *p = make("layers\\.[02]\\.mlp");
    assert_true(matches(p, "model.layers.0.mlp.up_proj.weight"));
    assert_true(matches(p, "model.layers.2.mlp.up_proj.weight"));
    assert_false(matches(p, "model.layers.1.mlp.up_proj.weight"));
    assert_false(matches(p, "model.layers.20.mlp.up_proj.weight"));
    ws_pattern_free(p);
    p = make("^lm_head");
    assert_true(matches(p, "lm_head.weight"));
    assert_false(matches(p, "model.lm_head.weight"));
    ws_pattern_free(p);
}

static void characters_beyond_ascii_are_characters(void **state)
{
    (void)state;
    ws_pattern_set *p = make("^.$");
    assert_true(matches(p, "\xc3\xa9"));
    assert_false(matches(p, "ab"));
    ws_pattern_free(p);
}

static void file_holds_one_expression_per_line(void **state)
{
    (void)state;
    spit_text("names", "# layers\nnorm\r\n\n^embed");
    ws_pattern_set *p = make("@names");
    assert_true(matches(p, "model.norm.weight"));
    assert_true(matches(p, "embed.weight"));
    assert_false(matches(p, "model.embed.weight"));
    assert_false(matches(p, "# layers"));
    ws_pattern_free(p);

    ws_err err = WS_ERR_INIT;
    spit_text("empty", "\n#\n");
    assert_int_equal(ws_pattern_new(&p, "@empty", &err), WS_E_USAGE);
    assert_string_equal(err.msg, "no pattern in the file");
    assert_string_equal(err.path, "empty");
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_pattern_new(&p, "@nowhere", &err), WS_E_IO);
}

static void byte_zero_in_a_file_hides_no_line(void **state)
{
    (void)state;
    spit("names", "a\0b\n^w", 6);
    ws_pattern_set *p = make("@names");
    assert_true(matches(p, "w"));
    assert_false(matches(p, "a"));
    ws_pattern_free(p);
}

static void mistake_is_shown_with_its_place(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_pattern_set *p = NULL;
    assert_int_equal(ws_pattern_new(&p, "layers.(0", &err), WS_E_USAGE);
    assert_string_equal(err.msg, "pattern 'layers.(0' is malformed at character 9: "
                                 "missing closing parenthesis");
    assert_null(p);
}

static void endless_backtracking_gives_no_answer(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    bool hit = true;
    ws_pattern_set *p = make("^(a|aa|aaa)+$");
    char name[80] = { 0 };
    memset(name, 'a', 78);
    name[78] = 'b';
    assert_int_equal(ws_pattern_match(p, name, &hit, &err), WS_E_USAGE);
    assert_string_equal(
        err.msg, "pattern '^(a|aa|aaa)+$' gives no answer: match limit exceeded");
    assert_string_equal(err.tensor, name);
    assert_true(hit); // untouched
    ws_pattern_free(p);
}

static void allocation_failures_leak_nothing(void **state)
{
    (void)state;
    const long live = ws_alloc_live();
    int ok = 0;
    for (long n = 0; n < 20; n++) {
        ws_pattern_set *p = NULL;
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expression_is_found_anywhere),
        cmocka_unit_test(characters_beyond_ascii_are_characters),
        TEST(file_holds_one_expression_per_line),
        TEST(byte_zero_in_a_file_hides_no_line),
        cmocka_unit_test(mistake_is_shown_with_its_place),
        cmocka_unit_test(endless_backtracking_gives_no_answer),
        cmocka_unit_test(allocation_failures_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
