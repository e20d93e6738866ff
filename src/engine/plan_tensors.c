/*
 * plan_tensors.c - the union of the inputs' tensors: for each output tensor its
 * sources, its dtype, and whether the method or a copy makes it
 */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "engine/recipe_plan.h"
#include "hf/quantized.h"
#include "wsurg/source.h"
#include "wsurg/text.h"

const ws_tensor *ws_plan_find(const ws_ckpt *input, const char *name, bool *tied)
{
    const ws_tensor *t = ws_ckpt_find(input, name);
    *tied = false;
    if (t != NULL)
        return t;
    t = ws_tied_tensor(input, name);
    *tied = t != NULL;
    return t;
}

const ws_tensor *ws_plan_source(const ws_plan *plan, const ws_plan_tensor *pt, size_t k)
{
    const ws_tensor *t = NULL;
    if (plan->has_base && k == 0)
        t = pt->base;
    else
        t = pt->in[k - (plan->has_base ? 1 : 0)];
    return t != NULL && strcmp(t->name, pt->t.name) == 0 ? t : NULL;
}

/** Packed and scaled weights are not the numbers that they seem to be; what passes
 * them through may. */
static void check_quantised(ws_plan *plan, size_t input)
{
    ws_err err = WS_ERR_INIT;
    const bool through = plan->method != NULL && plan->req->write.dtype_keep &&
                         strcmp(plan->method->name, "passthrough") == 0;
    if (through || ws_quant_refuse(plan->inputs[input].ckpt, &err) == WS_OK)
        return;
    ws_diag_add(plan->priv->errors, &err);
}

/** Add @p name to the names of the union unless another input came with it before. */
static bool seen_before(const ws_plan *plan, size_t input, const char *name)
{
    for (size_t k = 0; k < input; k++)
        if (ws_ckpt_find(plan->inputs[k].ckpt, name) != NULL)
            return true;
    return false;
}

/** What the inputs hold under one name. */
struct column {
    const ws_tensor **t; // (n_inputs), NULL where absent
    bool tied;           // some stand-in was taken
    size_t n;            // present
    size_t first;        // input
};

static void gather(const ws_plan *plan, const char *name, struct column *col)
{
    col->n = 0;
    col->tied = false;
    col->first = SIZE_MAX;
    for (size_t k = 0; k < plan->n_inputs; k++) {
        bool tied;
        col->t[k] = ws_plan_find(plan->inputs[k].ckpt, name, &tied);
        col->tied |= tied;
        if (col->t[k] == NULL)
            continue;
        if (col->first == SIZE_MAX)
            col->first = k;
        col->n++;
    }
}

static void shape_text(const ws_tensor *t, char *out, size_t size)
{
    int n = snprintf(out, size, "[");
    for (int i = 0; i < t->rank && (size_t)n < size; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%llu", i == 0 ? "" : ",",
                      (unsigned long long)t->shape[i]);
    if ((size_t)n < size)
        snprintf(out + n, size - (size_t)n, "]");
}

static bool same_shape(const ws_tensor *a, const ws_tensor *b)
{
    return a->rank == b->rank &&
           (a->rank == 0 ||
            memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0);
}

/** Shapes must agree, and dtypes as far as arithmetic needs; false after a report. */
static bool check_column(ws_plan *plan, const char *name, const struct column *col)
{
    const ws_tensor *a = col->t[col->first];
    const bool arithmetic = ws_dtype_info(a->dtype)->arithmetic;
    for (size_t k = col->first + 1; k < plan->n_inputs; k++) {
        const ws_tensor *b = col->t[k];
        if (b == NULL)
            continue;
        ws_err *e = NULL;
        if (!same_shape(a, b)) {
            char sa[160], sb[160];
            shape_text(a, sa, sizeof sa);
            shape_text(b, sb, sizeof sb);
            e = ws_diag_report(plan->priv->errors, WS_E_SHAPE, NULL,
                               "tensor '%s' has shape %s, %s has %s", name, sb,
                               plan->inputs[col->first].label, sa);
        } else if (a->dtype != b->dtype &&
                   !(arithmetic && ws_dtype_info(b->dtype)->arithmetic)) {
            e = ws_diag_report(
                plan->priv->errors, WS_E_DTYPE, NULL, "tensor '%s' is %s, %s has %s",
                name, ws_dtype_info(b->dtype)->name, plan->inputs[col->first].label,
                ws_dtype_info(a->dtype)->name);
        } else {
            continue;
        }
        if (e != NULL)
            ws_err_at(e, plan->inputs[k].path, name, -1);
        return false;
    }
    return true;
}

/** "a, b": labels of the inputs that have (or lack) the tensor. */
static void labels_text(const ws_plan *plan, const struct column *col, bool have,
                        ws_buf *out)
{
    for (size_t k = 0; k < plan->n_inputs; k++)
        if ((col->t[k] != NULL) == have)
            ws_buf_printf(out, "%s%s", out->n == 0 ? "" : ", ", plan->inputs[k].label);
}

static void report_missing(ws_plan *plan, const char *name, const struct column *col)
{
    ws_buf have = { 0 }, lack = { 0 };
    labels_text(plan, col, true, &have);
    labels_text(plan, col, false, &lack);
    ws_err *e = ws_diag_report(
        plan->priv->errors, WS_E_MISSING, NULL, "tensor '%s' is in %s but not in %s",
        name, have.p == NULL ? "" : have.p, lack.p == NULL ? "" : lack.p);
    if (e != NULL)
        for (size_t k = 0; k < plan->n_inputs; k++)
            if (col->t[k] == NULL)
                ws_err_at(e, plan->inputs[k].path, name, -1);
    ws_err_hint(e,
                "--on-missing base keeps the base's tensor, --on-missing skip merges "
                "without the models that lack it");
    ws_buf_free(&have);
    ws_buf_free(&lack);
}

static size_t method_params(const ws_method *m)
{
    size_t n = 0;
    while (m->params[n].name != NULL)
        n++;
    return n;
}

/** Resolve the job of a merged tensor for the models that have it. */
static void make_job(ws_plan *plan, ws_plan_tensor *pt, const struct column *col,
                     const ws_recipe_rule *rule)
{
    const ws_method *method =
        rule != NULL && rule->what == WS_RULE_MERGE ? rule->method : plan->method;
    const size_t base = plan->has_base ? 1 : 0;
    uint32_t *model_of = ws_plan_alloc(plan, plan->n_models + 1, sizeof *model_of);
    const ws_tensor **in = ws_plan_alloc(plan, plan->n_models + 1, sizeof *in);
    if (model_of == NULL || in == NULL)
        return;
    size_t n = 0;
    for (size_t m = 0; m < plan->n_models; m++) {
        in[m] = col->t[m + base];
        if (in[m] != NULL)
            model_of[n++] = (uint32_t)m;
    }
    ws_rng_key *rng = ws_plan_alloc(plan, n + 1, sizeof *rng);
    if (rng == NULL)
        return;
    for (size_t i = 0; i < n && method->random; i++) {
        uint64_t key[2];
        ws_rng_key_make(plan->req->seed, method->name, model_of[i], pt->t.name, key);
        rng[i] = (ws_rng_key){ key[0], key[1] };
    }
    pt->in = in;
    pt->model_of = model_of;
    const bool arithmetic = rule == NULL || rule->what == WS_RULE_MERGE;
    pt->n_values = method_params(method);
    if (plan->priv->recipe_plan != NULL && arithmetic)
        pt->values = ws_plan_recipe_values(plan, rule, pt->t.name, &pt->depth);
    if (plan->priv->coefficients != NULL && rule == NULL)
        pt->values = ws_plan_coefficient_values(
            plan, pt->values != NULL ? pt->values : plan->values, pt->t.name);
    const ws_value *values = pt->values != NULL ? pt->values : plan->values;
    // tensors of all models and of the same values share one options struct
    const size_t before = pt->values != NULL ? plan->n_tensors - 1 : 0;
    const ws_plan_tensor *last = plan->n_tensors > 0 ? &plan->tensors[before] : NULL;
    const bool share = last != NULL && last->job.n_models == n && n == plan->n_models &&
                       last->job.opts != NULL && last->values == pt->values;
    pt->job = (ws_job){
        .method = pt->f64 ? ws_method_f64(method) : method,
        .name = pt->t.name,
        .rank = pt->t.rank,
        .shape = pt->t.shape,
        .n = pt->t.n_elements,
        .row = 1,
        .slice_len = ws_slice_len(pt->t.rank, pt->t.shape),
        .n_slices = ws_slice_count(pt->t.rank, pt->t.shape),
        .n_models = n,
        .has_base = plan->has_base && method->base != WS_BASE_NONE,
        .opts = share        ? last->job.opts
                : arithmetic ? ws_plan_opts(plan, method, values, model_of, n)
                             : NULL,
        .scale = 1.0,
        .rng = rng,
    };
    for (int d = 1; d < pt->t.rank; d++)
        pt->job.row *= pt->t.shape[d];
    if (plan->priv->coefficients != NULL && rule == NULL)
        pt->job.groups = ws_plan_coefficient_groups(plan, pt->t.name, model_of, n);
}

/** Sizes of the output tensor in its dtype. */
static void set_size(ws_plan *plan, ws_plan_tensor *pt)
{
    uint64_t bits;
    if (ws_mul_u64(pt->t.n_elements, ws_dtype_info(pt->t.dtype)->bits, &bits)) {
        pt->t.n_bytes = bits / 8;
        return;
    }
    ws_err *e = ws_diag_report(plan->priv->errors, WS_E_UNSUPPORTED, NULL,
                               "tensor '%s' is too large in %s", pt->t.name,
                               ws_dtype_info(pt->t.dtype)->name);
    if (e != NULL)
        ws_err_at(e, NULL, pt->t.name, -1);
}

static void add_tensor(ws_plan *plan, const char *name, const struct column *col,
                       bool copy, const ws_recipe_rule *rule)
{
    const ws_write_opts *w = &plan->req->write;
    const ws_tensor *model = col->t[col->first];
    ws_plan_tensor *pt = &plan->tensors[plan->n_tensors];
    *pt = (ws_plan_tensor){ .t = *model, .layer = -1, .copy_from = (int)col->first };
    pt->t.name = name;
    pt->rule = rule == NULL ? -1 : (int)(rule - plan->priv->req.recipe->rules);
    pt->base = plan->has_base ? col->t[0] : NULL;
    const bool arithmetic = ws_dtype_info(model->dtype)->arithmetic;
    pt->t.dtype = !w->dtype_keep && arithmetic
                      ? w->dtype
                      : ws_plan_kept_dtype(plan, col->first, model);
    for (size_t k = 0; k < plan->n_inputs; k++)
        if (col->t[k] != NULL && col->t[k]->dtype == WS_DT_F64)
            pt->f64 = true;
    pt->action = copy || !arithmetic ? WS_ACT_COPY : WS_ACT_MERGE;
    make_job(plan, pt, col, rule);
    // one source that the method would not change is copied, NaN and all
    if (col->n == 1 && pt->action == WS_ACT_MERGE &&
        pt->job.method->keeps_equal != NULL && pt->job.opts != NULL &&
        pt->job.method->keeps_equal(&pt->job))
        pt->action = WS_ACT_COPY;
    set_size(plan, pt);
    if (col->tied)
        plan->priv->tie_cleared = true;
    plan->n_copied += pt->action == WS_ACT_COPY;
    plan->n_tensors++;
}

static void drop_tensor(ws_plan *plan, const char *name)
{
    plan->dropped[plan->n_dropped++] = name;
}

/** The tensor of one input alone, as a rule says. */
static void copy_tensor(ws_plan *plan, const char *name, const struct column *col,
                        const ws_recipe_rule *rule)
{
    const size_t k = ws_plan_rule_input(plan, rule, name);
    struct column only = { .n = 1, .first = k };
    if (k == SIZE_MAX || col->t[k] == NULL) {
        ws_err *e = ws_place_report(plan->priv->errors, WS_E_RECIPE, NULL, plan->recipe,
                                    rule->at, "model '%s' has no tensor '%s' to copy",
                                    rule->copy, name);
        ws_err_hint(e, "a rule before this one may say what else becomes of it");
        return;
    }
    only.t = ws_plan_alloc(plan, plan->n_inputs + 1, sizeof *only.t);
    if (only.t == NULL)
        return;
    only.t[k] = col->t[k];
    only.tied = strcmp(col->t[k]->name, name) != 0;
    add_tensor(plan, name, &only, true, rule);
}

/** Decide what becomes of one name. */
static void match_name(ws_plan *plan, const char *name, const struct column *col)
{
    const ws_recipe_rule *rule = ws_plan_recipe_rule(plan, name);
    if (rule != NULL && rule->what == WS_RULE_DROP) {
        drop_tensor(plan, name);
        return;
    }
    if (rule != NULL && rule->what == WS_RULE_COPY) {
        copy_tensor(plan, name, col, rule);
        return;
    }
    const bool complete = col->n == plan->n_inputs;
    const bool base_lacks = plan->has_base && col->t[0] == NULL;
    if (!complete && plan->req->on_missing == WS_MISSING_ERROR) {
        report_missing(plan, name, col);
        return;
    }
    if (!check_column(plan, name, col))
        return;
    if (complete) {
        add_tensor(plan, name, col, false, rule);
        return;
    }
    if (base_lacks || (plan->req->on_missing == WS_MISSING_BASE && col->t[0] == NULL)) {
        drop_tensor(plan, name);
        return;
    }
    const size_t models = col->n - (plan->has_base ? 1 : 0);
    const ws_method *m = rule != NULL ? rule->method : plan->method;
    add_tensor(plan, name, col,
               plan->req->on_missing == WS_MISSING_BASE || models < m->models.min,
               rule);
}

/** What ranges cannot say; a mistake of the options is the same for every tensor and
 * reported once. */
static void check_jobs(ws_plan *plan)
{
    ws_diag *warnings = plan->priv->ctx == NULL ? NULL : plan->priv->ctx->warnings;
    ws_err last = WS_ERR_INIT;
    const char *why = NULL;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const ws_plan_tensor *pt = &plan->tensors[i];
        const ws_method *m = pt->job.method;
        ws_err err = WS_ERR_INIT;
        if (pt->action != WS_ACT_MERGE)
            continue;
        if (why == NULL && m->no_op != NULL)
            why = m->no_op(&pt->job);
        if (m->check == NULL || m->check(&pt->job, &err) == WS_OK ||
            strcmp(err.msg, last.msg) == 0)
            continue;
        last = err;
        if (err.code != WS_E_USAGE)
            ws_err_at(&err, NULL, pt->t.name, -1);
        ws_diag_add(plan->priv->errors, &err);
    }
    if (why != NULL)
        ws_diag_report(warnings, WS_OK, "no-op", "%s", why);
}

void ws_plan_match(ws_plan *plan)
{
    size_t most = 0;
    for (size_t k = 0; k < plan->n_inputs; k++) {
        if (plan->priv->given == NULL)
            check_quantised(plan, k);
        most += ws_ckpt_count(plan->inputs[k].ckpt);
    }
    struct column col = { .t = ws_plan_alloc(plan, plan->n_inputs + 1, sizeof *col.t) };
    plan->tensors = ws_plan_alloc(plan, most + 1, sizeof *plan->tensors);
    plan->dropped = ws_plan_alloc(plan, most + 1, sizeof *plan->dropped);
    if (col.t == NULL || plan->tensors == NULL || plan->dropped == NULL)
        return;
    for (size_t k = 0; k < plan->n_inputs; k++) {
        const ws_ckpt *c = plan->inputs[k].ckpt;
        for (size_t i = 0; i < ws_ckpt_count(c); i++) {
            const char *name = ws_ckpt_tensor(c, i)->name;
            if (seen_before(plan, k, name))
                continue;
            gather(plan, name, &col);
            match_name(plan, name, &col);
        }
    }
    plan->priv->untouched = (most - plan->n_tensors) * sizeof *plan->tensors +
                            (most - plan->n_dropped) * sizeof *plan->dropped;
    if (plan->n_tensors == 0 && plan->priv->errors->n == 0)
        ws_diag_report(plan->priv->errors, WS_E_MISSING, NULL,
                       "the inputs have no tensor in common");
    ws_plan_recipe_rules_end(plan);
    check_jobs(plan);
}
