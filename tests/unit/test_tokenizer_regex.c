/*
 * test_tokenizer_regex.c - regexes of Oniguruma, rewritten and run
 */
#include "model/tokenizer_onig.h"
#include "tokenizer_fixture.h"

static void what_differs_is_rewritten(void **state)
{
    (void)state;
    static const struct {
        const char *onig, *pcre;
    } cases[] = {
        { "'s| ?\\p{L}+|\\d{1,3}", "'s| ?\\p{L}+|\\d{1,3}" },
        { "[^\\r\\n\\p{L}]?+", "[^\\r\\n\\p{L}]?+" },
        { "(?i:'s)(?=a)(?<!b)(?>c)", "(?i:'s)(?=a)(?<!b)(?>c)" },
        { "\\s", "[" WS_CLASS_SPACE "]" },
        { "\\S", "[^" WS_CLASS_SPACE "]" },
        { "[^\\s]", "[^" WS_CLASS_SPACE "]" },
        { "\\h\\H", "[0-9a-fA-F][^0-9a-fA-F]" },
        { "\\v\\u4e00\\x41\\x{1f600}", "\\x0b\\x{4e00}\\x{41}\\x{1f600}" },
        { "(?m:.)(?-i)", "(?s:.)(?-i)" },
        { "a{,3}b{2,}c{x{", "a{0,3}b{2,}c\\{x\\{" },
        { "\\.\\[\\\\\\-", "\\.\\[\\\\\\-" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ws_buf b = { 0 };
        assert_ok(ws_onig_rewrite(cases[i].onig, strlen(cases[i].onig), &b, &err), err);
        assert_string_equal(b.p, cases[i].pcre);
        ws_buf_free(&b);
    }
}

static void what_has_no_equal_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *regex, *msg;
    } cases[] = {
        { "a[b[c]]",
          "regex has '[c]]' at byte 3: a class inside a class is not supported" },
        { "[a&&b]",
          "regex has '&&' at byte 2: intersection of classes is not supported" },
        { "(?~a)", "regex has '(?~a' at byte 0: this kind of group is not supported" },
        { "(?<n>a)",
          "regex has '(?<n' at byte 0: this kind of group is not supported" },
        { "(*FAIL)", "regex has '(*FA' at byte 0: verbs are not supported" },
        { "(a)\\1", "regex has '\\1' at byte 3: this escape is not supported" },
        { "\\Ga", "regex has '\\G' at byte 0: this escape is not supported" },
        { "[\\W]", "regex has '\\W' at byte 1: this escape is not supported" },
        { "a{1,2}+", "regex has '{1,2}+' at byte 1: a plus behind an interval" },
        { "\\xff",
          "regex has '\\xff' at byte 0: a lone byte above 7F is not supported" },
        { "\\pL", "regex has '\\pL' at byte 0: a property is written \\p{Name}" },
        { "[]a]",
          "regex has '[]a' at byte 0: a class that opens with ']' is not supported" },
        { "[a", "regex has a class without its end" },
        { "a\\", "regex ends in a backslash" },
        { "\\p{Nonsense}",
          "unknown property after \\P or \\p at byte 12 of the regex" },
        { "(a", "missing closing parenthesis at byte 2 of the regex" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ws_regex *r = NULL;
        err = (ws_err)WS_ERR_INIT;
        assert_int_not_equal(
            ws_regex_new(&r, cases[i].regex, strlen(cases[i].regex), &err), WS_OK);
        assert_string_equal(err.msg, cases[i].msg);
        assert_null(r);
    }
}

static void assert_matches(const char *regex, const char *text, const char *want)
{
    ws_regex *r = NULL;
    ws_matcher m = { 0 };
    ws_buf have = { 0 };
    size_t start, end;
    bool found;
    assert_ok(ws_regex_new(&r, regex, strlen(regex), &err), err);
    ws_regex_walk w = ws_regex_walk_begin(r, &m, text, strlen(text));
    ws_buf_puts(&have, "");
    for (;;) {
        assert_ok(ws_regex_walk_next(&w, &start, &end, &found, &err), err);
        if (!found)
            break;
        ws_buf_printf(&have, "%zu-%zu ", start, end);
    }
    assert_string_equal(have.p, want);
    ws_buf_free(&have);
    ws_matcher_free(&m);
    ws_regex_free(r);
}

static void matches_follow_one_another(void **state)
{
    (void)state;
    assert_matches("a+", "aabaa", "0-2 3-5 ");
    assert_matches("x*", "axb", "0-0 1-2 3-3 ");
    assert_matches("\\s", "a\xE1\xA0\x8E\xC2\xA0", "4-6 "); // U+180E is no space
    assert_matches("\\w+", "a\xCC\x81_1-", "0-5 ");
    assert_matches("\\b", "ab", "0-0 2-2 ");
    assert_matches("^b$", "a\nb\nc", "2-3 ");
    assert_matches("(?i:'s)", "'S", "0-2 ");
    assert_matches("|", "\xC3\xA9", "0-0 2-2 ");
}

static void a_regex_that_takes_for_ever_gives_up(void **state)
{
    (void)state;
    ws_regex *r = NULL;
    ws_matcher m = { 0 };
    static const char regex[] = "(?:a+)+(?:a+)+(?:a+)+b";
    static char text[3000];
    size_t start, end;
    bool found;
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    text[sizeof text - 2] = 'c';
    assert_ok(ws_regex_new(&r, regex, sizeof regex - 1, &err), err);
    assert_int_equal(
        ws_regex_find(r, &m, text, sizeof text, 0, &start, &end, &found, &err),
        WS_E_UNSUPPORTED);
    assert_string_equal(err.msg,
                        "a regex of the tokenizer gave up: match limit exceeded");
    ws_matcher_free(&m);
    ws_regex_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_differs_is_rewritten),
        cmocka_unit_test(what_has_no_equal_is_refused),
        cmocka_unit_test(matches_follow_one_another),
        cmocka_unit_test(a_regex_that_takes_for_ever_gives_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
