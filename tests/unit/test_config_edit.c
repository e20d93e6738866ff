/*
 * test_config_edit.c - values change in place, every other byte stays
 */
#include "hf/config_edit.h"
#include "ws_test.h"

static void assert_replaced(const char *text, const char *key, const char *value,
                            size_t want_n, const char *want)
{
    ws_err err = WS_ERR_INIT;
    ws_buf b = { 0 };
    assert_ok(ws_config_check(text, strlen(text), &err), err);
    assert_int_equal(ws_config_replace(&b, text, strlen(text), key, value), want_n);
    assert_string_equal(b.p, want);
    ws_buf_free(&b);
}

static void value_is_replaced_in_place(void **state)
{
    (void)state;
    assert_replaced(
        "{\n  \"a\": [1, {\"dtype\": \"x\"}],\n\t\"dtype\" : \"float32\" ,\n"
        "  \"z\": 1.0e5\n}\n",
        "dtype", "\"bfloat16\"", 1,
        "{\n  \"a\": [1, {\"dtype\": \"x\"}],\n\t\"dtype\" : \"bfloat16\" ,\n"
        "  \"z\": 1.0e5\n}\n");
    assert_replaced("{\"tie\":true,\"x\":{}}", "tie", "false", 1,
                    "{\"tie\":false,\"x\":{}}");
    assert_replaced("{\"tie\":null}", "tie", "false", 1, "{\"tie\":false}");
    assert_replaced("{\"tie\":12}\n\n", "tie", "3", 1, "{\"tie\":3}\n\n");
}

static void text_without_the_key_stays(void **state)
{
    (void)state;
    assert_replaced("{}", "tie", "false", 0, "{}");
    assert_replaced("  { }  ", "tie", "false", 0, "  { }  ");
    assert_replaced("{\"x\":\"tie\",\"y\":[\"tie\",true],\"tied\":1}", "tie", "false",
                    0, "{\"x\":\"tie\",\"y\":[\"tie\",true],\"tied\":1}");
    assert_replaced("{\"x\\\"\":\"\\\\\",\"y\":\"\\\"tie\\\":1\"}", "tie", "2", 0,
                    "{\"x\\\"\":\"\\\\\",\"y\":\"\\\"tie\\\":1\"}");
}

static void nested_configurations_count_and_quantization_does_not(void **state)
{
    (void)state;
    assert_replaced(
        "{\"thinker_config\":{\"text_config\":{\"tie\":true},\"tie\":true},"
        "\"rope\":{\"tie\":true},\"quantization_config\":{\"tie\":true},"
        "\"list_config\":[{\"tie\":true}],\"tie\":true}",
        "tie", "false", 3,
        "{\"thinker_config\":{\"text_config\":{\"tie\":false},\"tie\":false},"
        "\"rope\":{\"tie\":true},\"quantization_config\":{\"tie\":true},"
        "\"list_config\":[{\"tie\":true}],\"tie\":false}");
}

static void objects_and_lists_are_not_replaced(void **state)
{
    (void)state;
    assert_replaced("{\"dtype\":{\"a\":1}}", "dtype", "\"x\"", 0,
                    "{\"dtype\":{\"a\":1}}");
    assert_replaced("{\"dtype\":[]}", "dtype", "\"x\"", 0, "{\"dtype\":[]}");
}

static void python_s_numbers_are_accepted_and_stay(void **state)
{
    (void)state;
    assert_replaced("{\"limit\":[0.0, Infinity, -Infinity],\"n\":NaN,\"d\":NaN}", "d",
                    "1", 1, "{\"limit\":[0.0, Infinity, -Infinity],\"n\":NaN,\"d\":1}");
    assert_replaced("{\"s\":\"NaN Infinity\"}", "d", "1", 0,
                    "{\"s\":\"NaN Infinity\"}");
}

static void assert_added(const char *text, const char *want)
{
    ws_buf b = { 0 };
    assert_int_equal(ws_config_check(text, strlen(text), NULL), WS_OK);
    assert_false(ws_config_has(text, strlen(text), "tie"));
    ws_config_add(&b, text, strlen(text), "tie", "false");
    assert_string_equal(b.p, want);
    assert_true(ws_config_has(b.p, b.n, "tie"));
    assert_int_equal(ws_config_check(b.p, b.n, NULL), WS_OK);
    ws_buf_free(&b);
}

static void new_member_is_set_off_like_the_last(void **state)
{
    (void)state;
    assert_added("{\n  \"a\": 1,\n  \"b\": \"x\"\n}\n",
                 "{\n  \"a\": 1,\n  \"b\": \"x\",\n  \"tie\": false\n}\n");
    assert_added("{\"a\":1}", "{\"a\":1,\"tie\":false}");
    assert_added("{\"a\": 1, \"b\": {\"tie\": 1}}",
                 "{\"a\": 1, \"b\": {\"tie\": 1}, \"tie\": false}");
    assert_added("{}", "{\"tie\": false}");
    assert_added(" {\n}", " {\"tie\": false\n}");
}

static void assert_refused(const char *text, size_t n, const char *msg)
{
    ws_err err = WS_ERR_INIT;
    assert_int_equal(ws_config_check(text, n, &err), WS_E_HEADER);
    assert_non_null(strstr(err.msg, msg));
}

static void malformed_text_is_refused(void **state)
{
    (void)state;
    assert_refused("[]", 2, "not a JSON object");
    assert_refused("", 0, "");
    assert_refused("{\"a\":1}x", 8, "");
    assert_refused("{\"a\":1,}", 8, "");
    assert_refused("{\"a\":1,\"a\":2}", 13, "");
    assert_refused("{\"a\":XNaN}", 10, "");
    assert_refused("{\"a\":\"", 6, "");
    assert_refused("{\"a\":\"\\", 7, "");
    assert_refused("{\"a\0\":1}", 8, "");
    assert_refused("\xef\xbb\xbf{}", 5, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(value_is_replaced_in_place),
        cmocka_unit_test(text_without_the_key_stays),
        cmocka_unit_test(nested_configurations_count_and_quantization_does_not),
        cmocka_unit_test(objects_and_lists_are_not_replaced),
        cmocka_unit_test(python_s_numbers_are_accepted_and_stay),
        cmocka_unit_test(new_member_is_set_off_like_the_last),
        cmocka_unit_test(malformed_text_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
