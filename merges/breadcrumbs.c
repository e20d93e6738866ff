/*
 * breadcrumbs.c - the middle of each update: without its largest and its many small
 * entries
 *
 *   delta_k = in_k - base, entries ordered by falling magnitude:
 *             trunc(gamma_k n) dropped, then trunc(density_k n) kept, the rest dropped
 *   out     = base + lambda sum_k weight_k delta_k
 *
 * n counts the entries of the tensor, or with scope=row those of a row of the last
 * dimension. If both counts exceed n, fewer large ones are dropped.
 */
#include "wsurg/method.h"

struct breadcrumbs_opts {
    const double *weight, *density, *gamma;
    double lambda;
    bool normalize;
    ws_choice scope, rescale;
};

static ws_update breadcrumbs_update(const ws_job *job)
{
    const struct breadcrumbs_opts *o = job->opts;
    return (ws_update){
        .prune = WS_PRUNE_BAND,
        .weight = o->weight,
        .density = o->density,
        .gamma = o->gamma,
        .by_row = o->scope.index == 1,
        .rescale = (ws_rescale)o->rescale.index,
        .normalize = o->normalize,
        .lambda = o->lambda,
    };
}

static const ws_param breadcrumbs_params[] = {
    WS_PARAM(struct breadcrumbs_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update; may be negative"),
    WS_PARAM(struct breadcrumbs_opts, density, 0.15, 1.0, 0.0, 1.0,
             "share of the update's entries kept"),
    WS_PARAM(struct breadcrumbs_opts, gamma, 0.006, 0.01, 0.0, 1.0,
             "share of the update's entries dropped as too large"),
    WS_PARAM(struct breadcrumbs_opts, lambda, 1.0, 1.0, -1e6, 1e6,
             "factor of the combined update"),
    WS_CHOICE(struct breadcrumbs_opts, scope, "tensor|row", 0, 0,
              "what the shares are of: the tensor, or each row of the last dimension"),
    WS_BOOL(struct breadcrumbs_opts, normalize, false, false,
            "divide by the sum of the weights"),
    WS_CHOICE(struct breadcrumbs_opts, rescale, WS_RESCALE_WORDS, WS_RESCALE_NONE,
              WS_RESCALE_NONE,
              "restore the update's L1 norm, divide by density, or neither"),
    WS_PARAM_END,
};

WS_METHOD(breadcrumbs) = {
    .name = "breadcrumbs",
    .summary = "updates without their largest and their many small entries",
    .formula =
        "delta_k = in_k - base by falling magnitude: gamma_k n entries dropped,\n"
        "          then density_k n kept, the rest dropped\n"
        "out = base + lambda sum_k weight_k delta_k",
    .source = "Davari and Belilovsky 2023, arXiv:2312.06795",
    .notes = "scope=tensor is the paper's and mergekit's reading, scope=row the "
             "authors' code, which leaves numbers without a dimension unpruned. Where "
             "gamma n is below 1 nothing is dropped as too large; mergekit then drops "
             "the whole update. Of equal magnitudes the lower index counts as the "
             "larger.",
    .models = { 1, WS_MODELS_MAX },
    .params = breadcrumbs_params,
    .opts_size = sizeof(struct breadcrumbs_opts),
    .update = breadcrumbs_update,
    WS_UPDATE_KERNELS,
};
