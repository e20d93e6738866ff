/*
 * edit.h - names, metadata and sharding of a model changed; its data are not
 *
 * Only headers are written anew. Data are shared with the input where the file system
 * can, else copied by the kernel; files in which nothing changes keep their bytes.
 */
#ifndef WSURG_EDIT_H
#define WSURG_EDIT_H

#include "wsurg/merge.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ws_edit_kind { WS_EDIT_RENAME, WS_EDIT_META, WS_EDIT_SPLIT } ws_edit_kind;

/** What to change. Strings are borrowed. */
typedef struct ws_edit_req {
    ws_edit_kind kind;
    const char *model;              /**< safetensors, one file or a directory */
    const char *const *expressions; /**< RENAME: (n) 's/…/…/', one after the other */
    const char *const *set;         /**< META: (n_set) "KEY=VALUE" */
    const char *const *rm;          /**< META: (n_rm) keys that must be there */
    size_t n, n_set, n_rm;
    uint64_t
        shard_size; /**< SPLIT: bytes of data in a file, unless one tensor has more */
    ws_write_opts write; /**< .out, .force, .provenance, .manifest */
} ws_edit_req;

typedef struct ws_edit_result {
    size_t tensors, renamed;
    ws_out_file *outputs; /**< (n_outputs) files of weights */
    size_t n_outputs;
    size_t untouched;     /**< of them, those with an input's bytes */
    const char *manifest; /**< path, or NULL */
    ws_usage usage;
    ws_arena arena; /**< all of the above */
} ws_edit_result;

/**
 * Write a model with other names, metadata or shards. A renamed model loses what
 * wsurg.* metadata say of its contents, since these include the names; other edits keep
 * it, as it stays true.
 * @return WS_OK; WS_E_USAGE an expression that is malformed or hits nothing, names that
 *         become equal, a key that is not there or may not be set, an output of another
 *         form; WS_E_UNSUPPORTED not safetensors; WS_E_HEADER, WS_E_IO, WS_E_EXISTS,
 *         WS_E_LOCKED, WS_E_INTERRUPTED, WS_E_MEMORY
 */
WS_API ws_status ws_edit(ws_edit_result **out, const ws_edit_req *req,
                         const ws_ctx *ctx, ws_err *err);
WS_API void ws_edit_result_free(ws_edit_result *r);

#ifdef __cplusplus
}
#endif

#endif
