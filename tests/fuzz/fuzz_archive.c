/*
 * fuzz_archive.c - whole files: zip archives of PyTorch and NumPy, and arrays
 *
 * Of what opens, every tensor can be read, and in two parts gives the same bytes.
 */
#define _GNU_SOURCE // memfd_create

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ckpt/ckpt_internal.h"
#include "fuzz.h"

enum { MOST = 4096 };

static void read_twice(const ws_ckpt *c, const ws_tensor *t)
{
    static unsigned char whole[MOST], parts[MOST];
    const size_t n = t->n_bytes < MOST ? (size_t)t->n_bytes : MOST, cut = n / 3;
    if (n == 0)
        return;
    MUST(ws_ckpt_read(c, t, 0, n, whole, NULL) == WS_OK);
    MUST(cut == 0 || ws_ckpt_read(c, t, 0, cut, parts, NULL) == WS_OK);
    MUST(ws_ckpt_read(c, t, cut, n - cut, parts + cut, NULL) == WS_OK);
    MUST(memcmp(whole, parts, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    const int fd = memfd_create("archive", 0);
    MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (ws_ckpt_open(&c, path, NULL, &err) == WS_OK) {
        for (size_t i = 0; i < ws_ckpt_count(c); i++)
            read_twice(c, ws_ckpt_tensor(c, i));
        ws_ckpt_free(c);
    } else {
        MUST(err.msg[0] != '\0');
    }
    close(fd);
    return 0;
}
