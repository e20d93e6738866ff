/*
 * karcher.c - the mean on the sphere of tensors taken as vectors
 *
 *   n_k  = |in_k|,  u_k = in_k / n_k,  m = normalised mean of the u_k
 *   step = mean_k (phi_k / sin phi_k) (u_k - c_k m),  c_k = m u_k, phi_k = acos c_k
 *   m    = cos|step| m + sin|step| step / |step|      until |step| < tol
 *   out  = (mean_k n_k) m
 *
 * All of it happens in the span of the inputs, so that their products with each other,
 * summed in double, are all that is needed: m is kept as coefficients of the u_k.
 */
#include "wsurg/method.h"

struct karcher_opts {
    int64_t max_iter;
    double tol;
};

static bool karcher_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

static void karcher_scan(const ws_job *job, int pass, const void *state,
                         const ws_tile *tile, void *partial)
{
    (void)pass;
    (void)state;
    ws_gram_add(partial, tile->in, job->n_models, tile->n);
}

/** Unit vectors: how many, and their products. */
struct sphere {
    size_t n;
    const double *products; // of the inputs
    double norm[WS_MODELS_MAX];
};

/** Product of u_i and u_j; 0 with a vector of zeros. */
static double cosine(const struct sphere *s, size_t i, size_t j)
{
    if (s->norm[i] <= 0.0 || s->norm[j] <= 0.0)
        return 0.0;
    if (i == j)
        return 1.0;
    const double p = s->products[i < j ? ws_gram_at(i, j) : ws_gram_at(j, i)];
    return fmax(-1.0, fmin(1.0, p / s->norm[i] / s->norm[j]));
}

/** Product of sum_j c_j u_j with u_i. */
static double with_unit(const struct sphere *s, const double *c, size_t i)
{
    double sum = 0.0;
    for (size_t j = 0; j < s->n; j++)
        sum += c[j] * cosine(s, i, j);
    return sum;
}

static double length(const struct sphere *s, const double *c)
{
    double sum = 0.0;
    for (size_t i = 0; i < s->n; i++)
        sum += c[i] * with_unit(s, c, i);
    return sqrt(fmax(sum, 0.0));
}

static void divide(double *c, size_t n, double by)
{
    for (size_t i = 0; i < n; i++)
        c[i] /= by;
}

/** The mean of the u_k's logarithms at m. */
static void mean_log(const struct sphere *s, const double *m, double valid, double tol,
                     double *step)
{
    memset(step, 0, s->n * sizeof *step);
    for (size_t k = 0; k < s->n; k++) {
        const double c = fmax(-1.0, fmin(1.0, with_unit(s, m, k)));
        const double phi = acos(c);
        // opposite to m there is no direction to go
        if (s->norm[k] <= 0.0 || phi < tol || sin(phi) < 1e-8)
            continue;
        const double f = phi / sin(phi) / valid;
        step[k] += f;
        for (size_t i = 0; i < s->n; i++)
            step[i] -= f * c * m[i];
    }
}

/** Coefficients of the inputs in the result. */
static void karcher_mix(const ws_job *job, const double *products, double *mix)
{
    const struct karcher_opts *o = job->opts;
    struct sphere s = { .n = job->n_models, .products = products };
    double m[WS_MODELS_MAX] = { 0 }, step[WS_MODELS_MAX], valid = 0.0, mean = 0.0;
    size_t first = s.n;
    for (size_t k = s.n; k-- > 0;) {
        s.norm[k] = sqrt(products[ws_gram_at(k, k)]);
        mean += s.norm[k] / (double)s.n;
        if (s.norm[k] > 0.0) {
            first = k;
            valid += 1.0;
        }
    }
    memset(mix, 0, s.n * sizeof *mix);
    if (first == s.n)
        return;
    for (size_t k = 0; k < s.n; k++)
        m[k] = s.norm[k] > 0.0 ? 1.0 / valid : 0.0;
    const double size = length(&s, m);
    if (size < o->tol) {
        memset(m, 0, sizeof m);
        m[first] = 1.0;
    } else {
        divide(m, s.n, size);
    }
    for (int64_t i = 0; i < o->max_iter; i++) {
        mean_log(&s, m, valid, o->tol, step);
        const double far = length(&s, step);
        if (far < o->tol)
            break;
        for (size_t k = 0; k < s.n; k++)
            m[k] = cos(far) * m[k] + sin(far) * step[k] / far;
        divide(m, s.n, length(&s, m));
    }
    for (size_t k = 0; k < s.n; k++)
        mix[k] = s.norm[k] > 0.0 ? mean * m[k] / s.norm[k] : 0.0;
}

WS_HOT static void karcher_apply(const ws_job *job, const void *state,
                                 const ws_tile *tile)
{
    enum { STEP = 1024 };
    double mix[WS_MODELS_MAX];
    ws_real *out = tile->out, sum[STEP] = { 0 };
    karcher_mix(job, state, mix);
    for (size_t at = 0, n; at < tile->n; at += n) {
        n = tile->n - at < STEP ? tile->n - at : STEP;
        for (size_t k = 0; k < job->n_models; k++) {
            const ws_real *in = (const ws_real *)tile->in[k] + at;
            const ws_real w = (ws_real)mix[k];
            for (size_t i = 0; i < n; i++)
                sum[i] = k == 0 ? w * in[i] : sum[i] + w * in[i];
        }
        memcpy(out + at, sum, n * sizeof *sum);
    }
}

static const ws_param karcher_params[] = {
    WS_PARAM(struct karcher_opts, max_iter, 10, 10, 1, 10000, "most steps taken"),
    WS_PARAM(struct karcher_opts, tol, 1e-5, 1e-5, 1e-12, 1.0,
             "a step shorter than this, in radians, is the last"),
    WS_PARAM_END,
};

static const ws_passes karcher_passes = {
    .state_size = ws_gram_state_size,
    .partial_size = ws_gram_partial_size,
    .begin = ws_gram_begin,
    .scan = karcher_scan,
    .join = ws_gram_join,
};

WS_METHOD(karcher) = {
    .name = "karcher",
    .summary = "mean of the models on the sphere, at their mean length",
    .formula = "u_k = in_k / |in_k|, m = mean of the u_k on the unit sphere\n"
               "out = m mean_k |in_k|",
    .source = "Karcher 1977, doi:10.1002/cpa.3160300502; arXiv:2603.04972",
    .notes = "A base, when given, is one more model, as in mergekit. Tensors of zeros "
             "have no direction but count in the mean length; mergekit takes those of "
             "a norm up to tol for such. Where the models cancel, the first one's "
             "direction is taken.",
    .models = { 2, WS_MODELS_MAX },
    .base = WS_BASE_NONE,
    .params = karcher_params,
    .opts_size = sizeof(struct karcher_opts),
    .keeps_equal = karcher_keeps_equal,
    .passes = &karcher_passes,
    .apply = karcher_apply,
};
