/*
 * sce.c - select entries by variance, weight models by energy, erase minority signs
 *
 *   delta_k = in_k - base
 *   keep the floor(select_topk m) entries of largest variance over the models, m being
 *   the number of entries whose variance is not 0; the rest of every delta_k is 0
 *   w_k = mean of delta_k^2, over their sum
 *   out = base + sum_k w_k m_k delta_k / sum_k w_k m_k
 *   m_k = the sign of delta_k is that of sum_k delta_k (0 counts as positive)
 */
#include "wsurg/method.h"

struct sce_opts {
    double select_topk;
};

enum { STEP = 512 };

/** What a pass does. */
enum phase { COUNT, SELECT, ENERGY, DONE };

struct sce_state {
    enum phase phase;
    uint64_t varied;              // entries whose variance is not 0
    double energy[WS_MODELS_MAX]; // sum of squares
};

/** One slice's share of a pass that is not the selection's. */
struct sce_part {
    uint64_t varied;
    ws_lanes energy[];
};

static bool selects(const ws_job *job)
{
    const struct sce_opts *o = job->opts;
    return o->select_topk < 1.0;
}

/** The selection's state follows. */
static void *selection(const void *state)
{
    return (void *)((uintptr_t)state + sizeof(struct sce_state));
}

static bool sce_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

static size_t sce_state_size(const ws_job *job)
{
    return sizeof(struct sce_state) + (selects(job) ? ws_select_state_size(job, 1) : 0);
}

static size_t sce_partial_size(const ws_job *job)
{
    const size_t select = selects(job) ? ws_select_partial_size(job, 1) : 0;
    const size_t own = sizeof(struct sce_part) + job->n_models * sizeof(ws_lanes);
    return select > own ? select : own;
}

static size_t sce_carry_size(const ws_job *job)
{
    return selects(job) ? ws_select_carry_size(1) : 0;
}

static void start_selection(const ws_job *job, struct sce_state *st)
{
    const struct sce_opts *o = job->opts;
    const double share = o->select_topk * (double)st->varied;
    const ws_band band = { 0, (uint64_t)share };
    ws_select_init(selection(st), job, 1, &band, 8 * (int)sizeof(ws_real));
    st->phase = SELECT;
}

static bool sce_begin(const ws_job *job, int pass, void *state)
{
    struct sce_state *st = state;
    if (pass == 0) {
        st->phase = selects(job) ? COUNT : ENERGY;
        return true;
    }
    if (st->phase == COUNT)
        start_selection(job, st);
    if (st->phase == SELECT && ws_select_begin(selection(st)))
        return true;
    st->phase = st->phase == SELECT ? ENERGY : DONE;
    return st->phase == ENERGY;
}

static ws_sample sce_sample(const ws_job *job, int pass, const void *state)
{
    const struct sce_state *st = state;
    (void)job;
    (void)pass;
    if (st->phase == SELECT)
        return ws_select_sample(selection(st));
    return (ws_sample){ 0, 0 };
}

/** Population variance over the models; exactly 0 where they agree. */
WS_HOT static void variance(const ws_job *job, const ws_tile *tile, size_t at, size_t n,
                            ws_real *v)
{
    const ws_real count = (ws_real)job->n_models;
    const ws_real *base = (const ws_real *)tile->base + at;
    ws_real mean[STEP] = { 0 };
    for (size_t k = 0; k < job->n_models; k++) {
        const ws_real *in = (const ws_real *)tile->in[k] + at;
        for (size_t i = 0; i < n; i++)
            mean[i] += in[i] - base[i];
    }
    for (size_t i = 0; i < n; i++) {
        mean[i] /= count;
        v[i] = (ws_real)0;
    }
    const ws_real *first = (const ws_real *)tile->in[0] + at;
    bool differs[STEP] = { false };
    for (size_t k = 0; k < job->n_models; k++) {
        const ws_real *in = (const ws_real *)tile->in[k] + at;
        for (size_t i = 0; i < n; i++) {
            const ws_real far = (in[i] - base[i]) - mean[i];
            v[i] += far * far;
            differs[i] = differs[i] || in[i] != first[i];
        }
    }
    for (size_t i = 0; i < n; i++)
        v[i] = differs[i] ? v[i] / count : (ws_real)0;
}

/** Updates of a step in the scratch arrays, cut to the selected entries; those are
 * entries of v that are not 0 after masking. */
static void cut_updates(const ws_job *job, const void *state, const ws_tile *tile,
                        size_t at, size_t n)
{
    const struct sce_state *st = state;
    ws_real v[STEP];
    for (size_t k = 0; k < job->n_models; k++)
        ws_delta(tile->tmp[k], (const ws_real *)tile->in[k] + at,
                 (const ws_real *)tile->base + at, n);
    if (!selects(job))
        return;
    ws_tally unused = { 0 };
    variance(job, tile, at, n, v);
    ws_select_mask(selection(st), 0, v, n, tile->slice, tile->carry, &unused);
    for (size_t k = 0; k < job->n_models; k++) {
        ws_real *x = tile->tmp[k];
        for (size_t i = 0; i < n; i++)
            x[i] = v[i] == (ws_real)0 ? (ws_real)0 : x[i];
    }
}

static void sce_scan(const ws_job *job, int pass, const void *state,
                     const ws_tile *tile, void *partial)
{
    const struct sce_state *st = state;
    struct sce_part *part = partial;
    ws_real v[STEP];
    (void)pass;
    for (size_t at = 0, n; at < tile->n; at += n) {
        n = tile->n - at < STEP ? tile->n - at : STEP;
        if (st->phase == ENERGY) {
            cut_updates(job, state, tile, at, n);
            for (size_t k = 0; k < job->n_models; k++)
                ws_lanes_add_dot(&part->energy[k], tile->tmp[k], tile->tmp[k], n);
            continue;
        }
        variance(job, tile, at, n, v);
        if (st->phase == SELECT)
            ws_select_scan(selection(st), 0, tile->first + at, v, n, partial);
        for (size_t i = 0; st->phase == COUNT && i < n; i++)
            part->varied += v[i] != (ws_real)0;
    }
}

static void sce_join(const ws_job *job, int pass, void *state, const void *partial,
                     uint64_t slice)
{
    struct sce_state *st = state;
    const struct sce_part *part = partial;
    (void)pass;
    if (st->phase == SELECT)
        ws_select_join(selection(st), partial, slice);
    if (st->phase == COUNT)
        st->varied += part->varied;
    for (size_t k = 0; st->phase == ENERGY && k < job->n_models; k++)
        st->energy[k] += ws_lanes_sum(&part->energy[k]);
}

/** out = base + scale sum of w_k x_k whose sign won, over their weights */
WS_HOT static void erase_and_add(const ws_job *job, const ws_tile *tile, size_t at,
                                 size_t n, const ws_real *w)
{
    const ws_real *base = (const ws_real *)tile->base + at;
    const ws_real scale = (ws_real)job->scale;
    ws_real *out = (ws_real *)tile->out + at;
    ws_real vote[STEP] = { 0 }, sum[STEP] = { 0 }, share[STEP] = { 0 };
    for (size_t k = 0; k < job->n_models; k++) {
        const ws_real *x = tile->tmp[k];
        for (size_t i = 0; i < n; i++)
            vote[i] += x[i];
    }
    for (size_t k = 0; k < job->n_models; k++) {
        const ws_real *x = tile->tmp[k];
        for (size_t i = 0; i < n; i++) {
            const bool agrees = (vote[i] >= (ws_real)0 ? x[i] : -x[i]) > (ws_real)0;
            sum[i] += agrees ? w[k] * x[i] : (ws_real)0;
            share[i] += agrees ? w[k] : (ws_real)0;
        }
    }
    for (size_t i = 0; i < n; i++) {
        const ws_real by = share[i] > (ws_real)0 ? share[i] : (ws_real)1;
        const ws_real u = scale * (sum[i] / by), moved = base[i] + u;
        out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
    }
}

static void sce_apply(const ws_job *job, const void *state, const ws_tile *tile)
{
    const struct sce_state *st = state;
    ws_real w[WS_MODELS_MAX];
    double total = 0.0;
    for (size_t k = 0; k < job->n_models; k++)
        total += st->energy[k];
    for (size_t k = 0; k < job->n_models; k++)
        w[k] = total > 0.0 ? (ws_real)(st->energy[k] / total) : (ws_real)0;
    for (size_t at = 0, n; at < tile->n; at += n) {
        n = tile->n - at < STEP ? tile->n - at : STEP;
        cut_updates(job, state, tile, at, n);
        erase_and_add(job, tile, at, n, w);
    }
}

static const ws_param sce_params[] = {
    WS_PARAM(struct sce_opts, select_topk, 1.0, 1.0, 0.0, 1.0,
             "share kept of the entries on which the models differ"),
    WS_PARAM_END,
};

static const ws_passes sce_passes = {
    .state_size = sce_state_size,
    .partial_size = sce_partial_size,
    .begin = sce_begin,
    .scan = sce_scan,
    .join = sce_join,
    .sample = sce_sample,
};

WS_METHOD(sce) = {
    .name = "sce",
    .summary = "entries selected by variance, models weighted by energy, signs erased",
    .formula = "keep the select_topk entries of largest variance over the models\n"
               "w_k = mean (in_k - base)^2, over their sum\n"
               "out = base + sum_k w_k m_k (in_k - base) / sum_k w_k m_k\n"
               "m_k = 1 where the update has the sign of the sum of all",
    .source = "Wan et al. 2024, arXiv:2408.07990",
    .notes = "Small updates are weighted as they are: mergekit's floors of 1e-6 on the "
             "energy and on the divisor make weights equal and updates small. Where no "
             "entry is selected the tensor stays the base's; mergekit 0.1.4 adds a "
             "dimension to it. Of equal variances the lower index is kept.",
    .models = { 1, WS_MODELS_MAX },
    .base = WS_BASE_REQUIRED,
    .scaled = true,
    .params = sce_params,
    .opts_size = sizeof(struct sce_opts),
    .n_tmp = -1,
    .keeps_equal = sce_keeps_equal,
    .carry_size = sce_carry_size,
    .passes = &sce_passes,
    .apply = sce_apply,
};
