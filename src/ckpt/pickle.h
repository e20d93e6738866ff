/*
 * pickle.h - what a PyTorch state dict says, read from its pickle without executing any
 *
 * A pickle is a program. This machine knows only the few operations that state dicts
 * are made of, takes globals from a constant table, and makes typed nodes of its own;
 * all else is refused by name and offset. formats.md 4.2-4.4.
 */
#ifndef WS_CKPT_PICKLE_H
#define WS_CKPT_PICKLE_H

#include "ckpt/ckpt_internal.h"

/** A block of raw numbers that tensors look into. */
typedef struct ws_pickle_storage {
    const char *key; /**< member `data/KEY` of the archive */
    bool untyped;    /**< counted in bytes */
    ws_dtype dtype;  /**< unless untyped */
    uint64_t count;  /**< elements, or bytes when untyped */
} ws_pickle_storage;

/** One entry of the state dict. */
typedef struct ws_pickle_tensor {
    const char *name;
    uint32_t storage;
    ws_dtype dtype;
    uint64_t offset; /**< elements into the storage */
    int rank;
    const uint64_t *shape, *stride; /**< (rank), in elements */
} ws_pickle_tensor;

typedef struct ws_pickle {
    ws_arena arena; /**< of every string and array below */
    ws_pickle_storage *storages;
    size_t n_storages, cap_storages;
    ws_pickle_tensor *tensors; /**< of the state dict, in its order */
    size_t n, cap;
    const char *inside; /**< key of the root that holds the state dict, or NULL */
    size_t n_other;     /**< entries of it that are no tensors */
} ws_pickle;

/**
 * Run the @p n bytes of a data.pkl. Strings are copied.
 * @return WS_OK; WS_E_HEADER malformed, or a structure that state dicts do not have;
 *         WS_E_UNSUPPORTED an operation or global outside the table (named);
 *         WS_E_MEMORY. Offsets in errors are in the pickle.
 */
WS_API ws_status ws_pickle_parse(ws_pickle *out, const void *data, size_t n,
                                 ws_err *err);
WS_API void ws_pickle_free(ws_pickle *p);

#endif
