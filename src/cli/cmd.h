/*
 * cmd.h - what a command is, and the run that carries it out
 *
 * A command is one file: src/cli/cmd_NAME.c with `const ws_cmd ws_cmd_NAME`, and its
 * name in src/cli/meson.build. Two words ("lora fold") make ws_cmd_lora_fold.
 * Look at cmd_methods.c first.
 */
#ifndef WS_CLI_CMD_H
#define WS_CLI_CMD_H

#include <cjson/cJSON.h>

#include "opts.h"
#include "wsurg/alloc.h"
#include "wsurg/ctx.h"
#include "wsurg/err.h"

/** Headings of the list of commands, in their order; .group is one of them. */
#define WS_GROUPS                                                                      \
    "Merging", "Task vectors", "Adapters", "Masks", "Learning", "Running", "Files",    \
        "Looking", "Help"

typedef struct ws_run ws_run;

/** A command line that works, and what it does. The tests run each one in a folder that
 * holds the fixtures of tests/cli/examples.sh: a.st b.st c.st base/ tuned/ other/, task
 * vectors t.st (of tuned) u.st v.st (of b.st, c.st), masks m.st n.st; models that run
 * lm/ and sums/, texts held.txt and text.txt, prompts pairs.jsonl, preferences
 * refuse.jsonl, questions
 * quiz.jsonl. */
typedef struct ws_example {
    const char *line, *says;
} ws_example;

#define WS_EXAMPLE_END                                                                 \
    {                                                                                  \
        NULL, NULL                                                                     \
    }

typedef struct ws_cmd {
    const char *name;           /**< as typed: one word or two */
    const char *group;          /**< one of WS_GROUPS; NULL: not listed */
    const char *summary;        /**< a few words */
    const ws_arg *args;         /**< positionals, ends with WS_ARG_END; may be NULL */
    const ws_opt *opts;         /**< ends with WS_OPT_END; may be NULL */
    const ws_example *examples; /**< ends with WS_EXAMPLE_END */
    const char *notes; /**< plain paragraphs for --help and the man page; may be NULL */
    size_t args_size;  /**< of the struct that args and opts fill */
    /** What else is wrong with the arguments goes to run->errors. Called also when the
     * parser found mistakes, so that all are reported together. May be NULL. */
    void (*check)(ws_run *run, void *args);
    /**
     * Carry it out. Data goes through ws_run_print() or into run->result, talk through
     * ws_run_talk(), failures through ws_run_fail() or run->errors. Called only when
     * nothing is wrong so far.
     * @return WS_OK, or the code of the failure reported
     */
    ws_status (*run)(ws_run *run, void *args);
    /** Free what check and run left in @p args; called in every case. May be NULL. */
    void (*done)(void *args);
} ws_cmd;

/* ws_cmd_NAME of every command; tests of a single file do not have the list */
#if __has_include("commands.def")
#define WS_CMD_ENTRY(name) extern const ws_cmd ws_cmd_##name;
#include "commands.def"
#undef WS_CMD_ENTRY
#endif

/** Global options, in every command. */
typedef struct ws_globals {
    bool help, version;
    ws_maybe json;
    bool tensors;
    ws_count quiet;
    ws_word color; /**< auto|always|never */
    bool strict;
    ws_word progress; /**< auto|bar|plain|json|none */
    int64_t threads;
    uint64_t max_memory, max_disk; /**< 0: not given */
} ws_globals;

extern const ws_opt ws_opts_global[];

/** One run of a command. */
struct ws_run {
    const ws_cmd *cmd;
    const char *command; /**< cmd->name, or what was typed when there is no such */
    ws_globals g;
    ws_ctx ctx; /**< for library calls; warnings, progress and stop are connected */
    ws_arena arena;
    ws_diag errors, warnings;
    size_t shown;   /**< of the warnings, those already printed */
    cJSON *result;  /**< owned; `result` of the JSON document */
    ws_usage usage; /**< `run` of the JSON document, when has_usage */
    bool has_usage;
    bool no;                /**< it ran, and the answer is no: exit 1 */
    bool unchanged;         /**< the wanted output was in place already */
    bool stdout_is_data;    /**< -o -: standard output bears the model */
    const char *target;     /**< output whose staged work a later --resume may finish */
    struct ws_voice *voice; /**< report.c: colour, progress */
};

/** Number of commands, hidden ones included, sorted by name. */
size_t ws_cmd_count(void);
const ws_cmd *ws_cmd_at(size_t i);

/** The command of @p first, or of @p first and @p second (may be NULL); *words says how
 * many were used. NULL when there is none. */
const ws_cmd *ws_cmd_find(const char *first, const char *second, int *words);

#endif
