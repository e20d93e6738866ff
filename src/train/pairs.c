/*
 * pairs.c - preference pairs: the loss of direct preference optimisation
 */
#include "train/pairs.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"

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

static bool is_free(const ws_pair_ref *p)
{
    static const ws_xxh128 zero;
    return memcmp(&p->key, &zero, sizeof zero) == 0;
}

/** The place of @p key in a table: its own, or the free one that it would take. */
static ws_pair_ref *place(const ws_pairs *t, const ws_xxh128 *key)
{
    size_t at;
    memcpy(&at, key->b, sizeof at);
    for (at &= t->size - 1;; at = (at + 1) & (t->size - 1)) {
        ws_pair_ref *p = &t->table[at];
        if (is_free(p) || memcmp(&p->key, key, sizeof *key) == 0)
            return p;
    }
}

static ws_status grow(ws_pairs *t, ws_err *err)
{
    ws_pair_ref *old = t->table;
    const size_t n = t->size;

    if (n > 0 && t->used < n / 2)
        return WS_OK;
    t->size = n > 0 ? 2 * n : 1024;
    t->table = ws_calloc(t->size, sizeof *t->table);
    if (t->table == NULL) {
        t->table = old;
        t->size = n;
        return ws_fail(err, WS_E_MEMORY, "no memory for reference probabilities");
    }
    for (size_t i = 0; i < n; i++)
        if (!is_free(&old[i]))
            *place(t, &old[i].key) = old[i];
    ws_free(old);
    return WS_OK;
}

static double log_sum(const double *logp, const ws_batch *b, int64_t doc)
{
    double sum = 0;
    for (int64_t i = b->start[doc]; i < b->start[doc + 1]; i++)
        if (b->targets[i] >= 0)
            sum += logp[i];
    return sum;
}

bool ws_pairs_known(const ws_pairs *p, const ws_batch *b)
{
    for (int64_t i = 0; i < b->n_docs / 2; i++) {
        const ws_xxh128 key = pair_key(b, i);
        if (p->size == 0 || is_free(place(p, &key)))
            return false;
    }
    return true;
}

ws_status ws_pairs_keep(ws_pairs *p, const ws_batch *b, const double *logp, ws_err *err)
{
    for (int64_t i = 0; i < b->n_docs / 2; i++) {
        const ws_xxh128 key = pair_key(b, i);
        const ws_status st = grow(p, err);
        if (st)
            return st;
        ws_pair_ref *r = place(p, &key);
        p->used += is_free(r);
        *r = (ws_pair_ref){ key, log_sum(logp, b, 2 * i), log_sum(logp, b, 2 * i + 1) };
    }
    return WS_OK;
}

ws_status ws_pairs_loss(const ws_pairs *p, const ws_batch *b, const double *logp,
                        double beta, double scale, double *up, double *sum, ws_err *err)
{
    *sum = 0;
    for (int64_t i = 0; i < b->n_docs / 2; i++) {
        const ws_xxh128 key = pair_key(b, i);
        if (p->size == 0 || is_free(place(p, &key)))
            return ws_fail(err, WS_E_INTERNAL, "a pair has no reference");
        const ws_pair_ref *r = place(p, &key);
        const double s = beta * ((log_sum(logp, b, 2 * i) - r->chosen) -
                                 (log_sum(logp, b, 2 * i + 1) - r->rejected));
        // -ln sigmoid(s) = ln(1 + exp(-s)), without overflow on either side
        *sum += s > 0 ? log1p(exp(-s)) : log1p(exp(s)) - s;
        const double d = scale * beta / (1.0 + exp(s));
        for (int64_t k = b->start[2 * i]; up != NULL && k < b->start[2 * i + 2]; k++)
            up[k] = b->targets[k] < 0 ? 0.0 : k < b->start[2 * i + 1] ? -d : d;
    }
    return WS_OK;
}

void ws_pairs_free(ws_pairs *p)
{
    ws_free(p->table);
    *p = (ws_pairs){ 0 };
}
