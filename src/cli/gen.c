/*
 * gen.c - help and option tables, from the rows of commands and methods
 */
#include "gen.h"

#include <stdio.h>
#include <string.h>

#include "report.h"

enum { COLUMNS = 80, HELP_AT = 28 };

void ws_gen_wrap(ws_buf *b, const char *text, int at, int column)
{
    while (*text) {
        const int n = (int)strcspn(text, " \n");
        if (column > at && column + 1 + n > COLUMNS) {
            ws_buf_printf(b, "\n%*s", at, "");
            column = at;
        } else if (column > at) {
            ws_buf_putc(b, ' ');
            column++;
        }
        ws_buf_add(b, text, (size_t)n);
        column += n;
        text += n;
        if (text[0] == '\n') { // a line of the text's own
            ws_buf_printf(b, "\n%*s", at, "");
            column = at;
        }
        text += strspn(text, " \n");
    }
    ws_buf_putc(b, '\n');
}

/** One row: what is typed, padded, then its help. */
static void row(ws_buf *b, const char *typed, const char *help)
{
    const int n = (int)strlen(typed);

    ws_buf_puts(b, typed);
    if (n + 2 <= HELP_AT) {
        ws_buf_printf(b, "%*s", HELP_AT - n, "");
    } else if (n + 2 + (int)strlen(help) <= COLUMNS) {
        ws_buf_printf(b, "  %s\n", help);
        return;
    } else {
        ws_buf_printf(b, "\n%*s", HELP_AT, "");
    }
    ws_gen_wrap(b, help, HELP_AT, HELP_AT);
}

static void option_row(ws_buf *b, const ws_opt *o)
{
    char typed[160], dflt[40], text[512], letter[8] = "    ";

    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    if (o->kind == WS_OPT_MAYBE)
        snprintf(typed, sizeof typed, "  %s--%s[=%s]", letter, o->name, o->value);
    else
        snprintf(typed, sizeof typed, "  %s--%s%s%s", letter, o->name,
                 o->value ? " " : "", o->value ? o->value : "");
    ws_opt_default_text(o, dflt, sizeof dflt);
    snprintf(text, sizeof text, "%s%s%s%s", o->help, dflt[0] ? " (" : "", dflt,
             dflt[0] ? ")" : "");
    row(b, typed, text);
}

/** The names of a table, for those who know what to look for. */
static void option_names(ws_buf *b, const ws_opt *table)
{
    ws_buf names = { 0 };

    for (const ws_opt *o = table; o->name; o++)
        ws_buf_printf(&names, "%s--%s", o == table ? "" : " ", o->name);
    row(b, "  and, see the manual page", names.p ? names.p : "");
    ws_buf_free(&names);
}

/** A table, nested ones under their headings. */
static void option_rows(ws_buf *b, const ws_opt *table)
{
    for (const ws_opt *o = table; o && (o->name || o->kind == WS_OPT_SET); o++) {
        if (o->kind != WS_OPT_SET)
            option_row(b, o);
        else if (o->more)
            option_names(b, o->set);
        else
            option_rows(b, o->set);
    }
}

void ws_gen_synopsis(ws_buf *b, const ws_cmd *cmd)
{
    for (const ws_arg *a = cmd->args; a && a->name; a++) {
        const char *dots = a->list ? "..." : "";
        ws_buf_printf(b, a->min ? " %s%s" : " [%s%s]", a->name, dots);
    }
    ws_buf_puts(b, " [OPTION]...");
}

void ws_gen_help(ws_buf *b, const ws_cmd *cmd)
{
    for (const ws_example *x = cmd->examples; x && x->line; x++)
        ws_buf_printf(b, "  %s\n      %s\n", x->line, x->says);
    ws_buf_printf(b, "\nwsurg %s", cmd->name);
    ws_gen_synopsis(b, cmd);
    ws_buf_printf(b, "\n      %s\n\n", cmd->summary);
    for (const ws_arg *a = cmd->args; a && a->name; a++) {
        char typed[64];
        snprintf(typed, sizeof typed, "  %s", a->name);
        row(b, typed, a->help);
    }
    option_rows(b, cmd->opts);
    ws_buf_puts(b, "  Options of every command: wsurg --help\n");
    if (cmd->notes) {
        ws_buf_putc(b, '\n');
        ws_gen_wrap(b, cmd->notes, 0, 0);
    }
}

/** Commands of one group, or those that open with @p first. */
static void command_rows(ws_buf *b, const char *group, const char *first)
{
    const size_t n = first ? strlen(first) : 0;

    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const ws_cmd *c = ws_cmd_at(i);
        if (!c->group || (group && strcmp(c->group, group) != 0) ||
            (first && (strncmp(c->name, first, n) != 0 || c->name[n] != ' ')))
            continue;
        ws_buf_printf(b, "  %-18s %s\n", c->name, c->summary);
    }
}

void ws_gen_help_all(ws_buf *b, const char *first)
{
    static const char *const groups[] = { WS_GROUPS };

    ws_buf_printf(
        b,
        "  wsurg merge a.st b.st --method breadcrumbs\n"
        "  wsurg methods\n\n"
        "wsurg %s [ARGUMENT]... [OPTION]...: model merging and weight surgery\n",
        first ? first : "COMMAND");
    for (size_t i = 0; !first && i < sizeof groups / sizeof *groups; i++) {
        const size_t before = b->n;
        ws_buf_printf(b, "\n%s\n", groups[i]);
        const size_t heading = b->n;
        command_rows(b, groups[i], NULL);
        if (b->n == heading) // no command of this group is built
            b->n = before;
    }
    if (first) {
        ws_buf_putc(b, '\n');
        command_rows(b, NULL, first);
        return;
    }
    ws_buf_puts(b, "\nOptions of every command\n");
    option_rows(b, ws_opts_global);
}

void ws_gen_param_value(const ws_param *p, double v, char out[32])
{
    size_t len;

    if (isnan(v))
        snprintf(out, 32, "required");
    else if (p->kind == WS_PARAM_BOOLEAN)
        snprintf(out, 32, "%s", v != 0.0 ? "true" : "false");
    else if (p->kind == WS_PARAM_CHOICE) {
        const char *w = ws_word_at(p->choices, (int)v, &len);
        snprintf(out, 32, "%.*s", w ? (int)len : 0, w ? w : "");
    } else
        ws_show_num(v, out);
}

void ws_gen_value_json(cJSON *to, const char *key, const ws_param *p, double v)
{
    char text[32];

    if (isnan(v)) {
        ws_j_null(to, key);
    } else if (p->kind == WS_PARAM_BOOLEAN) {
        ws_j_bool(to, key, v != 0.0);
    } else if (p->kind == WS_PARAM_CHOICE) {
        ws_gen_param_value(p, v, text);
        ws_j_str(to, key, text);
    } else {
        ws_j_num(to, key, v);
    }
}

void ws_gen_param_range(const ws_param *p, char out[96])
{
    char lo[32], hi[32];

    if (p->kind == WS_PARAM_BOOLEAN) {
        snprintf(out, 96, "true|false");
        return;
    }
    if (p->kind == WS_PARAM_CHOICE) {
        snprintf(out, 96, "%s", p->choices);
        return;
    }
    ws_show_num(p->min, lo);
    ws_show_num(p->max, hi);
    const bool low = p->min > -1e300, high = p->max < 1e300;
    if (low && high)
        snprintf(out, 96, "%s to %s", lo, hi);
    else if (low)
        snprintf(out, 96, "at least %s", lo);
    else
        snprintf(out, 96, high ? "at most %s" : "any number", hi);
}

/* ---- JSON ---- */

static const char *kind_word(ws_opt_kind k)
{
    static const char *const words[] = {
        [WS_OPT_REAL] = "real",   [WS_OPT_INT] = "integer", [WS_OPT_SIZE] = "size",
        [WS_OPT_FLAG] = "flag",   [WS_OPT_COUNT] = "flag",  [WS_OPT_TEXT] = "text",
        [WS_OPT_LIST] = "text",   [WS_OPT_WORD] = "choice", [WS_OPT_DTYPE] = "dtype",
        [WS_OPT_MAYBE] = "maybe", [WS_OPT_SET] = "",
    };
    return words[k];
}

static void option_json(cJSON *list, const ws_opt *o, bool global)
{
    cJSON *r = ws_j_obj(list, NULL);
    const bool number = o->kind == WS_OPT_REAL || o->kind == WS_OPT_INT;
    char letter[2] = { o->letter, '\0' }, dflt[40];

    ws_opt_default_text(o, dflt, sizeof dflt);
    ws_j_str(r, "name", o->name);
    ws_j_str(r, "letter", o->letter ? letter : NULL);
    ws_j_str(r, "kind", kind_word(o->kind));
    ws_j_str(r, "value", o->value);
    ws_j_str(r, "choices", o->words && o->words[0] != '@' ? o->words : NULL);
    ws_j_str(r, "default", dflt[0] ? dflt : NULL);
    ws_j_num(r, "min", number ? o->min : (double)NAN);
    ws_j_num(r, "max", number ? o->max : (double)NAN);
    ws_j_bool(r, "repeatable", o->kind == WS_OPT_LIST);
    ws_j_bool(r, "global", global);
    ws_j_str(r, "help", o->help);
}

void ws_gen_help_json(cJSON *to, const ws_cmd *cmd)
{
    ws_j_str(to, "name", cmd->name);
    ws_j_str(to, "summary", cmd->summary);
    ws_j_str(to, "group", cmd->group);
    cJSON *list = ws_j_arr(to, "arguments");
    for (const ws_arg *a = cmd->args; a && a->name; a++) {
        cJSON *r = ws_j_obj(list, NULL);
        ws_j_str(r, "name", a->name);
        ws_j_u64(r, "min", a->min);
        if (a->max == SIZE_MAX)
            ws_j_null(r, "max");
        else
            ws_j_u64(r, "max", a->max);
        ws_j_str(r, "help", a->help);
    }
    list = ws_j_arr(to, "options");
    for (int t = 0; t < 2; t++) {
        ws_opt_iter it = ws_opt_begin(t ? ws_opts_global : cmd->opts);
        const ws_opt *o;
        while ((o = ws_opt_next(&it, NULL)))
            option_json(list, o, t == 1);
    }
    list = ws_j_arr(to, "examples");
    for (const ws_example *x = cmd->examples; x && x->line; x++) {
        cJSON *r = ws_j_obj(list, NULL);
        ws_j_str(r, "line", x->line);
        ws_j_str(r, "says", x->says);
    }
    ws_j_str(to, "notes", cmd->notes);
}
