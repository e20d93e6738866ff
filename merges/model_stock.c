/*
 * model_stock.c - the average of fine-tunes, drawn to the base by the angle between
 * them
 *
 *   delta_k = in_k - base, N models
 *   c       = mean over pairs i < j of cos(delta_i, delta_j)
 *   t       = N c / (1 + (N-1) c)
 *   out     = base + t mean_k delta_k
 *
 * Over the tensor, or with filter_wise for each row of the last dimension. A cosine
 * with a delta of zeros is 0. Deltas that cancel, 1 + (N-1) c < 1e-6, leave the base.
 */
#include "wsurg/method.h"

struct model_stock_opts {
    bool filter_wise;
};

/** True where every row has a t of its own; a vector is one row. */
static bool by_row(const ws_job *job)
{
    const struct model_stock_opts *o = job->opts;
    return o->filter_wise && job->rank > 1;
}

static bool model_stock_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

static ws_unit model_stock_unit(const ws_job *job)
{
    return by_row(job) ? WS_UNIT_ROW : WS_UNIT_ELEMENT;
}

/** Products of one row, in lanes and summed. */
static size_t model_stock_carry_size(const ws_job *job)
{
    const size_t pairs = ws_gram_pairs(job->n_models);
    return by_row(job) ? pairs * (sizeof(ws_lanes) + sizeof(double)) : 0;
}

static bool model_stock_begin(const ws_job *job, int pass, void *state)
{
    return !by_row(job) && ws_gram_begin(job, pass, state);
}

static void take_deltas(const ws_job *job, const ws_tile *tile)
{
    for (size_t k = 0; k < job->n_models; k++)
        ws_delta(tile->tmp[k], tile->in[k], tile->base, tile->n);
}

static void model_stock_scan(const ws_job *job, int pass, const void *state,
                             const ws_tile *tile, void *partial)
{
    (void)pass;
    (void)state;
    take_deltas(job, tile);
    ws_gram_add(partial, (const void *const *)tile->tmp, job->n_models, tile->n);
}

/** t of deltas with these products. */
static double ratio(size_t n, const double *products)
{
    const double N = (double)n;
    double sum = 0.0;
    for (size_t j = 1; j < n; j++)
        for (size_t i = 0; i < j; i++) {
            const double size =
                sqrt(products[ws_gram_at(i, i)]) * sqrt(products[ws_gram_at(j, j)]);
            const double c = size > 0.0 ? products[ws_gram_at(i, j)] / size : 0.0;
            sum += fmax(-1.0, fmin(1.0, c));
        }
    const double c = sum / (N * (N - 1.0) / 2.0);
    const double rest = 1.0 + (N - 1.0) * c;
    return rest < 1e-6 ? 0.0 : N * c / rest;
}

/** out = base + step sum_k delta_k for n elements of a tile; uses up delta_0. */
WS_HOT static void add_deltas(const ws_job *job, const ws_tile *tile, size_t at,
                              size_t n, ws_real step)
{
    const ws_real *base = (const ws_real *)tile->base + at;
    ws_real *out = (ws_real *)tile->out + at, *sum = (ws_real *)tile->tmp[0] + at;
    for (size_t k = 1; k < job->n_models; k++) {
        const ws_real *delta = (const ws_real *)tile->tmp[k] + at;
        for (size_t i = 0; i < n; i++)
            sum[i] += delta[i];
    }
    for (size_t i = 0; i < n; i++) {
        const ws_real u = step * sum[i], moved = base[i] + u;
        out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
    }
}

/** t of the deltas of one row, elements at .. at+n-1 of a tile. */
static double row_ratio(const ws_job *job, const ws_tile *tile, size_t at, size_t n)
{
    const size_t pairs = ws_gram_pairs(job->n_models);
    ws_lanes *lanes = tile->carry;
    double *products = (double *)(void *)(lanes + pairs);
    const void *row[WS_MODELS_MAX];

    for (size_t k = 0; k < job->n_models; k++)
        row[k] = (const ws_real *)tile->tmp[k] + at;
    memset(lanes, 0, pairs * sizeof *lanes);
    ws_gram_add(lanes, row, job->n_models, n);
    for (size_t p = 0; p < pairs; p++)
        products[p] = ws_lanes_sum(&lanes[p]);
    return ratio(job->n_models, products);
}

static void model_stock_apply(const ws_job *job, const void *state, const ws_tile *tile)
{
    const size_t run = by_row(job) ? (size_t)job->shape[job->rank - 1] : tile->n;
    take_deltas(job, tile);
    for (size_t at = 0; at < tile->n; at += run) {
        const double t =
            by_row(job) ? row_ratio(job, tile, at, run) : ratio(job->n_models, state);
        const double step = job->scale * t / (double)job->n_models;
        add_deltas(job, tile, at, run, (ws_real)step);
    }
}

static const ws_param model_stock_params[] = {
    WS_BOOL(struct model_stock_opts, filter_wise, false, false,
            "one ratio per row of the last dimension, not per tensor"),
    WS_PARAM_END,
};

static const ws_passes model_stock_passes = {
    .state_size = ws_gram_state_size,
    .partial_size = ws_gram_partial_size,
    .begin = model_stock_begin,
    .scan = model_stock_scan,
    .join = ws_gram_join,
};

WS_METHOD(model_stock) = {
    .name = "model_stock",
    .summary = "average of the models, drawn to the base by the angle between them",
    .formula = "c = mean cosine between the updates in_k - base of N models\n"
               "t = N c / (1 + (N-1) c)\n"
               "out = t mean_k in_k + (1-t) base",
    .source = "Jang et al. 2024, arXiv:2403.19522",
    .notes = "The paper has two models; for more, as in mergekit, their cosines are "
             "averaged. Small updates count as they are: mergekit's floor of 1e-6 "
             "below the product of norms draws them to the base. Updates that cancel "
             "(1 + (N-1) c below 1e-6; in mergekit a division by zero) leave the base. "
             "t may be negative.",
    .models = { 2, WS_MODELS_MAX },
    .base = WS_BASE_REQUIRED,
    .scaled = true,
    .params = model_stock_params,
    .opts_size = sizeof(struct model_stock_opts),
    .n_tmp = -1,
    .keeps_equal = model_stock_keeps_equal,
    .unit = model_stock_unit,
    .carry_size = model_stock_carry_size,
    .passes = &model_stock_passes,
    .apply = model_stock_apply,
};
