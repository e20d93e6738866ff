/*
 * cmd_gen.c - what the build takes from the tables: man pages, examples, command names
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "gen.h"
#include "report.h"

struct gen_args {
    const char *what, *name, *prose;
};

/** The whole text of a small file into @p b. */
static ws_status prose_read(ws_run *run, const char *path, ws_buf *b)
{
    char part[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    ws_err err = WS_ERR_INIT;

    if (!f) {
        ws_fail_sys(&err, WS_E_IO, errno, "cannot open");
        ws_err_at(&err, path, NULL, -1);
        return ws_run_fail(run, &err);
    }
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        ws_buf_add(b, part, n);
    fclose(f);
    return WS_OK;
}

static ws_status man(ws_run *run, const struct gen_args *a)
{
    const ws_cmd *cmd = NULL;
    ws_buf prose = { 0 }, page = { 0 };
    ws_status st = WS_OK;

    for (size_t i = 0; a->name && i < ws_cmd_count(); i++)
        if (strcmp(ws_cmd_at(i)->name, a->name) == 0)
            cmd = ws_cmd_at(i);
    if (a->name && !cmd) {
        ws_run_error(run, WS_E_USAGE, "no command '%s'", a->name);
        return WS_E_USAGE;
    }
    if (a->prose)
        st = prose_read(run, a->prose, &prose);
    if (!st) {
        ws_gen_man(&page, cmd, prose.p);
        ws_run_print(run, "%s", page.p ? page.p : "");
    }
    ws_buf_free(&prose);
    ws_buf_free(&page);
    return st;
}

static ws_status gen_run(ws_run *run, void *args)
{
    const struct gen_args *a = args;

    if (strcmp(a->what, "man") == 0)
        return man(run, a);
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const ws_cmd *c = ws_cmd_at(i);
        if (strcmp(a->what, "commands") == 0 && c->group)
            ws_run_print(run, "%s\n", c->name);
        for (const ws_example *x = c->examples;
             strcmp(a->what, "examples") == 0 && x && x->line; x++)
            ws_run_print(run, "%s\n", x->line);
    }
    return WS_OK;
}

static const ws_arg gen_params[] = {
    WS_ARG(struct gen_args, what, "WHAT", "man, commands or examples"),
    WS_ARG_MAY(struct gen_args, name, "NAME", "command of a man page"),
    WS_ARG_END,
};

static const ws_opt gen_opts[] = {
    WS_TEXT(struct gen_args, prose, "prose", 0, "FILE",
            "text of the description, mdoc"),
    WS_OPT_END,
};

const ws_cmd ws_cmd_gen = {
    .name = "gen",
    .summary = "write what the build takes from the tables",
    .args = gen_params,
    .opts = gen_opts,
    .args_size = sizeof(struct gen_args),
    .run = gen_run,
};
