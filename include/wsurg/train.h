/*
 * train.h - fine-tuning: optimisers, schedules, and the run as a whole
 */
#ifndef WSURG_TRAIN_H
#define WSURG_TRAIN_H

#include "wsurg/merge.h"
#include "wsurg/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ws_optim_kind { WS_OPTIM_ADAMW, WS_OPTIM_SGD } ws_optim_kind;

/** An optimiser, with PyTorch's semantics. */
typedef struct ws_optim_opts {
    ws_optim_kind kind;
    double beta1, beta2, eps; /**< of AdamW */
    double momentum;          /**< of SGD; 0: none */
    double weight_decay;      /**< of matrices; vectors have none */
    double clip;              /**< largest global norm of the gradient; 0: no limit */
} ws_optim_opts;

/** In the order of the words of --schedule. */
typedef enum ws_schedule_kind {
    WS_SCHEDULE_CONSTANT,
    WS_SCHEDULE_CONSTANT_WARMUP,
    WS_SCHEDULE_LINEAR,
    WS_SCHEDULE_COSINE,
    WS_SCHEDULE_COSINE_RESTARTS,
    WS_SCHEDULE_COSINE_MIN,
    WS_SCHEDULE_POLYNOMIAL,
    WS_SCHEDULE_INVERSE_SQRT,
    WS_SCHEDULE_STABLE_DECAY
} ws_schedule_kind;

/** The learning rate over the steps, with the semantics of transformers. */
typedef struct ws_schedule {
    ws_schedule_kind kind;
    double lr;       /**< at factor 1 */
    int64_t warmup;  /**< steps */
    int64_t steps;   /**< in all */
    int64_t decay;   /**< last steps of warmup_stable_decay that go down */
    double min_rate; /**< least factor, where the kind has one */
    double power;    /**< of polynomial */
} ws_schedule;

/** What is trained. */
typedef enum ws_tune_kind {
    WS_TUNE_FULL,    /**< the model's own tensors */
    WS_TUNE_LORA,    /**< new low-rank factors beside linears */
    WS_TUNE_ADAPTER, /**< the factors of an adapter that is there already */
    WS_TUNE_SCRATCH  /**< as full, from random numbers */
} ws_tune_kind;

/** In the order of the words of --loss. */
typedef enum ws_tune_loss {
    WS_TUNE_AUTO,       /**< completions where the data has prompts, else every token;
                             pairs: DPO */
    WS_TUNE_NEXT_TOKEN, /**< every token */
    WS_TUNE_COMPLETION, /**< tokens of completions alone */
    WS_TUNE_DPO         /**< preference pairs */
} ws_tune_loss;

/** One step, or (val) one validation. */
typedef struct ws_tune_step {
    int64_t step, steps;
    bool val;
    double loss, lr, norm;
    int64_t tokens;   /**< scored in this step */
    double rate, eta; /**< tokens per second, seconds; since the start of this run */
} ws_tune_step;

/** What to do. Strings are borrowed until the run is over. */
typedef struct ws_tune_req {
    ws_tune_kind kind;
    const char *model;  /**< path; of WS_TUNE_SCRATCH: config.json or its folder */
    const char *config; /**< folder of config.json for a model that is a plain file */
    const char *tokenizer; /**< folder or file of the tokenizer; NULL: the model's */
    const char *adapter;   /**< of WS_TUNE_ADAPTER: its directory */
    int64_t rank;          /**< of WS_TUNE_LORA */
    double lora_alpha;     /**< of WS_TUNE_LORA; 0: the rank */
    bool rslora;           /**< scale alpha / sqrt(rank), not alpha / rank */
    const char *target;    /**< pattern of the linears that get factors; NULL: PEFT's
                                  choice (query and value). Of WS_TUNE_FULL: of the
                                  tensors that may change; NULL: all */
    const char *mask;      /**< file of boolean tensors: entries that may change; or of
                                  factors from 0 to 1 on their steps */
    const char *freeze;    /**< pattern of tensors that do not change */
    const char *freeze_plan; /**< file of tensors that do not change (mask hft) */
    int64_t first, last;     /**< layers that may change; last -1: all, and what lies
                                  outside the layers */
    const char *const *data; /**< (n_data) "[NAME=]FILE" */
    size_t n_data;
    const double *data_weights; /**< (n_data), or NULL: all 1 */
    const char *val;            /**< "[NAME=]FILE" to validate on, or NULL */
    const char *chat_format;    /**< NULL: the model's own */
    ws_tune_loss loss;
    double dpo_beta;
    int64_t batch, accumulate; /**< rows at once; such batches in a step */
    int64_t seq;               /**< most positions in a row; 0: at most 1024 */
    bool no_pack;              /**< one document in a row */
    ws_optim_opts optim;
    ws_schedule schedule; /**< its steps are filled in */
    double warmup_share;  /**< of the steps, in place of schedule.warmup, when > 0 */
    int64_t steps;        /**< 0: by epochs */
    double epochs;
    uint64_t seed;
    int64_t eval_every;  /**< steps; 0: at the end alone */
    int64_t patience;    /**< validations without a better one before it stops; 0:
                                never */
    int64_t save_every;  /**< steps; 0: only when interrupted */
    double max_time;     /**< seconds after which it saves and stops; 0: none */
    bool estimate;       /**< measure two steps and write nothing */
    const char *log;     /**< file for a JSON line of each step, or NULL */
    ws_write_opts write; /**< .out is a directory, or for a model a file */
    /** Told of every step; may be NULL. */
    void (*step)(void *arg, const ws_tune_step *s);
    void *arg;
} ws_tune_req;

/** What a run takes, known before its first step. Bytes, unless said otherwise. */
typedef struct ws_tune_plan {
    uint64_t weights, trained, gradients, states, activations, logits, data;
    uint64_t program; /**< libraries, tokenizer, tables, buffers of products */
    uint64_t total;   /**< the peak that is expected */
    uint64_t limit;
    int64_t parameters, trained_parameters;
    double gflop_per_token;
    int64_t rows; /**< of data, in an epoch */
    int64_t steps, batch_tokens;
    int64_t layers_all, layers_small, layers_input, layers_frozen;
} ws_tune_plan;

/** What a run did. */
typedef struct ws_tune_result {
    ws_tune_plan plan;
    int64_t steps;   /**< done in all */
    uint64_t tokens; /**< scored in all */
    double tokens_per_second, loss_first, loss_last;
    int64_t best_step; /**< -1: no validation */
    double best_loss;
    double eta;          /**< of an estimate: seconds for all steps */
    const char *stopped; /**< "steps", "patience", "estimate": static */
    char *checkpoint;    /**< folder kept for --resume, or NULL; ws_free */
    bool unchanged;      /**< resumed, and the output was there already */
    ws_usage usage;
    ws_result *run; /**< outputs, manifest, usage; NULL for an estimate */
    char **trained; /**< (n_trained) names of tensors that were trained */
    size_t n_trained;
} ws_tune_result;

/**
 * Fine-tune, and write the model or adapter: whole, or not at all.
 *
 * The bytes follow from the request alone, whatever the threads, the memory, and how
 * often the run was interrupted and resumed.
 * @return WS_OK; WS_E_USAGE a pattern that hits nothing, options that exclude each
 *         other; WS_E_MEMORY the limit cannot hold it, before the first step;
 *         WS_E_NOT_FINITE a loss or gradient is not finite (step and tensor named);
 *         WS_E_INTERRUPTED stopped, out->checkpoint says where it can go on;
 *         WS_E_EXISTS, WS_E_LOCKED, WS_E_IO; as ws_model_open(), ws_tokenizer_open(),
 *         ws_data_open(), ws_adapter_open(), ws_plan_run()
 */
WS_API ws_status ws_tune_run(ws_tune_result **out, const ws_tune_req *req,
                             const ws_ctx *ctx, ws_err *err);
WS_API void ws_tune_result_free(ws_tune_result *r);

#ifdef __cplusplus
}
#endif

#endif
