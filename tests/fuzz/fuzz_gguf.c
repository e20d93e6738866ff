/*
 * fuzz_gguf.c - whole GGUF files
 *
 * Nothing crashes, refusals say why, memory is a bounded multiple of the input. Of what
 * opens, every tensor can be read, and in three parts gives the same bytes.
 */
#define _GNU_SOURCE // memfd_create
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ckpt/gguf.h"
#include "fuzz.h"

/* The worst case of the tables is pairs of metadata with nothing in them. */
enum { MOST = 8192, MEMORY_BASE = 256 << 10, MEMORY_FACTOR = 32 };

static void read_twice(const ws_ckpt *c, const ws_tensor *t)
{
    static unsigned char whole[MOST], parts[MOST];
    const size_t n = t->n_bytes < MOST ? (size_t)t->n_bytes : MOST;
    const size_t a = n / 3 + 1, b = n - n / 3;
    if (n < 8)
        return;
    MUST(ws_ckpt_read(c, t, t->n_bytes - n, n, whole, NULL) == WS_OK);
    MUST(ws_ckpt_read(c, t, t->n_bytes - n, a, parts, NULL) == WS_OK);
    MUST(ws_ckpt_read(c, t, t->n_bytes - n + a, b - a, parts + a, NULL) == WS_OK);
    MUST(ws_ckpt_read(c, t, t->n_bytes - n + b, n - b, parts + b, NULL) == WS_OK);
    MUST(memcmp(whole, parts, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    ws_ckpt *c = NULL;
    ws_diag warnings = { 0 };
    ws_err err = WS_ERR_INIT;
    if (size < 4 || memcmp(data, "GGUF", 4) != 0)
        return 0; // other readers'
    const long live = ws_alloc_live();
    const int fd = memfd_create("gguf", 0);
    MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const ws_status st = ws_ckpt_open(&c, path, &warnings, &err);
    if (st == WS_OK) {
        MUST(c->arena.total + c->cap * sizeof *c->records +
                 c->n_slots * sizeof *c->slots + c->cap_meta * sizeof *c->meta <=
             MEMORY_BASE + MEMORY_FACTOR * size);
        for (size_t i = 0; i < ws_ckpt_count(c); i++)
            read_twice(c, ws_ckpt_tensor(c, i));
        ws_ckpt_free(c);
    } else {
        MUST(err.code == st && err.msg[0] != '\0');
        MUST(st == WS_E_HEADER || st == WS_E_UNSUPPORTED || st == WS_E_USAGE ||
             st == WS_E_MISSING);
    }
    ws_diag_free(&warnings);
    close(fd);
    MUST(ws_alloc_live() == live);
    return 0;
}
