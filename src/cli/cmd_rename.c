/*
 * cmd_rename.c - tensors of a model under other names
 */
#include "edit_run.h"

struct rename_args {
    const char *model;
    ws_strs expressions;
    struct ws_write_args w;
};

static void rename_check(ws_run *run, void *args)
{
    const struct rename_args *a = args;

    if (a->model)
        ws_edit_check(run, &a->w);
}

static ws_status rename_run(ws_run *run, void *args)
{
    const struct rename_args *a = args;
    ws_edit_req req = { .kind = WS_EDIT_RENAME,
                        .model = a->model,
                        .expressions = a->expressions.v,
                        .n = a->expressions.n };

    return ws_edit_run(run, &req, &a->w);
}

static const ws_arg rename_params[] = {
    WS_ARG(struct rename_args, model, "MODEL", "safetensors, a file or a directory"),
    WS_ARG_LIST(struct rename_args, expressions, "s/PATTERN/REPLACEMENT/", 1,
                "substitutions, applied in order"),
    WS_ARG_END,
};

static const ws_opt rename_opts[] = {
    WS_SET(struct rename_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example rename_examples[] = {
    { "wsurg rename base 's/^model\\./transformer./' -o renamed/",
      "a prefix that another tool expects" },
    { "wsurg rename base 's/self_attn/attn/' 's/_proj\\b//' -o renamed/",
      "two steps; files without a hit keep their bytes" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_rename = {
    .name = "rename",
    .group = "Checkpoints",
    .summary = "tensors under other names",
    .args = rename_params,
    .opts = rename_opts,
    .examples = rename_examples,
    .notes =
        "PATTERN is a PCRE2 expression, REPLACEMENT takes \\1 or $1; g after the last "
        "mark replaces every place, i ignores case. An expression that hits nothing, "
        "and names that become equal, are mistakes. Only headers are written anew.",
    .args_size = sizeof(struct rename_args),
    .check = rename_check,
    .run = rename_run,
};
