/*
 * cov_file.h - covariances of linears' inputs, as a file
 *
 * A safetensors file with `wsurg.kind` = `covariance`. Per distinct input one tensor
 * `cov.NAME`, NAME the first tensor that takes it: F32, one dimension, the upper
 * triangle of the sum over samples of X'X, row by row, n (n + 1) / 2 numbers. The
 * metadata `wsurg.covariance` is JSON:
 *
 *     {"schema":"wsurg-covariance/1","model":"xxh3-128:...","normalise":"peft",
 *      "sampling":"instruction","seq":2048,"samples":256,"tokens":131072,
 *      "data":["questions"],"tensors":{"NAME":"cov.NAME", ...}}
 *
 * `data` are the names of what was run over, as typed or the stems of the files'.
 * With `peft` and `authors` the X of each sample were divided by |max X|, the largest
 * signed entry; C is the sum over the samples' number (peft), 256 (authors), 1 (none).
 */
#ifndef WS_SURGERY_COV_FILE_H
#define WS_SURGERY_COV_FILE_H

#include "base/json.h"
#include "wsurg/ckpt.h"
#include "wsurg/linalg.h"
#include "wsurg/text.h"

#define WS_COV_PREFIX "cov."
#define WS_COV_META   "wsurg.covariance"
#define WS_COV_SCHEMA "wsurg-covariance/1"

/** An open file of covariances. Strings are borrowed from .tree. */
typedef struct ws_cov {
    ws_ckpt *file;
    cJSON *tree;
    const char *model, *normalise, *sampling;
    uint64_t seq, samples, tokens;
    const cJSON *tensors, *data; // data may be NULL
} ws_cov;

/** @return WS_OK; WS_E_USAGE no file of covariances; WS_E_HEADER; as ws_ckpt_open() */
ws_status ws_cov_open(ws_cov *out, const char *path, ws_diag *warnings, ws_err *err);
void ws_cov_close(ws_cov *c);

/** The names of the data as a JSON list. */
void ws_cov_data_json(const ws_cov *c, ws_buf *b);

/** The stored matrix for the linear @p name, of order *n; NULL when there is none. */
const ws_tensor *ws_cov_find(const ws_cov *c, const char *name, int64_t *n);

/** C of @p t into the upper triangle of @p C (n, n), double, without gaps; scaled as
 * its normalisation says. WS_OK; WS_E_IO; WS_E_NOT_FINITE; WS_E_MEMORY. */
ws_status ws_cov_read(const ws_cov *c, const ws_tensor *t, ws_mat *C, ws_err *err);

#endif
