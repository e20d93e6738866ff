/*
 * plan_params.c - parameters of the method: --set, defaults, and the options struct
 * that kernels read
 */
#include <stdio.h>
#include <string.h>

#include "engine/plan_internal.h"
#include "wsurg/text.h"

/** One parameter while it is being resolved. */
struct slot {
    double *v;
    ws_origin *origin;
    size_t n;
};

int ws_choice_index(const char *choices, const char *word)
{
    int i = 0;
    for (const char *p = choices;; i++) {
        const size_t n = strcspn(p, "|");
        char one[64];
        snprintf(one, sizeof one, "%.*s", (int)n, p);
        if (ws_name_equal(one, word))
            return i;
        if (p[n] == '\0')
            return -1;
        p += n + 1;
    }
}

/** Parse one value of @p p into *out; reports what is wrong. */
static bool parse_value(ws_plan *plan, const ws_param *p, const char *text, double *out)
{
    ws_diag *errors = plan->priv->errors;
    char shown[80];
    ws_show(text, shown, sizeof shown);
    if (p->kind == WS_PARAM_CHOICE) {
        const int i = ws_choice_index(p->choices, text);
        if (i < 0) {
            ws_err *e =
                ws_diag_report(errors, WS_E_USAGE, NULL, "%s is '%s', wanted one of %s",
                               p->name, shown, p->choices);
            ws_err_hint(e, "'wsurg methods %s' shows the parameters",
                        plan->method->name);
            return false;
        }
        *out = i;
        return true;
    }
    if (p->kind == WS_PARAM_BOOLEAN) {
        const bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
        if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0) {
            ws_diag_report(errors, WS_E_USAGE, NULL, "%s is '%s', wanted true or false",
                           p->name, shown);
            return false;
        }
        *out = yes;
        return true;
    }
    double v;
    if (!ws_parse_real(text, &v) ||
        (p->kind == WS_PARAM_INTEGER && v != (double)(int64_t)v)) {
        ws_diag_report(errors, WS_E_USAGE, NULL, "%s is '%s', wanted %s", p->name,
                       shown,
                       p->kind == WS_PARAM_INTEGER ? "a whole number" : "a number");
        return false;
    }
    if (v < p->min || v > p->max) {
        ws_diag_report(errors, WS_E_USAGE, NULL, "%s is %s, wanted %g to %g", p->name,
                       shown, p->min, p->max);
        return false;
    }
    *out = v;
    return true;
}

/** Parameter @p name of the method, or SIZE_MAX with the nearest name reported. */
static size_t find_param(ws_plan *plan, const char *name)
{
    const ws_param *params = plan->method->params;
    size_t best = SIZE_MAX;
    const char *nearest = NULL;
    for (size_t i = 0; params[i].name != NULL; i++) {
        if (ws_name_equal(params[i].name, name))
            return i;
        const size_t d = ws_edit_distance(params[i].name, name);
        if (d < best) {
            best = d;
            nearest = params[i].name;
        }
    }
    char shown[80];
    ws_show(name, shown, sizeof shown);
    ws_err *e =
        ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                       "method '%s' has no parameter '%s'", plan->method->name, shown);
    if (nearest == NULL)
        ws_err_hint(e, "'%s' has no parameters", plan->method->name);
    else
        ws_err_hint(e, "nearest is '%s'; 'wsurg methods %s' shows all", nearest,
                    plan->method->name);
    return SIZE_MAX;
}

/** The model with this label, or SIZE_MAX with a report. */
static size_t find_label(ws_plan *plan, const char *label)
{
    for (size_t m = 0; m < plan->n_models; m++)
        if (strcmp(plan->inputs[ws_plan_input_of(plan, m)].label, label) == 0)
            return m;
    ws_buf names = { 0 };
    for (size_t m = 0; m < plan->n_models; m++)
        ws_buf_printf(&names, "%s%s", m == 0 ? "" : ", ",
                      plan->inputs[ws_plan_input_of(plan, m)].label);
    char shown[80];
    ws_show(label, shown, sizeof shown);
    ws_err *e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                               "no model has the label '%s'", shown);
    ws_err_hint(e, "labels are %s", names.p == NULL ? "" : names.p);
    ws_buf_free(&names);
    return SIZE_MAX;
}

/** Values "V[,V...]" into the slot: one for all, or one per model. */
static void set_list(ws_plan *plan, const ws_param *p, struct slot *s, char *list)
{
    size_t n = 1;
    for (const char *c = list; *c != '\0'; c++)
        n += *c == ',';
    if (n != 1 && n != s->n) {
        ws_err *e;
        if (!p->per_model)
            e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                               "%s takes one value, got %zu", p->name, n);
        else
            e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                               "%s has %zu values for %zu models%s", p->name, n, s->n,
                               plan->has_base ? " (the base does not count)" : "");
        ws_err_hint(e, "give one value%s", p->per_model ? ", or one per model" : "");
        return;
    }
    size_t i = 0;
    for (char *v = list; v != NULL; i++) {
        char *comma = strchr(v, ',');
        if (comma != NULL)
            *comma = '\0';
        double x;
        if (!parse_value(plan, p, v, &x))
            return;
        for (size_t k = n == 1 ? 0 : i; k < (n == 1 ? s->n : i + 1); k++) {
            s->v[k] = x;
            s->origin[k] = WS_FROM_COMMAND_LINE;
        }
        v = comma == NULL ? NULL : comma + 1;
    }
}

/** One --set: "K=V[,V...]" or "K.LABEL=V". */
static void apply_set(ws_plan *plan, struct slot *slots, const char *set)
{
    char *text = ws_arena_strdup(&plan->priv->arena, set);
    if (text == NULL)
        return;
    char *eq = strchr(text, '=');
    if (eq == NULL || eq == text || eq[1] == '\0') {
        char shown[80];
        ws_show(set, shown, sizeof shown);
        ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                       "--set '%s' is not of the form K=V", shown);
        return;
    }
    *eq = '\0';
    char *dot = strchr(text, '.');
    if (dot != NULL)
        *dot = '\0';
    const size_t i = find_param(plan, text);
    if (i == SIZE_MAX)
        return;
    const ws_param *p = &plan->method->params[i];
    if (dot == NULL) {
        set_list(plan, p, &slots[i], eq + 1);
        return;
    }
    if (!p->per_model) {
        ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                       "%s is one value for all models, it cannot be set for '%s'",
                       p->name, dot + 1);
        return;
    }
    const size_t m = find_label(plan, dot + 1);
    double x;
    if (m != SIZE_MAX && parse_value(plan, p, eq + 1, &x)) {
        slots[i].v[m] = x;
        slots[i].origin[m] = WS_FROM_COMMAND_LINE;
    }
}

void ws_plan_params(ws_plan *plan)
{
    if (plan->priv->recipe_plan != NULL) {
        ws_plan_recipe_params(plan);
        return;
    }
    const ws_param *params = plan->method->params;
    size_t n = 0;
    while (params[n].name != NULL)
        n++;
    struct slot *slots = ws_plan_alloc(plan, n + 1, sizeof *slots);
    ws_value *values = ws_plan_alloc(plan, n + 1, sizeof *values);
    for (size_t i = 0; slots != NULL && values != NULL && i < n; i++) {
        struct slot *s = &slots[i];
        s->n = params[i].per_model ? plan->n_models : 1;
        s->v = ws_plan_alloc(plan, s->n + 1, sizeof *s->v);
        s->origin = ws_plan_alloc(plan, s->n + 1, sizeof *s->origin);
        if (s->v == NULL || s->origin == NULL)
            return;
        for (size_t k = 0; k < s->n; k++)
            s->v[k] = params[i].cli;
        values[i] = (ws_value){
            .param = &params[i], .n = s->n, .v = s->v, .origin = s->origin
        };
    }
    if (slots == NULL || values == NULL)
        return;
    for (size_t i = 0; i < plan->req->n_sets; i++)
        apply_set(plan, slots, plan->req->sets[i]);
    plan->values = values;
    plan->n_values = n;
}

const void *ws_plan_opts(ws_plan *plan, const ws_method *m, const ws_value *values,
                         const uint32_t *model_of, size_t n)
{
    unsigned char *opts = ws_plan_alloc(plan, 1, m->opts_size + 1);
    for (size_t i = 0; opts != NULL && m->params[i].name != NULL; i++) {
        const ws_value *val = &values[i];
        const ws_param *p = val->param;
        void *field = opts + p->offset;
        if (p->per_model) {
            double *v = ws_plan_alloc(plan, n + 1, sizeof *v);
            if (v == NULL)
                return NULL;
            for (size_t k = 0; k < n; k++)
                v[k] = val->v[model_of[k]];
            const double *shared = v;
            memcpy(field, &shared, sizeof shared);
        } else if (p->kind == WS_PARAM_REAL) {
            memcpy(field, &val->v[0], sizeof(double));
        } else if (p->kind == WS_PARAM_INTEGER) {
            const int64_t v = (int64_t)val->v[0];
            memcpy(field, &v, sizeof v);
        } else if (p->kind == WS_PARAM_BOOLEAN) {
            const bool v = val->v[0] != 0.0;
            memcpy(field, &v, sizeof v);
        } else {
            const ws_choice v = { (int)val->v[0] };
            memcpy(field, &v, sizeof v);
        }
    }
    return opts;
}

double ws_plan_value(const ws_plan *plan, const char *name, size_t model,
                     double fallback)
{
    for (size_t i = 0; i < plan->n_values; i++)
        if (strcmp(plan->values[i].param->name, name) == 0)
            return plan->values[i].v[plan->values[i].n == 1 ? 0 : model];
    return fallback;
}
