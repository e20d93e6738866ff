/*
 * taskvec_source.h - task vectors on a base, as a checkpoint like any other
 */
#ifndef WS_HF_TASKVEC_SOURCE_H
#define WS_HF_TASKVEC_SOURCE_H

#include "hf/taskvec_file.h"

/** Bytes that one read of a source takes for itself, at most; kept for the next. */
#define WS_TASKVEC_READ_BYTES (2u << 20)

/**
 * A checkpoint of base + scale * (sum of the vectors' updates).
 *
 * One exact vector at scale 1 gives the model it was made from, bit for bit. Otherwise
 * updated tensors are float32, or float64, not yet rounded to the dtype that they shall
 * have (ws_taskvec_dtype()). Tensors that a vector holds whole are taken from it, at
 * any scale; those that one removes are left out. Metadata are those of the first
 * vector's model. Files are the base's, so that what is sharded like the base finds its
 * place; the vectors' files are checked by ws_ckpt_recheck() too.
 *
 * The contents of the base are not looked at: compare with ws_taskvec.base, or later
 * with ws_taskvec_other_base().
 *
 * @param base     borrowed, must outlive *out
 * @param vectors  (n) taken on success, freed with *out
 * @param exact    whether base is what the vectors were made from: entries with bits of
 *                 their own may be restored
 * @return WS_OK; WS_E_SHAPE, WS_E_DTYPE, WS_E_MISSING base and vectors, or vectors
 * among each other, do not fit; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_taskvec_source(ws_ckpt **out, const ws_ckpt *base,
                                   ws_taskvec *const *vectors, size_t n, double scale,
                                   bool exact, ws_err *err);

/**
 * The same for one vector in the file at @p path: the fine-tuned model, where it is
 * exact. What `merge` takes for a task vector among its models.
 * @return as ws_taskvec_load() and ws_taskvec_source()
 */
WS_API ws_status ws_taskvec_open(ws_ckpt **out, const char *path, const ws_ckpt *base,
                                 ws_diag *warnings, ws_err *err);

/** Whether @p c was made by ws_taskvec_source(). */
WS_API bool ws_taskvec_is_source(const ws_ckpt *c);

/** The dtype that tensor @p t of a source shall be written in: the model's. */
WS_API ws_dtype ws_taskvec_dtype(const ws_ckpt *source, const ws_tensor *t);

/** The contents ("xxh3-128:...") of the base that the vectors of a source were made
 * from: those of the first one that it does not share with @p digest, or NULL when all
 * were made from a base of @p digest. */
WS_API const char *ws_taskvec_other_base(const ws_ckpt *source, const char *digest);

/** One update of several vectors for one tensor. */
typedef struct ws_taskvec_sum {
    const ws_taskvec *const *vectors;   /**< (n) */
    const ws_tv_tensor *const *tensors; /**< (n); NULL or no update: it adds nothing */
    const double *weights;              /**< (n) */
    size_t n;
    bool wide;
} ws_taskvec_sum;

/** Elements from .. to-1 of block @p b: sum of weight * update, in float or double, in
 * order. @p tmp holds (to - from) numbers. As ws_taskvec_update(). */
WS_API ws_status ws_taskvec_add(const ws_taskvec_sum *s, uint64_t b, size_t from,
                                size_t to, void *out, void *tmp, ws_tv_buffer *buf,
                                ws_err *err);

#endif
