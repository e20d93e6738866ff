/*
 * cmd_inspect.c - what a checkpoint holds
 */
#include <math.h>
#include <stdio.h>

#include "inspect_adapter.h"
#include "model_args.h"
#include "report.h"
#include "wsurg/compare.h"
#include "wsurg/source.h"
#include "wsurg/text.h"

struct inspect_args {
    const char *model;
    bool stats, residual;
    const char *base; // of --intruders
    int64_t top;
    double below;
};

static const char *kind_word(const ws_ckpt *c)
{
    static const char *const words[] = { "model", "task vector", "covariance", "mask",
                                         "adapter" };
    return words[ws_ckpt_kind_of(c)];
}

static void shape_text(const ws_tensor *t, char *out, size_t size)
{
    int n = snprintf(out, size, "[");
    for (int i = 0; i < t->rank && (size_t)n < size; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%llu", i ? "," : "",
                      (unsigned long long)t->shape[i]);
    if ((size_t)n < size)
        snprintf(out + n, size - (size_t)n, "]");
}

static void tensor_json(cJSON *list, const ws_tensor *t, const ws_tensor_stats *s)
{
    cJSON *o = ws_j_obj(list, NULL), *shape;
    ws_j_str(o, "name", t->name);
    ws_j_str(o, "dtype", ws_dtype_info(t->dtype)->name);
    shape = ws_j_arr(o, "shape");
    for (int i = 0; i < t->rank; i++)
        ws_j_u64(shape, NULL, t->shape[i]);
    ws_j_u64(o, "bytes", t->n_bytes);
    if (s == NULL)
        return;
    ws_j_num(o, "min", s->min);
    ws_j_num(o, "max", s->max);
    ws_j_num(o, "mean", s->mean);
    ws_j_num(o, "std", s->std);
    ws_j_num(o, "norm", s->norm);
    ws_j_u64(o, "zeros", s->zeros);
    ws_j_u64(o, "nans", s->nans);
    ws_j_u64(o, "infinities", s->infinities);
    ws_j_u64(o, "not_bool", s->not_bool);
}

/** Elements and bytes of all tensors of one dtype. */
struct total {
    uint64_t tensors, elements, bytes;
};

static void totals_of(const ws_ckpt *c, struct total by[WS_DT_COUNT], struct total *all)
{
    for (size_t i = 0; i < ws_ckpt_count(c); i++) {
        const ws_tensor *t = ws_ckpt_tensor(c, i);
        struct total *to[] = { &by[t->dtype], all };
        for (int k = 0; k < 2; k++) {
            to[k]->tensors++;
            to[k]->elements += t->n_elements;
            to[k]->bytes += t->n_bytes;
        }
    }
}

static void inspect_json(ws_run *run, const char *path, const ws_ckpt *c,
                         const ws_stats *s)
{
    struct total by[WS_DT_COUNT] = { { 0 } }, all = { 0 };
    cJSON *to = ws_run_result(run), *list, *o;
    totals_of(c, by, &all);
    ws_j_str(to, "path", path);
    ws_j_str(to, "format", ws_ckpt_format(c));
    ws_j_str(to, "kind", kind_word(c));
    list = ws_j_arr(to, "files");
    for (size_t i = 0; i < ws_ckpt_file_count(c); i++) {
        o = ws_j_obj(list, NULL);
        ws_j_str(o, "path", ws_ckpt_file_at(c, i)->name);
        ws_j_u64(o, "bytes", ws_ckpt_file_at(c, i)->bytes);
    }
    o = ws_j_obj(to, "metadata");
    for (size_t i = 0; i < ws_ckpt_meta_count(c); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(c, i, &key, &value);
        ws_j_str(o, key, value);
    }
    ws_j_u64(to, "elements", all.elements);
    ws_j_u64(to, "bytes", all.bytes);
    list = ws_j_arr(to, "dtypes");
    for (int d = 0; d < WS_DT_COUNT; d++) {
        if (by[d].tensors == 0)
            continue;
        o = ws_j_obj(list, NULL);
        ws_j_str(o, "dtype", ws_dtype_info((ws_dtype)d)->name);
        ws_j_u64(o, "tensors", by[d].tensors);
        ws_j_u64(o, "elements", by[d].elements);
    }
    o = ws_j_obj(to, "tensors");
    ws_j_u64(o, "count", ws_ckpt_count(c));
    if (!run->g.tensors && s == NULL)
        return;
    list = ws_j_arr(o, "list");
    for (size_t i = 0; i < ws_ckpt_count(c); i++)
        tensor_json(list, ws_ckpt_tensor(c, i), s ? &s->tensors[i] : NULL);
}

static void tensor_print(ws_run *run, const ws_tensor *t, const ws_tensor_stats *s)
{
    char name[200], shape[160];
    ws_show(t->name, name, sizeof name);
    shape_text(t, shape, sizeof shape);
    ws_run_print(run, "%-8s %-16s %s", ws_dtype_info(t->dtype)->name, shape, name);
    if (s && s->numeric && isfinite(s->norm))
        ws_run_print(run, "  min %.4g  max %.4g  mean %.4g  std %.4g  norm %.4g",
                     s->min, s->max, s->mean, s->std, s->norm);
    if (s && s->nans + s->infinities > 0)
        ws_run_print(run, "  NaN %llu  inf %llu", (unsigned long long)s->nans,
                     (unsigned long long)s->infinities);
    if (s && s->not_bool > 0)
        ws_run_print(run, "  neither 0 nor 1: %llu", (unsigned long long)s->not_bool);
    ws_run_print(run, "\n");
}

static void inspect_print(ws_run *run, const char *path, const ws_ckpt *c,
                          const ws_stats *s)
{
    struct total by[WS_DT_COUNT] = { { 0 } }, all = { 0 };
    char size[24], shown[200];
    totals_of(c, by, &all);
    ws_show_bytes(all.bytes, size);
    ws_show(path, shown, sizeof shown);
    ws_run_print(run, "%s: %s, %s, %zu file%s\n", shown, kind_word(c),
                 ws_ckpt_format(c), ws_ckpt_file_count(c),
                 ws_ckpt_file_count(c) == 1 ? "" : "s");
    ws_run_print(run, "tensors  %zu, %llu elements, %s\n", ws_ckpt_count(c),
                 (unsigned long long)all.elements, size);
    for (int d = 0; d < WS_DT_COUNT; d++)
        if (by[d].tensors > 0)
            ws_run_print(run, "%-8s %llu tensors, %llu elements\n",
                         ws_dtype_info((ws_dtype)d)->name,
                         (unsigned long long)by[d].tensors,
                         (unsigned long long)by[d].elements);
    for (size_t i = 0; i < ws_ckpt_meta_count(c); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(c, i, &key, &value);
        ws_show(value, shown, sizeof shown);
        ws_run_print(run, "metadata %s = %s\n", key, shown);
    }
    for (size_t i = 0; (run->g.tensors || s) && i < ws_ckpt_count(c); i++)
        tensor_print(run, ws_ckpt_tensor(c, i), s ? &s->tensors[i] : NULL);
}

static ws_lora_look_req look_req(const struct inspect_args *a)
{
    return (ws_lora_look_req){ .adapter = a->model,
                               .base = a->base,
                               .residual = a->residual,
                               .intruders = { a->top, a->below } };
}

/** What else is known of an adapter; *look stays NULL for anything else. */
static ws_status adapter_look(ws_run *run, const struct inspect_args *a,
                              const ws_ckpt *c, ws_lora_look **look, ws_err *err)
{
    const ws_lora_look_req req = look_req(a);
    if (ws_ckpt_kind_of(c) == WS_KIND_ADAPTER && ws_path_is_dir(a->model))
        return ws_lora_look_at(look, &req, &run->ctx, err);
    if (a->base == NULL)
        return WS_OK;
    ws_fail(err, WS_E_USAGE, "--intruders is of adapters: '%s' is a %s", a->model,
            kind_word(c));
    return WS_E_USAGE;
}

static ws_status inspect_run(ws_run *run, void *args)
{
    struct inspect_args *a = args;
    ws_ckpt *c = NULL;
    ws_stats *s = NULL;
    ws_lora_look *look = NULL;
    ws_err err = WS_ERR_INIT;
    ws_stdin from_stdin = { 0 };

    ws_status st = ws_stdin_take(run, &from_stdin, &a->model, 1, NULL);
    if (st) {
        ws_stdin_close(&from_stdin);
        return st;
    }
    st = ws_source_open(&c, a->model, WS_FOLD_BASE, &run->ctx, &err);
    if (!st && a->stats)
        st = ws_stats_new(&s, c, &run->ctx, &err);
    if (!st)
        st = adapter_look(run, a, c, &look, &err);
    if (st) {
        ws_run_fail(run, &err);
    } else {
        const char *path = ws_spool_shown(a->model);
        const ws_lora_look_req req = look_req(a);
        inspect_json(run, path, c, s);
        ws_inspect_adapter_json(run, look, &req);
        inspect_print(run, path, c, s);
        if (look)
            ws_inspect_adapter_print(run, look, &req);
    }
    ws_lora_look_free(look);
    ws_stats_free(s);
    ws_ckpt_free(c);
    ws_stdin_close(&from_stdin);
    return st;
}

static const ws_arg inspect_params[] = {
    WS_ARG(struct inspect_args, model, "MODEL", "a checkpoint of any kind"),
    WS_ARG_END,
};

static const ws_opt inspect_opts[] = {
    WS_FLAG(struct inspect_args, stats, "stats", 's',
            "read the weights: least, largest, mean, deviation, norm of each tensor"),
    WS_TEXT(struct inspect_args, base, "intruders", 0, "BASE",
            "of an adapter: directions of the tuned matrices that BASE's lack"),
    WS_OPT(struct inspect_args, top, "top", 0, "N", 10.0, 1.0, 65536.0,
           "how many leading directions of a matrix are examined"),
    WS_OPT(struct inspect_args, below, "below", 0, "C", 0.5, 0.0, 1.0,
           "an intruder has a smaller cosine with every direction of the base"),
    WS_FLAG(struct inspect_args, residual, "residual", 0,
            "BASE is the residual that the adapter was trained on"),
    WS_OPT_END,
};

static const ws_example inspect_examples[] = {
    { "wsurg inspect base", "format, files, dtypes, metadata; headers only" },
    { "wsurg inspect a.st --stats", "every tensor with its figures" },
    { "wsurg inspect math/ --intruders base/",
      "an adapter's targets, ranks, scales, norms; directions that base/ lacks" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_inspect = {
    .name = "inspect",
    .group = "Looking",
    .summary = "what a checkpoint holds",
    .args = inspect_params,
    .opts = inspect_opts,
    .examples = inspect_examples,
    .notes =
        "--tensors lists every tensor, and every module of an adapter. Figures are "
        "those of finite values. Intruder dimensions: left singular vectors of the "
        "tuned matrix, among its first, that are unlike all of the base's; wsurg "
        "lora soften scales them down.",
    .args_size = sizeof(struct inspect_args),
    .run = inspect_run,
};
