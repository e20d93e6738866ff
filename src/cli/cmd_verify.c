/*
 * cmd_verify.c - whether an output is still what its manifest says
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "report.h"
#include "wsurg/manifest.h"
#include "wsurg/text.h"

struct verify_args {
    const char *out, *oms;
};

static bool is_missing(const ws_manifest_file *f)
{
    return !f->found_sha256[0];
}

static void digest_json(cJSON *to, const char *key, const char *hex)
{
    char text[80];

    snprintf(text, sizeof text, "sha256:%s", hex);
    ws_j_str(to, key, hex[0] ? text : NULL);
}

static void verify_json(ws_run *run, const ws_manifest *m)
{
    cJSON *to = ws_run_result(run), *list;

    ws_j_bool(to, "valid", m->valid);
    ws_j_str(to, "manifest", m->path);
    list = ws_j_arr(to, "files");
    for (size_t i = 0; i < m->n_files; i++) {
        const ws_manifest_file *f = &m->files[i];
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "path", f->path);
        ws_j_u64(o, "bytes", f->bytes);
        digest_json(o, "expected", f->sha256);
        digest_json(o, "found", f->found_sha256);
        ws_j_bool(o, "ok", f->ok);
    }
    list = ws_j_arr(to, "missing");
    for (size_t i = 0; i < m->n_files; i++)
        if (is_missing(&m->files[i]))
            ws_j_str(list, NULL, m->files[i].path);
    list = ws_j_arr(to, "extra");
    for (size_t i = 0; i < m->n_extra; i++)
        ws_j_str(list, NULL, m->extra[i]);
}

static void verify_print(ws_run *run, const ws_manifest *m)
{
    char name[512], size[24];
    size_t bad = 0;

    for (size_t i = 0; i < m->n_files; i++) {
        const ws_manifest_file *f = &m->files[i];
        ws_show(f->path, name, sizeof name);
        ws_show_bytes(f->bytes, size);
        bad += !f->ok;
        ws_run_print(run, "%-8s %s  %s",
                     f->ok           ? "ok"
                     : is_missing(f) ? "missing"
                                     : "changed",
                     name, size);
        if (!f->ok && f->found_bytes != f->bytes && !is_missing(f)) {
            const char *sign = f->found_bytes > f->bytes ? "more" : "less";
            ws_show_bytes(f->found_bytes > f->bytes ? f->found_bytes - f->bytes
                                                    : f->bytes - f->found_bytes,
                          size);
            ws_run_print(run, ", found %s %s", size, sign);
        }
        ws_run_print(run, "\n");
    }
    for (size_t i = 0; i < m->n_extra; i++) {
        ws_show(m->extra[i], name, sizeof name);
        ws_run_print(run, "extra    %s\n", name);
    }
    if (m->valid)
        ws_run_print(run, "whole    %zu file%s as the manifest says\n", m->n_files,
                     m->n_files == 1 ? "" : "s");
    else
        ws_run_print(run, "not whole: %zu of %zu changed or missing, %zu extra\n", bad,
                     m->n_files, m->n_extra);
}

/** The manifest of @p out; also when the file itself is gone, which is an answer. */
static ws_status manifest_find(ws_run *run, const char *out, ws_manifest **m,
                               ws_err *err)
{
    static const char ending[] = ".manifest.json";
    const size_t n = strlen(out) + sizeof ending;
    char *beside = ws_arena_alloc(&run->arena, n);

    if (beside && access(out, F_OK)) {
        snprintf(beside, n, "%s%s", out, ending);
        if (access(beside, F_OK) == 0)
            out = beside;
    }
    return ws_manifest_read(m, out, err);
}

static ws_status verify_run(ws_run *run, void *args)
{
    const struct verify_args *a = args;
    ws_manifest *m = NULL;
    ws_err err = WS_ERR_INIT;

    ws_status st = a->oms ? ws_oms_read_for(&m, a->oms, a->out, &err)
                          : manifest_find(run, a->out, &m, &err);
    if (!st)
        st = ws_manifest_verify(m, &run->ctx, &err);
    if (st) {
        ws_run_fail(run, &err);
    } else {
        verify_json(run, m);
        verify_print(run, m);
        run->no = !m->valid;
    }
    ws_manifest_free(m);
    return st;
}

static const ws_arg verify_params[] = {
    WS_ARG(struct verify_args, out, "OUT",
           "an output with a manifest, or the manifest"),
    WS_ARG_END,
};

static const ws_opt verify_opts[] = {
    WS_TEXT(struct verify_args, oms, "oms", 0, "FILE",
            "a model-signing statement, or its signature's bundle"),
    WS_OPT_END,
};

static const ws_example verify_examples[] = {
    { "wsurg verify merged.safetensors", "exit 0 when it is whole, 1 when not" },
    { "wsurg verify merged/ --json", "a directory, file by file" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_verify = {
    .name = "verify",
    .group = "Looking",
    .summary = "check an output against its manifest",
    .args = verify_params,
    .opts = verify_opts,
    .examples = verify_examples,
    .args_size = sizeof(struct verify_args),
    .run = verify_run,
};
