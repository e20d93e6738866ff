/*
 * hf_index.c - `*.index.json`: which tensor is in which shard
 *
 * A shard's name is one plain path component with the ending of the index's format, so
 * that an index cannot lead out of its directory or, of safetensors, to a pickle
 * (formats.md 2.1). Its
 * `metadata` is advice and is not looked at here.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "ckpt/ckpt_internal.h"
#include "wsurg/text.h"

enum { MAX_FILE_NAME = 255 };

/** Why @p name may not be a shard's with this ending, or NULL. */
static const char *shard_fault(const char *name, const char *end)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789._-";
    const size_t n = strlen(name), n_end = strlen(end);
    if (n == 0)
        return "is empty";
    if (n > MAX_FILE_NAME)
        return "is too long";
    if (strpbrk(name, "/\\:") != NULL || name[0] == '.')
        return "is not a plain file name in the index's own directory";
    if (strspn(name, plain) != n)
        return "has other characters than letters, digits, '.', '_' and '-'";
    if (n <= n_end || strcmp(name + n - n_end, end) != 0)
        return strcmp(end, ".bin") == 0 ? "does not end in .bin"
                                        : "does not end in .safetensors";
    return NULL;
}

static ws_status entry_read(const cJSON *item, const char *ending, ws_hf_entry *out,
                            ws_err *err)
{
    if (!cJSON_IsString(item)) {
        ws_fail(err, WS_E_HEADER, "weight_map of the index does not name a file");
        return ws_err_at(err, NULL, item->string, -1), WS_E_HEADER;
    }
    if (strlen(item->string) > WS_MAX_NAME)
        return ws_fail(err, WS_E_HEADER, "tensor name is longer than %d bytes",
                       WS_MAX_NAME);
    const char *why = shard_fault(item->valuestring, ending);
    if (why != NULL) {
        char shown[96];
        ws_show(item->valuestring, shown, sizeof shown);
        ws_fail(err, WS_E_HEADER, "shard name '%s' of the index %s", shown, why);
        return ws_err_at(err, NULL, item->string, -1), WS_E_HEADER;
    }
    *out = (ws_hf_entry){ item->string, item->valuestring };
    return WS_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** The distinct names of shards, sorted. */
static ws_status shards_list(ws_hf_index *x, ws_err *err)
{
    x->shards = ws_calloc(x->n, sizeof *x->shards);
    if (x->shards == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for an index of %zu tensors", x->n);
    for (size_t i = 0; i < x->n; i++)
        x->shards[i] = x->entries[i].shard;
    qsort(x->shards, x->n, sizeof *x->shards, compare_names);
    for (size_t i = 0; i < x->n; i++)
        if (i == 0 || strcmp(x->shards[i], x->shards[x->n_shards - 1]) != 0)
            x->shards[x->n_shards++] = x->shards[i];
    return WS_OK;
}

static ws_status entries_read(ws_hf_index *x, const char *ending, ws_err *err)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(x->tree, "weight_map");
    if (!cJSON_IsObject(map))
        return ws_fail(err, WS_E_HEADER, "index has no object 'weight_map'");
    const size_t n = (size_t)cJSON_GetArraySize(map);
    if (n == 0)
        return ws_fail(err, WS_E_HEADER, "weight_map of the index is empty");
    x->entries = ws_calloc(n, sizeof *x->entries);
    if (x->entries == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for an index of %zu tensors", n);
    const cJSON *item;
    cJSON_ArrayForEach(item, map)
    {
        const ws_status st = entry_read(item, ending, &x->entries[x->n], err);
        if (st != WS_OK)
            return st;
        x->n++;
    }
    return shards_list(x, err);
}

ws_status ws_hf_index_parse(ws_hf_index *out, const char *text, size_t len,
                            const char *ending, ws_err *err)
{
    ws_hf_index x = { 0 };
    ws_status st = ws_json_parse(&x.tree, text, len, err);
    if (st == WS_OK)
        st = entries_read(&x, ending, err);
    if (st != WS_OK)
        ws_hf_index_free(&x);
    else
        *out = x;
    return st;
}

void ws_hf_index_free(ws_hf_index *x)
{
    cJSON_Delete(x->tree);
    ws_free(x->entries);
    ws_free(x->shards);
    *x = (ws_hf_index){ 0 };
}
