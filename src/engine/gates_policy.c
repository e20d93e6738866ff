/*
 * gates_policy.c - gates of a file: a map of the options of check
 */
#include <string.h>

#include "base/json.h"
#include "engine/gates_internal.h"
#include "engine/recipe_yaml.h"

/** Add the scalar @p y under @p key. */
static bool item_add(ws_policy_item **items, size_t *n, const ws_yaml *key,
                     const ws_yaml *y, const char *path, ws_diag *errors)
{
    if (y->kind != WS_YAML_SCALAR) {
        ws_place_report(errors, WS_E_RECIPE, NULL, path, y->at,
                        "'%s' holds a %s, wanted one value", key->text,
                        y->kind == WS_YAML_MAP ? "map" : "list");
        return false;
    }
    (*items)[(*n)++] = (ws_policy_item){ key->text, y->text, key->at.line };
    return true;
}

static ws_status items_take(ws_policy_item **out, size_t *n, const ws_yaml *map,
                            const char *path, ws_arena *arena, ws_diag *errors)
{
    size_t most = 0;
    bool good = true;
    for (size_t i = 0; i < map->n; i++)
        most += map->items[i]->kind == WS_YAML_LIST ? map->items[i]->n : 1;
    *out = ws_arena_calloc(arena, most + 1, sizeof **out);
    if (*out == NULL)
        return WS_E_MEMORY;
    for (size_t i = 0; i < map->n; i++) {
        const ws_yaml *y = map->items[i];
        if (y->kind != WS_YAML_LIST)
            good &= item_add(out, n, map->keys[i], y, path, errors);
        for (size_t k = 0; y->kind == WS_YAML_LIST && k < y->n; k++)
            good &= item_add(out, n, map->keys[i], y->items[k], path, errors);
    }
    return good ? WS_OK : WS_E_RECIPE;
}

ws_status ws_policy_read(ws_policy_item **out, size_t *n, const char *path,
                         ws_arena *arena, ws_diag *errors)
{
    ws_yaml **docs = NULL;
    char *text = NULL;
    size_t len = 0, n_docs = 0;
    ws_err err = WS_ERR_INIT;
    *n = 0;
    ws_status st = ws_file_read(&text, &len, path, WS_YAML_BYTES, &err);
    if (st != WS_OK) {
        ws_err_at(&err, path, NULL, -1);
        ws_diag_add(errors, &err);
        return st;
    }
    st = ws_yaml_parse(&docs, &n_docs, path, text, len, arena, errors);
    if (st == WS_OK && (n_docs != 1 || docs[0]->kind != WS_YAML_MAP)) {
        ws_place_report(errors, WS_E_RECIPE, NULL, path, (ws_place){ 0, 0 },
                        "a policy is one map of gates, as 'finite: true'");
        st = WS_E_RECIPE;
    }
    if (st == WS_OK)
        st = items_take(out, n, docs[0], path, arena, errors);
    if (st == WS_E_MEMORY)
        ws_diag_report(errors, st, NULL, "no memory for the policy");
    ws_free(text);
    return st;
}
