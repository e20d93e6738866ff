/*
 * merge_report.c - a plan and what came of it, as JSON and as the summary on stderr
 */
#include <stdio.h>
#include <string.h>

#include "gen.h"
#include "merge_args.h"
#include "plan_report.h"
#include "report.h"

static const char *const origins[] = { [WS_FROM_DEFAULT] = "default",
                                       [WS_FROM_COMMAND_LINE] = "command-line",
                                       [WS_FROM_RECIPE] = "recipe",
                                       [WS_FROM_COEFFICIENTS] = "coefficients" };

/** Whether all values, and where they come from, are the same. */
static bool uniform(const ws_value *v)
{
    for (size_t i = 1; i < v->n; i++)
        if (v->v[i] != v->v[0] || v->origin[i] != v->origin[0] ||
            (v->line && v->line[i] != v->line[0]) || (v->hi && v->hi[i] != v->hi[0]))
            return false;
    return v->n > 0;
}

/** A value, or the least and the largest where tensors differ. */
static void value_json(cJSON *to, const char *key, const ws_value *v, size_t i)
{
    if (!v->hi || v->hi[i] == v->v[i]) {
        ws_gen_value_json(to, key, v->param, v->v[i]);
        return;
    }
    cJSON *o = ws_j_obj(to, key);
    ws_gen_value_json(o, "min", v->param, v->v[i]);
    ws_gen_value_json(o, "max", v->param, v->hi[i]);
}

static void line_json(cJSON *to, const char *key, const ws_value *v, size_t i)
{
    if (v->line && v->line[i])
        ws_j_u64(to, key, v->line[i]);
    else
        ws_j_null(to, key);
}

/** {value, origin, line}: one of each, or lists of one per model when these differ. */
void ws_merge_parameter_json(cJSON *to, const ws_value *v)
{
    cJSON *o = ws_j_obj(to, v->param->name);

    if (uniform(v)) {
        value_json(o, "value", v, 0);
        ws_j_str(o, "origin", origins[v->origin[0]]);
        line_json(o, "line", v, 0);
        return;
    }
    cJSON *values = ws_j_arr(o, "value"), *from = ws_j_arr(o, "origin");
    for (size_t i = 0; i < v->n; i++) {
        value_json(values, NULL, v, i);
        ws_j_str(from, NULL, origins[v->origin[i]]);
    }
    cJSON *lines = v->line ? ws_j_arr(o, "line") : NULL;
    if (!lines)
        ws_j_null(o, "line");
    for (size_t i = 0; lines && i < v->n; i++)
        line_json(lines, NULL, v, i);
}

/** The dtype that most elements of a model have. */
static const char *main_dtype(const ws_ckpt *c, uint64_t *elements)
{
    uint64_t count[WS_DT_COUNT] = { 0 };
    size_t most = 0;

    *elements = 0;
    for (size_t i = 0; i < ws_ckpt_count(c); i++) {
        const ws_tensor *t = ws_ckpt_tensor(c, i);
        count[t->dtype] += t->n_elements;
        *elements += t->n_elements;
    }
    for (size_t d = 1; d < WS_DT_COUNT; d++)
        if (count[d] > count[most])
            most = d;
    return count[most] ? ws_dtype_info((ws_dtype)most)->name : NULL;
}

void ws_merge_head_json(cJSON *to, const struct merge_args *a, bool with_models)
{
    const ws_plan *plan = a->plan;
    const size_t first = plan->has_base;
    uint64_t elements;

    ws_j_str(to, "method", plan->method->name);
    if (plan->has_base) {
        cJSON *base = ws_j_obj(to, "base");
        ws_j_str(base, "path", ws_spool_shown(plan->inputs[0].path));
        ws_j_bool(base, "implied", plan->base_implied);
    } else {
        ws_j_null(to, "base");
    }
    cJSON *list = with_models ? ws_j_arr(to, "models") : NULL;
    for (size_t i = first; with_models && i < plan->n_inputs; i++) {
        const ws_plan_input *in = &plan->inputs[i];
        cJSON *m = ws_j_obj(list, NULL);
        ws_j_str(m, "label", in->label);
        ws_j_str(m, "path", ws_spool_shown(in->path));
        ws_j_str(m, "format", ws_ckpt_format(in->ckpt));
        ws_j_str(m, "dtype", main_dtype(in->ckpt, &elements));
        ws_j_u64(m, "elements", elements);
    }
    cJSON *parameters = ws_j_obj(to, "parameters");
    for (size_t i = 0; i < plan->n_values; i++)
        ws_merge_parameter_json(parameters, &plan->values[i]);
}

static const char *const policies[] = {
    [WS_VOCAB_ERROR] = "error", [WS_VOCAB_BASE] = "base", [WS_VOCAB_COMMON] = "common",
    [WS_VOCAB_UNION] = "union", [WS_VOCAB_PAD] = "pad",   [WS_VOCAB_MODEL] = "model",
};

void ws_merge_vocab_json(cJSON *to, const ws_plan *plan)
{
    const ws_vocab_facts *v = plan->vocab;

    if (!v) {
        ws_j_null(to, "vocabulary");
        return;
    }
    cJSON *o = ws_j_obj(to, "vocabulary");
    ws_j_str(o, "policy", policies[v->policy]);
    ws_j_u64(o, "rows", v->rows);
    ws_j_u64(o, "tokens", v->tokens);
    ws_j_u64(o, "added", v->added);
    ws_j_u64(o, "removed", v->removed);
    ws_j_u64(o, "averaged", v->averaged);
    ws_j_u64(o, "unknown", v->unknown);
    ws_j_str(o, "tokenizer_from", v->tokenizer_from);
}

void ws_merge_vocab_text(const ws_plan *plan, ws_buf *b)
{
    const ws_vocab_facts *v = plan->vocab;
    const struct {
        uint64_t n;
        const char *what;
    } parts[] = { { v->added, "added" },
                  { v->removed, "left out" },
                  { v->averaged, "averaged where missing" },
                  { v->unknown, "of no model" } };

    ws_buf_printf(b, "%s · %llu tokens · %llu rows", policies[v->policy],
                  (unsigned long long)v->tokens, (unsigned long long)v->rows);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].n)
            ws_buf_printf(b, " · %llu %s", (unsigned long long)parts[i].n,
                          parts[i].what);
}

/** Place in the report: choices, then numbers, the weight last. Switches that are off
 * (-1) are not shown. */
static int place(const ws_value *v)
{
    const ws_param *p = v->param;
    char word[32];

    if (p->kind == WS_PARAM_BOOLEAN || p->kind == WS_PARAM_CHOICE) {
        ws_gen_param_value(p, v->v[0], word);
        const bool off = strcmp(word, "false") == 0 || strcmp(word, "none") == 0;
        return off && v->origin[0] == WS_FROM_DEFAULT ? -1
               : p->kind == WS_PARAM_CHOICE           ? 0
                                                      : 2;
    }
    return strcmp(p->name, "weight") == 0 ? 3 : 1;
}

static void value_text(ws_buf *b, const ws_value *v)
{
    const size_t n = uniform(v) ? 1 : v->n;
    char text[32];

    ws_buf_printf(b, "%s%s ", b->n ? " · " : "", v->param->name);
    for (size_t k = 0; k < n; k++) {
        ws_gen_param_value(v->param, v->v[k], text);
        ws_buf_printf(b, "%s%s", k ? "," : "", text);
        if (!v->hi || v->hi[k] == v->v[k])
            continue;
        ws_gen_param_value(v->param, v->hi[k], text);
        ws_buf_printf(b, "…%s", text);
    }
}

void ws_merge_params_text(const ws_plan *plan, ws_buf *b)
{
    size_t set = 0;

    for (int at = 0; at <= 3; at++)
        for (size_t i = 0; i < plan->n_values; i++)
            if (place(&plan->values[i]) == at)
                value_text(b, &plan->values[i]);
    for (size_t i = 0; i < plan->n_values; i++)
        for (size_t k = 0; k < plan->values[i].n; k++)
            set += plan->values[i].origin[k] != WS_FROM_DEFAULT;
    if (plan->n_values && !set)
        ws_buf_puts(b, "   (all defaults)");
}

const char *ws_merge_name(const struct merge_args *a, ws_arena *arena, size_t i)
{
    const ws_plan *plan = a->plan;
    const char *path = ws_spool_shown(plan->inputs[i].path);
    const char *name = ws_base_name(arena, path);

    for (size_t k = 0; k < plan->n_inputs; k++)
        if (k != i && strcmp(name, ws_base_name(arena, plan->inputs[k].path)) == 0)
            return path;
    return name;
}

int ws_merge_width(const struct merge_args *a, ws_arena *arena)
{
    char count[32];
    size_t width = strlen(a->plan->method->name);

    snprintf(count, sizeof count, "%zu tensors", a->plan->n_tensors);
    width = strlen(count) > width ? strlen(count) : width;
    if (a->plan->vocab && width < strlen("vocabulary"))
        width = strlen("vocabulary");
    for (size_t i = a->plan->has_base; i < a->plan->n_inputs; i++) {
        const size_t n = strlen(ws_merge_name(a, arena, i));
        width = n > width && n <= 32 ? n : width;
    }
    return (int)width + 2;
}

static void stats_json(cJSON *list, const char *label, const ws_model_stats *m)
{
    cJSON *o = ws_j_obj(list, NULL);

    ws_j_str(o, "label", label);
    ws_j_num(o, "relative_norm", m->relative_norm);
    ws_j_num(o, "kept", m->kept);
    ws_j_num(o, "norm_kept", m->norm_kept);
    ws_j_num(o, "dropped_small", m->dropped_small);
    ws_j_num(o, "dropped_large", m->dropped_large);
    ws_j_num(o, "dropped_random", m->dropped_random);
}

static void result_json(ws_run *run, const struct merge_args *a, const ws_result *r)
{
    const ws_plan *plan = a->plan;
    const size_t n = plan->n_models;
    cJSON *to = ws_run_result(run), *o;

    ws_merge_head_json(to, a, false);
    ws_outputs_json(ws_j_arr(to, "outputs"), plan->out, r->outputs, r->n_outputs);
    ws_j_str(to, "manifest", r->manifest);
    o = ws_j_obj(to, "tensors");
    ws_j_u64(o, "merged", r->merged);
    ws_j_u64(o, "copied", r->copied);
    ws_j_u64(o, "dropped", r->dropped);
    if (run->g.tensors)
        ws_plan_tensors_json(ws_j_arr(o, "list"), a);
    o = ws_j_arr(to, "models");
    for (size_t i = 0; r->models && i < n; i++)
        stats_json(o, plan->inputs[i + plan->has_base].label, &r->models[i]);
    if (r->cosines) {
        o = ws_j_arr(to, "cosines");
        for (size_t i = 0; i < n; i++) {
            cJSON *line = ws_j_arr(o, NULL);
            for (size_t k = 0; k < n; k++)
                ws_j_num(line, NULL, r->cosines[i * n + k]);
        }
    } else {
        ws_j_null(to, "cosines");
    }
    if (plan->has_lines) {
        o = ws_j_obj(to, "lines");
        ws_j_num(o, "alpha", r->lines_alpha);
        ws_j_num(o, "beta", r->lines_beta);
        ws_j_u64(o, "outside", r->lines_outside);
    } else {
        ws_j_null(to, "lines");
    }
    ws_j_num(to, "rounding_lost", r->rounding_lost);
    ws_j_null(to, "variants");
    ws_merge_vocab_json(to, plan);
}

/** "update 7.3 % of the base's norm; kept 15.0 % of entries = 77 % of its norm; ..." */
static void model_row(ws_run *run, int width, const char *name, const ws_model_stats *m)
{
    char norm[24], kept[24], of_norm[24], small[24], large[24], text[256];
    int n;

    if (!isfinite(m->relative_norm) && !isfinite(m->kept))
        return;
    ws_show_share(m->relative_norm, 1, norm);
    n = snprintf(text, sizeof text, "update %s of the base's norm", norm);
    if (isfinite(m->kept) && m->kept < 1.0) {
        ws_show_share(m->kept, 1, kept);
        ws_show_share(m->norm_kept, 0, of_norm);
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "; kept %s of entries = %s of its norm", kept, of_norm);
        ws_show_share(m->dropped_small, 1, small);
        ws_show_share(m->dropped_large, 1, large);
        if (m->dropped_small > 0.0 || m->dropped_large > 0.0)
            n += snprintf(text + n, sizeof text - (size_t)n, "; dropped %s small",
                          small);
        if (m->dropped_large > 0.0)
            snprintf(text + n, sizeof text - (size_t)n, ", %s large", large);
        if (m->dropped_random > 0.0) {
            ws_show_share(m->dropped_random, 1, small);
            snprintf(text + n, sizeof text - (size_t)n, "; dropped %s at random",
                     small);
        }
    }
    ws_run_row(run, width, name, "%s", text);
}

/** Cosines between updates: each pair of up to three models, else the extremes. */
static void cosine_row(ws_run *run, const struct merge_args *a, const ws_result *r,
                       int width)
{
    const size_t n = a->plan->n_models;
    double lo = INFINITY, hi = -INFINITY;
    ws_buf b = { 0 };

    if (!r->cosines || n < 2)
        return;
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++) {
            const double c = r->cosines[i * n + k];
            lo = c < lo ? c : lo;
            hi = c > hi ? c : hi;
            if (n <= 3)
                ws_buf_printf(&b, "%s%s, %s: %.3f", b.n ? " · " : "",
                              a->plan->inputs[i + a->plan->has_base].label,
                              a->plan->inputs[k + a->plan->has_base].label, c);
        }
    if (n > 3)
        ws_buf_printf(&b, "%.3f to %.3f between the %zu updates", lo, hi, n);
    ws_run_row(run, width, "cosine", "%s", b.p ? b.p : "");
    ws_buf_free(&b);
}

static void lines_row(ws_run *run, const struct merge_args *a, const ws_result *r,
                      int width)
{
    if (a->plan->has_lines)
        ws_run_row(
            run, width, "lines",
            "alpha %.4g · beta %.4g · %d blocks · %zu tensors outside, scaled by "
            "alpha",
            r->lines_alpha, r->lines_beta, a->plan->n_layers, r->lines_outside);
}

static void vocab_row(ws_run *run, const struct merge_args *a, int width)
{
    ws_buf b = { 0 };

    if (!a->plan->vocab)
        return;
    ws_merge_vocab_text(a->plan, &b);
    ws_run_row(run, width, "vocabulary", "%s", b.p ? b.p : "");
    ws_buf_free(&b);
}

/** "47 merged, 0 copied · F32 · read 2.08 MB · wrote 1.04 MB · 0.1 s · peak 41 MiB" */
static void tensors_row(ws_run *run, const struct merge_args *a, const ws_result *r,
                        int width)
{
    const ws_plan *plan = a->plan;
    char label[32], read[24], wrote[24], dropped[48] = "";
    uint64_t count[WS_DT_COUNT] = { 0 };
    size_t most = 0;

    for (size_t i = 0; i < plan->n_tensors; i++)
        count[plan->tensors[i].t.dtype] += plan->tensors[i].t.n_elements;
    for (size_t d = 1; d < WS_DT_COUNT; d++)
        if (count[d] > count[most])
            most = d;
    snprintf(label, sizeof label, "%zu tensor%s", plan->n_tensors,
             plan->n_tensors == 1 ? "" : "s");
    if (r->dropped)
        snprintf(dropped, sizeof dropped, ", %zu left out", r->dropped);
    ws_show_bytes(r->usage.read_bytes, read);
    ws_show_bytes(r->usage.written_bytes, wrote);
    ws_run_row(
        run, width, label,
        "%zu merged, %zu copied%s · %s · read %s · wrote %s · %.2f s · peak %.0f "
        "MiB",
        r->merged, r->copied, dropped, ws_dtype_info((ws_dtype)most)->name, read, wrote,
        r->usage.seconds, (double)r->usage.peak_memory / 0x1p20);
}

/** What a person new to this may not expect. */
static void notes(ws_run *run, const struct merge_args *a)
{
    const ws_plan *plan = a->plan;

    if (plan->base_implied && plan->n_models == 1 && plan->method->models.max > 1)
        ws_run_note(
            run,
            "one model beside the base: this is %s plus part of %s's update, no "
            "average (--method linear)",
            ws_merge_name(a, &run->arena, 0), ws_merge_name(a, &run->arena, 1));
    if (!plan->out_is_dir && !plan->req->write.out)
        ws_run_note(run, "plain files have no config or tokenizer; for a loadable "
                         "directory: -o merged/ --companions-from DIR");
}

/** "pruned      ties  density 0.5 · weight 1": a document that is a model here. */
static void stage_row(ws_run *run, int width, const ws_plan_stage *s)
{
    ws_buf b = { 0 };

    ws_merge_params_text(s->plan, &b);
    ws_run_row(run, width, s->name, "%s  %s", s->plan->method->name, b.p ? b.p : "");
    ws_buf_free(&b);
}

void ws_merge_report(ws_run *run, const struct merge_args *a, const ws_result *r)
{
    const ws_plan *plan = a->plan;
    const int width = ws_merge_width(a, &run->arena);
    ws_buf params = { 0 };

    run->usage = r->usage;
    run->has_usage = true;
    run->unchanged = r->unchanged;
    result_json(run, a, r);
    ws_run_flush(run);
    if (r->unchanged) {
        ws_run_talk(run, "%s is this result already: nothing was written", plan->out);
        return;
    }
    for (size_t i = 0; i < plan->n_stages; i++)
        stage_row(run, width, &plan->stages[i]);
    ws_merge_params_text(plan, &params);
    ws_run_row(run, width, plan->method->name, "%s", params.p ? params.p : "");
    ws_buf_free(&params);
    for (size_t i = 0; r->models && i < plan->n_models; i++)
        model_row(run, width, ws_merge_name(a, &run->arena, i + plan->has_base),
                  &r->models[i]);
    cosine_row(run, a, r, width);
    lines_row(run, a, r, width);
    vocab_row(run, a, width);
    tensors_row(run, a, r, width);
    ws_wrote_row(run, width, plan->out, r->outputs, r->n_outputs, r->manifest);
    notes(run, a);
}
