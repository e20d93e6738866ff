/*
 * atlas_file.c - coefficients as a file of JSON, whole or not at all
 *
 *   {"schema": "wsurg-coefficients/1", "base": {"name", "digest"},
 *    "task_vectors": [{"name", "digest"}], "blocks": [names of tensors],
 *    "lambda": [[of each block] of each task vector]}
 *
 * Blocks in groups: "partitions" and "seed" stand before "base", and each entry of
 * lambda is a list of one number for each group.
 *
 * Numbers are those of float32, with the nine digits that give them back.
 */
#include <string.h>

#include "base/os.h"
#include "surgery/atlas_run.h"
#include "wsurg/text.h"

static void put_string(ws_buf *b, const char *s)
{
    ws_buf_json_string(b, s, strlen(s));
}

static void put_named(ws_buf *b, const char *name, const char *digest)
{
    ws_buf_puts(b, "{\"name\": ");
    put_string(b, name);
    ws_buf_printf(b, ", \"digest\": \"%s\"}", digest);
}

static void put_block(ws_buf *b, const ws_atlas_result *r, size_t k, size_t i)
{
    const double *x = r->lambda + (k * r->n_blocks + i) * r->partitions;
    for (uint32_t g = 0; g < r->partitions; g++)
        ws_buf_printf(b, "%s%.9g", g > 0 ? ", " : r->partitions > 1 ? "[" : "", x[g]);
    if (r->partitions > 1)
        ws_buf_puts(b, "]");
}

static void put_all(ws_buf *b, const ws_atlas *a, const ws_atlas_result *r)
{
    ws_buf_puts(b, "{\n\"schema\": \"wsurg-coefficients/1\",\n");
    if (r->partitions > 1)
        ws_buf_printf(b, "\"partitions\": %u,\n\"seed\": %llu,\n", r->partitions,
                      (unsigned long long)a->req->seed);
    ws_buf_puts(b, "\"base\": ");
    put_named(b, ws_model_info_of(a->model)->label, a->digests[0]);
    ws_buf_puts(b, ",\n\"task_vectors\": [\n");
    for (size_t k = 0; k < r->n_models; k++) {
        put_named(b, r->labels[k], a->digests[k + 1]);
        ws_buf_puts(b, k + 1 < r->n_models ? ",\n" : "\n],\n\"blocks\": [\n");
    }
    for (size_t i = 0; i < r->n_blocks; i++) {
        put_string(b, r->blocks[i]);
        ws_buf_puts(b, i + 1 < r->n_blocks ? ",\n" : "\n],\n\"lambda\": [\n");
    }
    for (size_t k = 0; k < r->n_models; k++) {
        for (size_t i = 0; i < r->n_blocks; i++) {
            ws_buf_puts(b, i == 0 ? "[" : ", ");
            put_block(b, r, k, i);
        }
        ws_buf_puts(b, k + 1 < r->n_models ? "],\n" : "]\n]\n}\n");
    }
}

ws_status ws_atlas_put(const char *path, const ws_buf *text, bool force, ws_err *err)
{
    return text->failed ? ws_fail(err, WS_E_MEMORY, "no memory for the coefficients")
                        : ws_os_put_file(path, text->p, text->n, force, err);
}

ws_status ws_atlas_write(const ws_atlas *a, const ws_atlas_result *r, ws_err *err)
{
    const ws_atlas_req *q = a->req;
    ws_buf text = { 0 }, picture = { 0 };
    ws_status st = WS_OK;
    put_all(&text, a, r);
    if (q->svg != NULL) {
        ws_atlas_svg(r, &picture);
        st = ws_atlas_put(q->svg, &picture, q->force, err);
    }
    if (st == WS_OK)
        st = ws_atlas_put(q->out, &text, q->force, err);
    ws_buf_free(&text);
    ws_buf_free(&picture);
    return st;
}
