/*
 * eval_run.c - models scored on data: shared by eval and check
 */
#include "eval_run.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "report.h"

enum { WINDOW_MOST = 1024 };

const ws_opt ws_opts_eval[] = {
    WS_TEXT(struct ws_eval_args, data, "data", 0, "[NAME=]FILE",
            "text, JSONL, or tokens as .bin or .npy; repeatable"),
    WS_OPT(struct ws_eval_args, window, "window", 0, "N", 0, 0, 1 << 24,
           "positions of a window; 0: the model's, at most 1024"),
    WS_OPT(struct ws_eval_args, stride, "stride", 0, "N", 0, 0, 1 << 24,
           "tokens between windows; 0: no overlap"),
    WS_WORD(struct ws_eval_args, bos, "bos", "auto|none|each", 0,
            "open every window with bos: if the tokenizer does, never, always"),
    WS_OPT(struct ws_eval_args, limit, "limit", 0, "N", 0, 0, 1e15,
           "the first N tokens of each file (JSONL: lines); 0: all"),
    WS_WORD(struct ws_eval_args, loss, "loss", "auto|all|completion", 0,
            "what is scored; auto: completions, and all of the rest"),
    WS_TEXT(struct ws_eval_args, chat_format, "chat-format", 0, "NAME",
            "how messages are rendered; default: as the model's template"),
    WS_TEXT(struct ws_eval_args, companions_from, "companions-from", 0, "DIR",
            "config and tokenizer of a MODEL that is a plain file"),
    WS_FLAG(struct ws_eval_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_OPT_END,
};

void ws_eval_check(ws_run *run, struct ws_eval_args *a)
{
    run->ctx.lenient = a->lenient;
    a->source =
        ws_arena_calloc(&run->arena, a->data.n ? a->data.n : 1, sizeof *a->source);
    for (size_t i = 0; a->source && i < a->data.n; i++) {
        ws_err err = WS_ERR_INIT;
        if (ws_data_source_parse(&a->source[i], a->data.v[i], &run->arena, &err))
            ws_run_fail(run, &err);
    }
    if (a->window == 1)
        ws_run_error(run, WS_E_USAGE, "option '--window' is '1', wanted 2 or more");
}

/** The model's window, bos and stride. */
static ws_status row_begin(const struct ws_eval_args *a, const ws_model *m,
                           const ws_tokenizer *t, struct ws_eval_row *row, ws_err *err)
{
    const int64_t most = ws_model_info_of(m)->max_positions;
    const int32_t bos = ws_tokenizer_roles(t).bos;
    size_t n = 0;
    const int32_t *prefix = ws_tokenizer_prefix(t, &n);

    row->window = a->window ? a->window : most < WINDOW_MOST ? most : WINDOW_MOST;
    row->bos = -1;
    if (a->bos.index == WS_BOS_EACH && bos < 0)
        return ws_fail(err, WS_E_MISSING, "the tokenizer has no bos token");
    if (a->bos.index == WS_BOS_EACH || (a->bos.index == WS_BOS_AUTO && n == 1))
        row->bos = a->bos.index == WS_BOS_EACH ? bos : prefix[0];
    row->stride = a->stride ? a->stride : row->window - (row->bos >= 0);
    return WS_OK;
}

static ws_status text_score(ws_run *run, const struct ws_eval_args *a, size_t i,
                            const ws_model *m, const ws_tokenizer *t,
                            const ws_model *against, struct ws_eval_row *row,
                            ws_err *err)
{
    const ws_model_info *info = ws_model_info_of(m);
    const ws_data_opts o = { .length = 1 << 24,
                             .bos = WS_BOS_NONE, // the windows have it
                             .eos = WS_EOS_COMPLETION,
                             .loss = (ws_data_loss)a->loss.index,
                             .chat_format = a->chat_format,
                             .model = info->folder,
                             .limit = a->limit,
                             .vocab = info->vocab };
    const ws_eval_opts e = { row->window, row->stride, row->bos };
    ws_data_text text = { 0 };
    ws_data *d = NULL;

    ws_status st = ws_data_open(&d, &a->source[i], 1, t, &o, &run->ctx, err);
    if (st == WS_OK)
        st = ws_data_text_get(d, 0, &text, err);
    if (st == WS_OK) {
        const ws_eval_text x = { .name = text.name,
                                 .tokens = text.tokens,
                                 .n = text.n,
                                 .bytes = text.bytes,
                                 .scored = text.scored,
                                 .start = text.running ? NULL : text.start,
                                 .n_docs = text.n_docs };
        st = ws_eval_run(m, against, &x, 1, &e, &row->cell[i].s, &run->ctx, err);
    }
    ws_data_text_free(&text);
    ws_data_free(d);
    return st;
}

static ws_status cell_score(ws_run *run, const struct ws_eval_args *a, size_t i,
                            const ws_model *m, const ws_tokenizer *t,
                            const ws_model *against, struct ws_eval_row *row,
                            ws_err *err)
{
    struct ws_eval_cell *c = &row->cell[i];
    const char *path = a->source[i].path;
    ws_questions q;

    c->choices = ws_questions_are(path);
    if (!c->choices)
        return text_score(run, a, i, m, t, against, row, err);
    ws_status st =
        ws_questions_open(&q, path, t, (ws_data_bos)a->bos.index, a->limit, err);
    if (st)
        return st;
    st = ws_eval_choices(m, q.q, q.n, &c->c, &run->ctx, err);
    ws_questions_free(&q);
    return st;
}

ws_status ws_eval_model(ws_run *run, const struct ws_eval_args *a, const char *path,
                        const ws_model *against, struct ws_eval_row *row)
{
    ws_err err = WS_ERR_INIT;
    ws_model *m = NULL;
    ws_tokenizer *t = NULL;

    *row = (struct ws_eval_row){ .path = path, .bos = -1 };
    row->cell = ws_arena_calloc(&run->arena, a->data.n, sizeof *row->cell);
    ws_status st = row->cell ? WS_OK : ws_fail(&err, WS_E_MEMORY, "out of memory");
    if (st == WS_OK)
        st = ws_model_open(&m, path, a->companions_from, &run->ctx, &err);
    if (st == WS_OK)
        st = ws_tokenizer_open(&t, ws_model_info_of(m)->folder, &err);
    if (st == WS_OK)
        st = row_begin(a, m, t, row, &err);
    if (st == WS_OK)
        snprintf(row->label, sizeof row->label, "%s", ws_model_info_of(m)->label);
    row->read = st == WS_OK ? ws_model_info_of(m)->bytes : 0;
    for (size_t i = 0; st == WS_OK && i < a->data.n; i++) {
        struct stat sb;
        st = cell_score(run, a, i, m, t, against, row, &err);
        row->n += st == WS_OK;
        row->read += stat(a->source[i].path, &sb) == 0 ? (uint64_t)sb.st_size : 0;
    }
    ws_tokenizer_free(t);
    ws_model_free(m);
    return st ? ws_run_fail(run, &err) : WS_OK;
}

void ws_eval_row_free(struct ws_eval_row *row)
{
    for (size_t i = 0; i < row->n; i++) {
        ws_eval_score_free(&row->cell[i].s);
        ws_choice_score_free(&row->cell[i].c);
    }
    row->n = 0;
}

double ws_eval_loss(const struct ws_eval_cell *c)
{
    return c->choices ? c->c.loss : c->s.loss;
}
