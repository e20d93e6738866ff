/*
 * cmd_meta.c - metadata of a model: shown, set, taken away
 */
#include <string.h>

#include "edit_run.h"
#include "report.h"
#include "wsurg/source.h"
#include "wsurg/text.h"

struct meta_args {
    const char *model, *key;
    ws_strs items; /* KEY=VALUE, or KEY */
    struct ws_write_args w;
};

/* ---- get ---- */

static void get_print(ws_run *run, const ws_ckpt *c, const char *only)
{
    cJSON *to = ws_j_obj(ws_run_result(run), "metadata");

    for (size_t i = 0; i < ws_ckpt_meta_count(c); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(c, i, &key, &value);
        if (only && strcmp(only, key) != 0)
            continue;
        ws_j_str(to, key, value);
        if (!only) {
            ws_run_put(run, key, strlen(key));
            ws_run_print(run, "=");
        }
        ws_run_put(run, value, strlen(value));
        ws_run_print(run, "\n");
    }
    run->no = only && !ws_ckpt_meta(c, only);
}

static ws_status get_run(ws_run *run, void *args)
{
    const struct meta_args *a = args;
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;

    const ws_status st = ws_source_open(&c, a->model, WS_FOLD_BASE, &run->ctx, &err);
    if (st)
        ws_run_fail(run, &err);
    else
        get_print(run, c, a->key);
    ws_ckpt_free(c);
    return st;
}

static const ws_arg get_params[] = {
    WS_ARG(struct meta_args, model, "MODEL", "a model of any format that is read"),
    WS_ARG_MAY(struct meta_args, key, "KEY", "this one's value alone"),
    WS_ARG_END,
};

static const ws_example get_examples[] = {
    { "wsurg meta get a.st", "all of them, KEY=VALUE" },
    { "wsurg meta set a.st by=me -o by.st && wsurg meta get by.st by",
      "one value; exit 1 when there is no such key" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_meta_get = {
    .name = "meta get",
    .group = "Looking",
    .summary = "metadata of a model",
    .args = get_params,
    .examples = get_examples,
    .args_size = sizeof(struct meta_args),
    .run = get_run,
};

/* ---- set and rm ---- */

static void edit_check(ws_run *run, void *args)
{
    const struct meta_args *a = args;

    if (a->model)
        ws_edit_check(run, &a->w);
}

static ws_status set_run(ws_run *run, void *args)
{
    const struct meta_args *a = args;
    ws_edit_req req = {
        .kind = WS_EDIT_META, .model = a->model, .set = a->items.v, .n_set = a->items.n
    };

    return ws_edit_run(run, &req, &a->w);
}

static ws_status rm_run(ws_run *run, void *args)
{
    const struct meta_args *a = args;
    ws_edit_req req = {
        .kind = WS_EDIT_META, .model = a->model, .rm = a->items.v, .n_rm = a->items.n
    };

    return ws_edit_run(run, &req, &a->w);
}

static const ws_opt edit_opts[] = {
    WS_SET(struct meta_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_arg set_params[] = {
    WS_ARG(struct meta_args, model, "MODEL", "safetensors, a file or a directory"),
    WS_ARG_LIST(struct meta_args, items, "KEY=VALUE", 1, "what the output shall say"),
    WS_ARG_END,
};

static const ws_example set_examples[] = {
    { "wsurg meta set a.st license=apache-2.0 -o licensed.st",
      "data are copied, not read" },
    { "wsurg meta set base title='tiny model' -o titled/",
      "of a directory with shards: in the index" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_meta_set = {
    .name = "meta set",
    .group = "Checkpoints",
    .summary = "metadata of a model, set",
    .args = set_params,
    .opts = edit_opts,
    .examples = set_examples,
    .notes = "Keys that begin with wsurg. are for what has run, and are not set.",
    .args_size = sizeof(struct meta_args),
    .check = edit_check,
    .run = set_run,
};

static const ws_arg rm_params[] = {
    WS_ARG(struct meta_args, model, "MODEL", "safetensors, a file or a directory"),
    WS_ARG_LIST(struct meta_args, items, "KEY", 1, "what shall go; it must be there"),
    WS_ARG_END,
};

static const ws_example rm_examples[] = {
    { "wsurg meta set a.st note=draft -o draft.st && "
      "wsurg meta rm draft.st note -o final.st",
      "away again" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_meta_rm = {
    .name = "meta rm",
    .group = "Checkpoints",
    .summary = "metadata of a model, taken away",
    .args = rm_params,
    .opts = edit_opts,
    .examples = rm_examples,
    .args_size = sizeof(struct meta_args),
    .check = edit_check,
    .run = rm_run,
};
