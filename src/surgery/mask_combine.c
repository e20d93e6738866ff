/*
 * mask_combine.c - masks of masks: and, or, xor, minus, majority; and the complement
 *
 * A tensor that a mask lacks is out there: 0.
 */
#include <string.h>

#include "surgery/mask_pair.h"
#include "surgery/taskvec_write.h"

enum { MOST = 64 };

struct combine {
    ws_mask masks[MOST];
    size_t n;
    ws_mask_op op;
    bool invert;
    ws_tensor *tensors; // (n_tensors)
    size_t n_tensors;
    ws_ckpt *against;
    ws_arena arena;
};

/* ---- entries ---- */

/** Put the entries of mask @p k onto those before. */
static void join(const struct combine *c, size_t k, const float *x, float *sum,
                 size_t n)
{
    for (size_t i = 0; i < n; i++) {
        switch (c->op) {
        case WS_MASK_AND:
            sum[i] = k == 0 || x[i] < sum[i] ? x[i] : sum[i];
            break;
        case WS_MASK_OR:
            sum[i] = k == 0 || x[i] > sum[i] ? x[i] : sum[i];
            break;
        case WS_MASK_XOR:
            sum[i] = k == 0 ? x[i] : x[i] == sum[i] ? 0.0f : 1.0f;
            break;
        case WS_MASK_MINUS:
            sum[i] = k == 0 ? x[i] : x[i] > 0.0f ? 0.0f : sum[i];
            break;
        case WS_MASK_MAJORITY:
            sum[i] = k == 0 ? x[i] : sum[i] + x[i];
            break;
        }
    }
}

static ws_status make(void *self, size_t tensor, uint64_t first, size_t n, void *out,
                      ws_err *err)
{
    const struct combine *c = self;
    const ws_tensor *t = &c->tensors[tensor];
    float part[WS_MASK_PIECE], sum[WS_MASK_PIECE] = { 0 };
    ws_status st = WS_OK;
    for (size_t k = 0; st == WS_OK && k < c->n; k++) {
        const ws_tensor *in = ws_ckpt_find(c->masks[k].file, t->name);
        memset(part, 0, n * sizeof *part);
        if (in != NULL)
            st = ws_mask_read(&c->masks[k], in, first, n, part, err);
        join(c, k, part, sum, n);
    }
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        float x = sum[i];
        if (!c->invert && c->op == WS_MASK_MAJORITY)
            x = 2.0f * x > (float)c->n ? 1.0f : 0.0f;
        x = c->invert ? 1.0f - x : x;
        if (t->dtype == WS_DT_BOOL)
            ((uint8_t *)out)[i] = x > 0.0f;
        else
            ((float *)out)[i] = x;
    }
    return st;
}

/* ---- tensors ---- */

static ws_tensor *find(const struct combine *c, const char *name)
{
    for (size_t i = 0; i < c->n_tensors; i++)
        if (strcmp(c->tensors[i].name, name) == 0)
            return &c->tensors[i];
    return NULL;
}

static ws_status add(struct combine *c, size_t k, const ws_tensor *t, ws_err *err)
{
    const bool words = c->op != WS_MASK_AND && c->op != WS_MASK_OR;
    ws_tensor *mine = find(c, t->name);
    const char *path = ws_ckpt_path(c->masks[k].file);
    if (words && t->dtype != WS_DT_BOOL) {
        ws_fail(err, WS_E_DTYPE, "the operation wants BOOL, this mask has factors");
        return ws_err_at(err, path, t->name, -1);
    }
    if (mine == NULL) {
        mine = &c->tensors[c->n_tensors++];
        *mine = *t;
    } else if (mine->rank != t->rank ||
               memcmp(mine->shape, t->shape, (size_t)t->rank * sizeof *t->shape) != 0) {
        ws_fail(err, WS_E_SHAPE, "masks of one tensor have different shapes");
        return ws_err_at(err, path, t->name, -1);
    }
    if (t->dtype != WS_DT_BOOL)
        mine->dtype = t->dtype;
    return WS_OK;
}

static ws_status gather(struct combine *c, ws_err *err)
{
    size_t most = c->against == NULL ? 0 : ws_ckpt_count(c->against);
    ws_status st = WS_OK;
    for (size_t k = 0; k < c->n; k++)
        most += ws_ckpt_count(c->masks[k].file);
    c->tensors = ws_arena_calloc(&c->arena, most + 1, sizeof *c->tensors);
    if (c->tensors == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the list of tensors");
    for (size_t k = 0; k < c->n; k++)
        for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(c->masks[k].file); i++)
            st = add(c, k, ws_ckpt_tensor(c->masks[k].file, i), err);
    for (size_t i = 0;
         c->against != NULL && st == WS_OK && i < ws_ckpt_count(c->against); i++) {
        const ws_tensor *t = ws_ckpt_tensor(c->against, i);
        if (find(c, t->name) != NULL || !ws_dtype_info(t->dtype)->arithmetic)
            continue;
        c->tensors[c->n_tensors] = *t;
        c->tensors[c->n_tensors++].dtype = WS_DT_BOOL;
    }
    return st;
}

/** What the written mask holds, counted as it is made. */
static ws_status count(const struct combine *c, ws_mask_result *r, ws_err *err)
{
    float part[WS_MASK_PIECE];
    ws_status st = WS_OK;
    r->tensors = c->n_tensors;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const ws_tensor *t = &c->tensors[i];
        r->entries += t->n_elements;
        for (uint64_t at = 0; st == WS_OK && at < t->n_elements; at += WS_MASK_PIECE) {
            const uint64_t left = t->n_elements - at;
            const size_t n = left < WS_MASK_PIECE ? (size_t)left : WS_MASK_PIECE;
            struct combine *self = (struct combine *)(uintptr_t)c; // only read
            st = make(self, i, at, n, part, err);
            for (size_t k = 0; st == WS_OK && k < n; k++)
                r->set += t->dtype == WS_DT_BOOL ? (double)((uint8_t *)part)[k]
                                                 : (double)part[k];
        }
    }
    return st;
}

static ws_status write_mask(struct combine *c, const char *command, const char *option,
                            const char *const *paths, size_t n_paths,
                            const ws_write_opts *w, const ws_ctx *ctx,
                            ws_mask_result *r, ws_err *err)
{
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_status st = WS_OK;
    for (size_t k = 0; st == WS_OK && k < c->n; k++)
        st = ws_mask_input(&inputs, "mask", c->masks[k].file, ctx, err);
    if (st == WS_OK && c->against != NULL)
        st = ws_mask_input(&inputs, "against", c->against, ctx, err);
    ws_buf_putc(&inputs, ']');
    ws_buf_printf(&recipe, "{\"schema\":\"wsurg-recipe/1\",\"command\":\"%s\"%s%s}",
                  command,
                  option == NULL ? "" : ",\"op\":", option == NULL ? "" : option);
    if (st == WS_OK && (recipe.failed || inputs.failed))
        st = ws_fail(err, WS_E_MEMORY, "no memory for provenance");
    const ws_mask_spec spec = { .tensors = c->tensors,
                                .n = c->n_tensors,
                                .make = make,
                                .self = c,
                                .made_by = command,
                                .scale =
                                    c->n == 1 ? c->masks[0].scale : WS_MASK_SCALE_NONE,
                                .recipe = recipe.p,
                                .inputs = inputs.p,
                                .paths = paths,
                                .n_paths = n_paths,
                                .held = c->arena.total };
    if (st == WS_OK)
        st = ws_mask_write(&spec, w, ctx, &r->run, err);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

static void combine_free(struct combine *c)
{
    for (size_t k = 0; k < c->n; k++)
        ws_mask_close(&c->masks[k]);
    ws_ckpt_free(c->against);
    ws_arena_free(&c->arena);
    ws_free(c);
}

static ws_status start(struct combine **c, ws_mask_result **r, const ws_write_opts *w,
                       ws_err *err)
{
    *c = ws_calloc(1, sizeof **c);
    *r = ws_calloc(1, sizeof **r);
    if (*c == NULL || *r == NULL) {
        ws_free(*c);
        ws_free(*r);
        *c = NULL;
        *r = NULL;
        return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    }
    return ws_mask_check_out(w, err);
}

static ws_status finish(struct combine *c, ws_mask_result *r, ws_mask_result **out,
                        ws_status st)
{
    if (c != NULL)
        combine_free(c);
    if (st == WS_OK)
        *out = r;
    else
        ws_mask_result_free(r);
    return st;
}

ws_status ws_mask_combine(ws_mask_result **out, const ws_mask_combine_req *req,
                          const ws_ctx *ctx, ws_err *err)
{
    static const char *const word[] = { "\"and\"", "\"or\"", "\"xor\"", "\"minus\"",
                                        "\"majority\"" };
    struct combine *c;
    ws_mask_result *r;
    ws_status st = start(&c, &r, &req->write, err);
    if (st == WS_OK && (req->n == 0 || req->n > MOST))
        st = ws_fail(err, WS_E_USAGE, "%zu masks, from 1 to %d can be combined", req->n,
                     (int)MOST);
    for (size_t k = 0; st == WS_OK && k < req->n; k++) {
        st = ws_mask_open(&c->masks[k], req->masks[k],
                          ctx == NULL ? NULL : ctx->warnings, err);
        c->n += st == WS_OK;
    }
    if (st == WS_OK) {
        c->op = req->op;
        st = gather(c, err);
    }
    if (st == WS_OK)
        st = count(c, r, err);
    if (st == WS_OK)
        st = write_mask(c, "mask combine", word[req->op], req->masks, req->n,
                        &req->write, ctx, r, err);
    return finish(c, r, out, st);
}

ws_status ws_mask_invert(ws_mask_result **out, const ws_mask_invert_req *req,
                         const ws_ctx *ctx, ws_err *err)
{
    const char *const paths[] = { req->mask, req->against };
    struct combine *c;
    ws_mask_result *r;
    ws_status st = start(&c, &r, &req->write, err);
    if (st == WS_OK)
        st = ws_mask_open(&c->masks[0], req->mask, ctx == NULL ? NULL : ctx->warnings,
                          err);
    if (st == WS_OK) {
        c->n = 1;
        c->op = WS_MASK_OR;
        c->invert = true;
        if (req->against != NULL)
            st = ws_tv_open_model(&c->against, req->against, ctx, err);
    }
    if (st == WS_OK)
        st = gather(c, err);
    if (st == WS_OK)
        st = count(c, r, err);
    if (st == WS_OK)
        st = write_mask(c, "mask invert", NULL, paths, req->against == NULL ? 1 : 2,
                        &req->write, ctx, r, err);
    return finish(c, r, out, st);
}
