/*
 * peft.h - an adapter from parts in memory, and one as a part of a larger output
 */
#ifndef WS_HF_PEFT_H
#define WS_HF_PEFT_H

#include "ckpt/stage.h"
#include "wsurg/adapter.h"

/** As ws_adapter_open(), from the text of a configuration and open weights, which are
 * the adapter's on success. @p path is only named. */
WS_API ws_status ws_adapter_from(ws_adapter **out, const char *path, const char *config,
                                 size_t len, ws_ckpt *file, ws_diag *warnings,
                                 ws_err *err);

/**
 * Put the two files of an adapter into @p folder ("adapter/") of an output that is
 * staged already; its manifest and its showing are the caller's.
 * @return as ws_adapter_write()
 */
WS_API ws_status ws_adapter_stage(const ws_adapter_spec *spec, bool no_provenance,
                                  ws_stage *stage, const char *folder, ws_err *err);

#endif
