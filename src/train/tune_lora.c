/*
 * tune_lora.c - low-rank factors: which linears get them, what they start from
 *
 *   W = W0 + s B A;  A (r, in) uniform in +-1/sqrt(in), B (out, r) zero
 *   s = alpha / r, or alpha / sqrt(r) with rsLoRA
 *
 * The start is that of PEFT (Kaiming uniform with a = sqrt 5), from keyed random
 * numbers: seed, "lora", name of the tensor, place in A.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "train/tune.h"
#include "wsurg/pattern.h"
#include "wsurg/random.h"

/** PEFT's choice for the families here: queries and values, or the fused three. */
static const char default_target[] = "(\\.q_proj|\\.v_proj|\\.c_attn)\\.weight$";

/** Name of the module of a tensor as transformers builds it: without ".weight", with
 * the prefix that some files leave out. */
static const char *module_path(ws_tune *t, const ws_model_part *p)
{
    const bool gpt2 = strcmp(ws_model_info_of(t->model)->family, "gpt2") == 0;
    const char *prefix = gpt2 ? "transformer." : "model.";
    const bool bare = strncmp(p->name, prefix, strlen(prefix)) != 0 &&
                      strncmp(p->name, "lm_head", 7) != 0;
    const size_t n = strlen(p->name) + strlen(prefix) + 1;
    char *path = ws_arena_alloc(&t->arena, n);

    if (path == NULL)
        return NULL;
    snprintf(path, n, "%s%s", bare ? prefix : "", p->name);
    char *end = strstr(path, ".weight");
    if (end != NULL)
        *end = '\0';
    return path;
}

static ws_status factors_add(ws_tune *t, size_t part, int64_t rank, double alpha,
                             double scale, ws_err *err)
{
    const ws_model_part *p = ws_model_part_at(t->model, part);
    ws_tune_factors *f = &t->factors[t->n_factors];

    *f = (ws_tune_factors){ .part = part,
                            .path = module_path(t, p),
                            .rank = rank,
                            .in = p->transposed ? p->rows : p->cols,
                            .out = p->transposed ? p->cols : p->rows,
                            .alpha = alpha,
                            .scale = scale };
    if (f->path == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for names of modules");
    if (rank > f->in || rank > f->out) {
        ws_fail(err, WS_E_USAGE, "rank %lld is above the smaller side of [%lld,%lld]",
                (long long)rank, (long long)f->out, (long long)f->in);
        return ws_err_at(err, t->req->model, p->name, -1);
    }
    t->n_factors++;
    return WS_OK;
}

/** Whether layers and patterns let part @p i have factors. */
static ws_status wanted(const ws_tune *t, const ws_model_part *p,
                        const ws_pattern_set *target, const ws_pattern_set *freeze,
                        bool *hit, ws_err *err)
{
    const ws_tune_req *r = t->req;
    bool frozen = false;
    ws_status st = WS_OK;

    *hit = false;
    if (p->kind != WS_PART_LINEAR)
        return WS_OK;
    st = ws_pattern_match(target, p->name, hit, err);
    if (st == WS_OK && freeze != NULL)
        st = ws_pattern_match(freeze, p->name, &frozen, err);
    *hit = *hit && !frozen &&
           (r->last < 0 || (p->layer >= r->first && p->layer <= r->last));
    return st;
}

static ws_status choose_new(ws_tune *t, ws_err *err)
{
    const ws_tune_req *r = t->req;
    const double alpha = r->lora_alpha > 0.0 ? r->lora_alpha : (double)r->rank;
    const double scale = alpha / (r->rslora ? sqrt((double)r->rank) : (double)r->rank);
    ws_pattern_set *target = NULL, *freeze = NULL;
    ws_status st =
        ws_pattern_new(&target, r->target != NULL ? r->target : default_target, err);

    if (st == WS_OK && r->freeze != NULL)
        st = ws_pattern_new(&freeze, r->freeze, err);
    for (size_t i = 0; st == WS_OK && i < ws_model_part_count(t->model); i++) {
        bool hit;
        st = wanted(t, ws_model_part_at(t->model, i), target, freeze, &hit, err);
        if (st == WS_OK && hit)
            st = factors_add(t, i, r->rank, alpha, scale, err);
    }
    ws_pattern_free(target);
    ws_pattern_free(freeze);
    if (st == WS_OK && t->n_factors == 0) {
        st = ws_fail(err, WS_E_USAGE,
                     "no linear of the model is hit by the pattern '%s'",
                     r->target != NULL ? r->target : default_target);
        ws_err_hint(err, "--target '_proj' takes every linear of the layers; wsurg "
                         "inspect lists the names");
    }
    return st;
}

/* ---- from an adapter ---- */

int64_t ws_tune_part_of(const ws_model *m, const char *path)
{
    char name[1024];

    for (size_t i = 0; i < ws_model_part_count(m); i++) {
        const ws_model_part *p = ws_model_part_at(m, i);
        const size_t n = strlen(p->name), len = strlen(path) + 7;
        snprintf(name, sizeof name, "%s.weight", path);
        if (strcmp(p->name, name) == 0)
            return (int64_t)i;
        if (len > n && strcmp(name + (len - n), p->name) == 0 &&
            name[len - n - 1] == '.' && strchr(name, '.') == name + (len - n - 1))
            return (int64_t)i;
    }
    return -1;
}

static ws_status unsupported(const ws_tune *t, const char *what, const char *where,
                             ws_err *err)
{
    ws_fail(err, WS_E_UNSUPPORTED, "an adapter with %s is not trained on", what);
    ws_err_at(err, t->req->adapter, where, -1);
    return WS_E_UNSUPPORTED;
}

static ws_status module_take(ws_tune *t, const ws_adapter_module *m, ws_err *err)
{
    if (m->embedding || m->magnitude != NULL || m->b_bias != NULL)
        return unsupported(t,
                           m->embedding           ? "factors of an embedding"
                           : m->magnitude != NULL ? "magnitudes (DoRA)"
                                                  : "a bias beside its factors",
                           m->path, err);
    const int64_t i = ws_tune_part_of(t->model, m->path);
    const ws_model_part *p = i < 0 ? NULL : ws_model_part_at(t->model, (size_t)i);
    if (p == NULL || p->kind != WS_PART_LINEAR) {
        ws_fail(err, WS_E_MISSING, "the model has no linear '%s'", m->path);
        return ws_err_at(err, t->req->adapter, m->path, -1);
    }
    ws_status st = factors_add(t, (size_t)i, m->r, m->alpha, m->scale, err);
    if (st)
        return st;
    ws_tune_factors *f = &t->factors[t->n_factors - 1];
    f->from = m;
    if (f->in != m->in || f->out != m->out) {
        ws_fail(
            err, WS_E_SHAPE, "factors are for [%lld,%lld], the model has [%lld,%lld]",
            (long long)m->out, (long long)m->in, (long long)f->out, (long long)f->in);
        return ws_err_at(err, t->req->adapter, m->path, -1);
    }
    return WS_OK;
}

/** An adapter that holds a part of its base must find that very base. */
static ws_status base_check(const ws_tune *t, ws_err *err)
{
    const ws_adapter *a = t->adapter;

    if (a->residual != NULL && strcmp(a->residual, t->content) != 0) {
        ws_fail(err, WS_E_ANCESTRY,
                "the adapter belongs to a residual with contents %s, not %s",
                a->residual, t->content);
        ws_err_hint(err, "tune the residual that was written beside the adapter");
        return ws_err_at(err, a->path, NULL, -1);
    }
    if (a->residual == NULL && a->content != NULL &&
        strcmp(a->content, t->content) != 0) {
        ws_err *w = ws_diag_report(t->ctx->warnings, WS_OK, "another-base",
                                   "the adapter was trained on another model than '%s'",
                                   t->req->model);
        if (w != NULL)
            ws_err_at(w, a->path, NULL, -1);
    }
    return WS_OK;
}

static int by_part(const void *a, const void *b)
{
    const size_t x = ((const ws_tune_factors *)a)->part;
    const size_t y = ((const ws_tune_factors *)b)->part;
    return x < y ? -1 : x > y;
}

static ws_status choose_old(ws_tune *t, ws_err *err)
{
    ws_status st = base_check(t, err);

    if (st == WS_OK && (t->adapter->n_wholes > 0 || t->adapter->n_rows > 0))
        st = unsupported(t, "tensors that replace the model's", NULL, err);
    for (size_t i = 0; st == WS_OK && i < t->adapter->n_modules; i++)
        st = module_take(t, &t->adapter->modules[i], err);
    if (st == WS_OK)
        qsort(t->factors, t->n_factors, sizeof *t->factors, by_part);
    return st;
}

ws_status ws_tune_factors_choose(ws_tune *t, ws_err *err)
{
    const size_t most =
        t->adapter != NULL ? t->adapter->n_modules : ws_model_part_count(t->model);
    t->factors = ws_arena_calloc(&t->arena, most + 1, sizeof *t->factors);
    if (t->factors == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the list of factors");
    return t->adapter != NULL ? choose_old(t, err) : choose_new(t, err);
}

/* ---- numbers ---- */

static void fill_uniform(float *x, size_t n, double bound, uint64_t seed,
                         const char *name)
{
    enum { CHUNK = 4096 };
    uint64_t k[2];
    uint32_t word[CHUNK];

    ws_rng_key_make(seed, "lora", 0, name, k);
    const ws_rng_key key = { k[0], k[1] };
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        ws_random_fill(&key, at, word, m);
        for (size_t i = 0; i < m; i++)
            x[at + i] =
                (float)(bound * (2.0 * ((double)word[i] + 0.5) * 0x1p-32 - 1.0));
    }
}

ws_status ws_tune_factors_fill(ws_tune *t, ws_err *err)
{
    ws_status st = WS_OK;

    for (size_t k = 0; st == WS_OK && k < t->n_factors; k++) {
        ws_tune_factors *f = &t->factors[k];
        for (int64_t i = 0; i < f->rank; i++)
            f->gain[i] = (float)f->scale;
        if (t->adapter == NULL) {
            fill_uniform(f->A, (size_t)(f->rank * f->in), 1.0 / sqrt((double)f->in),
                         t->req->seed, ws_model_part_at(t->model, f->part)->name);
            memset(f->B, 0, (size_t)(f->rank * f->out) * sizeof *f->B);
            continue;
        }
        st = ws_adapter_read_f32(t->adapter, f->from->a, f->A, err);
        if (st == WS_OK)
            st = ws_adapter_read_f32(t->adapter, f->from->b, f->B, err);
    }
    return st;
}
