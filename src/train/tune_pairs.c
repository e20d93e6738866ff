/*
 * tune_pairs.c - the reference of preference pairs: the model that the run starts from
 */
#include "train/tune.h"

/** Ask the model about the pairs of a batch that are not known yet. */
static ws_status batch_learn(ws_tune *t, const ws_batch *b, ws_err *err)
{
    const ws_step_batch rows = ws_tune_rows(b);
    ws_step_result r;

    if (ws_pairs_known(&t->reference, b))
        return WS_OK;
    const ws_status st = ws_step_score(t->step, &rows, t->logp, &r, err);
    return st == WS_OK ? ws_pairs_keep(&t->reference, b, t->logp, err) : st;
}

static ws_status data_learn(ws_tune *t, ws_data *d, int64_t rows, ws_err *err)
{
    const int64_t size = t->req->batch;
    ws_status st = WS_OK;

    for (int64_t at = 0; st == WS_OK && at < rows; at += size) {
        const int64_t n = rows - at < size ? rows - at : size;
        st = ws_data_batch(d, (uint64_t)at, n, &t->micro[0], err);
        if (st == WS_OK)
            st = batch_learn(t, &t->micro[0], err);
        if (st == WS_OK && t->ctx->stop != NULL && atomic_load(t->ctx->stop) != 0)
            st = ws_fail(err, WS_E_INTERRUPTED, "stopped on request");
    }
    return st;
}

ws_status ws_tune_pairs_reference(ws_tune *t, ws_err *err)
{
    const int64_t rows = t->schedule.steps * t->req->accumulate * t->req->batch;
    ws_status st = data_learn(t, t->data, rows, err);

    if (st == WS_OK && t->val != NULL)
        st = data_learn(t, t->val, ws_data_info_of(t->val)->rows, err);
    return st;
}
