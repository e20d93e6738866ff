/*
 * test_st_write.c - headers byte for byte, with known answers (formats.md 1.7)
 */
#include "ws_test.h"

#include "ckpt/ckpt_internal.h"

enum { MAX = 32 };

/** Write the header of tensors (n) with metadata (n_meta) in file order. */
static uint8_t *header(ws_tensor *tensors, size_t n, const ws_meta *meta, size_t n_meta,
                       uint64_t *len)
{
    ws_tensor *order[MAX];
    uint8_t *out = NULL;
    ws_err err = WS_ERR_INIT;
    for (size_t i = 0; i < n; i++)
        order[i] = &tensors[i];
    qsort(order, n, sizeof *order, ws_st_order);
    assert_ok(ws_st_header(&out, len, order, n, meta, n_meta, &err), err);
    return out;
}

/** The JSON of a header without its padding, which is checked; freed by the caller. */
static char *json_of(uint8_t *head, uint64_t len)
{
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | head[i];
    assert_int_equal(n, len - 8);
    assert_int_equal(len % 8, 0);
    while (len > 8 && head[len - 1] == ' ')
        len--;
    assert_true(n - (len - 8) < 8);
    char *s = ws_strndup((const char *)head + 8, len - 8);
    ws_free(head);
    return s;
}

static void assert_json(ws_tensor *tensors, size_t n, const ws_meta *meta,
                        size_t n_meta, const char *want)
{
    uint64_t len;
    uint8_t *head = header(tensors, n, meta, n_meta, &len);
    char *json = json_of(head, len);
    assert_string_equal(json, want);
    ws_free(json);
}

static const uint64_t one[] = { 1 }, four[] = { 4 }, two[] = { 2 };

static void nothing_is_two_braces_and_six_spaces(void **state)
{
    (void)state;
    uint64_t len;
    uint8_t *head = header(NULL, 0, NULL, 0, &len);
    assert_int_equal(len, 16);
    assert_memory_equal(head, "\x08\0\0\0\0\0\0\0{}      ", 16);
    ws_free(head);
}

static void metadata_of_one_pair_takes_40_bytes(void **state)
{
    (void)state;
    const ws_meta m = { "framework", "pt" };
    uint64_t len;
    uint8_t *head = header(NULL, 0, &m, 1, &len);
    assert_int_equal(len, 48);
    assert_memory_equal(
        head, "\x28\0\0\0\0\0\0\0{\"__metadata__\":{\"framework\":\"pt\"}}     ", 48);
    ws_free(head);
}

static void metadata_is_sorted_by_bytes_and_escaped(void **state)
{
    (void)state;
    const ws_meta m[] = { { "\xC3\xA9", "e" },
                          { "b", "q\"\\/\n\x01\x7F" },
                          { "B", "" },
                          { "a\t", "\b\f\r" } };
    assert_json(NULL, 0, m, 4,
                "{\"__metadata__\":{\"B\":\"\",\"a\\t\":\"\\b\\f\\r\","
                "\"b\":\"q\\\"\\\\/\\n\\u0001\x7F\",\"\xC3\xA9\":\"e\"}}");
}

static void tensors_follow_dtype_then_name(void **state)
{
    (void)state;
    ws_tensor t[WS_DT_COUNT];
    char names[WS_DT_COUNT][16];
    for (int i = 0; i < WS_DT_COUNT; i++) {
        const ws_dtype dt = (ws_dtype)(WS_DT_COUNT - 1 - i);
        snprintf(names[i], sizeof names[i], "t%02d", i);
        const bool six = ws_dtype_info(dt)->bits == 6, half = dt == WS_DT_F4;
        t[i] = (ws_tensor){ .name = names[i],
                            .dtype = dt,
                            .rank = 1,
                            .shape = six    ? four
                                     : half ? two
                                            : one };
        ws_err err = WS_ERR_INIT;
        assert_ok(ws_tensor_measure(&t[i], &err), err);
    }
    static const char order[] =
        "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 "
        "F8_E4M3 F8_E5M2 I8 U8 F6_E3M2 F6_E2M3 F4 BOOL ";
    uint64_t len;
    uint8_t *head = header(t, WS_DT_COUNT, NULL, 0, &len);
    char *json = json_of(head, len), got[256] = "";
    for (const char *p = strstr(json, "dtype"); p != NULL; p = strstr(p, "dtype")) {
        p += strlen("dtype\":\"");
        snprintf(got + strlen(got), sizeof got - strlen(got), "%.*s ",
                 (int)strcspn(p, "\""), p);
    }
    assert_string_equal(got, order);
    uint64_t at = len;
    for (int i = WS_DT_COUNT - 1; i >= 0; i--) { // t is in reverse order
        assert_int_equal(t[i].offset, at);
        at += t[i].n_bytes;
    }
    ws_free(json);
}

static void names_order_as_unsigned_bytes(void **state)
{
    (void)state;
    ws_tensor t[] = { { .name = "\xC3\xA9", .dtype = WS_DT_U8, .n_bytes = 1 },
                      { .name = "a.10", .dtype = WS_DT_U8, .n_bytes = 1 },
                      { .name = "Z\"", .dtype = WS_DT_U8, .n_bytes = 1 },
                      { .name = "a", .dtype = WS_DT_U8, .n_bytes = 1 } };
    assert_json(t, 4, NULL, 0,
                "{\"Z\\\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                "\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[1,2]},"
                "\"a.10\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[2,3]},"
                "\"\xC3\xA9\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[3,4]}}");
}

static void shapes_and_metadata_stand_as_the_reference_writes_them(void **state)
{
    (void)state;
    const uint64_t shape[] = { 2, 3 }, empty[] = { 0, 18446744073709551615u };
    const ws_meta m = { "format", "pt" };
    ws_tensor t[] = {
        { .name = "w", .dtype = WS_DT_F32, .rank = 2, .shape = shape, .n_bytes = 24 },
        { .name = "e", .dtype = WS_DT_F32, .rank = 2, .shape = empty }
    };
    assert_json(t, 2, &m, 1,
                "{\"__metadata__\":{\"format\":\"pt\"},\"e\":{\"dtype\":\"F32\","
                "\"shape\":[0,18446744073709551615],\"data_offsets\":[0,0]},"
                "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}");
}

static void every_length_is_padded_to_eight(void **state)
{
    (void)state;
    char value[9] = "";
    bool seen[8] = { false };
    for (int i = 0; i < 8; i++) {
        const ws_meta m = { "k", value };
        uint64_t len;
        uint8_t *head = header(NULL, 0, &m, 1, &len);
        const size_t bare = strlen("{\"__metadata__\":{\"k\":\"\"}}") + strlen(value);
        assert_int_equal(len, 8 + (bare + 7) / 8 * 8); // none when it is a multiple
        seen[bare % 8] = true;
        ws_free(head);
        value[i] = 'v';
        value[i + 1] = '\0';
    }
    for (int i = 0; i < 8; i++)
        assert_true(seen[i]);
}

static void refuses_names_that_cannot_stand(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
    } bad[] = {
        { "", "tensor without a name is not written" },
        { "__metadata__", "tensor name cannot stand in a safetensors file" },
        { "\xff", "tensor name cannot stand in a safetensors file" },
    };
    for (size_t i = 0; i < 3; i++) {
        ws_tensor t = { .name = bad[i].name, .dtype = WS_DT_U8, .n_bytes = 1 }, *p = &t;
        uint8_t *out = NULL;
        uint64_t len;
        ws_err err = WS_ERR_INIT;
        assert_int_equal(ws_st_header(&out, &len, &p, 1, NULL, 0, &err),
                         WS_E_UNSUPPORTED);
        assert_string_equal(err.msg, bad[i].says);
        assert_null(out);
    }
}

static void refuses_a_metadata_key_twice(void **state)
{
    (void)state;
    const ws_meta m[] = { { "k", "1" }, { "k", "2" } };
    uint8_t *out = NULL;
    uint64_t len;
    ws_err err = WS_ERR_INIT;
    assert_int_equal(ws_st_header(&out, &len, NULL, 0, m, 2, &err), WS_E_INTERNAL);
    assert_string_equal(err.msg, "metadata key 'k' given twice");
}

static void limit_of_the_header_is_exact(void **state)
{
    (void)state;
    enum { LIMIT = 100000000 };
    const size_t frame = strlen("{\"__metadata__\":{\"k\":\"\"}}");
    char *value = ws_alloc(LIMIT);
    assert_non_null(value);
    memset(value, 'v', LIMIT);
    value[LIMIT - frame] = '\0';
    const ws_meta m = { "k", value };
    uint64_t len;
    uint8_t *head = header(NULL, 0, &m, 1, &len);
    assert_int_equal(len, 8 + LIMIT);
    ws_free(head);

    value[LIMIT - frame] = 'v';
    value[LIMIT - frame + 1] = '\0';
    head = NULL;
    ws_err err = WS_ERR_INIT;
    assert_int_equal(ws_st_header(&head, &len, NULL, 0, &m, 1, &err), WS_E_UNSUPPORTED);
    assert_string_equal(err.msg, "header would have 100000008 bytes, at most 100000000 "
                                 "are allowed");
    ws_free(value);
}

static void refuses_a_file_above_2_63_bytes(void **state)
{
    (void)state;
    ws_tensor t[] = {
        { .name = "a", .dtype = WS_DT_U8, .n_bytes = UINT64_MAX / 2 },
        { .name = "b", .dtype = WS_DT_U8, .n_bytes = UINT64_MAX / 2 + 9 }
    };
    ws_tensor *p[] = { &t[0], &t[1] };
    uint8_t *out = NULL;
    uint64_t len;
    ws_err err = WS_ERR_INIT;
    assert_int_equal(ws_st_header(&out, &len, p, 2, NULL, 0, &err), WS_E_UNSUPPORTED);
    assert_string_equal(err.msg, "file would be above 2^63 bytes");
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    const ws_meta m[] = { { "a", "1" }, { "b", "2" } };
    ws_tensor t = { .name = "a", .dtype = WS_DT_U8, .n_bytes = 1 }, *p = &t;
    const long live = ws_alloc_live();
    ws_status st = WS_E_MEMORY;
    for (long n = 0; st != WS_OK; n++) {
        uint8_t *out = NULL;
        uint64_t len;
        ws_err err = WS_ERR_INIT;
        ws_alloc_fail_after(n);
        st = ws_st_header(&out, &len, &p, 1, m, 2, &err);
        ws_alloc_fail_after(-1);
        assert_int_equal(err.code, st);
        assert_true(st == WS_OK ? n > 1 : st == WS_E_MEMORY);
        ws_free(out);
        assert_int_equal(ws_alloc_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_two_braces_and_six_spaces),
        cmocka_unit_test(metadata_of_one_pair_takes_40_bytes),
        cmocka_unit_test(metadata_is_sorted_by_bytes_and_escaped),
        cmocka_unit_test(tensors_follow_dtype_then_name),
        cmocka_unit_test(names_order_as_unsigned_bytes),
        cmocka_unit_test(shapes_and_metadata_stand_as_the_reference_writes_them),
        cmocka_unit_test(every_length_is_padded_to_eight),
        cmocka_unit_test(refuses_names_that_cannot_stand),
        cmocka_unit_test(refuses_a_metadata_key_twice),
        cmocka_unit_test(limit_of_the_header_is_exact),
        cmocka_unit_test(refuses_a_file_above_2_63_bytes),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
