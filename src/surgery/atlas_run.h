/*
 * atlas_run.h - a run that learns coefficients: what its files share
 *
 *   atlas_open.c   models to task vectors, data to tasks, the step
 *   atlas_mix.c    weights from coefficients, and their gradient from the weights'
 *   atlas.c        steps, scores, the best coefficients
 *   atlas_file.c   the file
 */
#ifndef WS_SURGERY_ATLAS_RUN_H
#define WS_SURGERY_ATLAS_RUN_H

#include "model/train_step.h"
#include "train/optim.h"
#include "wsurg/atlas.h"
#include "wsurg/data.h"

/** A tensor whose task vectors have coefficients. */
typedef struct ws_atlas_block {
    size_t part;
    const char *name;
    size_t n;
    ws_dtype base_dtype, tau_dtype;
    void *base;    /**< (n) as stored */
    void **tau;    /**< (n_models) (n) of tau_dtype; NULL: the model changes nothing */
    ws_real *w;    /**< (n) the model's own numbers */
    ws_real *grad; /**< (n) */
    size_t first;  /**< of its coefficients: first + k */
} ws_atlas_block;

typedef struct ws_atlas_set {
    const char *name;
    double sign; /**< -1: forgotten */
    ws_data *data, *val;
    double before, now; /**< scores */
} ws_atlas_set;

typedef struct ws_atlas {
    const ws_atlas_req *req;
    const ws_ctx *ctx;
    ws_ctx roomy; /**< ctx, with the memory limit of commands that run models */
    ws_arena arena;
    ws_model *model;
    ws_tokenizer *tokenizer;
    ws_ckpt **models;    /**< (req->n_models), until the task vectors are read */
    char (*digests)[48]; /**< (1 + n_models) of base and models */
    const char **labels;
    ws_atlas_set *sets;
    size_t n_sets;
    ws_atlas_block *blocks;
    size_t n_blocks;
    ws_want *want;
    ws_step *step;
    ws_pool *pool;
    float *lambda, *dlambda, *moments, *best; /**< (n_lambda), moments twice */
    size_t n_lambda;
    ws_slot_f32 slot;
    ws_optim *optim;
    ws_batch batch;
    uint64_t bytes; /**< of task vectors, copies and gradients */
    double *parts;  /**< partial products, see atlas_mix.c */
} ws_atlas;

/* ---- atlas_open.c ---- */
ws_status ws_atlas_open(ws_atlas *a, ws_err *err);
void ws_atlas_close(ws_atlas *a);

/* ---- atlas_mix.c ---- */

/** Chunks of all blocks, for the size of ws_atlas.parts. */
size_t ws_atlas_chunks(const ws_atlas *a);

/** w = base + sum_k lambda_k tau_k, of every block. */
void ws_atlas_compose(ws_atlas *a);

/** dlambda_k = <grad, tau_k>, of every block. */
void ws_atlas_project(ws_atlas *a);

/* ---- atlas_file.c ---- */
ws_status ws_atlas_write(const ws_atlas *a, const ws_atlas_result *r, ws_err *err);

#endif
