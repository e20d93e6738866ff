/*
 * model_args.h - options shared by the commands that write, and models on standard
 * input and output
 */
#ifndef WS_CLI_MODEL_ARGS_H
#define WS_CLI_MODEL_ARGS_H

#include "cmd.h"
#include "wsurg/merge.h"
#include "wsurg/spool.h"

/** Options of every command that writes. */
struct ws_write_args {
    const char *out;
    bool force, resume, no_provenance;
    const char *manifest;
};

extern const ws_opt ws_opts_write[];

/** Options of the commands that write models. */
struct ws_model_args {
    struct ws_write_args w;
    ws_dtype_opt dtype;
    uint64_t shard_size; /**< UINT64_MAX: like the base */
    const char *companions_from;
    ws_word overflow;
    bool allow_nonfinite, keep_metadata;
};

extern const ws_opt ws_opts_model[];

/** Copy those of every output. */
void ws_write_args_fill(const struct ws_write_args *a, ws_write_opts *out);

/** Copy the options into the library's form; part I/N is left at "all". */
void ws_model_args_fill(const struct ws_model_args *a, ws_write_opts *out);

/**
 * Check `-o -`: standard output must be no terminal, and bear no JSON. Sets
 * run->stdout_is_data. The library stages and copies. Errors are reported.
 */
ws_status ws_stdout_check(ws_run *run, const struct ws_write_args *w);

/** Standard input, spooled for MODEL "-". Zero is none. */
typedef struct ws_stdin {
    ws_spool *spool; /**< NULL: nothing is spooled */
} ws_stdin;

/** Replace "-" among @p paths by what standard input is spooled to, beside @p out
 * (NULL: in the current directory); at most one in all calls. Errors are reported. */
ws_status ws_stdin_take(ws_run *run, ws_stdin *s, const char **paths, size_t n,
                        const char *out);

/** Forget what was spooled. */
void ws_stdin_close(ws_stdin *s);

/** Whether @p path is a directory. */
bool ws_path_is_dir(const char *path);

/** Default output for a base at @p base: "lined/" for a directory, else
 * "lined.safetensors". Arena's. */
const char *ws_default_out(ws_arena *arena, const char *stem, const char *base);

/** Outputs {path, bytes, sha256, xxh3} of target @p out onto an array. */
void ws_outputs_json(cJSON *list, const char *out, const ws_out_file *files, size_t n);

/** "wrote  FILE  sha256:…  check: wsurg verify FILE" */
void ws_wrote_row(ws_run *run, int width, const char *out, const ws_out_file *files,
                  size_t n, const char *manifest);

#endif
