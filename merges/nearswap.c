/*
 * nearswap.c - from the base towards another model, by at most t per entry
 *
 *   delta = in_0 - base
 *   out   = base + sign(delta) min(|delta|, t)
 */
#include "wsurg/method.h"

struct nearswap_opts {
    double t;
};

static bool nearswap_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

WS_HOT static void nearswap_apply(const ws_job *job, const void *state,
                                  const ws_tile *tile)
{
    const struct nearswap_opts *o = job->opts;
    const ws_real t = (ws_real)o->t, scale = (ws_real)job->scale;
    const ws_real *base = tile->base, *in = tile->in[0];
    ws_real *out = tile->out;
    (void)state;
    for (size_t i = 0; i < tile->n; i++) {
        const ws_real delta = in[i] - base[i], low = delta < -t ? -t : delta;
        const ws_real u = scale * (low > t ? t : low), moved = base[i] + u;
        out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
    }
}

static const ws_param nearswap_params[] = {
    WS_PARAM(struct nearswap_opts, t, 1e-4, WS_REQUIRED, 0.0, 1e6,
             "longest step of an entry"),
    WS_PARAM_END,
};

WS_METHOD(nearswap) = {
    .name = "nearswap",
    .summary = "a step of limited length from the base to another model",
    .formula = "delta = in - base\n"
               "out = base + sign(delta) min(|delta|, t)",
    .source = "no paper; mergekit",
    .notes =
        "mergekit writes it as an interpolation by clamp(t / max(|delta|, 1e-6), 0, "
        "1), which for t from 1e-6 on is this step; below, its floor shortens it.",
    .models = { 1, 1 },
    .base = WS_BASE_REQUIRED,
    .scaled = true,
    .params = nearswap_params,
    .opts_size = sizeof(struct nearswap_opts),
    .keeps_equal = nearswap_keeps_equal,
    .apply = nearswap_apply,
};
