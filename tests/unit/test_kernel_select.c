/*
 * test_kernel_select.c - the streaming selection against a sort
 */
#include "engine/kernel_select.h"
#include "ws_test.h"

/** Kinds of updates that stress different passes. */
enum kind {
    CONTINUOUS, // hardly any equal magnitudes
    GRID,       // differences of bfloat16 numbers: many equal, many zero
    CONSTANT,   // all equal
    SPARSE,     // nine tenths are zero
    ROWS,       // the scale changes from run to run: a sample misleads
    RISING,     // sorted
    WILD,       // every bit pattern, NaN and infinity included
    N_KINDS
};

static uint64_t random_word(uint64_t *s)
{
    *s += 0x9E3779B97F4A7C15ull;
    uint64_t z = *s;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static double uniform(uint64_t *s)
{
    return (double)(random_word(s) >> 11) / 9007199254740992.0;
}

static double normal(uint64_t *s)
{
    double sum = -6.0;
    for (int i = 0; i < 12; i++)
        sum += uniform(s);
    return sum;
}

static float to_bf16(double x)
{
    float f = (float)x;
    uint32_t b;
    memcpy(&b, &f, 4);
    b = (b + 0x7fff + ((b >> 16) & 1)) & 0xffff0000u;
    memcpy(&f, &b, 4);
    return f;
}

static double entry(enum kind kind, size_t i, size_t n, uint64_t *s)
{
    const double z = normal(s);
    switch (kind) {
    case CONTINUOUS:
        return 1e-3 * z;
    case GRID: {
        const double w = 0.02 * normal(s);
        return (double)(to_bf16(w + 3e-4 * z) - to_bf16(w));
    }
    case CONSTANT:
        return i % 2 == 0 ? 0.5 : -0.5;
    case SPARSE:
        return uniform(s) < 0.9 ? 0.0 : 1e-3 * z;
    case ROWS:
        return z * ((i / 5000) % 7 == 0 ? 1.0 : 1e-4);
    case RISING:
        return (double)i / (double)n;
    default:
        return 0.0;
    }
}

/** A copy of the values as bit patterns for the sort: (pattern, index). */
struct ranked {
    uint64_t pattern;
    size_t index;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->pattern != y->pattern)
        return x->pattern > y->pattern ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

struct fixture {
    int bits;
    size_t n, slice_len, tile;
    void *x; // float or double
    uint64_t *pattern;
};

static struct fixture fixture_new(enum kind kind, int bits, size_t n, uint64_t seed)
{
    struct fixture f = { .bits = bits, .n = n, .slice_len = n, .tile = n };
    const size_t size = (size_t)bits / 8;
    f.x = calloc(n + 1, size);
    f.pattern = calloc(n + 1, sizeof *f.pattern);
    for (size_t i = 0; i < n; i++) {
        const double v = entry(kind, i, n, &seed);
        const float v32 = (float)v;
        uint64_t p = 0;
        memcpy(&p, bits == 32 ? (const void *)&v32 : (const void *)&v, size);
        if (kind == WILD)
            p = random_word(&seed) >> (64 - bits);
        memcpy((char *)f.x + i * size, &p, size);
        f.pattern[i] = p & ((UINT64_C(1) << (bits - 1)) - 1);
    }
    return f;
}

static void fixture_free(struct fixture *f)
{
    free(f->x);
    free(f->pattern);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void scan_slice(const struct fixture *f, const void *state, uint64_t slice,
                       void *partial)
{
    const size_t start = slice * f->slice_len, size = (size_t)f->bits / 8;
    const size_t end = min_size(start + f->slice_len, f->n);
    for (size_t i = start, n; i < end; i += n) {
        n = min_size(end - i, f->tile);
        const void *x = (const char *)f->x + i * size;
        if (f->bits == 32)
            ws_select_scan_f32(state, 0, i, x, n, partial);
        else
            ws_select_scan_f64(state, 0, i, x, n, partial);
    }
}

static void mask_slice(const struct fixture *f, const void *state, uint64_t slice,
                       char *x, ws_tally *tally)
{
    const size_t start = slice * f->slice_len, size = (size_t)f->bits / 8;
    const size_t end = min_size(start + f->slice_len, f->n);
    void *carry = calloc(1, ws_select_carry_size(1));
    for (size_t i = start, n; i < end; i += n) {
        n = min_size(end - i, f->tile);
        void *at = x + i * size;
        if (f->bits == 32)
            ws_select_mask_f32(state, 0, at, n, slice, carry, tally);
        else
            ws_select_mask_f64(state, 0, at, n, slice, carry, tally);
    }
    free(carry);
}

/** Select, mask a copy; the number of passes. */
static int select_band(const struct fixture *f, ws_band band, char *x, ws_tally *tally)
{
    const uint64_t n_slices = (f->n + f->slice_len - 1) / f->slice_len;
    const ws_job job = { .n = f->n, .slice_len = f->slice_len, .n_slices = n_slices };
    void *state = calloc(1, ws_select_state_size(&job, 1));
    const size_t size = ws_select_partial_size(&job, 1);
    void *partial = malloc(size);
    int passes = 0;

    ws_select_init(state, &job, 1, &band, f->bits);
    for (; ws_select_begin(state); passes++)
        for (uint64_t s = 0; s < n_slices; s++) {
            memset(partial, 0, size);
            scan_slice(f, state, s, partial);
            ws_select_join(state, partial, s);
        }
    memcpy(x, f->x, f->n * (size_t)f->bits / 8);
    for (uint64_t s = n_slices; s-- > 0;)
        mask_slice(f, state, s, x, tally);
    free(state);
    free(partial);
    return passes;
}

/** What is left of x must be the ranks of the band, and the counts theirs. */
static void assert_band(const struct fixture *f, const struct ranked *order,
                        ws_band band, const char *x, const ws_tally *t)
{
    const size_t size = (size_t)f->bits / 8;
    for (size_t r = 0; r < f->n; r++) {
        const bool keep = r >= band.top && r < band.top + band.keep;
        const size_t i = order[r].index;
        static const char zero[8];
        const void *want = keep ? (const char *)f->x + i * size : zero;
        if (memcmp(x + i * size, want, size) != 0)
            fail_msg("rank %zu, element %zu: not %s", r, i, keep ? "kept" : "dropped");
    }
    assert_int_equal(t->dropped_large, min_size(band.top, f->n));
    assert_int_equal(t->kept, min_size(band.keep, f->n - t->dropped_large));
    assert_int_equal(t->kept + t->dropped_large + t->dropped_small, f->n);
}

static struct ranked *sorted(const struct fixture *f)
{
    struct ranked *order = calloc(f->n + 1, sizeof *order);
    for (size_t i = 0; i < f->n; i++)
        order[i] = (struct ranked){ f->pattern[i], i };
    qsort(order, f->n, sizeof *order, by_rank);
    return order;
}

static void check_bands(struct fixture *f, const struct ranked *order)
{
    const double shares[][2] = { { 0.006, 0.15 }, { 0.0, 0.2 }, { 0.0, 1.0 },
                                 { 0.01, 0.0 },   { 0.3, 0.5 }, { 0.0, 0.97 } };
    char *x = malloc(f->n * (size_t)f->bits / 8 + 1);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        const ws_band band = { (uint64_t)(shares[i][0] * (double)f->n),
                               (uint64_t)(shares[i][1] * (double)f->n) };
        ws_tally tally = { 0 };
        const int passes = select_band(f, band, x, &tally);
        assert_in_range(passes, 0, 9);
        assert_band(f, order, band, x, &tally);
    }
    free(x);
}

static void selects_the_ranks_of_a_sort(void **unused)
{
    const size_t sizes[] = { 1, 2, 5, 100, 8192, 8193, 70000, 140000, 600000 };
    (void)unused;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int bits = 32; bits <= 64; bits += 32)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                struct fixture f = fixture_new(kind, bits, sizes[i], 7 * i + kind);
                struct ranked *order = sorted(&f);
                f.tile = 1000;
                f.slice_len = f.n > 100 ? f.n / 7 : f.n;
                check_bands(&f, order);
                free(order);
                fixture_free(&f);
            }
}

static void any_cut_gives_the_same_mask(void **unused)
{
    const size_t slices[] = { 600000, 54321, 100000, 4096 };
    const size_t tiles[] = { 600000, 1, 77, 4096 };
    const ws_band band = { 3600, 90000 };
    struct fixture f = fixture_new(GRID, 32, 600000, 3);
    char *first = malloc(f.n * 4), *x = malloc(f.n * 4);
    ws_tally tally = { 0 };
    (void)unused;
    select_band(&f, band, first, &tally);
    for (int i = 0; i < 4; i++) {
        f.slice_len = slices[i];
        f.tile = tiles[i];
        select_band(&f, band, x, &tally);
        assert_memory_equal(x, first, f.n * 4);
    }
    free(first);
    free(x);
    fixture_free(&f);
}

static int passes_of(enum kind kind, ws_band band)
{
    struct fixture f = fixture_new(kind, 32, 1 << 21, 11);
    char *x = malloc(f.n * 4);
    ws_tally tally = { 0 };
    f.slice_len = 1 << 19;
    const int passes = select_band(&f, band, x, &tally);
    free(x);
    fixture_free(&f);
    return passes;
}

static void one_full_pass_is_enough_for_16_bit_updates(void **unused)
{
    (void)unused;
    assert_int_equal(passes_of(GRID, (ws_band){ 12582, 314572 }), 2);
    assert_int_equal(passes_of(GRID, (ws_band){ 0, 419430 }), 2);
    assert_int_equal(passes_of(CONSTANT, (ws_band){ 12582, 314572 }), 2);
    assert_int_equal(passes_of(SPARSE, (ws_band){ 0, 419430 }), 2);
}

static void continuous_updates_need_a_second_full_pass(void **unused)
{
    (void)unused;
    assert_in_range(passes_of(CONTINUOUS, (ws_band){ 12582, 314572 }), 2, 3);
}

/* The sample brackets wrong; the counts notice. */
static void misleading_samples_cost_passes_only(void **unused)
{
    (void)unused;
    assert_in_range(passes_of(ROWS, (ws_band){ 12582, 314572 }), 2, 5);
    assert_in_range(passes_of(RISING, (ws_band){ 12582, 314572 }), 2, 5);
}

static void nothing_to_cut_needs_no_pass(void **unused)
{
    (void)unused;
    assert_int_equal(passes_of(CONTINUOUS, (ws_band){ 0, 1 << 21 }), 0);
    assert_int_equal(passes_of(CONTINUOUS, (ws_band){ 0, 0 }), 0);
}

static void rows_in_memory_are_selected_alike(void **unused)
{
    const size_t sizes[] = { 1, 3, 64, 1000, 5000 };
    (void)unused;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int bits = 32; bits <= 64; bits += 32)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                struct fixture f = fixture_new(kind, bits, sizes[i], 5 * i + kind);
                struct ranked *order = sorted(&f);
                const ws_band band = { f.n / 50, f.n / 3 };
                void *scratch = malloc(8 * f.n), *x = malloc(8 * f.n);
                ws_tally t = { 0 };
                memcpy(x, f.x, f.n * (size_t)bits / 8);
                if (bits == 32)
                    ws_select_row_f32(x, f.n, band, scratch, &t);
                else
                    ws_select_row_f64(x, f.n, band, scratch, &t);
                assert_band(&f, order, band, x, &t);
                free(scratch);
                free(x);
                free(order);
                fixture_free(&f);
            }
}

/** Counts of one window, element by element. */
static void count_plainly(const struct select_cut *c, const float *x, size_t n,
                          uint32_t *table, uint64_t *above)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t p;
        memcpy(&p, &x[i], sizeof p);
        p &= INT32_MAX;
        *above += p > c->hi;
        if (p < c->lo || p > c->hi)
            continue;
        uint32_t *at = &table[(p - c->lo) >> c->shift];
        const bool pure = p == c->heavy || ((p - c->lo) & ((1u << c->shift) - 1)) == 0;
        *at = (*at + 2) | !pure;
    }
}

static void wide_registers_count_alike(void **state)
{
    (void)state;
    enum { N = 5000, BINS = 512 };
    static float x[N];
    static uint32_t got[BINS], want[BINS];
    uint64_t seed = 7;
    if (!ws_select_has_v4())
        skip();
    for (size_t i = 0; i < N; i++) { // a fifth NaN, infinity and the like
        const uint64_t w = random_word(&seed);
        uint32_t bits = 0x3f800000u + (uint32_t)(w >> 40) % 0x20000u;
        bits = w % 5 == 0 ? (uint32_t)(w >> 32) : w % 5 == 1 ? 0x3f808000u : bits;
        bits |= (uint32_t)(w & 8) << 28;
        memcpy(&x[i], &bits, sizeof bits);
    }
    for (int which = 0; which < 2; which++)
        for (size_t n = 0; n <= N; n += n < 40 ? 1 : 827) {
            struct select_cut c = { .shift = 8, .lo = 0x3f800000u, .hi = 0x3f81feffu };
            c.heavy = which == 0 ? UINT64_MAX : 0x3f808000u;
            uint64_t above = 3, want_above = 3;
            memset(got, 0, sizeof got);
            memset(want, 0, sizeof want);
            const size_t done = ws_select_count_v4(&c, x, n, got, &above);
            assert_true(done <= n && n - done < 16);
            count_plainly(&c, x, done, want, &want_above);
            assert_int_equal(above, want_above);
            assert_memory_equal(got, want, sizeof got);
        }
}

static float bf16(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

static void pairs_are_counted_like_their_differences(void **state)
{
    (void)state;
    enum { N = 5000, BINS = 512 };
    static uint16_t x[N], base[N];
    static float d[N];
    static uint32_t got[BINS], want[BINS];
    uint64_t seed = 11;
    if (!ws_select_has_v4())
        skip();
    for (size_t i = 0; i < N; i++) { // some equal, some with NaN and infinity
        const uint64_t w = random_word(&seed);
        base[i] = w % 7 == 0 ? (uint16_t)(w >> 48) : (uint16_t)(0x3f80 + (w >> 40) % 8);
        x[i] = w % 3 == 0 ? base[i] : (uint16_t)(base[i] + 0x80 + (w >> 20) % 128);
        d[i] = bf16(x[i]) - bf16(base[i]);
    }
    for (int which = 0; which < 2; which++)
        for (size_t n = 0; n <= N; n += n < 70 ? 1 : 701) {
            struct select_cut c = { .shift = 14, .lo = 0x3f800000u, .hi = 0x3fffffffu };
            c.heavy = which == 0 ? UINT64_MAX : 0x3f900000u;
            uint64_t above = 1, want_above = 1;
            memset(got, 0, sizeof got);
            memset(want, 0, sizeof want);
            ws_select_count_bf16_v4(&c, x, base, n, got, &above);
            count_plainly(&c, d, n, want, &want_above);
            assert_int_equal(above, want_above);
            assert_memory_equal(got, want, sizeof got);
        }
}

static int by_bits(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static void wide_registers_gather_all_magnitudes_from_a_floor_on(void **state)
{
    (void)state;
    enum { N = 3000 };
    static uint16_t x[N], base[N];
    static float got[N + 16], want[N];
    uint64_t seed = 3;
    if (!ws_select_has_v4())
        skip();
    for (size_t i = 0; i < N; i++) { // some NaN and infinity, some equal
        const uint64_t w = random_word(&seed);
        base[i] = (uint16_t)(w >> 48);
        x[i] = w % 3 == 0 ? base[i] : (uint16_t)(base[i] + (w >> 20) % 5);
    }
    for (size_t n = 0; n <= N; n += n < 70 ? 1 : 977) {
        static const uint32_t floors[] = { 1, 0x3a000000u, INT32_MAX };
        for (size_t f = 0; f < sizeof floors / sizeof *floors; f++) {
            size_t n_want = 0;
            for (size_t i = 0; i < n; i++) {
                const float d = bf16(x[i]) - bf16(base[i]);
                uint32_t p;
                memcpy(&p, &d, sizeof p);
                p &= INT32_MAX;
                if (p >= floors[f])
                    memcpy(&want[n_want++], &p, sizeof p);
            }
            assert_int_equal(ws_select_gather_v4(x, base, n, floors[f], got), n_want);
            qsort(got, n_want, sizeof *got, by_bits);
            qsort(want, n_want, sizeof *want, by_bits);
            assert_memory_equal(got, want, n_want * sizeof *got);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selects_the_ranks_of_a_sort),
        cmocka_unit_test(any_cut_gives_the_same_mask),
        cmocka_unit_test(one_full_pass_is_enough_for_16_bit_updates),
        cmocka_unit_test(continuous_updates_need_a_second_full_pass),
        cmocka_unit_test(misleading_samples_cost_passes_only),
        cmocka_unit_test(nothing_to_cut_needs_no_pass),
        cmocka_unit_test(rows_in_memory_are_selected_alike),
        cmocka_unit_test(wide_registers_count_alike),
        cmocka_unit_test(pairs_are_counted_like_their_differences),
        cmocka_unit_test(wide_registers_gather_all_magnitudes_from_a_floor_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
