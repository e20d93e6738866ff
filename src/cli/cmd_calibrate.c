/*
 * cmd_calibrate.c - covariances of the inputs of a model's linears
 */
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/calibrate.h"

struct calibrate_args {
    const char *model;
    ws_strs data;
    int64_t samples, seq, seed;
    ws_word sampling, normalise;
    const char *add, *companions_from;
    bool lenient;
    struct ws_write_args w;
};

static void calibrate_check(ws_run *run, void *args)
{
    const struct calibrate_args *a = args;
    if (a->data.n == 0) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "calibrate needs --data FILE");
        ws_err_hint(e, "text or JSONL like what the model shall keep, or learn");
    }
    if (a->w.out != NULL && strcmp(a->w.out, "-") == 0)
        ws_run_error(run, WS_E_USAGE, "covariances go to a file: not '-'");
}

static void report(ws_run *run, const struct calibrate_args *a, const char *out,
                   const ws_calibrate_result *r)
{
    static const char *const words[] = { "peft", "authors", "none" };
    cJSON *to = ws_run_result(run);
    ws_j_str(to, "model", a->model);
    ws_j_str(to, "sampling", r->sampling);
    ws_j_str(to, "normalise", words[a->normalise.index]);
    ws_j_u64(to, "samples", r->all_samples);
    ws_j_u64(to, "tokens", r->all_tokens);
    ws_j_u64(to, "seq", (uint64_t)r->seq);
    ws_j_u64(to, "linears", r->linears);
    ws_j_u64(to, "matrices", r->matrices);
    ws_j_u64(to, "passes", (uint64_t)r->passes);
    ws_outputs_json(ws_j_arr(to, "outputs"), out, &r->output, r->unchanged ? 0 : 1);
    ws_j_str(to, "manifest", r->manifest);
    ws_run_flush(run);
    if (r->unchanged) {
        ws_run_talk(run, "%s is this result already: nothing was written", out);
        return;
    }
    ws_run_row(run, 11, "calibrated", "%lld samples · %llu tokens · %s · %s",
               (long long)r->samples, (unsigned long long)r->tokens, r->sampling,
               words[a->normalise.index]);
    ws_run_row(run, 11, "linears", "%zu, with %zu different inputs · %d pass%s",
               r->linears, r->matrices, r->passes, r->passes == 1 ? "" : "es");
    ws_wrote_row(run, 11, out, &r->output, 1, r->manifest);
}

static ws_status calibrate_run(ws_run *run, void *args)
{
    const struct calibrate_args *a = args;
    ws_calibrate_req req = WS_CALIBRATE_REQ_INIT;
    ws_calibrate_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    req.model = a->model;
    req.data = a->data.v;
    req.n_data = a->data.n;
    req.samples = a->samples;
    req.seq = a->seq;
    req.seed = (uint64_t)a->seed;
    req.sampling = (ws_sampling)a->sampling.index;
    req.normalise = (ws_normalise)a->normalise.index;
    req.add = a->add;
    ws_write_args_fill(&a->w, &req.write);
    req.write.out = a->w.out ? a->w.out : "cov.safetensors";
    req.write.companions_from = a->companions_from;
    run->target = req.write.out;
    run->ctx.lenient = a->lenient;
    if (ws_calibrate(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    run->usage = r->usage;
    run->has_usage = true;
    run->unchanged = r->unchanged;
    report(run, a, req.write.out, r);
    ws_calibrate_result_free(r);
    return WS_OK;
}

static const ws_arg calibrate_params[] = {
    WS_ARG(struct calibrate_args, model, "MODEL",
           "directory, or file beside its config"),
    WS_ARG_END,
};

static const ws_opt calibrate_opts[] = {
    WS_TEXT(struct calibrate_args, data, "data", 0, "[NAME=]FILE",
            "text, JSONL or tokens to run over; repeatable"),
    WS_OPT(struct calibrate_args, samples, "samples", 0, "N", 256.0, 1.0, 1e6,
           "how many"),
    WS_OPT(struct calibrate_args, seq, "seq", 0, "N", 2048.0, 1.0, 1048576.0,
           "most tokens of one; cut to the model's positions"),
    WS_WORD(struct calibrate_args, sampling, "sampling", "auto|qa|instruction", 0.0,
            "qa: windows at random places of all text; instruction: whole documents"),
    WS_WORD(struct calibrate_args, normalise, "normalise", "peft|authors|none", 0.0,
            "each sample by |max X|, then over their number (peft) or 256 (authors)"),
    WS_TEXT(struct calibrate_args, add, "add", 0, "COV",
            "covariances of the same model to add to"),
    WS_OPT(struct calibrate_args, seed, "seed", 0, "N", 0.0, 0.0, 9007199254740991.0,
           "of the choice of samples"),
    WS_TEXT(struct calibrate_args, companions_from, "companions-from", 0, "DIR",
            "config and tokenizer of a model that is a plain file"),
    WS_FLAG(struct calibrate_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_SET(struct calibrate_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example calibrate_examples[] = {
    { "wsurg calibrate lm --data text.txt --samples 8 --seq 64",
      "covariances for decompose --corda, from windows of a text" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_calibrate = {
    .name = "calibrate",
    .group = "Adapters",
    .summary = "measure what the inputs of a model's linears are like",
    .args = calibrate_params,
    .opts = calibrate_opts,
    .examples = calibrate_examples,
    .notes = "Runs the model over samples of the data and sums X'X of the input X of "
             "every linear but the head: what decompose --corda goes by. Linears with "
             "the same input (q, k, v; gate, up) share one matrix. Under --max-memory "
             "as many blocks' matrices as fit are summed at once, and the model runs "
             "again for the next. The output is cov.safetensors unless -o says "
             "otherwise.",
    .args_size = sizeof(struct calibrate_args),
    .check = calibrate_check,
    .run = calibrate_run,
};
