/*
 * mask_file.h - masks as files: what is read of them and how they are written
 *
 * A safetensors file with `wsurg.kind` = `mask`. Its tensors bear the names of the
 * model's, are BOOL (a byte, 0 or 1) or F32 (a factor), and lie on the tensor
 *
 *     entry by entry   as many entries as the tensor
 *     row by row       one for each index of its first dimension
 *     as a whole       one
 *
 * The metadata `wsurg.mask` is JSON:
 *
 *     {"schema":"wsurg-mask/1","made_by":"realign","scale":"none"|"tensor"|"model"}
 *
 * Other files whose tensors are all BOOL are read as masks too. `tune --mask` reads
 * both.
 */
#ifndef WS_SURGERY_MASK_FILE_H
#define WS_SURGERY_MASK_FILE_H

#include "wsurg/alloc.h"
#include "wsurg/ckpt.h"
#include "wsurg/mask.h"

#define WS_MASK_META   "wsurg.mask"
#define WS_MASK_SCHEMA "wsurg-mask/1"

/** Entries that are read or made at once. */
enum { WS_MASK_PIECE = 4096 };

/** An open mask. */
typedef struct ws_mask {
    ws_ckpt *file;
    ws_mask_scale scale;
    char made_by[32]; /**< "" when unknown */
} ws_mask;

/** @return WS_OK; WS_E_USAGE no mask; WS_E_DTYPE a tensor of another dtype;
 *          WS_E_HEADER; as ws_ckpt_open() */
ws_status ws_mask_open(ws_mask *out, const char *path, ws_diag *warnings, ws_err *err);
void ws_mask_close(ws_mask *m);

/** Entries @p first .. @p first + n - 1 of mask tensor @p t, n <= WS_MASK_PIECE.
 * WS_E_NOT_FINITE a factor is no number. */
ws_status ws_mask_read(const ws_mask *m, const ws_tensor *t, uint64_t first, size_t n,
                       float *out, ws_err *err);

/** Sum of all entries of @p t, in double in order. */
ws_status ws_mask_sum(const ws_mask *m, const ws_tensor *t, double *sum, ws_err *err);

/** How many entries of @p t one of @p mask stands for; 0: it does not fit. */
uint64_t ws_mask_span(const ws_tensor *mask, const ws_tensor *t);

/**
 * Entries @p first .. @p first + n - 1 of tensor @p tensor of a mask that is written:
 * bytes 0 and 1 for BOOL, floats for F32; n <= WS_MASK_PIECE. Thread-safe.
 */
typedef ws_status ws_mask_make_fn(void *self, size_t tensor, uint64_t first, size_t n,
                                  void *out, ws_err *err);

/** A mask to be written. */
typedef struct ws_mask_spec {
    const ws_tensor *tensors; /**< (n) name, dtype, shape, n_elements */
    size_t n;
    ws_mask_make_fn *make;
    void *self;
    const char *made_by;
    ws_mask_scale scale;
    const char *recipe, *inputs; /**< for provenance: JSON */
    const char *const *paths;    /**< (n_paths) of inputs */
    size_t n_paths;
    size_t held; /**< bytes that making it takes */
} ws_mask_spec;

/** Write it through the engine: staged, checked, with a manifest. */
ws_status ws_mask_write(const ws_mask_spec *spec, const ws_write_opts *w,
                        const ws_ctx *ctx, ws_result **out, ws_err *err);

/** WS_E_USAGE unless w->out can be a mask; WS_E_EXISTS when it is there, neither
 * replaced nor resumed: said before a weight is read. */
ws_status ws_mask_check_out(const ws_write_opts *w, ws_err *err);

#endif
