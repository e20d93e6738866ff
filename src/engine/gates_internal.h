/*
 * gates_internal.h - what the files of gates share
 */
#ifndef WS_ENGINE_GATES_INTERNAL_H
#define WS_ENGINE_GATES_INTERNAL_H

#include "wsurg/alloc.h"
#include "wsurg/gates.h"
#include "wsurg/text.h"

/** One more gate, passed so far. */
ws_gate *ws_gate_new(ws_gates *g, const char *name, double limit);

/** One more offender of a counting gate: its value rises by one. @p tensor is borrowed
 * from the checkpoint, or static; @p note may be NULL. */
void ws_gate_count(ws_gate *g, const char *tensor, double value, const char *note);

/** The gate `config-consistent`. WS_OK; WS_E_MISSING no config.json; WS_E_HEADER it is
 * no JSON; WS_E_IO; WS_E_MEMORY. */
ws_status ws_gate_config(ws_gates *g, const ws_ckpt *c, ws_err *err);

#endif
