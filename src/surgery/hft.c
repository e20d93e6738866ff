/*
 * hft.c - half fine-tuning: which half of the matrices a round freezes
 *
 * Of each layer's attention matrices half, of its MLP's one more than half in a random
 * half of the layers and one less in the others, where their number is odd. The order
 * in which they are taken is that of a random word of (seed, round, name). A matrix
 * takes its bias with it.
 *
 * @source Hui et al. 2024, arXiv:2404.18466; embeddings, norms and head are not said
 * there, and stay trained here
 */
#include "surgery/hft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/os.h"
#include "engine/plan_internal.h"
#include "surgery/linears.h"
#include "surgery/taskvec_write.h"
#include "wsurg/random.h"

enum kind { ATTENTION, MLP, KINDS };

/** A matrix of a layer. */
struct matrix {
    const ws_tensor *t, *bias;
    int layer;
    enum kind kind;
    uint32_t word;
};

static uint32_t word_of(uint64_t seed, uint64_t round, const char *name)
{
    uint64_t key[2];
    uint32_t word;
    ws_rng_key_make(seed, "hft", round, name, key);
    const ws_rng_key rng = { key[0], key[1] };
    ws_random_fill(&rng, 0, &word, 1);
    return word;
}

static bool kind_of(const char *name, enum kind *kind)
{
    *kind = strstr(name, "attn") != NULL || strstr(name, "attention") != NULL
                ? ATTENTION
                : MLP;
    return *kind == ATTENTION || strstr(name, "mlp") != NULL ||
           strstr(name, "ffn") != NULL || strstr(name, "feed_forward") != NULL;
}

/** By layer, kind, word, name. */
static int in_order(const void *a, const void *b)
{
    const struct matrix *x = a, *y = b;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->word != y->word)
        return x->word < y->word ? -1 : 1;
    return strcmp(x->t->name, y->t->name);
}

static const ws_tensor *bias_of(const ws_ckpt *model, const char *name, ws_buf *room)
{
    room->n = 0;
    ws_buf_printf(room, "%.*s.bias", (int)(strlen(name) - strlen(".weight")), name);
    return room->failed ? NULL : ws_ckpt_find(model, room->p);
}

static size_t matrices_find(const ws_ckpt *model, uint64_t seed, uint64_t round,
                            struct matrix *list)
{
    ws_buf room = { 0 };
    size_t n = 0, prefix = 0;
    for (size_t i = 0; i < ws_ckpt_count(model); i++) {
        const ws_tensor *t = ws_ckpt_tensor(model, i);
        struct matrix m = { .t = t, .layer = ws_layer_of(t->name, &prefix) };
        if (m.layer < 0 || !ws_linear_is(t) || !kind_of(t->name, &m.kind))
            continue;
        m.word = word_of(seed, round, t->name);
        m.bias = bias_of(model, t->name, &room);
        list[n++] = m;
    }
    ws_buf_free(&room);
    qsort(list, n, sizeof *list, in_order);
    return n;
}

/** Whether layer @p layer is among the half of the layers whose MLP freezes more: its
 * word is below those of at least half of the others. */
static bool freezes_more(const struct matrix *list, size_t n, int layer, uint64_t seed,
                         uint64_t round)
{
    char name[32];
    snprintf(name, sizeof name, "mlp.%d", layer);
    const uint32_t mine = word_of(seed, round, name);
    size_t layers = 0, below = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && list[i].layer == list[i - 1].layer)
            continue;
        snprintf(name, sizeof name, "mlp.%d", list[i].layer);
        const uint32_t word = word_of(seed, round, name);
        layers++;
        below += word < mine || (word == mine && list[i].layer < layer);
    }
    return below < layers / 2;
}

static ws_status freeze(ws_freeze_plan *p, const ws_tensor *t, ws_mask_hft_result *f,
                        ws_err *err)
{
    p->frozen[p->n] = ws_arena_strdup(&p->arena, t->name);
    f->frozen++;
    f->numbers += t->n_elements;
    return p->frozen[p->n++] == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for a plan")
                                     : WS_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** The groups of @p list, each one kind of one layer. */
static ws_status choose(ws_freeze_plan *p, const struct matrix *list, size_t n,
                        uint64_t seed, uint64_t round, ws_mask_hft_result *f,
                        ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t from = 0, to; from < n; from = to) {
        const struct matrix *m = &list[from];
        for (to = from;
             to < n && list[to].layer == m->layer && list[to].kind == m->kind;)
            to++;
        const bool more =
            m->kind == MLP && freezes_more(list, n, m->layer, seed, round);
        const size_t half = (to - from + more) / 2;
        f->layers += from == 0 || list[from - 1].layer != m->layer;
        for (size_t i = from; st == WS_OK && i < to; i++) {
            const ws_tensor *bias = list[i].bias;
            f->matrices += 1 + (bias != NULL);
            f->of += list[i].t->n_elements + (bias != NULL ? bias->n_elements : 0);
            if (i >= from + half)
                continue;
            st = freeze(p, list[i].t, f, err);
            if (st == WS_OK && bias != NULL)
                st = freeze(p, bias, f, err);
        }
    }
    qsort(p->frozen, p->n, sizeof *p->frozen, by_text);
    return st;
}

ws_status ws_hft_plan(ws_freeze_plan *out, const ws_ckpt *model, uint64_t seed,
                      uint64_t round, ws_mask_hft_result *figures, ws_err *err)
{
    const size_t count = ws_ckpt_count(model);
    struct matrix *list = ws_calloc(count + 1, sizeof *list);
    ws_mask_hft_result f = { 0 };
    *out = (ws_freeze_plan){ 0 };
    out->frozen = ws_arena_calloc(&out->arena, count + 1, sizeof *out->frozen);
    ws_status st = list == NULL || out->frozen == NULL
                       ? ws_fail(err, WS_E_MEMORY, "no memory for a plan")
                       : WS_OK;
    const size_t n = st == WS_OK ? matrices_find(model, seed, round, list) : 0;
    if (st == WS_OK && n == 0) {
        ws_fail(err, WS_E_USAGE, "no layer with attention or MLP matrices is there");
        st = ws_err_at(err, ws_ckpt_path(model), NULL, -1);
    }
    if (st == WS_OK)
        st = choose(out, list, n, seed, round, &f, err);
    ws_free(list);
    for (size_t i = 0; i < count; i++)
        f.parameters += ws_ckpt_tensor(model, i)->n_elements;
    if (figures != NULL)
        *figures = f;
    if (st != WS_OK)
        ws_freeze_plan_free(out);
    return st;
}

ws_status ws_mask_hft(ws_mask_hft_result *out, const ws_mask_hft_req *req,
                      const ws_ctx *ctx, ws_err *err)
{
    ws_ckpt *model = NULL;
    ws_freeze_plan plan = { 0 };
    ws_buf text = { 0 };
    ws_status st = ws_tv_open_model(&model, req->model, ctx, err);
    if (st == WS_OK)
        st = ws_hft_plan(&plan, model, req->seed, req->round, out, err);
    ws_freeze_plan_text(&plan, req->seed, req->round, &text);
    if (st == WS_OK)
        st = text.failed ? ws_fail(err, WS_E_MEMORY, "no memory for a plan")
                         : ws_os_put_file(req->out, text.p, text.n, req->force, err);
    if (st == WS_E_EXISTS)
        ws_err_hint(err, "--force replaces it");
    ws_buf_free(&text);
    ws_freeze_plan_free(&plan);
    ws_ckpt_free(model);
    return st;
}
