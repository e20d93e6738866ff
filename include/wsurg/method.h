/*
 * method.h - what a merge method is: a descriptor, its parameters and its kernels
 *
 * A file in merges/ includes this header and libc, nothing else. It is compiled twice,
 * with ws_real as float and, for F64 tensors, as double (-DWS_METHOD_F64). The engine
 * has checked shapes, dtypes, model count and parameter ranges before a kernel runs, so
 * a kernel is only its mathematics: a pure function of the job, free of allocation and
 * of mutable globals, with the same bits for any cut into tiles.
 */
#ifndef WSURG_METHOD_H
#define WSURG_METHOD_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wsurg/err.h"
#include "wsurg/random.h"

#ifdef __cplusplus
extern "C" {
#endif

/* WS_TWIN(name) is the name's twin for the arithmetic that is compiled. */
#ifdef WS_METHOD_F64
typedef double ws_real;
#define WS_TWIN(name) name##_f64
#else
typedef float ws_real;
#define WS_TWIN(name) name##_f32
#endif

/** Opens a descriptor: WS_METHOD(ties) = { ... }; */
#define WS_METHOD(name)                                                                \
    extern const ws_method WS_TWIN(ws_method_##name);                                  \
    const ws_method WS_TWIN(ws_method_##name)

/* ---- parameters ------------------------------------------------------------------ */

typedef enum ws_param_kind {
    WS_PARAM_REAL,
    WS_PARAM_INTEGER,
    WS_PARAM_BOOLEAN,
    WS_PARAM_CHOICE
} ws_param_kind;

/** Index into a choice parameter's words. A struct, so that _Generic tells it from an
 * integer. */
typedef struct ws_choice {
    int index;
} ws_choice;

/** A default that does not exist: the recipe must give the value. */
#define WS_REQUIRED NAN

/**
 * One parameter. Its field in the options struct decides the kind: double, int64_t,
 * bool or ws_choice for one value, `const double *` for one value per model, an array
 * of (n_models). Defaults and bounds are in the field's unit; a choice's default is the
 * index of its word.
 */
typedef struct ws_param {
    const char *name;
    ws_param_kind kind;
    bool per_model;
    size_t offset;       /**< of the field in the options struct */
    double cli, recipe;  /**< default on the command line, and inside a recipe
                            (WS_REQUIRED: none) */
    double min, max;     /**< inclusive bounds */
    const char *choices; /**< "tensor|row", or NULL */
    const char *help;
} ws_param;

#define WS_PARAM_FIELD_KIND(T, f)                                                      \
    _Generic(((T *)0)->f,                                                              \
        double: WS_PARAM_REAL,                                                         \
        const double *: WS_PARAM_REAL,                                                 \
        int64_t: WS_PARAM_INTEGER,                                                     \
        bool: WS_PARAM_BOOLEAN,                                                        \
        ws_choice: WS_PARAM_CHOICE)
#define WS_PARAM_FIELD_EACH(T, f)                                                      \
    _Generic(((T *)0)->f, const double * : true, default : false)

/** A number: WS_PARAM(struct ties_opts, density, 0.2, 1.0, 0.0, 1.0, "share of entries
 * kept") */
#define WS_PARAM(T, f, cli_default, recipe_default, lo, hi, text)                      \
    {                                                                                  \
        .name = #f, .kind = WS_PARAM_FIELD_KIND(T, f),                                 \
        .per_model = WS_PARAM_FIELD_EACH(T, f), .offset = offsetof(T, f),              \
        .cli = (cli_default), .recipe = (recipe_default), .min = (lo), .max = (hi),    \
        .help = (text)                                                                 \
    }
#define WS_BOOL(T, f, cli_default, recipe_default, text)                               \
    WS_PARAM(T, f, cli_default, recipe_default, 0.0, 1.0, text)
#define WS_CHOICE(T, f, words, cli_default, recipe_default, text)                      \
    {                                                                                  \
        .name = #f, .kind = WS_PARAM_FIELD_KIND(T, f), .offset = offsetof(T, f),       \
        .cli = (cli_default), .recipe = (recipe_default), .min = 0.0, .max = 64.0,     \
        .choices = (words), .help = (text)                                             \
    }
#define WS_PARAM_END                                                                   \
    {                                                                                  \
        .name = NULL                                                                   \
    }

/* ---- jobs and tiles -------------------------------------------------------------- */

typedef struct ws_method ws_method;

enum { WS_MODELS_MAX = 64 }; /**< inputs beside the base */

/** Weights that differ within a tensor: those of the element's group, see
 * ws_random_groups(). */
typedef struct ws_groups {
    uint32_t n;
    ws_rng_key key;
    const double *weight; /**< (n_models, n) */
} ws_groups;

/** One output tensor with everything resolved for it. Read-only to kernels. */
typedef struct ws_job {
    const ws_method *method; /**< the one that runs, or its twin for double */
    const char *name;        /**< of the tensor */
    int rank;
    const uint64_t *shape; /**< (rank) */
    uint64_t n;            /**< elements */
    uint64_t row; /**< elements of one row: product of shape[1..]; 1 when rank < 2 */
    uint64_t slice_len; /**< elements of a slice (whole rows, about 2^20; the last one
                           may be shorter) */
    uint64_t n_slices;
    size_t n_models; /**< inputs beside the base */
    bool has_base;
    const void
        *opts;    /**< the method's options struct, values resolved for this tensor */
    double scale; /**< of the whole update (LiNeS); 1 when unused. Only for methods with
                     .scaled */
    const ws_rng_key *rng;   /**< (n_models) */
    const ws_groups *groups; /**< in place of the weights of a sum without pruning
                                (learned coefficients); NULL: the weights hold */
} ws_job;

/** What a kernel may report of one model in one slice; sums are joined over slices in
 * index order. A method that drops nothing of its own leaves it zero. */
typedef struct ws_tally {
    uint64_t kept, dropped_small, dropped_large, dropped_random;
    double kept_sq; /**< sum of squares of the kept entries of the update, before any
                       rescaling */
} ws_tally;

/** A run of elements of one slice. All arrays hold n elements of ws_real. */
typedef struct ws_tile {
    uint64_t first; /**< index in the tensor of element 0 */
    size_t n;
    uint64_t slice;        /**< index of the slice that holds the tile */
    const void *base;      /**< NULL without a base */
    const void *const *in; /**< (n_models) */
    bool packed;           /**< base and in are BF16 numbers as they are stored: see
                              ws_passes.packed */
    void *out;             /**< apply only; may be the same array as in[0] */
    void *const *tmp;      /**< (.n_tmp of the method) scratch arrays */
    void *carry; /**< .carry_size bytes that live through one slice, zero at its start;
                    may be NULL */
    ws_tally *tally; /**< apply only: (n_models) of this slice */
} ws_tile;

/**
 * How a method wants its tiles: any run of elements; whole rows (of the leading index;
 * the engine refuses a row that cannot fit); or the whole tensor in one tile of slice 0
 * (matrix methods, one-dimensional DELLA).
 */
typedef enum ws_unit { WS_UNIT_ELEMENT, WS_UNIT_ROW, WS_UNIT_TENSOR } ws_unit;

/** The elements of a tensor that a pass looks at: those with index mod period < span.
 * Period 0 means all. */
typedef struct ws_sample {
    uint64_t period, span;
} ws_sample;

/**
 * Statistics over a tensor before it is written. Pass p = 0, 1, ... runs while begin()
 * says so: every slice is scanned into a zeroed partial of its own (tiles in order),
 * and partials are joined into the state in slice order.
 */
typedef struct ws_passes {
    size_t (*state_size)(const ws_job *job);   /**< bytes, zeroed before pass 0; lives
                                                  until the tensor is written */
    size_t (*partial_size)(const ws_job *job); /**< bytes for one slice of any pass */
    bool (*begin)(const ws_job *job, int pass,
                  void *state); /**< false: enough; also digests the pass before */
    void (*scan)(const ws_job *job, int pass, const void *state, const ws_tile *tile,
                 void *partial);
    void (*join)(const ws_job *job, int pass, void *state, const void *partial,
                 uint64_t slice);
    ws_sample (*sample)(const ws_job *job, int pass,
                        const void *state); /**< asked after begin(): scan() ignores
                                               the rest, so reading it can be spared;
                                               NULL: scans look at all */
    bool packed; /**< scan() takes sources that are all BF16 as they are stored; only
                    with sample() */
} ws_passes;

/** Where a method takes no base, one that is given is the first model; where it is
 * optional, it has one only when one is named. */
typedef enum ws_base_use {
    WS_BASE_NONE,
    WS_BASE_REQUIRED,
    WS_BASE_OPTIONAL
} ws_base_use;

/* ---- task vectors ---------------------------------------------------------------- */

/* out = base + scale lambda combine_k(weight_k prune(in_k - base)) */

/** What is set to zero in an update. Equal magnitudes: the lower index counts as the
 * larger. */
typedef enum ws_prune {
    WS_PRUNE_NONE,
    WS_PRUNE_BAND,   /**< a band of ranks by magnitude is kept: the gamma n largest are
                        dropped, the density n next ones kept */
    WS_PRUNE_RANDOM, /**< each entry is kept with probability density */
    WS_PRUNE_RANKED  /**< each entry of a row is kept with a probability that grows with
                        its rank, from density - epsilon to density + epsilon */
} ws_prune;

/** What becomes of the entries kept, in the order of WS_RESCALE_WORDS. */
typedef enum ws_rescale {
    WS_RESCALE_L1,      /**< times sum |before| / sum |after|, over the tensor */
    WS_RESCALE_INVERSE, /**< divided by their probability, or share, of being kept */
    WS_RESCALE_NONE
} ws_rescale;

#define WS_RESCALE_WORDS "l1|inverse_density|none"

/**
 * How a task-vector method treats updates. With consensus, entries of the weighted,
 * pruned updates whose sign differs from that of their sum (0 counts as positive) are
 * left out. normalize divides by the sum of the weights, with consensus by that of the
 * weights of the entries left in; a sum of 0 (below 1e-8 without consensus) counts as
 * 1.
 */
typedef struct ws_update {
    ws_prune prune;
    const double *weight;  /**< (n_models) */
    const double *density; /**< (n_models), for all kinds of pruning */
    const double *gamma;   /**< (n_models), WS_PRUNE_BAND; NULL: 0 */
    const double *epsilon; /**< (n_models), WS_PRUNE_RANKED */
    bool by_row;           /**< WS_PRUNE_BAND: ranks within each row of the last
                              dimension, not over the tensor; numbers without a
                              dimension are not pruned */
    ws_rescale rescale;
    bool consensus, normalize;
    double lambda;
} ws_update;

/** A merge method: the only truth about it. Parser, help, man page, recipe schema and
 * generic tests read this. */
struct ws_method {
    const char *name;    /**< as typed */
    const char *summary; /**< a few words */
    const char *formula; /**< plain text, may hold several lines */
    const char *source;  /**< paper: authors, year, arXiv number */
    const char *notes; /**< departures from the paper and from mergekit, defects mended;
                          may be NULL */
    struct {
        size_t min, max;
    } models; /**< inputs beside the base */
    ws_base_use base;
    bool scaled; /**< honours job->scale: out = base + scale * (out_1 - base) */
    bool random; /**< draws from job->rng */
    const ws_param *params; /**< ends with WS_PARAM_END */
    size_t opts_size;
    int n_tmp; /**< scratch arrays per tile; negative: -n_tmp per model */
    bool (*keeps_equal)(const ws_job *job);  /**< equal inputs give that input: then
                                                bytes are copied. NULL: never */
    ws_unit (*unit)(const ws_job *job);      /**< NULL: WS_UNIT_ELEMENT */
    size_t (*carry_size)(const ws_job *job); /**< NULL: 0 */
    const char *(*no_op)(const ws_job *job); /**< why these parameters make the method
                                                do nothing of its own; NULL: no */
    ws_status (*check)(const ws_job *job,
                       ws_err *err); /**< what ranges cannot say; NULL: nothing */
    const ws_passes *passes;         /**< NULL: none */
    void (*apply)(const ws_job *job, const void *state,
                  const ws_tile *tile);     /**< fills tile->out */
    ws_update (*update)(const ws_job *job); /**< task-vector methods: see
                                               WS_UPDATE_KERNELS; else NULL */
};

/* ---- what kernels may call: src/engine/kernel_*.c -------------------------------- */

/* A name without suffix stands for its twin for ws_real. */

/** Everything that a task-vector method shares; its descriptor adds name, texts,
 * parameters and .update. */
#define WS_UPDATE_KERNELS                                                              \
    .base = WS_BASE_REQUIRED, .scaled = true, .n_tmp = -1,                             \
    .keeps_equal = ws_update_keeps_equal, .unit = ws_update_unit,                      \
    .carry_size = ws_update_carry_size, .no_op = ws_update_no_op,                      \
    .check = ws_update_check, .passes = &ws_update_passes, .apply = ws_update_apply

WS_API bool ws_update_keeps_equal(const ws_job *job);
WS_API ws_unit ws_update_unit(const ws_job *job);
WS_API const char *ws_update_no_op(const ws_job *job);
/** WS_E_USAGE: probabilities of WS_PRUNE_RANKED outside ]0, 1[; WS_E_UNSUPPORTED: rows
 * of 2^31 elements and more. */
WS_API ws_status ws_update_check(const ws_job *job, ws_err *err);
WS_API size_t ws_update_carry_size_f32(const ws_job *job);
WS_API size_t ws_update_carry_size_f64(const ws_job *job);
WS_API void ws_update_apply_f32(const ws_job *job, const void *state,
                                const ws_tile *tile);
WS_API void ws_update_apply_f64(const ws_job *job, const void *state,
                                const ws_tile *tile);
WS_API extern const ws_passes ws_update_passes_f32, ws_update_passes_f64;

/** out = a - b; out may be a or b. */
WS_API void ws_delta_f32(float *out, const float *a, const float *b, size_t n);
WS_API void ws_delta_f64(double *out, const double *a, const double *b, size_t n);

/** Sum in double over 16 fixed lanes: the i-th value added since zero goes to lane i
 * mod 16, however calls cut them. */
typedef struct ws_lanes {
    double lane[16];
    uint64_t count; /**< values added so far */
} ws_lanes;

/** += |x| */
WS_API void ws_lanes_add_abs_f32(ws_lanes *acc, const float *x, size_t n);
WS_API void ws_lanes_add_abs_f64(ws_lanes *acc, const double *x, size_t n);
/** += x y, products in double */
WS_API void ws_lanes_add_dot_f32(ws_lanes *acc, const float *x, const float *y,
                                 size_t n);
WS_API void ws_lanes_add_dot_f64(ws_lanes *acc, const double *x, const double *y,
                                 size_t n);
WS_API double ws_lanes_sum(const ws_lanes *acc); /**< fixed order */

/*
 * Products of the job's n_models vectors with each other, over the whole tensor: the
 * state is a triangle of doubles. A method's passes take state_size, partial_size,
 * begin and join from here; its scan adds tiles of the vectors to the partial.
 */
WS_API size_t ws_gram_pairs(size_t n_vectors);
/** Place of the product of vectors i <= j. */
WS_API size_t ws_gram_at(size_t i, size_t j);
WS_API size_t ws_gram_state_size(const ws_job *job);
WS_API size_t ws_gram_partial_size(const ws_job *job);
WS_API bool ws_gram_begin(const ws_job *job, int pass, void *state);
WS_API void ws_gram_join(const ws_job *job, int pass, void *state, const void *partial,
                         uint64_t slice);
/** Elements 0 .. n-1 of each of @p v; @p lanes (ws_gram_pairs). */
WS_API void ws_gram_add_f32(ws_lanes *lanes, const void *const *v, size_t n_vectors,
                            size_t n);
WS_API void ws_gram_add_f64(ws_lanes *lanes, const void *const *v, size_t n_vectors,
                            size_t n);

/*
 * Exact selection of a band of ranks by |x|, streaming, without a copy of the tensor.
 * Order: larger magnitude first; of equal ones the lower index first; NaN before all.
 * Rank r of series k is kept when top <= r < top + keep.
 *
 * Magnitudes are compared as bit patterns. A sample brackets the two cuts; one pass
 * counts what lies above each bracket and makes a histogram of what lies inside; only
 * where a histogram's bin still mixes values, or a bracket missed, further passes
 * follow. Where equal magnitudes straddle a cut their counts per slice decide. The
 * sample saves time and never decides. A slice may have 2^31 - 1 elements.
 *
 * A method calls these from the ws_passes functions of the same names.
 */
typedef struct ws_band {
    uint64_t top, keep; /**< ranks dropped as largest; ranks kept after them */
} ws_band;

WS_API size_t ws_select_state_size(const ws_job *job, size_t n_series);
WS_API size_t ws_select_partial_size(const ws_job *job, size_t n_series);
/** Once, in begin() of pass 0: bands (n_series), elements of 32 or 64 bits. */
WS_API void ws_select_init(void *state, const ws_job *job, size_t n_series,
                           const ws_band *bands, int bits);
/** In every begin(), pass 0 included: whether another pass is needed. */
WS_API bool ws_select_begin(void *state);
WS_API ws_sample ws_select_sample(const void *state);
/** Elements first .. first+n-1 of the tensor of @p series. */
WS_API void ws_select_scan_f32(const void *state, size_t series, uint64_t first,
                               const float *x, size_t n, void *partial);
WS_API void ws_select_scan_f64(const void *state, size_t series, uint64_t first,
                               const double *x, size_t n, void *partial);
WS_API void ws_select_join(void *state, const void *partial, uint64_t slice);
/** Bytes of tile->carry that masking needs, from its start. */
WS_API size_t ws_select_carry_size(size_t n_series);
/** Set the dropped entries of x to zero; runs of a slice in order. Adds the counts to
 * @p tally. */
WS_API void ws_select_mask_f32(const void *state, size_t series, float *x, size_t n,
                               uint64_t slice, void *carry, ws_tally *tally);
WS_API void ws_select_mask_f64(const void *state, size_t series, double *x, size_t n,
                               uint64_t slice, void *carry, ws_tally *tally);

/** The same for a row that is in memory. @p scratch holds n elements. */
WS_API void ws_select_row_f32(float *x, size_t n, ws_band band, void *scratch,
                              ws_tally *tally);
WS_API void ws_select_row_f64(double *x, size_t n, ws_band band, void *scratch,
                              ws_tally *tally);

#define ws_update_carry_size WS_TWIN(ws_update_carry_size)
#define ws_update_apply      WS_TWIN(ws_update_apply)
#define ws_update_passes     WS_TWIN(ws_update_passes)
#define ws_delta             WS_TWIN(ws_delta)
#define ws_lanes_add_abs     WS_TWIN(ws_lanes_add_abs)
#define ws_lanes_add_dot     WS_TWIN(ws_lanes_add_dot)
#define ws_gram_add          WS_TWIN(ws_gram_add)
#define ws_select_scan       WS_TWIN(ws_select_scan)
#define ws_select_mask       WS_TWIN(ws_select_mask)
#define ws_select_row        WS_TWIN(ws_select_row)

/* ---- registry -------------------------------------------------------------------- */

/** Number of methods, in alphabetical order. */
WS_API size_t ws_method_count(void);
WS_API const ws_method *ws_method_at(size_t i);

/** By name; '-' and '_' are the same. NULL when unknown. */
WS_API const ws_method *ws_method_find(const char *name);

/** The twin of @p m whose kernels compute in double. */
WS_API const ws_method *ws_method_f64(const ws_method *m);

#ifdef __cplusplus
}
#endif

#endif
