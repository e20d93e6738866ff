/*
 * stage.h - outputs that appear whole or not at all
 *
 * Work is written into a folder beside the target, `.NAME.wsurg/`. Nothing of it shows
 * under the target's name before ws_stage_commit(), which is one rename (of a file or a
 * directory; an exchange under --force). A killed run leaves the folder; the next one
 * with the same key and `resume` goes on from the journal, any other discards it (with
 * a note), unless a live run holds the lock.
 *
 *     .NAME.wsurg/lock      held with an OFD lock while a run is alive
 *     .NAME.wsurg/journal   records, each with its own checksum (journal.h)
 *     .NAME.wsurg/out       the staged file, or directory of files
 *     .NAME.wsurg/manifest  a file's manifest on its way to its place
 *     .NAME.wsurg/old       a replaced directory, where no exchange is possible
 */
#ifndef WS_CKPT_STAGE_H
#define WS_CKPT_STAGE_H

#include "ckpt/step.h"
#include "wsurg/ctx.h"
#include "wsurg/digest.h"
#include "wsurg/manifest.h"

typedef struct ws_stage ws_stage;

typedef struct ws_stage_opts {
    const char *target; /**< file or directory that shall appear */
    bool is_dir;
    bool force;
    bool resume;
    const char
        *key; /**< 32 hex digits: what the journal must match to be gone on from */
    const char *const *inputs; /**< paths that the target must not be, hold, or lie in
                                  (dev and inode compared) */
    size_t n_inputs;
    const char *manifest; /**< where ws_stage_commit() will be told to put the manifest,
                             so that a mistake shows early; NULL: not known */
} ws_stage_opts;

/**
 * Open (or go on with) the staging of a target.
 *
 * A symbolic link at the target counts as what is there: it is replaced itself, never
 * written through. With `force` a directory may only be replaced when its manifest
 * lists every file in it, and neither a file by a directory nor the other way round.
 * @return WS_OK; WS_E_EXISTS target is there without force (nor finished by the run
 * that is resumed), may not be replaced, or is, holds or lies in an input; WS_E_LOCKED
 * a live run stages it; WS_E_USAGE the target names nothing; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_stage_open(ws_stage **out, const ws_stage_opts *o,
                               ws_diag *warnings, ws_err *err);

/** Whether a journal of the same key was found and is gone on from. */
WS_API bool ws_stage_resumed(const ws_stage *s);

/** Whether the run that is resumed was killed after its output appeared: target and
 * manifest are in place now, and there is nothing to do but ws_stage_close(). */
WS_API bool ws_stage_finished(const ws_stage *s);

/**
 * Create (or, resumed, reopen) the staged file @p name ("" when the target is a file; a
 * relative path inside a directory) of @p bytes, sparse; index in *id, counted from 0.
 * @return WS_OK; WS_E_IO; WS_E_MEMORY; WS_E_INTERNAL a name that leaves the directory
 */
WS_API ws_status ws_stage_file(ws_stage *s, const char *name, uint64_t bytes, int *id,
                               ws_err *err);

/** Write at @p offset of file @p id. Thread-safe. WS_OK; WS_E_IO (disk, quota or file
 * size limit reached, ...). */
WS_API ws_status ws_stage_write(ws_stage *s, int id, const void *data, size_t len,
                                uint64_t offset, ws_err *err);

/** Write @p len bytes of the input @p from, from its byte @p from_offset on, at
 * @p offset of file @p id: shared with it where the file system can, else copied.
 * WS_OK; WS_E_IO; WS_E_MEMORY. */
WS_API ws_status ws_stage_clone(ws_stage *s, int id, uint64_t offset, const char *from,
                                uint64_t from_offset, uint64_t len, ws_err *err);

/** Read back. Thread-safe. */
WS_API ws_status ws_stage_read(ws_stage *s, int id, void *data, size_t len,
                               uint64_t offset, ws_err *err);

/** Put a small file whole (index, config, copied companion). Not journaled: a resumed
 * run puts it again. Directories only. */
WS_API ws_status ws_stage_put(ws_stage *s, const char *name, const void *data,
                              size_t len, ws_err *err);

/** Bring in a whole file, @p from: shared with it where the file system can, else
 * copied. As ws_stage_put(). */
WS_API ws_status ws_stage_copy(ws_stage *s, const char *name, const char *from,
                               ws_err *err);

/**
 * Journal. A record is (@p type below WS_JOURNAL_OWN, @p a, @p b, @p n payload bytes,
 * at most 64 KiB); what it means is the caller's. It asserts work already written by
 * ws_stage_write(). After a crash of the machine, records since the last
 * ws_stage_sync() are not believed (they are when the same boot is still running).
 * Thread-safe.
 */
WS_API ws_status ws_stage_record(ws_stage *s, uint32_t type, uint64_t a, uint64_t b,
                                 const void *payload, size_t n, ws_err *err);

/** Visit the records that a resumed journal holds, oldest first. */
WS_API ws_status ws_stage_replay(ws_stage *s,
                                 ws_status (*visit)(void *arg, uint32_t type,
                                                    uint64_t a, uint64_t b,
                                                    const void *payload, size_t n,
                                                    ws_err *err),
                                 void *arg, ws_err *err);

/** Sync all staged data to disk, then mark the journal. Not beside ws_stage_file(). */
WS_API ws_status ws_stage_sync(ws_stage *s, ws_err *err);

/** The target as typed, without slashes at its end, and whether it is a directory. */
WS_API const char *ws_stage_target(const ws_stage *s, bool *is_dir);

/** Path of the staged file or directory, to re-open it for the final check. */
WS_API const char *ws_stage_path(const ws_stage *s);

/** Number of staged files, put and copied ones included. */
WS_API size_t ws_stage_count(const ws_stage *s);

/** Name ("" when the target is a file) and size of staged file @p i. */
WS_API const char *ws_stage_name(const ws_stage *s, size_t i, uint64_t *bytes);

/** Where the manifest of @p target goes unless the user says otherwise:
 * `DIR/manifest.json` or `FILE.manifest.json`. NULL when memory is out; ws_free. */
WS_API char *ws_stage_manifest_path(const char *target, bool is_dir);

/**
 * Make it appear: sync, rename (or exchange, then remove the old), sync the folder;
 * then write the manifest beside (a file target) or before the rename inside (a
 * directory target) when @p manifest_path is not NULL; remove the staging folder. @p m
 * is the manifest to write, its file paths relative to the target (of a file: its
 * name). A manifest of an earlier output never stays beside a new one.
 * @return WS_OK; WS_E_EXISTS the target has appeared meanwhile, or something else than
 * a manifest is at @p manifest_path; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_stage_commit(ws_stage *s, const ws_manifest *m,
                                 const char *manifest_path, ws_err *err);

/** Copy the staged file to @p fd (standard output) in place of ws_stage_commit().
 * @return WS_OK; WS_E_USAGE @p fd is a terminal; WS_E_IO; WS_E_INTERRUPTED */
WS_API ws_status ws_stage_emit(ws_stage *s, int fd, const ws_ctx *ctx, ws_err *err);

/** Close. @p keep leaves the folder for --resume; else it is removed. After commit
 * there is nothing left to do. NULL is fine. */
WS_API void ws_stage_close(ws_stage *s, bool keep);

#endif
