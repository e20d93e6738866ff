/*
 * mask_factors.c - adapters as task vectors: their factors are the weights
 *
 *   dA_t = A_t - A_aligned, dB_t = B_t - B_aligned      an aligned model without an
 *                                                       adapter has factors 0
 *
 * Each factor is a tensor under a mask of its own, as in the authors' code: what is
 * masked is not the product. The base is read only.
 * @source SOMF, arXiv:2405.09055; seed methods, 4
 */
#include <string.h>

#include "model/model_internal.h"
#include "surgery/mask_pair.h"
#include "surgery/mask_run.h"
#include "train/tune.h"
#include "wsurg/digest.h"
#include "wsurg/source.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for factors");
}

static const ws_adapter *aligned(const ws_mask_run *r)
{
    return r->source != NULL ? ws_source_adapter(r->source, 0) : NULL;
}

/* ---- what is opened ---- */

/** Only plain factors of linears can be masked. */
static ws_status plain_check(const ws_adapter *a, ws_err *err)
{
    const char *what =
        a->n_wholes > 0 || a->n_rows > 0 ? "tensors that replace the model's" : NULL;
    for (size_t i = 0; what == NULL && i < a->n_modules; i++) {
        const ws_adapter_module *m = &a->modules[i];
        what = m->embedding           ? "factors of an embedding"
               : m->magnitude != NULL ? "magnitudes (DoRA)"
               : m->b_bias != NULL    ? "a bias beside its factors"
                                      : NULL;
    }
    if (what == NULL)
        return WS_OK;
    ws_fail(err, WS_E_UNSUPPORTED, "an adapter with %s has no masks", what);
    ws_err_hint(err, "as MODEL+ADAPTER the tensors themselves are masked");
    return ws_err_at(err, a->path, NULL, -1);
}

/** An adapter that holds a part of its base must find that very base. */
static ws_status ancestry_check(const ws_adapter *a, const char *content, ws_err *err)
{
    if (a->residual == NULL || strcmp(a->residual, content) == 0)
        return WS_OK;
    ws_fail(err, WS_E_ANCESTRY,
            "the adapter belongs to a residual with contents %s, not %s", a->residual,
            content);
    return ws_err_at(err, a->path, NULL, -1);
}

/** @p a has the modules of the first adapter, with the same ranks and scales. */
static ws_status alike_check(const ws_adapter *first, const ws_adapter *a, ws_err *err)
{
    const char *missing = NULL;
    if (a->n_modules > first->n_modules)
        return alike_check(a, first, err);
    for (size_t i = 0; i < first->n_modules; i++) {
        const ws_adapter_module *m = &first->modules[i];
        const ws_adapter_module *x = ws_adapter_find(a, m->path);
        missing = x == NULL ? m->path : missing;
        if (x == NULL || (x->r == m->r && x->in == m->in && x->out == m->out &&
                          x->scale == m->scale))
            continue;
        ws_fail(err, WS_E_SHAPE,
                "factors (%lld,%lld) of rank %lld times %g, in '%s' (%lld,%lld) of "
                "rank %lld times %g",
                (long long)x->out, (long long)x->in, (long long)x->r, x->scale,
                first->label, (long long)m->out, (long long)m->in, (long long)m->r,
                m->scale);
        return ws_err_at(err, a->path, x->path, -1);
    }
    if (missing == NULL)
        return WS_OK;
    ws_fail(err, WS_E_MISSING, "no factors here, '%s' has them", first->label);
    return ws_err_at(err, a->path, missing, -1);
}

/** The aligned model: its base, and its adapter where there is one. */
static ws_status base_open(ws_mask_run *r, ws_err *err)
{
    const char *path = r->req->base;
    ws_ckpt *c = NULL;
    ws_status st = ws_source_open(&c, path, WS_FOLD_F32, r->ctx, err);
    if (st != WS_OK)
        return st;
    if (!ws_source_is_adapted(c)) {
        ws_ckpt_free(c);
    } else {
        r->source = c;
        path = ws_ckpt_path(ws_source_base(c));
        if (ws_source_adapter(c, 1) != NULL) {
            ws_fail(err, WS_E_USAGE, "one adapter is looked for here, not several");
            return ws_err_at(err, r->req->base, NULL, -1);
        }
    }
    st = ws_model_open(&r->model, path, r->req->config, &r->roomy, err);
    return st == WS_OK ? ws_mask_input(&r->inputs, "base", r->model->ckpt, r->ctx, err)
                       : st;
}

static ws_status adapter_check(ws_mask_run *r, const ws_adapter *a, const char *role,
                               const char *content, ws_err *err)
{
    ws_status st = plain_check(a, err);
    if (st == WS_OK)
        st = ancestry_check(a, content, err);
    if (st == WS_OK && r->adapters[0] != a)
        st = alike_check(r->adapters[0], a, err);
    return st == WS_OK ? ws_mask_input(&r->inputs, role, a->file, r->ctx, err) : st;
}

ws_status ws_mask_factors_open(ws_mask_run *r, ws_err *err)
{
    const ws_mask_run_req *q = r->req;
    char content[48];
    r->adapters = ws_arena_calloc(&r->arena, q->n_models + 1, sizeof *r->adapters);
    if (r->adapters == NULL)
        return no_memory(err);
    ws_status st = base_open(r, err);
    if (st == WS_OK)
        st = ws_ckpt_digest_text(r->model->ckpt, r->ctx, content, err);
    for (size_t k = 0; st == WS_OK && k < q->n_models; k++) {
        st = ws_adapter_open(&r->adapters[k], q->models[k], r->ctx->warnings, err);
        if (st == WS_OK)
            st = adapter_check(r, r->adapters[k], "model", content, err);
    }
    if (st == WS_OK && aligned(r) != NULL)
        st = adapter_check(r, aligned(r), "aligned", content, err);
    return st;
}

/* ---- modules ---- */

/** The part of the base that module @p m stands beside, and room for its factors. */
static ws_status module_make(ws_mask_run *r, const ws_adapter_module *m,
                             ws_mask_module *out, ws_err *err)
{
    const int64_t i = ws_tune_part_of(r->model, m->path);
    const ws_model_part *p = i < 0 ? NULL : ws_model_part_at(r->model, (size_t)i);
    if (p == NULL || p->kind != WS_PART_LINEAR) {
        ws_fail(err, WS_E_MISSING, "the model has no linear '%s'", m->path);
        return ws_err_at(err, r->req->models[0], m->path, -1);
    }
    const int64_t in = p->transposed ? p->rows : p->cols,
                  rows = p->transposed ? p->cols : p->rows;
    if (in != m->in || rows != m->out) {
        ws_fail(err, WS_E_SHAPE,
                "factors are for [%lld,%lld], the model has [%lld,%lld]",
                (long long)m->out, (long long)m->in, (long long)rows, (long long)in);
        return ws_err_at(err, r->req->models[0], m->path, -1);
    }
    *out = (ws_mask_module){ .like = m, .part = (size_t)i };
    out->w[0] = ws_calloc((size_t)(m->r * m->in), sizeof(float));
    out->w[1] = ws_calloc((size_t)(m->out * m->r), sizeof(float));
    out->gain = ws_calloc((size_t)m->r, sizeof(float));
    if (out->w[0] == NULL || out->w[1] == NULL || out->gain == NULL)
        return no_memory(err);
    for (int64_t k = 0; k < m->r; k++)
        out->gain[k] = (float)m->scale;
    out->over =
        (ws_overlay){ .rank = m->r, .A = out->w[0], .B = out->w[1], .gain = out->gain };
    r->want[i].over = &out->over;
    r->bytes += (uint64_t)(m->r * (m->in + m->out + 1)) * sizeof(float);
    return WS_OK;
}

static const ws_tensor *factor(const ws_adapter_module *m, int side)
{
    return side == 0 ? m->a : m->b;
}

/** Add @p scale (factor of model @p k - @p base) to @p delta (n). */
static ws_status update_add(const ws_mask_run *r, size_t k, const char *path, int side,
                            const float *base, float scale, float *delta, bool *changed,
                            ws_err *err)
{
    const ws_adapter *a = r->adapters[k];
    const ws_tensor *t = factor(ws_adapter_find(a, path), side);
    const size_t n = (size_t)t->n_elements;
    float *in = ws_alloc(n * sizeof *in);
    const ws_status st =
        in == NULL ? no_memory(err) : ws_adapter_read_f32(a, t, in, err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        const float d = in[i] - base[i];
        *changed = *changed || d != 0.0f;
        delta[i] += scale * d;
    }
    ws_free(in);
    return st;
}

/** Updates of one factor of all models; *any: one of them changes it. */
static ws_status updates_make(ws_mask_run *r, const ws_adapter_module *m, int side,
                              const float *base, float **deltas, bool *any, ws_err *err)
{
    const float scale = r->req->mix > 0.0 ? (float)r->req->mix : 1.0f;
    const size_t n = (size_t)factor(m, side)->n_elements;
    ws_status st = WS_OK;
    for (size_t k = 0; st == WS_OK && k < r->req->n_models; k++) {
        const size_t to = r->n_updates == 1 ? 0 : k;
        bool changed = false;
        if (deltas[to] == NULL)
            deltas[to] = ws_calloc(n, sizeof(float));
        st = deltas[to] == NULL ? no_memory(err)
                                : update_add(r, k, m->path, side, base, scale,
                                             deltas[to], &changed, err);
        *any = *any || changed;
    }
    return st;
}

/** Factor @p side of module @p x: a block when a model changes it, else as it is. */
static ws_status factor_make(ws_mask_run *r, ws_mask_module *x, int side, bool hit,
                             ws_err *err)
{
    const ws_adapter_module *m = x->like;
    const ws_adapter *from = aligned(r);
    const ws_tensor *t = factor(m, side);
    const size_t n = (size_t)t->n_elements;
    const int64_t rows = side == 0 ? m->r : m->out, cols = side == 0 ? m->in : m->r;
    float **deltas = ws_arena_calloc(&r->arena, r->n_updates, sizeof *deltas);
    bool any = false;
    ws_status st = deltas == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK && from != NULL)
        st = ws_adapter_read_f32(from, factor(ws_adapter_find(from, m->path), side),
                                 x->w[side], err);
    if (st == WS_OK && hit)
        st = updates_make(r, m, side, x->w[side], deltas, &any, err);
    float *grad = st == WS_OK && any ? ws_calloc(n, sizeof *grad) : NULL;
    float *base = grad != NULL ? ws_alloc(n * sizeof *base) : NULL;
    if (base == NULL) {
        ws_free(grad);
        for (size_t k = 0; deltas != NULL && k < r->n_updates; k++)
            ws_free(deltas[k]);
        return st == WS_OK && any ? no_memory(err) : st;
    }
    memcpy(base, x->w[side], n * sizeof *base);
    *(side == 0 ? &x->over.dA : &x->over.dB) = grad;
    r->deltas[r->n_blocks] = deltas;
    r->grads[r->n_blocks] = grad;
    r->shapes[r->n_blocks] = *t;
    ws_soft_block *b = &r->blocks[r->n_blocks++];
    *b = (ws_soft_block){ .name = ws_arena_strdup(&r->arena, t->name),
                          .n = n,
                          .base_dtype = WS_DT_F32,
                          .base = base,
                          .delta = (const ws_real *const *)deltas,
                          .w = x->w[side],
                          .grad = grad };
    b->span = r->req->span(r->req->arg, (size_t)rows, (size_t)cols);
    b->groups = n / b->span;
    r->entries += n;
    r->groups += b->groups;
    r->bytes += n * sizeof(float) * (2 + r->n_updates) + b->groups * r->req->per_group;
    return b->name != NULL ? WS_OK : no_memory(err);
}

ws_status ws_mask_factors_blocks(ws_mask_run *r, const ws_pattern_set *target,
                                 bool *any, ws_err *err)
{
    const ws_adapter *a = r->adapters[0];
    ws_status st = WS_OK;
    r->modules = ws_arena_calloc(&r->arena, a->n_modules + 1, sizeof *r->modules);
    if (r->modules == NULL)
        return no_memory(err);
    for (size_t i = 0; st == WS_OK && i < a->n_modules; i++) {
        st = module_make(r, &a->modules[i], &r->modules[r->n_modules++], err);
        for (int side = 0; st == WS_OK && side < 2; side++) {
            bool hit = true;
            if (target != NULL)
                st = ws_pattern_match(target, factor(&a->modules[i], side)->name, &hit,
                                      err);
            *any = *any || hit;
            if (st == WS_OK)
                st = factor_make(r, &r->modules[i], side, hit, err);
        }
        if (st == WS_OK && r->bytes > ws_ctx_memory(&r->roomy))
            st = ws_mask_run_too_much(r, err);
    }
    return st;
}

void ws_mask_factors_close(ws_mask_run *r)
{
    for (size_t i = 0; i < r->n_modules; i++) {
        ws_free(r->modules[i].w[0]);
        ws_free(r->modules[i].w[1]);
        ws_free(r->modules[i].gain);
    }
    for (size_t k = 0; r->adapters != NULL && k < r->req->n_models; k++)
        ws_adapter_free(r->adapters[k]);
    ws_ckpt_free(r->source);
}

/* ---- what comes of it ---- */

ws_status ws_mask_factors_write(ws_mask_run *r, const ws_write_opts *w,
                                const char *recipe, ws_result **out, ws_err *err)
{
    const ws_adapter *first = r->adapters[0];
    const char *paths[WS_SOFT_TASKS + 1] = { r->req->base };
    ws_adapter_factors *list =
        ws_arena_calloc(&r->arena, r->n_modules + 1, sizeof *list);
    ws_manifest *m = NULL;
    char content[48];
    ws_status st = list == NULL
                       ? no_memory(err)
                       : ws_ckpt_digest_text(r->model->ckpt, r->ctx, content, err);
    if (st != WS_OK)
        return st;
    for (size_t i = 0; i < r->n_modules; i++) {
        const ws_adapter_module *x = r->modules[i].like;
        list[i] = (ws_adapter_factors){ .path = x->path,
                                        .r = x->r,
                                        .in = x->in,
                                        .out = x->out,
                                        .alpha = x->alpha,
                                        .a = r->modules[i].w[0],
                                        .b = r->modules[i].w[1] };
    }
    for (size_t k = 0; k < r->req->n_models; k++)
        paths[k + 1] = r->req->models[k];
    const ws_adapter_spec spec = {
        .modules = list,
        .n_modules = r->n_modules,
        .dtype = w->dtype_keep ? first->modules[0].a->dtype : w->dtype,
        .rslora = first->rslora,
        .fan_in_fan_out = r->model->d.conv1d,
        .base = first->base != NULL ? first->base : ws_ckpt_path(r->model->ckpt),
        .task = first->task,
        .content = content,
        .residual = first->residual,
        .recipe = recipe,
        .inputs = r->inputs.p,
    };
    const ws_adapter_target target = { .out = w->out,
                                       .force = w->force,
                                       .no_provenance = !w->provenance,
                                       .manifest = w->manifest,
                                       .inputs = paths,
                                       .n_inputs = r->req->n_models + 1 };
    st = ws_adapter_write(&spec, &target, r->ctx, &m, err);
    if (st == WS_OK)
        st = ws_tune_adapter_result(out, m, w, err);
    ws_manifest_free(m);
    return st;
}
