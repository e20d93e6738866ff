/*
 * taskvec_apply.c - task vectors onto their base: a model
 */
#include "wsurg/digest.h"
#include "wsurg/taskvec.h"

#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "hf/taskvec_source.h"
#include "surgery/taskvec_set.h"
#include "surgery/taskvec_write.h"

static ws_dtype dtype_of(void *source, const ws_tensor *t)
{
    return ws_taskvec_dtype(source, t);
}

/** The base must be the one that the vectors were made from; *same says whether. */
static ws_status check_base(const ws_tv_set *set, const ws_ckpt *base,
                            const char *digest, bool force, bool *same,
                            const ws_ctx *ctx, ws_err *err)
{
    size_t k = 0;
    while (k < set->n && strcmp(set->vectors[k]->base, digest) == 0)
        k++;
    *same = k == set->n;
    if (*same)
        return WS_OK;
    const char *path = ws_ckpt_path(set->vectors[k]->file);
    if (force) {
        ws_err *w =
            ws_diag_report(ctx == NULL ? NULL : ctx->warnings, WS_OK, "another-base",
                           "the task vector was made from another base than "
                           "'%s'",
                           ws_ckpt_path(base));
        if (w != NULL)
            ws_err_at(w, path, NULL, -1);
        return WS_OK;
    }
    ws_fail(err, WS_E_ANCESTRY,
            "the task vector was made from another base than '%s': contents %s, not %s",
            ws_ckpt_path(base), set->vectors[k]->base, digest);
    ws_err_at(err, path, NULL, -1);
    ws_err_hint(err, "--force-base applies it all the same");
    return WS_E_ANCESTRY;
}

/** The headers of the model's files, where they can be restored as they were: of one
 * file only without provenance, which has its place there; of shards when no other
 * --shard-size is asked for. */
static ws_status restore_header(const ws_taskvec_apply_req *req, bool exact,
                                const ws_taskvec *tv, uint8_t **out, uint64_t *len,
                                ws_err *err)
{
    const ws_write_opts *w = &req->write;
    const ws_tensor *t = ws_ckpt_find(tv->file, WS_TV_HEADER);
    const bool sharded = tv->n_files > 0;
    *out = NULL;
    *len = 0;
    if (!exact || t == NULL || t->n_bytes == 0 ||
        (sharded ? !w->shard_like_base : w->provenance))
        return WS_OK;
    *out = ws_alloc((size_t)t->n_bytes);
    *len = t->n_bytes;
    if (*out == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a header");
    return ws_ckpt_read(tv->file, t, 0, (size_t)t->n_bytes, *out, err);
}

static void recipe_make(ws_buf *b, const ws_ckpt *base, const ws_tv_set *set,
                        double scale)
{
    ws_buf_puts(b, "{\"schema\":\"wsurg-recipe/1\",\"command\":\"taskvec apply\","
                   "\"base\":");
    ws_buf_json_string(b, ws_ckpt_label(base), strlen(ws_ckpt_label(base)));
    ws_buf_puts(b, ",\"vectors\":[");
    for (size_t k = 0; k < set->n; k++) {
        const char *label = ws_ckpt_label(set->vectors[k]->file);
        ws_buf_puts(b, k == 0 ? "{\"label\":" : ",{\"label\":");
        ws_buf_json_string(b, label, strlen(label));
        ws_buf_printf(b, ",\"content\":\"%s\"}", set->digests[k]);
    }
    ws_buf_printf(b, "],\"scale\":%.17g}", scale);
}

static void count(ws_taskvec_result *r, const ws_ckpt *source, const ws_ckpt *base,
                  const ws_tv_set *set)
{
    for (size_t i = 0; i < ws_ckpt_count(source); i++) {
        const char *name = ws_ckpt_tensor(source, i)->name;
        bool updated = false, whole = false;
        for (size_t k = 0; k < set->n; k++) {
            const ws_tv_tensor *t = ws_taskvec_find(set->vectors[k], name);
            updated |= t != NULL && t->kind == WS_TV_KIND_UPDATE;
            whole |= t != NULL && t->kind == WS_TV_KIND_WHOLE;
        }
        r->updated += updated;
        r->whole += whole;
        r->kept += !updated && !whole;
    }
    for (size_t i = 0; i < ws_ckpt_count(base); i++)
        r->removed += ws_ckpt_find(source, ws_ckpt_tensor(base, i)->name) == NULL;
}

/** Write the source, which is freed, as is the header given. */
static ws_status write_model(const ws_taskvec_apply_req *req, ws_ckpt *source,
                             const ws_ckpt *base, const char *digest,
                             const ws_tv_set *set, const ws_ctx *ctx,
                             ws_taskvec_result *r, ws_err *err)
{
    ws_buf recipe = { 0 }, inputs = { 0 };
    uint8_t *header = NULL;
    uint64_t header_len = 0;
    recipe_make(&recipe, base, set, req->scale);
    ws_tv_input_add(&inputs, "base", ws_ckpt_label(base), digest);
    for (size_t k = 0; k < set->n; k++)
        ws_tv_input_add(&inputs, "taskvec", ws_ckpt_label(set->vectors[k]->file),
                        set->digests[k]);
    ws_buf_putc(&inputs, ']');
    ws_status st =
        recipe.failed || inputs.failed
            ? ws_fail(err, WS_E_MEMORY, "no memory for provenance")
            : restore_header(req, r->exact, set->vectors[0], &header, &header_len, err);
    const char *paths[WS_TV_SET_MOST + 1] = { req->base };
    for (size_t k = 0; k < req->n; k++)
        paths[k + 1] = req->vectors[k];
    const ws_taskvec *tv = set->vectors[0];
    const ws_plan_given given = { .inputs = &source,
                                  .n = 1,
                                  .recipe = recipe.p,
                                  .provenance = inputs.p,
                                  .paths = paths,
                                  .n_paths = req->n + 1,
                                  .dtype = dtype_of,
                                  .arg = source,
                                  .header = header,
                                  .header_len = header_len,
                                  .files = tv->files,
                                  .n_files = header == NULL ? 0 : tv->n_files };
    ws_write_opts w = req->write;
    w.keep_metadata = true;
    if (w.companions_from == NULL && ws_ckpt_is_dir(base))
        w.companions_from = ws_ckpt_home(base);
    const bool one =
        r->exact && tv->n_files == 0 && ws_ckpt_find(tv->file, WS_TV_HEADER) != NULL;
    if (w.shard_like_base && (one || ws_ckpt_file_count(base) <= 1)) {
        w.shard_like_base = false; // one file, whatever the vectors' are
        w.shard_size = UINT64_MAX;
    }
    if (st == WS_OK)
        st = ws_tv_copy(&w, &given, WS_TASKVEC_READ_BYTES, 0, ctx, &r->run, err);
    else
        ws_ckpt_free(source);
    if (st == WS_E_HEADER && header != NULL)
        ws_err_at(err, req->vectors[0], NULL, -1);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    ws_free(header);
    return st;
}

/** Everything after the vectors are open. */
static ws_status apply(const ws_taskvec_apply_req *req, const ws_ckpt *base,
                       ws_tv_set *set, const ws_ctx *ctx, ws_taskvec_result *r,
                       ws_err *err)
{
    char digest[48];
    bool same = false;
    ws_ckpt *source = NULL;
    ws_status st = ws_ckpt_digest_text(base, ctx, digest, err);
    if (st == WS_OK)
        st = check_base(set, base, digest, req->force_base, &same, ctx, err);
    if (st == WS_OK)
        st = ws_tv_set_digest(set, ctx, err);
    if (st == WS_OK)
        st = ws_taskvec_source(&source, base, set->vectors, set->n, req->scale, same,
                               err);
    if (st != WS_OK)
        return st;
    set->lent = true; // they are the source's now
    r->exact = same && set->n == 1 && req->scale == 1.0 && set->vectors[0]->exact &&
               req->write.dtype_keep;
    count(r, source, base, set);
    return write_model(req, source, base, digest, set, ctx, r, err);
}

ws_status ws_taskvec_apply(ws_taskvec_result **out, const ws_taskvec_apply_req *req,
                           const ws_ctx *ctx, ws_err *err)
{
    ws_ckpt *base = NULL;
    ws_tv_set set = { 0 };
    ws_taskvec_result *r = ws_calloc(1, sizeof *r);
    ws_status st =
        r == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the result") : WS_OK;
    if (st == WS_OK)
        st = ws_tv_open_model(&base, req->base, ctx, err);
    if (st == WS_OK)
        st = ws_tv_set_open(&set, req->vectors, req->n, ctx, err);
    if (st == WS_OK)
        st = apply(req, base, &set, ctx, r, err);
    ws_tv_set_free(&set);
    ws_ckpt_free(base);
    if (st == WS_OK)
        *out = r;
    else
        ws_taskvec_result_free(r);
    return st;
}
