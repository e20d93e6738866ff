/*
 * eval_choices.c - multiple choice by log-likelihood
 *
 *   ll(choice) = sum of ln p of its tokens behind the context
 *   acc        argmax ll, the first of equals;  acc_norm  argmax ll / length
 *   acc_se     sqrt(p (1 - p) / (n - 1))
 *
 * The choices of a question run together as sequences of their own, so many at a time
 * that rows stay within a fixed number: the bytes depend on nothing else.
 */
#include <math.h>
#include <string.h>

#include "model/forward.h"
#include "wsurg/eval.h"

enum { MOST_ROWS = 1024, MOST_LOGITS = 128 };

struct run {
    const ws_model *m;
    ws_fwd *e;
    const ws_ctx *ctx;
    ws_err *err;
    int64_t positions;       // of the longest sequence
    int64_t rows;            // at once
    int32_t *tokens, *label; // (rows)
    ws_span *span;           // (rows)
    int64_t *from;           // (rows) first row of each span that is scored
    ws_ce_row ce[MOST_LOGITS];
    double *ll; // (choices)
    int64_t likeliest, tokens_gold;
    double sum_gold;
};

/** Tokens that a choice puts before the model: all but its last. */
static int64_t length_of(const struct run *r, const ws_question *q, int c)
{
    const int64_t n = q->n_context + q->choice[c].n - 1;
    return n < r->positions ? n : r->positions;
}

static ws_status questions_check(struct run *r, const ws_question *q, size_t n)
{
    const int64_t most = r->m->d.max_positions;
    int64_t longest = 1;

    if (n == 0)
        return ws_fail(r->err, WS_E_USAGE, "there is no question");
    for (size_t i = 0; i < n; i++) {
        if (q[i].n_context < 1 || q[i].gold < 0 || q[i].gold >= q[i].n_choices)
            return ws_fail(r->err, WS_E_USAGE, "question %zu has no context or no gold",
                           i + 1);
        for (int c = 0; c < q[i].n_choices; c++) {
            const int64_t k = q[i].choice[c].n, all = q[i].n_context + k - 1;
            if (k < 1 || k > most)
                return ws_fail(r->err, WS_E_USAGE,
                               "choice %d of question %zu has %lld tokens, the model "
                               "%lld positions",
                               c + 1, i + 1, (long long)k, (long long)most);
            longest = all > longest ? all : longest;
        }
    }
    r->positions = longest < most ? longest : most;
    r->rows = r->positions > MOST_ROWS ? r->positions : MOST_ROWS;
    return WS_OK;
}

static ws_status run_alloc(struct run *r, const ws_question *q, size_t n)
{
    int most = 1;
    for (size_t i = 0; i < n; i++)
        most = q[i].n_choices > most ? q[i].n_choices : most;
    const ws_fwd_opts o = { .rows = r->rows,
                            .positions = r->positions,
                            .logits = MOST_LOGITS,
                            .beside = (uint64_t)r->rows * 48 };
    const ws_status st = ws_fwd_new(&r->e, r->m, &o, r->ctx, r->err);
    if (st)
        return st;
    const size_t rows = (size_t)r->rows;
    r->tokens = ws_calloc(rows, sizeof *r->tokens);
    r->label = ws_calloc(rows, sizeof *r->label);
    r->span = ws_calloc(rows, sizeof *r->span);
    r->from = ws_calloc(rows, sizeof *r->from);
    r->ll = ws_calloc((size_t)most, sizeof *r->ll);
    if (!r->tokens || !r->label || !r->span || !r->from || !r->ll)
        return ws_fail(r->err, WS_E_MEMORY, "no memory for the questions");
    return WS_OK;
}

static void run_free(struct run *r)
{
    ws_fwd_free(r->e);
    ws_free(r->tokens);
    ws_free(r->label);
    ws_free(r->span);
    ws_free(r->from);
    ws_free(r->ll);
}

/** Choice @p c as span @p b from row @p row on. */
static void choice_lay(struct run *r, const ws_question *q, int c, int64_t b,
                       int64_t row)
{
    const struct ws_answer *choice = &q->choice[c];
    const int64_t n = length_of(r, q, c), all = q->n_context + choice->n;
    const int64_t cut = all - 1 - n; // tokens that the context loses

    for (int64_t i = 0; i < n; i++) {
        const int64_t at = cut + i, next = at + 1 - q->n_context;
        r->tokens[row + i] =
            at < q->n_context ? q->context[at] : choice->tokens[at - q->n_context];
        r->label[row + i] = next >= 0 ? choice->tokens[next] : -1;
    }
    r->span[b] = (ws_span){ .row = row, .n = n, .key = row };
    r->from[b] = n - choice->n;
}

/** Sum up span @p b, choice @p c. */
static ws_status choice_score(struct run *r, const ws_question *q, int c, int64_t b,
                              const float *h)
{
    const ws_span *s = &r->span[b];
    ws_status st = WS_OK;

    r->ll[c] = 0;
    for (int64_t i = r->from[b]; st == WS_OK && i < s->n; i += MOST_LOGITS) {
        const int64_t k = s->n - i < MOST_LOGITS ? s->n - i : MOST_LOGITS;
        const int64_t row = s->row + i;
        float *z;
        st = ws_fwd_logits(r->e, h + row * r->m->d.C, k, &z, r->err);
        if (st)
            return st;
        ws_fwd_ce(r->e, z, r->label + row, k, r->ce);
        for (int64_t j = 0; j < k; j++) {
            r->ll[c] += r->ce[j].logp;
            if (c == q->gold) {
                r->likeliest += r->ce[j].argmax == r->label[row + j];
                r->sum_gold -= r->ce[j].logp;
                r->tokens_gold++;
            }
        }
    }
    if (!isfinite(r->ll[c])) {
        ws_fail(r->err, WS_E_NOT_FINITE, "the likelihood of a choice is not finite");
        ws_err_at(r->err, r->m->info.path, NULL, -1);
        return WS_E_NOT_FINITE;
    }
    return st;
}

static ws_status question_score(struct run *r, const ws_question *q)
{
    ws_status st = WS_OK;

    for (int c = 0, next; st == WS_OK && c < q->n_choices; c = next) {
        int64_t row = 0;
        for (next = c; next < q->n_choices; next++) {
            const int64_t n = length_of(r, q, next);
            if (next > c && row + n > r->rows)
                break;
            choice_lay(r, q, next, next - c, row);
            row += n;
        }
        const float *h;
        st = ws_fwd_run(r->e, r->tokens, r->span, next - c, NULL, &h, r->err);
        for (int k = c; st == WS_OK && k < next; k++)
            st = choice_score(r, q, k, k - c, h);
    }
    return st;
}

static int best(const struct run *r, const ws_question *q, bool norm)
{
    int at = 0;
    double most = -INFINITY;

    for (int c = 0; c < q->n_choices; c++) {
        const double length = q->choice[c].length;
        const double v = norm ? r->ll[c] / (length > 0 ? length : 1) : r->ll[c];
        if (v > most) {
            most = v;
            at = c;
        }
    }
    return at;
}

static double share_se(double p, int64_t n)
{
    return n < 2 ? (double)NAN : sqrt(p * (1.0 - p) / (double)(n - 1));
}

static ws_status questions_score(struct run *r, const ws_question *q, size_t n,
                                 ws_choice_score *out)
{
    int64_t norm = 0, hits = 0;

    for (size_t i = 0; i < n; i++) {
        if (r->ctx && r->ctx->stop && atomic_load(r->ctx->stop) != 0)
            return ws_fail(r->err, WS_E_INTERRUPTED, "stopped on request");
        const ws_status st = question_score(r, &q[i]);
        if (st)
            return st;
        out->hit[i] = best(r, &q[i], false) == q[i].gold;
        hits += out->hit[i];
        norm += best(r, &q[i], true) == q[i].gold;
    }
    out->questions = (int64_t)n;
    out->acc = (double)hits / (double)n;
    out->acc_norm = (double)norm / (double)n;
    out->acc_se = share_se(out->acc, out->questions);
    out->acc_norm_se = share_se(out->acc_norm, out->questions);
    out->tokens = r->tokens_gold;
    out->loss = r->sum_gold / (double)r->tokens_gold;
    out->accuracy = (double)r->likeliest / (double)r->tokens_gold;
    return WS_OK;
}

ws_status ws_eval_choices(const ws_model *m, const ws_question *q, size_t n,
                          ws_choice_score *out, const ws_ctx *ctx, ws_err *err)
{
    struct run r = { .m = m, .ctx = ctx, .err = err };

    *out = (ws_choice_score){ 0 };
    ws_status st = questions_check(&r, q, n);
    if (st == WS_OK)
        st = run_alloc(&r, q, n);
    if (st == WS_OK) {
        out->hit = ws_calloc(n, 1);
        st = out->hit ? questions_score(&r, q, n, out)
                      : ws_fail(err, WS_E_MEMORY, "no memory for the questions");
    }
    run_free(&r);
    if (st)
        ws_choice_score_free(out);
    return st;
}

void ws_choice_score_free(ws_choice_score *s)
{
    ws_free(s->hit);
    s->hit = NULL;
}

bool ws_eval_choices_pair(const ws_choice_score *a, const ws_choice_score *b,
                          double *difference, double *se)
{
    double sum = 0, squares = 0;
    const int64_t n = a->questions;

    if (n != b->questions || n == 0)
        return false;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a->hit[i] - (double)b->hit[i];
    *difference = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)a->hit[i] - (double)b->hit[i] - *difference;
        squares += d * d;
    }
    *se = n < 2 ? (double)NAN : sqrt(squares / (double)(n - 1) / (double)n);
    return true;
}
