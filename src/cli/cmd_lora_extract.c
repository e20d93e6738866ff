/*
 * cmd_lora_extract.c - a fine-tune's update as an adapter
 */
#include "extract_run.h"

#include <string.h>

#include "report.h"

static void extract_check(ws_run *run, void *args)
{
    const struct ws_extract_args *a = args;
    ws_extract_check(run, a->energy, a->budget);
    if (a->w.out != NULL && strcmp(a->w.out, "-") == 0)
        ws_run_error(run, WS_E_USAGE, "an adapter is a directory, not a stream");
}

static ws_status extract_run(ws_run *run, void *args)
{
    return ws_extract_command(run, args, true);
}

static const ws_arg extract_params[] = {
    WS_ARG(struct ws_extract_args, base, "BASE", "what was tuned"),
    WS_ARG(struct ws_extract_args, tuned, "TUNED", "what came of it"),
    WS_ARG_END,
};

static const ws_opt extract_opts[] = {
    WS_OPT(struct ws_extract_args, rank, "rank", 0, "N", 128.0, 1.0, 65536.0,
           "of the adapter; cut to a matrix's smaller side"),
    WS_OPT(struct ws_extract_args, energy, "energy", 0, "E", 0.0, 0.0, 1.0,
           "the least rank that keeps this share of the update, per matrix"),
    WS_OPT(struct ws_extract_args, budget, "budget", 0, "N", 0.0, 0.0,
           9007199254740991.0, "numbers in all, where they keep most"),
    WS_TEXT(struct ws_extract_args, targets, "target", 0, "PATTERN",
            "linears to take; default: every matrix of a numbered block"),
    WS_OPT(struct ws_extract_args, seed, "seed", 0, "N", 0.0, 0.0, 9007199254740991.0,
           "of the start vectors"),
    WS_SET(struct ws_extract_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example extract_examples[] = {
    { "wsurg lora extract base/ tuned/ --rank 4 -o lora/",
      "the best rank 4 of what the fine-tune changed" },
    { "wsurg lora extract base/ tuned/ --energy 0.95 -o lora/",
      "per matrix the least rank that keeps 95 % of it" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_lora_extract = {
    .name = "lora extract",
    .group = "Adapters",
    .summary = "what a full fine-tune changed, as a LoRA",
    .args = extract_params,
    .opts = extract_opts,
    .examples = extract_examples,
    .notes = "As `wsurg decompose TUNED --svd --base BASE`, but the output is the "
             "adapter itself. Per matrix the largest singular values of the "
             "difference are kept, and what is left over is known exactly; "
             "embeddings, norms and biases that changed are stored whole. --tensors "
             "lists rank, energy kept and error of every matrix.",
    .args_size = sizeof(struct ws_extract_args),
    .check = extract_check,
    .run = extract_run,
};
