/*
 * taskvec_count.c - the counts of updates that are made elsewhere, and what is checked
 * before any are
 */
#include <string.h>
#include <sys/stat.h>

#include "engine/scan.h"
#include "surgery/taskvec_sparsify.h"
#include "wsurg/digest.h"

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

ws_status ws_tv_check_out(const ws_write_opts *w, ws_err *err)
{
    struct stat sb;
    const char *out = w->out;
    if (out == NULL || (strcmp(out, "-") != 0 && !ends_with(out, ".safetensors") &&
                        !ends_with(out, ".st"))) {
        ws_fail(err, WS_E_USAGE, "a task vector is one file: OUT ends in .safetensors");
        ws_err_at(err, out, NULL, -1);
        return WS_E_USAGE;
    }
    if (strcmp(out, "-") == 0 || w->force || w->resume || lstat(out, &sb) != 0)
        return WS_OK;
    ws_fail(err, WS_E_EXISTS, "output '%s' exists", out);
    ws_err_at(err, out, NULL, -1);
    ws_err_hint(err, "--force replaces it");
    return WS_E_EXISTS;
}

struct count {
    ws_tv_plan *plans;
    const ws_tv_maker *maker;
    const size_t *index; // of the tensors scanned among the plans
};

static ws_status count_slice(void *arg, size_t tensor, uint64_t slice, void *partial,
                             ws_scan_worker *w, ws_err *err)
{
    const struct count *c = arg;
    const size_t k = c->index[tensor];
    ws_tv_plan *p = &c->plans[k];
    ws_tv_made *m = w->buffer;
    const uint64_t begin = slice * p->blocks.per_slice;
    (void)partial;
    for (uint64_t b = begin; b < begin + p->blocks.per_slice && b < p->blocks.n_blocks;
         b++) {
        uint64_t first;
        size_t n;
        ws_tv_block_at(&p->blocks, b, &first, &n);
        ws_status st = c->maker->make(c->maker->self, k, b, 0, n, m, err);
        if (st == WS_OK)
            st = ws_scan_tick(w, n * (p->wide ? 8 : 4), err);
        if (st != WS_OK)
            return st;
        ws_tv_plan_count(p, b, m);
    }
    return WS_OK;
}

static void join_nothing(void *arg, size_t tensor, const void *partial)
{
    (void)arg;
    (void)tensor;
    (void)partial;
}

ws_status ws_tv_count(ws_tv_plan *plans, size_t n, const ws_tv_maker *maker,
                      const ws_ctx *ctx, ws_err *err)
{
    ws_arena tmp = { 0 };
    const ws_tensor **tensors = ws_arena_calloc(&tmp, n + 1, sizeof *tensors);
    size_t *index = ws_arena_calloc(&tmp, n + 1, sizeof *index), count = 0;
    uint64_t bytes = 0;
    ws_status st = WS_OK;
    if (tensors == NULL || index == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
    for (size_t k = 0; st == WS_OK && k < n; k++) {
        ws_tv_plan *p = &plans[k];
        if (p->kind != WS_TV_KIND_UPDATE)
            continue;
        memset(p->table, 0, ((size_t)p->blocks.n_blocks + 1) * sizeof *p->table);
        tensors[count] = &p->t;
        index[count++] = k;
        bytes += p->blocks.n * (p->wide ? 8 : 4);
    }
    struct count c = { plans, maker, index };
    const ws_scan scan = { .ctx = ctx,
                           .event = "count",
                           .bytes = bytes,
                           .tensors = tensors,
                           .n = count,
                           .partial_size = 1,
                           .buffer_size = sizeof(ws_tv_made),
                           .arg = &c,
                           .scan = count_slice,
                           .join = join_nothing };
    if (st == WS_OK)
        st = ws_scan_run(&scan, err);
    ws_arena_free(&tmp);
    return st;
}
