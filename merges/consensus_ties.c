/*
 * consensus_ties.c - TIES where at least k models agree that it matters
 *
 *   delta_k = in_k - base,  mixed = the update that ties makes of them
 *   z_k     = |delta_k| > lambda_k |mixed - delta_k|     delta_k before trimming
 *   out     = base + mixed where sum_k z_k >= k, else base
 */
#include "wsurg/method.h"

struct consensus_ties_opts {
    const double *weight, *density, *lambda;
    int64_t k;
    bool normalize;
};

static ws_update consensus_ties_update(const ws_job *job)
{
    const struct consensus_ties_opts *o = job->opts;
    return (ws_update){
        .prune = WS_PRUNE_BAND,
        .weight = o->weight,
        .density = o->density,
        .rescale = WS_RESCALE_NONE,
        .consensus = true,
        .normalize = o->normalize,
        .lambda = 1.0,
    };
}

/** What ties makes of the updates, as its result on a base of zeros. */
static void mix_updates(const ws_job *job, const void *state, const ws_tile *tile,
                        const void *const *updates, void *zeros, void *mixed)
{
    ws_job plain = *job;
    ws_tile on_zero = *tile;
    plain.scale = 1.0;
    memset(zeros, 0, tile->n * sizeof(ws_real));
    on_zero.base = zeros;
    on_zero.in = updates;
    on_zero.out = mixed;
    ws_update_apply(&plain, state, &on_zero);
}

/** How many updates stand out in an entry. */
static int64_t agreements(const ws_job *job, const void *const *updates, ws_real mixed,
                          size_t i)
{
    const struct consensus_ties_opts *o = job->opts;
    int64_t count = 0;
    for (size_t k = 0; k < job->n_models; k++) {
        const ws_real x = ((const ws_real *)updates[k])[i], rest = mixed - x;
        const ws_real lambda = (ws_real)o->lambda[k];
        count +=
            (x < (ws_real)0 ? -x : x) > lambda * (rest < (ws_real)0 ? -rest : rest);
    }
    return count;
}

static void consensus_ties_apply(const ws_job *job, const void *state,
                                 const ws_tile *tile)
{
    const struct consensus_ties_opts *o = job->opts;
    const size_t n_models = job->n_models;
    const void *updates[WS_MODELS_MAX];
    const ws_real *base = tile->base;
    ws_real *mixed = tile->tmp[2 * n_models + 1], *out = tile->out;
    for (size_t k = 0; k < n_models; k++) {
        ws_delta(tile->tmp[n_models + k], tile->in[k], base, tile->n);
        updates[k] = tile->tmp[n_models + k];
    }
    mix_updates(job, state, tile, updates, tile->tmp[2 * n_models], mixed);
    for (size_t i = 0; i < tile->n; i++) {
        const bool kept = agreements(job, updates, mixed[i], i) >= o->k;
        const ws_real u = kept ? (ws_real)job->scale * mixed[i] : (ws_real)0;
        const ws_real moved = base[i] + u;
        out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
    }
}

static const ws_param consensus_ties_params[] = {
    WS_PARAM(struct consensus_ties_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update, in the vote too"),
    WS_PARAM(struct consensus_ties_opts, density, 0.2, 1.0, 0.0, 1.0,
             "share of the update's entries kept, the largest"),
    WS_PARAM(struct consensus_ties_opts, lambda, 1.0, 1.0, 0.0, 1e6,
             "how much larger than the rest an update must be to count"),
    WS_PARAM(struct consensus_ties_opts, k, 1, 1, 0.0, WS_MODELS_MAX,
             "models that must count for an entry to be kept"),
    WS_BOOL(struct consensus_ties_opts, normalize, true, true,
            "divide by the weights of the models whose sign won"),
    WS_PARAM_END,
};

WS_METHOD(consensus_ties) = {
    .name = "consensus_ties",
    .summary = "ties, kept where enough models' own updates stand out",
    .formula = "mixed = the update of ties with these weights and densities\n"
               "z_k = |in_k - base| > lambda_k |mixed - (in_k - base)|\n"
               "out = base + mixed where sum_k z_k >= k, else base",
    .source = "Wang et al. 2024, arXiv:2405.07813",
    .notes = "As in mergekitty, one value of lambda per model. The paper drops what "
             "only one model uses: k=2.",
    .models = { 1, WS_MODELS_MAX },
    .params = consensus_ties_params,
    .opts_size = sizeof(struct consensus_ties_opts),
    .update = consensus_ties_update,
    .base = WS_BASE_REQUIRED,
    .scaled = true,
    .n_tmp = -4, // the kernels' own, the updates, zeros, their mixture
    .keeps_equal = ws_update_keeps_equal,
    .unit = ws_update_unit,
    .carry_size = ws_update_carry_size,
    .no_op = ws_update_no_op,
    .check = ws_update_check,
    .passes = &ws_update_passes,
    .apply = consensus_ties_apply,
};
