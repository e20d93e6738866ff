/*
 * cmd_lora.c - adapters folded into weights, and folds verified
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/lora.h"
#include "wsurg/text.h"

struct fold_args {
    const char *base;
    ws_strs adapters;
    double scale;
    const char *max_lost;
    double most; // of the above; NAN: no limit
    bool residual;
    struct ws_model_args model;
};

struct verify_args {
    const char *base;
    ws_strs rest; // adapters, then the model
    double scale, ulps;
    bool residual;
};

/* ---- fold ---- */

/** "1%" or "0.01". */
static bool share_parse(const char *text, double *out)
{
    char number[32];
    const size_t n = strlen(text);
    const bool percent = n > 0 && text[n - 1] == '%';
    if (n - percent == 0 || n - percent >= sizeof number)
        return false;
    memcpy(number, text, n - percent);
    number[n - percent] = '\0';
    if (!ws_parse_real(number, out) || !(*out >= 0))
        return false;
    if (percent)
        *out /= 100;
    return true;
}

static void fold_check(ws_run *run, void *args)
{
    struct fold_args *a = args;
    ws_stdout_check(run, &a->model.w);
    a->most = NAN;
    if (a->max_lost && !share_parse(a->max_lost, &a->most)) {
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 "option '--max-lost-delta' is '%s', wanted a share",
                                 a->max_lost);
        ws_err_hint(e, "--max-lost-delta 1%%");
    }
}

static double lost_of(const void *folded, size_t i)
{
    return ((const ws_lora_folded *)folded)->tensors[i].lost;
}

static void tensor_json(cJSON *list, const ws_lora_tensor *t)
{
    cJSON *o = ws_j_obj(list, NULL);
    ws_j_str(o, "tensor", t->name);
    ws_j_num(o, "update", t->update);
    ws_j_num(o, "lost", t->lost);
}

static void fold_json(ws_run *run, const ws_lora_folded *f, const char *out)
{
    cJSON *to = ws_run_result(run), *list, *o;
    size_t index[WS_WORST];
    list = ws_j_arr(to, "outputs");
    if (f->run)
        ws_outputs_json(list, out, f->run->outputs, f->run->n_outputs);
    list = ws_j_arr(to, "adapters");
    for (size_t k = 0; k < f->n_adapters; k++) {
        o = ws_j_obj(list, NULL);
        ws_j_str(o, "path", f->adapters[k].path);
        ws_j_u64(o, "rank", (uint64_t)f->adapters[k].rank);
        ws_j_num(o, "scale", f->adapters[k].scale);
        ws_j_u64(o, "tensors", f->adapters[k].tensors);
        ws_j_u64(o, "used", f->adapters[k].used);
    }
    o = ws_j_obj(to, "tensors");
    ws_j_u64(o, "folded", f->folded);
    ws_j_u64(o, "replaced", f->replaced);
    ws_j_u64(o, "copied", f->copied);
    if (run->g.tensors) {
        list = ws_j_arr(o, "list");
        for (size_t i = 0; i < f->n_tensors; i++)
            tensor_json(list, &f->tensors[i]);
    }
    ws_j_num(to, "rounding_lost", f->lost);
    ws_j_str(to, "tokenizer_from", f->tokenizer_from);
    list = ws_j_arr(to, "worst");
    const size_t n = ws_worst_find(f->n_tensors, lost_of, f, index);
    for (size_t i = 0; i < n; i++)
        tensor_json(list, &f->tensors[index[i]]);
    ws_j_str(to, "manifest", f->run ? f->run->manifest : NULL);
}

/** With --tensors: the rounding report of every folded tensor. */
static void tensors_talk(ws_run *run, const ws_lora_folded *f)
{
    for (size_t i = 0; run->g.tensors && i < f->n_tensors; i++) {
        const ws_lora_tensor *t = &f->tensors[i];
        char share[24];
        ws_show_share(t->lost, 2, share);
        if (isfinite(t->update))
            ws_run_row(run, 9, "", "%s  update %.4g · lost to rounding %s", t->name,
                       t->update, share);
        else
            ws_run_row(run, 9, "", "%s  %s", t->name,
                       t->folded ? "folded" : "replaced");
    }
}

static void fold_talk(ws_run *run, const ws_lora_folded *f)
{
    char share[24], scale[32];
    tensors_talk(run, f);
    for (size_t k = 0; k < f->n_adapters; k++) {
        const ws_lora_adapter *a = &f->adapters[k];
        ws_show_num(a->scale, scale);
        if (a->rank == 0)
            ws_run_row(run, 9, "adapter", "%s  %zu tensors", a->path, a->tensors);
        else
            ws_run_row(run, 9, "adapter", "%s  rank %lld · scale %s · %zu tensors",
                       a->path, (long long)a->rank,
                       isfinite(a->scale) ? scale : "by module", a->tensors);
    }
    ws_show_share(f->lost, 1, share);
    ws_run_row(run, 9, "tensors", "%zu folded, %zu replaced, %zu copied%s%s", f->folded,
               f->replaced, f->copied,
               isfinite(f->lost) ? " · rounding loses this much of the update: " : "",
               isfinite(f->lost) ? share : "");
    if (f->untied)
        ws_run_note(run, "head and embedding were tied: they are two tensors now");
}

static ws_status fold_run(ws_run *run, void *args)
{
    const struct fold_args *a = args;
    ws_lora_fold_req req = WS_LORA_FOLD_REQ_INIT;
    ws_lora_folded *f = NULL;
    ws_err err = WS_ERR_INIT;
    req.base = a->base;
    req.adapters = a->adapters.v;
    req.n = a->adapters.n;
    req.scale = a->scale;
    req.residual = a->residual;
    req.max_lost = a->most;
    ws_model_args_fill(&a->model, &req.write);
    if (!req.write.out)
        req.write.out = ws_default_out(&run->arena, "folded", a->base);
    run->target = req.write.out;
    if (ws_lora_fold(&f, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    fold_json(run, f, req.write.out);
    if (!f->within) {
        size_t index[WS_WORST];
        char share[24] = "?";
        run->no = true;
        if (ws_worst_find(f->n_tensors, lost_of, f, index) > 0) {
            ws_show_share(f->tensors[index[0]].lost, 1, share);
            ws_run_talk(run,
                        "'%s' would lose %s of its update to rounding: nothing "
                        "was written",
                        f->tensors[index[0]].name, share);
        }
        ws_lora_folded_free(f);
        return WS_OK;
    }
    run->usage = f->run->usage;
    run->has_usage = true;
    run->unchanged = f->run->unchanged;
    if (f->run->unchanged) {
        ws_run_flush(run);
        ws_run_talk(run, "%s is this result already: nothing was written",
                    req.write.out);
    } else {
        fold_talk(run, f);
        ws_run_flush(run);
        ws_wrote_row(run, 9, req.write.out, f->run->outputs, f->run->n_outputs,
                     f->run->manifest);
    }
    ws_lora_folded_free(f);
    return WS_OK;
}

static const ws_arg fold_params[] = {
    WS_ARG(struct fold_args, base, "BASE", "the model that the adapters were made for"),
    WS_ARG_LIST(struct fold_args, adapters, "ADAPTER", 1,
                "PEFT adapter directories; their updates are added"),
    WS_ARG_END,
};

static const ws_opt fold_opts[] = {
    WS_OPT(struct fold_args, scale, "scale", 0, "S", 1.0, -1e6, 1e6,
           "factor of all updates; -1 takes an adapter away"),
    WS_TEXT(struct fold_args, max_lost, "max-lost-delta", 0, "P",
            "write nothing, exit 1, when a tensor would lose a larger share of its "
            "update to rounding"),
    WS_FLAG(struct fold_args, residual, "residual", 0,
            "BASE is the residual that the adapters were trained on (PiSSA, OLoRA, "
            "CorDA)"),
    WS_SET(struct fold_args, model, ws_opts_model),
    WS_OPT_END,
};

static const ws_example fold_examples[] = {
    { "wsurg lora fold base/ math/ -o one/", "a model without adapter" },
    { "wsurg lora fold base/ math/ code/ --scale 0.5 -o both/",
      "half of the sum of two updates" },
    { "wsurg lora fold base/ math/ --dtype bf16 --max-lost-delta 5% -o half/",
      "only if no tensor loses more than 5 % of its update to bfloat16" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_lora_fold = {
    .name = "lora fold",
    .group = "Adapters",
    .summary = "fold LoRA adapters into their base",
    .args = fold_params,
    .opts = fold_opts,
    .examples = fold_examples,
    .notes = "Sums are made in double and rounded once. All of PEFT's LoRA is folded: "
             "alpha/r and rsLoRA, rank and alpha patterns, DoRA, embeddings, Conv1D, "
             "biases, modules_to_save, trained token rows. A field of "
             "adapter_config.json that could change numbers and is not known is "
             "refused by name, and so is a tensor without a use. Where only one side "
             "of a tied head and embedding is adapted, both are written.",
    .args_size = sizeof(struct fold_args),
    .check = fold_check,
    .run = fold_run,
};

/* ---- verify ---- */

static void verify_json(ws_run *run, const ws_lora_verified *v, bool is_fold)
{
    cJSON *to = ws_run_result(run), *list, *o;
    ws_j_bool(to, "is_fold", is_fold);
    ws_j_num(to, "ulps", v->ulps);
    ws_j_str(to, "mismatched", v->problem);
    o = ws_j_obj(to, "tensors");
    ws_j_u64(o, "compared", v->tensors);
    ws_j_u64(o, "exact", v->exact);
    list = ws_j_arr(to, "worst");
    for (size_t i = 0; i < v->n_worst; i++) {
        o = ws_j_obj(list, NULL);
        ws_j_str(o, "tensor", v->worst[i].name);
        ws_j_num(o, "ulps", v->worst[i].ulps);
    }
}

static ws_status verify_run(ws_run *run, void *args)
{
    const struct verify_args *a = args;
    ws_lora_verified *v = NULL;
    ws_err err = WS_ERR_INIT;
    char name[200];
    const size_t n = a->rest.n - 1;
    if (ws_lora_verify(&v, a->base, a->rest.v, n, a->scale, a->residual, a->rest.v[n],
                       &run->ctx, &err))
        return ws_run_fail(run, &err);
    const bool is_fold = v->same_names && v->ulps <= a->ulps;
    verify_json(run, v, is_fold);
    if (v->problem) {
        ws_show(v->problem, name, sizeof name);
        ws_run_print(run, "not that fold: '%s' is not in both, or not of one shape\n",
                     name);
    }
    for (size_t i = 0; i < v->n_worst; i++) {
        ws_show(v->worst[i].name, name, sizeof name);
        ws_run_print(run, "%12.6g ulps  %s\n", v->worst[i].ulps, name);
    }
    ws_run_print(
        run, "%s: %zu of %zu tensors equal bit for bit, largest error %g ulps\n",
        is_fold ? "that fold" : "not that fold", v->exact, v->tensors, v->ulps);
    run->no = !is_fold;
    ws_lora_verified_free(v);
    return WS_OK;
}

static const ws_arg verify_params[] = {
    WS_ARG(struct verify_args, base, "BASE", "the model before"),
    WS_ARG_LIST(struct verify_args, rest, "ADAPTER... MERGED", 2,
                "adapters, and last the model that should be their fold"),
    WS_ARG_END,
};

static const ws_opt verify_opts[] = {
    WS_OPT(struct verify_args, scale, "scale", 0, "S", 1.0, -1e6, 1e6,
           "factor of all updates"),
    WS_OPT(struct verify_args, ulps, "ulps", 0, "N", 0.0, 0.0, 1e18,
           "largest error that passes, in units of the last place"),
    WS_FLAG(struct verify_args, residual, "residual", 0,
            "BASE is the residual that the adapters were trained on"),
    WS_OPT_END,
};

static const ws_example verify_examples[] = {
    { "wsurg lora verify base/ math/ folded/",
      "is folded/ exactly that fold? exit 1 if not" },
    { "wsurg lora verify base/ math/ folded/ --ulps 2",
      "as other tools fold, which round two or three times" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_lora_verify = {
    .name = "lora verify",
    .group = "Adapters",
    .summary = "check that a model is the fold of adapters onto a base",
    .args = verify_params,
    .opts = verify_opts,
    .examples = verify_examples,
    .notes = "The fold is made again and compared value by value in the dtypes of "
             "MERGED. The ten tensors with the largest errors are listed.",
    .args_size = sizeof(struct verify_args),
    .run = verify_run,
};
