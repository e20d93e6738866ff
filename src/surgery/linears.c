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
