/*
 * test_journal.c - a journal believes whole records, in order, of this boot or synced
 */
#include "ckpt/journal.h"
#include "temp_dir.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

static const char key[] = "0123456789abcdef0123456789abcdef";
static const char boot_a[] = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
static const char boot_b[] = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb";

/** Bytes of a record beside its payload. */
enum { FRAME = 24 + 16 };

static int open_file(void)
{
    const int fd = open("journal", O_RDWR | O_CREAT, 0666);
    assert_true(fd >= 0);
    return fd;
}

static ws_journal *make(void)
{
    ws_err err = WS_ERR_INIT;
    ws_journal *j = NULL;
    unlink("journal");
    assert_ok(ws_journal_new(&j, open_file(), "journal", key, &err), err);
    return j;
}

static void add(ws_journal *j, uint32_t type, const char *text)
{
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_journal_add(j, type, 1, 2, text, strlen(text), &err), err);
}

static ws_status collect(void *arg, uint32_t type, uint64_t a, uint64_t b,
                         const void *payload, size_t n, ws_err *err)
{
    (void)err;
    assert_int_equal(a, 1);
    assert_int_equal(b, 2);
    ws_buf_printf(arg, "%u:%.*s ", type, (int)n, (const char *)payload);
    return WS_OK;
}

/** What a resumed journal holds, "(none)" when it is not gone on from. */
static void assert_resumes(const char *want)
{
    ws_err err = WS_ERR_INIT;
    ws_journal *j = NULL;
    ws_buf text = { 0 };
    assert_ok(ws_journal_resume(&j, open_file(), "journal", key, &err), err);
    if (j != NULL)
        assert_ok(ws_journal_replay(j, collect, &text, &err), err);
    assert_string_equal(j == NULL ? "(none)" : text.p == NULL ? "" : text.p, want);
    ws_buf_free(&text);
    ws_journal_free(j);
}

static void records_come_back_in_order(void **state)
{
    (void)state;
    ws_journal *j = make();
    add(j, 3, "three");
    add(j, 1, "");
    add(j, 2, "two");
    ws_journal_free(j);
    assert_resumes("3:three 1: 2:two ");
}

static void resumed_journal_takes_more(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_journal *j = make();
    add(j, 1, "a");
    ws_journal_free(j);
    assert_ok(ws_journal_resume(&j, open_file(), "journal", key, &err), err);
    add(j, 2, "b");
    ws_buf text = { 0 };
    assert_ok(ws_journal_replay(j, collect, &text, &err), err);
    assert_string_equal(text.p, "1:a "); // what was there on opening
    ws_buf_free(&text);
    ws_journal_free(j);
    assert_resumes("1:a 2:b ");
}

static void bytes_are_as_documented(void **state)
{
    (void)state;
    ws_journal_set_boot(boot_a);
    ws_journal *j = make();
    add(j, 7, "xyz");
    ws_journal_free(j);
    ws_journal_set_boot(NULL);
    size_t n = 0;
    const unsigned char *b = (const unsigned char *)slurp("journal", &n);
    const size_t head = FRAME + 16 + 32, boot = FRAME + 36;
    assert_int_equal(n, head + boot + FRAME + 3);
    assert_memory_equal(b, "\x30\0\0\0\0\0\0\x40", 8);
    assert_memory_equal(b + 24, "wsurg-journal/1 0123456789abcdef0123456789abcdef", 48);
    assert_memory_equal(b + head, "\x24\0\0\0\x01\0\0\x40", 8);
    assert_memory_equal(b + head + 24, boot_a, 36);
    assert_memory_equal(b + head + boot,
                        "\3\0\0\0\7\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0xyz", 27);
}

static void cut_at_any_byte_keeps_the_records_before(void **state)
{
    (void)state;
    ws_journal *j = make();
    add(j, 1, "first");
    add(j, 2, "second");
    ws_journal_free(j);
    size_t n = 0;
    const char *got = slurp("journal", &n);
    char *bytes = test_malloc(n);
    memcpy(bytes, got, n);
    const size_t second = n - FRAME - 6, first = second - FRAME - 5;
    for (size_t cut = 0; cut < n; cut++) {
        spit("journal", bytes, cut);
        // without the boot's record nothing tells whether it was this boot
        assert_resumes(cut >= second ? "1:first " : cut >= first ? "" : "(none)");
    }
    test_free(bytes);
}

static void flipped_bit_ends_what_is_believed(void **state)
{
    (void)state;
    ws_journal *j = make();
    add(j, 1, "first");
    add(j, 2, "second");
    ws_journal_free(j);
    size_t n = 0;
    const char *got = slurp("journal", &n);
    char *bytes = test_malloc(n);
    memcpy(bytes, got, n);
    const size_t second = n - FRAME - 6, first = second - FRAME - 5;
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 16;
        spit("journal", bytes, n);
        bytes[i] ^= 16;
        assert_resumes(i >= second ? "1:first " : i >= first ? "" : "(none)");
    }
    test_free(bytes);
}

static void record_after_a_cut_does_not_revive_the_torn_one(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_journal *j = make();
    add(j, 1, "keep");
    add(j, 2, "torn torn torn");
    ws_journal_free(j);
    struct stat sb;
    assert_int_equal(stat("journal", &sb), 0);
    assert_int_equal(truncate("journal", sb.st_size - 1), 0);
    assert_ok(ws_journal_resume(&j, open_file(), "journal", key, &err), err);
    add(j, 3, "x");
    ws_journal_free(j);
    assert_resumes("1:keep 3:x ");
}

static void other_keys_and_formats_are_not_gone_on_from(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_journal *j = make();
    ws_journal_free(j);
    assert_ok(ws_journal_resume(&j, open_file(), "journal",
                                "0123456789abcdef0123456789abcdee", &err),
              err);
    assert_null(j);
    assert_resumes("");
    spit_text("journal", "");
    assert_resumes("(none)");
    spit_text("journal",
              "{\"this\": \"is something else, and long enough to be read\"}");
    assert_resumes("(none)");
}

static void another_boot_believes_only_what_was_synced(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_journal_set_boot(boot_a);
    ws_journal *j = make();
    add(j, 1, "a");
    const uint64_t mark = ws_journal_mark(j);
    add(j, 2, "b"); // asserted while the sync went on
    assert_ok(ws_journal_synced(j, mark, &err), err);
    add(j, 3, "c");
    ws_journal_free(j);
    assert_resumes("1:a 2:b 3:c ");
    ws_journal_set_boot(boot_b);
    assert_resumes("1:a ");
    // and a third boot still believes what the second took over
    ws_journal_set_boot(boot_a);
    assert_resumes("1:a ");
    ws_journal_set_boot(NULL);
}

static void another_boot_without_a_sync_believes_nothing(void **state)
{
    (void)state;
    ws_journal_set_boot(boot_a);
    ws_journal *j = make();
    add(j, 1, "a");
    ws_journal_free(j);
    ws_journal_set_boot(boot_b);
    assert_resumes("(none)");
    ws_journal_set_boot(NULL);
}

static void payload_has_a_limit(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_journal *j = make();
    char *big = test_calloc(1, WS_JOURNAL_MAX_PAYLOAD + 1);
    assert_int_equal(ws_journal_add(j, 1, 1, 2, big, WS_JOURNAL_MAX_PAYLOAD + 1, &err),
                     WS_E_INTERNAL);
    assert_string_equal(err.msg, "journal record of 65537 bytes, at most 65536");
    assert_ok(ws_journal_add(j, 1, 1, 2, big, WS_JOURNAL_MAX_PAYLOAD, &err), err);
    add(j, 2, "after");
    ws_journal_free(j);
    test_free(big);
    struct stat sb;
    assert_int_equal(stat("journal", &sb), 0);
    assert_true(sb.st_size > WS_JOURNAL_MAX_PAYLOAD);
    assert_ok(ws_journal_resume(&j, open_file(), "journal", key, &err), err);
    assert_non_null(j);
    ws_journal_free(j);
}

static ws_status refuse(void *arg, uint32_t type, uint64_t a, uint64_t b,
                        const void *payload, size_t n, ws_err *err)
{
    (void)arg, (void)type, (void)a, (void)b, (void)payload, (void)n;
    return ws_fail(err, WS_E_SHAPE, "no");
}

static void visitor_s_failure_ends_the_replay(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_journal *j = make();
    add(j, 1, "a");
    ws_journal_free(j);
    assert_ok(ws_journal_resume(&j, open_file(), "journal", key, &err), err);
    assert_int_equal(ws_journal_replay(j, refuse, NULL, &err), WS_E_SHAPE);
    ws_journal_free(j);
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(records_come_back_in_order),
        T(resumed_journal_takes_more),
        T(bytes_are_as_documented),
        T(cut_at_any_byte_keeps_the_records_before),
        T(flipped_bit_ends_what_is_believed),
        T(record_after_a_cut_does_not_revive_the_torn_one),
        T(other_keys_and_formats_are_not_gone_on_from),
        T(another_boot_believes_only_what_was_synced),
        T(another_boot_without_a_sync_believes_nothing),
        T(payload_has_a_limit),
        T(visitor_s_failure_ends_the_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
