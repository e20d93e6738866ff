/*
 * cmd_split.c - a model in more files
 */
#include "edit_run.h"

struct split_args {
    const char *model;
    uint64_t shard_size;
    struct ws_write_args w;
};

static void split_check(ws_run *run, void *args)
{
    const struct split_args *a = args;

    if (a->model)
        ws_edit_check(run, &a->w);
}

static ws_status split_run(ws_run *run, void *args)
{
    const struct split_args *a = args;
    ws_edit_req req = { .kind = WS_EDIT_SPLIT,
                        .model = a->model,
                        .shard_size = a->shard_size };

    return ws_edit_run(run, &req, &a->w);
}

static const ws_arg split_params[] = {
    WS_ARG(struct split_args, model, "MODEL", "safetensors, a file or a directory"),
    WS_ARG_END,
};

static const ws_opt split_opts[] = {
    WS_OPT(struct split_args, shard_size, "shard-size", 0, "SIZE", 5e9, 1.0, 0x1p62,
           "most data in a file, unless one tensor has more"),
    WS_SET(struct split_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example split_examples[] = {
    { "wsurg split base --shard-size 400KB -o shards/", "files and their index" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_split = {
    .name = "split",
    .group = "Checkpoints",
    .summary = "a model in more files",
    .args = split_params,
    .opts = split_opts,
    .examples = split_examples,
    .notes = "Tensors keep their order, and data their bytes; a file within the limit "
             "is kept as it is. To make one file of many: wsurg convert.",
    .args_size = sizeof(struct split_args),
    .check = split_check,
    .run = split_run,
};
