/*
 * manifest.h - manifests: the list of an output's files with sizes and digests, and its
 * verification
 *
 * `OUT/manifest.json`, or `FILE.manifest.json` beside a file:
 *     {
 *       "schema": "wsurg-manifest/1",
 *       "content": "xxh3-128:...",
 *       "files": [
 *         {"path": "...", "bytes": n, "sha256": "...", "xxh3": "..."},
 *         ...
 *       ]
 *     }
 * `content` is null where unknown; files are sorted by path as bytes, paths relative to
 * the directory, or to the file's folder; the manifest itself is not listed. The two
 * digests are those of sha256sum and xxh128sum.
 */
#ifndef WSURG_MANIFEST_H
#define WSURG_MANIFEST_H

#include "wsurg/ctx.h"
#include "wsurg/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One file of a manifest, and what checking found. */
typedef struct ws_manifest_file {
    char *path; /**< relative, '/'-separated */
    uint64_t bytes, found_bytes;
    char sha256[65], xxh3[33]; /**< expected, hex */
    char found_sha256[65],
        found_xxh3[33]; /**< found; empty when the file could not be read */
    bool ok;
} ws_manifest_file;

typedef struct ws_manifest {
    char *path;       /**< of the manifest itself */
    char content[48]; /**< "xxh3-128:…" of the model, or empty */
    ws_manifest_file *files;
    size_t n_files;
    char **extra; /**< files present but not listed (directories only) */
    size_t n_extra;
    bool valid;  /**< after ws_manifest_verify(): all listed files whole, none extra */
    char *root;  /**< folder that the files' paths are relative to */
    bool is_dir; /**< of a directory: files in it that are not listed are extra */
    bool is_oms; /**< a model-signing statement: SHA-256 alone, sizes unknown */
    bool links;  /**< ws_oms_make(): some file is a symbolic link */
    char **ignore; /**< (n_ignore) paths that the statement leaves out */
    size_t n_ignore;
    char *single; /**< is_oms of a file: its name */
} ws_manifest;

/**
 * Digest the file, or every file below the directory, at @p path (the manifest itself
 * excepted), on all threads of @p ctx. Links to files are followed, those to
 * directories are an error. `content` stays empty. Progress event "digest".
 * @return WS_OK; WS_E_IO; WS_E_INTERRUPTED; WS_E_MEMORY
 */
WS_API ws_status ws_manifest_make(ws_manifest **out, const char *path,
                                  const ws_ctx *ctx, ws_err *err);

/**
 * Read the manifest that belongs to @p path: `DIR/manifest.json`, `FILE.manifest.json`,
 * or @p path itself when it ends in .json and has none of its own.
 * @return WS_OK; WS_E_MISSING there is none; WS_E_HEADER not a manifest, a path that
 * leaves its folder or stands twice, no file at all; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_manifest_read(ws_manifest **out, const char *path, ws_err *err);

/** As ws_manifest_read() for a manifest @p file that lies elsewhere than its model
 * @p path. */
WS_API ws_status ws_manifest_read_for(ws_manifest **out, const char *file,
                                      const char *path, ws_err *err);

/**
 * Read every listed file and compare size and both digests, on all threads of @p ctx;
 * for a directory look for files that are not listed. A listed file that is missing, or
 * is no regular file, is not ok and has empty found digests. The answer is in m->valid;
 * an error is only what prevented the check. Progress event "verify".
 * @return WS_OK; WS_E_IO a file that is there cannot be read (the others are checked);
 * WS_E_INTERRUPTED; WS_E_MEMORY
 */
WS_API ws_status ws_manifest_verify(ws_manifest *m, const ws_ctx *ctx, ws_err *err);

/**
 * Digest as for an OpenSSF model-signing statement: as ws_manifest_make(), with every
 * file below a directory but git's own and `model.sig`.
 */
WS_API ws_status ws_oms_make(ws_manifest **out, const char *path, const ws_ctx *ctx,
                             ws_err *err);

/** The statement of @p m, from ws_oms_make(), about the model called @p name, to be
 * handed to a signer: JSON from ws_alloc; NULL when memory is out. */
WS_API char *ws_oms_text(const ws_manifest *m, const char *name, size_t *len);

/**
 * Read the statement at @p file, bare or in the bundle or envelope of its signature,
 * for the model at @p path; ws_manifest_verify() checks it. Whether the signature is
 * good is for the signer's own tool to say.
 * @return WS_OK; WS_E_HEADER no statement, or its digests do not fit together;
 * WS_E_UNSUPPORTED shards or another digest; WS_E_MISSING, WS_E_IO, WS_E_MEMORY
 */
WS_API ws_status ws_oms_read_for(ws_manifest **out, const char *file, const char *path,
                                 ws_err *err);

/** The manifest as its JSON text, from ws_alloc; NULL when memory is out. */
WS_API char *ws_manifest_text(const ws_manifest *m, size_t *len);

WS_API void ws_manifest_free(ws_manifest *m);

#ifdef __cplusplus
}
#endif

#endif
