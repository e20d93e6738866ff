/*
 * linear.c - weighted average
 *
 *   out = sum_k weight_k in_k,  divided by sum_k weight_k when normalize is set
 */
#include "wsurg/method.h"

struct linear_opts {
    const double *weight;
    bool normalize;
};

static double weight_sum(const ws_job *job)
{
    const struct linear_opts *o = job->opts;
    double sum = 0.0;
    for (size_t k = 0; k < job->n_models; k++)
        sum += o->weight[k];
    return sum;
}

static ws_status linear_check(const ws_job *job, ws_err *err)
{
    const struct linear_opts *o = job->opts;
    double size = 0.0;
    for (size_t k = 0; k < job->n_models; k++)
        size += fabs(o->weight[k]);
    if (!o->normalize || fabs(weight_sum(job)) > 1e-9 * size)
        return WS_OK;
    ws_fail(err, WS_E_USAGE,
            "the weights add up to 0, and 'normalize' divides by that");
    ws_err_hint(err, "change a weight, or set normalize=false for the plain sum");
    return WS_E_USAGE;
}

/** The average of equal inputs is that input; their plain sum is not. */
static bool linear_keeps_equal(const ws_job *job)
{
    const struct linear_opts *o = job->opts;
    return o->normalize;
}

WS_HOT static void linear_apply(const ws_job *job, const void *state,
                                const ws_tile *tile)
{
    enum { STEP = 1024 };
    const struct linear_opts *o = job->opts;
    const ws_real total = o->normalize ? (ws_real)weight_sum(job) : (ws_real)1;
    ws_real *out = tile->out, sum[STEP] = { 0 };
    (void)state;

    for (size_t at = 0, n; at < tile->n; at += n) {
        n = tile->n - at < STEP ? tile->n - at : STEP;
        for (size_t k = 0; k < job->n_models; k++) {
            const ws_real *in = (const ws_real *)tile->in[k] + at;
            const ws_real w = (ws_real)o->weight[k];
            for (size_t i = 0; i < n; i++)
                sum[i] = k == 0 ? w * in[i] : sum[i] + w * in[i];
        }
        for (size_t i = 0; i < n; i++)
            out[at + i] = sum[i] / total;
    }
}

static const ws_param linear_params[] = {
    WS_PARAM(struct linear_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "share of the model; may be negative"),
    WS_BOOL(struct linear_opts, normalize, true, true,
            "divide by the sum of the weights"),
    WS_PARAM_END,
};

WS_METHOD(linear) = {
    .name = "linear",
    .summary = "weighted average of the models",
    .formula = "out = sum_k weight_k in_k\n"
               "out = out / sum_k weight_k, with normalize",
    .source = "Wortsman et al. 2022, arXiv:2203.05482",
    .notes = "Weights that add up to 0 are refused with normalize; mergekit gives "
             "infinities. Weights stay exact, they are not rounded to the tensor's "
             "dtype.",
    .models = { 1, WS_MODELS_MAX },
    .base = WS_BASE_NONE,
    .params = linear_params,
    .opts_size = sizeof(struct linear_opts),
    .keeps_equal = linear_keeps_equal,
    .check = linear_check,
    .apply = linear_apply,
};
