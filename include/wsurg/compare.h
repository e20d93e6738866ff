/*
 * compare.h - figures of the tensors of one model, and differences between two
 *
 * Both stream: memory is a few hundred KiB per thread, however large the models. The
 * same figures for any number of threads.
 */
#ifndef WSURG_COMPARE_H
#define WSURG_COMPARE_H

#include "wsurg/ckpt.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Figures of one tensor. Those of values count finite elements only, and are NAN where
 * there are none (empty tensors, dtypes that are no numbers). */
typedef struct ws_tensor_stats {
    const ws_tensor *t; /**< borrowed from the checkpoint */
    bool numeric;       /**< floating-point and integer dtypes */
    double min, max, mean;
    double std;  /**< of the population: divided by n */
    double norm; /**< Euclidean */
    uint64_t zeros, nans, infinities;
    uint64_t not_bool; /**< of a BOOL: bytes that are neither 0 nor 1 */
} ws_tensor_stats;

/** Figures of a model. */
typedef struct ws_stats {
    ws_tensor_stats *tensors; /**< (n), in file order */
    size_t n;
    double norm; /**< of all numeric tensors together */
    uint64_t elements, zeros, nans, infinities, not_bool;
} ws_stats;

/**
 * Read all of @p c and take its figures.
 * @param ctx  may be NULL
 * @return WS_OK, with *out to be freed; WS_E_IO; WS_E_MEMORY; WS_E_INTERRUPTED
 */
WS_API ws_status ws_stats_new(ws_stats **out, const ws_ckpt *c, const ws_ctx *ctx,
                              ws_err *err);
WS_API void ws_stats_free(ws_stats *s);

/** How one name compares. */
typedef enum ws_diff_state {
    WS_DIFF_EQUAL,   /**< same bytes */
    WS_DIFF_CLOSE,   /**< bytes differ, every value within the tolerance */
    WS_DIFF_CHANGED, /**< same dtype and shape, different bytes */
    WS_DIFF_DTYPE,   /**< dtypes differ */
    WS_DIFF_SHAPE,   /**< shapes differ (dtypes may, too): nothing is computed */
    WS_DIFF_ONLY_A,
    WS_DIFF_ONLY_B,
} ws_diff_state;

/**
 * Differences of one name. Figures of values are NAN where there are none.
 *
 * Numbers compare as values: two NaN are the same, 0 and -0 are, too (their bytes are
 * not). Integers and other dtypes without arithmetic compare as bytes, and have no
 * figures but `changed`; so do dtypes without arithmetic on either side that differ.
 * Elements that are not finite in either model are left out of the sums.
 */
typedef struct ws_tensor_diff {
    const char *name;
    const ws_tensor *a, *b; /**< NULL when it is not there */
    ws_diff_state state;
    uint64_t elements;    /**< compared */
    uint64_t changed;     /**< of them, those whose values differ */
    uint64_t beyond;      /**< of them, those that differ by more than the tolerance */
    uint64_t not_finite;  /**< NaN and infinities of a */
    uint64_t broken;      /**< changed elements that are not finite in a or b */
    double relative_norm; /**< ||a - b|| / ||a||; infinite when only a is zero */
    double cosine;        /**< of a and b; 1 for equal, NAN for one zero tensor */
    double max_abs;       /**< largest |a - b| */
    double diff_sq, a_sq, b_sq, dot; /**< the sums behind them */
} ws_tensor_diff;

/** Differences between two models. */
typedef struct ws_diff {
    bool equal;              /**< same names, dtypes and shapes, all EQUAL or CLOSE */
    ws_tensor_diff *tensors; /**< (n), in a's file order, then those only in b */
    size_t n;
    size_t n_equal, n_close, n_changed, n_only_a, n_only_b, n_mismatched;
    double changed_share; /**< of the elements compared; 0 when there are none */
    double relative_norm, cosine, max_abs; /**< over all tensors with figures */
} ws_diff;

typedef struct ws_diff_opts {
    double tolerance; /**< values this near count as equal; 0: only equal bytes do */
    /** Names to be compared; NULL: all. Others are not read, count as EQUAL when dtype
     * and shape agree, and have no figures. */
    bool (*wanted)(void *arg, const char *name);
    void *arg;
} ws_diff_opts;

#define WS_DIFF_OPTS_INIT                                                              \
    {                                                                                  \
        0                                                                              \
    }

/**
 * Read and compare two models. Metadata are not looked at.
 * @param o    may be NULL: defaults
 * @param ctx  may be NULL
 * @return WS_OK, with *out to be freed, whether or not they differ; WS_E_IO;
 *         WS_E_MEMORY; WS_E_INTERRUPTED
 */
WS_API ws_status ws_diff_new(ws_diff **out, const ws_ckpt *a, const ws_ckpt *b,
                             const ws_diff_opts *o, const ws_ctx *ctx, ws_err *err);
WS_API void ws_diff_free(ws_diff *d);

/** The word for a state: "equal", "close", "changed", "dtype", "shape", "only-a",
 * "only-b". */
WS_API const char *ws_diff_state_word(ws_diff_state state);

/**
 * The indexes of the tensors that differ most, worst first, into @p index (at most
 * @p cap): first those that cannot be compared, then by relative norm. Equal ones are
 * not listed. Returns their number.
 */
WS_API size_t ws_diff_worst(const ws_diff *d, size_t *index, size_t cap);

#ifdef __cplusplus
}
#endif

#endif
