/*
 * plan_coefficients.c - learned coefficients in place of task_arithmetic's weights
 *
 * Each tensor has weights of its own, or each of its groups of elements has; one that
 * the file does not name keeps the base's numbers.
 */
#include <string.h>

#include "engine/plan_internal.h"
#include "hf/coefficients.h"

/** Where a report stands, and what to do. */
static void place(const ws_plan *plan, ws_err *e, const char *tensor, const char *hint)
{
    if (e == NULL)
        return;
    ws_err_at(e, plan->req->coefficients, tensor, -1);
    if (hint != NULL)
        ws_err_hint(e, "%s", hint);
}

/** The models must be those whose coefficients they are, in their order. */
static void check_labels(ws_plan *plan, const ws_coefficients *c)
{
    const size_t base = plan->has_base ? 1 : 0;
    ws_diag *errors = plan->priv->errors;
    if (c->n_models != plan->n_models) {
        place(plan,
              ws_diag_report(errors, WS_E_USAGE, NULL,
                             "coefficients of %zu task vectors, %zu models named",
                             c->n_models, plan->n_models),
              NULL, NULL);
        return;
    }
    for (size_t k = 0; k < c->n_models; k++)
        if (strcmp(c->labels[k], plan->inputs[k + base].label) != 0) {
            place(plan,
                  ws_diag_report(errors, WS_E_USAGE, NULL,
                                 "coefficients of '%s', where model '%s' is named",
                                 c->labels[k], plan->inputs[k + base].label),
                  NULL, "name the models in the order in which they were learned");
            return;
        }
}

/** Every block is a tensor of the base. */
static void check_blocks(ws_plan *plan, const ws_coefficients *c)
{
    for (size_t i = 0; i < c->n_blocks; i++)
        if (ws_ckpt_find(plan->inputs[0].ckpt, c->row[i].name) == NULL) {
            place(plan,
                  ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                                 "coefficients of a tensor that the base does not "
                                 "have"),
                  c->row[i].name, NULL);
            return;
        }
}

void ws_plan_coefficients(ws_plan *plan)
{
    ws_err err = WS_ERR_INIT;
    if (strcmp(plan->method->name, "task_arithmetic") != 0) {
        place(plan,
              ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                             "--coefficients are weights of task_arithmetic, not of "
                             "'%s'",
                             plan->method->name),
              NULL, "leave --method away");
        return;
    }
    ws_coefficients *c = ws_plan_alloc(plan, 1, sizeof *c);
    if (c == NULL)
        return;
    if (ws_coefficients_read(c, plan->req->coefficients, &err) != WS_OK) {
        ws_diag_add(plan->priv->errors, &err);
        return;
    }
    plan->priv->coefficients = c;
    if (plan->n_inputs == 0)
        return;
    check_labels(plan, c);
    check_blocks(plan, c);
}

/** Coefficients of a tensor; NULL: none, or of other models (which was reported). */
static const struct ws_block_row *row_of(const ws_plan *plan, const char *name)
{
    const ws_coefficients *c = plan->priv->coefficients;
    return c->n_models == plan->n_models ? ws_coefficients_of(c, name) : NULL;
}

const ws_value *ws_plan_coefficient_values(ws_plan *plan, const ws_value *given,
                                           const char *name)
{
    const struct ws_block_row *row = row_of(plan, name);
    ws_value *values = ws_plan_alloc(plan, plan->n_values + 1, sizeof *values);
    double *v = ws_plan_alloc(plan, plan->n_models + 1, sizeof *v);
    ws_origin *origin = ws_plan_alloc(plan, plan->n_models + 1, sizeof *origin);
    if (values == NULL || v == NULL || origin == NULL)
        return given;
    const uint32_t groups = plan->priv->coefficients->groups;
    for (size_t k = 0; k < plan->n_models; k++) {
        for (uint32_t g = 0; row != NULL && g < groups; g++)
            v[k] += row->lambda[k * groups + g] / groups; // their mean, to be shown
        origin[k] = WS_FROM_COEFFICIENTS;
    }
    for (size_t i = 0; i < plan->n_values; i++) {
        values[i] = given[i];
        if (strcmp(values[i].param->name, "weight") == 0) {
            values[i].v = v;
            values[i].origin = origin;
        }
    }
    return values;
}

const ws_groups *ws_plan_coefficient_groups(ws_plan *plan, const char *name,
                                            const uint32_t *model_of, size_t n)
{
    const ws_coefficients *c = plan->priv->coefficients;
    const struct ws_block_row *row = row_of(plan, name);
    if (row == NULL || c->groups == 1)
        return NULL;
    ws_groups *out = ws_plan_alloc(plan, 1, sizeof *out);
    double *weight = ws_plan_alloc(plan, n * c->groups, sizeof *weight);
    if (out == NULL || weight == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        memcpy(weight + i * c->groups, row->lambda + model_of[i] * (size_t)c->groups,
               c->groups * sizeof *weight);
    *out = (ws_groups){ c->groups, ws_coefficients_key(c->seed, name), weight };
    return out;
}

void ws_plan_coefficients_free(ws_plan *plan)
{
    if (plan->priv->coefficients != NULL)
        ws_coefficients_free(plan->priv->coefficients);
}
