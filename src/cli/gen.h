/*
 * gen.h - what is written from the tables: help, option tables as JSON, man pages,
 * completions
 */
#ifndef WS_CLI_GEN_H
#define WS_CLI_GEN_H

#include "cmd.h"
#include "wsurg/method.h"
#include "wsurg/text.h"

/** Add the words of @p text, wrapped at 80 columns: the first goes to @p column, lines
 * are indented by @p at. */
void ws_gen_wrap(ws_buf *b, const char *text, int at, int column);

/** Help of one command on one screen, examples first. */
void ws_gen_help(ws_buf *b, const ws_cmd *cmd);

/** Help of the program: commands by group and the global options; with @p first, only
 * the commands that open with this word. */
void ws_gen_help_all(ws_buf *b, const char *first);

/** The table of a command as JSON, into @p to. */
void ws_gen_help_json(cJSON *to, const ws_cmd *cmd);

/** Man page in mdoc: of a command, or with NULL of the program. @p prose is the text of
 * man/NAME.mdoc, or NULL. */
void ws_gen_man(ws_buf *b, const ws_cmd *cmd, const char *prose);

/** Completion script for "bash", "zsh" or "fish"; false for any other shell. */
bool ws_gen_completion(ws_buf *b, const char *shell);

/** "[BASE] MODEL... [OPTION]...": the arguments of @p cmd. */
void ws_gen_synopsis(ws_buf *b, const ws_cmd *cmd);

/** "0.15", "true", "tensor": the value @p v of a method's parameter. */
void ws_gen_param_value(const ws_param *p, double v, char out[32]);

/** The same in its own type: number, true/false, word; null when it must be given. */
void ws_gen_value_json(cJSON *to, const char *key, const ws_param *p, double v);

/** "0 to 1", "tensor|row", "true|false": what a parameter may be. */
void ws_gen_param_range(const ws_param *p, char out[96]);

#endif
