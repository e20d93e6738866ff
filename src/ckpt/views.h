/*
 * views.h - tensors that are views of stored numbers: strided, or of the other byte
 * order
 */
#ifndef WS_CKPT_VIEWS_H
#define WS_CKPT_VIEWS_H

#include "ckpt/ckpt_internal.h"

/** How a tensor's elements lie in a file. */
typedef struct ws_view {
    uint32_t file;
    uint64_t offset;        /**< of element 0, in bytes */
    uint64_t bytes;         /**< from there on that elements may lie in */
    const uint64_t *stride; /**< (rank) in elements; copied */
    bool swap;              /**< bytes of each number in the other order */
} ws_view;

/**
 * Add tensor @p t (name, dtype, shape), whose data @p v shows. One that lies as it
 * should becomes a plain range of the file.
 * @return WS_OK; WS_E_HEADER a view beyond its bytes, or one that repeats numbers to
 * more than it has (a stride of 0); as ws_ckpt_add_tensor()
 */
WS_API ws_status ws_views_add(ws_ckpt *c, const ws_tensor *t, const ws_view *v,
                              ws_err *err);

#endif
