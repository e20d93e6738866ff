/*
 * half_reset.c - the base's tensors back into a fine-tune, where a plan freezes
 *
 * @source Hui et al. 2024, arXiv:2404.18466, the experiment of section 2
 */
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "surgery/hft.h"
#include "surgery/mask_pair.h"
#include "surgery/taskvec_write.h"

struct reset {
    ws_mask_pair pair;
    ws_freeze_plan plan;
};

static ws_status source_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    const struct reset *r = c->self;
    const ws_ckpt *from =
        ws_freeze_plan_has(&r->plan, t->name) ? r->pair.base : r->pair.model;
    return ws_ckpt_read(from, ws_ckpt_find(from, t->name), offset, len, dst, err);
}

static const ws_ckpt_ops source_ops = { .read = source_read };

static ws_dtype dtype_of(void *arg, const ws_tensor *t)
{
    const struct reset *r = arg;
    return ws_ckpt_find(r->pair.model, t->name)->dtype;
}

static ws_status source_new(ws_ckpt **out, struct reset *r, ws_err *err)
{
    const ws_ckpt *model = r->pair.model;
    ws_ckpt *c = NULL;
    ws_status st = ws_ckpt_new(&c, ws_ckpt_path(model), "reset", &source_ops, r, err);
    if (st == WS_OK)
        st = ws_ckpt_borrow_files(c, model, err);
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(model); i++) {
        ws_tensor t = *ws_ckpt_tensor(model, i);
        if (ws_freeze_plan_has(&r->plan, t.name))
            t.dtype = ws_ckpt_find(r->pair.base, t.name)->dtype;
        t.offset = i;
        st = ws_tensor_measure(&t, err);
        if (st == WS_OK)
            st = ws_ckpt_add_tensor(c, &t, 0, err);
    }
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_meta_count(model); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(model, i, &key, &value);
        if (strncmp(key, "wsurg.", 6) != 0)
            st = ws_ckpt_add_meta(c, key, value, err);
    }
    if (st == WS_OK) {
        c->is_dir = ws_ckpt_is_dir(model);
        st = ws_ckpt_finish(c, err);
    }
    if (st == WS_OK)
        *out = c;
    else
        ws_ckpt_free(c);
    return st;
}

/** The plan's tensors are in both models, of one shape. */
static ws_status check(struct reset *r, const ws_half_reset_req *req,
                       ws_mask_result *to, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < r->plan.n; i++) {
        const ws_tensor *t = ws_ckpt_find(r->pair.base, r->plan.frozen[i]), *in = NULL;
        if (t == NULL) {
            ws_fail(err, WS_E_MISSING, "the base lacks what the plan names");
            return ws_err_at(err, req->base, r->plan.frozen[i], -1);
        }
        st = ws_mask_pair_find(&r->pair, t, &in, err);
        to->tensors++;
        to->set += (double)t->n_elements;
    }
    for (size_t i = 0; i < ws_ckpt_count(r->pair.model); i++)
        to->entries += ws_ckpt_tensor(r->pair.model, i)->n_elements;
    return st;
}

static ws_status write_model(struct reset *r, const ws_half_reset_req *req,
                             const ws_ctx *ctx, ws_mask_result *to, ws_err *err)
{
    const char *const paths[] = { req->base, req->model };
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_ckpt *source = NULL;
    ws_status st = ws_mask_input(&inputs, "base", r->pair.base, ctx, err);
    if (st == WS_OK)
        st = ws_mask_input(&inputs, "model", r->pair.model, ctx, err);
    ws_buf_putc(&inputs, ']');
    ws_buf_puts(&recipe,
                "{\"schema\":\"wsurg-recipe/1\",\"command\":\"mask half-reset\","
                "\"frozen\":[");
    for (size_t i = 0; i < r->plan.n; i++) {
        ws_buf_puts(&recipe, i == 0 ? "" : ",");
        ws_buf_json_string(&recipe, r->plan.frozen[i], strlen(r->plan.frozen[i]));
    }
    ws_buf_puts(&recipe, "]}");
    if (st == WS_OK && (recipe.failed || inputs.failed))
        st = ws_fail(err, WS_E_MEMORY, "no memory for provenance");
    if (st == WS_OK)
        st = source_new(&source, r, err);
    const ws_plan_given given = { .inputs = &source,
                                  .n = 1,
                                  .recipe = recipe.p,
                                  .provenance = inputs.p,
                                  .paths = paths,
                                  .n_paths = 2,
                                  .dtype = dtype_of,
                                  .arg = r };
    ws_write_opts w = req->write;
    if (w.companions_from == NULL && ws_ckpt_is_dir(r->pair.model))
        w.companions_from = ws_ckpt_home(r->pair.model);
    if (w.shard_like_base && ws_ckpt_file_count(r->pair.model) <= 1) {
        w.shard_like_base = false;
        w.shard_size = UINT64_MAX;
    }
    if (st == WS_OK)
        st = ws_tv_copy(&w, &given, 0, r->plan.arena.total, ctx, &to->run, err);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

ws_status ws_half_reset(ws_mask_result **out, const ws_half_reset_req *req,
                        const ws_ctx *ctx, ws_err *err)
{
    struct reset r = { 0 };
    ws_mask_result *to = ws_calloc(1, sizeof *to);
    ws_status st =
        to == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the result") : WS_OK;
    if (st == WS_OK)
        st = ws_mask_pair_open(&r.pair, req->base, req->model, ctx, err);
    if (st == WS_OK)
        st = req->plan != NULL
                 ? ws_freeze_plan_read(&r.plan, req->plan, err)
                 : ws_hft_plan(&r.plan, r.pair.model, req->seed, req->round, NULL, err);
    if (st == WS_OK)
        st = check(&r, req, to, err);
    if (st == WS_OK)
        st = write_model(&r, req, ctx, to, err);
    ws_freeze_plan_free(&r.plan);
    ws_mask_pair_close(&r.pair);
    if (st == WS_OK)
        *out = to;
    else
        ws_mask_result_free(to);
    return st;
}
