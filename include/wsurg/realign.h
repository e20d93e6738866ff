/*
 * realign.h - SOMF: a mask over what fine-tunes changed of an aligned model, learned
 * from preference pairs
 *
 *   theta = aligned + merge_t(delta_t y / mean(y))       delta_t = model_t - aligned
 *
 * @source Yi et al. 2024, arXiv:2405.09055
 */
#ifndef WSURG_REALIGN_H
#define WSURG_REALIGN_H

#include "wsurg/mask.h"
#include "wsurg/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/** In the order of the words of --operator. */
typedef enum ws_realign_op {
    WS_REALIGN_AUTO, /**< none for one model, else task_arithmetic */
    WS_REALIGN_NONE,
    WS_REALIGN_SUM, /**< task_arithmetic */
    WS_REALIGN_TIES,
    WS_REALIGN_DARE,
    WS_REALIGN_AVERAGE
} ws_realign_op;

/** What shares one logit. */
typedef enum ws_mask_scope {
    WS_MASK_ELEMENT,
    WS_MASK_ROW, /**< an index of the tensor's first dimension */
    WS_MASK_TENSOR
} ws_mask_scope;

/** Whose probabilities the preferences are measured from. */
typedef enum ws_realign_reference {
    WS_REFERENCE_ALIGNED, /**< the aligned model */
    WS_REFERENCE_FUSED,   /**< the operator without a mask */
    WS_REFERENCE_AUTHORS  /**< another random mask in each step, of logits 0 */
} ws_realign_reference;

/** One step. */
typedef struct ws_realign_step {
    int64_t step, steps;
    double loss, norm, lr;
} ws_realign_step;

/** What to do. Strings are borrowed until the run is over. */
typedef struct ws_realign_req {
    const char *aligned;
    const char *const *models; /**< (n_models) fine-tunes of it; or adapters alone */
    size_t n_models;
    const char *pairs; /**< "[NAME=]FILE": lines of prompt, chosen, rejected */
    const char
        *config; /**< folder of config.json for an aligned model that is a file */
    const char *tokenizer; /**< NULL: the aligned model's */
    const char *target;    /**< pattern of the tensors under the mask; NULL: all that
                                differ */
    ws_realign_op op;
    double lambda;     /**< NAN: 0.3; 0.4 for ties, 0.04 for task_arithmetic on
                            tensors of models */
    double keep, drop; /**< shares, of ties and dare */
    ws_mask_scope scope;
    double temperature;
    ws_realign_reference reference;
    double beta;    /**< of the preferences */
    bool threshold; /**< the result has the mask y > 0.5, not y */
    int64_t batch, seq, steps;
    ws_schedule_kind schedule;
    int64_t warmup;
    double lr, weight_decay, clip;
    uint64_t seed;
    int64_t save_every;    /**< steps; 0: only when interrupted */
    const char *log;       /**< file for a JSON line of each step, or NULL */
    const char *save_mask; /**< file for the last mask, or NULL */
    ws_write_opts write;
    /** Told of every step; may be NULL. */
    void (*step)(void *arg, const ws_realign_step *s);
    void *arg;
} ws_realign_req;

#define WS_REALIGN_REQ_INIT                                                            \
    {                                                                                  \
        .lambda = NAN, .keep = 0.2, .drop = 0.2, .temperature = 0.5, .beta = 0.1,      \
        .batch = 8, .steps = 200, .schedule = WS_SCHEDULE_COSINE, .lr = 1e-2,          \
        .clip = 1.0, .write = WS_WRITE_OPTS_INIT                                       \
    }

typedef struct ws_realign_result {
    ws_result *run;       /**< outputs, manifest */
    ws_mask_result *mask; /**< of --save-mask; NULL */
    size_t tensors;       /**< under the mask */
    uint64_t entries, logits;
    double mean;          /**< of sigmoid(logit) over the entries */
    double low, high;     /**< shares of entries with sigmoid below 0.1, above 0.9 */
    int64_t steps, pairs; /**< pairs: lines of an epoch */
    int64_t resumed;      /**< steps that a checkpoint brought */
    double loss_first,
        loss_last; /**< means over the first and last tenth of the steps */
    double seconds_per_step;
    uint64_t memory; /**< bytes of updates, masks, weights and work */
} ws_realign_result;

/**
 * Learn the mask and write the model that it makes.
 *
 * Logits start at 0 and are shared by all models. In each step one draw of the mask is
 * made, from (seed, step, tensor, entry) alone; the last draw is what is written. The
 * same request gives the same bytes at any number of threads, interrupted and resumed
 * or not. Tensors that no model changed are the aligned model's, bit for bit.
 *
 * Where all models are adapters alone, the factors A and B are the weights, each under
 * a mask of its own; the aligned model is the base, whose factors count as 0, or
 * BASE+ADAPTER, and the output is an adapter of that base.
 * @return WS_OK; WS_E_USAGE options out of range, no pairs, nothing differs;
 *         WS_E_MISSING, WS_E_SHAPE, WS_E_DTYPE a model does not fit; WS_E_UNSUPPORTED
 *         an adapter with more than plain factors; WS_E_ANCESTRY one of a residual on
 *         another base; WS_E_MEMORY before the first step; WS_E_NOT_FINITE;
 *         WS_E_EXISTS; WS_E_LOCKED; WS_E_IO; WS_E_INTERRUPTED with a checkpoint for
 *         write.resume; as ws_model_open(), ws_data_open(), ws_plan_run()
 */
WS_API ws_status ws_realign(ws_realign_result **out, const ws_realign_req *req,
                            const ws_ctx *ctx, ws_err *err);
WS_API void ws_realign_result_free(ws_realign_result *r);

#ifdef __cplusplus
}
#endif

#endif
