/*
 * kernel_update.c - what all task-vector methods share
 *
 *   delta_k = in_k - base
 *   x_k     = weight_k factor_k prune_k(delta_k)      factor: rescaling, 1 without
 *   out     = base + scale lambda combine_k(x_k)      combine: sum, or sum of those
 *                                                     whose sign agrees; may be a mean
 *
 * Passes: those of the selection where a band of ranks over the tensor is kept, then
 * one over sum |delta| before and after pruning where "l1" asks for it.
 *
 * Work goes in steps short enough to stay in the first-level cache; where pruning needs
 * whole rows, a step is a number of rows. Where the combined update is zero the base's
 * own bits are kept (-0 + 0 would be +0).
 *
 * Departure from mergekit: its absolute floors on the L1 sums (1e-7) are replaced by a
 * test for zero.
 */
#include "engine/kernel_update.h"

bool ws_update_selects(const ws_job *job, const ws_update *u)
{
    return u->prune == WS_PRUNE_BAND && !(u->by_row && job->rank != 1);
}

bool ws_update_by_row(const ws_job *job, const ws_update *u)
{
    return u->prune == WS_PRUNE_RANKED ||
           (u->prune == WS_PRUNE_BAND && u->by_row && job->rank > 1);
}

bool ws_update_prunes(const ws_job *job, const ws_update *u)
{
    return u->prune != WS_PRUNE_NONE &&
           !(u->prune == WS_PRUNE_BAND && u->by_row && job->rank == 0);
}

/** Counts as mergekit takes them, truncated; but dropping no large entry drops none
 * (mergekit: all). */
ws_band ws_update_band(const ws_update *u, size_t k, uint64_t n)
{
    const uint64_t keep = (uint64_t)(u->density[k] * (double)n);
    const uint64_t top = u->gamma != NULL ? (uint64_t)(u->gamma[k] * (double)n) : 0;
    return (ws_band){ keep + top > n ? n - keep : top, keep };
}

/* ---- descriptor ------------------------------------------------------------------ */

bool ws_update_keeps_equal(const ws_job *job)
{
    (void)job;
    return true; // no update: nothing to combine
}

ws_unit ws_update_unit(const ws_job *job)
{
    const ws_update u = job->method->update(job);
    if (!ws_update_by_row(job, &u))
        return WS_UNIT_ELEMENT;
    return job->rank > 1 ? WS_UNIT_ROW : WS_UNIT_TENSOR;
}

const char *ws_update_no_op(const ws_job *job)
{
    const ws_update u = job->method->update(job);
    if (u.prune == WS_PRUNE_NONE)
        return NULL;
    for (size_t k = 0; k < job->n_models; k++)
        if (u.density[k] < 1.0)
            return NULL;
    return "density is 1: nothing is pruned";
}

ws_status ws_update_check(const ws_job *job, ws_err *err)
{
    const ws_update u = job->method->update(job);
    for (size_t k = 0; k < job->n_models && u.prune == WS_PRUNE_RANKED; k++) {
        const double d = u.density[k], e = u.epsilon[k];
        if (!(d > 0.0 && d < 1.0) || (d - e > 0.0 && d + e < 1.0))
            continue;
        ws_fail(err, WS_E_USAGE,
                "'density' %g with 'epsilon' %g gives probabilities from %g to %g, not "
                "between 0 and 1",
                d, e, d - e, d + e);
        ws_err_hint(err, "with this density take an epsilon below %g",
                    d < 0.5 ? d : 1.0 - d);
        return WS_E_USAGE;
    }
    // counters and indices within a row, or a slice, are 32 bits wide
    const bool ranks = u.prune == WS_PRUNE_BAND || u.prune == WS_PRUNE_RANKED;
    const uint64_t run =
        ws_update_unit(job) == WS_UNIT_TENSOR ? job->n : job->slice_len;
    if (ranks && run > INT32_MAX)
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "a row of %llu elements is too long to be ranked, at most "
                       "2147483647",
                       (unsigned long long)run);
    return WS_OK;
}

/* ---- passes ---------------------------------------------------------------------- */

void *ws_update_selection(const ws_job *job, const struct update_state *st)
{
    return (void *)(uintptr_t)(st->sums + job->n_models);
}

size_t ws_update_state_size(const ws_job *job)
{
    const ws_update u = job->method->update(job);
    return sizeof(struct update_state) + job->n_models * sizeof(struct update_sums) +
           (ws_update_selects(job, &u) ? ws_select_state_size(job, job->n_models) : 0);
}

size_t ws_update_partial_size(const ws_job *job)
{
    const ws_update u = job->method->update(job);
    const size_t select =
        ws_update_selects(job, &u) ? ws_select_partial_size(job, job->n_models) : 0;
    const size_t sums = job->n_models * sizeof(struct update_lanes);
    return select > sums ? select : sums;
}

bool ws_update_begin(const ws_job *job, int pass, void *state, int bits)
{
    const ws_update u = job->method->update(job);
    struct update_state *st = state;
    if (pass == 0 && ws_update_selects(job, &u)) {
        ws_band bands[WS_MODELS_MAX];
        for (size_t k = 0; k < job->n_models; k++)
            bands[k] = ws_update_band(&u, k, job->n);
        ws_select_init(ws_update_selection(job, st), job, job->n_models, bands, bits);
        st->selecting = true;
    }
    if (st->selecting && ws_select_begin(ws_update_selection(job, st)))
        return true;
    st->selecting = false;
    if (st->summed || !ws_update_prunes(job, &u) || u.rescale != WS_RESCALE_L1)
        return false;
    st->summed = true;
    return true;
}

void ws_update_join(const ws_job *job, int pass, void *state, const void *partial,
                    uint64_t slice)
{
    struct update_state *st = state;
    (void)pass;
    if (st->selecting) {
        ws_select_join(ws_update_selection(job, st), partial, slice);
        return;
    }
    const struct update_lanes *part = partial;
    for (size_t k = 0; k < job->n_models; k++) {
        st->sums[k].before += ws_lanes_sum(&part[k].before);
        st->sums[k].after += ws_lanes_sum(&part[k].after);
    }
}

ws_sample ws_update_sample(const ws_job *job, int pass, const void *state)
{
    const struct update_state *st = state;
    (void)pass;
    if (st->selecting)
        return ws_select_sample(ws_update_selection(job, st));
    return (ws_sample){ 0, 0 };
}

double ws_update_factor(const ws_job *job, const ws_update *u,
                        const struct update_state *st, size_t k)
{
    if (!ws_update_prunes(job, u))
        return 1.0;
    if (u->rescale == WS_RESCALE_L1) {
        const struct update_sums s = st->sums[k];
        return s.before > 0.0 && s.after > 0.0 ? s.before / s.after : 1.0;
    }
    const bool inverse = u->rescale == WS_RESCALE_INVERSE && u->density[k] > 0.0;
    // ranked entries have each been divided by their own probability
    return inverse && u->prune != WS_PRUNE_RANKED ? 1.0 / u->density[k] : 1.0;
}

struct update_ranked ws_update_ranked(const ws_job *job)
{
    if (job->rank < 2)
        return (struct update_ranked){ (size_t)job->n, 1 };
    const size_t n = (size_t)job->shape[1];
    return (struct update_ranked){ n, n > 0 ? (size_t)job->row / n : 1 };
}

struct update_ramp ws_update_ramp(const ws_update *u, size_t k, size_t n)
{
    const double d = u->density[k], e = u->epsilon[k];
    if (n == 1)
        return (struct update_ramp){ d, 0.0 }; // mergekit: 0/0
    return (struct update_ramp){ d - e, 2.0 * e / (double)(n - 1) };
}
