/*
 * slerp.c - spherical interpolation of two tensors taken as vectors
 *
 *   c   = a b / (|a| |b|),  theta = acos c
 *   out = (sin((1-t) theta) a + sin(t theta) b) / sin theta
 *   out = (1-t) a + t b                             where |c| > 0.9995
 *
 * Norms and the product are sums in double. A tensor of norm at most 1e-8 is not
 * divided by it, so that one of zeros is perpendicular to everything.
 */
#include "wsurg/method.h"

struct slerp_opts {
    double t;
};

static const double PARALLEL = 0.9995, TINY = 1e-8;

static bool slerp_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

static void slerp_scan(const ws_job *job, int pass, const void *state,
                       const ws_tile *tile, void *partial)
{
    (void)pass;
    (void)state;
    ws_gram_add(partial, tile->in, job->n_models, tile->n);
}

/** Coefficients of a and b. */
static void slerp_mix(double t, const double *products, double *ca, double *cb)
{
    const double na = sqrt(products[ws_gram_at(0, 0)]);
    const double nb = sqrt(products[ws_gram_at(1, 1)]);
    const double c =
        products[ws_gram_at(0, 1)] / (na > TINY ? na : 1.0) / (nb > TINY ? nb : 1.0);
    *ca = 1.0 - t;
    *cb = t;
    if (fabs(c) <= PARALLEL) {
        const double theta = acos(c);
        *ca = sin((1.0 - t) * theta) / sin(theta);
        *cb = sin(t * theta) / sin(theta);
    }
}

WS_HOT static void slerp_apply(const ws_job *job, const void *state,
                               const ws_tile *tile)
{
    const struct slerp_opts *o = job->opts;
    const ws_real *a = tile->in[0], *b = tile->in[1];
    ws_real *out = tile->out;
    double ca, cb;

    slerp_mix(o->t, state, &ca, &cb);
    const ws_real fa = (ws_real)ca, fb = (ws_real)cb;
    for (size_t i = 0; i < tile->n; i++) {
        const ws_real x = fa * a[i], y = fb * b[i];
        out[i] = y == (ws_real)0 ? x : x + y; // -0 stays -0 at t = 0
    }
}

static const ws_param slerp_params[] = {
    WS_PARAM(struct slerp_opts, t, 0.5, WS_REQUIRED, -1e3, 1e3,
             "0 is the first model, 1 the second; beyond them extrapolates"),
    WS_PARAM_END,
};

static const ws_passes slerp_passes = {
    .state_size = ws_gram_state_size,
    .partial_size = ws_gram_partial_size,
    .begin = ws_gram_begin,
    .scan = slerp_scan,
    .join = ws_gram_join,
};

WS_METHOD(slerp) = {
    .name = "slerp",
    .summary = "from one model to another along the sphere",
    .formula = "theta = angle between the tensors a and b, as vectors\n"
               "out = (sin((1-t) theta) a + sin(t theta) b) / sin theta\n"
               "out = (1-t) a + t b where |cos theta| > 0.9995",
    .source = "Shoemake 1985, doi:10.1145/325334.325242",
    .notes = "A base, when given, is the first model, as in mergekit. Norms and angle "
             "are computed in double.",
    .models = { 2, 2 },
    .base = WS_BASE_NONE,
    .params = slerp_params,
    .opts_size = sizeof(struct slerp_opts),
    .keeps_equal = slerp_keeps_equal,
    .passes = &slerp_passes,
    .apply = slerp_apply,
};
