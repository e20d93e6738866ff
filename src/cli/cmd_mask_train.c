/*
 * cmd_mask_train.c - what a fine-tuning shall train, and what of one carries its skill
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/mask.h"
#include "wsurg/text.h"

struct hft_args {
    const char *model, *out;
    int64_t seed, round;
    bool force;
};

struct reset_args {
    const char *base, *model, *plan;
    int64_t seed, round;
    struct ws_model_args out;
};

struct sensitivity_args {
    const char *model, *data, *target, *tokenizer, *companions_from;
    bool lenient;
    int64_t count, batches, batch, seq, seed, rank;
    double share, structure;
    struct ws_write_args w;
};

struct graft_args {
    const char *base, *model, *data, *val, *target, *tokenizer, *companions_from;
    bool lenient;
    double share, bias, lr;
    int64_t epochs, batches, batch, seq, seed;
    struct ws_write_args w;
};

/* ---- hft ---- */

static void hft_check(ws_run *run, void *args)
{
    const struct hft_args *a = args;
    if (a->out == NULL) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "option '--out' is missing");
        ws_err_hint(e, "-o plan.json");
    }
}

static ws_status hft_run(ws_run *run, void *args)
{
    const struct hft_args *a = args;
    const ws_mask_hft_req req = { .model = a->model,
                                  .seed = (uint64_t)a->seed,
                                  .round = (uint64_t)a->round,
                                  .out = a->out,
                                  .force = a->force };
    ws_mask_hft_result r;
    ws_err err = WS_ERR_INIT;
    char share[24], of_all[24];
    run->target = a->out;
    if (ws_mask_hft(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    cJSON *to = ws_run_result(run);
    ws_j_str(to, "output", a->out);
    ws_j_u64(to, "layers", r.layers);
    ws_j_u64(to, "frozen", r.frozen);
    ws_j_u64(to, "tensors", r.matrices);
    ws_j_u64(to, "frozen_numbers", r.numbers);
    ws_j_u64(to, "numbers", r.of);
    ws_j_num(to, "share", (double)r.numbers / (double)r.of);
    ws_j_num(to, "share_of_model", (double)r.numbers / (double)r.parameters);
    ws_run_flush(run);
    ws_show_share((double)r.numbers / (double)r.of, 1, share);
    ws_show_share((double)r.numbers / (double)r.parameters, 1, of_all);
    ws_run_row(run, 9, "frozen",
               "%zu of %zu tensors in %zu layers: %s of their numbers, %s of all",
               r.frozen, r.matrices, r.layers, share, of_all);
    ws_run_row(run, 9, "wrote", "%s   tune: wsurg tune %s --full --freeze-plan %s",
               a->out, a->model, a->out);
    return WS_OK;
}

static const ws_arg hft_params[] = {
    WS_ARG(struct hft_args, model, "MODEL", "the model to be trained"),
    WS_ARG_END,
};

static const ws_opt hft_opts[] = {
    WS_OPT(struct hft_args, seed, "seed", 0, "N", 0, 0, 0x1p53, "of the choice"),
    WS_OPT(struct hft_args, round, "round", 0, "N", 0, 0, 0x1p53,
           "of the fine-tuning: each has a choice of its own"),
    WS_TEXT(struct hft_args, out, "out", 'o', "FILE", "the plan, as JSON"),
    WS_FLAG(struct hft_args, force, "force", 0, "replace what is there"),
    WS_OPT_END,
};

static const ws_example hft_examples[] = {
    { "wsurg mask hft base --seed 1 -o plan.json",
      "which half of the matrices the first round leaves alone" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_hft = {
    .name = "mask hft",
    .group = "Masks",
    .summary = "a plan that freezes half of the matrices (HFT)",
    .args = hft_params,
    .opts = hft_opts,
    .examples = hft_examples,
    .notes = "In each layer 2 of 4 matrices of the attention; of the MLP's 3 two in a "
             "random half of the layers and one in the others. Biases go with their "
             "matrix; embeddings, norms and head are never frozen. `tune --full "
             "--freeze-plan` trains the rest.",
    .args_size = sizeof(struct hft_args),
    .check = hft_check,
    .run = hft_run,
};

/* ---- half-reset ---- */

static void reset_check(ws_run *run, void *args)
{
    const struct reset_args *a = args;
    if (a->out.w.out == NULL) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "option '--out' is missing");
        ws_err_hint(e, "-o reset/");
    }
    if (a->plan != NULL && (a->seed != 0 || a->round != 0))
        ws_run_error(run, WS_E_USAGE, "--freeze-plan has its seed and round already");
    ws_stdout_check(run, &a->out.w);
}

static ws_status reset_run(ws_run *run, void *args)
{
    const struct reset_args *a = args;
    ws_half_reset_req req = WS_HALF_RESET_REQ_INIT;
    ws_mask_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    char share[24];
    req.base = a->base;
    req.model = a->model;
    req.plan = a->plan;
    req.seed = (uint64_t)a->seed;
    req.round = (uint64_t)a->round;
    ws_model_args_fill(&a->out, &req.write);
    run->target = req.write.out;
    if (ws_half_reset(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    run->usage = r->run->usage;
    run->has_usage = true;
    run->unchanged = r->run->unchanged;
    cJSON *to = ws_run_result(run);
    ws_j_u64(to, "reset", r->tensors);
    ws_j_num(to, "share", r->set / (double)r->entries);
    ws_outputs_json(ws_j_arr(to, "outputs"), req.write.out, r->run->outputs,
                    r->run->n_outputs);
    ws_j_str(to, "manifest", r->run->manifest);
    ws_run_flush(run);
    ws_show_share(r->set / (double)r->entries, 1, share);
    ws_run_row(run, 9, "reset", "%zu tensors are the base's: %s of all numbers",
               r->tensors, share);
    ws_wrote_row(run, 9, req.write.out, r->run->outputs, r->run->n_outputs,
                 r->run->manifest);
    ws_mask_result_free(r);
    return WS_OK;
}

static const ws_arg reset_params[] = {
    WS_ARG(struct reset_args, base, "BASE", "the model that was fine-tuned"),
    WS_ARG(struct reset_args, model, "MODEL", "the fine-tune"),
    WS_ARG_END,
};

static const ws_opt reset_opts[] = {
    WS_TEXT(struct reset_args, plan, "freeze-plan", 0, "FILE",
            "by mask hft; default: made of --seed and --round"),
    WS_OPT(struct reset_args, seed, "seed", 0, "N", 0, 0, 0x1p53, "of the choice"),
    WS_OPT(struct reset_args, round, "round", 0, "N", 0, 0, 0x1p53, "of the choice"),
    WS_SET(struct reset_args, out, ws_opts_model),
    WS_OPT_END,
};

static const ws_example reset_examples[] = {
    { "wsurg mask half-reset base tuned --seed 1 -o half/",
      "a fine-tune with half of its matrices set back" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_half_reset = {
    .name = "mask half-reset",
    .group = "Masks",
    .summary = "half of a fine-tune's matrices set back to its base's",
    .args = reset_params,
    .opts = reset_opts,
    .examples = reset_examples,
    .notes = "What mask hft would freeze is the base's, bit for bit; the rest is the "
             "fine-tune's.",
    .args_size = sizeof(struct reset_args),
    .check = reset_check,
    .run = reset_run,
};

/* ---- sensitivity ---- */

static void sensitivity_check(ws_run *run, void *args)
{
    const struct sensitivity_args *a = args;
    if (a->w.out == NULL) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "option '--out' is missing");
        ws_err_hint(e, "-o mask.safetensors");
    }
    if (a->data == NULL)
        ws_run_error(run, WS_E_USAGE, "option '--data' is missing");
    if (a->count > 0 && !isnan(a->share))
        ws_run_error(run, WS_E_USAGE,
                     "--count and --share are two ways to say one thing");
}

static void sensitivity_json(ws_run *run, const char *out,
                             const ws_sensitivity_result *r)
{
    cJSON *to = ws_run_result(run), *list;
    ws_j_u64(to, "tensors", r->mask->tensors);
    ws_j_num(to, "set", r->mask->set);
    ws_j_num(to, "share", r->mask->share);
    ws_j_u64(to, "batches", (uint64_t)r->batches);
    ws_outputs_json(ws_j_arr(to, "outputs"), out, r->mask->run->outputs,
                    r->mask->run->n_outputs);
    ws_j_str(to, "manifest", r->mask->run->manifest);
    list = ws_j_arr(to, "list");
    for (size_t i = 0; i < r->n; i++) {
        const ws_sensitivity_tensor *t = &r->tensors[i];
        if (!run->g.tensors && !t->structured)
            continue;
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "tensor", t->name);
        ws_j_u64(o, "entries", t->entries);
        ws_j_u64(o, "chosen", t->chosen);
        ws_j_num(o, "score", t->score);
        ws_j_bool(o, "structured", t->structured);
    }
}

static void sensitivity_report(ws_run *run, const char *out,
                               const ws_sensitivity_result *r)
{
    char share[24];
    size_t structured = 0;
    run->usage = r->mask->run->usage;
    run->has_usage = true;
    run->unchanged = r->mask->run->unchanged;
    sensitivity_json(run, out, r);
    ws_run_flush(run);
    for (size_t i = 0; i < r->n; i++) {
        const ws_sensitivity_tensor *t = &r->tensors[i];
        structured += t->structured;
        ws_show_share((double)t->chosen / (double)t->entries, 1, share);
        if (run->g.tensors || t->structured)
            ws_run_print(run, "%8s  %-9llu score %-10.4g %s%s\n", share,
                         (unsigned long long)t->chosen, t->score, t->name,
                         t->structured ? "  as a whole" : "");
    }
    ws_show_share(r->mask->share, 1, share);
    ws_run_row(run, 9, "in",
               "%.10g entries (%s) in %zu tensors, %zu of them better "
               "as a whole",
               r->mask->set, share, r->mask->tensors, structured);
    ws_wrote_row(run, 9, out, r->mask->run->outputs, r->mask->run->n_outputs,
                 r->mask->run->manifest);
}

static ws_status sensitivity_run(ws_run *run, void *args)
{
    const struct sensitivity_args *a = args;
    ws_sensitivity_req req = WS_SENSITIVITY_REQ_INIT;
    ws_sensitivity_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    req.model = a->model;
    req.config = a->companions_from;
    req.tokenizer = a->tokenizer;
    req.data = a->data;
    req.target = a->target;
    req.batches = a->batches;
    req.batch = a->batch;
    req.seq = a->seq;
    req.count = (uint64_t)a->count;
    req.share = isnan(a->share) ? 0.01 : a->share;
    req.rank = a->rank;
    req.structure = a->structure;
    req.seed = (uint64_t)a->seed;
    ws_write_args_fill(&a->w, &req.write);
    run->target = req.write.out;
    run->ctx.lenient = a->lenient;
    if (ws_sensitivity(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    sensitivity_report(run, req.write.out, r);
    ws_sensitivity_free(r);
    return WS_OK;
}

static const ws_arg sensitivity_params[] = {
    WS_ARG(struct sensitivity_args, model, "MODEL", "the model to be trained"),
    WS_ARG_END,
};

static const ws_opt sensitivity_opts[] = {
    WS_TEXT(struct sensitivity_args, data, "data", 0, "FILE",
            "text or JSONL of the task"),
    WS_OPT(struct sensitivity_args, count, "count", 0, "K", 0, 0, 0x1p53,
           "entries in the mask; 0: by --share"),
    WS_OPT(struct sensitivity_args, share, "share", 0, "P", NAN, 0, 1,
           "share of all entries looked at (0.01)"),
    WS_TEXT(struct sensitivity_args, target, "target", 0, "PATTERN",
            "tensors looked at; default: all but embeddings and head"),
    WS_OPT(struct sensitivity_args, batches, "batches", 0, "N", 16, 1, 1e9,
           "whose gradients are squared"),
    WS_OPT(struct sensitivity_args, batch, "batch", 0, "N", 32, 1, 65536,
           "rows of each"),
    WS_OPT(struct sensitivity_args, seq, "seq", 0, "N", 0, 0, 1 << 24,
           "most tokens in a row; 0: at most 1024"),
    WS_OPT(struct sensitivity_args, rank, "rank", 0, "R", 8, 1, 65536,
           "of the adapter that a matrix is compared with"),
    WS_OPT(struct sensitivity_args, structure, "structure", 0, "X", 10, 1e-6, 1e9,
           "a matrix wants one from (in + out) R / X entries on"),
    WS_OPT(struct sensitivity_args, seed, "seed", 0, "N", 0, 0, 0x1p53,
           "of the order of the data"),
    WS_TEXT(struct sensitivity_args, tokenizer, "tokenizer", 0, "DIR",
            "source of tokenizer.json; default: the model"),
    WS_TEXT(struct sensitivity_args, companions_from, "companions-from", 0, "DIR",
            "config of a model that is a plain file"),
    WS_FLAG(struct sensitivity_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_SET(struct sensitivity_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example sensitivity_examples[] = {
    { "wsurg mask sensitivity lm --data text.txt --batches 2 --batch 4 --seq 32 -o "
      "s.st",
      "the hundredth of all entries that the text wants changed most" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_sensitivity = {
    .name = "mask sensitivity",
    .group = "Masks",
    .summary = "the entries that a task wants trained (SPT)",
    .args = sensitivity_params,
    .opts = sensitivity_opts,
    .examples = sensitivity_examples,
    .notes = "Scores are squared gradients summed over batches; exactly K of the "
             "highest over all tensors are the mask. Matrices that would be served "
             "better by an adapter, and vectors by training all of them, are listed.",
    .args_size = sizeof(struct sensitivity_args),
    .check = sensitivity_check,
    .run = sensitivity_run,
};

/* ---- graft ---- */

static void graft_check(ws_run *run, void *args)
{
    const struct graft_args *a = args;
    if (a->w.out == NULL) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "option '--out' is missing");
        ws_err_hint(e, "-o mask.safetensors");
    }
    if (a->data == NULL)
        ws_run_error(run, WS_E_USAGE, "option '--data' is missing");
}

static void graft_report(ws_run *run, const char *out, const ws_graft_result *r)
{
    const double gained =
        (r->loss_base - r->loss_best) / (r->loss_base - r->loss_model);
    char share[24], part[24];
    cJSON *to = ws_run_result(run);
    run->usage = r->mask->run->usage;
    run->has_usage = true;
    run->unchanged = r->mask->run->unchanged;
    ws_j_u64(to, "tensors", r->mask->tensors);
    ws_j_num(to, "set", r->mask->set);
    ws_j_num(to, "share", r->mask->share);
    ws_j_num(to, "loss_base", r->loss_base);
    ws_j_num(to, "loss_model", r->loss_model);
    ws_j_num(to, "loss_patch", r->loss_patch);
    ws_j_num(to, "loss_best", r->loss_best);
    ws_j_num(to, "recovered", gained);
    ws_j_u64(to, "best_epoch", (uint64_t)r->best_epoch);
    ws_outputs_json(ws_j_arr(to, "outputs"), out, r->mask->run->outputs,
                    r->mask->run->n_outputs);
    ws_j_str(to, "manifest", r->mask->run->manifest);
    ws_run_flush(run);
    ws_show_share(r->mask->share, 1, share);
    ws_show_share(gained, 1, part);
    ws_run_row(run, 11, "in", "%.10g entries (%s) in %zu tensors", r->mask->set, share,
               r->mask->tensors);
    ws_run_row(run, 11, "loss",
               "base %.4f · fine-tune %.4f · patch %.4f · grafted %.4f (epoch %lld)",
               r->loss_base, r->loss_model, r->loss_patch, r->loss_best,
               (long long)r->best_epoch);
    ws_run_row(run, 11, "recovered", "%s of what the fine-tune gained", part);
    ws_wrote_row(run, 11, out, r->mask->run->outputs, r->mask->run->n_outputs,
                 r->mask->run->manifest);
}

static ws_status graft_run(ws_run *run, void *args)
{
    const struct graft_args *a = args;
    ws_graft_req req = WS_GRAFT_REQ_INIT;
    ws_graft_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    req.base = a->base;
    req.model = a->model;
    req.config = a->companions_from;
    req.tokenizer = a->tokenizer;
    req.data = a->data;
    req.val = a->val;
    req.target = a->target;
    req.share = a->share;
    req.bias = a->bias;
    req.lr = a->lr;
    req.epochs = a->epochs;
    req.batches = a->batches;
    req.batch = a->batch;
    req.seq = a->seq;
    req.seed = (uint64_t)a->seed;
    ws_write_args_fill(&a->w, &req.write);
    run->target = req.write.out;
    run->ctx.lenient = a->lenient;
    if (ws_graft(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    graft_report(run, req.write.out, r);
    ws_graft_result_free(r);
    return WS_OK;
}

static const ws_arg graft_params[] = {
    WS_ARG(struct graft_args, base, "BASE", "the model that was fine-tuned"),
    WS_ARG(struct graft_args, model, "TUNED", "the fine-tune"),
    WS_ARG_END,
};

static const ws_opt graft_opts[] = {
    WS_TEXT(struct graft_args, data, "data", 0, "FILE", "text or JSONL of the task"),
    WS_TEXT(struct graft_args, val, "val", 0, "FILE",
            "to choose the best mask by; default: the data"),
    WS_OPT(struct graft_args, share, "share", 0, "P", 0.01, 0, 1,
           "share of the entries in the patch to start from: those that moved most"),
    WS_OPT(struct graft_args, epochs, "epochs", 0, "N", 10, 0, 1e9,
           "steps; 0: the patch itself"),
    WS_OPT(struct graft_args, batches, "batches", 0, "N", 8, 1, 1e9,
           "whose mean gradient is one step"),
    WS_OPT(struct graft_args, batch, "batch", 0, "N", 16, 1, 65536, "rows of each"),
    WS_OPT(struct graft_args, lr, "lr", 0, "X", 1e7, 0, 1e12, "rate of plain steps"),
    WS_OPT(struct graft_args, bias, "bias", 0, "B", 10, 0, 100,
           "how far from 1/2 the mask starts: sigmoid(S - B)"),
    WS_OPT(struct graft_args, seq, "seq", 0, "N", 0, 0, 1 << 24,
           "most tokens in a row; 0: at most 1024"),
    WS_TEXT(struct graft_args, target, "target", 0, "PATTERN",
            "tensors grafted; default: all but embeddings and head"),
    WS_OPT(struct graft_args, seed, "seed", 0, "N", 0, 0, 0x1p53,
           "of S, and of the order of the data"),
    WS_TEXT(struct graft_args, tokenizer, "tokenizer", 0, "DIR",
            "source of tokenizer.json; default: the base"),
    WS_TEXT(struct graft_args, companions_from, "companions-from", 0, "DIR",
            "config of a base that is a plain file"),
    WS_FLAG(struct graft_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_SET(struct graft_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example graft_examples[] = {
    { "wsurg mask graft lm sums --data text.txt --epochs 2 --batches 1 --seq 32 -o "
      "g.st",
      "the entries that carry what sums can" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_graft = {
    .name = "mask graft",
    .group = "Masks",
    .summary = "the few entries of a fine-tune that carry its skill",
    .args = graft_params,
    .opts = graft_opts,
    .examples = graft_examples,
    .notes =
        "Starts from the entries that moved most and takes plain gradient steps on "
        "a mask of sigmoids; of the rounded masks the best is written, for mask "
        "apply and mask stats.",
    .args_size = sizeof(struct graft_args),
    .check = graft_check,
    .run = graft_run,
};
