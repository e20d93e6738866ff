/*
 * task_arithmetic.c - the base plus a weighted sum of updates
 *
 *   out = base + lambda sum_k weight_k (in_k - base)
 */
#include "wsurg/method.h"

struct task_arithmetic_opts {
    const double *weight;
    double lambda;
    bool normalize;
};

static ws_update task_arithmetic_update(const ws_job *job)
{
    const struct task_arithmetic_opts *o = job->opts;
    return (ws_update){
        .prune = WS_PRUNE_NONE,
        .rescale = WS_RESCALE_NONE,
        .weight = o->weight,
        .normalize = o->normalize,
        .lambda = o->lambda,
    };
}

static const ws_param task_arithmetic_params[] = {
    WS_PARAM(struct task_arithmetic_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update; may be negative"),
    WS_PARAM(struct task_arithmetic_opts, lambda, 1.0, 1.0, -1e6, 1e6,
             "factor of the combined update"),
    WS_BOOL(struct task_arithmetic_opts, normalize, false, false,
            "divide by the sum of the weights"),
    WS_PARAM_END,
};

WS_METHOD(task_arithmetic) = {
    .name = "task_arithmetic",
    .summary = "the base plus a weighted sum of updates",
    .formula = "out = base + lambda sum_k weight_k (in_k - base)\n"
               "the sum is divided by sum_k weight_k with normalize",
    .source = "Ilharco et al. 2023, arXiv:2212.04089",
    .models = { 1, WS_MODELS_MAX },
    .params = task_arithmetic_params,
    .opts_size = sizeof(struct task_arithmetic_opts),
    .update = task_arithmetic_update,
    WS_UPDATE_KERNELS,
};
