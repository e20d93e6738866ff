/*
 * adapter_args.c - what the commands that write one adapter share
 */
#include "adapter_args.h"

#include <stdio.h>
#include <string.h>

#include "report.h"

void ws_adapter_target_check(ws_run *run, const struct ws_write_args *w)
{
    if (w->out && strcmp(w->out, "-") == 0)
        ws_run_error(run, WS_E_USAGE, "an adapter is a directory, not a stream");
    if (w->resume)
        ws_run_note(run, "nothing is resumed: an adapter is made anew");
}

void ws_adapter_target_fill(ws_adapter_target *t, const struct ws_write_args *w)
{
    t->out = w->out ? w->out : "adapter/";
    t->force = w->force;
    t->no_provenance = w->no_provenance;
    t->manifest = w->manifest;
}

ws_dtype ws_adapter_dtype(const ws_dtype_opt *o)
{
    return o->keep ? WS_DT_F32 : o->dtype;
}

void ws_adapter_outputs_json(cJSON *to, const char *out, const ws_manifest *m)
{
    cJSON *list = ws_j_arr(to, "outputs");
    char path[4096], digest[80];
    for (size_t i = 0; i < m->n_files; i++) {
        cJSON *o = ws_j_obj(list, NULL);
        const size_t n = strlen(out);
        snprintf(path, sizeof path, "%s%s%s", out,
                 n > 0 && out[n - 1] == '/' ? "" : "/", m->files[i].path);
        ws_j_str(o, "path", path);
        ws_j_u64(o, "bytes", m->files[i].bytes);
        snprintf(digest, sizeof digest, "sha256:%s", m->files[i].sha256);
        ws_j_str(o, "sha256", digest);
        snprintf(digest, sizeof digest, "xxh3-128:%s", m->files[i].xxh3);
        ws_j_str(o, "xxh3", digest);
    }
}
