/*
 * tune.h - a fine-tuning run at work: what its files share
 *
 *   tune_open.c    request to model, tokenizer, data; sizes and steps
 *   tune_parts.c   what is trained: slots of the optimiser, wants of the model
 *   tune_lora.c    low-rank factors, new or read from an adapter
 *   tune_loop.c    steps, validation, when to stop
 *   tune_pairs.c   preference pairs
 *   tune_state.c   checkpoints: written, found, read
 *   tune_write.c   the output
 *   tune_log.c     lines of JSON
 */
#ifndef WS_TRAIN_TUNE_H
#define WS_TRAIN_TUNE_H

#include "model/train_step.h"
#include "train/optim.h"
#include "train/pairs.h"
#include "wsurg/adapter.h"
#include "wsurg/data.h"
#include "wsurg/text.h"

/** Low-rank factors beside one part. */
typedef struct ws_tune_factors {
    size_t part;
    const char *path;              /**< module, as transformers names it */
    const ws_adapter_module *from; /**< that is gone on from, or NULL */
    int64_t rank, in, out;
    double alpha, scale;
    float *A, *B, *gain;
    ws_overlay over;
} ws_tune_factors;

typedef struct ws_tune {
    const ws_tune_req *req;
    const ws_ctx *ctx;
    ws_arena arena;
    ws_ctx roomy; /**< ctx, with the memory limit of commands that run models */
    ws_model *model;
    ws_dtype dtype; /**< that a new model is written in */
    ws_tokenizer *tokenizer;
    ws_data *data, *val;
    ws_data_source *sources; /**< (req->n_data) */
    bool pairs;
    ws_adapter *adapter; /**< that is gone on from */
    ws_pool *pool;       /**< the step's */

    ws_want *want;            /**< (parts) */
    ws_tune_factors *factors; /**< (n_factors) */
    size_t n_factors;
    ws_slot_f32 *slots; /**< (n_slots) in the order of the parts */
    size_t n_slots;
    float *numbers; /**< gradients, moments, factors */
    uint64_t n_numbers, n_trained;
    uint8_t *masks; /**< bytes, and factors of soft masks */
    uint64_t mask_bytes;
    float *grads; /**< (n_trained) the first of the numbers */

    ws_step *step;
    ws_optim *optim;
    ws_batch *micro;   /**< (accumulate) */
    double *logp, *up; /**< (rows) */
    ws_schedule schedule;
    ws_pairs reference; /**< preference pairs under the starting model */

    char *recipe, *inputs; /**< for provenance; ws_free */
    char key[33];          /**< of everything that decides the bytes */
    char content[48];      /**< of the model */
    bool exists;           /**< something lies at the target */
    bool unchanged;        /**< what this request makes */
    char *folder;          /**< of checkpoints: beside the target, ".NAME.tune" */
    int lock;              /**< its lock file, or -1 */
    int log;               /**< or -1 */

    /* what a checkpoint keeps */
    int64_t done; /**< steps */
    uint64_t tokens;
    double loss_first, loss_last;
    int64_t best_step; /**< -1: none */
    double best_loss;
    int64_t worse; /**< validations since the best */

    double started, lost; /**< seconds: first step of this run; validation and saving */
    uint64_t tokens_here; /**< since started */
    uint64_t peak;        /**< largest RssAnon + RssShmem seen */
    double shown_at;
    const char *stopped;
    ws_tune_plan plan;
} ws_tune;

/* ---- tune_open.c ---- */

/** Model, tokenizer, data, number of steps, recipe and key. */
ws_status ws_tune_open(ws_tune *t, ws_err *err);
void ws_tune_close(ws_tune *t);

/** ".NAME.tune" beside the output NAME at @p out; ws_free; NULL without memory. */
char *ws_tune_folder(const char *out);

/** Add an input to provenance, with the XXH3-128 of the file at @p path. */
ws_status ws_tune_input_file(ws_buf *b, const char *role, const char *label,
                             const char *path, ws_err *err);

/* ---- tune_parts.c ---- */

/** Choose what is trained, with memory for gradients and moments; then the step, within
 * the memory limit. */
ws_status ws_tune_parts(ws_tune *t, ws_err *err);

/* ---- tune_lora.c ---- */

/** The part that module @p path of an adapter stands for, with or without the family's
 * prefix; -1: none. */
int64_t ws_tune_part_of(const ws_model *m, const char *path);

/** The linears that get factors, without memory for them yet. */
ws_status ws_tune_factors_choose(ws_tune *t, ws_err *err);

/** Their numbers: A uniform in +-1/sqrt(in), B zero, as PEFT starts; or the
 * adapter's. */
ws_status ws_tune_factors_fill(ws_tune *t, ws_err *err);

/* ---- tune_loop.c ---- */

ws_status ws_tune_loop(ws_tune *t, ws_err *err);

/** Keep the largest memory in use, for the report. */
void ws_tune_note_memory(ws_tune *t);

/** A batch of data as rows for a step; it borrows. */
ws_step_batch ws_tune_rows(const ws_batch *b);

/* ---- tune_pairs.c ---- */

/** Log-probabilities of all pairs that the run will meet, under the model as it is. */
ws_status ws_tune_pairs_reference(ws_tune *t, ws_err *err);

/* ---- tune_state.c ---- */

/** Settle where checkpoints go; with `resume` go on from the one that is there. */
ws_status ws_tune_state_open(ws_tune *t, ws_err *err);
ws_status ws_tune_state_save(ws_tune *t, ws_err *err);

/** Keep the parameters as the best so far; load them. */
ws_status ws_tune_best_save(ws_tune *t, ws_err *err);
ws_status ws_tune_best_load(ws_tune *t, ws_err *err);

/** Close; remove the folder of checkpoints unless @p keep. */
void ws_tune_state_close(ws_tune *t, bool keep);

/** Whether there is a checkpoint to go on from. */
bool ws_tune_state_kept(const ws_tune *t);

/* ---- tune_write.c ---- */

/** An adapter that was written, as of any other output: the weights that manifest @p m
 * of output @p w lists. WS_OK; WS_E_MEMORY. */
ws_status ws_tune_adapter_result(ws_result **out, const ws_manifest *m,
                                 const ws_write_opts *w, ws_err *err);

/** A directory, a file, or an adapter's directory. */
ws_status ws_tune_write(ws_tune *t, ws_result **out, ws_err *err);

/* ---- tune_log.c ---- */

ws_status ws_tune_log_open(ws_tune *t, ws_err *err);
ws_status ws_tune_log_step(ws_tune *t, const ws_tune_step *s, ws_err *err);

#endif
