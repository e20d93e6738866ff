/*
 * adapter_args.h - what the commands that write one adapter share
 */
#ifndef WS_CLI_ADAPTER_ARGS_H
#define WS_CLI_ADAPTER_ARGS_H

#include "model_args.h"
#include "wsurg/adapter.h"

/** Report an output that is a stream; say that nothing is resumed. */
void ws_adapter_target_check(ws_run *run, const struct ws_write_args *w);

/** Where to write: by default `adapter/`. */
void ws_adapter_target_fill(ws_adapter_target *t, const struct ws_write_args *w);

/** The dtype of factors: float32 unless another is given. */
ws_dtype ws_adapter_dtype(const ws_dtype_opt *o);

/** "outputs" of the files in @p out. */
void ws_adapter_outputs_json(cJSON *to, const char *out, const ws_manifest *m);

#endif
