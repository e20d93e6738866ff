/*
 * linears.h - which tensors of a checkpoint are linears, and what PEFT calls them
 */
#ifndef WS_SURGERY_LINEARS_H
#define WS_SURGERY_LINEARS_H

#include "wsurg/alloc.h"
#include "wsurg/ckpt.h"
#include "wsurg/pattern.h"

/** A matrix of a block: "....7....weight" of two dimensions. */
bool ws_linear_is(const ws_tensor *t);

/** Which linears were asked for. */
typedef struct ws_targets {
    const char *const *patterns; /**< (n), borrowed; none: every matrix of a block */
    size_t n;
    ws_pattern_set **set;
    bool *hit; /**< (n) whether one hit a linear */
} ws_targets;

/** @return as ws_pattern_new(); WS_E_MEMORY. Close it also after a failure. */
ws_status ws_targets_open(ws_targets *t, const char *const *patterns, size_t n,
                          ws_err *err);

/** Whether @p x is one, into *in. As ws_pattern_match(). */
ws_status ws_targets_match(ws_targets *t, const ws_tensor *x, bool *in, ws_err *err);

/** @return WS_OK; WS_E_USAGE a pattern hit nothing */
ws_status ws_targets_all_hit(const ws_targets *t, ws_err *err);
void ws_targets_close(ws_targets *t);

/** Whether the linears are stored (in, out), as GPT-2's are. */
bool ws_linear_transposed(const ws_ckpt *model);

/** Module path: the tensor's name without ".weight", with the outer prefix that
 * transformers gives to GPT-2's. The arena's; NULL: no memory. */
const char *ws_linear_module(ws_arena *arena, bool transposed, const char *name);

#endif
