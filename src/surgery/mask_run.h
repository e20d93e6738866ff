/*
 * mask_run.h - a model between a base and its fine-tunes, with weights that a mask
 * makes: what realign and graft share
 *
 *   mask_run.c         models to updates, data, the step
 *   mask_factors.c     adapters to updates of factors; the adapter that came of it
 *   mask_run_write.c   the model that came of it; masks that were chosen
 */
#ifndef WS_SURGERY_MASK_RUN_H
#define WS_SURGERY_MASK_RUN_H

#include "model/train_step.h"
#include "surgery/soft_mask.h"
#include "wsurg/adapter.h"
#include "wsurg/data.h"
#include "wsurg/mask.h"
#include "wsurg/pattern.h"
#include "wsurg/text.h"

/** What a run starts from. Borrowed. */
typedef struct ws_mask_run_req {
    const char *base;
    const char *const *models; /**< (n_models) */
    size_t n_models;
    const char *config, *tokenizer; /**< folders; NULL: the base's */
    const char *target;     /**< pattern of the tensors that have masks; NULL: all */
    const char *data, *val; /**< "[NAME=]FILE"; .val may be NULL */
    bool pairs;             /**< the data are preference pairs */
    bool factors; /**< models are adapters alone: their factors are the weights */
    int64_t batch, seq;
    uint64_t seed;
    bool plain;       /**< no models: the tensors that .target hits (NULL: all but
                           embeddings, positions and head) have gradients alone */
    double mix;       /**< above 0: the updates are added up with this factor, as one */
    size_t per_group; /**< bytes of logits and optimiser */
    /** Entries that share one logit, of a tensor of @p rows by @p cols. */
    size_t (*span)(const void *arg, size_t rows, size_t cols);
    const void *arg;
} ws_mask_run_req;

/** Factors that stand beside a part of the base: what the step sees. */
typedef struct ws_mask_module {
    const ws_adapter_module *like; /**< of the first adapter: ranks, scale */
    size_t part;
    float *w[2]; /**< A (r, in), B (out, r) */
    float *gain; /**< (r) */
    ws_overlay over;
} ws_mask_module;

typedef struct ws_mask_run {
    const ws_mask_run_req *req;
    const ws_ctx *ctx;
    ws_ctx roomy; /**< ctx, with the memory limit of commands that run models */
    ws_arena arena;
    ws_model *model;
    ws_tokenizer *tokenizer;
    ws_ckpt **models;      /**< (n_models), until their updates are read */
    ws_ckpt *source;       /**< factors: the aligned model where it has an adapter */
    ws_adapter **adapters; /**< factors: (n_models) */
    ws_mask_module *modules;
    size_t n_modules;
    ws_data *data, *val;
    ws_want *want;
    ws_step *step;
    ws_pool *pool; /**< the step's */
    ws_batch batch;
    double *logp, *up;     /**< (rows of a batch) */
    ws_soft_block *blocks; /**< (n_blocks); .logits and .dlogits are not set */
    float ***deltas;       /**< (n_blocks) (n_updates) of the blocks */
    size_t n_updates;      /**< models, or 1 when they are mixed */
    float **grads;         /**< (n_blocks) */
    ws_tensor *shapes;     /**< (n_blocks) of the tensors, for the mask's file */
    size_t n_blocks;
    uint64_t groups, entries;
    uint64_t bytes; /**< of copies, updates, gradients, logits */
    ws_buf inputs;  /**< for provenance */
} ws_mask_run;

/** Whether all @p models are adapters alone. */
bool ws_mask_run_is_factors(const char *const *models, size_t n);

/** WS_E_MEMORY before anything is trained; as ws_atlas_learn(). */
ws_status ws_mask_run_open(ws_mask_run *r, const ws_mask_run_req *req,
                           const ws_ctx *ctx, ws_err *err);
void ws_mask_run_close(ws_mask_run *r);

/** Rows of @p r->batch for the step. */
ws_step_batch ws_mask_run_rows(const ws_mask_run *r);

/** Clear all gradients. */
void ws_mask_run_clear(ws_mask_run *r);

/** Write the model with the blocks' weights, in the base's dtypes; of factors the
 * adapter. */
ws_status ws_mask_run_write(ws_mask_run *r, const ws_write_opts *w, const char *recipe,
                            ws_result **out, ws_err *err);

/* ---- between mask_run.c and mask_factors.c ---- */

/** No memory beside the limit is left: WS_E_MEMORY, with what was wanted. */
ws_status ws_mask_run_too_much(const ws_mask_run *r, ws_err *err);

/** The base's model, and the adapters. @return as ws_adapter_open(), ws_model_open() */
ws_status ws_mask_factors_open(ws_mask_run *r, ws_err *err);

/** Blocks of the factors that @p target (NULL: all) hits and a model changes. */
ws_status ws_mask_factors_blocks(ws_mask_run *r, const ws_pattern_set *target,
                                 bool *any, ws_err *err);
void ws_mask_factors_close(ws_mask_run *r);
ws_status ws_mask_factors_write(ws_mask_run *r, const ws_write_opts *w,
                                const char *recipe, ws_result **out, ws_err *err);

#endif
