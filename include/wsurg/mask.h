/*
 * mask.h - masks: which entries of a model count, as files of their own
 *
 * A mask is a safetensors file with `wsurg.kind` = `mask`. Its tensors bear the names
 * of the model's. BOOL: an entry is in or out; F32: a factor. A tensor of the model
 * without one is out as a whole. src/surgery/mask_file.h describes the bytes.
 */
#ifndef WSURG_MASK_H
#define WSURG_MASK_H

#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What factors are divided by before they meet an update. */
typedef enum ws_mask_scale {
    WS_MASK_SCALE_NONE,
    WS_MASK_SCALE_TENSOR, /**< the mean of the tensor's mask */
    WS_MASK_SCALE_MODEL,  /**< the mean over all tensors of the mask */
    WS_MASK_SCALE_AUTO    /**< in requests: as the mask says */
} ws_mask_scale;

/** What was written, and figures of it. */
typedef struct ws_mask_result {
    ws_result *run; /**< outputs, manifest, usage */
    size_t tensors; /**< with a mask */
    uint64_t entries;
    double set;   /**< sum of the entries: of BOOL, how many are in */
    double share; /**< of graft, lt-sft, sensitivity: of all entries that were asked */
} ws_mask_result;

WS_API void ws_mask_result_free(ws_mask_result *r);

/* ---- apply ---- */

/** out = base + mask (model - base). Where the model is an adapter alone, of its
 * factors: the base is an adapter, BASE+ADAPTER, or a model, whose factors are 0. */
typedef struct ws_mask_apply_req {
    const char *base, *model, *mask;
    ws_mask_scale scale;
    ws_write_opts write;
} ws_mask_apply_req;

#define WS_MASK_APPLY_REQ_INIT                                                         \
    {                                                                                  \
        .scale = WS_MASK_SCALE_AUTO, .write = WS_WRITE_OPTS_INIT                       \
    }

/**
 * Write the base with what the mask takes of the model.
 *
 * Entries with factor 0 keep the base's bits, with factor 1 they have the model's;
 * others are computed in float32 (float64 for F64) and rounded once. Masks of
 * an adapter make an adapter.
 * @return WS_OK; WS_E_MISSING, WS_E_SHAPE, WS_E_DTYPE mask, base and model do not fit;
 *         WS_E_USAGE an input is of another kind; as ws_plan_run()
 */
WS_API ws_status ws_mask_apply(ws_mask_result **out, const ws_mask_apply_req *req,
                               const ws_ctx *ctx, ws_err *err);

/* ---- combine, invert ---- */

/** In the order of the words of --op. */
typedef enum ws_mask_op {
    WS_MASK_AND,     /**< F32: the least factor */
    WS_MASK_OR,      /**< F32: the largest factor */
    WS_MASK_XOR,     /**< in an odd number of masks */
    WS_MASK_MINUS,   /**< in the first and in none of the others */
    WS_MASK_MAJORITY /**< in more than half of the masks */
} ws_mask_op;

typedef struct ws_mask_combine_req {
    const char *const *masks; /**< (n) 1 to 64 */
    size_t n;
    ws_mask_op op;
    ws_write_opts write;
} ws_mask_combine_req;

#define WS_MASK_COMBINE_REQ_INIT                                                       \
    {                                                                                  \
        .write = WS_WRITE_OPTS_INIT                                                    \
    }

/**
 * Write what an operation makes of masks. A tensor that a mask lacks is out there.
 * @return WS_OK; WS_E_DTYPE factors where the operation wants BOOL; WS_E_SHAPE masks of
 *         one tensor have different shapes; as ws_plan_run()
 */
WS_API ws_status ws_mask_combine(ws_mask_result **out, const ws_mask_combine_req *req,
                                 const ws_ctx *ctx, ws_err *err);

typedef struct ws_mask_invert_req {
    const char *mask;
    const char *against; /**< a model: its tensors without a mask come in; NULL: the
                              mask's tensors alone */
    ws_write_opts write;
} ws_mask_invert_req;

/** Write 1 - mask. As ws_mask_combine(). */
WS_API ws_status ws_mask_invert(ws_mask_result **out, const ws_mask_invert_req *req,
                                const ws_ctx *ctx, ws_err *err);

/* ---- choices without training ---- */

/** The entries that moved most: all tensors ranked together. */
typedef struct ws_mask_movement_req {
    const char *base, *model;
    uint64_t count;     /**< entries; 0: by share */
    double share;       /**< of all entries that may be chosen */
    const char *freeze; /**< pattern of tensors that may not be chosen; NULL: none */
    ws_write_opts write;
} ws_mask_movement_req;

#define WS_MASK_MOVEMENT_REQ_INIT                                                      \
    {                                                                                  \
        .write = WS_WRITE_OPTS_INIT                                                    \
    }

/**
 * Write the mask of the count largest |model - base|, in float32; exactly so many, the
 * earlier entry first where two are equal (tensors in order of names). Entries that did
 * not move are never chosen.
 * @return WS_OK; WS_E_USAGE a pattern that hits nothing, nothing moved; WS_E_NOT_FINITE
 *         an update is not finite; as ws_mask_apply()
 * @source Ansell et al. 2022, arXiv:2110.07560
 */
WS_API ws_status ws_mask_movement(ws_mask_result **out, const ws_mask_movement_req *req,
                                  const ws_ctx *ctx, ws_err *err);

/* ---- half fine-tuning ---- */

/** Which half of a model's matrices a round leaves alone. */
typedef struct ws_mask_hft_req {
    const char *model;
    uint64_t seed, round;
    const char *out; /**< the plan: a file of JSON */
    bool force;
} ws_mask_hft_req;

/** Counts of tensors and numbers: biases count with their matrix. */
typedef struct ws_mask_hft_result {
    size_t frozen, matrices; /**< tensors; of the layers' matrices and biases */
    uint64_t numbers, of;    /**< frozen; in the layers' matrices and biases */
    uint64_t parameters;     /**< of the whole model */
    size_t layers;
} ws_mask_hft_result;

/**
 * Write a plan: in each layer half of the attention's matrices at random (2 of 4; a
 * fused query, key and value is one), and of the MLP's (2 of 3 in a random half of the
 * layers, 1 of 3 in the others). Embeddings, norms and head are never frozen.
 * @return WS_OK; WS_E_USAGE no layers with matrices; WS_E_EXISTS; WS_E_IO; as
 *         ws_ckpt_open()
 * @source Hui et al. 2024, arXiv:2404.18466
 */
WS_API ws_status ws_mask_hft(ws_mask_hft_result *out, const ws_mask_hft_req *req,
                             const ws_ctx *ctx, ws_err *err);

/** Put the base's tensors back where a plan freezes. */
typedef struct ws_half_reset_req {
    const char *base, *model;
    const char *plan; /**< file; NULL: of seed and round, as ws_mask_hft() makes it */
    uint64_t seed, round;
    ws_write_opts write;
} ws_half_reset_req;

#define WS_HALF_RESET_REQ_INIT                                                         \
    {                                                                                  \
        .write = WS_WRITE_OPTS_INIT                                                    \
    }

/** result.tensors are those of the base, .set their numbers, .entries all.
 * @return as ws_mask_apply(); WS_E_HEADER the plan's file */
WS_API ws_status ws_half_reset(ws_mask_result **out, const ws_half_reset_req *req,
                               const ws_ctx *ctx, ws_err *err);

/* ---- grafting ---- */

/** Which entries of a fine-tune carry its skill. */
typedef struct ws_graft_req {
    const char *base, *model, *config, *tokenizer;
    const char *data, *val; /**< "[NAME=]FILE"; .val NULL: scored on .data */
    const char *target;     /**< pattern of the tensors that are grafted; NULL: all but
                                 embeddings, positions and head */
    double share;           /**< of the entries, in the patch that it starts from */
    double bias;            /**< b */
    double lr;
    int64_t epochs, batches, batch,
        seq; /**< .batches: of one step, one step an epoch */
    uint64_t seed;
    ws_write_opts write; /**< .out is the mask */
} ws_graft_req;

#define WS_GRAFT_REQ_INIT                                                              \
    {                                                                                  \
        .share = 0.01, .bias = 10.0, .lr = 1e7, .epochs = 10, .batches = 8,            \
        .batch = 16, .write = WS_WRITE_OPTS_INIT                                       \
    }

typedef struct ws_graft_result {
    ws_mask_result *mask;
    double loss_base, loss_model; /**< per token scored */
    double loss_patch, loss_best; /**< of the patch; of the mask written */
    int64_t best_epoch;           /**< 0: the patch itself */
} ws_graft_result;

/**
 * Learn the entries of model - base that carry a task, and write their mask.
 *
 * base + gamma (model - base), gamma = s + (1 - 2 s) sigmoid(S - b); s is the patch of
 * the entries that moved most, S uniform in [0, 1) at first and moved by plain gradient
 * steps. After each the rounded mask, gamma > 1/2, is scored; the best is kept.
 * @return as ws_realign()
 * @source Panigrahi et al. 2023, arXiv:2302.06600
 */
WS_API ws_status ws_graft(ws_graft_result **out, const ws_graft_req *req,
                          const ws_ctx *ctx, ws_err *err);
WS_API void ws_graft_result_free(ws_graft_result *r);

/* ---- sensitivity ---- */

/** Which entries a task asks to be trained: g^2, summed over batches. */
typedef struct ws_sensitivity_req {
    const char *model, *config, *tokenizer;
    const char *data;   /**< "[NAME=]FILE" */
    const char *target; /**< pattern of tensors; NULL: all but embeddings, positions and
                             head */
    int64_t batches, batch, seq;
    uint64_t count; /**< entries chosen; 0: by share */
    double share;   /**< of all that were asked */
    int64_t rank;   /**< of the adapters that a budget is measured by */
    double
        structure; /**< a matrix with count >= (in + out) rank / structure gets one */
    uint64_t seed;
    ws_write_opts write; /**< .out is the mask */
} ws_sensitivity_req;

#define WS_SENSITIVITY_REQ_INIT                                                        \
    {                                                                                  \
        .batches = 16, .batch = 32, .rank = 8, .structure = 10.0,                      \
        .write = WS_WRITE_OPTS_INIT                                                    \
    }

typedef struct ws_sensitivity_tensor {
    const char *name;
    uint64_t entries, chosen;
    double score;    /**< sum over the entries */
    bool structured; /**< a matrix: an adapter fits better; a vector: train all of it */
} ws_sensitivity_tensor;

typedef struct ws_sensitivity_result {
    ws_mask_result *mask;
    ws_sensitivity_tensor *tensors; /**< (n) in the order of their use */
    size_t n;
    int64_t batches;
    ws_arena arena;
} ws_sensitivity_result;

/**
 * Score entries by the squares of their gradients, one backward pass a batch, and write
 * the mask of the highest, all tensors ranked together.
 * @return WS_OK; WS_E_USAGE a pattern that hits nothing; WS_E_NOT_FINITE; WS_E_MEMORY;
 *         as ws_model_open(), ws_data_open(), ws_plan_run()
 * @source He et al. 2023, arXiv:2303.08566
 */
WS_API ws_status ws_sensitivity(ws_sensitivity_result **out,
                                const ws_sensitivity_req *req, const ws_ctx *ctx,
                                ws_err *err);
WS_API void ws_sensitivity_free(ws_sensitivity_result *r);

/* ---- figures ---- */

typedef struct ws_mask_layer_stats {
    int layer; /**< -1: outside the layers */
    uint64_t entries;
    double set;
} ws_mask_layer_stats;

typedef struct ws_mask_tensor_stats {
    const char *name;
    const char *dtype; /**< "BOOL", "F32": static */
    int layer;
    uint64_t entries;
    double set;
} ws_mask_tensor_stats;

typedef struct ws_mask_file_stats {
    const char *path, *label, *made_by; /**< .made_by: a command, or NULL */
    ws_mask_scale scale;
    uint64_t entries;
    double set;
    ws_mask_tensor_stats *tensors; /**< (n_tensors) in file order */
    size_t n_tensors;
    ws_mask_layer_stats *layers; /**< (n_layers) by number, outside first */
    size_t n_layers;
} ws_mask_file_stats;

typedef struct ws_mask_stats {
    ws_mask_file_stats *masks; /**< (n) */
    size_t n;
    double *both; /**< (n, n) sum over entries of the lesser of two factors */
    ws_arena arena;
} ws_mask_stats;

/**
 * Shares and overlaps of @p n masks.
 * @return WS_OK; WS_E_SHAPE masks of one tensor have different shapes; WS_E_USAGE a
 *         file that is no mask; WS_E_MEMORY; WS_E_IO
 */
WS_API ws_status ws_mask_stats_new(ws_mask_stats **out, const char *const *paths,
                                   size_t n, const ws_ctx *ctx, ws_err *err);
WS_API void ws_mask_stats_free(ws_mask_stats *s);

#ifdef __cplusplus
}
#endif

#endif
