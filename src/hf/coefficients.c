/*
 * coefficients.c - the file of learned coefficients, checked as a whole
 */
#include "hf/coefficients.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "wsurg/xxh.h"

enum { MAX_FILE = 256 << 20, MAX_MODELS = 64, MAX_GROUPS = 65536 };

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

/** `partitions` and `seed`, which stand there only where blocks are cut into groups. */
static ws_status read_groups(ws_coefficients *c, const cJSON *tree, ws_err *err)
{
    const cJSON *groups = cJSON_GetObjectItemCaseSensitive(tree, "partitions");
    const cJSON *seed = cJSON_GetObjectItemCaseSensitive(tree, "seed");
    c->groups = 1;
    if (groups == NULL && seed == NULL)
        return WS_OK;
    const double n =
        groups != NULL && cJSON_IsNumber(groups) ? groups->valuedouble : 0.0;
    const double s = seed != NULL && cJSON_IsNumber(seed) ? seed->valuedouble : -1.0;
    if (!(n >= 1.0 && n <= MAX_GROUPS) || n != floor(n))
        return bad(err, "'partitions' is no whole number from 1 to 65536");
    if (!(s >= 0.0 && s <= 9007199254740991.0) || s != floor(s))
        return bad(err, "'seed' is no whole number from 0 to 2^53 - 1");
    c->groups = (uint32_t)n;
    c->seed = (uint64_t)s;
    return WS_OK;
}

static ws_status read_number(const cJSON *x, double *to, ws_err *err)
{
    if (!cJSON_IsNumber(x) || !(fabs(x->valuedouble) <= 1e6))
        return bad(err, "a coefficient is no number from -1e6 to 1e6");
    *to = x->valuedouble;
    return WS_OK;
}

/** Row @p k of lambda, a number for each block (or for each of its groups), goes to
 * place k of every block. */
static ws_status read_row(ws_coefficients *c, const cJSON *row, size_t k, ws_err *err)
{
    size_t i = 0;
    const cJSON *x, *y;
    if (!cJSON_IsArray(row) || (size_t)cJSON_GetArraySize(row) != c->n_blocks)
        return bad(err, "a row of 'lambda' has not one entry for each block");
    cJSON_ArrayForEach(x, row)
    {
        double *to = (double *)(uintptr_t)c->row[i++].lambda + k * c->groups;
        ws_status st = WS_OK;
        if (c->groups == 1 && !cJSON_IsArray(x))
            st = read_number(x, to, err);
        else if (!cJSON_IsArray(x) || (uint32_t)cJSON_GetArraySize(x) != c->groups)
            st = bad(err, "an entry of 'lambda' has not one number for each partition");
        else
            cJSON_ArrayForEach(y, x) st = st != WS_OK ? st : read_number(y, to++, err);
        if (st != WS_OK)
            return st;
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
    const size_t each = c->n_models * c->groups;
    double *all =
        n > SIZE_MAX / each ? NULL : ws_arena_calloc(&c->arena, n * each, sizeof *all);
    if (c->row == NULL || all == NULL)
        return no_memory(err);
    cJSON_ArrayForEach(item, blocks)
    {
        if (!cJSON_IsString(item))
            return bad(err, "'blocks' is no list of tensor names");
        struct ws_block_row *r = &c->row[c->n_blocks];
        r->lambda = all + c->n_blocks++ * each;
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
        st = read_groups(out, tree, err);
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

ws_rng_key ws_coefficients_key(uint64_t seed, const char *name)
{
    uint64_t key[2];
    ws_rng_key_make(seed, "atlas", 0, name, key);
    return (ws_rng_key){ key[0], key[1] };
}
