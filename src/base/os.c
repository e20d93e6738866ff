/*
 * os.c - what only the operating system knows or does
 */
#define _GNU_SOURCE // renameat2, sched_getaffinity, RENAME_EXCHANGE

#include "base/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "wsurg/ctx.h"
#include "wsurg/text.h"

enum { MAX_THREADS = 64, MAX_IO = 0x7ffff000 };

/** First line of a small kernel file; false when it is not there. */
static bool read_line(const char *path, char *buf, size_t size)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    const bool ok = fgets(buf, (int)size, f) != NULL;
    fclose(f);
    if (ok)
        buf[strcspn(buf, "\n")] = '\0';
    return ok;
}

/** Path of @p file in this process's unified cgroup; false without one. */
static bool cgroup_path(const char *file, char *out, size_t size)
{
    char line[512];
    FILE *f = fopen("/proc/self/cgroup", "re");
    bool found = false;
    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) == 0) {
            const int n = snprintf(out, size, "/sys/fs/cgroup%s/%s", line + 3, file);
            found = n > 0 && (size_t)n < size;
        }
    }
    fclose(f);
    return found;
}

static bool cgroup_line(const char *file, char *buf, size_t size)
{
    char path[640];
    return cgroup_path(file, path, sizeof path) && read_line(path, buf, size);
}

/** The decimal number that @p text opens with; *end is what follows it. */
static bool read_number(const char *text, unsigned long long *value, char **end)
{
    errno = 0;
    *value = strtoull(text, end, 10);
    return *end != text && errno == 0;
}

int ws_os_cpus(void)
{
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    char line[128], *end;
    unsigned long long quota, period;
    if (cgroup_line("cpu.max", line, sizeof line) && read_number(line, &quota, &end) &&
        read_number(end, &period, &end) && period > 0) {
        const int by_quota = (int)((quota + period - 1) / period);
        if (by_quota < n)
            n = by_quota;
    }
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

uint64_t ws_os_memory_total(void)
{
    uint64_t total =
        (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char line[128], *end;
    unsigned long long limit;
    if (cgroup_line("memory.max", line, sizeof line) &&
        read_number(line, &limit, &end) && limit < total)
        total = limit;
    return total;
}

/** Value in bytes of a "Name:   123 kB" line of /proc/self/status, 0 if absent. */
static uint64_t status_field(const char *text, const char *name)
{
    const char *p = strstr(text, name);
    unsigned long long kib;
    char *end;
    return p != NULL && read_number(p + strlen(name), &kib, &end) ? kib << 10 : 0;
}

static bool read_status(char *buf, size_t size)
{
    const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const ssize_t n = read(fd, buf, size - 1);
    close(fd);
    buf[n > 0 ? n : 0] = '\0';
    return n > 0;
}

uint64_t ws_os_memory_now(void)
{
    char buf[4096];
    if (!read_status(buf, sizeof buf))
        return 0;
    return status_field(buf, "RssAnon:") + status_field(buf, "RssShmem:");
}

uint64_t ws_os_memory_resident(void)
{
    char buf[4096];
    return read_status(buf, sizeof buf) ? status_field(buf, "VmRSS:") : 0;
}

uint64_t ws_os_memory_peak(void)
{
    char buf[4096];
    return read_status(buf, sizeof buf) ? status_field(buf, "VmHWM:") : 0;
}

uint64_t ws_os_disk_free(const char *path)
{
    char p[4096];
    struct statvfs v;
    if ((size_t)snprintf(p, sizeof p, "%s", path) >= sizeof p)
        return 0;
    while (statvfs(p, &v) != 0) {
        char *slash = strrchr(p, '/');
        if (slash == NULL)
            snprintf(p, sizeof p, ".");
        else if (slash == p)
            p[1] = '\0';
        else
            *slash = '\0';
        if (errno != ENOENT && errno != ENOTDIR)
            return 0;
    }
    return (uint64_t)v.f_bavail * v.f_frsize;
}

void ws_os_boot_id(char out[37])
{
    char line[64];
    out[0] = '\0';
    if (read_line("/proc/sys/kernel/random/boot_id", line, sizeof line) &&
        strlen(line) == 36)
        memcpy(out, line, 37);
}

double ws_os_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

ws_status ws_os_rename_new(const char *from, const char *to, ws_err *err)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return WS_OK;
    if (errno == EINVAL || errno == ENOSYS) {
        // the file system cannot refuse by itself: look, then rename
        struct stat st;
        if (lstat(to, &st) == 0)
            errno = EEXIST;
        else if (rename(from, to) == 0)
            return WS_OK;
    }
    const int sys = errno;
    if (sys == EEXIST || sys == ENOTEMPTY)
        ws_fail(err, WS_E_EXISTS, "output exists");
    else
        ws_fail_sys(err, WS_E_IO, sys, "cannot rename into place");
    ws_err_at(err, to, NULL, -1);
    return sys == EEXIST || sys == ENOTEMPTY ? WS_E_EXISTS : WS_E_IO;
}

/** Write and sync @p path anew. */
static ws_status file_write(const char *path, const void *data, size_t len, ws_err *err)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return ws_fail_sys(err, WS_E_IO, errno, "cannot create");
    ws_status st = ws_os_pwrite(fd, path, data, len, 0, err);
    if (st == WS_OK && fsync(fd) != 0)
        st = ws_fail_sys(err, WS_E_IO, errno, "cannot write to the disk");
    if (close(fd) != 0 && st == WS_OK)
        st = ws_fail_sys(err, WS_E_IO, errno, "cannot close");
    return st;
}

ws_status ws_os_put_file(const char *path, const void *data, size_t len, bool replace,
                         ws_err *err)
{
    ws_buf part = { 0 };
    const char *slash = strrchr(path, '/');
    const int folder = slash == NULL ? 0 : (int)(slash + 1 - path);
    ws_buf_printf(&part, "%.*s.%s.wsurg-part", folder, path, path + folder);
    ws_status st = part.failed ? ws_fail(err, WS_E_MEMORY, "no memory for a path")
                               : file_write(part.p, data, len, err);
    if (st == WS_OK && !replace)
        st = ws_os_rename_new(part.p, path, err);
    else if (st == WS_OK && rename(part.p, path) != 0)
        st = ws_fail_sys(err, WS_E_IO, errno, "cannot rename");
    if (st != WS_OK) {
        ws_err_at(err, path, NULL, -1);
        if (part.p != NULL)
            unlink(part.p);
    }
    ws_buf_free(&part);
    return st;
}

ws_status ws_os_exchange(const char *a, const char *b, ws_err *err)
{
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0)
        return WS_OK;
    ws_fail_sys(err, WS_E_IO, errno, "cannot exchange with '%s'", a);
    ws_err_at(err, b, NULL, -1);
    return WS_E_IO;
}

ws_status ws_os_sync_dir(const char *path, ws_err *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // some file systems cannot sync a directory and say EINVAL: nothing more can be
    // done
    const bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    const int sys = errno;
    if (fd >= 0)
        close(fd);
    if (ok)
        return WS_OK;
    ws_fail_sys(err, WS_E_IO, sys, "cannot sync the folder");
    ws_err_at(err, path, NULL, -1);
    return WS_E_IO;
}

/** Remove what is in the open directory (closes it). False with errno set. */
static bool remove_entries(int fd)
{
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return false;
    }
    bool ok = true;
    const struct dirent *e;
    while (ok &&
           (e = readdir(dir)) != NULL) { // NOLINT(concurrency-mt-unsafe): own stream
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(dir), e->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR && errno != EPERM) {
            ok = false;
            break;
        }
        const int sub = openat(dirfd(dir), e->d_name,
                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        ok = sub >= 0 && remove_entries(sub) &&
             unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR) == 0;
    }
    const int sys = errno;
    closedir(dir);
    errno = sys;
    return ok;
}

ws_status ws_os_remove_tree(const char *path, ws_err *err)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return WS_OK;
    int sys = errno;
    if (sys == EISDIR || sys == EPERM) {
        const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && remove_entries(fd) && rmdir(path) == 0)
            return WS_OK;
        sys = errno;
    }
    ws_fail_sys(err, WS_E_IO, sys, "cannot remove");
    ws_err_at(err, path, NULL, -1);
    return WS_E_IO;
}

ws_status ws_os_pread(int fd, const char *path, void *dst, size_t len, uint64_t offset,
                      ws_err *err)
{
    char *p = dst;
    while (len > 0) {
        const ssize_t n = pread(fd, p, len > MAX_IO ? MAX_IO : len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                ws_fail(err, WS_E_IO,
                        "file ends early: it has become shorter while it was read");
            else
                ws_fail_sys(err, WS_E_IO, errno, "cannot read");
            ws_err_at(err, path, NULL, (int64_t)offset);
            return WS_E_IO;
        }
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return WS_OK;
}

ws_status ws_os_pwrite(int fd, const char *path, const void *src, size_t len,
                       uint64_t offset, ws_err *err)
{
    const char *p = src;
    while (len > 0) {
        const ssize_t n = pwrite(fd, p, len > MAX_IO ? MAX_IO : len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            ws_fail_sys(err, WS_E_IO, n == 0 ? ENOSPC : errno, "cannot write");
            ws_err_at(err, path, NULL, (int64_t)offset);
            return WS_E_IO;
        }
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return WS_OK;
}

ws_status ws_os_open_read(int *fd, const char *path, uint64_t *bytes, ws_err *err)
{
    struct stat st;
    const int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f < 0) {
        ws_fail_sys(err, WS_E_IO, errno, "cannot open");
        ws_err_at(err, path, NULL, -1);
        return WS_E_IO;
    }
    if (fstat(f, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(f);
        ws_fail(err, WS_E_IO, "not a regular file");
        ws_err_at(err, path, NULL, -1);
        return WS_E_IO;
    }
    *fd = f;
    *bytes = (uint64_t)st.st_size;
    return WS_OK;
}

int ws_ctx_threads(const ws_ctx *ctx)
{
    if (ctx != NULL && ctx->threads > 0)
        return ctx->threads > MAX_THREADS ? MAX_THREADS : ctx->threads;
    return ws_os_cpus();
}

double ws_usage_begin(void)
{
    return ws_os_now();
}

void ws_usage_take(ws_usage *u, double began, const ws_ctx *ctx)
{
    u->seconds = ws_os_now() - began;
    u->threads = ws_ctx_threads(ctx);
    u->peak_resident = u->peak_memory = ws_os_memory_peak();
}

uint64_t ws_ctx_memory(const ws_ctx *ctx)
{
    return ctx != NULL && ctx->max_memory > 0 ? ctx->max_memory : WS_MEMORY_DEFAULT;
}
