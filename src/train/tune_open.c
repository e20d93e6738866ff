/*
 * tune_open.c - from a request to what a run works on: model, tokenizer, data, steps,
 * and the recipe that stands in the output
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/os.h"
#include "model/model_internal.h"
#include "train/init.h"
#include "train/tune.h"
#include "wsurg/digest.h"
#include "wsurg/text.h"

enum { MOST_POSITIONS = 1024 };

static ws_status usage(ws_err *err, const char *what)
{
    return ws_fail(err, WS_E_USAGE, "%s", what);
}

/* ---- model ---- */

static ws_status model_open(ws_tune *t, ws_err *err)
{
    const ws_tune_req *r = t->req;
    ws_status st;

    t->roomy = *t->ctx;
    if (t->roomy.max_memory == 0)
        t->roomy.max_memory = ws_os_memory_total() / 2;
    t->plan.limit = t->roomy.max_memory;
    if (r->kind == WS_TUNE_SCRATCH)
        st = ws_init_model(&t->model, r->model, r->seed, &t->dtype, &t->roomy, err);
    else
        st = ws_model_open(&t->model, r->model, r->config, &t->roomy, err);
    if (st == WS_OK && r->kind == WS_TUNE_ADAPTER)
        st = ws_adapter_open(&t->adapter, r->adapter, t->ctx->warnings, err);
    if (st == WS_OK)
        st = ws_ckpt_digest_text(t->model->ckpt, t->ctx, t->content, err);
    if (st)
        return st;
    if (t->model->d.dropout > 0.0)
        ws_diag_report(t->ctx->warnings, WS_OK, "note",
                       "config.json asks for a dropout of %g: none is applied",
                       t->model->d.dropout);
    const int64_t layers = ws_model_info_of(t->model)->layers;
    if (r->last >= layers) {
        ws_fail(err, WS_E_USAGE, "--layers %lld-%lld: the model has layers 0 to %lld",
                (long long)r->first, (long long)r->last, (long long)layers - 1);
        return ws_err_at(err, r->model, NULL, -1);
    }
    return WS_OK;
}

/* ---- data ---- */

static ws_status tokenizer_open(ws_tune *t, ws_err *err)
{
    const char *from = t->req->tokenizer != NULL ? t->req->tokenizer
                                                 : ws_model_info_of(t->model)->folder;
    const ws_status st = ws_tokenizer_open(&t->tokenizer, from, err);
    const int64_t vocab = ws_model_info_of(t->model)->vocab;

    if (st == WS_E_MISSING && t->req->tokenizer == NULL)
        return WS_OK; // files of tokens need none; others say so
    if (st == WS_OK && ws_tokenizer_size(t->tokenizer) > vocab) {
        ws_fail(err, WS_E_SHAPE, "the tokenizer has %d ids, the model knows %lld",
                (int)ws_tokenizer_size(t->tokenizer), (long long)vocab);
        return ws_err_at(err, from, NULL, -1);
    }
    return st;
}

static ws_status sources_parse(ws_tune *t, ws_err *err)
{
    const ws_tune_req *r = t->req;
    ws_status st = WS_OK;

    t->sources = ws_arena_calloc(&t->arena, r->n_data + 1, sizeof *t->sources);
    if (t->sources == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the list of files");
    for (size_t i = 0; st == WS_OK && i < r->n_data; i++) {
        st = ws_data_source_parse(&t->sources[i], r->data[i], &t->arena, err);
        if (r->data_weights != NULL)
            t->sources[i].weight = r->data_weights[i];
    }
    if (st == WS_OK && r->val != NULL)
        st = ws_data_source_parse(&t->sources[r->n_data], r->val, &t->arena, err);
    return st;
}

static ws_status pairs_check(ws_tune *t, ws_err *err)
{
    const ws_tune_loss loss = t->req->loss;

    t->pairs = ws_data_info_of(t->data)->kind == WS_DATA_PAIRS;
    if (loss == WS_TUNE_DPO && !t->pairs)
        return usage(err, "--loss dpo wants lines of prompt, chosen and rejected");
    if (t->pairs && loss != WS_TUNE_DPO && loss != WS_TUNE_AUTO)
        return usage(err, "preference pairs are for --loss dpo");
    if (t->val != NULL && (ws_data_info_of(t->val)->kind == WS_DATA_PAIRS) != t->pairs)
        return usage(err, "--val holds pairs and --data does not, or the reverse");
    return WS_OK;
}

static ws_status data_open(ws_tune *t, ws_err *err)
{
    const ws_tune_req *r = t->req;
    const ws_model_info *info = ws_model_info_of(t->model);
    const int64_t most = info->max_positions > 0 ? info->max_positions : MOST_POSITIONS;
    ws_data_opts o = WS_DATA_OPTS_INIT;

    if (r->seq > most) {
        ws_fail(err, WS_E_USAGE, "--seq %lld: the model has %lld positions",
                (long long)r->seq, (long long)most);
        return ws_err_at(err, r->model, NULL, -1);
    }
    o.length = r->seq > 0 ? r->seq : most < MOST_POSITIONS ? most : MOST_POSITIONS;
    o.pack = !r->no_pack;
    o.loss = r->loss == WS_TUNE_NEXT_TOKEN   ? WS_LOSS_ALL
             : r->loss == WS_TUNE_COMPLETION ? WS_LOSS_COMPLETION
                                             : WS_LOSS_AUTO;
    o.chat_format = r->chat_format;
    o.model = info->folder;
    o.seed = r->seed;
    o.vocab = info->vocab;
    ws_status st = sources_parse(t, err);
    if (st == WS_OK)
        st = ws_data_open(&t->data, t->sources, r->n_data, t->tokenizer, &o, &t->roomy,
                          err);
    o.in_order = true;
    if (st == WS_OK && r->val != NULL)
        st = ws_data_open(&t->val, &t->sources[r->n_data], 1, t->tokenizer, &o,
                          &t->roomy, err);
    if (st)
        return st;
    t->plan.data = ws_data_info_of(t->data)->memory_bytes +
                   (t->val != NULL ? ws_data_info_of(t->val)->memory_bytes : 0);
    t->plan.rows = ws_data_info_of(t->data)->rows;
    return pairs_check(t, err);
}

static ws_status steps_settle(ws_tune *t, ws_err *err)
{
    const ws_tune_req *r = t->req;
    const double per_step = (double)(r->batch * r->accumulate);
    const double steps = r->steps > 0
                             ? (double)r->steps
                             : ceil(r->epochs * (double)t->plan.rows / per_step);

    if (!(steps >= 1.0 && steps <= 1e12))
        return usage(err, "there are no steps to do: --steps or --epochs");
    t->schedule = r->schedule;
    t->schedule.steps = t->plan.steps = (int64_t)steps;
    if (r->warmup_share > 0.0)
        t->schedule.warmup = (int64_t)ceil(r->warmup_share * steps);
    if (t->schedule.warmup > t->schedule.steps) {
        ws_fail(err, WS_E_USAGE, "--warmup %lld is more than all %lld steps",
                (long long)t->schedule.warmup, (long long)t->schedule.steps);
        return WS_E_USAGE;
    }
    if (t->schedule.kind == WS_SCHEDULE_STABLE_DECAY && t->schedule.decay == 0)
        t->schedule.decay = (t->schedule.steps + 9) / 10;
    return WS_OK;
}

/* ---- recipe ---- */

/** XXH3-128 of a file as it is. */
static ws_status file_digest(const char *path, char out[48], ws_err *err)
{
    enum { CHUNK = 1 << 20 };
    int fd;
    uint64_t bytes;
    ws_xxh_stream *h = ws_xxh_stream_new();
    char *part = ws_alloc(CHUNK);
    char hex[33];
    ws_status st = h == NULL || part == NULL
                       ? ws_fail(err, WS_E_MEMORY, "no memory for a digest")
                       : ws_os_open_read(&fd, path, &bytes, err);

    if (st == WS_OK) {
        ws_xxh_stream_reset(h);
        for (uint64_t at = 0; st == WS_OK && at < bytes; at += CHUNK) {
            const size_t n = bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK;
            st = ws_os_pread(fd, path, part, n, at, err);
            ws_xxh_stream_add(h, part, n);
        }
        close(fd);
        ws_xxh128_hex(ws_xxh_stream_end(h), hex);
        snprintf(out, 48, "xxh3-128:%s", hex);
    }
    ws_xxh_stream_free(h);
    ws_free(part);
    return st;
}

static void input_add(ws_buf *b, const char *role, const char *label,
                      const char *content)
{
    ws_buf_printf(b, "%c{\"role\":\"%s\",\"label\":", b->n == 0 ? '[' : ',', role);
    ws_buf_json_string(b, label, strlen(label));
    ws_buf_printf(b, ",\"content\":\"%s\"}", content);
}

static void text_add(ws_buf *b, const char *key, const char *text)
{
    if (text == NULL)
        return;
    ws_buf_printf(b, ",\"%s\":", key);
    ws_buf_json_string(b, text, strlen(text));
}

ws_status ws_tune_input_file(ws_buf *b, const char *role, const char *label,
                             const char *path, ws_err *err)
{
    char digest[48];
    const ws_status st = file_digest(path, digest, err);

    if (st == WS_OK)
        input_add(b, role, label, digest);
    return st;
}

/** The inputs: label and contents, no paths. */
static ws_status inputs_make(const ws_tune *t, ws_buf *b, ws_err *err)
{
    const ws_tune_req *r = t->req;
    ws_status st = WS_OK;
    char digest[48];

    if (r->kind != WS_TUNE_SCRATCH)
        input_add(b, "base", ws_model_info_of(t->model)->label, t->content);
    if (t->adapter != NULL) {
        st = ws_ckpt_digest_text(t->adapter->file, t->ctx, digest, err);
        if (st == WS_OK)
            input_add(b, "adapter", t->adapter->label, digest);
    }
    for (size_t i = 0; st == WS_OK && i < r->n_data; i++)
        st = ws_tune_input_file(b, "data", t->sources[i].name, t->sources[i].path, err);
    if (st == WS_OK && r->val != NULL)
        st = ws_tune_input_file(b, "val", t->sources[r->n_data].name,
                                t->sources[r->n_data].path, err);
    if (st == WS_OK && r->mask != NULL)
        st = ws_tune_input_file(b, "mask", "mask", r->mask, err);
    if (st == WS_OK && r->freeze_plan != NULL)
        st = ws_tune_input_file(b, "freeze-plan", "plan", r->freeze_plan, err);
    ws_buf_putc(b, ']');
    return st;
}

static void optim_add(const ws_tune *t, ws_buf *b)
{
    static const char *const kind[] = {
        "constant",   "constant_with_warmup", "linear",
        "cosine",     "cosine_with_restarts", "cosine_with_min_lr",
        "polynomial", "inverse_sqrt",         "warmup_stable_decay"
    };
    const ws_optim_opts *o = &t->req->optim;
    const ws_schedule *s = &t->schedule;

    if (o->kind == WS_OPTIM_ADAMW)
        ws_buf_printf(b,
                      ",\"optimizer\":\"adamw\",\"betas\":[%.17g,%.17g],\"eps\":%.17g",
                      o->beta1, o->beta2, o->eps);
    else
        ws_buf_printf(b, ",\"optimizer\":\"sgd\",\"momentum\":%.17g", o->momentum);
    ws_buf_printf(b, ",\"weight_decay\":%.17g,\"clip\":%.17g,\"lr\":%.17g",
                  o->weight_decay, o->clip, s->lr);
    ws_buf_printf(b, ",\"schedule\":\"%s\",\"warmup\":%lld,\"steps\":%lld",
                  kind[s->kind], (long long)s->warmup, (long long)s->steps);
    ws_buf_printf(b, ",\"decay\":%lld,\"min_rate\":%.17g,\"power\":%.17g",
                  (long long)s->decay, s->min_rate, s->power);
}

static void recipe_make(const ws_tune *t, ws_buf *b)
{
    static const char *const kind[] = { "full", "lora", "adapter", "from-scratch" };
    static const char *const loss[] = { "auto", "next-token", "completion", "dpo" };
    const ws_tune_req *r = t->req;

    ws_buf_printf(b,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"tune\",\"kind\":\"%s\","
                  "\"loss\":\"%s\",\"seed\":%llu,\"batch\":%lld,\"accumulate\":%lld,"
                  "\"seq\":%lld,\"pack\":%s",
                  kind[r->kind], loss[r->loss], (unsigned long long)r->seed,
                  (long long)r->batch, (long long)r->accumulate,
                  (long long)ws_data_info_of(t->data)->longest,
                  r->no_pack ? "false" : "true");
    optim_add(t, b);
    if (r->kind == WS_TUNE_LORA)
        ws_buf_printf(b, ",\"rank\":%lld,\"lora_alpha\":%.17g,\"rslora\":%s",
                      (long long)r->rank,
                      r->lora_alpha > 0.0 ? r->lora_alpha : (double)r->rank,
                      r->rslora ? "true" : "false");
    if (t->pairs)
        ws_buf_printf(b, ",\"dpo_beta\":%.17g", r->dpo_beta);
    if (r->last >= 0)
        ws_buf_printf(b, ",\"layers\":[%lld,%lld]", (long long)r->first,
                      (long long)r->last);
    if (r->val != NULL)
        ws_buf_printf(b, ",\"eval_every\":%lld,\"patience\":%lld",
                      (long long)r->eval_every, (long long)r->patience);
    for (size_t i = 0; r->data_weights != NULL && i < r->n_data; i++)
        ws_buf_printf(b, "%s%.17g%s", i ? "," : ",\"data_weights\":[",
                      r->data_weights[i], i + 1 == r->n_data ? "]" : "");
    text_add(b, "target", r->target);
    text_add(b, "freeze", r->freeze);
    text_add(b, "chat_format", ws_data_info_of(t->data)->chat_format);
    ws_buf_putc(b, '}');
}

/** Recipe, inputs, and their digest: with the dtype written, all that decides the
 * bytes. */
static ws_status recipe_settle(ws_tune *t, ws_err *err)
{
    ws_buf recipe = { 0 }, inputs = { 0 }, all = { 0 };
    ws_status st = inputs_make(t, &inputs, err);

    recipe_make(t, &recipe);
    if (st == WS_OK) {
        ws_buf_printf(&all, "%s%s%d%d%s", recipe.p ? recipe.p : "",
                      inputs.p ? inputs.p : "", (int)t->req->write.dtype_keep,
                      (int)t->req->write.dtype, t->content);
        ws_xxh128_hex(ws_xxh3(all.p, all.n), t->key);
    }
    if (st == WS_OK && (recipe.failed || inputs.failed || all.failed))
        st = ws_fail(err, WS_E_MEMORY, "no memory for provenance");
    ws_buf_free(&all);
    t->recipe = recipe.p;
    t->inputs = inputs.p;
    return st;
}

/* ---- where it goes ---- */

static ws_status exists(const ws_tune *t, ws_err *err)
{
    ws_fail(err, WS_E_EXISTS, "the output is already there");
    ws_err_hint(err, "--force replaces it");
    return ws_err_at(err, t->req->write.out, NULL, -1);
}

char *ws_tune_folder(const char *out)
{
    size_t n = strlen(out);

    while (n > 1 && out[n - 1] == '/')
        n--;
    size_t at = n;
    while (at > 0 && out[at - 1] != '/')
        at--;
    char *folder = ws_alloc(n + 8);
    if (folder != NULL)
        snprintf(folder, n + 8, "%.*s.%.*s.tune", (int)at, out, (int)(n - at),
                 out + at);
    return folder;
}

/** Before hours of work: what is there may not be replaced without --force. */
static ws_status target_check(ws_tune *t, ws_err *err)
{
    const ws_write_opts *w = &t->req->write;
    struct stat sb;

    t->folder = ws_tune_folder(w->out);
    if (t->folder == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a path");
    t->exists = lstat(w->out, &sb) == 0;
    if (t->req->estimate || w->force || w->resume || !t->exists)
        return WS_OK;
    return exists(t, err);
}

/** Resumed: whether what is there came of this very request, as its metadata say. */
static ws_status target_compare(ws_tune *t, ws_err *err)
{
    const ws_write_opts *w = &t->req->write;
    const bool adapter =
        t->req->kind == WS_TUNE_LORA || t->req->kind == WS_TUNE_ADAPTER;
    ws_ckpt *c = NULL;
    char path[4096];

    if (!t->exists || !w->resume || w->force || t->req->estimate)
        return WS_OK;
    snprintf(path, sizeof path, "%s%s%s", w->out, adapter ? "/" : "",
             adapter ? WS_ADAPTER_WEIGHTS : "");
    if (ws_ckpt_open(&c, path, NULL, NULL) == WS_OK) {
        const char *recipe = ws_ckpt_meta(c, "wsurg.recipe");
        const char *inputs = ws_ckpt_meta(c, "wsurg.inputs");
        t->unchanged = recipe != NULL && inputs != NULL &&
                       strcmp(recipe, t->recipe) == 0 && strcmp(inputs, t->inputs) == 0;
    }
    ws_ckpt_free(c);
    return t->unchanged ? WS_OK : exists(t, err);
}

ws_status ws_tune_open(ws_tune *t, ws_err *err)
{
    ws_status st = target_check(t, err);

    if (st == WS_OK)
        st = model_open(t, err);
    if (st == WS_OK)
        st = tokenizer_open(t, err);
    if (st == WS_OK)
        st = data_open(t, err);
    if (st == WS_OK)
        st = steps_settle(t, err);
    if (st == WS_OK)
        st = recipe_settle(t, err);
    return st == WS_OK ? target_compare(t, err) : st;
}

void ws_tune_close(ws_tune *t)
{
    for (int64_t a = 0; t->micro != NULL && a < t->req->accumulate; a++)
        ws_batch_free(&t->micro[a]);
    ws_free(t->micro);
    ws_free(t->logp);
    ws_free(t->up);
    ws_pairs_free(&t->reference);
    ws_optim_free(t->optim);
    ws_step_free(t->step);
    ws_free(t->numbers);
    ws_free(t->masks);
    ws_data_free(t->val);
    ws_data_free(t->data);
    ws_tokenizer_free(t->tokenizer);
    ws_adapter_free(t->adapter);
    ws_model_free(t->model);
    ws_free(t->recipe);
    ws_free(t->inputs);
    ws_free(t->folder);
    if (t->log >= 0)
        close(t->log);
    ws_arena_free(&t->arena);
}
