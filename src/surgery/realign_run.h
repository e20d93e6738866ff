/*
 * realign_run.h - a realignment at work: what its files share
 *
 *   realign.c         request to masks; the reference; steps
 *   realign_keep.c    whether the output is there; checkpoints and the log of steps
 *   realign_write.c   the recipe, the mask, the model or adapter
 */
#ifndef WS_SURGERY_REALIGN_RUN_H
#define WS_SURGERY_REALIGN_RUN_H

#include "surgery/mask_run.h"
#include "train/optim.h"
#include "train/pairs.h"
#include "train/tune.h"
#include "wsurg/realign.h"

typedef struct ws_realign_run {
    const ws_realign_req *req;
    const ws_ctx *ctx;
    ws_mask_run run;
    ws_mask_run_req run_req;
    ws_soft soft;
    ws_pairs reference;
    float *numbers; /**< logits | gradients | moments, of all blocks */
    ws_slot_f32 slot;
    ws_optim *optim;
    bool opened;
    ws_buf recipe;
    /** A fine-tuning as far as its checkpoints and its log go: steps done, the sums of
     * losses that the report wants, the slot above. */
    ws_tune kept;
    ws_tune_req kept_req;
    bool unchanged; /**< --resume, and the output is what this request makes */
    double began;
    uint64_t tokens; /**< since .began */
} ws_realign_run;

/** The operator, with what WS_REALIGN_AUTO stands for. */
ws_soft_op ws_realign_op_of(const ws_realign_req *r);

/* ---- realign_keep.c ---- */

/** WS_E_EXISTS when the output is there, neither replaced nor resumed. */
ws_status ws_realign_target(const ws_realign_req *r, ws_err *err);

/** With the recipe: whether the output is there already; else the checkpoint to go on
 * from, and the log. @return as ws_tune_run() */
ws_status ws_realign_keep_open(ws_realign_run *a, ws_err *err);

/** After a step: the log; a checkpoint when it is time. */
ws_status ws_realign_keep_step(ws_realign_run *a, const ws_realign_step *s,
                               ws_err *err);

/** WS_E_INTERRUPTED, with a checkpoint, when somebody asked the run to stop. */
ws_status ws_realign_keep_stop(ws_realign_run *a, ws_err *err);

/** @param failed  the checkpoint stays */
void ws_realign_keep_close(ws_realign_run *a, bool failed);

/* ---- realign_write.c ---- */

/** The recipe, into a->recipe. */
ws_status ws_realign_recipe(ws_realign_run *a, ws_err *err);

/** Figures, mask, output. */
ws_status ws_realign_write(ws_realign_run *a, ws_realign_result *out, ws_err *err);

#endif
