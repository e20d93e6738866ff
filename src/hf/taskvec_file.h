/*
 * taskvec_file.h - an opened task vector: what it holds of each tensor, block by block
 */
#ifndef WS_HF_TASKVEC_FILE_H
#define WS_HF_TASKVEC_FILE_H

#include "ckpt/st_write.h"
#include "hf/taskvec_format.h"
#include "wsurg/alloc.h"

typedef enum ws_tv_kind {
    WS_TV_KIND_SAME,   /**< the base's tensor */
    WS_TV_KIND_UPDATE, /**< the base's plus an update */
    WS_TV_KIND_WHOLE   /**< stored as it is */
} ws_tv_kind;

/** One tensor of the model. */
typedef struct ws_tv_tensor {
    ws_tensor t; /**< name, dtype, shape and sizes in the model; no place */
    ws_tv_kind kind;
    bool wide;                            /**< the update is float64 */
    const ws_tensor *stored[WS_TV_ROLES]; /**< in the file; NULL where absent */
    ws_tv_blocks blocks;                  /**< of an update */
} ws_tv_tensor;

/** An opened task vector. Read-only. */
typedef struct ws_taskvec {
    ws_ckpt *file;
    const char *base;  /**< content of the base, "xxh3-128:..." */
    const char *model; /**< of the model, or NULL */
    bool exact;
    const char *sparsified; /**< method and parameters, or NULL */
    bool has_meta;          /**< the model's file had metadata */
    ws_meta *meta;          /**< (n_meta) */
    size_t n_meta;
    const char **files;   /**< (n_files) of a sharded model, as its headers follow */
    size_t n_files;       /**< 0: one file */
    const char **removed; /**< (n_removed) */
    size_t n_removed;
    ws_tv_tensor *tensors; /**< (n) in the model's file order */
    size_t n;
    size_t *by_name; /**< (n) sorted */
    ws_arena arena;
} ws_taskvec;

/** What decoding a block needs; about 0.6 MiB. */
typedef struct ws_tv_buffer {
    uint32_t index[WS_TV_BLOCK];
    uint8_t gaps[3 * WS_TV_BLOCK]; /**< no gap within a block takes more than 3 bytes */
    double values[WS_TV_BLOCK];
} ws_tv_buffer;

/**
 * Open the task vector at @p path and check all that its headers say.
 * @return WS_OK; WS_E_USAGE it is another kind of file; WS_E_HEADER what it holds does
 *         not fit together; and as ws_ckpt_open()
 */
WS_API ws_status ws_taskvec_load(ws_taskvec **out, const char *path, ws_diag *warnings,
                                 ws_err *err);

/** The same from an open file, which is taken on success. */
WS_API ws_status ws_taskvec_from(ws_taskvec **out, ws_ckpt *file, ws_err *err);
WS_API void ws_taskvec_free(ws_taskvec *tv);

/** The tensor called @p name, or NULL. */
WS_API const ws_tv_tensor *ws_taskvec_find(const ws_taskvec *tv, const char *name);

/** Whether the vector takes @p name away. */
WS_API bool ws_taskvec_removes(const ws_taskvec *tv, const char *name);

/**
 * The update of elements from .. to-1 of block @p b into @p out, float or (wide)
 * double. Thread-safe.
 * @param nonzero  out, may be NULL: how many of them are not zero
 * @return WS_OK; WS_E_HEADER table, gaps or map are not what they must be; WS_E_IO
 */
WS_API ws_status ws_taskvec_update(const ws_taskvec *tv, const ws_tv_tensor *t,
                                   uint64_t b, size_t from, size_t to, void *out,
                                   size_t *nonzero, ws_tv_buffer *buf, ws_err *err);

/**
 * The exact entries of block @p b: their indexes in buf->index, their bits, of the size
 * of the model's dtype, in buf->values; *n of them. As ws_taskvec_update().
 */
WS_API ws_status ws_taskvec_exact(const ws_taskvec *tv, const ws_tv_tensor *t,
                                  uint64_t b, size_t *n, ws_tv_buffer *buf,
                                  ws_err *err);

/** Number of exact entries of the whole tensor. */
WS_API uint64_t ws_taskvec_exact_count(const ws_tv_tensor *t);

#endif
