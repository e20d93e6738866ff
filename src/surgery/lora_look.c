/*
 * lora_look.c - what an adapter does: norms of its updates, directions its base lacks
 */
#include <math.h>
#include <string.h>

#include "surgery/intruders.h"
#include "surgery/lora_core.h"
#include "surgery/lora_matrix.h"
#include "surgery/lora_open.h"
#include "surgery/matrices.h"

struct job {
    const ws_lora_look_req *req;
    ws_lora_look *look;
    const ws_adapter *adapter;
    ws_ckpt *source; // base and adapter, or NULL
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to look at an adapter");
}

void ws_lora_look_free(ws_lora_look *l)
{
    if (l == NULL)
        return;
    if (l->source != NULL)
        ws_ckpt_free(l->source); // and the adapter with it
    else
        ws_adapter_free(l->own);
    ws_arena arena = l->arena;
    ws_free(l);
    ws_arena_free(&arena);
}

static ws_status norms_take(const struct job *j, size_t i, ws_err *err)
{
    ws_lora_layer *l = &j->look->layers[i];
    ws_lora_part part;
    ws_status st =
        ws_lora_part_read(&part, j->adapter, &j->adapter->modules[i], 1.0, err);
    if (st == WS_OK)
        st = ws_lora_norms(&l->norm, &l->largest, &part, 1, l->out, l->in, err);
    ws_lora_part_free(&part);
    return st;
}

static ws_status intruders_take(const struct job *j, size_t i, ws_err *err)
{
    ws_lora_layer *l = &j->look->layers[i];
    ws_lora_matrix matrix;
    ws_intruders found;
    if (l->top == NULL || // no memory was set aside: no matrix
        !ws_lora_matrix_find(&matrix, j->source, &j->adapter->modules[i]))
        return WS_OK;
    const ws_status st =
        ws_intruders_find(&found, matrix.m, matrix.n, j->req->intruders.top,
                          ws_lora_matrix_load, &matrix, err);
    if (st != WS_OK)
        return ws_err_at(err, ws_ckpt_path(j->source), matrix.tuned->name, -1), st;
    l->base_norm = found.base_norm;
    l->n_top = (size_t)found.k;
    for (size_t k = 0; k < l->n_top; k++) {
        l->top[k] = (ws_lora_direction){
            .s = found.s[k],
            .cosine = found.cosine[k],
            .intruder = found.cosine[k] < j->req->intruders.below,
        };
        l->intruders += l->top[k].intruder;
    }
    ws_intruders_free(&found);
    return WS_OK;
}

static ws_status run_one(void *arg, size_t i, ws_err *err)
{
    const struct job *j = arg;
    const ws_status st = norms_take(j, i, err);
    return st == WS_OK && j->source != NULL ? intruders_take(j, i, err) : st;
}

static uint64_t bytes_of(const void *arg, size_t i)
{
    const struct job *j = arg;
    const ws_adapter_module *m = &j->adapter->modules[i];
    return j->source == NULL ? m->a->n_bytes + m->b->n_bytes
                             : (uint64_t)m->in * (uint64_t)m->out;
}

/** Most memory that module @p i takes; where directions go is set aside. */
static ws_status layer_make(struct job *j, size_t i, uint64_t *bytes, ws_err *err)
{
    const ws_adapter_module *m = &j->adapter->modules[i];
    ws_lora_layer *l = &j->look->layers[i];
    const uint64_t norms = ws_lora_core_bytes(m->r, m->out, m->in);
    ws_lora_matrix matrix;
    *l = (ws_lora_layer){ .name = m->path,
                          .embedding = m->embedding,
                          .rank = m->r,
                          .in = m->in,
                          .out = m->out,
                          .alpha = m->alpha,
                          .scale = m->scale,
                          .base_norm = NAN };
    *bytes = norms;
    if (j->source == NULL || !ws_lora_matrix_find(&matrix, j->source, m))
        return WS_OK;
    const int64_t top = j->req->intruders.top, q = m->in < m->out ? m->in : m->out;
    const uint64_t more = ws_intruders_bytes(m->out, m->in, top < q ? top : q);
    *bytes = more > norms ? more : norms;
    l->top = ws_arena_calloc(&j->look->arena, (size_t)(top < q ? top : q) + 1,
                             sizeof *l->top);
    return l->top == NULL ? no_memory(err) : WS_OK;
}

static ws_status run_all(struct job *j, const ws_ctx *ctx, ws_err *err)
{
    ws_lora_look *look = j->look;
    const size_t n = j->adapter->n_modules;
    uint64_t most = 0, bytes;
    ws_pool *pool = NULL;
    ws_status st = WS_OK;
    look->layers = ws_arena_calloc(&look->arena, n + 1, sizeof *look->layers);
    if (look->layers == NULL)
        return no_memory(err);
    look->n_layers = n;
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        st = layer_make(j, i, &bytes, err);
        most = bytes > most ? bytes : most;
    }
    if (st == WS_OK)
        st = ws_matrices_pool(&pool, "looking at the adapter", most, ctx, err);
    const ws_matrices work = { n, "look", run_one, bytes_of, j };
    if (st == WS_OK)
        st = ws_matrices_run(&work, pool, ctx, err);
    ws_pool_free(pool);
    for (size_t i = 0; i < n; i++)
        look->intruders += look->layers[i].intruders;
    return st;
}

ws_status ws_lora_look_at(ws_lora_look **out, const ws_lora_look_req *req,
                          const ws_ctx *ctx, ws_err *err)
{
    ws_lora_look *look = ws_calloc(1, sizeof *look);
    ws_fold_opts o = WS_FOLD_OPTS_INIT;
    if (look == NULL)
        return no_memory(err);
    o.dtype = WS_FOLD_F64;
    o.residual = req->residual;
    ws_status st =
        req->base != NULL
            ? ws_lora_open(&look->source, req->base, &req->adapter, 1, &o, ctx, err)
            : ws_lora_open_adapters(&look->own, &req->adapter, 1, ctx, err);
    if (st == WS_OK) {
        look->adapter =
            look->source != NULL ? ws_source_adapter(look->source, 0) : look->own;
        struct job j = { req, look, look->adapter, look->source };
        st = run_all(&j, ctx, err);
    }
    if (st == WS_OK)
        *out = look;
    else
        ws_lora_look_free(look);
    return st;
}
