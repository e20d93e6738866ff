/*
 * journal.h - an append-only list of records that survives a kill at any byte
 *
 * One record, numbers little-endian:
 *
 *     n u32, type u32, a u64, b u64, payload (n), checksum (16)
 *
 * The checksum is XXH3-128 of the record before's checksum (zeros for the first) and
 * the record's other bytes: a good record vouches for all before it. What follows the
 * last good record is a torn write and is cut off. The first record holds the format
 * and the key, and each run that goes on adds one with its boot's identity: after a
 * crash of the machine only what came before the last sync is believed.
 */
#ifndef WS_CKPT_JOURNAL_H
#define WS_CKPT_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wsurg/err.h"
#include "wsurg/export.h"

enum { WS_JOURNAL_MAX_PAYLOAD = 64 << 10 };

/** Record types from here on are the journal's and the stage's own. */
#define WS_JOURNAL_OWN 0x40000000

typedef struct ws_journal ws_journal;

/** What ws_journal_replay() calls for each record. */
typedef ws_status ws_journal_visit(void *arg, uint32_t type, uint64_t a, uint64_t b,
                                   const void *payload, size_t n, ws_err *err);

/**
 * Start an empty journal for @p key (32 hex digits) in the empty file @p fd, opened for
 * reading and writing; takes @p fd, also on failure. @p path is for reports.
 * @return WS_OK; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_journal_new(ws_journal **out, int fd, const char *path,
                                const char *key, ws_err *err);

/**
 * Go on with the journal in @p fd: finds the records to believe and cuts off the rest.
 * Takes @p fd, also on failure.
 * @return WS_OK, with NULL in *out when there is nothing to go on from (another key,
 * another format, no whole first record); WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_journal_resume(ws_journal **out, int fd, const char *path,
                                   const char *key, ws_err *err);

/** Append a record in one write. Thread-safe. @pre n <= WS_JOURNAL_MAX_PAYLOAD
 * @return WS_OK; WS_E_IO, after which the journal is as before */
WS_API ws_status ws_journal_add(ws_journal *j, uint32_t type, uint64_t a, uint64_t b,
                                const void *payload, size_t n, ws_err *err);

/** Where the journal ends now: what stands before it may be declared synced later. */
WS_API uint64_t ws_journal_mark(ws_journal *j);

/** Declare that the work asserted before @p mark is on disk, and sync the journal. */
WS_API ws_status ws_journal_synced(ws_journal *j, uint64_t mark, ws_err *err);

/** Visit the records there were when the journal was opened, oldest first, the
 * journal's own left out, the stage's included. Stops at the first failure of @p visit
 * and returns it. */
WS_API ws_status ws_journal_replay(ws_journal *j, ws_journal_visit *visit, void *arg,
                                   ws_err *err);

WS_API void ws_journal_free(ws_journal *j);

/** For tests: pretend that this boot has the identity @p id (36 characters); NULL: ask
 * the system. */
WS_API void ws_journal_set_boot(const char *id);

#endif
