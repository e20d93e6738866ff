/*
 * recipe_plan.h - a recipe in a plan: what its parts share
 */
#ifndef WS_ENGINE_RECIPE_PLAN_H
#define WS_ENGINE_RECIPE_PLAN_H

#include "engine/plan_internal.h"
#include "engine/recipe_internal.h"

/** Layers of one list of blocks: names that begin with .prefix and a number. */
struct ws_recipe_list {
    const char *prefix;
    size_t n; /**< bytes of it */
    uint32_t layers;
};

/** Values of one method: the recipe's, or a rule's. */
struct ws_recipe_set {
    const ws_method *method;
    const ws_recipe_rule *rule; /**< NULL: the recipe's */
    size_t n;                   /**< parameters */
    bool *reported;             /**< (n) a value that is missing has been reported */
    ws_value *draft, *all;      /**< (n) being resolved; over all tensors */
    const ws_value *last;       /**< of the tensor before */
};

struct ws_recipe_plan {
    const ws_recipe_doc *doc;
    ws_plan_rule *rules;        /**< (doc->n_rules) as the plan shows them */
    struct ws_recipe_set *sets; /**< (1 + doc->n_rules) the recipe's, then its rules' */
    struct ws_recipe_list *lists;
    size_t n_lists, cap_lists;
    const ws_recipe_source *
        *sources;    /**< (n_slices, n_inputs); NULL: not listed there */
    ws_ckpt **under; /**< (doc->n_refs) opened for slices; NULL: not needed */
};

/** Bytes of a shard where the recipe's models have none to go by. */
#define WS_RECIPE_SHARD 5000000000u

/** recipe_plan.c: the document's model of this path. */
const ws_recipe_ref *ws_recipe_ref_of(const ws_plan *plan, const char *path);

/** recipe_map.c: @p *c, which is taken, under the names that @p ref's map gives; false,
 * and NULL in *c, after a report. */
bool ws_recipe_map_open(ws_plan *plan, const ws_recipe_ref *ref, ws_ckpt **c);

/** recipe_stages.c: open a model, be it a document's result; false after a report. */
bool ws_recipe_open(ws_plan *plan, const ws_recipe_ref *ref, ws_ckpt **out);
/** Say that @p uses more of its tensors are read at once. */
void ws_recipe_expect(ws_plan *plan, const ws_recipe_ref *ref, size_t uses);

/** The source of input @p k in slice @p slice. */
static inline const ws_recipe_source *ws_recipe_source_of(const ws_plan *plan,
                                                          size_t slice, size_t k)
{
    return plan->priv->recipe_plan->sources[slice * plan->n_inputs + k];
}

/** The slice that output tensor @p name belongs to; its layer in the output, or -1, and
 * the bytes before the layer's number. */
size_t ws_recipe_slice_of(const ws_recipe_doc *doc, const char *name, int *layer,
                          size_t *prefix);

/** recipe_slices.c: where tensor *t of an input made of slices lies, *t its tensor
 * there; @p c itself for any other. */
const ws_ckpt *ws_recipe_view_of(const ws_ckpt *c, const ws_tensor **t);

/** @p name with layer @p from in place of its number, into @p out. */
void ws_recipe_renumber(const char *name, size_t prefix, uint32_t layer, char *out,
                        size_t size);

#endif
