/*
 * inspect_adapter.c - what an adapter holds: targets, ranks, scales, norms, intruders
 */
#include "inspect_adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "wsurg/text.h"

/** Modules of one name: "q_proj" of all blocks. */
struct target {
    const char *name;
    size_t modules, intruders, examined;
    int64_t rank_least, rank_most;
    double scale_least, scale_most, norm_sq, base_sq;
};

static const char *last_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL ? dot + 1 : path;
}

static void target_add(struct target *t, const ws_lora_layer *l)
{
    if (t->modules == 0) {
        *t = (struct target){ .name = last_of(l->name),
                              .rank_least = l->rank,
                              .rank_most = l->rank,
                              .scale_least = l->scale,
                              .scale_most = l->scale };
    }
    t->modules++;
    t->rank_least = l->rank < t->rank_least ? l->rank : t->rank_least;
    t->rank_most = l->rank > t->rank_most ? l->rank : t->rank_most;
    t->scale_least = fmin(t->scale_least, l->scale);
    t->scale_most = fmax(t->scale_most, l->scale);
    t->norm_sq += l->norm * l->norm;
    t->base_sq += l->base_norm * l->base_norm; // NaN when one is unknown
    t->intruders += l->intruders;
    t->examined += l->n_top;
}

/** Targets in the order of their first modules; how many. The run's. */
static size_t targets_make(ws_run *run, const ws_lora_look *look, struct target **out)
{
    size_t n = 0;
    struct target *t = ws_arena_calloc(&run->arena, look->n_layers + 1, sizeof *t);
    for (size_t i = 0; t != NULL && i < look->n_layers; i++) {
        size_t k = 0;
        while (k < n && strcmp(t[k].name, last_of(look->layers[i].name)) != 0)
            k++;
        n += k == n;
        target_add(&t[k], &look->layers[i]);
    }
    *out = t;
    return n;
}

/** A layer's number of intruders; NaN without any. */
static double intruders_of(const void *look, size_t i)
{
    const size_t n = ((const ws_lora_look *)look)->layers[i].intruders;
    return n > 0 ? (double)n : NAN;
}

/* ---- JSON ---- */

static void directions_json(cJSON *to, const ws_lora_layer *l)
{
    cJSON *list = ws_j_arr(to, "directions");
    for (size_t k = 0; k < l->n_top; k++) {
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_num(o, "s", l->top[k].s);
        ws_j_num(o, "cosine", l->top[k].cosine);
        ws_j_bool(o, "intruder", l->top[k].intruder);
    }
}

static void layer_json(cJSON *list, const ws_lora_layer *l)
{
    cJSON *o = ws_j_obj(list, NULL);
    ws_j_str(o, "module", l->name);
    ws_j_bool(o, "embedding", l->embedding);
    ws_j_u64(o, "rank", (uint64_t)l->rank);
    ws_j_num(o, "alpha", l->alpha);
    ws_j_num(o, "scale", l->scale);
    ws_j_u64(o, "inputs", (uint64_t)l->in);
    ws_j_u64(o, "outputs", (uint64_t)l->out);
    ws_j_num(o, "norm", l->norm);
    ws_j_num(o, "largest", l->largest);
    ws_j_num(o, "base_norm", l->base_norm);
    ws_j_u64(o, "intruders", l->intruders);
    directions_json(o, l);
}

static void targets_json(ws_run *run, cJSON *to, const ws_lora_look *look)
{
    struct target *t;
    const size_t n = targets_make(run, look, &t);
    cJSON *list = ws_j_arr(to, "targets"), *o, *pair;
    for (size_t k = 0; k < n; k++) {
        o = ws_j_obj(list, NULL);
        ws_j_str(o, "name", t[k].name);
        ws_j_u64(o, "modules", t[k].modules);
        pair = ws_j_arr(o, "rank");
        ws_j_u64(pair, NULL, (uint64_t)t[k].rank_least);
        ws_j_u64(pair, NULL, (uint64_t)t[k].rank_most);
        pair = ws_j_arr(o, "scale");
        ws_j_num(pair, NULL, t[k].scale_least);
        ws_j_num(pair, NULL, t[k].scale_most);
        ws_j_num(o, "norm", sqrt(t[k].norm_sq));
        ws_j_num(o, "relative_norm", sqrt(t[k].norm_sq / t[k].base_sq));
        ws_j_u64(o, "intruders", t[k].intruders);
    }
}

static void intruders_json(cJSON *to, const ws_lora_look *look,
                           const ws_lora_look_req *req)
{
    size_t worst[WS_WORST];
    if (req->base == NULL) {
        ws_j_null(to, "intruders");
        return;
    }
    cJSON *o = ws_j_obj(to, "intruders"), *list;
    ws_j_str(o, "base", req->base);
    ws_j_u64(o, "top", (uint64_t)req->intruders.top);
    ws_j_num(o, "below", req->intruders.below);
    ws_j_u64(o, "count", look->intruders);
    list = ws_j_arr(o, "worst");
    const size_t n = ws_worst_find(look->n_layers, intruders_of, look, worst);
    for (size_t i = 0; i < n; i++) {
        cJSON *l = ws_j_obj(list, NULL);
        ws_j_str(l, "module", look->layers[worst[i]].name);
        ws_j_u64(l, "intruders", look->layers[worst[i]].intruders);
    }
}

void ws_inspect_adapter_json(ws_run *run, const ws_lora_look *look,
                             const ws_lora_look_req *req)
{
    cJSON *to = ws_run_result(run), *list;
    if (look == NULL) {
        ws_j_null(to, "adapter");
        return;
    }
    const ws_adapter *a = look->adapter;
    to = ws_j_obj(to, "adapter");
    ws_j_str(to, "base", a->base);
    ws_j_str(to, "task", a->task);
    ws_j_str(to, "init", a->init);
    ws_j_bool(to, "rslora", a->rslora);
    ws_j_bool(to, "dora", a->dora);
    ws_j_str(to, "base_content", a->content);
    ws_j_str(to, "residual", a->residual);
    ws_j_u64(to, "modules", look->n_layers);
    targets_json(run, to, look);
    list = ws_j_arr(to, "replaced");
    for (size_t i = 0; i < a->n_wholes; i++)
        ws_j_str(list, NULL, a->wholes[i].name);
    list = ws_j_arr(to, "rows");
    for (size_t i = 0; i < a->n_rows; i++) {
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "module", a->rows[i].path);
        ws_j_u64(o, "count", a->rows[i].n);
    }
    intruders_json(to, look, req);
    if (!run->g.tensors)
        return;
    list = ws_j_arr(to, "list");
    for (size_t i = 0; i < look->n_layers; i++)
        layer_json(list, &look->layers[i]);
}

/* ---- text ---- */

/** "2", or "2 … 8". */
static void range_text(double least, double most, char out[80])
{
    char a[32], b[32];
    ws_show_num(least, a);
    ws_show_num(most, b);
    snprintf(out, 80, least == most ? "%s" : "%s … %s", a, b);
}

static void targets_print(ws_run *run, const ws_lora_look *look, bool based)
{
    struct target *t;
    char rank[80], scale[80], share[24], name[200];
    const size_t n = targets_make(run, look, &t);
    for (size_t k = 0; k < n; k++) {
        range_text((double)t[k].rank_least, (double)t[k].rank_most, rank);
        range_text(t[k].scale_least, t[k].scale_most, scale);
        ws_show(t[k].name, name, sizeof name);
        ws_run_print(run, "target   %s  %zu module%s · rank %s · scale %s · norm %.4g",
                     name, t[k].modules, t[k].modules == 1 ? "" : "s", rank, scale,
                     sqrt(t[k].norm_sq));
        ws_show_share(sqrt(t[k].norm_sq / t[k].base_sq), 2, share);
        if (based && t[k].examined > 0)
            ws_run_print(run, " = %s of the base's · %zu intruders of %zu", share,
                         t[k].intruders, t[k].examined);
        ws_run_print(run, "\n");
    }
}

static void layer_print(ws_run *run, const ws_lora_layer *l)
{
    char name[200], scale[32];
    ws_show(l->name, name, sizeof name);
    ws_show_num(l->scale, scale);
    ws_run_print(run,
                 "module   %s  %lld to %lld · rank %lld · scale %s · norm %.4g · "
                 "largest %.4g",
                 name, (long long)l->in, (long long)l->out, (long long)l->rank, scale,
                 l->norm, l->largest);
    for (size_t k = 0; k < l->n_top; k++)
        if (l->top[k].intruder)
            ws_run_print(run, " · intruder %zu: s %.4g, cosine %.3f", k + 1,
                         l->top[k].s, l->top[k].cosine);
    ws_run_print(run, "\n");
}

void ws_inspect_adapter_print(ws_run *run, const ws_lora_look *look,
                              const ws_lora_look_req *req)
{
    const ws_adapter *a = look->adapter;
    size_t worst[WS_WORST];
    char shown[200];
    ws_show(a->base != NULL ? a->base : "(not named)", shown, sizeof shown);
    ws_run_print(run, "base     %s\n", shown);
    ws_show(a->init, shown, sizeof shown);
    ws_run_print(run, "lora     initialised %s%s%s%s\n", shown,
                 a->rslora ? " · rsLoRA" : "", a->dora ? " · DoRA" : "",
                 a->residual != NULL ? " · for a residual" : "");
    targets_print(run, look, req->base != NULL);
    for (size_t i = 0; i < a->n_wholes; i++) {
        ws_show(a->wholes[i].name, shown, sizeof shown);
        ws_run_print(run, "replaces %s\n", shown);
    }
    for (size_t i = 0; i < a->n_rows; i++) {
        ws_show(a->rows[i].path, shown, sizeof shown);
        ws_run_print(run, "rows     %zu of %s\n", a->rows[i].n, shown);
    }
    if (run->g.tensors) {
        for (size_t i = 0; i < look->n_layers; i++)
            layer_print(run, &look->layers[i]);
        return;
    }
    const size_t n = req->base != NULL
                         ? ws_worst_find(look->n_layers, intruders_of, look, worst)
                         : 0;
    for (size_t i = 0; i < n; i++) {
        ws_show(look->layers[worst[i]].name, shown, sizeof shown);
        ws_run_print(run, "intruder %zu in %s\n", look->layers[worst[i]].intruders,
                     shown);
    }
}
