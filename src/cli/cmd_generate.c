/*
 * cmd_generate.c - text from a model
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/chat.h"
#include "wsurg/generate.h"
#include "wsurg/tokenizer.h"

enum { MOST_PROMPT = 16 << 20, MOST_STOPS = 32 };

struct generate_args {
    const char *model, *prompt, *prompt_file, *system;
    int64_t max_tokens, top_k, seed, samples;
    double temperature, top_p, min_p, repetition_penalty;
    ws_strs stop;
    bool chat, echo;
    ws_word bos;
    const char *chat_format, *companions_from;
    bool lenient;
    ws_stdin from_stdin;
};

/** A text that grows. */
struct text {
    ws_decoder *d;
    ws_buf b;
    size_t put; // bytes that were shown
    bool stopped;
};

struct job {
    ws_run *run;
    const struct generate_args *a;
    ws_tokenizer *t;
    ws_model *m;
    ws_buf prompt; // as the model reads it
    ws_ids ids;
    int32_t stop[MOST_STOPS];
    int n_stop;
    struct text *text; // (samples)
    ws_generate_result *result;
    ws_status st; // of a decoder
    ws_err err;
};

static void generate_check(ws_run *run, void *args)
{
    const struct generate_args *a = args;

    if ((a->prompt != NULL) == (a->prompt_file != NULL)) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "'generate' needs one prompt");
        ws_err_hint(e, "--prompt TEXT, or --prompt-file FILE; - is standard input");
    }
    if (a->samples > 1 && !(a->temperature > 0.0)) {
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 "option '--samples' above 1 gives equal texts at "
                                 "temperature 0");
        ws_err_hint(e, "--temperature 1");
    }
    for (size_t i = 0; i < a->stop.n; i++)
        if (!a->stop.v[i][0])
            ws_run_error(run, WS_E_USAGE, "option '--stop' is empty");
    if (a->system && !a->chat && !a->chat_format)
        ws_run_error(run, WS_E_USAGE, "option '--system' needs --chat");
}

/* ---- the prompt ---- */

static ws_status prompt_read(struct job *j, ws_buf *out)
{
    const char *path = j->a->prompt_file;
    char part[65536];
    ssize_t n;

    if (!path) {
        ws_buf_puts(out, j->a->prompt);
        return WS_OK;
    }
    const int fd =
        strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        ws_fail_sys(&j->err, WS_E_IO, errno, "cannot open");
        return ws_err_at(&j->err, path, NULL, -1);
    }
    while ((n = read(fd, part, sizeof part)) > 0 && out->n <= MOST_PROMPT)
        ws_buf_add(out, part, (size_t)n);
    close(fd);
    if (n != 0) {
        ws_fail(&j->err, n < 0 ? WS_E_IO : WS_E_UNSUPPORTED,
                n < 0 ? "cannot read" : "the prompt is longer than 16 MiB");
        return ws_err_at(&j->err, path, NULL, -1);
    }
    if (out->n > 0 && out->p[out->n - 1] == '\n')
        out->n--;
    return WS_OK;
}

/** The prompt as a conversation, and the token that ends an answer. */
static ws_status prompt_chat(struct job *j, const ws_buf *asked)
{
    const struct generate_args *a = j->a;
    ws_message turn[2];
    size_t n = 0;
    ws_chat chat;
    char end[64];

    ws_status st =
        ws_chat_open(&chat, a->chat_format, ws_model_info_of(j->m)->folder, &j->err);
    if (st)
        return st;
    if (a->system)
        turn[n++] = (ws_message){ "system", a->system, strlen(a->system) };
    turn[n++] = (ws_message){ "user", asked->p ? asked->p : "", asked->n };
    st = ws_chat_render(&chat, turn, n, true, &j->prompt, NULL, NULL, &j->err);
    ws_chat_end(&chat, end, sizeof end);
    const int32_t id = ws_tokenizer_id(j->t, end, strlen(end));
    if (st == WS_OK && id >= 0 && j->n_stop < MOST_STOPS)
        j->stop[j->n_stop++] = id;
    return st;
}

static ws_status id_push(struct job *j, const int32_t *id, size_t n)
{
    int32_t *p = ws_realloc(j->ids.p, (j->ids.n + n) * sizeof *p);

    if (!p)
        return ws_fail(&j->err, WS_E_MEMORY, "out of memory");
    j->ids.p = p;
    memcpy(p + j->ids.n, id, n * sizeof *p);
    j->ids.n += n;
    j->ids.cap = j->ids.n;
    return WS_OK;
}

static ws_status prompt_encode(struct job *j, bool chat)
{
    const int32_t bos = ws_tokenizer_roles(j->t).bos;
    ws_encoder *e = NULL;
    size_t n = 0;
    const int32_t *prefix = ws_tokenizer_prefix(j->t, &n);
    ws_status st = WS_OK;

    if (!chat && j->a->bos.index == 0 && n > 0)
        st = id_push(j, prefix, n);
    if (!chat && j->a->bos.index == 2)
        st = bos < 0 ? ws_fail(&j->err, WS_E_MISSING, "the tokenizer has no bos token")
                     : id_push(j, &bos, 1);
    if (st == WS_OK)
        st = ws_encoder_new(&e, j->t, &j->err);
    if (st == WS_OK)
        st = ws_encode(e, j->prompt.p ? j->prompt.p : "", j->prompt.n, false, &j->ids,
                       &j->err);
    ws_encoder_free(e);
    return st;
}

static ws_status prompt_make(struct job *j)
{
    const bool chat = j->a->chat || j->a->chat_format;
    ws_buf asked = { 0 };

    ws_status st = ws_generate_stops(ws_model_info_of(j->m)->folder, j->stop,
                                     MOST_STOPS, &j->n_stop, &j->err);
    if (st == WS_OK)
        st = prompt_read(j, &asked);
    if (st == WS_OK && chat)
        st = prompt_chat(j, &asked);
    else if (st == WS_OK)
        ws_buf_add(&j->prompt, asked.p ? asked.p : "", asked.n);
    if (st == WS_OK && (asked.failed || j->prompt.failed))
        st = ws_fail(&j->err, WS_E_MEMORY, "out of memory");
    if (st == WS_OK)
        st = prompt_encode(j, chat);
    ws_buf_free(&asked);
    return st;
}

/* ---- texts ---- */

/** Bytes at the end of the text that may be the beginning of a stop. */
static size_t held(const struct job *j, const struct text *x)
{
    size_t most = 0;

    for (size_t i = 0; i < j->a->stop.n; i++) {
        const char *stop = j->a->stop.v[i];
        size_t n = strlen(stop) - 1;
        n = n < x->b.n ? n : x->b.n;
        while (n > most && memcmp(x->b.p + x->b.n - n, stop, n) != 0)
            n--;
        most = n > most ? n : most;
    }
    return most;
}

/** Cut the text at the first stop behind byte @p from. */
static void stop_find(const struct job *j, struct text *x, size_t from)
{
    size_t first = x->b.n;

    for (size_t i = 0; i < j->a->stop.n; i++) {
        const char *stop = j->a->stop.v[i];
        const size_t n = strlen(stop), back = from < n - 1 ? from : n - 1;
        for (size_t k = from - back; k + n <= first + (first < x->b.n ? n - 1 : 0); k++)
            if (k + n <= x->b.n && memcmp(x->b.p + k, stop, n) == 0) {
                first = k;
                x->stopped = true;
                break;
            }
    }
    if (x->stopped)
        x->b.n = first;
}

static void text_show(struct job *j, struct text *x, size_t to)
{
    if (j->a->samples > 1 || to <= x->put)
        return;
    ws_run_put(j->run, x->b.p + x->put, to - x->put);
    x->put = to;
}

static bool token_take(void *arg, int64_t sample, int32_t id)
{
    struct job *j = arg;
    struct text *x = &j->text[sample];
    const size_t from = x->b.n;

    if (j->st == WS_OK)
        j->st = ws_decoder_add(x->d, id, &x->b, &j->err);
    if (j->st == WS_OK && x->b.failed)
        j->st = ws_fail(&j->err, WS_E_MEMORY, "no memory for the text");
    if (j->st)
        return false;
    stop_find(j, x, from);
    text_show(j, x, x->stopped ? x->b.n : x->b.n - held(j, x));
    return !x->stopped;
}

/** A decoder that has read the prompt, so that spaces come out as they stand. */
static ws_status text_begin(struct job *j, struct text *x)
{
    ws_buf heard = { 0 };
    ws_status st = ws_decoder_new(&x->d, j->t, true, &j->err);

    for (size_t i = 0; st == WS_OK && i < j->ids.n; i++)
        st = ws_decoder_add(x->d, j->ids.p[i], &heard, &j->err);
    if (st == WS_OK && j->a->echo)
        ws_buf_add(&x->b, heard.p ? heard.p : "", heard.n);
    ws_buf_free(&heard);
    return st;
}

static ws_status text_end(struct job *j, struct text *x)
{
    const size_t from = x->b.n;
    ws_status st = WS_OK;

    if (!x->stopped)
        st = ws_decoder_end(x->d, &x->b, &j->err);
    if (st == WS_OK && !x->stopped)
        stop_find(j, x, from);
    text_show(j, x, x->b.n);
    return st;
}

/* ---- what comes out ---- */

static const char *end_word(const struct text *x, const ws_generate_result *r)
{
    static const char *const words[] = { "eos", "tokens", "length", "stop" };
    return x->stopped ? "stop" : words[r->end];
}

/** JSON text of bytes that may hold NULs: cut there. */
static void text_json(cJSON *o, const struct text *x)
{
    ws_j_str(o, "text", x->b.p ? x->b.p : "");
}

static void result_json(ws_run *run, const struct job *j)
{
    cJSON *to = ws_run_result(run), *list, *o;
    const ws_generate_result *r = j->result;
    int64_t tokens = 0;

    for (int64_t i = 0; i < j->a->samples; i++)
        tokens += r[i].tokens;
    text_json(to, &j->text[0]);
    ws_j_u64(to, "tokens", (uint64_t)tokens);
    ws_j_str(to, "end", end_word(&j->text[0], &r[0]));
    ws_j_u64(to, "prompt_tokens", j->ids.n);
    ws_j_num(to, "prompt_seconds", r[0].prompt_seconds);
    ws_j_num(to, "seconds", r[0].seconds);
    ws_j_num(to, "tokens_per_second",
             r[0].seconds > 0 ? (double)tokens / r[0].seconds : (double)NAN);
    list = ws_j_arr(to, "samples");
    for (int64_t i = 0; i < j->a->samples; i++) {
        o = ws_j_obj(list, NULL);
        text_json(o, &j->text[i]);
        ws_j_u64(o, "tokens", (uint64_t)r[i].tokens);
        ws_j_str(o, "end", end_word(&j->text[i], &r[i]));
    }
}

/** Many texts: a line of JSON each, to be read again as data. */
static void lines_print(ws_run *run, const struct job *j)
{
    ws_buf line = { 0 };

    for (int64_t i = 0; i < j->a->samples; i++) {
        line.n = 0;
        ws_buf_puts(&line, "{\"text\":");
        ws_buf_json_string(&line, j->text[i].b.p ? j->text[i].b.p : "", j->text[i].b.n);
        ws_buf_puts(&line, "}\n");
        if (!line.failed)
            ws_run_put(run, line.p, line.n);
    }
    ws_buf_free(&line);
}

static void result_show(ws_run *run, struct job *j)
{
    const ws_generate_result *r = j->result;
    const struct text *x = &j->text[0];
    int64_t tokens = 0;

    for (int64_t i = 0; i < j->a->samples; i++)
        tokens += r[i].tokens;
    if (j->a->samples > 1)
        lines_print(run, j);
    else if (x->b.n == 0 || x->b.p[x->b.n - 1] != '\n')
        ws_run_put(run, "\n", 1);
    ws_run_talk(run, "%lld tokens behind %zu, %.1f a second, ended by %s",
                (long long)tokens, j->ids.n,
                r[0].seconds > 0 ? (double)tokens / r[0].seconds : 0.0,
                j->a->samples > 1 ? "each its own" : end_word(x, r));
    result_json(run, j);
}

static ws_status texts_make(ws_run *run, struct job *j)
{
    const struct generate_args *a = j->a;
    const ws_generate_opts o = { .max_tokens = a->max_tokens,
                                 .temperature = a->temperature,
                                 .top_k = a->top_k,
                                 .top_p = a->top_p,
                                 .min_p = a->min_p,
                                 .repetition_penalty = a->repetition_penalty,
                                 .seed = (uint64_t)a->seed,
                                 .stop = j->stop,
                                 .n_stop = j->n_stop };
    ws_status st = WS_OK;

    j->text = ws_calloc((size_t)a->samples, sizeof *j->text);
    j->result = ws_calloc((size_t)a->samples, sizeof *j->result);
    if (!j->text || !j->result)
        return ws_fail(&j->err, WS_E_MEMORY, "no memory for the texts");
    for (int64_t i = 0; st == WS_OK && i < a->samples; i++)
        st = text_begin(j, &j->text[i]);
    if (st == WS_OK)
        st = ws_generate_many(j->m, j->ids.p, (int64_t)j->ids.n, &o, a->samples,
                              token_take, j, j->result, &run->ctx, &j->err);
    st = st ? st : j->st;
    for (int64_t i = 0; st == WS_OK && i < a->samples; i++)
        st = text_end(j, &j->text[i]);
    return st;
}

static ws_status generate_run(ws_run *run, void *args)
{
    const double began = ws_usage_begin();
    struct generate_args *a = args;
    struct job j = { .run = run, .a = a, .err = WS_ERR_INIT };

    ws_status st = ws_stdin_take(run, &a->from_stdin, &a->model, 1, NULL);
    if (st)
        return st;
    run->ctx.lenient = a->lenient;
    st = ws_model_open(&j.m, a->model, a->companions_from, &run->ctx, &j.err);
    if (st == WS_OK)
        st = ws_tokenizer_open(&j.t, ws_model_info_of(j.m)->folder, &j.err);
    if (st == WS_OK)
        st = prompt_make(&j);
    const bool strict = st == WS_OK && ws_run_strict(run) != WS_OK;
    if (st == WS_OK)
        st = strict ? WS_E_STRICT : texts_make(run, &j);
    if (st == WS_OK)
        result_show(run, &j);
    else if (!strict)
        ws_run_fail(run, &j.err);
    if (st == WS_OK)
        ws_run_used(run, began, ws_model_info_of(j.m)->bytes);
    for (int64_t i = 0; j.text && i < a->samples; i++) {
        ws_decoder_free(j.text[i].d);
        ws_buf_free(&j.text[i].b);
    }
    ws_free(j.text);
    ws_free(j.result);
    ws_ids_free(&j.ids);
    ws_buf_free(&j.prompt);
    ws_tokenizer_free(j.t);
    ws_model_free(j.m);
    return st;
}

static void generate_done(void *args)
{
    ws_stdin_close(&((struct generate_args *)args)->from_stdin);
}

static const ws_arg generate_params[] = {
    WS_ARG(struct generate_args, model, "MODEL", "the model"),
    WS_ARG_END,
};

static const ws_opt generate_opts[] = {
    WS_TEXT(struct generate_args, prompt, "prompt", 0, "TEXT", "what to go on from"),
    WS_TEXT(struct generate_args, prompt_file, "prompt-file", 0, "FILE",
            "the same in a file, without the last line end; - is stdin"),
    WS_OPT(struct generate_args, max_tokens, "max-tokens", 0, "N", 256, 1, 1e9,
           "end a text behind N tokens"),
    WS_OPT(struct generate_args, temperature, "temperature", 0, "T", 0.0, 0.0, 1e6,
           "0: the likeliest token, always"),
    WS_OPT(struct generate_args, top_k, "top-k", 0, "K", 0, 0, 1e9,
           "only the K likeliest; 0: all"),
    WS_OPT(struct generate_args, top_p, "top-p", 0, "P", 1.0, 0.0, 1.0,
           "only the likeliest that together reach P"),
    WS_OPT(struct generate_args, min_p, "min-p", 0, "P", 0.0, 0.0, 1.0,
           "only those with P times the likeliest's"),
    WS_OPT(struct generate_args, repetition_penalty, "repetition-penalty", 0, "R", 1.0,
           1e-3, 1e3, "logits of tokens seen are divided by R; 1: none"),
    WS_OPT(struct generate_args, seed, "seed", 0, "N", 0, 0, 9007199254740991.0,
           "of the random numbers"),
    WS_TEXT(struct generate_args, stop, "stop", 0, "TEXT",
            "end a text where TEXT would come; repeatable"),
    WS_FLAG(struct generate_args, chat, "chat", 0,
            "the prompt is a user's turn, in the model's own format"),
    WS_TEXT(struct generate_args, chat_format, "chat-format", 0, "NAME",
            "the same in this format"),
    WS_TEXT(struct generate_args, system, "system", 0, "TEXT",
            "the system's turn before it"),
    WS_OPT(struct generate_args, samples, "samples", 0, "N", 1, 1, 1e6,
           "N texts, a line of JSONL each"),
    WS_FLAG(struct generate_args, echo, "echo", 0, "the prompt comes first"),
    WS_WORD(struct generate_args, bos, "bos", "auto|none|each", 0,
            "bos before the prompt: if the tokenizer puts it, never, always"),
    WS_TEXT(struct generate_args, companions_from, "companions-from", 0, "DIR",
            "config and tokenizer of a MODEL that is a plain file"),
    WS_FLAG(struct generate_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_OPT_END,
};

static const ws_example generate_examples[] = {
    { "wsurg generate sums --prompt 'sum: 27+15 ='", "the likeliest words" },
    { "wsurg generate lm --prompt '' --samples 20 --temperature 1 --seed 7 "
      ">texts.jsonl",
      "what the model has to say, as data" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_generate = {
    .name = "generate",
    .group = "Running",
    .summary = "text from a model",
    .args = generate_params,
    .opts = generate_opts,
    .examples = generate_examples,
    .notes = "Tokens are cut in this order: penalty, temperature, top-k, top-p, min-p. "
             "The same seed gives the same text at any number of threads.",
    .args_size = sizeof(struct generate_args),
    .check = generate_check,
    .run = generate_run,
    .done = generate_done,
};
