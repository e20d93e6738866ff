/*
 * test_taskvec.c - task vectors: their bytes, and that they restore a model bit for bit
 */
#include "st_fixture.h"
#include "temp_dir.h"

#include "hf/taskvec_source.h"
#include "surgery/taskvec_spectrum.h"
#include "wsurg/digest.h"
#include "wsurg/taskvec.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint64_t random_state;

static uint64_t draw(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    uint64_t x = random_state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void draw_bytes(void *p, size_t n)
{
    uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        b[i] = (uint8_t)draw();
}

static ws_write_opts to(const char *path)
{
    ws_write_opts w = WS_WRITE_OPTS_INIT;
    w.out = path;
    w.provenance = false;
    w.manifest = "none";
    return w;
}

static void extract(const char *base, const char *model, const char *out,
                    ws_taskvec_counts *counts)
{
    ws_err err = WS_ERR_INIT;
    ws_taskvec_result *r = NULL;
    ws_taskvec_extract_req req = { .base = base, .model = model, .write = to(out) };
    assert_ok(ws_taskvec_extract(&r, &req, NULL, &err), err);
    assert_true(r->exact);
    if (counts != NULL)
        *counts = r->counts;
    ws_taskvec_result_free(r);
}

static void apply(const char *base, const char *vector, double scale, const char *out)
{
    ws_err err = WS_ERR_INIT;
    ws_taskvec_result *r = NULL;
    ws_taskvec_apply_req req = {
        .base = base, .vectors = &vector, .n = 1, .scale = scale, .write = to(out)
    };
    assert_ok(ws_taskvec_apply(&r, &req, NULL, &err), err);
    ws_taskvec_result_free(r);
}

static void assert_same_file(const char *a, const char *b)
{
    size_t na, nb;
    uint8_t *x = st_get(a, &na), *y = st_get(b, &nb);
    assert_int_equal(na, nb);
    for (size_t i = 0; i < na; i++)
        if (x[i] != y[i])
            fail_msg("'%s' and '%s' differ at byte %zu", a, b, i);
    free(x);
    free(y);
}

/** Extract, apply, and compare the file; all in the current directory. */
static void round_trip(const st_item *base, size_t n_base, const st_item *model,
                       size_t n_model, const ws_meta *meta, size_t n_meta,
                       ws_taskvec_counts *counts)
{
    st_write("base.safetensors", base, n_base, NULL, 0);
    st_write("model.safetensors", model, n_model, meta, n_meta);
    extract("base.safetensors", "model.safetensors", "t.safetensors", counts);
    apply("base.safetensors", "t.safetensors", 1.0, "back.safetensors");
    assert_same_file("model.safetensors", "back.safetensors");
    unlink("t.safetensors");
    unlink("back.safetensors");
}

/* ---- blocks and codes ---- */

static void blocks_cover_every_element_once(void **state)
{
    (void)state;
    static const struct {
        int rank;
        uint64_t shape[3];
    } cases[] = { { 1, { 1 } },           { 1, { 32768 } },      { 1, { 3000001 } },
                  { 2, { 3, 40000 } },    { 2, { 5, 1000003 } }, { 2, { 2, 1500001 } },
                  { 3, { 700, 30, 71 } }, { 0, { 0 } },          { 2, { 0, 4 } } };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t n = 1, next = 0, map = 0;
        for (int d = 0; d < cases[i].rank; d++)
            n *= cases[i].shape[d];
        const ws_tv_blocks g = ws_tv_blocks_of(cases[i].rank, cases[i].shape, n);
        for (uint64_t b = 0; b < g.n_blocks; b++) {
            uint64_t first;
            size_t count;
            ws_tv_block_at(&g, b, &first, &count);
            assert_int_equal(first, next);
            assert_true(count > 0 && count <= WS_TV_BLOCK);
            assert_int_equal(ws_tv_block_of(&g, first), b);
            assert_int_equal(ws_tv_block_of(&g, first + count - 1), b);
            assert_int_equal(ws_tv_map_offset(&g, b), map);
            next += count;
            map += (count + 7) / 8;
        }
        assert_int_equal(next, n);
        assert_int_equal(ws_tv_map_offset(&g, g.n_blocks), map);
    }
}

static void indexes_survive_both_codes(void **state)
{
    (void)state;
    static const double densities[] = { 0.0, 0.0005, 0.01, 0.5, 1.0 };
    static const size_t limits[] = { 1, 7, 8, 1001, 32767, WS_TV_BLOCK };
    static uint32_t index[WS_TV_BLOCK], back[WS_TV_BLOCK];
    static uint8_t code[3 * WS_TV_BLOCK];
    random_state = 1;
    for (size_t d = 0; d < COUNT(densities); d++)
        for (size_t l = 0; l < COUNT(limits); l++) {
            size_t n = 0;
            for (size_t i = 0; i < limits[l]; i++)
                if ((double)(draw() >> 11) * 0x1p-53 < densities[d])
                    index[n++] = (uint32_t)i;
            const size_t len = ws_tv_gaps_encode(index, n, code);
            assert_int_equal(len, ws_tv_gaps_size(index, n));
            assert_true(ws_tv_gaps_decode(code, len, limits[l], back, n));
            assert_memory_equal(back, index, n * sizeof *index);
            ws_tv_map_encode(index, n, limits[l], code);
            assert_true(ws_tv_map_decode(code, limits[l], back, n));
            assert_memory_equal(back, index, n * sizeof *index);
            assert_false(ws_tv_map_decode(code, limits[l], back, n + 1));
            assert_true(n == 0 || !ws_tv_map_decode(code, limits[l], back, n - 1));
        }
}

static void gaps_have_these_bytes(void **state)
{
    (void)state;
    static const uint32_t index[] = { 0, 1, 129, 258, 20000 };
    static const uint8_t want[] = { 0x00, 0x00, 0x7f, 0x80, 0x01, 0x9d, 0x9a, 0x01 };
    uint8_t code[16];
    assert_int_equal(ws_tv_gaps_encode(index, COUNT(index), code), sizeof want);
    assert_memory_equal(code, want, sizeof want);
}

static void malformed_gaps_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[12];
        size_t len, limit, n;
    } cases[] = {
        { { 0x80 }, 1, 100, 1 },       // ends within a gap
        { { 0x80, 0x00 }, 2, 100, 1 }, // longer than need be
        { { 0x05 }, 1, 5, 1 },         // beyond the block
        { { 0x00, 0x00 }, 2, 1, 2 },   // the second is
        { { 0x00 }, 1, 100, 2 },       // one is missing
        { { 0x00, 0x00 }, 2, 100, 1 }, // one too many
        { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 }, 10, 9, 1 },
        { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 }, 10, 9, 1 },
        { { 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 },
          11,
          9,
          2 }, // 1 + 2^64 wraps
    };
    uint32_t index[2];
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_false(ws_tv_gaps_decode(cases[i].bytes, cases[i].len, cases[i].limit,
                                       index, cases[i].n));
}

static void map_bits_beyond_the_block_are_refused(void **state)
{
    (void)state;
    const uint8_t map[] = { 0x01, 0x10 };
    uint32_t index[2];
    assert_true(ws_tv_map_decode(map, 13, index, 2));
    assert_int_equal(index[1], 12);
    assert_false(ws_tv_map_decode(map, 12, index, 2));
}

/* ---- round trips ---- */

/** Fill base and model of n elements; about @p changed of them differ. */
static void fill_pair(ws_dtype dtype, size_t n, double changed, uint8_t *base,
                      uint8_t *model)
{
    static const uint64_t special[] = { 0x0000, 0x8000, 0x7c00, 0xfc00, 0x7e00,
                                        0x7c01, 0x0001, 0x8001, 0x7bff, 0xfbff,
                                        0x7f80, 0xff80, 0x7fc0, 0x7f81, 0x7f7f,
                                        0xff7f, 0x7fff, 0xffff, 0x3c00, 0x3f80 };
    const size_t size = ws_dtype_info(dtype)->bits / 8;
    draw_bytes(base, n * size);
    memcpy(model, base, n * size);
    for (size_t i = 0; i < n; i++) {
        if ((double)(draw() >> 11) * 0x1p-53 >= changed)
            continue;
        uint64_t bits = draw();
        if (draw() % 4 == 0) // the same special patterns in the upper half of any dtype
            bits = special[draw() % COUNT(special)] << (8 * (size - 2));
        if (draw() % 8 == 0)
            memcpy(base + i * size,
                   &(uint64_t){ special[draw() % COUNT(special)] << (8 * (size - 2)) },
                   size);
        memcpy(model + i * size, &bits, size);
    }
}

static const ws_dtype floats[] = { WS_DT_F64, WS_DT_F32, WS_DT_F16, WS_DT_BF16 };

static void random_bits_of_every_dtype_come_back(void **state)
{
    (void)state;
    enum { N = 70001 };
    static const double changed[] = { 0.00002, 0.01, 0.5, 1.0 };
    uint8_t *base = malloc(N * 8), *model = malloc(N * 8);
    assert_true(base != NULL && model != NULL);
    random_state = 2;
    for (size_t d = 0; d < COUNT(floats); d++)
        for (size_t c = 0; c < COUNT(changed); c++) {
            fill_pair(floats[d], N, changed[c], base, model);
            const st_item b[] = { { "w", floats[d], 1, { N }, base } };
            const st_item m[] = { { "w", floats[d], 1, { N }, model } };
            ws_taskvec_counts counts;
            round_trip(b, 1, m, 1, NULL, 0, &counts);
            assert_int_equal(counts.dense + counts.bitmap + counts.index, 1);
            assert_int_equal(counts.elements, N);
            if (changed[c] == 1.0)
                assert_int_equal(counts.dense, 1);
            if (changed[c] == 0.01)
                assert_int_equal(counts.index, 1);
            if (changed[c] == 0.5)
                assert_int_equal(counts.bitmap, 1);
        }
    free(base);
    free(model);
}

static void every_half_and_bfloat_pattern_comes_back(void **state)
{
    (void)state;
    enum { N = 65536 };
    static uint16_t base[N], model[N];
    random_state = 3;
    for (size_t d = 2; d < COUNT(floats); d++) {
        for (size_t i = 0; i < N; i++) {
            base[i] = (uint16_t)draw();
            model[i] = (uint16_t)i;
        }
        const st_item b[] = { { "w", floats[d], 1, { N }, base } };
        const st_item m[] = { { "w", floats[d], 1, { N }, model } };
        round_trip(b, 1, m, 1, NULL, 0, NULL);
    }
}

static void long_rows_and_many_slices_come_back(void **state)
{
    (void)state;
    enum { N = 3 * 400003 };
    uint8_t *base = malloc(N * 4), *model = malloc(N * 4);
    assert_true(base != NULL && model != NULL);
    random_state = 4;
    fill_pair(WS_DT_F32, N, 0.03, base, model);
    const st_item b[] = { { "w", WS_DT_F32, 2, { 3, 400003 }, base },
                          { "v", WS_DT_BF16, 2, { 3, 400003 }, base } };
    const st_item m[] = { { "w", WS_DT_F32, 2, { 3, 400003 }, model },
                          { "v", WS_DT_BF16, 2, { 3, 400003 }, model } };
    round_trip(b, 2, m, 2, NULL, 0, NULL);
    free(base);
    free(model);
}

static void equal_models_give_an_empty_vector(void **state)
{
    (void)state;
    static const uint32_t bits[] = { 0x80000000u, 0x7f800001u, 0x00000001u,
                                     0x7f800000u };
    const st_item m[] = { { "w", WS_DT_F32, 1, { 4 }, bits } };
    ws_taskvec_counts counts;
    round_trip(m, 1, m, 1, NULL, 0, &counts);
    assert_int_equal(counts.same, 1);
    assert_int_equal(counts.elements, 0);
}

static void negative_zero_and_nan_payloads_are_exact_entries(void **state)
{
    (void)state;
    static const uint32_t base[] = { 0x00000000u, 0x80000000u, 0x3f800000u, 0x7fc00000u,
                                     0x7f7fffffu };
    static const uint32_t model[] = { 0x80000000u, 0x00000000u, 0x7fc00001u,
                                      0x7fc00002u, 0xff7fffffu };
    const st_item b[] = { { "w", WS_DT_F32, 1, { 5 }, base } };
    const st_item m[] = { { "w", WS_DT_F32, 1, { 5 }, model } };
    ws_taskvec_counts counts;
    round_trip(b, 1, m, 1, NULL, 0, &counts);
    // the last one's difference overflows to -infinity
    assert_int_equal(counts.exact, 5);
}

static void new_removed_and_reshaped_tensors_come_back(void **state)
{
    (void)state;
    static const float f[] = { 1, 2, 3, 4, 5, 6 }, g[] = { 1, 2, 3.5f, 4, 5, 6 };
    static const int64_t ids[] = { 1, 2, 3 }, other[] = { 1, 2, 4 };
    static const uint16_t half[] = { 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4601 };
    const st_item b[] = {
        { "a", WS_DT_F32, 1, { 6 }, f },        { "gone", WS_DT_F32, 1, { 2 }, f },
        { "ids", WS_DT_I64, 1, { 3 }, ids },    { "kept", WS_DT_I64, 1, { 3 }, ids },
        { "shape", WS_DT_F32, 2, { 2, 3 }, f }, { "to_half", WS_DT_F32, 1, { 6 }, f },
        { "to_wide", WS_DT_F32, 1, { 3 }, f },  { "none", WS_DT_F32, 1, { 0 }, NULL },
        { "one", WS_DT_F32, 0, { 0 }, f }
    };
    static const double wide[] = { 1.0000000001, 2, 3 };
    const st_item m[] = { { "a", WS_DT_F32, 1, { 6 }, g },
                          { "ids", WS_DT_I64, 1, { 3 }, other },
                          { "kept", WS_DT_I64, 1, { 3 }, ids },
                          { "shape", WS_DT_F32, 2, { 3, 2 }, f },
                          { "to_half", WS_DT_F16, 1, { 6 }, half },
                          { "to_wide", WS_DT_F64, 1, { 3 }, wide },
                          { "new", WS_DT_BF16, 1, { 2 }, half },
                          { "none", WS_DT_F32, 1, { 0 }, NULL },
                          { "one", WS_DT_F32, 0, { 0 }, g + 1 } };
    const ws_meta meta[] = { { "format", "pt" }, { "note", "caf\xc3\xa9 \"1\"\n" } };
    ws_taskvec_counts counts;
    round_trip(b, COUNT(b), m, COUNT(m), meta, 2, &counts);
    assert_int_equal(counts.removed, 1);
    assert_int_equal(counts.whole, 3); // ids, shape, new
    assert_int_equal(counts.same, 2);  // kept, none
    assert_int_equal(counts.dense + counts.bitmap + counts.index, 4);
}

static void foreign_order_and_padding_come_back(void **state)
{
    (void)state;
    // tensors out of order, spaces, a member that nobody knows
    static const char json[] =
        "{ \"w\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[4,8]},"
        "\"__metadata__\":{\"b\":\"2\",\"a\":\"1\"},"
        "\"a\":{\"shape\":[1],\"dtype\":\"F32\",\"x\":1,\"data_offsets\":[0,4]}}   ";
    const uint64_t n = sizeof json - 1;
    uint8_t file[8 + sizeof json - 1 + 8];
    memcpy(file, &n, 8);
    memcpy(file + 8, json, sizeof json - 1);
    memcpy(file + 8 + n, "\0\0\x80\x3f\x80\x3f\0\x40", 8);
    static const float a[] = { 0.5f };
    static const uint16_t w[] = { 0x3f80, 0x3f80 };
    const st_item base[] = { { "a", WS_DT_F32, 1, { 1 }, a },
                             { "w", WS_DT_BF16, 1, { 2 }, w } };
    st_write("base.safetensors", base, 2, NULL, 0);
    spit("model.safetensors", file, sizeof file);
    extract("base.safetensors", "model.safetensors", "t.safetensors", NULL);
    apply("base.safetensors", "t.safetensors", 1.0, "back.safetensors");
    assert_same_file("model.safetensors", "back.safetensors");
}

static void bytes_do_not_depend_on_threads_or_memory(void **state)
{
    (void)state;
    enum { N = 1300 * 1021 };
    uint8_t *base = malloc(N * 2), *model = malloc(N * 2);
    assert_true(base != NULL && model != NULL);
    random_state = 5;
    fill_pair(WS_DT_BF16, N, 0.2, base, model);
    const st_item b[] = { { "w", WS_DT_BF16, 2, { 1300, 1021 }, base } };
    const st_item m[] = { { "w", WS_DT_BF16, 2, { 1300, 1021 }, model } };
    st_write("base.safetensors", b, 1, NULL, 0);
    st_write("model.safetensors", m, 1, NULL, 0);
    extract("base.safetensors", "model.safetensors", "t.safetensors", NULL);
    ws_ctx ctx = WS_CTX_INIT;
    ctx.threads = 3;
    ctx.max_memory = 24 << 20;
    ws_err err = WS_ERR_INIT;
    ws_taskvec_result *r = NULL;
    ws_taskvec_extract_req req = { .base = "base.safetensors",
                                   .model = "model.safetensors",
                                   .write = to("u.safetensors") };
    assert_ok(ws_taskvec_extract(&r, &req, &ctx, &err), err);
    ws_taskvec_result_free(r);
    assert_same_file("t.safetensors", "u.safetensors");
    free(base);
    free(model);
}

/* ---- the file ---- */

static void small_file_has_these_bytes(void **state)
{
    (void)state;
    static const float base[] = { 1, 2, 3, 4 }, model[] = { 1, 2.5f, 3, 4 };
    const st_item b[] = { { "w", WS_DT_F32, 1, { 4 }, base } };
    const st_item m[] = { { "w", WS_DT_F32, 1, { 4 }, model } };
    st_write("base.safetensors", b, 1, NULL, 0);
    st_write("model.safetensors", m, 1, NULL, 0);
    extract("base.safetensors", "model.safetensors", "t.safetensors", NULL);
    static const char want[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"wsurg.kind\":\"taskvec\","
        "\"wsurg.taskvec\":\"{\\\"schema\\\":\\\"wsurg-taskvec/1\\\","
        "\\\"base\\\":\\\"xxh3-128:BASE\\\",\\\"model\\\":\\\"xxh3-128:MODL\\\","
        "\\\"exact\\\":true,\\\"sparsified\\\":null,\\\"metadata\\\":null,"
        "\\\"removed\\\":[],\\\"tensors\\\":[[\\\"w\\\",\\\"F32\\\",[4],"
        "\\\"delta\\\"]]}\"},"
        "\"taskvec.delta.w\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
        "\"taskvec.header\":{\"dtype\":\"U8\",\"shape\":[64],\"data_offsets\":[16,80]}"
        "}";
    size_t n, n_model;
    char *got = (char *)st_get("t.safetensors", &n);
    uint8_t *file = st_get("model.safetensors", &n_model);
    uint64_t len;
    memcpy(&len, got, 8);
    assert_int_equal(n, 8 + len + 80);
    // the digests are checked elsewhere
    for (int k = 0; k < 2; k++) {
        char *at =
            strstr(got + 8, k == 0 ? "base\\\":\\\"xxh3-128:" : "model\\\":\\\"xxh");
        assert_non_null(at);
        at = strstr(at, "xxh3-128:") + 9;
        memcpy(at, k == 0 ? "BASE" : "MODL", 4);
        memmove(at + 4, at + 32, (size_t)(got + 8 + len - (at + 32)));
        len -= 28;
    }
    assert_memory_equal(got + 8, want, sizeof want - 1);
    static const float update[] = { 0, 0.5f, 0, 0 };
    assert_memory_equal(got + n - 80, update, sizeof update);
    assert_memory_equal(got + n - 64, file, 64);
    free(got);
    free(file);
}

static void digests_are_those_of_the_models(void **state)
{
    (void)state;
    static const float base[] = { 1, 2, 3, 4 }, model[] = { 1, 2.5f, 3, 4 };
    static const int8_t gone[] = { 1, 2 };
    const st_item b[] = { { "gone", WS_DT_I8, 1, { 2 }, gone },
                          { "s", WS_DT_F32, 1, { 3 }, base },
                          { "w", WS_DT_F32, 1, { 4 }, base } };
    const st_item m[] = { { "s", WS_DT_F32, 1, { 2 }, base },
                          { "w", WS_DT_F32, 1, { 4 }, model } };
    st_write("base.safetensors", b, 3, NULL, 0);
    st_write("model.safetensors", m, 2, NULL, 0);
    extract("base.safetensors", "model.safetensors", "t.safetensors", NULL);
    ws_err err = WS_ERR_INIT;
    ws_taskvec *tv = NULL;
    assert_ok(ws_taskvec_load(&tv, "t.safetensors", NULL, &err), err);
    static const char *const paths[] = { "base.safetensors", "model.safetensors" };
    for (int k = 0; k < 2; k++) {
        ws_ckpt *c = NULL;
        ws_xxh128 digest;
        char hex[33];
        assert_ok(ws_ckpt_open(&c, paths[k], NULL, &err), err);
        assert_ok(ws_ckpt_digest(c, NULL, &digest, &err), err);
        ws_xxh128_hex(digest, hex);
        assert_string_equal((k == 0 ? tv->base : tv->model) + 9, hex);
        ws_ckpt_free(c);
    }
    ws_taskvec_free(tv);
}

static void another_base_is_refused_unless_forced(void **state)
{
    (void)state;
    static const float base[] = { 1, 2 }, model[] = { 1, 2.5f }, near[] = { 1, 3 };
    const st_item b[] = { { "w", WS_DT_F32, 1, { 2 }, base } };
    const st_item m[] = { { "w", WS_DT_F32, 1, { 2 }, model } };
    const st_item o[] = { { "w", WS_DT_F32, 1, { 2 }, near } };
    st_write("base.safetensors", b, 1, NULL, 0);
    st_write("model.safetensors", m, 1, NULL, 0);
    st_write("other.safetensors", o, 1, NULL, 0);
    extract("base.safetensors", "model.safetensors", "t.safetensors", NULL);
    ws_err err = WS_ERR_INIT;
    ws_taskvec_result *r = NULL;
    const char *vector = "t.safetensors";
    ws_taskvec_apply_req req = { .base = "other.safetensors",
                                 .vectors = &vector,
                                 .n = 1,
                                 .scale = 1.0,
                                 .write = to("out.safetensors") };
    assert_int_equal(ws_taskvec_apply(&r, &req, NULL, &err), WS_E_ANCESTRY);
    assert_non_null(strstr(err.msg, "the task vector was made from another base than "
                                    "'other.safetensors': contents xxh3-128:"));
    assert_false(there("out.safetensors"));
    req.force_base = true;
    assert_ok(ws_taskvec_apply(&r, &req, NULL, &err), err);
    assert_false(r->exact);
    ws_taskvec_result_free(r);
    size_t n;
    uint8_t *got = st_get("out.safetensors", &n);
    static const float want[] = { 1, 3.5f };
    assert_memory_equal(got + n - 8, want, 8);
    free(got);
}

/* ---- arithmetic ---- */

static void scale_and_sum_are_applied_once_rounded(void **state)
{
    (void)state;
    static const float base[] = { 1, 2, 3, 4 };
    static const float m1[] = { 1.5f, 2, 3, 4 }, m2[] = { 2, 2, 3, 0 };
    const st_item b[] = { { "w", WS_DT_F32, 1, { 4 }, base } };
    const st_item x[] = { { "w", WS_DT_F32, 1, { 4 }, m1 } };
    const st_item y[] = { { "w", WS_DT_F32, 1, { 4 }, m2 } };
    st_write("base.safetensors", b, 1, NULL, 0);
    st_write("m1.safetensors", x, 1, NULL, 0);
    st_write("m2.safetensors", y, 1, NULL, 0);
    extract("base.safetensors", "m1.safetensors", "t1.safetensors", NULL);
    extract("base.safetensors", "m2.safetensors", "t2.safetensors", NULL);
    static const char *const both[] = { "t1.safetensors", "t2.safetensors" };
    ws_err err = WS_ERR_INIT;
    ws_taskvec_result *r = NULL;
    const ws_taskvec_apply_req req = { .base = "base.safetensors",
                                       .vectors = both,
                                       .n = 2,
                                       .scale = 2.0,
                                       .write = to("out.safetensors") };
    assert_ok(ws_taskvec_apply(&r, &req, NULL, &err), err);
    assert_false(r->exact);
    assert_int_equal(r->updated, 1);
    ws_taskvec_result_free(r);
    size_t n;
    uint8_t *got = st_get("out.safetensors", &n);
    static const float want[] = { 4, 2, 3, -4 };
    assert_memory_equal(got + n - 16, want, 16);
    free(got);

    const double weights[] = { 2.0, -1.0 };
    const ws_taskvec_combine_req c = {
        .vectors = both, .n = 2, .weights = weights, .write = to("c.safetensors")
    };
    assert_ok(ws_taskvec_combine(&r, &c, NULL, &err), err);
    assert_false(r->exact);
    ws_taskvec_result_free(r);
    apply("base.safetensors", "c.safetensors", 1.0, "back.safetensors");
    got = st_get("back.safetensors", &n);
    static const float combined[] = { 1, 2, 3, 8 };
    assert_memory_equal(got + n - 16, combined, 16);
    free(got);
}

static void half_precision_is_rounded_from_float(void **state)
{
    (void)state;
    // 1 + 0.5 * (1.0078125 - 1): half way between two bfloats, to even
    static const uint16_t base[] = { 0x3f80, 0x3f81 }, model[] = { 0x3f81, 0x3f82 };
    const st_item b[] = { { "w", WS_DT_BF16, 1, { 2 }, base } };
    const st_item m[] = { { "w", WS_DT_BF16, 1, { 2 }, model } };
    st_write("base.safetensors", b, 1, NULL, 0);
    st_write("model.safetensors", m, 1, NULL, 0);
    extract("base.safetensors", "model.safetensors", "t.safetensors", NULL);
    apply("base.safetensors", "t.safetensors", 0.5, "out.safetensors");
    size_t n;
    uint8_t *got = st_get("out.safetensors", &n);
    static const uint16_t want[] = { 0x3f80, 0x3f82 };
    assert_memory_equal(got + n - 4, want, 4);
    free(got);
}

static void vectors_of_different_bases_do_not_combine(void **state)
{
    (void)state;
    static const float f[] = { 1, 2 }, g[] = { 1, 3 };
    const st_item a[] = { { "w", WS_DT_F32, 1, { 2 }, f } };
    const st_item b[] = { { "w", WS_DT_F32, 1, { 2 }, g } };
    st_write("a.safetensors", a, 1, NULL, 0);
    st_write("b.safetensors", b, 1, NULL, 0);
    extract("a.safetensors", "b.safetensors", "ab.safetensors", NULL);
    extract("b.safetensors", "a.safetensors", "ba.safetensors", NULL);
    static const char *const both[] = { "ab.safetensors", "ba.safetensors" };
    ws_err err = WS_ERR_INIT;
    ws_taskvec_result *r = NULL;
    const ws_taskvec_combine_req c = { .vectors = both,
                                       .n = 2,
                                       .write = to("c.safetensors") };
    assert_int_equal(ws_taskvec_combine(&r, &c, NULL, &err), WS_E_ANCESTRY);
    assert_string_equal(err.path, "ba.safetensors");
}

static void method_sparsifies_the_update(void **state)
{
    (void)state;
    static float base[100], model[100];
    for (int i = 0; i < 100; i++) {
        base[i] = 1.0f;
        model[i] = 1.0f + (float)(i + 1) / 128.0f;
    }
    const st_item b[] = { { "w", WS_DT_F32, 1, { 100 }, base } };
    const st_item m[] = { { "w", WS_DT_F32, 1, { 100 }, model } };
    st_write("base.safetensors", b, 1, NULL, 0);
    st_write("model.safetensors", m, 1, NULL, 0);
    static const char *const sets[] = { "density=0.1", "gamma=0" };
    ws_err err = WS_ERR_INIT;
    ws_taskvec_result *r = NULL;
    ws_taskvec_extract_req req = { .base = "base.safetensors",
                                   .model = "model.safetensors",
                                   .method = "breadcrumbs",
                                   .sets = sets,
                                   .n_sets = 2,
                                   .write = to("t.safetensors") };
    assert_ok(ws_taskvec_extract(&r, &req, NULL, &err), err);
    assert_false(r->exact);
    assert_int_equal(r->counts.nonzero, 10);
    ws_taskvec_result_free(r);
    ws_taskvec *tv = NULL;
    assert_ok(ws_taskvec_load(&tv, "t.safetensors", NULL, &err), err);
    assert_non_null(strstr(tv->sparsified, "breadcrumbs "));
    assert_non_null(strstr(tv->sparsified, " density=0.1 "));
    ws_taskvec_free(tv);
    apply("base.safetensors", "t.safetensors", 1.0, "out.safetensors");
    size_t n;
    uint8_t *got = st_get("out.safetensors", &n);
    float out[100];
    memcpy(out, got + n - sizeof out, sizeof out);
    for (int i = 0; i < 100; i++)
        assert_bits(out[i], i < 90 ? 1.0f : model[i]);
    free(got);
    assert_false(there(".t.safetensors.wsurg-updates.safetensors"));

    req.method = "linear";
    assert_int_equal(ws_taskvec_extract(&r, &req, NULL, &err), WS_E_USAGE);
    assert_string_equal(err.msg,
                        "method 'linear' makes nothing of one model on a base");
}

/* ---- as a source, figures ---- */

static void source_reads_any_bytes(void **state)
{
    (void)state;
    enum { N = 3 * 33333 };
    uint8_t *base = malloc(N * 2), *model = malloc(N * 2), part[64];
    assert_true(base != NULL && model != NULL);
    random_state = 6;
    fill_pair(WS_DT_F16, N, 0.1, base, model);
    const st_item b[] = { { "w", WS_DT_F16, 2, { 3, 33333 }, base } };
    const st_item m[] = { { "w", WS_DT_F16, 2, { 3, 33333 }, model } };
    st_write("base.safetensors", b, 1, NULL, 0);
    st_write("model.safetensors", m, 1, NULL, 0);
    extract("base.safetensors", "model.safetensors", "t.safetensors", NULL);
    ws_err err = WS_ERR_INIT;
    ws_ckpt *on = NULL, *source = NULL;
    assert_ok(ws_ckpt_open(&on, "base.safetensors", NULL, &err), err);
    assert_ok(ws_taskvec_open(&source, "t.safetensors", on, NULL, &err), err);
    assert_string_equal(ws_ckpt_label(source), "t");
    assert_int_equal(ws_ckpt_kind_of(source), WS_KIND_MODEL);
    const ws_tensor *t = ws_ckpt_find(source, "w");
    assert_int_equal(t->dtype, WS_DT_F16);
    for (int i = 0; i < 3000; i++) {
        const size_t len = 1 + (size_t)(draw() % sizeof part);
        const uint64_t at = draw() % (2 * N - len + 1);
        assert_ok(ws_ckpt_read(source, t, at, len, part, &err), err);
        assert_memory_equal(part, model + at, len);
    }
    assert_ok(ws_ckpt_recheck(source, &err), err);
    spit("t.safetensors", "x", 1);
    assert_int_equal(ws_ckpt_recheck(source, &err), WS_E_IO);
    ws_ckpt_free(source);
    ws_ckpt_free(on);
    free(base);
    free(model);
}

static void figures_of_two_vectors_are_exact(void **state)
{
    (void)state;
    static const float base[] = { 0, 0, 0, 0 };
    static const float m1[] = { 3, 0, 0, -4 }, m2[] = { 0, 2, 0, -4 };
    const st_item b[] = { { "w", WS_DT_F32, 2, { 2, 2 }, base },
                          { "v", WS_DT_F32, 1, { 4 }, base } };
    const st_item x[] = { { "w", WS_DT_F32, 2, { 2, 2 }, m1 },
                          { "v", WS_DT_F32, 1, { 4 }, base } };
    const st_item y[] = { { "w", WS_DT_F32, 2, { 2, 2 }, m2 },
                          { "v", WS_DT_F32, 1, { 4 }, base } };
    st_write("base.safetensors", b, 2, NULL, 0);
    st_write("m1.safetensors", x, 2, NULL, 0);
    st_write("m2.safetensors", y, 2, NULL, 0);
    extract("base.safetensors", "m1.safetensors", "t1.safetensors", NULL);
    extract("base.safetensors", "m2.safetensors", "t2.safetensors", NULL);
    static const char *const both[] = { "t1.safetensors", "t2.safetensors" };
    ws_err err = WS_ERR_INIT;
    ws_taskvec_stats *s = NULL;
    assert_ok(ws_taskvec_stats_new(&s, both, 2, true, NULL, &err), err);
    assert_int_equal(s->n, 2);
    assert_true(s->vectors[0].norm == 5.0);
    assert_close(s->vectors[1].norm, sqrt(20.0), 1e-15);
    assert_int_equal(s->vectors[0].counts.nonzero, 2);
    assert_close(s->cosines[1], 16.0 / (5.0 * sqrt(20.0)), 1e-15);
    assert_true(s->cosines[0] == 1.0 && s->cosines[1] == s->cosines[2]);
    const ws_taskvec_tensor_stats *t = &s->vectors[0].tensors[1];
    assert_string_equal(t->name, "w");
    assert_string_equal(t->stored, "dense");
    assert_true(t->max_abs == 4.0);
    assert_int_equal(t->rows, 2);
    assert_int_equal(t->n_values, 2);
    assert_close(t->values[0], 4.0, 1e-6);
    assert_close(t->values[1], 3.0, 1e-6);
    assert_int_equal(t->rank_90, 2);
    // p = 4/7, 3/7
    const double p = 4.0 / 7.0;
    assert_close(t->effective_rank, exp(-p * log(p) - (1 - p) * log(1 - p)), 1e-6);
    assert_string_equal(s->vectors[0].tensors[0].stored, "same");
    ws_taskvec_stats_free(s);
}

static void effective_rank_of_equal_values_is_their_number(void **state)
{
    (void)state;
    static const double s[] = { 2, 2, 2, 2, 0 };
    ws_taskvec_tensor_stats t = { 0 };
    ws_tv_spectrum_figures(s, 5, &t);
    assert_close(t.effective_rank, 4.0, 1e-14);
    assert_int_equal(t.rank_90, 4);
    assert_int_equal(t.n_values, 5);
    static const double none[] = { 0, 0 };
    ws_tv_spectrum_figures(none, 2, &t);
    assert_true(isnan(t.effective_rank));
    assert_int_equal(t.rank_90, 0);
}

/* ---- hostile files ---- */

/** A task vector of one sparse tensor with its parts as given. */
static ws_status load_forged(const char *tensors, const st_item *items, size_t n,
                             ws_err *err)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"schema\":\"wsurg-taskvec/1\",\"base\":\"xxh3-128:"
             "00000000000000000000000000000000\",\"exact\":true,\"tensors\":[%s]}",
             tensors);
    const ws_meta meta[] = { { "wsurg.kind", "taskvec" }, { "wsurg.taskvec", text } };
    size_t size;
    uint8_t *image = st_image(items, n, meta, 2, &size);
    ws_ckpt *c = NULL;
    ws_taskvec *tv = NULL;
    assert_ok(ws_st_open_memory(&c, image, size, NULL, err), *err);
    ws_status st = ws_taskvec_from(&tv, c, err);
    if (st == WS_OK) {
        static double out[WS_TV_BLOCK];
        ws_tv_buffer *buf = malloc(sizeof *buf);
        size_t count;
        assert_non_null(buf);
        for (size_t i = 0; i < tv->n && st == WS_OK; i++) {
            const ws_tv_tensor *t = &tv->tensors[i];
            for (uint64_t b = 0; b < t->blocks.n_blocks && st == WS_OK; b++) {
                uint64_t first;
                size_t len;
                ws_tv_block_at(&t->blocks, b, &first, &len);
                st = ws_taskvec_update(tv, t, b, 0, len, out, NULL, buf, err);
                if (st == WS_OK)
                    st = ws_taskvec_exact(tv, t, b, &count, buf, err);
            }
        }
        free(buf);
        ws_taskvec_free(tv);
    } else {
        ws_ckpt_free(c);
    }
    free(image);
    return st;
}

static void forged_files_are_refused(void **state)
{
    (void)state;
    static const float values[] = { 1, 2 };
    static const uint64_t table[] = { 0, 0, 0, 0, 2, 2, 0, 0 };
    static const uint64_t shifted[] = { 0, 0, 0, 0, 1, 2, 0, 0 };
    static const uint8_t gaps[] = { 0, 1 }, beyond[] = { 0, 9 };
    static const char w[] = "[\"w\",\"F32\",[4],\"delta\"]";
    const st_item delta = { "taskvec.delta.w", WS_DT_F32, 1, { 2 }, values };
    const st_item index = { "taskvec.index.w", WS_DT_U8, 1, { 2 }, gaps };
    const st_item good = { "taskvec.table.w", WS_DT_U64, 2, { 2, 4 }, table };
    const st_item wrong = { "taskvec.table.w", WS_DT_U64, 2, { 2, 4 }, shifted };
    const st_item far = { "taskvec.index.w", WS_DT_U8, 1, { 2 }, beyond };
    const st_item map = { "taskvec.map.w", WS_DT_U8, 1, { 2 }, gaps };
    const st_item stray = { "taskvec.delta.v", WS_DT_F32, 1, { 2 }, values };
    const struct {
        const char *tensors, *says;
        st_item items[4];
        size_t n;
    } cases[] = {
        { w, NULL, { delta, index, good }, 3 },
        { w, "a sparse update or exact entries without a table", { delta, index }, 2 },
        { w, "its table does not add up", { delta, index, wrong }, 3 },
        { w, "its gaps are malformed", { delta, far, good }, 3 },
        { w, "its parts do not fit together", { delta, index, map, good }, 4 },
        { w, "its map has another length", { delta, map, good }, 3 },
        { w,
          "it holds tensors that it does not list",
          { delta, index, good, stray },
          4 },
        { w, "its update is not there in F32 or F64", { index, good }, 2 },
        { "[\"w\",\"I32\",[4],\"delta\"]",
          "an update of a dtype without arithmetic",
          { delta, index, good },
          3 },
        { "[\"w\",\"F32\",[9],\"delta\"],[\"w\",\"F32\",[9],\"delta\"]",
          NULL,
          { delta, index, good },
          3 },
        { "[\"w\",\"F32\",[4],\"same\"]",
          "data for a tensor that is the base's",
          { delta, index, good },
          3 },
        { "[\"w\",\"F32\",[4,-1],\"delta\"]",
          "a dimension is no whole number",
          { delta, index, good },
          3 },
        { "[\"w\",\"F32\",[9007199254740991,9007199254740991],\"delta\"]",
          "its shape overflows or is no whole bytes",
          { delta, index, good },
          3 },
        { "[\"w\",\"F99\",[4],\"delta\"]",
          "its list of tensors is malformed",
          { delta, index, good },
          3 },
        { "7", "its list of tensors is malformed", { delta, index, good }, 3 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        ws_err err = WS_ERR_INIT;
        const ws_status st =
            load_forged(cases[i].tensors, cases[i].items, cases[i].n, &err);
        if (i == 9) {
            assert_int_equal(st, WS_E_HEADER); // listed twice
        } else if (cases[i].says == NULL) {
            assert_ok(st, err);
        } else {
            char want[128];
            snprintf(want, sizeof want, "not a valid task vector: %s", cases[i].says);
            assert_string_equal(err.msg, want);
            assert_int_equal(st, WS_E_HEADER);
        }
    }
}

static void models_are_no_task_vectors(void **state)
{
    (void)state;
    static const float f[] = { 1 };
    const st_item m[] = { { "w", WS_DT_F32, 1, { 1 }, f } };
    st_write("model.safetensors", m, 1, NULL, 0);
    ws_err err = WS_ERR_INIT;
    ws_taskvec *tv = NULL;
    assert_int_equal(ws_taskvec_load(&tv, "model.safetensors", NULL, &err), WS_E_USAGE);
    assert_string_equal(err.msg, "not a task vector");
}

static void allocation_failures_leak_nothing(void **state)
{
    (void)state;
    static const float f[] = { 1, 2, 3, 4 }, g[] = { 1, 2, 3, 5 };
    const st_item a[] = { { "w", WS_DT_F32, 1, { 4 }, f } };
    const st_item b[] = { { "w", WS_DT_F32, 1, { 4 }, g } };
    st_write("base.safetensors", a, 1, NULL, 0);
    st_write("model.safetensors", b, 1, NULL, 0);
    extract("base.safetensors", "model.safetensors", "t.safetensors", NULL);
    ws_ctx ctx = WS_CTX_INIT;
    ctx.threads = 1;
    const long live = ws_alloc_live();
    bool done = false;
    for (long n = 0; n < 4000 && !done; n++) {
        ws_taskvec_result *r = NULL;
        ws_taskvec_stats *s = NULL;
        const char *vector = "t.safetensors";
        const ws_taskvec_extract_req e = { .base = "base.safetensors",
                                           .model = "model.safetensors",
                                           .write = to("u.safetensors") };
        const ws_taskvec_apply_req p = { .base = "base.safetensors",
                                         .vectors = &vector,
                                         .n = 1,
                                         .scale = 1.0,
                                         .write = to("v.safetensors") };
        ws_alloc_fail_after(n);
        const ws_status st = ws_taskvec_extract(&r, &e, &ctx, NULL);
        ws_alloc_fail_after(-1);
        ws_taskvec_result_free(r);
        r = NULL;
        ws_alloc_fail_after(n);
        const ws_status sp = ws_taskvec_apply(&r, &p, &ctx, NULL);
        ws_alloc_fail_after(-1);
        ws_taskvec_result_free(r);
        ws_alloc_fail_after(n);
        const ws_status ss = ws_taskvec_stats_new(&s, &vector, 1, true, &ctx, NULL);
        ws_alloc_fail_after(-1);
        ws_taskvec_stats_free(s);
        done = st == WS_OK && sp == WS_OK && ss == WS_OK;
        assert_int_equal(ws_alloc_live(), live);
        unlink("u.safetensors");
        unlink("v.safetensors");
    }
    assert_true(done);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_cover_every_element_once),
        cmocka_unit_test(indexes_survive_both_codes),
        cmocka_unit_test(gaps_have_these_bytes),
        cmocka_unit_test(malformed_gaps_are_refused),
        cmocka_unit_test(map_bits_beyond_the_block_are_refused),
        TEST(random_bits_of_every_dtype_come_back),
        TEST(every_half_and_bfloat_pattern_comes_back),
        TEST(long_rows_and_many_slices_come_back),
        TEST(equal_models_give_an_empty_vector),
        TEST(negative_zero_and_nan_payloads_are_exact_entries),
        TEST(new_removed_and_reshaped_tensors_come_back),
        TEST(foreign_order_and_padding_come_back),
        TEST(bytes_do_not_depend_on_threads_or_memory),
        TEST(small_file_has_these_bytes),
        TEST(digests_are_those_of_the_models),
        TEST(another_base_is_refused_unless_forced),
        TEST(scale_and_sum_are_applied_once_rounded),
        TEST(half_precision_is_rounded_from_float),
        TEST(vectors_of_different_bases_do_not_combine),
        TEST(method_sparsifies_the_update),
        TEST(source_reads_any_bytes),
        TEST(figures_of_two_vectors_are_exact),
        cmocka_unit_test(effective_rank_of_equal_values_is_their_number),
        cmocka_unit_test(forged_files_are_refused),
        TEST(models_are_no_task_vectors),
        TEST(allocation_failures_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
