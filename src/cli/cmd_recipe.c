/*
 * cmd_recipe.c - recipes looked at, laid out anew, made of options and back
 */
#include <stdio.h>
#include <string.h>

#include "merge_args.h"
#include "report.h"

/* ---- check ---- */

struct check_args {
    ws_strs files;
    bool lenient;
};

static void documents_show(ws_run *run, cJSON *list, const char *path,
                           const ws_recipe *r)
{
    const size_t n = ws_recipe_count(r);

    for (size_t i = 0; i < n; i++) {
        const ws_recipe_doc *doc = ws_recipe_at(r, i);
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "method", ws_recipe_method_name(doc));
        cJSON *models = ws_j_arr(o, "models");
        for (size_t k = 0; k < ws_recipe_model_count(doc); k++)
            ws_j_str(models, NULL, ws_recipe_model(doc, k));
        ws_run_print(run, "%s  %s of %zu model%s\n", path, ws_recipe_method_name(doc),
                     ws_recipe_model_count(doc),
                     ws_recipe_model_count(doc) == 1 ? "" : "s");
    }
}

static ws_status check_run(ws_run *run, void *args)
{
    const struct check_args *a = args;
    cJSON *list = ws_j_arr(ws_run_result(run), "files");

    for (size_t i = 0; i < a->files.n; i++) {
        ws_recipe *r = NULL;
        if (ws_recipe_load(&r, a->files.v[i], a->lenient, &run->errors, &run->warnings))
            continue;
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "path", a->files.v[i]);
        documents_show(run, ws_j_arr(o, "documents"), a->files.v[i], r);
        ws_recipe_free(r);
    }
    return run->errors.n ? ws_diag_worst(&run->errors)->code : WS_OK;
}

static const ws_arg check_params[] = {
    WS_ARG_LIST(struct check_args, files, "RECIPE.yml", 1, "recipes to look at"),
    WS_ARG_END,
};

static const ws_opt check_opts[] = {
    WS_FLAG(struct check_args, lenient, "lenient", 0,
            "what has no effect is a warning, no mistake"),
    WS_OPT_END,
};

static const ws_example check_examples[] = {
    { "wsurg recipe check recipe.yml", "every mistake, with line and column" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_recipe_check = {
    .name = "recipe check",
    .group = "Merging",
    .summary = "name every mistake in recipes; no model is opened",
    .args = check_params,
    .opts = check_opts,
    .examples = check_examples,
    .args_size = sizeof(struct check_args),
    .run = check_run,
};

/* ---- format ---- */

struct format_args {
    const char *file;
};

/** @p text as data, and as the JSON's .text. */
static void text_show(ws_run *run, const char *kind, const ws_buf *text)
{
    cJSON *to = ws_run_result(run);

    ws_j_str(to, "kind", kind);
    ws_j_str(to, "text", text->p ? text->p : "");
    ws_run_put(run, text->p ? text->p : "", text->n);
}

static ws_status format_run(ws_run *run, void *args)
{
    const struct format_args *a = args;
    ws_buf out = { 0 };

    const ws_status st = ws_recipe_format_file(&out, a->file, &run->errors);
    if (st == WS_OK)
        text_show(run, "recipe", &out);
    ws_buf_free(&out);
    return st;
}

static const ws_arg format_params[] = {
    WS_ARG(struct format_args, file, "RECIPE.yml", "the recipe"),
    WS_ARG_END,
};

static const ws_example format_examples[] = {
    { "wsurg recipe format recipe.yml", "the same recipe, laid out in one way" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_recipe_format = {
    .name = "recipe format",
    .group = "Merging",
    .summary = "lay a recipe out in one way, on standard output",
    .args = format_params,
    .examples = format_examples,
    .notes = "Keys come in one order, short values in one line; anchors are written "
             "out. Comments are not kept.",
    .args_size = sizeof(struct format_args),
    .run = format_run,
};

/* ---- convert ---- */

/** The options that say a recipe, ready to paste. */
static ws_status options_show(ws_run *run, const struct merge_args *a)
{
    char *room[WS_RECIPE_WORDS], line[8192] = "wsurg merge";
    ws_strings words = { room, 0, WS_RECIPE_WORDS };
    const ws_status st =
        ws_recipe_options(ws_recipe_result(a->read), &words, &run->errors);

    for (size_t i = 0; i < words.n; i++) {
        const size_t n = strlen(line);
        snprintf(line + n, sizeof line - n, " ");
        if (words.v[i])
            ws_show_quoted(words.v[i], line, sizeof line);
        ws_free(words.v[i]);
    }
    const size_t n = strlen(line);
    snprintf(line + n, sizeof line - n, "\n");
    const ws_buf text = { .p = line, .n = strlen(line) };
    if (st == WS_OK)
        text_show(run, "options", &text);
    return st;
}

static ws_status convert_run(ws_run *run, void *args)
{
    struct merge_args *a = args;
    ws_buf text = { 0 };
    ws_err err = WS_ERR_INIT;

    if (a->read)
        return options_show(run, a);
    if (ws_recipe_of_plan(a->plan, &text, &err)) {
        ws_buf_free(&text);
        return ws_run_fail(run, &err);
    }
    text_show(run, "recipe", &text);
    if (a->on_missing.index)
        ws_run_note(run, "a recipe does not say --on-missing: give it to the merge");
    if (a->vocab.index)
        ws_run_note(run, "the recipe leaves --vocab out: give it to the merge");
    ws_buf_free(&text);
    return WS_OK;
}

static void convert_check(ws_run *run, void *args)
{
    struct merge_args *a = args;

    a->dry = true;
    ws_merge_check(run, args);
}

static const ws_arg convert_params[] = {
    WS_ARG_LIST(struct merge_args, models, "[BASE] MODEL", 0,
                "as for wsurg merge, or RECIPE.yml"),
    WS_ARG_END,
};

static const ws_opt convert_opts[] = {
    { .kind = WS_OPT_SET, .set = ws_opts_merge },
    WS_OPT_END,
};

static const ws_example convert_examples[] = {
    { "wsurg recipe convert base tuned other --method ties --set density=0.3",
      "the recipe of a merge said in options" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_recipe_convert = {
    .name = "recipe convert",
    .group = "Merging",
    .summary = "a recipe of a merge's options, or the options of a recipe",
    .args = convert_params,
    .opts = convert_opts,
    .examples = convert_examples,
    .notes = "Values that the options leave out stand in the recipe where its language "
             "has another default, and the other way round. Headers are read, weights "
             "are not.",
    .args_size = sizeof(struct merge_args),
    .check = convert_check,
    .run = convert_run,
    .done = ws_merge_done,
};
