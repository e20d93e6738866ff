/*
 * realign.c - SOMF: steps of the mask, the model and the mask that come of it
 *
 * A step: a draw; weights of it; the pairs forward and backward; the gradient of the
 * logits from that of the weights; AdamW. The reference is asked once for each pair,
 * where the authors draw it anew in every forward (--reference authors does).
 *
 * @source arXiv:2405.09055; the authors' concrete_mask.py
 */
#include "wsurg/realign.h"
#include "ckpt/ticker.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/os.h"
#include "surgery/mask_file.h"
#include "surgery/mask_run.h"
#include "train/optim.h"
#include "train/pairs.h"
#include "train/schedule.h"

struct realign {
    const ws_realign_req *req;
    const ws_ctx *ctx;
    ws_mask_run run;
    ws_mask_run_req run_req;
    ws_soft soft;
    ws_pairs reference;
    float *numbers; // logits | gradients | moments, of all blocks
    ws_slot_f32 slot;
    ws_optim *optim;
    bool opened;
};

/* ---- from the request ---- */

static size_t span_of(const void *arg, size_t rows, size_t cols)
{
    const ws_realign_req *r = arg;
    return r->scope == WS_MASK_ELEMENT ? 1
           : r->scope == WS_MASK_ROW   ? cols
                                       : rows * cols;
}

static ws_soft_op op_of(const ws_realign_req *r)
{
    switch (r->op) {
    case WS_REALIGN_TIES:
        return WS_SOFT_TIES;
    case WS_REALIGN_DARE:
        return WS_SOFT_DARE;
    case WS_REALIGN_AVERAGE:
        return WS_SOFT_AVERAGE;
    case WS_REALIGN_SUM:
        return WS_SOFT_SUM;
    case WS_REALIGN_NONE:
        return WS_SOFT_NONE;
    case WS_REALIGN_AUTO:
        break;
    }
    return r->n_models == 1 ? WS_SOFT_NONE : WS_SOFT_SUM;
}

static ws_status usage(ws_err *err, const char *what)
{
    return ws_fail(err, WS_E_USAGE, "%s", what);
}

static ws_status check(const ws_realign_req *r, ws_err *err)
{
    struct stat sb;
    if (r->n_models == 0 || r->n_models > WS_SOFT_TASKS)
        return usage(err, "from 1 to 64 models can be realigned together");
    if (r->op == WS_REALIGN_NONE && r->n_models > 1)
        return usage(err, "--operator none is for one model");
    if (r->pairs == NULL)
        return usage(err, "no --pairs to learn from");
    if (r->batch < 1 || r->steps < 1 || !(r->lr >= 0.0) || !(r->temperature > 0.0))
        return usage(err, "--batch, --steps, --lr and --temperature must be above 0");
    if (!(r->drop >= 0.0 && r->drop < 1.0) || !(r->keep > 0.0 && r->keep <= 1.0))
        return usage(err, "--drop is a share below 1, --keep one above 0");
    if (!r->write.force && lstat(r->write.out, &sb) == 0) {
        ws_fail(err, WS_E_EXISTS, "output is there already");
        ws_err_hint(err, "--force replaces it");
        return ws_err_at(err, r->write.out, NULL, -1);
    }
    ws_write_opts mask = WS_WRITE_OPTS_INIT;
    mask.out = r->save_mask;
    mask.force = r->write.force;
    return r->save_mask == NULL ? WS_OK : ws_mask_check_out(&mask, err);
}

/** Logits of all blocks side by side, as one slot of the optimiser. */
static ws_status logits_make(struct realign *a, ws_err *err)
{
    const ws_realign_req *r = a->req;
    const size_t n = (size_t)a->run.groups;
    a->numbers = ws_calloc(4 * n, sizeof *a->numbers);
    a->soft.parts = ws_arena_calloc(&a->run.arena, 2 * ws_soft_chunks(&a->soft),
                                    sizeof *a->soft.parts);
    if (a->numbers == NULL || a->soft.parts == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for masks");
    float *l = a->numbers;
    for (size_t i = 0; i < a->run.n_blocks; i++) {
        a->run.blocks[i].logits = l;
        a->run.blocks[i].dlogits = l + n;
        l += a->run.blocks[i].groups;
    }
    a->slot = (ws_slot_f32){ .name = "mask",
                             .n = n,
                             .p = a->numbers,
                             .g = a->numbers + n,
                             .m = a->numbers + 2 * n,
                             .v = a->numbers + 3 * n,
                             .decay = r->weight_decay };
    const ws_optim_opts o = { .kind = WS_OPTIM_ADAMW,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 1e-8,
                              .weight_decay = r->weight_decay,
                              .clip = r->clip };
    return ws_optim_new(&a->optim, &o, &a->slot, 1, a->run.pool, err);
}

static ws_status open_all(struct realign *a, ws_err *err)
{
    const ws_realign_req *r = a->req;
    const ws_soft_op op = op_of(r);
    const bool linear = op == WS_SOFT_SUM || op == WS_SOFT_AVERAGE;
    const double lambda = !isnan(r->lambda)    ? r->lambda
                          : op == WS_SOFT_TIES ? 0.4
                                               : 0.3;
    const double factor = op == WS_SOFT_AVERAGE ? 1.0 / (double)r->n_models : lambda;
    a->run_req = (ws_mask_run_req){ .base = r->aligned,
                                    .models = r->models,
                                    .n_models = r->n_models,
                                    .config = r->config,
                                    .tokenizer = r->tokenizer,
                                    .target = r->target,
                                    .data = r->pairs,
                                    .pairs = true,
                                    .batch = r->batch,
                                    .seq = r->seq,
                                    .seed = r->seed,
                                    .mix = linear && r->n_models > 1 ? factor : 0.0,
                                    .per_group = 4 * sizeof(float),
                                    .span = span_of,
                                    .arg = r };
    a->opened = true;
    const ws_status st = ws_mask_run_open(&a->run, &a->run_req, a->ctx, err);
    if (st != WS_OK)
        return st;
    a->soft = (ws_soft){ .blocks = a->run.blocks,
                         .n_blocks = a->run.n_blocks,
                         .tasks = a->run.n_updates,
                         .op = linear ? WS_SOFT_NONE : op, // lambda is in the update
                         .lambda = lambda,
                         .keep = r->keep,
                         .drop = r->drop,
                         .temperature = r->temperature,
                         .over_all = r->scope == WS_MASK_TENSOR,
                         .seed = r->seed,
                         .pool = a->run.pool };
    return logits_make(a, err);
}

/* ---- the reference ---- */

/** Weights of the reference, in place of the policy's. */
static ws_status reference_compose(struct realign *a, int64_t step, ws_err *err)
{
    ws_soft *s = &a->soft;
    const size_t bytes = (size_t)a->run.groups * sizeof *a->numbers;
    ws_status st;
    if (a->req->reference == WS_REFERENCE_AUTHORS) {
        // draws of its own: those of the policy are 1, 2, ...
        float *kept = ws_alloc(bytes);
        if (kept == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for masks");
        memcpy(kept, a->numbers, bytes);
        memset(a->numbers, 0, bytes);
        ws_soft_draw(s, UINT64_C(1) << 63 | (uint64_t)step);
        st = ws_soft_compose(s, err);
        memcpy(a->numbers, kept, bytes);
        ws_free(kept);
        return st;
    }
    ws_soft_draw(s, 0);
    s->bare = a->req->reference == WS_REFERENCE_ALIGNED;
    s->plain = !s->bare;
    st = ws_soft_compose(s, err);
    s->bare = s->plain = false;
    return st;
}

static ws_status batch_ask(struct realign *a, ws_err *err)
{
    ws_step_result r;
    const ws_step_batch rows = ws_mask_run_rows(&a->run);
    const ws_status st = ws_step_score(a->run.step, &rows, a->run.logp, &r, err);
    return st == WS_OK ? ws_pairs_keep(&a->reference, &a->run.batch, a->run.logp, err)
                       : st;
}

static ws_status batch_get(struct realign *a, int64_t step, ws_err *err)
{
    const int64_t size = a->req->batch;
    return ws_data_batch(a->run.data, (uint64_t)((step - 1) * size), size,
                         &a->run.batch, err);
}

static ws_status stopped(const struct realign *a, int64_t step, ws_err *err)
{
    if (a->ctx->stop == NULL || atomic_load(a->ctx->stop) == 0)
        return WS_OK;
    return ws_fail(err, WS_E_INTERRUPTED, "stopped after step %lld of %lld",
                   (long long)step, (long long)a->req->steps);
}

/** A reference that does not change is asked about all pairs before the first step. */
static ws_status reference_all(struct realign *a, ws_err *err)
{
    if (a->req->reference == WS_REFERENCE_AUTHORS)
        return WS_OK;
    ws_status st = reference_compose(a, 0, err);
    for (int64_t step = 1; st == WS_OK && step <= a->req->steps; step++) {
        st = batch_get(a, step, err);
        if (st == WS_OK && !ws_pairs_known(&a->reference, &a->run.batch))
            st = batch_ask(a, err);
        if (st == WS_OK)
            st = stopped(a, 0, err);
    }
    return st;
}

/* ---- steps ---- */

static ws_status not_finite(int64_t step, ws_err *err)
{
    ws_fail(err, WS_E_NOT_FINITE, "step %lld: the loss or its gradient is not finite",
            (long long)step);
    ws_err_hint(err, "a smaller --lr");
    return WS_E_NOT_FINITE;
}

static ws_status step_run(struct realign *a, int64_t step, ws_realign_step *out,
                          ws_err *err)
{
    const ws_realign_req *r = a->req;
    ws_mask_run *m = &a->run;
    const ws_schedule plan = {
        .kind = r->schedule, .lr = r->lr, .steps = r->steps, .warmup = r->warmup
    };
    ws_step_result got = { 0 };
    double sum = 0.0;
    int64_t bad = -1;
    ws_status st = batch_get(a, step, err);
    if (st == WS_OK && r->reference == WS_REFERENCE_AUTHORS) {
        st = reference_compose(a, step, err);
        if (st == WS_OK)
            st = batch_ask(a, err);
    }
    ws_soft_draw(&a->soft, (uint64_t)step);
    if (st == WS_OK)
        st = ws_soft_compose(&a->soft, err);
    if (st != WS_OK)
        return st;
    const ws_step_batch rows = ws_mask_run_rows(m);
    const double pairs = (double)(m->batch.n_docs / 2);
    ws_mask_run_clear(m);
    st = ws_step_forward(m->step, &rows, m->logp, &got, err);
    if (st == WS_OK)
        st = ws_pairs_loss(&a->reference, &m->batch, m->logp, r->beta, 1.0 / pairs,
                           m->up, &sum, err);
    if (st == WS_OK)
        st = ws_step_backward(m->step, m->up, err);
    if (st != WS_OK)
        return st;
    ws_soft_backward(&a->soft);
    const double norm = ws_optim_norm(a->optim, &bad);
    if (!isfinite(sum) || !isfinite(norm))
        return not_finite(step, err);
    const double lr = r->lr * ws_schedule_factor(&plan, step - 1);
    ws_optim_step(a->optim, step, lr, ws_optim_clip(norm, r->clip));
    *out = (ws_realign_step){
        .step = step, .steps = r->steps, .loss = sum / pairs, .norm = norm, .lr = lr
    };
    return WS_OK;
}

static void tell(const struct realign *a, const ws_realign_step *s, double began)
{
    if (a->req->step != NULL)
        a->req->step(a->req->arg, s);
    ws_ticker_step(a->ctx, "realign", (uint64_t)s->step, (uint64_t)s->steps, began);
}

static ws_status learn(struct realign *a, ws_realign_result *out, ws_err *err)
{
    const int64_t steps = a->req->steps, tenth = (steps + 9) / 10;
    ws_status st = reference_all(a, err);
    const double began = ws_os_now();
    for (int64_t step = 1; st == WS_OK && step <= steps; step++) {
        ws_realign_step s = { 0 };
        st = stopped(a, step - 1, err);
        if (st == WS_OK)
            st = step_run(a, step, &s, err);
        if (st != WS_OK)
            return st;
        if (step <= tenth)
            out->loss_first += s.loss / (double)tenth;
        if (step > steps - tenth)
            out->loss_last += s.loss / (double)tenth;
        out->steps = step;
        tell(a, &s, began);
    }
    out->seconds_per_step = (ws_os_now() - began) / (double)steps;
    if (st != WS_OK)
        return st;
    a->soft.hard = a->req->threshold;
    ws_soft_draw(&a->soft, (uint64_t)steps + 1);
    return ws_soft_compose(&a->soft, err);
}

/* ---- what comes of it ---- */

static ws_status mask_make(void *self, size_t tensor, uint64_t first, size_t n,
                           void *out, ws_err *err)
{
    const struct realign *a = self;
    float y[WS_MASK_PIECE];
    (void)err;
    ws_soft_values(&a->soft, &a->run.blocks[tensor], (size_t)first, n, y);
    for (size_t i = 0; i < n; i++) {
        if (a->soft.hard)
            ((uint8_t *)out)[i] = y[i] > 0.5f;
        else
            ((float *)out)[i] = y[i];
    }
    return WS_OK;
}

static ws_status mask_write(struct realign *a, const char *recipe, ws_mask_result **out,
                            ws_err *err)
{
    ws_mask_run *m = &a->run;
    const char *paths[WS_SOFT_TASKS + 1] = { a->req->aligned };
    ws_ctx ctx = *a->ctx;
    uint64_t *shapes = ws_arena_calloc(&m->arena, m->n_blocks, sizeof *shapes);
    ws_tensor *tensors = ws_arena_calloc(&m->arena, m->n_blocks, sizeof *tensors);
    ws_mask_result *r = ws_calloc(1, sizeof *r);
    if (shapes == NULL || tensors == NULL || r == NULL) {
        ws_free(r);
        return ws_fail(err, WS_E_MEMORY, "no memory for the mask");
    }
    for (size_t k = 0; k < a->req->n_models; k++)
        paths[k + 1] = a->req->models[k];
    for (size_t i = 0; i < m->n_blocks; i++) {
        const ws_soft_block *b = &m->blocks[i];
        tensors[i] = m->shapes[i];
        tensors[i].name = b->name;
        if (b->span > 1 || tensors[i].shape == NULL) {
            shapes[i] = b->groups;
            tensors[i].rank = 1;
            tensors[i].shape = &shapes[i];
        }
        tensors[i].dtype = a->soft.hard ? WS_DT_BOOL : WS_DT_F32;
        r->entries += b->groups;
        r->set += b->mean * (double)b->groups;
    }
    r->tensors = m->n_blocks;
    const ws_mask_spec spec = { .tensors = tensors,
                                .n = m->n_blocks,
                                .make = mask_make,
                                .self = a,
                                .made_by = "realign",
                                .scale = a->soft.over_all ? WS_MASK_SCALE_MODEL
                                                          : WS_MASK_SCALE_TENSOR,
                                .recipe = recipe,
                                .inputs = m->inputs.p,
                                .paths = paths,
                                .n_paths = a->req->n_models + 1 };
    ws_write_opts w = WS_WRITE_OPTS_INIT;
    w.out = a->req->save_mask;
    w.force = a->req->write.force;
    w.provenance = a->req->write.provenance;
    ctx.max_memory = ws_ctx_memory(NULL);
    const ws_status st = ws_mask_write(&spec, &w, &ctx, &r->run, err);
    if (st == WS_OK)
        *out = r;
    else
        ws_mask_result_free(r);
    return st;
}

static void recipe_make(const struct realign *a, ws_buf *b)
{
    static const char *const op[] = { "none", "task_arithmetic", "ties", "dare",
                                      "average" };
    static const char *const scope[] = { "element", "row", "tensor" };
    static const char *const reference[] = { "aligned", "fused", "authors" };
    const ws_realign_req *r = a->req;
    ws_buf_printf(b,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"realign\","
                  "\"operator\":\"%s\",\"lambda\":%.17g,\"keep\":%.17g,\"drop\":%.17g,"
                  "\"mask_scope\":\"%s\",\"temperature\":%.17g,\"reference\":\"%s\"",
                  op[op_of(r)], a->soft.lambda, r->keep, r->drop, scope[r->scope],
                  r->temperature, reference[r->reference]);
    ws_buf_printf(b,
                  ",\"dpo_beta\":%.17g,\"mask\":\"%s\",\"batch\":%lld,\"seq\":%lld,"
                  "\"steps\":%lld,\"schedule\":%d,\"warmup\":%lld,\"lr\":%.17g,"
                  "\"weight_decay\":%.17g,\"clip\":%.17g,\"seed\":%llu",
                  r->beta, r->threshold ? "threshold" : "soft", (long long)r->batch,
                  (long long)ws_data_info_of(a->run.data)->longest, (long long)r->steps,
                  (int)r->schedule, (long long)r->warmup, r->lr, r->weight_decay,
                  r->clip, (unsigned long long)r->seed);
    if (r->target != NULL) {
        ws_buf_puts(b, ",\"target\":");
        ws_buf_json_string(b, r->target, strlen(r->target));
    }
    ws_buf_putc(b, '}');
}

static void figures(const struct realign *a, ws_realign_result *out)
{
    double sum = 0.0, low = 0.0, high = 0.0;
    for (size_t i = 0; i < a->run.n_blocks; i++) {
        const ws_soft_block *b = &a->run.blocks[i];
        for (size_t k = 0; k < b->groups; k++) {
            const double p = 1.0 / (1.0 + exp(-(double)b->logits[k]));
            sum += p * (double)b->span;
            low += p < 0.1 ? (double)b->span : 0.0;
            high += p > 0.9 ? (double)b->span : 0.0;
        }
    }
    const double entries = (double)a->run.entries;
    out->tensors = a->run.n_blocks;
    out->entries = a->run.entries;
    out->logits = a->run.groups;
    out->mean = sum / entries;
    out->low = low / entries;
    out->high = high / entries;
    out->pairs = ws_data_info_of(a->run.data)->rows;
    out->memory = a->run.bytes + ws_step_memory_of(a->run.step)->total +
                  ws_model_info_of(a->run.model)->bytes;
}

static ws_status write_all(struct realign *a, ws_realign_result *out, ws_err *err)
{
    ws_buf recipe = { 0 };
    recipe_make(a, &recipe);
    figures(a, out);
    ws_status st =
        recipe.failed ? ws_fail(err, WS_E_MEMORY, "no memory for provenance") : WS_OK;
    if (st == WS_OK && a->req->save_mask != NULL)
        st = mask_write(a, recipe.p, &out->mask, err);
    if (st == WS_OK)
        st = ws_mask_run_write(&a->run, &a->req->write, recipe.p, &out->run, err);
    ws_buf_free(&recipe);
    return st;
}

ws_status ws_realign(ws_realign_result **out, const ws_realign_req *req,
                     const ws_ctx *ctx, ws_err *err)
{
    static const ws_ctx plain = WS_CTX_INIT;
    struct realign a = { .req = req, .ctx = ctx != NULL ? ctx : &plain };
    ws_realign_result *r = ws_calloc(1, sizeof *r);
    ws_status st = r == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the result")
                             : check(req, err);
    if (st == WS_OK)
        st = open_all(&a, err);
    if (st == WS_OK)
        st = learn(&a, r, err);
    if (st == WS_OK)
        st = write_all(&a, r, err);
    ws_optim_free(a.optim);
    ws_pairs_free(&a.reference);
    if (a.opened)
        ws_mask_run_close(&a.run);
    ws_free(a.numbers);
    if (st == WS_OK)
        *out = r;
    else
        ws_realign_result_free(r);
    return st;
}

void ws_realign_result_free(ws_realign_result *r)
{
    if (r == NULL)
        return;
    ws_result_free(r->run);
    ws_mask_result_free(r->mask);
    ws_free(r);
}
