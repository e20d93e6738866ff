/*
 * ramplus_tl.c - as ram, and entries that only one model changed are amplified
 *
 *   delta_k  = in_k - base,  z_k = |delta_k| > epsilon,  c = sum_k z_k
 *   rho_k    = entries of z_k with c > 1 / entries of z_k with c = 1
 *   lambda_k = 1 + r min(rho_k, alpha)
 *   out      = base + sum_k z_k delta_k (lambda_k where c = 1, else 1 / c)
 */
#include "wsurg/method.h"

struct ramplus_tl_opts {
    double epsilon, r, alpha;
};

enum { STEP = 512 };

/** Entries that a model changed, alone or with others, in all of the tensor or in one
 * slice. */
struct changed {
    uint64_t alone, shared;
};

static bool ramplus_tl_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

static size_t ramplus_tl_state_size(const ws_job *job)
{
    return job->n_models * sizeof(struct changed);
}

static bool ramplus_tl_begin(const ws_job *job, int pass, void *state)
{
    (void)job;
    (void)state;
    return pass == 0;
}

/** Whether |in - base| > epsilon, as 0 or 1, and how many models that holds for. */
WS_HOT static void count_models(const ws_job *job, const ws_tile *tile, size_t at,
                                size_t n, int32_t *count)
{
    const struct ramplus_tl_opts *o = job->opts;
    const ws_real epsilon = (ws_real)o->epsilon;
    const ws_real *base = (const ws_real *)tile->base + at;
    memset(count, 0, n * sizeof *count);
    for (size_t k = 0; k < job->n_models; k++) {
        const ws_real *in = (const ws_real *)tile->in[k] + at;
        for (size_t i = 0; i < n; i++) {
            const ws_real delta = in[i] - base[i];
            count[i] += (delta < (ws_real)0 ? -delta : delta) > epsilon;
        }
    }
}

WS_HOT static void count_entries(const ws_real *in, const ws_real *base,
                                 ws_real epsilon, const int32_t *count, size_t n,
                                 struct changed *sum)
{
    int32_t alone = 0, shared = 0;
    for (size_t i = 0; i < n; i++) {
        const ws_real delta = in[i] - base[i];
        const bool changed = (delta < (ws_real)0 ? -delta : delta) > epsilon;
        alone += changed && count[i] == 1;
        shared += changed && count[i] > 1;
    }
    sum->alone += (uint64_t)alone;
    sum->shared += (uint64_t)shared;
}

static void ramplus_tl_scan(const ws_job *job, int pass, const void *state,
                            const ws_tile *tile, void *partial)
{
    const struct ramplus_tl_opts *o = job->opts;
    int32_t count[STEP];
    (void)pass;
    (void)state;
    for (size_t at = 0, n; at < tile->n; at += n) {
        n = tile->n - at < STEP ? tile->n - at : STEP;
        count_models(job, tile, at, n, count);
        for (size_t k = 0; k < job->n_models; k++)
            count_entries((const ws_real *)tile->in[k] + at,
                          (const ws_real *)tile->base + at, (ws_real)o->epsilon, count,
                          n, (struct changed *)partial + k);
    }
}

static void ramplus_tl_join(const ws_job *job, int pass, void *state,
                            const void *partial, uint64_t slice)
{
    struct changed *sum = state;
    const struct changed *part = partial;
    (void)pass;
    (void)slice;
    for (size_t k = 0; k < job->n_models; k++) {
        sum[k].alone += part[k].alone;
        sum[k].shared += part[k].shared;
    }
}

/** lambda_k; without entries of its own there is nothing that it multiplies. */
static ws_real gain(const struct ramplus_tl_opts *o, struct changed c)
{
    const double rho = c.alone > 0 ? (double)c.shared / (double)c.alone : o->alpha;
    return (ws_real)(1.0 + o->r * fmin(rho, o->alpha));
}

WS_HOT static void add_changed(ws_real *sum, const ws_real *in, const ws_real *base,
                               ws_real epsilon, ws_real lambda, const int32_t *count,
                               size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const ws_real delta = in[i] - base[i];
        const bool changed = (delta < (ws_real)0 ? -delta : delta) > epsilon;
        const ws_real x = count[i] == 1 ? lambda * delta : delta;
        sum[i] += changed ? x : (ws_real)0;
    }
}

WS_HOT static void add_shares(ws_real *out, const ws_real *base, const ws_real *sum,
                              const int32_t *count, ws_real scale, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const ws_real share = (ws_real)(count[i] > 1 ? count[i] : 1);
        const ws_real u = scale * (sum[i] / share), moved = base[i] + u;
        out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
    }
}

static void ramplus_tl_apply(const ws_job *job, const void *state, const ws_tile *tile)
{
    const struct ramplus_tl_opts *o = job->opts;
    const struct changed *changed = state;
    int32_t count[STEP];
    ws_real sum[STEP];
    for (size_t at = 0, n; at < tile->n; at += n) {
        const ws_real *base = (const ws_real *)tile->base + at;
        n = tile->n - at < STEP ? tile->n - at : STEP;
        count_models(job, tile, at, n, count);
        memset(sum, 0, sizeof sum);
        for (size_t k = 0; k < job->n_models; k++)
            add_changed(sum, (const ws_real *)tile->in[k] + at, base,
                        (ws_real)o->epsilon, gain(o, changed[k]), count, n);
        add_shares((ws_real *)tile->out + at, base, sum, count, (ws_real)job->scale, n);
    }
}

static const ws_param ramplus_tl_params[] = {
    WS_PARAM(struct ramplus_tl_opts, epsilon, 1e-5, 1e-5, 0.0, 1e6,
             "an entry counts as changed when its update is larger"),
    WS_PARAM(struct ramplus_tl_opts, r, 0.1, 0.1, 0.0, 1e3,
             "gain of a model's own entries per ratio of shared to own ones"),
    WS_PARAM(struct ramplus_tl_opts, alpha, 0.2, 0.2, 0.0, 1e6, "bound of that ratio"),
    WS_PARAM_END,
};

static const ws_passes ramplus_tl_passes = {
    .state_size = ramplus_tl_state_size,
    .partial_size = ramplus_tl_state_size,
    .begin = ramplus_tl_begin,
    .scan = ramplus_tl_scan,
    .join = ramplus_tl_join,
};

WS_METHOD(ramplus_tl) = {
    .name = "ramplus_tl",
    .summary = "as ram, with entries that one model alone changed amplified",
    .formula = "z_k = |in_k - base| > epsilon, c = sum_k z_k\n"
               "rho_k = shared entries of k / own entries of k, over the tensor\n"
               "out = base + sum_k z_k (in_k - base) w_k\n"
               "w_k = 1 + r min(rho_k, alpha) where c = 1, else 1 / c",
    .source = "Reinforced Agent Merging, 2026, arXiv:2601.13572",
    .notes = "As in mergekit the ratio is of the tensor (tl); the paper's is of the "
             "model.",
    .models = { 1, WS_MODELS_MAX },
    .base = WS_BASE_REQUIRED,
    .scaled = true,
    .params = ramplus_tl_params,
    .opts_size = sizeof(struct ramplus_tl_opts),
    .keeps_equal = ramplus_tl_keeps_equal,
    .passes = &ramplus_tl_passes,
    .apply = ramplus_tl_apply,
};
