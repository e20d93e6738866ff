/*
 * cmd_lines.c - LiNeS on one fine-tune: its update scaled by depth
 */
#include <stdio.h>
#include <string.h>

#include "merge_args.h"
#include "report.h"

struct lines_args {
    struct merge_args merge; // first: freed as such
    const char *base, *model;
    const char *alpha, *beta;
    char lines[128];
};

/** "auto" or a number. */
static bool scale_valid(ws_run *run, const char *name, const char *text)
{
    double v;

    if (!text || strcmp(text, "auto") == 0 || ws_parse_real(text, &v))
        return true;
    ws_run_error(run, WS_E_USAGE, "option '--%s' is '%s', wanted auto or a number",
                 name, text);
    return false;
}

static void lines_check(ws_run *run, void *args)
{
    struct lines_args *a = args;
    struct merge_args *m = &a->merge;
    double alpha;
    char beta[32] = "auto";

    m->req = (ws_merge_req)WS_MERGE_REQ_INIT;
    const bool numbers =
        scale_valid(run, "alpha", a->alpha) && scale_valid(run, "beta", a->beta);
    if (a->beta && !a->alpha) {
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 "option '--beta' needs --alpha: for one model it is "
                                 "1 - alpha");
        ws_err_hint(e, "--alpha auto --beta %s", a->beta);
    }
    if (!a->base || !a->model || !numbers || (a->beta && !a->alpha))
        return;
    if (!a->beta && a->alpha && ws_parse_real(a->alpha, &alpha))
        ws_show_num(1.0 - alpha, beta);
    snprintf(a->lines, sizeof a->lines, "%s,%s", a->alpha ? a->alpha : "auto",
             a->beta ? a->beta : beta);
    m->models.v = ws_arena_calloc(&run->arena, 1, sizeof *m->models.v);
    if (!m->models.v)
        return;
    m->models.v[0] = a->model;
    m->models.n = 1;
    m->base = a->base;
    m->method = "task_arithmetic";
    m->lines = a->lines;
    if (!m->model.w.out)
        m->model.w.out = ws_default_out(&run->arena, "lined", a->base);
    ws_merge_plan(run, m);
}

static ws_status lines_run(ws_run *run, void *args)
{
    return ws_cmd_merge.run(run, &((struct lines_args *)args)->merge);
}

static const ws_arg lines_params[] = {
    WS_ARG(struct lines_args, base, "BASE", "the model that was fine-tuned"),
    WS_ARG(struct lines_args, model, "MODEL", "the fine-tune"),
    WS_ARG_END,
};

static const ws_opt lines_opts[] = {
    WS_TEXT(
        struct lines_args, alpha, "alpha", 0, "A",
        "scale of the first block and of all outside the blocks; auto (the default) "
        "or a number"),
    WS_TEXT(struct lines_args, beta, "beta", 0, "B",
            "the last block is scaled by A+B; default 1-A"),
    WS_SET(struct lines_args, merge.model, ws_opts_model),
    WS_OPT_END,
};

static const ws_example lines_examples[] = {
    { "wsurg lines base tuned --alpha 0.5",
      "keep half of the update in the first block, "
      "all of it in the last" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_lines = {
    .name = "lines",
    .group = "Merging",
    .summary = "scale a fine-tune's update by depth (LiNeS)",
    .args = lines_params,
    .opts = lines_opts,
    .examples = lines_examples,
    .notes = "The same as: wsurg merge BASE MODEL --base BASE --method task_arithmetic "
             "--lines A,B.",
    .args_size = sizeof(struct lines_args),
    .check = lines_check,
    .run = lines_run,
    .done = ws_merge_done,
};
