/*
 * exec.h - the executor: streams slices of all sources through the method on all
 * threads
 *
 * Work is cut into slices (ws_slice_len), handed out in file order and joined in slice
 * order, so that no bit depends on threads or memory. A few tensors are in work at
 * once, so that threads have something to do where one waits for its pass to end.
 */
#ifndef WS_ENGINE_EXEC_H
#define WS_ENGINE_EXEC_H

#include "base/pool.h"
#include "ckpt/stage.h"
#include "engine/plan_internal.h"

/** Sums over a slice, a tensor or a run, all as doubles so that they journal simply. */
enum {
    WS_SUM_BASE_SQ,   /**< sum of base^2 */
    WS_SUM_UPDATE_SQ, /**< sum of (out - base)^2 before rounding */
    WS_SUM_LOST_SQ,   /**< sum of (stored - out)^2 */
    WS_SUM_SATURATED, /**< values that overflowed their dtype */
    WS_SUM_CHANGED,   /**< elements whose inputs were not all equal */
    WS_SUM_UPDATE_L1, /**< sum of |out - base| */
    WS_SUM_TOTAL_L1,  /**< sum of |sum_k in_k - base| */
    WS_SUM_FIXED
};

/** Per model after the fixed sums: kept, dropped small, large, at random, kept^2. */
enum { WS_SUMS_PER_MODEL = 5 };

/** Models up to which products between updates are summed. */
enum { WS_GRAM_MODELS = 8 };

/** Number of sums for n models, and where the parts begin. */
static inline size_t ws_sums_gram(size_t n)
{
    return WS_SUM_FIXED + WS_SUMS_PER_MODEL * n;
}

static inline size_t ws_sums_count(size_t n)
{
    return ws_sums_gram(n) + (n <= WS_GRAM_MODELS ? n * (n + 1) / 2 : n);
}

/** Index of the product of updates a >= b; beyond WS_GRAM_MODELS only a == b exists. */
static inline size_t ws_sums_pair(size_t n, size_t a, size_t b)
{
    return ws_sums_gram(n) + (n <= WS_GRAM_MODELS ? a * (a + 1) / 2 + b : a);
}

/** What the executor leaves behind for one tensor. */
typedef struct ws_tensor_result {
    double *sums;      /**< (ws_sums_count(n_models)) */
    ws_xxh128 out;     /**< digest as written */
    ws_xxh128 *in;     /**< (n_inputs) digests; only where a source has the tensor */
    ws_xxh128 *slices; /**< (n_slices) of the output; NULL unless kept for the check */
} ws_tensor_result;

typedef enum ws_exec_mode {
    WS_EXEC_WRITE, /**< make the output */
    WS_EXEC_NORMS, /**< only the L1 sums, for --lines auto */
    WS_EXEC_MAKE   /**< the bytes alone: of a merge that another one reads */
} ws_exec_mode;

typedef struct ws_exec ws_exec;

/** Make an executor for tensors @p first .. first+n-1 of the plan: WS_EXEC_WRITE into
 * the stage, whose files are @p ids (n_files), or WS_EXEC_NORMS where that is NULL. */
ws_status ws_exec_new(ws_exec **out, const ws_plan *plan, ws_pool *pool,
                      ws_stage *stage, const int *ids, size_t first, size_t n,
                      ws_err *err);

/** Take over what a resumed journal says is done. */
ws_status ws_exec_resume(ws_exec *x, ws_err *err);

/** Run to the end, the first failure, or a request to stop (WS_E_INTERRUPTED). */
ws_status ws_exec_run(ws_exec *x, ws_err *err);

/** Result of the plan's tensor @p index; they lie in one array. */
const ws_tensor_result *ws_exec_result(const ws_exec *x, size_t index);

uint64_t ws_exec_read_bytes(const ws_exec *x);
uint64_t ws_exec_written_bytes(const ws_exec *x);
uint64_t ws_exec_peak_memory(const ws_exec *x);
void ws_exec_free(ws_exec *x);

#endif
