/*
 * plan_report.c - a plan, shown before anything is read
 */
#include "plan_report.h"

#include <stdio.h>
#include <string.h>

#include "gen.h"
#include "report.h"

/* ---- one tensor ---- */

/** The models whose tensor goes into @p t: the base first. */
static void sources_json(cJSON *list, const ws_plan *plan, const ws_plan_tensor *t)
{
    if (t->action == WS_ACT_COPY) {
        ws_j_str(list, NULL, plan->inputs[t->copy_from].label);
        return;
    }
    if (t->base)
        ws_j_str(list, NULL, plan->inputs[0].label);
    for (size_t k = 0; k < t->job.n_models; k++)
        ws_j_str(list, NULL, plan->inputs[t->model_of[k] + plan->has_base].label);
}

void ws_plan_tensors_json(cJSON *list, const struct merge_args *a)
{
    const ws_plan *plan = a->plan;

    for (size_t i = 0; i < plan->n_tensors; i++) {
        const ws_plan_tensor *t = &plan->tensors[i];
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "name", t->t.name);
        ws_j_str(o, "dtype", ws_dtype_info(t->t.dtype)->name);
        cJSON *shape = ws_j_arr(o, "shape");
        for (int d = 0; d < t->t.rank; d++)
            ws_j_u64(shape, NULL, t->t.shape[d]);
        ws_j_str(o, "action", t->action == WS_ACT_COPY ? "copy" : "merge");
        ws_j_str(o, "method", t->action == WS_ACT_COPY ? NULL : t->job.method->name);
        if (t->rule >= 0)
            ws_j_u64(o, "rule", (uint64_t)t->rule);
        else
            ws_j_null(o, "rule");
        sources_json(ws_j_arr(o, "sources"), plan, t);
        if (t->layer >= 0)
            ws_j_u64(o, "layer", (uint64_t)t->layer);
        else
            ws_j_null(o, "layer");
        ws_j_num(o, "scale", plan->has_lines ? t->job.scale : 1.0);
        ws_j_num(o, "t", plan->recipe ? t->depth : NAN);
        if (!t->values) {
            ws_j_null(o, "parameters");
            continue;
        }
        o = ws_j_obj(o, "parameters");
        for (size_t k = 0; k < t->n_values; k++)
            ws_merge_parameter_json(o, &t->values[k]);
    }
}

static void shape_text(const ws_tensor *t, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    for (int d = 0; d < t->rank && n < size; d++)
        n += (size_t)snprintf(out + n, size - n, "%s%llu", d ? "," : "",
                              (unsigned long long)t->shape[d]);
}

static void parameters_print(ws_run *run, const ws_plan *plan, const ws_value *values,
                             size_t n)
{
    static const char *const from[] = { "default", "command line", "recipe",
                                        "coefficients" };
    char text[32];

    for (size_t i = 0; i < n; i++) {
        const ws_value *v = &values[i];
        ws_run_print(run, "  %-10s", v->param->name);
        for (size_t k = 0; k < v->n; k++) {
            const bool same = v->n > 1 && k == 0;
            bool all = same;
            for (size_t j = 1; all && j < v->n; j++)
                all = v->v[j] == v->v[0] && v->origin[j] == v->origin[0] &&
                      (!v->hi || v->hi[j] == v->hi[0]) &&
                      (!v->line || v->line[j] == v->line[0]);
            ws_gen_param_value(v->param, v->v[k], text);
            ws_run_print(run, "%s%s", k ? ", " : " ", text);
            if (v->hi && v->hi[k] != v->v[k]) {
                ws_gen_param_value(v->param, v->hi[k], text);
                ws_run_print(run, "…%s", text);
            }
            if (v->line && v->line[k])
                ws_run_print(run, " (%s:%u)", plan->recipe, v->line[k]);
            else
                ws_run_print(run, " (%s)", from[v->origin[k]]);
            if (all)
                break;
        }
        ws_run_print(run, "\n");
    }
}

static void tensor_print(ws_run *run, const struct merge_args *a,
                         const ws_plan_tensor *t)
{
    const ws_plan *plan = a->plan;
    char shape[160], name[512], number[32];

    shape_text(&t->t, shape, sizeof shape);
    ws_show(t->t.name, name, sizeof name);
    ws_run_print(run, "%s %s [%s] ", name, ws_dtype_info(t->t.dtype)->name, shape);
    if (t->action == WS_ACT_COPY) {
        ws_run_print(run, "copy of %s%s\n", plan->inputs[t->copy_from].label,
                     t->rule >= 0 ? " (a rule)" : "");
        return;
    }
    ws_run_print(run, "%s of", t->job.method->name);
    if (t->base && t->job.has_base)
        ws_run_print(run, " %s +", plan->inputs[0].label);
    for (size_t k = 0; k < t->job.n_models; k++)
        ws_run_print(run, "%s %s", k ? "," : "",
                     plan->inputs[t->model_of[k] + plan->has_base].label);
    if (plan->has_lines && isfinite(t->job.scale)) {
        ws_show_num(t->job.scale, number);
        ws_run_print(run, " · scale %s", number);
    }
    if (t->layer >= 0)
        ws_run_print(run, " · block %d", t->layer);
    if (t->values && t->layer >= 0) {
        ws_show_num(t->depth, number);
        ws_run_print(run, " (t %s)", number);
    }
    ws_run_print(run, "\n");
    if (t->values)
        parameters_print(run, plan, t->values, t->n_values);
}

/* ---- the whole ---- */

static void cost_json(cJSON *to, const ws_cost *c)
{
    ws_j_u64(to, "read", c->read);
    ws_j_u64(to, "write", c->write);
    ws_j_u64(to, "memory", c->memory);
    ws_j_u64(to, "memory_floor", c->memory_floor);
    ws_j_u64(to, "disk", c->disk);
    ws_j_u64(to, "disk_free", c->disk_free);
}

/** Path of output file @p i as the run will name it. */
static const char *out_path(ws_run *run, const ws_plan *plan, size_t i)
{
    const char *out = plan->part_out;

    if (!plan->out_is_dir)
        return out;
    const size_t n = strlen(out) + strlen(plan->files[i].name) + 2;
    char *p = ws_arena_alloc(&run->arena, n);
    if (p)
        snprintf(p, n, "%s%s%s", out, out[strlen(out) - 1] == '/' ? "" : "/",
                 plan->files[i].name);
    return p;
}

/** What will become of how many tensors; all of them by --tensors. */
static void tensors_json(ws_run *run, cJSON *to, const struct merge_args *a)
{
    const ws_plan *plan = a->plan;
    cJSON *o = ws_j_obj(to, "tensors");

    ws_j_u64(o, "merged", plan->n_tensors - plan->n_copied);
    ws_j_u64(o, "copied", plan->n_copied);
    ws_j_u64(o, "dropped", plan->n_dropped);
    if (run->g.tensors)
        ws_plan_tensors_json(ws_j_arr(o, "list"), a);
}

static void rules_json(cJSON *to, const ws_plan *plan)
{
    static const char *const words[] = { "merge", "copy", "drop" };
    cJSON *list = ws_j_arr(to, "rules");

    for (size_t i = 0; i < plan->n_rules; i++) {
        const ws_plan_rule *r = &plan->rules[i];
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "pattern", r->pattern);
        ws_j_u64(o, "line", r->line);
        ws_j_str(o, "action", words[r->action]);
        ws_j_str(o, "method", r->action == WS_RULE_MERGE ? r->method->name : NULL);
        ws_j_str(o, "from", r->from);
        ws_j_u64(o, "tensors", r->n_tensors);
    }
}

/** @p a with the plan of a document that another one takes as a model. */
static struct merge_args stage_args(const struct merge_args *a, size_t i)
{
    struct merge_args stage = *a;

    stage.plan = (ws_plan *)(uintptr_t)a->plan->stages[i].plan;
    return stage;
}

static void documents_json(ws_run *run, cJSON *to, const struct merge_args *a)
{
    cJSON *list = ws_j_arr(to, "documents");

    for (size_t i = 0; i < a->plan->n_stages; i++) {
        const struct merge_args stage = stage_args(a, i);
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "name", a->plan->stages[i].name);
        ws_merge_head_json(o, &stage, true);
        rules_json(o, stage.plan);
        tensors_json(run, o, &stage);
    }
}

static void plan_json(ws_run *run, const struct merge_args *a, const char *key)
{
    const ws_plan *plan = a->plan;
    cJSON *to = ws_run_result(run), *o;

    ws_merge_head_json(to, a, true);
    rules_json(to, plan);
    ws_j_str(to, "key", key);
    o = ws_j_arr(to, "outputs");
    for (size_t i = plan->first_out; i < plan->first_out + plan->n_out; i++) {
        cJSON *f = ws_j_obj(o, NULL);
        ws_j_str(f, "path", out_path(run, plan, i));
        ws_j_u64(f, "bytes", plan->files[i].bytes);
    }
    tensors_json(run, to, a);
    documents_json(run, to, a);
    cost_json(ws_j_obj(to, "cost"), &plan->cost);
    ws_merge_vocab_json(to, plan);
}

/** Where each parameter's value comes from, one line each. */
static void inputs_print(ws_run *run, const struct merge_args *a)
{
    const ws_plan *plan = a->plan;

    for (size_t i = 0; i < plan->n_inputs; i++) {
        const ws_plan_input *in = &plan->inputs[i];
        const bool base = plan->has_base && i == 0;
        uint64_t bytes = 0;
        char size[24];

        for (size_t t = 0; t < ws_ckpt_count(in->ckpt); t++)
            bytes += ws_ckpt_tensor(in->ckpt, t)->n_bytes;
        ws_show_bytes(bytes, size);
        ws_run_print(run, "%-11s %s  %s · %zu tensors · %s%s\n",
                     base ? "base" : "model", ws_spool_shown(in->path),
                     ws_ckpt_format(in->ckpt), ws_ckpt_count(in->ckpt), size,
                     base && plan->base_implied ? "   (implied)" : "");
    }
}

static void cost_print(ws_run *run, const ws_cost *c)
{
    char read[24], write[24], disk[24], left[24];

    ws_show_bytes(c->read, read);
    ws_show_bytes(c->write, write);
    ws_show_bytes(c->disk, disk);
    ws_show_bytes(c->disk_free, left);
    ws_run_print(run, "cost        read %s · write %s · disk %s of %s free\n", read,
                 write, disk, left);
    ws_run_print(run, "memory      %.0f MiB, at least %.0f MiB\n",
                 ceil((double)c->memory / 0x1p20),
                 ceil((double)c->memory_floor / 0x1p20));
}

static void lines_print(ws_run *run, const ws_plan *plan)
{
    char alpha[32] = "auto", beta[32] = "auto";

    if (isfinite(plan->lines_alpha))
        ws_show_num(plan->lines_alpha, alpha);
    if (isfinite(plan->lines_beta))
        ws_show_num(plan->lines_beta, beta);
    ws_run_print(run, "lines       alpha %s · beta %s · %d blocks\n", alpha, beta,
                 plan->n_layers);
}

/** "rule        '*.mlp.*' (r.yml:7): ties · 12 tensors" */
static void rules_print(ws_run *run, const ws_plan *plan)
{
    char shown[200];

    for (size_t i = 0; i < plan->n_rules; i++) {
        const ws_plan_rule *r = &plan->rules[i];
        ws_show(r->pattern, shown, sizeof shown);
        ws_run_print(run, "rule        '%s' (%s:%u): %s%s · %zu tensor%s\n", shown,
                     plan->recipe, r->line,
                     r->action == WS_RULE_DROP   ? "left out"
                     : r->action == WS_RULE_COPY ? "copy of "
                                                 : r->method->name,
                     r->from ? r->from : "", r->n_tensors,
                     r->n_tensors == 1 ? "" : "s");
    }
}

/** Method, parameters, inputs and tensors. */
static void merge_print(ws_run *run, const struct merge_args *a)
{
    const ws_plan *plan = a->plan;

    ws_run_print(run, "method      %s\n", plan->method->name);
    parameters_print(run, plan, plan->values, plan->n_values);
    if (plan->has_lines)
        lines_print(run, plan);
    rules_print(run, plan);
    inputs_print(run, a);
    if (plan->vocab) {
        ws_buf b = { 0 };
        ws_merge_vocab_text(plan, &b);
        ws_run_print(run, "vocabulary  %s\n", b.p ? b.p : "");
        ws_buf_free(&b);
    }
    if (run->g.tensors)
        for (size_t i = 0; i < plan->n_tensors; i++)
            tensor_print(run, a, &plan->tensors[i]);
    ws_run_print(run, "tensors     %zu merged, %zu copied, %zu left out\n",
                 plan->n_tensors - plan->n_copied, plan->n_copied, plan->n_dropped);
}

void ws_plan_report(ws_run *run, const struct merge_args *a, const char *key)
{
    const ws_plan *plan = a->plan;
    char bytes[24];
    uint64_t total = 0;

    plan_json(run, a, key);
    for (size_t i = 0; i < plan->n_stages; i++) {
        const struct merge_args stage = stage_args(a, i);
        ws_run_print(run, "document    %s   (a model; made as it is read)\n",
                     plan->stages[i].name);
        merge_print(run, &stage);
    }
    if (plan->n_stages > 0)
        ws_run_print(run, "document    the result, which is written\n");
    merge_print(run, a);
    for (size_t i = plan->first_out; i < plan->first_out + plan->n_out; i++)
        total += plan->files[i].bytes;
    ws_show_bytes(total, bytes);
    ws_run_print(run, "output      %s  %zu file%s · %s\n", plan->part_out, plan->n_out,
                 plan->n_out == 1 ? "" : "s", bytes);
    cost_print(run, &plan->cost);
    if (key)
        ws_run_print(run, "key         %s\n", key);
}
