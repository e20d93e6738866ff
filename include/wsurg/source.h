/*
 * source.h - MODEL as the command line means it, and adapters on a base as a
 * checkpoint like any other
 */
#ifndef WSURG_SOURCE_H
#define WSURG_SOURCE_H

#include "wsurg/adapter.h"
#include "wsurg/ckpt.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How the tensors that adapters change are shown. */
typedef enum ws_fold_dtype {
    WS_FOLD_BASE, /**< rounded once to the base's dtype: the model that a fold writes */
    WS_FOLD_F32,  /**< float (F64 bases: double), for arithmetic that goes on */
    WS_FOLD_F64,  /**< double, for one rounding to any dtype */
} ws_fold_dtype;

typedef struct ws_fold_opts {
    double scale; /**< multiplies every s; other than 1 it is not defined for DoRA */
    ws_fold_dtype dtype;
    bool residual; /**< the caller says that the base is what the adapters were trained
                      on, whatever their initialisation */
    bool measure;  /**< keep figures of updates and rounding: ws_source_figures() */
    ws_dtype out;  /**< with .measure: the dtype of the output, where .out_set */
    bool out_set;
} ws_fold_opts;

#define WS_FOLD_OPTS_INIT                                                              \
    {                                                                                  \
        .scale = 1.0                                                                   \
    }

/**
 * A checkpoint of a base with adapters on it; updates add up in order.
 *
 * Sums of products are made in double from the stored factors, element by element in a
 * fixed order, so that any cut of a read and any CPU gives the same bits. A tensor that
 * replaces the base's is taken before factors are put on it. A head or an embedding of
 * a tied pair that is adapted alone comes out as a tensor of its own, and the
 * configuration says so. Files are the base's.
 *
 * An adapter that records a residual is compared with the contents of the base, which
 * are read for it.
 *
 * @param base      taken on success, freed with *out
 * @param adapters  (n) taken on success
 * @return WS_OK; WS_E_MISSING the base lacks what an adapter changes; WS_E_SHAPE;
 *         WS_E_DTYPE; WS_E_UNSUPPORTED DoRA beside another adapter on one module or
 *         scaled, an orientation that cannot be told; WS_E_ANCESTRY an adapter of a
 *         residual on another base, or without proof; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_adapter_source(ws_ckpt **out, ws_ckpt *base,
                                   ws_adapter *const *adapters, size_t n,
                                   const ws_fold_opts *o, const ws_ctx *ctx,
                                   ws_err *err);

/**
 * Open MODEL: what ws_ckpt_open() reads, `MODEL+ADAPTER` (repeatable), a directory
 * made by decompose (its residual with its adapter), or an adapter alone: its weights,
 * of kind WS_KIND_ADAPTER. An existing path wins over every other reading.
 * @return as ws_ckpt_open(), ws_adapter_open() and ws_adapter_source()
 */
WS_API ws_status ws_source_open(ws_ckpt **out, const char *path, ws_fold_dtype dtype,
                                const ws_ctx *ctx, ws_err *err);

/** Put @p adapters, "+PATH[+PATH...]", on @p base, which is taken, also on failure.
 * @return as ws_adapter_open() and ws_adapter_source() */
WS_API ws_status ws_source_adapt(ws_ckpt **out, ws_ckpt *base, const char *adapters,
                                 ws_fold_dtype dtype, const ws_ctx *ctx, ws_err *err);

/** Report that a checkpoint of another @p kind cannot stand for a model: WS_E_USAGE. */
WS_API ws_status ws_source_refuse_kind(ws_ckpt_kind kind, ws_err *err);

/** Whether the directory @p dir holds an adapter and no model. */
WS_API bool ws_source_is_adapter(const char *dir);

/** Whether @p c was made by ws_adapter_source(). */
WS_API bool ws_source_is_adapted(const ws_ckpt *c);

/** Most bytes that reading @p c with @p threads takes beside its tables; 0 for plain
 * checkpoints. */
WS_API uint64_t ws_source_memory(const ws_ckpt *c, int threads);

/** What an adapted tensor is, and its figures after all of it was read once. */
typedef struct ws_source_figures {
    bool folded;    /**< factors were put on it */
    bool replaced;  /**< it stands in place of the base's */
    ws_dtype dtype; /**< the base's: what a fold keeps */
    double update;  /**< Frobenius norm of what was added; NAN unless .measure, and when
                         not all of the tensor was read */
    double lost;    /**< norm of the rounding error over .update; NAN without one */
} ws_source_figures;

/** Figures of tensor @p t of an adapted checkpoint. */
WS_API ws_source_figures ws_source_figures_of(const ws_ckpt *c, const ws_tensor *t);

/** What folding did to the whole model. */
typedef struct ws_source_facts {
    bool untied;            /**< a tied pair comes out as two tensors */
    uint64_t vocab_size;    /**< new number of rows of the embedding; 0: the base's */
    const char *vocab_from; /**< the adapter's directory that brings it; or NULL */
} ws_source_facts;

WS_API ws_source_facts ws_source_facts_of(const ws_ckpt *c);

/** Adapter @p k of an adapted checkpoint, borrowed; NULL past the last, and of any
 * other checkpoint. */
WS_API const ws_adapter *ws_source_adapter(const ws_ckpt *c, size_t k);

/** The base of an adapted checkpoint, borrowed. */
WS_API const ws_ckpt *ws_source_base(const ws_ckpt *c);

/** Keep the figures as they are from now on. */
WS_API void ws_source_stop_measuring(ws_ckpt *c);

/** Tensors and factors of adapter @p k that found a use: all, or opening fails. */
WS_API size_t ws_source_used(const ws_ckpt *c, size_t k);

/** The tensor of @p base that module @p path with @p suffix (".weight", ".bias")
 * means: as it stands, or with the model's outer prefix added or taken away. NULL when
 * there is none. */
WS_API const ws_tensor *ws_module_tensor(const ws_ckpt *base, const char *path,
                                         const char *suffix);

/** The partner that stands in for @p name in a checkpoint with a tied head, or NULL. */
WS_API const ws_tensor *ws_tied_tensor(const ws_ckpt *base, const char *name);

/** Whether the linears of module @p path of @p base are stored (in, out): Conv1D.
 * @p known tells whether names or the configuration decide it. */
WS_API bool ws_module_is_conv1d(const ws_ckpt *base, const char *path, bool *known);

#ifdef __cplusplus
}
#endif

#endif
