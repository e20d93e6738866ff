/*
 * taskvec_extract.c - what a fine-tune changed, into a file
 */
#include "wsurg/taskvec.h"

#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "surgery/taskvec_pair.h"
#include "surgery/taskvec_sparsify.h"
#include "surgery/taskvec_write.h"

enum { HEADER_MOST = 100000008 };

void ws_taskvec_result_free(ws_taskvec_result *r)
{
    if (r == NULL)
        return;
    ws_result_free(r->run);
    ws_free(r);
}

/** Append the header of file @p file to the @p len bytes at *out. */
static ws_status read_header(const ws_ckpt *model, uint32_t file, uint8_t **out,
                             size_t *len, ws_err *err)
{
    uint8_t word[8];
    uint64_t n = 0;
    ws_status st = ws_ckpt_file_read(model, file, 0, sizeof word, word, err);
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)word[i] << (8 * i);
    if (st != WS_OK)
        return st;
    if (n > HEADER_MOST - 8) // the reader has refused it
        return ws_fail(err, WS_E_INTERNAL, "header of %llu bytes",
                       (unsigned long long)n);
    uint8_t *grown = ws_realloc(*out, *len + (size_t)n + 8);
    if (grown == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a header");
    *out = grown;
    st = ws_ckpt_file_read(model, file, 0, (size_t)n + 8, grown + *len, err);
    *len += (size_t)n + 8;
    return st;
}

/** The headers of the model's files, as they are, and the files' names where they are
 * several. */
static ws_status read_headers(const ws_ckpt *model, ws_arena *arena, uint8_t **out,
                              ws_tv_facts *f, ws_err *err)
{
    const size_t n = ws_ckpt_file_count(model);
    const char **files = ws_arena_calloc(arena, n + 1, sizeof *files);
    ws_status st =
        files == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for a header") : WS_OK;
    *out = NULL;
    f->header_len = 0;
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        files[i] = ws_ckpt_file_at(model, i)->name;
        st = read_header(model, (uint32_t)i, out, &f->header_len, err);
    }
    f->files = files;
    f->n_files = n > 1 ? n : 0;
    return st;
}

/** The model's own metadata, without copying. */
static ws_status read_meta(const ws_ckpt *model, ws_arena *arena, ws_tv_facts *f,
                           ws_err *err)
{
    const size_t n = ws_ckpt_meta_count(model);
    ws_meta *meta = ws_arena_calloc(arena, n + 1, sizeof *meta);
    if (meta == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for metadata");
    for (size_t i = 0; i < n; i++)
        ws_ckpt_meta_at(model, i, &meta[i].key, &meta[i].value);
    f->meta = meta;
    f->n_meta = n;
    f->has_meta = n > 0;
    return WS_OK;
}

static void recipe_make(ws_buf *b, const ws_ckpt *base, const ws_ckpt *model,
                        const char *sparsified)
{
    ws_buf_puts(b, "{\"schema\":\"wsurg-recipe/1\",\"command\":\"taskvec extract\","
                   "\"base\":");
    ws_buf_json_string(b, ws_ckpt_label(base), strlen(ws_ckpt_label(base)));
    ws_buf_puts(b, ",\"model\":");
    ws_buf_json_string(b, ws_ckpt_label(model), strlen(ws_ckpt_label(model)));
    ws_buf_puts(b, ",\"sparsified\":");
    if (sparsified == NULL)
        ws_buf_puts(b, "null");
    else
        ws_buf_json_string(b, sparsified, strlen(sparsified));
    ws_buf_putc(b, '}');
}

/** Encode and write; the pair's counts are of what @p maker makes. */
static ws_status write_vector(const ws_taskvec_extract_req *req, ws_tv_pair *pair,
                              const ws_tv_maker *maker, const char *sparsified,
                              const ws_ctx *ctx, ws_taskvec_result *r, ws_err *err)
{
    const ws_ckpt *const sources[] = { pair->base, pair->model };
    ws_tv_facts facts = { .base = pair->base_digest,
                          .model = pair->model_digest,
                          .exact = sparsified == NULL,
                          .sparsified = sparsified,
                          .removed = pair->removed,
                          .n_removed = pair->n_removed,
                          .sources = sources,
                          .n_sources = 2 };
    ws_buf text = { 0 }, recipe = { 0 }, inputs = { 0 };
    ws_ckpt *encoded = NULL;
    uint8_t *header = NULL;
    ws_status st = read_meta(pair->model, &pair->arena, &facts, err);
    if (st == WS_OK && facts.exact)
        st = read_headers(pair->model, &pair->arena, &header, &facts, err);
    facts.header = header;
    if (st == WS_OK)
        st = ws_tv_encode(&encoded, req->model, pair->plans, pair->n, maker, &facts,
                          &text, &r->counts, err);
    recipe_make(&recipe, pair->base, pair->model, sparsified);
    ws_tv_input_add(&inputs, "base", ws_ckpt_label(pair->base), pair->base_digest);
    ws_tv_input_add(&inputs, "model", ws_ckpt_label(pair->model), pair->model_digest);
    ws_buf_putc(&inputs, ']');
    if (st == WS_OK && (recipe.failed || inputs.failed)) {
        st = ws_fail(err, WS_E_MEMORY, "no memory for provenance");
        ws_ckpt_free(encoded);
    }
    if (st == WS_OK) {
        const ws_meta meta[] = { { "wsurg.kind", "taskvec" },
                                 { "wsurg.taskvec", text.p } };
        const char *const paths[] = { req->base };
        const ws_plan_given given = { .inputs = &encoded,
                                      .n = 1,
                                      .recipe = recipe.p,
                                      .provenance = inputs.p,
                                      .paths = paths,
                                      .n_paths = 1,
                                      .meta = meta,
                                      .n_meta = 2 };
        ws_write_opts w = req->write;
        w.dtype_keep = true;
        w.keep_metadata = false;
        st = ws_tv_copy(&w, &given, sizeof(ws_tv_made), pair->arena.total, ctx, &r->run,
                        err);
    }
    r->exact = facts.exact;
    ws_buf_free(&text);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    ws_free(header);
    return st;
}

/** Through a merge method first. */
static ws_status write_sparsified(const ws_taskvec_extract_req *req, ws_tv_pair *pair,
                                  const ws_ctx *ctx, ws_taskvec_result *r, ws_err *err)
{
    ws_tv_sparse sparse = { 0 };
    ws_status st = ws_tv_sparsify(&sparse, req, pair, ctx, err);
    if (st == WS_OK) {
        const ws_tv_maker maker = { &sparse, ws_tv_sparse_make };
        st = write_vector(req, pair, &maker, sparse.description, ctx, r, err);
    }
    ws_tv_sparse_free(&sparse);
    return st;
}

ws_status ws_taskvec_extract(ws_taskvec_result **out, const ws_taskvec_extract_req *req,
                             const ws_ctx *ctx, ws_err *err)
{
    ws_ckpt *base = NULL, *model = NULL;
    ws_tv_pair pair = { 0 };
    ws_taskvec_result *r = ws_calloc(1, sizeof *r);
    ws_status st =
        r == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the result") : WS_OK;
    if (st == WS_OK && req->method != NULL)
        st = ws_tv_check_method(req, err);
    if (st == WS_OK)
        st = ws_tv_check_out(&req->write, err);
    if (st == WS_OK)
        ws_tv_sparse_sweep(req->write.out);
    if (st == WS_OK)
        st = ws_tv_open_model(&base, req->base, ctx, err);
    if (st == WS_OK)
        st = ws_tv_open_model(&model, req->model, ctx, err);
    if (st == WS_OK)
        st = ws_tv_pair_scan(&pair, base, model, ctx, err);
    if (st == WS_OK && req->method != NULL) {
        st = write_sparsified(req, &pair, ctx, r, err);
    } else if (st == WS_OK) {
        const ws_tv_maker maker = { &pair, ws_tv_pair_make };
        st = write_vector(req, &pair, &maker, NULL, ctx, r, err);
    }
    ws_tv_pair_free(&pair);
    ws_ckpt_free(base);
    ws_ckpt_free(model);
    if (st == WS_OK)
        *out = r;
    else
        ws_taskvec_result_free(r);
    return st;
}
