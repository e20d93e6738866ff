/*
 * os.h - what only the operating system knows or does: processors, memory, disk, files
 */
#ifndef WS_BASE_OS_H
#define WS_BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wsurg/err.h"

/** Processors that the process may use: affinity mask cut by the cgroup's CPU
 * quota; 1..64. */
WS_API int ws_os_cpus(void);

/** Bytes of memory that the process may use: physical memory cut by the cgroup's limit.
 */
WS_API uint64_t ws_os_memory_total(void);

/** RssAnon + RssShmem of the process now, bytes. */
WS_API uint64_t ws_os_memory_now(void);

/** VmRSS: with the pages of files, programs and libraries, bytes. */
WS_API uint64_t ws_os_memory_resident(void);

/** VmHWM, bytes. */
WS_API uint64_t ws_os_memory_peak(void);

/** Free bytes for this user on the file system of @p path (or of its nearest existing
 * parent). */
WS_API uint64_t ws_os_disk_free(const char *path);

/** Identity of this boot, 36 characters and NUL; empty when unknown. */
WS_API void ws_os_boot_id(char out[37]);

/** Seconds of a clock that does not jump. */
WS_API double ws_os_now(void);

/** Rename without replacing: WS_E_EXISTS when @p to is there. */
WS_API ws_status ws_os_rename_new(const char *from, const char *to, ws_err *err);

/** Write @p len bytes as the file @p path, whole or not at all: synced beside it, then
 * renamed. WS_E_EXISTS when it is there and not to be replaced; WS_E_IO;
 * WS_E_MEMORY. */
WS_API ws_status ws_os_put_file(const char *path, const void *data, size_t len,
                                bool replace, ws_err *err);

/** Swap two existing paths in one step. */
WS_API ws_status ws_os_exchange(const char *a, const char *b, ws_err *err);

/** fsync the directory at @p path. */
WS_API ws_status ws_os_sync_dir(const char *path, ws_err *err);

/** Remove a file or a whole directory tree without following links. Missing is fine. */
WS_API ws_status ws_os_remove_tree(const char *path, ws_err *err);

/** Whole pread / pwrite: loops, names a short read. @p path is for the report. */
WS_API ws_status ws_os_pread(int fd, const char *path, void *dst, size_t len,
                             uint64_t offset, ws_err *err);
WS_API ws_status ws_os_pwrite(int fd, const char *path, const void *src, size_t len,
                              uint64_t offset, ws_err *err);

/** Open for reading: regular files only, O_CLOEXEC | O_NONBLOCK | O_NOCTTY. */
WS_API ws_status ws_os_open_read(int *fd, const char *path, uint64_t *bytes,
                                 ws_err *err);

#endif
