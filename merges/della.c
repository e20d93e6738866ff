/*
 * della.c - drop entries of the updates at random, small ones more likely, rescale the
 * rest, elect signs, average
 *
 *   p_k  = density_k - epsilon_k + 2 epsilon_k r / (m - 1), r = 0 .. m-1 the rank of
 *          the entry in its row of m by rising magnitude
 *   m_k  ~ Bernoulli(p_k)
 *   x_k  = weight_k factor_k m_k (in_k - base)
 *   sign = + where sum_k x_k >= 0, else -
 *   out  = base + lambda (sum of the x_k with that sign) / (sum of their weights)
 */
#include "wsurg/method.h"

struct della_opts {
    const double *weight, *density, *epsilon;
    double lambda;
    bool normalize;
    ws_choice rescale;
};

static ws_update della_update(const ws_job *job)
{
    const struct della_opts *o = job->opts;
    return (ws_update){
        .prune = WS_PRUNE_RANKED,
        .weight = o->weight,
        .density = o->density,
        .epsilon = o->epsilon,
        .rescale = (ws_rescale)o->rescale.index,
        .consensus = true,
        .normalize = o->normalize,
        .lambda = o->lambda,
    };
}

static const ws_param della_params[] = {
    WS_PARAM(struct della_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update, in the vote too; may be negative"),
    WS_PARAM(struct della_opts, density, 0.5, 1.0, 0.0, 1.0,
             "mean probability of an entry to be kept"),
    WS_PARAM(struct della_opts, epsilon, 0.15, 0.15, 0.0, 0.5,
             "how far the probabilities of the smallest and the largest entry of a row "
             "lie from density"),
    WS_PARAM(struct della_opts, lambda, 1.0, 1.0, -1e6, 1e6,
             "factor of the combined update"),
    WS_BOOL(struct della_opts, normalize, true, true,
            "divide by the weights of the models whose sign won"),
    WS_CHOICE(struct della_opts, rescale, WS_RESCALE_WORDS, WS_RESCALE_L1,
              WS_RESCALE_L1,
              "restore the update's L1 norm, divide by the probability, or "
              "neither"),
    WS_PARAM_END,
};

WS_METHOD(della) = {
    .name = "della",
    .summary =
        "updates thinned out at random, small entries first, without outvoted signs",
    .formula =
        "p_k = density_k - epsilon_k + 2 epsilon_k r / (m - 1), r = 0 .. m-1 the "
        "rank by rising magnitude in a row of m\n"
        "m_k = 1 with probability p_k, else 0\n"
        "x_k = weight_k factor_k m_k (in_k - base)\n"
        "sign = + where sum_k x_k >= 0, else -\n"
        "out = base + lambda (sum of x_k of that sign) / (sum of their weights)\n"
        "factor_k: sum |in_k - base| / sum |m_k (in_k - base)| over the tensor, "
        "or 1 / p_k",
    .source = "Deep et al. 2024, arXiv:2406.11617",
    .notes = "As in mergekit the probabilities span density - epsilon to density + "
             "epsilon, which must lie between 0 and 1; the paper's window is half as "
             "wide. Rows are taken along the second dimension, a vector is one row, a "
             "row of one entry is kept with probability density (mergekit stops "
             "there). rescale=inverse_density, the paper's, divides each entry by its "
             "own probability.",
    .models = { 1, WS_MODELS_MAX },
    .random = true,
    .params = della_params,
    .opts_size = sizeof(struct della_opts),
    .update = della_update,
    WS_UPDATE_KERNELS,
};
