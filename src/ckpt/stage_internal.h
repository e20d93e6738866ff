/*
 * stage_internal.h - what the files of the stage share
 */
#ifndef WS_CKPT_STAGE_INTERNAL_H
#define WS_CKPT_STAGE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "ckpt/journal.h"
#include "ckpt/stage.h"

/** The stage's records in the journal. */
enum {
    WS_STAGE_FILE = WS_JOURNAL_OWN + 0x100, /* a: bytes, b: inode, payload: name */
    WS_STAGE_COMMIT, /* b: inode of `out`, payload: path of the manifest or nothing */
};

/** One staged file. */
struct ws_stage_entry {
    char *name; /* in the target, "" when that is the file */
    int fd;     /* -1: put or copied, closed */
    uint64_t bytes;
    size_t n_windows;       /* 0: no early write-back */
    atomic_ullong *written; /* (n_windows) bytes written so far */
};

struct ws_stage {
    char *target;     /* as typed, without slashes at the end */
    char *parent;     /* path of its folder */
    const char *name; /* last component; in target */
    char *folder;     /* path of the staging folder */
    char *out;        /* path of what is staged */
    char *doomed;     /* room for the path of what is removed from the folder */
    size_t doomed_size;
    int parent_fd, folder_fd, lock_fd;
    int out_fd; /* of the staged directory, -1 for a file */
    bool is_dir, force, resumed;
    bool finished; /* the output is in place: only the folder is left */
    ws_journal *journal;
    struct ws_stage_entry **entries; /* never move: writers hold them */
    size_t n, cap;
    pthread_mutex_t lock; /* of entries */
};

/** "cannot WHAT: strerror", at the target. WS_E_IO. */
ws_status ws_stage_fail(const ws_stage *s, int sys, const char *what, ws_err *err);

/** Names inside the staging folder. */
#define WS_STAGE_OUT      "out"
#define WS_STAGE_OLD      "old"
#define WS_STAGE_JOURNAL  "journal"
#define WS_STAGE_LOCK     "lock"
#define WS_STAGE_MANIFEST "manifest"

/* ---- stage_guard.c: what may not be written to ---- */

/** Check the target against the inputs and against what may not be replaced.
 * @p o as given to ws_stage_open(). */
ws_status ws_stage_guard(const ws_stage *s, const ws_stage_opts *o, ws_err *err);

/** Whether what stands at the target may be replaced: WS_E_EXISTS with the reason. Fine
 * when nothing is there. */
ws_status ws_stage_replaceable(const ws_stage *s, ws_err *err);

/** WS_E_EXISTS when something other than a manifest is at @p path. */
ws_status ws_stage_guard_manifest(const ws_stage *s, const char *path, ws_err *err);

/** The report for a target that is there. */
ws_status ws_stage_exists(const ws_stage *s, ws_err *err);

/** The target itself, links not followed; false when nothing is there. */
bool ws_stage_stat(const ws_stage *s, struct stat *sb);

/* ---- stage_clone.c ---- */

/** Bytes of one open file on their way into another. */
struct ws_transfer {
    int out, in;
    const char *target, *from; /* what errors name: of out and of in */
    uint64_t offset, from_offset, len;
};

/** Share them where the file system can and they are all of the file @p whole, else
 * have the kernel copy them, else read and write. WS_OK; WS_E_IO; WS_E_MEMORY. */
ws_status ws_stage_transfer(const struct ws_transfer *t, bool whole, ws_err *err);

/* ---- stage_commit.c ---- */

/** Finish what a killed commit left: @p manifest is where it was to go, or "". */
ws_status ws_stage_finish(ws_stage *s, const char *manifest, ws_err *err);

/** Put an old directory back that a killed run without an exchange had moved away. */
ws_status ws_stage_restore(const ws_stage *s, ws_err *err);

/** Sync data and folders of what is staged. */
ws_status ws_stage_sync_files(ws_stage *s, ws_err *err);

#endif
