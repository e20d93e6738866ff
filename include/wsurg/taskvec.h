/*
 * taskvec.h - task vectors: what a fine-tune changed, as a file of its own
 *
 * A task vector is a safetensors file with `wsurg.kind` = `taskvec`. The names of its
 * tensors begin with `taskvec.`, so that none passes for a model. For each tensor of the
 * fine-tuned model it holds the update (model - base, in float32, or float64 where
 * either is F64), dense or sparse, whichever is smaller, and, for the entries that base
 * + update does not reproduce (NaN payloads, rounding, -0, overflow), their exact bits.
 * Unsparsified, it restores the model bit for bit. src/hf/taskvec_format.h describes the
 * bytes.
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
    const char *method;       /**< merge method that sparsifies; NULL: exact */
    const char *const *sets;  /**< (n_sets) its parameters, "K=V" */
    size_t n_sets;
    uint64_t seed;
    ws_write_opts write;
} ws_taskvec_extract_req;

/** What to apply. */
typedef struct ws_taskvec_apply_req {
    const char *base;
    const char *const *vectors; /**< (n) paths */
    size_t n;
    double scale;    /**< of the sum of the updates */
    bool force_base; /**< apply also to another base than the vectors were made from */
    ws_write_opts write;
} ws_taskvec_apply_req;

/** What to combine. */
typedef struct ws_taskvec_combine_req {
    const char *const *vectors; /**< (n) paths */
    size_t n;
    const double *weights; /**< (n); NULL: all 1 */
    bool force_base;       /**< also when they were made from different bases */
    ws_write_opts write;
} ws_taskvec_combine_req;

#ifdef __cplusplus
}
#endif

#endif
