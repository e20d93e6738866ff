/*
 * residual_write.h - a model with some of its tensors computed, into a folder of a
 * staged output
 *
 * The files, their tensors and their order are the model's. Tensors may be written from
 * several threads in any order; headers and index come last, when the digests are
 * known.
 */
#ifndef WS_SURGERY_RESIDUAL_WRITE_H
#define WS_SURGERY_RESIDUAL_WRITE_H

#include "ckpt/st_write.h"
#include "ckpt/stage_manifest.h"
#include "wsurg/alloc.h"
#include "wsurg/ckpt.h"
#include "wsurg/digest.h"

typedef struct ws_residual {
    const ws_ckpt *model;
    ws_stage *stage;
    const char *folder; /**< "residual/" */
    ws_tensor *tensors; /**< (n) as written, by file */
    ws_tensor **order;  /**< (n) by file, then as they lie in it */
    size_t *source;     /**< (n) place of the model's tensor i in .order */
    ws_xxh128 *digests; /**< (n) of order[i] */
    bool *done;         /**< (n) */
    size_t n;
    struct ws_residual_file {
        const char *name;
        size_t first, n;
        uint64_t header_len;
        int id;
    } * files;
    size_t n_files;
    const ws_meta *meta; /**< (n_meta) of the only file, beside the format */
    size_t n_meta;
    ws_arena arena;
} ws_residual;

/** Lay the files out and create them; @p meta as in the struct, without digests. */
ws_status ws_residual_open(ws_residual *r, const ws_ckpt *model, ws_stage *stage,
                           const char *folder, const ws_meta *meta, size_t n_meta,
                           ws_err *err);

/** Write the model's tensor number @p i from @p data, its bytes; its digest is what
 * ws_residual_done() takes in a run that goes on. Thread-safe for different tensors. */
ws_status ws_residual_put(ws_residual *r, size_t i, const void *data, ws_xxh128 *digest,
                          ws_err *err);

/** Tensor number @p i is in the staged file already, with this digest. */
void ws_residual_done(ws_residual *r, size_t i, const ws_xxh128 *digest);

/** Copy what was not put; headers, index. The content's digest goes to @p content. */
ws_status ws_residual_finish(ws_residual *r, char content[48], ws_err *err);

/** What the staged files must hold: (n_files), the arena's. NULL: no memory. */
const ws_stage_expect *ws_residual_expect(ws_residual *r);
void ws_residual_close(ws_residual *r);

#endif
