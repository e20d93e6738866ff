/*
 * edit_write.c - an edit as planned, staged, checked and shown
 */
#include <stdatomic.h>
#include <string.h>

#include "base/hash.h"
#include "ckpt/stage_manifest.h"
#include "hf/companions.h"
#include "hf/shards.h"
#include "surgery/edit_plan.h"
#include "wsurg/text.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for an edit");
}

/** Runs of data that lie together in input and output. */
static ws_status copy_data(struct edit *e, const struct edit_file *f, ws_err *err)
{
    const char *path = ws_ckpt_file_at(e->model, f->from)->path;
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < f->n;) {
        const ws_tensor *t = e->order[f->first + i];
        const uint64_t to = t->offset;
        const uint64_t from =
            ws_ckpt_tensor(e->model, (size_t)(t - e->tensors))->offset;
        uint64_t len = 0;
        for (; i < f->n; i++) {
            t = e->order[f->first + i];
            const ws_tensor *was = ws_ckpt_tensor(e->model, (size_t)(t - e->tensors));
            if (was->offset != from + len)
                break;
            len += t->n_bytes;
        }
        if (e->ctx != NULL && e->ctx->stop != NULL && atomic_load(e->ctx->stop) != 0)
            st = ws_fail(err, WS_E_INTERRUPTED, "interrupted");
        else if (len > 0)
            st = ws_stage_clone(e->stage, f->id, to, path, from, len, err);
    }
    return st;
}

static ws_status write_file(struct edit *e, struct edit_file *f, ws_err *err)
{
    const char *path = ws_ckpt_file_at(e->model, f->from)->path;
    ws_status st = ws_stage_file(e->stage, f->name, f->bytes, &f->id, err);
    if (st == WS_OK && f->whole)
        return ws_stage_clone(e->stage, f->id, 0, path, 0, f->bytes, err);
    if (st == WS_OK)
        st = ws_stage_write(e->stage, f->id, f->head, (size_t)f->head_len, 0, err);
    return st == WS_OK ? copy_data(e, f, err) : st;
}

static ws_status write_index(struct edit *e, ws_err *err)
{
    const char **names = ws_calloc(e->n + 1, sizeof *names);
    const char **files = ws_calloc(e->n + 1, sizeof *files);
    ws_buf b = { 0 };
    uint64_t total = 0;
    ws_status st = names == NULL || files == NULL ? no_memory(err) : WS_OK;
    for (size_t k = 0; st == WS_OK && k < e->n_files; k++)
        for (size_t i = e->files[k].first; i < e->files[k].first + e->files[k].n; i++) {
            names[i] = e->order[i]->name;
            files[i] = e->files[k].name;
            total += e->order[i]->n_bytes;
        }
    if (st == WS_OK)
        st = ws_index_write(&b, names, files, e->n, total, e->meta, e->n_meta, err);
    if (st == WS_OK)
        st = ws_stage_put(e->stage, "model.safetensors.index.json", b.p, b.n, err);
    ws_buf_free(&b);
    ws_free(names);
    ws_free(files);
    return st;
}

static ws_status open_stage(struct edit *e, ws_err *err)
{
    const ws_write_opts *w = &e->req->write;
    const char *home = ws_ckpt_home(e->model);
    ws_xxh_stream *x = ws_xxh_stream_new();
    char key[33];
    if (x == NULL)
        return no_memory(err);
    for (size_t k = 0; k < e->n_files; k++) {
        const ws_ckpt_file *f = ws_ckpt_file_at(e->model, e->files[k].from);
        const uint64_t facts[] = { f->bytes, f->dev, f->ino, (uint64_t)f->mtime_s,
                                   (uint64_t)f->mtime_ns };
        ws_xxh_stream_add(x, facts, sizeof facts);
        if (e->files[k].head != NULL)
            ws_xxh_stream_add(x, e->files[k].head, (size_t)e->files[k].head_len);
    }
    for (size_t i = 0; i < e->n_meta; i++) {
        ws_xxh_stream_add(x, e->meta[i].key, strlen(e->meta[i].key) + 1);
        ws_xxh_stream_add(x, e->meta[i].value, strlen(e->meta[i].value) + 1);
    }
    ws_xxh128_hex(ws_xxh_stream_end(x), key);
    ws_xxh_stream_free(x);
    const ws_stage_opts o = { .target = w->out,
                              .is_dir = e->is_dir,
                              .force = w->force,
                              .resume = w->resume,
                              .key = key,
                              .inputs = &home,
                              .n_inputs = 1,
                              .manifest = w->manifest };
    return ws_stage_open(&e->stage, &o, e->ctx == NULL ? NULL : e->ctx->warnings, err);
}

/** What was staged opens, and has the tensors that it should have. */
static ws_status check_staged(const struct edit *e, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_status st = ws_ckpt_open(&c, ws_stage_path(e->stage), NULL, err);
    bool good = st == WS_OK && ws_ckpt_count(c) == e->n;
    for (size_t i = 0; good && i < e->n; i++) {
        const ws_tensor *t = ws_ckpt_find(c, e->tensors[i].name);
        good = t != NULL && t->dtype == e->tensors[i].dtype &&
               t->n_bytes == e->tensors[i].n_bytes && t->rank == e->tensors[i].rank;
    }
    if (st == WS_OK && !good)
        st = ws_fail(err, WS_E_IO, "the staged output is not what was written");
    ws_ckpt_free(c);
    return st;
}

/** Sizes and digests of the files of weights into the result. */
static ws_status list_outputs(struct edit *e, const ws_manifest *m, ws_err *err)
{
    ws_edit_result *r = e->r;
    const char *target = ws_stage_target(e->stage, &(bool){ false });
    r->outputs = ws_arena_calloc(&r->arena, e->n_files, sizeof *r->outputs);
    if (r->outputs == NULL)
        return no_memory(err);
    for (size_t k = 0; k < e->n_files; k++) {
        ws_out_file *o = &r->outputs[r->n_outputs++];
        char *path = e->is_dir ? ws_path_join(target, e->files[k].name)
                               : ws_strdup(e->req->write.out);
        o->path = path == NULL ? NULL : ws_arena_strdup(&r->arena, path);
        ws_free(path);
        if (o->path == NULL)
            return no_memory(err);
        o->bytes = e->files[k].bytes;
        for (size_t i = 0; m != NULL && i < m->n_files; i++) {
            if (e->is_dir && strcmp(m->files[i].path, e->files[k].name) != 0)
                continue;
            memcpy(o->sha256, m->files[i].sha256, sizeof o->sha256);
            memcpy(o->xxh3, m->files[i].xxh3, sizeof o->xxh3);
        }
    }
    return WS_OK;
}

/** Sync, check, digest unless no manifest is wanted, and make it appear. */
static ws_status show(struct edit *e, ws_err *err)
{
    const ws_write_opts *w = &e->req->write;
    const bool none = w->manifest != NULL && strcmp(w->manifest, "none") == 0;
    ws_manifest *m = NULL;
    ws_status st = ws_stage_sync(e->stage, err);
    if (st == WS_OK)
        st = check_staged(e, err);
    if (st == WS_OK && !none) {
        char *own = w->manifest == NULL ? ws_stage_manifest_path(w->out, e->is_dir)
                                        : ws_strdup(w->manifest);
        e->r->manifest = own == NULL ? NULL : ws_arena_strdup(&e->r->arena, own);
        ws_free(own);
        st = e->r->manifest == NULL ? no_memory(err) : WS_OK;
    }
    if (st == WS_OK && !none)
        st = ws_manifest_from_stage(&m, e->stage, e->pool, e->ctx, NULL, NULL, err);
    if (st == WS_OK)
        st = ws_ckpt_recheck(e->model, err);
    if (st == WS_OK)
        st = list_outputs(e, m, err);
    if (st == WS_OK)
        st = ws_stage_commit(e->stage, m, e->r->manifest, err);
    ws_manifest_free(m);
    return st;
}

ws_status ws_edit_write(struct edit *e, ws_err *err)
{
    ws_status st = open_stage(e, err);
    if (st == WS_OK && ws_stage_finished(e->stage))
        return list_outputs(e, NULL, err);
    for (size_t k = 0; st == WS_OK && k < e->n_files; k++) {
        st = write_file(e, &e->files[k], err);
        e->r->usage.written_bytes += e->files[k].bytes;
    }
    if (st == WS_OK && e->index)
        st = write_index(e, err);
    if (st == WS_OK && e->is_dir && ws_ckpt_is_dir(e->model))
        st = ws_companions_carry(e->stage, ws_ckpt_home(e->model),
                                 &(ws_companion_opts){ 0 },
                                 e->ctx == NULL ? NULL : e->ctx->warnings, err);
    if (st == WS_OK)
        st = ws_pool_new(&e->pool, ws_ctx_threads(e->ctx), err);
    return st == WS_OK ? show(e, err) : st;
}
