/*
 * edit.c - names, metadata and sharding of a model changed; its data are not
 *
 * Which tensor stands under which name in which file follows from headers alone. A file
 * whose header stays is one whole copy; of any other the header is written and each run
 * of data copied to where it belongs. Data keep their order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "hf/shards.h"
#include "hf/substitute.h"
#include "surgery/edit_plan.h"
#include "wsurg/source.h"
#include "wsurg/text.h"
#include "wsurg/wsurg.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for an edit");
}

/* ---- the input ---- */

/** Only byte ranges of safetensors files can keep their data. */
static ws_status open_input(struct edit *e, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_status st = ws_source_open(&c, e->req->model, WS_FOLD_BASE, e->ctx, err);
    if (st != WS_OK)
        return ws_err_at(err, e->req->model, NULL, -1), st;
    e->model = c;
    const char *format = ws_ckpt_format(c);
    if (strncmp(format, "safetensors", 11) != 0 || ws_source_is_adapted(c)) {
        st = ws_fail(err, WS_E_UNSUPPORTED,
                     "headers are edited in safetensors only, this is %s",
                     ws_source_is_adapted(c) ? "an adapter on a base" : format);
        ws_err_hint(err, "first: wsurg convert MODEL -o OUT.safetensors");
    } else if (e->req->kind == WS_EDIT_RENAME && ws_ckpt_kind_of(c) != WS_KIND_MODEL) {
        st = ws_fail(err, WS_E_USAGE, "only models are renamed");
    }
    e->sharded = strcmp(format, "safetensors-sharded") == 0;
    return st == WS_OK ? st : (ws_err_at(err, e->req->model, NULL, -1), st);
}

/** Copies of the tensors, by the input's files and as they lie in them. */
static ws_status take_tensors(struct edit *e, ws_err *err)
{
    e->n = ws_ckpt_count(e->model);
    e->tensors = ws_arena_calloc(&e->r->arena, e->n + 1, sizeof *e->tensors);
    e->order = ws_arena_calloc(&e->r->arena, e->n + 1, sizeof(ws_tensor *));
    e->changed =
        ws_arena_calloc(&e->r->arena, ws_ckpt_file_count(e->model) + 1, sizeof(bool));
    if (e->tensors == NULL || e->order == NULL || e->changed == NULL)
        return no_memory(err);
    for (size_t i = 0; i < e->n; i++)
        e->tensors[i] = *ws_ckpt_tensor(e->model, i);
    e->r->tensors = e->n;
    return WS_OK;
}

/* ---- names ---- */

/** One expression on all names; it must hit one. */
static ws_status rename_all(struct edit *e, const char *text, ws_err *err)
{
    ws_substitution *s = NULL;
    size_t hits = 0;
    ws_status st = ws_substitution_new(&s, text, err);
    for (size_t i = 0; st == WS_OK && i < e->n; i++) {
        const char *made = NULL;
        st = ws_substitution_apply(s, e->tensors[i].name, &made, &e->r->arena, err);
        hits += made != NULL;
        if (made != NULL)
            e->tensors[i].name = made;
    }
    ws_substitution_free(s);
    if (st == WS_OK && hits == 0) {
        char shown[160];
        ws_show(text, shown, sizeof shown);
        st = ws_fail(err, WS_E_USAGE, "'%s' hits no tensor", shown);
        ws_err_hint(err, "'wsurg inspect MODEL --tensors' lists the names");
    }
    return st;
}

static int by_name(const void *a, const void *b)
{
    const ws_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/** No two tensors may have one name. Uses .order as scratch. */
static ws_status names_check(struct edit *e, ws_err *err)
{
    char one[160], two[160];
    for (size_t i = 0; i < e->n; i++)
        e->order[i] = &e->tensors[i];
    qsort(e->order, e->n, sizeof *e->order, by_name);
    for (size_t i = 1; i < e->n; i++) {
        if (strcmp(e->order[i - 1]->name, e->order[i]->name) != 0)
            continue;
        const size_t a = (size_t)(e->order[i - 1] - e->tensors);
        const size_t b = (size_t)(e->order[i] - e->tensors);
        ws_show(ws_ckpt_tensor(e->model, a < b ? a : b)->name, one, sizeof one);
        ws_show(ws_ckpt_tensor(e->model, a < b ? b : a)->name, two, sizeof two);
        ws_fail(err, WS_E_USAGE, "'%s' and '%s' get the same name", one, two);
        return ws_err_at(err, NULL, e->order[i]->name, -1), WS_E_USAGE;
    }
    return WS_OK;
}

static ws_status rename_tensors(struct edit *e, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t k = 0; st == WS_OK && k < e->req->n; k++)
        st = rename_all(e, e->req->expressions[k], err);
    if (st == WS_OK)
        st = names_check(e, err);
    for (size_t i = 0; st == WS_OK && i < e->n; i++) {
        const ws_tensor *was = ws_ckpt_tensor(e->model, i);
        if (strcmp(e->tensors[i].name, was->name) == 0)
            continue;
        e->r->renamed++;
        e->changed[was->file] = true;
    }
    return st;
}

/* ---- files ---- */

/** A file of the output for the input's file @p from. */
static struct edit_file *file_new(struct edit *e, uint32_t from)
{
    struct edit_file *f = &e->files[e->n_files++];
    f->from = from;
    f->first = e->n_order;
    return f;
}

/** Tensors first .. first+n-1 of the input's file @p from, cut at the limit. */
static ws_status split_file(struct edit *e, uint32_t from, size_t first, size_t n,
                            ws_err *err)
{
    uint64_t *sizes = ws_calloc(n + 1, sizeof *sizes);
    uint32_t *shard = ws_calloc(n + 1, sizeof *shard);
    const uint64_t limit =
        e->req->kind == WS_EDIT_SPLIT ? e->req->shard_size : UINT64_MAX;
    size_t count = 0;
    for (size_t i = 0; sizes != NULL && i < n; i++)
        sizes[i] = e->tensors[first + i].n_bytes;
    if (sizes != NULL && shard != NULL)
        count = ws_shard_assign(sizes, n, limit, shard);
    for (size_t k = 0; k < count; k++) {
        struct edit_file *f = file_new(e, from);
        f->whole = count == 1 && !e->changed[from];
        for (size_t i = 0; i < n; i++)
            if (shard[i] == k)
                e->order[e->n_order++] = &e->tensors[first + i];
        f->n = e->n_order - f->first;
    }
    ws_free(sizes);
    ws_free(shard);
    return count > 0 ? WS_OK : no_memory(err);
}

static ws_status lay_out(struct edit *e, ws_err *err)
{
    const size_t inputs = ws_ckpt_file_count(e->model);
    ws_status st = WS_OK;
    // a file holds a tensor at least, but an empty model's
    e->files = ws_arena_calloc(&e->r->arena, e->n + inputs + 1, sizeof *e->files);
    if (e->files == NULL)
        return no_memory(err);
    for (size_t k = 0, i = 0; st == WS_OK && k < inputs; k++) {
        const size_t first = i;
        while (i < e->n && e->tensors[i].file == k)
            i++;
        st = split_file(e, (uint32_t)k, first, i - first, err);
    }
    e->index = e->req->kind == WS_EDIT_SPLIT ? e->n_files > 1 : e->sharded;
    if (st == WS_OK && !e->is_dir && (e->index || e->n_files > 1)) {
        st = ws_fail(err, WS_E_USAGE, "%zu files of weights need a directory",
                     e->n_files);
        ws_err_hint(err, "-o OUT/");
    }
    return st;
}

/** What the files are called: as the input's, or by their numbers. */
static ws_status name_files(struct edit *e, ws_err *err)
{
    enum { SIZE = 64 };
    for (size_t k = 0; k < e->n_files; k++) {
        struct edit_file *f = &e->files[k];
        char *text = ws_arena_alloc(&e->r->arena, SIZE);
        if (text == NULL)
            return no_memory(err);
        if (e->index)
            snprintf(text, SIZE, "model-%05zu-of-%05zu.safetensors", k + 1, e->n_files);
        else
            snprintf(text, SIZE, "%s", e->is_dir ? "model.safetensors" : "");
        f->name = text;
        if (e->index && e->req->kind != WS_EDIT_SPLIT)
            f->name = ws_ckpt_file_at(e->model, f->from)->name;
    }
    return WS_OK;
}

/* ---- metadata ---- */

static bool in_list(const char *const *list, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0)
            return true;
    return false;
}

/** Where it came from; what it is (wsurg.kind and the like) is kept always. */
static bool is_provenance(const char *key)
{
    static const char *const keys[] = { "wsurg.content", "wsurg.inputs", "wsurg.recipe",
                                        "wsurg.version" };
    return in_list(keys, sizeof keys / sizeof *keys, key);
}

static void meta_put(struct edit *e, const char *key, const char *value)
{
    size_t i = 0;
    while (i < e->n_meta && strcmp(e->meta[i].key, key) != 0)
        i++;
    e->meta[i] = (ws_meta){ key, value };
    e->n_meta += i == e->n_meta;
}

/** "KEY=VALUE" into the metadata. */
static ws_status meta_set(struct edit *e, const char *text, ws_err *err)
{
    const char *eq = strchr(text, '=');
    char *key = eq == NULL ? NULL : ws_arena_strdup(&e->r->arena, text);
    if (eq == NULL || eq == text)
        return ws_fail(err, WS_E_USAGE, "'%s' is no KEY=VALUE", text);
    if (key == NULL)
        return no_memory(err);
    key[eq - text] = '\0';
    if (!ws_utf8_valid(text, strlen(text)))
        return ws_fail(err, WS_E_USAGE, "metadata must be UTF-8 text");
    if (strncmp(key, "wsurg.", 6) == 0) {
        ws_fail(err, WS_E_USAGE, "'%s' is for what has run, and is not set by hand",
                key);
        return WS_E_USAGE;
    }
    if (strcmp(key, "total_size") == 0)
        return ws_fail(err, WS_E_USAGE, "'total_size' is counted, not set");
    meta_put(e, key, eq + 1);
    return WS_OK;
}

/** Keys to be taken away must be there. */
static ws_status rm_check(const struct edit *e, ws_err *err)
{
    for (size_t i = 0; i < e->req->n_rm; i++) {
        char shown[160];
        if (ws_ckpt_meta(e->model, e->req->rm[i]) != NULL)
            continue;
        ws_show(e->req->rm[i], shown, sizeof shown);
        ws_fail(err, WS_E_USAGE, "metadata has no key '%s'", shown);
        ws_err_hint(err, "'wsurg meta get MODEL' lists what is there");
        return WS_E_USAGE;
    }
    return WS_OK;
}

/** A renamed model says how it was. */
static ws_status meta_rename(struct edit *e, ws_err *err)
{
    ws_buf b = { 0 };
    ws_buf_puts(&b, "{\"schema\":\"wsurg-recipe/1\",\"command\":\"rename\","
                    "\"expressions\":[");
    for (size_t i = 0; i < e->req->n; i++) {
        ws_buf_puts(&b, i == 0 ? "" : ",");
        ws_buf_json_string(&b, e->req->expressions[i], strlen(e->req->expressions[i]));
    }
    ws_buf_puts(&b, "]}");
    char *text = b.failed ? NULL : ws_arena_strdup(&e->r->arena, b.p);
    ws_buf_free(&b);
    if (text == NULL)
        return no_memory(err);
    meta_put(e, "wsurg.recipe", text);
    meta_put(e, "wsurg.version", ws_version());
    return WS_OK;
}

static ws_status make_meta(struct edit *e, ws_err *err)
{
    const ws_edit_req *r = e->req;
    const size_t n = ws_ckpt_meta_count(e->model);
    const bool drop = !r->write.provenance || r->kind == WS_EDIT_RENAME;
    ws_status st = rm_check(e, err);
    e->meta = ws_arena_calloc(&e->r->arena, n + r->n_set + 4, sizeof *e->meta);
    if (st == WS_OK && e->meta == NULL)
        st = no_memory(err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        const char *key, *value;
        ws_ckpt_meta_at(e->model, i, &key, &value);
        if (in_list(r->rm, r->n_rm, key) || (drop && is_provenance(key)) ||
            strcmp(key, "total_size") == 0)
            continue;
        meta_put(e, key, value);
    }
    for (size_t i = 0; st == WS_OK && i < r->n_set; i++)
        st = meta_set(e, r->set[i], err);
    if (st == WS_OK && r->kind == WS_EDIT_RENAME && r->write.provenance)
        st = meta_rename(e, err);
    return st;
}

/** Whether the metadata are those of the input. */
static bool meta_same(const struct edit *e)
{
    if (e->n_meta != ws_ckpt_meta_count(e->model))
        return false;
    for (size_t i = 0; i < e->n_meta; i++) {
        const char *was = ws_ckpt_meta(e->model, e->meta[i].key);
        if (was == NULL || strcmp(was, e->meta[i].value) != 0)
            return false;
    }
    return true;
}

/* ---- headers ---- */

/** The header of one shard, with the metadata of its own, or the format alone. */
static ws_status shard_header(struct edit *e, struct edit_file *f, ws_err *err)
{
    static const ws_meta plain = { "format", "pt" };
    const char *path = ws_ckpt_file_at(e->model, f->from)->path;
    ws_ckpt *own = NULL;
    const ws_meta *meta = &plain;
    ws_meta *list = NULL;
    size_t n = 1;
    ws_status st = WS_OK;
    if (e->sharded) {
        st = ws_ckpt_open(&own, path, NULL, err);
        n = st == WS_OK ? ws_ckpt_meta_count(own) : 0;
        meta = list = ws_calloc(n + 1, sizeof *list);
        if (st == WS_OK && list == NULL)
            st = no_memory(err);
        for (size_t i = 0; st == WS_OK && i < n; i++)
            ws_ckpt_meta_at(own, i, &list[i].key, &list[i].value);
    } else if (ws_ckpt_meta(e->model, "format") != NULL) {
        n = 0;
        while (n < e->n_meta && strcmp(e->meta[n].key, "format") != 0)
            n++;
        meta = n < e->n_meta ? &e->meta[n] : &plain;
        n = 1;
    }
    if (st == WS_OK)
        st = ws_st_header(&f->head, &f->head_len, e->order + f->first, f->n, meta, n,
                          err);
    ws_free(list);
    ws_ckpt_free(own);
    return st;
}

static ws_status make_headers(struct edit *e, ws_err *err)
{
    ws_status st = WS_OK;
    if (!e->index && e->n_files == 1 && (e->sharded || !meta_same(e)))
        e->files[0].whole = false;
    for (size_t k = 0; st == WS_OK && k < e->n_files; k++) {
        struct edit_file *f = &e->files[k];
        if (f->whole) {
            f->bytes = ws_ckpt_file_at(e->model, f->from)->bytes;
            e->r->untouched++;
            continue;
        }
        st = e->index ? shard_header(e, f, err)
                      : ws_st_header(&f->head, &f->head_len, e->order + f->first, f->n,
                                     e->meta, e->n_meta, err);
        f->bytes = f->head_len;
        for (size_t i = 0; i < f->n; i++)
            f->bytes += e->order[f->first + i]->n_bytes;
    }
    return st;
}

static ws_status run(struct edit *e, ws_err *err)
{
    ws_status st = open_input(e, err);
    if (st == WS_OK)
        st = take_tensors(e, err);
    if (st == WS_OK && e->req->kind == WS_EDIT_RENAME)
        st = rename_tensors(e, err);
    if (st == WS_OK)
        st = make_meta(e, err);
    if (st == WS_OK)
        st = lay_out(e, err);
    if (st == WS_OK)
        st = name_files(e, err);
    if (st == WS_OK)
        st = make_headers(e, err);
    return st == WS_OK ? ws_edit_write(e, err)
                       : ws_err_at(err, e->req->model, NULL, -1);
}

/** OUT is one file by its ending (CLI.md). */
static bool is_file_name(const char *out)
{
    const size_t n = strlen(out);
    return (n > 12 && strcmp(out + n - 12, ".safetensors") == 0) ||
           (n > 3 && strcmp(out + n - 3, ".st") == 0);
}

ws_status ws_edit(ws_edit_result **out, const ws_edit_req *req, const ws_ctx *ctx,
                  ws_err *err)
{
    struct edit e = { .req = req, .ctx = ctx };
    const double start = ws_os_now();
    e.is_dir = !is_file_name(req->write.out);
    e.r = ws_calloc(1, sizeof *e.r);
    if (e.r == NULL)
        return no_memory(err);
    const ws_status st = run(&e, err);
    if (e.stage != NULL)
        ws_stage_close(e.stage, st == WS_E_INTERRUPTED);
    e.r->usage.seconds = ws_os_now() - start;
    e.r->usage.threads = e.pool == NULL ? 1 : ws_pool_size(e.pool);
    e.r->usage.peak_resident = e.r->usage.peak_memory = ws_os_memory_peak();
    ws_pool_free(e.pool);
    for (size_t k = 0; k < e.n_files; k++)
        ws_free(e.files[k].head);
    ws_ckpt_free(e.model);
    if (st == WS_OK)
        *out = e.r;
    else
        ws_edit_result_free(e.r);
    return st;
}

void ws_edit_result_free(ws_edit_result *r)
{
    if (r == NULL)
        return;
    ws_arena_free(&r->arena);
    ws_free(r);
}
