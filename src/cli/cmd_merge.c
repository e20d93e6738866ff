/*
 * cmd_merge.c - models in, one merged model out
 */
#include "merge_args.h"
#include "report.h"

static ws_status merge_run(ws_run *run, void *args)
{
    struct merge_args *a = args;
    ws_result *r = NULL;
    ws_err err = WS_ERR_INIT;

    if (ws_plan_run(a->plan, &run->ctx, &r, &err))
        return ws_run_fail(run, &err);
    ws_merge_report(run, a, r);
    ws_result_free(r);
    return WS_OK;
}

static const ws_arg merge_params[] = {
    WS_ARG_LIST(
        struct merge_args, models, "[BASE] MODEL", 0,
        "files or directories, or RECIPE.yml [OUT]; task vectors count as models"),
    WS_ARG_END,
};

static const ws_opt merge_opts[] = {
    { .kind = WS_OPT_SET, .set = ws_opts_merge },
    { .kind = WS_OPT_SET, .set = ws_opts_part },
    WS_OPT_END,
};

static const ws_example merge_examples[] = {
    { "wsurg merge a.st b.st --method breadcrumbs",
      "put b's update onto a, its smallest and largest entries dropped" },
    { "wsurg merge base tuned other --method ties --set density=0.2 -o merged/",
      "merge two fine-tunes of a base into a directory that loads" },
    { "wsurg merge a.st b.st c.st --method linear --weights 0.5,0.3,0.2 -o mean.st",
      "a weighted average" },
    { "wsurg merge b.st c.st --base a.st --method task_arithmetic --lines auto,auto "
      "-o lined.st",
      "add two updates, scaled by depth" },
    { "wsurg merge recipe.yml merged/", "what a recipe of mergekit's describes" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_merge = {
    .name = "merge",
    .group = "Merging",
    .summary = "merge models into one",
    .args = merge_params,
    .opts = merge_opts,
    .examples = merge_examples,
    .args_size = sizeof(struct merge_args),
    .check = ws_merge_check,
    .run = merge_run,
    .done = ws_merge_done,
};
