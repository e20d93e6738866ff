/*
 * recipe_flow.h - a merge as a model of another: its tensors are made when they are
 * read, and never stand on disk
 */
#ifndef WS_ENGINE_RECIPE_FLOW_H
#define WS_ENGINE_RECIPE_FLOW_H

#include "engine/plan_internal.h"

/** The result of a plan, read by slices. Thread-safe once made. */
typedef struct ws_flow ws_flow;

/**
 * Make @p plan readable. A slice is made in one piece and kept until its reader asks
 * for another; what a tensor's passes found is kept while tensors near it are read.
 * Neither changes a bit: the bytes are those that the plan would write.
 * @param plan  taken, also on failure
 * @param threads that will read at once
 * @return WS_OK; WS_E_MEMORY
 */
ws_status ws_flow_new(ws_flow **out, ws_plan *plan, int threads, ws_err *err);
void ws_flow_free(ws_flow *f);

/** Say that a reader goes through @p uses more of its tensors at once: before any is
 * read. */
void ws_flow_expect(ws_flow *f, size_t uses);

/** The plan, borrowed. */
const ws_plan *ws_flow_plan(const ws_flow *f);

/** Most bytes that the flow takes beside its plan's inputs. */
uint64_t ws_flow_memory(const ws_flow *f);

/**
 * A checkpoint called @p name of what the flow makes, which must outlive it. It is a
 * directory where the plan would write one, with the result's configuration.
 * @return WS_OK; WS_E_MEMORY
 */
ws_status ws_flow_open(ws_ckpt **out, ws_flow *f, const char *name, ws_err *err);

/** The directory whose configuration and tokenizer a plan's output carries; NULL: none.
 */
const char *ws_plan_donor(const ws_plan *plan);

#endif
