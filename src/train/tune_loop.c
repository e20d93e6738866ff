/*
 * tune_loop.c - steps, validation, and when to stop
 *
 * One step: `accumulate` batches, each forward and backward with 1 / N, N the tokens
 * scored in all of them; the norm; the update. What a step does follows from its number
 * alone, so that a resumed run repeats an unbroken one.
 */
#include <math.h>
#include <stdio.h>

#include "base/os.h"
#include "train/schedule.h"
#include "train/tune.h"

ws_step_batch ws_tune_rows(const ws_batch *b)
{
    return (ws_step_batch){ .rows = b->n,
                            .tokens = b->tokens,
                            .targets = b->targets,
                            .start = b->start,
                            .docs = b->n_docs };
}

/* ---- what is not finite ---- */

static const char *bad_parameter(const ws_tune *t)
{
    for (size_t k = 0; k < t->n_slots; k++)
        for (size_t i = 0; i < t->slots[k].n; i++)
            if (!isfinite(t->slots[k].p[i]))
                return t->slots[k].name;
    return NULL;
}

static ws_status not_finite(const ws_tune *t, double loss, int64_t bad, ws_err *err)
{
    const long long step = (long long)t->done + 1;
    const char *p = bad_parameter(t);
    const char *name = p != NULL ? p : bad >= 0 ? t->slots[bad].name : NULL;

    if (p != NULL)
        ws_fail(err, WS_E_NOT_FINITE, "step %lld: tensor '%s' is not finite", step, p);
    else if (name != NULL)
        ws_fail(err, WS_E_NOT_FINITE, "step %lld: the gradient of '%s' is not finite",
                step, name);
    else
        ws_fail(err, WS_E_NOT_FINITE, "step %lld: the loss is %g", step, loss);
    ws_err_hint(err, "a smaller --lr, more --warmup, or --clip 1");
    return ws_err_at(err, t->req->model, name, -1);
}

void ws_tune_note_memory(ws_tune *t)
{
    const uint64_t now = ws_os_memory_now();
    t->peak = now > t->peak ? now : t->peak;
}

/* ---- one step ---- */

static ws_status micro_run(ws_tune *t, const ws_batch *b, double scale, double *loss,
                           ws_err *err)
{
    const ws_step_batch rows = ws_tune_rows(b);
    ws_step_result r = { 0 };
    double sum;

    if (!t->pairs) {
        const ws_status st = ws_step_run(t->step, &rows, scale, NULL, &r, err);
        *loss += r.loss;
        return st;
    }
    ws_status st = ws_step_forward(t->step, &rows, t->logp, &r, err);
    if (st == WS_OK)
        st = ws_pairs_loss(&t->reference, b, t->logp, t->req->dpo_beta, scale, t->up,
                           &sum, err);
    if (st == WS_OK)
        st = ws_step_backward(t->step, t->up, err);
    if (st == WS_OK)
        *loss += sum;
    return st;
}

static ws_status step_run(ws_tune *t, ws_tune_step *out, ws_err *err)
{
    const ws_tune_req *r = t->req;
    const int64_t first = t->done * r->accumulate * r->batch;
    int64_t scored = 0, pairs = 0, bad;
    double loss = 0;
    ws_status st = WS_OK;

    for (int64_t a = 0; st == WS_OK && a < r->accumulate; a++) {
        ws_batch *b = &t->micro[a];
        st = ws_data_batch(t->data, (uint64_t)(first + a * r->batch), r->batch, b, err);
        scored += b->scored;
        pairs += b->n_docs / 2;
    }
    const int64_t count = t->pairs ? pairs : scored;
    const double scale = count > 0 ? 1.0 / (double)count : 0.0;
    ws_optim_clear(t->optim);
    for (int64_t a = 0; st == WS_OK && a < r->accumulate; a++)
        st = micro_run(t, &t->micro[a], scale, &loss, err);
    if (st)
        return st;
    loss *= scale;
    const double norm = ws_optim_norm(t->optim, &bad);
    if (!isfinite(loss) || !isfinite(norm))
        return not_finite(t, loss, bad, err);
    const double lr = r->schedule.lr * ws_schedule_factor(&t->schedule, t->done);
    ws_optim_step(t->optim, t->done + 1, lr, ws_optim_clip(norm, r->optim.clip));
    t->done++;
    t->tokens += (uint64_t)scored;
    t->tokens_here += (uint64_t)scored;
    t->loss_first = t->done == 1 ? loss : t->loss_first;
    t->loss_last = loss;
    *out = (ws_tune_step){
        .step = t->done, .loss = loss, .lr = lr, .norm = norm, .tokens = scored
    };
    return WS_OK;
}

/* ---- validation ---- */

static ws_status validate(ws_tune *t, double *loss, ws_err *err)
{
    const int64_t rows = ws_data_info_of(t->val)->rows, size = t->req->batch;
    double sum = 0, count = 0, part;
    ws_step_result r;
    ws_batch *b = &t->micro[0];
    ws_status st = WS_OK;

    for (int64_t at = 0; st == WS_OK && at < rows; at += size) {
        const int64_t n = rows - at < size ? rows - at : size;
        st = ws_data_batch(t->val, (uint64_t)at, n, b, err);
        if (st)
            return st;
        const ws_step_batch x = ws_tune_rows(b);
        st = ws_step_score(t->step, &x, t->logp, &r, err);
        if (st == WS_OK && t->pairs)
            st = ws_pairs_loss(&t->reference, b, t->logp, t->req->dpo_beta, 0.0, NULL,
                               &part, err);
        sum += t->pairs ? part : r.loss;
        count += t->pairs ? (double)(b->n_docs / 2) : r.weight;
    }
    *loss = sum / count;
    if (st == WS_OK && !isfinite(*loss))
        st = not_finite(t, *loss, -1, err);
    return st;
}

/* ---- what others are told ---- */

static void rates(const ws_tune *t, ws_tune_step *s)
{
    const double now = ws_os_now(), busy = now - t->started - t->lost;

    s->steps = t->schedule.steps;
    s->rate = busy > 0.0 ? (double)t->tokens_here / busy : 0.0;
    const double each = t->tokens > 0 && s->rate > 0.0
                            ? (double)t->tokens / (double)t->done / s->rate
                            : 0.0;
    s->eta = each * (double)(s->steps - s->step);
}

static void show(ws_tune *t, const ws_tune_step *s)
{
    const double now = ws_os_now();

    if (t->ctx->progress == NULL || (now - t->shown_at < 0.1 && s->step < s->steps))
        return;
    t->shown_at = now;
    char note[64];
    snprintf(note, sizeof note, "loss %.3f", s->loss);
    const ws_progress p = { .event = "tune",
                            .unit = "steps",
                            .done = (uint64_t)s->step,
                            .total = (uint64_t)s->steps,
                            .seconds = now - t->started,
                            .eta = s->eta,
                            .note = note };
    t->ctx->progress(t->ctx->payload, &p);
}

static ws_status tell(ws_tune *t, ws_tune_step *s, ws_err *err)
{
    rates(t, s);
    if (!s->val)
        show(t, s);
    if (t->req->step != NULL)
        t->req->step(t->req->arg, s);
    return ws_tune_log_step(t, s, err);
}

/* ---- between steps ---- */

/** Validate when it is time; *enough: it has not become better for too long. */
static ws_status validate_maybe(ws_tune *t, bool *enough, ws_err *err)
{
    const ws_tune_req *r = t->req;
    const bool last = t->done == t->schedule.steps;
    const double began = ws_os_now();
    ws_tune_step s = { .step = t->done, .val = true };

    if (t->val == NULL ||
        !(last || (r->eval_every > 0 && t->done % r->eval_every == 0)))
        return WS_OK;
    ws_status st = validate(t, &s.loss, err);
    if (st)
        return st;
    if (t->best_step < 0 || s.loss < t->best_loss) {
        t->best_step = t->done;
        t->best_loss = s.loss;
        t->worse = 0;
        st = ws_tune_best_save(t, err);
    } else {
        t->worse++;
    }
    *enough = r->patience > 0 && t->worse >= r->patience;
    t->lost += ws_os_now() - began;
    return st == WS_OK ? tell(t, &s, err) : st;
}

/** Whether somebody asked the run to stop, or its time is up. */
static bool stop_asked(const ws_tune *t)
{
    return (t->ctx->stop != NULL && atomic_load(t->ctx->stop) != 0) ||
           (t->req->max_time > 0.0 && ws_os_now() - t->started >= t->req->max_time);
}

static ws_status stop_here(ws_tune *t, ws_err *err)
{
    const ws_status st = ws_tune_state_save(t, err);

    if (st)
        return st;
    return ws_fail(err, WS_E_INTERRUPTED, "stopped after step %lld of %lld",
                   (long long)t->done, (long long)t->schedule.steps);
}

static ws_status save_maybe(ws_tune *t, ws_err *err)
{
    const int64_t every = t->req->save_every;
    const double began = ws_os_now();

    if (every <= 0 || t->done % every != 0 || t->done == t->schedule.steps)
        return WS_OK;
    const ws_status st = ws_tune_state_save(t, err);
    t->lost += ws_os_now() - began;
    return st;
}

ws_status ws_tune_loop(ws_tune *t, ws_err *err)
{
    const int64_t steps =
        t->req->estimate && t->schedule.steps > 2 ? 2 : t->schedule.steps;
    bool enough = t->req->patience > 0 && t->worse >= t->req->patience;
    ws_status st = WS_OK;

    t->started = ws_os_now();
    t->shown_at = -1.0;
    while (st == WS_OK && t->done < steps && !enough) {
        ws_tune_step s;
        if (stop_asked(t))
            return stop_here(t, err);
        st = step_run(t, &s, err);
        ws_tune_note_memory(t);
        if (st == WS_OK)
            st = tell(t, &s, err);
        if (st == WS_OK && !t->req->estimate)
            st = validate_maybe(t, &enough, err);
        if (st == WS_OK && !t->req->estimate && !enough)
            st = save_maybe(t, err);
    }
    if (st)
        return st;
    t->stopped = t->req->estimate ? "estimate" : enough ? "patience" : "steps";
    const bool keep_best = t->best_step >= 0 && t->best_step != t->done;
    return keep_best && !t->req->estimate ? ws_tune_best_load(t, err) : WS_OK;
}
