/*
 * linears.h - which tensors of a checkpoint are linears, and what PEFT calls them
 */
#ifndef WS_SURGERY_LINEARS_H
#define WS_SURGERY_LINEARS_H

#include "wsurg/alloc.h"
#include "wsurg/ckpt.h"

/** A matrix of a block: "....7....weight" of two dimensions. */
bool ws_linear_is(const ws_tensor *t);

/** Whether the linears are stored (in, out), as GPT-2's are. */
bool ws_linear_transposed(const ws_ckpt *model);

/** Module path: the tensor's name without ".weight", with the outer prefix that
 * transformers gives to GPT-2's. The arena's; NULL: no memory. */
const char *ws_linear_module(ws_arena *arena, bool transposed, const char *name);

#endif
