/*
 * atlas.c - learning coefficients: steps, scores, and the best of them
 *
 * A step: weights from coefficients; each task's rows forward and backward with 1 / N
 * of that task; the gradient of the coefficients from that of the weights; AdamW.
 * Gradients of the tasks add up in the weights, so that task vectors are read twice per
 * step.
 *
 * @source arXiv:2407.02880, sections 3 and 4; entropy: its appendix E
 */
#include "ckpt/ticker.h"
#include "surgery/atlas_run.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "train/schedule.h"
#include "train/tune.h"

/* ---- entropy ---- */

/** Entropy of softmax(z), whose gradient is -p (log p + H). */
static double entropy_row(void *arg, int64_t row, ws_real *z, int64_t V, int thread)
{
    double top = (double)z[0], sum = 0.0, h = 0.0;
    (void)arg;
    (void)row;
    (void)thread;
    for (int64_t i = 1; i < V; i++)
        top = fmax(top, (double)z[i]);
    for (int64_t i = 0; i < V; i++)
        sum += exp((double)z[i] - top);
    const double log_sum = log(sum);
    for (int64_t i = 0; i < V; i++) {
        const double logp = (double)z[i] - top - log_sum;
        h -= exp(logp) * logp;
    }
    for (int64_t i = 0; i < V; i++) {
        const double logp = (double)z[i] - top - log_sum;
        z[i] = (ws_real)(-exp(logp) * (logp + h));
    }
    return h;
}

/* ---- scores ---- */

static ws_status run_rows(ws_atlas *a, const ws_step_batch *rows, double scale,
                          bool learn, ws_step_result *out, ws_err *err)
{
    const ws_row_loss entropy = { entropy_row, NULL };
    if (a->req->entropy)
        return ws_step_run_loss(a->step, rows, learn ? scale : 0.0, &entropy, out, err);
    return learn ? ws_step_run(a->step, rows, scale, NULL, out, err)
                 : ws_step_score(a->step, rows, NULL, out, err);
}

/** Loss per token of a task at the coefficients as they are composed. */
static ws_status score(ws_atlas *a, ws_atlas_set *s, ws_err *err)
{
    const ws_data *data = s->val != NULL ? s->val : s->data; // few shots: themselves
    const int64_t shots = s->val != NULL ? 0 : a->req->shots, size = a->req->batch;
    const int64_t all = ws_data_info_of(data)->rows;
    const int64_t rows = shots > 0 && shots < all ? shots : all;
    double sum = 0.0, count = 0.0;
    ws_status st = WS_OK;
    for (int64_t at = 0; st == WS_OK && at < rows; at += size) {
        ws_step_result r = { 0 };
        const int64_t n = rows - at < size ? rows - at : size;
        st = ws_data_batch(data, (uint64_t)at, n, &a->batch, err);
        if (st != WS_OK)
            return st;
        const ws_step_batch x = ws_tune_rows(&a->batch);
        st = run_rows(a, &x, 0.0, false, &r, err);
        sum += r.loss;
        count += r.weight;
    }
    s->now = sum / count;
    if (st == WS_OK && !isfinite(s->now))
        st = ws_fail(err, WS_E_NOT_FINITE, "the loss of task '%s' is not finite",
                     s->name);
    return st;
}

/** Sum over the tasks, in negation over those to forget; *held: no task that is to be
 * kept has become too bad. */
static ws_status score_all(ws_atlas *a, double *sum, bool *held, ws_err *err)
{
    ws_status st = ws_atlas_compose(a, err);
    *sum = 0.0;
    *held = true;
    for (size_t i = 0; st == WS_OK && i < a->n_sets; i++) {
        ws_atlas_set *s = &a->sets[i];
        st = score(a, s, err);
        if (!a->forgetting || s->sign < 0.0)
            *sum += s->sign * s->now;
        else if (s->before > 0.0)
            *held = *held && s->now <= s->before * a->req->control;
    }
    return st;
}

/* ---- steps ---- */

static void note_memory(ws_atlas *a)
{
    const uint64_t now = ws_os_memory_now();
    a->peak = now > a->peak ? now : a->peak;
}

static ws_status not_finite(const ws_atlas *a, int64_t step, ws_err *err)
{
    ws_fail(err, WS_E_NOT_FINITE,
            "step %lld: the gradient of the coefficients is not "
            "finite",
            (long long)step);
    ws_err_hint(err, "a smaller --lr");
    return ws_err_at(err, a->req->base, NULL, -1), WS_E_NOT_FINITE;
}

/** Gradient of l1 and l2 times the mean over blocks of their coefficients' norms. */
static void add_penalty(ws_atlas *a)
{
    const size_t each = a->n_lambda / a->n_blocks;
    const double l1 = a->req->l1 / (double)a->n_blocks;
    const double l2 = a->req->l2 / (double)a->n_blocks;
    if (l1 == 0.0 && l2 == 0.0)
        return;
    for (size_t i = 0; i < a->n_blocks; i++) {
        const float *x = a->lambda + i * each;
        double norm = 0.0;
        for (size_t j = 0; j < each; j++)
            norm += (double)x[j] * (double)x[j];
        norm = sqrt(norm);
        for (size_t j = 0; j < each; j++) {
            const double sign = x[j] > 0.0f ? 1.0 : x[j] < 0.0f ? -1.0 : 0.0;
            const double along = norm > 0.0 ? (double)x[j] / norm : 0.0;
            a->dlambda[i * each + j] += (float)(l1 * sign + l2 * along);
        }
    }
}

/** Rows of a task for a step: the next of its epoch, or of its few shots in turn. */
static ws_status next_rows(ws_atlas *a, const ws_atlas_set *s, int64_t step,
                           ws_err *err)
{
    const int64_t rows = ws_data_info_of(s->data)->rows, batch = a->req->batch;
    const int64_t shots = a->req->shots < rows ? a->req->shots : rows;
    if (a->req->shots == 0)
        return ws_data_batch(s->data, (uint64_t)((step - 1) * batch), batch, &a->batch,
                             err);
    const int64_t n = batch < shots ? batch : shots, at = (step - 1) * n % shots;
    return ws_data_batch(s->data, (uint64_t)(at + n > shots ? shots - n : at), n,
                         &a->batch, err);
}

ws_status ws_atlas_gradient(ws_atlas *a, int64_t step, double *loss, ws_err *err)
{
    ws_status st = ws_atlas_compose(a, err);
    *loss = 0.0;
    for (size_t i = 0; i < a->n_blocks; i++)
        memset(a->blocks[i].grad, 0, a->blocks[i].n * sizeof(ws_real));
    for (size_t i = 0; st == WS_OK && i < a->n_sets; i++) {
        const ws_atlas_set *s = &a->sets[i];
        ws_step_result part = { 0 };
        st = next_rows(a, s, step, err);
        if (st != WS_OK || a->batch.scored == 0)
            continue;
        const ws_step_batch x = ws_tune_rows(&a->batch);
        const double scale = s->sign / (double)a->batch.scored;
        st = run_rows(a, &x, scale, true, &part, err);
        *loss += part.loss * scale;
    }
    return st == WS_OK ? ws_atlas_project(a, err) : st;
}

static ws_status step_run(ws_atlas *a, int64_t step, ws_atlas_step *out, ws_err *err)
{
    const ws_atlas_plan *p = &a->plan;
    const ws_schedule plan = { .kind = p->schedule, .lr = p->lr, .steps = p->steps };
    int64_t bad = -1;
    double loss = 0.0;
    const ws_status st = ws_atlas_gradient(a, step, &loss, err);
    if (st != WS_OK)
        return st;
    add_penalty(a);
    const double norm = ws_optim_norm(a->optim, &bad);
    if (!isfinite(loss) || !isfinite(norm))
        return not_finite(a, step, err);
    const double lr = p->lr * ws_schedule_factor(&plan, step - 1);
    ws_optim_step(a->optim, step, lr, ws_optim_clip(norm, a->req->clip));
    *out = (ws_atlas_step){
        .step = step, .steps = p->steps, .loss = loss, .norm = norm, .lr = lr
    };
    return WS_OK;
}

static void tell(const ws_atlas *a, const ws_atlas_step *s, double began)
{
    if (a->req->step != NULL)
        a->req->step(a->req->arg, s);
    if (!s->val)
        ws_ticker_step(a->ctx, "learn", (uint64_t)s->step, (uint64_t)s->steps, began);
}

/** Keep the coefficients when they are the best so far; false: enough. */
static ws_status choose(ws_atlas *a, int64_t step, double *lowest, int64_t *best_step,
                        bool *go_on, double began, ws_err *err)
{
    ws_atlas_step s = { .step = step, .steps = a->plan.steps, .val = true };
    const ws_status st = score_all(a, &s.loss, go_on, err);
    if (st != WS_OK)
        return st;
    if (*go_on && s.loss < *lowest) {
        *lowest = s.loss;
        *best_step = step;
        memcpy(a->best, a->lambda, a->n_lambda * sizeof *a->best);
    }
    tell(a, &s, began);
    return WS_OK;
}

static ws_status learn(ws_atlas *a, ws_atlas_result *out, ws_err *err)
{
    const int64_t steps = a->plan.steps;
    const int64_t every = a->req->eval_every > 0 ? a->req->eval_every
                          : a->plan.epoch > 0    ? a->plan.epoch
                                                 : (steps + 9) / 10;
    const double began = ws_os_now();
    double lowest = INFINITY, busy = 0.0;
    bool go_on = true;
    ws_status st = choose(a, 0, &lowest, &out->best_step, &go_on, began, err);
    for (size_t i = 0; i < a->n_sets; i++)
        a->sets[i].before = a->sets[i].now;
    note_memory(a);
    if (st == WS_OK)
        st = ws_atlas_select(a, err);
    for (int64_t step = 1; st == WS_OK && go_on && step <= steps; step++) {
        ws_atlas_step s = { 0 };
        const double at = ws_os_now();
        if (a->ctx->stop != NULL && atomic_load(a->ctx->stop) != 0)
            return ws_fail(err, WS_E_INTERRUPTED, "stopped after step %lld of %lld",
                           (long long)step - 1, (long long)steps);
        st = step_run(a, step, &s, err);
        busy += ws_os_now() - at;
        if (st != WS_OK)
            return st;
        out->steps = step;
        note_memory(a);
        tell(a, &s, began);
        if (step % every == 0 || step == steps)
            st = choose(a, step, &lowest, &out->best_step, &go_on, began, err);
    }
    out->seconds_per_step = out->steps > 0 ? busy / (double)out->steps : 0.0;
    memcpy(a->lambda, a->best, a->n_lambda * sizeof *a->best);
    return st == WS_OK ? score_all(a, &lowest, &go_on, err) : st;
}

/* ---- the result ---- */

/** Coefficients by task vector, block and group. */
static void lambda_fill(const ws_atlas *a, double *lambda, size_t *used)
{
    const size_t models = a->req->n_models, groups = a->groups;
    for (size_t k = 0; k < models; k++)
        for (size_t i = 0; i < a->n_blocks; i++) {
            const float *from = a->lambda + a->blocks[i].first + k * groups;
            double *to = lambda + (k * a->n_blocks + i) * groups;
            used[k] += ws_atlas_tau_any(&a->blocks[i].tau[k]);
            for (size_t g = 0; g < groups; g++)
                to[g] = (double)from[g];
        }
}

static ws_status result_fill(const ws_atlas *a, ws_atlas_result *out, ws_err *err)
{
    const size_t models = a->req->n_models;
    ws_arena *m = &out->arena;
    const char **labels = ws_arena_calloc(m, models, sizeof *labels);
    const char **blocks = ws_arena_calloc(m, a->n_blocks, sizeof *blocks);
    double *lambda = ws_arena_calloc(m, a->n_lambda, sizeof *lambda);
    size_t *used = ws_arena_calloc(m, models, sizeof *used);
    ws_atlas_task *tasks = ws_arena_calloc(m, a->n_sets, sizeof *tasks);
    bool full = labels && blocks && lambda && used && tasks;
    for (size_t k = 0; full && k < models; k++)
        full = (labels[k] = ws_arena_strdup(m, a->labels[k])) != NULL;
    for (size_t i = 0; full && i < a->n_blocks; i++)
        full = (blocks[i] = ws_arena_strdup(m, a->blocks[i].name)) != NULL;
    for (size_t i = 0; full && i < a->n_sets; i++) {
        const ws_atlas_set *s = &a->sets[i];
        tasks[i] = (ws_atlas_task){ ws_arena_strdup(m, s->name), s->sign < 0.0,
                                    s->before, s->now };
        full = tasks[i].name != NULL;
    }
    if (!full)
        return ws_fail(err, WS_E_MEMORY, "no memory for the coefficients");
    lambda_fill(a, lambda, used);
    out->n_models = models;
    out->n_blocks = a->n_blocks;
    out->n_tasks = a->n_sets;
    out->partitions = a->groups;
    out->objective = a->plan.objective;
    out->lr = a->plan.lr;
    out->labels = labels;
    out->blocks = blocks;
    out->lambda = lambda;
    out->used = used;
    out->tasks = tasks;
    out->memory = a->bytes + ws_step_memory_of(a->step)->total +
                  ws_step_memory_of(a->step)->weights;
    out->resident = a->resident;
    out->peak = a->peak;
    return WS_OK;
}

static ws_status exists(const char *path, ws_err *err)
{
    if (path == NULL || access(path, F_OK) != 0)
        return WS_OK;
    ws_fail(err, WS_E_EXISTS, "output is there already");
    ws_err_hint(err, "--force replaces it");
    return ws_err_at(err, path, NULL, -1), WS_E_EXISTS;
}

static ws_status check(const ws_atlas_req *r, ws_err *err)
{
    ws_status st = r->force ? WS_OK : exists(r->out, err);
    if (st == WS_OK && !r->force)
        st = exists(r->svg, err);
    if (st != WS_OK)
        return st;
    if (r->n_models == 0 || r->n_models > WS_ATLAS_MODELS)
        return ws_fail(err, WS_E_USAGE, "%zu models beside the base, not 1 to %d",
                       r->n_models, WS_ATLAS_MODELS);
    if (r->n_data == 0)
        return ws_fail(err, WS_E_USAGE, "no --data to learn from");
    if (r->batch < 1 || r->steps < 0 || r->epochs < 0 || !(r->lr >= 0.0))
        return ws_fail(err, WS_E_USAGE,
                       "--batch must be above 0; --steps, --epochs and --lr not below");
    if (r->partitions < 1 || r->partitions > 65536)
        return ws_fail(err, WS_E_USAGE, "--partitions is not from 1 to 65536");
    if (r->budget < 0 || r->shots < 0)
        return ws_fail(err, WS_E_USAGE, "--budget and --shots must not be below 0");
    if (!(r->control >= 1.0))
        return ws_fail(err, WS_E_USAGE, "--control is a factor of at least 1");
    return WS_OK;
}

ws_status ws_atlas_learn(ws_atlas_result *out, const ws_atlas_req *req,
                         const ws_ctx *ctx, ws_err *err)
{
    static const ws_ctx plain = WS_CTX_INIT;
    ws_atlas a = { .req = req,
                   .ctx = ctx != NULL ? ctx : &plain,
                   .groups = (uint32_t)req->partitions };
    *out = (ws_atlas_result){ 0 };
    ws_status st = check(req, err);
    if (st == WS_OK)
        st = ws_atlas_open(&a, err);
    if (st == WS_OK)
        st = learn(&a, out, err);
    if (st == WS_OK)
        st = result_fill(&a, out, err);
    if (st == WS_OK)
        st = ws_atlas_write(&a, out, err);
    ws_atlas_close(&a);
    if (st != WS_OK)
        ws_atlas_result_free(out);
    return st;
}

void ws_atlas_result_free(ws_atlas_result *r)
{
    ws_arena_free(&r->arena);
    *r = (ws_atlas_result){ 0 };
}
