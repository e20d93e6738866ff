/*
 * cmd_manifest.c - the manifest of a file or directory, on standard output
 */
#include <stdio.h>

#include "cmd.h"
#include "report.h"
#include "wsurg/alloc.h"
#include "wsurg/manifest.h"

struct manifest_args {
    const char *out;
    bool sha256sums, oms;
};

/** Its text as asked for; NULL without memory. */
static char *text_of(ws_run *run, const struct manifest_args *a, const ws_manifest *m,
                     size_t *len)
{
    const char *name = a->oms ? ws_base_name(&run->arena, a->out) : NULL;

    if (a->oms)
        return name ? ws_oms_text(m, name, len) : NULL;
    return ws_manifest_text(m, len);
}

static void manifest_json(ws_run *run, const ws_manifest *m)
{
    cJSON *to = ws_run_result(run);
    char text[96];

    ws_j_str(to, "content", m->content[0] ? m->content : NULL);
    cJSON *list = ws_j_arr(to, "files");
    for (size_t i = 0; i < m->n_files; i++) {
        const ws_manifest_file *f = &m->files[i];
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "path", f->path);
        ws_j_u64(o, "bytes", f->bytes);
        snprintf(text, sizeof text, "sha256:%s", f->sha256);
        ws_j_str(o, "sha256", text);
        snprintf(text, sizeof text, "xxh3-128:%s", f->xxh3);
        ws_j_str(o, "xxh3", text);
    }
}

static ws_status manifest_run(ws_run *run, void *args)
{
    const struct manifest_args *a = args;
    ws_manifest *m = NULL;
    ws_err err = WS_ERR_INIT;
    size_t len;

    if (a->oms && a->sha256sums) {
        ws_run_error(run, WS_E_USAGE, "'--oms' and '--sha256sums' are two forms");
        return WS_E_USAGE;
    }
    if (a->oms ? ws_oms_make(&m, a->out, &run->ctx, &err)
               : ws_manifest_make(&m, a->out, &run->ctx, &err))
        return ws_run_fail(run, &err);
    manifest_json(run, m);
    if (a->sha256sums) {
        for (size_t i = 0; i < m->n_files; i++)
            ws_run_print(run, "%s  %s\n", m->files[i].sha256, m->files[i].path);
    } else {
        char *text = text_of(run, a, m, &len);
        if (text)
            ws_run_print(run, "%.*s", (int)len, text);
        else
            ws_run_error(run, WS_E_MEMORY, "out of memory");
        ws_free(text);
    }
    ws_manifest_free(m);
    return run->errors.n ? WS_E_MEMORY : WS_OK;
}

static const ws_arg manifest_params[] = {
    WS_ARG(struct manifest_args, out, "OUT", "a file or a directory"),
    WS_ARG_END,
};

static const ws_opt manifest_opts[] = {
    WS_FLAG(struct manifest_args, oms, "oms", 0,
            "an OpenSSF model-signing statement, to be signed"),
    WS_FLAG(struct manifest_args, sha256sums, "sha256sums", 0,
            "lines for sha256sum --check, run where the files are"),
    WS_OPT_END,
};

static const ws_example manifest_examples[] = {
    { "wsurg manifest base >base/manifest.json",
      "make a model's manifest, for verify" },
    { "wsurg manifest merged/ --sha256sums", "for sha256sum --check" },
    { "wsurg manifest base --oms >base.oms.json && wsurg verify base --oms "
      "base.oms.json",
      "a statement for a signer, and a check of the files against it" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_manifest = {
    .name = "manifest",
    .group = "Looking",
    .summary = "print sizes and digests of a model's files",
    .args = manifest_params,
    .opts = manifest_opts,
    .examples = manifest_examples,
    .args_size = sizeof(struct manifest_args),
    .run = manifest_run,
};
