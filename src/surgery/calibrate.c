/*
 * calibrate.c - covariances of a model's linears, into a file
 *
 * Samples are chosen by the seed alone. As many blocks' sums as memory allows are held
 * at once; for the next ones the model runs again over all samples, up to the last of
 * them. A finished matrix is staged and journaled, so that a killed run goes on behind
 * it.
 */
#include "wsurg/calibrate.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/pool.h"
#include "ckpt/st_write.h"
#include "ckpt/stage_manifest.h"
#include "ckpt/ticker.h"
#include "surgery/calibrate_samples.h"
#include "surgery/cov_collect.h"
#include "surgery/cov_file.h"
#include "surgery/decompose_data.h"
#include "surgery/decompose_text.h"
#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"
#include "wsurg/random.h"
#include "wsurg/wsurg.h"

enum { RECORD_MATRIX = 1 }; // a: index of the matrix, payload: its digest

/** One matrix of the file. */
struct matrix {
    ws_tensor t;
    uint64_t count; // its shape
    int64_t layer;
    int slot;
    const ws_tensor *add; // in the file that is added
    bool done;
    ws_xxh128 digest;
};

struct job {
    const ws_calibrate_req *req;
    const ws_ctx *ctx;
    ws_calibrate_result *r;
    ws_model *model;
    ws_cov add;
    ws_samples samples;
    char digest[48];
    struct matrix *m; // (n) by layer and slot
    size_t n;
    ws_tensor **order; // (n) as they lie in the file
    int64_t widest;
    ws_buf tensors; // "NAME":"cov.NAME",... for the description
    ws_buf data;    // ["NAME",...] of what is run over
    ws_buf recipe, inputs;
    ws_stage *stage;
    int id;
    uint64_t header_len;
    ws_ticker ticker;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to calibrate");
}

/* ---- which matrices ---- */

/** "NAME":"cov.FIRST" for a linear and those that share its input. */
static void name_one(struct job *j, const ws_weight *w, const char *first)
{
    if (w->data == NULL || w->name == NULL)
        return;
    ws_buf *b = &j->tensors;
    ws_buf_putc(b, b->n == 0 ? '{' : ',');
    ws_buf_json_string(b, w->name, strlen(w->name));
    ws_buf_puts(b, ":");
    ws_buf_json_string(b, first, strlen(first));
    j->r->linears++;
}

static ws_status matrix_add(struct job *j, int64_t layer, int slot, ws_err *err)
{
    const ws_layer *l = &j->model->layer[layer];
    const ws_weight *const lead[] = { &l->q, &l->o,
                                      l->gate.data != NULL ? &l->gate : &l->up,
                                      &l->down };
    const int64_t n = ws_cov_order(j->model, layer, slot);
    if (n == 0)
        return WS_OK;
    struct matrix *m = &j->m[j->n++];
    const size_t len = strlen(lead[slot]->name) + sizeof WS_COV_PREFIX;
    char *name = ws_arena_alloc(&j->r->arena, len);
    if (name == NULL)
        return no_memory(err);
    snprintf(name, len, WS_COV_PREFIX "%s", lead[slot]->name);
    m->count = (uint64_t)n * ((uint64_t)n + 1) / 2;
    m->layer = layer;
    m->slot = slot;
    m->t = (ws_tensor){ .name = name,
                        .dtype = WS_DT_F32,
                        .rank = 1,
                        .shape = &m->count,
                        .n_elements = m->count,
                        .n_bytes = m->count * sizeof(float) };
    j->widest = n > j->widest ? n : j->widest;
    name_one(j, lead[slot], name);
    if (slot == 0 && strcmp(l->k.name, l->q.name) != 0) { // else one fused tensor
        name_one(j, &l->k, name);
        name_one(j, &l->v, name);
    }
    if (slot == 2 && l->gate.data != NULL && strcmp(l->up.name, l->gate.name) != 0)
        name_one(j, &l->up, name);
    if (j->req->add == NULL)
        return WS_OK;
    int64_t order = 0;
    m->add = ws_cov_find(&j->add, lead[slot]->name, &order);
    if (m->add != NULL && order == n && strcmp(m->add->name, name) == 0)
        return WS_OK;
    ws_fail(err, WS_E_MISSING, "the covariances to add have none of this linear");
    return ws_err_at(err, j->req->add, lead[slot]->name, -1), WS_E_MISSING;
}

static ws_status find_matrices(struct job *j, ws_err *err)
{
    const int64_t layers = j->model->d.L;
    const size_t most = (size_t)layers * WS_COV_SLOTS;
    j->m = ws_arena_calloc(&j->r->arena, most + 1, sizeof *j->m);
    j->order = ws_arena_calloc(&j->r->arena, most + 1, sizeof *j->order);
    ws_status st = j->m && j->order ? WS_OK : no_memory(err);
    for (int64_t l = 0; l < layers && st == WS_OK; l++)
        for (int s = 0; s < WS_COV_SLOTS && st == WS_OK; s++)
            st = matrix_add(j, l, s, err);
    if (st != WS_OK)
        return st;
    for (size_t i = 0; i < j->n; i++)
        j->order[i] = &j->m[i].t;
    qsort(j->order, j->n, sizeof *j->order, ws_st_order);
    ws_buf_putc(&j->tensors, '}');
    j->r->matrices = j->n;
    return j->tensors.failed ? no_memory(err) : WS_OK;
}

/* ---- the file ---- */

static const char *normalise_word(ws_normalise n)
{
    static const char *const words[] = { "peft", "authors", "none" };
    return words[n];
}

static void describe(const struct job *j, ws_buf *b)
{
    const ws_calibrate_result *r = j->r;
    ws_buf_printf(b,
                  "{\"schema\":\"" WS_COV_SCHEMA
                  "\",\"model\":\"%s\",\"normalise\":\"%s\""
                  ",\"sampling\":\"%s\",\"seq\":%lld,\"samples\":%llu,\"tokens\":%llu,"
                  "\"data\":%s,\"tensors\":%s}",
                  j->digest, normalise_word(j->req->normalise), r->sampling,
                  (long long)r->seq, (unsigned long long)r->all_samples,
                  (unsigned long long)r->all_tokens, j->data.p, j->tensors.p);
}

/** What was asked for, and of what: `wsurg.recipe` and `wsurg.inputs`. */
static ws_status provenance_make(struct job *j, ws_err *err)
{
    ws_status st = WS_OK;
    ws_buf_printf(
        &j->recipe,
        "{\"schema\":\"wsurg-recipe/1\",\"command\":\"calibrate\",\"samples\":"
        "%lld,\"seq\":%lld,\"sampling\":\"%s\",\"normalise\":\"%s\",\"seed\":"
        "%llu,\"data\":\"%s\"}",
        (long long)j->req->samples, (long long)j->r->seq, j->r->sampling,
        normalise_word(j->req->normalise), (unsigned long long)j->req->seed,
        j->samples.digest);
    ws_tv_input_add(&j->inputs, "model", j->model->info.label, j->digest);
    if (j->add.file != NULL) {
        char content[48];
        st = ws_ckpt_digest_text(j->add.file, j->ctx, content, err);
        if (st == WS_OK)
            ws_tv_input_add(&j->inputs, "covariance", ws_ckpt_label(j->add.file),
                            content);
    }
    ws_buf_putc(&j->inputs, ']');
    return st == WS_OK && (j->recipe.failed || j->inputs.failed) ? no_memory(err) : st;
}

/** Names of the data added to, then of the data run over, each once. */
static ws_status data_make(struct job *j, ws_err *err)
{
    const cJSON *before = j->add.data != NULL ? j->add.data->child : NULL;
    cJSON *list = cJSON_CreateArray();
    ws_status st = list == NULL ? no_memory(err) : WS_OK;
    for (; st == WS_OK && before != NULL; before = before->next)
        if (cJSON_IsString(before))
            cJSON_AddItemToArray(list, cJSON_CreateString(before->valuestring));
    for (size_t i = 0; i < j->req->n_data && st == WS_OK; i++) {
        ws_data_source src;
        bool known = false;
        st = ws_data_source_parse(&src, j->req->data[i], &j->r->arena, err);
        if (st != WS_OK)
            break;
        for (const cJSON *x = list->child; x != NULL; x = x->next)
            known |= strcmp(x->valuestring, src.name) == 0;
        if (!known)
            cJSON_AddItemToArray(list, cJSON_CreateString(src.name));
    }
    if (st == WS_OK)
        ws_cov_data_json(&(ws_cov){ .data = list }, &j->data);
    cJSON_Delete(list);
    return st == WS_OK && j->data.failed ? no_memory(err) : st;
}

static ws_status header_make(struct job *j, const char *content, uint8_t **out,
                             uint64_t *len, ws_err *err)
{
    ws_buf text = { 0 };
    describe(j, &text);
    const ws_meta meta[] = { { "format", "pt" },
                             { "wsurg.kind", "covariance" },
                             { WS_COV_META, text.p },
                             { "wsurg.content", content },
                             { "wsurg.inputs", j->inputs.p },
                             { "wsurg.recipe", j->recipe.p },
                             { "wsurg.version", ws_version() } };
    ws_status st = text.failed ? no_memory(err) : WS_OK;
    if (st == WS_OK)
        st = ws_st_header(out, len, j->order, j->n, meta,
                          j->req->write.provenance ? 7 : 3, err);
    ws_buf_free(&text);
    return st;
}

static const char unknown[] = "xxh3-128:00000000000000000000000000000000";

static ws_status replay(void *arg, uint32_t type, uint64_t a, uint64_t b,
                        const void *payload, size_t n, ws_err *err)
{
    struct job *j = arg;
    (void)b;
    (void)err;
    if (type == RECORD_MATRIX && a < j->n && n == sizeof(ws_xxh128)) {
        memcpy(&j->m[a].digest, payload, n);
        j->m[a].done = true;
    }
    return WS_OK;
}

/** Create the file in the stage; what a killed run finished counts as done. */
static ws_status file_open(struct job *j, ws_err *err)
{
    uint8_t *header = NULL;
    ws_status st = header_make(j, unknown, &header, &j->header_len, err);
    ws_free(header);
    uint64_t bytes = j->header_len;
    for (size_t i = 0; i < j->n; i++)
        bytes += j->m[i].t.n_bytes;
    if (st == WS_OK)
        st = ws_stage_file(j->stage, "", bytes, &j->id, err);
    if (st == WS_OK && ws_stage_resumed(j->stage))
        st = ws_stage_replay(j->stage, replay, j, err);
    return st;
}

/** Stage the output; r->unchanged where a run that is resumed has finished it. */
static ws_status stage_open(struct job *j, ws_err *err)
{
    const char *inputs[] = { j->req->model, j->req->add };
    const ws_write_opts *w = &j->req->write;
    ws_buf text = { 0 };
    char key[33];
    describe(j, &text);
    if (text.failed)
        return no_memory(err);
    const ws_xxh128 parts[3] = { ws_xxh3(text.p, text.n),
                                 ws_xxh3(j->recipe.p, j->recipe.n),
                                 ws_xxh3(j->inputs.p, j->inputs.n) };
    ws_xxh128_hex(ws_xxh3(parts, sizeof parts), key);
    ws_buf_free(&text);
    const ws_stage_opts o = { .target = w->out,
                              .force = w->force,
                              .resume = w->resume,
                              .key = key,
                              .inputs = inputs,
                              .n_inputs = j->req->add == NULL ? 1 : 2,
                              .manifest = w->manifest };
    const ws_status st =
        ws_stage_open(&j->stage, &o, j->ctx == NULL ? NULL : j->ctx->warnings, err);
    if (st == WS_OK)
        j->r->unchanged = ws_stage_finished(j->stage);
    else if (st == WS_E_EXISTS && w->resume)
        j->r->unchanged = ws_decompose_is(w->out, "", j->recipe.p, j->inputs.p);
    if (j->r->unchanged)
        return WS_OK;
    return st == WS_OK ? file_open(j, err) : st;
}

/** One slice of a sum, with what is added, as float. */
static ws_status slice_make(struct job *j, const struct matrix *m, const double *sum,
                            uint64_t offset, size_t n, float *out, float *other,
                            ws_err *err)
{
    ws_status st = WS_OK;
    if (m->add != NULL)
        st = ws_ckpt_read(j->add.file, m->add, offset * sizeof(float),
                          n * sizeof(float), other, err);
    bool finite = true;
    for (size_t i = 0; i < n && st == WS_OK; i++) {
        out[i] = (float)(sum[offset + i] + (m->add != NULL ? (double)other[i] : 0.0));
        finite &= isfinite(out[i]) != 0;
    }
    if (st == WS_OK && !finite) {
        st = ws_fail(err, WS_E_NOT_FINITE, "a covariance overflows float32");
        ws_err_at(err, NULL, m->t.name, -1);
    }
    return st;
}

static ws_status matrix_write(struct job *j, size_t i, const double *sum, ws_err *err)
{
    struct matrix *m = &j->m[i];
    const size_t n = (size_t)ws_slice_count(1, m->t.shape);
    const size_t most = (size_t)ws_slice_len(1, m->t.shape);
    ws_xxh128 *slices = ws_calloc(n + 1, sizeof *slices);
    float *buf = ws_alloc(2 * most * sizeof *buf);
    ws_status st = slices && buf ? WS_OK : no_memory(err);
    for (size_t k = 0; k < n && st == WS_OK; k++) {
        uint64_t offset, len;
        ws_slice_bytes(&m->t, k, &offset, &len);
        st = slice_make(j, m, sum, offset / sizeof(float), (size_t)len / sizeof(float),
                        buf, buf + most, err);
        if (st == WS_OK)
            st = ws_stage_write(j->stage, j->id, buf, (size_t)len, m->t.offset + offset,
                                err);
        if (st == WS_OK)
            slices[k] = ws_xxh3(buf, (size_t)len);
    }
    if (st == WS_OK) {
        m->digest = ws_tensor_digest(&m->t, slices, n);
        m->done = true;
        st = ws_stage_record(j->stage, RECORD_MATRIX, i, 0, &m->digest,
                             sizeof m->digest, err);
    }
    ws_free(slices);
    ws_free(buf);
    return st;
}

/* ---- passes ---- */

static uint64_t layer_bytes(const struct job *j, int64_t layer)
{
    uint64_t all = 0;
    for (size_t i = 0; i < j->n; i++)
        all += j->m[i].layer == layer ? j->m[i].count * sizeof(double) : 0;
    return all;
}

static bool layer_done(const struct job *j, int64_t layer)
{
    for (size_t i = 0; i < j->n; i++)
        if (j->m[i].layer == layer && !j->m[i].done)
            return false;
    return true;
}

static ws_status pass_run(struct job *j, ws_cov_pass *p, ws_err *err)
{
    const int64_t layers = p->last - p->first + 1;
    p->sums = ws_calloc((size_t)layers * WS_COV_SLOTS, sizeof *p->sums);
    ws_status st = p->sums == NULL ? no_memory(err) : WS_OK;
    for (int64_t i = 0; i < layers * WS_COV_SLOTS && st == WS_OK; i++) {
        ws_cov_sum *s = &p->sums[i];
        s->n = ws_cov_order(j->model, p->first + i / WS_COV_SLOTS,
                            (int)(i % WS_COV_SLOTS));
        s->sum = ws_calloc((size_t)(s->n * (s->n + 1) / 2) + 1, sizeof *s->sum);
        st = s->sum == NULL ? no_memory(err) : WS_OK;
    }
    for (int64_t i = 0; i < j->samples.n && st == WS_OK; i++) {
        st = ws_cov_sample(p, j->samples.tokens + j->samples.start[i],
                           j->samples.start[i + 1] - j->samples.start[i], err);
        if (!ws_ticker_add(&j->ticker, 1) && st == WS_OK)
            st = ws_fail(err, WS_E_INTERRUPTED, "stopped on request");
    }
    for (size_t i = 0; i < j->n && st == WS_OK; i++)
        if (j->m[i].layer >= p->first && j->m[i].layer <= p->last)
            st = matrix_write(
                j, i,
                p->sums[(j->m[i].layer - p->first) * WS_COV_SLOTS + j->m[i].slot].sum,
                err);
    for (int64_t i = 0; p->sums != NULL && i < layers * WS_COV_SLOTS; i++)
        ws_free(p->sums[i].sum);
    ws_free(p->sums);
    p->sums = NULL;
    j->r->passes++;
    return st == WS_OK ? ws_stage_sync(j->stage, err) : st;
}

/** Blocks [first, *last] whose sums fit beside the model into @p room. */
static int64_t last_of_pass(const struct job *j, int64_t first, uint64_t room)
{
    uint64_t taken = 0;
    int64_t last = first;
    for (int64_t l = first; l < j->model->d.L; l++) {
        taken += layer_bytes(j, l);
        if (l > first && taken > room)
            break;
        last = l;
    }
    return last;
}

static ws_status run_passes(struct job *j, ws_err *err)
{
    const int threads = ws_ctx_threads(j->ctx);
    const int64_t t = j->samples.longest;
    const uint64_t scratch =
        ((uint64_t)threads * WS_COV_PANEL + (uint64_t)t) * (uint64_t)j->widest * 4;
    uint64_t block = 0;
    for (int64_t l = 0; l < j->model->d.L; l++)
        block = layer_bytes(j, l) > block ? layer_bytes(j, l) : block;
    const ws_fwd_opts o = {
        .rows = t, .positions = t, .logits = 1, .beside = scratch + block
    };
    ws_cov_pass p = { .model = j->model,
                      .normalise = j->req->normalise,
                      .widest = j->widest };
    ws_status st = ws_fwd_new(&p.fwd, j->model, &o, j->ctx, err);
    const uint64_t fixed =
        j->model->info.bytes + ws_fwd_bytes(j->model, &o, threads) + scratch;
    const uint64_t room = j->model->limit > fixed ? j->model->limit - fixed : 0;
    p.panels = ws_alloc((size_t)threads * WS_COV_PANEL * (size_t)j->widest * 4);
    p.scaled = ws_alloc((size_t)t * (size_t)j->widest * 4);
    if (st == WS_OK && (p.panels == NULL || p.scaled == NULL))
        st = no_memory(err);
    ws_ticker_start(&j->ticker, j->ctx, "calibrate", (uint64_t)j->samples.n);
    for (int64_t l = 0; l < j->model->d.L && st == WS_OK; l = p.last + 1) {
        p.first = p.last = l;
        if (layer_done(j, l))
            continue;
        p.last = last_of_pass(j, l, room);
        st = pass_run(j, &p, err);
    }
    ws_ticker_end(&j->ticker);
    ws_fwd_free(p.fwd);
    ws_free(p.panels);
    ws_free(p.scaled);
    return st;
}

/* ---- the end ---- */

static ws_status finish_header(struct job *j, char content[48], ws_err *err)
{
    const char **names = ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *names);
    ws_xxh128 *digests = ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *digests);
    size_t *idx = ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *idx);
    uint8_t *header = NULL;
    uint64_t len = 0;
    char hex[33];
    if (names == NULL || digests == NULL || idx == NULL)
        return no_memory(err);
    for (size_t i = 0; i < j->n; i++) {
        names[i] = j->m[i].t.name;
        digests[i] = j->m[i].digest;
    }
    ws_xxh128_hex(ws_model_digest(names, digests, j->n, idx), hex);
    snprintf(content, 48, "xxh3-128:%s", hex);
    ws_status st = header_make(j, content, &header, &len, err);
    if (st == WS_OK && len != j->header_len)
        st = ws_fail(err, WS_E_INTERNAL, "the header of the covariances changed");
    if (st == WS_OK)
        st = ws_stage_write(j->stage, j->id, header, (size_t)len, 0, err);
    ws_free(header);
    return st;
}

static ws_status show(struct job *j, const char *content, ws_err *err)
{
    const char *asked = j->req->write.manifest, *out = j->req->write.out;
    const bool none = asked != NULL && strcmp(asked, "none") == 0;
    const ws_tensor **tensors =
        ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *tensors);
    ws_xxh128 *digests = ws_arena_calloc(&j->r->arena, j->n + 1, sizeof *digests);
    ws_pool *pool = NULL;
    ws_manifest *m = NULL;
    char *path = NULL;
    ws_status st = tensors && digests ? ws_stage_sync(j->stage, err) : no_memory(err);
    for (size_t i = 0; i < j->n && st == WS_OK; i++) {
        // the tensor is the first member of its matrix
        tensors[i] = j->order[i];
        digests[i] = ((const struct matrix *)(const void *)j->order[i])->digest;
    }
    const ws_stage_expect expect = { tensors, digests, j->n };
    if (st == WS_OK)
        st = ws_pool_new(&pool, ws_ctx_threads(j->ctx), err);
    if (st == WS_OK)
        st = ws_stage_check(&m, j->stage, pool, j->ctx, &expect, 1, err);
    ws_pool_free(pool);
    if (st == WS_OK && !none) {
        path = asked != NULL ? ws_strdup(asked) : ws_stage_manifest_path(out, false);
        st = path == NULL ? no_memory(err) : WS_OK;
    }
    if (st == WS_OK) {
        snprintf(m->content, sizeof m->content, "%s", content);
        j->r->output = (ws_out_file){ .path = out, .bytes = m->files[0].bytes };
        memcpy(j->r->output.sha256, m->files[0].sha256, sizeof m->files[0].sha256);
        memcpy(j->r->output.xxh3, m->files[0].xxh3, sizeof m->files[0].xxh3);
        j->r->usage.written_bytes = m->files[0].bytes;
        j->r->manifest = path == NULL ? NULL : ws_arena_strdup(&j->r->arena, path);
        st = ws_decompose_strict(j->ctx, err);
    }
    if (st == WS_OK)
        st = ws_recheck_given(j->model->ckpt, j->add.file, err);
    if (st == WS_OK)
        st = ws_stage_commit(j->stage, m, path, err);
    ws_manifest_free(m);
    ws_free(path);
    return st;
}

static ws_status open_add(struct job *j, ws_err *err)
{
    ws_status st = ws_cov_open(&j->add, j->req->add,
                               j->ctx == NULL ? NULL : j->ctx->warnings, err);
    if (st != WS_OK)
        return st;
    if (strcmp(j->add.model, j->digest) != 0) {
        ws_fail(err, WS_E_ANCESTRY,
                "the covariances to add are of another model: "
                "contents %s, not %s",
                j->add.model, j->digest);
        return ws_err_at(err, j->req->add, NULL, -1), WS_E_ANCESTRY;
    }
    if (strcmp(j->add.normalise, normalise_word(j->req->normalise)) != 0) {
        ws_fail(err, WS_E_USAGE, "--normalise %s, but those to add were made with %s",
                normalise_word(j->req->normalise), j->add.normalise);
        return ws_err_at(err, j->req->add, NULL, -1), WS_E_USAGE;
    }
    return WS_OK;
}

/** Cut seq to the model, choose the samples, count. */
static ws_status prepare(struct job *j, ws_err *err)
{
    const int64_t most = j->model->info.max_positions;
    j->r->seq = j->req->seq;
    if (most > 0 && j->r->seq > most) {
        ws_diag_report(j->ctx == NULL ? NULL : j->ctx->warnings, WS_OK, "note",
                       "--seq %lld is cut to the model's %lld positions",
                       (long long)j->r->seq, (long long)most);
        j->r->seq = most;
    }
    const ws_status st =
        ws_samples_choose(&j->samples, j->req, j->model, j->r->seq, j->ctx, err);
    if (st != WS_OK)
        return st;
    j->r->samples = j->samples.n;
    j->r->tokens = (uint64_t)j->samples.start[j->samples.n];
    j->r->sampling = j->samples.sampling;
    j->r->all_samples = (uint64_t)j->samples.n + j->add.samples;
    j->r->all_tokens = j->r->tokens + j->add.tokens;
    return WS_OK;
}

void ws_calibrate_result_free(ws_calibrate_result *r)
{
    if (r == NULL)
        return;
    ws_arena_free(&r->arena);
    ws_free(r);
}

ws_status ws_calibrate(ws_calibrate_result **out, const ws_calibrate_req *req,
                       const ws_ctx *ctx, ws_err *err)
{
    struct job j = { .req = req, .ctx = ctx, .r = ws_calloc(1, sizeof *j.r) };
    const double start = ws_os_now();
    char content[48];
    ws_status st = j.r == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK)
        st = ws_model_open(&j.model, req->model, req->write.companions_from, ctx, err);
    if (st == WS_OK)
        st = ws_ckpt_digest_text(j.model->ckpt, ctx, j.digest, err);
    if (st == WS_OK && req->add != NULL)
        st = open_add(&j, err);
    if (st == WS_OK)
        st = prepare(&j, err);
    if (st == WS_OK)
        st = find_matrices(&j, err);
    if (st == WS_OK)
        st = data_make(&j, err);
    if (st == WS_OK)
        st = provenance_make(&j, err);
    if (st == WS_OK)
        st = stage_open(&j, err);
    if (st == WS_OK && !j.r->unchanged) {
        st = run_passes(&j, err);
        if (st == WS_OK)
            st = finish_header(&j, content, err);
        if (st == WS_OK)
            st = show(&j, content, err);
    }
    // asked to end, it leaves its staged work to --resume; Ctrl-C cleans up
    const int stop = ctx != NULL && ctx->stop != NULL ? atomic_load(ctx->stop) : 0;
    ws_stage_close(j.stage, st == WS_E_INTERRUPTED && stop != SIGINT);
    if (st == WS_OK)
        ws_decompose_usage_of(&j.r->usage, start, ws_ctx_threads(ctx));
    ws_buf_free(&j.tensors);
    ws_buf_free(&j.data);
    ws_buf_free(&j.recipe);
    ws_buf_free(&j.inputs);
    ws_samples_free(&j.samples);
    ws_cov_close(&j.add);
    ws_model_free(j.model);
    if (st == WS_OK)
        *out = j.r;
    else
        ws_calibrate_result_free(j.r);
    return st;
}
