/*
 * sensitivity.c - which entries a task asks to be trained (SPT)
 *
 *   score_i = sum over batches of g_i^2        g: of the mean loss of one batch
 *
 * The highest scores over all tensors are the mask. A matrix in which enough of them
 * lie would be served better by an adapter of the same budget, a vector by training all
 * of it; the result says which.
 *
 * @source He et al. 2023, arXiv:2303.08566, and its code
 */
#include <math.h>
#include <string.h>

#include "surgery/mask_file.h"
#include "surgery/mask_run.h"

struct sensitivity {
    const ws_sensitivity_req *req;
    ws_mask_run run;
    ws_mask_run_req run_req;
    float **scores;     // (blocks)
    uint64_t *place;    // (blocks) entries before
    ws_tensor *tensors; // (kept) of the mask
    size_t *from;       // (kept) block of each
    size_t kept;
    ws_rank_cut cut;
};

static size_t span_of(const void *arg, size_t rows, size_t cols)
{
    (void)arg;
    (void)rows;
    (void)cols;
    return 1;
}

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for scores");
}

static ws_status open_all(struct sensitivity *a, const ws_ctx *ctx, ws_err *err)
{
    const ws_sensitivity_req *q = a->req;
    a->run_req = (ws_mask_run_req){ .base = q->model,
                                    .config = q->config,
                                    .tokenizer = q->tokenizer,
                                    .target = q->target,
                                    .plain = true,
                                    .data = q->data,
                                    .batch = q->batch,
                                    .seq = q->seq,
                                    .seed = q->seed,
                                    .per_group = sizeof(float),
                                    .span = span_of };
    ws_status st = ws_mask_run_open(&a->run, &a->run_req, ctx, err);
    if (st != WS_OK)
        return st;
    const size_t n = a->run.n_blocks;
    a->scores = ws_arena_calloc(&a->run.arena, n, sizeof *a->scores);
    a->place = ws_arena_calloc(&a->run.arena, n, sizeof *a->place);
    a->tensors = ws_arena_calloc(&a->run.arena, n, sizeof *a->tensors);
    a->from = ws_arena_calloc(&a->run.arena, n, sizeof *a->from);
    if (a->scores == NULL || a->place == NULL || a->tensors == NULL || a->from == NULL)
        return no_memory(err);
    uint64_t place = 0;
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        a->place[i] = place;
        place += a->run.blocks[i].n;
        a->scores[i] = ws_calloc(a->run.blocks[i].n, sizeof **a->scores);
        st = a->scores[i] == NULL ? no_memory(err) : WS_OK;
    }
    return st;
}

/** Add the squares of one batch's gradients. */
static ws_status batch_add(struct sensitivity *a, int64_t k, ws_err *err)
{
    ws_mask_run *m = &a->run;
    ws_step_result r = { 0 };
    ws_status st = ws_data_batch(m->data, (uint64_t)(k * a->req->batch), a->req->batch,
                                 &m->batch, err);
    if (st != WS_OK || m->batch.scored == 0)
        return st;
    const ws_step_batch rows = ws_mask_run_rows(m);
    ws_mask_run_clear(m);
    st = ws_step_run(m->step, &rows, 1.0 / (double)m->batch.scored, NULL, &r, err);
    for (size_t i = 0; st == WS_OK && i < m->n_blocks; i++) {
        const ws_soft_block *b = &m->blocks[i];
        bool finite = true;
        for (size_t j = 0; j < b->n; j++) {
            a->scores[i][j] += b->grad[j] * b->grad[j];
            finite = finite && isfinite(a->scores[i][j]);
        }
        if (!finite) {
            ws_fail(err, WS_E_NOT_FINITE, "the gradient is not finite");
            st = ws_err_at(err, a->req->model, b->name, -1);
        }
    }
    if (st == WS_OK && m->ctx->stop != NULL && atomic_load(m->ctx->stop) != 0)
        st = ws_fail(err, WS_E_INTERRUPTED, "stopped on request");
    return st;
}

static ws_status choose(struct sensitivity *a, ws_err *err)
{
    const double wanted = a->req->share * (double)a->run.entries;
    const uint64_t count = a->req->count > 0 ? a->req->count
                           : wanted >= 1.0   ? (uint64_t)wanted
                                             : 1;
    ws_rank *rank = NULL;
    const ws_status st = ws_rank_new(&rank, count, err);
    if (st != WS_OK)
        return st;
    for (int pass = 0; pass < WS_RANK_PASSES; pass++) {
        ws_rank_begin(rank, pass);
        for (size_t i = 0; i < a->run.n_blocks; i++)
            ws_rank_add(rank, a->scores[i], a->run.blocks[i].n);
    }
    a->cut = ws_rank_cut_of(rank);
    ws_rank_free(rank);
    return a->cut.kept > 0 ? WS_OK
                           : ws_fail(err, WS_E_USAGE, "no entry has a gradient");
}

/** What was chosen of block @p i; its mask's tensor, unless it is empty. */
static void count(struct sensitivity *a, size_t i, ws_sensitivity_tensor *t)
{
    const ws_soft_block *b = &a->run.blocks[i];
    const ws_tensor *shape = &a->run.shapes[i];
    t->entries = b->n;
    for (size_t j = 0; j < b->n; j++) {
        t->score += (double)a->scores[i][j];
        t->chosen += ws_rank_in(&a->cut, a->scores[i][j], a->place[i] + j);
    }
    const double sides =
        shape->rank == 2 ? (double)shape->shape[0] + (double)shape->shape[1] : 0.0;
    t->structured =
        shape->rank == 2
            ? (double)t->chosen >= sides * (double)a->req->rank / a->req->structure
            : 5 * t->chosen >= b->n;
    if (t->chosen == 0)
        return;
    a->tensors[a->kept] = *shape;
    a->tensors[a->kept].name = b->name;
    a->tensors[a->kept].dtype = WS_DT_BOOL;
    a->from[a->kept++] = i;
}

static ws_status make(void *self, size_t tensor, uint64_t first, size_t n, void *out,
                      ws_err *err)
{
    const struct sensitivity *a = self;
    const size_t i = a->from[tensor];
    (void)err;
    for (size_t k = 0; k < n; k++)
        ((uint8_t *)out)[k] =
            ws_rank_in(&a->cut, a->scores[i][first + k], a->place[i] + first + k);
    return WS_OK;
}

static ws_status write_mask(struct sensitivity *a, ws_mask_result *r, ws_err *err)
{
    const char *const paths[] = { a->req->model };
    ws_buf recipe = { 0 };
    ws_ctx ctx = *a->run.ctx;
    ws_buf_printf(&recipe,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"mask sensitivity\","
                  "\"count\":%llu,\"batches\":%lld,\"batch\":%lld,\"seq\":%lld,"
                  "\"seed\":%llu",
                  (unsigned long long)a->cut.kept, (long long)a->req->batches,
                  (long long)a->req->batch,
                  (long long)ws_data_info_of(a->run.data)->longest,
                  (unsigned long long)a->req->seed);
    if (a->req->target != NULL) {
        ws_buf_puts(&recipe, ",\"target\":");
        ws_buf_json_string(&recipe, a->req->target, strlen(a->req->target));
    }
    ws_buf_putc(&recipe, '}');
    if (recipe.failed || a->run.inputs.failed)
        return ws_buf_free(&recipe), no_memory(err);
    const ws_mask_spec spec = { .tensors = a->tensors,
                                .n = a->kept,
                                .make = make,
                                .self = a,
                                .made_by = "mask sensitivity",
                                .recipe = recipe.p,
                                .inputs = a->run.inputs.p,
                                .paths = paths,
                                .n_paths = 1 };
    ctx.max_memory = ws_ctx_memory(NULL); // a window beside what the run holds
    const ws_status st = ws_mask_write(&spec, &a->req->write, &ctx, &r->run, err);
    ws_buf_free(&recipe);
    return st;
}

static ws_status fill(struct sensitivity *a, ws_sensitivity_result *r, ws_err *err)
{
    r->n = a->run.n_blocks;
    r->tensors = ws_arena_calloc(&r->arena, r->n, sizeof *r->tensors);
    r->mask = ws_calloc(1, sizeof *r->mask);
    if (r->tensors == NULL || r->mask == NULL)
        return no_memory(err);
    for (size_t i = 0; i < r->n; i++) {
        ws_sensitivity_tensor *t = &r->tensors[i];
        t->name = ws_arena_strdup(&r->arena, a->run.blocks[i].name);
        if (t->name == NULL)
            return no_memory(err);
        count(a, i, t);
        r->mask->entries += t->chosen > 0 ? t->entries : 0;
    }
    r->batches = a->req->batches;
    r->mask->tensors = a->kept;
    r->mask->set = (double)a->cut.kept;
    r->mask->share = r->mask->set / (double)a->run.entries;
    return write_mask(a, r->mask, err);
}

ws_status ws_sensitivity(ws_sensitivity_result **out, const ws_sensitivity_req *req,
                         const ws_ctx *ctx, ws_err *err)
{
    struct sensitivity a = { .req = req, .run.req = &a.run_req };
    ws_sensitivity_result *r = ws_calloc(1, sizeof *r);
    ws_status st = r == NULL ? no_memory(err) : ws_mask_check_out(&req->write, err);
    if (st == WS_OK && (req->batches < 1 || req->batch < 1 || !(req->structure > 0.0)))
        st = ws_fail(err, WS_E_USAGE, "--batches and --batch must be above 0");
    if (st == WS_OK)
        st = open_all(&a, ctx, err);
    for (int64_t k = 0; st == WS_OK && k < req->batches; k++)
        st = batch_add(&a, k, err);
    if (st == WS_OK)
        st = choose(&a, err);
    if (st == WS_OK)
        st = fill(&a, r, err);
    for (size_t i = 0; a.scores != NULL && i < a.run.n_blocks; i++)
        ws_free(a.scores[i]);
    ws_mask_run_close(&a.run);
    if (st == WS_OK)
        *out = r;
    else
        ws_sensitivity_free(r);
    return st;
}

void ws_sensitivity_free(ws_sensitivity_result *r)
{
    if (r == NULL)
        return;
    ws_mask_result_free(r->mask);
    ws_arena_free(&r->arena);
    ws_free(r);
}
