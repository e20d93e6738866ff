/*
 * decompose_data.c - covariances made on the way to a decomposition
 */
#include "surgery/decompose_data.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "wsurg/ckpt.h"
#include "wsurg/text.h"

/** `.NAME.cov.safetensors` beside @p out; NULL: no memory. */
static char *hidden(const char *out)
{
    static const char end[] = ".cov.safetensors";
    size_t n = strlen(out), at;
    while (n > 1 && out[n - 1] == '/')
        n--;
    for (at = n; at > 0 && out[at - 1] != '/';)
        at--;
    char *path = ws_alloc(n + sizeof end + 1);
    if (path != NULL)
        snprintf(path, n + sizeof end + 1, "%.*s.%.*s%s", (int)at, out, (int)(n - at),
                 out + at, end);
    return path;
}

/** The stage says the same, but only after all the work that it needs. */
static ws_status target_free(const ws_write_opts *w, ws_err *err)
{
    struct stat sb;
    if (w->force || w->resume || lstat(w->out, &sb) != 0)
        return WS_OK;
    size_t n = strlen(w->out);
    while (n > 1 && w->out[n - 1] == '/')
        n--;
    ws_fail(err, WS_E_EXISTS, "output '%.*s' exists", (int)n, w->out);
    ws_err_hint(err, "--force replaces it");
    return WS_E_EXISTS;
}

ws_status ws_decompose_calibrate(char **path, const ws_decompose_req *req,
                                 const ws_ctx *ctx, ws_err *err)
{
    ws_calibrate_req q = *req->calibrate;
    ws_calibrate_result *r = NULL;
    char *cov = NULL;
    ws_status st = target_free(&req->write, err);
    if (st != WS_OK)
        return st;
    if ((cov = hidden(req->write.out)) == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a path");
    q.model = req->model;
    q.add = NULL;
    q.write = (ws_write_opts)WS_WRITE_OPTS_INIT;
    q.write.out = cov;
    q.write.manifest = "none";
    q.write.companions_from = req->write.companions_from;
    q.write.resume = req->write.resume;
    q.write.force = !q.write.resume;
    ws_err first = WS_ERR_INIT;
    st = ws_calibrate(&r, &q, ctx, &first);
    if (st == WS_E_EXISTS && q.write.resume) { // of other samples: no use
        q.write.resume = false;
        q.write.force = true;
        first = (ws_err)WS_ERR_INIT;
        st = ws_calibrate(&r, &q, ctx, &first);
    }
    if (st != WS_OK && err != NULL)
        *err = first;
    ws_calibrate_result_free(r);
    if (st == WS_OK)
        *path = cov;
    else
        ws_free(cov);
    return st;
}

bool ws_decompose_is(const char *out, const char *name, const char *recipe,
                     const char *inputs)
{
    char *path = name[0] == '\0' ? ws_strdup(out) : ws_path_join(out, name);
    ws_ckpt *c = NULL;
    bool is = false;
    if (path != NULL && ws_ckpt_open(&c, path, NULL, NULL) == WS_OK) {
        const char *r = ws_ckpt_meta(c, "wsurg.recipe"),
                   *i = ws_ckpt_meta(c, "wsurg.inputs");
        is = r != NULL && i != NULL && strcmp(r, recipe) == 0 && strcmp(i, inputs) == 0;
    }
    ws_ckpt_free(c);
    ws_free(path);
    return is;
}
