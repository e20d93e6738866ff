/*
 * cmd_eval.c - how well models predict a text, and choose among answers
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval_run.h"
#include "model_args.h"
#include "report.h"
#include "wsurg/spool.h"

struct eval_args {
    ws_strs models;
    const char *against;
    struct ws_eval_args e;
    struct ws_eval_row *row; // (models)
    size_t scored;
    ws_stdin spool;
};

static void eval_check(ws_run *run, void *args)
{
    struct eval_args *a = args;

    if (a->e.data.n == 0) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "'eval' needs data");
        ws_err_hint(e, "--data FILE");
    }
    ws_eval_check(run, &a->e);
}

/** Number equal labels, as merge does: "base", "base.2". */
static void labels_number(struct eval_args *a)
{
    for (size_t i = 0; i < a->models.n; i++) {
        struct ws_eval_row *r = &a->row[i];
        size_t same = 1;
        for (size_t k = 0; k < i; k++)
            same += strncmp(a->row[k].label, r->label, strlen(r->label)) == 0 &&
                    (a->row[k].label[strlen(r->label)] == '\0' ||
                     a->row[k].label[strlen(r->label)] == '.');
        const size_t n = strlen(r->label);
        if (same > 1 && n < sizeof r->label - 8)
            snprintf(r->label + n, sizeof r->label - n, ".%zu", same);
    }
}

/* ---- pairs ---- */

struct pair {
    double difference, se;
    const char *metric; // NULL: they cannot be compared
};

static struct pair pair_of(const struct ws_eval_cell *x, const struct ws_eval_cell *y)
{
    struct pair p = { .difference = (double)NAN, .se = (double)NAN };
    bool good;

    if (x->choices)
        good = ws_eval_choices_pair(&x->c, &y->c, &p.difference, &p.se);
    else
        good = ws_eval_pair(&x->s, &y->s, &p.difference, &p.se);
    p.metric = !good ? NULL : x->choices ? "acc" : "loss";
    return p;
}

/* ---- JSON ---- */

static void cell_json(cJSON *list, const char *name, const struct ws_eval_cell *c)
{
    cJSON *o = ws_j_obj(list, NULL);
    const bool q = c->choices;

    ws_j_str(o, "name", name);
    ws_j_u64(o, "tokens", (uint64_t)(q ? c->c.tokens : c->s.tokens));
    ws_j_num(o, "loss", ws_eval_loss(c));
    ws_j_num(o, "loss_se", q ? (double)NAN : c->s.loss_se);
    ws_j_num(o, "perplexity", exp(ws_eval_loss(c)));
    ws_j_num(o, "bits_per_byte", q ? (double)NAN : c->s.bits_per_byte);
    ws_j_num(o, "accuracy", q ? c->c.accuracy : c->s.accuracy);
    ws_j_num(o, "kl", q ? (double)NAN : c->s.kl);
    ws_j_num(o, "kl_se", q ? (double)NAN : c->s.kl_se);
    ws_j_num(o, "agreement", q ? (double)NAN : c->s.agreement);
    if (q)
        ws_j_u64(o, "questions", (uint64_t)c->c.questions);
    else
        ws_j_null(o, "questions");
    ws_j_num(o, "acc", q ? c->c.acc : (double)NAN);
    ws_j_num(o, "acc_se", q ? c->c.acc_se : (double)NAN);
    ws_j_num(o, "acc_norm", q ? c->c.acc_norm : (double)NAN);
    ws_j_num(o, "acc_norm_se", q ? c->c.acc_norm_se : (double)NAN);
}

static void pairs_json(cJSON *list, const struct eval_args *a)
{
    for (size_t i = 0; i < a->models.n; i++)
        for (size_t k = i + 1; k < a->models.n; k++)
            for (size_t d = 0; d < a->e.data.n; d++) {
                const struct pair p = pair_of(&a->row[i].cell[d], &a->row[k].cell[d]);
                cJSON *o = ws_j_obj(list, NULL);
                ws_j_str(o, "a", a->row[i].label);
                ws_j_str(o, "b", a->row[k].label);
                ws_j_str(o, "name", a->e.source[d].name);
                ws_j_num(o, "difference", p.difference);
                ws_j_num(o, "se", p.se);
                ws_j_str(o, "metric", p.metric);
            }
}

static void eval_json(ws_run *run, const struct eval_args *a)
{
    cJSON *to = ws_run_result(run), *list = ws_j_arr(to, "models");

    for (size_t i = 0; i < a->models.n; i++) {
        cJSON *o = ws_j_obj(list, NULL), *data;
        ws_j_str(o, "label", a->row[i].label);
        ws_j_str(o, "path", ws_spool_shown(a->row[i].path));
        data = ws_j_arr(o, "data");
        for (size_t d = 0; d < a->e.data.n; d++)
            cell_json(data, a->e.source[d].name, &a->row[i].cell[d]);
    }
    pairs_json(ws_j_arr(to, "pairs"), a);
    ws_j_u64(to, "window", (uint64_t)a->row[0].window);
    ws_j_u64(to, "stride", (uint64_t)a->row[0].stride);
    if (a->row[0].bos >= 0)
        ws_j_u64(to, "bos", (uint64_t)a->row[0].bos);
    else
        ws_j_null(to, "bos");
}

/* ---- for people ---- */

/** "0.0123" or "-" in a column. */
static void num(ws_run *run, int width, int decimals, double v)
{
    if (isfinite(v))
        ws_run_print(run, "  %*.*f", width, decimals, v);
    else
        ws_run_print(run, "  %*s", width, "-");
}

static void text_table(ws_run *run, const struct eval_args *a, int label, int name)
{
    ws_run_print(run, "%-*s  %-*s  %8s  %8s  %7s  %9s  %9s  %8s%s\n", label, "model",
                 name, "data", "tokens", "loss", "se", "ppl", "bits/byte", "accuracy",
                 a->against ? "      kl   agree" : "");
    for (size_t i = 0; i < a->models.n; i++)
        for (size_t d = 0; d < a->e.data.n; d++) {
            const ws_eval_score *s = &a->row[i].cell[d].s;
            if (a->row[i].cell[d].choices)
                continue;
            ws_run_print(run, "%-*s  %-*s  %8lld", label, a->row[i].label, name,
                         a->e.source[d].name, (long long)s->tokens);
            num(run, 8, 4, s->loss);
            num(run, 7, 4, s->loss_se);
            num(run, 9, 3, s->perplexity);
            num(run, 9, 4, s->bits_per_byte);
            num(run, 8, 4, s->accuracy);
            if (a->against) {
                num(run, 6, 4, s->kl);
                num(run, 6, 4, s->agreement);
            }
            ws_run_print(run, "\n");
        }
}

static void choice_table(ws_run *run, const struct eval_args *a, int label, int name)
{
    ws_run_print(run, "%-*s  %-*s  %9s  %7s  %7s  %8s  %7s  %8s\n", label, "model",
                 name, "data", "questions", "acc", "se", "acc_norm", "se", "loss");
    for (size_t i = 0; i < a->models.n; i++)
        for (size_t d = 0; d < a->e.data.n; d++) {
            const ws_choice_score *c = &a->row[i].cell[d].c;
            if (!a->row[i].cell[d].choices)
                continue;
            ws_run_print(run, "%-*s  %-*s  %9lld", label, a->row[i].label, name,
                         a->e.source[d].name, (long long)c->questions);
            num(run, 7, 4, c->acc);
            num(run, 7, 4, c->acc_se);
            num(run, 8, 4, c->acc_norm);
            num(run, 7, 4, c->acc_norm_se);
            num(run, 8, 4, c->loss);
            ws_run_print(run, "\n");
        }
}

static void pairs_print(ws_run *run, const struct eval_args *a)
{
    for (size_t i = 0; i < a->models.n; i++)
        for (size_t k = i + 1; k < a->models.n; k++)
            for (size_t d = 0; d < a->e.data.n; d++) {
                const struct pair p = pair_of(&a->row[i].cell[d], &a->row[k].cell[d]);
                if (!p.metric)
                    continue;
                ws_run_print(run, "%s - %s on %s: %s", a->row[i].label, a->row[k].label,
                             a->e.source[d].name, p.metric);
                ws_run_print(run, " %+.4f", p.difference);
                if (isfinite(p.se))
                    ws_run_print(run, " +- %.4f", p.se);
                ws_run_print(run, "\n");
            }
}

static void eval_print(ws_run *run, const struct eval_args *a)
{
    int label = 5, name = 4;
    size_t texts = 0;

    for (size_t i = 0; i < a->models.n; i++)
        label =
            (int)strlen(a->row[i].label) > label ? (int)strlen(a->row[i].label) : label;
    for (size_t d = 0; d < a->e.data.n; d++) {
        const int n = (int)strlen(a->e.source[d].name);
        name = n > name ? n : name;
        texts += !a->row[0].cell[d].choices;
    }
    if (texts)
        text_table(run, a, label, name);
    if (texts < a->e.data.n)
        choice_table(run, a, label, name);
    pairs_print(run, a);
    if (!texts)
        return;
    ws_run_print(run, "window %lld, stride %lld, ", (long long)a->row[0].window,
                 (long long)a->row[0].stride);
    if (a->row[0].bos >= 0)
        ws_run_print(run, "bos %lld\n", (long long)a->row[0].bos);
    else
        ws_run_print(run, "no bos\n");
}

static ws_status eval_run(ws_run *run, void *args)
{
    struct eval_args *a = args;
    const double began = ws_usage_begin();
    ws_model *against = NULL;
    ws_err err = WS_ERR_INIT;
    uint64_t read = 0;

    a->row = ws_arena_calloc(&run->arena, a->models.n, sizeof *a->row);
    ws_status st = ws_stdin_take(run, &a->spool, a->models.v, a->models.n, NULL);
    if (st)
        return st;
    if (!a->row)
        st = ws_fail(&err, WS_E_MEMORY, "out of memory");
    if (st == WS_OK && a->against)
        st = ws_model_open(&against, a->against, a->e.companions_from, &run->ctx, &err);
    if (st)
        ws_run_fail(run, &err);
    for (size_t i = 0; st == WS_OK && i < a->models.n; i++) {
        st = ws_eval_model(run, &a->e, a->models.v[i], against, &a->row[i]);
        read += a->row[i].read;
        a->scored++;
    }
    read += against ? ws_model_info_of(against)->bytes : 0;
    if (st == WS_OK)
        st = ws_run_strict(run);
    if (st == WS_OK) {
        labels_number(a);
        eval_json(run, a);
        eval_print(run, a);
        ws_run_used(run, began, read);
    }
    ws_model_free(against);
    return st;
}

static void eval_done(void *args)
{
    struct eval_args *a = args;

    for (size_t i = 0; i < a->scored; i++)
        ws_eval_row_free(&a->row[i]);
    ws_stdin_close(&a->spool);
}

static const ws_arg eval_params[] = {
    WS_ARG_LIST(struct eval_args, models, "MODEL", 1, "the models to score"),
    WS_ARG_END,
};

static const ws_opt eval_opts[] = {
    WS_SET(struct eval_args, e, ws_opts_eval),
    WS_TEXT(struct eval_args, against, "against", 0, "M",
            "also the distance to M: KL divergence, equal first choices"),
    WS_OPT_END,
};

static const ws_example eval_examples[] = {
    { "wsurg eval sums --data held.txt", "loss, perplexity, bits per byte" },
    { "wsurg eval lm sums --data held.txt --data quiz.jsonl --against lm",
      "two models on a text and on questions, and their differences" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_eval = {
    .name = "eval",
    .group = "Running",
    .summary = "how well models predict a text, and answer questions",
    .args = eval_params,
    .opts = eval_opts,
    .examples = eval_examples,
    .notes = "A text is cut into windows; each token is scored once, with what its "
             "window holds before it. Documents of JSONL have windows of their own. "
             "JSONL of context, choices and gold is multiple choice.",
    .args_size = sizeof(struct eval_args),
    .check = eval_check,
    .run = eval_run,
    .done = eval_done,
};
