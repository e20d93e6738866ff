/*
 * recipe.c - from YAML to a recipe: mergekit's schema, strictly
 *
 * What mergekit ignores in silence is a mistake here: unknown keys, parameters at the
 * wrong level, a method misspelt. All of them are reported, with their places.
 */
#include "engine/recipe_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

enum { LAYERS_MAX = 100000 };

void *ws_recipe_take(ws_recipe_reader *r, size_t n, size_t size)
{
    void *p = ws_arena_calloc(r->arena, n, size);
    r->memory |= p == NULL;
    return p;
}

ws_err *ws_recipe_fail(ws_recipe_reader *r, ws_place at, const char *fmt, ...)
{
    char msg[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return ws_place_report(r->errors, WS_E_RECIPE, NULL, r->file, at, "%s", msg);
}

ws_err *ws_recipe_void(ws_recipe_reader *r, ws_place at, const char *fmt, ...)
{
    char msg[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (!r->lenient)
        return ws_place_report(r->errors, WS_E_RECIPE, NULL, r->file, at, "%s", msg);
    return ws_place_report(r->warnings, WS_OK, "recipe", r->file, at, "%s", msg);
}

const char *ws_recipe_nearest(const char *word, const char *const *words, size_t n)
{
    size_t best = strlen(word) / 2 + 1;
    const char *nearest = NULL;
    for (size_t i = 0; i < n; i++) {
        const size_t d = ws_edit_distance(word, words[i]);
        if (d < best) {
            best = d;
            nearest = words[i];
        }
    }
    return nearest;
}

bool ws_recipe_is(ws_recipe_reader *r, const ws_yaml *y, ws_yaml_kind kind,
                  const char *what)
{
    static const char *const names[] = { "one value", "a list", "a map" };
    if (y->kind == kind)
        return true;
    ws_recipe_fail(r, y->at, "'%s' is %s, wanted %s", what, names[y->kind],
                   names[kind]);
    return false;
}

/** Whether @p word is a parameter of some method. */
static bool is_parameter(const char *word)
{
    for (size_t i = 0; i < ws_method_count(); i++)
        for (const ws_param *p = ws_method_at(i)->params; p->name != NULL; p++)
            if (ws_name_equal(p->name, word))
                return true;
    return ws_name_equal(word, "int8_mask");
}

void ws_recipe_keys(ws_recipe_reader *r, const ws_yaml *y, const char *where,
                    const char *const *words, size_t n)
{
    for (size_t i = 0; i < y->n; i++) {
        const char *key = y->keys[i]->text;
        size_t k = 0;
        while (k < n && !ws_name_equal(words[k], key))
            k++;
        if (k < n)
            continue;
        char shown[60];
        ws_show(key, shown, sizeof shown);
        const char *nearest = ws_recipe_nearest(key, words, n);
        const bool parameter = is_parameter(key);
        ws_err *e = parameter ? ws_recipe_void(r, y->keys[i]->at,
                                               "parameter '%s' stands in %s itself",
                                               shown, where)
                              : ws_recipe_void(r, y->keys[i]->at,
                                               "unknown key '%s' in %s", shown, where);
        if (parameter)
            ws_err_hint(e, "it goes under 'parameters:'");
        else if (nearest != NULL)
            ws_err_hint(e, "nearest is '%s'", nearest);
    }
}

/** Text of a member; NULL when it is not there or no text. */
static const char *text_of(ws_recipe_reader *r, const ws_yaml *map, const char *key)
{
    const ws_yaml *y = ws_yaml_get(map, key);
    if (y == NULL || ws_yaml_is_null(y) || !ws_recipe_is(r, y, WS_YAML_SCALAR, key))
        return NULL;
    return y->text;
}

/* ---- models ---- */

/** "A+B", or another sign between them. */
static const char *join(ws_recipe_reader *r, const char *a, char sign, const char *b)
{
    const size_t n = strlen(a) + strlen(b) + 2;
    char *both = ws_recipe_take(r, n, 1);
    if (both != NULL)
        snprintf(both, n, "%s%c%s", a, sign, b);
    return both;
}

/** `{path:, revision:}`, or text; NULL after a report. */
static const char *path_of(ws_recipe_reader *r, const ws_yaml *y, const char *what)
{
    static const char *const keys[] = { "path", "revision" };
    if (y->kind == WS_YAML_SCALAR)
        return y->text;
    if (!ws_recipe_is(r, y, WS_YAML_MAP, what))
        return NULL;
    ws_recipe_keys(r, y, "a model's path", keys, 2);
    const char *revision = text_of(r, y, "revision"), *path = text_of(r, y, "path");
    if (path == NULL)
        ws_recipe_fail(r, y->at, "'%s' has no 'path'", what);
    return path == NULL || revision == NULL ? path : join(r, path, '@', revision);
}

const char *ws_recipe_reference(ws_recipe_reader *r, const ws_yaml *y)
{
    static const char *const keys[] = { "model", "lora", "override_architecture",
                                        "path", "revision" };
    if (y->kind == WS_YAML_SCALAR && !ws_yaml_is_null(y))
        return y->text;
    if (y->kind != WS_YAML_MAP) {
        ws_recipe_fail(r, y->at, "a model is a path, or a map with 'model' and 'lora'");
        return NULL;
    }
    ws_recipe_keys(r, y, "a model reference", keys, sizeof keys / sizeof *keys);
    const ws_yaml *model = ws_yaml_get(y, "model"), *lora = ws_yaml_get(y, "lora");
    const ws_yaml *other = ws_yaml_get(y, "override_architecture");
    if (other != NULL && !ws_yaml_is_null(other))
        ws_place_report(r->warnings, WS_OK, "note", r->file, other->at,
                        "override_architecture has no meaning here: tensors are "
                        "matched by name");
    const char *path = path_of(r, model == NULL ? y : model, "model");
    if (path == NULL || lora == NULL || ws_yaml_is_null(lora))
        return path;
    const char *adapter = path_of(r, lora, "lora");
    if (adapter == NULL)
        return NULL;
    return join(r, path, '+', adapter);
}

/** Index of the model that @p y names among the document's; SIZE_MAX after a report. */
static size_t add_ref(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    const char *path = ws_recipe_reference(r, y);
    if (path == NULL)
        return SIZE_MAX;
    for (size_t i = 0; i < doc->n_refs; i++)
        if (strcmp(doc->refs[i].path, path) == 0)
            return i;
    if (doc->n_refs > WS_MODELS_MAX) {
        if (!doc->too_many)
            ws_recipe_fail(r, y->at, "more than %d models", WS_MODELS_MAX);
        doc->too_many = true;
        return SIZE_MAX;
    }
    if (doc->refs == NULL)
        doc->refs = ws_recipe_take(r, WS_MODELS_MAX + 2, sizeof *doc->refs);
    if (doc->refs == NULL)
        return SIZE_MAX;
    doc->refs[doc->n_refs] = (ws_recipe_ref){ path, y->at, SIZE_MAX, NULL, 0, NULL };
    return doc->n_refs++;
}

/** Model and parameters of one source; @p base: index of the base's, or SIZE_MAX. */
static bool read_source(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y,
                        size_t base, ws_recipe_source *s)
{
    const ws_yaml *model = ws_yaml_get(y, "model");
    s->at = y->at;
    s->ref = model == NULL ? SIZE_MAX : add_ref(r, doc, model);
    if (model == NULL)
        ws_recipe_fail(r, y->at, "a list entry has no 'model'");
    const ws_yaml *map = ws_yaml_get(y, "map");
    if (map != NULL && s->ref != SIZE_MAX)
        ws_recipe_read_map(r, &doc->refs[s->ref], map);
    const bool of_base = doc->method != NULL && doc->method->base != WS_BASE_NONE &&
                         s->ref != SIZE_MAX && s->ref == base;
    ws_recipe_settings(r, doc, doc->method, ws_yaml_get(y, "parameters"),
                       of_base ? WS_LEVEL_BASE : WS_LEVEL_MODEL, &s->params);
    return s->ref != SIZE_MAX;
}

/** `models:` - one slice of everything. */
static void read_models(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    static const char *const keys[] = { "model", "parameters", "map" };
    if (!ws_recipe_is(r, y, WS_YAML_LIST, "models"))
        return;
    ws_recipe_slice *slice = ws_recipe_take(r, 1, sizeof *slice);
    ws_recipe_source *sources = ws_recipe_take(r, y->n + 1, sizeof *sources);
    if (slice == NULL || sources == NULL)
        return;
    *slice = (ws_recipe_slice){ .sources = sources, .at = y->at };
    for (size_t i = 0; i < y->n && ++r->work < WS_YAML_NODES; i++) {
        const ws_yaml *item = y->items[i];
        if (!ws_recipe_is(r, item, WS_YAML_MAP, "models"))
            continue;
        ws_recipe_keys(r, item, "an entry of 'models'", keys, 3);
        if (!read_source(r, doc, item, doc->has_base ? doc->base : SIZE_MAX,
                         &sources[slice->n]))
            continue;
        for (size_t k = 0; k < slice->n; k++)
            if (sources[k].ref == sources[slice->n].ref) {
                char shown[120];
                ws_show(doc->refs[sources[k].ref].path, shown, sizeof shown);
                ws_recipe_fail(r, item->at,
                               "model '%s' is listed twice, first in line "
                               "%u",
                               shown, sources[k].at.line);
                break;
            }
        slice->n++;
    }
    doc->slices = slice;
    doc->n_slices = 1;
}

/* ---- slices ---- */

/** `[start, end)` */
static bool read_range(ws_recipe_reader *r, const ws_yaml *y, uint32_t *start,
                       uint32_t *end)
{
    uint64_t v[2];
    if (!ws_recipe_is(r, y, WS_YAML_LIST, "layer_range"))
        return false;
    for (size_t i = 0; i < 2; i++)
        if (y->n != 2 || y->items[i]->kind != WS_YAML_SCALAR ||
            !ws_parse_u64(y->items[i]->text, &v[i]) || v[i] > LAYERS_MAX) {
            ws_recipe_fail(r, y->at,
                           "layer_range wants two whole numbers: the first layer, and "
                           "the one after the last");
            return false;
        }
    if (v[1] < v[0]) {
        ws_recipe_fail(r, y->at, "layer_range ends at %llu before it begins at %llu",
                       (unsigned long long)v[1], (unsigned long long)v[0]);
        return false;
    }
    *start = (uint32_t)v[0];
    *end = (uint32_t)v[1];
    return true;
}

static void read_slice_sources(ws_recipe_reader *r, ws_recipe_doc *doc,
                               const ws_yaml *list, ws_recipe_slice *slice)
{
    static const char *const keys[] = { "model", "layer_range", "parameters", "map" };
    const size_t base = slice->has_base ? slice->base
                        : doc->has_base ? doc->base
                                        : SIZE_MAX;
    bool first = true;
    slice->sources = ws_recipe_take(r, list->n + 1, sizeof *slice->sources);
    for (size_t i = 0; slice->sources != NULL && i < list->n; i++) {
        const ws_yaml *item = list->items[i];
        ws_recipe_source *s = &slice->sources[slice->n];
        uint32_t end = 0;
        if (++r->work > WS_YAML_NODES || !ws_recipe_is(r, item, WS_YAML_MAP, "sources"))
            continue;
        ws_recipe_keys(r, item, "a source of a slice", keys, 4);
        const ws_yaml *range = ws_yaml_get(item, "layer_range");
        const bool good = read_source(r, doc, item, base, s);
        if (range == NULL)
            ws_recipe_fail(r, item->at, "a source has no 'layer_range'");
        if (!good || range == NULL || !read_range(r, range, &s->start, &end))
            continue;
        if (first)
            slice->layers = end - s->start;
        else if (slice->layers != end - s->start)
            ws_recipe_fail(r, range->at,
                           "layer_range spans %u layers, the first source's spans %u",
                           end - s->start, slice->layers);
        first = false;
        slice->n++;
    }
}

static void read_slices(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    static const char *const keys[] = { "sources", "parameters", "base_model",
                                        "residual_weight" };
    if (!ws_recipe_is(r, y, WS_YAML_LIST, "slices"))
        return;
    doc->sliced = true;
    doc->slices = ws_recipe_take(r, y->n + 1, sizeof *doc->slices);
    for (size_t i = 0; doc->slices != NULL && i < y->n; i++) {
        const ws_yaml *item = y->items[i];
        ws_recipe_slice *slice = &doc->slices[doc->n_slices];
        if (++r->work > WS_YAML_NODES || !ws_recipe_is(r, item, WS_YAML_MAP, "slices"))
            continue;
        ws_recipe_keys(r, item, "a slice", keys, sizeof keys / sizeof *keys);
        const ws_yaml *list = ws_yaml_get(item, "sources");
        const ws_yaml *base = ws_yaml_get(item, "base_model");
        *slice = (ws_recipe_slice){ .at = item->at, .first = doc->layers };
        if (base != NULL && !ws_yaml_is_null(base)) {
            slice->base = add_ref(r, doc, base);
            slice->has_base = slice->base != SIZE_MAX;
        }
        if (list == NULL)
            ws_recipe_fail(r, item->at, "a slice has no 'sources'");
        else if (ws_recipe_is(r, list, WS_YAML_LIST, "sources"))
            read_slice_sources(r, doc, list, slice);
        ws_recipe_settings(r, doc, doc->method, ws_yaml_get(item, "parameters"),
                           WS_LEVEL_SHARED, &slice->params);
        if (slice->n == 0)
            continue;
        doc->layers += slice->layers;
        doc->n_slices++;
    }
    if (doc->layers > LAYERS_MAX)
        ws_recipe_fail(r, y->at, "more than %d layers", LAYERS_MAX);
}

/** Which of the three forms the document has. */
static void read_form(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    const ws_yaml *models = ws_yaml_get(y, "models");
    const ws_yaml *slices = ws_yaml_get(y, "slices");
    if (models != NULL && ws_yaml_is_null(models))
        models = NULL;
    if (slices != NULL && ws_yaml_is_null(slices))
        slices = NULL;
    if (models != NULL && slices != NULL)
        ws_recipe_fail(r, slices->at, "both 'models' and 'slices' are given");
    else if (models != NULL)
        read_models(r, doc, models);
    else if (slices != NULL)
        read_slices(r, doc, slices);
    else
        ws_recipe_fail(r, y->at, "neither 'models' nor 'slices' is given");
}

/** `modules:` of one module is that module. */
static void read_modules(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    static const char *const keys[] = { "models", "slices", "parameters" };
    if (!ws_recipe_is(r, y, WS_YAML_MAP, "modules"))
        return;
    if (y->n != 1) {
        ws_err *e = ws_place_report(r->errors, WS_E_UNSUPPORTED, NULL, r->file, y->at,
                                    "%zu modules: only one is supported", y->n);
        ws_err_hint(e, "tensors are matched by name: 'models:' merges all modules");
        return;
    }
    const ws_yaml *m = y->items[0];
    if (!ws_recipe_is(r, m, WS_YAML_MAP, y->keys[0]->text))
        return;
    ws_recipe_keys(r, m, "a module", keys, 3);
    ws_recipe_settings(r, doc, doc->method, ws_yaml_get(m, "parameters"),
                       WS_LEVEL_SHARED, &doc->module);
    read_form(r, doc, m);
}

/* ---- the other keys ---- */

const ws_method *ws_recipe_method(ws_recipe_reader *r, const ws_yaml *y,
                                  const char *key)
{
    if (!ws_recipe_is(r, y, WS_YAML_SCALAR, key))
        return NULL;
    const ws_method *m = ws_method_find(y->text);
    if (m != NULL)
        return m;
    const char *names[64];
    size_t n = 0;
    for (; n < ws_method_count() && n < 64; n++)
        names[n] = ws_method_at(n)->name;
    char shown[60];
    ws_show(y->text, shown, sizeof shown);
    ws_err *e = ws_recipe_fail(r, y->at, "unknown method '%s'", shown);
    const char *nearest = ws_recipe_nearest(y->text, names, n);
    if (nearest != NULL)
        ws_err_hint(e, "nearest is '%s'; 'wsurg methods' lists all", nearest);
    else
        ws_err_hint(e, "'wsurg methods' lists all");
    return NULL;
}

static void read_method(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    const ws_yaml *m = ws_yaml_get(y, "merge_method");
    if (m == NULL || ws_yaml_is_null(m)) {
        ws_err *e = ws_recipe_fail(r, y->at, "no 'merge_method'");
        ws_err_hint(e, "'wsurg methods' lists them");
        return;
    }
    doc->method_at = m->at;
    doc->method = ws_recipe_method(r, m, "merge_method");
}

/** The element type that is written: `out_dtype`, else `dtype`. */
static void read_dtype(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *map,
                       const char *key)
{
    static const struct {
        const char *name;
        ws_dtype dtype;
    } names[] = {
        { "float32", WS_DT_F32 }, { "float16", WS_DT_F16 }, { "bfloat16", WS_DT_BF16 },
        { "f32", WS_DT_F32 },     { "f16", WS_DT_F16 },     { "bf16", WS_DT_BF16 },
    };
    const char *text = text_of(r, map, key), *word = text;
    if (text == NULL)
        return;
    if (strncmp(word, "torch.", 6) == 0)
        word += 6;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, word) == 0) {
            doc->has_dtype = true;
            doc->dtype = names[i].dtype;
            return;
        }
    char shown[60];
    ws_show(text, shown, sizeof shown);
    ws_recipe_fail(r, ws_yaml_get(map, key)->at,
                   "%s is '%s', wanted float32, float16 or bfloat16", key, shown);
}

static void read_own(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    doc->coefficients = text_of(r, y, "coefficients");
    const ws_yaml *lines = ws_yaml_get(y, "lines"), *seed = ws_yaml_get(y, "seed");
    if (seed != NULL && ws_recipe_is(r, seed, WS_YAML_SCALAR, "seed")) {
        doc->has_seed = ws_parse_u64(seed->text, &doc->seed);
        if (!doc->has_seed)
            ws_recipe_fail(r, seed->at, "seed wants a whole number");
    }
    if (lines == NULL || ws_yaml_is_null(lines))
        return;
    if (lines->kind == WS_YAML_LIST && lines->n == 2 &&
        lines->items[0]->kind == WS_YAML_SCALAR &&
        lines->items[1]->kind == WS_YAML_SCALAR) {
        const char *a = lines->items[0]->text, *b = lines->items[1]->text;
        const size_t n = strlen(a) + strlen(b) + 2;
        char *text = ws_recipe_take(r, n, 1);
        if (text != NULL)
            snprintf(text, n, "%s,%s", a, b);
        doc->lines = text;
        return;
    }
    ws_err *e = ws_recipe_fail(r, lines->at, "lines wants two values");
    ws_err_hint(e, "lines: [auto, auto], or [0.3, 0.7]");
}

/** What the method needs and the document must name. */
static void check_base(ws_recipe_reader *r, const ws_recipe_doc *doc)
{
    if (doc->method == NULL || doc->has_base || doc->method->base != WS_BASE_REQUIRED)
        return;
    ws_err *e = ws_recipe_fail(r, doc->method_at, "method '%s' needs a 'base_model'",
                               doc->method->name);
    ws_err_hint(e, "base_model: PATH of the model that the others were made from");
}

static void read_doc(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    static const char *const keys[] = {
        "merge_method",  "models", "slices",    "modules",   "base_model",
        "parameters",    "dtype",  "out_dtype", "tokenizer", "tokenizer_source",
        "chat_template", "name",   "lines",     "seed",      "coefficients",
        "rules"
    };
    *doc = (ws_recipe_doc){ .file = r->file, .at = y->at, .method_at = y->at };
    if (!ws_recipe_is(r, y, WS_YAML_MAP, "a recipe"))
        return;
    ws_recipe_keys(r, y, "the recipe", keys, sizeof keys / sizeof *keys);
    read_method(r, doc, y);
    doc->name = text_of(r, y, "name");
    const ws_yaml *base = ws_yaml_get(y, "base_model");
    if (base != NULL && !ws_yaml_is_null(base)) {
        doc->base = add_ref(r, doc, base);
        doc->has_base = doc->base != SIZE_MAX;
    } else {
        check_base(r, doc);
    }
    read_dtype(r, doc, y, "dtype");
    read_dtype(r, doc, y, "out_dtype");
    read_own(r, doc, y);
    const ws_yaml *rules = ws_yaml_get(y, "rules");
    if (rules != NULL && !ws_yaml_is_null(rules)) // they say which parameters there are
        ws_recipe_read_rules(r, doc, rules);
    ws_recipe_settings(r, doc, doc->method, ws_yaml_get(y, "parameters"),
                       WS_LEVEL_SHARED, &doc->params);
    const ws_yaml *modules = ws_yaml_get(y, "modules");
    if (modules != NULL && !ws_yaml_is_null(modules) &&
        ws_yaml_get(y, "models") == NULL && ws_yaml_get(y, "slices") == NULL)
        read_modules(r, doc, modules);
    else
        read_form(r, doc, y);
    ws_recipe_check_rules(r, doc);
    ws_recipe_read_vocab(r, doc, y);
}

/* ---- the file ---- */

ws_status ws_recipe_parse(ws_recipe **out, const char *name, const char *text,
                          size_t len, bool lenient, ws_diag *errors, ws_diag *warnings)
{
    const size_t before = errors->n;
    ws_yaml **docs = NULL;
    size_t n = 0;
    ws_recipe *recipe = ws_calloc(1, sizeof *recipe);
    if (recipe == NULL) {
        ws_diag_report(errors, WS_E_MEMORY, NULL, "no memory for the recipe");
        return WS_E_MEMORY;
    }
    ws_recipe_reader r = { .arena = &recipe->arena,
                           .errors = errors,
                           .warnings = warnings,
                           .lenient = lenient };
    r.file = ws_arena_strdup(r.arena, name);
    char *kept = ws_recipe_take(&r, len + 1, 1);
    if (kept != NULL)
        memcpy(kept, text, len);
    recipe->text = kept;
    r.memory |= r.file == NULL;
    if (!r.memory)
        ws_yaml_parse(&docs, &n, r.file, text, len, r.arena, errors);
    if (errors->n == before && n == 0 && !r.memory)
        ws_recipe_fail(&r, (ws_place){ 0, 0 }, "the recipe is empty");
    recipe->docs = ws_recipe_take(&r, n + 1, sizeof *recipe->docs);
    for (; recipe->docs != NULL && recipe->n < n; recipe->n++)
        read_doc(&r, &recipe->docs[recipe->n], docs[recipe->n]);
    if (recipe->docs != NULL)
        ws_recipe_link(&r, recipe);
    if (r.work >= WS_YAML_NODES)
        ws_recipe_fail(&r, (ws_place){ 0, 0 }, "too long for a recipe");
    if (r.memory)
        ws_diag_report(errors, WS_E_MEMORY, NULL, "no memory for the recipe");
    if (errors->n > before) {
        const ws_status st = r.memory ? WS_E_MEMORY : WS_E_RECIPE;
        ws_recipe_free(recipe);
        return st;
    }
    *out = recipe;
    return WS_OK;
}

ws_status ws_recipe_load(ws_recipe **out, const char *path, bool lenient,
                         ws_diag *errors, ws_diag *warnings)
{
    char *text = NULL;
    size_t len = 0;
    ws_err err = WS_ERR_INIT;
    ws_status st = ws_file_read(&text, &len, path, WS_YAML_BYTES, &err);
    if (st != WS_OK) {
        ws_err_at(&err, path, NULL, -1);
        ws_diag_add(errors, &err);
        return st;
    }
    st = ws_recipe_parse(out, path, text, len, lenient, errors, warnings);
    ws_free(text);
    return st;
}

void ws_recipe_free(ws_recipe *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->n; i++)
        ws_recipe_free_rules(&r->docs[i]);
    ws_arena_free(&r->arena);
    ws_free(r);
}

size_t ws_recipe_count(const ws_recipe *r)
{
    return r->n;
}

const ws_recipe_doc *ws_recipe_at(const ws_recipe *r, size_t i)
{
    return &r->docs[i];
}

const char *ws_recipe_method_name(const ws_recipe_doc *doc)
{
    return doc->method->name;
}

size_t ws_recipe_model_count(const ws_recipe_doc *doc)
{
    return doc->n_refs;
}

const char *ws_recipe_model(const ws_recipe_doc *doc, size_t i)
{
    return doc->refs[i].path;
}

bool ws_recipe_is_path(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL && (strcmp(dot, ".yml") == 0 || strcmp(dot, ".yaml") == 0);
}
