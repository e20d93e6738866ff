/*
 * one_file.h - a model converted into one file, staged and written in chunks
 *
 * Where everything stands is known first, from headers; chunks are then made on all
 * threads in any order. Each finished one is journaled, so that a killed run goes on.
 */
#ifndef WS_SURGERY_ONE_FILE_H
#define WS_SURGERY_ONE_FILE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/pool.h"
#include "ckpt/stage.h"
#include "wsurg/convert.h"

/** A file in the making. The first five are set by who makes it. */
typedef struct ws_one_file {
    const ws_convert_req *req;
    const ws_ctx *ctx;
    ws_ckpt *model;         /**< freed with it */
    uint64_t bytes, widest; /**< of the file; of a chunk's buffers, each */
    size_t n_chunks;
    /** Make and write chunk @p i. @p buf is (3, widest); *note is kept with the chunk.
     */
    ws_status (*write)(struct ws_one_file *f, size_t i, unsigned char *buf,
                       uint64_t *note, ws_err *err);
    ws_stage *stage;
    ws_pool *pool;
    int id;          /**< of the staged file */
    uint64_t *notes; /**< (n_chunks) */
    bool *done;      /**< (n_chunks) by the run that is gone on from */
    unsigned char *buffers;
    atomic_ullong saturated;
    atomic_bool failed;
    pthread_mutex_t lock;
    ws_status status; /**< the first failure of a chunk, and why */
    ws_err err;
} ws_one_file;

/** Begin, with the model of the request opened. As ws_tv_open_model(). */
ws_status ws_one_file_begin(ws_one_file *f, const ws_convert_req *req,
                            const ws_ctx *ctx, ws_err *err);

/** Open the stage; what a resumed run must match is @p head (n) and the input's files.
 * As ws_stage_open(). */
ws_status ws_one_file_stage(ws_one_file *f, const void *head, size_t n, ws_err *err);

/** Write the chunks that are not done yet: as .write, or WS_E_INTERRUPTED. */
ws_status ws_one_file_chunks(ws_one_file *f, ws_err *err);

/** What storing numbers of @p t as @p type met: WS_E_NOT_FINITE unless the request
 * allows it. @p strict: NaN and infinity have no place at all. */
ws_status ws_one_file_tally(ws_one_file *f, const ws_tensor *t, const char *type,
                            const ws_store_tally *tally, bool strict, ws_err *err);

/** Sync, open what is staged, which must hold @p n tensors, digest, and make it
 * appear. */
ws_status ws_one_file_show(ws_one_file *f, size_t n, ws_convert_result *r, ws_err *err);

/** Free; @p st decides whether staged work is left to --resume. Fills r's usage. */
void ws_one_file_end(ws_one_file *f, ws_status st, double start, ws_convert_result *r);

#endif
