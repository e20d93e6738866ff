/*
 * step.h - a place for tests to kill the process between two file-system steps
 */
#ifndef WS_CKPT_STEP_H
#define WS_CKPT_STEP_H

#include <stdbool.h>

#include "wsurg/export.h"

/** Called before each step that changes files of an output. Does nothing, but in tests
 * that asked for ws_stage_kill_after(). */
WS_API void ws_stage_step(void);

/** For tests: kill the process (SIGKILL) before the step after the next @p n;
 * negative: never. */
WS_API void ws_stage_kill_after(long n);

/** For tests: treat the file system as one that knows neither a rename without
 * replacing nor an exchange. */
WS_API void ws_stage_plain_renames(bool plain);

/** Whether a test asked for that. */
WS_API bool ws_stage_has_plain_renames(void);

#endif
