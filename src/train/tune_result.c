/*
 * tune_result.c - an adapter's files as those of any other output
 */
#include "train/tune_result.h"

#include <stdio.h>
#include <string.h>

#include "engine/finish.h"

ws_status ws_tune_result_files(ws_result **out, const ws_manifest *m,
                               const ws_write_opts *w, ws_err *err)
{
    ws_result *r = ws_result_new();
    char path[4096];

    if (r != NULL)
        r->outputs = ws_result_alloc(r, m->n_files + 1, sizeof *r->outputs);
    if (r == NULL || r->outputs == NULL) {
        ws_result_free(r);
        return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    }
    for (size_t i = 0; i < m->n_files; i++) {
        const ws_manifest_file *f = &m->files[i];
        const size_t n = strlen(f->path);
        if (n < 12 || strcmp(f->path + n - 12, ".safetensors") != 0)
            continue;
        const size_t len = strlen(w->out);
        const bool slash = len > 0 && w->out[len - 1] == '/';
        snprintf(path, sizeof path, "%s%s%s", w->out, slash ? "" : "/", f->path);
        ws_out_file *o = &r->outputs[r->n_outputs++];
        o->path = ws_result_strdup(r, path);
        o->bytes = f->bytes;
        memcpy(o->sha256, f->sha256, sizeof o->sha256);
        memcpy(o->xxh3, f->xxh3, sizeof o->xxh3);
    }
    const bool none = w->manifest != NULL && strcmp(w->manifest, "none") == 0;
    r->manifest = none ? NULL : ws_result_strdup(r, m->path);
    *out = r;
    return WS_OK;
}
