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

/* ---- work on elements: kernel_update_lanes.c ---- */

#define ws_squares_add WS_TWIN(ws_squares_add)
#define ws_mix         WS_TWIN(ws_mix)
#define ws_band_delta  WS_TWIN(ws_band_delta)

/** A sum of squares for the report: in ws_real within blocks of BLOCK values, in double
 * between them; 16 fixed lanes, so that no cut into runs changes a bit. */
struct squares {
    double lane[16];
    ws_real block[16];
    uint64_t count;
};

/** Add n squares. */
void ws_squares_add(struct squares *s, const ws_real *x, size_t n);

/** Coefficients of one tensor's combination. */
struct mix {
    size_t n_models;
    bool consensus; // of the sum's sign only
    bool normalize; // entry by entry, after consensus
    ws_real coefficient[WS_MODELS_MAX], weight[WS_MODELS_MAX];
    ws_real gain;            // of the combined update
    const ws_groups *groups; // weights in place of the coefficients; may be NULL
};

/** out = base + gain (sum of x_k, or of those that have the sum's own sign, over the
 * sum of their weights when normalized). @p x (n_models) arrays of n, from element
 * @p first of the tensor on. */
void ws_mix(const struct mix *m, uint64_t first, void *const *x, const ws_real *base,
            size_t n, ws_real *out);

/** ws_mix() of floats without groups, on a processor that ws_select_has_v4(): how many
 * of the n elements were done, all but the last few. */
size_t ws_mix_v4(const struct mix *m, void *const *x, const float *base, size_t n,
                 float *out);

/** x = in - base, but zero outside the band ]limit[1], limit[0]]; counts, squares of
 * what is kept. Returns how many elements were done: whole blocks. */
size_t ws_band_delta(ws_real *x, const ws_real *in, const ws_real *base, size_t n,
                     const int64_t limit[2], struct squares *kept, ws_tally *tally);

/* ---- passes ---- */

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
