/*
 * calibrate_samples.c - windows of running text, or documents, chosen by the seed
 */
#include "surgery/calibrate_samples.h"

#include <string.h>

#include "wsurg/random.h"
#include "wsurg/xxh.h"

/** All documents of all sources, one after the other. */
struct text {
    int32_t *tokens;
    int64_t n, *start, n_docs;
    bool running; // the first source is one document
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for samples");
}

static ws_status append(struct text *all, const ws_data_text *t, ws_err *err)
{
    const size_t n = (size_t)(all->n + t->n) + 1;
    const size_t docs = (size_t)(all->n_docs + t->n_docs) + 1;
    int32_t *tokens = ws_realloc(all->tokens, n * sizeof *tokens);
    all->tokens = tokens == NULL ? all->tokens : tokens;
    int64_t *start = ws_realloc(all->start, docs * sizeof *start);
    all->start = start == NULL ? all->start : start;
    if (tokens == NULL || start == NULL)
        return no_memory(err);
    memcpy(all->tokens + all->n, t->tokens, (size_t)t->n * sizeof *tokens);
    for (int64_t i = 0; i <= t->n_docs; i++)
        all->start[all->n_docs + i] = all->n + t->start[i];
    all->n += t->n;
    all->n_docs += t->n_docs;
    return WS_OK;
}

static ws_status read_all(struct text *all, const ws_data *d, size_t n, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        ws_data_text t;
        st = ws_data_text_get(d, i, &t, err);
        if (st != WS_OK)
            return st;
        all->running = i == 0 ? t.running : all->running;
        st = append(all, &t, err);
        ws_data_text_free(&t);
    }
    return st;
}

/** A number below @p n, from element @p i of the seed's stream. */
static int64_t below(uint64_t seed, uint64_t i, int64_t n)
{
    const ws_rng_key key = { seed, 0x63616c696272u };
    uint32_t word[2];
    ws_random_fill(&key, 2 * i, word, 2);
    return (int64_t)((((uint64_t)word[0] << 32) | word[1]) % (uint64_t)n);
}

static bool put(ws_samples *s, const int32_t *tokens, int64_t n)
{
    const int64_t at = s->start[s->n];
    int32_t *p = ws_realloc(s->tokens, (size_t)(at + n) * sizeof *p + 1);
    if (p == NULL)
        return false;
    s->tokens = p;
    if (n > 0)
        memcpy(p + at, tokens, (size_t)n * sizeof *p);
    s->start[++s->n] = at + n;
    s->longest = n > s->longest ? n : s->longest;
    return true;
}

static ws_status windows(ws_samples *s, const struct text *all, int64_t wanted,
                         int64_t seq, uint64_t seed, ws_err *err)
{
    const int64_t len = all->n < seq ? all->n : seq;
    const int64_t n = all->n <= seq ? 1 : wanted;
    for (int64_t i = 0; i < n; i++)
        if (!put(s, all->tokens + below(seed, (uint64_t)i, all->n - len + 1), len))
            return no_memory(err);
    return WS_OK;
}

/** Fisher and Yates over the documents, as far as wanted; passes over empty ones. */
static ws_status documents(ws_samples *s, const struct text *all, int64_t wanted,
                           int64_t seq, uint64_t seed, ws_err *err)
{
    int64_t *pick = ws_calloc((size_t)all->n_docs + 1, sizeof *pick);
    ws_status st = pick == NULL ? no_memory(err) : WS_OK;
    for (int64_t i = 0; st == WS_OK && i < all->n_docs; i++)
        pick[i] = i;
    for (int64_t i = 0; st == WS_OK && i < all->n_docs && s->n < wanted; i++) {
        const int64_t k = i + below(seed, (uint64_t)i, all->n_docs - i), d = pick[k];
        pick[k] = pick[i];
        const int64_t len = all->start[d + 1] - all->start[d];
        if (len > 0 && !put(s, all->tokens + all->start[d], len < seq ? len : seq))
            st = no_memory(err);
    }
    ws_free(pick);
    return st;
}

static ws_status choose(ws_samples *s, const struct text *all,
                        const ws_calibrate_req *req, int64_t seq, ws_err *err)
{
    const bool qa = req->sampling == WS_SAMPLING_QA ||
                    (req->sampling == WS_SAMPLING_AUTO && all->running);
    s->sampling = qa ? "qa" : "instruction";
    s->start = ws_calloc((size_t)req->samples + 1, sizeof *s->start);
    if (s->start == NULL)
        return no_memory(err);
    const ws_status st = qa ? windows(s, all, req->samples, seq, req->seed, err)
                            : documents(s, all, req->samples, seq, req->seed, err);
    if (st != WS_OK)
        return st;
    if (s->n == 0 || s->start[s->n] == 0)
        return ws_fail(err, WS_E_USAGE, "the data holds no tokens");
    const ws_xxh128 part[2] = {
        ws_xxh3(s->tokens, (size_t)s->start[s->n] * sizeof *s->tokens),
        ws_xxh3(s->start, ((size_t)s->n + 1) * sizeof *s->start)
    };
    ws_xxh128_hex(ws_xxh3(part, sizeof part), s->digest);
    return WS_OK;
}

ws_status ws_samples_choose(ws_samples *out, const ws_calibrate_req *req,
                            const ws_model *model, int64_t seq, const ws_ctx *ctx,
                            ws_err *err)
{
    const ws_model_info *info = ws_model_info_of(model);
    ws_arena arena = { 0 };
    ws_tokenizer *tok = NULL;
    ws_err none = WS_ERR_INIT;
    ws_data *data = NULL;
    struct text all = { 0 };
    ws_data_opts o = WS_DATA_OPTS_INIT;
    o.length = seq;
    o.in_order = true;
    o.model = info->folder;
    o.vocab = info->vocab;
    ws_data_source *src = ws_arena_calloc(&arena, req->n_data + 1, sizeof *src);
    *out = (ws_samples){ 0 };
    ws_status st = src == NULL ? no_memory(err) : WS_OK;
    for (size_t i = 0; i < req->n_data && st == WS_OK; i++)
        st = ws_data_source_parse(&src[i], req->data[i], &arena, err);
    if (st == WS_OK)
        st = ws_tokenizer_open(&tok, info->folder, &none);
    if (st == WS_E_MISSING) // tokens need none, and text says so itself
        st = WS_OK;
    else if (st != WS_OK && err != NULL && tok == NULL && none.code == st)
        *err = none;
    if (st == WS_OK)
        st = ws_data_open(&data, src, req->n_data, tok, &o, ctx, err);
    if (st == WS_OK)
        st = read_all(&all, data, req->n_data, err);
    if (st == WS_OK)
        st = choose(out, &all, req, seq, err);
    ws_free(all.tokens);
    ws_free(all.start);
    ws_data_free(data);
    ws_tokenizer_free(tok);
    ws_arena_free(&arena);
    if (st != WS_OK)
        ws_samples_free(out);
    return st;
}

void ws_samples_free(ws_samples *s)
{
    ws_free(s->tokens);
    ws_free(s->start);
    *s = (ws_samples){ 0 };
}
