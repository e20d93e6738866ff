/*
 * manifest_internal.h - what the writers of outputs need of manifests
 */
#ifndef WS_CKPT_MANIFEST_INTERNAL_H
#define WS_CKPT_MANIFEST_INTERNAL_H

#include "wsurg/manifest.h"

/** Name of a directory's manifest, and ending of a file's (after a dot). */
#define WS_MANIFEST_NAME "manifest.json"

/** Largest manifest that is read. */
enum { WS_MANIFEST_MAX = 16 << 20 };

/** Whether @p name is a relative path of safe components: not empty, '.', '..', no
 * control bytes, valid UTF-8. */
WS_API bool ws_path_is_safe(const char *name);

/** Whether a regular file at @p path is a wsurg manifest. */
WS_API bool ws_is_manifest(const char *path);

/**
 * All files below the directory @p path (whatever is no directory, links not followed),
 * as relative paths sorted by bytes; free with ws_manifest_list_free().
 * @return WS_OK; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_manifest_list(const char *path, char ***files, size_t *n,
                                  ws_err *err);
WS_API void ws_manifest_list_free(char **files, size_t n);

/** Whether @p m lists @p name. */
WS_API bool ws_manifest_has(const ws_manifest *m, const char *name);

/** An empty manifest at @p path; NULL when memory is out. */
WS_API ws_manifest *ws_manifest_new(const char *path);

/** Add a file (copied). WS_OK; WS_E_MEMORY. */
WS_API ws_status ws_manifest_add(ws_manifest *m, const ws_manifest_file *f,
                                 ws_err *err);

/** Whether a statement leaves @p name out by default, or by the list of @p m. */
WS_API bool ws_oms_ignored(const ws_manifest *m, const char *name);

/** Read the statement at m->path into @p m, whose root and kind are set. */
WS_API ws_status ws_oms_read(ws_manifest *m, ws_err *err);

#endif
