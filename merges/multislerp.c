/*
 * multislerp.c - weighted mean of the models' directions, at their weighted length
 *
 *   v_k = in_k, or in_k - base;  u_k = v_k / (|v_k| + eps)
 *   m   = sum_k w_k u_k, normalised
 *   out = m sum_k w_k |v_k|      (+ base)
 *
 * The published form goes on from m by the mean tangent sum_k w_k (u_k - (u_k m) m).
 * That is zero, m being the direction of sum_k w_k u_k, so nothing of it is left here.
 */
#include "wsurg/method.h"

struct multislerp_opts {
    const double *weight;
    bool normalize_weights;
    double eps;
};

static double weight_sum(const ws_job *job)
{
    const struct multislerp_opts *o = job->opts;
    double sum = 0.0;
    for (size_t k = 0; k < job->n_models; k++)
        sum += o->weight[k];
    return o->normalize_weights ? sum : 1.0;
}

static ws_status multislerp_check(const ws_job *job, ws_err *err)
{
    const struct multislerp_opts *o = job->opts;
    double size = 0.0;
    for (size_t k = 0; k < job->n_models; k++)
        size += fabs(o->weight[k]);
    if (fabs(weight_sum(job)) > 1e-9 * size)
        return WS_OK;
    ws_fail(err, WS_E_USAGE,
            "the weights add up to 0, and 'normalize_weights' divides by that");
    ws_err_hint(err, "change a weight, or set normalize_weights=false");
    return WS_E_USAGE;
}

/** Equal inputs of length 1 over the sum of weights give that input. */
static bool multislerp_keeps_equal(const ws_job *job)
{
    const struct multislerp_opts *o = job->opts;
    return o->normalize_weights || job->has_base;
}

/** The vectors: inputs, or updates in the scratch arrays. */
static const void *const *vectors(const ws_job *job, const ws_tile *tile)
{
    if (!job->has_base)
        return tile->in;
    for (size_t k = 0; k < job->n_models; k++)
        ws_delta(tile->tmp[k], tile->in[k], tile->base, tile->n);
    return (const void *const *)tile->tmp;
}

static void multislerp_scan(const ws_job *job, int pass, const void *state,
                            const ws_tile *tile, void *partial)
{
    (void)pass;
    (void)state;
    ws_gram_add(partial, vectors(job, tile), job->n_models, tile->n);
}

/** Coefficients of the vectors. */
static void multislerp_mix(const ws_job *job, const double *products, double *mix)
{
    const struct multislerp_opts *o = job->opts;
    const double total = weight_sum(job);
    double length = 0.0, square = 0.0;
    for (size_t k = 0; k < job->n_models; k++) {
        const double norm = sqrt(products[ws_gram_at(k, k)]), w = o->weight[k] / total;
        length += w * norm;
        mix[k] = norm > 0.0 ? w / (norm + o->eps) : 0.0;
    }
    for (size_t j = 0; j < job->n_models; j++)
        for (size_t i = 0; i <= j; i++)
            square +=
                (i == j ? 1.0 : 2.0) * mix[i] * mix[j] * products[ws_gram_at(i, j)];
    const double size = sqrt(fmax(square, 0.0));
    for (size_t k = 0; k < job->n_models; k++)
        mix[k] = size < 1e-8 ? o->weight[k] / total : mix[k] / size * length;
}

WS_HOT static void multislerp_apply(const ws_job *job, const void *state,
                                    const ws_tile *tile)
{
    enum { STEP = 1024 };
    double mix[WS_MODELS_MAX];
    const void *const *v = vectors(job, tile);
    const ws_real *base = tile->base;
    ws_real *out = tile->out, sum[STEP] = { 0 };
    multislerp_mix(job, state, mix);
    for (size_t at = 0, n; at < tile->n; at += n) {
        n = tile->n - at < STEP ? tile->n - at : STEP;
        for (size_t k = 0; k < job->n_models; k++) {
            const ws_real *x = (const ws_real *)v[k] + at, w = (ws_real)mix[k];
            for (size_t i = 0; i < n; i++)
                sum[i] = k == 0 ? w * x[i] : sum[i] + w * x[i];
        }
        if (!job->has_base) {
            memcpy(out + at, sum, n * sizeof *sum);
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            const ws_real moved = base[at + i] + sum[i];
            out[at + i] = sum[i] == (ws_real)0 ? base[at + i] : moved; // keeps -0
        }
    }
}

static const ws_param multislerp_params[] = {
    WS_PARAM(struct multislerp_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "share of the model"),
    WS_BOOL(struct multislerp_opts, normalize_weights, true, true,
            "divide the weights by their sum"),
    WS_PARAM(struct multislerp_opts, eps, 1e-8, 1e-8, 0.0, 1.0,
             "added to a vector's length before dividing by it"),
    WS_PARAM_END,
};

static const ws_passes multislerp_passes = {
    .state_size = ws_gram_state_size,
    .partial_size = ws_gram_partial_size,
    .begin = ws_gram_begin,
    .scan = multislerp_scan,
    .join = ws_gram_join,
};

WS_METHOD(multislerp) = {
    .name = "multislerp",
    .summary = "weighted mean direction of the models, or of their updates",
    .formula = "v_k = in_k, with --base in_k - base; u_k = v_k / (|v_k| + eps)\n"
               "m = sum_k w_k u_k / |sum_k w_k u_k|\n"
               "out = m sum_k w_k |v_k|, with --base + base",
    .source = "no paper; mergekit",
    .notes =
        "mergekit adds a tangent step, which by its own formula is zero. Where the "
        "directions cancel (a mean shorter than 1e-8) the weighted sum of the "
        "vectors is taken; mergekit does so for two models and stops for more.",
    .models = { 2, WS_MODELS_MAX },
    .base = WS_BASE_OPTIONAL,
    .params = multislerp_params,
    .opts_size = sizeof(struct multislerp_opts),
    .n_tmp = -1,
    .keeps_equal = multislerp_keeps_equal,
    .check = multislerp_check,
    .passes = &multislerp_passes,
    .apply = multislerp_apply,
};
