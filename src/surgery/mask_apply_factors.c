/*
 * mask_apply_factors.c - what a mask of factors takes of an adapter
 *
 *   out = base + f (model - base), for A and B of each module   f as in mask_apply.c
 *
 * The base is an adapter, or MODEL+ADAPTER; a model without one has factors 0.
 */
#include <string.h>

#include "surgery/mask_pair.h"
#include "train/tune.h"
#include "wsurg/source.h"

struct apply {
    ws_mask mask;
    ws_mask_scale scale;
    ws_ckpt *source;        // the base as MODEL, or
    ws_adapter *alone;      // as an adapter alone
    const ws_adapter *base; // of either; NULL: factors 0
    ws_adapter *model;
    float **factors; // (2 n_modules) A, B; ws_free
    double over_all; // what a mask is multiplied by
    ws_arena arena;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for factors");
}

static ws_status open_all(struct apply *a, const ws_mask_apply_req *req,
                          const ws_ctx *ctx, ws_err *err)
{
    ws_diag *warnings = ctx == NULL ? NULL : ctx->warnings;
    ws_status st = ws_mask_open(&a->mask, req->mask, warnings, err);
    if (st == WS_OK)
        st = ws_adapter_open(&a->model, req->model, warnings, err);
    if (st == WS_OK && ws_source_is_adapter(req->base))
        st = ws_adapter_open(&a->alone, req->base, warnings, err);
    else if (st == WS_OK)
        st = ws_source_open(&a->source, req->base, WS_FOLD_BASE, ctx, err);
    if (st != WS_OK)
        return st;
    a->base = a->alone != NULL ? a->alone : ws_source_adapter(a->source, 0);
    a->scale = req->scale == WS_MASK_SCALE_AUTO ? a->mask.scale : req->scale;
    a->factors =
        ws_arena_calloc(&a->arena, 2 * a->model->n_modules + 1, sizeof *a->factors);
    if (a->factors == NULL)
        return no_memory(err);
    if (a->model->n_wholes > 0 || a->model->n_rows > 0) {
        ws_fail(err, WS_E_UNSUPPORTED,
                "an adapter with tensors that replace the model's has no masks");
        return ws_err_at(err, req->model, NULL, -1);
    }
    return WS_OK;
}

/** The mask of tensor @p t, or NULL; *span: entries that one of it stands for. */
static ws_status mask_of(struct apply *a, const ws_tensor *t, const ws_tensor **mask,
                         uint64_t *span, ws_err *err)
{
    *mask = ws_ckpt_find(a->mask.file, t->name);
    *span = *mask == NULL ? 1 : ws_mask_span(*mask, t);
    if (*span > 0)
        return WS_OK;
    ws_fail(err, WS_E_SHAPE, "the mask has %llu entries, the factor %llu",
            (unsigned long long)(*mask)->n_elements, (unsigned long long)t->n_elements);
    return ws_err_at(err, ws_ckpt_path(a->mask.file), (*mask)->name, -1);
}

static const ws_tensor *factor(const ws_adapter_module *m, int side)
{
    return side == 0 ? m->a : m->b;
}

/** Sums of the masks that lie on the model's factors. */
static ws_status measure(struct apply *a, ws_mask_result *r, ws_err *err)
{
    for (size_t i = 0; i < 2 * a->model->n_modules; i++) {
        const ws_tensor *t = factor(&a->model->modules[i / 2], i % 2), *mask;
        uint64_t span;
        double sum = 0.0;
        ws_status st = mask_of(a, t, &mask, &span, err);
        if (st == WS_OK && mask != NULL)
            st = ws_mask_sum(&a->mask, mask, &sum, err);
        if (st != WS_OK)
            return st;
        r->tensors += mask != NULL;
        r->entries += mask != NULL ? t->n_elements : 0;
        r->set += sum * (double)span;
    }
    a->over_all = r->set > 0.0 ? (double)r->entries / r->set : 0.0;
    if (r->tensors == ws_ckpt_count(a->mask.file))
        return WS_OK;
    ws_fail(err, WS_E_MISSING, "%zu of the mask's %zu tensors are no factors here",
            ws_ckpt_count(a->mask.file) - r->tensors, ws_ckpt_count(a->mask.file));
    return ws_err_at(err, a->model->path, NULL, -1);
}

/** to = base + f (in - base), with the mask's entries @p f of @p span each. */
static ws_status blend(const struct apply *a, const ws_tensor *mask, uint64_t span,
                       const float *in, float *to, ws_err *err)
{
    float part[WS_MASK_PIECE];
    double sum = 0.0;
    ws_status st = ws_mask_sum(&a->mask, mask, &sum, err);
    const double mean = sum / (double)mask->n_elements;
    const float scale = a->scale == WS_MASK_SCALE_NONE    ? 1.0f
                        : a->scale == WS_MASK_SCALE_MODEL ? (float)a->over_all
                        : mean > 0.0                      ? (float)(1.0 / mean)
                                                          : 0.0f;
    for (uint64_t at = 0; st == WS_OK && at < mask->n_elements; at += WS_MASK_PIECE) {
        const uint64_t left = mask->n_elements - at;
        const size_t n = left < WS_MASK_PIECE ? (size_t)left : WS_MASK_PIECE;
        st = ws_mask_read(&a->mask, mask, at, n, part, err);
        for (size_t i = 0; st == WS_OK && i < n * span; i++) {
            const size_t k = (size_t)(at * span) + i;
            const float f = part[i / span] * scale;
            if (f != 0.0f)
                to[k] = f == 1.0f ? in[k] : to[k] + f * (in[k] - to[k]);
        }
    }
    return st;
}

static ws_status factor_make(struct apply *a, size_t i, ws_err *err)
{
    const ws_adapter_module *m = &a->model->modules[i / 2], *b = NULL;
    const ws_tensor *t = factor(m, i % 2), *mask = NULL;
    const size_t n = (size_t)t->n_elements;
    uint64_t span = 1;
    if (m->embedding || m->magnitude != NULL || m->b_bias != NULL) {
        ws_fail(err, WS_E_UNSUPPORTED, "only plain factors of linears have masks");
        return ws_err_at(err, a->model->path, m->path, -1);
    }
    if (a->base != NULL)
        b = ws_adapter_find(a->base, m->path);
    if (a->base != NULL && (b == NULL || b->r != m->r || b->in != m->in ||
                            b->out != m->out || b->scale != m->scale)) {
        ws_fail(err, b == NULL ? WS_E_MISSING : WS_E_SHAPE,
                "no factors of the same rank and scale here");
        return ws_err_at(err, a->base->path, m->path, -1);
    }
    float *in = ws_alloc(n * sizeof *in), *to = ws_calloc(n, sizeof *to);
    a->factors[i] = to;
    ws_status st = in == NULL || to == NULL ? no_memory(err)
                                            : ws_adapter_read_f32(a->model, t, in, err);
    if (st == WS_OK && b != NULL)
        st = ws_adapter_read_f32(a->base, factor(b, i % 2), to, err);
    if (st == WS_OK)
        st = mask_of(a, t, &mask, &span, err);
    if (st == WS_OK && mask != NULL)
        st = blend(a, mask, span, in, to, err);
    ws_free(in);
    return st;
}

static ws_status inputs_make(const struct apply *a, ws_buf *inputs, const ws_ctx *ctx,
                             ws_err *err)
{
    const ws_ckpt *base = a->base != NULL ? a->base->file : a->source;
    ws_status st = ws_mask_input(inputs, "base", base, ctx, err);
    if (st == WS_OK)
        st = ws_mask_input(inputs, "model", a->model->file, ctx, err);
    if (st == WS_OK)
        st = ws_mask_input(inputs, "mask", a->mask.file, ctx, err);
    ws_buf_putc(inputs, ']');
    return st;
}

/** Whether the model that the factors are for stores its linears as (in, out). */
static bool is_conv1d(const struct apply *a)
{
    bool known = false;
    const ws_ckpt *base = a->source == NULL                 ? NULL
                          : ws_source_is_adapted(a->source) ? ws_source_base(a->source)
                                                            : a->source;
    return base != NULL && a->model->n_modules > 0 &&
           ws_module_is_conv1d(base, a->model->modules[0].path, &known);
}

static ws_status write_adapter(struct apply *a, const ws_mask_apply_req *req,
                               const ws_ctx *ctx, ws_mask_result *r, ws_err *err)
{
    static const char *const word[] = { "none", "tensor", "model" };
    const char *const paths[] = { req->base, req->model, req->mask };
    const ws_adapter *m = a->model;
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_manifest *files = NULL;
    ws_adapter_factors *list =
        ws_arena_calloc(&a->arena, m->n_modules + 1, sizeof *list);
    ws_status st = inputs_make(a, &inputs, ctx, err);
    ws_buf_printf(&recipe,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"mask apply\","
                  "\"scale\":\"%s\"}",
                  word[a->scale]);
    if (st == WS_OK && (recipe.failed || inputs.failed || list == NULL))
        st = no_memory(err);
    for (size_t i = 0; st == WS_OK && i < m->n_modules; i++)
        list[i] = (ws_adapter_factors){ .path = m->modules[i].path,
                                        .r = m->modules[i].r,
                                        .in = m->modules[i].in,
                                        .out = m->modules[i].out,
                                        .alpha = m->modules[i].alpha,
                                        .a = a->factors[2 * i],
                                        .b = a->factors[2 * i + 1] };
    const ws_adapter_spec spec = {
        .modules = list,
        .n_modules = m->n_modules,
        .dtype = req->write.dtype_keep ? m->modules[0].a->dtype : req->write.dtype,
        .rslora = m->rslora,
        .fan_in_fan_out = is_conv1d(a),
        .base = m->base,
        .task = m->task,
        .content = m->content,
        .residual = m->residual,
        .recipe = recipe.p,
        .inputs = inputs.p,
    };
    const ws_adapter_target target = { .out = req->write.out,
                                       .force = req->write.force,
                                       .no_provenance = !req->write.provenance,
                                       .manifest = req->write.manifest,
                                       .inputs = paths,
                                       .n_inputs = 3 };
    if (st == WS_OK)
        st = ws_adapter_write(&spec, &target, ctx, &files, err);
    if (st == WS_OK)
        st = ws_tune_adapter_result(&r->run, files, &req->write, err);
    ws_manifest_free(files);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

ws_status ws_mask_apply_factors(const ws_mask_apply_req *req, const ws_ctx *ctx,
                                ws_mask_result *r, ws_err *err)
{
    struct apply a = { 0 };
    ws_status st = open_all(&a, req, ctx, err);
    if (st == WS_OK)
        st = measure(&a, r, err);
    for (size_t i = 0; st == WS_OK && i < 2 * a.model->n_modules; i++)
        st = factor_make(&a, i, err);
    if (st == WS_OK)
        st = write_adapter(&a, req, ctx, r, err);
    for (size_t i = 0; a.factors != NULL && i < 2 * a.model->n_modules; i++)
        ws_free(a.factors[i]);
    ws_mask_close(&a.mask);
    ws_adapter_free(a.model);
    ws_adapter_free(a.alone);
    ws_ckpt_free(a.source);
    ws_arena_free(&a.arena);
    return st;
}
