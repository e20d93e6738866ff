/*
 * ties.c - trim, elect signs, merge: the large entries of the updates, without those
 * whose sign is outvoted
 *
 *   delta_k = the trunc(density_k n) largest of in_k - base, zero elsewhere
 *   x_k     = weight_k delta_k
 *   sign    = + where sum_k x_k >= 0, else -
 *   out     = base + lambda (sum of the x_k with that sign) / (sum of their weights)
 */
#include "wsurg/method.h"

struct ties_opts {
    const double *weight, *density;
    double lambda;
    bool normalize;
    ws_choice rescale;
};

static ws_update ties_update(const ws_job *job)
{
    const struct ties_opts *o = job->opts;
    return (ws_update){
        .prune = WS_PRUNE_BAND,
        .weight = o->weight,
        .density = o->density,
        .rescale = (ws_rescale)o->rescale.index,
        .consensus = true,
        .normalize = o->normalize,
        .lambda = o->lambda,
    };
}

static const ws_param ties_params[] = {
    WS_PARAM(struct ties_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update, in the vote too; may be negative"),
    WS_PARAM(struct ties_opts, density, 0.2, 1.0, 0.0, 1.0,
             "share of the update's entries kept, the largest"),
    WS_PARAM(struct ties_opts, lambda, 1.0, 1.0, -1e6, 1e6,
             "factor of the combined update"),
    WS_BOOL(struct ties_opts, normalize, true, true,
            "divide by the weights of the models whose sign won"),
    WS_CHOICE(struct ties_opts, rescale, WS_RESCALE_WORDS, WS_RESCALE_NONE,
              WS_RESCALE_NONE,
              "restore the update's L1 norm, divide by density, or neither"),
    WS_PARAM_END,
};

WS_METHOD(ties) = {
    .name = "ties",
    .summary = "the largest entries of the updates whose sign wins the vote",
    .formula =
        "x_k = weight_k (density_k n largest entries of in_k - base)\n"
        "sign = + where sum_k x_k >= 0, else -\n"
        "out = base + lambda (sum of x_k of that sign) / (sum of their weights)\n"
        "without the division when normalize is off",
    .source = "Yadav et al. 2023, arXiv:2306.01708",
    .notes = "As in mergekit, each tensor is trimmed by itself (the authors trim all "
             "of a model together) and votes are weighted. Of equal magnitudes the "
             "lower index is kept. A tensor of which density keeps no entry stays the "
             "base's; mergekit stops with an assertion.",
    .models = { 1, WS_MODELS_MAX },
    .params = ties_params,
    .opts_size = sizeof(struct ties_opts),
    .update = ties_update,
    WS_UPDATE_KERNELS,
};
