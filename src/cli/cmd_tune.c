/*
 * cmd_tune.c - fine-tune a model, or train one from scratch
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/text.h"
#include "wsurg/train.h"

struct tune_args {
    const char *model_path, *scratch, *adapter, *tokenizer;
    bool full, lora, rslora;
    int64_t rank;
    double lora_alpha;
    const char *target, *mask, *freeze, *freeze_plan, *layers;
    ws_strs data;
    const char *data_weights, *val, *chat_format;
    ws_word loss, optimizer, schedule;
    double beta;
    int64_t batch, accumulate, seq, steps, seed, eval_every, patience, save_every;
    bool no_pack, estimate, lenient;
    double lr, epochs, weight_decay, eps, clip, momentum, min_lr_rate, power;
    const char *warmup, *betas, *max_time, *log;
    int64_t decay_steps;
    struct ws_model_args model;
    ws_tune_req req; // made of the above
    double *weights;
};

/* ---- values that are text ---- */

static void bad_value(ws_run *run, const char *name, const char *text,
                      const char *wanted)
{
    ws_run_error(run, WS_E_USAGE, "option '--%s' is '%s', wanted %s", name, text,
                 wanted);
}

/** "A-B", or one layer. */
static void layers_read(ws_run *run, struct tune_args *a)
{
    ws_tune_req *r = &a->req;
    char part[32];
    uint64_t first = 0, last = 0;
    const char *dash = a->layers ? strchr(a->layers, '-') : NULL;

    r->last = -1;
    if (!a->layers)
        return;
    const size_t n = dash ? (size_t)(dash - a->layers) : strlen(a->layers);
    snprintf(part, sizeof part, "%.*s", n < 20 ? (int)n : 20, a->layers);
    if (!ws_parse_u64(part, &first) || first > INT32_MAX)
        dash = a->layers + n + 1; // nothing that parses
    last = first;
    if ((dash && (!ws_parse_u64(dash + (dash <= a->layers + n), &last))) ||
        last < first || last > INT32_MAX) {
        bad_value(run, "layers", a->layers, "A-B with A at most B, counted from 0");
        return;
    }
    r->first = (int64_t)first;
    r->last = (int64_t)last;
}

/** Two numbers in 0 <= x < 1 with a comma between. */
static void betas_read(ws_run *run, struct tune_args *a)
{
    const char *comma = a->betas ? strchr(a->betas, ',') : NULL;
    char first[32];
    double b[2] = { 0.9, 0.999 };

    if (a->betas) {
        snprintf(first, sizeof first, "%.*s",
                 comma && comma - a->betas < 31 ? (int)(comma - a->betas) : 0,
                 a->betas);
        if (!comma || !ws_parse_real(first, &b[0]) ||
            !ws_parse_real(comma + 1, &b[1]) ||
            !(b[0] >= 0.0 && b[0] < 1.0 && b[1] >= 0.0 && b[1] < 1.0))
            bad_value(run, "betas", a->betas, "two numbers from 0 to below 1: B1,B2");
    }
    a->req.optim.beta1 = b[0];
    a->req.optim.beta2 = b[1];
}

/** Steps as a whole number, or their share as one below 1. */
static void warmup_read(ws_run *run, struct tune_args *a)
{
    double x = 0.0;

    if (!a->warmup)
        return;
    if (!ws_parse_real(a->warmup, &x) || !(x >= 0.0 && x < 1e12) ||
        (x >= 1.0 && x != floor(x))) {
        bad_value(run, "warmup", a->warmup, "steps, or a share of them below 1");
        return;
    }
    if (x >= 1.0)
        a->req.schedule.warmup = (int64_t)x;
    else
        a->req.warmup_share = x;
}

/** "90", "90s", "30m", "2h". */
static void max_time_read(ws_run *run, struct tune_args *a)
{
    static const char units[] = "smh";
    static const double seconds[] = { 1.0, 60.0, 3600.0 };
    char number[32];
    size_t n = a->max_time ? strlen(a->max_time) : 0;
    double unit = 1.0, x = 0.0;

    if (n == 0)
        return;
    const char *u = strchr(units, a->max_time[n - 1]);
    if (u) {
        unit = seconds[u - units];
        n--;
    }
    snprintf(number, sizeof number, "%.*s", n < 31 ? (int)n : 0, a->max_time);
    if (!ws_parse_real(number, &x) || !(x > 0.0))
        bad_value(run, "max-time", a->max_time, "seconds, or 90s, 30m, 2h");
    a->req.max_time = x * unit;
}

/** As many numbers above 0 as there are --data. */
static void weights_read(ws_run *run, struct tune_args *a)
{
    const char *at = a->data_weights;
    size_t n = 0;

    if (!at)
        return;
    a->weights = ws_arena_calloc(&run->arena, a->data.n + 1, sizeof *a->weights);
    while (a->weights && n < a->data.n) {
        char number[32];
        const size_t len = strcspn(at, ",");
        snprintf(number, sizeof number, "%.*s", len < 31 ? (int)len : 0, at);
        if (!ws_parse_real(number, &a->weights[n]) || !(a->weights[n] > 0.0))
            break;
        n++;
        at += len;
        if (*at != ',')
            break;
        at++;
    }
    if (n != a->data.n || *at != '\0')
        bad_value(run, "data-weights", a->data_weights,
                  "a number above 0 for each --data");
    a->req.data_weights = a->weights;
}

/* ---- the request ---- */

static void kind_settle(ws_run *run, struct tune_args *a)
{
    ws_tune_req *r = &a->req;
    const int ways = a->full + a->lora + (a->adapter != NULL) + (a->scratch != NULL);

    if (ways != 1) {
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 ways == 0 ? "it is not said what shall be trained"
                                           : "more than one way to train is named");
        ws_err_hint(e, "one of --full, --lora, --adapter DIR, --from-scratch CONFIG");
    }
    r->kind = a->scratch   ? WS_TUNE_SCRATCH
              : a->adapter ? WS_TUNE_ADAPTER
              : a->lora    ? WS_TUNE_LORA
                           : WS_TUNE_FULL;
    if (a->scratch && a->model_path)
        ws_run_error(run, WS_E_USAGE, "--from-scratch takes no MODEL: '%s'",
                     a->model_path);
    if (!a->scratch && !a->model_path && ways == 1)
        ws_run_error(run, WS_E_USAGE, "argument MODEL is missing");
    const bool factors = r->kind == WS_TUNE_LORA || r->kind == WS_TUNE_ADAPTER;
    if (factors && (a->mask || a->freeze_plan))
        ws_run_error(run, WS_E_USAGE, "%s is for --full",
                     a->mask ? "--mask" : "--freeze-plan");
    if (r->kind == WS_TUNE_ADAPTER && a->target)
        ws_run_error(run, WS_E_USAGE, "--target is for --lora and --full");
    if (r->kind != WS_TUNE_LORA && (a->rslora || a->lora_alpha > 0.0))
        ws_run_error(run, WS_E_USAGE, "--lora-alpha and --rslora are for --lora");
}

static void optim_fill(ws_run *run, struct tune_args *a)
{
    ws_tune_req *r = &a->req;
    const bool factors = r->kind == WS_TUNE_LORA || r->kind == WS_TUNE_ADAPTER;

    r->optim.kind = (ws_optim_kind)a->optimizer.index;
    r->optim.eps = a->eps;
    r->optim.momentum = a->momentum;
    r->optim.weight_decay = a->weight_decay;
    r->optim.clip = a->clip;
    r->schedule.kind = (ws_schedule_kind)a->schedule.index;
    r->schedule.lr = isnan(a->lr) ? (factors ? 2e-4 : 5e-5) : a->lr;
    r->schedule.min_rate = a->min_lr_rate;
    r->schedule.power = a->power;
    r->schedule.decay = a->decay_steps;
    betas_read(run, a);
    warmup_read(run, a);
}

static void tune_check(ws_run *run, void *args)
{
    struct tune_args *a = args;
    ws_tune_req *r = &a->req;

    if (!a->model.w.out)
        a->model.w.out = "tuned/";
    run->target = a->model.w.out;
    kind_settle(run, a);
    optim_fill(run, a);
    layers_read(run, a);
    max_time_read(run, a);
    weights_read(run, a);
    if (a->data.n == 0)
        ws_run_error(run, WS_E_USAGE, "option '--data' is missing");
    if (strcmp(a->model.w.out, "-") == 0)
        ws_run_error(run, WS_E_USAGE, "tune writes no standard output: -o OUT");
    r->model = a->scratch ? a->scratch : a->model_path;
    r->config = a->model.companions_from;
    r->tokenizer = a->tokenizer;
    r->adapter = a->adapter;
    r->rank = a->rank;
    r->lora_alpha = a->lora_alpha;
    r->rslora = a->rslora;
    r->target = a->target;
    r->mask = a->mask;
    r->freeze = a->freeze;
    r->freeze_plan = a->freeze_plan;
    r->data = a->data.v;
    r->n_data = a->data.n;
    r->val = a->val;
    r->chat_format = a->chat_format;
    r->loss = (ws_tune_loss)a->loss.index;
    r->dpo_beta = a->beta;
    r->batch = a->batch;
    r->accumulate = a->accumulate;
    r->seq = a->seq;
    r->no_pack = a->no_pack;
    r->steps = a->steps;
    r->epochs = a->epochs;
    r->seed = (uint64_t)a->seed;
    r->eval_every = a->eval_every;
    r->patience = a->patience;
    r->save_every = a->save_every;
    r->estimate = a->estimate;
    r->log = a->log;
    ws_model_args_fill(&a->model, &r->write);
}

/* ---- reports ---- */

static const char *kind_word(ws_tune_kind kind)
{
    static const char *const word[] = { "full", "lora", "adapter", "from-scratch" };
    return word[kind];
}

static void count_text(double n, char out[24])
{
    if (n >= 1e9)
        snprintf(out, 24, "%.2f G", n * 1e-9);
    else if (n >= 1e6)
        snprintf(out, 24, "%.2f M", n * 1e-6);
    else if (n >= 1e4)
        snprintf(out, 24, "%.1f k", n * 1e-3);
    else
        snprintf(out, 24, "%.0f", n);
}

static void time_text(double s, char out[24])
{
    if (!(s < 1e9))
        snprintf(out, 24, "?");
    else if (s < 100.0)
        snprintf(out, 24, "%.1f s", s);
    else if (s < 6000.0)
        snprintf(out, 24, "%d:%02d min", (int)s / 60, (int)s % 60);
    else
        snprintf(out, 24, "%d:%02d h", (int)(s / 3600), (int)(s / 60) % 60);
}

static void plan_json(cJSON *to, const ws_tune_plan *p)
{
    cJSON *o = ws_j_obj(to, "memory");
    ws_j_u64(o, "weights", p->weights);
    ws_j_u64(o, "gradients", p->gradients);
    ws_j_u64(o, "optimizer", p->states);
    ws_j_u64(o, "activations", p->activations);
    ws_j_u64(o, "logits", p->logits);
    ws_j_u64(o, "data", p->data);
    ws_j_u64(o, "program", p->program);
    ws_j_u64(o, "total", p->total);
    ws_j_u64(o, "limit", p->limit);
    ws_j_num(to, "gflop_per_token", p->gflop_per_token);
}

static void result_json(ws_run *run, const struct tune_args *a, const ws_tune_result *r)
{
    cJSON *to = ws_run_result(run);
    cJSON *outputs = ws_j_arr(to, "outputs");

    if (r->run)
        ws_outputs_json(outputs, a->model.w.out, r->run->outputs, r->run->n_outputs);
    ws_j_str(to, "kind", kind_word(a->req.kind));
    ws_j_u64(to, "trained", (uint64_t)r->plan.trained_parameters);
    ws_j_u64(to, "steps", (uint64_t)r->steps);
    ws_j_u64(to, "tokens", r->tokens);
    ws_j_num(to, "tokens_per_second", r->tokens_per_second);
    ws_j_num(to, "loss_first", r->loss_first);
    ws_j_num(to, "loss_last", r->loss_last);
    if (r->best_step >= 0) {
        cJSON *best = ws_j_obj(to, "best");
        ws_j_u64(best, "step", (uint64_t)r->best_step);
        ws_j_num(best, "loss", r->best_loss);
    } else {
        ws_j_null(to, "best");
    }
    ws_j_str(to, "stopped", r->stopped);
    ws_j_str(to, "checkpoint", r->checkpoint);
    ws_j_u64(to, "steps_planned", (uint64_t)r->plan.steps);
    ws_j_num(to, "eta", a->req.estimate ? r->eta : (double)NAN);
    plan_json(to, &r->plan);
    ws_j_str(to, "manifest", r->run ? r->run->manifest : NULL);
    if (!run->g.tensors)
        return;
    cJSON *list = ws_j_arr(to, "tensors");
    for (size_t i = 0; i < r->n_trained; i++)
        ws_j_str(list, NULL, r->trained[i]);
}

/** What --estimate prints. */
static void estimate_print(ws_run *run, const ws_tune_result *r)
{
    const ws_tune_plan *p = &r->plan;
    const struct {
        const char *name;
        uint64_t bytes;
    } rows[] = {
        { "weights", p->weights },  { "gradients", p->gradients },
        { "optimiser", p->states }, { "activations", p->activations },
        { "logits", p->logits },    { "data", p->data },
        { "program", p->program },  { "total", p->total },
        { "limit", p->limit },
    };
    char text[24], rate[24];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ws_show_bytes(rows[i].bytes, text);
        ws_run_print(run, "%-12s %s\n", rows[i].name, text);
    }
    ws_run_print(run,
                 "%-12s all %lld, without gate and up %lld, inputs alone %lld, "
                 "frozen %lld\n",
                 "layers kept", (long long)p->layers_all, (long long)p->layers_small,
                 (long long)p->layers_input, (long long)p->layers_frozen);
    count_text((double)p->trained_parameters, text);
    ws_run_print(run, "%-12s %s numbers\n", "trained", text);
    ws_run_print(run, "%-12s %.3g GFLOP a token\n", "work", p->gflop_per_token);
    count_text(r->tokens_per_second, rate);
    ws_run_print(run, "%-12s %s tokens/s over %lld steps\n", "speed", rate,
                 (long long)r->steps);
    time_text(r->eta, text);
    ws_run_print(run, "%-12s %s for %lld steps\n", "time", text, (long long)p->steps);
}

static void summary(ws_run *run, const struct tune_args *a, const ws_tune_result *r)
{
    const int width = 8;
    char n[24], all[24], rate[24], seconds[24], first[24];

    count_text((double)r->plan.trained_parameters, n);
    count_text((double)r->plan.parameters, all);
    ws_run_row(run, width, "trained", "%s of %s numbers (%s)", n, all,
               kind_word(a->req.kind));
    count_text((double)r->tokens, n);
    count_text(r->tokens_per_second, rate);
    time_text(run->usage.seconds, seconds);
    ws_run_row(run, width, "steps", "%lld of %lld · %s tokens · %s tokens/s · %s",
               (long long)r->steps, (long long)r->plan.steps, n, rate, seconds);
    snprintf(first, sizeof first, "%.4f", r->loss_first);
    if (r->best_step >= 0)
        ws_run_row(run, width, "loss", "%s -> %.4f · validation %.4f at step %lld",
                   first, r->loss_last, r->best_loss, (long long)r->best_step);
    else
        ws_run_row(run, width, "loss", "%s -> %.4f", first, r->loss_last);
    ws_wrote_row(run, width, a->model.w.out, r->run->outputs, r->run->n_outputs,
                 r->run->manifest);
}

static ws_status tune_run(ws_run *run, void *args)
{
    struct tune_args *a = args;
    ws_tune_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    run->ctx.lenient = a->lenient;
    const ws_status st = ws_tune_run(&r, &a->req, &run->ctx, &err);

    ws_run_flush(run);
    if (r == NULL) {
        ws_run_fail(run, &err);
        return st;
    }
    run->usage = r->usage;
    run->has_usage = true;
    run->unchanged = r->unchanged;
    result_json(run, a, r);
    if (st)
        ws_run_fail(run, &err);
    else if (a->req.estimate)
        estimate_print(run, r);
    else if (r->unchanged)
        ws_run_talk(run, "unchanged    %s is there already", a->model.w.out);
    else
        summary(run, a, r);
    ws_tune_result_free(r);
    return st;
}

static const ws_arg tune_params[] = {
    WS_ARG_MAY(struct tune_args, model_path, "MODEL", "the model to start from"),
    WS_ARG_END,
};

/** What --help only names. */
static const ws_opt tune_more[] = {
    WS_TEXT(struct tune_args, data_weights, "data-weights", 0, "W,...",
            "how often an epoch goes through each file (1)"),
    WS_OPT(struct tune_args, lora_alpha, "lora-alpha", 0, "A", NAN, 0, 1e9,
           "scale of the factors: A/R; default R"),
    WS_FLAG(struct tune_args, rslora, "rslora", 0, "scale A/sqrt(R)"),
    WS_TEXT(struct tune_args, mask, "mask", 0, "FILE",
            "the entries that may change, or factors on their steps"),
    WS_TEXT(struct tune_args, freeze, "freeze", 0, "PATTERN",
            "tensors that do not change"),
    WS_TEXT(struct tune_args, freeze_plan, "freeze-plan", 0, "FILE",
            "tensors that do not change, by mask hft"),
    WS_TEXT(struct tune_args, layers, "layers", 0, "A-B",
            "only these layers change, counted from 0"),
    WS_OPT(struct tune_args, beta, "dpo-beta", 0, "B", 0.1, 1e-6, 1e3,
           "strength of the preferences of --loss dpo"),
    WS_TEXT(struct tune_args, chat_format, "chat-format", 0, "NAME",
            "how messages are rendered; default: the model's template"),
    WS_TEXT(struct tune_args, tokenizer, "tokenizer", 0, "DIR",
            "source of tokenizer.json; default: the model"),
    WS_OPT(struct tune_args, accumulate, "accumulate", 0, "N", 1, 1, 65536,
           "batches in one step"),
    WS_FLAG(struct tune_args, no_pack, "no-pack", 0, "one document in a row"),
    WS_WORD(struct tune_args, optimizer, "optimizer", "adamw|sgd", 0, "optimiser"),
    WS_TEXT(struct tune_args, warmup, "warmup", 0, "N|SHARE",
            "steps of warm-up, or a share of all below 1 (0)"),
    WS_OPT(struct tune_args, min_lr_rate, "min-lr-rate", 0, "X", 0.1, 0, 1,
           "least share of the rate, of cosine_with_min_lr and warmup_stable_decay"),
    WS_OPT(struct tune_args, power, "power", 0, "X", 1, 0, 100, "of polynomial"),
    WS_OPT(struct tune_args, decay_steps, "decay-steps", 0, "N", NAN, 0, 1e12,
           "of warmup_stable_decay; default a tenth of all"),
    WS_OPT(struct tune_args, weight_decay, "weight-decay", 0, "X", 0, 0, 1e3,
           "of matrices; norms and biases have none"),
    WS_TEXT(struct tune_args, betas, "betas", 0, "B1,B2", "of AdamW (0.9,0.999)"),
    WS_OPT(struct tune_args, eps, "eps", 0, "X", 1e-8, 0, 1, "of AdamW"),
    WS_OPT(struct tune_args, momentum, "momentum", 0, "X", 0, 0, 1, "of SGD"),
    WS_OPT(struct tune_args, clip, "clip", 0, "X", 1, 0, 1e9,
           "largest norm of the gradient; 0: no limit"),
    WS_OPT(struct tune_args, seed, "seed", 0, "N", 0, 0, 0x1p53,
           "of the order of the data and of what starts at random"),
    WS_OPT(struct tune_args, eval_every, "eval-every", 0, "N", NAN, 1, 1e12,
           "steps between validations; default: at the end alone"),
    WS_OPT(struct tune_args, patience, "patience", 0, "N", NAN, 1, 1e12,
           "stop after so many validations without a better one"),
    WS_OPT(struct tune_args, save_every, "save-every", 0, "N", NAN, 1, 1e12,
           "steps between checkpoints for --resume"),
    WS_TEXT(struct tune_args, max_time, "max-time", 0, "T",
            "save and stop (exit 8) after T: 90s, 30m, 2h"),
    WS_TEXT(struct tune_args, log, "log", 0, "FILE", "a line of JSON for each step"),
    WS_FLAG(struct tune_args, lenient, "lenient", 0,
            "a key of config.json that is not known is a warning"),
    WS_OPT_END,
};

static const ws_opt tune_opts[] = {
    WS_TEXT(struct tune_args, data, "data", 0, "[NAME=]FILE",
            "text, JSONL or tokens to learn from; repeatable"),
    WS_FLAG(struct tune_args, full, "full", 0, "train the model's own tensors"),
    WS_FLAG(struct tune_args, lora, "lora", 0, "train low-rank factors beside linears"),
    WS_TEXT(struct tune_args, adapter, "adapter", 0, "DIR",
            "train the factors of this adapter further"),
    WS_TEXT(struct tune_args, scratch, "from-scratch", 0, "CONFIG",
            "train a new model of this config.json"),
    WS_OPT(struct tune_args, rank, "rank", 0, "R", 8, 1, 65536, "rank of the factors"),
    WS_TEXT(struct tune_args, target, "target", 0, "PATTERN",
            "linears with factors (query and value); --full: what changes"),
    WS_WORD(struct tune_args, loss, "loss", "auto|next-token|completion|dpo", 0,
            "which tokens count"),
    WS_OPT(struct tune_args, batch, "batch", 0, "N", 8, 1, 65536, "rows at once"),
    WS_OPT(struct tune_args, seq, "seq", 0, "N", NAN, 1, 1 << 24,
           "most tokens in a row; default 1024"),
    WS_OPT(struct tune_args, lr, "lr", 0, "X", NAN, 0, 1e6,
           "learning rate; default 5e-5, for factors 2e-4"),
    { WS_OPT_ROW(struct tune_args, schedule, "schedule", 0), .value = "NAME",
      .words = "constant|constant_with_warmup|linear|cosine|cosine_with_restarts|"
               "cosine_with_min_lr|polynomial|inverse_sqrt|warmup_stable_decay",
      .def = 2, .help = "rate over the steps, as in transformers" },
    WS_OPT(struct tune_args, steps, "steps", 0, "N", NAN, 1, 1e12,
           "steps in all; default: by --epochs"),
    WS_OPT(struct tune_args, epochs, "epochs", 0, "X", 3, 1e-6, 1e6,
           "times through the data"),
    WS_TEXT(struct tune_args, val, "val", 0, "[NAME=]FILE",
            "validate on this, and write the best"),
    WS_FLAG(struct tune_args, estimate, "estimate", 0,
            "measure memory, speed and time; write nothing"),
    WS_MORE(tune_more),
    WS_SET(struct tune_args, model, ws_opts_model),
    WS_OPT_END,
};

static const ws_example tune_examples[] = {
    { "wsurg tune lm --full --data text.txt --steps 3 --seq 32 -o new/",
      "three steps on a text" },
    { "wsurg tune lm --lora --rank 4 --data pairs.jsonl --epochs 1 -o adapter/",
      "an adapter for PEFT" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_tune = {
    .name = "tune",
    .group = "Learning",
    .summary = "fine-tune a model, or train one from scratch",
    .args = tune_params,
    .opts = tune_opts,
    .examples = tune_examples,
    .notes = "The same request gives the same bytes, at any number of threads, "
             "interrupted and resumed or not.",
    .args_size = sizeof(struct tune_args),
    .check = tune_check,
    .run = tune_run,
};
