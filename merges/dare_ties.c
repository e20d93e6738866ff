/*
 * dare_ties.c - drop entries of the updates at random, rescale the rest, elect signs
 *
 *   m_k  ~ Bernoulli(density_k), for each entry of each model by itself
 *   x_k  = weight_k factor_k m_k (in_k - base)
 *   sign = + where sum_k x_k >= 0, else -
 *   out  = base + lambda sum of the x_k with that sign
 */
#include "wsurg/method.h"

struct dare_ties_opts {
    const double *weight, *density;
    double lambda;
    bool normalize;
    ws_choice rescale;
};

static ws_update dare_ties_update(const ws_job *job)
{
    const struct dare_ties_opts *o = job->opts;
    return (ws_update){
        .prune = WS_PRUNE_RANDOM,
        .weight = o->weight,
        .density = o->density,
        .rescale = (ws_rescale)o->rescale.index,
        .consensus = true,
        .normalize = o->normalize,
        .lambda = o->lambda,
    };
}

static const ws_param dare_ties_params[] = {
    WS_PARAM(struct dare_ties_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update, in the vote too; may be negative"),
    WS_PARAM(struct dare_ties_opts, density, 0.1, 1.0, 0.0, 1.0,
             "probability of an entry to be kept"),
    WS_PARAM(struct dare_ties_opts, lambda, 1.0, 1.0, -1e6, 1e6,
             "factor of the combined update"),
    WS_BOOL(struct dare_ties_opts, normalize, false, false,
            "divide by the weights of the models whose sign won"),
    WS_CHOICE(struct dare_ties_opts, rescale, WS_RESCALE_WORDS, WS_RESCALE_L1,
              WS_RESCALE_L1,
              "restore the update's L1 norm, divide by the density, or "
              "neither"),
    WS_PARAM_END,
};

WS_METHOD(dare_ties) = {
    .name = "dare_ties",
    .summary = "updates thinned out at random and rescaled, without outvoted signs",
    .formula = "m_k = 1 with probability density_k, else 0, for each entry\n"
               "x_k = weight_k factor_k m_k (in_k - base)\n"
               "sign = + where sum_k x_k >= 0, else -\n"
               "out = base + lambda sum of the x_k of that sign\n"
               "factor_k: sum |in_k - base| / sum |m_k (in_k - base)| over the tensor, "
               "or 1 / density_k",
    .source = "Yu et al. 2024, arXiv:2311.03099, with the vote of Yadav et al. 2023, "
              "arXiv:2306.01708",
    .notes = "rescale=l1 is what mergekit does since 0.1.0, inverse_density is the "
             "paper's. Random numbers depend on seed, method, model, tensor name and "
             "entry alone.",
    .models = { 1, WS_MODELS_MAX },
    .random = true,
    .params = dare_ties_params,
    .opts_size = sizeof(struct dare_ties_opts),
    .update = dare_ties_update,
    WS_UPDATE_KERNELS,
};
