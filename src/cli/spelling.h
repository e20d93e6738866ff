/*
 * spelling.h - spellings that other tools use, answered with ours, ready to paste
 */
#ifndef WS_CLI_SPELLING_H
#define WS_CLI_SPELLING_H

#include "opts.h"

/** One option of another tool. */
typedef struct ws_foreign {
    const char *name;
    bool takes_value;
    const char *ours; /**< "--base", "--set density="; NULL: nothing is needed */
    const char *says; /**< why nothing is needed, or NULL */
} ws_foreign;

/** Answer the unknown option @p name by a hint on @p e; NULL when no tool known here
 * has it. Parameters of merge methods count as such where the command has --set. */
const ws_foreign *ws_foreign_option(ws_parse *p, const char *name, ws_err *e);

/** Answer a surplus argument. */
void ws_foreign_argument(const ws_parse *p, const ws_strs *words, ws_err *e);

/** Answer an unknown command line by a hint on @p e: argv[at] is no command of ours.
 * False when nothing is known about it. */
bool ws_foreign_command(int argc, const char *const *argv, int at, ws_err *e);

#endif
