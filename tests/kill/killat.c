/*
 * killat.c - preloaded: SIGKILL just before the n-th step that changes the file system
 *
 * Steps are calls that create, sync, rename, link or remove; each is one state in which
 * a machine may die. KILL_AT=N kills before step N (counted from 1); KILL_LOG=FILE gets
 * the name of each step, a line each.
 */
#undef _FILE_OFFSET_BITS // it would make open() another name of open64()
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int steps;

static void step(const char *name)
{
    const char *at = getenv("KILL_AT"), *log = getenv("KILL_LOG");
    const int n = atomic_fetch_add(&steps, 1) + 1;
    if (log != NULL) {
        const int fd = (int)syscall(SYS_openat, AT_FDCWD, log,
                                    O_WRONLY | O_CREAT | O_APPEND, 0666);
        char line[64];
        const int len = snprintf(line, sizeof line, "%d %s\n", n, name);
        if (fd >= 0 && syscall(SYS_write, fd, line, (size_t)len) == len)
            close(fd);
    }
    if (at != NULL && n == (int)strtol(at, NULL, 10))
        kill(getpid(), SIGKILL);
}

/* The real function behind each wrapper. */
#define REAL(type, name, ...)                                                          \
    static type (*real)(__VA_ARGS__);                                                  \
    if (real == NULL)                                                                  \
    *(void **)&real = dlsym(RTLD_NEXT, name)

#define WRAP(name, params, args, types)                                                \
    int name params;                                                                   \
    int name params                                                                    \
    {                                                                                  \
        REAL(int, #name, types);                                                       \
        step(#name);                                                                   \
        return real args;                                                              \
    }
#define TYPES(...) __VA_ARGS__

WRAP(fsync, (int fd), (fd), int)
WRAP(fdatasync, (int fd), (fd), int)
WRAP(syncfs, (int fd), (fd), int)
WRAP(rename, (const char *a, const char *b), (a, b), TYPES(const char *, const char *))
WRAP(renameat, (int d, const char *a, int e, const char *b), (d, a, e, b),
     TYPES(int, const char *, int, const char *))
WRAP(renameat2, (int d, const char *a, int e, const char *b, unsigned f),
     (d, a, e, b, f), TYPES(int, const char *, int, const char *, unsigned))
WRAP(link, (const char *a, const char *b), (a, b), TYPES(const char *, const char *))
WRAP(linkat, (int d, const char *a, int e, const char *b, int f), (d, a, e, b, f),
     TYPES(int, const char *, int, const char *, int))
WRAP(unlink, (const char *a), (a), const char *)
WRAP(unlinkat, (int d, const char *a, int f), (d, a, f), TYPES(int, const char *, int))
WRAP(rmdir, (const char *a), (a), const char *)
WRAP(mkdir, (const char *a, mode_t m), (a, m), TYPES(const char *, mode_t))
WRAP(mkdirat, (int d, const char *a, mode_t m), (d, a, m),
     TYPES(int, const char *, mode_t))

#define WRAP_OPEN(name)                                                                \
    int name(const char *path, int flags, ...);                                        \
    int name(const char *path, int flags, ...)                                         \
    {                                                                                  \
        REAL(int, #name, const char *, int, ...);                                      \
        va_list args;                                                                  \
        va_start(args, flags);                                                         \
        const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;                \
        va_end(args);                                                                  \
        if (flags & O_CREAT)                                                           \
            step(#name);                                                               \
        return real(path, flags, mode);                                                \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_OPENAT(name)                                                              \
    int name(int dir, const char *path, int flags, ...);                               \
    int name(int dir, const char *path, int flags, ...)                                \
    {                                                                                  \
        REAL(int, #name, int, const char *, int, ...);                                 \
        va_list args;                                                                  \
        va_start(args, flags);                                                         \
        const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;                \
        va_end(args);                                                                  \
        if (flags & O_CREAT)                                                           \
            step(#name);                                                               \
        return real(dir, path, flags, mode);                                           \
    }
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)

/** renameat2 is called by number where libc lacks it. */
long syscall(long number, ...)
{
    static long (*real)(long, ...);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_renameat2)
        step("renameat2");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
