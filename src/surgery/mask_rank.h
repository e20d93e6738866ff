/*
 * mask_rank.h - the K largest of many numbers that come in pieces, exactly
 *
 * Magnitudes are ranked by the bits of their floats, which order as the numbers do.
 * The source is asked three times for all pieces, in the same order; among equals the
 * earlier one comes in. @source seed methods, 7: two histograms, exact
 */
#ifndef WS_SURGERY_MASK_RANK_H
#define WS_SURGERY_MASK_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wsurg/err.h"

typedef struct ws_rank ws_rank;

/** The cut: larger magnitudes are in, equal ones while their place is before .ties. */
typedef struct ws_rank_cut {
    uint32_t bits;       /**< of the least magnitude that is in */
    uint64_t ties;       /**< place, over all pieces together, where equal ones end */
    uint64_t kept, seen; /**< numbers that are in; that were seen */
} ws_rank_cut;

/** Find the cut of the @p count largest. Zeros are never in.
 * @return WS_OK; WS_E_MEMORY */
ws_status ws_rank_new(ws_rank **out, uint64_t count, ws_err *err);
void ws_rank_free(ws_rank *r);

enum { WS_RANK_PASSES = 3 };

/** Another pass begins. */
void ws_rank_begin(ws_rank *r, int pass);

/** The next piece of the pass: (n) magnitudes, none negative. */
void ws_rank_add(ws_rank *r, const float *x, size_t n);

/** The cut, after all passes. */
ws_rank_cut ws_rank_cut_of(const ws_rank *r);

/** Whether magnitude @p x at @p place is in. */
bool ws_rank_in(const ws_rank_cut *c, float x, uint64_t place);

#endif
