/*
 * plan_cost.c - what a plan will take, and how the executor cuts its work to fit
 */
#include "base/os.h"
#include "ckpt/ckpt_internal.h"
#include "engine/exec.h"
#include "engine/parts.h"
#include "hf/vocab_source.h"
#include "wsurg/source.h"
#include "wsurg/text.h"

enum { TILE_MOST = 8192, TILE_LEAST = 2048, BASELINE = 8 << 20 };

/** Peak under this configuration. BASELINE is what a process that merges nothing
 * has. */
static uint64_t total(const ws_exec_config *c)
{
    return c->fixed_bytes + c->source_bytes + (uint64_t)c->threads * c->thread_bytes +
           (uint64_t)c->window * c->tensor_bytes + c->keep_bytes;
}

/** Tensors that an executor of this run sees: of a part its own, but the norms of
 * --lines auto are those of all. */
static void tensors_seen(ws_plan *plan)
{
    struct ws_plan_priv *priv = plan->priv;
    ws_part_tensors(plan, &priv->first_tensor, &priv->end_tensor);
    priv->end_tensor += priv->first_tensor;
    if (plan->has_lines && plan->lines_alpha_auto) {
        priv->first_tensor = 0;
        priv->end_tensor = plan->n_tensors;
    }
}

/** Digests and sums that the executor keeps for the whole run. */
static uint64_t kept_bytes(const ws_plan *plan)
{
    uint64_t n = 0;
    for (size_t i = plan->priv->first_tensor; i < plan->priv->end_tensor; i++)
        n += plan->tensors[i].job.n_slices * (plan->n_inputs + 1) * sizeof(ws_xxh128) +
             ws_sums_count(plan->n_models) * sizeof(double) +
             (plan->n_inputs + 4) * sizeof(ws_xxh128);
    return n;
}

/** The plan itself, its headers and its readers. */
static uint64_t plan_bytes(const ws_plan *plan)
{
    uint64_t n =
        plan->priv->arena.total - plan->priv->untouched + ws_plan_recipe_memory(plan);
    for (size_t k = 0; k < plan->n_inputs; k++)
        n += ws_ckpt_memory(plan->inputs[k].ckpt) +
             ws_vocab_memory(plan->inputs[k].ckpt);
    for (size_t f = 0; f < plan->n_files; f++)
        n += plan->files[f].header_len;
    return n;
}

/** What the end adds: lists over all tensors, and a reader of each file, its header
 * included, to see that it is as planned. */
static uint64_t finish_bytes(const ws_plan *plan)
{
    enum { READER = 192, LISTED = 64 };
    uint64_t most = 0;
    for (size_t f = 0; f < plan->n_files; f++) {
        const uint64_t n = plan->files[f].n * READER + plan->files[f].header_len;
        most = n > most ? n : most;
    }
    // a tokenizer is read and written whole
    const uint64_t files =
        plan->priv->vocab == NULL ? 0 : 3 * plan->priv->vocab->edit.bytes;
    return most + plan->n_tensors * LISTED + files;
}

/** What making the tensors of adapted models takes. */
static uint64_t source_bytes(const ws_plan *plan, int threads)
{
    uint64_t n = 0;
    for (size_t k = 0; k < plan->n_inputs; k++)
        n += ws_source_memory(ws_vocab_under(plan->inputs[k].ckpt), threads);
    return n;
}

static void configure(const ws_plan *plan, ws_exec_config *c, int threads, size_t tile,
                      int window)
{
    c->threads = threads;
    c->tile = tile;
    c->window = window;
    c->source_bytes = source_bytes(plan, threads);
    c->thread_bytes = ws_exec_thread_bytes(plan, tile);
    c->tensor_bytes = ws_exec_tensor_bytes(plan, threads);
    c->keep_bytes = 0;
}

/** What is left of the memory keeps sources, so that they need not be read again. */
static void keep_with(const ws_plan *plan, ws_exec_config *c, uint64_t limit)
{
    const uint64_t room = limit - total(c);
    const uint64_t want =
        (uint64_t)c->window * ws_exec_keep_bytes(plan, &c->block_bytes);
    if (want > 0)
        c->keep_bytes = (want < room ? want : room) / c->block_bytes * c->block_bytes;
}

/** The fastest configuration that fits: first smaller tiles, then fewer tensors in
 * work, then fewer threads. False when even the least does not fit. */
static bool choose(const ws_plan *plan, ws_exec_config *c, int most, uint64_t limit)
{
    for (int threads = most; threads >= 1; threads--)
        for (int window = threads + 1; window >= 1; window -= threads > 1 ? 1 : 2)
            for (size_t tile = TILE_MOST; tile >= TILE_LEAST; tile /= 2) {
                configure(plan, c, threads, tile, window);
                if (total(c) > limit)
                    continue;
                keep_with(plan, c, limit);
                return true;
            }
    configure(plan, c, 1, TILE_LEAST, 1);
    return false;
}

/** Bytes of all sources that are read at least once. */
static uint64_t read_bytes(const ws_plan *plan)
{
    uint64_t n = 0;
    for (size_t i = plan->priv->first_tensor; i < plan->priv->end_tensor; i++)
        for (size_t k = 0; k < plan->n_inputs; k++) {
            const ws_tensor *t = ws_plan_source(plan, &plan->tensors[i], k);
            n += t == NULL ? 0 : t->n_bytes;
        }
    return n;
}

static void report_memory(ws_plan *plan, uint64_t limit)
{
    char want[24], have[24];
    ws_show_bytes(plan->cost.memory_floor, want);
    ws_show_bytes(limit, have);
    ws_err *e =
        ws_diag_report(plan->priv->errors, WS_E_MEMORY, NULL,
                       "needs at least %s of memory, the limit is %s", want, have);
    ws_err_hint(e, "--max-memory %lluMiB",
                (unsigned long long)(plan->cost.memory_floor >> 20) + 1);
}

static void check_disk(ws_plan *plan)
{
    const ws_ctx *ctx = plan->priv->ctx;
    const uint64_t limit =
        ctx != NULL && ctx->max_disk > 0 ? ctx->max_disk : UINT64_MAX;
    plan->cost.disk_free = ws_os_disk_free(plan->out);
    const uint64_t room = limit < plan->cost.disk_free ? limit : plan->cost.disk_free;
    if (plan->cost.disk <= room)
        return;
    char want[24], have[24];
    ws_show_bytes(plan->cost.disk, want);
    ws_show_bytes(room, have);
    ws_err *e =
        ws_diag_report(plan->priv->errors, WS_E_DISK, NULL, "needs %s of disk, %s %s",
                       want, have, room == limit ? "are allowed" : "are free");
    if (e != NULL)
        ws_err_at(e, plan->out, NULL, -1);
    ws_err_hint(e, room == limit ? "raise --max-disk" : "choose another place with -o");
}

void ws_plan_price(ws_plan *plan)
{
    const ws_ctx *ctx = plan->priv->ctx;
    const uint64_t limit = ws_ctx_memory(ctx);
    ws_exec_config *c = &plan->priv->exec;
    tensors_seen(plan);
    if (plan->priv->is_stage) // part of the price of what reads it
        return;
    c->fixed_bytes =
        BASELINE + plan_bytes(plan) + kept_bytes(plan) + finish_bytes(plan);
    ws_exec_config least = *c;
    configure(plan, &least, 1, TILE_LEAST, 1);
    plan->cost.memory_floor = total(&least);
    const bool fits = choose(plan, c, ws_ctx_threads(ctx), limit);
    plan->cost.memory = total(c);
    plan->cost.read = read_bytes(plan);
    const ws_write_opts *w = &plan->req->write;
    ws_part_files(plan, w->part, w->parts, &plan->first_out, &plan->n_out);
    plan->part_out = w->parts > 0 ? ws_part_target(plan, w->part, w->parts) : plan->out;
    for (size_t f = plan->first_out; f < plan->first_out + plan->n_out; f++)
        plan->cost.write += plan->files[f].bytes;
    plan->cost.disk = plan->cost.write;
    if (!fits)
        report_memory(plan, limit);
    check_disk(plan);
}
