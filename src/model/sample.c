/*
 * sample.c - the next token: penalty, temperature, cuts, and a keyed draw
 *
 *   p_i = exp((z_i - max) / T) over the candidates left; drawn by one uniform number of
 *   the stream (seed, "generate"), counter = index of the token
 */
#include "wsurg/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/os.h"
#include "model/forward.h"
#include "wsurg/random.h"

enum { PREFILL = 256 };

struct candidate {
    float z;
    int32_t id;
};

struct sampler {
    const ws_generate_opts *o;
    int64_t V;
    struct candidate *list; // (V)
    double *p;              // (V)
    bool *seen;             // (V)
    ws_rng_key key;
};

static int by_logit(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->z != y->z)
        return x->z < y->z ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void penalise(const struct sampler *s, float *z)
{
    const float f = (float)s->o->repetition_penalty;
    for (int64_t i = 0; f != 1.0f && i < s->V; i++)
        if (s->seen[i])
            z[i] = z[i] < 0.0f ? z[i] * f : z[i] / f;
}

/** Candidates in falling order with their probabilities; how many are left. */
static int64_t candidates(struct sampler *s, const float *z)
{
    const ws_generate_opts *o = s->o;
    int64_t n = s->V, kept = 0;
    double sum = 0, reached = 0;

    for (int64_t i = 0; i < n; i++)
        s->list[i] = (struct candidate){ z[i], (int32_t)i };
    qsort(s->list, (size_t)n, sizeof *s->list, by_logit);
    if (o->top_k > 0 && o->top_k < n)
        n = o->top_k;
    for (int64_t i = 0; i < n; i++) {
        s->p[i] = exp(((double)s->list[i].z - (double)s->list[0].z) / o->temperature);
        sum += s->p[i];
    }
    while (kept < n && (kept == 0 || reached < o->top_p * sum))
        reached += s->p[kept++];
    n = kept;
    while (n > 1 && s->p[n - 1] < o->min_p * s->p[0])
        n--;
    return n;
}

static int32_t draw(struct sampler *s, const float *z, uint64_t index)
{
    const int64_t n = candidates(s, z);
    uint32_t word[2];
    double sum = 0, at = 0;

    ws_random_fill(&s->key, 2 * index, word, 2);
    for (int64_t i = 0; i < n; i++)
        sum += s->p[i];
    // 53 bits in [0, 1)
    const double u =
        ((double)(word[0] >> 5) * 0x1p26 + (double)(word[1] >> 6)) * 0x1p-53 * sum;
    for (int64_t i = 0; i < n; i++) {
        at += s->p[i];
        if (u < at)
            return s->list[i].id;
    }
    return s->list[n - 1].id;
}

/** The token after logits @p z; -1 when they are not finite. */
static int32_t choose(struct sampler *s, float *z, uint64_t index)
{
    int32_t best = 0;

    for (int64_t i = 0; i < s->V; i++)
        if (!isfinite(z[i]))
            return -1;
    penalise(s, z);
    if (s->o->temperature > 0.0)
        return draw(s, z, index);
    for (int32_t i = 1; i < s->V; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

static ws_status sampler_new(struct sampler *s, const ws_model *m,
                             const ws_generate_opts *o, ws_err *err)
{
    uint64_t key[2];
    const bool random = o->temperature > 0.0;
    const size_t V = (size_t)m->d.V;

    *s = (struct sampler){ .o = o, .V = m->d.V };
    ws_rng_key_make(o->seed, "generate", 0, "", key);
    s->key = (ws_rng_key){ key[0], key[1] };
    s->seen = ws_calloc(V, sizeof *s->seen);
    s->list = ws_calloc(random ? V : 1, sizeof *s->list);
    s->p = ws_calloc(random ? V : 1, sizeof *s->p);
    if (!s->seen || !s->list || !s->p)
        return ws_fail(err, WS_E_MEMORY, "no memory for the candidates");
    return WS_OK;
}

static void sampler_free(struct sampler *s)
{
    ws_free(s->seen);
    ws_free(s->list);
    ws_free(s->p);
}

/** The prompt in pieces; logits of what follows it. */
static ws_status prefill(ws_fwd *e, const int32_t *prompt, int64_t n, float **z,
                         ws_err *err, int64_t C)
{
    const float *rows = NULL;
    int64_t last = 0;

    for (int64_t i = 0; i < n; i += PREFILL) {
        const ws_span span = { .n = n - i < PREFILL ? n - i : PREFILL, .past = i };
        ws_status st = ws_fwd_run(e, prompt + i, &span, 1, NULL, &rows, err);
        if (st)
            return st;
        last = span.n - 1;
    }
    return ws_fwd_logits(e, rows + last * C, 1, z, err);
}

static bool is_eos(const ws_model *m, int32_t id)
{
    for (int i = 0; i < m->d.n_eos; i++)
        if (m->d.eos[i] == id)
            return true;
    return false;
}

/** Tokens until something ends it; @p z are the logits after the prompt. */
static ws_status go_on(const ws_model *m, ws_fwd *e, struct sampler *s, float *z,
                       int64_t n, int64_t room, bool (*token)(void *, int32_t),
                       void *arg, ws_generate_result *r, const ws_ctx *ctx, ws_err *err)
{
    const ws_generate_opts *o = s->o;
    for (r->end = WS_END_TOKENS; r->tokens < o->max_tokens;) {
        const int32_t id = choose(s, z, (uint64_t)r->tokens);
        if (id < 0) {
            ws_fail(err, WS_E_NOT_FINITE, "logits are not finite at position %lld",
                    (long long)(n + r->tokens));
            return ws_err_at(err, m->info.path, NULL, -1);
        }
        if (is_eos(m, id)) {
            r->end = WS_END_EOS;
            return WS_OK;
        }
        s->seen[id] = true;
        r->tokens++;
        if (!token(arg, id)) {
            r->end = WS_END_CALLER;
            return WS_OK;
        }
        if (r->tokens == o->max_tokens)
            return WS_OK;
        if (r->tokens > room) {
            r->end = WS_END_LENGTH;
            return WS_OK;
        }
        if (ctx != NULL && ctx->stop != NULL && atomic_load(ctx->stop) != 0)
            return ws_fail(err, WS_E_INTERRUPTED, "stopped on request");
        const ws_span span = { .n = 1, .past = n + r->tokens - 1 };
        const float *rows;
        ws_status st = ws_fwd_run(e, &id, &span, 1, NULL, &rows, err);
        if (st == WS_OK)
            st = ws_fwd_logits(e, rows, 1, &z, err);
        if (st)
            return st;
    }
    return WS_OK;
}

ws_status ws_generate(const ws_model *m, const int32_t *prompt, int64_t n,
                      const ws_generate_opts *opts, bool (*token)(void *, int32_t),
                      void *arg, ws_generate_result *result, const ws_ctx *ctx,
                      ws_err *err)
{
    struct sampler s = { 0 };
    ws_fwd *e = NULL;
    float *z = NULL;

    *result = (ws_generate_result){ 0 };
    if (n < 1)
        return ws_fail(err, WS_E_USAGE, "no prompt is given");
    if (n > m->d.max_positions)
        return ws_fail(err, WS_E_USAGE,
                       "the prompt has %lld tokens, the model has %lld positions",
                       (long long)n, (long long)m->d.max_positions);
    int64_t room = m->d.max_positions - n;
    room = room < opts->max_tokens ? room : opts->max_tokens;
    const ws_fwd_opts o = { .rows = n < PREFILL ? n : PREFILL,
                            .positions = n + room,
                            .cached = n + room,
                            .logits = 1,
                            .beside = (uint64_t)m->d.V * 24 };
    const double start = ws_os_now();
    ws_status st = ws_fwd_new(&e, m, &o, ctx, err);
    if (st == WS_OK)
        st = sampler_new(&s, m, opts, err);
    if (st == WS_OK)
        st = prefill(e, prompt, n, &z, err, m->d.C);
    for (int64_t i = 0; st == WS_OK && i < n; i++)
        s.seen[prompt[i]] = true;
    const double first = ws_os_now();
    result->prompt_seconds = first - start;
    if (st == WS_OK)
        st = go_on(m, e, &s, z, n, room, token, arg, result, ctx, err);
    result->seconds = ws_os_now() - first;
    sampler_free(&s);
    ws_fwd_free(e);
    return st;
}
