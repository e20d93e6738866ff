/*
 * atlas.h - aTLAS: coefficients of task vectors, one per block, learned by gradient
 *
 *   theta_j = base_j + sum_k lambda_kj (model_kj - base_j)
 *
 * j is a tensor of the model (a block), or one of its groups of elements. Objectives
 * and what they stand for where the request leaves it open, as the paper has it:
 *
 *   supervised   sum of the tasks' losses             rate 1e-3, constant, 20 epochs
 *                the same with partitions             0.1, cosine, 10
 *   few-shot     the same, on .shots examples each    0.1, cosine, 10
 *   negation     control's loss - forgotten's         5e-3, constant, 10
 *   entropy      of the predictions                   1e-3, cosine, 10
 *
 * @source Zhang et al. 2024, arXiv:2407.02880
 */
#ifndef WSURG_ATLAS_H
#define WSURG_ATLAS_H

#include "wsurg/alloc.h"
#include "wsurg/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One step, or (val) one validation. */
typedef struct ws_atlas_step {
    int64_t step, steps;
    bool val;
    double loss; /**< sum over the tasks, those forgotten negative */
    double norm; /**< of the gradient */
    double lr;
} ws_atlas_step;

enum { WS_ATLAS_MODELS = 64 }; /**< most task vectors */

typedef enum ws_atlas_schedule {
    WS_ATLAS_SCHEDULE_USUAL, /**< the objective's */
    WS_ATLAS_CONSTANT,
    WS_ATLAS_COSINE
} ws_atlas_schedule;

/** How task vectors are chosen where each block may have only some. */
typedef enum ws_atlas_choice {
    WS_ATLAS_BLOCKWISE, /**< by the gradient of each block */
    WS_ATLAS_WHOLE,     /**< by the gradient of all blocks: the same for all */
    WS_ATLAS_RANDOM     /**< the same for all, by lot */
} ws_atlas_choice;

/** What to learn. Strings are borrowed until the run is over. */
typedef struct ws_atlas_req {
    const char *base;
    const char *const *models; /**< (n_models) fine-tunes of it */
    size_t n_models;
    const char *config;      /**< folder of config.json for a base that is a file */
    const char *tokenizer;   /**< NULL: the base's */
    const char *const *data; /**< (n_data) "TASK=FILE" to learn from */
    size_t n_data;
    const char *const *val; /**< (n_val) "TASK=FILE" of the same tasks to choose the
                                 best step by; none: --data's own */
    size_t n_val;
    const char *const *negate; /**< (n_negate) tasks to forget: their loss is to rise */
    size_t n_negate;
    double control;     /**< while forgetting: largest factor by which the loss
                             of another task may rise */
    bool entropy;       /**< the texts are unlabelled: lower the entropy of what
                             the model predicts there */
    int64_t shots;      /**< examples of each task, chosen by the seed; 0: all */
    const char *target; /**< pattern of the blocks; NULL: all */
    int64_t partitions; /**< groups of each block's elements, each with coefficients
                             of its own: floor(word * partitions / 2^32), word being
                             that of (seed, "atlas", 0, block, element) */
    int64_t budget;     /**< task vectors that a block may have; 0: all */
    ws_atlas_choice select;
    int64_t batch, seq; /**< rows of a task in a step; most positions of one,
                             0: at most 1024 */
    int64_t epochs;     /**< 0: the objective's */
    int64_t steps;      /**< in place of epochs; 0: off */
    ws_atlas_schedule schedule;
    double lr; /**< 0: the objective's */
    double weight_decay, clip;
    double l1, l2;      /**< factors of the mean over blocks of the norms of their
                             coefficients, added to the loss */
    int64_t eval_every; /**< steps; 0: an epoch, or a tenth of the steps */
    int64_t val_tokens; /**< of each file that are scored; 0: all */
    uint64_t seed;
    const char *out; /**< file of coefficients */
    const char *svg; /**< file of a heat map of them; NULL: none */
    bool force;
    /** Told of every step; may be NULL. */
    void (*step)(void *arg, const ws_atlas_step *s);
    void *arg;
} ws_atlas_req;

#define WS_ATLAS_REQ_INIT                                                              \
    {                                                                                  \
        .control = 1.05, .partitions = 1, .batch = 8, .weight_decay = 0.1,             \
        .clip = 1.0, .val_tokens = 8192                                                \
    }

typedef struct ws_atlas_task {
    const char *name;
    bool forgotten;
    double before, after; /**< loss per token with all coefficients 0, and learned */
} ws_atlas_task;

/** What was learned. */
typedef struct ws_atlas_result {
    size_t n_models, n_blocks, n_tasks;
    uint32_t partitions;
    const char *objective;      /**< supervised, few-shot, negation or entropy */
    const char *const *labels;  /**< (n_models) */
    const char *const *blocks;  /**< (n_blocks) names of tensors */
    const double *lambda;       /**< (n_models, n_blocks, partitions) */
    const size_t *used;         /**< (n_models) blocks that may use a task vector */
    const ws_atlas_task *tasks; /**< (n_tasks) */
    int64_t steps, best_step;   /**< done; chosen, 0: the base itself */
    double seconds_per_step;
    double lr;         /**< as it was, the objective's or the request's */
    uint64_t memory;   /**< bytes of task vectors, weights and work */
    uint64_t resident; /**< of these task vectors that were kept in memory, not read
                            from their files in each step */
    uint64_t peak;     /**< largest anonymous and shared memory of the process seen */
    ws_arena arena;    /**< of all the above */
} ws_atlas_result;

/**
 * Learn coefficients and write them to req->out.
 *
 * They start at 0. After each interval, and before the first step, all tasks are
 * scored; the coefficients with the lowest sum are kept. In negation those are kept
 * that have the highest loss of what is forgotten while no other task's has risen by
 * .control, where learning stops. Task vectors are kept in memory as far as the limit
 * allows, and read from their files else; adapters on the base stay in factors. The
 * same request gives the same bytes at any number of threads and any limit.
 * @return WS_OK; WS_E_USAGE a task without data, a pattern that hits nothing, an option
 *         out of range; WS_E_MISSING, WS_E_SHAPE a model lacks a tensor of the base;
 *         WS_E_MEMORY before the first step; WS_E_NOT_FINITE; WS_E_EXISTS; WS_E_IO;
 *         WS_E_INTERRUPTED; as ws_model_open(), ws_data_open()
 */
WS_API ws_status ws_atlas_learn(ws_atlas_result *out, const ws_atlas_req *req,
                                const ws_ctx *ctx, ws_err *err);
WS_API void ws_atlas_result_free(ws_atlas_result *r);

#ifdef __cplusplus
}
#endif

#endif
