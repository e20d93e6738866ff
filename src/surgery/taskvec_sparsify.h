/*
 * taskvec_sparsify.h - updates through a merge method
 */
#ifndef WS_SURGERY_TASKVEC_SPARSIFY_H
#define WS_SURGERY_TASKVEC_SPARSIFY_H

#include "surgery/taskvec_pair.h"

/** What a method has made of a pair's updates: a file that has no name any more. */
typedef struct ws_tv_sparse {
    ws_tv_pair *pair;
    ws_ckpt *file;     /**< NULL when there was nothing to update */
    char *name;        /**< of the file where it could not be removed at once */
    char *description; /**< method and parameters */
} ws_tv_sparse;

/** WS_E_USAGE unless the method takes one model on a base. */
ws_status ws_tv_check_method(const ws_taskvec_extract_req *req, ws_err *err);

/** WS_E_USAGE unless @p out can be a task vector; WS_E_EXISTS when it is there, neither
 * replaced nor resumed: said before a weight is read. */
ws_status ws_tv_check_out(const ws_write_opts *w, ws_err *err);

/** Remove what a killed run that made a sparsified vector for @p out left beside it. A
 * live run's is left alone. */
void ws_tv_sparse_sweep(const char *out);

/**
 * Run the method of @p req on base 0 and, as its one model, the pair's updates; count
 * what comes out into the pair's plans.
 * @param s  zero; ws_tv_sparse_free() also after a failure
 */
ws_status ws_tv_sparsify(ws_tv_sparse *s, const ws_taskvec_extract_req *req,
                         ws_tv_pair *pair, const ws_ctx *ctx, ws_err *err);
void ws_tv_sparse_free(ws_tv_sparse *s);

/** ws_tv_maker.make: @p self is the ws_tv_sparse. */
ws_status ws_tv_sparse_make(void *self, size_t tensor, uint64_t b, size_t from,
                            size_t to, ws_tv_made *m, ws_err *err);

/** Count the updates that @p maker makes for all WS_TV_KIND_UPDATE of @p plans (n). */
ws_status ws_tv_count(ws_tv_plan *plans, size_t n, const ws_tv_maker *maker,
                      const ws_ctx *ctx, ws_err *err);

#endif
