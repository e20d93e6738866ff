/*
 * kernel_update.h - what the two halves of the task-vector kernels share:
 * kernel_update.c (what is asked of a job, passes) and kernel_update_apply.c (work on
 * elements, for float and double)
 */
#ifndef WS_ENGINE_KERNEL_UPDATE_H
#define WS_ENGINE_KERNEL_UPDATE_H

#include "wsurg/method.h"

/** Of one model, over the tensor: sums of |x| before and after pruning. */
struct update_sums {
    double before, after;
};

/** One slice's share of them. */
struct update_lanes {
    ws_lanes before, after;
};

/** State of the passes; the selection's follows. */
struct update_state {
    bool selecting;            // the pass under way is one of the selection
    bool summed;               // the pass over the L1 sums has begun
    struct update_sums sums[]; // (n_models)
};

/** Vectors that are ranked: along the second dimension, at a stride. */
struct update_ranked {
    size_t n, stride; // entries of a vector, and from one to the next
};

/** Keep probability of the entry of rising rank r = 0 .. n-1: low + step r. */
struct update_ramp {
    double low, step;
};

/** Whether anything is pruned at all: a number without a dimension has no row. */
bool ws_update_prunes(const ws_job *job, const ws_update *u);
/** Whether a band is selected over the whole tensor: a vector is a single row. */
bool ws_update_selects(const ws_job *job, const ws_update *u);
/** Whether pruning needs rows, or a vector, as a whole. */
bool ws_update_by_row(const ws_job *job, const ws_update *u);

/** Counts out of @p n elements. */
ws_band ws_update_band(const ws_update *u, size_t k, uint64_t n);
struct update_ranked ws_update_ranked(const ws_job *job);
struct update_ramp ws_update_ramp(const ws_update *u, size_t k, size_t n);
/** What model k's pruned update is multiplied by. */
double ws_update_factor(const ws_job *job, const ws_update *u,
                        const struct update_state *st, size_t k);

/** The selection's state, within that of the passes. */
void *ws_update_selection(const ws_job *job, const struct update_state *st);

size_t ws_update_state_size(const ws_job *job);
size_t ws_update_partial_size(const ws_job *job);
bool ws_update_begin(const ws_job *job, int pass, void *state, int bits);
void ws_update_join(const ws_job *job, int pass, void *state, const void *partial,
                    uint64_t slice);
ws_sample ws_update_sample(const ws_job *job, int pass, const void *state);

#endif
