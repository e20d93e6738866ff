/*
 * atlas_open.c - from a request to blocks, tasks, and a step
 *
 * Blocks that no model changes have no coefficient and no copy.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "hf/coefficients.h"
#include "model/model_internal.h"
#include "surgery/atlas_run.h"
#include "wsurg/digest.h"
#include "wsurg/pattern.h"
#include "wsurg/source.h"

enum { MOST_POSITIONS = 1024 };

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for task vectors");
}

/* ---- models ---- */

/** As a merge of the same models labels them, the base among them. */
static ws_status labels_make(ws_atlas *a, ws_err *err)
{
    const size_t n = a->req->n_models + 1;
    const ws_ckpt **all = ws_arena_calloc(&a->arena, n, sizeof *all);
    if (all == NULL)
        return no_memory(err);
    all[0] = a->model->ckpt;
    for (size_t k = 1; k < n; k++)
        all[k] = a->models[k - 1];
    for (size_t k = 1; k < n; k++) {
        // copies: the models are closed before the file is written
        const char *text = ws_ckpt_label_among(all, n, k, &a->arena);
        a->labels[k - 1] = text == NULL ? NULL : ws_arena_strdup(&a->arena, text);
        if (a->labels[k - 1] == NULL)
            return no_memory(err);
    }
    return WS_OK;
}

/** Whether a model is adapters on this very base: then they stay in factors. */
static ws_status is_on_base(ws_atlas *a, size_t k, ws_err *err)
{
    char digest[48];
    if (!ws_source_is_adapted(a->models[k]))
        return WS_OK;
    const ws_status st =
        ws_ckpt_digest_text(ws_source_base(a->models[k]), a->ctx, digest, err);
    a->factored[k] = st == WS_OK && strcmp(digest, a->digests[0]) == 0;
    return st;
}

static ws_status models_open(ws_atlas *a, ws_err *err)
{
    const ws_atlas_req *r = a->req;
    a->roomy = *a->ctx;
    if (a->roomy.max_memory == 0)
        a->roomy.max_memory = ws_os_memory_total() / 2;
    a->models = ws_arena_calloc(&a->arena, r->n_models, sizeof *a->models);
    a->labels = ws_arena_calloc(&a->arena, r->n_models, sizeof *a->labels);
    a->digests = ws_arena_calloc(&a->arena, r->n_models + 1, sizeof *a->digests);
    a->factored = ws_arena_calloc(&a->arena, r->n_models, sizeof *a->factored);
    if (a->factored == NULL || a->models == NULL || a->labels == NULL ||
        a->digests == NULL)
        return no_memory(err);
    ws_status st = ws_model_open(&a->model, r->base, r->config, &a->roomy, err);
    if (st == WS_OK)
        st = ws_ckpt_digest_text(a->model->ckpt, a->ctx, a->digests[0], err);
    for (size_t k = 0; st == WS_OK && k < r->n_models; k++) {
        st = ws_source_open(&a->models[k], r->models[k], WS_FOLD_F32, a->ctx, err);
        if (st == WS_OK)
            st = ws_ckpt_digest_text(a->models[k], a->ctx, a->digests[k + 1], err);
        if (st == WS_OK)
            st = is_on_base(a, k, err);
    }
    return st == WS_OK ? labels_make(a, err) : st;
}

/* ---- tasks ---- */

static int64_t length_of(const ws_atlas *a)
{
    const int64_t most = ws_model_info_of(a->model)->max_positions;
    const int64_t usual = most > 0 && most < MOST_POSITIONS ? most : MOST_POSITIONS;
    return a->req->seq > 0 ? a->req->seq : usual;
}

static ws_status data_open(ws_atlas *a, ws_data **out, const ws_data_source *s,
                           bool score, ws_err *err)
{
    ws_data_opts o = WS_DATA_OPTS_INIT;
    o.length = length_of(a);
    o.pack = a->req->shots == 0;
    o.model = ws_model_info_of(a->model)->folder;
    o.seed = a->req->seed;
    o.vocab = ws_model_info_of(a->model)->vocab;
    o.in_order = score;
    o.limit = score ? a->req->val_tokens : 0;
    return ws_data_open(out, s, 1, a->tokenizer, &o, &a->roomy, err);
}

static ws_atlas_set *set_find(ws_atlas *a, const char *name)
{
    for (size_t i = 0; i < a->n_sets; i++)
        if (strcmp(a->sets[i].name, name) == 0)
            return &a->sets[i];
    return NULL;
}

/** The task of --val or --negate, which --data must have named. */
static ws_status task_of(ws_atlas *a, const char *option, const char *name,
                         ws_atlas_set **out, ws_err *err)
{
    *out = set_find(a, name);
    if (*out != NULL)
        return WS_OK;
    ws_fail(err, WS_E_USAGE, "%s names task '%s', which has no --data", option, name);
    ws_err_hint(err, "add --data %s=FILE", name);
    return WS_E_USAGE;
}

static ws_status sets_open(ws_atlas *a, ws_err *err)
{
    const ws_atlas_req *r = a->req;
    size_t kept = r->n_data;
    ws_data_source s;
    ws_status st = WS_OK;
    a->sets = ws_arena_calloc(&a->arena, r->n_data, sizeof *a->sets);
    if (a->sets == NULL)
        return no_memory(err);
    for (size_t i = 0; st == WS_OK && i < r->n_data; i++) {
        st = ws_data_source_parse(&s, r->data[i], &a->arena, err);
        if (st == WS_OK && set_find(a, s.name) != NULL)
            st = ws_fail(err, WS_E_USAGE, "task '%s' has two --data", s.name);
        if (st != WS_OK)
            return st;
        ws_atlas_set *set = &a->sets[a->n_sets++];
        *set = (ws_atlas_set){ .name = s.name, .sign = 1.0 };
        st = data_open(a, &set->data, &s, false, err);
        if (st == WS_OK && r->n_val == 0 && r->shots == 0)
            st = data_open(a, &set->val, &s, true, err);
    }
    for (size_t i = 0; st == WS_OK && i < r->n_val; i++) {
        ws_atlas_set *set = NULL;
        st = ws_data_source_parse(&s, r->val[i], &a->arena, err);
        if (st == WS_OK)
            st = task_of(a, "--val", s.name, &set, err);
        if (st == WS_OK)
            st = data_open(a, &set->val, &s, true, err);
    }
    for (size_t i = 0; st == WS_OK && i < r->n_negate; i++) {
        ws_atlas_set *set = NULL;
        st = task_of(a, "--negate", r->negate[i], &set, err);
        if (st == WS_OK)
            set->sign = -1.0;
        kept -= st == WS_OK;
        a->forgetting = true;
    }
    if (st == WS_OK && kept == 0) {
        ws_fail(err, WS_E_USAGE, "every task is to be forgotten: none is held");
        ws_err_hint(err, "add --data NAME=FILE of what the model is to go on with");
        return WS_E_USAGE;
    }
    for (size_t i = 0; st == WS_OK && i < a->n_sets; i++)
        if (a->sets[i].val == NULL && r->n_val > 0)
            st = ws_fail(err, WS_E_USAGE, "task '%s' has no --val and others have",
                         a->sets[i].name);
    return st;
}

/* ---- what the objective stands for ---- */

/** The paper's settings: addition, few shots, negation (rate and epochs differ from
 * data set to data set there: the usual ones), partitions, and unlabelled text. */
static ws_atlas_plan usual(const ws_atlas *a)
{
    const ws_atlas_req *r = a->req;
    if (a->forgetting)
        return (ws_atlas_plan){ "negation", 5e-3, WS_SCHEDULE_CONSTANT, 10, 0, 0 };
    if (r->entropy)
        return (ws_atlas_plan){ "entropy", 1e-3, WS_SCHEDULE_COSINE, 10, 0, 0 };
    if (r->shots > 0)
        return (ws_atlas_plan){ "few-shot", 1e-1, WS_SCHEDULE_COSINE, 10, 0, 0 };
    if (r->partitions > 1)
        return (ws_atlas_plan){ "supervised", 1e-1, WS_SCHEDULE_COSINE, 10, 0, 0 };
    return (ws_atlas_plan){ "supervised", 1e-3, WS_SCHEDULE_CONSTANT, 20, 0, 0 };
}

/** An epoch ends with the shortest task; with few shots it has at least ten batches. */
static ws_status plan_make(ws_atlas *a, ws_err *err)
{
    const ws_atlas_req *r = a->req;
    ws_atlas_plan *p = &a->plan;
    int64_t epoch = INT64_MAX;
    *p = usual(a);
    p->lr = r->lr > 0.0 ? r->lr : p->lr;
    p->schedule = r->schedule == WS_ATLAS_SCHEDULE_USUAL ? p->schedule
                  : r->schedule == WS_ATLAS_CONSTANT     ? WS_SCHEDULE_CONSTANT
                                                         : WS_SCHEDULE_COSINE;
    p->epochs = r->epochs > 0 ? r->epochs : p->epochs;
    p->steps = r->steps;
    if (r->steps > 0)
        return WS_OK;
    for (size_t i = 0; i < a->n_sets; i++) {
        int64_t rows = ws_data_info_of(a->sets[i].data)->rows;
        rows = r->shots > 0 && r->shots < rows ? r->shots : rows;
        const int64_t batches = (rows + r->batch - 1) / r->batch;
        epoch = batches < epoch ? batches : epoch;
    }
    p->epoch = r->shots > 0 && epoch < 10 ? 10 : epoch;
    if (p->epochs > INT64_MAX / p->epoch)
        return ws_fail(err, WS_E_USAGE, "--epochs is too large");
    p->steps = p->epochs * p->epoch;
    return WS_OK;
}

/* ---- blocks ---- */

static void block_free(ws_atlas *a, ws_atlas_block *b)
{
    ws_atlas_tau_free(&b->base);
    for (size_t k = 0; b->tau != NULL && k < a->req->n_models; k++)
        ws_atlas_tau_free(&b->tau[k]);
    ws_free(b->grad);
    *b = (ws_atlas_block){ 0 };
}

/** Part @p i as a block, if a model changes it. */
static ws_status block_make(ws_atlas *a, size_t i, ws_err *err)
{
    const ws_model_part *p = ws_model_part_at(a->model, i);
    ws_atlas_block b = { .part = i,
                         .name = ws_arena_strdup(&a->arena, p->name),
                         .n = (size_t)p->n };
    bool changed = false;
    b.tau = ws_arena_calloc(&a->arena, a->req->n_models, sizeof *b.tau);
    ws_status st = b.tau == NULL || b.name == NULL
                       ? no_memory(err)
                       : ws_atlas_tau_find(a, &b, &changed, err);
    if (st != WS_OK || !changed) {
        block_free(a, &b);
        return st;
    }
    b.key = ws_coefficients_key(a->req->seed, b.name);
    b.first = a->n_blocks * a->req->n_models * a->groups;
    a->bytes += b.n * sizeof(float); // its gradient
    a->blocks[a->n_blocks++] = b;
    return WS_OK;
}

static ws_status blocks_make(ws_atlas *a, ws_err *err)
{
    const size_t n = ws_model_part_count(a->model);
    ws_pattern_set *target = NULL;
    bool hit = true, any = false;
    ws_status st = WS_OK;
    a->blocks = ws_arena_calloc(&a->arena, n, sizeof *a->blocks);
    a->want = ws_arena_calloc(&a->arena, n, sizeof *a->want);
    if (a->blocks == NULL || a->want == NULL)
        return no_memory(err);
    if (a->req->target != NULL)
        st = ws_pattern_new(&target, a->req->target, err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        const char *name = ws_model_part_at(a->model, i)->name;
        if (target != NULL)
            st = ws_pattern_match(target, name, &hit, err);
        any = any || hit;
        if (st == WS_OK && hit)
            st = block_make(a, i, err);
    }
    ws_pattern_free(target);
    if (st == WS_OK && !any)
        return ws_fail(err, WS_E_USAGE, "--target '%s' hits no tensor", a->req->target);
    a->n_lambda = a->n_blocks * a->req->n_models * a->groups;
    if (st == WS_OK && a->n_blocks == 0)
        return ws_fail(err, WS_E_USAGE, "no model differs from the base there");
    return st;
}

/** Float32 weights of the model to write into, and gradients of them. */
static ws_status masters_make(ws_atlas *a, ws_err *err)
{
    ws_status st = WS_OK;
    const uint64_t limit = ws_ctx_memory(&a->roomy);
    if (a->bytes > limit)
        return ws_fail(
            err, WS_E_MEMORY, "gradients need %llu MiB, the limit is %llu MiB",
            (unsigned long long)(a->bytes >> 20), (unsigned long long)(limit >> 20));
    for (size_t i = 0; st == WS_OK && i < a->n_blocks; i++) {
        ws_atlas_block *b = &a->blocks[i];
        st = ws_model_master(a->model, b->part, &b->w, err);
        b->grad = ws_calloc(b->n, sizeof *b->grad);
        if (st == WS_OK && b->grad == NULL)
            st = no_memory(err);
        a->want[b->part].grad = b->grad;
    }
    return st;
}

/* ---- the step ---- */

static ws_status coefficients_make(ws_atlas *a, ws_err *err)
{
    a->lambda = ws_calloc(5 * a->n_lambda, sizeof *a->lambda);
    if (a->lambda == NULL)
        return no_memory(err);
    a->dlambda = a->lambda + a->n_lambda;
    a->moments = a->dlambda + a->n_lambda;
    a->best = a->moments + 2 * a->n_lambda;
    a->slot = (ws_slot_f32){ .name = "lambda",
                             .n = a->n_lambda,
                             .p = a->lambda,
                             .g = a->dlambda,
                             .m = a->moments,
                             .v = a->moments + a->n_lambda,
                             .decay = a->req->weight_decay };
    const ws_optim_opts optim = { .kind = WS_OPTIM_ADAMW,
                                  .beta1 = 0.9,
                                  .beta2 = 0.999,
                                  .eps = 1e-8,
                                  .weight_decay = a->req->weight_decay,
                                  .clip = a->req->clip };
    return ws_optim_new(&a->optim, &optim, &a->slot, 1, a->pool, err);
}

/** The step first, as little of it as must be; then as many task vectors as fit beside
 * it. */
static ws_status step_make(ws_atlas *a, ws_err *err)
{
    ws_step_memory m;
    for (size_t i = 0; i < a->n_sets; i++) {
        a->bytes += ws_data_info_of(a->sets[i].data)->memory_bytes;
        if (a->sets[i].val != NULL)
            a->bytes += ws_data_info_of(a->sets[i].val)->memory_bytes;
    }
    for (size_t k = 0; k < a->req->n_models; k++)
        a->bytes += ws_source_memory(a->models[k], ws_ctx_threads(a->ctx));
    a->bytes += 5 * a->n_lambda * sizeof(float) + ws_atlas_mix_bytes(a);
    ws_step_opts o = { .rows = a->req->batch * length_of(a),
                       .positions = length_of(a),
                       .beside = a->bytes };
    ws_status st = ws_step_plan(a->model, a->want, &o, &a->roomy, &m, err);
    if (st != WS_OK)
        return st;
    const uint64_t limit = ws_ctx_memory(&a->roomy);
    const uint64_t taken = m.total + m.weights + a->bytes;
    st = ws_step_new(&a->step, a->model, a->want, &o, NULL, &a->roomy, err);
    if (st != WS_OK)
        return st;
    a->pool = ws_step_pool(a->step);
    st = ws_atlas_tau_load(a, limit > taken ? limit - taken : 0, err);
    if (st == WS_OK)
        st = coefficients_make(a, err);
    return st == WS_OK ? ws_atlas_mix_open(a, err) : st;
}

ws_status ws_atlas_open(ws_atlas *a, ws_err *err)
{
    ws_status st = models_open(a, err);
    const char *from = a->req->tokenizer;
    if (st == WS_OK)
        st = ws_tokenizer_open(&a->tokenizer,
                               from != NULL ? from : ws_model_info_of(a->model)->folder,
                               err);
    if (st == WS_E_MISSING && from == NULL)
        st = WS_OK; // files of tokens need none; others say so
    if (st == WS_OK)
        st = sets_open(a, err);
    if (st == WS_OK)
        st = plan_make(a, err);
    if (st == WS_OK)
        st = blocks_make(a, err);
    if (st == WS_OK)
        st = masters_make(a, err);
    return st == WS_OK ? step_make(a, err) : st;
}

void ws_atlas_close(ws_atlas *a)
{
    ws_optim_free(a->optim);
    ws_step_free(a->step);
    for (size_t i = 0; i < a->n_blocks; i++)
        block_free(a, &a->blocks[i]);
    for (size_t i = 0; a->sets != NULL && i < a->n_sets; i++) {
        ws_data_free(a->sets[i].data);
        ws_data_free(a->sets[i].val);
    }
    for (size_t k = 0; a->models != NULL && k < a->req->n_models; k++)
        ws_ckpt_free(a->models[k]);
    ws_free(a->lambda);
    ws_free(a->sums);
    ws_free(a->parts);
    ws_batch_free(&a->batch);
    ws_tokenizer_free(a->tokenizer);
    ws_model_free(a->model);
    ws_arena_free(&a->arena);
}
