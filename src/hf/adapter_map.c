/*
 * adapter_map.c - which tensor of a base each part of an adapter changes, and how
 *
 * Everything that an adapter holds must find its tensor; whatever does not fit is
 * refused before a weight is read.
 */
#include "hf/adapter_map.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "wsurg/text.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for adapters on a base");
}

/** A report about @p t of an adapter. */
static ws_status at(const ws_adapter *a, const ws_tensor *t, ws_status st, ws_err *err)
{
    return ws_err_at(err, ws_ckpt_path(a->file), t->name, -1), st;
}

static void shape_text(const ws_tensor *t, char out[96])
{
    int n = snprintf(out, 96, "[");
    for (int i = 0; i < t->rank && n < 80; i++)
        n += snprintf(out + n, 96 - (size_t)n, "%s%llu", i == 0 ? "" : ",",
                      (unsigned long long)t->shape[i]);
    snprintf(out + n, 96 - (size_t)n, "]");
}

/* ---- names ---- */

static ws_adapted *origin_add(ws_adapter_map *m, const char *name,
                              const ws_tensor *base)
{
    if (m->n_origins == m->cap_origins)
        return NULL; // counted: cannot be
    ws_adapted *o = &m->origins[m->n_origins++];
    *o = (ws_adapted){ .name = ws_arena_strdup(m->arena, name), .base = base };
    m->failed |= o->name == NULL;
    return o->name == NULL ? NULL : o;
}

static ws_adapted *origin_named(ws_adapter_map *m, const char *name)
{
    const size_t i = ws_ckpt_lookup(m->base, name);
    if (i != SIZE_MAX)
        return &m->origins[i];
    for (size_t k = ws_ckpt_count(m->base); k < m->n_origins; k++)
        if (strcmp(m->origins[k].name, name) == 0)
            return &m->origins[k];
    return NULL;
}

/** The origin that "@p path + @p suffix" means; one of its own for the side of a tied
 * pair that the base does not store. NULL when there is none. */
static ws_adapted *origin_find(ws_adapter_map *m, const char *path, const char *suffix)
{
    const ws_tensor *t = ws_module_tensor(m->base, path, suffix);
    char name[WS_MAX_NAME + 16]; // longer is no tensor's
    if (t != NULL)
        return origin_named(m, t->name);
    const int n = snprintf(name, sizeof name, "%s%s", path, suffix);
    if (n < 0 || (size_t)n >= sizeof name)
        return NULL;
    ws_adapted *o = origin_named(m, name);
    if (o == NULL && (t = ws_tied_tensor(m->base, name)) != NULL) {
        o = origin_add(m, name, t);
        m->facts.untied = true;
    }
    return o;
}

static ws_status not_there(const ws_adapter *a, const ws_tensor *t, const char *path,
                           const char *what, ws_err *err)
{
    ws_fail(err, WS_E_MISSING, "the base has no %s '%s'", what, path);
    ws_err_hint(err, "the adapter was made for another model");
    return at(a, t, WS_E_MISSING, err);
}

/* ---- layers ---- */

static ws_status layer_add(ws_adapter_map *m, ws_adapted *o, const ws_layer *layer,
                           ws_err *err)
{
    if (o->n_layers == o->cap_layers) {
        const size_t cap = o->cap_layers == 0 ? m->n + 1 : 2 * o->cap_layers;
        ws_layer *layers = ws_arena_calloc(m->arena, cap, sizeof *layers);
        if (layers == NULL)
            return no_memory(err);
        if (o->n_layers > 0)
            memcpy(layers, o->layers, o->n_layers * sizeof *layers);
        o->layers = layers;
        o->cap_layers = cap;
    }
    o->layers[o->n_layers++] = *layer;
    return WS_OK;
}

/** Whether a linear is stored (in, out). */
static ws_status flipped_find(const ws_adapter_map *m, const ws_adapter *a,
                              const ws_adapter_module *mod, const ws_tensor *t,
                              bool *flipped, ws_err *err)
{
    const bool straight =
        (int64_t)t->shape[0] == mod->out && (int64_t)t->shape[1] == mod->in;
    const bool turned =
        (int64_t)t->shape[0] == mod->in && (int64_t)t->shape[1] == mod->out;
    bool known = true;
    *flipped = ws_module_is_conv1d(m->base, mod->path, &known);
    if (straight && turned && known)
        return WS_OK;
    if (straight && turned) {
        ws_fail(err, WS_E_UNSUPPORTED,
                "whether the square module '%s' is stored transposed cannot be told",
                mod->path);
        ws_err_hint(err, "name the base as a directory with its config.json");
        return at(a, mod->a, WS_E_UNSUPPORTED, err);
    }
    if (!known)
        *flipped = turned;
    if (*flipped ? turned : straight)
        return WS_OK;
    char shape[96];
    shape_text(t, shape);
    ws_fail(err, WS_E_SHAPE, "the module takes %lld to %lld, the base has %s",
            (long long)mod->in, (long long)mod->out, shape);
    return at(a, mod->a, WS_E_SHAPE, err);
}

/** Whether a convolution's kernel fits the factors. */
static bool kernel_fits(const ws_adapter_module *mod, const ws_tensor *t)
{
    if (t->rank != mod->a->rank || (int64_t)t->shape[0] != mod->out)
        return false;
    for (int i = 1; i < t->rank; i++)
        if (t->shape[i] != mod->a->shape[i])
            return false;
    return true;
}

static ws_status factors_fit(const ws_adapter_map *m, const ws_adapter *a,
                             const ws_adapter_module *mod, const ws_adapted *o,
                             bool *flipped, ws_err *err)
{
    const ws_tensor *t = ws_adapted_tensor(o);
    if (!ws_dtype_info(t->dtype)->arithmetic) {
        ws_fail(err, WS_E_DTYPE, "the base's '%s' is %s: no arithmetic on it", t->name,
                ws_dtype_info(t->dtype)->name);
        ws_err_hint(err, "fold onto the model before it was quantised");
        return at(a, mod->a, WS_E_DTYPE, err);
    }
    if (t->rank == 2 && mod->a->rank == 2 && !mod->embedding)
        return flipped_find(m, a, mod, t, flipped, err);
    *flipped = mod->embedding;
    const bool fits = mod->embedding
                          ? t->rank == 2 && (int64_t)t->shape[0] == mod->in &&
                                (int64_t)t->shape[1] == mod->out
                          : kernel_fits(mod, t);
    if (fits)
        return WS_OK;
    char shape[96];
    shape_text(t, shape);
    ws_fail(err, WS_E_SHAPE, "the factors are of %lld to %lld, the base has %s",
            (long long)mod->in, (long long)mod->out, shape);
    return at(a, mod->a, WS_E_SHAPE, err);
}

/** DoRA is no sum: alone on its module, and as it was trained. */
static ws_status dora_fit(const ws_adapter_map *m, const ws_adapter *a,
                          const ws_adapter_module *mod, const ws_adapted *o,
                          ws_err *err)
{
    bool other = mod->magnitude != NULL && o->n_layers > 0;
    for (size_t i = 0; i < o->n_layers; i++)
        other |= o->layers[i].module != NULL && o->layers[i].module->magnitude != NULL;
    if (other) {
        ws_fail(err, WS_E_UNSUPPORTED,
                "DoRA beside another adapter on module '%s': such updates do not add",
                mod->path);
        ws_err_hint(err, "fold one first, then the other onto the result");
        return at(a, mod->a, WS_E_UNSUPPORTED, err);
    }
    if (mod->magnitude != NULL && m->scale != 1.0) {
        ws_fail(err, WS_E_UNSUPPORTED, "a DoRA adapter cannot be scaled");
        return at(a, mod->magnitude, WS_E_UNSUPPORTED, err);
    }
    return WS_OK;
}

static ws_status module_map(ws_adapter_map *m, const ws_adapter *a,
                            const ws_adapter_module *mod, ws_err *err)
{
    ws_layer layer = { .kind = WS_LAYER_FACTORS,
                       .adapter = a,
                       .module = mod,
                       .s = m->scale * mod->scale };
    ws_adapted *o = origin_find(m, mod->path, ".weight");
    if (o == NULL || ws_adapted_tensor(o) == NULL)
        return not_there(a, mod->a, mod->path, "module", err);
    if (a->tying && ws_tied_tensor(m->base, o->name) != NULL) {
        ws_fail(err, WS_E_UNSUPPORTED,
                "'ensure_weight_tying' with factors on a tied pair");
        return at(a, mod->a, WS_E_UNSUPPORTED, err);
    }
    ws_status st = factors_fit(m, a, mod, o, &layer.flipped, err);
    if (st == WS_OK)
        st = dora_fit(m, a, mod, o, err);
    if (st == WS_OK)
        st = layer_add(m, o, &layer, err);
    if (st != WS_OK || mod->b_bias == NULL)
        return st;
    o = origin_find(m, mod->path, ".bias");
    if (o == NULL || ws_adapted_tensor(o) == NULL)
        return not_there(a, mod->b_bias, mod->path, "bias for module", err);
    if ((int64_t)ws_adapted_tensor(o)->n_elements != mod->out ||
        !ws_dtype_info(ws_adapted_tensor(o)->dtype)->arithmetic) {
        ws_fail(err, WS_E_SHAPE, "the base's bias does not suit B's");
        return at(a, mod->b_bias, WS_E_SHAPE, err);
    }
    layer.kind = WS_LAYER_BIAS;
    return layer_add(m, o, &layer, err);
}

static ws_status rows_map(ws_adapter_map *m, const ws_adapter *a,
                          const ws_adapter_rows *r, ws_err *err)
{
    ws_adapted *o = origin_find(m, r->path, ".weight");
    const ws_tensor *t = o == NULL ? NULL : ws_adapted_tensor(o);
    if (t == NULL)
        return not_there(a, r->t, r->path, "module", err);
    if (t->rank != 2 || t->shape[1] != r->t->shape[1] ||
        !ws_dtype_info(t->dtype)->arithmetic) {
        ws_fail(err, WS_E_SHAPE, "the base's '%s' has no rows like these", t->name);
        return at(a, r->t, WS_E_SHAPE, err);
    }
    for (size_t i = 0; i < r->n; i++)
        if ((uint64_t)r->rows[i] >= t->shape[0]) {
            ws_fail(err, WS_E_SHAPE, "row %lld of %llu in the base",
                    (long long)r->rows[i], (unsigned long long)t->shape[0]);
            return at(a, r->t, WS_E_SHAPE, err);
        }
    const ws_layer layer = { .kind = WS_LAYER_ROWS, .adapter = a, .rows = r };
    return layer_add(m, o, &layer, err);
}

/* ---- tensors replaced whole ---- */

/** Whether @p t can stand for @p base: but for the number of rows it must be alike. */
static bool replaces(const ws_tensor *t, const ws_tensor *base)
{
    if (t->rank != base->rank || !ws_dtype_info(base->dtype)->arithmetic)
        return false;
    for (int i = 1; i < t->rank; i++)
        if (t->shape[i] != base->shape[i])
            return false;
    return t->rank > 0;
}

/** The module of "module.weight" and the suffix. */
static bool name_cut(const char *name, char *path, size_t size, const char **suffix)
{
    const char *dot = strrchr(name, '.');
    const size_t n = dot == NULL ? 0 : (size_t)(dot - name);
    if (n == 0 || n >= size)
        return false;
    memcpy(path, name, n);
    path[n] = '\0';
    *suffix = dot;
    return true;
}

static ws_status whole_map(ws_adapter_map *m, const ws_adapter *a,
                           const ws_adapter_whole *w, ws_err *err)
{
    char path[WS_MAX_NAME];
    const char *suffix;
    ws_adapted *o = NULL;
    if (name_cut(w->name, path, sizeof path, &suffix))
        o = origin_find(m, path, suffix);
    if (o == NULL && w->saved)
        o = origin_add(m, w->name, NULL); // a head that the base never had
    if (o == NULL)
        return not_there(a, w->t, w->name, "tensor", err);
    if (o->whole != NULL) {
        ws_fail(err, WS_E_UNSUPPORTED, "two adapters replace '%s'", o->name);
        return at(a, w->t, WS_E_UNSUPPORTED, err);
    }
    if (o->base != NULL && !replaces(w->t, o->base)) {
        char shape[96], other[96];
        shape_text(o->base, shape);
        shape_text(w->t, other);
        ws_fail(err, WS_E_SHAPE, "%s in place of the base's %s", other, shape);
        return at(a, w->t, WS_E_SHAPE, err);
    }
    o->whole = w->t;
    o->whole_of = a;
    if (o->base == NULL || w->t->shape[0] == o->base->shape[0])
        return WS_OK;
    if (w->t->rank != 2 || ws_tied_tensor(m->base, o->name) == NULL) {
        // only a vocabulary may have grown
        const char *end = strrchr(path, '.');
        end = end == NULL ? path : end + 1;
        if (strcmp(end, "embed_tokens") != 0 && strcmp(end, "wte") != 0 &&
            strcmp(end, "lm_head") != 0) {
            ws_fail(err, WS_E_SHAPE, "%llu rows in place of the base's %llu",
                    (unsigned long long)w->t->shape[0],
                    (unsigned long long)o->base->shape[0]);
            return at(a, w->t, WS_E_SHAPE, err);
        }
    }
    m->facts.vocab_size = w->t->shape[0];
    m->facts.vocab_from = a->path;
    return WS_OK;
}

/* ---- tied pairs ---- */

/** Whether the configuration says outright that nothing is tied. */
static bool says_untied(const ws_ckpt *base)
{
    size_t len;
    const char *text = ws_ckpt_config(base, &len);
    cJSON *tree = NULL;
    if (text == NULL || ws_json_parse(&tree, text, len, NULL) != WS_OK)
        return false;
    const bool is =
        cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(tree, "tie_word_embeddings"));
    cJSON_Delete(tree);
    return is;
}

/** Whether an adapter changes @p o beyond what its tied partner shares. */
static bool parts_ways(const ws_adapted *o)
{
    bool parts = o->whole != NULL && !o->whole_of->tying;
    for (size_t i = 0; i < o->n_layers; i++)
        parts |= o->layers[i].kind != WS_LAYER_ROWS; // PEFT ties trained rows
    return parts;
}

/** A tied pair of which one side is adapted comes apart: the other side keeps the
 * base's numbers. */
static ws_status pair_part(ws_adapter_map *m, const char *stored, const char *absent,
                           ws_err *err)
{
    ws_adapted *o = origin_named(m, stored);
    if (o == NULL || o->base == NULL || !parts_ways(o))
        return WS_OK;
    ws_adapted *other = origin_named(m, absent);
    if (other == NULL) {
        other = origin_add(m, absent, o->base);
        if (other == NULL)
            return no_memory(err);
        m->facts.untied = true;
    } else if (!says_untied(m->base)) {
        m->facts.untied = true;
    }
    return WS_OK;
}

static ws_status pairs_part(ws_adapter_map *m, ws_err *err)
{
    static const char *const embeddings[] = { "model.embed_tokens.weight",
                                              "transformer.wte.weight", "wte.weight" };
    static const char head[] = "lm_head.weight";
    ws_status st = WS_OK;
    for (size_t i = 0; i < 3 && st == WS_OK; i++) {
        const bool has_embedding = ws_ckpt_find(m->base, embeddings[i]) != NULL;
        const bool has_head = ws_ckpt_find(m->base, head) != NULL;
        if (has_embedding)
            st = pair_part(m, embeddings[i], head, err);
        if (st == WS_OK && has_embedding && has_head)
            st = pair_part(m, head, embeddings[i], err);
    }
    // a head alone, whose embedding's name is the adapter's to say, is found above
    return st;
}

/* ---- all of it ---- */

static ws_status adapter_map(ws_adapter_map *m, const ws_adapter *a, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; i < a->n_wholes && st == WS_OK; i++)
        st = whole_map(m, a, &a->wholes[i], err);
    for (size_t i = 0; i < a->n_modules && st == WS_OK; i++)
        st = module_map(m, a, &a->modules[i], err);
    for (size_t i = 0; i < a->n_rows && st == WS_OK; i++)
        st = rows_map(m, a, &a->rows[i], err);
    return st;
}

ws_status ws_adapter_map_fill(ws_adapter_map *m, ws_err *err)
{
    const size_t n = ws_ckpt_count(m->base);
    m->cap_origins = n + 3; // and the other sides of tied pairs
    for (size_t k = 0; k < m->n; k++)
        m->cap_origins += m->adapters[k]->n_wholes + m->adapters[k]->n_modules +
                          m->adapters[k]->n_rows;
    m->origins = ws_arena_calloc(m->arena, m->cap_origins, sizeof *m->origins);
    if (m->origins == NULL)
        return no_memory(err);
    for (; m->n_origins < n; m->n_origins++) {
        const ws_tensor *t = ws_ckpt_tensor(m->base, m->n_origins);
        m->origins[m->n_origins] = (ws_adapted){ .name = t->name, .base = t };
    }
    ws_status st = WS_OK;
    for (size_t k = 0; k < m->n && st == WS_OK; k++) {
        ws_err why = WS_ERR_INIT;
        st = adapter_map(m, m->adapters[k], &why);
        if (m->failed) // what was not found was not kept
            st = no_memory(err);
        else if (st != WS_OK && err != NULL)
            *err = why;
    }
    return st == WS_OK ? pairs_part(m, err) : st;
}
