/*
 * spelling.c - spellings that other tools use, answered with ours, ready to paste
 */
#include "spelling.h"

#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "report.h"
#include "wsurg/method.h"
#include "wsurg/text.h"

static const char cpu_only[] = "everything runs on the CPU";
static const char streams[] = "tensors are always streamed";
static const char no_code[] = "code in a model is never executed";
static const char carried[] = "config and tokenizer are carried over by themselves";
static const char exact[] = "the arithmetic is in float32 whatever the inputs are";
static const char always_st[] = "safetensors is what is written";

/** mergekit's switches, and those of scripts around it. */
static const ws_foreign options[] = {
    { "allow-crimes", false, NULL,
      "tensors are matched by name, whatever the families" },
    { "async-write", false, NULL, "reading and writing always overlap" },
    { "base-model", true, "--base ", NULL },
    { "bf16", false, "--dtype bf16", NULL },
    { "clone-tensors", false, NULL, streams },
    { "copy-tokenizer", false, NULL, carried },
    { "cuda", false, NULL, cpu_only },
    { "device", true, NULL, cpu_only },
    { "fp16", false, "--dtype f16", NULL },
    { "fp32", false, "--dtype f32", NULL },
    { "gpu-rich", false, NULL, cpu_only },
    { "int8-mask", false, NULL, "masks are never stored" },
    { "lazy-unpickle", false, NULL, streams },
    { "lora-merge-cache", true, NULL, "adapters are applied while streaming" },
    { "low-cpu-memory", false, NULL, "--max-memory SIZE bounds the memory" },
    { "max-shard-size", true, "--shard-size ", NULL },
    { "merge-method", true, "--method ", NULL },
    { "multi-gpu", false, NULL, cpu_only },
    { "no-copy-tokenizer", false, NULL, "for weights alone: -o FILE.safetensors" },
    { "no-lazy-unpickle", false, NULL, streams },
    { "no-write-model-card", false, NULL, "no card is written" },
    { "num-threads", true, "--threads ", NULL },
    { "out-dtype", true, "--dtype ", NULL },
    { "out-path", true, "-o ", NULL },
    { "out-shard-size", true, "--shard-size ", NULL },
    { "output", true, "-o ", NULL },
    { "output-dir", true, "-o ", NULL },
    { "output-path", true, "-o ", NULL },
    { "overwrite", false, "--force", NULL },
    { "random-seed", true, "--seed ", NULL },
    { "read-to-gpu", false, NULL, cpu_only },
    { "safe-serialization", false, NULL, always_st },
    { "silent", false, "-q", NULL },
    { "transformers-cache", true, NULL, "set HF_HOME in the environment" },
    { "trust-remote-code", false, NULL, no_code },
    { "v", false, NULL, "notes and a summary are printed unless -q" },
    { "verbose", false, NULL, "notes and a summary are printed unless -q" },
    { "weight", true, "--weights ", NULL },
    { "workers", true, "--threads ", NULL },
    { "write-model-card", false, NULL, "no card is written" },
    { "write-threads", true, "--threads ", NULL },
    { "yes", false, NULL, "nothing prompts" },
    { "dtype-compute", true, NULL, exact },
};

/** Words that open a command line elsewhere. The answer is given only where the command
 * on the right exists. */
static const struct {
    const char *first, *second, *ours;
} commands[] = {
    { "lora", "merge", "lora fold" },
    { "merge-lora", NULL, "lora fold" },
    { "merge-adapter", NULL, "lora fold" },
    { "merge_and_unload", NULL, "lora fold" },
    { "fold", NULL, "lora fold" },
    { "lora", "fuse", "lora fold" },
    { "fuse", NULL, "lora fold" },
    { "extract-lora", NULL, "lora extract" },
    { "mergekit-extract-lora", NULL, "lora extract" },
    { "mergekit-yaml", NULL, "merge" },
    { "mergekit-multi", NULL, "merge" },
    { "mergekit-pytorch", NULL, "merge" },
    { "mergekit-legacy", NULL, "merge" },
    { "mergekit", NULL, "merge" },
    { "mix", NULL, "merge" },
    { "average", NULL, "merge" },
    { "compare", NULL, "diff" },
    { "cmp", NULL, "diff" },
    { "info", NULL, "inspect" },
    { "show", NULL, "inspect" },
    { "list", NULL, "methods" },
    { "ls", NULL, "inspect" },
    { "validate", NULL, "verify" },
    { "checksum", NULL, "manifest" },
    { "finetune", NULL, "tune" },
    { "train", NULL, "tune" },
    { "evaluate", NULL, "eval" },
    { "task-vector", NULL, "taskvec extract" },
    { "dry-run", NULL, "plan" },
    { "completions", NULL, "completion" },
};

static const ws_foreign *option_row(const char *name)
{
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (ws_name_equal(options[i].name, name))
            return &options[i];
    return NULL;
}

/** Whether table @p t has option @p name. */
static bool table_has(const ws_opt *table, const char *name)
{
    ws_opt_iter it = ws_opt_begin(table);
    const ws_opt *o;

    while ((o = ws_opt_next(&it, NULL)))
        if (ws_name_equal(o->name, name))
            return true;
    return false;
}

/** Whether some merge method has a parameter of this name. */
static const ws_param *method_param(const char *name)
{
    for (size_t i = 0; i < ws_method_count(); i++)
        for (const ws_param *q = ws_method_at(i)->params; q && q->name; q++)
            if (ws_name_equal(q->name, name))
                return q;
    return NULL;
}

/** What to write for option @p name; NULL when it is not foreign. Parameters become
 * "--set NAME=". */
static const ws_foreign *translate(const ws_parse *p, const char *name,
                                   ws_foreign *made, char *text, size_t size)
{
    const ws_foreign *row = option_row(name);
    const ws_opt *table = p->target[0].table;

    if (row && row->ours && strncmp(row->ours, "--", 2) == 0) {
        char ours[32]; // a command that lacks our option cannot be given it
        snprintf(ours, sizeof ours, "%.*s", (int)strcspn(row->ours + 2, " "),
                 row->ours + 2);
        if (!table_has(table, ours) && !table_has(p->target[1].table, ours))
            return NULL;
    }
    if (row)
        return row;
    const ws_param *q = table_has(table, "set") ? method_param(name) : NULL;
    if (!q)
        return NULL;
    snprintf(text, size, "--set %s=", q->name);
    *made = (ws_foreign){ q->name, true, text, NULL };
    return made;
}

/** Add a piece of the command line that is to be pasted. */
static void paste(char *line, size_t size, const char *piece, bool quote)
{
    const size_t n = strlen(line);

    if (n && line[n - 1] != ' ' && line[n - 1] != '=')
        snprintf(line + n, size - n, " ");
    if (quote)
        ws_show_quoted(piece, line, size);
    else
        snprintf(line + strlen(line), size - strlen(line), "%s", piece);
}

/** The command line again with every foreign option in our spelling. False when it does
 * not fit. */
static bool paste_line(const ws_parse *p, char *line, size_t size)
{
    snprintf(line, size, "wsurg %s", p->command);
    for (int i = 0; i < p->argc; i++) {
        const char *arg = p->argv[i], *eq = NULL;
        char name[64], text[48];
        ws_foreign made;
        const ws_foreign *f = NULL;

        if (i == p->skip[0] || i == p->skip[1])
            continue;
        if (strncmp(arg, "--", 2) == 0 && arg[2]) {
            eq = strchr(arg, '=');
            snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
            if (!table_has(p->target[0].table, name) &&
                !table_has(p->target[1].table, name))
                f = translate(p, name, &made, text, sizeof text);
        }
        if (!f) {
            paste(line, size, arg, true);
            continue;
        }
        const bool next =
            f->takes_value && !eq && i + 1 < p->argc && p->argv[i + 1][0] != '-';
        const char *value = eq ? eq + 1 : next ? p->argv[i + 1] : NULL;
        if (f->ours)
            paste(line, size, f->ours, false);
        if (f->ours && value && f->takes_value)
            paste(line, size, value, true);
        i += next;
    }
    return strlen(line) + 1 < size;
}

const ws_foreign *ws_foreign_option(ws_parse *p, const char *name, ws_err *e)
{
    static ws_foreign made; // the parser is the only caller, and looks at once
    static char text[48];
    const ws_foreign *f = translate(p, name, &made, text, sizeof text);
    char line[200];

    if (!f)
        return NULL;
    if (!f->ours) {
        ws_err_hint(e, "leave it out: %s", f->says);
    } else if (!p->pasted && paste_line(p, line, sizeof line)) {
        p->pasted = true;
        ws_err_hint(e, "%s", line);
    } else {
        const size_t n = strlen(f->ours);
        ws_err_hint(e, "here it is '%.*s'", (int)(n - (f->ours[n - 1] == ' ')),
                    f->ours);
    }
    return f;
}

void ws_foreign_argument(const ws_parse *p, const ws_strs *words, ws_err *e)
{
    (void)words;
    ws_err_hint(e, "wsurg %s --help shows what it takes", p->command);
}

bool ws_foreign_command(int argc, const char *const *argv, int at, ws_err *e)
{
    const char *second = at + 1 < argc ? argv[at + 1] : "";

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char line[200], ours[32];
        int words;

        if (!ws_name_equal(commands[i].first, argv[at]) ||
            (commands[i].second && !ws_name_equal(commands[i].second, second)))
            continue;
        snprintf(ours, sizeof ours, "%s", commands[i].ours);
        char *space = strchr(ours, ' ');
        if (space)
            *space = '\0';
        if (!ws_cmd_find(ours, space ? space + 1 : NULL, &words) ||
            words != 1 + (space != NULL))
            continue;
        snprintf(line, sizeof line, "wsurg %s", commands[i].ours);
        for (int k = at + 1 + (commands[i].second != NULL); k < argc; k++)
            paste(line, sizeof line, argv[k], true);
        ws_err_hint(e, "%s", strlen(line) + 1 < sizeof line ? line : commands[i].ours);
        return true;
    }
    return false;
}
