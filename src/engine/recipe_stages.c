/*
 * recipe_stages.c - documents that are models of others: planned with them, read as
 * they are made (recipe_flow.c), never written
 */
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "engine/recipe_flow.h"
#include "engine/recipe_plan.h"
#include "hf/adapter_map.h"
#include "wsurg/source.h"

/** The documents of one recipe that are being planned, shared by their plans. */
struct ws_recipe_stages {
    struct stage {
        ws_flow *flow; // NULL: not made
        bool tried;
    } * of;        // (n) by document
    size_t *order; // (n_made) of .of: what a document needs comes before it
    size_t n, n_made;
};

/** @p plan's, made at first use; NULL without memory. */
static struct ws_recipe_stages *stages_of(ws_plan *plan)
{
    struct ws_plan_priv *priv = plan->priv;
    if (priv->stages != NULL)
        return priv->stages;
    struct ws_recipe_stages *s = ws_plan_alloc(plan, 1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->n = priv->req.recipe->recipe->n;
    s->of = ws_plan_alloc(plan, s->n + 1, sizeof *s->of);
    s->order = ws_plan_alloc(plan, s->n + 1, sizeof *s->order);
    if (s->of == NULL || s->order == NULL)
        return NULL;
    priv->stages = s;
    return s;
}

/** The plan of a document that another one takes. */
static ws_plan *plan_of(ws_plan *plan, struct ws_recipe_stages *stages,
                        const ws_recipe_doc *doc)
{
    const ws_merge_req *whole = &plan->priv->req;
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_plan *made = NULL;
    req.recipe = doc;
    req.seed = whole->seed;
    req.on_missing = whole->on_missing;
    req.write.provenance = false;
    req.write.overflow = whole->write.overflow;
    req.write.allow_nonfinite = whole->write.allow_nonfinite;
    if (ws_plan_build_stage(&made, &req, stages, plan->priv->ctx, plan->priv->errors) !=
        WS_OK)
        return NULL;
    if (!made->has_lines || !made->lines_alpha_auto)
        return made;
    ws_err *e =
        ws_place_report(plan->priv->errors, WS_E_UNSUPPORTED, NULL, doc->file, doc->at,
                        "lines: auto in a document that is a model of another");
    ws_err_hint(e, "give both numbers: 'wsurg merge' of that document alone says them");
    ws_plan_free(made);
    return NULL;
}

/** The merge that document @p i is; NULL after a report. */
static ws_flow *flow_of(ws_plan *plan, size_t i)
{
    struct ws_recipe_stages *s = stages_of(plan);
    ws_err err = WS_ERR_INIT;
    if (s == NULL)
        return NULL;
    if (s->of[i].tried)
        return s->of[i].flow;
    s->of[i].tried = true;
    ws_plan *made = plan_of(plan, s, &plan->priv->req.recipe->recipe->docs[i]);
    if (made == NULL)
        return NULL;
    if (ws_flow_new(&s->of[i].flow, made, ws_ctx_threads(plan->priv->ctx), &err) !=
        WS_OK) {
        ws_diag_add(plan->priv->errors, &err);
        return NULL;
    }
    s->order[s->n_made++] = i;
    return s->of[i].flow;
}

bool ws_recipe_open(ws_plan *plan, const ws_recipe_ref *ref, ws_ckpt **out)
{
    const ws_ctx *ctx = plan->priv->ctx;
    ws_err err = WS_ERR_INIT;
    ws_status st;
    if (ref->doc == SIZE_MAX) {
        st = ws_source_open(out, ref->path, WS_FOLD_F32, ctx, &err);
    } else {
        ws_flow *f = flow_of(plan, ref->doc);
        ws_ckpt *made = NULL;
        if (f == NULL)
            return false;
        const char *name = ws_flow_plan(f)->priv->req.recipe->name;
        st = ws_flow_open(&made, f, name, &err);
        if (st == WS_OK && ref->adapters != NULL)
            st = ws_source_adapt(out, made, ref->adapters, WS_FOLD_F32, ctx, &err);
        else if (st == WS_OK)
            *out = made;
    }
    if (st == WS_OK)
        return ref->n_map == 0 || ws_recipe_map_open(plan, ref, out);
    ws_err_at(&err, ref->path, NULL, -1);
    ws_diag_add(plan->priv->errors, &err);
    return false;
}

void ws_recipe_expect(ws_plan *plan, const ws_recipe_ref *ref, size_t uses)
{
    if (ref->doc != SIZE_MAX && plan->priv->stages->of[ref->doc].flow != NULL)
        ws_flow_expect(plan->priv->stages->of[ref->doc].flow, uses);
}

/* ---- what the result owes to them ---- */

/** The plan whose result the configuration of @p plan's output comes from; NULL when
 * it comes from files. */
static const ws_plan *donor_of(const ws_plan *plan)
{
    const ws_recipe_doc *doc = plan->priv->req.recipe;
    const struct ws_recipe_stages *s = plan->priv->stages;
    if (s == NULL || doc->n_slices == 0 || (!doc->has_base && doc->slices[0].n == 0))
        return NULL;
    const ws_recipe_ref *ref =
        &doc->refs[doc->has_base ? doc->base : doc->slices[0].sources[0].ref];
    const ws_flow *f = ref->doc == SIZE_MAX ? NULL : s->of[ref->doc].flow;
    return f == NULL ? NULL : ws_flow_plan(f);
}

/** Layers that were stacked twice: their numbers in the model first of all. */
static void compose_layers(ws_plan *plan, const ws_plan *from)
{
    struct ws_plan_priv *priv = plan->priv;
    const struct ws_plan_priv *p = from->priv;
    if (p->layer_from == NULL)
        return;
    priv->donor_layers = p->donor_layers;
    if (priv->layer_from == NULL) {
        priv->layer_from = p->layer_from;
        priv->n_layer_from = p->n_layer_from;
        return;
    }
    uint32_t *v = ws_plan_alloc(plan, priv->n_layer_from + 1, sizeof *v);
    for (size_t i = 0; v != NULL && i < priv->n_layer_from; i++)
        v[i] = priv->layer_from[i] < p->n_layer_from
                   ? p->layer_from[priv->layer_from[i]]
                   : 0;
    priv->layer_from = v;
}

/** Whether the first input's tensors bear other names than in its files. */
static bool first_is_mapped(const ws_plan *plan)
{
    const ws_recipe_doc *doc = plan->priv->req.recipe;
    return !doc->sliced && ws_recipe_ref_of(plan, plan->inputs[0].path)->n_map > 0;
}

void ws_plan_recipe_inherit(ws_plan *plan)
{
    struct ws_plan_priv *priv = plan->priv;
    const ws_plan *from = priv->recipe_plan == NULL ? NULL : donor_of(plan);
    if (priv->recipe_plan != NULL && priv->req.write.shard_like_base &&
        (from != NULL || first_is_mapped(plan))) {
        priv->req.write.shard_like_base = false; // there are no files like these
        priv->req.write.shard_size = WS_RECIPE_SHARD;
    }
    if (from == NULL)
        return;
    const ws_write_opts *w = &from->priv->req.write;
    compose_layers(plan, from);
    priv->tie_cleared |= from->priv->tie_cleared;
    if (priv->vocab_size == 0)
        priv->vocab_size = from->priv->vocab_size;
    if (priv->tokenizer_from == NULL)
        priv->tokenizer_from = from->priv->tokenizer_from;
    if (priv->req.write.dtype_keep && !w->dtype_keep) {
        priv->req.write.dtype_keep = false;
        priv->req.write.dtype = w->dtype;
    }
}

/** The output must be none of the files that the documents are made of. */
static void guard_inputs(ws_plan *plan)
{
    struct ws_plan_priv *priv = plan->priv;
    const struct ws_recipe_stages *s = priv->stages;
    size_t n = priv->n_paths;
    for (size_t i = 0; i < s->n_made; i++) {
        const ws_plan *p = ws_flow_plan(s->of[s->order[i]].flow);
        n += p->n_inputs + p->priv->n_paths;
    }
    const char **paths = ws_plan_alloc(plan, n + 1, sizeof *paths);
    if (paths == NULL)
        return;
    for (size_t i = 0; i < priv->n_paths; i++)
        paths[i] = priv->paths[i];
    n = priv->n_paths;
    for (size_t i = 0; i < s->n_made; i++) {
        const ws_plan *p = ws_flow_plan(s->of[s->order[i]].flow);
        for (size_t k = 0; k < p->n_inputs; k++)
            paths[n++] = p->inputs[k].path;
        for (size_t k = 0; k < p->priv->n_paths; k++)
            paths[n++] = p->priv->paths[k];
    }
    priv->paths = paths;
    priv->n_paths = n;
}

void ws_plan_recipe_stages(ws_plan *plan)
{
    const struct ws_recipe_stages *s = plan->priv->stages;
    if (s == NULL || plan->priv->is_stage)
        return;
    guard_inputs(plan);
    ws_plan_stage *list = ws_plan_alloc(plan, s->n_made + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < s->n_made; i++) {
        const ws_plan *p = ws_flow_plan(s->of[s->order[i]].flow);
        list[i] = (ws_plan_stage){ p->priv->req.recipe->name, p };
    }
    plan->stages = list;
    plan->n_stages = list == NULL ? 0 : s->n_made;
}

void ws_plan_recipe_identify(const ws_plan *plan, ws_buf *b)
{
    for (size_t i = 0; i < plan->n_stages; i++)
        for (size_t k = 0; k < plan->stages[i].plan->n_inputs; k++)
            ws_source_identify(plan->stages[i].plan->inputs[k].ckpt, b);
}

void ws_plan_stages_json(const ws_plan *plan, ws_buf *b)
{
    for (size_t i = 0; i < plan->n_stages; i++) {
        const ws_plan_stage *s = &plan->stages[i];
        ws_buf_puts(b, i == 0 ? ",\"documents\":[{\"name\":" : ",{\"name\":");
        ws_buf_json_string(b, s->name, strlen(s->name));
        ws_buf_printf(b, ",\"recipe\":%s}", s->plan->priv->recipe);
    }
    if (plan->n_stages > 0)
        ws_buf_putc(b, ']');
}

uint64_t ws_plan_stages_memory(const ws_plan *plan)
{
    const struct ws_recipe_stages *s = plan->priv->is_stage ? NULL : plan->priv->stages;
    uint64_t n = 0;
    for (size_t i = 0; s != NULL && i < s->n_made; i++) {
        const ws_flow *f = s->of[s->order[i]].flow;
        n += ws_flow_memory(f) + ws_plan_recipe_memory(ws_flow_plan(f));
    }
    return n;
}

void ws_plan_stages_free(ws_plan *plan)
{
    struct ws_recipe_stages *s = plan->priv->is_stage ? NULL : plan->priv->stages;
    for (size_t i = 0; s != NULL && i < s->n_made; i++)
        ws_flow_free(s->of[s->order[i]].flow);
}
