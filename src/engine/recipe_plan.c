/*
 * recipe_plan.c - a recipe's part in a plan: the request that it stands for, and the
 * parameters of every tensor
 */
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "engine/recipe_plan.h"
#include "hf/vocab_source.h"

void ws_plan_recipe_begin(ws_plan *plan)
{
    struct ws_plan_priv *priv = plan->priv;
    ws_merge_req *req = &priv->req;
    const ws_recipe_doc *doc = req->recipe;
    struct ws_recipe_plan *rp = ws_plan_alloc(plan, 1, sizeof *rp);
    const char **models = ws_plan_alloc(plan, doc->n_refs + 1, sizeof *models);
    if (rp == NULL || models == NULL)
        return;
    rp->doc = doc;
    priv->recipe_plan = rp;
    plan->recipe = doc->file;
    req->method = doc->method->name;
    req->base = doc->has_base ? doc->refs[doc->base].path : NULL;
    req->models = models;
    req->n_models = 0;
    for (size_t i = 0; i < doc->n_refs; i++)
        if (!doc->has_base || i != doc->base)
            models[req->n_models++] = doc->refs[i].path;
    if (doc->has_dtype && req->write.dtype_keep) {
        req->write.dtype_keep = false;
        req->write.dtype = doc->dtype;
    }
    if (req->lines == NULL)
        req->lines = doc->lines;
    if (req->coefficients == NULL)
        req->coefficients = doc->coefficients;
    if (doc->has_seed)
        req->seed = doc->seed;
    ws_plan_recipe_rules_begin(plan);
}

const ws_recipe_ref *ws_recipe_ref_of(const ws_plan *plan, const char *path)
{
    const ws_recipe_doc *doc = plan->priv->req.recipe;
    size_t i = 0;
    while (strcmp(doc->refs[i].path, path) != 0)
        i++;
    return &doc->refs[i];
}

/* ---- layers ---- */

static struct ws_recipe_list *find_list(const struct ws_recipe_plan *rp,
                                        const char *name, size_t prefix)
{
    for (size_t i = 0; i < rp->n_lists; i++)
        if (rp->lists[i].n == prefix && memcmp(rp->lists[i].prefix, name, prefix) == 0)
            return &rp->lists[i];
    return NULL;
}

static void count_layer(ws_plan *plan, struct ws_recipe_plan *rp, const char *name)
{
    size_t prefix;
    const int layer = ws_layer_of(name, &prefix);
    if (layer < 0)
        return;
    struct ws_recipe_list *list = find_list(rp, name, prefix);
    if (list == NULL) {
        if (rp->n_lists == rp->cap_lists) {
            const size_t cap = rp->cap_lists * 2 + 4;
            struct ws_recipe_list *v = ws_plan_alloc(plan, cap, sizeof *v);
            if (v == NULL)
                return;
            if (rp->n_lists > 0)
                memcpy(v, rp->lists, rp->n_lists * sizeof *v);
            rp->lists = v;
            rp->cap_lists = cap;
        }
        list = &rp->lists[rp->n_lists++];
        *list = (struct ws_recipe_list){ name, prefix, 0 };
    }
    if ((uint32_t)layer >= list->layers)
        list->layers = (uint32_t)layer + 1;
}

/** The slice of an output tensor, and its depth there: 0 outside the layers. */
static size_t place_of(const struct ws_recipe_plan *rp, const char *name, double *t)
{
    size_t prefix, slice = 0;
    int layer;
    uint32_t first = 0, layers = 0;
    if (rp->doc->sliced) {
        slice = ws_recipe_slice_of(rp->doc, name, &layer, &prefix);
        first = rp->doc->slices[slice].first;
        layers = rp->doc->slices[slice].layers;
    } else {
        layer = ws_layer_of(name, &prefix);
        const struct ws_recipe_list *list =
            layer < 0 ? NULL : find_list(rp, name, prefix);
        layers = list == NULL ? 0 : list->layers;
    }
    *t = 0.0;
    if (layer >= 0)
        *t = layers < 2 ? 1.0 : (double)((uint32_t)layer - first) / (layers - 1);
    return slice;
}

/* ---- values ---- */

static ws_value *new_values(ws_plan *plan, const ws_method *method, size_t n,
                            bool ranges)
{
    const ws_param *params = method->params;
    ws_value *values = ws_plan_alloc(plan, n + 1, sizeof *values);
    for (size_t i = 0; values != NULL && i < n; i++) {
        const size_t m = params[i].per_model ? plan->n_models : 1;
        double *v = ws_plan_alloc(plan, m + 1, sizeof *v);
        double *hi = ws_plan_alloc(plan, ranges ? m + 1 : 1, sizeof *hi);
        ws_origin *origin = ws_plan_alloc(plan, m + 1, sizeof *origin);
        uint32_t *line = ws_plan_alloc(plan, m + 1, sizeof *line);
        if (v == NULL || hi == NULL || origin == NULL || line == NULL)
            return NULL;
        for (size_t k = 0; k < m; k++)
            v[k] = params[i].recipe;
        values[i] = (ws_value){ .param = &params[i],
                                .n = m,
                                .v = v,
                                .origin = origin,
                                .hi = ranges ? hi : NULL,
                                .line = line };
    }
    return values;
}

/** Which source each input is, and how many layers there are. */
static void find_sources(ws_plan *plan)
{
    struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_slice *slice = &rp->doc->slices[0];
    rp->sources = ws_plan_alloc(plan, plan->n_inputs + 1, sizeof(void *));
    for (size_t k = 0; rp->sources != NULL && k < plan->n_inputs; k++) {
        const ws_ckpt *c = plan->inputs[k].ckpt;
        for (size_t i = 0; i < slice->n && rp->sources[k] == NULL; i++)
            if (strcmp(rp->doc->refs[slice->sources[i].ref].path,
                       plan->inputs[k].path) == 0)
                rp->sources[k] = &slice->sources[i];
        for (size_t i = 0; i < ws_ckpt_count(c); i++)
            count_layer(plan, rp, ws_ckpt_tensor(c, i)->name);
    }
}

static bool set_make(ws_plan *plan, struct ws_recipe_set *set, const ws_method *m,
                     const ws_recipe_rule *rule)
{
    size_t n = 0;
    while (m->params[n].name != NULL)
        n++;
    *set = (struct ws_recipe_set){ .method = m, .rule = rule, .n = n };
    set->draft = new_values(plan, m, n, false);
    set->all = new_values(plan, m, n, true);
    set->reported = ws_plan_alloc(plan, n + 1, sizeof *set->reported);
    return set->draft != NULL && set->all != NULL && set->reported != NULL;
}

void ws_plan_recipe_params(ws_plan *plan)
{
    struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    struct ws_recipe_set *sets =
        ws_plan_alloc(plan, rp->doc->n_rules + 1, sizeof *sets);
    if (sets == NULL || !set_make(plan, &sets[0], plan->method, NULL))
        return;
    for (size_t i = 0; i < rp->doc->n_rules; i++) {
        const ws_recipe_rule *rule = &rp->doc->rules[i];
        if (rule->what == WS_RULE_MERGE &&
            !set_make(plan, &sets[1 + i], rule->method, rule))
            return;
    }
    rp->sets = sets;
    if (!rp->doc->sliced)
        find_sources(plan);
    ws_plan_recipe_rules_count(plan);
    plan->values = sets[0].all;
    plan->n_values = sets[0].n;
}

/** Whether the file of coefficients gives the value. */
static bool has_coefficient(const ws_plan *plan, const struct ws_recipe_set *set,
                            const ws_param *p)
{
    return plan->req->coefficients != NULL && set->rule == NULL &&
           strcmp(p->name, "weight") == 0;
}

/** A value that nothing gives and that has no default. */
static void report_missing(ws_plan *plan, struct ws_recipe_set *set, size_t i,
                           size_t model, const char *name)
{
    const ws_recipe_doc *doc = plan->priv->recipe_plan->doc;
    const ws_param *p = &set->method->params[i];
    char of[200] = "";
    if (set->reported[i])
        return;
    set->reported[i] = true;
    if (p->per_model)
        snprintf(of, sizeof of, " of model '%.150s'",
                 plan->inputs[ws_plan_input_of(plan, model)].label);
    ws_err *e = ws_place_report(plan->priv->errors, WS_E_RECIPE, NULL, doc->file,
                                set->rule == NULL ? doc->method_at : set->rule->at,
                                "method '%s' needs %s%s, and the recipe gives none",
                                set->method->name, p->name, of);
    if (doc->n_slices > 0)
        ws_err_hint(e, "the first tensor without it is '%.160s'", name);
}

/** A rule may take over the value of another method, which had another range. */
static void check_range(ws_plan *plan, struct ws_recipe_set *set, size_t i, double v,
                        ws_place at)
{
    const ws_param *p = &set->method->params[i];
    if (p->kind == WS_PARAM_BOOLEAN || p->kind == WS_PARAM_CHOICE || set->reported[i] ||
        (v >= p->min && v <= p->max))
        return;
    set->reported[i] = true;
    ws_place_report(plan->priv->errors, WS_E_RECIPE, NULL,
                    plan->priv->recipe_plan->doc->file, at,
                    "%s is %g, wanted %g to %g for method '%s'", p->name, v, p->min,
                    p->max, set->method->name);
}

/** The source's name of output tensor @p name. */
static const char *name_in(const ws_recipe_slice *slice, const ws_recipe_source *source,
                           const char *name, char *buf, size_t size)
{
    size_t prefix;
    const int layer = ws_layer_of(name, &prefix);
    if (layer < 0)
        return name;
    ws_recipe_renumber(name, prefix, (uint32_t)layer - slice->first + source->start,
                       buf, size);
    return buf;
}

/** Resolve parameter @p i of tensor @p name into the draft. */
static void resolve(ws_plan *plan, struct ws_recipe_set *set, size_t i,
                    const char *name)
{
    struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_value *val = &set->draft[i];
    double *v = (double *)(uintptr_t)val->v;
    ws_origin *origin = (ws_origin *)(uintptr_t)val->origin;
    uint32_t *line = (uint32_t *)(uintptr_t)val->line;
    ws_recipe_query q = { .rule = set->rule, .in_name = name, .out_name = name };
    char in_name[WS_MAX_NAME + 16];
    const size_t slice = place_of(rp, name, &q.t);
    q.slice = &rp->doc->slices[slice];
    for (size_t m = 0; m < val->n; m++) {
        ws_place at = { 0, 0 };
        q.source = NULL;
        if (val->param->per_model)
            q.source = ws_recipe_source_of(plan, slice, ws_plan_input_of(plan, m));
        if (rp->doc->sliced && q.source != NULL)
            q.in_name = name_in(q.slice, q.source, name, in_name, sizeof in_name);
        v[m] = val->param->recipe;
        const bool found = ws_recipe_value(rp->doc, val->param, &q, &v[m], &at);
        origin[m] = found ? WS_FROM_RECIPE : WS_FROM_DEFAULT;
        line[m] = at.line;
        const bool absent =
            val->param->per_model && rp->doc->sliced && q.source == NULL;
        if (absent) {
            v[m] = 0.0; // the slice has no such source
        } else if (has_coefficient(plan, set, val->param)) {
            v[m] = 0.0; // the file says another for each of its tensors
            origin[m] = WS_FROM_COEFFICIENTS;
            line[m] = 0;
        } else if (!found && isnan(v[m])) {
            report_missing(plan, set, i, m, name);
        } else if (found && set->rule != NULL) {
            check_range(plan, set, i, v[m], at);
        }
    }
}

/** Widen the summary by the values of one tensor. */
static void widen(const struct ws_recipe_set *set, const ws_value *values, bool first)
{
    for (size_t i = 0; i < set->n; i++) {
        double *lo = (double *)(uintptr_t)set->all[i].v;
        double *hi = (double *)(uintptr_t)set->all[i].hi;
        ws_origin *origin = (ws_origin *)(uintptr_t)set->all[i].origin;
        uint32_t *line = (uint32_t *)(uintptr_t)set->all[i].line;
        for (size_t k = 0; k < values[i].n; k++) {
            const double v = values[i].v[k];
            lo[k] = first || v < lo[k] ? v : lo[k];
            hi[k] = first || v > hi[k] ? v : hi[k];
            if (first || values[i].origin[k] == WS_FROM_RECIPE) {
                origin[k] = values[i].origin[k];
                line[k] = values[i].line[k];
            }
        }
    }
}

static bool same_values(const ws_value *a, const ws_value *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < a[i].n; k++)
            if (a[i].v[k] != b[i].v[k] || a[i].line[k] != b[i].line[k])
                return false;
    return true;
}

const ws_value *ws_plan_recipe_values(ws_plan *plan, const ws_recipe_rule *rule,
                                      const char *name, double *t)
{
    struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    struct ws_recipe_set *set =
        &rp->sets[rule == NULL ? 0 : 1 + (size_t)(rule - rp->doc->rules)];
    place_of(rp, name, t);
    for (size_t i = 0; i < set->n; i++)
        resolve(plan, set, i, name);
    if (set->last != NULL && same_values(set->last, set->draft, set->n))
        return set->last;
    widen(set, set->draft, set->last == NULL);
    const ws_value *values = set->draft;
    set->last = values;
    set->draft = new_values(plan, set->method, set->n, false);
    if (set->draft == NULL) // reported; the plan is not made
        set->draft = (ws_value *)(uintptr_t)values;
    return values;
}

/* ---- provenance ---- */

static void slice_json(const ws_plan *plan, ws_buf *b, size_t index)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_slice *slice = &rp->doc->slices[index];
    ws_buf_puts(b, "{\"sources\":[");
    for (size_t k = 0, n = 0; k < plan->n_inputs; k++) {
        const ws_recipe_source *s = ws_recipe_source_of(plan, index, k);
        if (s == NULL)
            continue;
        const char *label =
            rp->doc->sliced ? ws_ckpt_label(rp->under[s->ref]) : plan->inputs[k].label;
        ws_buf_puts(b, n++ == 0 ? "{\"model\":" : ",{\"model\":");
        ws_buf_json_string(b, label, strlen(label));
        if (rp->doc->sliced)
            ws_buf_printf(b, ",\"layer_range\":[%u,%u]", s->start,
                          s->start + slice->layers);
        ws_buf_puts(b, ",\"parameters\":");
        ws_recipe_settings_json(b, &s->params);
        ws_buf_putc(b, '}');
    }
    ws_buf_puts(b, "],\"parameters\":");
    ws_recipe_settings_json(b, &slice->params);
    ws_buf_putc(b, '}');
}

static void rules_json(const ws_recipe_doc *doc, ws_buf *b)
{
    for (size_t i = 0; i < doc->n_rules; i++) {
        const ws_recipe_rule *rule = &doc->rules[i];
        ws_buf_printf(b, "%s{\"%s\":", i == 0 ? ",\"rules\":[" : ",",
                      rule->regex != NULL ? "regex" : "match");
        ws_buf_json_string(b, rule->pattern, strlen(rule->pattern));
        if (rule->what == WS_RULE_DROP) {
            ws_buf_puts(b, ",\"drop\":true}");
            continue;
        }
        ws_buf_puts(b, rule->what == WS_RULE_COPY ? ",\"copy\":" : ",\"method\":");
        const char *word = rule->what == WS_RULE_COPY ? rule->copy : rule->method->name;
        ws_buf_json_string(b, word, strlen(word));
        if (rule->what == WS_RULE_MERGE) {
            ws_buf_puts(b, ",\"parameters\":");
            ws_recipe_settings_json(b, &rule->params);
        }
        ws_buf_putc(b, '}');
    }
    if (doc->n_rules > 0)
        ws_buf_putc(b, ']');
}

void ws_plan_recipe_json(const ws_plan *plan, ws_buf *b)
{
    const ws_recipe_doc *doc = plan->priv->recipe_plan->doc;
    ws_buf_puts(b, "{\"document\":");
    ws_recipe_settings_json(b, &doc->params);
    ws_buf_puts(b, ",\"module\":");
    ws_recipe_settings_json(b, &doc->module);
    ws_buf_puts(b, ",\"slices\":[");
    for (size_t s = 0; s < doc->n_slices; s++) {
        ws_buf_puts(b, s == 0 ? "" : ",");
        slice_json(plan, b, s);
    }
    ws_buf_putc(b, ']');
    rules_json(doc, b);
    ws_plan_stages_json(plan, b);
    ws_buf_putc(b, '}');
}

void ws_plan_recipe_free(ws_plan *plan)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    for (size_t i = 0; rp != NULL && rp->under != NULL && i < rp->doc->n_refs; i++)
        ws_ckpt_free(rp->under[i]);
    ws_plan_stages_free(plan);
}

uint64_t ws_plan_recipe_memory(const ws_plan *plan)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    uint64_t n = ws_plan_stages_memory(plan);
    for (size_t i = 0; rp != NULL && rp->under != NULL && i < rp->doc->n_refs; i++)
        n += ws_ckpt_memory(rp->under[i]) + ws_vocab_memory(rp->under[i]);
    return n;
}
