/*
 * cov_file.c - reading covariances
 */
#include "surgery/cov_file.h"

#include <math.h>
#include <string.h>

#include "wsurg/alloc.h"

static const char *text_of(const cJSON *tree, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, key));
}

static bool number_of(const cJSON *tree, const char *key, uint64_t *out)
{
    return ws_json_u64(cJSON_GetObjectItemCaseSensitive(tree, key), out);
}

static ws_status describe(ws_cov *c, ws_err *err)
{
    const char *text = ws_ckpt_meta(c->file, WS_COV_META);
    if (ws_ckpt_kind_of(c->file) != WS_KIND_COVARIANCE || text == NULL) {
        ws_fail(err, WS_E_USAGE, "this is no file of covariances");
        ws_err_hint(err, "wsurg calibrate MODEL --data FILE makes one");
        return WS_E_USAGE;
    }
    const ws_status st = ws_json_parse(&c->tree, text, strlen(text), err);
    if (st != WS_OK)
        return st;
    const char *schema = text_of(c->tree, "schema");
    c->model = text_of(c->tree, "model");
    c->normalise = text_of(c->tree, "normalise");
    c->sampling = text_of(c->tree, "sampling");
    c->tensors = cJSON_GetObjectItemCaseSensitive(c->tree, "tensors");
    c->data = cJSON_GetObjectItemCaseSensitive(c->tree, "data");
    if (schema == NULL || strcmp(schema, WS_COV_SCHEMA) != 0)
        return ws_fail(err, WS_E_UNSUPPORTED, "'%s' has schema '%s', read here is '%s'",
                       WS_COV_META, schema == NULL ? "" : schema, WS_COV_SCHEMA);
    if (c->model == NULL || c->normalise == NULL || c->sampling == NULL ||
        !cJSON_IsObject(c->tensors) || !number_of(c->tree, "seq", &c->seq) ||
        !number_of(c->tree, "samples", &c->samples) || c->samples == 0 ||
        !number_of(c->tree, "tokens", &c->tokens) ||
        (strcmp(c->normalise, "peft") != 0 && strcmp(c->normalise, "authors") != 0 &&
         strcmp(c->normalise, "none") != 0))
        return ws_fail(err, WS_E_HEADER, "'%s' lacks a field, or one is not valid",
                       WS_COV_META);
    return WS_OK;
}

ws_status ws_cov_open(ws_cov *out, const char *path, ws_diag *warnings, ws_err *err)
{
    *out = (ws_cov){ 0 };
    ws_status st = ws_ckpt_open(&out->file, path, warnings, err);
    if (st == WS_OK)
        st = describe(out, err);
    if (st != WS_OK) {
        ws_err_at(err, path, NULL, -1);
        ws_cov_close(out);
    }
    return st;
}

void ws_cov_close(ws_cov *c)
{
    ws_ckpt_free(c->file);
    cJSON_Delete(c->tree);
    *c = (ws_cov){ 0 };
}

void ws_cov_data_json(const ws_cov *c, ws_buf *b)
{
    size_t n = 0;
    ws_buf_putc(b, '[');
    for (const cJSON *x = c->data != NULL ? c->data->child : NULL; x != NULL;
         x = x->next) {
        const char *name = cJSON_GetStringValue(x);
        if (name == NULL)
            continue;
        if (n++ > 0)
            ws_buf_putc(b, ',');
        ws_buf_json_string(b, name, strlen(name));
    }
    ws_buf_putc(b, ']');
}

/** n with n (n + 1) / 2 = @p count, or -1. */
static int64_t order_of(uint64_t count)
{
    const uint64_t n = (uint64_t)((sqrt(8.0 * (double)count + 1.0) - 1.0) / 2.0);
    for (uint64_t k = n > 0 ? n - 1 : 0; k <= n + 1; k++)
        if (k * (k + 1) / 2 == count && k > 0)
            return (int64_t)k;
    return -1;
}

const ws_tensor *ws_cov_find(const ws_cov *c, const char *name, int64_t *n)
{
    const char *stored = text_of(c->tensors, name);
    const ws_tensor *t = stored == NULL ? NULL : ws_ckpt_find(c->file, stored);
    if (t == NULL || t->dtype != WS_DT_F32 || t->rank != 1 ||
        t->n_elements > UINT64_C(1) << 61)
        return NULL;
    *n = order_of(t->n_elements);
    return *n > 0 ? t : NULL;
}

ws_status ws_cov_read(const ws_cov *c, const ws_tensor *t, ws_mat *C, ws_err *err)
{
    const int64_t n = C->rows;
    const double scale = strcmp(c->normalise, "peft") == 0 ? 1.0 / (double)c->samples
                         : strcmp(c->normalise, "authors") == 0 ? 1.0 / 256.0
                                                                : 1.0;
    float *row = ws_alloc((size_t)n * sizeof *row);
    ws_status st =
        row == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for a covariance") : WS_OK;
    uint64_t at = 0;
    bool finite = true;
    for (int64_t i = 0; st == WS_OK && i < n; i++) {
        const size_t len = (size_t)(n - i) * sizeof *row;
        st = ws_ckpt_read(c->file, t, at, len, row, err);
        at += len;
        for (int64_t j = i; st == WS_OK && j < n; j++) {
            const double x = scale * (double)row[j - i];
            finite &= isfinite(x) != 0;
            ((double *)C->data)[i * C->ld + j] = x;
        }
    }
    ws_free(row);
    if (st == WS_OK && !finite)
        st = ws_fail(err, WS_E_NOT_FINITE, "the covariance holds NaN or infinity");
    if (st != WS_OK)
        ws_err_at(err, ws_ckpt_path(c->file), t->name, -1);
    return st;
}
