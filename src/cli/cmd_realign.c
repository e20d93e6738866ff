/*
 * cmd_realign.c - SOMF: fine-tunes of an aligned model, masked until they are aligned
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/realign.h"
#include "wsurg/text.h"

struct realign_args {
    const char *aligned;
    ws_strs models;
    const char *pairs, *target, *tokenizer, *save_mask, *log;
    ws_word op, scope, reference, mask, schedule;
    double lambda, keep, drop, temperature, beta, lr, weight_decay, clip;
    int64_t batch, seq, steps, warmup, save_every, seed;
    bool lenient;
    struct ws_model_args out;
};

static const char op_words[] = "auto|none|task_arithmetic|ties|dare|average";
static const char scope_words[] = "element|row|tensor";
static const char reference_words[] = "aligned|fused|authors";

static void realign_check(ws_run *run, void *args)
{
    struct realign_args *a = args;
    if (a->pairs == NULL) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "realign needs --pairs FILE");
        ws_err_hint(e, "JSONL with prompt, chosen and rejected: what an aligned model "
                       "answers and what it does not");
    }
    if (a->out.w.out != NULL && strcmp(a->out.w.out, "-") == 0)
        ws_run_error(run, WS_E_USAGE, "realign writes no standard output: -o OUT");
}

static void request_fill(const struct realign_args *a, ws_realign_req *r)
{
    r->aligned = a->aligned;
    r->models = a->models.v;
    r->n_models = a->models.n;
    r->pairs = a->pairs;
    r->config = a->out.companions_from;
    r->tokenizer = a->tokenizer;
    r->target = a->target;
    r->op = (ws_realign_op)a->op.index;
    r->lambda = a->lambda;
    r->keep = a->keep;
    r->drop = a->drop;
    r->scope = (ws_mask_scope)a->scope.index;
    r->temperature = a->temperature;
    r->reference = (ws_realign_reference)a->reference.index;
    r->beta = a->beta;
    r->threshold = a->mask.index == 1;
    r->batch = a->batch;
    r->seq = a->seq;
    r->steps = a->steps;
    r->schedule = a->schedule.index == 0 ? WS_SCHEDULE_COSINE : WS_SCHEDULE_CONSTANT;
    r->warmup = a->warmup;
    if (a->warmup > 0 && r->schedule == WS_SCHEDULE_CONSTANT)
        r->schedule = WS_SCHEDULE_CONSTANT_WARMUP;
    r->lr = a->lr;
    r->weight_decay = a->weight_decay;
    r->clip = a->clip;
    r->seed = (uint64_t)a->seed;
    r->save_every = a->save_every;
    r->log = a->log;
    r->save_mask = a->save_mask;
    ws_model_args_fill(&a->out, &r->write);
}

static void word_json(cJSON *to, const char *key, const char *words, int index)
{
    size_t len = 0;
    char text[24];
    const char *word = ws_word_at(words, index, &len);
    snprintf(text, sizeof text, "%.*s", (int)len, word);
    ws_j_str(to, key, text);
}

static void result_json(ws_run *run, const struct realign_args *a,
                        const ws_realign_req *req, const ws_realign_result *r)
{
    cJSON *to = ws_run_result(run), *o;
    // auto: what it stands for
    const int op = a->op.index > 0 ? a->op.index : a->models.n == 1 ? 1 : 2;
    ws_outputs_json(ws_j_arr(to, "outputs"), req->write.out, r->run->outputs,
                    r->run->n_outputs);
    ws_j_str(to, "aligned", a->aligned);
    word_json(to, "operator", op_words, op);
    word_json(to, "mask_scope", scope_words, a->scope.index);
    word_json(to, "reference", reference_words, a->reference.index);
    ws_j_u64(to, "pairs", (uint64_t)r->pairs);
    ws_j_u64(to, "steps", (uint64_t)r->steps);
    ws_j_u64(to, "resumed", (uint64_t)r->resumed);
    ws_j_num(to, "loss_first", r->loss_first);
    ws_j_num(to, "loss_last", r->loss_last);
    o = ws_j_obj(to, "mask");
    ws_j_u64(o, "tensors", r->tensors);
    ws_j_u64(o, "entries", r->entries);
    ws_j_u64(o, "logits", r->logits);
    ws_j_num(o, "mean", r->mean);
    ws_j_num(o, "share_below_0.1", r->low);
    ws_j_num(o, "share_above_0.9", r->high);
    ws_j_str(o, "path", a->save_mask);
    ws_j_num(to, "seconds_per_step", r->seconds_per_step);
    ws_j_u64(to, "memory", r->memory);
    ws_j_str(to, "manifest", r->run->manifest);
}

static void report(ws_run *run, const struct realign_args *a, const ws_realign_req *req,
                   const ws_realign_result *r)
{
    char low[24], high[24];
    run->usage = r->run->usage;
    run->has_usage = true;
    run->unchanged = r->run->unchanged;
    ws_run_flush(run);
    if (r->run->unchanged) {
        ws_run_talk(run, "%s is this result already: nothing was written",
                    req->write.out);
        return;
    }
    result_json(run, a, req, r);
    if (r->resumed > 0)
        ws_run_row(run, 9, "resumed", "after step %lld", (long long)r->resumed);
    ws_show_share(r->low, 1, low);
    ws_show_share(r->high, 1, high);
    ws_run_row(run, 9, "mask", "%llu logits on %llu entries of %zu tensors",
               (unsigned long long)r->logits, (unsigned long long)r->entries,
               r->tensors);
    ws_run_row(run, 9, "learned", "mean %.3f · below 0.1: %s · above 0.9: %s", r->mean,
               low, high);
    ws_run_row(run, 9, "loss", "%.4f -> %.4f over %lld steps of %lld pairs",
               r->loss_first, r->loss_last, (long long)r->steps, (long long)a->batch);
    if (r->mask != NULL)
        ws_wrote_row(run, 9, a->save_mask, r->mask->run->outputs,
                     r->mask->run->n_outputs, r->mask->run->manifest);
    ws_wrote_row(run, 9, req->write.out, r->run->outputs, r->run->n_outputs,
                 r->run->manifest);
}

/** Of adapters a directory, whatever the aligned model is. */
static const char *default_out(ws_run *run, const struct realign_args *a)
{
    const char *like = ws_path_is_dir(a->models.v[0]) ? a->models.v[0] : a->aligned;
    return ws_default_out(&run->arena, "realigned", like);
}

static ws_status realign_run(ws_run *run, void *args)
{
    const struct realign_args *a = args;
    ws_realign_req req = WS_REALIGN_REQ_INIT;
    ws_realign_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    request_fill(a, &req);
    if (req.write.out == NULL)
        req.write.out = default_out(run, a);
    run->target = req.write.out;
    run->ctx.lenient = a->lenient;
    if (ws_realign(&r, &req, &run->ctx, &err) != WS_OK)
        return ws_run_fail(run, &err);
    report(run, a, &req, r);
    ws_realign_result_free(r);
    return WS_OK;
}

static const ws_arg realign_params[] = {
    WS_ARG(struct realign_args, aligned, "ALIGNED",
           "the model that refuses what it must"),
    WS_ARG_LIST(struct realign_args, models, "TASKMODEL", 1,
                "fine-tunes of it, or adapters: then their factors are masked"),
    WS_ARG_END,
};

/** What --help only names. */
static const ws_opt realign_more[] = {
    WS_OPT(struct realign_args, keep, "keep", 0, "P", 0.2, 0, 1,
           "ties: share of each update's entries kept"),
    WS_OPT(struct realign_args, drop, "drop", 0, "P", 0.2, 0, 1,
           "dare: share of entries dropped at random"),
    WS_OPT(struct realign_args, temperature, "temperature", 0, "T", 0.5, 1e-6, 1e6,
           "of the relaxed Bernoulli mask"),
    WS_OPT(struct realign_args, beta, "dpo-beta", 0, "B", 0.1, 1e-6, 1e3,
           "strength of the preferences"),
    WS_TEXT(struct realign_args, tokenizer, "tokenizer", 0, "DIR",
            "source of tokenizer.json; default: the aligned model"),
    WS_WORD(struct realign_args, schedule, "schedule", "cosine|constant", 0,
            "rate over the steps"),
    WS_OPT(struct realign_args, warmup, "warmup", 0, "N", 0, 0, 1e12,
           "steps of warm-up"),
    WS_OPT(struct realign_args, weight_decay, "weight-decay", 0, "X", 0, 0, 1e3,
           "of the logits: towards a mask of 1/2"),
    WS_OPT(struct realign_args, save_every, "save-every", 0, "N", 0, 0, 1e12,
           "steps between checkpoints for --resume; 0: when interrupted"),
    WS_OPT(struct realign_args, clip, "clip", 0, "X", 1, 0, 1e9,
           "largest norm of the gradient; 0: no limit"),
    WS_FLAG(struct realign_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_OPT_END,
};

static const ws_opt realign_opts[] = {
    WS_TEXT(struct realign_args, pairs, "pairs", 0, "FILE",
            "JSONL of prompt, chosen and rejected"),
    { WS_OPT_ROW(struct realign_args, op, "operator", 0), .value = "NAME",
      .words = op_words, .def = 0,
      .help = "how updates combine: none, task_arithmetic, ties, dare, average" },
    WS_OPT(struct realign_args, lambda, "lambda", 0, "X", NAN, -1e6, 1e6,
           "factor of the combined updates; see the defaults below"),
    WS_WORD(struct realign_args, scope, "mask-scope", scope_words, 0,
            "what shares one logit"),
    WS_WORD(struct realign_args, reference, "reference", reference_words, 0,
            "whose probabilities the preferences are measured from"),
    WS_WORD(struct realign_args, mask, "mask", "soft|threshold", 0,
            "of the result: the last draw, or 0 and 1"),
    WS_TEXT(struct realign_args, save_mask, "save-mask", 0, "FILE",
            "write the last mask too, for mask apply"),
    WS_TEXT(struct realign_args, log, "log", 0, "FILE", "a line of JSON for each step"),
    WS_TEXT(struct realign_args, target, "target", 0, "PATTERN",
            "tensors under the mask; default: all that differ"),
    WS_OPT(struct realign_args, steps, "steps", 0, "N", 200, 1, 1e9, "steps in all"),
    WS_OPT(struct realign_args, batch, "batch", 0, "N", 8, 1, 65536, "pairs in a step"),
    WS_OPT(struct realign_args, seq, "seq", 0, "N", 0, 0, 1 << 24,
           "most tokens in a row; 0: at most 1024"),
    WS_OPT(struct realign_args, lr, "lr", 0, "X", 1e-2, 0, 1e6,
           "learning rate of the logits"),
    WS_OPT(struct realign_args, seed, "seed", 0, "N", 0, 0, 0x1p53,
           "of the draws and of the order of the pairs"),
    WS_MORE(realign_more),
    WS_SET(struct realign_args, out, ws_opts_model),
    WS_OPT_END,
};

static const ws_example realign_examples[] = {
    { "wsurg realign lm sums --pairs refuse.jsonl --steps 3 -o safe/",
      "what sums learned, without what it unlearned" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_realign = {
    .name = "realign",
    .group = "Masks",
    .summary = "mask what fine-tunes changed until they are aligned again (SOMF)",
    .args = realign_params,
    .opts = realign_opts,
    .examples = realign_examples,
    .notes = "One mask over the updates of all fine-tunes is learned from the pairs, "
             "through random draws of it; the same request gives the same bytes at any "
             "number of threads, interrupted and resumed or not. --lambda is 0.4 for "
             "ties, 0.3 for dare, and for task_arithmetic 0.3 on factors of adapters "
             "and 0.04 on whole tensors, as in the authors' code; one model alone, and "
             "average, have none.",
    .args_size = sizeof(struct realign_args),
    .check = realign_check,
    .run = realign_run,
};
