/*
 * main.c - the commands, the global options, signals, and one run from start to end
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cmd.h"
#include "gen.h"
#include "report.h"
#include "spelling.h"
#include "wsurg/text.h"
#include "wsurg/wsurg.h"

#define WS_CMD_ENTRY(symbol) extern const ws_cmd ws_cmd_##symbol;
#include "commands.def"
#undef WS_CMD_ENTRY

static const ws_cmd *const commands[] = {
#define WS_CMD_ENTRY(symbol) &ws_cmd_##symbol,
#include "commands.def"
#undef WS_CMD_ENTRY
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

const ws_opt ws_opts_global[] = {
    WS_FLAG(ws_globals, help, "help", 'h',
            "show help and stop; with --json the table of options"),
    WS_FLAG(ws_globals, version, "version", 0, "show the version and stop"),
    { .name = "json",
      .kind = WS_OPT_MAYBE,
      .offset = offsetof(ws_globals, json),
      .value = "FILE",
      .def = NAN,
      .help = "one JSON document on standard output, or in FILE" },
    WS_FLAG(ws_globals, tensors, "tensors", 0, "add the full lists of tensors"),
    WS_FLAG(ws_globals, quiet, "quiet", 'q',
            "no notes, progress, summary; -qq: nor warnings"),
    WS_WORD(ws_globals, color, "color", "auto|always|never", 0,
            "colours on a terminal"),
    WS_FLAG(ws_globals, strict, "strict", 0,
            "every warning is an error: exit 2, nothing written"),
    WS_WORD(ws_globals, progress, "progress", "auto|bar|plain|json|none", 0,
            "how progress is shown on standard error"),
    WS_OPT(ws_globals, threads, "threads", 'j', "N", NAN, 1, 64,
           "threads; default: all that the process may use"),
    WS_OPT(ws_globals, max_memory, "max-memory", 0, "SIZE", NAN, 0, 0x1p63,
           "memory limit; default 256MiB, for matrix and model "
           "commands half of what the process may use"),
    WS_OPT(ws_globals, max_disk, "max-disk", 0, "SIZE", NAN, 0, 0x1p63,
           "limit of new disk use; default: what is free"),
    WS_OPT_END,
};

static atomic_int stop_signal;

/** First request: stop cleanly. Second: at once. */
static void on_signal(int sig)
{
    if (atomic_exchange(&stop_signal, sig) != 0) {
        signal(sig, SIG_DFL);
        raise(sig);
    }
}

/** Models of a thousand shards are read through as many files. */
static void files_most(void)
{
    struct rlimit limit;

    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void signals_set(void)
{
    struct sigaction sa = { .sa_handler = on_signal };

    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sa.sa_handler = SIG_IGN; // a write says what happened
    sigaction(SIGPIPE, &sa, NULL);
    sigaction(SIGXFSZ, &sa, NULL);
}

size_t ws_cmd_count(void)
{
    return N_COMMANDS;
}

const ws_cmd *ws_cmd_at(size_t i)
{
    return commands[i];
}

const ws_cmd *ws_cmd_find(const char *first, const char *second, int *words)
{
    char two[64];

    snprintf(two, sizeof two, "%s %s", first, second ? second : "");
    for (*words = 2; *words > 0; --*words)
        for (size_t i = 0; i < ws_cmd_count(); i++)
            if (ws_name_equal(commands[i]->name, *words == 2 ? two : first))
                return commands[i];
    return NULL;
}

/** Whether some command of two words opens with @p first. */
static bool opens(const char *first)
{
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        char word[32];
        const char *space = strchr(commands[i]->name, ' ');
        snprintf(word, sizeof word, "%.*s",
                 space ? (int)(space - commands[i]->name) : 0, commands[i]->name);
        if (space && ws_name_equal(word, first))
            return true;
    }
    return false;
}

/** The command nearest to what was typed, NULL when none is near. */
static const char *command_near(const char *first, const char *second)
{
    const char *near = NULL;
    size_t best = 0;
    char two[64];

    snprintf(two, sizeof two, "%s %s", first, second ? second : "");
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const char *name = commands[i]->name;
        const char *typed = strchr(name, ' ') ? two : first;
        const size_t d = ws_edit_distance(name, typed);
        if (commands[i]->group && d <= strlen(name) / 3 + 1 && (!near || d < best)) {
            near = name;
            best = d;
        }
    }
    return near;
}

/** argv[at] opens no command: say so, with the way out. */
static void unknown_command(ws_run *run, int argc, const char *const *argv, int at)
{
    if (at >= argc) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "no command given");
        ws_err_hint(e, "wsurg --help lists the commands");
        return;
    }
    const char *second = at + 1 < argc && argv[at + 1][0] != '-' ? argv[at + 1] : NULL;
    const bool group = opens(argv[at]);
    run->command = argv[at];
    ws_err *e =
        group && !second
            ? ws_run_error(run, WS_E_USAGE, "'%s' needs a second word", argv[at])
            : ws_run_error(run, WS_E_USAGE, "unknown command '%s%s%s'", argv[at],
                           group ? " " : "", group ? second : "");
    if (ws_foreign_command(argc, argv, at, e))
        return;
    const char *near = group && !second ? NULL : command_near(argv[at], second);
    if (near)
        ws_err_hint(e, "did you mean 'wsurg %s'?", near);
    else
        ws_err_hint(e, "wsurg %s%s--help lists the commands", group ? argv[at] : "",
                    group ? " " : "");
}

/** Options of an unknown command cannot be judged: look only at the global ones. */
static void parse_globals(ws_run *run, int argc, const char *const *argv)
{
    ws_diag ignored = { 0 };
    ws_parse p = { .target = { { NULL, NULL }, { ws_opts_global, &run->g } },
                   .arena = &run->arena,
                   .errors = &ignored,
                   .argc = argc,
                   .argv = argv,
                   .skip = { -1, -1 },
                   .command = "" };

    ws_opts_parse(&p);
    ws_diag_free(&ignored);
}

static void show_version(ws_run *run)
{
    char text[512];

    ws_version_text(text, sizeof text);
    ws_run_print(run, "%s\n", text);
    ws_j_str(ws_run_result(run), "version", ws_version());
    ws_j_str(run->result, "text", text);
}

/** --help and --version, with or without a command. */
static void show_help(ws_run *run, const char *first)
{
    ws_buf b = { 0 };

    if (run->g.json.given && run->cmd) {
        ws_gen_help_json(ws_run_result(run), run->cmd);
    } else if (run->g.json.given) {
        cJSON *list = ws_j_arr(ws_run_result(run), "commands");
        for (size_t i = 0; i < ws_cmd_count(); i++)
            if (commands[i]->group)
                ws_gen_help_json(ws_j_obj(list, NULL), commands[i]);
    }
    if (run->cmd)
        ws_gen_help(&b, run->cmd);
    else
        ws_gen_help_all(&b, first);
    ws_run_print(run, "%s", b.p ? b.p : "");
    ws_buf_free(&b);
}

/** Parse, check and carry out run->cmd, which argv[at] (and the next word) name. */
static void command_run(ws_run *run, int argc, const char *const *argv, int at,
                        int words)
{
    const ws_cmd *cmd = run->cmd;
    void *args = ws_arena_alloc(&run->arena, cmd->args_size ? cmd->args_size : 1);
    ws_parse p = { .target = { { cmd->opts, args }, { ws_opts_global, &run->g } },
                   .args = cmd->args,
                   .arena = &run->arena,
                   .errors = &run->errors,
                   .argc = argc,
                   .argv = argv,
                   .skip = { at, words == 2 ? at + 1 : -1 },
                   .command = cmd->name };

    if (!args) {
        ws_run_error(run, WS_E_MEMORY, "out of memory");
        return;
    }
    ws_opts_defaults(&p.target[0]);
    ws_opts_parse(&p);
    if (run->g.help || run->g.version) {
        ws_diag_free(&run->errors);
        ws_run_begin(run);
        if (run->g.help)
            show_help(run, NULL);
        else
            show_version(run);
        return;
    }
    ws_run_begin(run);
    if (cmd->check && !p.uncertain)
        cmd->check(run, args);
    ws_run_flush(run);
    if (!run->errors.n && !run->errors.lost) {
        const ws_status st = cmd->run(run, args);
        if (st && !run->errors.n)
            ws_run_error(run, st, "'%s' failed without a report", cmd->name);
    }
    if (cmd->done)
        cmd->done(args);
}

int main(int argc, char **argv_in)
{
    const char *const *argv = (const char *const *)argv_in;
    ws_run run = { .ctx.stop = &stop_signal };
    const ws_opt_target globals = { ws_opts_global, &run.g };
    int words = 0;

    signals_set();
    files_most();
    ws_opts_defaults(&globals);
    if (argc > 0) { // the program's own name
        argc--;
        argv++;
    }
    int at = ws_opts_first_word(ws_opts_global, argc, argv, 0);
    const bool help = at < argc && strcmp(argv[at], "help") == 0;
    if (help) // `wsurg help merge` is `wsurg merge --help`
        at = ws_opts_first_word(ws_opts_global, argc, argv, at + 1);
    if (at < argc)
        run.cmd = ws_cmd_find(argv[at], at + 1 < argc ? argv[at + 1] : NULL, &words);
    if (run.cmd) {
        run.command = run.cmd->name;
        run.g.help = help;
        command_run(&run, argc, argv, at, words);
        return ws_run_end(&run);
    }
    parse_globals(&run, argc, argv);
    ws_run_begin(&run);
    const bool known = at >= argc || opens(argv[at]);
    if (run.g.version)
        show_version(&run);
    else if ((run.g.help || help) && known)
        show_help(&run, at < argc ? argv[at] : NULL);
    else
        unknown_command(&run, argc, argv, at);
    return ws_run_end(&run);
}
