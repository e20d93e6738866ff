/*
 * gen_man.c - man pages in mdoc, from the rows of commands and methods
 */
#include <stdio.h>
#include <string.h>

#include "gen.h"
#include "report.h"

/** The day of the last change to what the pages say; no clock, so builds repeat. */
#define MAN_DATE "November 24, 2026"

enum { LINE = 76 };

/** One character of running text, or (@p literal) of something to type. */
static void escape(ws_buf *b, unsigned char c, bool literal)
{
    if (c == '\\')
        ws_buf_puts(b, "\\e");
    else if (c == '-' && literal)
        ws_buf_puts(b, "\\-");
    else
        ws_buf_putc(b, (char)c);
}

/** A word; what roff would read as a request at the start of a line is guarded. */
static void word(ws_buf *b, const char *s, size_t n, bool literal, bool at_start)
{
    if (at_start && n && (s[0] == '.' || s[0] == '\''))
        ws_buf_puts(b, "\\&");
    for (size_t i = 0; i < n; i++)
        escape(b, (unsigned char)s[i], literal);
}

/** Running text: wrapped, a new sentence on a new line, an empty line a paragraph. */
static void text(ws_buf *b, const char *s)
{
    size_t column = 0;

    while (*s) {
        const size_t n = strcspn(s, " \n");
        if (column && column + 1 + n > LINE) {
            ws_buf_putc(b, '\n');
            column = 0;
        }
        if (column)
            ws_buf_putc(b, ' ');
        word(b, s, n, false, column == 0);
        column += n + 1;
        const bool sentence = n && strchr(".!?", s[n - 1]);
        s += n;
        const bool paragraph = strncmp(s, "\n\n", 2) == 0;
        s += strspn(s, " \n");
        if (*s && (paragraph || sentence)) {
            ws_buf_puts(b, paragraph ? "\n.Pp\n" : "\n");
            column = 0;
        }
    }
    ws_buf_putc(b, '\n');
}

/** Lines shown as they are. */
static void literal_lines(ws_buf *b, const char *s)
{
    while (*s) {
        const size_t n = strcspn(s, "\n");
        word(b, s, n, true, true);
        ws_buf_putc(b, '\n');
        s += n + (s[n] != '\0');
    }
}

/** A value name as arguments of .Ar: "auto|always|never" bears no spaces. */
static void option_item(ws_buf *b, const char *macro, const ws_opt *o)
{
    ws_buf_puts(b, macro);
    if (o->letter)
        ws_buf_printf(b, " Fl %c , Fl \\-", o->letter);
    else
        ws_buf_puts(b, " Fl \\-");
    word(b, o->name, strlen(o->name), true, false);
    if (o->kind == WS_OPT_MAYBE)
        ws_buf_printf(b, " Ns Op = Ns Ar %s", o->value);
    else if (o->value)
        ws_buf_printf(b, " Ar %s", o->value);
    ws_buf_putc(b, '\n');
}

static void options(ws_buf *b, const ws_opt *table)
{
    ws_opt_iter it = ws_opt_begin(table);
    const ws_opt *o;
    char dflt[40], help[600];

    ws_buf_puts(b, ".Bl -tag -width Ds\n");
    while ((o = ws_opt_next(&it, NULL))) {
        option_item(b, ".It", o);
        ws_opt_default_text(o, dflt, sizeof dflt);
        snprintf(help, sizeof help, "%s%s%s%s.", o->help, dflt[0] ? " (default " : "",
                 dflt, dflt[0] ? ")" : "");
        text(b, help);
    }
    ws_buf_puts(b, ".El\n");
}

/** ".Op Ar BASE" and ".Ar MODEL ..." for "[BASE] MODEL...". */
static void synopsis_arg(ws_buf *b, const ws_arg *a)
{
    const char *name = a->name;

    if (name[0] == '[') {
        const size_t n = strcspn(name + 1, "]");
        ws_buf_printf(b, ".Op Ar %.*s\n", (int)n, name + 1);
        name += n + 2;
        name += strspn(name, " ");
    }
    ws_buf_printf(b, "%s %s%s\n", a->min ? ".Ar" : ".Op Ar", name,
                  a->list ? " ..." : "");
}

/** Whatever the locale. */
static char upper_case(char c)
{
    return (char)(c >= 'a' && c <= 'z' ? c - 32 : c);
}

static void head(ws_buf *b, const char *page, const char *section_summary)
{
    char upper[64];
    size_t i = 0;

    for (; page[i] && i + 1 < sizeof upper; i++)
        upper[i] = upper_case(page[i]);
    upper[i] = '\0';
    ws_buf_printf(b, ".Dd %s\n.Dt %s 1\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n", MAN_DATE,
                  upper, page, section_summary);
}

/** Name of a command's page: "wsurg-lora-fold". */
static void page_name(const ws_cmd *cmd, char out[64])
{
    snprintf(out, 64, "wsurg-%s", cmd->name);
    for (char *c = strchr(out, ' '); c; c = strchr(c, ' '))
        *c = '-';
}

static void examples(ws_buf *b, const ws_example *x)
{
    if (!x || !x->line)
        return;
    ws_buf_puts(b, ".Sh EXAMPLES\n");
    for (; x->line; x++) {
        char says[256];
        snprintf(says, sizeof says, "%c%s:", upper_case(x->says[0]), x->says + 1);
        text(b, says);
        ws_buf_puts(b, ".Pp\n.Dl ");
        literal_lines(b, x->line);
        if (x[1].line)
            ws_buf_puts(b, ".Pp\n");
    }
}

/** Every method with its formula and parameters. */
static void methods(ws_buf *b)
{
    char value[32], range[96];

    ws_buf_puts(b, ".Sh METHODS\n");
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *m = ws_method_at(i);
        ws_buf_printf(b, ".Ss %s\n", m->name);
        text(b, m->summary);
        if (m->formula) {
            ws_buf_puts(b, ".Bd -literal -offset indent\n");
            literal_lines(b, m->formula);
            ws_buf_puts(b, ".Ed\n");
        }
        ws_buf_puts(b, ".Pp\n");
        text(b, m->source);
        if (m->params && m->params->name)
            ws_buf_puts(b, ".Bl -tag -width Ds\n");
        for (const ws_param *p = m->params; p && p->name; p++) {
            ws_gen_param_value(p, p->cli, value);
            ws_gen_param_range(p, range);
            ws_buf_printf(b, ".It Cm %s\n", p->name);
            text(b, p->help);
            ws_buf_printf(b, "(default %s; %s%s)\n", value, range,
                          p->per_model ? "; one, or one per model" : "");
        }
        if (m->params && m->params->name)
            ws_buf_puts(b, ".El\n");
        if (m->notes) {
            ws_buf_puts(b, ".Pp\n");
            text(b, m->notes);
        }
    }
}

static void command_page(ws_buf *b, const ws_cmd *cmd, const char *prose)
{
    char page[64];

    page_name(cmd, page);
    head(b, page, cmd->summary);
    ws_buf_printf(b, ".Sh SYNOPSIS\n.Nm wsurg %s\n", cmd->name);
    for (const ws_arg *a = cmd->args; a && a->name; a++)
        synopsis_arg(b, a);
    ws_opt_iter it = ws_opt_begin(cmd->opts);
    const ws_opt *o;
    while ((o = ws_opt_next(&it, NULL)))
        option_item(b, ".Op", o);
    ws_buf_puts(b, ".Sh DESCRIPTION\n");
    if (prose)
        ws_buf_puts(b, prose);
    else
        text(b, cmd->notes ? cmd->notes : cmd->summary);
    if (cmd->args && cmd->args->name) {
        ws_buf_puts(b, ".Pp\nThe arguments are:\n.Bl -tag -width Ds\n");
        for (const ws_arg *a = cmd->args; a->name; a++) {
            ws_buf_printf(b, ".It Ar %s\n", a->name);
            text(b, a->help);
        }
        ws_buf_puts(b, ".El\n");
    }
    if (cmd->opts && (cmd->opts->name || cmd->opts->kind == WS_OPT_SET)) {
        ws_buf_puts(b, ".Pp\nThe options are:\n");
        options(b, cmd->opts);
    }
    ws_buf_puts(b, ".Pp\nThe options of every command, MODEL, SIZE and the names of "
                   "outputs\nare described in\n.Xr wsurg 1 .\n");
    if (strcmp(cmd->name, "methods") == 0)
        methods(b);
    ws_buf_puts(b, ".Sh EXIT STATUS\nThat of every command: see\n.Xr wsurg 1 .\n");
    examples(b, cmd->examples);
    ws_buf_puts(b, ".Sh SEE ALSO\n.Xr wsurg 1\n");
}

static void program_page(ws_buf *b, const char *prose)
{
    static const char *const statuses[][2] = {
        { "0", "done and verified" },
        { "1", "it ran, and the answer is no: files differ, a gate failed" },
        { "2", "the command line or the recipe is wrong" },
        { "3", "an input is invalid or not supported" },
        { "4", "the memory or disk limit would be exceeded; nothing was written" },
        { "5", "input or output failed; nothing visible was written" },
        { "6", "a numerical fault: values that are not finite, no convergence" },
        { "7", "the output exists, or another run is writing it" },
        { "8", "interrupted; --resume goes on" },
        { "70", "an internal error" },
        { "130, 143", "ended by SIGINT or SIGTERM" },
    };
    char page[64];

    head(b, "wsurg", "model merging and weight surgery");
    ws_buf_puts(b, ".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar argument ...\n"
                   ".Op Ar option ...\n.Sh DESCRIPTION\n");
    ws_buf_puts(b, prose ? prose : "Merges models.\n");
    ws_buf_puts(b, ".Pp\nThe commands are:\n.Bl -tag -width Ds\n");
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const ws_cmd *c = ws_cmd_at(i);
        if (!c->group)
            continue;
        page_name(c, page);
        ws_buf_printf(b, ".It Cm %s\n", c->name);
        text(b, c->summary);
        ws_buf_printf(b, "(see\n.Xr %s 1 )\n", page);
    }
    ws_buf_puts(b, ".El\n.Pp\nThe options of every command are:\n");
    options(b, ws_opts_global);
    ws_buf_puts(b,
                ".Sh ENVIRONMENT\n.Bl -tag -width Ds\n.It Ev NO_COLOR\nNo colours when "
                "set, unless\n.Fl \\-color Cm always .\n.El\n.Sh EXIT STATUS\n"
                ".Bl -tag -width Ds\n");
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        ws_buf_printf(b, ".It %s\n", statuses[i][0]);
        text(b, statuses[i][1]);
    }
    ws_buf_puts(b, ".El\n.Pp\nOf several errors the lowest status is the exit.\n"
                   ".Sh SEE ALSO\n");
    for (size_t i = 0; i < ws_cmd_count(); i++)
        if (ws_cmd_at(i)->group) {
            bool more = false;
            for (size_t k = i + 1; k < ws_cmd_count(); k++)
                more = more || ws_cmd_at(k)->group;
            page_name(ws_cmd_at(i), page);
            ws_buf_printf(b, ".Xr %s 1%s\n", page, more ? " ," : "");
        }
}

void ws_gen_man(ws_buf *b, const ws_cmd *cmd, const char *prose)
{
    if (cmd)
        command_page(b, cmd, prose);
    else
        program_page(b, prose);
}
