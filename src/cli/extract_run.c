/*
 * extract_run.c - a fine-tune's update as an adapter: `lora extract`, `decompose --svd`
 */
#include "extract_run.h"

#include <math.h>
#include <string.h>

#include "report.h"
#include "wsurg/extract.h"
#include "wsurg/text.h"

void ws_extract_check(ws_run *run, double energy, int64_t budget)
{
    if (energy > 0.0 && budget > 0)
        ws_run_error(run, WS_E_USAGE, "--energy and --budget exclude each other");
}

static void matrix_json(cJSON *to, const ws_extracted *d)
{
    ws_j_str(to, "tensor", d->name);
    ws_j_u64(to, "rank", (uint64_t)d->rank);
    ws_j_num(to, "error", d->error);
    ws_j_num(to, "energy", d->energy);
    ws_j_num(to, "norm", d->norm);
    ws_j_num(to, "s_first", d->s_first);
    ws_j_num(to, "s_last", d->s_last);
    ws_j_str(to, "solver", d->by);
}

static double error_of(const void *result, size_t i)
{
    return ((const ws_extract_result *)result)->layers[i].error;
}

static void worst_json(cJSON *list, const ws_extract_result *r)
{
    size_t index[WS_WORST];
    const size_t n = ws_worst_find(r->n_layers, error_of, r, index);
    for (size_t i = 0; i < n; i++)
        matrix_json(ws_j_obj(list, NULL), &r->layers[index[i]]);
}

static void report_json(ws_run *run, const ws_extract_req *req,
                        const ws_extract_result *r)
{
    cJSON *to = ws_run_result(run), *o;
    const char *out = req->write.out;
    ws_buf path = { 0 };
    ws_buf_puts(&path, out);
    if (!req->flat)
        ws_buf_printf(&path, "%sadapter", out[strlen(out) - 1] == '/' ? "" : "/");
    ws_j_str(to, "method", "svd");
    ws_j_null(to, "mode");
    ws_j_u64(to, "rank", (uint64_t)req->rank);
    ws_j_null(to, "cov");
    ws_j_null(to, "damp");
    o = ws_j_obj(to, "outputs");
    ws_j_str(o, "adapter", path.p);
    ws_j_null(o, "residual");
    ws_buf_free(&path);
    ws_j_u64(to, "layers", r->n_layers);
    ws_j_num(to, "energy", r->unchanged ? NAN : r->energy);
    ws_j_null(to, "identity_error");
    worst_json(ws_j_arr(to, "worst"), r);
    ws_j_u64(to, "parameters", r->parameters);
    ws_j_u64(to, "equal", r->equal);
    ws_j_u64(to, "whole", r->whole);
    ws_j_u64(to, "not_represented", r->missing);
    ws_outputs_json(ws_j_arr(to, "files"), out, r->outputs, r->n_outputs);
    ws_j_str(to, "manifest", r->manifest);
    ws_j_u64(to, "resumed", r->resumed);
    if (!run->g.tensors)
        return;
    o = ws_j_arr(to, "tensors");
    for (size_t i = 0; i < r->n_layers; i++)
        matrix_json(ws_j_obj(o, NULL), &r->layers[i]);
}

static void report_text(ws_run *run, const char *out, const ws_extract_result *r)
{
    char energy[24], share[24];
    ws_show_share(r->energy, 1, energy);
    for (size_t i = 0; run->g.tensors && i < r->n_layers; i++) {
        const ws_extracted *d = &r->layers[i];
        ws_show_share(d->energy, 1, share);
        ws_run_row(run, 10, "", "%s  rank %lld · energy %s · error %.3g · %s", d->name,
                   (long long)d->rank, share, d->error, d->by);
    }
    ws_run_row(run, 10, "svd", "%zu matrices · %llu numbers · energy %s · %zu equal",
               r->n_layers, (unsigned long long)r->parameters, energy, r->equal);
    if (r->resumed > 0)
        ws_run_row(run, 10, "resumed", "%zu matrices were looked at before",
                   r->resumed);
    ws_run_row(run, 10, "whole", "%zu other tensors that changed", r->whole);
    ws_wrote_row(run, 10, out, r->outputs, r->n_outputs, r->manifest);
}

ws_status ws_extract_command(ws_run *run, const struct ws_extract_args *a, bool flat)
{
    ws_extract_req req = WS_EXTRACT_REQ_INIT;
    ws_extract_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    req.base = a->base;
    req.tuned = a->tuned;
    req.energy = a->energy;
    req.budget = (uint64_t)a->budget;
    req.rank = a->energy > 0.0 || a->budget > 0 ? 0 : a->rank;
    req.targets = a->targets.v;
    req.n_targets = a->targets.n;
    req.seed = (uint64_t)a->seed;
    req.flat = flat;
    ws_write_args_fill(&a->w, &req.write);
    req.write.out = a->w.out != NULL ? a->w.out : flat ? "adapter/" : "svd/";
    run->target = req.write.out;
    if (ws_extract(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    run->usage = r->usage;
    run->has_usage = true;
    run->unchanged = r->unchanged;
    report_json(run, &req, r);
    ws_run_flush(run);
    if (r->unchanged)
        ws_run_talk(run, "%s is this result already: nothing was written",
                    req.write.out);
    else
        report_text(run, req.write.out, r);
    ws_extract_result_free(r);
    return WS_OK;
}
