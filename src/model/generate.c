/*
 * generate.c - texts from one prompt, side by side
 *
 * A slot is a place in the cache of keys and values. It reads the prompt once; every
 * text that begins in it goes on from there. All slots that are at work take a step
 * together. How many slots there are follows from the number of texts alone.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/os.h"
#include "model/forward.h"
#include "model/sample.h"

enum { PREFILL = 256, MOST_SLOTS = 16, CONFIG_CAP = 1 << 20 };

struct slot {
    int64_t sample; // -1: idle
    int32_t last;   // its newest token
    bool *seen;     // (V)
};

struct run {
    const ws_model *m;
    const ws_generate_opts *o;
    const ws_ctx *ctx;
    ws_err *err;
    ws_fwd *e;
    ws_sampler *s;
    const int32_t *prompt;
    int64_t n, room; // tokens of the prompt; positions behind it
    bool (*token)(void *arg, int64_t sample, int32_t id);
    void *arg;
    ws_generate_result *results;
    int64_t samples, next; // in all; the first not begun
    float *z0, *z;         // (V) after the prompt; scratch
    int64_t n_slots;
    struct slot slot[MOST_SLOTS];
};

static bool is_end(const struct run *r, int32_t id)
{
    for (int i = 0; i < r->m->d.n_eos; i++)
        if (r->m->d.eos[i] == id)
            return true;
    for (int i = 0; i < r->o->n_stop; i++)
        if (r->o->stop[i] == id)
            return true;
    return false;
}

/** Take logits @p z for a slot's text; *go_on: it has a token to be read. */
static ws_status slot_token(struct run *r, struct slot *s, float *z, bool *go_on)
{
    ws_generate_result *out = &r->results[s->sample];
    const int32_t id =
        ws_sampler_next(r->s, z, s->seen, (uint64_t)s->sample, (uint64_t)out->tokens);

    *go_on = false;
    if (id < 0) {
        ws_fail(r->err, WS_E_NOT_FINITE, "logits are not finite at position %lld",
                (long long)(r->n + out->tokens));
        ws_err_at(r->err, r->m->info.path, NULL, -1);
        return WS_E_NOT_FINITE;
    }
    if (is_end(r, id)) {
        out->end = WS_END_EOS;
        return WS_OK;
    }
    s->seen[id] = true;
    s->last = id;
    out->tokens++;
    if (!r->token(r->arg, s->sample, id))
        out->end = WS_END_CALLER;
    else if (out->tokens == r->o->max_tokens)
        out->end = WS_END_TOKENS;
    else if (out->tokens > r->room)
        out->end = WS_END_LENGTH;
    else
        *go_on = true;
    return WS_OK;
}

/** Begin texts in an idle slot until one goes on, or none is left. */
static ws_status slot_begin(struct run *r, struct slot *s)
{
    bool go_on = false;
    ws_status st = WS_OK;

    s->sample = -1;
    while (st == WS_OK && !go_on && r->next < r->samples) {
        s->sample = r->next++;
        memset(s->seen, 0, (size_t)r->m->d.V * sizeof *s->seen);
        for (int64_t i = 0; i < r->n; i++)
            s->seen[r->prompt[i]] = true;
        memcpy(r->z, r->z0, (size_t)r->m->d.V * sizeof *r->z);
        st = slot_token(r, s, r->z, &go_on);
    }
    if (!go_on)
        s->sample = -1;
    return st;
}

/** Read the prompt in pieces into the slot numbered @p i; the first keeps the logits.
 */
static ws_status prefill(struct run *r, int64_t i)
{
    const int64_t C = r->m->d.C, key = i * (r->n + r->room);
    const float *rows = NULL;
    int64_t last = 0;

    for (int64_t k = 0; k < r->n; k += PREFILL) {
        const ws_span span = { .n = r->n - k < PREFILL ? r->n - k : PREFILL,
                               .key = key,
                               .past = k };
        const ws_status st =
            ws_fwd_run(r->e, r->prompt + k, &span, 1, NULL, &rows, r->err);
        if (st)
            return st;
        last = span.n - 1;
    }
    if (i > 0)
        return WS_OK;
    float *z;
    const ws_status st = ws_fwd_logits(r->e, rows + last * C, 1, &z, r->err);
    if (st == WS_OK)
        memcpy(r->z0, z, (size_t)r->m->d.V * sizeof *z);
    return st;
}

/** One step of all slots at work; *none: there was none. */
static ws_status step(struct run *r, bool *none)
{
    int32_t tokens[MOST_SLOTS];
    ws_span span[MOST_SLOTS];
    int64_t which[MOST_SLOTS], n = 0;
    const float *rows;
    float *z;

    for (int64_t i = 0; i < r->n_slots; i++) {
        const struct slot *s = &r->slot[i];
        if (s->sample < 0)
            continue;
        tokens[n] = s->last;
        span[n] = (ws_span){ .row = n,
                             .n = 1,
                             .key = i * (r->n + r->room),
                             .past = r->n + r->results[s->sample].tokens - 1 };
        which[n++] = i;
    }
    *none = n == 0;
    if (n == 0)
        return WS_OK;
    ws_status st = ws_fwd_run(r->e, tokens, span, n, NULL, &rows, r->err);
    if (st == WS_OK)
        st = ws_fwd_logits(r->e, rows, n, &z, r->err);
    for (int64_t k = 0; st == WS_OK && k < n; k++) {
        struct slot *s = &r->slot[which[k]];
        bool go_on;
        st = slot_token(r, s, z + k * r->m->d.V, &go_on);
        if (st == WS_OK && !go_on)
            st = slot_begin(r, s);
    }
    return st;
}

static ws_status run_all(struct run *r)
{
    ws_status st = WS_OK;

    for (int64_t i = 0; st == WS_OK && i < r->n_slots; i++) {
        st = prefill(r, i);
        if (st == WS_OK && i == 0)
            r->results[0].prompt_seconds += ws_os_now();
        if (st == WS_OK)
            st = slot_begin(r, &r->slot[i]);
    }
    for (bool none = false; st == WS_OK && !none;) {
        if (r->ctx && r->ctx->stop && atomic_load(r->ctx->stop) != 0)
            st = ws_fail(r->err, WS_E_INTERRUPTED, "stopped on request");
        else
            st = step(r, &none);
    }
    return st;
}

static ws_status run_alloc(struct run *r)
{
    const size_t V = (size_t)r->m->d.V;
    const int64_t longest = r->n + r->room;
    int64_t rows = r->n < PREFILL ? r->n : PREFILL;

    rows = rows < r->n_slots ? r->n_slots : rows;
    const ws_fwd_opts o = { .rows = rows,
                            .positions = longest,
                            .cached = longest * r->n_slots,
                            .logits = r->n_slots,
                            .beside = (uint64_t)V * (32 + (uint64_t)r->n_slots) };
    ws_status st = ws_fwd_new(&r->e, r->m, &o, r->ctx, r->err);
    if (st == WS_OK)
        st = ws_sampler_new(&r->s, r->m->d.V, r->o, r->err);
    if (st)
        return st;
    r->z0 = ws_calloc(V, sizeof *r->z0);
    r->z = ws_calloc(V, sizeof *r->z);
    bool good = r->z0 && r->z;
    for (int64_t i = 0; i < r->n_slots; i++) {
        r->slot[i] = (struct slot){ .sample = -1 };
        r->slot[i].seen = ws_calloc(V, sizeof *r->slot[i].seen);
        good = good && r->slot[i].seen;
    }
    return good ? WS_OK : ws_fail(r->err, WS_E_MEMORY, "no memory for the texts");
}

static void run_free(struct run *r)
{
    for (int64_t i = 0; i < r->n_slots; i++)
        ws_free(r->slot[i].seen);
    ws_free(r->z0);
    ws_free(r->z);
    ws_sampler_free(r->s);
    ws_fwd_free(r->e);
}

static ws_status prompt_check(const struct run *r)
{
    const ws_model *m = r->m;

    if (r->n < 1)
        return ws_fail(r->err, WS_E_USAGE, "no prompt is given");
    if (r->n > m->d.max_positions)
        return ws_fail(r->err, WS_E_USAGE,
                       "the prompt has %lld tokens, the model has %lld positions",
                       (long long)r->n, (long long)m->d.max_positions);
    for (int64_t i = 0; i < r->n; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= m->d.V)
            return ws_fail(r->err, WS_E_USAGE,
                           "token %d is beyond the vocabulary of %lld",
                           (int)r->prompt[i], (long long)m->d.V);
    return WS_OK;
}

ws_status ws_generate_many(const ws_model *m, const int32_t *prompt, int64_t n,
                           const ws_generate_opts *opts, int64_t samples,
                           bool (*token)(void *, int64_t, int32_t), void *arg,
                           ws_generate_result *results, const ws_ctx *ctx, ws_err *err)
{
    struct run r = { .m = m,
                     .o = opts,
                     .ctx = ctx,
                     .err = err,
                     .prompt = prompt,
                     .n = n,
                     .token = token,
                     .arg = arg,
                     .results = results,
                     .samples = samples };
    const double start = ws_os_now();

    memset(results, 0, (size_t)samples * sizeof *results);
    ws_status st = prompt_check(&r);
    if (st)
        return st;
    r.room = m->d.max_positions - n;
    r.room = r.room < opts->max_tokens ? r.room : opts->max_tokens;
    r.n_slots = samples < MOST_SLOTS ? samples : MOST_SLOTS;
    results[0].prompt_seconds = -start;
    st = run_alloc(&r);
    if (st == WS_OK)
        st = run_all(&r);
    run_free(&r);
    const double first = results[0].prompt_seconds;
    for (int64_t i = 0; i < samples; i++) {
        results[i].prompt_seconds = first;
        results[i].seconds = ws_os_now() - start - first;
    }
    return st;
}

struct one {
    bool (*token)(void *arg, int32_t id);
    void *arg;
};

static bool one_token(void *arg, int64_t sample, int32_t id)
{
    const struct one *one = arg;

    (void)sample;
    return one->token(one->arg, id);
}

ws_status ws_generate(const ws_model *m, const int32_t *prompt, int64_t n,
                      const ws_generate_opts *opts, bool (*token)(void *, int32_t),
                      void *arg, ws_generate_result *result, const ws_ctx *ctx,
                      ws_err *err)
{
    struct one one = { token, arg };

    return ws_generate_many(m, prompt, n, opts, 1, one_token, &one, result, ctx, err);
}

ws_status ws_generate_stops(const char *folder, int32_t *out, int most, int *n,
                            ws_err *err)
{
    char path[4096];
    cJSON *config = NULL;
    uint64_t id;

    *n = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/generation_config.json", folder) >=
            sizeof path ||
        access(path, F_OK) != 0)
        return WS_OK;
    const ws_status st = ws_json_read(&config, path, CONFIG_CAP, err);
    if (st)
        return st;
    const cJSON *eos = cJSON_GetObjectItemCaseSensitive(config, "eos_token_id"), *item;
    if (ws_json_u64(eos, &id) && id <= INT32_MAX && most > 0)
        out[(*n)++] = (int32_t)id;
    if (cJSON_IsArray(eos))
        cJSON_ArrayForEach(item, eos)
        {
            if (*n < most && ws_json_u64(item, &id) && id <= INT32_MAX)
                out[(*n)++] = (int32_t)id;
        }
    cJSON_Delete(config);
    return WS_OK;
}
