/*
 * test_tokenizer_bpe.c - merging against plain loops, and the tables it rests on
 */
#include <utf8proc.h>

#include "tokenizer_fixture.h"

static uint32_t seed;

static uint32_t roll(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

/** Merges of a made-up vocabulary over the first letters, in their order. */
struct rules {
    int32_t left[200], right[200], id[200];
    size_t n;
    int32_t size;
};

/** Of all neighbours the pair that comes first in the rules, leftmost, until none. */
static size_t merge_plainly(const struct rules *r, int32_t *id, size_t n)
{
    for (;;) {
        size_t best = r->n, at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t k = 0; k < best; k++)
                if (r->left[k] == id[i] && r->right[k] == id[i + 1]) {
                    best = k;
                    at = i;
                }
        if (best == r->n)
            return n;
        id[at] = r->id[best];
        n--;
        memmove(id + at + 1, id + at + 2, (n - at - 1) * sizeof *id);
    }
}

/** A tokenizer of random merges over the characters of @p letters (each of @p
 * bytes). */
static ws_tokenizer *random_tokenizer(struct rules *r, const char *const *letters,
                                      int n_letters)
{
    static char spelling[300][64];
    ws_buf b = { 0 };
    r->n = 0;
    for (r->size = 0; r->size < n_letters; r->size++)
        snprintf(spelling[r->size], 64, "%s", letters[r->size]);
    for (int tries = 0; tries < 4000 && r->n < 120; tries++) {
        const int32_t x = (int32_t)roll((uint32_t)r->size);
        const int32_t y = (int32_t)roll((uint32_t)r->size);
        char both[128];
        int32_t k = 0;
        snprintf(both, sizeof both, "%s%s", spelling[x], spelling[y]);
        while (k < r->size && strcmp(spelling[k], both) != 0)
            k++;
        if (strlen(both) > 24 || k < n_letters)
            continue;
        bool known = false;
        for (size_t i = 0; i < r->n; i++)
            known |= r->left[i] == x && r->right[i] == y;
        if (known)
            continue;
        if (k == r->size)
            memcpy(spelling[r->size++], both, strlen(both) + 1);
        r->left[r->n] = x;
        r->right[r->n] = y;
        r->id[r->n++] = k;
    }
    ws_buf_puts(&b, "{\"model\":{\"vocab\":{");
    for (int32_t i = 0; i < r->size; i++)
        ws_buf_printf(&b, "%s\"%s\":%d", i > 0 ? "," : "", spelling[i], (int)i);
    ws_buf_puts(&b, "},\"merges\":[");
    for (size_t i = 0; i < r->n; i++)
        ws_buf_printf(&b, "%s[\"%s\",\"%s\"]", i > 0 ? "," : "", spelling[r->left[i]],
                      spelling[r->right[i]]);
    ws_buf_puts(&b, "]}}");
    ws_tokenizer *t = NULL;
    assert_ok(ws_tokenizer_parse(&t, b.p, b.n, &err), err);
    ws_buf_free(&b);
    return t;
}

static void check_words(const char *const *letters, int n_letters, int words)
{
    static int32_t want[600];
    struct rules r;
    ws_tokenizer *t = random_tokenizer(&r, letters, n_letters);
    ws_encoder *e = NULL;
    ws_ids ids = { 0 };
    ws_buf text = { 0 };
    assert_ok(ws_encoder_new(&e, t, &err), err);
    for (int w = 0; w < words; w++) {
        size_t n = 1 + roll(w % 4 == 0 ? 500 : 50);
        text.n = ids.n = 0;
        for (size_t i = 0; i < n; i++) {
            want[i] = (int32_t)roll((uint32_t)n_letters);
            ws_buf_puts(&text, letters[want[i]]);
        }
        n = merge_plainly(&r, want, n);
        assert_ok(ws_encode(e, text.p, text.n, false, &ids, &err), err);
        assert_int_equal(ids.n, n);
        assert_memory_equal(ids.p, want, n * sizeof *want);
    }
    ws_buf_free(&text);
    ws_ids_free(&ids);
    ws_encoder_free(e);
    ws_tokenizer_free(t);
}

static void short_and_long_words_merge_as_plain_loops_do(void **state)
{
    (void)state;
    static const char *const letters[] = { "a", "b", "c" };
    for (seed = 1; seed < 20; seed += 1)
        check_words(letters, 3, 60);
}

static void a_text_cut_at_marks_merges_as_a_whole_does(void **state)
{
    (void)state;
    static const char *const letters[] = { "a", "\xE2\x96\x81", "b", "\xC3\xA9" };
    for (seed = 100; seed < 120; seed += 1)
        check_words(letters, 4, 60);
}

static void marks_are_cut_at_only_where_no_merge_joins_them(void **state)
{
    (void)state;
    static const char *const merges[] = { "[\"a\",\"b\"]", "[\"_\",\"a\"]",
                                          "[\"_\",\"_\"]", "[\"a\",\"_\"]",
                                          "[\"a\",\"_a\"]" };
    for (int i = 0; i < 5; i++) {
        ws_buf b = { 0 }, json = { 0 };
        ws_buf_printf(
            &b,
            "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"_\":2,\"ab\":3,\"_a\":4,"
            "\"__\":5,\"a_\":6,\"a_a\":7},\"merges\":[%s]}}",
            merges[i]);
        for (size_t k = 0; k < b.n; k++)
            if (b.p[k] == '_')
                ws_buf_puts(&json, "\xE2\x96\x81");
            else
                ws_buf_putc(&json, b.p[k]);
        ws_tokenizer *t = text_open(json.p);
        assert_int_equal(t->bpe.cut_marks, i < 3);
        ws_tokenizer_free(t);
        ws_buf_free(&b);
        ws_buf_free(&json);
    }
}

static void every_byte_has_a_letter_of_its_own(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 256; b++)
        assert_int_equal(ws_letter_byte(ws_byte_letter(b)), b);
    assert_int_equal(ws_byte_letter(' '), 0x120);
    assert_int_equal(ws_byte_letter(0), 0x100);
    assert_int_equal(ws_byte_letter(0xAD), 0x143);
    assert_int_equal(ws_byte_letter('!'), '!');
    assert_int_equal(ws_letter_byte(' '), -1);
    assert_int_equal(ws_letter_byte(0xAD), -1);
    assert_int_equal(ws_letter_byte(0x144), -1);
}

static void byte_tokens_are_read_as_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int want;
    } cases[] = { { "<0x0A>", 10 }, { "<0xff>", 255 }, { "<0x+F>", 15 },
                  { "<0xG0>", -1 }, { "<0x0A", -1 },   { "0x0A>>", -1 },
                  { "<0x0A>>", -1 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(
            ws_byte_token((ws_span){ cases[i].text, strlen(cases[i].text) }),
            cases[i].want);
}

static void utf8_is_read_as_it_is_written(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c += c < 0x1000 ? 1 : 37) {
        char text[4];
        size_t size;
        const size_t n = ws_utf8_put(c, text);
        assert_int_equal(ws_utf8_get(text, n, &size), c);
        assert_int_equal(size, n);
    }
}

/** No character that canonical composition leaves alone has a decomposition or a class,
 * nor does one compose with what stands before it. */
static void inert_characters_are_inert(void **state)
{
    (void)state;
    for (int32_t c = 0x80; c < 0x110000; c++) {
        int32_t parts[32];
        int unused = 0;
        if (c >= 0xD800 && c < 0xE000)
            continue;
        const utf8proc_ssize_t n = utf8proc_decompose_char(
            c, parts, 32, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &unused);
        const bool hangul = c >= 0xAC00 && c < 0xD7A4;
        for (utf8proc_ssize_t i = 1; i < n; i++)
            assert_false(ws_nfc_inert((uint32_t)parts[i]));
        if (!ws_nfc_inert((uint32_t)c) || hangul)
            continue;
        assert_int_equal(utf8proc_get_property(c)->combining_class, 0);
        utf8proc_ssize_t k =
            utf8proc_normalize_utf32(parts, n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        assert_int_equal(k, 1);
        assert_int_equal(parts[0], c);
    }
}

static void many_marks_are_ordered_by_class_and_then_as_they_stand(void **state)
{
    (void)state;
    ws_tokenizer *t = toy_open("\"pre_tokenizer\":" NO_REGEX ",\"decoder\":" BYTE_LEVEL
                               ",\"normalizer\":{\"type\":\"NFD\"},",
                               "");
    ws_buf in = { 0 }, want = { 0 };
    ws_buf_putc(&in, 'q');
    ws_buf_putc(&want, 'q');
    for (int i = 0; i < 40; i++) // U+0301 has class 230, U+0316 220
        ws_buf_puts(&in, i % 2 == 0 ? "\xCC\x81" : "\xCC\x96");
    for (int i = 0; i < 40; i++)
        ws_buf_puts(&want, i < 20 ? "\xCC\x96" : "\xCC\x81");
    assert_round(t, in.p, want.p);
    ws_buf_free(&in);
    ws_buf_free(&want);
    ws_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_and_long_words_merge_as_plain_loops_do),
        cmocka_unit_test(a_text_cut_at_marks_merges_as_a_whole_does),
        cmocka_unit_test(marks_are_cut_at_only_where_no_merge_joins_them),
        cmocka_unit_test(every_byte_has_a_letter_of_its_own),
        cmocka_unit_test(byte_tokens_are_read_as_numbers),
        cmocka_unit_test(utf8_is_read_as_it_is_written),
        cmocka_unit_test(inert_characters_are_inert),
        cmocka_unit_test(many_marks_are_ordered_by_class_and_then_as_they_stand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
