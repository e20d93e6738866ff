/*
 * hft.h - the plan of a round of half fine-tuning
 */
#ifndef WS_SURGERY_HFT_H
#define WS_SURGERY_HFT_H

#include "hf/freeze_plan.h"
#include "wsurg/ckpt.h"
#include "wsurg/mask.h"

/** Choose what round @p round of @p seed freezes of @p model; figures may be NULL.
 * As ws_mask_hft(). */
ws_status ws_hft_plan(ws_freeze_plan *out, const ws_ckpt *model, uint64_t seed,
                      uint64_t round, ws_mask_hft_result *figures, ws_err *err);

#endif
