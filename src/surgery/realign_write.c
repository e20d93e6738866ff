/*
 * realign_write.c - what comes of a realignment: the recipe, the mask, the model
 */
#include <math.h>
#include <string.h>

#include "surgery/mask_file.h"
#include "surgery/realign_run.h"

/* ---- the recipe ---- */

ws_status ws_realign_recipe(ws_realign_run *a, ws_err *err)
{
    static const char *const op[] = { "none", "task_arithmetic", "ties", "dare",
                                      "average" };
    static const char *const scope[] = { "element", "row", "tensor" };
    static const char *const reference[] = { "aligned", "fused", "authors" };
    const ws_realign_req *r = a->req;
    ws_buf *b = &a->recipe;
    ws_buf_printf(b,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"realign\","
                  "\"operator\":\"%s\",\"lambda\":%.17g,\"keep\":%.17g,\"drop\":%.17g,"
                  "\"mask_scope\":\"%s\",\"temperature\":%.17g,\"reference\":\"%s\"",
                  op[ws_realign_op_of(r)], a->soft.lambda, r->keep, r->drop,
                  scope[r->scope], r->temperature, reference[r->reference]);
    ws_buf_printf(b,
                  ",\"dpo_beta\":%.17g,\"mask\":\"%s\",\"batch\":%lld,\"seq\":%lld,"
                  "\"steps\":%lld,\"schedule\":%d,\"warmup\":%lld,\"lr\":%.17g,"
                  "\"weight_decay\":%.17g,\"clip\":%.17g,\"seed\":%llu",
                  r->beta, r->threshold ? "threshold" : "soft", (long long)r->batch,
                  (long long)ws_data_info_of(a->run.data)->longest, (long long)r->steps,
                  (int)r->schedule, (long long)r->warmup, r->lr, r->weight_decay,
                  r->clip, (unsigned long long)r->seed);
    if (r->target != NULL) {
        ws_buf_puts(b, ",\"target\":");
        ws_buf_json_string(b, r->target, strlen(r->target));
    }
    ws_buf_putc(b, '}');
    return b->failed || a->run.inputs.failed
               ? ws_fail(err, WS_E_MEMORY, "no memory for provenance")
               : WS_OK;
}

/* ---- the mask ---- */

static ws_status mask_make(void *self, size_t tensor, uint64_t first, size_t n,
                           void *out, ws_err *err)
{
    const ws_realign_run *a = self;
    float y[WS_MASK_PIECE];
    (void)err;
    ws_soft_values(&a->soft, &a->run.blocks[tensor], (size_t)first, n, y);
    for (size_t i = 0; i < n; i++) {
        if (a->soft.hard)
            ((uint8_t *)out)[i] = y[i] > 0.5f;
        else
            ((float *)out)[i] = y[i];
    }
    return WS_OK;
}

static ws_status mask_write(ws_realign_run *a, ws_mask_result **out, ws_err *err)
{
    ws_mask_run *m = &a->run;
    const char *paths[WS_SOFT_TASKS + 1] = { a->req->aligned };
    ws_ctx ctx = *a->ctx;
    uint64_t *shapes = ws_arena_calloc(&m->arena, m->n_blocks, sizeof *shapes);
    ws_tensor *tensors = ws_arena_calloc(&m->arena, m->n_blocks, sizeof *tensors);
    ws_mask_result *r = ws_calloc(1, sizeof *r);
    if (shapes == NULL || tensors == NULL || r == NULL) {
        ws_free(r);
        return ws_fail(err, WS_E_MEMORY, "no memory for the mask");
    }
    for (size_t k = 0; k < a->req->n_models; k++)
        paths[k + 1] = a->req->models[k];
    for (size_t i = 0; i < m->n_blocks; i++) {
        const ws_soft_block *b = &m->blocks[i];
        tensors[i] = m->shapes[i];
        tensors[i].name = b->name;
        if (b->span > 1 || tensors[i].shape == NULL) {
            shapes[i] = b->groups;
            tensors[i].rank = 1;
            tensors[i].shape = &shapes[i];
        }
        tensors[i].dtype = a->soft.hard ? WS_DT_BOOL : WS_DT_F32;
        r->entries += b->groups;
        r->set += b->mean * (double)b->groups;
    }
    r->tensors = m->n_blocks;
    const ws_mask_spec spec = { .tensors = tensors,
                                .n = m->n_blocks,
                                .make = mask_make,
                                .self = a,
                                .made_by = "realign",
                                .scale = a->soft.over_all ? WS_MASK_SCALE_MODEL
                                                          : WS_MASK_SCALE_TENSOR,
                                .recipe = a->recipe.p,
                                .inputs = m->inputs.p,
                                .paths = paths,
                                .n_paths = a->req->n_models + 1 };
    ws_write_opts w = WS_WRITE_OPTS_INIT;
    w.out = a->req->save_mask;
    w.force = a->req->write.force || a->req->write.resume;
    w.provenance = a->req->write.provenance;
    ctx.max_memory = ws_ctx_memory(NULL);
    const ws_status st = ws_mask_write(&spec, &w, &ctx, &r->run, err);
    if (st == WS_OK)
        *out = r;
    else
        ws_mask_result_free(r);
    return st;
}

static void figures(const ws_realign_run *a, ws_realign_result *out)
{
    double sum = 0.0, low = 0.0, high = 0.0;
    for (size_t i = 0; i < a->run.n_blocks; i++) {
        const ws_soft_block *b = &a->run.blocks[i];
        for (size_t k = 0; k < b->groups; k++) {
            const double p = 1.0 / (1.0 + exp(-(double)b->logits[k]));
            sum += p * (double)b->span;
            low += p < 0.1 ? (double)b->span : 0.0;
            high += p > 0.9 ? (double)b->span : 0.0;
        }
    }
    const double entries = (double)a->run.entries;
    out->tensors = a->run.n_blocks;
    out->entries = a->run.entries;
    out->logits = a->run.groups;
    out->mean = sum / entries;
    out->low = low / entries;
    out->high = high / entries;
    out->pairs = ws_data_info_of(a->run.data)->rows;
    out->memory = a->run.bytes + ws_step_memory_of(a->run.step)->total +
                  ws_model_info_of(a->run.model)->bytes;
}

ws_status ws_realign_write(ws_realign_run *a, ws_realign_result *out, ws_err *err)
{
    ws_status st = WS_OK;
    figures(a, out);
    if (a->req->save_mask != NULL)
        st = mask_write(a, &out->mask, err);
    if (st == WS_OK)
        st = ws_mask_run_write(&a->run, &a->req->write, a->recipe.p, &out->run, err);
    return st;
}
