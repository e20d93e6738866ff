/*
 * graft.c - the entries of a fine-tune that carry its skill
 *
 *   w = base + gamma delta,   gamma = s + (1 - 2 s) sigmoid(S - b)
 *   S -= lr (1 - 2 s) (g delta) sigmoid'(S - b)      g: mean over the batches of a step
 *
 * @source Panigrahi et al. 2023, arXiv:2302.06600, and its code. There the patch is
 * what moved more than the k-th entry, k - 1 of them; here exactly k, as in mask
 * lt-sft.
 */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "surgery/mask_file.h"
#include "surgery/mask_run.h"

struct graft {
    const ws_graft_req *req;
    ws_mask_run run;
    ws_mask_run_req run_req;
    float **S;    // (blocks)
    uint8_t **in; // (blocks) the patch; bit 1: in the best mask
    bool soft;    // weights of gamma, else of gamma > 1/2
    float all;    // in place of gamma when it is not negative
    ws_tensor *tensors;
    size_t *from, kept;
};

enum { PATCH = 1, BEST = 2 };

static size_t span_of(const void *arg, size_t rows, size_t cols)
{
    (void)arg;
    (void)rows;
    (void)cols;
    return 1;
}

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for grafts");
}

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* ---- start ---- */

/** The entries that moved most. */
static ws_status patch_make(struct graft *a, ws_err *err)
{
    const double wanted = a->req->share * (double)a->run.entries;
    float x[WS_MASK_PIECE];
    ws_rank *rank = NULL;
    const ws_status st = ws_rank_new(&rank, wanted >= 1.0 ? (uint64_t)wanted : 1, err);
    if (st != WS_OK)
        return st;
    for (int pass = 0; pass < WS_RANK_PASSES; pass++) {
        ws_rank_begin(rank, pass);
        for (size_t i = 0; i < a->run.n_blocks; i++) {
            const ws_soft_block *b = &a->run.blocks[i];
            for (size_t at = 0; at < b->n; at += WS_MASK_PIECE) {
                const size_t n = b->n - at < WS_MASK_PIECE ? b->n - at : WS_MASK_PIECE;
                for (size_t k = 0; k < n; k++)
                    x[k] = fabsf(b->delta[0][at + k]);
                ws_rank_add(rank, x, n);
            }
        }
    }
    const ws_rank_cut cut = ws_rank_cut_of(rank);
    uint64_t place = 0;
    ws_rank_free(rank);
    for (size_t i = 0; i < a->run.n_blocks; i++) {
        const ws_soft_block *b = &a->run.blocks[i];
        for (size_t k = 0; k < b->n; k++)
            a->in[i][k] =
                ws_rank_in(&cut, fabsf(b->delta[0][k]), place + k) ? PATCH : 0;
        place += b->n;
    }
    return WS_OK;
}

/** S uniform in [0, 1). */
static void start(struct graft *a)
{
    uint32_t words[WS_MASK_PIECE];
    uint64_t key[2];
    for (size_t i = 0; i < a->run.n_blocks; i++) {
        const ws_soft_block *b = &a->run.blocks[i];
        ws_rng_key_make(a->req->seed, "graft", 0, b->name, key);
        const ws_rng_key rng = { key[0], key[1] };
        for (size_t at = 0; at < b->n; at += WS_MASK_PIECE) {
            const size_t n = b->n - at < WS_MASK_PIECE ? b->n - at : WS_MASK_PIECE;
            ws_random_fill(&rng, at, words, n);
            for (size_t k = 0; k < n; k++)
                a->S[i][at + k] = (float)(words[k] >> 8) * 0x1p-24f;
        }
    }
}

static ws_status open_all(struct graft *a, const ws_ctx *ctx, ws_err *err)
{
    static const char inner[] = "^(?!.*(embed|wte|wpe|lm_head)).*";
    const ws_graft_req *q = a->req;
    a->run_req = (ws_mask_run_req){ .base = q->base,
                                    .models = &q->model,
                                    .n_models = 1,
                                    .config = q->config,
                                    .tokenizer = q->tokenizer,
                                    .target = q->target != NULL ? q->target : inner,
                                    .data = q->data,
                                    .val = q->val,
                                    .batch = q->batch,
                                    .seq = q->seq,
                                    .seed = q->seed,
                                    .per_group = sizeof(float) + 1,
                                    .span = span_of };
    ws_status st = ws_mask_run_open(&a->run, &a->run_req, ctx, err);
    const size_t n = a->run.n_blocks;
    if (st != WS_OK)
        return st;
    a->S = ws_arena_calloc(&a->run.arena, n, sizeof *a->S);
    a->in = ws_arena_calloc(&a->run.arena, n, sizeof *a->in);
    a->tensors = ws_arena_calloc(&a->run.arena, n, sizeof *a->tensors);
    a->from = ws_arena_calloc(&a->run.arena, n, sizeof *a->from);
    if (a->S == NULL || a->in == NULL || a->tensors == NULL || a->from == NULL)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        a->S[i] = ws_calloc(a->run.blocks[i].n, sizeof **a->S);
        a->in[i] = ws_calloc(a->run.blocks[i].n, 1);
        if (a->S[i] == NULL || a->in[i] == NULL)
            return no_memory(err);
    }
    start(a);
    return patch_make(a, err);
}

/* ---- weights, scores, steps ---- */

static float gamma_of(const struct graft *a, size_t i, size_t k)
{
    const double s = a->in[i][k] & PATCH ? 1.0 : 0.0;
    const double y = s + (1.0 - 2.0 * s) * sigmoid((double)a->S[i][k] - a->req->bias);
    return a->soft ? (float)y : y > 0.5 ? 1.0f : 0.0f;
}

static void compose_block(void *arg, size_t i, int thread)
{
    const struct graft *a = arg;
    const ws_soft_block *b = &a->run.blocks[i];
    (void)thread;
    ws_to_f32(b->base_dtype, b->base, b->w, b->n);
    for (size_t k = 0; k < b->n; k++)
        b->w[k] += (a->all >= 0.0f ? a->all : gamma_of(a, i, k)) * b->delta[0][k];
}

static void compose(struct graft *a, bool soft, float all)
{
    a->soft = soft;
    a->all = all;
    ws_pool_for(a->run.pool, a->run.n_blocks, compose_block, a);
}

/** Loss per token scored, of the weights as they are. */
static ws_status score(struct graft *a, double *loss, ws_err *err)
{
    ws_data *d = a->run.val != NULL ? a->run.val : a->run.data;
    const int64_t rows = ws_data_info_of(d)->rows, size = a->req->batch;
    double sum = 0.0, count = 0.0;
    ws_status st = WS_OK;
    for (int64_t at = 0; st == WS_OK && at < rows; at += size) {
        ws_step_result r = { 0 };
        st = ws_data_batch(d, (uint64_t)at, rows - at < size ? rows - at : size,
                           &a->run.batch, err);
        if (st != WS_OK)
            return st;
        const ws_step_batch x = ws_mask_run_rows(&a->run);
        st = ws_step_score(a->run.step, &x, NULL, &r, err);
        sum += r.loss;
        count += r.weight;
    }
    *loss = sum / count;
    if (st == WS_OK && !isfinite(*loss))
        st = ws_fail(err, WS_E_NOT_FINITE, "the loss is not finite");
    return st;
}

static void move_block(void *arg, size_t i, int thread)
{
    const struct graft *a = arg;
    const ws_soft_block *b = &a->run.blocks[i];
    (void)thread;
    for (size_t k = 0; k < b->n; k++) {
        const double side = a->in[i][k] & PATCH ? -1.0 : 1.0;
        const double y = sigmoid((double)a->S[i][k] - a->req->bias);
        const double g = (double)b->grad[k] * (double)b->delta[0][k];
        a->S[i][k] -= (float)(a->req->lr * side * g * y * (1.0 - y));
    }
}

static ws_status epoch_run(struct graft *a, int64_t epoch, ws_err *err)
{
    const ws_graft_req *q = a->req;
    ws_status st = WS_OK;
    compose(a, true, -1.0f);
    ws_mask_run_clear(&a->run);
    for (int64_t k = 0; st == WS_OK && k < q->batches; k++) {
        ws_step_result r = { 0 };
        const int64_t at = ((epoch - 1) * q->batches + k) * q->batch;
        st = ws_data_batch(a->run.data, (uint64_t)at, q->batch, &a->run.batch, err);
        if (st != WS_OK || a->run.batch.scored == 0)
            continue;
        const ws_step_batch x = ws_mask_run_rows(&a->run);
        const double scale = 1.0 / ((double)a->run.batch.scored * (double)q->batches);
        st = ws_step_run(a->run.step, &x, scale, NULL, &r, err);
        if (st == WS_OK && !isfinite(r.loss))
            st = ws_fail(err, WS_E_NOT_FINITE, "epoch %lld: the loss is not finite",
                         (long long)epoch);
    }
    if (st == WS_OK)
        ws_pool_for(a->run.pool, a->run.n_blocks, move_block, a);
    return st;
}

static void best_keep(struct graft *a)
{
    a->soft = false;
    for (size_t i = 0; i < a->run.n_blocks; i++)
        for (size_t k = 0; k < a->run.blocks[i].n; k++) {
            a->in[i][k] &= PATCH;
            a->in[i][k] |= gamma_of(a, i, k) > 0.5f ? BEST : 0;
        }
}

static ws_status learn(struct graft *a, ws_graft_result *r, ws_err *err)
{
    double loss = 0.0;
    compose(a, false, 0.0f);
    ws_status st = score(a, &r->loss_base, err);
    compose(a, false, 1.0f);
    if (st == WS_OK)
        st = score(a, &r->loss_model, err);
    for (int64_t epoch = 0; st == WS_OK && epoch <= a->req->epochs; epoch++) {
        if (a->run.ctx->stop != NULL && atomic_load(a->run.ctx->stop) != 0)
            return ws_fail(err, WS_E_INTERRUPTED, "stopped before epoch %lld",
                           (long long)epoch);
        if (epoch > 0)
            st = epoch_run(a, epoch, err);
        compose(a, false, -1.0f);
        if (st == WS_OK)
            st = score(a, &loss, err);
        if (st != WS_OK)
            return st;
        if (epoch == 0)
            r->loss_patch = loss;
        if (epoch == 0 || loss < r->loss_best) {
            r->loss_best = loss;
            r->best_epoch = epoch;
            best_keep(a);
        }
    }
    return st;
}

/* ---- the mask ---- */

static ws_status make(void *self, size_t tensor, uint64_t first, size_t n, void *out,
                      ws_err *err)
{
    const struct graft *a = self;
    (void)err;
    for (size_t k = 0; k < n; k++)
        ((uint8_t *)out)[k] = (a->in[a->from[tensor]][first + k] & BEST) != 0;
    return WS_OK;
}

static ws_status write_mask(struct graft *a, ws_mask_result *r, ws_err *err)
{
    const char *const paths[] = { a->req->base, a->req->model };
    ws_buf recipe = { 0 };
    ws_ctx ctx = *a->run.ctx;
    for (size_t i = 0; i < a->run.n_blocks; i++) {
        const ws_soft_block *b = &a->run.blocks[i];
        uint64_t set = 0;
        for (size_t k = 0; k < b->n; k++)
            set += (a->in[i][k] & BEST) != 0;
        if (set == 0)
            continue;
        a->tensors[a->kept] = a->run.shapes[i];
        a->tensors[a->kept].name = b->name;
        a->tensors[a->kept].dtype = WS_DT_BOOL;
        a->from[a->kept++] = i;
        r->entries += b->n;
        r->set += (double)set;
    }
    r->tensors = a->kept;
    r->share = r->set / (double)a->run.entries;
    ws_buf_printf(&recipe,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"mask graft\","
                  "\"share\":%.17g,\"bias\":%.17g,\"lr\":%.17g,\"epochs\":%lld,"
                  "\"batches\":%lld,\"batch\":%lld,\"seed\":%llu}",
                  a->req->share, a->req->bias, a->req->lr, (long long)a->req->epochs,
                  (long long)a->req->batches, (long long)a->req->batch,
                  (unsigned long long)a->req->seed);
    if (recipe.failed || a->run.inputs.failed)
        return ws_buf_free(&recipe), no_memory(err);
    const ws_mask_spec spec = { .tensors = a->tensors,
                                .n = a->kept,
                                .make = make,
                                .self = a,
                                .made_by = "mask graft",
                                .recipe = recipe.p,
                                .inputs = a->run.inputs.p,
                                .paths = paths,
                                .n_paths = 2 };
    ctx.max_memory = ws_ctx_memory(NULL); // a window beside what the run holds
    const ws_status st = ws_mask_write(&spec, &a->req->write, &ctx, &r->run, err);
    ws_buf_free(&recipe);
    return st;
}

ws_status ws_graft(ws_graft_result **out, const ws_graft_req *req, const ws_ctx *ctx,
                   ws_err *err)
{
    struct graft a = { .req = req, .run.req = &a.run_req };
    ws_graft_result *r = ws_calloc(1, sizeof *r);
    if (r != NULL)
        r->mask = ws_calloc(1, sizeof *r->mask);
    ws_status st = r == NULL || r->mask == NULL ? no_memory(err)
                                                : ws_mask_check_out(&req->write, err);
    if (st == WS_OK && (req->batch < 1 || req->batches < 1 || req->epochs < 0))
        st = ws_fail(err, WS_E_USAGE, "--batches and --batch must be above 0");
    if (st == WS_OK)
        st = open_all(&a, ctx, err);
    if (st == WS_OK)
        st = learn(&a, r, err);
    if (st == WS_OK)
        st = write_mask(&a, r->mask, err);
    for (size_t i = 0; a.S != NULL && a.in != NULL && i < a.run.n_blocks; i++) {
        ws_free(a.S[i]);
        ws_free(a.in[i]);
    }
    ws_mask_run_close(&a.run);
    if (st == WS_OK)
        *out = r;
    else
        ws_graft_result_free(r);
    return st;
}

void ws_graft_result_free(ws_graft_result *r)
{
    if (r == NULL)
        return;
    ws_mask_result_free(r->mask);
    ws_free(r);
}
