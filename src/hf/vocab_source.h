/*
 * vocab_source.h - a model with the rows of its embedding and head put in the places of
 * an aligned vocabulary, as a checkpoint like any other
 */
#ifndef WS_HF_VOCAB_SOURCE_H
#define WS_HF_VOCAB_SOURCE_H

#include "hf/vocab_align.h"
#include "wsurg/ckpt.h"

/** Rows of the vocabulary of @p c: those of its embedding, or of its head; 0 when it
 * has neither. */
WS_API uint64_t ws_vocab_rows(const ws_ckpt *c);

/** Whether @p t of a model with a vocabulary of @p rows has a row for each token. */
WS_API bool ws_vocab_tensor(const ws_tensor *t, uint64_t rows);

/**
 * Model @p k of @p all (n_models of the map) with aligned rows.
 *
 * Whole runs of rows are read straight from where they lie. A tensor whose rows are all
 * copies of one dtype keeps it; one with means, or with rows of another dtype, is shown
 * as F32 (F64 where some model has F64): means are summed in double over the models in
 * order and rounded once.
 *
 * @param map  must outlive *out
 * @param all  (n_models) copied; all[k] is taken on success, the others must outlive
 *             the reading
 * @return WS_OK; WS_E_SHAPE rows of other lengths; WS_E_DTYPE rows without arithmetic
 *         that would need some; WS_E_MISSING a model has no such tensor; WS_E_MEMORY
 */
WS_API ws_status ws_vocab_source(ws_ckpt **out, const ws_vocab_map *map,
                                 ws_ckpt *const *all, size_t k, ws_err *err);

/** The checkpoint whose rows @p c shows; @p c itself when it was not made by
 * ws_vocab_source(). */
WS_API const ws_ckpt *ws_vocab_under(const ws_ckpt *c);

/** The tensor beneath @p t of @p c when its rows are aligned; NULL when it is as it
 * was. */
WS_API const ws_tensor *ws_vocab_original(const ws_ckpt *c, const ws_tensor *t);

/** The dtype that tensor @p t of @p c has in its model. */
WS_API ws_dtype ws_vocab_dtype(const ws_ckpt *c, const ws_tensor *t);

/** Most bytes that reading @p c takes beside its tables and the map. */
WS_API uint64_t ws_vocab_memory(const ws_ckpt *c);

#endif
