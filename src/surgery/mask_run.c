/*
 * mask_run.c - from a request to updates in memory, data, and a step
 *
 * An update is the difference to the base in float32. Tensors that no model changes
 * have no mask and no copy.
 */
#include "surgery/mask_run.h"

#include <string.h>

#include "base/os.h"
#include "model/model_internal.h"
#include "surgery/mask_pair.h"
#include "train/tune.h"
#include "wsurg/digest.h"
#include "wsurg/pattern.h"
#include "wsurg/source.h"

enum { MOST_POSITIONS = 1024 };

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for updates");
}

/* ---- models ---- */

static ws_status models_open(ws_mask_run *r, ws_err *err)
{
    const ws_mask_run_req *q = r->req;
    r->roomy = *r->ctx;
    if (r->roomy.max_memory == 0)
        r->roomy.max_memory = ws_os_memory_total() / 2;
    r->models = ws_arena_calloc(&r->arena, q->n_models + 1, sizeof *r->models);
    if (r->models == NULL)
        return no_memory(err);
    if (q->factors)
        return ws_mask_factors_open(r, err);
    ws_status st = ws_model_open(&r->model, q->base, q->config, &r->roomy, err);
    if (st == WS_OK)
        st = ws_mask_input(&r->inputs, "base", r->model->ckpt, r->ctx, err);
    for (size_t k = 0; st == WS_OK && k < q->n_models; k++) {
        st = ws_source_open(&r->models[k], q->models[k], WS_FOLD_F32, r->ctx, err);
        if (st == WS_OK && ws_ckpt_kind_of(r->models[k]) != WS_KIND_MODEL) {
            st = ws_source_refuse_kind(ws_ckpt_kind_of(r->models[k]), err);
            ws_err_at(err, q->models[k], NULL, -1);
        }
        if (st == WS_OK)
            st = ws_mask_input(&r->inputs, "model", r->models[k], r->ctx, err);
    }
    return st;
}

/* ---- updates ---- */

static ws_status find(const ws_mask_run *r, size_t k, const ws_model_part *p,
                      const ws_tensor **out, ws_err *err)
{
    *out = ws_ckpt_find(r->models[k], p->name);
    if (*out == NULL)
        ws_fail(err, WS_E_MISSING, "tensor of the base is not there");
    else if ((*out)->n_elements != (uint64_t)p->n)
        ws_fail(err, WS_E_SHAPE, "tensor has %llu numbers, the base's %lld",
                (unsigned long long)(*out)->n_elements, (long long)p->n);
    else if (!ws_dtype_info((*out)->dtype)->arithmetic)
        ws_fail(err, WS_E_DTYPE, "no arithmetic for dtype %s",
                ws_dtype_info((*out)->dtype)->name);
    else
        return WS_OK;
    return ws_err_at(err, r->req->models[k], p->name, -1);
}

/** Add @p factor times the update of model @p k to @p delta. */
static ws_status read_update(const ws_mask_run *r, size_t k, const ws_model_part *p,
                             float factor, float *delta, bool *changed, ws_err *err)
{
    const ws_tensor *t = NULL;
    const size_t size = ws_dtype_info(p->dtype)->bits / 8;
    float base[WS_MASK_PIECE], in[WS_MASK_PIECE];
    unsigned char raw[WS_MASK_PIECE * sizeof(double)];
    ws_status st = find(r, k, p, &t, err);
    if (st != WS_OK)
        return st;
    const size_t width = ws_dtype_info(t->dtype)->bits / 8;
    for (size_t at = 0; st == WS_OK && at < (size_t)p->n; at += WS_MASK_PIECE) {
        const size_t left = (size_t)p->n - at;
        const size_t n = left < WS_MASK_PIECE ? left : WS_MASK_PIECE;
        st = ws_ckpt_read(r->models[k], t, at * width, n * width, raw, err);
        if (st != WS_OK)
            break;
        ws_to_f32(t->dtype, raw, in, n);
        ws_to_f32(p->dtype, (const char *)p->data + at * size, base, n);
        for (size_t i = 0; i < n; i++) {
            const float d = in[i] - base[i];
            *changed = *changed || d != 0.0f;
            delta[at + i] += factor * d;
        }
    }
    return st;
}

static void updates_free(ws_mask_run *r, float **deltas)
{
    for (size_t k = 0; deltas != NULL && k < r->n_updates; k++)
        ws_free(deltas[k]);
}

/** The updates of part @p p; all NULL when no model changes it. */
static ws_status updates_make(ws_mask_run *r, const ws_model_part *p, float **deltas,
                              bool *any, ws_err *err)
{
    const float factor = r->req->mix > 0.0 ? (float)r->req->mix : 1.0f;
    ws_status st = WS_OK;
    *any = false;
    for (size_t k = 0; st == WS_OK && k < r->req->n_models; k++) {
        const size_t to = r->n_updates == 1 ? 0 : k;
        bool changed = false;
        if (deltas[to] == NULL)
            deltas[to] = ws_calloc((size_t)p->n, sizeof(float));
        st = deltas[to] == NULL
                 ? no_memory(err)
                 : read_update(r, k, p, factor, deltas[to], &changed, err);
        *any = *any || changed;
        if (r->n_updates > 1 && !changed) {
            ws_free(deltas[to]);
            deltas[to] = NULL;
        }
    }
    return st;
}

ws_status ws_mask_run_too_much(const ws_mask_run *r, ws_err *err)
{
    char want[24], have[24];
    ws_show_bytes(r->bytes, want);
    ws_show_bytes(ws_ctx_memory(&r->roomy), have);
    ws_fail(err, WS_E_MEMORY,
            "updates, masks and gradients take more than %s, the limit is %s", want,
            have);
    ws_err_hint(err, "--target PATTERN masks fewer tensors, --mask-scope row needs "
                     "fewer numbers; --max-memory raises the limit");
    return WS_E_MEMORY;
}

/** Names, shape and copies of a block whose updates are there. */
static ws_status block_fill(ws_mask_run *r, size_t i, float **deltas, ws_err *err)
{
    const ws_model_part *p = ws_model_part_at(r->model, i);
    const ws_tensor *t = ws_ckpt_find(r->model->ckpt, p->name);
    const bool vector = p->rows <= 1 || p->cols <= 1;
    const size_t size = ws_dtype_info(p->dtype)->bits / 8, n = (size_t)p->n;
    ws_soft_block *b = &r->blocks[r->n_blocks];
    ws_real *w = NULL;
    void *base = ws_alloc(n * size);
    if (base == NULL)
        return no_memory(err);
    memcpy(base, p->data, n * size);
    *b = (ws_soft_block){ .name = ws_arena_strdup(&r->arena, p->name),
                          .n = n,
                          .base_dtype = p->dtype,
                          .base = base,
                          .delta = (const ws_real *const *)deltas };
    b->span = r->req->span(r->req->arg, vector ? n : (size_t)p->rows,
                           vector ? 1 : (size_t)p->cols);
    b->groups = n / b->span;
    r->deltas[r->n_blocks] = deltas;
    r->shapes[r->n_blocks] = t != NULL ? *t : (ws_tensor){ .rank = 1, .n_elements = n };
    r->n_blocks++;
    r->grads[r->n_blocks - 1] = ws_calloc(n, sizeof(float));
    if (b->name == NULL || r->grads[r->n_blocks - 1] == NULL)
        return no_memory(err);
    b->grad = r->grads[r->n_blocks - 1];
    r->want[i].grad = r->grads[r->n_blocks - 1];
    const ws_status st = ws_model_master(r->model, i, &w, err);
    b->w = w;
    r->entries += n;
    r->groups += b->groups;
    for (size_t k = 0; k < r->n_updates; k++)
        r->bytes += deltas[k] != NULL ? n * sizeof(float) : 0;
    r->bytes += n * (size + sizeof(float)) + b->groups * r->req->per_group;
    return st;
}

static ws_status block_make(ws_mask_run *r, size_t i, ws_err *err)
{
    const ws_model_part *p = ws_model_part_at(r->model, i);
    float **deltas = ws_arena_calloc(&r->arena, r->n_updates, sizeof *deltas);
    bool any = false;
    ws_status st =
        deltas == NULL ? no_memory(err) : updates_make(r, p, deltas, &any, err);
    if (st != WS_OK || !any) {
        updates_free(r, deltas);
        return st;
    }
    st = block_fill(r, i, deltas, err);
    if (st == WS_OK && r->bytes > ws_ctx_memory(&r->roomy))
        st = ws_mask_run_too_much(r, err);
    return st;
}

/** A tensor as it is, with a gradient. */
static ws_status block_plain(ws_mask_run *r, size_t i, ws_err *err)
{
    const ws_model_part *p = ws_model_part_at(r->model, i);
    const ws_tensor *t = ws_ckpt_find(r->model->ckpt, p->name);
    const size_t n = (size_t)p->n;
    const bool apart = p->kind == WS_PART_EMBED || p->kind == WS_PART_POSITIONS ||
                       p->kind == WS_PART_HEAD;
    if (r->req->target == NULL && apart)
        return WS_OK;
    float *grad = ws_calloc(n, sizeof *grad);
    r->grads[r->n_blocks] = grad;
    r->shapes[r->n_blocks] = t != NULL ? *t : (ws_tensor){ .rank = 1, .n_elements = n };
    r->blocks[r->n_blocks++] = (ws_soft_block){
        .name = p->name, .n = n, .span = 1, .groups = n, .grad = grad
    };
    r->want[i].grad = grad;
    r->entries += n;
    r->groups += n;
    r->bytes += n * (sizeof *grad + r->req->per_group);
    if (grad == NULL)
        return no_memory(err);
    return r->bytes > ws_ctx_memory(&r->roomy) ? ws_mask_run_too_much(r, err) : WS_OK;
}

static ws_status blocks_make(ws_mask_run *r, ws_err *err)
{
    const size_t n = ws_model_part_count(r->model);
    size_t most = n + 1;
    ws_pattern_set *target = NULL;
    bool hit = true, any = false;
    ws_status st = WS_OK;
    if (r->req->factors)
        most += 2 * r->adapters[0]->n_modules;
    r->n_updates = r->req->mix > 0.0 ? 1 : r->req->n_models;
    r->blocks = ws_arena_calloc(&r->arena, most, sizeof *r->blocks);
    r->deltas = ws_arena_calloc(&r->arena, most, sizeof *r->deltas);
    r->grads = ws_arena_calloc(&r->arena, most, sizeof *r->grads);
    r->shapes = ws_arena_calloc(&r->arena, most, sizeof *r->shapes);
    r->want = ws_arena_calloc(&r->arena, n + 1, sizeof *r->want);
    if (r->blocks == NULL || r->deltas == NULL || r->grads == NULL ||
        r->shapes == NULL || r->want == NULL)
        return no_memory(err);
    if (r->req->target != NULL)
        st = ws_pattern_new(&target, r->req->target, err);
    if (st == WS_OK && r->req->factors)
        st = ws_mask_factors_blocks(r, target, &any, err);
    for (size_t i = 0; st == WS_OK && !r->req->factors && i < n; i++) {
        if (target != NULL)
            st = ws_pattern_match(target, ws_model_part_at(r->model, i)->name, &hit,
                                  err);
        any = any || hit;
        if (st == WS_OK && hit)
            st = r->req->plain ? block_plain(r, i, err) : block_make(r, i, err);
    }
    ws_pattern_free(target);
    if (st == WS_OK && !any)
        return ws_fail(err, WS_E_USAGE, "--target '%s' hits no tensor", r->req->target);
    if (st == WS_OK && r->n_blocks == 0)
        return ws_fail(err, WS_E_USAGE,
                       r->req->plain ? "no tensor is left to look at"
                                     : "no model differs from the base there");
    for (size_t k = 0; st == WS_OK && k < r->req->n_models; k++) {
        ws_ckpt_free(r->models[k]);
        r->models[k] = NULL;
    }
    return st;
}

/* ---- data ---- */

static ws_status data_open(ws_mask_run *r, ws_data **out, const char *spec, bool score,
                           ws_err *err)
{
    const ws_model_info *info = ws_model_info_of(r->model);
    const int64_t most = info->max_positions;
    ws_data_opts o = WS_DATA_OPTS_INIT;
    ws_data_source s;
    ws_status st = ws_data_source_parse(&s, spec, &r->arena, err);
    if (st != WS_OK)
        return st;
    o.length = r->req->seq > 0                     ? r->req->seq
               : most > 0 && most < MOST_POSITIONS ? most
                                                   : MOST_POSITIONS;
    o.pack = true;
    o.model = info->folder;
    o.seed = r->req->seed;
    o.vocab = info->vocab;
    o.in_order = score;
    st = ws_data_open(out, &s, 1, r->tokenizer, &o, &r->roomy, err);
    if (st == WS_OK &&
        (ws_data_info_of(*out)->kind == WS_DATA_PAIRS) != r->req->pairs) {
        st = ws_fail(err, WS_E_USAGE,
                     r->req->pairs
                         ? "preference pairs are wanted: lines of prompt, chosen and "
                           "rejected"
                         : "preference pairs are no data for this");
        ws_err_at(err, s.path, NULL, -1);
    }
    if (st != WS_OK)
        return st;
    r->bytes += ws_data_info_of(*out)->memory_bytes;
    return ws_tune_input_file(&r->inputs, score ? "val" : "data", s.name, s.path, err);
}

static ws_status all_data_open(ws_mask_run *r, ws_err *err)
{
    const char *from = r->req->tokenizer;
    ws_status st = ws_tokenizer_open(
        &r->tokenizer, from != NULL ? from : ws_model_info_of(r->model)->folder, err);
    if (st == WS_E_MISSING && from == NULL)
        st = WS_OK; // files of tokens need none; others say so
    if (st == WS_OK)
        st = data_open(r, &r->data, r->req->data, false, err);
    if (st == WS_OK && r->req->val != NULL)
        st = data_open(r, &r->val, r->req->val, true, err);
    return st;
}

/* ---- the step ---- */

static ws_status step_make(ws_mask_run *r, ws_err *err)
{
    const ws_data_info *d = ws_data_info_of(r->data);
    int64_t longest = d->longest;
    if (r->val != NULL && ws_data_info_of(r->val)->longest > longest)
        longest = ws_data_info_of(r->val)->longest;
    const int64_t rows = r->req->batch * longest * (r->req->pairs ? 2 : 1);
    const ws_step_opts o = { .rows = rows, .positions = longest, .beside = r->bytes };
    r->logp = ws_arena_calloc(&r->arena, (size_t)rows, sizeof *r->logp);
    r->up = ws_arena_calloc(&r->arena, (size_t)rows, sizeof *r->up);
    if (r->logp == NULL || r->up == NULL)
        return no_memory(err);
    const ws_status st =
        ws_step_new(&r->step, r->model, r->want, &o, NULL, &r->roomy, err);
    if (st == WS_OK)
        r->pool = ws_step_pool(r->step);
    return st;
}

bool ws_mask_run_is_factors(const char *const *models, size_t n)
{
    bool all = n > 0;
    for (size_t k = 0; k < n; k++)
        all = all && ws_source_is_adapter(models[k]);
    return all;
}

ws_status ws_mask_run_open(ws_mask_run *r, const ws_mask_run_req *req,
                           const ws_ctx *ctx, ws_err *err)
{
    static const ws_ctx plain = WS_CTX_INIT;
    *r = (ws_mask_run){ .req = req, .ctx = ctx != NULL ? ctx : &plain };
    ws_status st = models_open(r, err);
    if (st == WS_OK)
        st = all_data_open(r, err);
    if (st == WS_OK)
        st = blocks_make(r, err);
    ws_buf_putc(&r->inputs, ']');
    return st == WS_OK ? step_make(r, err) : st;
}

void ws_mask_run_close(ws_mask_run *r)
{
    ws_step_free(r->step);
    for (size_t i = 0; i < r->n_blocks; i++) {
        updates_free(r, r->deltas[i]); // NULL: none
        ws_free(r->grads[i]);
        ws_free((void *)(uintptr_t)r->blocks[i].base);
    }
    ws_mask_factors_close(r);
    ws_data_free(r->data);
    ws_data_free(r->val);
    for (size_t k = 0; r->models != NULL && k < r->req->n_models; k++)
        ws_ckpt_free(r->models[k]);
    ws_batch_free(&r->batch);
    ws_tokenizer_free(r->tokenizer);
    ws_model_free(r->model);
    ws_buf_free(&r->inputs);
    ws_arena_free(&r->arena);
}

ws_step_batch ws_mask_run_rows(const ws_mask_run *r)
{
    return ws_tune_rows(&r->batch);
}

void ws_mask_run_clear(ws_mask_run *r)
{
    for (size_t i = 0; i < r->n_blocks; i++)
        memset(r->grads[i], 0, r->blocks[i].n * sizeof **r->grads);
}
