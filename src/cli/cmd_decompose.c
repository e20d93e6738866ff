/*
 * cmd_decompose.c - a model into an adapter and a residual: CorDA, PiSSA; a fine-tune's
 * update into an adapter
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "extract_run.h"
#include "model_args.h"
#include "report.h"
#include "wsurg/decompose.h"
#include "wsurg/text.h"

enum { WORST = 10 };

struct decompose_args {
    const char *model;
    bool corda, pissa, svd;
    const char *cov, *base;
    ws_strs data;
    int64_t samples, seq;
    ws_word sampling;
    double energy;
    int64_t budget;
    ws_word mode, solver, normalise;
    int64_t rank, seed;
    double damp;
    ws_strs targets;
    bool keep_base;
    const char *companions_from;
    bool lenient;
    struct ws_write_args w;
};

static void svd_check(ws_run *run, const struct decompose_args *a)
{
    if (!a->svd) {
        if (a->base != NULL || a->energy > 0.0 || a->budget > 0)
            ws_run_error(run, WS_E_USAGE, "--base, --energy and --budget are of --svd");
        return;
    }
    if (a->base == NULL)
        ws_run_error(run, WS_E_USAGE, "--svd needs --base: the model that was tuned");
    ws_extract_check(run, a->energy, a->budget);
}

static void decompose_check(ws_run *run, void *args)
{
    const struct decompose_args *a = args;
    if (a->corda + a->pissa + a->svd != 1) {
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 "which decomposition: one of --corda, --pissa, --svd");
        ws_err_hint(e, "--pissa needs nothing else, --corda covariances, --svd a base");
    }
    if (a->corda && (a->cov == NULL) == (a->data.n == 0)) {
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 "--corda needs covariances, or data to make them of: "
                                 "one of --cov FILE, --data FILE");
        ws_err_hint(e, "wsurg calibrate MODEL --data FILE -o cov.safetensors");
    }
    if (!a->corda && (a->cov != NULL || a->data.n > 0))
        ws_run_error(run, WS_E_USAGE, "--cov and --data are of --corda");
    svd_check(run, a);
    if (a->w.out != NULL && strcmp(a->w.out, "-") == 0)
        ws_run_error(run, WS_E_USAGE, "the output is a directory: not '-'");
}

/** A fine-tune's update: `lora extract` under another name. */
static ws_status svd_run(ws_run *run, const struct decompose_args *a)
{
    const struct ws_extract_args x = { .base = a->base,
                                       .tuned = a->model,
                                       .rank = a->rank,
                                       .energy = a->energy,
                                       .budget = a->budget,
                                       .targets = a->targets,
                                       .seed = a->seed,
                                       .w = a->w };
    return ws_extract_command(run, &x, false);
}

/* ---- residual and adapter ---- */

static void layer_json(cJSON *to, const ws_decomposed *d)
{
    ws_j_str(to, "tensor", d->name);
    ws_j_u64(to, "rank", (uint64_t)d->rank);
    ws_j_num(to, "error", d->error);
    ws_j_num(to, "energy", d->energy);
    ws_j_num(to, "s_first", d->s_first);
    ws_j_num(to, "s_last", d->s_last);
    ws_j_num(to, "gap", d->gap);
    ws_j_num(to, "over_best", d->over_best);
    ws_j_num(to, "condition", d->condition);
    ws_j_str(to, "solver", d->by);
}

static int by_error(const void *x, const void *y)
{
    const ws_decomposed *a = *(const ws_decomposed *const *)x;
    const ws_decomposed *b = *(const ws_decomposed *const *)y;
    if (a->error != b->error)
        return a->error > b->error ? -1 : 1;
    return strcmp(a->name, b->name);
}

static void report_json(ws_run *run, const struct decompose_args *a,
                        const ws_decompose_req *req, const ws_decompose_result *r)
{
    cJSON *to = ws_run_result(run), *o;
    ws_j_str(to, "method", a->corda ? "corda" : "pissa");
    ws_j_str(to, "mode", req->split.smallest ? "kpm" : "ipm");
    ws_j_u64(to, "rank", (uint64_t)a->rank);
    ws_j_str(to, "cov", a->cov);
    ws_j_num(to, "damp", a->corda ? a->damp : NAN);
    o = ws_j_obj(to, "outputs");
    ws_buf path = { 0 };
    ws_buf_printf(&path, "%s%sadapter", req->write.out,
                  req->write.out[strlen(req->write.out) - 1] == '/' ? "" : "/");
    ws_j_str(o, "adapter", path.p);
    ws_buf_free(&path);
    ws_buf_printf(&path, "%s%sresidual", req->write.out,
                  req->write.out[strlen(req->write.out) - 1] == '/' ? "" : "/");
    ws_j_str(o, "residual", a->keep_base ? NULL : path.p);
    ws_buf_free(&path);
    ws_j_u64(to, "layers", r->n_layers);
    ws_j_num(to, "energy", r->unchanged ? NAN : r->energy);
    ws_j_num(to, "identity_error", r->unchanged ? NAN : r->error);
    const ws_decomposed **order =
        ws_arena_calloc(&run->arena, r->n_layers + 1, sizeof *order);
    o = ws_j_arr(to, "worst");
    for (size_t i = 0; order != NULL && i < r->n_layers; i++)
        order[i] = &r->layers[i];
    if (order != NULL)
        qsort((void *)order, r->n_layers, sizeof *order, by_error);
    for (size_t i = 0; order != NULL && i < r->n_layers && i < WORST; i++)
        layer_json(ws_j_obj(o, NULL), order[i]);
    ws_outputs_json(ws_j_arr(to, "files"), req->write.out, r->outputs, r->n_outputs);
    ws_j_str(to, "manifest", r->manifest);
    ws_j_str(to, "residual_content", r->residual[0] == '\0' ? NULL : r->residual);
    if (a->corda) {
        o = ws_j_obj(to, "calibration");
        ws_j_u64(o, "samples", r->cov_samples);
        ws_j_u64(o, "tokens", r->cov_tokens);
    } else {
        ws_j_null(to, "calibration");
    }
    ws_j_u64(to, "resumed", r->resumed);
    if (!run->g.tensors)
        return;
    o = ws_j_arr(to, "tensors");
    for (size_t i = 0; i < r->n_layers; i++)
        layer_json(ws_j_obj(o, NULL), &r->layers[i]);
}

static void report_text(ws_run *run, const struct decompose_args *a,
                        const ws_decompose_req *req, const ws_decompose_result *r)
{
    char energy[24], error[32];
    ws_show_share(r->energy, 1, energy);
    ws_show_num(r->error, error);
    if (run->g.tensors)
        for (size_t i = 0; i < r->n_layers; i++) {
            const ws_decomposed *d = &r->layers[i];
            char share[24];
            ws_show_share(d->energy, 1, share);
            ws_run_row(run, 10, "", "%s  rank %lld · s %.4g … %.4g · energy %s · %s",
                       d->name, (long long)d->rank, d->s_first, d->s_last, share,
                       d->by);
        }
    ws_run_row(run, 10, a->corda ? "corda" : "pissa",
               "%s · rank %lld · %zu matrices · energy %s (mean)",
               req->split.smallest ? "kpm" : "ipm", (long long)a->rank, r->n_layers,
               energy);
    if (r->resumed > 0)
        ws_run_row(run, 10, "resumed", "%zu of them were finished before", r->resumed);
    if (a->keep_base)
        ws_run_row(run, 10, "adapter", "rank %lld, for the model as it is",
                   2 * (long long)a->rank);
    else
        ws_run_row(run, 10, "identity",
                   "residual + adapter = model within %.1e of each "
                   "matrix's largest entry",
                   r->error);
    ws_wrote_row(run, 10, req->write.out, r->outputs, r->n_outputs, r->manifest);
}

static const char *const normalisations[] = { NULL, "peft", "authors", "none" };

static ws_status decompose_run(ws_run *run, void *args)
{
    const struct decompose_args *a = args;
    ws_decompose_req req = WS_DECOMPOSE_REQ_INIT;
    ws_decompose_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    if (a->svd)
        return svd_run(run, a);
    req.model = a->model;
    req.method = a->corda ? WS_CORDA : WS_PISSA;
    req.cov = a->cov;
    req.split = (ws_corda_opts){ .rank = a->rank,
                                 .smallest = a->corda && a->mode.index == 1,
                                 .solver = (ws_solver)a->solver.index,
                                 .seed = (uint64_t)a->seed };
    req.damp = a->damp;
    req.normalise = normalisations[a->normalise.index];
    req.targets = a->targets.v;
    req.n_targets = a->targets.n;
    req.keep_base = a->keep_base;
    ws_calibrate_req cal = WS_CALIBRATE_REQ_INIT;
    cal.data = a->data.v;
    cal.n_data = a->data.n;
    cal.samples = a->samples;
    cal.seq = a->seq;
    cal.seed = (uint64_t)a->seed;
    cal.sampling = (ws_sampling)a->sampling.index;
    cal.normalise =
        a->normalise.index > 0 ? (ws_normalise)(a->normalise.index - 1) : cal.normalise;
    req.calibrate = a->data.n > 0 ? &cal : NULL;
    ws_write_args_fill(&a->w, &req.write);
    req.write.out = a->w.out ? a->w.out : a->corda ? "corda/" : "pissa/";
    req.write.companions_from = a->companions_from;
    run->target = req.write.out;
    run->ctx.lenient = a->lenient;
    if (ws_decompose(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    run->usage = r->usage;
    run->has_usage = true;
    run->unchanged = r->unchanged;
    report_json(run, a, &req, r);
    ws_run_flush(run);
    if (r->unchanged)
        ws_run_talk(run, "%s is this result already: nothing was written",
                    req.write.out);
    else
        report_text(run, a, &req, r);
    ws_decompose_result_free(r);
    return WS_OK;
}

static const ws_arg decompose_params[] = {
    WS_ARG(struct decompose_args, model, "MODEL", "file or directory"),
    WS_ARG_END,
};

/** Those that --help only names. */
static const ws_opt decompose_more[] = {
    WS_WORD(struct decompose_args, solver, "solver", "exact|fast", 0.0,
            "fast: within 0.1 % of the least residual, not to the last digit"),
    WS_WORD(struct decompose_args, normalise, "normalise", "recorded|peft|authors|none",
            0.0, "refuse covariances that were normalised otherwise"),
    WS_OPT(struct decompose_args, seed, "seed", 0, "N", 0.0, 0.0, 9007199254740991.0,
           "of the start vectors, and of the choice of samples"),
    WS_OPT(struct decompose_args, samples, "samples", 0, "N", 256.0, 1.0, 1e6,
           "of --data: how many"),
    WS_OPT(struct decompose_args, seq, "seq", 0, "N", 2048.0, 1.0, 1048576.0,
           "of --data: most tokens of one; cut to the model's positions"),
    WS_WORD(struct decompose_args, sampling, "sampling", "auto|qa|instruction", 0.0,
            "of --data: windows of all text, or whole documents"),
    WS_TEXT(struct decompose_args, companions_from, "companions-from", 0, "DIR",
            "config and tokenizer of the residual; default: the model's"),
    WS_FLAG(struct decompose_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_OPT(struct decompose_args, damp, "damp", 0, "X", 0.01, 0.0, 1e6,
           "added to the diagonal of C, times its mean"),
    WS_OPT_END,
};

static const ws_opt decompose_opts[] = {
    WS_FLAG(struct decompose_args, corda, "corda", 0,
            "components of W C, C the covariance of the inputs"),
    WS_FLAG(struct decompose_args, pissa, "pissa", 0, "the largest components of W"),
    WS_FLAG(struct decompose_args, svd, "svd", 0,
            "what MODEL changed of --base, for that base"),
    WS_TEXT(struct decompose_args, base, "base", 0, "M", "of --svd: what was tuned"),
    WS_OPT(struct decompose_args, energy, "energy", 0, "E", 0.0, 0.0, 1.0,
           "of --svd: the least rank that keeps this share, per matrix"),
    WS_OPT(struct decompose_args, budget, "budget", 0, "N", 0.0, 0.0,
           9007199254740991.0, "of --svd: numbers in all, where they keep most"),
    WS_TEXT(struct decompose_args, cov, "cov", 0, "FILE",
            "of --corda: covariances, from calibrate"),
    WS_TEXT(struct decompose_args, data, "data", 0, "[NAME=]FILE",
            "of --corda: text to calibrate on now; repeatable"),
    WS_WORD(struct decompose_args, mode, "mode", "ipm|kpm", 0.0,
            "ipm trains what data uses most; kpm least"),
    WS_OPT(struct decompose_args, rank, "rank", 0, "N", 128.0, 1.0, 65536.0,
           "of each adapter; cut to a matrix's smaller side"),
    WS_TEXT(struct decompose_args, targets, "target", 0, "PATTERN",
            "linears to decompose; default: every matrix of a numbered block"),
    WS_FLAG(struct decompose_args, keep_base, "keep-base", 0,
            "only an adapter, of twice the rank, for the model as it is"),
    WS_MORE(decompose_more),
    WS_SET(struct decompose_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example decompose_examples[] = {
    { "wsurg decompose lm --corda --data text.txt --mode kpm --rank 8 -o kpm/",
      "an adapter that leaves what lm knows of text.txt alone" },
    { "wsurg decompose base --pissa --rank 4 -o split/",
      "largest components into split/adapter, the rest into split/residual" },
    { "wsurg decompose tuned --svd --base base --energy 0.95 -o lora/",
      "a LoRA that gives base 95 % of what tuned changed" },
    { "wsurg decompose base --pissa --rank 2 --target q_proj --keep-base -o lora/",
      "a LoRA of rank 4 for base itself, on the query projections" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_decompose = {
    .name = "decompose",
    .group = "Adapters",
    .summary = "a model into an adapter to train and a residual under it",
    .args = decompose_params,
    .opts = decompose_opts,
    .examples = decompose_examples,
    .notes =
        "Every chosen matrix W becomes W' + B A. OUT/adapter is a PEFT adapter of B "
        "and "
        "A, OUT/residual a whole model directory with W' in place of W, and "
        "OUT/decompose.json says what was taken of each matrix. The adapter belongs to "
        "the residual, whose digest it records, and is refused on any other base. With "
        "--svd there is OUT/adapter alone, for --base. The output is corda/, pissa/ or "
        "svd/ unless -o says otherwise.",
    .args_size = sizeof(struct decompose_args),
    .check = decompose_check,
    .run = decompose_run,
};
