/*
 * merge.h - from a request through a plan to a merged checkpoint
 *
 *     request (strings, as typed) --ws_plan_new--> plan (plain data, headers alone)
 * --ws_plan_run--> checkpoint
 *
 * All mistakes of a request are found by ws_plan_new(), together, before any weight is
 * read.
 */
#ifndef WSURG_MERGE_H
#define WSURG_MERGE_H

#include "wsurg/ckpt.h"
#include "wsurg/method.h"
#include "wsurg/recipe.h"
#include "wsurg/vocab.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ws_on_missing {
    WS_MISSING_ERROR,
    WS_MISSING_BASE,
    WS_MISSING_SKIP
} ws_on_missing;
typedef enum ws_overflow { WS_OVERFLOW_ERROR, WS_OVERFLOW_SATURATE } ws_overflow;

/** How an output is written; shared by every command that writes a model. */
typedef struct ws_write_opts {
    const char *out; /**< target path; file or directory by its ending (CLI.md).
                        Required to run */
    bool force,
        resume;      /**< replace what is there; finish staged work of the same key */
    bool provenance; /**< write wsurg.* metadata */
    bool card;       /**< with provenance, of a directory: README.md with the recipe */
    const char *manifest; /**< NULL: beside the output; "none"; else a path */
    bool dtype_keep;      /**< keep: the base's (first model's without a base) */
    ws_dtype dtype;       /**< unless dtype_keep */
    ws_overflow overflow;
    bool allow_nonfinite;
    bool keep_metadata;   /**< copy the foreign metadata of the base */
    bool shard_like_base; /**< else shard_size */
    uint64_t shard_size;  /**< bytes */
    const char
        *companions_from; /**< directory for config and tokenizer; NULL: the base */
    unsigned part, parts; /**< I/N; parts 0: all */
} ws_write_opts;

#define WS_WRITE_OPTS_INIT                                                             \
    {                                                                                  \
        .provenance = true, .dtype_keep = true, .shard_like_base = true                \
    }

/** What to merge, as typed. Strings are borrowed until the plan is freed. */
typedef struct ws_merge_req {
    const char *base;          /**< path; NULL: none named */
    const char *const *models; /**< (n_models) paths, in order */
    size_t n_models;
    const char *method;      /**< name */
    const char *const *sets; /**< (n_sets) "K=V[,V...]" or "K.LABEL=V" */
    size_t n_sets;
    const char *lines;        /**< "A,B", either may be auto; NULL: off */
    const char *coefficients; /**< file of learned coefficients; NULL: off */
    ws_on_missing on_missing;
    ws_vocab_policy vocab; /**< unless the recipe says one */
    uint64_t seed;
    const ws_recipe_doc *recipe; /**< says base, models, method and parameters, and,
                                    where it does, lines, seed and dtype; NULL: off */
    ws_write_opts write;
} ws_merge_req;

#define WS_MERGE_REQ_INIT                                                              \
    {                                                                                  \
        .write = WS_WRITE_OPTS_INIT                                                    \
    }

typedef enum ws_origin {
    WS_FROM_DEFAULT,
    WS_FROM_COMMAND_LINE,
    WS_FROM_RECIPE,
    WS_FROM_COEFFICIENTS
} ws_origin;

/** The value of one parameter: one, or one per model. In a recipe it may differ from
 * tensor to tensor. */
typedef struct ws_value {
    const ws_param *param;
    size_t n;                /**< 1, or the number of models */
    const double *v;         /**< (n) */
    const ws_origin *origin; /**< (n) */
    const double *hi;        /**< (n) of a recipe's plan: the largest of all tensors,
                                where .v is the smallest; NULL: as .v */
    const uint32_t *line;    /**< (n) in the recipe, 0: not there; NULL: no recipe */
} ws_value;

typedef enum ws_action {
    WS_ACT_MERGE, /**< the method's kernels */
    WS_ACT_COPY,  /**< bytes of one source: no arithmetic dtype, or only one source has
                     it */
} ws_action;

/** One output tensor. */
typedef struct ws_plan_tensor {
    ws_tensor t; /**< name, dtype and shape as written; file and offset in the output */
    ws_action action;
    int copy_from;         /**< index into plan->inputs for WS_ACT_COPY */
    const ws_tensor *base; /**< NULL if none */
    const ws_tensor *const
        *in;    /**< (n_models); NULL where a model lacks it and --on-missing lets it */
    ws_job job; /**< resolved for the models that have the tensor */
    const uint32_t *
        model_of; /**< (job.n_models) index of each job input among the plan's models */
    const ws_value *values; /**< (n_values) of this tensor; NULL: those of the plan */
    size_t n_values;
    int rule;     /**< index of the rule that fits it, -1: none */
    int layer;    /**< block number, -1 outside the blocks */
    double depth; /**< t in a recipe: place in its slice, 0..1; 0 outside the blocks */
    bool f64;     /**< kernels compute in double: some input is F64 */
} ws_plan_tensor;

/** One output file. */
typedef struct ws_plan_file {
    const char *name; /**< without folder */
    uint64_t bytes;
    size_t first, n; /**< its tensors: plan->tensors[first .. first+n-1] */
    const uint8_t *header;
    uint64_t header_len; /**< length word and padding included */
} ws_plan_file;

/** One input model. */
typedef struct ws_plan_input {
    ws_ckpt *ckpt;
    const char *label; /**< unique among the inputs */
    const char *path;  /**< as typed */
} ws_plan_input;

typedef struct ws_cost {
    uint64_t read, write;  /**< bytes */
    uint64_t memory;       /**< predicted peak under the limit */
    uint64_t memory_floor; /**< least limit with which it runs */
    uint64_t disk, disk_free;
} ws_cost;

/** What a rule of a recipe does with the tensors that it fits. */
typedef enum ws_rule_action {
    WS_RULE_MERGE,
    WS_RULE_COPY,
    WS_RULE_DROP
} ws_rule_action;

typedef struct ws_plan_rule {
    const char *pattern; /**< as written */
    unsigned line;       /**< in the recipe */
    ws_rule_action action;
    const ws_method *method; /**< of WS_RULE_MERGE */
    const char *from;        /**< of WS_RULE_COPY: the model as written, or "base" */
    size_t n_tensors;        /**< that it was the first to fit */
} ws_plan_rule;

typedef struct ws_plan ws_plan;

/** A merge of a recipe that another one takes as a model: made while that one reads it,
 * never written. */
typedef struct ws_plan_stage {
    const char *name; /**< the document's */
    const ws_plan *plan;
} ws_plan_stage;

/** A plan: plain data made from headers alone. Read it; do not change it. */
struct ws_plan {
    const ws_merge_req *req;
    const ws_method *method;
    ws_plan_input *inputs; /**< base first when there is one, then the models */
    size_t n_inputs;
    bool has_base, base_implied;
    size_t n_models;             /**< inputs beside the base */
    const char *recipe;          /**< the recipe's name; NULL without one */
    const ws_plan_stage *stages; /**< (n_stages) what one needs comes before it */
    size_t n_stages;
    const ws_plan_rule *rules; /**< (n_rules) of the recipe */
    size_t n_rules;
    const ws_value *values; /**< of the method's parameters, in its order */
    size_t n_values;
    ws_plan_tensor *tensors; /**< in file order */
    size_t n_tensors;
    size_t n_copied;      /**< of them, those with WS_ACT_COPY */
    const char **dropped; /**< names left out by --on-missing skip */
    size_t n_dropped;
    ws_plan_file *files;
    size_t n_files;
    size_t first_out; /**< of files: the first that this run writes (--part) */
    size_t n_out;     /**< how many it writes; n_files without --part */
    bool out_is_dir;
    const char *out;      /**< target path, the default included */
    const char *part_out; /**< what this run writes: out, with --part OUT.part-I-of-N */
    char key[33]; /**< XXH3-128 of the plan and the identity of its inputs, in hex:
                        journal key */
    ws_cost cost;
    bool has_lines;
    double lines_alpha, lines_beta; /**< NAN while auto is not computed yet */
    bool lines_alpha_auto, lines_beta_auto;
    int n_layers;                /**< blocks found */
    const ws_vocab_facts *vocab; /**< NULL when vocabularies are left as they are */
    struct ws_plan_priv *priv;
};

/**
 * Resolve @p req into a plan. Reads headers only.
 * @return WS_OK, or the worst status; every mistake found is in @p errors
 */
WS_API ws_status ws_plan_new(ws_plan **out, const ws_merge_req *req, const ws_ctx *ctx,
                             ws_diag *errors);
WS_API void ws_plan_free(ws_plan *plan);

/** The recipe that says what @p plan, which was made without one, says; added to @p b.
 * @return WS_OK; WS_E_MEMORY */
WS_API ws_status ws_recipe_of_plan(const ws_plan *plan, ws_buf *b, ws_err *err);

/**
 * Digest of the plan and of the contents of its inputs, for caches: "xxh3-128:...".
 * Reads all input bytes, or, with
 * @p trust_manifests, takes digests recorded in the inputs' metadata where there are
 * some.
 */
WS_API ws_status ws_plan_content_key(const ws_plan *plan, bool trust_manifests,
                                     const ws_ctx *ctx, char out[48], ws_err *err);

/** Figures of one model after a run; shares in 0..1, NAN where they do not apply. */
typedef struct ws_model_stats {
    double relative_norm; /**< norm of the update over the norm of the base */
    double kept, norm_kept, dropped_small, dropped_large, dropped_random;
} ws_model_stats;

typedef struct ws_out_file {
    const char *path; /**< as typed, with the file's name */
    uint64_t bytes;
    char sha256[65], xxh3[33]; /**< hex; empty when no manifest was made */
} ws_out_file;

/** What a run did. */
typedef struct ws_result {
    bool unchanged; /**< --resume found the very result in place */
    size_t merged, copied, dropped;
    ws_out_file *outputs;
    size_t n_outputs;
    const char *manifest;   /**< path, or NULL */
    ws_model_stats *models; /**< (plan->n_models) */
    double *cosines; /**< (n_models * n_models) between updates, row-major; NULL without
                        a base */
    double *base_cosines; /**< (n_models) largest cosine to the updates if that model
                             were the base; or NULL */
    double rounding_lost; /**< share of the update's norm lost to rounding into the
                             output dtype; NAN if none */
    double lines_alpha, lines_beta;
    size_t lines_outside; /**< tensors outside the blocks */
    uint64_t overflowed;  /**< values saturated */
    ws_usage usage;
    struct ws_result_priv *priv;
} ws_result;

/**
 * Run @p plan: stream, write beside the target, check, rename. On any failure nothing
 * visible is left behind, but for WS_E_INTERRUPTED, after which a staged folder can be
 * resumed.
 * @return WS_OK; WS_E_IO, WS_E_NOT_FINITE, WS_E_MEMORY, WS_E_DISK, WS_E_EXISTS,
 * WS_E_LOCKED, WS_E_INTERRUPTED
 */
WS_API ws_status ws_plan_run(ws_plan *plan, const ws_ctx *ctx, ws_result **out,
                             ws_err *err);
WS_API void ws_result_free(ws_result *r);

/** Complete a merge made of parts: check that all are there, write index and manifest,
 * rename. */
WS_API ws_status ws_plan_join(ws_plan *plan, const ws_ctx *ctx, ws_result **out,
                              ws_err *err);

#ifdef __cplusplus
}
#endif

#endif
