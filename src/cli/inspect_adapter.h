/*
 * inspect_adapter.h - what an adapter holds: the part of `inspect` that knows adapters
 */
#ifndef WS_CLI_INSPECT_ADAPTER_H
#define WS_CLI_INSPECT_ADAPTER_H

#include "cmd.h"
#include "wsurg/lora.h"

/** The value of "adapter" of the result; null when @p look is NULL. */
void ws_inspect_adapter_json(ws_run *run, const ws_lora_look *look,
                             const ws_lora_look_req *req);

/** Its lines of text. */
void ws_inspect_adapter_print(ws_run *run, const ws_lora_look *look,
                              const ws_lora_look_req *req);

#endif
