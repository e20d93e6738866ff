/*
 * model_args.c - options shared by the commands that write, and models on standard
 * input and output
 */
#include "model_args.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"
#include "wsurg/text.h"

const ws_opt ws_opts_write[] = {
    WS_TEXT(struct ws_write_args, out, "out", 'o', "OUT",
            "a file by its ending, else a directory; - is stdout"),
    WS_FLAG(struct ws_write_args, force, "force", 0,
            "replace what is there, in one step"),
    WS_FLAG(struct ws_write_args, resume, "resume", 0,
            "finish the staged work of an interrupted run"),
    WS_TEXT(struct ws_write_args, manifest, "manifest", 0, "FILE|none",
            "where the manifest goes; default: by the output"),
    WS_FLAG(struct ws_write_args, no_provenance, "no-provenance", 0,
            "write no wsurg.* metadata"),
    WS_OPT_END,
};

const ws_opt ws_opts_model[] = {
    WS_SET(struct ws_model_args, w, ws_opts_write),
    WS_DTYPE(struct ws_model_args, dtype, "dtype", "element type; keep is the base's"),
    WS_WORD(struct ws_model_args, overflow, "overflow", "error|saturate", 0,
            "a value too large for the dtype"),
    WS_SIZE_OR(struct ws_model_args, shard_size, "shard-size", "SIZE|like-base",
               "like-base", "largest file of a directory (like-base)"),
    WS_TEXT(struct ws_model_args, companions_from, "companions-from", 0, "DIR",
            "source of config and tokenizer; default: the base"),
    WS_FLAG(struct ws_model_args, allow_nonfinite, "allow-nonfinite", 0,
            "accept NaN and infinity in the inputs"),
    WS_FLAG(struct ws_model_args, keep_metadata, "keep-metadata", 0,
            "copy the base's own metadata"),
    WS_OPT_END,
};

void ws_write_args_fill(const struct ws_write_args *a, ws_write_opts *out)
{
    out->out = a->out;
    out->force = a->force;
    out->resume = a->resume;
    out->provenance = !a->no_provenance;
    out->manifest = a->manifest;
}

void ws_model_args_fill(const struct ws_model_args *a, ws_write_opts *out)
{
    *out = (ws_write_opts)WS_WRITE_OPTS_INIT;
    ws_write_args_fill(&a->w, out);
    out->dtype_keep = a->dtype.keep;
    out->dtype = a->dtype.dtype;
    out->overflow = (ws_overflow)a->overflow.index;
    out->allow_nonfinite = a->allow_nonfinite;
    out->keep_metadata = a->keep_metadata;
    out->shard_like_base = a->shard_size == UINT64_MAX;
    out->shard_size = out->shard_like_base ? 0 : a->shard_size;
    out->companions_from = a->companions_from;
}

/* ---- standard input and output ---- */

ws_status ws_stdout_check(ws_run *run, const struct ws_write_args *w)
{
    ws_err *e;

    if (!w->out || strcmp(w->out, "-") != 0)
        return WS_OK;
    if (run->g.json.given && !run->g.json.value) {
        e = ws_run_error(run, WS_E_USAGE,
                         "standard output cannot bear both the model and the JSON");
        ws_err_hint(e, "--json=FILE beside -o -");
        return WS_E_USAGE;
    }
    if (isatty(STDOUT_FILENO)) {
        e = ws_run_error(run, WS_E_USAGE,
                         "'-o -' would write binary data to a terminal");
        ws_err_hint(e, "send it to a file or a pipe: wsurg %s ... -o - >FILE",
                    run->command);
        return WS_E_USAGE;
    }
    run->stdout_is_data = true;
    return WS_OK;
}

/** Spool standard input in the folder of @p out. */
static ws_status spool(ws_run *run, ws_stdin *s, const char *out)
{
    const size_t n = out ? ws_folder_length(out) : 0;
    char *folder = ws_arena_alloc(&run->arena, n + 2);
    ws_err err = WS_ERR_INIT;

    if (folder)
        snprintf(folder, n + 2, "%.*s", n ? (int)n : 1, n ? out : ".");
    if (folder && !ws_spool_new(&s->spool, STDIN_FILENO, folder, &run->ctx, &err))
        return WS_OK;
    if (!folder)
        ws_fail(&err, WS_E_MEMORY, "out of memory");
    return ws_run_fail(run, &err);
}

ws_status ws_stdin_take(ws_run *run, ws_stdin *s, const char **paths, size_t n,
                        const char *out)
{
    struct stat sb;

    if (out && strcmp(out, "-") == 0)
        out = NULL;
    for (size_t i = 0; i < n; i++) {
        // An existing path wins over every other reading.
        if (!paths[i] || strcmp(paths[i], "-") != 0 || lstat("-", &sb) == 0)
            continue;
        if (s->spool) {
            ws_run_error(run, WS_E_USAGE, "'-' stands for standard input only once");
            return WS_E_USAGE;
        }
        const ws_status st = spool(run, s, out);
        if (st)
            return st;
        paths[i] = ws_spool_path(s->spool);
    }
    return WS_OK;
}

void ws_stdin_close(ws_stdin *s)
{
    ws_spool_free(s->spool);
    *s = (ws_stdin){ 0 };
}

/* ---- outputs ---- */

const char *ws_default_out(ws_arena *arena, const char *stem, const char *base)
{
    const bool dir = ws_path_is_dir(base);
    const size_t n = strlen(stem) + 16;
    char *p = ws_arena_alloc(arena, n);

    if (p)
        snprintf(p, n, "%s%s", stem, dir ? "/" : ".safetensors");
    return p;
}

bool ws_path_is_dir(const char *path)
{
    struct stat sb;

    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

/** "sha256:…" of hex digits, null when there are none. */
static void digest_json(cJSON *to, const char *key, const char *kind, const char *hex)
{
    char text[96];

    snprintf(text, sizeof text, "%s:%s", kind, hex);
    ws_j_str(to, key, hex[0] ? text : NULL);
}

void ws_outputs_json(cJSON *list, const char *out, const ws_out_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "path", strcmp(out, "-") == 0 ? out : files[i].path);
        ws_j_u64(o, "bytes", files[i].bytes);
        digest_json(o, "sha256", "sha256", files[i].sha256);
        digest_json(o, "xxh3", "xxh3-128", files[i].xxh3);
    }
}

void ws_wrote_row(ws_run *run, int width, const char *out, const ws_out_file *files,
                  size_t n, const char *manifest)
{
    char check[1200] = "", what[128] = "";

    if (manifest && strcmp(out, "-") != 0) {
        snprintf(check, sizeof check, "   check: wsurg verify ");
        ws_show_quoted(out, check, sizeof check);
    }
    if (n != 1 || strcmp(files[0].path, out) != 0)
        snprintf(what, sizeof what, "  %zu file%s of weights", n, n == 1 ? "" : "s");
    else if (files[0].sha256[0])
        snprintf(what, sizeof what, "  sha256:%s", files[0].sha256);
    ws_run_row(run, width, "wrote", "%s%s%s", out, what, check);
}
