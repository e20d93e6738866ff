/*
 * freeze_plan.h - which tensors a round of half fine-tuning leaves alone
 *
 *     {"schema":"wsurg-freeze-plan/1","seed":0,"round":0,"frozen":["name",...]}
 *
 * Written by mask hft, read by tune and mask half-reset.
 */
#ifndef WS_HF_FREEZE_PLAN_H
#define WS_HF_FREEZE_PLAN_H

#include "wsurg/alloc.h"
#include "wsurg/err.h"
#include "wsurg/text.h"

#define WS_FREEZE_PLAN_SCHEMA "wsurg-freeze-plan/1"

typedef struct ws_freeze_plan {
    const char **frozen; /**< (n) sorted */
    size_t n;
    ws_arena arena;
} ws_freeze_plan;

/** @return WS_OK; WS_E_HEADER not such a file; WS_E_IO; WS_E_MEMORY */
WS_API ws_status ws_freeze_plan_read(ws_freeze_plan *out, const char *path,
                                     ws_err *err);
WS_API void ws_freeze_plan_free(ws_freeze_plan *p);

/** Whether @p name is frozen. */
WS_API bool ws_freeze_plan_has(const ws_freeze_plan *p, const char *name);

/** The plan as the text of its file. */
WS_API void ws_freeze_plan_text(const ws_freeze_plan *p, uint64_t seed, uint64_t round,
                                ws_buf *out);

#endif
