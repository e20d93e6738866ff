/*
 * tune.c - fine-tuning from request to output
 */
#include "train/tune.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/os.h"

/** Before the first step: everything that may refuse has refused. */
static ws_status prepare(ws_tune *t, ws_err *err)
{
    ws_status st = ws_tune_open(t, err);

    if (st != WS_OK || t->unchanged)
        return st;
    st = ws_tune_parts(t, err);
    if (st == WS_OK && t->pairs)
        st = ws_tune_pairs_reference(t, err); // of the model before any step
    if (st == WS_OK && !t->req->estimate)
        st = ws_tune_state_open(t, err);
    if (st == WS_OK)
        st = ws_tune_log_open(t, err);
    return st;
}

static ws_status names_take(const ws_tune *t, ws_tune_result *r, ws_err *err)
{
    r->trained = ws_calloc(t->n_slots + 1, sizeof *r->trained);
    for (size_t k = 0; r->trained != NULL && k < t->n_slots; k++) {
        r->trained[k] = ws_strdup(t->slots[k].name);
        if (r->trained[k] == NULL)
            break;
        r->n_trained++;
    }
    return r->n_trained == t->n_slots
               ? WS_OK
               : ws_fail(err, WS_E_MEMORY, "no memory for the result");
}

static ws_status result_fill(const ws_tune *t, ws_tune_result *r, ws_err *err)
{
    const double busy = ws_os_now() - t->started - t->lost;

    r->plan = t->plan;
    r->steps = t->done;
    r->tokens = t->tokens;
    r->tokens_per_second =
        t->started > 0.0 && busy > 0.0 ? (double)t->tokens_here / busy : (double)NAN;
    r->loss_first = t->done > 0 ? t->loss_first : (double)NAN;
    r->loss_last = t->done > 0 ? t->loss_last : (double)NAN;
    r->best_step = t->best_step;
    r->best_loss = t->best_loss;
    r->eta = t->tokens_here > 0 ? busy / (double)t->done * (double)t->schedule.steps
                                : (double)NAN;
    r->stopped = t->stopped;
    if (ws_tune_state_kept(t)) {
        r->checkpoint = ws_strdup(t->folder);
        if (r->checkpoint == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    }
    return names_take(t, r, err);
}

static void usage_fill(ws_tune *t, ws_tune_result *r, double seconds)
{
    ws_usage *u = &r->usage;
    struct stat sb;

    ws_tune_note_memory(t);
    u->seconds = seconds;
    u->threads = ws_ctx_threads(t->ctx);
    u->peak_memory = t->peak;
    u->peak_resident = ws_os_memory_peak();
    if (t->model != NULL && t->req->kind != WS_TUNE_SCRATCH)
        u->read_bytes = ws_model_info_of(t->model)->bytes;
    for (size_t i = 0; i < t->req->n_data + (t->req->val != NULL); i++)
        if (t->sources != NULL && stat(t->sources[i].path, &sb) == 0)
            u->read_bytes += (uint64_t)sb.st_size;
    for (size_t i = 0; r->run != NULL && i < r->run->n_outputs; i++)
        u->written_bytes += r->run->outputs[i].bytes;
}

/** Under --strict a warning of the preparation ends the run before its first step. */
static ws_status strict_check(const ws_ctx *ctx, ws_err *err)
{
    for (size_t i = 0; ctx->strict && ctx->warnings && i < ctx->warnings->n; i++) {
        const ws_err *w = &ctx->warnings->items[i];
        if (w->tag == NULL || strcmp(w->tag, "note") != 0)
            return ws_fail(err, WS_E_STRICT, "a warning under --strict: %s", w->msg);
    }
    return WS_OK;
}

ws_status ws_tune_run(ws_tune_result **out, const ws_tune_req *req, const ws_ctx *ctx,
                      ws_err *err)
{
    static const ws_ctx none = WS_CTX_INIT;
    ws_tune t = { .req = req,
                  .ctx = ctx != NULL ? ctx : &none,
                  .lock = -1,
                  .log = -1,
                  .best_step = -1 };
    ws_tune_result *r = ws_calloc(1, sizeof *r);
    const double began = ws_os_now();

    if (r == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    ws_status st = prepare(&t, err);
    st = st ? st : strict_check(t.ctx, err);
    if (st == WS_OK && !t.unchanged)
        st = ws_tune_loop(&t, err);
    if (st == WS_OK || st == WS_E_INTERRUPTED) {
        const ws_status filled = result_fill(&t, r, st == WS_OK ? err : NULL);
        st = st == WS_OK ? filled : st;
    }
    r->unchanged = t.unchanged;
    if (st == WS_OK && !req->estimate && !t.unchanged)
        st = ws_tune_write(&t, &r->run, err);
    if (st == WS_OK) {
        ws_free(r->checkpoint); // the output is there: nothing to go on from
        r->checkpoint = NULL;
    }
    if (st == WS_OK || st == WS_E_INTERRUPTED)
        usage_fill(&t, r, ws_os_now() - began);
    ws_tune_state_close(&t, st != WS_OK && ws_tune_state_kept(&t));
    ws_tune_close(&t);
    if (st == WS_OK || st == WS_E_INTERRUPTED)
        *out = r;
    else
        ws_tune_result_free(r);
    return st;
}

void ws_tune_result_free(ws_tune_result *r)
{
    if (r == NULL)
        return;
    for (size_t k = 0; k < r->n_trained; k++)
        ws_free(r->trained[k]);
    ws_free(r->trained);
    ws_free(r->checkpoint);
    ws_result_free(r->run);
    ws_free(r);
}
