/*
 * decompose.h - weights split into an adapter and a residual: CorDA, PiSSA
 *
 * Every chosen linear W becomes W' + B A with B (out, r) and A (r, in): the adapter is
 * trained, the residual W' is its base. src/surgery/corda.h has the formulas.
 */
#ifndef WSURG_DECOMPOSE_H
#define WSURG_DECOMPOSE_H

#include "wsurg/alloc.h"
#include "wsurg/calibrate.h"
#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ws_solver {
    WS_SOLVER_EXACT, /**< subspace known to 2e-7 where the spectrum allows it */
    WS_SOLVER_FAST   /**< IPM: the C-weighted residual within 0.1 % of the least */
} ws_solver;

/** How one matrix is split. */
typedef struct ws_corda_opts {
    int64_t rank;
    bool smallest; /**< the smallest components: knowledge-preserved mode */
    ws_solver solver;
    uint64_t seed;
} ws_corda_opts;

/** What the split of one matrix is like. NaN: unknown. */
typedef struct ws_decomposed {
    const char *name; /**< tensor */
    int64_t rows, cols, rank;
    double s_first, s_last; /**< singular values of W C~ taken: largest and smallest */
    double energy;          /**< share of ||W C~||^2 in what was taken */
    double gap;        /**< distance from the last one taken to its neighbour, relative
                            to the largest singular value */
    double separation; /**< bounds the sine of the angle to the true subspace */
    double over_best;  /**< ||W' C~|| over the least possible, minus 1: from above */
    double condition;  /**< of W C~; NaN where only its large end was looked at (IPM
                            of more than 512) */
    double error;      /**< largest |W' + B A - W| over the largest |W| */
    int64_t zeros;     /**< singular values of zero among those taken */
    bool unclear;      /**< the components cannot be told from their neighbours */
    const char *by;    /**< "krylov", "inverse", "gram", "svd": static */
} ws_decomposed;

typedef enum ws_decompose_method { WS_CORDA, WS_PISSA } ws_decompose_method;

/** What to decompose. Strings are borrowed. */
typedef struct ws_decompose_req {
    const char *model;
    ws_decompose_method method;
    const char *cov;                   /**< path of covariances; CorDA */
    const ws_calibrate_req *calibrate; /**< CorDA without .cov: run this first. Its
                                            model, .add and .write are not looked at;
                                            the covariances do not stay */
    ws_corda_opts split;
    double damp;
    const char *normalise; /**< "peft", "authors" or "none": as the file was made, or
                                WS_E_USAGE; NULL: as it was made */
    const char *const *targets; /**< (n_targets) patterns of tensor names; 0: every
                                     matrix of a block */
    size_t n_targets;
    bool keep_base; /**< only an adapter, of rank 2r, for the untouched model */
    ws_write_opts write;
} ws_decompose_req;

#define WS_DECOMPOSE_REQ_INIT                                                          \
    {                                                                                  \
        .split = { .rank = 128 }, .damp = 0.01, .write = WS_WRITE_OPTS_INIT            \
    }

typedef struct ws_decompose_result {
    ws_decomposed *layers; /**< (n_layers) in file order */
    size_t n_layers;
    double energy;        /**< mean of the layers' */
    double error;         /**< largest of the layers' */
    ws_out_file *outputs; /**< (n_outputs) */
    size_t n_outputs;
    const char *manifest;
    char residual[48];                /**< its content digest; empty with .keep_base */
    uint64_t cov_samples, cov_tokens; /**< that the covariances are of; 0: none */
    size_t resumed;                   /**< layers that a killed run had finished */
    bool unchanged; /**< resumed, and the output was there: no layers, no outputs */
    ws_usage usage;
    ws_arena arena;
} ws_decompose_result;

/**
 * Decompose, and write `OUT/adapter/`, `OUT/residual/` and `OUT/decompose.json`; with
 * .keep_base `OUT/adapter/` alone. Memory is that of the largest matrix, for each
 * thread, whatever the number of matrices; fewer threads where the limit is short.
 * With .write.resume a run that was killed goes on behind its last finished matrix.
 *
 * @return WS_OK; WS_E_USAGE a pattern that hits nothing; WS_E_ANCESTRY covariances of
 *         another model; WS_E_MISSING a target without covariance; WS_E_SHAPE,
 *         WS_E_DTYPE; WS_E_NOT_FINITE; WS_E_MEMORY one matrix does not fit the limit;
 *         and as writing a model
 */
WS_API ws_status ws_decompose(ws_decompose_result **out, const ws_decompose_req *req,
                              const ws_ctx *ctx, ws_err *err);
WS_API void ws_decompose_result_free(ws_decompose_result *r);

#ifdef __cplusplus
}
#endif

#endif
