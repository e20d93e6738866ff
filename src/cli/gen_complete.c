/*
 * gen_complete.c - completions for bash, zsh and fish, from the same rows
 *
 * Options, words of choices, methods and their parameters come from the tables; what is
 * neither is a file name.
 */
#include <stdio.h>
#include <string.h>

#include "gen.h"

/** Name of a command as part of a shell function or case: "lora_fold". */
static void symbol(const char *name, char out[64])
{
    snprintf(out, 64, "%s", name);
    for (char *c = strpbrk(out, " -"); c; c = strpbrk(c, " -"))
        *c = '_';
}

/** "a b c" of "a|b|c", or the methods; nothing when there is no list. */
static void words_of(ws_buf *b, const char *words)
{
    if (!words)
        return;
    if (strcmp(words, "@methods") == 0) {
        for (size_t i = 0; i < ws_method_count(); i++)
            ws_buf_printf(b, "%s%s", i ? " " : "", ws_method_at(i)->name);
        return;
    }
    size_t n;
    const char *w;
    for (int i = 0; (w = ws_word_at(words, i, &n)); i++) {
        if (i)
            ws_buf_putc(b, ' ');
        ws_buf_add(b, w, n);
    }
}

/** Text inside single quotes; a quote ends, escapes itself, and opens again. */
static void quoted(ws_buf *b, const char *s, const char *also_escaped)
{
    for (; *s; s++) {
        if (*s == '\'')
            ws_buf_puts(b, "'\\''");
        else {
            if (strchr(also_escaped, *s))
                ws_buf_putc(b, '\\');
            ws_buf_putc(b, *s);
        }
    }
}

/** Second words of the commands that open with @p first. */
static void second_words(ws_buf *b, const char *first, size_t n)
{
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const char *name = ws_cmd_at(i)->name;
        if (ws_cmd_at(i)->group && strncmp(name, first, n) == 0 && name[n] == ' ')
            ws_buf_printf(b, " %s", name + n + 1);
    }
}

/** First words, each once. */
static void first_words(ws_buf *b)
{
    size_t last = 0;
    const char *before = "";

    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const char *name = ws_cmd_at(i)->name;
        const size_t n = strcspn(name, " ");
        if (!ws_cmd_at(i)->group || (n == last && strncmp(name, before, n) == 0))
            continue;
        ws_buf_printf(b, "%s%.*s", before[0] ? " " : "", (int)n, name);
        before = name;
        last = n;
    }
}

/** Names of all parameters as "density= gamma=", each once. */
static void param_words(ws_buf *b, const char *ending)
{
    for (size_t i = 0; i < ws_method_count(); i++)
        for (const ws_param *p = ws_method_at(i)->params; p && p->name; p++) {
            bool seen = false;
            for (size_t k = 0; k < i && !seen; k++)
                for (const ws_param *q = ws_method_at(k)->params; q && q->name; q++)
                    seen = seen || strcmp(p->name, q->name) == 0;
            if (!seen)
                ws_buf_printf(b, "%s%s ", p->name, ending);
        }
}

/* ---- bash ---- */

/** "cmd --opt) words ;;" for each option that has words. */
static void bash_values(ws_buf *b, const ws_cmd *cmd, const ws_opt *table)
{
    ws_opt_iter it = ws_opt_begin(table);
    const ws_opt *o;
    char name[64];

    symbol(cmd ? cmd->name : "*", name);
    while ((o = ws_opt_next(&it, NULL))) {
        if (!ws_opt_takes_value(o))
            continue;
        ws_buf_printf(b, "    %s:--%s", name, o->name);
        if (o->letter)
            ws_buf_printf(b, "|%s:-%c", name, o->letter);
        ws_buf_puts(b, ") words='");
        if (strcmp(o->name, "set") == 0)
            param_words(b, "=");
        else
            words_of(b, o->words);
        ws_buf_puts(b, "' ;;\n");
    }
}

static void option_words(ws_buf *b, const ws_opt *table)
{
    ws_opt_iter it = ws_opt_begin(table);
    const ws_opt *o;

    while ((o = ws_opt_next(&it, NULL)))
        ws_buf_printf(b, " --%s", o->name);
}

/** The commands that open with each first word: its second words. */
static void bash_groups(ws_buf *b)
{
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const char *name = ws_cmd_at(i)->name;
        const size_t n = strcspn(name, " ");
        const bool first = i == 0 || strncmp(ws_cmd_at(i - 1)->name, name, n + 1) != 0;
        if (!name[n] || !first)
            continue;
        ws_buf_printf(b, "    %.*s) [[ $i -eq 1 ]] && groups='", (int)n, name);
        second_words(b, name, n);
        ws_buf_puts(b, "' ;;\n");
    }
}

static void bash(ws_buf *b)
{
    char name[64];

    ws_buf_puts(
        b, "# bash completion for wsurg; made by: wsurg completion bash\n\n"
           "_wsurg()\n{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local cmd= groups= words= opts= i\n"
           "    COMPREPLY=()\n"
           "    for ((i = 1; i < COMP_CWORD && i < 3; i++)); do\n"
           "        [[ ${COMP_WORDS[i]} == -* ]] && break\n"
           "        case ${COMP_WORDS[i]} in\n");
    bash_groups(b);
    ws_buf_puts(b, "    *) [[ $i -eq 2 && -z $groups ]] && break ;;\n"
                   "        esac\n"
                   "        cmd=${cmd:+${cmd}_}${COMP_WORDS[i]//-/_}\n"
                   "    done\n"
                   "    if [[ -z $cmd ]]; then\n"
                   "        words='");
    first_words(b);
    ws_buf_puts(b, "'\n    elif [[ -n $groups && $cmd != *_* ]]; then\n"
                   "        words=$groups\n    fi\n"
                   "    if [[ $prev == '=' ]]; then\n"
                   "        prev=${COMP_WORDS[COMP_CWORD-2]}\n    fi\n"
                   "    if [[ -z $words ]]; then\n"
                   "    case $cmd:$prev in\n");
    for (size_t i = 0; i < ws_cmd_count(); i++)
        if (ws_cmd_at(i)->group)
            bash_values(b, ws_cmd_at(i), ws_cmd_at(i)->opts);
    bash_values(b, NULL, ws_opts_global);
    ws_buf_puts(b, "    esac\n    fi\n    case $cmd in\n");
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const ws_cmd *c = ws_cmd_at(i);
        if (!c->group)
            continue;
        symbol(c->name, name);
        ws_buf_printf(b, "    %s) opts='", name);
        option_words(b, c->opts);
        ws_buf_puts(b, "'");
        if (c->args && c->args->words) {
            ws_buf_puts(b, "\n        [[ $cur == -* || -n $words ]] || words='");
            words_of(b, c->args->words);
            ws_buf_puts(b, "'");
        }
        ws_buf_puts(b, " ;;\n");
    }
    ws_buf_puts(b, "    esac\n    opts+='");
    option_words(b, ws_opts_global);
    ws_buf_puts(b, "'\n    if [[ -n $words ]]; then\n"
                   "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                   "        [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace\n"
                   "    elif [[ $cur == -* ]]; then\n"
                   "        COMPREPLY=($(compgen -W \"$opts\" -- \"$cur\"))\n"
                   "    else\n"
                   "        compopt -o filenames\n"
                   "        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
                   "    fi\n"
                   "}\n"
                   "complete -F _wsurg wsurg\n");
}

/* ---- zsh ---- */

/** A specification of _arguments for one option. */
static void zsh_option(ws_buf *b, const ws_opt *o)
{
    const bool value = ws_opt_takes_value(o) || o->kind == WS_OPT_MAYBE;

    for (int letter = 0; letter <= (o->letter != 0); letter++) {
        ws_buf_puts(b, "        '");
        if (o->kind == WS_OPT_LIST || o->kind == WS_OPT_COUNT)
            ws_buf_putc(b, '*');
        if (letter)
            ws_buf_printf(b, "-%c%s[", o->letter, value ? "+" : "");
        else
            ws_buf_printf(b, "--%s%s[", o->name,
                          o->kind == WS_OPT_MAYBE ? "=-"
                          : value                 ? "="
                                                  : "");
        quoted(b, o->help, "[]:");
        ws_buf_putc(b, ']');
        if (value) {
            ws_buf_puts(b, o->kind == WS_OPT_MAYBE ? "::" : ":");
            quoted(b, o->value, ":");
            ws_buf_putc(b, ':');
            if (strcmp(o->name, "set") == 0) {
                ws_buf_puts(b, "(");
                param_words(b, "=");
                ws_buf_puts(b, ")");
            } else if (o->words) {
                ws_buf_puts(b, "(");
                words_of(b, o->words);
                ws_buf_puts(b, ")");
            } else if (o->kind == WS_OPT_TEXT || o->kind == WS_OPT_LIST ||
                       o->kind == WS_OPT_MAYBE) {
                ws_buf_puts(b, "_files");
            }
        }
        ws_buf_puts(b, "'\n");
    }
}

static void zsh_command(ws_buf *b, const ws_cmd *c)
{
    char name[64];
    ws_opt_iter it = ws_opt_begin(c->opts);
    const ws_opt *o;

    symbol(c->name, name);
    ws_buf_printf(b, "    %s)\n        args=(\n", name);
    while ((o = ws_opt_next(&it, NULL)))
        zsh_option(b, o);
    ws_buf_puts(b, "        '*:");
    quoted(b, c->args && c->args->name ? c->args->name : "argument", ":[]");
    ws_buf_putc(b, ':');
    if (c->args && c->args->words) {
        ws_buf_putc(b, '(');
        words_of(b, c->args->words);
        ws_buf_putc(b, ')');
    } else {
        ws_buf_puts(b, "_files");
    }
    ws_buf_puts(b, "'\n        ) ;;\n");
}

static void zsh(ws_buf *b)
{
    ws_opt_iter it = ws_opt_begin(ws_opts_global);
    const ws_opt *o;

    ws_buf_puts(b, "#compdef wsurg\n# made by: wsurg completion zsh\n\n"
                   "_wsurg() {\n    local cmd groups\n    local -a args global\n"
                   "    global=(\n");
    while ((o = ws_opt_next(&it, NULL)))
        zsh_option(b, o);
    ws_buf_puts(b, "    )\n    if (( CURRENT == 2 )); then\n        compadd --");
    ws_buf_puts(b, " ");
    first_words(b);
    ws_buf_puts(
        b, "\n        return\n    fi\n    cmd=${words[2]//-/_}\n    case $cmd in\n");
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const char *name = ws_cmd_at(i)->name;
        const size_t n = strcspn(name, " ");
        if (!name[n] || (i && strncmp(ws_cmd_at(i - 1)->name, name, n + 1) == 0))
            continue;
        ws_buf_printf(b, "    %.*s) groups='", (int)n, name);
        second_words(b, name, n);
        ws_buf_puts(b, "' ;;\n");
    }
    ws_buf_puts(b, "    esac\n    if [[ -n $groups ]]; then\n"
                   "        if (( CURRENT == 3 )); then\n"
                   "            compadd -- ${=groups}\n            return\n        fi\n"
                   "        cmd+=_${words[3]//-/_}\n"
                   "        shift words\n        (( CURRENT-- ))\n    fi\n"
                   "    shift words\n    (( CURRENT-- ))\n    case $cmd in\n");
    for (size_t i = 0; i < ws_cmd_count(); i++)
        if (ws_cmd_at(i)->group)
            zsh_command(b, ws_cmd_at(i));
    ws_buf_puts(b, "    esac\n    _arguments -s $global $args\n}\n\n_wsurg \"$@\"\n");
}

/* ---- fish ---- */

static void fish_option(ws_buf *b, const char *condition, const ws_opt *o)
{
    ws_buf_printf(b, "complete -c wsurg -n '%s' -l %s", condition, o->name);
    if (o->letter)
        ws_buf_printf(b, " -s %c", o->letter);
    if (ws_opt_takes_value(o)) {
        ws_buf_puts(b, " -r");
        if (strcmp(o->name, "set") == 0) {
            ws_buf_puts(b, " -f -a '");
            param_words(b, "=");
            ws_buf_puts(b, "'");
        } else if (o->words) {
            ws_buf_puts(b, " -f -a '");
            words_of(b, o->words);
            ws_buf_puts(b, "'");
        }
    }
    ws_buf_puts(b, " -d '");
    for (const char *s = o->help; *s; s++) {
        if (*s == '\'' || *s == '\\')
            ws_buf_putc(b, '\\');
        ws_buf_putc(b, *s);
    }
    ws_buf_puts(b, "'\n");
}

static void fish_command(ws_buf *b, const ws_cmd *c)
{
    char condition[160];
    const size_t n = strcspn(c->name, " ");
    ws_opt_iter it = ws_opt_begin(c->opts);
    const ws_opt *o;

    if (c->name[n]) {
        ws_buf_printf(
            b,
            "complete -c wsurg -f -n '__wsurg_at 2; and __wsurg_is %.*s' -a %s "
            "-d '%s'\n",
            (int)n, c->name, c->name + n + 1, c->summary);
        snprintf(condition, sizeof condition, "__wsurg_is %.*s %s", (int)n, c->name,
                 c->name + n + 1);
    } else {
        ws_buf_printf(b, "complete -c wsurg -f -n '__wsurg_at 1' -a %s -d '", c->name);
        for (const char *s = c->summary; *s; s++) {
            if (*s == '\'' || *s == '\\')
                ws_buf_putc(b, '\\');
            ws_buf_putc(b, *s);
        }
        ws_buf_puts(b, "'\n");
        snprintf(condition, sizeof condition, "__wsurg_is %s", c->name);
    }
    while ((o = ws_opt_next(&it, NULL)))
        fish_option(b, condition, o);
    if (c->args && c->args->words) {
        ws_buf_printf(b, "complete -c wsurg -f -n '%s' -a '", condition);
        words_of(b, c->args->words);
        ws_buf_puts(b, "'\n");
    }
}

static void fish(ws_buf *b)
{
    ws_opt_iter it = ws_opt_begin(ws_opts_global);
    const ws_opt *o;

    ws_buf_puts(b,
                "# fish completion for wsurg; made by: wsurg completion fish\n\n"
                "function __wsurg_at\n"
                "    test (count (commandline -opc)) -eq $argv[1]\nend\n\n"
                "function __wsurg_is\n"
                "    set -l typed (commandline -opc)\n"
                "    test \"$typed[2]\" = \"$argv[1]\"; or return 1\n"
                "    test (count $argv) -lt 2; or test \"$typed[3]\" = \"$argv[2]\"\n"
                "end\n\n");
    for (size_t i = 0; i < ws_cmd_count(); i++) {
        const ws_cmd *c = ws_cmd_at(i);
        const size_t n = strcspn(c->name, " ");
        if (c->group && c->name[n] &&
            (i == 0 || strncmp(ws_cmd_at(i - 1)->name, c->name, n + 1) != 0))
            ws_buf_printf(b, "complete -c wsurg -f -n '__wsurg_at 1' -a %.*s\n", (int)n,
                          c->name);
        if (c->group)
            fish_command(b, c);
    }
    while ((o = ws_opt_next(&it, NULL)))
        fish_option(b, "true", o);
}

bool ws_gen_completion(ws_buf *b, const char *shell)
{
    static const struct {
        const char *name;
        void (*write)(ws_buf *);
    } shells[] = { { "bash", bash }, { "fish", fish }, { "zsh", zsh } };

    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (strcmp(shells[i].name, shell) == 0) {
            shells[i].write(b);
            return true;
        }
    return false;
}
