/*
 * breadcrumbs_ties.c - the middle of each update, without the entries whose sign is
 * outvoted
 *
 *   x_k  = weight_k delta_k, delta_k pruned as in breadcrumbs.c
 *   sign = + where sum_k x_k >= 0, else -
 *   out  = base + lambda sum of the x_k with that sign
 */
#include "wsurg/method.h"

struct breadcrumbs_ties_opts {
    const double *weight, *density, *gamma;
    double lambda;
    bool normalize;
    ws_choice scope, rescale;
};

static ws_update breadcrumbs_ties_update(const ws_job *job)
{
    const struct breadcrumbs_ties_opts *o = job->opts;
    return (ws_update){
        .prune = WS_PRUNE_BAND,
        .weight = o->weight,
        .density = o->density,
        .gamma = o->gamma,
        .by_row = o->scope.index == 1,
        .rescale = (ws_rescale)o->rescale.index,
        .consensus = true,
        .normalize = o->normalize,
        .lambda = o->lambda,
    };
}

static const ws_param breadcrumbs_ties_params[] = {
    WS_PARAM(struct breadcrumbs_ties_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update, in the vote too; may be negative"),
    WS_PARAM(struct breadcrumbs_ties_opts, density, 0.15, 1.0, 0.0, 1.0,
             "share of the update's entries kept"),
    WS_PARAM(struct breadcrumbs_ties_opts, gamma, 0.006, 0.01, 0.0, 1.0,
             "share of the update's entries dropped as too large"),
    WS_PARAM(struct breadcrumbs_ties_opts, lambda, 1.0, 1.0, -1e6, 1e6,
             "factor of the combined update"),
    WS_CHOICE(struct breadcrumbs_ties_opts, scope, "tensor|row", 0, 0,
              "what the shares are of: the tensor, or each row of the last dimension"),
    WS_BOOL(struct breadcrumbs_ties_opts, normalize, false, false,
            "divide by the weights of the models whose sign won"),
    WS_CHOICE(struct breadcrumbs_ties_opts, rescale, WS_RESCALE_WORDS, WS_RESCALE_NONE,
              WS_RESCALE_NONE,
              "restore the update's L1 norm, divide by density, or neither"),
    WS_PARAM_END,
};

WS_METHOD(breadcrumbs_ties) = {
    .name = "breadcrumbs_ties",
    .summary = "breadcrumbs, without the entries whose sign is outvoted",
    .formula =
        "delta_k = in_k - base by falling magnitude: gamma_k n entries dropped,\n"
        "          then density_k n kept, the rest dropped\n"
        "sign = + where sum_k weight_k delta_k >= 0, else -\n"
        "out = base + lambda sum of the weight_k delta_k of that sign",
    .source = "Davari and Belilovsky 2023, arXiv:2312.06795, with the vote of Yadav et "
              "al. 2023, arXiv:2306.01708",
    .notes = "scope=tensor is the paper's and mergekit's reading, scope=row the "
             "authors' code, which leaves numbers without a dimension unpruned. Where "
             "gamma n is below 1 nothing is dropped as too large; mergekit then drops "
             "the whole update. Of equal magnitudes the lower index counts as the "
             "larger.",
    .models = { 1, WS_MODELS_MAX },
    .params = breadcrumbs_ties_params,
    .opts_size = sizeof(struct breadcrumbs_ties_opts),
    .update = breadcrumbs_ties_update,
    WS_UPDATE_KERNELS,
};
