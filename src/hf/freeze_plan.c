/*
 * freeze_plan.c - plans of half fine-tuning as files
 */
#include "hf/freeze_plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { MAX_FILE = 64 << 20 };

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static ws_status bad(ws_err *err, const char *what)
{
    ws_fail(err, WS_E_HEADER, "freeze plan: %s", what);
    ws_err_hint(err, "wsurg mask hft writes this file");
    return WS_E_HEADER;
}

static ws_status take(ws_freeze_plan *p, const cJSON *tree, ws_err *err)
{
    const char *schema =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "schema"));
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "frozen"), *item;
    if (schema == NULL || strcmp(schema, WS_FREEZE_PLAN_SCHEMA) != 0)
        return bad(err, "'schema' is not " WS_FREEZE_PLAN_SCHEMA);
    if (!cJSON_IsArray(list))
        return bad(err, "'frozen' is no list");
    p->frozen = ws_arena_calloc(&p->arena, (size_t)cJSON_GetArraySize(list) + 1,
                                sizeof *p->frozen);
    if (p->frozen == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a plan");
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item))
            return bad(err, "'frozen' holds something else than names");
        p->frozen[p->n] = ws_arena_strdup(&p->arena, item->valuestring);
        if (p->frozen[p->n++] == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for a plan");
    }
    qsort(p->frozen, p->n, sizeof *p->frozen, by_text);
    return WS_OK;
}

ws_status ws_freeze_plan_read(ws_freeze_plan *out, const char *path, ws_err *err)
{
    cJSON *tree = NULL;
    *out = (ws_freeze_plan){ 0 };
    ws_status st = ws_json_read(&tree, path, MAX_FILE, err);
    if (st == WS_OK)
        st = take(out, tree, err);
    cJSON_Delete(tree);
    if (st != WS_OK) {
        ws_err_at(err, path, NULL, -1);
        ws_freeze_plan_free(out);
    }
    return st;
}

void ws_freeze_plan_free(ws_freeze_plan *p)
{
    ws_arena_free(&p->arena);
    *p = (ws_freeze_plan){ 0 };
}

bool ws_freeze_plan_has(const ws_freeze_plan *p, const char *name)
{
    return p->n > 0 &&
           bsearch(&name, p->frozen, p->n, sizeof *p->frozen, by_text) != NULL;
}

void ws_freeze_plan_text(const ws_freeze_plan *p, uint64_t seed, uint64_t round,
                         ws_buf *out)
{
    ws_buf_printf(out, "{\"schema\":\"%s\",\"seed\":%llu,\"round\":%llu,\"frozen\":[",
                  WS_FREEZE_PLAN_SCHEMA, (unsigned long long)seed,
                  (unsigned long long)round);
    for (size_t i = 0; i < p->n; i++) {
        ws_buf_puts(out, i == 0 ? "\n" : ",\n");
        ws_buf_json_string(out, p->frozen[i], strlen(p->frozen[i]));
    }
    ws_buf_puts(out, "\n]}\n");
}
