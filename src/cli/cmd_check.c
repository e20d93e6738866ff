/*
 * cmd_check.c - gates that a model must pass
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval_run.h"
#include "model_args.h"
#include "report.h"
#include "wsurg/gates.h"
#include "wsurg/source.h"
#include "wsurg/text.h"

struct check_args {
    const char *model, *against, *frozen, *only, *lineage, *policy;
    bool finite, same, fits_f16, config;
    double max_rel_delta, min_cosine;
    const char *max_loss_rise;
    double rise;
    struct ws_eval_args e;
};

/** "2%" or "0.02". */
static bool share_parse(const char *text, double *out)
{
    char number[64];
    const size_t n = strlen(text);
    const bool percent = n > 0 && text[n - 1] == '%';

    if (n - percent >= sizeof number)
        return false;
    snprintf(number, sizeof number, "%.*s", (int)(n - percent), text);
    if (!ws_parse_real(number, out))
        return false;
    *out /= percent ? 100.0 : 1.0;
    return *out >= 0.0;
}

/** The row of check that @p key names, if its kind can stand in a policy; its field's
 * place in *offset. */
static const ws_opt *policy_row(const ws_run *run, const char *key, size_t *offset)
{
    ws_opt_iter it = ws_opt_begin(run->cmd->opts);
    const ws_opt *o;

    while ((o = ws_opt_next(&it, offset)) != NULL)
        if (ws_name_equal(o->name, key) && strcmp(o->name, "policy") != 0 &&
            (o->kind == WS_OPT_TEXT || o->kind == WS_OPT_FLAG ||
             o->kind == WS_OPT_REAL || o->kind == WS_OPT_LIST))
            return o;
    return NULL;
}

/** One line of a policy into a field that the command line has left alone. @p list is
 * what the policy itself has put into a list. */
static bool policy_put(ws_run *run, struct check_args *a, const ws_opt *o,
                       size_t offset, const char *value, bool list)
{
    void *field = (char *)a + offset;
    const bool yes = strcmp(value, "true") == 0;
    double *real = field;
    const char **text = field;
    ws_strs *strs = field;
    double v;

    if (o->kind == WS_OPT_FLAG) {
        *(bool *)field |= yes;
        return yes || strcmp(value, "false") == 0;
    }
    if (o->kind == WS_OPT_REAL) {
        if (!ws_parse_real(value, &v) || v < o->min || v > o->max)
            return false;
        *real = isnan(*real) ? v : *real;
    } else if (o->kind == WS_OPT_TEXT) {
        *text = *text ? *text : value;
    } else if (strs->n == 0 || list) {
        const char **more = ws_arena_calloc(&run->arena, strs->n + 1, sizeof *more);
        if (!more)
            return true;
        for (size_t i = 0; i < strs->n; i++)
            more[i] = strs->v[i];
        more[strs->n] = value;
        *strs = (ws_strs){ more, strs->n + 1 };
    }
    return true;
}

/** Gates of the policy, where the command line does not say otherwise. */
static void policy_take(ws_run *run, struct check_args *a)
{
    ws_policy_item *items = NULL;
    size_t n = 0, offset = 0;
    const bool data = a->e.data.n > 0;

    if (ws_policy_read(&items, &n, a->policy, &run->arena, &run->errors))
        return;
    if (n == 0) {
        ws_err *e = ws_run_error(run, WS_E_RECIPE, "the policy names no gate");
        ws_err_at(e, a->policy, NULL, -1);
    }
    for (size_t i = 0; i < n; i++) {
        const ws_opt *o = policy_row(run, items[i].key, &offset);
        ws_err *e = NULL;
        if (o == NULL)
            e = ws_run_error(run, WS_E_RECIPE, "line %u: '%s' is no key of a policy",
                             items[i].line, items[i].key);
        else if (!(o->kind == WS_OPT_LIST && data) &&
                 !policy_put(run, a, o, offset, items[i].value, !data))
            e = ws_run_error(run, WS_E_RECIPE, "line %u: '%s' cannot be '%s'",
                             items[i].line, items[i].key, items[i].value);
        if (e == NULL)
            continue;
        ws_err_at(e, a->policy, NULL, -1);
        if (o == NULL)
            ws_err_hint(e, "keys are the options of wsurg check, without dashes");
    }
}

static void check_check(ws_run *run, void *args)
{
    struct check_args *a = args;

    if (a->policy)
        policy_take(run, a);
    const bool data = a->e.data.n > 0;

    if (a->max_loss_rise && !share_parse(a->max_loss_rise, &a->rise))
        ws_run_error(run, WS_E_USAGE,
                     "option '--max-loss-rise' is '%s', wanted a share as 2%% or 0.02",
                     a->max_loss_rise);
    if (data != (a->max_loss_rise != NULL))
        ws_run_error(run, WS_E_USAGE, "option '--%s' needs --%s",
                     data ? "data" : "max-loss-rise", data ? "max-loss-rise" : "data");
    if (a->max_loss_rise && !a->against)
        ws_run_error(run, WS_E_USAGE, "option '--max-loss-rise' needs --against");
    ws_eval_check(run, &a->e);
}

/** The gate of losses: what the model's rise above those of --against. */
static ws_status loss_gate(ws_run *run, const struct check_args *a, ws_gates *g)
{
    struct ws_eval_row model, base;
    ws_gate *gate = &g->gates[g->n];

    ws_status st = ws_eval_model(run, &a->e, a->against, NULL, &base);
    if (st == WS_OK) {
        st = ws_eval_model(run, &a->e, a->model, NULL, &model);
        *gate = (ws_gate){ .name = "max-loss-rise", .passed = true, .limit = a->rise };
        gate->value = -(double)INFINITY;
        for (size_t i = 0; st == WS_OK && i < a->e.data.n; i++) {
            const double rise =
                ws_eval_loss(&model.cell[i]) / ws_eval_loss(&base.cell[i]) - 1.0;
            gate->value = rise > gate->value ? rise : gate->value;
            if (rise <= a->rise)
                continue;
            gate->passed = g->passed = false;
            if (gate->n_worst < WS_GATE_WORST) {
                gate->worst[gate->n_worst].tensor = a->e.source[i].name;
                gate->worst[gate->n_worst++].value = rise;
            }
        }
        g->n += st == WS_OK;
        ws_eval_row_free(&model);
    }
    ws_eval_row_free(&base);
    return st;
}

static void check_json(ws_run *run, const ws_gates *g)
{
    cJSON *to = ws_run_result(run), *list, *o, *worst, *w;
    ws_j_bool(to, "passed", g->passed);
    list = ws_j_arr(to, "gates");
    for (size_t i = 0; i < g->n; i++) {
        const ws_gate *gate = &g->gates[i];
        o = ws_j_obj(list, NULL);
        ws_j_str(o, "name", gate->name);
        ws_j_bool(o, "passed", gate->passed);
        ws_j_num(o, "value", gate->value);
        ws_j_num(o, "limit", gate->limit);
        worst = ws_j_arr(o, "worst");
        for (size_t k = 0; k < gate->n_worst; k++) {
            w = ws_j_obj(worst, NULL);
            ws_j_str(w, "tensor", gate->worst[k].tensor);
            ws_j_num(w, "value", gate->worst[k].value);
            ws_j_str(w, "note", gate->worst[k].note[0] ? gate->worst[k].note : NULL);
        }
    }
}

static void check_print(ws_run *run, const ws_gates *g)
{
    char name[200];
    for (size_t i = 0; i < g->n; i++) {
        const ws_gate *gate = &g->gates[i];
        ws_run_print(run, "%-6s %-17s value %.6g  limit %.6g\n",
                     gate->passed ? "pass" : "FAIL", gate->name, gate->value,
                     gate->limit);
        for (size_t k = 0; k < gate->n_worst; k++) {
            ws_show(gate->worst[k].tensor, name, sizeof name);
            ws_run_print(run, "       %.6g  %s%s%s\n", gate->worst[k].value, name,
                         gate->worst[k].note[0] ? "  " : "", gate->worst[k].note);
        }
    }
    ws_run_print(run, "%s\n", g->passed ? "passed" : "not passed");
}

/** Without a gate named: finite, and with --against the same names, shapes, dtypes. */
static ws_gates_opts gates_of(const struct check_args *a)
{
    ws_gates_opts o = { .finite = a->finite,
                        .same = a->same,
                        .fits_f16 = a->fits_f16,
                        .config = a->config,
                        .frozen = a->frozen,
                        .only = a->only,
                        .max_rel_delta = a->max_rel_delta,
                        .min_cosine = a->min_cosine };
    const bool named = o.finite || o.same || o.fits_f16 || o.config || o.frozen ||
                       o.only || !isnan(o.max_rel_delta) || !isnan(o.min_cosine) ||
                       a->lineage || a->max_loss_rise;
    if (!named) {
        o.finite = true;
        o.same = a->against != NULL;
    }
    return o;
}

static ws_status check_run(ws_run *run, void *args)
{
    struct check_args *a = args;
    ws_gates_opts o = gates_of(a);
    ws_ckpt *c = NULL, *against = NULL, *lineage = NULL;
    ws_gates g;
    ws_err err = WS_ERR_INIT;
    ws_stdin from_stdin = { 0 };

    ws_status st = ws_stdin_take(run, &from_stdin, &a->model, 1, NULL);
    if (!st)
        st = ws_stdin_take(run, &from_stdin, &a->against, 1, NULL);
    if (st) {
        ws_stdin_close(&from_stdin);
        return st;
    }
    st = ws_source_open(&c, a->model, WS_FOLD_BASE, &run->ctx, &err);
    if (!st && a->against)
        st = ws_source_open(&against, a->against, WS_FOLD_BASE, &run->ctx, &err);
    if (!st && a->lineage)
        st = ws_source_open(&lineage, a->lineage, WS_FOLD_BASE, &run->ctx, &err);
    o.lineage = lineage;
    if (!st)
        st = ws_gates_run(&g, c, against, &o, &run->ctx, &err);
    if (st)
        ws_run_fail(run, &err);
    else if (a->max_loss_rise)
        st = loss_gate(run, a, &g);
    if (!st) {
        check_json(run, &g);
        check_print(run, &g);
        run->no = !g.passed;
    }
    ws_ckpt_free(c);
    ws_ckpt_free(against);
    ws_ckpt_free(lineage);
    ws_stdin_close(&from_stdin);
    return st;
}

static const ws_arg check_params[] = {
    WS_ARG(struct check_args, model, "MODEL", "the model that must pass"),
    WS_ARG_END,
};

static const ws_opt check_opts[] = {
    WS_TEXT(struct check_args, against, "against", 0, "M", "the model compared with"),
    WS_FLAG(struct check_args, finite, "finite", 0,
            "no NaN, no infinity, no BOOL but 0 and 1"),
    WS_FLAG(struct check_args, fits_f16, "fits-f16", 0,
            "no value that F16 would turn into infinity"),
    WS_FLAG(struct check_args, config, "config-consistent", 0,
            "config.json says what the tensors are"),
    WS_FLAG(struct check_args, same, "same", 0,
            "the names, shapes and dtypes of --against"),
    WS_TEXT(struct check_args, frozen, "frozen", 0, "PATTERN",
            "tensors whose bytes must be those of --against"),
    WS_TEXT(struct check_args, only, "only", 0, "PATTERN",
            "all other tensors must have the bytes of --against"),
    WS_OPT(struct check_args, max_rel_delta, "max-rel-delta", 0, "X", NAN, 0.0, 1e30,
           "largest norm of a tensor's change over the tensor's"),
    WS_OPT(struct check_args, min_cosine, "min-cosine", 0, "X", NAN, -1.0, 1.0,
           "least cosine of a tensor with that of --against"),
    WS_TEXT(struct check_args, lineage, "lineage", 0, "BASE",
            "the model must descend from this one, by its tensors"),
    WS_TEXT(struct check_args, policy, "policy", 0, "FILE",
            "gates as a YAML map of these options' names"),
    WS_TEXT(struct check_args, max_loss_rise, "max-loss-rise", 0, "P",
            "most that a loss on --data may rise above that of --against: 2% or 0.02"),
    WS_SET(struct check_args, e, ws_opts_eval),
    WS_OPT_END,
};

static const ws_example check_examples[] = {
    { "wsurg check a.st", "exit 0 when every value is finite, 1 when not" },
    { "wsurg check tuned --against base --same --max-rel-delta 2",
      "several gates: all are evaluated" },
    { "wsurg check sums --against lm --data held.txt --max-loss-rise 900%",
      "a gate on what the model lost" },
    { "echo 'fits-f16: true' >g.yml; wsurg check tuned --lineage base --policy g.yml",
      "gates from a file, and descent shown by the tensors" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_check = {
    .name = "check",
    .group = "Looking",
    .summary = "gates that a model must pass",
    .args = check_params,
    .opts = check_opts,
    .examples = check_examples,
    .notes =
        "Without a gate named: --finite, and with --against also --same. Each gate "
        "shows its value, its limit and the worst offenders. A PATTERN is a PCRE2 "
        "expression found in the tensor name, or @FILE with one per line.",
    .args_size = sizeof(struct check_args),
    .check = check_check,
    .run = check_run,
};
