/*
 * questions.c - JSONL of context, choices and gold as tokens
 */
#include "wsurg/questions.h"

#include <string.h>

#include "train/data_internal.h"

enum { MOST_CHOICES = 256 };

struct reader {
    ws_questions *out;
    size_t cap;
    const ws_tokenizer *t;
    ws_encoder *e;
    ws_ids bos, context, whole;
    ws_buf text;
};

static ws_status found_take(void *arg, const cJSON *line, bool first, ws_err *err)
{
    (void)first;
    (void)err;
    *(bool *)arg = cJSON_GetObjectItemCaseSensitive(line, "choices") != NULL;
    return WS_OK;
}

bool ws_questions_are(const char *path)
{
    const char *dot = strrchr(path, '.');
    bool found = false;

    if (!dot || (strcmp(dot, ".jsonl") != 0 && strcmp(dot, ".json") != 0 &&
                 strcmp(dot, ".ndjson") != 0))
        return false;
    return ws_lines_read(path, 1, NULL, found_take, &found, NULL) == WS_OK && found;
}

static double characters(const char *s)
{
    double n = 0;

    while (*s && strchr(" \t\n\r", *s))
        s++;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static ws_status choice_read(struct reader *r, const char *context, size_t cut,
                             const char *text, struct ws_answer *out, ws_err *err)
{
    r->text.n = r->whole.n = 0;
    ws_buf_add(&r->text, context, strlen(context));
    ws_buf_puts(&r->text, text);
    if (r->text.failed)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    // An empty context is what opens it alone: then the choice is all there is.
    const ws_status st =
        ws_encode(r->e, r->text.p ? r->text.p : "", r->text.n, false, &r->whole, err);
    if (st)
        return st;
    if (r->whole.n <= cut)
        return ws_fail(err, WS_E_UNSUPPORTED, "a choice that adds no token");
    const size_t n = r->whole.n - cut;
    int32_t *ids = ws_arena_calloc(&r->out->arena, n, sizeof *ids);
    if (!ids)
        return ws_fail(err, WS_E_MEMORY, "no memory for the questions");
    memcpy(ids, r->whole.p + cut, n * sizeof *ids);
    *out = (struct ws_answer){ ids, (int64_t)n, characters(text) };
    return WS_OK;
}

/** The context's tokens: what opens it, then @p len bytes of its text. */
static ws_status context_read(struct reader *r, const char *text, size_t len,
                              ws_question *q, ws_err *err)
{
    r->context.n = 0;
    const ws_status st = ws_encode(r->e, text, len, false, &r->context, err);
    if (st)
        return st;
    const size_t n = r->bos.n + r->context.n;
    if (n == 0) {
        ws_fail(err, WS_E_USAGE, "an empty context, and nothing that opens it");
        ws_err_hint(err, "--bos each");
        return WS_E_USAGE;
    }
    int32_t *ids = ws_arena_calloc(&r->out->arena, n, sizeof *ids);
    if (!ids)
        return ws_fail(err, WS_E_MEMORY, "no memory for the questions");
    if (r->bos.n)
        memcpy(ids, r->bos.p, r->bos.n * sizeof *ids);
    if (r->context.n)
        memcpy(ids + r->bos.n, r->context.p, r->context.n * sizeof *ids);
    q->context = ids;
    q->n_context = (int64_t)n;
    return WS_OK;
}

static ws_status question_push(struct reader *r, ws_question **q, ws_err *err)
{
    if (r->out->n == r->cap) {
        const size_t cap = r->cap ? 2 * r->cap : 64;
        ws_question *p = ws_realloc(r->out->q, cap * sizeof *p);
        if (!p)
            return ws_fail(err, WS_E_MEMORY, "no memory for the questions");
        r->out->q = p;
        r->cap = cap;
    }
    *q = &r->out->q[r->out->n];
    memset(*q, 0, sizeof **q);
    return WS_OK;
}

static ws_status fields_check(const cJSON *context, const cJSON *choices,
                              const cJSON *gold, uint64_t *right, ws_err *err)
{
    if (!cJSON_IsString(context))
        return ws_fail(err, WS_E_HEADER, "'context' is no text");
    const int n = cJSON_IsArray(choices) ? cJSON_GetArraySize(choices) : 0;
    if (n < 1 || n > MOST_CHOICES)
        return ws_fail(err, WS_E_HEADER, "'choices' is no list of 1 to %d texts",
                       (int)MOST_CHOICES);
    if (!ws_json_u64(gold, right) || *right >= (uint64_t)n)
        return ws_fail(err, WS_E_HEADER, "'gold' is no index from 0 to %d", n - 1);
    return WS_OK;
}

static ws_status question_take(void *arg, const cJSON *line, bool first, ws_err *err)
{
    struct reader *r = arg;
    const cJSON *context = cJSON_GetObjectItemCaseSensitive(line, "context");
    const cJSON *choices = cJSON_GetObjectItemCaseSensitive(line, "choices"), *c;
    const cJSON *gold = cJSON_GetObjectItemCaseSensitive(line, "gold");
    ws_question *q = NULL;
    uint64_t right = 0;

    (void)first;
    ws_status st = fields_check(context, choices, gold, &right, err);
    if (st == WS_OK)
        st = question_push(r, &q, err);
    if (st)
        return st;
    const char *text = context->valuestring;
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\n\r", text[len - 1]))
        len--;
    st = context_read(r, text, len, q, err);
    q->gold = (int)right;
    q->choice = ws_arena_calloc(&r->out->arena, (size_t)cJSON_GetArraySize(choices),
                                sizeof *q->choice);
    if (st == WS_OK && !q->choice)
        st = ws_fail(err, WS_E_MEMORY, "no memory for the questions");
    const size_t cut = r->context.n;
    cJSON_ArrayForEach(c, choices)
    {
        if (st == WS_OK && !cJSON_IsString(c))
            st = ws_fail(err, WS_E_HEADER, "a choice is no text");
        if (st == WS_OK)
            st = choice_read(r, text, cut, c->valuestring, &q->choice[q->n_choices++],
                             err);
    }
    if (st == WS_OK)
        r->out->n++;
    return st;
}

static ws_status bos_read(struct reader *r, ws_data_bos bos, ws_err *err)
{
    const int32_t role = ws_tokenizer_roles(r->t).bos;
    size_t n = 0;
    const int32_t *p = ws_tokenizer_prefix(r->t, &n);

    if (bos == WS_BOS_EACH && role < 0)
        return ws_fail(err, WS_E_MISSING, "the tokenizer has no bos token");
    if (bos == WS_BOS_EACH) {
        p = &role;
        n = 1;
    }
    if (bos == WS_BOS_NONE || n == 0)
        return WS_OK;
    r->bos.p = ws_calloc(n, sizeof *r->bos.p);
    if (!r->bos.p)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    memcpy(r->bos.p, p, n * sizeof *p);
    r->bos.n = r->bos.cap = n;
    return WS_OK;
}

ws_status ws_questions_open(ws_questions *out, const char *path, const ws_tokenizer *t,
                            ws_data_bos bos, int64_t limit, ws_err *err)
{
    struct reader r = { .out = out, .t = t };

    *out = (ws_questions){ 0 };
    ws_status st = bos_read(&r, bos, err);
    if (st == WS_OK)
        st = ws_encoder_new(&r.e, t, err);
    if (st == WS_OK)
        st = ws_lines_read(path, limit, NULL, question_take, &r, err);
    ws_encoder_free(r.e);
    ws_ids_free(&r.bos);
    ws_ids_free(&r.context);
    ws_ids_free(&r.whole);
    ws_buf_free(&r.text);
    if (st) {
        ws_err_at(err, path, NULL, -1);
        ws_questions_free(out);
    }
    return st;
}

void ws_questions_free(ws_questions *q)
{
    ws_free(q->q);
    ws_arena_free(&q->arena);
    *q = (ws_questions){ 0 };
}
