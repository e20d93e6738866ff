/*
 * ram.c - entries that one model changed are taken, shared ones are averaged
 *
 *   delta_k = in_k - base,  z_k = |delta_k| > epsilon,  c = sum_k z_k
 *   out     = base + sum_k z_k delta_k / c
 */
#include "wsurg/method.h"

struct ram_opts {
    double epsilon;
};

static bool ram_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

WS_HOT static void ram_apply(const ws_job *job, const void *state, const ws_tile *tile)
{
    enum { STEP = 512 };
    const struct ram_opts *o = job->opts;
    const ws_real epsilon = (ws_real)o->epsilon, scale = (ws_real)job->scale;
    ws_real sum[STEP], count[STEP];
    (void)state;
    for (size_t at = 0, n; at < tile->n; at += n) {
        const ws_real *base = (const ws_real *)tile->base + at;
        ws_real *out = (ws_real *)tile->out + at;
        n = tile->n - at < STEP ? tile->n - at : STEP;
        memset(sum, 0, sizeof sum);
        memset(count, 0, sizeof count);
        for (size_t k = 0; k < job->n_models; k++) {
            const ws_real *in = (const ws_real *)tile->in[k] + at;
            for (size_t i = 0; i < n; i++) {
                const ws_real delta = in[i] - base[i];
                const bool changed = (delta < (ws_real)0 ? -delta : delta) > epsilon;
                sum[i] += changed ? delta : (ws_real)0;
                count[i] += changed ? (ws_real)1 : (ws_real)0;
            }
        }
        for (size_t i = 0; i < n; i++) {
            const ws_real share = count[i] > (ws_real)1 ? count[i] : (ws_real)1;
            const ws_real u = scale * (sum[i] / share), moved = base[i] + u;
            out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
        }
    }
}

static const ws_param ram_params[] = {
    WS_PARAM(struct ram_opts, epsilon, 1e-5, 1e-5, 0.0, 1e6,
             "an entry counts as changed when its update is larger"),
    WS_PARAM_END,
};

WS_METHOD(ram) = {
    .name = "ram",
    .summary = "what one model changed is kept whole, what several changed is averaged",
    .formula = "z_k = |in_k - base| > epsilon\n"
               "out = base + sum_k z_k (in_k - base) / sum_k z_k",
    .source = "Reinforced Agent Merging, 2026, arXiv:2601.13572",
    .models = { 1, WS_MODELS_MAX },
    .base = WS_BASE_REQUIRED,
    .scaled = true,
    .params = ram_params,
    .opts_size = sizeof(struct ram_opts),
    .keeps_equal = ram_keeps_equal,
    .apply = ram_apply,
};
