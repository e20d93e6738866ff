/*
 * dare_linear.c - drop entries of the updates at random, rescale the rest, add up
 *
 *   m_k ~ Bernoulli(density_k), for each entry of each model by itself
 *   out = base + lambda sum_k weight_k factor_k m_k (in_k - base)
 */
#include "wsurg/method.h"

struct dare_linear_opts {
    const double *weight, *density;
    double lambda;
    bool normalize;
    ws_choice rescale;
};

static ws_update dare_linear_update(const ws_job *job)
{
    const struct dare_linear_opts *o = job->opts;
    return (ws_update){
        .prune = WS_PRUNE_RANDOM,
        .weight = o->weight,
        .density = o->density,
        .rescale = (ws_rescale)o->rescale.index,
        .normalize = o->normalize,
        .lambda = o->lambda,
    };
}

static const ws_param dare_linear_params[] = {
    WS_PARAM(struct dare_linear_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update; may be negative"),
    WS_PARAM(struct dare_linear_opts, density, 0.1, 1.0, 0.0, 1.0,
             "probability of an entry to be kept"),
    WS_PARAM(struct dare_linear_opts, lambda, 1.0, 1.0, -1e6, 1e6,
             "factor of the combined update"),
    WS_BOOL(struct dare_linear_opts, normalize, false, false,
            "divide by the sum of the weights"),
    WS_CHOICE(struct dare_linear_opts, rescale, WS_RESCALE_WORDS, WS_RESCALE_L1,
              WS_RESCALE_L1,
              "restore the update's L1 norm, divide by the density, or "
              "neither"),
    WS_PARAM_END,
};

WS_METHOD(dare_linear) = {
    .name = "dare_linear",
    .summary = "updates thinned out at random and rescaled, added up",
    .formula = "m_k = 1 with probability density_k, else 0, for each entry\n"
               "out = base + lambda sum_k weight_k factor_k m_k (in_k - base)\n"
               "factor_k: sum |in_k - base| / sum |m_k (in_k - base)| over the tensor, "
               "or 1 / density_k",
    .source = "Yu et al. 2024, arXiv:2311.03099",
    .notes = "rescale=l1 is what mergekit does since 0.1.0, inverse_density is the "
             "paper's. Random numbers depend on seed, method, model, tensor name and "
             "entry alone.",
    .models = { 1, WS_MODELS_MAX },
    .random = true,
    .params = dare_linear_params,
    .opts_size = sizeof(struct dare_linear_opts),
    .update = dare_linear_update,
    WS_UPDATE_KERNELS,
};
