/*
 * tune_pairs.c - preference pairs: direct preference optimisation
 *
 *   s = (pi_c - rho_c) - (pi_r - rho_r)    log-probabilities of completions, summed
 *   loss = -ln sigmoid(beta s);  dloss/dpi_c = -beta sigmoid(-beta s) = -dloss/dpi_r
 *
 * rho is the model that the run starts from. It is asked once for each pair; pairs are
 * known again by the digest of their tokens, in whichever epoch they come.
 */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "train/tune.h"

/** Documents 2 i and 2 i + 1 of @p b. */
static ws_xxh128 pair_key(const ws_batch *b, int64_t i)
{
    const int64_t from = b->start[2 * i], mid = b->start[2 * i + 1],
                  to = b->start[2 * i + 2];
    const int64_t shape[2] = { mid - from, to - mid };
    ws_xxh128 h[3] = {
        ws_xxh3(shape, sizeof shape),
        ws_xxh3(b->tokens + from, (size_t)(to - from) * sizeof *b->tokens),
        ws_xxh3(b->targets + from, (size_t)(to - from) * sizeof *b->targets),
    };
    return ws_xxh3(h, sizeof h);
}

static bool is_free(const ws_tune_pair *p)
{
    static const ws_xxh128 zero;
    return memcmp(&p->key, &zero, sizeof zero) == 0;
}

/** The place of @p key: its own, or the free one that it would take. */
static ws_tune_pair *place(const ws_tune *t, const ws_xxh128 *key)
{
    size_t at;
    memcpy(&at, key->b, sizeof at);
    for (at &= t->table_size - 1;; at = (at + 1) & (t->table_size - 1)) {
        ws_tune_pair *p = &t->table[at];
        if (is_free(p) || memcmp(&p->key, key, sizeof *key) == 0)
            return p;
    }
}

static ws_status grow(ws_tune *t, ws_err *err)
{
    ws_tune_pair *old = t->table;
    const size_t n = t->table_size;

    if (n > 0 && t->table_used < n / 2)
        return WS_OK;
    t->table_size = n > 0 ? 2 * n : 1024;
    t->table = ws_calloc(t->table_size, sizeof *t->table);
    if (t->table == NULL) {
        t->table = old;
        t->table_size = n;
        return ws_fail(err, WS_E_MEMORY, "no memory for reference probabilities");
    }
    for (size_t i = 0; i < n; i++)
        if (!is_free(&old[i]))
            *place(t, &old[i].key) = old[i];
    ws_free(old);
    return WS_OK;
}

static double log_sum(const ws_tune *t, const ws_batch *b, int64_t doc)
{
    double sum = 0;
    for (int64_t i = b->start[doc]; i < b->start[doc + 1]; i++)
        if (b->targets[i] >= 0)
            sum += t->logp[i];
    return sum;
}

/** Ask the model about the pairs of a batch that are not known yet. */
static ws_status batch_learn(ws_tune *t, const ws_batch *b, ws_err *err)
{
    bool known = true;

    for (int64_t i = 0; i < b->n_docs / 2; i++) {
        const ws_xxh128 key = pair_key(b, i);
        const ws_status st = grow(t, err);
        if (st)
            return st;
        known = known && !is_free(place(t, &key));
    }
    if (known)
        return WS_OK;
    const ws_step_batch rows = ws_tune_rows(b);
    ws_step_result r;
    ws_status st = ws_step_score(t->step, &rows, t->logp, &r, err);
    for (int64_t i = 0; st == WS_OK && i < b->n_docs / 2; i++) {
        const ws_xxh128 key = pair_key(b, i);
        if ((st = grow(t, err)) != WS_OK)
            break;
        ws_tune_pair *p = place(t, &key);
        t->table_used += is_free(p);
        *p = (ws_tune_pair){ key, log_sum(t, b, 2 * i), log_sum(t, b, 2 * i + 1) };
    }
    return st;
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

ws_status ws_tune_pairs_loss(ws_tune *t, const ws_batch *b, double scale, double *up,
                             double *sum, ws_err *err)
{
    const double beta = t->req->dpo_beta;

    *sum = 0;
    for (int64_t i = 0; i < b->n_docs / 2; i++) {
        const ws_xxh128 key = pair_key(b, i);
        const ws_tune_pair *p = place(t, &key);
        if (is_free(p))
            return ws_fail(err, WS_E_INTERNAL, "a pair has no reference");
        const double s = beta * ((log_sum(t, b, 2 * i) - p->chosen) -
                                 (log_sum(t, b, 2 * i + 1) - p->rejected));
        // -ln sigmoid(s) = ln(1 + exp(-s)), without overflow on either side
        *sum += s > 0 ? log1p(exp(-s)) : log1p(exp(s)) - s;
        const double d = scale * beta / (1.0 + exp(s));
        for (int64_t k = b->start[2 * i]; up != NULL && k < b->start[2 * i + 2]; k++)
            up[k] = b->targets[k] < 0 ? 0.0 : k < b->start[2 * i + 1] ? -d : d;
    }
    return WS_OK;
}
