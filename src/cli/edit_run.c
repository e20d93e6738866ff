/*
 * edit_run.c - what rename, meta and split share
 */
#include "edit_run.h"

#include <string.h>

#include "report.h"

void ws_edit_check(ws_run *run, const struct ws_write_args *w)
{
    ws_err *e = NULL;

    if (!w->out)
        e = ws_run_error(run, WS_E_USAGE, "no output is named");
    else if (strcmp(w->out, "-") == 0)
        e = ws_run_error(run, WS_E_USAGE, "'%s' writes files, not standard output",
                         run->command);
    if (e)
        ws_err_hint(e, "-o OUT.safetensors or, for a directory, -o OUT/");
}

static void result_json(ws_run *run, const ws_edit_req *req, const ws_edit_result *r)
{
    cJSON *to = ws_run_result(run);

    ws_j_str(to, "model", req->model);
    ws_j_u64(to, "tensors", r->tensors);
    ws_j_u64(to, "renamed", r->renamed);
    ws_j_u64(to, "untouched", r->untouched);
    ws_outputs_json(ws_j_arr(to, "outputs"), req->write.out, r->outputs, r->n_outputs);
    ws_j_str(to, "manifest", r->manifest);
}

ws_status ws_edit_run(ws_run *run, ws_edit_req *req, const struct ws_write_args *w)
{
    ws_edit_result *r = NULL;
    ws_err err = WS_ERR_INIT;

    req->write = (ws_write_opts)WS_WRITE_OPTS_INIT;
    ws_write_args_fill(w, &req->write);
    run->target = w->out;
    if (ws_edit(&r, req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    run->usage = r->usage;
    run->has_usage = true;
    result_json(run, req, r);
    ws_run_flush(run);
    ws_run_row(run, 9, "tensors", "%zu, %zu renamed · %zu file%s, %zu as %s",
               r->tensors, r->renamed, r->n_outputs, r->n_outputs == 1 ? "" : "s",
               r->untouched, r->untouched == 1 ? "it was" : "they were");
    ws_wrote_row(run, 9, req->write.out, r->outputs, r->n_outputs, r->manifest);
    ws_edit_result_free(r);
    return WS_OK;
}
