/*
 * test_dtype.c - every bit pattern of the small formats, against a slow reference
 *
 * The reference decodes by the definition of the format in long double, and encodes by
 * searching the two codes around a value. It shares nothing with the conversions.
 */
#include "ws_test.h"

#include "wsurg/dtype.h"

/** A format by its definition (formats.md 0). */
struct ref {
    ws_dtype dt;
    int exponent, mantissa, bias;
    bool ieee;              // the top exponent is infinity and NaN
    uint32_t max, nan, inf; // codes: largest finite, canonical NaN, stored infinity
};

static const struct ref refs[] = {
    { WS_DT_BF16, 8, 7, 127, true, 0x7F7F, 0x7FC0, 0x7F80 },
    { WS_DT_F16, 5, 10, 15, true, 0x7BFF, 0x7E00, 0x7C00 },
    { WS_DT_F8_E4M3, 4, 3, 7, false, 0x7E, 0x7F, 0x7F },
    { WS_DT_F8_E5M2, 5, 2, 15, true, 0x7B, 0x7F, 0x7C },
    { WS_DT_F32, 8, 23, 127, true, 0x7F7FFFFF, 0x7FC00000, 0x7F800000 },
};
enum { N_SMALL = 4 };

static int width(const struct ref *r)
{
    return (1 + r->exponent + r->mantissa) / 8;
}

static uint32_t sign_bit(const struct ref *r)
{
    return 1u << (r->exponent + r->mantissa);
}

/** The value of a magnitude code; codes past the largest finite one go on as if the
 * exponent had no special meaning. */
static long double ref_magnitude(const struct ref *r, uint32_t code)
{
    const uint32_t e = code >> r->mantissa, m = code & ((1u << r->mantissa) - 1);
    if (e == 0)
        return ldexpl((long double)m, 1 - r->bias - r->mantissa);
    return ldexpl((long double)(m + (1u << r->mantissa)),
                  (int)e - r->bias - r->mantissa);
}

static bool ref_is_nan(const struct ref *r, uint32_t magnitude)
{
    return r->ieee ? magnitude > r->inf : magnitude > r->max;
}

/** The code of |x| finite, and whether it overflowed. */
static uint32_t ref_round(const struct ref *r, long double x, bool *over)
{
    uint32_t lo = 0, hi = r->max + 1;
    *over = false;
    if (x >= ref_magnitude(r, hi)) {
        *over = true;
        return r->max;
    }
    while (hi - lo > 1) { // value(lo) <= x < value(hi)
        const uint32_t mid = lo + (hi - lo) / 2;
        if (ref_magnitude(r, mid) <= x)
            lo = mid;
        else
            hi = mid;
    }
    const long double down = x - ref_magnitude(r, lo), up = ref_magnitude(r, hi) - x;
    uint32_t code = down < up || (down == up && lo % 2 == 0) ? lo : hi;
    if (code > r->max) {
        *over = true;
        code = r->max;
    }
    return code;
}

/** What x is stored as. */
static uint32_t ref_store(const struct ref *r, double x, bool *over)
{
    *over = false;
    if (isnan(x))
        return r->nan;
    const uint32_t sign = signbit(x) ? sign_bit(r) : 0;
    if (isinf(x))
        return r->ieee ? r->inf | sign : r->nan | sign;
    return ref_round(r, fabsl((long double)x), over) | sign;
}

static void check_value(const struct ref *r, double x)
{
    bool over;
    const uint32_t want = ref_store(r, x, &over);
    uint32_t got = 0;
    ws_store_tally t;
    ws_from_f64(r->dt, &x, &got, 1, &t);
    if (got != want || t.overflowed != over || t.not_finite != !isfinite(x))
        fail_msg("%s of %a: %x, want %x (overflow %d)", ws_dtype_info(r->dt)->name, x,
                 got, want, over);
    const float f = (float)x;
    if ((double)f != x || r->dt == WS_DT_F32)
        return;
    ws_from_f32(r->dt, &f, &got, 1, &t);
    if (got != want || t.overflowed != over || t.not_finite != !isfinite(x))
        fail_msg("%s of float %a: %x, want %x", ws_dtype_info(r->dt)->name, x, got,
                 want);
}

static void check_around(const struct ref *r, double x)
{
    const double f_up = nextafterf((float)x, INFINITY);
    const double f_down = nextafterf((float)x, 0.0f);
    const double all[] = { x, nextafter(x, INFINITY), nextafter(x, 0.0), f_up, f_down };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        check_value(r, all[i]);
        check_value(r, -all[i]);
    }
}

static void every_code_widens_exactly(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        const struct ref *r = &refs[k];
        for (uint32_t code = 0; code < 2 * sign_bit(r); code++) {
            const uint32_t a = code & (sign_bit(r) - 1);
            float f;
            double d;
            ws_to_f32(r->dt, &code, &f, 1);
            ws_to_f64(r->dt, &code, &d, 1);
            assert_int_equal(signbit(f) != 0, (code & sign_bit(r)) != 0);
            if (ref_is_nan(r, a)) {
                assert_true(isnan(f) && isnan(d));
                continue;
            }
            long double want = ref_magnitude(r, a);
            if (r->ieee && a == r->inf)
                want = (long double)INFINITY;
            if ((code & sign_bit(r)) != 0)
                want = -want;
            assert_true((long double)f == want && (long double)d == want);
        }
    }
}

static void every_code_survives_a_round_trip(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        const struct ref *r = &refs[k];
        for (uint32_t code = 0; code < 2 * sign_bit(r); code++) {
            float f;
            double d;
            uint32_t from_f = 0, from_d = 0;
            ws_to_f32(r->dt, &code, &f, 1);
            ws_to_f64(r->dt, &code, &d, 1);
            ws_from_f32(r->dt, &f, &from_f, 1, NULL);
            ws_from_f64(r->dt, &d, &from_d, 1, NULL);
            const uint32_t want =
                ref_is_nan(r, code & (sign_bit(r) - 1)) ? r->nan : code;
            assert_int_equal(from_f, want);
            assert_int_equal(from_d, want);
        }
    }
}

static void rounds_to_nearest_even_around_every_code(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        const struct ref *r = &refs[k];
        for (uint32_t code = 0; code <= r->max; code++) {
            const double lo = (double)ref_magnitude(r, code);
            const double hi = (double)ref_magnitude(r, code + 1);
            check_around(r, lo);
            check_around(r, lo + (hi - lo) / 2); // exact: a tie
        }
    }
}

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void random_bit_patterns_match_the_reference(void **state)
{
    (void)state;
    uint64_t s = 88172645463325252u;
    for (size_t k = 0; k < sizeof refs / sizeof *refs; k++) {
        for (int i = 0; i < 200000; i++) {
            const uint64_t bits = next_random(&s);
            const uint32_t low = (uint32_t)bits;
            double d;
            float f;
            memcpy(&d, &bits, sizeof d);
            memcpy(&f, &low, sizeof f);
            check_value(&refs[k], d);
            check_value(&refs[k], (double)f);
            // scaled to where small formats have their values
            check_value(&refs[k], ldexp(1.0 + (double)low * 0x1p-32,
                                        (int)(bits >> 32 & 63) - 40));
        }
    }
}

static void f64_to_f32_is_one_rounding_around_many_codes(void **state)
{
    (void)state;
    const struct ref *r = &refs[4];
    for (uint32_t code = 0; code < r->max; code += 40009) {
        const double lo = (double)ref_magnitude(r, code);
        const double hi = (double)ref_magnitude(r, code + 1);
        check_around(r, lo);
        check_around(r, lo + (hi - lo) / 2);
    }
    check_around(r, (double)ref_magnitude(r, r->max));
    check_around(r, 0x1.ffffffp127); // the tie between the largest float and 2^128
}

static void f64_to_f32_reads_round_to_nearest(void **state)
{
    (void)state;
    const double d[] = { 1.0 + 0x1p-24, 1.0 + 0x1p-24 + 0x1p-50, 1e300, 0x1p-149,
                         -0.0 };
    const float want[] = { 1.0f, 1.0f + 0x1p-23f, INFINITY, 0x1p-149f, -0.0f };
    float f[5];
    ws_to_f32(WS_DT_F64, d, f, 5);
    for (int i = 0; i < 5; i++)
        assert_bits(f[i], want[i]);
}

static void double_to_f16_does_not_round_twice(void **state)
{
    (void)state;
    // through float this would become the tie 1 + 2^-11 and go down to 1
    const double d = 1.0 + 0x1p-11 + 0x1p-40;
    uint16_t h;
    ws_from_f64(WS_DT_F16, &d, &h, 1, NULL);
    assert_int_equal(h, 0x3C01);
}

static void float_and_double_store_themselves(void **state)
{
    (void)state;
    const float f[] = { 0.0f, -0.0f, 0x1p-149f, -1.5f, INFINITY, -INFINITY, NAN, -NAN };
    uint32_t w[8];
    uint64_t q[8];
    ws_store_tally t;
    ws_from_f32(WS_DT_F32, f, w, 8, &t);
    assert_memory_equal(w, f, 6 * sizeof *f);
    assert_int_equal(w[6], 0x7FC00000);
    assert_int_equal(w[7], 0x7FC00000);
    assert_int_equal(t.not_finite, 4);
    assert_int_equal(t.overflowed, 0);
    assert_int_equal(t.first_bad, 4);
    ws_from_f32(WS_DT_F64, f, q, 8, &t);
    double d[8];
    memcpy(d, q, sizeof d);
    assert_true(d[2] == 0x1p-149 && d[3] == -1.5 && d[5] == (double)-INFINITY);
    assert_true(q[6] == 0x7FF8000000000000u && q[7] == 0x7FF8000000000000u);
    ws_from_f64(WS_DT_F64, d, q, 8, &t);
    assert_memory_equal(q, d, sizeof d);
    assert_int_equal(t.first_bad, 4);
}

static void infinity_becomes_nan_only_where_there_is_none(void **state)
{
    (void)state;
    const float f = -INFINITY;
    ws_store_tally t;
    uint16_t h = 0;
    uint8_t b = 0;
    ws_from_f32(WS_DT_F16, &f, &h, 1, &t);
    assert_int_equal(h, 0xFC00);
    ws_from_f32(WS_DT_F8_E4M3, &f, &b, 1, &t);
    assert_int_equal(b, 0xFF);
    assert_int_equal(t.not_finite, 1);
    assert_int_equal(t.overflowed, 0);
}

static void tally_counts_and_finds_the_first(void **state)
{
    (void)state;
    enum { N = 10000 };
    static float f[N];
    static double d[N];
    static uint16_t a[N], b[N];
    for (int i = 0; i < N; i++)
        d[i] = f[i] = (float)i / N;
    d[5001] = f[5001] = 65520.0f;
    d[5002] = f[5002] = NAN;
    d[9999] = f[9999] = -1e9f;
    d[9000] = f[9000] = 65519.0f;
    ws_store_tally t = { 7, 7, 7 };
    ws_from_f32(WS_DT_F16, f, a, N, &t);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(t.overflowed, 2);
        assert_int_equal(t.not_finite, 1);
        assert_int_equal(t.first_bad, 5001);
        ws_from_f64(WS_DT_F16, d, b, N, &t);
    }
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(a[5001], 0x7BFF);
    assert_int_equal(a[5002], 0x7E00);
    assert_int_equal(a[9000], 0x7BFF);
    assert_int_equal(a[9999], 0xFBFF);
    ws_from_f32(WS_DT_F16, f, a, 5001, &t);
    assert_true(t.overflowed == 0 && t.not_finite == 0 && t.first_bad == SIZE_MAX);
    ws_from_f32(WS_DT_F16, f, a, 0, &t);
    assert_true(t.first_bad == SIZE_MAX);
}

static void any_alignment_and_any_cut_give_the_same_bytes(void **state)
{
    (void)state;
    enum { N = 300 };
    static const ws_dtype dts[] = { WS_DT_F64, WS_DT_F32,     WS_DT_BF16,
                                    WS_DT_F16, WS_DT_F8_E4M3, WS_DT_F8_E5M2 };
    float f[N], back[N], back2[N];
    double d[N], dback[N], dback2[N];
    unsigned char whole[N * 8], shifted[N * 8 + 1];
    for (int i = 0; i < N; i++)
        d[i] = f[i] = ldexpf((float)(i * 37 % 101) - 50.0f, i % 20 - 14);
    for (size_t k = 0; k < sizeof dts / sizeof *dts; k++) {
        const size_t w = ws_dtype_info(dts[k])->bits / 8;
        ws_from_f32(dts[k], f, whole, N, NULL);
        ws_to_f32(dts[k], whole, back, N);
        ws_to_f64(dts[k], whole, dback, N);
        for (size_t i = 0; i < N; i += 7) {
            const size_t n = N - i < 7 ? N - i : 7;
            ws_from_f32(dts[k], f + i, shifted + 1 + i * w, n, NULL);
        }
        assert_memory_equal(shifted + 1, whole, N * w);
        ws_from_f64(dts[k], d, shifted + 1, N, NULL);
        assert_memory_equal(shifted + 1, whole, N * w);
        ws_to_f32(dts[k], shifted + 1, back2, N);
        assert_memory_equal(back2, back, sizeof back);
        ws_to_f64(dts[k], shifted + 1, dback2, N);
        assert_memory_equal(dback2, dback, sizeof dback);
    }
}

/** A finite double that every format but F8 can hold when rounded; F8 range for the
 * other. */
static double random_in_range(uint64_t *s, ws_dtype dt)
{
    const uint64_t bits = next_random(s);
    const int top = dt == WS_DT_F8_E4M3                   ? 8
                    : dt == WS_DT_BF16 || dt == WS_DT_F32 ? 127
                                                          : 15;
    const double m = 1.0 + (double)(bits >> 12) * 0x1p-52 * 0.75;
    const double x = ldexp(m, top - (int)(bits & 1023) % (2 * top + 30));
    return (bits & 2048) != 0 ? -x : x;
}

// Calls of one element take the scalar end of the loops, long ones the vector body.
static void vector_loops_equal_single_elements(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static uint32_t codes[N], one[N], all[N];
    static float f[N], f1[N];
    static double d[N], d1[N];
    uint64_t s = 2463534242u;
    for (size_t k = 0; k < sizeof refs / sizeof *refs; k++) {
        const struct ref *r = &refs[k];
        const size_t w = (size_t)width(r);
        unsigned char *packed = (unsigned char *)codes;
        for (uint32_t i = 0; i < N; i++)
            memcpy(packed + i * w, &i, w);
        ws_to_f32(r->dt, packed, f, N);
        ws_to_f64(r->dt, packed, d, N);
        for (size_t i = 0; i < N; i++) {
            ws_to_f32(r->dt, packed + i * w, &f1[i], 1);
            ws_to_f64(r->dt, packed + i * w, &d1[i], 1);
        }
        assert_memory_equal(f, f1, sizeof f);
        assert_memory_equal(d, d1, sizeof d);

        for (size_t i = 0; i < N; i++) {
            d[i] = random_in_range(&s, r->dt);
            f[i] = (float)d[i];
        }
        ws_store_tally t;
        for (int from_double = 0; from_double < 2; from_double++) {
            if (from_double)
                ws_from_f64(r->dt, d, all, N, &t);
            else
                ws_from_f32(r->dt, f, all, N, &t);
            assert_true(t.first_bad == SIZE_MAX); // else single elements were stored
            for (size_t i = 0; i < N; i++) {
                if (from_double)
                    ws_from_f64(r->dt, d + i, (unsigned char *)one + i * w, 1, NULL);
                else
                    ws_from_f32(r->dt, f + i, (unsigned char *)one + i * w, 1, NULL);
            }
            assert_memory_equal(all, one, N * w);
        }
    }
}

static void names_parse_in_safetensors_spelling_only(void **state)
{
    (void)state;
    for (int i = 0; i < WS_DT_COUNT; i++) {
        const char *name = ws_dtype_info((ws_dtype)i)->name;
        ws_dtype dt = WS_DT_COUNT;
        assert_true(ws_dtype_parse(name, strlen(name), &dt));
        assert_int_equal(dt, i);
        assert_false(ws_dtype_parse(name, strlen(name) - 1, &dt) && dt == (ws_dtype)i);
    }
    ws_dtype dt;
    assert_false(ws_dtype_parse("f32", 3, &dt));
    assert_false(ws_dtype_parse("F32 ", 4, &dt));
    assert_false(ws_dtype_parse("", 0, &dt));
    assert_false(ws_dtype_parse("I4", 2, &dt));
}

static void users_spell_as_they_like(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        ws_dtype dt;
    } good[] = {
        { "f32", WS_DT_F32 },         { "F32", WS_DT_F32 },
        { "float32", WS_DT_F32 },     { "fp16", WS_DT_F16 },
        { "Float16", WS_DT_F16 },     { "half", WS_DT_F16 },
        { "bf16", WS_DT_BF16 },       { "BFloat16", WS_DT_BF16 },
        { "f8-e4m3", WS_DT_F8_E4M3 }, { "float8_e4m3fn", WS_DT_F8_E4M3 },
        { "F8_E5M2", WS_DT_F8_E5M2 }, { "double", WS_DT_F64 },
        { "int8", WS_DT_I8 },         { "bool", WS_DT_BOOL },
    };
    static const char *const bad[] = { "",     "f",
                                       "f33",  "bf",
                                       "keep", "a-very-long-name-that-fits-nowhere" };
    ws_dtype dt;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(ws_dtype_parse_user(good[i].name, &dt));
        assert_int_equal(dt, good[i].dt);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ws_dtype_parse_user(bad[i], &dt));
}

static void traits_give_the_bits_of_the_format(void **state)
{
    (void)state;
    int arithmetic = 0;
    for (int i = 0; i < WS_DT_COUNT; i++)
        arithmetic += ws_dtype_info((ws_dtype)i)->arithmetic;
    assert_int_equal(arithmetic, 6);
    assert_int_equal(ws_dtype_info(WS_DT_C64)->bits, 64);
    assert_int_equal(ws_dtype_info(WS_DT_BOOL)->bits, 8);
    assert_int_equal(ws_dtype_info(WS_DT_F6_E2M3)->bits, 6);
    assert_int_equal(ws_dtype_info(WS_DT_F4)->bits, 4);
    for (size_t k = 0; k < sizeof refs / sizeof *refs; k++)
        assert_int_equal(ws_dtype_info(refs[k].dt)->bits, 8 * width(&refs[k]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_widens_exactly),
        cmocka_unit_test(every_code_survives_a_round_trip),
        cmocka_unit_test(rounds_to_nearest_even_around_every_code),
        cmocka_unit_test(random_bit_patterns_match_the_reference),
        cmocka_unit_test(f64_to_f32_is_one_rounding_around_many_codes),
        cmocka_unit_test(f64_to_f32_reads_round_to_nearest),
        cmocka_unit_test(double_to_f16_does_not_round_twice),
        cmocka_unit_test(float_and_double_store_themselves),
        cmocka_unit_test(infinity_becomes_nan_only_where_there_is_none),
        cmocka_unit_test(tally_counts_and_finds_the_first),
        cmocka_unit_test(any_alignment_and_any_cut_give_the_same_bytes),
        cmocka_unit_test(vector_loops_equal_single_elements),
        cmocka_unit_test(names_parse_in_safetensors_spelling_only),
        cmocka_unit_test(users_spell_as_they_like),
        cmocka_unit_test(traits_give_the_bits_of_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
