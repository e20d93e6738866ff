/*
 * cmd_diff.c - what differs between two models
 */
#include <math.h>
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/compare.h"
#include "wsurg/text.h"
#include "wsurg/source.h"

struct diff_args {
    const char *a, *b;
    double tol;
    bool metadata;
};

enum { WORST = 10 };

static void row_json(cJSON *list, const ws_tensor_diff *t)
{
    cJSON *o = ws_j_obj(list, NULL);
    ws_j_str(o, "tensor", t->name);
    ws_j_str(o, "state", ws_diff_state_word(t->state));
    ws_j_num(o, "changed_share",
             t->elements > 0 ? (double)t->changed / (double)t->elements : NAN);
    ws_j_num(o, "relative_norm", t->relative_norm);
    ws_j_num(o, "cosine", t->cosine);
    ws_j_num(o, "max_abs", t->max_abs);
}

static void diff_json(ws_run *run, const ws_diff *d, const size_t *worst,
                      size_t n_worst)
{
    cJSON *to = ws_run_result(run), *o, *list;
    ws_j_bool(to, "equal", d->equal);
    o = ws_j_obj(to, "tensors");
    ws_j_u64(o, "equal", d->n_equal + d->n_close);
    ws_j_u64(o, "changed", d->n_changed);
    ws_j_u64(o, "only_a", d->n_only_a);
    ws_j_u64(o, "only_b", d->n_only_b);
    ws_j_u64(o, "mismatched", d->n_mismatched);
    if (run->g.tensors) {
        list = ws_j_arr(o, "list");
        for (size_t i = 0; i < d->n; i++)
            row_json(list, &d->tensors[i]);
    }
    ws_j_num(to, "changed_share", d->changed_share);
    ws_j_num(to, "relative_norm", d->relative_norm);
    ws_j_num(to, "cosine", d->cosine);
    ws_j_num(to, "max_abs", d->max_abs);
    list = ws_j_arr(to, "worst");
    for (size_t i = 0; i < n_worst; i++)
        row_json(list, &d->tensors[worst[i]]);
}

static void row_print(ws_run *run, const ws_tensor_diff *t)
{
    char name[200];
    ws_show(t->name, name, sizeof name);
    ws_run_print(run, "%-8s", ws_diff_state_word(t->state));
    if (isfinite(t->max_abs))
        ws_run_print(run, " %5.1f %%  rel %.3g  cos %.6f  max %.3g",
                     t->elements > 0 ? 100.0 * (double)t->changed / (double)t->elements
                                     : 0.0,
                     t->relative_norm, t->cosine, t->max_abs);
    ws_run_print(run, "  %s\n", name);
}

static void diff_print(ws_run *run, const ws_diff *d, const size_t *worst,
                       size_t n_worst)
{
    for (size_t i = 0; run->g.tensors && i < d->n; i++)
        row_print(run, &d->tensors[i]);
    for (size_t i = 0; !run->g.tensors && i < n_worst; i++)
        row_print(run, &d->tensors[worst[i]]);
    const size_t differing = d->n - d->n_equal - d->n_close;
    if (!run->g.tensors && differing > n_worst)
        ws_run_print(run, "...      %zu more (--tensors shows all)\n",
                     differing - n_worst);
    ws_run_print(run,
                 "%s    %zu tensors: %zu equal, %zu changed, %zu only in a, %zu only "
                 "in b, %zu mismatched\n",
                 d->equal ? "equal" : "not equal", d->n, d->n_equal + d->n_close,
                 d->n_changed, d->n_only_a, d->n_only_b, d->n_mismatched);
    if (!d->equal && isfinite(d->relative_norm))
        ws_run_print(run,
                     "overall  %.1f %% of elements changed, relative norm %.4g, cosine "
                     "%.6f, largest difference %.4g\n",
                     100.0 * d->changed_share, d->relative_norm, d->cosine, d->max_abs);
}

/** Keys of @p a whose values differ in b (@p changed), or that b lacks. */
static void keys_json(cJSON *list, const ws_ckpt *a, const ws_ckpt *b, bool changed)
{
    for (size_t i = 0; i < ws_ckpt_meta_count(a); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(a, i, &key, &value);
        const char *other = ws_ckpt_meta(b, key);
        if (changed ? other && strcmp(other, value) != 0 : !other)
            ws_j_str(list, NULL, key);
    }
}

static void metadata_json(ws_run *run, const ws_ckpt *a, const ws_ckpt *b, bool wanted)
{
    cJSON *to = ws_run_result(run);
    if (!wanted) {
        ws_j_null(to, "metadata");
        return;
    }
    to = ws_j_obj(to, "metadata");
    keys_json(ws_j_arr(to, "changed"), a, b, true);
    keys_json(ws_j_arr(to, "only_a"), a, b, false);
    keys_json(ws_j_arr(to, "only_b"), b, a, false);
}

/** Keys whose values differ, or that one lacks; data only, never part of the answer. */
static void metadata_print(ws_run *run, const ws_ckpt *a, const ws_ckpt *b, char side)
{
    for (size_t i = 0; i < ws_ckpt_meta_count(a); i++) {
        const char *key, *value;
        char shown[160];
        ws_ckpt_meta_at(a, i, &key, &value);
        const char *other = ws_ckpt_meta(b, key);
        if (other != NULL && strcmp(other, value) == 0)
            continue;
        ws_show(value, shown, sizeof shown);
        ws_run_print(run, "metadata %c %s = %s\n", side, key, shown);
    }
}

static ws_status diff_run(ws_run *run, void *args)
{
    struct diff_args *a = args;
    const ws_diff_opts o = { .tolerance = a->tol };
    ws_ckpt *ca = NULL, *cb = NULL;
    ws_diff *d = NULL;
    ws_err err = WS_ERR_INIT;
    size_t worst[WORST];
    ws_stdin from_stdin = { 0 };

    ws_status st = ws_stdin_take(run, &from_stdin, &a->a, 1, NULL);
    if (!st)
        st = ws_stdin_take(run, &from_stdin, &a->b, 1, NULL);
    if (st) {
        ws_stdin_close(&from_stdin);
        return st;
    }
    st = ws_source_open(&ca, a->a, WS_FOLD_BASE, &run->ctx, &err);
    if (!st)
        st = ws_source_open(&cb, a->b, WS_FOLD_BASE, &run->ctx, &err);
    if (!st)
        st = ws_diff_new(&d, ca, cb, &o, &run->ctx, &err);
    if (st) {
        ws_run_fail(run, &err);
    } else {
        const size_t n = ws_diff_worst(d, worst, WORST);
        diff_json(run, d, worst, n);
        diff_print(run, d, worst, n);
        metadata_json(run, ca, cb, a->metadata);
        if (a->metadata) {
            metadata_print(run, ca, cb, 'a');
            metadata_print(run, cb, ca, 'b');
        }
        run->no = !d->equal;
    }
    ws_diff_free(d);
    ws_ckpt_free(ca);
    ws_ckpt_free(cb);
    ws_stdin_close(&from_stdin);
    return st;
}

static const ws_arg diff_params[] = {
    WS_ARG(struct diff_args, a, "A", "a model"),
    WS_ARG(struct diff_args, b, "B", "the model compared with it"),
    WS_ARG_END,
};

static const ws_opt diff_opts[] = {
    WS_OPT(struct diff_args, tol, "tol", 't', "X", 0.0, 0.0, 1e30,
           "values that differ by no more count as equal"),
    WS_FLAG(struct diff_args, metadata, "metadata", 0,
            "show metadata that differ; they do not count"),
    WS_OPT_END,
};

static const ws_example diff_examples[] = {
    { "wsurg diff a.st a.st", "exit 0: same names, dtypes, shapes and bytes" },
    { "wsurg diff base tuned --tensors || test $? = 1",
      "exit 1: they differ; every tensor is listed" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_diff = {
    .name = "diff",
    .group = "Looking",
    .summary = "what differs between two models",
    .args = diff_params,
    .opts = diff_opts,
    .examples = diff_examples,
    .notes = "Per tensor: share of elements that differ, norm of the difference over "
             "that of A, cosine, largest difference. The ten that differ most are "
             "listed; --tensors lists all. Exit 1 when the models differ.",
    .args_size = sizeof(struct diff_args),
    .run = diff_run,
};
