/*
 * cmd_methods.c - the merge methods: all of them, or one with its parameters
 */
#include <string.h>

#include "cmd.h"
#include "gen.h"
#include "report.h"
#include "wsurg/method.h"
#include "wsurg/text.h"

struct methods_args {
    const char *name;
};

static const char *kind_word(const ws_param *p)
{
    switch (p->kind) {
    case WS_PARAM_REAL:
        return "real";
    case WS_PARAM_INTEGER:
        return "integer";
    case WS_PARAM_BOOLEAN:
        return "boolean";
    case WS_PARAM_CHOICE:
        return "choice";
    }
    return NULL;
}

static void param_json(cJSON *to, const ws_param *p)
{
    cJSON *o = ws_j_obj(to, NULL);
    const bool number = p->kind == WS_PARAM_REAL || p->kind == WS_PARAM_INTEGER;

    ws_j_str(o, "name", p->name);
    ws_j_str(o, "kind", kind_word(p));
    ws_j_bool(o, "per_model", p->per_model);
    ws_gen_value_json(o, "default", p, p->cli);
    ws_gen_value_json(o, "recipe_default", p, p->recipe);
    ws_j_num(o, "min", number ? p->min : (double)NAN);
    ws_j_num(o, "max", number ? p->max : (double)NAN);
    ws_j_str(o, "choices", p->choices);
    ws_j_str(o, "help", p->help);
}

static void method_json(cJSON *to, const ws_method *m)
{
    cJSON *o = ws_j_obj(to, NULL);

    ws_j_str(o, "name", m->name);
    ws_j_str(o, "summary", m->summary);
    ws_j_str(o, "formula", m->formula);
    ws_j_str(o, "source", m->source);
    ws_j_str(o, "notes", m->notes);
    ws_j_bool(o, "base", m->base == WS_BASE_REQUIRED);
    cJSON *n = ws_j_obj(o, "models");
    ws_j_u64(n, "min", m->models.min);
    ws_j_u64(n, "max", m->models.max);
    ws_j_bool(o, "lines", m->scaled);
    ws_j_bool(o, "random", m->random);
    cJSON *list = ws_j_arr(o, "parameters");
    for (const ws_param *p = m->params; p && p->name; p++)
        param_json(list, p);
}

static void param_print(ws_run *run, const ws_param *p)
{
    char value[32], range[96];

    ws_gen_param_value(p, p->cli, value);
    ws_gen_param_range(p, range);
    ws_run_print(run, "  %-10s %s; %s%s\n", p->name, value, range,
                 p->per_model ? "; one, or one per model" : "");
    ws_run_print(run, "             %s\n", p->help);
}

/** Several lines, each indented by two. */
static void print_indented(ws_run *run, const char *text)
{
    while (*text) {
        const int n = (int)strcspn(text, "\n");
        ws_run_print(run, "  %.*s\n", n, text);
        text += n + (text[n] == '\n');
    }
}

/** Running text, wrapped. */
static void print_wrapped(ws_run *run, const char *text)
{
    ws_buf b = { 0 };

    ws_gen_wrap(&b, text, 2, 2);
    ws_run_print(run, "  %s", b.p ? b.p : "");
    ws_buf_free(&b);
}

static void method_print(ws_run *run, const ws_method *m)
{
    ws_run_print(run, "%s: %s\n\n", m->name, m->summary);
    if (m->formula) {
        print_indented(run, m->formula);
        ws_run_print(run, "\n");
    }
    ws_run_print(run, "models      ");
    if (m->models.min == m->models.max)
        ws_run_print(run, "%zu", m->models.min);
    else
        ws_run_print(run, "%zu to %zu", m->models.min, m->models.max);
    ws_run_print(run, "%s\n",
                 m->base == WS_BASE_REQUIRED ? ", beside a base"
                 : m->base == WS_BASE_OPTIONAL
                     ? ", beside a base where --base names one"
                     : "");
    ws_run_print(run, "source      %s\n", m->source);
    if (m->params && m->params->name) {
        ws_run_print(run, "parameters  (--set NAME=VALUE; default, range)\n");
        for (const ws_param *p = m->params; p->name; p++)
            param_print(run, p);
    }
    if (m->notes) {
        ws_run_print(run, "notes\n");
        print_wrapped(run, m->notes);
    }
}

/** No method of this name: say which is nearest. */
static ws_status unknown(ws_run *run, const char *name)
{
    const char *near = NULL;
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < ws_method_count(); i++) {
        const size_t d = ws_edit_distance(name, ws_method_at(i)->name);
        if (d < best) {
            best = d;
            near = ws_method_at(i)->name;
        }
    }
    ws_err *e = ws_run_error(run, WS_E_USAGE, "unknown method '%s'", name);
    ws_err_hint(e, "nearest is '%s'; 'wsurg methods' lists all", near);
    return WS_E_USAGE;
}

static ws_status methods_run(ws_run *run, void *args)
{
    const struct methods_args *a = args;
    cJSON *list = ws_j_arr(ws_run_result(run), "methods");

    if (a->name) {
        const ws_method *m = ws_method_find(a->name);
        if (!m)
            return unknown(run, a->name);
        method_json(list, m);
        method_print(run, m);
        return WS_OK;
    }
    int width = 0;
    for (size_t i = 0; i < ws_method_count(); i++) {
        const int n = (int)strlen(ws_method_at(i)->name);
        width = n > width ? n : width;
    }
    for (size_t i = 0; i < ws_method_count(); i++) {
        const ws_method *m = ws_method_at(i);
        method_json(list, m);
        ws_run_print(run, "%-*s  %s\n%*s  %s\n", width, m->name, m->summary, width, "",
                     m->source);
    }
    return WS_OK;
}

static const ws_arg methods_params[] = {
    { .name = "NAME",
      .offset = offsetof(struct methods_args, name),
      .max = 1,
      .words = "@methods",
      .help = "method to show with its parameters, defaults, ranges and formula" },
    WS_ARG_END,
};

static const ws_example methods_examples[] = {
    { "wsurg methods", "all methods and their papers" },
    { "wsurg methods breadcrumbs", "one with its parameters" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_methods = {
    .name = "methods",
    .group = "Merging",
    .summary = "list the merge methods, or show one",
    .args = methods_params,
    .examples = methods_examples,
    .args_size = sizeof(struct methods_args),
    .run = methods_run,
};
