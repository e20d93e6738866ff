/*
 * recipe_rules.c - `rules:`, an addition to mergekit's language: tensors by name that
 * are merged otherwise, copied from one model, or left out
 *
 *     rules:
 *       - match: "*.mlp.*"             a glob over the whole name, or regex: ...
 *         method: ties
 *         parameters: {density: 0.3}
 *       - {regex: 'norm', copy: base}  or the path of a model
 *       - {match: "*.inv_freq", drop: true}
 *
 * The first rule that fits a name holds. A rule that fits none is a mistake.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "engine/recipe_plan.h"
#include "wsurg/pattern.h"

/* ---- reading ---- */

/** The pattern: `match`, a glob, or `regex`. */
static bool read_pattern(ws_recipe_reader *r, const ws_yaml *y, ws_recipe_rule *rule)
{
    const ws_yaml *glob = ws_yaml_get(y, "match"), *regex = ws_yaml_get(y, "regex");
    const ws_yaml *one = glob != NULL ? glob : regex;
    if ((glob != NULL) == (regex != NULL)) {
        ws_err *e = ws_recipe_fail(r, y->at, "a rule needs either 'match' or 'regex'");
        ws_err_hint(e, "match: \"*.mlp.*\" is a glob, regex: 'mlp' a PCRE2 expression");
        return false;
    }
    if (!ws_recipe_is(r, one, WS_YAML_SCALAR, glob != NULL ? "match" : "regex"))
        return false;
    rule->pattern = one->text;
    ws_err err = WS_ERR_INIT;
    if (glob != NULL)
        return true;
    if (one->text[0] == '@') { // no other file is read for a recipe
        ws_recipe_fail(r, one->at, "regex wants an expression, no '@FILE'");
        return false;
    }
    if (ws_pattern_new(&rule->regex, one->text, &err) == WS_OK)
        return true;
    if (err.code == WS_E_MEMORY)
        r->memory = true;
    else
        ws_recipe_fail(r, one->at, "regex: %s", err.msg);
    return false;
}

/** `copy: base`, or a model that the document names. */
static void read_copy(ws_recipe_reader *r, const ws_recipe_doc *doc, const ws_yaml *y,
                      ws_recipe_rule *rule)
{
    rule->what = WS_RULE_COPY;
    if (!ws_recipe_is(r, y, WS_YAML_SCALAR, "copy"))
        return;
    rule->copy = y->text;
    rule->copy_at = y->at;
    if (strcmp(y->text, "base") != 0 || doc->has_base)
        return;
    ws_err *e = ws_recipe_fail(r, y->at, "copy: base, and there is no 'base_model'");
    ws_err_hint(e, "name a model: copy: PATH, as under 'models'");
}

static void read_action(ws_recipe_reader *r, const ws_recipe_doc *doc, const ws_yaml *y,
                        ws_recipe_rule *rule)
{
    const ws_yaml *method = ws_yaml_get(y, "method"), *copy = ws_yaml_get(y, "copy");
    const ws_yaml *drop = ws_yaml_get(y, "drop"), *p = ws_yaml_get(y, "parameters");
    bool yes = false;
    if ((method != NULL) + (copy != NULL) + (drop != NULL) > 1 ||
        (method == NULL && copy == NULL && drop == NULL && p == NULL)) {
        ws_err *e =
            ws_recipe_fail(r, y->at, "a rule says one of 'method', 'copy' and 'drop'");
        ws_err_hint(e, "'parameters' alone keeps the recipe's method");
        return;
    }
    rule->method = doc->method;
    if (copy != NULL)
        read_copy(r, doc, copy, rule);
    if (drop != NULL && (!ws_yaml_bool(drop, &yes) || !yes))
        ws_recipe_fail(r, drop->at, "drop wants true");
    if (drop != NULL)
        rule->what = WS_RULE_DROP;
    if (method != NULL)
        rule->method = ws_recipe_method(r, method, "method");
    if (p != NULL && rule->what != WS_RULE_MERGE)
        ws_recipe_void(r, p->at, "parameters of a rule that merges nothing");
    else
        ws_recipe_settings(r, doc, rule->method, p, WS_LEVEL_SHARED, &rule->params);
    if (method == NULL || rule->method == NULL || doc->method == NULL ||
        rule->method->base != WS_BASE_REQUIRED || doc->method->base != WS_BASE_NONE)
        return;
    ws_err *e = ws_recipe_fail(
        r, method->at, "method '%s' needs a base, and the recipe's '%s' has none",
        rule->method->name, doc->method->name);
    ws_err_hint(e, "make '%s' the merge_method and put '%s' into a rule: regex: '.'",
                rule->method->name, doc->method->name);
}

void ws_recipe_read_rules(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    static const char *const keys[] = { "match", "regex", "method",
                                        "copy",  "drop",  "parameters" };
    if (!ws_recipe_is(r, y, WS_YAML_LIST, "rules"))
        return;
    doc->rules = ws_recipe_take(r, y->n + 1, sizeof *doc->rules);
    for (size_t i = 0; doc->rules != NULL && i < y->n; i++) {
        const ws_yaml *item = y->items[i];
        ws_recipe_rule *rule = &doc->rules[doc->n_rules];
        if (++r->work > WS_YAML_NODES || !ws_recipe_is(r, item, WS_YAML_MAP, "rules"))
            continue;
        ws_recipe_keys(r, item, "a rule", keys, sizeof keys / sizeof *keys);
        *rule = (ws_recipe_rule){ .at = item->at };
        if (!read_pattern(r, item, rule))
            continue;
        doc->n_rules++; // its pattern is freed from now on
        read_action(r, doc, item, rule);
    }
}

void ws_recipe_check_rules(ws_recipe_reader *r, const ws_recipe_doc *doc)
{
    for (size_t i = 0; i < doc->n_rules; i++) {
        ws_recipe_rule *rule = &doc->rules[i];
        if (rule->copy == NULL)
            continue;
        rule->ref = doc->base;
        if (strcmp(rule->copy, "base") == 0)
            continue;
        for (rule->ref = 0; rule->ref < doc->n_refs; rule->ref++)
            if (strcmp(doc->refs[rule->ref].path, rule->copy) == 0)
                break;
        if (rule->ref < doc->n_refs)
            continue;
        char shown[120];
        ws_show(rule->copy, shown, sizeof shown);
        ws_err *e = ws_recipe_fail(r, rule->copy_at,
                                   "copy: '%s' is no model of this recipe", shown);
        ws_err_hint(e, "name one of its models as it is written there, or base");
    }
}

void ws_recipe_free_rules(ws_recipe_doc *doc)
{
    for (size_t i = 0; i < doc->n_rules; i++)
        ws_pattern_free(doc->rules[i].regex);
}

/* ---- in a plan ---- */

static bool fits(ws_plan *plan, const ws_recipe_rule *rule, const char *name)
{
    bool hit = false;
    ws_err err = WS_ERR_INIT;
    if (rule->regex == NULL)
        return fnmatch(rule->pattern, name, 0) == 0;
    if (ws_pattern_match(rule->regex, name, &hit, &err) != WS_OK) {
        ws_err_at(&err, plan->recipe, name, -1);
        ws_diag_add(plan->priv->errors, &err);
    }
    return hit;
}

const ws_recipe_rule *ws_plan_recipe_rule(ws_plan *plan, const char *name)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    for (size_t i = 0; rp != NULL && i < rp->doc->n_rules; i++)
        if (fits(plan, &rp->doc->rules[i], name)) {
            rp->rules[i].n_tensors++;
            return &rp->doc->rules[i];
        }
    return NULL;
}

size_t ws_plan_rule_input(const ws_plan *plan, const ws_recipe_rule *rule,
                          const char *name)
{
    const ws_recipe_doc *doc = plan->priv->recipe_plan->doc;
    size_t prefix;
    int layer;
    const size_t slice =
        doc->sliced ? ws_recipe_slice_of(doc, name, &layer, &prefix) : 0;
    for (size_t k = 0; k < plan->n_inputs; k++) {
        const ws_recipe_source *s = ws_recipe_source_of(plan, slice, k);
        if (doc->sliced ? s != NULL && s->ref == rule->ref
                        : strcmp(plan->inputs[k].path, doc->refs[rule->ref].path) == 0)
            return k;
    }
    return SIZE_MAX;
}

void ws_plan_recipe_rules_begin(ws_plan *plan)
{
    struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_doc *doc = rp->doc;
    rp->rules = ws_plan_alloc(plan, doc->n_rules + 1, sizeof *rp->rules);
    for (size_t i = 0; rp->rules != NULL && i < doc->n_rules; i++) {
        const ws_recipe_rule *rule = &doc->rules[i];
        rp->rules[i] = (ws_plan_rule){ .pattern = rule->pattern,
                                       .line = rule->at.line,
                                       .action = rule->what,
                                       .method = rule->method,
                                       .from = rule->copy };
    }
    plan->rules = rp->rules;
    plan->n_rules = rp->rules == NULL ? 0 : doc->n_rules;
}

/** The number of models of every rule's method. */
void ws_plan_recipe_rules_count(ws_plan *plan)
{
    const ws_recipe_doc *doc = plan->priv->recipe_plan->doc;
    for (size_t i = 0; i < doc->n_rules; i++) {
        const ws_recipe_rule *rule = &doc->rules[i];
        const ws_method *m = rule->method;
        if (rule->what == WS_RULE_MERGE &&
            (plan->n_models < m->models.min || plan->n_models > m->models.max))
            ws_place_report(plan->priv->errors, WS_E_RECIPE, NULL, doc->file, rule->at,
                            "method '%s' takes %zu to %zu models beside a base, the "
                            "recipe has %zu",
                            m->name, m->models.min, m->models.max, plan->n_models);
    }
}

void ws_plan_recipe_rules_end(ws_plan *plan)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    for (size_t i = 0; rp != NULL && i < rp->doc->n_rules; i++) {
        const ws_recipe_rule *rule = &rp->doc->rules[i];
        char shown[120];
        if (rp->rules[i].n_tensors > 0)
            continue;
        ws_show(rule->pattern, shown, sizeof shown);
        ws_err *e =
            ws_place_report(plan->priv->errors, WS_E_RECIPE, NULL, rp->doc->file,
                            rule->at, "rule '%s' hits no tensor", shown);
        ws_err_hint(e, rule->regex == NULL && strchr(rule->pattern, '*') == NULL
                           ? "a glob covers the whole name: \"*.mlp.*\""
                           : "earlier rules come first; 'wsurg inspect MODEL' lists "
                             "the names");
    }
}
