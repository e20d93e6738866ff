/*
 * eval.c - cross-entropy over windows of a text, and distance to another model
 *
 *   loss = sum over windows of s_w / sum of n_w, s_w = sum of -ln p, n_w tokens scored
 *   se^2 = W / (W - 1) * sum (s_w - loss n_w)^2 / (sum n_w)^2: tokens of a window
 *          depend on each other, windows are taken as independent
 *   KL   = sum_i p_i (z_i - y_i) - lse(z) + lse(y), z of against, y of the model
 *
 * How many windows run together follows from their length alone, so that the bytes of
 * the result do not depend on the memory limit.
 */
#include "wsurg/eval.h"

#include <math.h>
#include <string.h>

#include "base/os.h"
#include "model/forward.h"

enum { BATCH_ROWS = 512, CHUNK_NUMBERS = 1 << 24, CHUNK_LEAST = 16, CHUNK_MOST = 256 };

/** A window: tokens at .. at+n of the text, behind a bos where there is one. */
struct window {
    int64_t at, n;
    int64_t first; // row that is the first to be scored
};

struct run {
    const ws_model *m, *against;
    ws_fwd *e, *ref;
    const ws_eval_opts *o;
    const ws_ctx *ctx;
    ws_err *err;
    int64_t batch, chunk;
    int32_t *tokens, *labels; // (batch * window)
    ws_span *span;            // (batch)
    struct window *w;         // (W) of the text at hand
    int64_t W;
    ws_ce_row *ce, *ce_ref; // (chunk)
    float *diff;            // (chunk, V), with against
    double *kl;             // (windows) sums
    int64_t hits, agreed;
    double shown_at;
};

/** Tokens of the text in one window. */
static int64_t content(const ws_eval_opts *o)
{
    return o->window - (o->bos >= 0);
}

static int64_t stride_of(const ws_eval_opts *o)
{
    return o->stride > 0 ? o->stride : content(o);
}

/** Windows of @p n tokens; a tail of fewer than a window counts where @p tail. */
static int64_t windows_of(const ws_eval_opts *o, int64_t n, bool tail)
{
    const int64_t stride = stride_of(o), over = n - content(o);
    if (over <= 0)
        return n + (o->bos >= 0) >= 2;
    if (!tail)
        return over / stride + 1;
    // every token has been a label when a window ends at the last
    return (over + stride - 1) / stride + 1;
}

static bool counts(const ws_eval_text *t, const struct window *w, int64_t bos,
                   int64_t row)
{
    return t->scored == NULL || t->scored[w->at + row + 1 - bos];
}

/** Add the windows of tokens @p from .. @p to, but those with nothing to score. */
static void windows_add(struct run *r, const ws_eval_text *t, int64_t from, int64_t to)
{
    const ws_eval_opts *o = r->o;
    const int64_t bos = o->bos >= 0, stride = stride_of(o);

    if (bos && t->start && from < to && t->tokens[from] == o->bos)
        from++;
    const int64_t W = windows_of(o, to - from, t->start != NULL);
    for (int64_t k = 0; k < W; k++) {
        struct window w = { .at = from + k * stride };
        w.n = to - w.at < content(o) ? to - w.at : content(o);
        const int64_t rows = w.n + bos - 1;
        // labels end where those of the window before ended
        w.first = k == 0 ? 0 : content(o) - stride + bos - 1;
        w.first = w.first < 0 ? 0 : w.first;
        while (w.first < rows && !counts(t, &w, bos, w.first))
            w.first++;
        if (w.first < rows)
            r->w[r->W++] = w;
    }
}

static ws_status windows_make(struct run *r, const ws_eval_text *t)
{
    const int64_t docs = t->start ? t->n_docs : 1, whole[2] = { 0, t->n };
    const int64_t *start = t->start ? t->start : whole;
    int64_t most = 0;

    for (int64_t i = 0; i < docs; i++)
        most += windows_of(r->o, start[i + 1] - start[i], t->start != NULL);
    ws_free(r->w);
    r->W = 0;
    r->w = ws_calloc((size_t)most, sizeof *r->w);
    if (!r->w)
        return ws_fail(r->err, WS_E_MEMORY, "no memory for %lld windows",
                       (long long)most);
    for (int64_t i = 0; i < docs; i++)
        windows_add(r, t, start[i], start[i + 1]);
    if (r->W == 0)
        return ws_fail(r->err, WS_E_USAGE, "text '%s' has nothing to predict", t->name);
    return WS_OK;
}

static ws_status opts_check(const struct run *r)
{
    const ws_eval_opts *o = r->o;
    const int64_t most = r->m->d.max_positions;

    if (o->window < 2 || content(o) < 1)
        return ws_fail(r->err, WS_E_USAGE, "window %lld leaves nothing to predict",
                       (long long)o->window);
    if (o->window > most && r->m->d.learned)
        return ws_fail(r->err, WS_E_USAGE, "window %lld, the model has %lld positions",
                       (long long)o->window, (long long)most);
    if (stride_of(o) > content(o))
        return ws_fail(r->err, WS_E_USAGE,
                       "stride %lld leaves out tokens between windows of %lld",
                       (long long)o->stride, (long long)content(o));
    if (r->against != NULL && r->against->d.V != r->m->d.V)
        return ws_fail(r->err, WS_E_SHAPE, "vocabularies of %lld and %lld differ",
                       (long long)r->m->d.V, (long long)r->against->d.V);
    return WS_OK;
}

static ws_status run_alloc(struct run *r)
{
    const int64_t V = r->m->d.V, w = r->o->window;

    r->batch = BATCH_ROWS / w > 1 ? BATCH_ROWS / w : 1;
    r->chunk = CHUNK_NUMBERS / V;
    r->chunk = r->chunk < CHUNK_LEAST  ? CHUNK_LEAST
               : r->chunk > CHUNK_MOST ? CHUNK_MOST
                                       : r->chunk;
    const size_t rows = (size_t)(r->batch * w), chunk = (size_t)r->chunk;
    const bool pair = r->against != NULL;
    const uint64_t diff = pair ? chunk * (uint64_t)V * sizeof(float) : 0;
    ws_fwd_opts o = { .rows = r->batch * w,
                      .positions = w,
                      .logits = r->chunk,
                      .beside = diff + rows * 16 };
    ws_status st = WS_OK;
    if (pair) {
        ws_fwd_opts other = o;
        other.beside += r->m->info.bytes;
        other.beside += ws_fwd_bytes(r->m, &o, ws_ctx_threads(r->ctx));
        st = ws_fwd_new(&r->ref, r->against, &other, r->ctx, r->err);
    }
    if (st == WS_OK)
        st = ws_fwd_new(&r->e, r->m, &o, r->ctx, r->err);
    if (st)
        return st;
    r->tokens = ws_calloc(rows, sizeof *r->tokens);
    r->labels = ws_calloc(rows, sizeof *r->labels);
    r->span = ws_calloc((size_t)r->batch, sizeof *r->span);
    r->ce = ws_calloc(chunk, sizeof *r->ce);
    r->ce_ref = ws_calloc(chunk, sizeof *r->ce_ref);
    r->diff = ws_alloc(diff);
    if (!r->tokens || !r->labels || !r->span || !r->ce || !r->ce_ref || !r->diff)
        return ws_fail(r->err, WS_E_MEMORY, "no memory for the windows");
    return WS_OK;
}

static void run_free(struct run *r)
{
    ws_fwd_free(r->e);
    ws_fwd_free(r->ref);
    ws_free(r->tokens);
    ws_free(r->labels);
    ws_free(r->span);
    ws_free(r->w);
    ws_free(r->ce);
    ws_free(r->ce_ref);
    ws_free(r->diff);
}

/** Rows of window @p w of the text as span @p b; the last token is only a label. */
static void window_lay(struct run *r, const ws_eval_text *t, const struct window *w,
                       int64_t b, int64_t row)
{
    const int64_t bos = r->o->bos >= 0, rows = w->n + bos - 1;
    int32_t *to = r->tokens + row, *label = r->labels + row;

    if (bos)
        to[0] = (int32_t)r->o->bos;
    memcpy(to + bos, t->tokens + w->at, (size_t)(rows - bos) * sizeof *to);
    for (int64_t i = 0; i < rows; i++)
        label[i] = counts(t, w, bos, i) ? t->tokens[w->at + i + 1 - bos] : -1;
    r->span[b] = (ws_span){ .row = row, .n = rows, .key = row };
}

/** sum_i e_i (z_i - y_i) / sum_i e_i, e_i = exp(z_i - max). */
WS_HOT static double weighted_mean(const float *e, const float *d, int64_t n)
{
    double se[WS_LANES] = { 0 }, sd[WS_LANES] = { 0 };
    int64_t i = 0;
    for (; i + WS_LANES <= n; i += WS_LANES)
        for (int64_t j = 0; j < WS_LANES; j++) {
            se[j] += (double)e[i + j];
            sd[j] += (double)e[i + j] * (double)d[i + j];
        }
    for (int64_t j = 0; i < n; i++, j++) {
        se[j] += (double)e[i];
        sd[j] += (double)e[i] * (double)d[i];
    }
    for (int64_t j = 1; j < WS_LANES; j++) {
        se[0] += se[j];
        sd[0] += sd[j];
    }
    return sd[0] / se[0];
}

/** The other model's part: its cross-entropy and the distance, for @p n rows. */
static ws_status chunk_against(struct run *r, const float *rows, float *z, int64_t n)
{
    const int64_t V = r->m->d.V;
    float *y;
    ws_status st = ws_fwd_logits(r->ref, rows, n, &y, r->err);
    if (st)
        return st;
    for (int64_t i = 0; i < n * V; i++)
        r->diff[i] = y[i] - z[i];
    ws_fwd_ce(r->ref, y, NULL, n, r->ce_ref);
    for (int64_t i = 0; i < n; i++)
        r->ce_ref[i].logp =
            weighted_mean(y + i * V, r->diff + i * V, V) - r->ce_ref[i].lse;
    return WS_OK;
}

/** Rows i0 .. i0+n, all of window @p w. */
static ws_status chunk_score(struct run *r, const float *h, const float *h_ref,
                             int64_t i0, int64_t n, int64_t w, ws_eval_score *s)
{
    float *z;
    ws_status st = ws_fwd_logits(r->e, h + i0 * r->m->d.C, n, &z, r->err);
    if (st == WS_OK && r->against != NULL)
        st = chunk_against(r, h_ref + i0 * r->against->d.C, z, n);
    if (st)
        return st;
    ws_fwd_ce(r->e, z, r->labels + i0, n, r->ce);
    for (int64_t i = 0; i < n; i++) {
        const ws_ce_row *c = &r->ce[i];
        if (r->labels[i0 + i] < 0)
            continue;
        if (!isfinite(c->logp)) {
            ws_fail(r->err, WS_E_NOT_FINITE, "the loss is not finite in window %lld",
                    (long long)w);
            return ws_err_at(r->err, r->m->info.path, NULL, -1);
        }
        s->window_loss[w] -= c->logp;
        s->window_count[w]++;
        r->hits += c->argmax == r->labels[i0 + i];
        if (r->against != NULL) {
            r->kl[w] += r->ce_ref[i].logp + c->lse;
            r->agreed += c->argmax == r->ce_ref[i].argmax;
        }
    }
    return WS_OK;
}

static ws_status batch_score(struct run *r, int64_t w0, int64_t n, ws_eval_score *s)
{
    const float *h, *h_ref = NULL;
    ws_status st = ws_fwd_run(r->e, r->tokens, r->span, n, NULL, &h, r->err);
    if (st == WS_OK && r->against != NULL)
        st = ws_fwd_run(r->ref, r->tokens, r->span, n, NULL, &h_ref, r->err);
    for (int64_t b = 0; st == WS_OK && b < n; b++)
        for (int64_t i = r->w[w0 + b].first; st == WS_OK && i < r->span[b].n;
             i += r->chunk) {
            const int64_t left = r->span[b].n - i;
            st = chunk_score(r, h, h_ref, r->span[b].row + i,
                             left < r->chunk ? left : r->chunk, w0 + b, s);
        }
    return st;
}

/** Progress, and whether a stop was asked for. */
static ws_status tick(struct run *r, uint64_t done, uint64_t total)
{
    const ws_ctx *ctx = r->ctx;

    if (ctx != NULL && ctx->stop != NULL && atomic_load(ctx->stop) != 0)
        return ws_fail(r->err, WS_E_INTERRUPTED, "stopped on request");
    const double now = ws_os_now();
    if (ctx == NULL || ctx->progress == NULL ||
        (now - r->shown_at < 0.1 && done < total))
        return WS_OK;
    r->shown_at = now;
    const ws_progress p = {
        .event = "eval", .unit = "windows", .done = done, .total = total, .eta = -1.0
    };
    ctx->progress(ctx->payload, &p);
    return WS_OK;
}

/** sqrt(W / (W - 1) sum (s_w - mean n_w)^2) / sum n_w; NaN for one window. */
static double ratio_se(const double *s, const int64_t *n, int64_t W, double mean)
{
    double sum = 0, count = 0;
    for (int64_t w = 0; w < W; w++) {
        const double d = s[w] - mean * (double)n[w];
        sum += d * d;
        count += (double)n[w];
    }
    return W < 2 ? (double)NAN : sqrt((double)W / (double)(W - 1) * sum) / count;
}

static double total(const double *s, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += s[i];
    return sum;
}

/** Bytes of the tokens that were scored. */
static uint64_t scored_bytes(const struct run *r, const ws_eval_text *t)
{
    const int64_t bos = r->o->bos >= 0;
    uint64_t sum = 0;

    for (int64_t k = 0; k < r->W; k++) {
        const struct window *w = &r->w[k];
        for (int64_t i = w->first; i < w->n + bos - 1; i++)
            if (counts(t, w, bos, i))
                sum += t->bytes[w->at + i + 1 - bos];
    }
    return sum;
}

static void score_end(struct run *r, const ws_eval_text *t, ws_eval_score *s)
{
    const double n = (double)s->tokens, sum = total(s->window_loss, s->windows);

    s->loss = sum / n;
    s->loss_se = ratio_se(s->window_loss, s->window_count, s->windows, s->loss);
    s->perplexity = exp(s->loss);
    s->bits_per_byte = NAN;
    if (t->bytes != NULL) {
        const uint64_t bytes = scored_bytes(r, t);
        s->bits_per_byte = bytes ? sum / log(2.0) / (double)bytes : (double)NAN;
    }
    s->accuracy = (double)r->hits / n;
    s->kl = s->kl_se = s->agreement = NAN;
    if (r->against == NULL)
        return;
    s->kl = total(r->kl, s->windows) / n;
    s->kl_se = ratio_se(r->kl, s->window_count, s->windows, s->kl);
    s->agreement = (double)r->agreed / n;
}

static ws_status text_score(struct run *r, const ws_eval_text *t, ws_eval_score *s,
                            uint64_t *done, uint64_t all)
{
    ws_status st = windows_make(r, t);
    const int64_t W = r->W;

    if (st)
        return st;
    s->windows = W;
    s->window_loss = ws_calloc((size_t)W, sizeof *s->window_loss);
    s->window_count = ws_calloc((size_t)W, sizeof *s->window_count);
    r->kl = ws_calloc((size_t)W, sizeof *r->kl);
    r->hits = r->agreed = 0;
    if (!s->window_loss || !s->window_count || !r->kl)
        st = ws_fail(r->err, WS_E_MEMORY, "no memory for %lld windows", (long long)W);
    for (int64_t w = 0; st == WS_OK && w < W; w += r->batch) {
        const int64_t n = W - w < r->batch ? W - w : r->batch;
        for (int64_t b = 0, row = 0; b < n; row += r->span[b++].n)
            window_lay(r, t, &r->w[w + b], b, row);
        st = batch_score(r, w, n, s);
        *done += (uint64_t)n;
        if (st == WS_OK)
            st = tick(r, *done, all);
    }
    for (int64_t w = 0; st == WS_OK && w < W; w++)
        s->tokens += s->window_count[w];
    if (st == WS_OK)
        score_end(r, t, s);
    ws_free(r->kl);
    r->kl = NULL;
    return st;
}

ws_status ws_eval_run(const ws_model *m, const ws_model *against,
                      const ws_eval_text *texts, size_t n_texts,
                      const ws_eval_opts *opts, ws_eval_score *out, const ws_ctx *ctx,
                      ws_err *err)
{
    struct run r = {
        .m = m, .against = against, .o = opts, .ctx = ctx, .err = err, .shown_at = -1.0
    };
    uint64_t done = 0, all = 0;

    memset(out, 0, n_texts * sizeof *out);
    ws_status st = opts_check(&r);
    if (st == WS_OK)
        st = run_alloc(&r);
    for (size_t i = 0; st == WS_OK && i < n_texts; i++) {
        st = windows_make(&r, &texts[i]);
        all += (uint64_t)r.W;
    }
    for (size_t i = 0; st == WS_OK && i < n_texts; i++)
        st = text_score(&r, &texts[i], &out[i], &done, all);
    run_free(&r);
    for (size_t i = 0; st != WS_OK && i < n_texts; i++)
        ws_eval_score_free(&out[i]);
    return st;
}

void ws_eval_score_free(ws_eval_score *s)
{
    ws_free(s->window_loss);
    ws_free(s->window_count);
    s->window_loss = NULL;
    s->window_count = NULL;
}

bool ws_eval_pair(const ws_eval_score *a, const ws_eval_score *b, double *difference,
                  double *se)
{
    double sum = 0, squares = 0;

    if (a->windows != b->windows || a->tokens != b->tokens ||
        memcmp(a->window_count, b->window_count,
               (size_t)a->windows * sizeof *a->window_count) != 0)
        return false;
    for (int64_t w = 0; w < a->windows; w++)
        sum += a->window_loss[w] - b->window_loss[w];
    *difference = sum / (double)a->tokens;
    for (int64_t w = 0; w < a->windows; w++) {
        const double d = a->window_loss[w] - b->window_loss[w] -
                         *difference * (double)a->window_count[w];
        squares += d * d;
    }
    *se = a->windows < 2
              ? (double)NAN
              : sqrt((double)a->windows / (double)(a->windows - 1) * squares) /
                    (double)a->tokens;
    return true;
}
