/*
 * cmd_plan.c - what a merge would do and cost, from headers alone
 */
#include "plan_report.h"
#include "report.h"

struct plan_args {
    struct merge_args merge; // first: checked and freed as such
    bool key, trust_manifests;
};

/** Whether all that is wrong is the size of the merge. */
static bool only_too_large(const ws_run *run)
{
    for (size_t i = 0; i < run->errors.n; i++)
        if (ws_status_exit(run->errors.items[i].code) != ws_status_exit(WS_E_DISK))
            return false;
    return run->errors.n > 0;
}

/** The plan with the least memory that it runs in, to show what does not fit. */
static bool plan_anyhow(ws_run *run, struct merge_args *a)
{
    ws_diag ignored = { 0 };
    ws_ctx ctx = run->ctx;

    ctx.warnings = NULL;
    ctx.max_memory = ctx.max_disk = UINT64_MAX / 4;
    ws_plan_new(&a->plan, &a->req, &ctx, &ignored);
    if (a->plan && ws_ctx_memory(&run->ctx) < a->plan->cost.memory_floor) {
        // what the process has already counts, and has just grown a little
        ctx.max_memory = a->plan->cost.memory_floor + (1 << 20);
        ws_plan_free(a->plan);
        a->plan = NULL;
        ws_plan_new(&a->plan, &a->req, &ctx, &ignored);
    }
    ws_diag_free(&ignored);
    return a->plan != NULL;
}

static void plan_check(ws_run *run, void *args)
{
    struct plan_args *a = args;

    a->merge.dry = true;
    if (a->trust_manifests && !a->key)
        ws_run_error(run, WS_E_USAGE, "option '--trust-manifests' goes with --key");
    ws_merge_check(run, args);
    if (!a->merge.plan && only_too_large(run) && plan_anyhow(run, &a->merge))
        ws_plan_report(run, &a->merge, NULL);
}

static ws_status plan_run(ws_run *run, void *args)
{
    struct plan_args *a = args;
    char key[48];
    ws_err err = WS_ERR_INIT;

    if (a->key &&
        ws_plan_content_key(a->merge.plan, a->trust_manifests, &run->ctx, key, &err))
        return ws_run_fail(run, &err);
    ws_plan_report(run, &a->merge, a->key ? key : NULL);
    return WS_OK;
}

static const ws_arg plan_params[] = {
    WS_ARG_LIST(struct plan_args, merge.models, "[BASE] MODEL", 0,
                "as for wsurg merge"),
    WS_ARG_END,
};

static const ws_opt plan_opts[] = {
    WS_FLAG(struct plan_args, key, "key", 0,
            "print one digest of the plan and the contents of its inputs, for caches"),
    WS_FLAG(struct plan_args, trust_manifests, "trust-manifests", 0,
            "with --key: take digests recorded in the inputs, where there are some"),
    WS_SET(struct plan_args, merge, ws_opts_merge),
    WS_SET(struct plan_args, merge, ws_opts_part),
    WS_OPT_END,
};

static const ws_example plan_examples[] = {
    { "wsurg plan base tuned other --method ties", "what the merge would do and cost" },
    { "wsurg plan a.st b.st --method breadcrumbs --tensors --json",
      "every tensor, as JSON" },
    { "wsurg plan a.st b.st --method slerp --key", "with a key for caches" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_plan = {
    .name = "plan",
    .group = "Merging",
    .summary = "show what a merge would do and cost, or all that is wrong with it",
    .args = plan_params,
    .opts = plan_opts,
    .examples = plan_examples,
    .notes =
        "Reads headers only, unless --key is given. Exit 4 when the merge would not "
        "fit the limits.",
    .args_size = sizeof(struct plan_args),
    .check = plan_check,
    .run = plan_run,
    .done = ws_merge_done,
};
