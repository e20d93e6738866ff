/*
 * peft.h - an adapter from parts in memory, for tests and fuzzing
 */
#ifndef WS_HF_PEFT_H
#define WS_HF_PEFT_H

#include "wsurg/adapter.h"

/** As ws_adapter_open(), from the text of a configuration and open weights, which are
 * the adapter's on success. @p path is only named. */
WS_API ws_status ws_adapter_from(ws_adapter **out, const char *path, const char *config,
                                 size_t len, ws_ckpt *file, ws_diag *warnings,
                                 ws_err *err);

#endif
