/*
 * temp_dir.h - an empty current directory for each test, and small files in it
 */
#ifndef WS_TEMP_DIR_H
#define WS_TEMP_DIR_H

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "ws_test.h"

/** cmocka setup: make a directory and go there. */
static inline int temp_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    char *dir = test_malloc(4096);
    // in memory where that is possible: some tests sync thousands of times
    if (base == NULL || *base == '\0')
        base = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(dir, 4096, "%s/wsurg-test-XXXXXX", base);
    if (mkdtemp(dir) == NULL || chdir(dir) != 0)
        return -1;
    *state = dir;
    return 0;
}

/** cmocka teardown: leave it and remove it. */
static inline int temp_teardown(void **state)
{
    if (chdir("/") != 0)
        return -1;
    const ws_status st = ws_os_remove_tree(*state, NULL);
    test_free(*state);
    return st == WS_OK ? 0 : -1;
}

static inline void spit(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void spit_text(const char *path, const char *text)
{
    spit(path, text, strlen(text));
}

/** Whole small file, NUL-terminated, in a static buffer; NULL if it is not there. */
static inline const char *slurp(const char *path, size_t *n)
{
    static char buf[1 << 20];
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    const size_t k = fread(buf, 1, sizeof buf - 1, f);
    fclose(f);
    buf[k] = '\0';
    if (n != NULL)
        *n = k;
    return buf;
}

static inline bool there(const char *path)
{
    struct stat sb;
    return lstat(path, &sb) == 0;
}

#define assert_file(path, text)                                                        \
    do {                                                                               \
        const char *got_ = slurp(path, NULL);                                          \
        assert_non_null(got_);                                                         \
        assert_string_equal(got_, text);                                               \
    } while (0)

#endif
