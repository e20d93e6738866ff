/*
 * source.c - MODEL as the command line means it: a path, MODEL+ADAPTER, or what
 * decompose wrote
 */
#include "wsurg/source.h"

#include <string.h>
#include <sys/stat.h>

#include "ckpt/ckpt_internal.h"
#include "hf/hub.h"
#include "hf/quantized.h"
#include "wsurg/text.h"

static bool exists(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0;
}

/** A path that is there, or a name that the hub's cache has. */
static bool found(const char *name)
{
    char *dir = NULL;
    const bool there =
        exists(name) || (ws_hub_find(&dir, name, NULL) == WS_OK && dir != NULL);
    ws_free(dir);
    return there;
}

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a path");
}

enum { ADAPTERS_MOST = 64 };

/** @p base (taken) with the adapters at @p paths on it. */
static ws_status put_on(ws_ckpt **out, ws_ckpt *base, const char *const *paths,
                        size_t n, ws_fold_dtype dtype, const ws_ctx *ctx, ws_err *err)
{
    ws_fold_opts o = WS_FOLD_OPTS_INIT;
    ws_adapter *a[ADAPTERS_MOST] = { NULL };
    ws_status st = WS_OK;
    o.dtype = dtype;
    for (size_t i = 0; i < n && st == WS_OK; i++)
        st = ws_adapter_open(&a[i], paths[i], ctx == NULL ? NULL : ctx->warnings, err);
    if (st == WS_OK)
        st = ws_adapter_source(out, base, a, n, &o, ctx, err);
    if (st != WS_OK) {
        for (size_t i = 0; i < n; i++)
            ws_adapter_free(a[i]);
        ws_ckpt_free(base);
    }
    return st;
}

/**
 * Cut BASE+A+B at its plus signs, from the end, as far as an adapter stands behind each
 * and until what is before them is there or in the hub's cache. Writes NULs into
 * @p text.
 * @return number of adapters, in order in @p paths; 0 when it is no such thing
 */
static size_t cut(char *text, const char *paths[ADAPTERS_MOST])
{
    size_t n = 0;
    while (n < ADAPTERS_MOST) {
        char *plus = NULL;
        for (char *p = text + strlen(text); p > text && plus == NULL; p--)
            if (*p == '+' && found(p + 1))
                plus = p;
        if (plus == NULL)
            return 0;
        *plus = '\0';
        memmove(paths + 1, paths, n * sizeof *paths);
        paths[0] = plus + 1;
        n++;
        if (found(text))
            return n;
    }
    return 0;
}

/** BASE+ADAPTER...; *is_one is false when @p path is none. */
static ws_status sum_open(ws_ckpt **out, const char *path, bool *is_one,
                          ws_fold_dtype dtype, const ws_ctx *ctx, ws_err *err)
{
    const char *paths[ADAPTERS_MOST] = { NULL };
    ws_ckpt *base = NULL;
    char *text = ws_strdup(path);
    if (text == NULL)
        return no_memory(err);
    const size_t n = cut(text, paths);
    ws_status st = WS_OK;
    *is_one = n > 0;
    if (n > 0)
        st = ws_source_open(&base, text, dtype, ctx, err);
    if (n > 0 && st == WS_OK)
        st = put_on(out, base, paths, n, dtype, ctx, err);
    ws_free(text);
    return st;
}

ws_status ws_source_adapt(ws_ckpt **out, ws_ckpt *base, const char *adapters,
                          ws_fold_dtype dtype, const ws_ctx *ctx, ws_err *err)
{
    const char *paths[ADAPTERS_MOST] = { NULL };
    char *text = ws_strdup(adapters);
    if (text == NULL) {
        ws_ckpt_free(base);
        return no_memory(err);
    }
    size_t n = 0;
    while (n < ADAPTERS_MOST && text[0] != '\0') {
        char *plus = text + strlen(text) - 1;
        while (plus > text && (*plus != '+' || !exists(plus + 1)))
            plus--;
        memmove(paths + 1, paths, n * sizeof *paths);
        paths[0] = plus + 1;
        *plus = '\0';
        n++;
    }
    const ws_status st = put_on(out, base, paths, n, dtype, ctx, err);
    ws_free(text);
    return st;
}

/** A directory made by decompose; *is_one is false when @p path is none. */
static ws_status decomposed_open(ws_ckpt **out, const char *path, bool *is_one,
                                 ws_fold_dtype dtype, const ws_ctx *ctx, ws_err *err)
{
    char *residual = ws_path_join(path, "residual"),
         *adapter = ws_path_join(path, "adapter");
    const char *paths[] = { adapter };
    ws_ckpt *base = NULL;
    ws_status st = WS_OK;
    if (residual == NULL || adapter == NULL)
        st = no_memory(err);
    *is_one = st == WS_OK && exists(residual) && ws_adapter_is(adapter);
    if (*is_one)
        st = ws_ckpt_open(&base, residual, ctx == NULL ? NULL : ctx->warnings, err);
    if (*is_one && st == WS_OK)
        st = put_on(out, base, paths, 1, dtype, ctx, err);
    ws_free(residual);
    ws_free(adapter);
    return st;
}

/** Show @p c under the name it was asked for; @p dir (taken) is where it lies. */
static ws_status rename_as(ws_ckpt *c, const char *name, char *dir, ws_err *err)
{
    const char *slash = strrchr(name, '/');
    const char *at = strchr(name, '@');
    const char *stem = slash != NULL && (at == NULL || slash < at) ? slash + 1 : name;
    char *path = ws_strdup(name);
    char *label = ws_strndup(stem, at == NULL ? strlen(stem) : (size_t)(at - stem));
    ws_free(c->home);
    c->home = dir;
    if (path == NULL || label == NULL) {
        ws_free(path);
        ws_free(label);
        return no_memory(err);
    }
    ws_free(c->path);
    ws_free(c->label);
    c->path = path;
    c->label = label;
    return WS_OK;
}

/** A model of the hub's cache; *is_one is false when @p name is none. */
static ws_status hub_open(ws_ckpt **out, const char *name, bool *is_one,
                          const ws_ctx *ctx, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_err why = WS_ERR_INIT;
    char *dir = NULL;
    ws_status st = ws_hub_find(&dir, name, err);
    *is_one = st == WS_OK && dir != NULL;
    if (!*is_one)
        return st;
    st = ws_ckpt_open(&c, dir, ctx == NULL ? NULL : ctx->warnings, &why);
    if (st == WS_OK)
        st = rename_as(c, name, dir, &why);
    else
        ws_free(dir);
    if (st == WS_OK) {
        *out = c;
        return WS_OK;
    }
    ws_ckpt_free(c);
    if (err != NULL)
        *err = why;
    return st;
}

bool ws_source_is_adapter(const char *dir)
{
    static const char *const models[] = { "model.safetensors",
                                          "model.safetensors.index.json",
                                          "pytorch_model.bin",
                                          "pytorch_model.bin.index.json" };
    bool alone = ws_adapter_is(dir);
    for (size_t i = 0; i < sizeof models / sizeof *models && alone; i++) {
        char *path = ws_path_join(dir, models[i]);
        alone = path != NULL && !exists(path);
        ws_free(path);
    }
    return alone;
}

/** An adapter's weights as they are: to be looked at and compared, not a model. */
static ws_status adapter_open(ws_ckpt **out, const char *path, const ws_ctx *ctx,
                              ws_err *err)
{
    ws_adapter *a = NULL;
    const ws_status st =
        ws_adapter_open(&a, path, ctx == NULL ? NULL : ctx->warnings, err);
    if (st != WS_OK)
        return st;
    *out = a->file;
    (*out)->kind = WS_KIND_ADAPTER;
    a->file = NULL;
    ws_adapter_free(a);
    return WS_OK;
}

ws_status ws_source_refuse_kind(ws_ckpt_kind kind, ws_err *err)
{
    static const char *const words[] = { "a model", "a task vector", "a covariance",
                                         "a mask", "an adapter" };
    ws_fail(err, WS_E_USAGE, "%s cannot stand for a model here", words[kind]);
    if (kind == WS_KIND_ADAPTER)
        ws_err_hint(err, "BASE+ADAPTER, with its base, is one");
    return WS_E_USAGE;
}

static ws_status open_any(ws_ckpt **out, const char *path, ws_fold_dtype dtype,
                          const ws_ctx *ctx, ws_err *err)
{
    bool is_one = false;
    ws_status st = exists(path) ? decomposed_open(out, path, &is_one, dtype, ctx, err)
                                : sum_open(out, path, &is_one, dtype, ctx, err);
    if (st == WS_OK && !is_one && !exists(path))
        st = hub_open(out, path, &is_one, ctx, err);
    if (st != WS_OK || is_one)
        return st;
    if (ws_source_is_adapter(path))
        return adapter_open(out, path, ctx, err);
    return ws_ckpt_open(out, path, ctx == NULL ? NULL : ctx->warnings, err);
}

ws_status ws_source_open(ws_ckpt **out, const char *path, ws_fold_dtype dtype,
                         const ws_ctx *ctx, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_status st = open_any(&c, path, dtype, ctx, err);
    if (st == WS_OK && ctx != NULL && ctx->dequantise && !ws_source_is_adapted(c)) {
        st = ws_quant_numbers(out, c, err);
        if (st != WS_OK)
            ws_ckpt_free(c);
    } else if (st == WS_OK) {
        *out = c;
    }
    return st;
}
