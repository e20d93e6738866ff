/*
 * lora.h - adapters folded into weights, verified, combined, converted, taken from
 * fine-tunes
 */
#ifndef WSURG_LORA_H
#define WSURG_LORA_H

#include <math.h>

#include "wsurg/adapter.h"
#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What one tensor of a fold is. */
typedef struct ws_lora_tensor {
    const char *name;
    bool folded, replaced;
    double update; /**< Frobenius norm of what was added; NAN if only replaced */
    double lost;   /**< norm of the rounding error over .update; NAN without one */
} ws_lora_tensor;

/** One adapter of a fold. */
typedef struct ws_lora_adapter {
    const char *path;
    int64_t rank; /**< largest of its modules; 0: it has none */
    double scale; /**< s of its modules; NAN where they differ */
    size_t tensors, used;
} ws_lora_adapter;

/** What to fold. Strings are borrowed. */
typedef struct ws_lora_fold_req {
    const char *base;
    const char *const *adapters; /**< (n) directories */
    size_t n;
    double scale;    /**< of all updates */
    bool residual;   /**< the base is what the adapters were trained on, whatever their
                        initialisation */
    double max_lost; /**< refuse when a tensor loses a larger share of its update to
                        rounding; NAN: no limit */
    ws_write_opts write;
} ws_lora_fold_req;

#define WS_LORA_FOLD_REQ_INIT                                                          \
    {                                                                                  \
        .scale = 1.0, .max_lost = NAN, .write = WS_WRITE_OPTS_INIT                     \
    }

typedef struct ws_lora_folded {
    ws_result *run; /**< NULL when the gate has closed: .within is false */
    bool within;    /**< no tensor lost more than .max_lost */
    ws_lora_adapter *adapters;
    size_t n_adapters;
    ws_lora_tensor *tensors; /**< (n_tensors) those that were folded or replaced, in
                                file order */
    size_t n_tensors;
    size_t folded, replaced, copied;
    double lost; /**< norm of all rounding errors over that of all updates; NAN */
    bool untied;
    const char *tokenizer_from; /**< an adapter's directory; or NULL */
    ws_arena arena;
} ws_lora_folded;

/**
 * Fold adapters into their base: one model. Tensor by tensor under the memory budget;
 * sums in double, one rounding.
 * @return WS_OK, also when the gate has closed (nothing is written then); as
 *         ws_adapter_source() and ws_plan_run()
 */
WS_API ws_status ws_lora_fold(ws_lora_folded **out, const ws_lora_fold_req *req,
                              const ws_ctx *ctx, ws_err *err);
WS_API void ws_lora_folded_free(ws_lora_folded *f);

/** How one tensor of a model differs from the fold. */
typedef struct ws_lora_error {
    const char *name;
    double ulps; /**< largest error, in units of the last place of its dtype; infinity
                    where one side is NaN or infinite */
} ws_lora_error;

typedef struct ws_lora_verified {
    bool same_names;     /**< same names and shapes */
    const char *problem; /**< the first name that is missing, extra or of another shape;
                            or NULL */
    size_t tensors, exact; /**< compared; of them, equal bit for bit */
    double ulps;           /**< largest error */
    ws_lora_error *worst;  /**< (n_worst) largest first, at most 10 */
    size_t n_worst;
    ws_arena arena;
} ws_lora_verified;

/** Compare the model at @p merged with the fold of @p adapters onto @p base. */
WS_API ws_status ws_lora_verify(ws_lora_verified **out, const char *base,
                                const char *const *adapters, size_t n, double scale,
                                bool residual, const char *merged, const ws_ctx *ctx,
                                ws_err *err);
WS_API void ws_lora_verified_free(ws_lora_verified *v);

/** How `lora combine` merges updates. */
typedef enum ws_lora_method {
    WS_LORA_LINEAR, /**< sum of weight times update */
    WS_LORA_TIES,   /**< the others in aligned coordinates (KnOTS) */
    WS_LORA_DARE,
    WS_LORA_BREADCRUMBS,
} ws_lora_method;

/** What to combine. Strings are borrowed. */
typedef struct ws_lora_combine_req {
    const char *const *adapters; /**< (n) directories */
    size_t n;
    const double *weights; /**< (n); NULL: all 1 */
    int64_t rank;          /**< cut to this rank; 0: as it comes */
    ws_lora_method method;
    double density, gamma; /**< of the method; NAN: its default */
    uint64_t seed;         /**< of dare */
    bool peft_linear; /**< factors are summed instead of updates, as PEFT's "linear"
                         does: cross terms and all, for parity */
    const char
        *initial;   /**< `lora convert`: the adapter as it was initialised, which is
                            subtracted; one adapter then, and no other option */
    ws_dtype dtype; /**< of the factors written */
    ws_adapter_target target;
} ws_lora_combine_req;

/** One module of a combination. */
typedef struct ws_lora_module {
    const char *name;
    int64_t rank;
    double norm;     /**< of the update; NAN where it was not computed */
    double error;    /**< share of the norm that the cut leaves out; 0: none */
    double rounding; /**< share of the norm that rounding the factors to their dtype
                        changes; the two together bound the whole error */
} ws_lora_module;

typedef struct ws_lora_combined {
    ws_manifest *files;
    ws_lora_module *modules; /**< (n_modules) by name */
    size_t n_modules;
    int64_t rank;    /**< largest */
    double error;    /**< left out of all modules over the norm of all; NAN unknown */
    double rounding; /**< likewise */
    ws_arena arena;
} ws_lora_combined;

/**
 * Combine adapters into one of their updates' sum (or of what a method makes of them).
 * @return WS_OK; WS_E_UNSUPPORTED DoRA, biases or rows, which do not add, or whole
 *         tensors in more than one adapter; WS_E_SHAPE modules that differ;
 *         WS_E_ANCESTRY adapters of different residuals; as ws_adapter_write()
 */
WS_API ws_status ws_lora_combine(ws_lora_combined **out, const ws_lora_combine_req *req,
                                 const ws_ctx *ctx, ws_err *err);
WS_API void ws_lora_combined_free(ws_lora_combined *c);

/** Which directions of a tuned matrix count as intruders: of the first .top left
 * singular vectors those whose cosine with every one of the base's is below .below.
 * Source: Shuttleworth et al. 2024, arXiv:2410.21228. */
typedef struct ws_intruder_opts {
    int64_t top;
    double below;
} ws_intruder_opts;

#define WS_INTRUDER_OPTS_INIT                                                          \
    {                                                                                  \
        .top = 10, .below = 0.5                                                        \
    }

/** One of the leading directions of a tuned matrix. */
typedef struct ws_lora_direction {
    double s;      /**< singular value of the tuned matrix */
    double cosine; /**< largest magnitude with a left singular vector of the base */
    bool intruder;
} ws_lora_direction;

/** A module of an adapter as it was found. */
typedef struct ws_lora_layer {
    const char *name;
    bool embedding;
    int64_t rank, in, out;
    double alpha, scale;
    double norm, largest;   /**< of s B A: Frobenius, and largest singular value */
    double base_norm;       /**< of what it is put on; NAN without a base */
    ws_lora_direction *top; /**< (n_top) descending; none without a base, and for
                                 embeddings and convolutions */
    size_t n_top, intruders;
} ws_lora_layer;

/** What to look at. Strings are borrowed. */
typedef struct ws_lora_look_req {
    const char *adapter;
    const char *base; /**< for intruders; or NULL */
    bool residual;    /**< the base is what the adapter was trained on, whatever its
                         initialisation */
    ws_intruder_opts intruders;
} ws_lora_look_req;

typedef struct ws_lora_look {
    const ws_adapter *adapter; /**< its configuration and what else it holds */
    ws_ckpt *source;           /**< base and adapter; NULL without a base */
    ws_adapter *own;           /**< .adapter, then */
    ws_lora_layer *layers;     /**< (n_layers) by name */
    size_t n_layers, intruders;
    ws_arena arena;
} ws_lora_look;

/**
 * Norms of an adapter's updates, and with a base their intruder dimensions. With DoRA
 * norm and largest are those of s B A, the directions those of the tuned matrix.
 * @return WS_OK; WS_E_MEMORY a matrix does not fit the limit; as ws_adapter_open(),
 *         ws_adapter_source() and ws_eig_range()
 */
WS_API ws_status ws_lora_look_at(ws_lora_look **out, const ws_lora_look_req *req,
                                 const ws_ctx *ctx, ws_err *err);
WS_API void ws_lora_look_free(ws_lora_look *l);

/** What to soften. Strings are borrowed. */
typedef struct ws_lora_soften_req {
    const char *base, *adapter;
    bool residual;
    ws_intruder_opts intruders;
    double lambda; /**< intruders' singular values are multiplied by it: 1 keeps them, 0
                      removes them */
    ws_dtype dtype; /**< of the factors written */
    ws_adapter_target target;
} ws_lora_soften_req;

/** A module that was softened. */
typedef struct ws_lora_softening {
    const char *name;
    int64_t rank;
    size_t intruders;
    double before, after; /**< norms of the update */
    double error;         /**< share of .after that the cut to the rank leaves out */
} ws_lora_softening;

typedef struct ws_lora_softened {
    ws_manifest *files;
    size_t modules, intruders;  /**< of the adapter, in all */
    ws_lora_softening *changed; /**< (n_changed) by name */
    size_t n_changed;
    ws_arena arena;
} ws_lora_softened;

/**
 * Scale intruder dimensions of an adapter down.
 *
 *     V' = V + (lambda - 1) sum_k s_k u_k v_k^T      k the intruders of V = W + s B A
 *
 * and V' - W, cut to the module's rank, is the new update. Modules without intruders,
 * embeddings and tensors that replace the base's are kept as they are.
 * @return WS_OK; WS_E_UNSUPPORTED DoRA, biases of B, trained rows, convolutions; as
 *         ws_lora_look_at() and ws_adapter_write()
 */
WS_API ws_status ws_lora_soften(ws_lora_softened **out, const ws_lora_soften_req *req,
                                const ws_ctx *ctx, ws_err *err);
WS_API void ws_lora_softened_free(ws_lora_softened *s);

#ifdef __cplusplus
}
#endif

#endif
