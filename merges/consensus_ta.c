/*
 * consensus_ta.c - task arithmetic where at least k models agree that it matters
 *
 *   delta_k = in_k - base,  mixed = sum_k weight_k delta_k
 *   z_k     = |delta_k| > lambda_k |mixed - delta_k|
 *   out     = base + mixed where sum_k z_k >= k, else base
 */
#include "wsurg/method.h"

struct consensus_ta_opts {
    const double *weight, *lambda;
    int64_t k;
};

static bool consensus_ta_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

static const char *consensus_ta_no_op(const ws_job *job)
{
    const struct consensus_ta_opts *o = job->opts;
    return o->k == 0 ? "k is 0: every entry is kept" : NULL;
}

/** Agreements of each entry; x (n_models) are updates. */
WS_HOT static void consensus_ta_count(const ws_job *job, const ws_real *const *x,
                                      const ws_real *mixed, size_t n, int32_t *count)
{
    const struct consensus_ta_opts *o = job->opts;
    memset(count, 0, n * sizeof *count);
    for (size_t k = 0; k < job->n_models; k++) {
        const ws_real lambda = (ws_real)o->lambda[k];
        for (size_t i = 0; i < n; i++) {
            const ws_real rest = mixed[i] - x[k][i];
            const ws_real size = x[k][i] < (ws_real)0 ? -x[k][i] : x[k][i];
            count[i] += size > lambda * (rest < (ws_real)0 ? -rest : rest);
        }
    }
}

WS_HOT static void consensus_ta_apply(const ws_job *job, const void *state,
                                      const ws_tile *tile)
{
    enum { STEP = 512 };
    const struct consensus_ta_opts *o = job->opts;
    const ws_real scale = (ws_real)job->scale;
    const ws_real *x[WS_MODELS_MAX];
    ws_real mixed[STEP];
    int32_t count[STEP];
    (void)state;
    for (size_t at = 0, n; at < tile->n; at += n) {
        const ws_real *base = (const ws_real *)tile->base + at;
        ws_real *out = (ws_real *)tile->out + at;
        n = tile->n - at < STEP ? tile->n - at : STEP;
        memset(mixed, 0, sizeof mixed);
        for (size_t k = 0; k < job->n_models; k++) {
            const ws_real w = (ws_real)o->weight[k];
            ws_delta(tile->tmp[k], (const ws_real *)tile->in[k] + at, base, n);
            x[k] = tile->tmp[k];
            for (size_t i = 0; i < n; i++)
                mixed[i] += w * x[k][i];
        }
        consensus_ta_count(job, x, mixed, n, count);
        for (size_t i = 0; i < n; i++) {
            const ws_real u = count[i] >= o->k ? scale * mixed[i] : (ws_real)0;
            const ws_real moved = base[i] + u;
            out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
        }
    }
}

static const ws_param consensus_ta_params[] = {
    WS_PARAM(struct consensus_ta_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "factor of the model's update"),
    WS_PARAM(struct consensus_ta_opts, lambda, 1.0, 1.0, 0.0, 1e6,
             "how much larger than the rest an update must be to count"),
    WS_PARAM(struct consensus_ta_opts, k, 1, 1, 0.0, WS_MODELS_MAX,
             "models that must count for an entry to be kept"),
    WS_PARAM_END,
};

WS_METHOD(consensus_ta) = {
    .name = "consensus_ta",
    .summary = "task arithmetic, kept where enough models' own updates stand out",
    .formula = "mixed = sum_k weight_k (in_k - base)\n"
               "z_k = |in_k - base| > lambda_k |mixed - (in_k - base)|\n"
               "out = base + mixed where sum_k z_k >= k, else base",
    .source = "Wang et al. 2024, arXiv:2405.07813",
    .notes = "As in mergekitty, one value of lambda per model. The paper drops what "
             "only one model uses: k=2.",
    .models = { 1, WS_MODELS_MAX },
    .base = WS_BASE_REQUIRED,
    .scaled = true,
    .params = consensus_ta_params,
    .opts_size = sizeof(struct consensus_ta_opts),
    .n_tmp = -1,
    .keeps_equal = consensus_ta_keeps_equal,
    .no_op = consensus_ta_no_op,
    .apply = consensus_ta_apply,
};
