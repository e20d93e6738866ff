/*
 * cmd_lora_combine.c - adapters into one adapter: combined, converted
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapter_args.h"
#include "report.h"
#include "wsurg/lora.h"
#include "wsurg/text.h"

struct combine_args {
    ws_strs adapters;
    const char *weights;
    double *weight; // (adapters.n), or NULL
    int64_t rank, seed;
    ws_word method, compat;
    double density, gamma;
    ws_dtype_opt dtype;
    struct ws_write_args w;
};

struct convert_args {
    const char *adapter, *initial;
    ws_dtype_opt dtype;
    struct ws_write_args w;
};

/* ---- report ---- */

static double error_of(const void *combined, size_t i)
{
    return ((const ws_lora_combined *)combined)->modules[i].error;
}

static void result_show(ws_run *run, const ws_lora_combined *c, const char *out)
{
    cJSON *to = ws_run_result(run), *list, *o;
    size_t index[WS_WORST];
    char cut[24], rounding[24];
    ws_adapter_outputs_json(to, out, c->files);
    ws_j_u64(to, "modules", c->n_modules);
    ws_j_u64(to, "rank", (uint64_t)c->rank);
    ws_j_num(to, "error", c->error);
    ws_j_num(to, "rounding", c->rounding);
    list = ws_j_arr(to, "worst");
    const size_t n = ws_worst_find(c->n_modules, error_of, c, index);
    for (size_t i = 0; i < n; i++) {
        const ws_lora_module *m = &c->modules[index[i]];
        o = ws_j_obj(list, NULL);
        ws_j_str(o, "module", m->name);
        ws_j_u64(o, "rank", (uint64_t)m->rank);
        ws_j_num(o, "norm", m->norm);
        ws_j_num(o, "error", m->error);
        ws_j_num(o, "rounding", m->rounding);
    }
    ws_run_flush(run);
    ws_show_share(c->error, 2, cut);
    ws_show_share(c->rounding, 2, rounding);
    const bool exact = c->error == 0.0 && c->rounding == 0.0;
    if (exact)
        ws_run_row(run, 9, "modules", "%zu · rank up to %lld · exact", c->n_modules,
                   (long long)c->rank);
    else
        ws_run_row(run, 9, "modules",
                   "%zu · rank up to %lld · left out by the cut: %s · by rounding: %s",
                   c->n_modules, (long long)c->rank, cut, rounding);
    ws_run_row(run, 9, "wrote", "%s", out);
}

/* ---- combine ---- */

static void combine_check(ws_run *run, void *args)
{
    struct combine_args *a = args;
    ws_adapter_target_check(run, &a->w);
    if (a->compat.index > 0 && (a->rank > 0 || a->method.index > 0))
        ws_run_error(run, WS_E_USAGE,
                     "option '--compat' sums factors: it goes with neither --rank nor "
                     "--method");
    if (!a->weights || a->adapters.n == 0)
        return;
    a->weight = ws_arena_calloc(&run->arena, a->adapters.n, sizeof *a->weight);
    size_t n = 0;
    const char *p = a->weights;
    bool fine = a->weight != NULL;
    while (fine && p) {
        char number[64];
        const char *comma = strchr(p, ',');
        const size_t len = comma ? (size_t)(comma - p) : strlen(p);
        fine = len < sizeof number && n < a->adapters.n;
        if (fine) {
            memcpy(number, p, len);
            number[len] = '\0';
            fine = ws_parse_real(number, &a->weight[n++]);
        }
        p = comma ? comma + 1 : NULL;
    }
    if (!fine || n != a->adapters.n)
        ws_run_error(run, WS_E_USAGE,
                     "option '--weights' is '%s', wanted %zu numbers, one for each "
                     "adapter",
                     a->weights, a->adapters.n);
}

static ws_status combine_run(ws_run *run, void *args)
{
    const struct combine_args *a = args;
    ws_lora_combine_req req = { .adapters = a->adapters.v,
                                .n = a->adapters.n,
                                .weights = a->weight,
                                .rank = a->rank,
                                .method = (ws_lora_method)a->method.index,
                                .density = a->density,
                                .gamma = a->gamma,
                                .seed = (uint64_t)a->seed,
                                .peft_linear = a->compat.index > 0,
                                .dtype = ws_adapter_dtype(&a->dtype) };
    ws_lora_combined *c = NULL;
    ws_err err = WS_ERR_INIT;
    ws_adapter_target_fill(&req.target, &a->w);
    req.target.inputs = req.adapters;
    req.target.n_inputs = req.n;
    if (ws_lora_combine(&c, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    result_show(run, c, req.target.out);
    ws_lora_combined_free(c);
    return WS_OK;
}

static const ws_arg combine_params[] = {
    WS_ARG_LIST(struct combine_args, adapters, "ADAPTER", 1,
                "PEFT adapter directories"),
    WS_ARG_END,
};

static const ws_opt combine_opts[] = {
    WS_TEXT(struct combine_args, weights, "weights", 0, "W,...",
            "factor of each adapter's update; default 1"),
    WS_OPT(struct combine_args, rank, "rank", 0, "R", 0.0, 0.0, 2147483647.0,
           "cut to this rank; 0: exact, ranks add up"),
    WS_WORD(struct combine_args, method, "method", "linear|ties|dare|breadcrumbs", 0,
            "how updates are merged"),
    WS_OPT(struct combine_args, density, "density", 0, "D", NAN, 0.0, 1.0,
           "share kept by the method: ties 0.2, dare 0.1, breadcrumbs 0.15"),
    WS_OPT(struct combine_args, gamma, "gamma", 0, "G", NAN, 0.0, 1.0,
           "share of the largest dropped by breadcrumbs: 0.006"),
    WS_OPT(struct combine_args, seed, "seed", 0, "N", 0.0, 0.0, 9007199254740991.0,
           "of dare"),
    WS_WORD(struct combine_args, compat, "compat", "none|peft-linear", 0,
            "sum factors instead of updates, as PEFT does: not the sum of the updates"),
    WS_DTYPE(struct combine_args, dtype, "dtype", "of the factors; keep is f32"),
    WS_SET(struct combine_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example combine_examples[] = {
    { "wsurg lora combine math/ code/ --weights 1,-1 -o difference/",
      "exactly one update less the other" },
    { "wsurg lora combine math/ code/ --rank 2 -o both/",
      "the best rank 2 of the sum, and how much it leaves out" },
    { "wsurg lora combine math/ code/ --method ties -o elected/",
      "TIES in coordinates that both updates share" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_lora_combine = {
    .name = "lora combine",
    .group = "Adapters",
    .summary = "combine LoRA adapters into one",
    .args = combine_params,
    .opts = combine_opts,
    .examples = combine_examples,
    .notes =
        "What is merged are the updates B A, not the factors. Without --rank they "
        "are joined by concatenation, exactly; with it the sum is cut through QR of "
        "both factors and the singular values of a small core, which is the best "
        "cut there is. ties, dare and breadcrumbs act on the right sides of one "
        "decomposition of all updates side by side (KnOTS), where entries of "
        "different adapters mean the same; density and gamma count per module. "
        "DoRA, biases and token rows do not add: fold those.",
    .args_size = sizeof(struct combine_args),
    .check = combine_check,
    .run = combine_run,
};

/* ---- convert ---- */

static void convert_check(ws_run *run, void *args)
{
    const struct convert_args *a = args;
    ws_adapter_target_check(run, &a->w);
    if (!a->initial) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "option '--initial' is needed");
        ws_err_hint(e, "--initial ADAPTER0: the adapter as it was before training");
    }
}

static ws_status convert_run(ws_run *run, void *args)
{
    const struct convert_args *a = args;
    const char *inputs[] = { a->adapter, a->initial };
    ws_lora_combine_req req = { .adapters = &a->adapter,
                                .n = 1,
                                .initial = a->initial,
                                .density = NAN,
                                .gamma = NAN,
                                .dtype = ws_adapter_dtype(&a->dtype) };
    ws_lora_combined *c = NULL;
    ws_err err = WS_ERR_INIT;
    ws_adapter_target_fill(&req.target, &a->w);
    req.target.inputs = inputs;
    req.target.n_inputs = 2;
    if (ws_lora_combine(&c, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    result_show(run, c, req.target.out);
    ws_lora_combined_free(c);
    return WS_OK;
}

static const ws_arg convert_params[] = {
    WS_ARG(struct convert_args, adapter, "ADAPTER",
           "a trained adapter of a residual (PiSSA, OLoRA, CorDA)"),
    WS_ARG_END,
};

static const ws_opt convert_opts[] = {
    WS_TEXT(struct convert_args, initial, "initial", 0, "ADAPTER0",
            "the same adapter before training"),
    WS_DTYPE(struct convert_args, dtype, "dtype", "of the factors; keep is f32"),
    WS_SET(struct convert_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example convert_examples[] = {
    { "wsurg lora convert math/ --initial code/ -o plain/",
      "a plain LoRA of twice the rank, for the original base" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_lora_convert = {
    .name = "lora convert",
    .group = "Adapters",
    .summary = "turn an adapter of a residual into a plain LoRA",
    .args = convert_params,
    .opts = convert_opts,
    .examples = convert_examples,
    .notes = "The residual is the original base less the initial update, so trained "
             "minus initial is the update of the original: rows [A; A0], columns "
             "[B, -B0], twice the rank, nothing is rounded where the scales agree.",
    .args_size = sizeof(struct convert_args),
    .check = convert_check,
    .run = convert_run,
};
