/*
 * mask_file.c - masks as files
 */
#include "surgery/mask_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "ckpt/ckpt_internal.h"
#include "surgery/taskvec_write.h"

static const char *const scale_word[] = { "none", "tensor", "model" };

/* ---- reading ---- */

static ws_status describe(ws_mask *m, ws_err *err)
{
    const char *text = ws_ckpt_meta(m->file, WS_MASK_META);
    cJSON *tree = NULL;
    if (text == NULL)
        return WS_OK; // somebody else's, or without provenance
    ws_status st = ws_json_parse(&tree, text, strlen(text), err);
    if (st != WS_OK)
        return st;
    const char *schema =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "schema"));
    const char *scale =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "scale"));
    const char *made =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tree, "made_by"));
    int k = -1;
    for (int i = 0; scale != NULL && i < 3; i++)
        k = strcmp(scale, scale_word[i]) == 0 ? i : k;
    if (schema == NULL || strcmp(schema, WS_MASK_SCHEMA) != 0)
        st = ws_fail(err, WS_E_UNSUPPORTED, "'%s' has schema '%s', read here is '%s'",
                     WS_MASK_META, schema == NULL ? "" : schema, WS_MASK_SCHEMA);
    else if (k < 0 || made == NULL)
        st = ws_fail(err, WS_E_HEADER, "'%s' lacks a field, or one is not valid",
                     WS_MASK_META);
    if (st == WS_OK) {
        m->scale = (ws_mask_scale)k;
        snprintf(m->made_by, sizeof m->made_by, "%s", made);
    }
    cJSON_Delete(tree);
    return st;
}

static ws_status dtypes_check(const ws_mask *m, ws_err *err)
{
    const bool known = ws_ckpt_kind_of(m->file) == WS_KIND_MASK;
    for (size_t i = 0; i < ws_ckpt_count(m->file); i++) {
        const ws_tensor *t = ws_ckpt_tensor(m->file, i);
        if (t->dtype == WS_DT_BOOL || (known && t->dtype == WS_DT_F32))
            continue;
        if (!known) {
            ws_fail(err, WS_E_USAGE, "this is no mask: a tensor has dtype %s",
                    ws_dtype_info(t->dtype)->name);
            ws_err_hint(err, "wsurg mask lt-sft BASE TUNED makes one");
        } else {
            ws_fail(err, WS_E_DTYPE, "a mask of dtype %s, wanted BOOL or F32",
                    ws_dtype_info(t->dtype)->name);
        }
        return ws_err_at(err, NULL, t->name, -1);
    }
    return WS_OK;
}

ws_status ws_mask_open(ws_mask *out, const char *path, ws_diag *warnings, ws_err *err)
{
    *out = (ws_mask){ 0 };
    ws_status st = ws_ckpt_open(&out->file, path, warnings, err);
    if (st == WS_OK)
        st = dtypes_check(out, err);
    if (st == WS_OK)
        st = describe(out, err);
    if (st != WS_OK) {
        ws_err_at(err, path, NULL, -1);
        ws_mask_close(out);
    }
    return st;
}

void ws_mask_close(ws_mask *m)
{
    ws_ckpt_free(m->file);
    *m = (ws_mask){ 0 };
}

ws_status ws_mask_read(const ws_mask *m, const ws_tensor *t, uint64_t first, size_t n,
                       float *out, ws_err *err)
{
    uint8_t bytes[WS_MASK_PIECE];
    bool finite = true;
    if (t->dtype == WS_DT_BOOL) {
        const ws_status st = ws_ckpt_read(m->file, t, first, n, bytes, err);
        for (size_t i = 0; st == WS_OK && i < n; i++)
            out[i] = bytes[i] != 0 ? 1.0f : 0.0f;
        return st;
    }
    const ws_status st =
        ws_ckpt_read(m->file, t, first * sizeof *out, n * sizeof *out, out, err);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        finite = finite && isfinite(out[i]);
    if (st != WS_OK || finite)
        return st;
    ws_fail(err, WS_E_NOT_FINITE, "the mask holds NaN or infinity");
    return ws_err_at(err, ws_ckpt_path(m->file), t->name, -1);
}

ws_status ws_mask_sum(const ws_mask *m, const ws_tensor *t, double *sum, ws_err *err)
{
    float part[WS_MASK_PIECE];
    ws_status st = WS_OK;
    *sum = 0.0;
    for (uint64_t at = 0; st == WS_OK && at < t->n_elements; at += WS_MASK_PIECE) {
        const uint64_t left = t->n_elements - at;
        const size_t n = left < WS_MASK_PIECE ? (size_t)left : WS_MASK_PIECE;
        st = ws_mask_read(m, t, at, n, part, err);
        for (size_t i = 0; st == WS_OK && i < n; i++)
            *sum += (double)part[i];
    }
    return st;
}

uint64_t ws_mask_span(const ws_tensor *mask, const ws_tensor *t)
{
    if (mask->n_elements == t->n_elements)
        return 1;
    if (t->rank > 1 && mask->n_elements == t->shape[0] && t->n_elements > 0)
        return t->n_elements / t->shape[0];
    return mask->n_elements == 1 ? t->n_elements : 0;
}

/* ---- writing ---- */

static ws_status spec_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                           size_t len, void *dst, ws_err *err)
{
    const ws_mask_spec *s = c->self;
    const size_t size = t->dtype == WS_DT_BOOL ? 1 : sizeof(float);
    const size_t step = WS_MASK_PIECE * size;
    ws_status st = WS_OK;
    if (offset % size != 0 || len % size != 0)
        return ws_fail(err, WS_E_INTERNAL, "part of an entry of a mask was wanted");
    for (size_t at = 0; st == WS_OK && at < len; at += step) {
        const size_t n = len - at < step ? len - at : step;
        st = s->make(s->self, (size_t)t->offset, (offset + at) / size, n / size,
                     (char *)dst + at, err);
    }
    return st;
}

static const ws_ckpt_ops spec_ops = { .read = spec_read };

/** The mask as a checkpoint of computed tensors; @p s outlives it. */
static ws_status spec_open(ws_ckpt **out, const ws_mask_spec *s, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_mask_spec *self = (ws_mask_spec *)(uintptr_t)s; // only read
    ws_status st = ws_ckpt_new(&c, s->made_by, "mask", &spec_ops, self, err);
    for (size_t i = 0; st == WS_OK && i < s->n; i++) {
        ws_tensor t = s->tensors[i];
        t.file = WS_NO_FILE;
        t.offset = i;
        st = ws_tensor_measure(&t, err);
        if (st == WS_OK)
            st = ws_ckpt_add_tensor(c, &t, 0, err);
    }
    if (st == WS_OK)
        st = ws_ckpt_finish(c, err);
    if (st == WS_OK)
        *out = c;
    else
        ws_ckpt_free(c);
    return st;
}

ws_status ws_mask_write(const ws_mask_spec *spec, const ws_write_opts *w,
                        const ws_ctx *ctx, ws_result **out, ws_err *err)
{
    char text[160];
    ws_ckpt *source = NULL;
    snprintf(text, sizeof text,
             "{\"schema\":\"%s\",\"made_by\":\"%s\",\"scale\":\"%s\"}", WS_MASK_SCHEMA,
             spec->made_by, scale_word[spec->scale]);
    const ws_meta meta[] = { { "wsurg.kind", "mask" }, { WS_MASK_META, text } };
    const ws_plan_given given = { .inputs = &source,
                                  .n = 1,
                                  .recipe = spec->recipe,
                                  .provenance = spec->inputs,
                                  .paths = spec->paths,
                                  .n_paths = spec->n_paths,
                                  .meta = meta,
                                  .n_meta = 2 };
    ws_write_opts mine = *w;
    mine.dtype_keep = true;
    mine.keep_metadata = false;
    const ws_status st = spec_open(&source, spec, err);
    return st != WS_OK ? st
                       : ws_tv_copy(&mine, &given, WS_MASK_PIECE * 16, spec->held, ctx,
                                    out, err);
}

ws_status ws_mask_check_out(const ws_write_opts *w, ws_err *err)
{
    struct stat sb;
    const char *out = w->out, *dot = out == NULL ? NULL : strrchr(out, '.');
    if (dot == NULL || (strcmp(dot, ".safetensors") != 0 && strcmp(dot, ".st") != 0)) {
        ws_fail(err, WS_E_USAGE, "a mask is one file: OUT ends in .safetensors");
        return ws_err_at(err, out, NULL, -1);
    }
    if (w->force || w->resume || lstat(out, &sb) != 0)
        return WS_OK;
    ws_fail(err, WS_E_EXISTS, "output '%s' exists", out);
    ws_err_hint(err, "--force replaces it");
    return ws_err_at(err, out, NULL, -1);
}

void ws_mask_result_free(ws_mask_result *r)
{
    if (r == NULL)
        return;
    ws_result_free(r->run);
    ws_free(r);
}
