/*
 * edit_run.h - what rename, meta and split share
 */
#ifndef WS_CLI_EDIT_RUN_H
#define WS_CLI_EDIT_RUN_H

#include "model_args.h"
#include "wsurg/edit.h"

/** An output must be named, and be a file or a directory. Mistakes go to
 * run->errors. */
void ws_edit_check(ws_run *run, const struct ws_write_args *w);

/** Run @p req, its .write taken from @p w, and report. */
ws_status ws_edit_run(ws_run *run, ws_edit_req *req, const struct ws_write_args *w);

#endif
