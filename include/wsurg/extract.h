/*
 * extract.h - the low-rank part of a full fine-tune, as an adapter
 *
 *   tuned - base = U diag(s) V' per matrix;  B = U_r s_r^1/2, A = s_r^1/2 V_r'
 *
 * by truncated decompositions whose remainder is known exactly (ws_svd_truncated).
 */
#ifndef WSURG_EXTRACT_H
#define WSURG_EXTRACT_H

#include "wsurg/alloc.h"
#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What to extract. Exactly one of .rank, .energy, .budget is not 0. */
typedef struct ws_extract_req {
    const char *base, *tuned;
    int64_t rank;    /**< the same for all, cut to the smaller side */
    double energy;   /**< least rank that keeps this share of ||D||^2, 0..1 */
    uint64_t budget; /**< numbers in all factors: the largest s^2 / (rows + cols) of all
                          matrices first */
    const char *const *targets; /**< (n_targets) patterns; 0: every matrix of a block */
    size_t n_targets;
    uint64_t seed;
    bool flat; /**< the output is the adapter itself, not OUT/adapter/ */
    ws_write_opts write;
} ws_extract_req;

#define WS_EXTRACT_REQ_INIT                                                            \
    {                                                                                  \
        .write = WS_WRITE_OPTS_INIT                                                    \
    }

/** One matrix. */
typedef struct ws_extracted {
    const char *name;
    int64_t rows, cols, rank;
    double norm;   /**< of the update */
    double energy; /**< share of its square kept */
    double error;  /**< ||D - B A|| / ||D|| */
    double s_first, s_last;
    const char *by; /**< "random", "wider", "full": static */
} ws_extracted;

typedef struct ws_extract_result {
    ws_extracted *layers; /**< (n_layers) in file order; those with an update */
    size_t n_layers;
    size_t equal;   /**< targets that did not change */
    size_t whole;   /**< other tensors that changed: stored whole (modules_to_save) */
    size_t missing; /**< that only one of the two has, or in another shape: not
                         represented, as a warning says */
    const char *missing_first; /**< name of the first of them, or NULL */
    size_t resumed;            /**< matrices that a killed run had looked at */
    bool unchanged; /**< resumed, and the output was there: no layers, no outputs */
    uint64_t parameters; /**< numbers in all factors */
    double energy;       /**< of all updates of the targets together */
    ws_out_file *outputs;
    size_t n_outputs;
    const char *manifest;
    ws_usage usage;
    ws_arena arena;
} ws_extract_result;

/**
 * Write `OUT/adapter/`, or with .flat `OUT`, a PEFT adapter for @p req->base. Memory is
 * that of the largest matrix for each thread, decomposed in full; what else the limit
 * leaves saves finding factors twice. With .write.resume a killed run goes on.
 *
 * @return WS_OK; WS_E_USAGE none or several of rank, energy, budget, or a pattern that
 *         hits nothing; WS_E_MISSING, WS_E_SHAPE, the two models do not fit;
 *         WS_E_NOT_FINITE; WS_E_MEMORY; and as writing an adapter
 */
WS_API ws_status ws_extract(ws_extract_result **out, const ws_extract_req *req,
                            const ws_ctx *ctx, ws_err *err);
WS_API void ws_extract_result_free(ws_extract_result *r);

#ifdef __cplusplus
}
#endif

#endif
