/*
 * peft_write.c - an adapter directory, written so that PEFT loads it
 *
 * Tensors are converted and written slice by slice with their digests, all at once or
 * (ws_adapter_sink) module by module; the header goes last, when the content's digest
 * is known; the configuration has its keys sorted, as PEFT writes it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "ckpt/st_write.h"
#include "ckpt/stage.h"
#include "ckpt/stage_manifest.h"
#include "hf/peft.h"
#include "hf/peft_config.h"
#include "ws_config.h"
#include "wsurg/adapter.h"
#include "wsurg/digest.h"
#include "wsurg/text.h"

#define PREFIX "base_model.model."

/** One tensor of the file: the header's view, and where its numbers are. */
struct item {
    ws_tensor t;
    const float *floats;         // factors; or
    const ws_adapter_copy *copy; // bytes
    uint64_t shape[2];
    ws_xxh128 digest;
    size_t module; // whose factor it is
    bool done;
};

struct writer {
    const ws_adapter_spec *spec;
    const ws_adapter_target *target;
    const char *folder; // in the output: "" or "adapter/"
    struct item *items; // (n)
    size_t n, cap;
    size_t module;      // that items are being made of
    ws_tensor **order;  // (n) as they lie in the file
    ws_xxh128 *digests; // (n) in that order, at the end
    ws_arena arena;
    int id; // of the staged file of weights
    uint64_t header_len;
};

static const char unknown[] = "xxh3-128:00000000000000000000000000000000";

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for an adapter");
}

static char *name_make(struct writer *w, const char *module, const char *suffix)
{
    const size_t n = strlen(PREFIX) + strlen(module) + strlen(suffix) + 1;
    char *name = ws_arena_alloc(&w->arena, n);
    if (name != NULL)
        snprintf(name, n, PREFIX "%s%s", module, suffix);
    return name;
}

/* ---- tensors ---- */

static ws_status add_factor(struct writer *w, const char *module, const char *suffix,
                            const float *numbers, int64_t rows, int64_t cols,
                            ws_err *err)
{
    struct item *i = &w->items[w->n++];
    i->floats = numbers;
    i->module = w->module;
    i->shape[0] = (uint64_t)rows;
    i->shape[1] = (uint64_t)cols;
    i->t = (ws_tensor){ .name = name_make(w, module, suffix),
                        .dtype = w->spec->dtype,
                        .rank = cols > 0 ? 2 : 1,
                        .shape = i->shape };
    i->t.n_elements = (uint64_t)rows * (cols > 0 ? (uint64_t)cols : 1);
    i->t.n_bytes = i->t.n_elements * (ws_dtype_info(w->spec->dtype)->bits / 8);
    return i->t.name == NULL ? no_memory(err) : WS_OK;
}

static ws_status items_make(struct writer *w, ws_err *err)
{
    const ws_adapter_spec *s = w->spec;
    w->cap = 3 * s->n_modules + s->n_copies;
    w->items = ws_calloc(w->cap + 1, sizeof *w->items);
    w->order = ws_calloc(w->cap + 1, sizeof *w->order);
    w->digests = ws_calloc(w->cap + 1, sizeof *w->digests);
    if (w->items == NULL || w->order == NULL || w->digests == NULL)
        return no_memory(err);
    ws_status st = WS_OK;
    for (size_t k = 0; k < s->n_modules && st == WS_OK; k++) {
        const ws_adapter_factors *m = &s->modules[k];
        w->module = k;
        st = add_factor(w, m->path,
                        m->embedding ? ".lora_embedding_A" : ".lora_A.weight", m->a,
                        m->r, m->in, err);
        if (st == WS_OK)
            st = add_factor(w, m->path,
                            m->embedding ? ".lora_embedding_B" : ".lora_B.weight", m->b,
                            m->out, m->r, err);
        if (st == WS_OK && m->magnitude != NULL)
            st = add_factor(w, m->path, ".lora_magnitude_vector", m->magnitude, m->out,
                            0, err);
    }
    for (size_t k = 0; k < s->n_copies && st == WS_OK; k++) {
        struct item *i = &w->items[w->n++];
        i->copy = &s->copies[k];
        i->t = *s->copies[k].t;
        i->t.name = name_make(w, s->copies[k].name, "");
        if (i->t.name == NULL)
            st = no_memory(err);
    }
    return st;
}

static ws_status order_make(struct writer *w, ws_err *err)
{
    for (size_t i = 0; i < w->n; i++)
        w->order[i] = &w->items[i].t;
    qsort(w->order, w->n, sizeof *w->order, ws_st_order);
    ws_status st = WS_OK;
    for (size_t i = 1; i < w->n && st == WS_OK; i++)
        if (strcmp(w->order[i - 1]->name, w->order[i]->name) == 0) {
            st = ws_fail(err, WS_E_SHAPE, "two parts of the adapter have one name");
            ws_err_at(err, NULL, w->order[i]->name, -1);
        }
    return st;
}

/* ---- numbers ---- */

/** Elements of a slice as they are stored. */
static ws_status slice_make(const struct writer *w, const struct item *item,
                            uint64_t offset, uint64_t len, void *out, ws_err *err)
{
    const ws_adapter_copy *copy = item->copy;
    if (copy != NULL && copy->from != NULL)
        return ws_ckpt_read(copy->from, copy->t, offset, (size_t)len, out, err);
    if (copy != NULL) {
        memcpy(out, (const char *)copy->data + offset, (size_t)len);
        return WS_OK;
    }
    const size_t size = ws_dtype_info(w->spec->dtype)->bits / 8;
    ws_store_tally tally;
    ws_from_f32(w->spec->dtype, item->floats + offset / size, out, (size_t)len / size,
                &tally);
    if (tally.overflowed == 0 && tally.not_finite == 0)
        return WS_OK;
    ws_fail(err, WS_E_NOT_FINITE, "%s",
            tally.not_finite > 0 ? "a factor holds NaN or infinity"
                                 : "a factor holds a value too large for its dtype");
    return ws_err_at(err, NULL, item->t.name, -1), WS_E_NOT_FINITE;
}

static ws_status tensor_write(const struct writer *w, ws_stage *stage,
                              struct item *item, ws_err *err)
{
    const ws_tensor *t = &item->t;
    const size_t n = (size_t)ws_slice_count(t->rank, t->shape);
    ws_xxh128 *slices = ws_calloc(n + 1, sizeof *slices);
    void *buf = NULL;
    size_t cap = 0;
    ws_status st = slices == NULL ? no_memory(err) : WS_OK;
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        uint64_t offset, len;
        ws_slice_bytes(t, i, &offset, &len);
        if (len > cap) {
            ws_free(buf);
            buf = ws_alloc((size_t)len);
            cap = (size_t)len;
        }
        st = buf == NULL ? no_memory(err) : slice_make(w, item, offset, len, buf, err);
        if (st == WS_OK)
            st =
                ws_stage_write(stage, w->id, buf, (size_t)len, t->offset + offset, err);
        if (st == WS_OK)
            slices[i] = ws_xxh3(buf, (size_t)len);
    }
    if (st == WS_OK) {
        item->digest = ws_tensor_digest(t, slices, n);
        item->done = true;
    }
    ws_free(buf);
    ws_free(slices);
    return st;
}

/** "xxh3-128:..." of all tensors. */
static ws_status content_make(struct writer *w, char out[48], ws_err *err)
{
    const char **names = ws_calloc(w->n + 1, sizeof *names);
    size_t *idx = ws_calloc(w->n + 1, sizeof *idx);
    char hex[33];
    ws_status st = names == NULL || idx == NULL ? no_memory(err) : WS_OK;
    for (size_t i = 0; i < w->n && st == WS_OK; i++) {
        // the header's view is the first member of its item
        w->digests[i] = ((const struct item *)(const void *)w->order[i])->digest;
        names[i] = w->order[i]->name;
    }
    if (st == WS_OK) {
        ws_xxh128_hex(ws_model_digest(names, w->digests, w->n, idx), hex);
        snprintf(out, 48, "xxh3-128:%s", hex);
    }
    ws_free((void *)names);
    ws_free(idx);
    return st;
}

static ws_status header_make(struct writer *w, const char *content, uint8_t **out,
                             uint64_t *len, ws_err *err)
{
    const ws_adapter_spec *s = w->spec;
    ws_meta meta[8];
    size_t n = 0;
    meta[n++] = (ws_meta){ "format", "pt" };
    if (s->content != NULL)
        meta[n++] = (ws_meta){ WS_META_BASE, s->content };
    if (!w->target->no_provenance)
        meta[n++] = (ws_meta){ "wsurg.content", content };
    if (!w->target->no_provenance && s->inputs != NULL)
        meta[n++] = (ws_meta){ "wsurg.inputs", s->inputs };
    meta[n++] = (ws_meta){ "wsurg.kind", "adapter" };
    if (!w->target->no_provenance && s->recipe != NULL)
        meta[n++] = (ws_meta){ "wsurg.recipe", s->recipe };
    if (s->residual != NULL)
        meta[n++] = (ws_meta){ WS_META_RESIDUAL, s->residual };
    if (!w->target->no_provenance)
        meta[n++] = (ws_meta){ "wsurg.version", WS_VERSION };
    return ws_st_header(out, len, w->order, w->n, meta, n, err);
}

/* ---- the directory ---- */

static char *path_make(struct writer *w, const char *name)
{
    const size_t n = strlen(w->folder) + strlen(name) + 1;
    char *path = ws_arena_alloc(&w->arena, n);
    if (path != NULL)
        snprintf(path, n, "%s%s", w->folder, name);
    return path;
}

/** Lay the weights out and create their file. */
static ws_status weights_open(struct writer *w, ws_stage *stage, ws_err *err)
{
    uint8_t *header = NULL;
    ws_status st = header_make(w, unknown, &header, &w->header_len, err);
    ws_free(header);
    uint64_t bytes = w->header_len;
    for (size_t i = 0; i < w->n && st == WS_OK; i++)
        bytes += w->order[i]->n_bytes;
    const char *name = path_make(w, WS_ADAPTER_WEIGHTS);
    if (st != WS_OK)
        return st;
    return name == NULL ? no_memory(err)
                        : ws_stage_file(stage, name, bytes, &w->id, err);
}

/** What has not been written yet, then the header. */
static ws_status weights_close(struct writer *w, ws_stage *stage, char content[48],
                               ws_err *err)
{
    uint8_t *header = NULL;
    uint64_t len = 0;
    ws_status st = WS_OK;
    for (size_t i = 0; i < w->n && st == WS_OK; i++)
        if (!w->items[i].done)
            st = tensor_write(w, stage, &w->items[i], err);
    if (st == WS_OK)
        st = content_make(w, content, err);
    if (st == WS_OK)
        st = header_make(w, content, &header, &len, err);
    if (st == WS_OK && len != w->header_len)
        st = ws_fail(err, WS_E_INTERNAL, "an adapter's header changed its length");
    if (st == WS_OK)
        st = ws_stage_write(stage, w->id, header, (size_t)len, 0, err);
    ws_free(header);
    return st;
}

/** Check what is staged, and show it. */
static ws_status show(const struct writer *w, ws_stage *stage, const char *content,
                      const ws_ctx *ctx, ws_manifest **files, ws_err *err)
{
    const char *asked = w->target->manifest;
    const bool none = asked != NULL && strcmp(asked, "none") == 0;
    const ws_stage_expect expect = { (const ws_tensor *const *)w->order, w->digests,
                                     w->n };
    char *path = NULL;
    ws_pool *pool = NULL;
    ws_manifest *m = NULL;
    ws_status st = ws_stage_sync(stage, err);
    if (st == WS_OK)
        st = ws_pool_new(&pool, ws_ctx_threads(ctx), err);
    if (st == WS_OK)
        st = ws_stage_check(&m, stage, pool, ctx, &expect, 1, err);
    ws_pool_free(pool);
    if (st == WS_OK) {
        snprintf(m->content, sizeof m->content, "%s", content);
        path = none            ? NULL
               : asked != NULL ? ws_strdup(asked)
                               : ws_stage_manifest_path(w->target->out, true);
        if (path == NULL && !none)
            st = no_memory(err);
    }
    if (st == WS_OK)
        st = ws_stage_commit(stage, m, path, err);
    ws_free(path);
    if (st == WS_OK && files != NULL)
        *files = m;
    else
        ws_manifest_free(m);
    return st;
}

static ws_status files_close(struct writer *w, ws_stage *stage, char content[48],
                             ws_err *err)
{
    ws_buf config = { 0 };
    const char *name = path_make(w, WS_ADAPTER_CONFIG);
    ws_status st =
        name == NULL ? no_memory(err) : weights_close(w, stage, content, err);
    if (st == WS_OK)
        st = ws_peft_config_text(&config, w->spec, err);
    if (st == WS_OK)
        st = ws_stage_put(stage, name, config.p, config.n, err);
    ws_buf_free(&config);
    return st;
}

struct ws_adapter_sink {
    struct writer w;
    ws_adapter_spec spec;
    ws_adapter_target target;
    ws_stage *stage;
    bool owned; // the stage is the sink's
};

void ws_adapter_sink_close(ws_adapter_sink *s)
{
    if (s == NULL)
        return;
    if (s->owned)
        ws_stage_close(s->stage, false);
    ws_free(s->w.items);
    ws_free(s->w.order);
    ws_free(s->w.digests);
    ws_arena_free(&s->w.arena);
    ws_free(s);
}

/** A sink into @p folder of a stage that is still to be set. */
static ws_adapter_sink *sink_new(const ws_adapter_spec *spec,
                                 const ws_adapter_target *target, const char *folder)
{
    ws_adapter_sink *s = ws_calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->spec = *spec;
    s->target = *target;
    s->w = (struct writer){ .spec = &s->spec, .target = &s->target, .folder = folder };
    return s;
}

static ws_status sink_start(ws_adapter_sink *s, ws_err *err)
{
    ws_status st = items_make(&s->w, err);
    if (st == WS_OK)
        st = order_make(&s->w, err);
    return st == WS_OK ? weights_open(&s->w, s->stage, err) : st;
}

ws_status ws_adapter_sink_open(ws_adapter_sink **out, const ws_adapter_spec *spec,
                               bool no_provenance, ws_stage *stage, const char *folder,
                               ws_err *err)
{
    const ws_adapter_target target = { .no_provenance = no_provenance };
    ws_adapter_sink *s = sink_new(spec, &target, folder);
    if (s == NULL)
        return no_memory(err);
    s->stage = stage;
    const ws_status st = sink_start(s, err);
    if (st == WS_OK)
        *out = s;
    else
        ws_adapter_sink_close(s);
    return st;
}

ws_status ws_adapter_sink_create(ws_adapter_sink **out, const ws_adapter_spec *spec,
                                 const ws_adapter_target *target, const ws_ctx *ctx,
                                 ws_err *err)
{
    const ws_stage_opts o = { .target = target->out,
                              .is_dir = true,
                              .force = target->force,
                              .key = "00000000000000000000000000000000",
                              .inputs = target->inputs,
                              .n_inputs = target->n_inputs };
    ws_adapter_sink *s = sink_new(spec, target, "");
    if (s == NULL)
        return no_memory(err);
    s->owned = true;
    ws_status st =
        ws_stage_open(&s->stage, &o, ctx == NULL ? NULL : ctx->warnings, err);
    if (st == WS_OK)
        st = sink_start(s, err);
    if (st == WS_OK) {
        *out = s;
        return WS_OK;
    }
    ws_err_at(err, target->out, NULL, -1);
    ws_adapter_sink_close(s);
    return st;
}

/** A and B of module @p k; false when it has not both. */
static bool factors_of(ws_adapter_sink *s, size_t k, struct item *out[2])
{
    size_t n = 0;
    for (size_t i = 2 * k; i < s->w.n && n < 2; i++) // magnitudes may stand between
        if (s->w.items[i].copy == NULL && s->w.items[i].module == k)
            out[n++] = &s->w.items[i];
    return n == 2;
}

ws_status ws_adapter_sink_put(ws_adapter_sink *s, size_t k, const float *a,
                              const float *b, ws_xxh128 digests[2], ws_err *err)
{
    struct item *pair[2] = { NULL, NULL };
    const float *const numbers[2] = { a, b };
    if (!factors_of(s, k, pair))
        return ws_fail(err, WS_E_INTERNAL, "module %zu has not two factors", k);
    ws_status st = WS_OK;
    for (int i = 0; i < 2 && st == WS_OK; i++) {
        pair[i]->floats = numbers[i];
        st = tensor_write(&s->w, s->stage, pair[i], err);
        pair[i]->floats = NULL;
        if (digests != NULL)
            digests[i] = pair[i]->digest;
    }
    return st;
}

void ws_adapter_sink_done(ws_adapter_sink *s, size_t k, const ws_xxh128 digests[2])
{
    struct item *pair[2] = { NULL, NULL };
    for (int i = 0; factors_of(s, k, pair) && i < 2; i++) {
        pair[i]->digest = digests[i];
        pair[i]->done = true;
    }
}

ws_status ws_adapter_sink_finish(ws_adapter_sink *s, const char *content,
                                 const char *residual, ws_err *err)
{
    char own[48];
    s->spec.content = s->spec.content == NULL ? NULL : content;
    s->spec.residual = s->spec.residual == NULL ? NULL : residual;
    return files_close(&s->w, s->stage, own, err);
}

ws_stage_expect ws_adapter_sink_expect(const ws_adapter_sink *s)
{
    return (ws_stage_expect){ (const ws_tensor *const *)s->w.order, s->w.digests,
                              s->w.n };
}

ws_status ws_adapter_sink_show(ws_adapter_sink *s, const ws_ctx *ctx,
                               ws_manifest **files, ws_err *err)
{
    char content[48];
    ws_status st = files_close(&s->w, s->stage, content, err);
    if (st == WS_OK)
        st = show(&s->w, s->stage, content, ctx, files, err);
    if (st != WS_OK)
        ws_err_at(err, s->target.out, NULL, -1);
    return st;
}

ws_status ws_adapter_stage(const ws_adapter_spec *spec, bool no_provenance,
                           ws_stage *stage, const char *folder, ws_err *err)
{
    ws_adapter_sink *s = NULL;
    ws_status st = ws_adapter_sink_open(&s, spec, no_provenance, stage, folder, err);
    if (st == WS_OK)
        st = ws_adapter_sink_finish(s, spec->content, spec->residual, err);
    ws_adapter_sink_close(s);
    return st;
}

ws_status ws_adapter_write(const ws_adapter_spec *spec, const ws_adapter_target *target,
                           const ws_ctx *ctx, ws_manifest **files, ws_err *err)
{
    ws_adapter_sink *s = NULL;
    ws_status st = ws_adapter_sink_create(&s, spec, target, ctx, err);
    if (st == WS_OK)
        st = ws_adapter_sink_show(s, ctx, files, err);
    ws_adapter_sink_close(s);
    return st;
}
