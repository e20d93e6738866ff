/*
 * sums.h - what a run sums up beside its output: norms and products of updates,
 * rounding, changed elements; and the search for what is not finite
 */
#ifndef WS_ENGINE_SUMS_H
#define WS_ENGINE_SUMS_H

#include "engine/exec.h"

/** Whether there is no NaN and no infinity, in BF16 as stored: half as much to look at
 * as in floats. */
bool ws_all_finite_bf16(const uint16_t *x, size_t n);

/** Index of the first NaN or infinity, n if none. */
size_t ws_first_nonfinite_f32(const float *x, size_t n);
size_t ws_first_nonfinite_f64(const double *x, size_t n);

/** out = in[0] (or base) where it and all other sources have the same bits. */
void ws_keep_equal(bool wide, const ws_tile *tile, size_t n_models);

/** Number of elements whose sources do not all have the same bits. */
uint64_t ws_count_changed(bool wide, const ws_tile *tile, size_t n_models);

/** Add base^2, (out-base)^2, (back-out)^2 where @p back is there, and the products of
 * updates into lanes (ws_sums_count of the plan's models); count changed elements. */
void ws_sums_update(bool wide, const ws_tile *tile, const void *back, const ws_job *job,
                    const uint32_t *model_of, size_t n_models, ws_lanes *lanes,
                    double *changed);

/** Add |out - base| and |sum_k in_k - base|. */
void ws_sums_l1(bool wide, const ws_tile *tile, size_t n_models, ws_lanes *lanes);

#endif
