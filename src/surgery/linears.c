/*
 * linears.c - which tensors of a checkpoint are linears
 */
#include "surgery/linears.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

bool ws_linear_is(const ws_tensor *t)
{
    const char *end = strrchr(t->name, '.');
    if (t->rank != 2 || end == NULL || strcmp(end, ".weight") != 0 || t->shape[0] < 2 ||
        t->shape[1] < 2)
        return false;
    for (const char *p = strchr(t->name, '.'); p != NULL; p = strchr(p + 1, '.')) {
        const size_t digits = strspn(p + 1, "0123456789");
        if (digits > 0 && p[1 + digits] == '.')
            return true;
    }
    return strspn(t->name, "0123456789") > 0;
}

ws_status ws_targets_open(ws_targets *t, const char *const *patterns, size_t n,
                          ws_err *err)
{
    *t = (ws_targets){ .patterns = patterns, .n = n };
    t->set = ws_calloc(n + 1, sizeof *t->set);
    t->hit = ws_calloc(n + 1, sizeof *t->hit);
    ws_status st = t->set != NULL && t->hit != NULL
                       ? WS_OK
                       : ws_fail(err, WS_E_MEMORY, "no memory for the targets");
    for (size_t i = 0; i < n && st == WS_OK; i++)
        st = ws_pattern_new(&t->set[i], patterns[i], err);
    return st;
}

ws_status ws_targets_match(ws_targets *t, const ws_tensor *x, bool *in, ws_err *err)
{
    const size_t len = strlen(x->name);
    *in = t->n == 0 && ws_linear_is(x);
    for (size_t i = 0; i < t->n; i++) {
        bool hit = false;
        const ws_status st = ws_pattern_match(t->set[i], x->name, &hit, err);
        if (st != WS_OK)
            return st;
        hit =
            hit && x->rank == 2 && len > 7 && strcmp(x->name + len - 7, ".weight") == 0;
        t->hit[i] |= hit;
        *in |= hit;
    }
    return WS_OK;
}

ws_status ws_targets_all_hit(const ws_targets *t, ws_err *err)
{
    for (size_t i = 0; i < t->n; i++)
        if (!t->hit[i])
            return ws_fail(err, WS_E_USAGE, "--target '%s' hits no linear",
                           t->patterns[i]);
    return WS_OK;
}

void ws_targets_close(ws_targets *t)
{
    for (size_t i = 0; t->set != NULL && i < t->n; i++)
        ws_pattern_free(t->set[i]);
    ws_free(t->set);
    ws_free(t->hit);
    *t = (ws_targets){ 0 };
}

bool ws_linear_transposed(const ws_ckpt *model)
{
    size_t len;
    cJSON *tree = NULL;
    const char *text = ws_ckpt_config(model, &len);
    if (text == NULL || ws_json_parse(&tree, text, len, NULL) != WS_OK)
        return false;
    const char *type =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "model_type"));
    const bool is =
        type != NULL && (strcmp(type, "gpt2") == 0 || strcmp(type, "openai-gpt") == 0);
    cJSON_Delete(tree);
    return is;
}

const char *ws_linear_module(ws_arena *arena, bool transposed, const char *name)
{
    const size_t len = strlen(name) - strlen(".weight") + 1;
    const char *prefix =
        transposed && strncmp(name, "h.", 2) == 0 ? "transformer." : "";
    char *path = ws_arena_alloc(arena, strlen(prefix) + len);
    if (path != NULL)
        snprintf(path, strlen(prefix) + len, "%s%s", prefix, name);
    return path;
}
