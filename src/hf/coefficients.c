/*
 * coefficients.c - the file of learned coefficients, checked as a whole
 */
#include "hf/coefficients.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "wsurg/xxh.h"

enum { MAX_FILE = 256 << 20, MAX_MODELS = 64 };

static ws_status bad(ws_err *err, const char *what)
{
    ws_fail(err, WS_E_HEADER, "coefficients: %s", what);
    ws_err_hint(err, "wsurg learn writes this file");
    return WS_E_HEADER;
}

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for coefficients");
}

static int by_name(const void *a, const void *b)
{
    const struct ws_block_row *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static ws_status read_labels(ws_coefficients *c, const cJSON *list, ws_err *err)
{
    const int n = cJSON_GetArraySize(list);
    const cJSON *item;
    if (!cJSON_IsArray(list) || n < 1 || n > MAX_MODELS)
        return bad(err, "'task_vectors' is no list of 1 to 64");
    c->labels = ws_arena_calloc(&c->arena, (size_t)n, sizeof *c->labels);
    if (c->labels == NULL)
        return no_memory(err);
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
        if (!cJSON_IsString(name))
            return bad(err, "a task vector has no name");
        c->labels[c->n_models] = ws_arena_strdup(&c->arena, name->valuestring);
        if (c->labels[c->n_models++] == NULL)
            return no_memory(err);
    }
    return WS_OK;
}

/** Row @p k of lambda, a number for each block, goes to place k of every block. */
static ws_status read_row(ws_coefficients *c, const cJSON *row, size_t k, ws_err *err)
{
    size_t i = 0;
    const cJSON *x;
    if (!cJSON_IsArray(row) || (size_t)cJSON_GetArraySize(row) != c->n_blocks)
        return bad(err, "a row of 'lambda' has not one number for each block");
    cJSON_ArrayForEach(x, row)
    {
        if (!cJSON_IsNumber(x) || !(fabs(x->valuedouble) <= 1e6))
            return bad(err, "a coefficient is no number from -1e6 to 1e6");
        double *to = (double *)(uintptr_t)c->row[i++].lambda;
        to[k] = x->valuedouble;
    }
    return WS_OK;
}

static ws_status read_blocks(ws_coefficients *c, const cJSON *blocks,
                             const cJSON *lambda, ws_err *err)
{
    const cJSON *item;
    const size_t n = (size_t)cJSON_GetArraySize(blocks);
    if (!cJSON_IsArray(blocks) || n == 0)
        return bad(err, "'blocks' is no list of tensor names");
    if (!cJSON_IsArray(lambda) || (size_t)cJSON_GetArraySize(lambda) != c->n_models)
        return bad(err, "'lambda' has not one row for each task vector");
    c->row = ws_arena_calloc(&c->arena, n, sizeof *c->row);
    double *all = ws_arena_calloc(&c->arena, n * c->n_models, sizeof *all);
    if (c->row == NULL || all == NULL)
        return no_memory(err);
    cJSON_ArrayForEach(item, blocks)
    {
        if (!cJSON_IsString(item))
            return bad(err, "'blocks' is no list of tensor names");
        struct ws_block_row *r = &c->row[c->n_blocks];
        r->lambda = all + c->n_blocks++ * c->n_models;
        r->name = ws_arena_strdup(&c->arena, item->valuestring);
        if (r->name == NULL)
            return no_memory(err);
    }
    size_t k = 0;
    ws_status st = WS_OK;
    cJSON_ArrayForEach(item, lambda)
    {
        st = read_row(c, item, k++, err);
        if (st != WS_OK)
            return st;
    }
    qsort(c->row, c->n_blocks, sizeof *c->row, by_name);
    for (size_t i = 1; i < c->n_blocks; i++)
        if (strcmp(c->row[i - 1].name, c->row[i].name) == 0)
            return bad(err, "a block stands twice");
    return WS_OK;
}

ws_status ws_coefficients_read(ws_coefficients *out, const char *path, ws_err *err)
{
    char *text = NULL;
    size_t len = 0;
    cJSON *tree = NULL;
    *out = (ws_coefficients){ 0 };
    ws_status st = ws_file_read(&text, &len, path, MAX_FILE, err);
    if (st == WS_OK)
        st = ws_json_parse(&tree, text, len, err);
    if (st == WS_OK) {
        const char *schema =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "schema"));
        ws_xxh128_hex(ws_xxh3(text, len), out->digest);
        if (schema == NULL || strcmp(schema, "wsurg-coefficients/1") != 0)
            st = bad(err, "'schema' is not wsurg-coefficients/1");
    }
    if (st == WS_OK)
        st = read_labels(out, cJSON_GetObjectItemCaseSensitive(tree, "task_vectors"),
                         err);
    if (st == WS_OK)
        st = read_blocks(out, cJSON_GetObjectItemCaseSensitive(tree, "blocks"),
                         cJSON_GetObjectItemCaseSensitive(tree, "lambda"), err);
    cJSON_Delete(tree);
    ws_free(text);
    if (st != WS_OK) {
        ws_err_at(err, path, NULL, -1);
        ws_coefficients_free(out);
    }
    return st;
}

void ws_coefficients_free(ws_coefficients *c)
{
    ws_arena_free(&c->arena);
    *c = (ws_coefficients){ 0 };
}

const struct ws_block_row *ws_coefficients_of(const ws_coefficients *c,
                                              const char *name)
{
    const struct ws_block_row key = { .name = name };
    return bsearch(&key, c->row, c->n_blocks, sizeof *c->row, by_name);
}
