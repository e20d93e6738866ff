/*
 * calibrate.h - what the inputs of a model's linears are like: covariances X'X
 *
 * src/surgery/cov_file.h describes the file.
 */
#ifndef WSURG_CALIBRATE_H
#define WSURG_CALIBRATE_H

#include "wsurg/data.h"
#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ws_sampling {
    WS_SAMPLING_AUTO,       /**< qa for running text and tokens, else instruction */
    WS_SAMPLING_QA,         /**< windows of seq tokens at random places of all text */
    WS_SAMPLING_INSTRUCTION /**< random documents, at their length or cut at seq */
} ws_sampling;

typedef enum ws_normalise {
    WS_NORMALISE_PEFT,    /**< X / |max X| per sample, summed, over the samples */
    WS_NORMALISE_AUTHORS, /**< the same, over 256 whatever their number */
    WS_NORMALISE_NONE     /**< X'X as it is */
} ws_normalise;

/** What to measure. Strings are borrowed. */
typedef struct ws_calibrate_req {
    const char *model;
    const char *const *data; /**< (n_data) `[NAME=]FILE` */
    size_t n_data;
    int64_t samples, seq; /**< seq is cut to the model's positions */
    ws_sampling sampling;
    ws_normalise normalise;
    uint64_t seed;
    const char *add; /**< covariances of the same model to add; NULL: none */
    ws_write_opts write;
} ws_calibrate_req;

#define WS_CALIBRATE_REQ_INIT                                                          \
    {                                                                                  \
        .samples = 256, .seq = 2048, .write = WS_WRITE_OPTS_INIT                       \
    }

typedef struct ws_calibrate_result {
    int64_t samples, seq;             /**< run now; after the cut */
    uint64_t tokens;                  /**< run now */
    uint64_t all_samples, all_tokens; /**< of the file, .add included */
    size_t linears, matrices;         /**< matrices are shared: q, k, v; gate, up */
    int passes; /**< runs through the model: more than one where memory is short */
    const char *sampling; /**< static */
    bool unchanged;       /**< resumed, and the output was there: .passes is 0 */
    ws_out_file output;
    const char *manifest;
    ws_usage usage;
    ws_arena arena;
} ws_calibrate_result;

/**
 * Run the model over samples of the data and write the covariances of its linears'
 * inputs; the head's is not measured. Products of a sample in float32, sums over
 * samples in float64.
 *
 * @return WS_OK; WS_E_USAGE no data, or too little; WS_E_ANCESTRY .add is of another
 *         model; WS_E_NOT_FINITE an activation is (layer named); WS_E_MEMORY model and
 *         one block's covariances exceed the limit; WS_E_INTERRUPTED; as
 *         ws_model_open(), ws_data_open() and writing a file
 */
WS_API ws_status ws_calibrate(ws_calibrate_result **out, const ws_calibrate_req *req,
                              const ws_ctx *ctx, ws_err *err);
WS_API void ws_calibrate_result_free(ws_calibrate_result *r);

#ifdef __cplusplus
}
#endif

#endif
