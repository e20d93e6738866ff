/*
 * edit_plan.h - what planning and writing of an edit share
 */
#ifndef WS_SURGERY_EDIT_PLAN_H
#define WS_SURGERY_EDIT_PLAN_H

#include "base/pool.h"
#include "ckpt/st_write.h"
#include "ckpt/stage.h"
#include "wsurg/edit.h"

/** A file of the output. */
struct edit_file {
    const char *name;
    uint32_t from;   /**< the input's file that its data come from */
    bool whole;      /**< all of that file, header included */
    size_t first, n; /**< its tensors in .order */
    uint8_t *head;   /**< (head_len) unless whole; ws_free */
    uint64_t head_len, bytes;
    int id; /**< in the stage */
};

struct edit {
    const ws_edit_req *req;
    const ws_ctx *ctx;
    ws_edit_result *r; /**< its arena holds what follows */
    ws_ckpt *model;
    bool sharded;       /**< the input has an index */
    bool index, is_dir; /**< the output has one; is a directory */
    ws_tensor *tensors; /**< (n) in the input's order, under their new names; offsets
                           are the output's once headers are made */
    ws_tensor **order;  /**< (n_order) by file of the output */
    bool *changed;      /**< of the input's files: a name in it has */
    size_t n, n_order;
    struct edit_file *files;
    size_t n_files;
    ws_meta *meta;
    size_t n_meta;
    ws_stage *stage;
    ws_pool *pool;
};

/** Stage, check and show what is planned. The stage is left open. */
ws_status ws_edit_write(struct edit *e, ws_err *err);

#endif
