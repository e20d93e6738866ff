/*
 * passthrough.c - one model as it is, or times a number
 *
 *   out = scale in_0
 */
#include "wsurg/method.h"

struct passthrough_opts {
    const double *scale;
};

/** At scale 1 it is a copy, and done as one. */
static bool passthrough_keeps_equal(const ws_job *job)
{
    const struct passthrough_opts *o = job->opts;
    return o->scale[0] == 1.0;
}

WS_HOT static void passthrough_apply(const ws_job *job, const void *state,
                                     const ws_tile *tile)
{
    const struct passthrough_opts *o = job->opts;
    const ws_real scale = (ws_real)o->scale[0], *in = tile->in[0];
    ws_real *out = tile->out;
    (void)state;
    for (size_t i = 0; i < tile->n; i++)
        out[i] = scale * in[i];
}

static const ws_param passthrough_params[] = {
    WS_PARAM(struct passthrough_opts, scale, 1.0, 1.0, -1e6, 1e6,
             "factor of every entry"),
    WS_PARAM_END,
};

WS_METHOD(passthrough) = {
    .name = "passthrough",
    .summary = "one model unchanged, or times a number",
    .formula = "out = scale in",
    .source = "no paper; for stacking layers and silencing projections",
    .models = { 1, 1 },
    .base = WS_BASE_NONE,
    .params = passthrough_params,
    .opts_size = sizeof(struct passthrough_opts),
    .keeps_equal = passthrough_keeps_equal,
    .apply = passthrough_apply,
};
