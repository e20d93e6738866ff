/*
 * mask_run_write.c - the model that a mask made: the blocks' weights, and the base's
 * bytes elsewhere
 */
#include <string.h>

#include "model/model_internal.h"
#include "surgery/mask_pair.h"
#include "surgery/mask_run.h"
#include "surgery/taskvec_write.h"

/** Weights of tensor @p name. A tied head that the file stores beside the embedding
 * goes with it. */
static const float *weights_of(const ws_mask_run *r, const char *name)
{
    if (r->model->d.tied && strcmp(name, "lm_head.weight") == 0)
        name = r->model->embed.name;
    for (size_t i = 0; i < r->n_blocks; i++)
        if (strcmp(r->blocks[i].name, name) == 0)
            return r->blocks[i].w;
    return NULL;
}

static ws_status source_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    const ws_mask_run *r = c->self;
    const float *w = weights_of(r, t->name);
    if (w == NULL)
        return ws_ckpt_read(r->model->ckpt,
                            ws_ckpt_tensor(r->model->ckpt, (size_t)t->offset), offset,
                            len, dst, err);
    memcpy(dst, (const char *)w + offset, len);
    return WS_OK;
}

static const ws_ckpt_ops source_ops = { .read = source_read };

static ws_dtype made_dtype(const void *self, size_t i, const ws_tensor *t)
{
    (void)i;
    return weights_of(self, t->name) != NULL ? WS_DT_F32 : t->dtype;
}

/** A tensor keeps the dtype that it has in the base. */
static ws_dtype dtype_of(void *arg, const ws_tensor *t)
{
    const ws_mask_run *r = arg;
    return ws_ckpt_find(r->model->ckpt, t->name)->dtype;
}

ws_status ws_mask_run_write(ws_mask_run *r, const ws_write_opts *w, const char *recipe,
                            ws_result **out, ws_err *err)
{
    const ws_ckpt *base = r->model->ckpt;
    ws_ckpt *source = NULL;
    if (r->req->factors)
        return ws_mask_factors_write(r, w, recipe, out, err);
    const char *paths[WS_SOFT_TASKS + 1] = { r->req->base };
    for (size_t k = 0; k < r->req->n_models; k++)
        paths[k + 1] = r->req->models[k];
    ws_status st =
        r->inputs.failed || recipe == NULL
            ? ws_fail(err, WS_E_MEMORY, "no memory for provenance")
            : ws_mask_made(&source, r->model->ckpt, &source_ops, r, made_dtype, err);
    if (st != WS_OK)
        return st;
    const ws_plan_given given = { .inputs = &source,
                                  .n = 1,
                                  .recipe = recipe,
                                  .provenance = r->inputs.p,
                                  .paths = paths,
                                  .n_paths = r->req->n_models + 1,
                                  .dtype = dtype_of,
                                  .arg = r };
    ws_write_opts mine = *w;
    ws_ctx ctx = *r->ctx;
    mine.resume = false; // nothing is kept to go on from
    if (mine.companions_from == NULL && ws_ckpt_is_dir(base))
        mine.companions_from = ws_model_info_of(r->model)->folder;
    if (mine.shard_like_base && ws_ckpt_file_count(base) <= 1) {
        mine.shard_like_base = false;
        mine.shard_size = UINT64_MAX;
    }
    ctx.max_memory = ws_ctx_memory(NULL); // a window beside what the run holds
    return ws_tv_copy(&mine, &given, 0, 0, &ctx, out, err);
}
