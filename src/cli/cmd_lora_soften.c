/*
 * cmd_lora_soften.c - intruder dimensions of an adapter scaled down
 */
#include "adapter_args.h"
#include "report.h"
#include "wsurg/lora.h"

struct soften_args {
    const char *base, *adapter;
    double lambda, below;
    int64_t top;
    bool residual;
    ws_dtype_opt dtype;
    struct ws_write_args w;
};

static void soften_check(ws_run *run, void *args)
{
    const struct soften_args *a = args;
    ws_adapter_target_check(run, &a->w);
    if (!a->w.out)
        ws_run_error(run, WS_E_USAGE, "option '-o' is needed");
}

static double count_of(const void *softened, size_t i)
{
    return (double)((const ws_lora_softened *)softened)->changed[i].intruders;
}

static void module_json(cJSON *list, const ws_lora_softening *m)
{
    cJSON *o = ws_j_obj(list, NULL);
    ws_j_str(o, "module", m->name);
    ws_j_u64(o, "rank", (uint64_t)m->rank);
    ws_j_u64(o, "intruders", m->intruders);
    ws_j_num(o, "before", m->before);
    ws_j_num(o, "after", m->after);
    ws_j_num(o, "error", m->error);
}

static void result_show(ws_run *run, const ws_lora_softened *s, const char *out)
{
    cJSON *to = ws_run_result(run), *list;
    size_t index[WS_WORST];
    ws_adapter_outputs_json(to, out, s->files);
    ws_j_u64(to, "modules", s->modules);
    ws_j_u64(to, "softened", s->n_changed);
    ws_j_u64(to, "intruders", s->intruders);
    list = ws_j_arr(to, "worst");
    const size_t n = ws_worst_find(s->n_changed, count_of, s, index);
    for (size_t i = 0; i < n; i++)
        module_json(list, &s->changed[index[i]]);
    if (run->g.tensors) {
        list = ws_j_arr(to, "list");
        for (size_t i = 0; i < s->n_changed; i++)
            module_json(list, &s->changed[i]);
    }
    ws_run_flush(run);
    for (size_t i = 0; run->g.tensors && i < s->n_changed; i++) {
        const ws_lora_softening *m = &s->changed[i];
        char error[24];
        ws_show_share(m->error, 2, error);
        ws_run_row(run, 9, "", "%s  %zu intruders · norm %.4g, was %.4g · cut %s",
                   m->name, m->intruders, m->after, m->before, error);
    }
    ws_run_row(run, 9, "modules", "%zu · %zu with %zu intruders, softened", s->modules,
               s->n_changed, s->intruders);
    ws_run_row(run, 9, "wrote", "%s", out);
    if (s->intruders == 0)
        ws_run_note(run, "no intruders: the adapter is as it was");
}

static ws_status soften_run(ws_run *run, void *args)
{
    const struct soften_args *a = args;
    const char *inputs[] = { a->base, a->adapter };
    ws_lora_soften_req req = { .base = a->base,
                               .adapter = a->adapter,
                               .residual = a->residual,
                               .intruders = { a->top, a->below },
                               .lambda = a->lambda,
                               .dtype = ws_adapter_dtype(&a->dtype) };
    ws_lora_softened *s = NULL;
    ws_err err = WS_ERR_INIT;
    ws_adapter_target_fill(&req.target, &a->w);
    req.target.inputs = inputs;
    req.target.n_inputs = 2;
    if (ws_lora_soften(&s, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    result_show(run, s, req.target.out);
    ws_lora_softened_free(s);
    return WS_OK;
}

static const ws_arg soften_params[] = {
    WS_ARG(struct soften_args, base, "BASE", "the model that the adapter was made for"),
    WS_ARG(struct soften_args, adapter, "ADAPTER", "PEFT adapter directory"),
    WS_ARG_END,
};

static const ws_opt soften_opts[] = {
    WS_OPT(struct soften_args, lambda, "lambda", 0, "L", 0.75, 0.0, 1.0,
           "factor of intruders' singular values: 1 keeps them, 0 removes them"),
    WS_OPT(struct soften_args, top, "top", 0, "N", 10.0, 1.0, 65536.0,
           "how many leading directions of a matrix are examined"),
    WS_OPT(struct soften_args, below, "below", 0, "C", 0.5, 0.0, 1.0,
           "an intruder has a smaller cosine with every direction of the base"),
    WS_FLAG(struct soften_args, residual, "residual", 0,
            "BASE is the residual that the adapter was trained on"),
    WS_DTYPE(struct soften_args, dtype, "dtype", "of the factors; keep is f32"),
    WS_SET(struct soften_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example soften_examples[] = {
    { "wsurg lora soften base/ math/ -o gentle/",
      "intruder dimensions at three quarters of their size" },
    { "wsurg lora soften base/ math/ --lambda 0 --top 4 -o none/",
      "without those among the first four directions of each matrix" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_lora_soften = {
    .name = "lora soften",
    .group = "Adapters",
    .summary = "scale intruder dimensions of an adapter down",
    .args = soften_params,
    .opts = soften_opts,
    .examples = soften_examples,
    .notes =
        "Intruder dimensions are left singular vectors of the tuned matrix W + B A, "
        "among its first, that are unlike all of W's: what fine-tuning with LoRA "
        "adds and full fine-tuning does not, at the cost of what the model knew. "
        "Their singular values are multiplied by --lambda, and what that leaves of "
        "the update is cut to the module's rank. wsurg inspect ADAPTER --intruders "
        "BASE only counts them. Embeddings are kept as they are.",
    .args_size = sizeof(struct soften_args),
    .check = soften_check,
    .run = soften_run,
};
