/*
 * tune_result.h - an adapter's files as those of any other output
 *
 * Apart from tune.h, as the engine's header and that of a step of training both have
 * something called ws_step.
 */
#ifndef WS_TRAIN_TUNE_RESULT_H
#define WS_TRAIN_TUNE_RESULT_H

#include "wsurg/manifest.h"
#include "wsurg/merge.h"

/** The weights that manifest @p m of output @p w lists. WS_OK; WS_E_MEMORY. */
ws_status ws_tune_result_files(ws_result **out, const ws_manifest *m,
                               const ws_write_opts *w, ws_err *err);

#endif
