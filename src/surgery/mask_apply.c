/*
 * mask_apply.c - what a mask takes of a model, onto its base
 *
 *   out = base + f (model - base)     f = mask / mean(mask), or the mask itself
 *
 * f = 0 and f = 1 are the bits of base and model; else float32 (float64 for F64), one
 * rounding on store. A mask whose mean is 0 takes nothing.
 */
#include <string.h>

#include "surgery/mask_pair.h"
#include "surgery/taskvec_write.h"
#include "wsurg/source.h"

/** A tensor of the base, with its mask or without. */
struct masked {
    const ws_tensor *base, *model, *mask; // model, mask NULL: the base's bytes
    uint64_t span;
    float scale; // multiplies the mask
    bool bits;   // BOOL, unscaled, one dtype: bytes are chosen
};

struct apply {
    ws_mask_pair pair;
    ws_mask mask;
    struct masked *tensors; // (tensors of the base)
    ws_arena arena;
};

/** The mask's entries on @p n entries of the tensor from @p first on. */
static ws_status factors(const struct apply *a, const struct masked *m, uint64_t first,
                         size_t n, float *f, ws_err *err)
{
    float part[WS_MASK_PIECE];
    const uint64_t from = first / m->span, to = (first + n - 1) / m->span;
    const ws_status st =
        ws_mask_read(&a->mask, m->mask, from, (size_t)(to - from) + 1, part, err);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        f[i] = part[(first + i) / m->span - from] * m->scale;
    return st;
}

static ws_status choose_bytes(const struct apply *a, const struct masked *m,
                              uint64_t first, size_t n, unsigned char *out, ws_err *err)
{
    unsigned char in[WS_MASK_PIECE * sizeof(double)];
    float f[WS_MASK_PIECE];
    const size_t size = ws_dtype_info(m->base->dtype)->bits / 8;
    ws_status st = factors(a, m, first, n, f, err);
    if (st == WS_OK)
        st = ws_ckpt_read(a->pair.base, m->base, first * size, n * size, out, err);
    if (st == WS_OK)
        st = ws_ckpt_read(a->pair.model, m->model, first * size, n * size, in, err);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        if (f[i] != 0.0f)
            memcpy(out + i * size, in + i * size, size);
    return st;
}

static ws_status compute(const struct apply *a, const struct masked *m, uint64_t first,
                         size_t n, void *out, ws_err *err)
{
    double base[WS_MASK_PIECE], model[WS_MASK_PIECE];
    float f[WS_MASK_PIECE];
    ws_status st = factors(a, m, first, n, f, err);
    if (st == WS_OK)
        st = ws_mask_numbers(a->pair.base, m->base, first, n, base, err);
    if (st == WS_OK)
        st = ws_mask_numbers(a->pair.model, m->model, first, n, model, err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        const bool ends = f[i] == 0.0f || f[i] == 1.0f;
        const double end = f[i] == 0.0f ? base[i] : model[i];
        if (m->base->dtype == WS_DT_F64)
            ((double *)out)[i] =
                ends ? end : base[i] + (double)f[i] * (model[i] - base[i]);
        else
            ((float *)out)[i] =
                ends ? (float)end
                     : (float)base[i] + f[i] * ((float)model[i] - (float)base[i]);
    }
    return st;
}

static ws_status source_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    const struct apply *a = c->self;
    const struct masked *m = &a->tensors[t->offset];
    const size_t size = ws_dtype_info(t->dtype)->bits / 8, step = WS_MASK_PIECE * size;
    ws_status st = WS_OK;
    if (m->mask == NULL)
        return ws_ckpt_read(a->pair.base, m->base, offset, len, dst, err);
    for (size_t at = 0; st == WS_OK && at < len; at += step) {
        const size_t n = (len - at < step ? len - at : step) / size;
        const uint64_t first = (offset + at) / size;
        void *to = (char *)dst + at;
        st = m->bits ? choose_bytes(a, m, first, n, to, err)
                     : compute(a, m, first, n, to, err);
    }
    return st;
}

static const ws_ckpt_ops source_ops = { .read = source_read };

/** A tensor keeps the dtype that it has in the base. */
static ws_dtype dtype_of(void *arg, const ws_tensor *t)
{
    const struct apply *a = arg;
    return ws_ckpt_find(a->pair.base, t->name)->dtype;
}

/** What is scaled is made in float32, or float64. */
static ws_dtype made_dtype(const void *self, size_t i, const ws_tensor *t)
{
    const struct masked *m = &((const struct apply *)self)->tensors[i];
    const bool scaled = m->mask != NULL && !m->bits;
    return scaled && t->dtype != WS_DT_F64 ? WS_DT_F32 : t->dtype;
}

/* ---- what goes where ---- */

static ws_status match_one(struct apply *a, size_t i, ws_mask_scale scale, double *sum,
                           ws_mask_result *r, ws_err *err)
{
    struct masked *m = &a->tensors[i];
    const ws_tensor *mask = ws_ckpt_find(a->mask.file, m->base->name);
    if (mask == NULL)
        return WS_OK;
    ws_status st = ws_mask_pair_find(&a->pair, m->base, &m->model, err);
    if (st != WS_OK)
        return st;
    m->span = ws_mask_span(mask, m->base);
    if (m->span == 0) {
        ws_fail(err, WS_E_SHAPE,
                "the mask has %llu entries, the tensor %llu: neither one for each, nor "
                "for each row, nor one",
                (unsigned long long)mask->n_elements,
                (unsigned long long)m->base->n_elements);
        return ws_err_at(err, ws_ckpt_path(a->mask.file), mask->name, -1);
    }
    st = ws_mask_sum(&a->mask, mask, sum, err);
    m->mask = mask;
    m->scale = 1.0f;
    m->bits = mask->dtype == WS_DT_BOOL && scale == WS_MASK_SCALE_NONE &&
              m->model->dtype == m->base->dtype;
    if (scale == WS_MASK_SCALE_TENSOR)
        m->scale = *sum > 0.0 ? (float)((double)mask->n_elements / *sum) : 0.0f;
    r->tensors++;
    r->entries += m->base->n_elements;
    *sum *= (double)m->span;
    r->set += *sum;
    return st;
}

static ws_status match(struct apply *a, ws_mask_scale scale, ws_mask_result *r,
                       ws_err *err)
{
    const size_t n = ws_ckpt_count(a->pair.base);
    ws_status st = WS_OK;
    a->tensors = ws_arena_calloc(&a->arena, n + 1, sizeof *a->tensors);
    if (a->tensors == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the list of tensors");
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        double sum = 0.0;
        a->tensors[i].base = ws_ckpt_tensor(a->pair.base, i);
        st = match_one(a, i, scale, &sum, r, err);
    }
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(a->mask.file); i++) {
        const char *name = ws_ckpt_tensor(a->mask.file, i)->name;
        if (ws_ckpt_find(a->pair.base, name) != NULL)
            continue;
        ws_fail(err, WS_E_MISSING, "the base has no such tensor");
        st = ws_err_at(err, ws_ckpt_path(a->mask.file), name, -1);
    }
    for (size_t i = 0; st == WS_OK && scale == WS_MASK_SCALE_MODEL && i < n; i++)
        a->tensors[i].scale =
            r->set > 0.0 ? (float)((double)r->entries / r->set) : 0.0f;
    return st;
}

static ws_status write_model(struct apply *a, const ws_mask_apply_req *req,
                             ws_mask_scale scale, const ws_ctx *ctx, ws_mask_result *r,
                             ws_err *err)
{
    static const char *const word[] = { "none", "tensor", "model" };
    const char *const paths[] = { req->base, req->model, req->mask };
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_ckpt *source = NULL;
    ws_status st = ws_mask_input(&inputs, "base", a->pair.base, ctx, err);
    if (st == WS_OK)
        st = ws_mask_input(&inputs, "model", a->pair.model, ctx, err);
    if (st == WS_OK)
        st = ws_mask_input(&inputs, "mask", a->mask.file, ctx, err);
    ws_buf_putc(&inputs, ']');
    ws_buf_printf(&recipe,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"mask apply\","
                  "\"scale\":\"%s\"}",
                  word[scale]);
    if (st == WS_OK && (recipe.failed || inputs.failed))
        st = ws_fail(err, WS_E_MEMORY, "no memory for provenance");
    if (st == WS_OK)
        st = ws_mask_made(&source, a->pair.base, &source_ops, a, made_dtype, err);
    const ws_plan_given given = { .inputs = &source,
                                  .n = 1,
                                  .recipe = recipe.p,
                                  .provenance = inputs.p,
                                  .paths = paths,
                                  .n_paths = 3,
                                  .dtype = dtype_of,
                                  .arg = a };
    ws_write_opts w = req->write;
    if (w.companions_from == NULL && ws_ckpt_is_dir(a->pair.base))
        w.companions_from = ws_ckpt_home(a->pair.base);
    if (w.shard_like_base && ws_ckpt_file_count(a->pair.base) <= 1) {
        w.shard_like_base = false;
        w.shard_size = UINT64_MAX;
    }
    if (st == WS_OK)
        st = ws_tv_copy(&w, &given, WS_MASK_PIECE * 64, a->arena.total, ctx, &r->run,
                        err);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

ws_status ws_mask_apply(ws_mask_result **out, const ws_mask_apply_req *req,
                        const ws_ctx *ctx, ws_err *err)
{
    struct apply a = { 0 };
    ws_mask_result *r = ws_calloc(1, sizeof *r);
    ws_status st =
        r == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the result") : WS_OK;
    if (st == WS_OK && ws_source_is_adapter(req->model)) {
        st = ws_mask_apply_factors(req, ctx, r, err);
        goto out;
    }
    if (st == WS_OK)
        st = ws_mask_open(&a.mask, req->mask, ctx == NULL ? NULL : ctx->warnings, err);
    if (st == WS_OK)
        st = ws_mask_pair_open(&a.pair, req->base, req->model, ctx, err);
    const ws_mask_scale scale =
        req->scale == WS_MASK_SCALE_AUTO ? a.mask.scale : req->scale;
    if (st == WS_OK)
        st = match(&a, scale, r, err);
    if (st == WS_OK)
        st = write_model(&a, req, scale, ctx, r, err);
    ws_mask_pair_close(&a.pair);
    ws_mask_close(&a.mask);
    ws_arena_free(&a.arena);
out:
    if (st == WS_OK)
        *out = r;
    else
        ws_mask_result_free(r);
    return st;
}
