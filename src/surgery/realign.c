/*
 * realign.c - SOMF: steps of the mask, the model and the mask that come of it
 *
 * A step: a draw; weights of it; the pairs forward and backward; the gradient of the
 * logits from that of the weights; AdamW. The reference is asked once for each pair,
 * where the authors draw it anew in every forward (--reference authors does).
 *
 * @source arXiv:2405.09055; the authors' concrete_mask.py
 */
#include <math.h>
#include <string.h>

#include "base/os.h"
#include "ckpt/ticker.h"
#include "engine/finish.h"
#include "surgery/realign_run.h"
#include "train/schedule.h"

/* ---- from the request ---- */

static size_t span_of(const void *arg, size_t rows, size_t cols)
{
    const ws_realign_req *r = arg;
    return r->scope == WS_MASK_ELEMENT ? 1
           : r->scope == WS_MASK_ROW   ? cols
                                       : rows * cols;
}

ws_soft_op ws_realign_op_of(const ws_realign_req *r)
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
    return ws_realign_target(r, err);
}

/** Logits of all blocks side by side, as one slot of the optimiser. */
static ws_status logits_make(ws_realign_run *a, ws_err *err)
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

static ws_status open_all(ws_realign_run *a, ws_err *err)
{
    const ws_realign_req *r = a->req;
    const ws_soft_op op = ws_realign_op_of(r);
    const bool linear = op == WS_SOFT_SUM || op == WS_SOFT_AVERAGE;
    const bool factors = ws_mask_run_is_factors(r->models, r->n_models);
    const double lambda = !isnan(r->lambda)               ? r->lambda
                          : op == WS_SOFT_TIES            ? 0.4
                          : op == WS_SOFT_SUM && !factors ? 0.04
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
                                    .factors = factors,
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
static ws_status reference_compose(ws_realign_run *a, int64_t step, ws_err *err)
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

static ws_status batch_ask(ws_realign_run *a, ws_err *err)
{
    ws_step_result r;
    const ws_step_batch rows = ws_mask_run_rows(&a->run);
    const ws_status st = ws_step_score(a->run.step, &rows, a->run.logp, &r, err);
    return st == WS_OK ? ws_pairs_keep(&a->reference, &a->run.batch, a->run.logp, err)
                       : st;
}

static ws_status batch_get(ws_realign_run *a, int64_t step, ws_err *err)
{
    const int64_t size = a->req->batch;
    return ws_data_batch(a->run.data, (uint64_t)((step - 1) * size), size,
                         &a->run.batch, err);
}

/** A reference that does not change is asked about all pairs before the first step. */
static ws_status reference_all(ws_realign_run *a, ws_err *err)
{
    if (a->req->reference == WS_REFERENCE_AUTHORS)
        return WS_OK;
    ws_status st = reference_compose(a, 0, err);
    for (int64_t step = 1; st == WS_OK && step <= a->req->steps; step++) {
        st = batch_get(a, step, err);
        if (st == WS_OK && !ws_pairs_known(&a->reference, &a->run.batch))
            st = batch_ask(a, err);
        if (st == WS_OK)
            st = ws_realign_keep_stop(a, err);
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

static ws_status step_run(ws_realign_run *a, int64_t step, ws_realign_step *out,
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

/** A step is done: its loss in the sums of the report; whoever wants to know. */
static ws_status tell(ws_realign_run *a, const ws_realign_step *s, ws_err *err)
{
    const int64_t steps = a->req->steps, tenth = (steps + 9) / 10;
    if (s->step <= tenth)
        a->kept.loss_first += s->loss / (double)tenth;
    if (s->step > steps - tenth)
        a->kept.loss_last += s->loss / (double)tenth;
    a->kept.done = s->step;
    a->kept.tokens += (uint64_t)a->run.batch.scored;
    a->tokens += (uint64_t)a->run.batch.scored;
    if (a->req->step != NULL)
        a->req->step(a->req->arg, s);
    ws_ticker_step(a->ctx, "realign", (uint64_t)s->step, (uint64_t)s->steps, a->began);
    return ws_realign_keep_step(a, s, err);
}

static ws_status learn(ws_realign_run *a, ws_realign_result *out, ws_err *err)
{
    const int64_t steps = a->req->steps, from = a->kept.done;
    ws_status st = from < steps ? reference_all(a, err) : WS_OK;
    a->began = ws_os_now();
    while (st == WS_OK && a->kept.done < steps) {
        ws_realign_step s = { 0 };
        st = ws_realign_keep_stop(a, err);
        if (st == WS_OK)
            st = step_run(a, a->kept.done + 1, &s, err);
        if (st == WS_OK)
            st = tell(a, &s, err);
    }
    if (st != WS_OK)
        return st;
    out->steps = steps;
    out->resumed = from;
    out->loss_first = a->kept.loss_first;
    out->loss_last = a->kept.loss_last;
    out->seconds_per_step =
        from < steps ? (ws_os_now() - a->began) / (double)(steps - from) : 0.0;
    a->soft.hard = a->req->threshold;
    ws_soft_draw(&a->soft, (uint64_t)steps + 1);
    return ws_soft_compose(&a->soft, err);
}

/** What --resume found in place already. */
static ws_status unchanged(ws_realign_result *r, ws_err *err)
{
    r->run = ws_result_new();
    if (r->run == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    r->run->unchanged = true;
    return WS_OK;
}

ws_status ws_realign(ws_realign_result **out, const ws_realign_req *req,
                     const ws_ctx *ctx, ws_err *err)
{
    static const ws_ctx plain = WS_CTX_INIT;
    ws_realign_run a = { .req = req,
                         .ctx = ctx != NULL ? ctx : &plain,
                         .kept = { .lock = -1, .log = -1, .best_step = -1 } };
    a.kept.req = &a.kept_req;
    ws_realign_result *r = ws_calloc(1, sizeof *r);
    ws_status st = r == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the result")
                             : check(req, err);
    if (st == WS_OK)
        st = open_all(&a, err);
    if (st == WS_OK)
        st = ws_realign_recipe(&a, err);
    if (st == WS_OK)
        st = ws_realign_keep_open(&a, err);
    if (st == WS_OK && a.unchanged)
        st = unchanged(r, err);
    else if (st == WS_OK)
        st = learn(&a, r, err);
    if (st == WS_OK && !a.unchanged)
        st = ws_realign_write(&a, r, err);
    ws_realign_keep_close(&a, st != WS_OK);
    ws_optim_free(a.optim);
    ws_pairs_free(&a.reference);
    if (a.opened)
        ws_mask_run_close(&a.run);
    ws_free(a.numbers);
    ws_buf_free(&a.recipe);
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
