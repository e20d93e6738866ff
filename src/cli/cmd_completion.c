/*
 * cmd_completion.c - completions for a shell, on standard output
 */
#include "cmd.h"
#include "gen.h"
#include "report.h"

struct completion_args {
    const char *shell;
};

static ws_status completion_run(ws_run *run, void *args)
{
    const struct completion_args *a = args;
    ws_buf b = { 0 };

    if (!ws_gen_completion(&b, a->shell)) {
        ws_err *e =
            ws_run_error(run, WS_E_USAGE, "no completions for shell '%s'", a->shell);
        ws_err_hint(e, "one of bash, zsh, fish");
        return WS_E_USAGE;
    }
    const bool whole = !b.failed;
    if (whole) {
        ws_run_print(run, "%s", b.p);
        ws_j_str(ws_run_result(run), "shell", a->shell);
        ws_j_str(run->result, "text", b.p);
    } else {
        ws_run_error(run, WS_E_MEMORY, "out of memory");
    }
    ws_buf_free(&b);
    return whole ? WS_OK : WS_E_MEMORY;
}

static const ws_arg completion_params[] = {
    { .name = "SHELL",
      .offset = offsetof(struct completion_args, shell),
      .min = 1,
      .max = 1,
      .words = "bash|zsh|fish",
      .help = "bash, zsh or fish" },
    WS_ARG_END,
};

static const ws_example completion_examples[] = {
    { "wsurg completion bash >wsurg.bash", "completions for bash, to be sourced" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_completion = {
    .name = "completion",
    .group = "Help",
    .summary = "print completions for a shell",
    .args = completion_params,
    .examples = completion_examples,
    .args_size = sizeof(struct completion_args),
    .run = completion_run,
};
