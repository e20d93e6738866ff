/*
 * tokenizer_fixture.h - small tokenizer.json files, and what tests ask of them
 *
 * The byte-level vocabulary: id b for the letter of byte b, then TOY_MERGES from 256
 * on.
 */
#ifndef WS_TEST_TOKENIZER_FIXTURE_H
#define WS_TEST_TOKENIZER_FIXTURE_H

#include "model/tokenizer_internal.h"
#include "ws_test.h"

#define BYTE_LEVEL                                                                     \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}"
#define NO_REGEX                                                                       \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"

static const char *const toy_merges[] = {
    "h e", "l l", "he ll", "hell o", "\xC4\xA0 hello", "a a", "1 2",
};

enum { HE = 256, LL, HELL, HELLO, SPACE_HELLO, AA, ONE_TWO, TOY_SIZE };

static ws_err err;

/** "vocab" and "merges" of the byte-level vocabulary. */
static inline void toy_model(ws_buf *b)
{
    char text[8];
    ws_buf_puts(b, "\"vocab\":{");
    for (unsigned i = 0; i < 256; i++) {
        ws_buf_json_string(b, text, ws_utf8_put(ws_byte_letter(i), text));
        ws_buf_printf(b, ":%u,", i);
    }
    for (int i = HE; i < TOY_SIZE; i++) {
        const char *m = toy_merges[i - HE], *gap = strchr(m, ' ');
        ws_buf_printf(b, "\"%.*s%s\":%d%s", (int)(gap - m), m, gap + 1, i,
                      i + 1 < TOY_SIZE ? "," : "},\"merges\":[");
    }
    for (int i = HE; i < TOY_SIZE; i++)
        ws_buf_printf(b, "\"%s\"%s", toy_merges[i - HE], i + 1 < TOY_SIZE ? "," : "]");
}

/** A byte-level tokenizer; @p parts are further members of the file, each with a comma
 * behind it, @p model further members of the model, likewise. */
static inline ws_status toy_parse(ws_tokenizer **t, const char *parts,
                                  const char *model)
{
    ws_buf b = { 0 };
    ws_buf_printf(&b, "{%s\"model\":{\"type\":\"BPE\",%s", parts, model);
    toy_model(&b);
    ws_buf_puts(&b, "}}");
    err = (ws_err)WS_ERR_INIT;
    *t = NULL;
    const ws_status st = ws_tokenizer_parse(t, b.p, b.n, &err);
    ws_buf_free(&b);
    return st;
}

static inline ws_tokenizer *toy_open(const char *parts, const char *model)
{
    ws_tokenizer *t;
    assert_ok(toy_parse(&t, parts, model), err);
    return t;
}

static inline ws_tokenizer *text_open(const char *json)
{
    ws_tokenizer *t = NULL;
    assert_ok(ws_tokenizer_parse(&t, json, strlen(json), &err), err);
    return t;
}

/** The ids of @p text are those of @p want, in words: "104 256". */
static inline void assert_ids(const ws_tokenizer *t, const char *text, size_t len,
                              bool special, const char *want)
{
    ws_encoder *e = NULL;
    ws_ids ids = { 0 };
    ws_buf have = { 0 };
    assert_ok(ws_encoder_new(&e, t, &err), err);
    for (int again = 0; again < 2; again++) { // the second time from the cache
        ids.n = have.n = 0;
        assert_ok(ws_encode(e, text, len, special, &ids, &err), err);
        for (size_t i = 0; i < ids.n; i++)
            ws_buf_printf(&have, "%s%d", i > 0 ? " " : "", (int)ids.p[i]);
        ws_buf_puts(&have, "");
        assert_string_equal(have.p, want);
    }
    ws_buf_free(&have);
    ws_ids_free(&ids);
    ws_encoder_free(e);
}

/** The text of @p ids is @p want. */
static inline void assert_text(const ws_tokenizer *t, const int32_t *ids, size_t n,
                               bool skip, const char *want)
{
    ws_buf b = { 0 };
    ws_buf_puts(&b, "");
    assert_ok(ws_decode(t, ids, n, skip, &b, &err), err);
    assert_string_equal(b.p, want);
    ws_buf_free(&b);
}

/** What @p text reads after the normalizer and back. */
static inline void assert_round(const ws_tokenizer *t, const char *text,
                                const char *want)
{
    ws_encoder *e = NULL;
    ws_ids ids = { 0 };
    assert_ok(ws_encoder_new(&e, t, &err), err);
    assert_ok(ws_encode(e, text, strlen(text), false, &ids, &err), err);
    assert_text(t, ids.p, ids.n, false, want);
    ws_ids_free(&ids);
    ws_encoder_free(e);
}

#endif
