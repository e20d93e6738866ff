/*
 * mask_stats.c - shares and overlaps of masks
 *
 *   both[a, b] = sum_i min(a_i, b_i)     of BOOL masks: entries that are in both
 */
#include <string.h>

#include "engine/plan_internal.h"
#include "surgery/mask_file.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for figures of masks");
}

/** Sum of the lesser factors of a tensor that both masks have. */
static ws_status common(const ws_mask *a, const ws_tensor *x, const ws_mask *b,
                        const ws_tensor *y, double *sum, ws_err *err)
{
    float p[WS_MASK_PIECE], q[WS_MASK_PIECE];
    ws_status st = WS_OK;
    if (x->n_elements != y->n_elements) {
        ws_fail(err, WS_E_SHAPE, "masks of one tensor have different shapes");
        return ws_err_at(err, ws_ckpt_path(b->file), y->name, -1);
    }
    for (uint64_t at = 0; st == WS_OK && at < x->n_elements; at += WS_MASK_PIECE) {
        const uint64_t left = x->n_elements - at;
        const size_t n = left < WS_MASK_PIECE ? (size_t)left : WS_MASK_PIECE;
        st = ws_mask_read(a, x, at, n, p, err);
        if (st == WS_OK)
            st = ws_mask_read(b, y, at, n, q, err);
        for (size_t i = 0; st == WS_OK && i < n; i++)
            *sum += (double)(p[i] < q[i] ? p[i] : q[i]);
    }
    return st;
}

static ws_mask_layer_stats *layer_of(ws_mask_file_stats *f, int layer)
{
    size_t at = 0;
    while (at < f->n_layers && f->layers[at].layer < layer)
        at++;
    if (at < f->n_layers && f->layers[at].layer == layer)
        return &f->layers[at];
    memmove(f->layers + at + 1, f->layers + at, (f->n_layers - at) * sizeof *f->layers);
    f->layers[at] = (ws_mask_layer_stats){ .layer = layer };
    f->n_layers++;
    return &f->layers[at];
}

static ws_status file_fill(ws_mask_stats *s, size_t k, const ws_mask *m,
                           const char *path, ws_err *err)
{
    ws_mask_file_stats *f = &s->masks[k];
    const size_t n = ws_ckpt_count(m->file);
    ws_status st = WS_OK;
    f->path = path;
    f->scale = m->scale;
    f->label = ws_arena_strdup(&s->arena, ws_ckpt_label(m->file));
    f->made_by = m->made_by[0] == '\0' ? NULL : ws_arena_strdup(&s->arena, m->made_by);
    f->tensors = ws_arena_calloc(&s->arena, n + 1, sizeof *f->tensors);
    f->layers = ws_arena_calloc(&s->arena, n + 1, sizeof *f->layers);
    if (f->label == NULL || f->tensors == NULL || f->layers == NULL)
        return no_memory(err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        const ws_tensor *t = ws_ckpt_tensor(m->file, i);
        size_t prefix = 0;
        ws_mask_tensor_stats *x = &f->tensors[f->n_tensors++];
        *x = (ws_mask_tensor_stats){ .name = ws_arena_strdup(&s->arena, t->name),
                                     .dtype = ws_dtype_info(t->dtype)->name,
                                     .layer = ws_layer_of(t->name, &prefix),
                                     .entries = t->n_elements };
        st = x->name == NULL ? no_memory(err) : ws_mask_sum(m, t, &x->set, err);
        ws_mask_layer_stats *l = layer_of(f, x->layer);
        l->entries += x->entries;
        l->set += x->set;
        f->entries += x->entries;
        f->set += x->set;
    }
    return st;
}

static ws_status overlaps(ws_mask_stats *s, const ws_mask *masks, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t a = 0; a < s->n; a++)
        for (size_t b = a; st == WS_OK && b < s->n; b++) {
            double sum = 0.0;
            for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(masks[a].file); i++) {
                const ws_tensor *x = ws_ckpt_tensor(masks[a].file, i);
                const ws_tensor *y = ws_ckpt_find(masks[b].file, x->name);
                if (y != NULL)
                    st = common(&masks[a], x, &masks[b], y, &sum, err);
            }
            s->both[a * s->n + b] = s->both[b * s->n + a] = sum;
        }
    return st;
}

ws_status ws_mask_stats_new(ws_mask_stats **out, const char *const *paths, size_t n,
                            const ws_ctx *ctx, ws_err *err)
{
    ws_mask_stats *s = ws_calloc(1, sizeof *s);
    ws_mask *masks = ws_calloc(n + 1, sizeof *masks);
    ws_status st = s == NULL || masks == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK) {
        s->masks = ws_arena_calloc(&s->arena, n + 1, sizeof *s->masks);
        s->both = ws_arena_calloc(&s->arena, n * n + 1, sizeof *s->both);
        if (s->masks == NULL || s->both == NULL)
            st = no_memory(err);
    }
    for (size_t k = 0; st == WS_OK && k < n; k++) {
        st = ws_mask_open(&masks[k], paths[k], ctx == NULL ? NULL : ctx->warnings, err);
        if (st == WS_OK)
            st = file_fill(s, k, &masks[k], paths[k], err);
        s->n += st == WS_OK;
    }
    if (st == WS_OK)
        st = overlaps(s, masks, err);
    for (size_t k = 0; masks != NULL && k < n; k++)
        ws_mask_close(&masks[k]);
    ws_free(masks);
    if (st == WS_OK)
        *out = s;
    else
        ws_mask_stats_free(s);
    return st;
}

void ws_mask_stats_free(ws_mask_stats *s)
{
    if (s == NULL)
        return;
    ws_arena_free(&s->arena);
    ws_free(s);
}
