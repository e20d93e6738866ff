/*
 * adapter.h - PEFT adapters of the LoRA family: read, written, put on a base
 *
 * An adapter is a directory of `adapter_config.json` and `adapter_model.safetensors`.
 * Reading is strict: a field of the configuration that could change numbers is known
 * or refused by name, and every tensor has a use or is refused.
 *
 *     linear     W' = W + s B A                 B (out, r), A (r, in), W (out, in)
 *     Conv1D     W' = W + s (B A)^T             W (in, out): GPT-2's linears
 *     embedding  W' = W + s (B A)^T             A (r, vocab), B (dim, r)
 *     DoRA       W'[i,:] = m_i / ||V_i|| V_i    V = W + s B A; columns for an embedding
 *
 * s = alpha / r, or alpha / sqrt(r) with rsLoRA; both may differ from module to module
 * (rank_pattern, alpha_pattern). Source: PEFT's file format; Hu et al. 2021,
 * arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732; Liu et al. 2024,
 * arXiv:2402.09353.
 *
 * Metadata of the weights' file that wsurg writes and heeds, beside `wsurg.kind` =
 * "adapter":
 *     wsurg.base      content digest of the model that the adapter was trained on
 *     wsurg.residual  the same, where that model is a residual: the adapter holds a
 *                     part of the original, so it is refused on any other base
 */
#ifndef WSURG_ADAPTER_H
#define WSURG_ADAPTER_H

#include "wsurg/alloc.h"
#include "wsurg/ckpt.h"
#include "wsurg/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

/** File names in an adapter's directory. */
#define WS_ADAPTER_CONFIG  "adapter_config.json"
#define WS_ADAPTER_WEIGHTS "adapter_model.safetensors"

#define WS_META_BASE     "wsurg.base"
#define WS_META_RESIDUAL "wsurg.residual"

/** One module with factors. Tensors are borrowed from the adapter's file. */
typedef struct ws_adapter_module {
    const char *path;           /**< in the base model, without ".weight" */
    bool embedding;             /**< factors of an embedding: see above */
    int64_t r;                  /**< rank, as configured and as stored */
    int64_t in, out;            /**< of an embedding: vocab and dim */
    double alpha, scale;        /**< scale is the s of the formulas */
    const ws_tensor *a, *b;     /**< (r, in), (out, r); 1x1 and larger convolutions with
                                   their kernel's dimensions folded into in */
    const ws_tensor *b_bias;    /**< (out), added to the bias times s; or NULL */
    const ws_tensor *magnitude; /**< (out): DoRA; or NULL */
} ws_adapter_module;

/** A tensor that replaces one of the base: modules_to_save, biases, saved embeddings.
 */
typedef struct ws_adapter_whole {
    const char *name; /**< of the base's tensor */
    const ws_tensor *t;
    bool saved; /**< its module is among modules_to_save: the base may lack it */
} ws_adapter_whole;

/** Rows of an embedding that are replaced. */
typedef struct ws_adapter_rows {
    const char *path; /**< module */
    const ws_tensor *t;
    const int64_t *rows; /**< (n) */
    size_t n;
} ws_adapter_rows;

/** An open adapter: plain data. Read it; do not change it. */
typedef struct ws_adapter {
    const char *path, *label; /**< as typed; stem of the directory's name */
    ws_ckpt *file;            /**< the weights */
    int64_t r;                /**< of the configuration, without patterns */
    double alpha;
    bool rslora, dora;
    bool tying;           /**< ensure_weight_tying */
    const char *init;     /**< init_lora_weights as text: "true", "pissa", ... */
    bool changed_base;    /**< .init is one that changes the base: it was trained on a
                             residual (or a quantised base) */
    const char *base;     /**< base_model_name_or_path, or NULL */
    const char *content;  /**< wsurg.base: "xxh3-128:...", or NULL */
    const char *residual; /**< wsurg.residual, or NULL */
    const char *task;     /**< task_type, or NULL */
    ws_adapter_module *modules; /**< (n_modules) sorted by path */
    size_t n_modules;
    ws_adapter_whole *wholes; /**< (n_wholes) sorted by name */
    size_t n_wholes;
    ws_adapter_rows *rows; /**< (n_rows) */
    size_t n_rows;
    ws_arena arena; /**< of the names above */
} ws_adapter;

/** Whether @p path is a directory with an adapter's configuration in it. */
WS_API bool ws_adapter_is(const char *path);

/**
 * Open the adapter in the directory @p path.
 * @param warnings  two patterns that give one module different values, and the like
 * @return WS_OK; WS_E_IO; WS_E_MISSING no such file; WS_E_HEADER a file is not valid;
 *         WS_E_UNSUPPORTED a kind of adapter, a field or a tensor that is not read;
 *         WS_E_SHAPE factors that do not fit each other or the configured rank;
 *         WS_E_MEMORY
 */
WS_API ws_status ws_adapter_open(ws_adapter **out, const char *path, ws_diag *warnings,
                                 ws_err *err);
WS_API void ws_adapter_free(ws_adapter *a);

/** The module called @p path, or NULL. */
WS_API const ws_adapter_module *ws_adapter_find(const ws_adapter *a, const char *path);

/**
 * Read a factor (or any tensor) of the adapter as float.
 * @param dst  (t->n_elements)
 * @return WS_OK; WS_E_NOT_FINITE it holds NaN or infinity; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_adapter_read_f32(const ws_adapter *a, const ws_tensor *t,
                                     float *dst, ws_err *err);
/** As ws_adapter_read_f32(), as double. */
WS_API ws_status ws_adapter_read_f64(const ws_adapter *a, const ws_tensor *t,
                                     double *dst, ws_err *err);

/* ---- writing ---- */

/** A module to write: factors in memory, kept by the caller until written. */
typedef struct ws_adapter_factors {
    const char *path; /**< module path of the model as transformers builds it */
    bool embedding;
    int64_t r, in, out;     /**< as in ws_adapter_module */
    double alpha;           /**< numerator of s */
    const float *a, *b;     /**< (r, in), (out, r); embedding: (r, vocab), (dim, r) */
    const float *magnitude; /**< (out) with .dora; or NULL */
} ws_adapter_factors;

/** A tensor that replaces the base's: bytes in memory, or a tensor of a checkpoint. */
typedef struct ws_adapter_copy {
    const char *name; /**< in the base: "lm_head.weight" */
    const ws_ckpt *from;
    const ws_tensor *t; /**< of .from, or with bytes at .data */
    const void *data;   /**< when .from is NULL */
    bool bias;          /**< a bias, for `bias` of the configuration */
} ws_adapter_copy;

/** What to write. Strings and arrays are borrowed. */
typedef struct ws_adapter_spec {
    const ws_adapter_factors *modules; /**< (n_modules) */
    size_t n_modules;
    const ws_adapter_copy *copies; /**< (n_copies) */
    size_t n_copies;
    ws_dtype dtype; /**< of the factors as stored: WS_DT_F32 loses nothing */
    bool rslora, dora;
    bool fan_in_fan_out;  /**< the linears are Conv1D (GPT-2) */
    const char *base;     /**< for base_model_name_or_path; or NULL */
    const char *task;     /**< for task_type; NULL: CAUSAL_LM */
    const char *content;  /**< for wsurg.base, "xxh3-128:..."; or NULL */
    const char *residual; /**< for wsurg.residual; or NULL */
    const char *recipe;   /**< for wsurg.recipe: JSON; or NULL */
    const char *inputs;   /**< for wsurg.inputs: JSON; or NULL */
} ws_adapter_spec;

/** Where and how. */
typedef struct ws_adapter_target {
    const char *out; /**< directory */
    bool force;
    bool no_provenance;        /**< no wsurg.recipe, .inputs, .version, .content */
    const char *manifest;      /**< NULL: inside; "none"; else a path */
    const char *const *inputs; /**< (n_inputs) paths that the target must not touch */
    size_t n_inputs;
} ws_adapter_target;

/**
 * Write an adapter directory that PEFT loads: staged, synced, checked, renamed.
 *
 * The most frequent rank and alpha stand in `r` and `lora_alpha`, others in the
 * patterns, under whole module paths.
 * @param files  out, may be NULL: the manifest of what was written, to be freed
 * @return WS_OK; WS_E_SHAPE a module twice; WS_E_NOT_FINITE a factor holds NaN or
 *         infinity, or overflows .dtype; WS_E_EXISTS, WS_E_LOCKED, WS_E_IO,
 *         WS_E_INTERRUPTED as the other outputs; WS_E_MEMORY
 */
WS_API ws_status ws_adapter_write(const ws_adapter_spec *spec,
                                  const ws_adapter_target *target, const ws_ctx *ctx,
                                  ws_manifest **files, ws_err *err);

#ifdef __cplusplus
}
#endif

#endif
