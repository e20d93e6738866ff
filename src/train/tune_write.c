/*
 * tune_write.c - what was trained, as a model or an adapter
 *
 * A model goes through the engine like any merge: the checkpoint that it is made of
 * shows the master copies where there are some, and the bytes of the base elsewhere.
 */
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "engine/finish.h"
#include "engine/plan_internal.h"
#include "model/model_internal.h"
#include "train/tune.h"
#include "wsurg/manifest.h"

/* ---- a model ---- */

/** The checkpoint of the output: tensor i of the base, and its master copy. */
struct source {
    const ws_ckpt *base;
    const float **masters; // (n) NULL: the base's bytes
    ws_arena arena;
};

static ws_status source_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    const struct source *s = c->self;
    const float *p = s->masters[t->offset];

    if (p == NULL)
        return ws_ckpt_read(s->base, ws_ckpt_tensor(s->base, (size_t)t->offset), offset,
                            len, dst, err);
    memcpy(dst, (const char *)p + offset, len);
    return WS_OK;
}

static void source_close(void *self)
{
    struct source *s = self;
    ws_arena_free(&s->arena);
    ws_free(s);
}

static const ws_ckpt_ops source_ops = { .read = source_read, .close = source_close };

/** The master of tensor @p name. A tied head that the file stores beside the embedding
 * goes with it. */
static const float *master_of(const ws_tune *t, const char *name)
{
    if (t->model->d.tied && strcmp(name, "lm_head.weight") == 0)
        name = t->model->embed.name;
    for (size_t k = 0; k < t->n_slots; k++)
        if (strcmp(t->slots[k].name, name) == 0)
            return t->slots[k].p;
    return NULL;
}

static ws_status source_fill(const ws_tune *t, struct source *s, ws_ckpt *c,
                             ws_err *err)
{
    const ws_ckpt *base = s->base;
    ws_status st = ws_ckpt_borrow_files(c, base, err);

    s->masters =
        ws_arena_calloc(&s->arena, ws_ckpt_count(base) + 1, sizeof(const float *));
    if (s->masters == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the list of tensors");
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(base); i++) {
        ws_tensor x = *ws_ckpt_tensor(base, i);
        s->masters[i] = master_of(t, x.name);
        if (s->masters[i] != NULL) {
            x.dtype = WS_DT_F32;
            x.n_bytes = x.n_elements * sizeof(float);
        }
        x.offset = i;
        st = ws_ckpt_add_tensor(c, &x, 0, err);
    }
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_meta_count(base); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(base, i, &key, &value);
        if (strncmp(key, "wsurg.", 6) != 0)
            st = ws_ckpt_add_meta(c, key, value, err);
    }
    return st == WS_OK ? ws_ckpt_finish(c, err) : st;
}

static ws_status source_new(ws_ckpt **out, const ws_tune *t, ws_err *err)
{
    struct source *s = ws_calloc(1, sizeof *s);
    ws_ckpt *c = NULL;

    if (s == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the output");
    s->base = t->model->ckpt;
    ws_status st = ws_ckpt_new(&c, ws_ckpt_path(s->base), "tuned", &source_ops, s, err);
    if (st) {
        source_close(s);
        return st;
    }
    c->is_dir = s->base->is_dir;
    st = source_fill(t, s, c, err);
    if (st == WS_OK)
        *out = c;
    else
        ws_ckpt_free(c);
    return st;
}

/** A tensor keeps the dtype that it has in the base. */
static ws_dtype dtype_of(void *arg, const ws_tensor *x)
{
    const ws_tune *t = arg;
    const ws_tensor *in = ws_ckpt_find(t->model->ckpt, x->name);
    return t->req->kind == WS_TUNE_SCRATCH ? t->dtype
           : in != NULL                    ? in->dtype
                                           : x->dtype;
}

static ws_status write_model(ws_tune *t, ws_result **out, ws_err *err)
{
    ws_merge_req req = WS_MERGE_REQ_INIT;
    ws_ckpt *source = NULL;
    ws_plan *plan = NULL;
    ws_diag errors = { 0 };
    const char *const paths[] = { t->req->model };
    ws_status st = source_new(&source, t, err);

    if (st)
        return st;
    const ws_plan_given given = { .inputs = &source,
                                  .n = 1,
                                  .recipe = t->recipe,
                                  .provenance = t->inputs,
                                  .paths = paths,
                                  .n_paths = t->req->kind != WS_TUNE_SCRATCH,
                                  .dtype = dtype_of,
                                  .arg = t };
    req.method = "passthrough";
    req.write = t->req->write;
    req.write.resume = false; // the checkpoints are this run's journal
    req.write.keep_metadata = true;
    if (req.write.companions_from == NULL)
        req.write.companions_from = ws_model_info_of(t->model)->folder;
    if (req.write.shard_like_base && ws_ckpt_file_count(t->model->ckpt) <= 1) {
        req.write.shard_like_base = false;
        req.write.shard_size = UINT64_MAX;
    }
    ws_ctx ctx = *t->ctx;
    ctx.max_memory = ws_ctx_memory(NULL); // a window beside what training holds
    st = ws_plan_build(&plan, &req, &given, &ctx, &errors);
    if (st == WS_OK)
        st = ws_plan_run(plan, &ctx, out, err);
    else if (err != NULL && ws_diag_worst(&errors) != NULL)
        *err = *ws_diag_worst(&errors);
    ws_plan_free(plan);
    ws_diag_free(&errors);
    return st;
}

/* ---- an adapter ---- */

ws_status ws_tune_adapter_result(ws_result **out, const ws_manifest *m,
                                 const ws_write_opts *w, ws_err *err)
{
    ws_result *r = ws_result_new();
    char path[4096];

    if (r != NULL)
        r->outputs = ws_result_alloc(r, m->n_files + 1, sizeof *r->outputs);
    if (r == NULL || r->outputs == NULL) {
        ws_result_free(r);
        return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    }
    for (size_t i = 0; i < m->n_files; i++) {
        const ws_manifest_file *f = &m->files[i];
        const size_t n = strlen(f->path);
        if (n < 12 || strcmp(f->path + n - 12, ".safetensors") != 0)
            continue;
        const size_t len = strlen(w->out);
        const bool slash = len > 0 && w->out[len - 1] == '/';
        snprintf(path, sizeof path, "%s%s%s", w->out, slash ? "" : "/", f->path);
        ws_out_file *o = &r->outputs[r->n_outputs++];
        o->path = ws_result_strdup(r, path);
        o->bytes = f->bytes;
        memcpy(o->sha256, f->sha256, sizeof o->sha256);
        memcpy(o->xxh3, f->xxh3, sizeof o->xxh3);
    }
    const bool none = w->manifest != NULL && strcmp(w->manifest, "none") == 0;
    r->manifest = none ? NULL : ws_result_strdup(r, m->path);
    *out = r;
    return WS_OK;
}

static ws_status write_adapter(ws_tune *t, ws_result **out, ws_err *err)
{
    const ws_adapter *from = t->adapter;
    ws_manifest *m = NULL;
    ws_adapter_factors *list =
        ws_arena_calloc(&t->arena, t->n_factors + 1, sizeof *list);
    const char *const inputs[] = { t->req->model, t->req->adapter };

    if (list == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the list of factors");
    for (size_t k = 0; k < t->n_factors; k++) {
        const ws_tune_factors *f = &t->factors[k];
        list[k] = (ws_adapter_factors){ .path = f->path,
                                        .r = f->rank,
                                        .in = f->in,
                                        .out = f->out,
                                        .alpha = f->alpha,
                                        .a = f->A,
                                        .b = f->B };
    }
    const ws_adapter_spec spec = {
        .modules = list,
        .n_modules = t->n_factors,
        .dtype = t->req->write.dtype_keep ? WS_DT_F32 : t->req->write.dtype,
        .rslora = from != NULL ? from->rslora : t->req->rslora,
        .fan_in_fan_out = t->model->d.conv1d,
        .base = from != NULL && from->base != NULL ? from->base : t->req->model,
        .content = t->content,
        .residual = from != NULL ? from->residual : NULL,
        .recipe = t->recipe,
        .inputs = t->inputs,
    };
    const ws_adapter_target target = { .out = t->req->write.out,
                                       .force = t->req->write.force,
                                       .no_provenance = !t->req->write.provenance,
                                       .manifest = t->req->write.manifest,
                                       .inputs = inputs,
                                       .n_inputs = from != NULL ? 2 : 1 };
    ws_status st = ws_adapter_write(&spec, &target, t->ctx, &m, err);
    if (st == WS_OK)
        st = ws_tune_adapter_result(out, m, &t->req->write, err);
    ws_manifest_free(m);
    return st;
}

ws_status ws_tune_write(ws_tune *t, ws_result **out, ws_err *err)
{
    return t->n_factors > 0 ? write_adapter(t, out, err) : write_model(t, out, err);
}
