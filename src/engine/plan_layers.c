/*
 * plan_layers.c - block numbers, and the scale of every tensor under --lines
 *
 *   scale(l) = alpha + beta * l / (L - 1),  l = 0 .. L-1;  alpha outside the blocks
 *
 * LiNeS, Wang et al. 2024, arXiv:2410.17146, section 4. A block's number is the number
 * after the name of the layer list (layers.3.mlp...), never any number in the name:
 * experts and sub-modules are numbered too.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/plan_internal.h"
#include "wsurg/text.h"

static const char *const layer_lists[] = { "layers", "h",         "blocks",     "block",
                                           "layer",  "resblocks", "layer_stack" };

/** Whether the n bytes at s are the name of a layer list. */
static bool is_list(const char *s, size_t n)
{
    for (size_t i = 0; i < sizeof layer_lists / sizeof *layer_lists; i++)
        if (strlen(layer_lists[i]) == n && memcmp(s, layer_lists[i], n) == 0)
            return true;
    return false;
}

int ws_layer_of(const char *name, size_t *prefix)
{
    for (const char *p = name;;) {
        const size_t n = strcspn(p, ".");
        if (p[n] == '\0')
            return -1;
        const char *number = p + n + 1;
        const size_t digits = strspn(number, "0123456789");
        if (is_list(p, n) && digits > 0 && digits < 7 &&
            (number[digits] == '.' || number[digits] == '\0')) {
            *prefix = (size_t)(number - name);
            return (int)strtol(number, NULL, 10);
        }
        p = number;
    }
}

/** One of the two values of --lines: a number or "auto". */
static bool parse_part(ws_plan *plan, const char *text, const char *which, double *v,
                       bool *is_auto)
{
    *is_auto = strcmp(text, "auto") == 0;
    if (*is_auto || ws_parse_real(text, v))
        return true;
    char shown[40];
    ws_show(text, shown, sizeof shown);
    ws_err *e =
        ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                       "--lines has %s '%s', wanted a number or auto", which, shown);
    ws_err_hint(e, "--lines A,B scales the first block by A, the last by A+B");
    return false;
}

static void parse_values(ws_plan *plan, const char *lines)
{
    char *text = ws_arena_strdup(&plan->priv->arena, lines);
    if (text == NULL)
        return;
    char *comma = strchr(text, ',');
    if (comma == NULL) {
        ws_err *e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                                   "--lines wants two values A,B, got one");
        ws_err_hint(e, "--lines %s,auto makes the last block's scale 1", text);
        return;
    }
    *comma = '\0';
    plan->has_lines =
        parse_part(plan, text, "A", &plan->lines_alpha, &plan->lines_alpha_auto) &&
        parse_part(plan, comma + 1, "B", &plan->lines_beta, &plan->lines_beta_auto);
}

void ws_plan_lines_parse(ws_plan *plan)
{
    if (plan->req->lines == NULL)
        return;
    if (plan->method->scaled) {
        parse_values(plan, plan->req->lines);
        return;
    }
    ws_err *e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                               "--lines scales an update, and method '%s' makes none",
                               plan->method->name);
    ws_err_hint(e, "use it with a base-relative method: task_arithmetic, ties, ...");
}

void ws_plan_lines_apply(ws_plan *plan)
{
    if (plan->lines_beta_auto)
        plan->lines_beta = 1.0 - plan->lines_alpha;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        ws_plan_tensor *pt = &plan->tensors[i];
        // one block alone is the first and the last: it is scaled as the last
        const double depth = pt->layer < 0 ? 0.0
                             : plan->n_layers == 1
                                 ? 1.0
                                 : (double)pt->layer / (double)(plan->n_layers - 1);
        pt->job.scale = plan->lines_alpha + plan->lines_beta * depth;
    }
}

void ws_plan_layers(ws_plan *plan)
{
    for (size_t i = 0; i < plan->n_tensors; i++) {
        ws_plan_tensor *pt = &plan->tensors[i];
        size_t prefix;
        pt->layer = ws_layer_of(pt->t.name, &prefix);
        if (pt->layer >= plan->n_layers)
            plan->n_layers = pt->layer + 1;
    }
    if (plan->has_lines && plan->n_layers == 0) {
        ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                       "--lines found no block: no tensor name holds a layer list "
                       "followed by a number (layers.0., h.0., blocks.0.)");
        return;
    }
    if (plan->has_lines && !plan->lines_alpha_auto)
        ws_plan_lines_apply(plan);
}
