/*
 * finish.h - from streamed to shown: headers patched, index and companions, the final
 * check, the manifest, the rename; and the figures of the run
 */
#ifndef WS_ENGINE_FINISH_H
#define WS_ENGINE_FINISH_H

#include "engine/exec.h"

/** Digests of the output's tensors and of its inputs: what provenance is made of. */
typedef struct ws_digests {
    char (*inputs)[33]; /**< (n_inputs) models' digests, hex */
    char content[33];   /**< of the output, hex */
} ws_digests;

typedef struct ws_finish {
    ws_plan *plan;
    const ws_tensor_result *results; /**< (n_tensors); .out and .in are read */
    ws_stage *stage;
    ws_pool *pool;
    const ws_ctx *ctx;
    const int *ids; /**< (n_files) of the staged files; -1: another part's */
    const char *target;
    size_t first, n; /**< tensors of this run */
} ws_finish;

/** Everything after the last slice. Fills the outputs of @p r. */
ws_status ws_finish_run(const ws_finish *f, ws_result *r, ws_err *err);

/** The same for shards that are staged already, brought together from parts. */
ws_status ws_finish_joined(const ws_finish *f, ws_result *r, ws_err *err);

/** Where the manifest goes (ws_free): beside a file, inside a directory, or where it
 * was asked for; NULL when there is none. */
ws_status ws_finish_manifest_path(const ws_plan *plan, const char *target, char **path,
                                  ws_err *err);

/** content.c: whether what lies at the target is, digests compared, what this plan
 * would write. Reads inputs and output. */
ws_status ws_plan_is_done(ws_plan *plan, const ws_ctx *ctx, bool *done, ws_err *err);

/** result.c */
ws_result *ws_result_new(void);
void *ws_result_alloc(ws_result *r, size_t n, size_t size);
const char *ws_result_strdup(ws_result *r, const char *s);
/** Memory outside the executor is looked at where it may be largest; @p more bytes were
 * held until now. */
void ws_result_note_memory(ws_result *r, uint64_t more);
void ws_result_stats(ws_result *r, const ws_plan *plan, const ws_exec *exec,
                     size_t first, size_t n);
/** Warnings that only the run could find. */
void ws_result_warn(const ws_result *r, const ws_plan *plan, ws_diag *warnings);

#endif
