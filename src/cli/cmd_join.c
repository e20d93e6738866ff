/*
 * cmd_join.c - complete a merge that was made in parts
 */
#include "merge_args.h"
#include "report.h"

static ws_status join_run(ws_run *run, void *args)
{
    struct merge_args *a = args;
    ws_result *r = NULL;
    ws_err err = WS_ERR_INIT;

    if (ws_plan_join(a->plan, &run->ctx, &r, &err))
        return ws_run_fail(run, &err);
    ws_merge_report(run, a, r);
    ws_result_free(r);
    return WS_OK;
}

static const ws_arg join_params[] = {
    WS_ARG_LIST(struct merge_args, models, "[BASE] MODEL", 0, "as given to the parts"),
    WS_ARG_END,
};

static const ws_opt join_opts[] = {
    { .kind = WS_OPT_SET, .set = ws_opts_merge },
    WS_OPT_END,
};

static const ws_example join_examples[] = {
    { "wsurg merge base tuned --method ties --shard-size 8KB -o parts/ --part 1/2 && "
      "wsurg merge base tuned --method ties --shard-size 8KB -o parts/ --part 2/2 && "
      "wsurg join base tuned --method ties --shard-size 8KB -o parts/",
      "write the two halves of a merge, here or on two machines, then complete it" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_join = {
    .name = "join",
    .group = "Merging",
    .summary = "check and complete a merge made with --part",
    .args = join_params,
    .opts = join_opts,
    .examples = join_examples,
    .notes = "Takes the models and options of the parts, without --part. The result is "
             "byte for byte that of one run.",
    .args_size = sizeof(struct merge_args),
    .check = ws_merge_check,
    .run = join_run,
    .done = ws_merge_done,
};
