/*
 * merge_args.c - options of merge, plan, join and lines, and the plan made of them
 */
#include "merge_args.h"

#include <stdio.h>
#include <string.h>

#include "report.h"
#include "wsurg/source.h"

const ws_opt ws_opts_merge[] = {
    WS_TEXT(struct merge_args, recipe, "recipe", 'r', "FILE",
            "models, method and parameters from a YAML recipe"),
    WS_FLAG(struct merge_args, dequantise, "dequantise", 0,
            "FP8 weights with scales are read as numbers"),
    WS_FLAG(struct merge_args, lenient, "lenient", 0,
            "what has no effect is a warning, no mistake"),
    WS_FLAG(struct merge_args, no_card, "no-card", 0,
            "write no README.md into a directory"),
    WS_TEXT(struct merge_args, base, "base", 0, "M",
            "the base; default: the first MODEL, if one is needed"),
    { .name = "method",
      .kind = WS_OPT_TEXT,
      .offset = offsetof(struct merge_args, method),
      .value = "NAME",
      .words = "@methods",
      .def = NAN,
      .help = "merge method: wsurg methods lists them" },
    WS_TEXT(struct merge_args, sets, "set", 0, "K=V[,V...]",
            "parameter: one value, one per model, or K.LABEL=V"),
    WS_TEXT(struct merge_args, weights, "weights", 0, "W,...",
            "short for --set weight="),
    WS_TEXT(struct merge_args, lines, "lines", 0, "A,B",
            "LiNeS: first block times A, last A+B; number or auto"),
    WS_TEXT(struct merge_args, coefficients, "coefficients", 0, "FILE",
            "weights of every tensor, as learn wrote them (task_arithmetic)"),
    WS_WORD(struct merge_args, on_missing, "on-missing", "error|base|skip", 0,
            "a tensor that some model lacks"),
    WS_WORD(struct merge_args, vocab, "vocab", "error|base|common|union|pad", 0,
            "vocabularies that differ: rows of embedding and head by token"),
    WS_OPT(struct merge_args, seed, "seed", 0, "N", 0, 0, 0x1p63, "of random methods"),
    WS_SET(struct merge_args, model, ws_opts_model),
    WS_OPT_END,
};

const ws_opt ws_opts_part[] = {
    WS_TEXT(struct merge_args, part, "part", 0, "I/N",
            "write only part I of N; wsurg join completes them"),
    WS_OPT_END,
};

/** "3/8" into part and parts. */
static void part_fill(ws_run *run, const char *text, ws_write_opts *w)
{
    char first[16];
    uint64_t i, n;
    const char *slash = strchr(text, '/');

    snprintf(first, sizeof first, "%.*s", slash ? (int)(slash - text) : 0, text);
    if (slash && ws_parse_u64(first, &i) && ws_parse_u64(slash + 1, &n) && i >= 1 &&
        i <= n && n <= 100000) {
        w->part = (unsigned)i;
        w->parts = (unsigned)n;
        return;
    }
    ws_run_error(run, WS_E_USAGE,
                 "option '--part' is '%s', wanted I/N with 1 <= I <= N", text);
}

/** The request's sets: --set in order, then --weights as weight=. */
static void sets_fill(ws_run *run, struct merge_args *a)
{
    const size_t n = a->sets.n + (a->weights != NULL);
    const char **v = ws_arena_calloc(&run->arena, n + 1, sizeof *v);

    if (!v)
        return;
    for (size_t i = 0; i < a->sets.n; i++)
        v[i] = a->sets.v[i];
    if (a->weights) {
        const size_t size = strlen(a->weights) + sizeof "weight=";
        char *text = ws_arena_alloc(&run->arena, size);
        if (text)
            snprintf(text, size, "weight=%s", a->weights);
        v[a->sets.n] = text ? text : "";
    }
    a->req.sets = v;
    a->req.n_sets = n;
}

void ws_merge_plan(ws_run *run, struct merge_args *a)
{
    const bool good = !run->errors.n;
    const char *out = a->model.w.out;

    if (good && !a->dry && ws_stdout_check(run, &a->model.w))
        return;
    if (good && (ws_stdin_take(run, &a->from_stdin, a->models.v, a->models.n, out) ||
                 ws_stdin_take(run, &a->from_stdin, &a->base, 1, out)))
        return;
    const ws_write_opts part = a->req.write;
    run->ctx.dequantise = a->dequantise;
    ws_model_args_fill(&a->model, &a->req.write);
    a->req.write.part = part.part;
    a->req.write.parts = part.parts;
    a->req.write.card = part.card;
    sets_fill(run, a);
    if (a->read)
        a->req.recipe = ws_recipe_result(a->read);
    a->req.base = a->base;
    a->req.models = a->models.v;
    a->req.n_models = a->models.n;
    a->req.method = a->method;
    a->req.lines = a->lines;
    a->req.coefficients = a->coefficients;
    a->req.on_missing = (ws_on_missing)a->on_missing.index;
    a->req.vocab = (ws_vocab_policy)a->vocab.index;
    a->req.seed = (uint64_t)a->seed;
    ws_plan_new(&a->plan, &a->req, &run->ctx, &run->errors);
    if (a->plan)
        run->target = a->plan->out;
    if (a->plan && !run->errors.n)
        ws_run_strict(run);
}

/** No --method: name them all and a line that works. The inputs are looked at too. */
static void method_missing(ws_run *run, const struct merge_args *a)
{
    char names[400] = "", line[200] = "wsurg ";
    ws_err err = WS_ERR_INIT;

    for (size_t i = 0; i < ws_method_count(); i++) {
        const size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "",
                 ws_method_at(i)->name);
    }
    ws_err *e = ws_run_error(run, WS_E_USAGE, "no --method: one of %s", names);
    snprintf(line + 6, sizeof line - 6, "%s", run->command);
    for (size_t i = 0; i < a->models.n; i++) {
        const size_t n = strlen(line);
        snprintf(line + n, sizeof line - n, " ");
        ws_show_quoted(a->models.v[i], line, sizeof line);
    }
    if (a->base) {
        const size_t n = strlen(line);
        snprintf(line + n, sizeof line - n, " --base ");
        ws_show_quoted(a->base, line, sizeof line);
    }
    const char *method = a->base ? "ties" : "linear";
    if (strlen(line) + 32 < sizeof line)
        ws_err_hint(e, "%s: %s --method %s", a->base ? "with a base" : "an average",
                    line, method);
    else
        ws_err_hint(e, "%s: --method %s", a->base ? "with a base" : "an average",
                    method);
    for (size_t i = 0; i < a->models.n; i++) {
        ws_ckpt *c = NULL;
        if (strcmp(a->models.v[i], "-") == 0)
            continue;
        if (ws_source_open(&c, a->models.v[i], WS_FOLD_BASE, NULL, &err)) {
            ws_err_at(&err, a->models.v[i], NULL, -1);
            ws_run_fail(run, &err);
            err = (ws_err)WS_ERR_INIT;
        }
        ws_ckpt_free(c);
    }
}

/* ---- recipes ---- */

/** Options that say what the recipe says. */
static void recipe_alone(ws_run *run, const struct merge_args *a)
{
    const struct {
        bool given;
        const char *name;
    } others[] = { { a->base != NULL, "base" },
                   { a->method != NULL, "method" },
                   { a->sets.n > 0, "set" },
                   { a->weights != NULL, "weights" },
                   { a->coefficients != NULL, "coefficients" } };

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given) {
            ws_err *e =
                ws_run_error(run, WS_E_USAGE, "option '--%s' does not go with a recipe",
                             others[i].name);
            ws_err_hint(e, "write it into '%s'", a->recipe);
        }
}

/** RECIPE.yml [OUT] among the arguments: the rest of them is no model. */
static void recipe_words(ws_run *run, struct merge_args *a)
{
    const bool named = a->recipe != NULL;
    const size_t first = named ? 0 : 1;

    if (!named)
        a->recipe = a->models.v[0];
    if (a->models.n > first + 1 || (a->models.n > first && (named || a->model.w.out))) {
        ws_err *e = ws_run_error(
            run, WS_E_USAGE, "a recipe names the models: there is no place for '%s'",
            a->models.v[a->models.n - 1]);
        ws_err_hint(e, "wsurg %s RECIPE.yml [OUT]", run->command);
    } else if (a->models.n > first) {
        a->model.w.out = a->models.v[first];
    }
    a->models.n = 0;
}

/** Read the recipe, if one is named; false when there is none. */
static bool recipe_take(ws_run *run, struct merge_args *a)
{
    if (!a->recipe && (!a->models.n || !ws_recipe_is_path(a->models.v[0]) ||
                       ws_path_is_dir(a->models.v[0])))
        return false;
    recipe_words(run, a);
    recipe_alone(run, a);
    ws_recipe_load(&a->read, a->recipe, a->lenient, &run->errors, &run->warnings);
    if (a->read)
        ws_merge_plan(run, a);
    return true;
}

void ws_merge_check(ws_run *run, void *args)
{
    struct merge_args *a = args;

    a->req = (ws_merge_req)WS_MERGE_REQ_INIT;
    a->req.write.card = !a->no_card;
    if (a->part)
        part_fill(run, a->part, &a->req.write);
    if (a->weights)
        for (size_t i = 0; i < a->sets.n; i++)
            if (strncmp(a->sets.v[i], "weight", 6) == 0 &&
                (a->sets.v[i][6] == '=' || a->sets.v[i][6] == '.')) {
                ws_run_error(run, WS_E_USAGE, "both --weights and --set %s are given",
                             a->sets.v[i]);
                break;
            }
    if (recipe_take(run, a))
        return;
    if (a->coefficients && a->weights)
        ws_run_error(
            run, WS_E_USAGE,
            "both --coefficients and --weights are given: each is the weights");
    if (a->coefficients && !a->method)
        a->method = "task_arithmetic";
    if (a->lenient)
        ws_run_error(run, WS_E_USAGE, "option '--lenient' goes with a recipe");
    if (!a->models.n) {
        if (!run->errors.n)
            ws_run_error(run, WS_E_USAGE,
                         "'%s' needs [BASE] MODEL, or a recipe: files or directories",
                         run->command);
        return;
    }
    if (a->method)
        ws_merge_plan(run, a);
    else
        method_missing(run, a);
}

void ws_merge_done(void *args)
{
    struct merge_args *a = args;

    ws_plan_free(a->plan);
    ws_recipe_free(a->read);
    ws_stdin_close(&a->from_stdin);
}
