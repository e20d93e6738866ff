/*
 * recipe_map.c - `map:`, an addition to mergekit's language: a model whose tensors bear
 * other names
 *
 *     - model: multimodal
 *       map: {"language_model.model.": "model.", "language_model.": ""}
 *
 * A name that begins with the left side begins with the right side instead; of several
 * that fit the longest holds.
 */
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "engine/recipe_plan.h"

/** A model under other names: a tensor's offset is its index in .inner. */
struct mapped {
    ws_ckpt *inner;
};

static ws_status mapped_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    const struct mapped *m = c->self;
    return ws_ckpt_read(m->inner, ws_ckpt_tensor(m->inner, (size_t)t->offset), offset,
                        len, dst, err);
}

static void mapped_close(void *self)
{
    struct mapped *m = self;
    ws_ckpt_free(m->inner);
    ws_free(m);
}

static ws_status mapped_recheck(const ws_ckpt *c, ws_err *err)
{
    return ws_ckpt_recheck(((const struct mapped *)c->self)->inner, err);
}

static const ws_ckpt_ops mapped_ops = { .read = mapped_read,
                                        .close = mapped_close,
                                        .recheck = mapped_recheck };

void ws_recipe_read_map(ws_recipe_reader *r, ws_recipe_ref *ref, const ws_yaml *y)
{
    if (!ws_recipe_is(r, y, WS_YAML_MAP, "map"))
        return;
    if (ref->n_map > 0) {
        ws_recipe_fail(r, y->at, "a second map for this model, the first is in line %u",
                       ref->map[0].at.line);
        return;
    }
    ws_recipe_rename *map = ws_recipe_take(r, y->n + 1, sizeof *map);
    if (map == NULL)
        return;
    size_t n = 0;
    for (size_t i = 0; i < y->n; i++)
        if (ws_recipe_is(r, y->items[i], WS_YAML_SCALAR, "map"))
            map[n++] = (ws_recipe_rename){ y->keys[i]->text, y->items[i]->text,
                                           y->keys[i]->at };
    ref->map = map;
    ref->n_map = n;
}

/** The rename that holds for @p name; SIZE_MAX: none. */
static size_t find_rename(const ws_recipe_ref *ref, const char *name)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < ref->n_map; i++)
        if (strncmp(name, ref->map[i].from, strlen(ref->map[i].from)) == 0 &&
            (best == SIZE_MAX ||
             strlen(ref->map[i].from) > strlen(ref->map[best].from)))
            best = i;
    return best;
}

static ws_status add_tensors(ws_ckpt *out, const ws_ckpt *c, const ws_recipe_ref *ref,
                             bool *used, ws_err *err)
{
    char name[2 * WS_MAX_NAME + 2];
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(c); i++) {
        ws_tensor t = *ws_ckpt_tensor(c, i);
        const size_t k = find_rename(ref, t.name);
        if (k != SIZE_MAX) {
            const ws_recipe_rename *m = &ref->map[k];
            used[k] = true;
            if (strlen(m->to) + strlen(t.name) - strlen(m->from) > WS_MAX_NAME)
                return ws_fail(err, WS_E_RECIPE, "map makes a name too long");
            snprintf(name, sizeof name, "%s%s", m->to, t.name + strlen(m->from));
            t.name = name;
        }
        t.file = WS_NO_FILE;
        t.offset = i;
        st = ws_ckpt_add_tensor(out, &t, 0, err);
    }
    return st;
}

/** A copy of what @p c is beside its tensors. */
static ws_status dress(ws_ckpt *out, const ws_ckpt *c, ws_err *err)
{
    size_t len = 0;
    const char *config = ws_ckpt_config(c, &len);
    ws_free(out->label);
    out->label = ws_strdup(ws_ckpt_label(c));
    out->home = ws_strdup(ws_ckpt_home(c));
    out->is_dir = ws_ckpt_is_dir(c);
    out->config = config == NULL ? NULL : ws_strndup(config, len);
    out->config_len = config == NULL ? 0 : len;
    if (out->label == NULL || out->home == NULL ||
        (config != NULL && out->config == NULL))
        return ws_fail(err, WS_E_MEMORY, "no memory for renamed tensors");
    return ws_ckpt_borrow_files(out, c, err);
}

bool ws_recipe_map_open(ws_plan *plan, const ws_recipe_ref *ref, ws_ckpt **c)
{
    const char *file = plan->priv->req.recipe->file;
    ws_err err = WS_ERR_INIT;
    ws_ckpt *out = NULL;
    struct mapped *m = ws_calloc(1, sizeof *m);
    bool *used = ws_plan_alloc(plan, ref->n_map + 1, sizeof *used), good = true;
    ws_status st = m == NULL || used == NULL
                       ? ws_fail(&err, WS_E_MEMORY, "no memory for renamed tensors")
                       : ws_ckpt_new(&out, ws_ckpt_path(*c), ws_ckpt_format(*c),
                                     &mapped_ops, m, &err);
    if (st != WS_OK) {
        ws_free(m);
        ws_ckpt_free(*c);
        *c = NULL;
        ws_diag_add(plan->priv->errors, &err);
        return false;
    }
    m->inner = *c;
    st = dress(out, m->inner, &err);
    if (st == WS_OK)
        st = add_tensors(out, m->inner, ref, used, &err);
    if (st == WS_OK)
        st = ws_ckpt_finish(out, &err);
    if (st != WS_OK) {
        ws_err_at(&err, ref->path, NULL, -1);
        ws_diag_add(plan->priv->errors, &err);
    }
    for (size_t i = 0; st == WS_OK && i < ref->n_map; i++)
        if (!used[i]) {
            good = false;
            ws_place_report(plan->priv->errors, WS_E_RECIPE, NULL, file, ref->map[i].at,
                            "map: no tensor of '%s' begins with '%.120s'",
                            ws_ckpt_label(out), ref->map[i].from);
        }
    *c = out;
    if (st == WS_OK && good)
        return true;
    ws_ckpt_free(out);
    *c = NULL;
    return false;
}
