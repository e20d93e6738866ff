/*
 * fuzz_data.c - data files: JSONL, questions, .bin, .npy, chat templates
 *
 * The first byte chooses the kind, the rest is the file. Nothing crashes, refusals say
 * why in one line; accepted sets give their rows, the same ones again, within the
 * vocabulary and within the length asked for.
 */
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "train/chat_internal.h"
#include "train/data_internal.h"
#include "wsurg/questions.h"

enum { LENGTH = 16, SIZE = 96 };

/** Printable bytes as tokens, <s> and </s>; others are <unk>. */
static ws_tokenizer *toy(void)
{
    ws_buf b = { 0 };
    ws_tokenizer *t = NULL;

    ws_buf_puts(&b,
                "{\"added_tokens\":[{\"id\":95,\"content\":\"<s>\",\"special\":true,"
                "\"normalized\":false}],\"model\":{\"type\":\"BPE\",\"unk_token\":"
                "\"~\",\"fuse_unk\":true,\"merges\":[],\"vocab\":{");
    for (char c = ' '; c <= '~'; c++) {
        ws_buf_puts(&b, c == ' ' ? "" : ",");
        ws_buf_json_string(&b, &c, 1);
        ws_buf_printf(&b, ":%d", c - ' ');
    }
    ws_buf_puts(&b, "}}}");
    MUST(!b.failed && ws_tokenizer_parse(&t, b.p, b.n, NULL) == WS_OK);
    ws_buf_free(&b);
    return t;
}

static void check_refusal(ws_status st, const ws_err *err)
{
    MUST(err->code == st && err->msg[0] != '\0' && strchr(err->msg, '\n') == NULL);
    MUST(st != WS_E_INTERNAL);
}

static void check_rows(const ws_data *d)
{
    const ws_data_info *f = ws_data_info_of(d);
    const int64_t rows = f->rows < 64 ? f->rows : 64;
    ws_batch b = { 0 }, again = { 0 };

    MUST(f->rows > 0);
    for (int64_t p = 0; p < rows; p++) {
        const ws_status st = ws_data_batch(d, (uint64_t)p, 1, &b, NULL);
        if (st)
            continue; // a token beyond the vocabulary
        MUST(ws_data_batch(d, (uint64_t)p, 1, &again, NULL) == WS_OK);
        MUST(b.n == again.n && b.n >= 1);
        MUST(b.n <= LENGTH * (f->kind == WS_DATA_PAIRS ? 2 : 1));
        MUST(memcmp(b.tokens, again.tokens, (size_t)b.n * sizeof *b.tokens) == 0);
        MUST(b.start[0] == 0 && b.start[b.n_docs] == b.n);
        for (int64_t i = 0; i < b.n; i++)
            MUST(b.tokens[i] >= 0 && b.tokens[i] < SIZE && b.targets[i] < SIZE);
    }
    ws_batch_free(&b);
    ws_batch_free(&again);
}

static void run_set(const ws_tokenizer *t, const char *path, bool pack)
{
    const ws_data_source s = { "f", path, 1.0 };
    const ws_data_opts o = { .length = LENGTH,
                             .pack = pack,
                             .chat_format = "chatml",
                             .loss = pack ? WS_LOSS_AUTO : WS_LOSS_COMPLETION,
                             .vocab = SIZE };
    ws_data *d = NULL;
    ws_err err = WS_ERR_INIT;

    const ws_status st = ws_data_open(&d, &s, 1, t, &o, NULL, &err);
    if (st == WS_OK)
        check_rows(d);
    else
        check_refusal(st, &err);
    ws_data_free(d);
}

static void run_questions(const ws_tokenizer *t, const char *path)
{
    ws_questions q;
    ws_err err = WS_ERR_INIT;

    const ws_status st = ws_questions_open(&q, path, t, WS_BOS_NONE, 0, &err);
    if (st)
        check_refusal(st, &err);
    for (size_t i = 0; st == WS_OK && i < q.n; i++) {
        MUST(q.q[i].n_context >= 1 && q.q[i].gold < q.q[i].n_choices);
        for (int c = 0; c < q.q[i].n_choices; c++)
            MUST(q.q[i].choice[c].n >= 1);
    }
    if (st == WS_OK)
        ws_questions_free(&q);
}

static void run_template(const uint8_t *data, size_t size)
{
    char *text = ws_strndup((const char *)data, size);
    ws_chat c = { 0 };

    if (text && ws_chat_recognise(&c, text))
        MUST(c.format != NULL && memchr(c.system, '\0', sizeof c.system));
    ws_free(text);
}

/** The input as a file with this ending, in a folder of its own. */
static const char *file_put(const uint8_t *data, size_t size, const char *end)
{
    static char folder[] = "/tmp/wsurg-fuzz-XXXXXX", path[64];
    static bool made;

    if (!made) {
        MUST(mkdtemp(folder) != NULL);
        made = true;
    }
    snprintf(path, sizeof path, "%s/f%s", folder, end);
    FILE *f = fopen(path, "wb");
    MUST(f != NULL && fwrite(data, 1, size, f) == size && fclose(f) == 0);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const ends[] = { ".jsonl", ".bin", ".npy", ".txt", ".jsonl" };
    const long live = ws_alloc_live();

    if (size == 0)
        return 0;
    const size_t kind = data[0] % 6;
    if (kind == 5) {
        run_template(data + 1, size - 1);
    } else {
        ws_tokenizer *t = toy();
        const char *path = file_put(data + 1, size - 1, ends[kind]);
        if (kind == 4)
            run_questions(t, path);
        else
            run_set(t, path, (data[0] & 0x80) != 0);
        unlink(path);
        ws_tokenizer_free(t);
    }
    MUST(ws_alloc_live() == live);
    return 0;
}
