/*
 * atlas_select.c - which task vectors a block may use, when each may use only some
 *
 *   blockwise  those of the largest |dL/dlambda| in the block itself
 *   whole      those of the largest sum of |dL/dlambda| over all blocks
 *   random     the same for all blocks, by lot
 *
 * The gradient is that of one batch at the base, where all coefficients are 0: one
 * backward pass is exact for every task vector at once. Of equal ones the first counts.
 *
 * @source arXiv:2407.02880, section 5.2 and appendix D.6
 */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "surgery/atlas_run.h"

/** Of task vector @p k in a block. */
static double size_of(const ws_atlas *a, const ws_atlas_block *b, size_t k)
{
    double sum = 0.0;
    for (uint32_t g = 0; g < a->groups; g++)
        sum += fabs(a->sums[b->first + k * a->groups + g]);
    return sum;
}

/** Drop all but the @p budget best of a block; @p worth (n_models). */
static void keep_best(ws_atlas *a, ws_atlas_block *b, const double *worth)
{
    const size_t n = a->req->n_models, budget = (size_t)a->req->budget;
    bool drop[WS_ATLAS_MODELS] = { false };
    for (size_t k = 0; k < n; k++) {
        size_t better = 0;
        for (size_t j = 0; j < n; j++)
            better += worth[j] > worth[k] || (worth[j] == worth[k] && j < k);
        drop[k] = better >= budget;
    }
    for (size_t k = 0; k < n; k++)
        if (drop[k])
            ws_atlas_tau_drop(a, b, k);
}

static void by_lot(const ws_atlas *a, double *worth)
{
    uint64_t key[2];
    uint32_t word[WS_ATLAS_MODELS];
    ws_rng_key_make(a->req->seed, "atlas", 1, "task vectors", key);
    const ws_rng_key k = { key[0], key[1] };
    ws_random_fill(&k, 0, word, a->req->n_models);
    for (size_t i = 0; i < a->req->n_models; i++)
        worth[i] = (double)word[i];
}

ws_status ws_atlas_select(ws_atlas *a, ws_err *err)
{
    const size_t n = a->req->n_models;
    double worth[WS_ATLAS_MODELS] = { 0.0 }, loss = 0.0;
    ws_status st = WS_OK;
    if (a->req->budget == 0 || (size_t)a->req->budget >= n)
        return WS_OK;
    if (a->req->select == WS_ATLAS_RANDOM)
        by_lot(a, worth);
    else
        st = ws_atlas_gradient(a, 1, &loss, err);
    for (size_t i = 0; st == WS_OK && i < a->n_blocks; i++)
        for (size_t k = 0; k < n && a->req->select == WS_ATLAS_WHOLE; k++)
            worth[k] += size_of(a, &a->blocks[i], k);
    for (size_t i = 0; st == WS_OK && i < a->n_blocks; i++) {
        for (size_t k = 0; k < n && a->req->select == WS_ATLAS_BLOCKWISE; k++)
            worth[k] = size_of(a, &a->blocks[i], k);
        keep_best(a, &a->blocks[i], worth);
    }
    return st;
}
