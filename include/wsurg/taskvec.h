/*
 * taskvec.h - task vectors: what a fine-tune changed, as a file of its own
 *
 * A task vector is a safetensors file with `wsurg.kind` = `taskvec`. The names of its
 * tensors begin with `taskvec.`, so that none passes for a model. For each tensor of
 * the fine-tuned model it holds the update (model - base, in float32, or float64 where
 * either is F64), dense or sparse, whichever is smaller, and, for the entries that base
 * + update does not reproduce (NaN payloads, rounding, -0, overflow), their exact bits.
 * Unsparsified, it restores the model bit for bit. src/hf/taskvec_format.h describes
 * the bytes.
 */
#ifndef WSURG_TASKVEC_H
#define WSURG_TASKVEC_H

#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What is stored of a model, counted in tensors. */
typedef struct ws_taskvec_counts {
    size_t dense, bitmap, index; /**< updates, by their encoding */
    size_t same;                 /**< nothing: the base has them */
    size_t whole;   /**< as they are: not in the base, another shape, no arithmetic */
    size_t removed; /**< of the base, not in the model */
    uint64_t elements, nonzero; /**< of the updates */
    uint64_t exact;             /**< entries with bits of their own */
} ws_taskvec_counts;

/** What to extract. Strings are borrowed. */
typedef struct ws_taskvec_extract_req {
    const char *base, *model; /**< paths */
    const char *method;       /**< merge method that sparsifies; NULL: none, exact */
    const char *const *sets;  /**< (n_sets) its parameters, "K=V" */
    size_t n_sets;
    uint64_t seed;
    ws_write_opts write; /**< .out is a safetensors file or "-"; its dtype, shards and
                            companions are not looked at */
} ws_taskvec_extract_req;

#define WS_TASKVEC_EXTRACT_REQ_INIT                                                    \
    {                                                                                  \
        .write = WS_WRITE_OPTS_INIT                                                    \
    }

/** What to apply. */
typedef struct ws_taskvec_apply_req {
    const char *base;
    const char *const *vectors; /**< (n) paths, 1 to 64 */
    size_t n;
    double scale;    /**< of the sum of the updates */
    bool force_base; /**< apply also to another base than the vectors were made from */
    ws_write_opts write;
} ws_taskvec_apply_req;

#define WS_TASKVEC_APPLY_REQ_INIT                                                      \
    {                                                                                  \
        .scale = 1.0, .write = WS_WRITE_OPTS_INIT                                      \
    }

/** What to combine. */
typedef struct ws_taskvec_combine_req {
    const char *const *vectors; /**< (n) paths, 1 to 64 */
    size_t n;
    const double *weights; /**< (n); NULL: all 1 */
    ws_write_opts write;   /**< as in ws_taskvec_extract_req */
} ws_taskvec_combine_req;

#define WS_TASKVEC_COMBINE_REQ_INIT                                                    \
    {                                                                                  \
        .write = WS_WRITE_OPTS_INIT                                                    \
    }

/** What was done. */
typedef struct ws_taskvec_result {
    ws_result *run;           /**< outputs, manifest, usage */
    ws_taskvec_counts counts; /**< of the vector written; of apply: zero */
    bool exact;               /**< the vector, or the model restored, is bit for bit */
    size_t updated, kept, whole, removed; /**< of apply: tensors of the output */
} ws_taskvec_result;

WS_API void ws_taskvec_result_free(ws_taskvec_result *r);

/**
 * Write what @p req->model changed of @p req->base.
 *
 * With a method, the updates are what that method makes of one model at weight 1 and
 * lambda 1, in float32; they restore nothing exactly. A file of dense updates is then
 * staged beside the output, 4 bytes an element.
 * @return WS_OK; WS_E_USAGE an input is no model, the output no safetensors file, or
 * the method does not take one model on a base; and as ws_plan_new(), ws_plan_run()
 */
WS_API ws_status ws_taskvec_extract(ws_taskvec_result **out,
                                    const ws_taskvec_extract_req *req,
                                    const ws_ctx *ctx, ws_err *err);

/**
 * Write base + scale * (sum of updates).
 *
 * One exact vector at scale 1 restores its model bit for bit; without provenance and in
 * one file, the file too. Otherwise the sum is rounded once to the dtype of the
 * vectors' model. Tensors that a vector holds whole replace the base's at any scale.
 * @return WS_OK; WS_E_ANCESTRY a vector was made from another base; WS_E_SHAPE,
 *         WS_E_DTYPE, WS_E_MISSING base and vectors do not fit; and as ws_plan_run()
 */
WS_API ws_status ws_taskvec_apply(ws_taskvec_result **out,
                                  const ws_taskvec_apply_req *req, const ws_ctx *ctx,
                                  ws_err *err);

/**
 * Write sum of weight * vector as a task vector, in float32 or float64. It is not
 * exact: bits of their own get lost.
 * @return as ws_taskvec_apply(); WS_E_ANCESTRY they were made from different bases
 */
WS_API ws_status ws_taskvec_combine(ws_taskvec_result **out,
                                    const ws_taskvec_combine_req *req,
                                    const ws_ctx *ctx, ws_err *err);

enum { WS_TASKVEC_LEADING = 8 };

/** Figures of one tensor of one vector. */
typedef struct ws_taskvec_tensor_stats {
    const char *name;
    const char *stored; /**< "dense", "bitmap", "index", "same", "whole": static */
    uint64_t elements, nonzero, exact;
    double norm, max_abs;
    int64_t rows, cols;                /**< of the matrix decomposed; 0: none was */
    size_t n_values;                   /**< of .values */
    double values[WS_TASKVEC_LEADING]; /**< leading singular values */
    double
        effective_rank; /**< exp of the entropy of the singular values' shares; NAN */
    int64_t rank_90;    /**< least rank that holds 90 % of the squared norm */
} ws_taskvec_tensor_stats;

/** Figures of one vector. */
typedef struct ws_taskvec_vector_stats {
    const char *path, *label;
    const char *base;       /**< digest of the base */
    const char *sparsified; /**< method and parameters, or NULL */
    bool exact;
    ws_taskvec_counts counts;
    double norm;
    ws_taskvec_tensor_stats *tensors; /**< (n_tensors) in the model's file order */
    size_t n_tensors;
} ws_taskvec_vector_stats;

typedef struct ws_taskvec_stats {
    ws_taskvec_vector_stats *vectors; /**< (n) */
    size_t n;
    double *cosines; /**< (n, n) between updates over the tensors that both update; NAN
                        where one is zero */
    struct ws_taskvec_stats_priv *priv;
} ws_taskvec_stats;

/**
 * Figures of @p n task vectors.
 * @param spectrum  also decompose every update of two or more dimensions, as a matrix
 * of its leading dimension
 * @return WS_OK; WS_E_MEMORY a matrix does not fit; WS_E_NOT_FINITE it holds NaN or
 *         infinity; and as reading them
 */
WS_API ws_status ws_taskvec_stats_new(ws_taskvec_stats **out, const char *const *paths,
                                      size_t n, bool spectrum, const ws_ctx *ctx,
                                      ws_err *err);
WS_API void ws_taskvec_stats_free(ws_taskvec_stats *s);

#ifdef __cplusplus
}
#endif

#endif
