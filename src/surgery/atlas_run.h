/*
 * atlas_run.h - a run that learns coefficients: what its files share
 *
 *   atlas_open.c    models, data to tasks, blocks, the step
 *   atlas_tau.c     task vectors: where their numbers are, and reading them
 *   atlas_mix.c     weights from coefficients, and their gradient from the weights'
 *   atlas_kernel.c  the arithmetic of both
 *   atlas_select.c  which task vectors a block may use
 *   atlas.c         steps, scores, the best coefficients
 *   atlas_file.c    the file; atlas_svg.c: its picture
 */
#ifndef WS_SURGERY_ATLAS_RUN_H
#define WS_SURGERY_ATLAS_RUN_H

#include "model/train_step.h"
#include "train/optim.h"
#include "wsurg/atlas.h"
#include "wsurg/data.h"
#include "wsurg/random.h"
#include "wsurg/text.h"

enum { WS_ATLAS_TILE = 4096 }; /**< elements that go through the kernels at once */

/** One model's numbers of a block: as stored, in memory or in the file; or, of an
 * adapter on the base, the factors of the difference. Zero: it changes nothing. */
typedef struct ws_atlas_tau {
    const ws_ckpt *from;
    const ws_tensor *t;
    unsigned char *data; /**< (t->n_bytes) or NULL: read from the file */
    float *L, *R;        /**< (rows, r), the adapter's scale in it; (r, cols) */
    size_t r, cols;
} ws_atlas_tau;

/** A tensor whose task vectors have coefficients. */
typedef struct ws_atlas_block {
    size_t part;
    const char *name;
    size_t n;
    ws_atlas_tau base;
    ws_atlas_tau *tau; /**< (n_models) */
    ws_real *w;        /**< (n) the model's own numbers */
    ws_real *grad;     /**< (n) */
    size_t first;      /**< of its coefficients (n_models, groups) */
    ws_rng_key key;    /**< of the groups */
} ws_atlas_block;

typedef struct ws_atlas_set {
    const char *name;
    double sign; /**< -1: forgotten */
    ws_data *data, *val;
    double before, now; /**< scores */
} ws_atlas_set;

/** What an objective of the paper stands for. */
typedef struct ws_atlas_plan {
    const char *objective;
    double lr;
    ws_schedule_kind schedule;
    int64_t epochs, steps, epoch; /**< epoch: steps of one; 0: not counted in epochs */
} ws_atlas_plan;

typedef struct ws_atlas {
    const ws_atlas_req *req;
    const ws_ctx *ctx;
    ws_ctx roomy; /**< ctx, with the memory limit of commands that run models */
    ws_arena arena;
    ws_model *model;
    ws_tokenizer *tokenizer;
    ws_ckpt **models;    /**< (req->n_models) */
    bool *factored;      /**< (req->n_models) adapters on this very base */
    char (*digests)[48]; /**< (1 + n_models) of base and models */
    const char **labels;
    ws_atlas_set *sets;
    size_t n_sets;
    bool forgetting; /**< a task is to be forgotten */
    ws_atlas_block *blocks;
    size_t n_blocks;
    uint32_t groups; /**< of a block; 1: it is whole */
    ws_atlas_plan plan;
    ws_want *want;
    ws_step *step;
    ws_pool *pool;
    float *lambda, *dlambda, *moments, *best; /**< (n_lambda), moments twice */
    size_t n_lambda;
    ws_slot_f32 slot;
    ws_optim *optim;
    ws_batch batch;
    uint64_t bytes;    /**< of task vectors, gradients and data */
    uint64_t resident; /**< of them those that could be read from files instead */
    double *sums;      /**< (n_lambda) gradient, see atlas_mix.c */
    double *parts;     /**< partial products, see atlas_mix.c */
    uint64_t peak;     /**< largest RssAnon + RssShmem seen */
} ws_atlas;

/* ---- atlas_open.c ---- */
ws_status ws_atlas_open(ws_atlas *a, ws_err *err);
void ws_atlas_close(ws_atlas *a);

/* ---- atlas_tau.c ---- */

/** Find base and models of a block, of which the name, n and tau are set.
 * @param changed  out: whether any model changes it */
ws_status ws_atlas_tau_find(ws_atlas *a, ws_atlas_block *b, bool *changed, ws_err *err);

/** Bytes that are all read from files. */
uint64_t ws_atlas_tau_bytes(const ws_atlas *a);

/** Bring numbers into memory, block by block, until @p room bytes are taken. */
ws_status ws_atlas_tau_load(ws_atlas *a, uint64_t room, ws_err *err);

/** Elements at .. at+n-1 of the base. */
ws_status ws_atlas_base(const ws_atlas_block *b, size_t at, size_t n, float *out,
                        ws_err *err);

/** The same of task vector @p k; *any false: it is zero there.
 * @param base  as ws_atlas_base() gave them */
ws_status ws_atlas_tau_tile(const ws_atlas_block *b, size_t k, size_t at, size_t n,
                            const float *base, float *out, bool *any, ws_err *err);

/** Let go of what task vector @p k has there: it is zero from now on. */
void ws_atlas_tau_drop(ws_atlas *a, ws_atlas_block *b, size_t k);
void ws_atlas_tau_free(ws_atlas_tau *t);
bool ws_atlas_tau_any(const ws_atlas_tau *t);

/* ---- atlas_mix.c ---- */

/** Bytes of the work of both directions. */
uint64_t ws_atlas_mix_bytes(const ws_atlas *a);
ws_status ws_atlas_mix_open(ws_atlas *a, ws_err *err);

/** w = base + sum_k lambda_k tau_k, of every block. */
ws_status ws_atlas_compose(ws_atlas *a, ws_err *err);

/** dlambda_k = <grad, tau_k>, of every block and group. */
ws_status ws_atlas_project(ws_atlas *a, ws_err *err);

/* ---- atlas.c ---- */

/** Composed weights, and the gradient of all tasks at position @p step of their data;
 * *loss is their sum. */
ws_status ws_atlas_gradient(ws_atlas *a, int64_t step, double *loss, ws_err *err);

/* ---- atlas_select.c ---- */

/** Leave each block req->budget task vectors, by the gradient of the first batch. */
ws_status ws_atlas_select(ws_atlas *a, ws_err *err);

/* ---- atlas_file.c ---- */
ws_status ws_atlas_write(const ws_atlas *a, const ws_atlas_result *r, ws_err *err);
/** @p text as the file @p path: staged beside it, synced, renamed. */
ws_status ws_atlas_put(const char *path, const ws_buf *text, bool force, ws_err *err);

/* ---- atlas_svg.c ---- */
void ws_atlas_svg(const ws_atlas_result *r, ws_buf *out);

#endif
