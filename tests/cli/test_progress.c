/*
 * test_progress.c - progress on stderr, which no command line shows in a short run
 */
#include <unistd.h>

#include "cli/progress.h"
#include "ws_test.h"

/** What @p mode prints for @p n reports, in @p out of @p size bytes. */
static void capture(ws_meter_mode mode, const ws_progress *p, size_t n, char *out,
                    size_t size)
{
    ws_meter m = { .mode = mode };
    FILE *file = tmpfile();
    const int saved = dup(STDERR_FILENO);

    assert_non_null(file);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    for (size_t i = 0; i < n; i++)
        ws_meter_update(&m, &p[i]);
    ws_meter_clear(&m);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    out[fread(out, 1, size - 1, file)] = '\0';
    fclose(file);
}

static ws_progress at(double seconds, uint64_t percent)
{
    return (ws_progress){
        .event = "read",
        .unit = "bytes",
        .done = percent * 1000000,
        .total = 100000000,
        .seconds = seconds,
        .eta = percent ? seconds * (100.0 / (double)percent - 1.0) : -1.0,
    };
}

static void plain_prints_at_tenths_that_are_half_a_minute_apart(void **state)
{
    char out[2048];
    // 31 s at 9 %: no new tenth. 20 % at 50 s: both. 30 % at 70 s: too soon.
    const ws_progress p[] = { at(0, 0), at(31, 9), at(50, 20), at(70, 30), at(81, 35) };

    (void)state;
    capture(WS_METER_PLAIN, p, 5, out, sizeof out);
    assert_string_equal(out, "wsurg: read 20 %, 20.0 MB of 100 MB, left 3:20 min\n"
                             "wsurg: read 35 %, 35.0 MB of 100 MB, left 2:30 min\n");
}

static void plain_is_silent_in_a_short_run(void **state)
{
    char out[256];
    const ws_progress p[] = { at(0, 0), at(5, 50), at(10, 100) };

    (void)state;
    capture(WS_METER_PLAIN, p, 3, out, sizeof out);
    assert_string_equal(out, "");
}

static void json_prints_every_report(void **state)
{
    char out[512];
    const ws_progress p[] = { at(0, 0), at(2.5, 50) };

    (void)state;
    capture(WS_METER_JSON, p, 2, out, sizeof out);
    assert_string_equal(
        out, "{\"event\":\"read\",\"done\":0,\"total\":100000000,\"unit\":\"bytes\","
             "\"seconds\":0.000,\"eta\":null}\n"
             "{\"event\":\"read\",\"done\":50000000,\"total\":100000000,"
             "\"unit\":\"bytes\",\"seconds\":2.500,\"eta\":2.500}\n");
}

static void bar_is_taken_away_at_the_end(void **state)
{
    char out[512];
    const ws_progress p[] = { at(1, 50) };

    (void)state;
    capture(WS_METER_BAR, p, 1, out, sizeof out);
    assert_string_equal(out,
                        "\rread   [############------------]  50 %  50.0 MB of 100 "
                        "MB, left 1 s\033[K\r\033[K");
}

static void a_note_stands_before_what_is_left(void **state)
{
    char out[512];
    const ws_progress p[] = { { "tune", "steps", 1, 2, 40.0, 40.0, "loss 2.125" } };

    (void)state;
    capture(WS_METER_BAR, p, 1, out, sizeof out);
    assert_non_null(strstr(out, "1 steps of 2 steps, loss 2.125, left 40 s"));
}

static void nothing_in_total_divides_by_nothing(void **state)
{
    char out[512];
    const ws_progress p[] = { { .event = "check", .unit = "steps", .eta = -1.0 } };

    (void)state;
    capture(WS_METER_BAR, p, 1, out, sizeof out);
    assert_non_null(strstr(out, "  0 %  0 steps of 0 steps"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_prints_at_tenths_that_are_half_a_minute_apart),
        cmocka_unit_test(plain_is_silent_in_a_short_run),
        cmocka_unit_test(json_prints_every_report),
        cmocka_unit_test(bar_is_taken_away_at_the_end),
        cmocka_unit_test(a_note_stands_before_what_is_left),
        cmocka_unit_test(nothing_in_total_divides_by_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
