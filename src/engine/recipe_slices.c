/*
 * recipe_slices.c - stacked layers: for each place among the sources of the slices one
 * input, whose tensors bear the names of the output
 *
 *     slices:  [a 0-8, b 0-8]  [a 4-8]      inputs:  1: a 0-8, a 4-8 as 8-12
 *                                                    2: b 0-8
 *
 * Layers are renumbered in order. What stands before the layers (embeddings) is the
 * first slice's, what stands after them the last one's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "engine/recipe_plan.h"
#include "wsurg/source.h"

/** A tensor of a view: where its bytes are. Its offset in the view is its index. */
struct origin {
    const ws_ckpt *c;
    const ws_tensor *t;
};

/** An input made of slices; memory of the plan's arena. */
struct view {
    struct origin *origins;
    size_t n;
    ws_ckpt *const *under; // (n_under)
    size_t n_under;
};

static ws_status view_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                           size_t len, void *dst, ws_err *err)
{
    const struct view *v = c->self;
    const struct origin *o = &v->origins[t->offset];
    return ws_ckpt_read(o->c, o->t, offset, len, dst, err);
}

static ws_status view_recheck(const ws_ckpt *c, ws_err *err)
{
    const struct view *v = c->self;
    for (size_t i = 0; i < v->n_under; i++) {
        const ws_status st =
            v->under[i] == NULL ? WS_OK : ws_ckpt_recheck(v->under[i], err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

static const ws_ckpt_ops view_ops = { .read = view_read, .recheck = view_recheck };

const ws_ckpt *ws_recipe_view_of(const ws_ckpt *c, const ws_tensor **t)
{
    if (c->ops != &view_ops)
        return c;
    const struct view *v = c->self;
    const struct origin *o = &v->origins[(*t)->offset];
    *t = o->t;
    return o->c;
}

/* ---- names ---- */

/** Whether a tensor outside the layers comes before them. */
static bool is_before(const char *name)
{
    static const char *const words[] = { "embed", "wte", "wpe", "embd" };
    if (strstr(name, "embed_out") != NULL)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(name, words[i]) != NULL)
            return true;
    return false;
}

size_t ws_recipe_slice_of(const ws_recipe_doc *doc, const char *name, int *layer,
                          size_t *prefix)
{
    *prefix = 0;
    *layer = ws_layer_of(name, prefix);
    if (*layer < 0)
        return is_before(name) ? 0 : doc->n_slices - 1;
    size_t s = 0;
    while (s + 1 < doc->n_slices &&
           (uint32_t)*layer >= doc->slices[s].first + doc->slices[s].layers)
        s++;
    return s;
}

void ws_recipe_renumber(const char *name, size_t prefix, uint32_t layer, char *out,
                        size_t size)
{
    const char *rest = name + prefix;
    rest += strspn(rest, "0123456789");
    snprintf(out, size, "%.*s%u%s", (int)prefix, name, layer, rest);
}

/* ---- views ---- */

static ws_status add_tensor(struct view *v, ws_ckpt *out, const ws_ckpt *from,
                            const ws_tensor *t, const char *name, ws_err *err)
{
    ws_tensor copy = *t;
    copy.name = name;
    copy.file = WS_NO_FILE;
    copy.offset = v->n;
    v->origins[v->n++] = (struct origin){ from, t };
    return ws_ckpt_add_tensor(out, &copy, 0, err);
}

/** The tensors that one source gives to the view. */
static ws_status add_source(ws_plan *plan, struct view *v, ws_ckpt *out, size_t slice,
                            const ws_recipe_source *s, ws_err *err)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_slice *sl = &rp->doc->slices[slice];
    const ws_ckpt *c = rp->under[s->ref];
    char name[WS_MAX_NAME + 16];
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(c); i++) {
        const ws_tensor *t = ws_ckpt_tensor(c, i);
        size_t prefix = 0;
        const int layer = ws_layer_of(t->name, &prefix);
        if (layer < 0) {
            if (slice == (is_before(t->name) ? 0 : rp->doc->n_slices - 1))
                st = add_tensor(v, out, c, t, t->name, err);
        } else if ((uint32_t)layer >= s->start &&
                   (uint32_t)layer < s->start + sl->layers) {
            ws_recipe_renumber(t->name, prefix, sl->first + (uint32_t)layer - s->start,
                               name, sizeof name);
            st = add_tensor(v, out, c, t, name, err);
        }
    }
    return st;
}

/** "a,b": the different models at place @p k. */
static const char *view_name(ws_plan *plan, size_t k)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    ws_buf b = { 0 };
    for (size_t s = 0; s < rp->doc->n_slices; s++) {
        const ws_recipe_source *src = ws_recipe_source_of(plan, s, k);
        bool seen = src == NULL;
        for (size_t before = 0; before < s && !seen; before++) {
            const ws_recipe_source *other = ws_recipe_source_of(plan, before, k);
            seen = other != NULL && other->ref == src->ref;
        }
        if (!seen && b.n < 200)
            ws_buf_printf(&b, "%s%s", b.n == 0 ? "" : ",",
                          ws_ckpt_label(rp->under[src->ref]));
    }
    const char *name =
        b.failed || b.p == NULL ? "slices" : ws_plan_format(plan, "%s", b.p);
    ws_buf_free(&b);
    return name;
}

/** Input @p k as a checkpoint. */
static ws_status make_view(ws_plan *plan, size_t k, ws_ckpt **out, ws_err *err)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_doc *doc = rp->doc;
    size_t most = 0;
    for (size_t s = 0; s < doc->n_slices; s++)
        if (ws_recipe_source_of(plan, s, k) != NULL)
            most += ws_ckpt_count(rp->under[ws_recipe_source_of(plan, s, k)->ref]);
    struct view *v = ws_plan_alloc(plan, 1, sizeof *v);
    struct origin *origins = ws_plan_alloc(plan, most + 1, sizeof *origins);
    const char *name = view_name(plan, k);
    if (v == NULL || origins == NULL || name == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the slices");
    *v =
        (struct view){ .origins = origins, .under = rp->under, .n_under = doc->n_refs };
    ws_status st = ws_ckpt_new(out, name, "slices", &view_ops, v, err);
    for (size_t s = 0; st == WS_OK && s < doc->n_slices; s++) {
        const ws_recipe_source *src = ws_recipe_source_of(plan, s, k);
        if (src != NULL)
            st = add_source(plan, v, *out, s, src, err);
    }
    // each model's files once: they are what the plan's key is made of
    for (size_t i = 0; st == WS_OK && i < doc->n_refs; i++)
        if (rp->under[i] != NULL)
            st = ws_ckpt_borrow_files(*out, rp->under[i], err);
    if (st == WS_OK)
        st = ws_ckpt_finish(*out, err);
    return st;
}

/* ---- the inputs ---- */

/** Open the models that the slices name. */
static bool open_models(ws_plan *plan)
{
    struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_doc *doc = rp->doc;
    const char **paths = ws_plan_alloc(plan, doc->n_refs + 1, sizeof *paths);
    rp->under = ws_plan_alloc(plan, doc->n_refs + 1, sizeof(void *));
    bool good = rp->under != NULL && paths != NULL;
    for (size_t i = 0; rp->under != NULL && paths != NULL && i < doc->n_refs; i++) {
        if (!ws_recipe_open(plan, &doc->refs[i], &rp->under[i])) {
            good = false;
            continue;
        }
        paths[plan->priv->n_paths++] = ws_ckpt_home(rp->under[i]);
    }
    plan->priv->paths = paths;
    return good;
}

/** Layers of a model: one list of blocks, or the reason why not is reported. */
static bool count_layers(ws_plan *plan, size_t ref, uint32_t *layers)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_ckpt *c = rp->under[ref];
    const char *first = NULL;
    size_t n = 0;
    *layers = 0;
    for (size_t i = 0; i < ws_ckpt_count(c); i++) {
        const char *name = ws_ckpt_tensor(c, i)->name;
        size_t prefix;
        const int layer = ws_layer_of(name, &prefix);
        if (layer < 0)
            continue;
        if (first != NULL && (prefix != n || memcmp(first, name, n) != 0)) {
            ws_place_report(plan->priv->errors, WS_E_UNSUPPORTED, NULL, rp->doc->file,
                            rp->doc->refs[ref].at,
                            "model '%.80s' has several lists of layers: '%.*s' and "
                            "'%.*s'",
                            ws_ckpt_label(c), (int)n, first, (int)prefix, name);
            return false;
        }
        first = name;
        n = prefix;
        if ((uint32_t)layer >= *layers)
            *layers = (uint32_t)layer + 1;
    }
    return true;
}

/** Each range must lie in its model; their numbers of layers, NULL after a report. */
static uint32_t *check_ranges(ws_plan *plan)
{
    const struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_doc *doc = rp->doc;
    uint32_t *layers = ws_plan_alloc(plan, doc->n_refs + 1, sizeof *layers);
    for (size_t i = 0; layers != NULL && i < doc->n_refs; i++)
        if (!count_layers(plan, i, &layers[i]))
            return NULL;
    for (size_t s = 0; layers != NULL && s < doc->n_slices; s++)
        for (size_t i = 0; i < doc->slices[s].n; i++) {
            const ws_recipe_source *src = &doc->slices[s].sources[i];
            const uint32_t end = src->start + doc->slices[s].layers;
            if (end <= layers[src->ref])
                continue;
            ws_err *e = ws_place_report(
                plan->priv->errors, WS_E_RECIPE, NULL, doc->file, src->at,
                "layer_range ends at %u, and model '%.80s' has %u layers", end,
                ws_ckpt_label(rp->under[src->ref]), layers[src->ref]);
            ws_err_hint(e, "ranges are [first, one after the last], from 0");
        }
    return layers;
}

/** For config.json: which layer of its first source each one was. */
static void note_layers(ws_plan *plan, uint32_t donor_layers)
{
    const ws_recipe_doc *doc = plan->priv->recipe_plan->doc;
    uint32_t *from = ws_plan_alloc(plan, doc->layers + 1, sizeof *from);
    for (size_t s = 0; from != NULL && s < doc->n_slices; s++)
        for (uint32_t l = 0; l < doc->slices[s].layers; l++)
            from[doc->slices[s].first + l] = doc->slices[s].sources[0].start + l;
    plan->priv->layer_from = from;
    plan->priv->n_layer_from = doc->layers;
    plan->priv->donor_layers = donor_layers;
}

/** Give each source its place: the base first, then as listed. */
static bool place_sources(ws_plan *plan)
{
    struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_doc *doc = rp->doc;
    bool good = true, uneven = false;
    plan->n_inputs = 0;
    for (size_t s = 0; s < doc->n_slices; s++) {
        uneven |= doc->slices[s].n != doc->slices[0].n;
        if (doc->slices[s].n > plan->n_inputs)
            plan->n_inputs = doc->slices[s].n;
    }
    if (uneven && plan->priv->req.on_missing == WS_MISSING_ERROR)
        plan->priv->req.on_missing = WS_MISSING_SKIP;
    rp->sources =
        ws_plan_alloc(plan, plan->n_inputs * doc->n_slices + 1, sizeof(void *));
    for (size_t s = 0; rp->sources != NULL && s < doc->n_slices; s++) {
        const ws_recipe_slice *sl = &doc->slices[s];
        const ws_recipe_source **to = rp->sources + s * plan->n_inputs;
        const bool has_base = sl->has_base || doc->has_base;
        const size_t ref = sl->has_base ? sl->base : doc->base;
        size_t base = sl->n, n = 0;
        for (size_t i = 0; has_base && i < sl->n && base == sl->n; i++)
            if (sl->sources[i].ref == ref)
                base = i;
        if (plan->has_base && base == sl->n) {
            ws_err *e =
                ws_place_report(plan->priv->errors, WS_E_RECIPE, NULL, doc->file,
                                sl->at, "the base is no source of this slice");
            ws_err_hint(e, "list its layers too: the updates are taken from them");
            good = false;
        }
        if (base < sl->n)
            to[n++] = &sl->sources[base];
        for (size_t i = 0; i < sl->n; i++)
            if (i != base)
                to[n++] = &sl->sources[i];
    }
    return good && rp->sources != NULL;
}

void ws_recipe_slice_inputs(ws_plan *plan)
{
    struct ws_recipe_plan *rp = plan->priv->recipe_plan;
    const ws_recipe_doc *doc = rp->doc;
    ws_diag *errors = plan->priv->errors;
    ws_merge_req *req = &plan->priv->req;
    const size_t before = errors->n;
    plan->has_base = doc->method->base == WS_BASE_REQUIRED ||
                     (doc->method->base == WS_BASE_OPTIONAL && doc->has_base);
    const size_t donor = doc->has_base ? doc->base : doc->slices[0].sources[0].ref;
    const bool opened =
        open_models(plan) && ws_plan_vocab(plan, rp->under, doc->n_refs, donor);
    const bool placed = place_sources(plan);
    const size_t n = plan->n_inputs;
    plan->n_inputs = 0;
    const uint32_t *layers = opened ? check_ranges(plan) : NULL;
    plan->inputs = ws_plan_alloc(plan, n + 1, sizeof *plan->inputs);
    if (layers == NULL || !placed || plan->inputs == NULL || errors->n > before)
        return;
    plan->n_inputs = n;
    plan->n_models = n - (plan->has_base ? 1 : 0);
    note_layers(plan, layers[donor]);
    if (req->write.companions_from == NULL && ws_ckpt_is_dir(rp->under[donor]))
        req->write.companions_from = ws_ckpt_home(rp->under[donor]);
    if (req->write.shard_like_base) { // there is no base whose shards these could be
        req->write.shard_like_base = false;
        req->write.shard_size = WS_RECIPE_SHARD;
    }
    for (size_t k = 0; k < n; k++) {
        ws_err err = WS_ERR_INIT;
        ws_plan_input *in = &plan->inputs[k];
        if (make_view(plan, k, &in->ckpt, &err) != WS_OK) {
            ws_diag_add(errors, &err);
            return;
        }
        in->ckpt->is_dir = ws_ckpt_is_dir(rp->under[donor]);
        in->path = in->label = ws_ckpt_path(in->ckpt);
    }
}
