/*
 * recipe_settings.c - parameters in a recipe: numbers, gradients over the layers,
 * filters by name; and which of them holds
 *
 *   gradient g of L numbers at depth t:  s = t (L-1), i = trunc s, f = s - i,
 *                                        (1-f) g[i] + f g[min(L-1, i+1)]
 */
#include <stdio.h>
#include <string.h>

#include "engine/plan_internal.h"
#include "engine/recipe_internal.h"

/** Words of mergekit that mean nothing here: accepted, and said to be ignored. */
static const struct {
    const char *name, *method, *why;
} ignored[] = {
    { "int8_mask", NULL, "masks take no memory here" },
    { "density", "task_arithmetic", "the method prunes nothing" },
    { "rescale", "task_arithmetic", "the method prunes nothing" },
};

static const char *ignored_why(const ws_method *m, const char *name)
{
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        if (ws_name_equal(ignored[i].name, name) &&
            (ignored[i].method == NULL || strcmp(ignored[i].method, m->name) == 0))
            return ignored[i].why;
    return NULL;
}

/* ---- values ---- */

/** A word of a choice; of `rescale`, also mergekit's truths. */
static bool choice_value(ws_recipe_reader *r, const ws_param *p, const ws_yaml *y,
                         double *v)
{
    bool truth;
    int i = ws_choice_index(p->choices, y->text);
    if (i < 0 && strcmp(p->name, "rescale") == 0 && ws_yaml_bool(y, &truth))
        i = truth ? WS_RESCALE_L1 : WS_RESCALE_NONE;
    if (i < 0) {
        char shown[60];
        ws_show(y->text, shown, sizeof shown);
        ws_recipe_fail(r, y->at, "%s is '%s', wanted one of %s", p->name, shown,
                       p->choices);
        return false;
    }
    *v = i;
    return true;
}

/** One number: a number, text that is one, or a truth. */
static bool scalar_value(ws_recipe_reader *r, const ws_param *p, const ws_yaml *y,
                         double *v)
{
    char shown[60];
    bool truth;
    r->work++;
    if (!ws_recipe_is(r, y, WS_YAML_SCALAR, p->name))
        return false;
    if (p->kind == WS_PARAM_CHOICE)
        return choice_value(r, p, y, v);
    if (ws_yaml_bool(y, &truth))
        *v = truth;
    else if (!ws_parse_real(y->text, v)) {
        ws_show(y->text, shown, sizeof shown);
        ws_recipe_fail(r, y->at, "%s is '%s', wanted %s", p->name, shown,
                       p->kind == WS_PARAM_BOOLEAN ? "true or false" : "a number");
        return false;
    }
    if (p->kind == WS_PARAM_INTEGER && *v != floor(*v)) {
        ws_show(y->text, shown, sizeof shown);
        ws_recipe_fail(r, y->at, "%s is %s, wanted a whole number", p->name, shown);
        return false;
    }
    if (p->kind != WS_PARAM_BOOLEAN && (*v < p->min || *v > p->max)) {
        ws_show(y->text, shown, sizeof shown);
        ws_recipe_fail(r, y->at, "%s is %s, wanted %g to %g", p->name, shown, p->min,
                       p->max);
        return false;
    }
    return true;
}

/** A number or a gradient into @p rule. */
static bool rule_value(ws_recipe_reader *r, const ws_param *p, const ws_yaml *y,
                       ws_setting_rule *rule)
{
    const bool list = y->kind == WS_YAML_LIST;
    double *v = ws_recipe_take(r, list ? y->n + 1 : 1, sizeof *v);
    if (list && y->n == 0) {
        ws_recipe_fail(r, y->at, "%s has an empty list", p->name);
        return false;
    }
    rule->n = list ? y->n : 1;
    rule->gradient = list;
    rule->at = y->at;
    rule->v = v;
    bool ok = v != NULL;
    for (size_t i = 0; ok && i < rule->n; i++)
        ok = scalar_value(r, p, list ? y->items[i] : y, &v[i]);
    return ok;
}

/** `{filter: text, value: ...}` */
static bool conditional(ws_recipe_reader *r, const ws_param *p, const ws_yaml *y,
                        ws_setting_rule *rule)
{
    static const char *const words[] = { "filter", "value" };
    const ws_yaml *filter = ws_yaml_get(y, "filter"), *value = ws_yaml_get(y, "value");
    r->work++;
    for (size_t i = 0; i < y->n; i++) {
        const char *key = y->keys[i]->text;
        if (ws_name_equal(key, words[0]) || ws_name_equal(key, words[1]))
            continue;
        char shown[60];
        ws_show(key, shown, sizeof shown);
        ws_err *e =
            ws_recipe_void(r, y->keys[i]->at, "unknown key '%s' in a condition", shown);
        ws_err_hint(e, "a condition has 'filter' and 'value'");
    }
    if (value == NULL || ws_yaml_is_null(value)) {
        ws_recipe_fail(r, y->at, "a condition of %s has no 'value'", p->name);
        return false;
    }
    if (filter != NULL && !ws_recipe_is(r, filter, WS_YAML_SCALAR, "filter"))
        return false;
    const bool all =
        filter == NULL || ws_yaml_is_null(filter) || strcmp(filter->text, "*") == 0;
    rule->filter = all ? NULL : filter->text;
    return rule_value(r, p, value, rule);
}

/** A setting in any of its forms. */
static bool setting(ws_recipe_reader *r, const ws_param *p, const ws_yaml *y,
                    ws_setting *out)
{
    size_t maps = y->kind == WS_YAML_MAP;
    for (size_t i = 0; y->kind == WS_YAML_LIST && i < y->n; i++)
        maps += y->items[i]->kind == WS_YAML_MAP;
    const size_t n = maps > 0 && y->kind == WS_YAML_LIST ? y->n : 1;
    ws_setting_rule *rules = ws_recipe_take(r, n, sizeof *rules);
    *out = (ws_setting){ .param = p, .n = n, .rules = rules };
    if (rules == NULL)
        return false;
    if (maps == 0)
        return rule_value(r, p, y, rules);
    if (y->kind == WS_YAML_MAP)
        return conditional(r, p, y, rules);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        const ws_yaml *item = y->items[i];
        if (item->kind == WS_YAML_MAP) {
            ok = conditional(r, p, item, &rules[i]) && ok;
            continue;
        }
        ws_err *e = ws_recipe_fail(r, item->at, "%s mixes conditions with plain values",
                                   p->name);
        ws_err_hint(e, "a value for the rest: '- value: %s'",
                    item->kind == WS_YAML_SCALAR ? item->text : "...");
        ok = false;
    }
    return ok;
}

/* ---- a level ---- */

static const ws_param *find_param(const ws_method *m, const char *name)
{
    for (const ws_param *p = m->params; p->name != NULL; p++)
        if (ws_name_equal(p->name, name))
            return p;
    return NULL;
}

/** A parameter that the method does not have. */
static void unknown(ws_recipe_reader *r, const ws_method *m, const ws_yaml *key)
{
    const char *why = ignored_why(m, key->text);
    char shown[60];
    ws_show(key->text, shown, sizeof shown);
    if (why != NULL) {
        ws_place_report(r->warnings, WS_OK, "note", r->file, key->at,
                        "%s has no meaning here: %s", shown, why);
        return;
    }
    const char *names[64];
    size_t n = 0;
    for (const ws_param *p = m->params; p->name != NULL && n < 64; p++)
        names[n++] = p->name;
    ws_err *e =
        ws_recipe_void(r, key->at, "method '%s' has no parameter '%s'", m->name, shown);
    const char *nearest = ws_recipe_nearest(key->text, names, n);
    if (nearest != NULL)
        ws_err_hint(e, "nearest is '%s'; 'wsurg methods %s' shows all", nearest,
                    m->name);
    else if (n == 0)
        ws_err_hint(e, "'%s' has no parameters", m->name);
    else
        ws_err_hint(e, "'wsurg methods %s' shows its parameters", m->name);
}

/** Whether a parameter may stand at this level. */
static bool level_fits(ws_recipe_reader *r, const ws_param *p, const ws_yaml *key,
                       ws_level level)
{
    ws_err *e;
    if (level != WS_LEVEL_SHARED && !p->per_model) {
        e = ws_recipe_void(r, key->at,
                           "%s is one value for all models: under a model it has no "
                           "effect",
                           p->name);
        ws_err_hint(e, "put it under the 'parameters' of the slice or of the document");
        return false;
    }
    if (level == WS_LEVEL_BASE) {
        e = ws_recipe_void(r, key->at,
                           "%s of the base has no effect: the base has no update",
                           p->name);
        ws_err_hint(e, "leave it out");
        return false;
    }
    return true;
}

/** The parameter of the method, else of one that a rule names. */
static const ws_param *find_any(const ws_recipe_doc *doc, const ws_method *m,
                                const char *name)
{
    const ws_param *p = find_param(m, name);
    for (size_t i = 0; p == NULL && i < doc->n_rules; i++)
        if (doc->rules[i].method != NULL)
            p = find_param(doc->rules[i].method, name);
    return p;
}

void ws_recipe_settings(ws_recipe_reader *r, const ws_recipe_doc *doc,
                        const ws_method *m, const ws_yaml *y, ws_level level,
                        ws_settings *out)
{
    *out = (ws_settings){ 0 };
    if (y == NULL || ws_yaml_is_null(y) ||
        !ws_recipe_is(r, y, WS_YAML_MAP, "parameters") || m == NULL)
        return;
    ws_setting *v = ws_recipe_take(r, y->n + 1, sizeof *v);
    r->work += y->n;
    for (size_t i = 0; v != NULL && i < y->n && r->work < WS_YAML_NODES; i++) {
        const ws_param *p = find_any(doc, m, y->keys[i]->text);
        if (p == NULL)
            unknown(r, m, y->keys[i]);
        else if (level_fits(r, p, y->keys[i], level) && !ws_yaml_is_null(y->items[i]) &&
                 setting(r, p, y->items[i], &v[out->n]))
            out->n++;
    }
    out->v = v;
}

/* ---- which holds ---- */

static double rule_at(const ws_setting_rule *rule, double t)
{
    const double s = t * (double)(rule->n - 1);
    const size_t i = (size_t)s;
    const size_t j = i + 1 < rule->n ? i + 1 : rule->n - 1;
    const double f = s - (double)i;
    return f == 0.0 ? rule->v[i] : (1.0 - f) * rule->v[i] + f * rule->v[j];
}

/** Whether a setting of @p a is one of @p b: methods share parameters by name. */
static bool same_param(const ws_param *a, const ws_param *b)
{
    return a == b ||
           (strcmp(a->name, b->name) == 0 && a->kind == b->kind &&
            (a->choices == b->choices || (a->choices != NULL && b->choices != NULL &&
                                          strcmp(a->choices, b->choices) == 0)));
}

/** The value that one level gives to the tensor @p name. */
static bool level_value(const ws_settings *level, const ws_param *p, const char *name,
                        double t, double *v, ws_place *at)
{
    for (size_t i = 0; i < level->n; i++) {
        const ws_setting *s = &level->v[i];
        if (!same_param(s->param, p))
            continue;
        for (size_t k = 0; k < s->n; k++) {
            const ws_setting_rule *rule = &s->rules[k];
            if (rule->filter != NULL && strstr(name, rule->filter) == NULL)
                continue;
            *v = rule_at(rule, t);
            *at = rule->at;
            return true;
        }
    }
    return false;
}

bool ws_recipe_value(const ws_recipe_doc *doc, const ws_param *p,
                     const ws_recipe_query *q, double *v, ws_place *at)
{
    bool found = (q->rule != NULL &&
                  level_value(&q->rule->params, p, q->out_name, q->t, v, at)) ||
                 (p->per_model && q->source != NULL &&
                  level_value(&q->source->params, p, q->in_name, q->t, v, at)) ||
                 level_value(&q->slice->params, p, q->out_name, q->t, v, at) ||
                 level_value(&doc->module, p, q->out_name, q->t, v, at) ||
                 level_value(&doc->params, p, q->out_name, q->t, v, at);
    if (found && p->kind == WS_PARAM_BOOLEAN)
        *v = *v != 0.0;
    if (found && (p->kind == WS_PARAM_INTEGER || p->kind == WS_PARAM_CHOICE))
        *v = (double)(int64_t)*v;
    return found;
}

static void rule_json(ws_buf *b, const ws_setting_rule *rule)
{
    if (rule->gradient)
        ws_buf_putc(b, '[');
    for (size_t i = 0; i < rule->n; i++)
        ws_buf_printf(b, "%s%.17g", i == 0 ? "" : ",", rule->v[i]);
    if (rule->gradient)
        ws_buf_putc(b, ']');
}

void ws_recipe_settings_json(ws_buf *b, const ws_settings *s)
{
    ws_buf_putc(b, '{');
    for (size_t i = 0; i < s->n; i++) {
        const ws_setting *set = &s->v[i];
        ws_buf_printf(b, "%s\"%s\":", i == 0 ? "" : ",", set->param->name);
        if (set->n == 1 && set->rules[0].filter == NULL) {
            rule_json(b, &set->rules[0]);
            continue;
        }
        ws_buf_putc(b, '[');
        for (size_t k = 0; k < set->n; k++) {
            const char *filter = set->rules[k].filter;
            ws_buf_puts(b, k == 0 ? "{\"filter\":" : ",{\"filter\":");
            if (filter == NULL)
                ws_buf_puts(b, "null");
            else
                ws_buf_json_string(b, filter, strlen(filter));
            ws_buf_puts(b, ",\"value\":");
            rule_json(b, &set->rules[k]);
            ws_buf_putc(b, '}');
        }
        ws_buf_putc(b, ']');
    }
    ws_buf_putc(b, '}');
}
