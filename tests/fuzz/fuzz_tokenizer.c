/*
 * fuzz_tokenizer.c - `tokenizer.json`, and text run through what it says
 *
 * The input is the file, then, behind the first NUL, a text. Nothing crashes, refusals
 * say why; an accepted tokenizer gives ids that it knows, the same ones again, and
 * text.
 */
#include <string.h>

#include "fuzz.h"
#include "wsurg/alloc.h"
#include "wsurg/tokenizer.h"

static const char sample[] =
    "Hello  w\xC3\xB6rld, it's 2 <s>caf\x65\xCC\x81\r\n\t</s> "
    "\xE4\xB8\xAD\xE6\x96\x87\xF0\x9F\x98\x80\xFF "
    "\xE2\x96\x81x<0x0A>\xD7\x90 aaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

enum { MOST_TEXT = 2000 };

static bool may_refuse(ws_status st)
{
    return st == WS_E_UNSUPPORTED || st == WS_E_MEMORY;
}

static void check_ids(const ws_tokenizer *t, const ws_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++) {
        MUST(ids->p[i] >= 0);
        ws_tokenizer_bytes(t, ids->p[i]);
        size_t n;
        const char *token = ws_tokenizer_token(t, ids->p[i], &n);
        MUST(token == NULL || ws_tokenizer_id(t, token, n) == ids->p[i]);
    }
}

/** Token by token there is text too; the same where all of it is whole. */
static void check_stream(const ws_tokenizer *t, const ws_ids *ids, const ws_buf *whole)
{
    ws_decoder *d = NULL;
    ws_buf out = { 0 };
    MUST(ws_decoder_new(&d, t, false, NULL) == WS_OK);
    for (size_t i = 0; i < ids->n && i < 300; i++) {
        const ws_status st = ws_decoder_add(d, ids->p[i], &out, NULL);
        MUST(st == WS_OK || may_refuse(st));
        MUST(st != WS_OK || out.n == 0 || ws_utf8_valid(out.p, out.n));
    }
    const ws_status st = ws_decoder_end(d, &out, NULL);
    MUST(st == WS_OK || may_refuse(st));
    MUST(whole->n == 0 || ws_utf8_valid(whole->p, whole->n));
    ws_buf_free(&out);
    ws_decoder_free(d);
}

static void run_text(const ws_tokenizer *t, const char *text, size_t len)
{
    ws_encoder *e = NULL;
    ws_ids ids = { 0 }, again = { 0 };
    ws_buf out = { 0 };
    ws_err err = WS_ERR_INIT;
    MUST(ws_encoder_new(&e, t, &err) == WS_OK);
    const ws_status st = ws_encode(e, text, len, true, &ids, &err);
    if (st == WS_OK) {
        check_ids(t, &ids);
        MUST(ws_encode(e, text, len, true, &again, &err) == WS_OK);
        MUST(ids.n == again.n);
        MUST(ids.n == 0 || memcmp(ids.p, again.p, ids.n * sizeof *ids.p) == 0);
        const ws_status decoded = ws_decode(t, ids.p, ids.n, false, &out, &err);
        MUST(decoded == WS_OK || may_refuse(decoded));
        check_stream(t, &ids, &out);
    } else {
        MUST(may_refuse(st) && err.msg[0] != '\0' && ids.n == 0);
    }
    ws_buf_free(&out);
    ws_ids_free(&ids);
    ws_ids_free(&again);
    ws_encoder_free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *json = (const char *)data;
    const char *nul = size > 0 ? memchr(json, '\0', size) : NULL;
    const size_t len = nul != NULL ? (size_t)(nul - json) : size;
    const long live = ws_alloc_live();
    ws_tokenizer *t = NULL;
    ws_err err = WS_ERR_INIT;
    if (ws_tokenizer_parse(&t, json, len, &err) == WS_OK) {
        run_text(t, sample, sizeof sample - 1);
        if (nul != NULL && size - len - 1 <= MOST_TEXT)
            run_text(t, nul + 1, size - len - 1);
        ws_tokenizer_free(t);
    } else {
        MUST(t == NULL && err.msg[0] != '\0' && strchr(err.msg, '\n') == NULL);
    }
    MUST(ws_alloc_live() == live);
    return 0;
}
