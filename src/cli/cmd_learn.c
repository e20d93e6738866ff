/*
 * cmd_learn.c - learn how task vectors combine
 */
#include <stdio.h>
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/atlas.h"

struct learn_args {
    const char *base;
    ws_strs models, data, val, negate;
    bool atlas, entropy, force;
    const char *target, *tokenizer, *companions_from, *out, *svg, *bake;
    bool lenient;
    int64_t shots, partitions, budget, batch, seq, epochs, steps;
    int64_t eval_every, val_tokens, seed;
    double lr, weight_decay, clip, l1, l2, control;
    ws_word schedule, select;
};

static void learn_check(ws_run *run, void *args)
{
    const struct learn_args *a = args;
    if (!a->atlas) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "learn needs --atlas");
        ws_err_hint(e, "the one way there is: a coefficient per block and task vector");
    }
    if (a->data.n == 0) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "learn needs --data TASK=FILE");
        ws_err_hint(e, "text or JSONL of each task; the coefficients lower their loss");
    }
    if (a->out != NULL && strcmp(a->out, "-") == 0)
        ws_run_error(run, WS_E_USAGE, "coefficients go to a file: not '-'");
}

static void result_json(ws_run *run, const struct learn_args *a, const char *out,
                        const ws_atlas_result *r)
{
    cJSON *to = ws_run_result(run), *list;
    ws_j_str(to, "output", out);
    ws_j_str(to, "base", a->base);
    ws_j_str(to, "objective", r->objective);
    ws_j_u64(to, "blocks", r->n_blocks);
    ws_j_u64(to, "partitions", r->partitions);
    ws_j_u64(to, "coefficients", r->n_blocks * r->n_models * r->partitions);
    ws_j_num(to, "lr", r->lr);
    ws_j_u64(to, "steps", (uint64_t)r->steps);
    ws_j_u64(to, "best_step", (uint64_t)r->best_step);
    ws_j_num(to, "seconds_per_step", r->seconds_per_step);
    ws_j_u64(to, "memory", r->memory);
    ws_j_u64(to, "resident", r->resident);
    ws_j_u64(to, "peak_memory", r->peak);
    list = ws_j_arr(to, "tasks");
    for (size_t i = 0; i < r->n_tasks; i++) {
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "name", r->tasks[i].name);
        ws_j_bool(o, "forgotten", r->tasks[i].forgotten);
        ws_j_num(o, "loss_before", r->tasks[i].before);
        ws_j_num(o, "loss_after", r->tasks[i].after);
    }
    list = ws_j_arr(to, "task_vectors");
    const size_t each = r->n_blocks * r->partitions;
    for (size_t k = 0; k < r->n_models; k++) {
        const double *x = r->lambda + k * each;
        double sum = 0.0, least = x[0], most = x[0];
        for (size_t i = 0; i < each; i++) {
            sum += x[i];
            least = x[i] < least ? x[i] : least;
            most = x[i] > most ? x[i] : most;
        }
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "label", r->labels[k]);
        ws_j_u64(o, "blocks", r->used[k]);
        ws_j_num(o, "mean", sum / (double)each);
        ws_j_num(o, "least", least);
        ws_j_num(o, "most", most);
    }
}

static void report(ws_run *run, const struct learn_args *a, const char *out,
                   const ws_atlas_result *r)
{
    result_json(run, a, out, r);
    ws_run_flush(run);
    char parts[48] = "";
    if (r->partitions > 1)
        snprintf(parts, sizeof parts, ", each in %u parts", r->partitions);
    ws_run_row(run, 9, "learned", "%zu coefficients: %zu blocks of %zu task vectors%s",
               r->n_blocks * r->n_models * r->partitions, r->n_blocks, r->n_models,
               parts);
    for (size_t i = 0; i < r->n_tasks; i++)
        ws_run_row(run, 9, r->tasks[i].name, "loss %.4f -> %.4f%s", r->tasks[i].before,
                   r->tasks[i].after, r->tasks[i].forgotten ? " (to forget)" : "");
    ws_run_row(run, 9, "steps", "%s: %lld, the best is %lld%s", r->objective,
               (long long)r->steps, (long long)r->best_step,
               r->best_step == 0 ? ": nothing learned is better than the base" : "");
    ws_run_row(run, 9, "wrote", "%s   merge: wsurg merge … --coefficients %s", out,
               out);
}

/** The merge that the coefficients stand for, written to a->bake. */
static ws_status bake(ws_run *run, const struct learn_args *a, const char *out)
{
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_plan *plan = NULL;
    ws_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    req.base = a->base;
    req.models = a->models.v;
    req.n_models = a->models.n;
    req.method = "task_arithmetic";
    req.coefficients = out;
    req.write.out = a->bake;
    req.write.force = a->force;
    req.write.companions_from = a->companions_from;
    ws_status st = ws_plan_new(&plan, &req, &run->ctx, &run->errors);
    if (st != WS_OK)
        return st;
    st = ws_plan_run(plan, &run->ctx, &r, &err);
    if (st == WS_OK)
        ws_wrote_row(run, 9, a->bake, r->outputs, r->n_outputs, r->manifest);
    else
        ws_run_fail(run, &err);
    ws_result_free(r);
    ws_plan_free(plan);
    return st;
}

static ws_status learn_run(ws_run *run, void *args)
{
    const struct learn_args *a = args;
    ws_atlas_req req = WS_ATLAS_REQ_INIT;
    ws_atlas_result r;
    ws_err err = WS_ERR_INIT;
    req.base = a->base;
    req.models = a->models.v;
    req.n_models = a->models.n;
    req.config = a->companions_from;
    req.tokenizer = a->tokenizer;
    req.data = a->data.v;
    req.n_data = a->data.n;
    req.val = a->val.v;
    req.n_val = a->val.n;
    req.negate = a->negate.v;
    req.n_negate = a->negate.n;
    req.control = a->control;
    req.entropy = a->entropy;
    req.shots = a->shots;
    req.partitions = a->partitions;
    req.budget = a->budget;
    req.select = (ws_atlas_choice)a->select.index;
    req.target = a->target;
    req.batch = a->batch;
    req.seq = a->seq;
    req.epochs = a->epochs;
    req.steps = a->steps;
    req.schedule = (ws_atlas_schedule)a->schedule.index;
    req.lr = a->lr;
    req.weight_decay = a->weight_decay;
    req.clip = a->clip;
    req.l1 = a->l1;
    req.l2 = a->l2;
    req.eval_every = a->eval_every;
    req.val_tokens = a->val_tokens;
    req.seed = (uint64_t)a->seed;
    req.out = a->out != NULL ? a->out : "coefficients.json";
    req.svg = a->svg;
    req.force = a->force;
    run->target = req.out;
    run->ctx.lenient = a->lenient;
    if (ws_atlas_learn(&r, &req, &run->ctx, &err) != WS_OK)
        return ws_run_fail(run, &err);
    report(run, a, req.out, &r);
    ws_atlas_result_free(&r);
    return a->bake != NULL ? bake(run, a, req.out) : WS_OK;
}

static const ws_arg learn_params[] = {
    WS_ARG(struct learn_args, base, "BASE", "the model that was fine-tuned"),
    WS_ARG_LIST(struct learn_args, models, "MODEL", 1, "fine-tunes of it"),
    WS_ARG_END,
};

static const ws_opt learn_opts[] = {
    WS_FLAG(struct learn_args, atlas, "atlas", 0,
            "a coefficient per tensor (block) and task vector"),
    WS_TEXT(struct learn_args, data, "data", 0, "TASK=FILE",
            "text or JSONL of a task to learn from; repeatable"),
    WS_TEXT(struct learn_args, val, "val", 0, "TASK=FILE",
            "to choose the best step by; default: the --data"),
    WS_TEXT(struct learn_args, negate, "negate", 0, "TASK",
            "a task to forget: its loss is to rise; repeatable"),
    WS_OPT(struct learn_args, control, "control", 0, "X", 1.05, 1.0, 1e6,
           "with --negate: most another's loss may rise"),
    WS_FLAG(struct learn_args, entropy, "entropy", 0,
            "text without labels: lower the entropy there"),
    WS_OPT(struct learn_args, shots, "shots", 0, "N", 0.0, 0.0, 1e9,
           "learn from N examples of each task; 0: all"),
    WS_OPT(struct learn_args, partitions, "partitions", 0, "K", 1.0, 1.0, 65536.0,
           "cut blocks into K groups, each learned apart"),
    WS_OPT(struct learn_args, budget, "budget", 0, "B", 0.0, 0.0, 64.0,
           "task vectors that a block may use; 0: all"),
    WS_WORD(struct learn_args, select, "select", "blockwise|whole|random", 0.0,
            "with --budget: which"),
    WS_TEXT(struct learn_args, target, "target", 0, "PATTERN",
            "blocks to learn; default: all that differ"),
    WS_OPT(struct learn_args, batch, "batch", 0, "N", 8.0, 1.0, 65536.0,
           "rows of each task in a step"),
    WS_OPT(struct learn_args, seq, "seq", 0, "N", 0.0, 0.0, 1048576.0,
           "most tokens in a row; 0: at most 1024"),
    WS_OPT(struct learn_args, epochs, "epochs", 0, "N", 0.0, 0.0, 1e9,
           "rounds through the shortest task; 0: usual"),
    WS_OPT(struct learn_args, steps, "steps", 0, "N", 0.0, 0.0, 1e9,
           "steps in all, in place of --epochs"),
    WS_OPT(struct learn_args, lr, "lr", 0, "X", 0.0, 0.0, 1e3,
           "learning rate; 0: usual"),
    WS_WORD(struct learn_args, schedule, "schedule", "usual|constant|cosine", 0.0,
            "rate over the steps"),
    WS_OPT(struct learn_args, weight_decay, "weight-decay", 0, "X", 0.1, 0.0, 1e3,
           "of the coefficients"),
    WS_OPT(struct learn_args, clip, "clip", 0, "X", 1.0, 0.0, 1e6,
           "largest norm of the gradient; 0: no limit"),
    WS_OPT(struct learn_args, l1, "l1", 0, "X", 0.0, 0.0, 1e6,
           "weight of the blocks' mean L1 norm"),
    WS_OPT(struct learn_args, l2, "l2", 0, "X", 0.0, 0.0, 1e6,
           "weight of their mean L2 norm"),
    WS_OPT(struct learn_args, eval_every, "eval-every", 0, "N", 0.0, 0.0, 1e9,
           "steps between scores; 0: an epoch"),
    WS_OPT(struct learn_args, val_tokens, "val-tokens", 0, "N", 8192.0, 0.0, 1e12,
           "tokens (lines) of a file to score; 0: all"),
    WS_OPT(struct learn_args, seed, "seed", 0, "N", 0.0, 0.0, 9007199254740991.0,
           "of rows, --shots and --partitions"),
    WS_TEXT(struct learn_args, tokenizer, "tokenizer", 0, "PATH",
            "folder or file of the tokenizer; default: the base's"),
    WS_TEXT(struct learn_args, companions_from, "companions-from", 0, "DIR",
            "config and tokenizer of a base that is a plain file"),
    WS_FLAG(struct learn_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_TEXT(struct learn_args, out, "out", 'o', "FILE",
            "the coefficients; default coefficients.json"),
    WS_TEXT(struct learn_args, svg, "svg", 0, "FILE",
            "a heat map: layer by module, per task vector"),
    WS_TEXT(struct learn_args, bake, "bake", 0, "OUT",
            "write the model, too: merge --coefficients"),
    WS_FLAG(struct learn_args, force, "force", 0, "replace what is there"),
    WS_OPT_END,
};

static const ws_example learn_examples[] = {
    { "wsurg learn --atlas lm sums --data sums=text.txt --steps 4 --seq 32",
      "how much of a fine-tune each tensor wants" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_learn = {
    .name = "learn",
    .group = "Learning",
    .summary = "learn how task vectors combine, by gradient (aTLAS)",
    .args = learn_params,
    .opts = learn_opts,
    .examples = learn_examples,
    .notes = "Coefficients start at 0, the base itself; the best of those scored are "
             "written. What is usual follows from the objective: see the manual. The "
             "same request gives the same bytes at any number of threads.",
    .args_size = sizeof(struct learn_args),
    .check = learn_check,
    .run = learn_run,
};
