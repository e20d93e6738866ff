/*
 * extract_job.h - an extraction in the making: the matrices, and what else changed
 */
#ifndef WS_SURGERY_EXTRACT_JOB_H
#define WS_SURGERY_EXTRACT_JOB_H

#include <pthread.h>

#include "hf/peft.h"
#include "wsurg/extract.h"
#include "wsurg/linalg.h"

/** One matrix of both models. */
typedef struct ws_extract_task {
    const ws_tensor *b, *t; // in base and tuned
    int64_t m, n, q, r;     // r: components at hand
    float *U, *Vt;          // (m, r), (r, n), or NULL: to be found again
    double *s;              // (r)
    size_t module;          // of the adapter
    bool surveyed, equal, done;
} ws_extract_task;

typedef struct ws_extract_job {
    const ws_extract_req *req;
    const ws_ctx *ctx;
    ws_extract_result *r;
    ws_ckpt *base, *tuned;
    bool conv1d;
    char digest[48], tuned_digest[48];
    ws_extract_task *tasks;
    ws_adapter_copy *copies;
    size_t n, n_copies;
    ws_stage *stage;
    ws_adapter_sink *adapter;
    pthread_mutex_t lock; // of room
    uint64_t room;        // bytes for what the survey found
} ws_extract_job;

/** Tasks for the linears asked for, copies of what else changed, and a count of what an
 * adapter cannot hold. As ws_extract(). */
ws_status ws_extract_find(ws_extract_job *j, ws_err *err);

/** D = tuned - base of a task, (m, n) floats. WS_OK; WS_E_IO; WS_E_MEMORY. */
ws_status ws_extract_load(const ws_extract_job *j, const ws_extract_task *k, ws_mat *D,
                          ws_err *err);

#endif
