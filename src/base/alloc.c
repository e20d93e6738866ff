/*
 * alloc.c - the library's only way to the heap, and arenas
 */
#include "wsurg/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64 << 10, ALIGN_FROM = 4096 };

static atomic_long live;
static atomic_long fail_after = -1; // negative: never

/** Whether this allocation is one that a test wants to fail. */
static bool must_fail(void)
{
    if (atomic_load_explicit(&fail_after, memory_order_relaxed) < 0)
        return false;
    return atomic_fetch_sub(&fail_after, 1) == 0;
}

static void *counted(void *p)
{
    if (p != NULL)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void *ws_alloc(size_t size)
{
    if (must_fail())
        return NULL;
    if (size < ALIGN_FROM)
        return counted(malloc(size == 0 ? 1 : size));
    if (size > SIZE_MAX - 63)
        return NULL;
    return counted(aligned_alloc(64, (size + 63) & ~(size_t)63));
}

void *ws_calloc(size_t n, size_t size)
{
    size_t total;
    if (!ws_mul_size(n, size, &total) || must_fail())
        return NULL;
    return counted(calloc(total == 0 ? 1 : total, 1));
}

void *ws_realloc(void *p, size_t size)
{
    if (must_fail())
        return NULL;
    void *q = realloc(p, size == 0 ? 1 : size);
    return p == NULL ? counted(q) : q;
}

bool ws_grow(void **items, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    const size_t want = *cap == 0 ? 16 : *cap + *cap / 2;
    size_t bytes;
    void *p = ws_mul_size(want, size, &bytes) ? ws_realloc(*items, bytes) : NULL;
    if (p == NULL)
        return false;
    *items = p;
    *cap = want;
    return true;
}

void ws_free(void *p)
{
    if (p == NULL)
        return;
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(p);
}

char *ws_strndup(const char *s, size_t n)
{
    char *p = n == SIZE_MAX ? NULL : ws_alloc(n + 1);
    if (p != NULL) {
        memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

char *ws_strdup(const char *s)
{
    return ws_strndup(s, strlen(s));
}

void ws_alloc_fail_after(long n)
{
    atomic_store(&fail_after, n);
}

bool ws_alloc_failed(void)
{
    return atomic_load(&fail_after) < 0;
}

long ws_alloc_live(void)
{
    return atomic_load(&live);
}

/* ---- arenas ---- */

struct ws_arena_chunk {
    struct ws_arena_chunk *next;
    size_t used, size;
    _Alignas(16) unsigned char bytes[];
};

void *ws_arena_alloc(ws_arena *a, size_t size)
{
    struct ws_arena_chunk *c = a->chunks;
    if (size > SIZE_MAX / 2)
        return NULL;
    const size_t want = (size + 15) & ~(size_t)15;
    if (c == NULL || c->size - c->used < want) {
        const size_t room = want > CHUNK ? want : CHUNK;
        c = ws_calloc(1, sizeof *c + room);
        if (c == NULL)
            return NULL;
        c->size = room;
        c->next = a->chunks;
        a->chunks = c;
        a->total += sizeof *c + room;
    }
    void *p = c->bytes + c->used;
    c->used += want;
    return p;
}

void *ws_arena_calloc(ws_arena *a, size_t n, size_t size)
{
    size_t total;
    return ws_mul_size(n, size, &total) ? ws_arena_alloc(a, total) : NULL;
}

char *ws_arena_strdup(ws_arena *a, const char *s)
{
    const size_t n = strlen(s) + 1;
    char *p = ws_arena_alloc(a, n);
    if (p != NULL)
        memcpy(p, s, n);
    return p;
}

void ws_arena_free(ws_arena *a)
{
    while (a->chunks != NULL) {
        struct ws_arena_chunk *next = a->chunks->next;
        ws_free(a->chunks);
        a->chunks = next;
    }
    a->total = 0;
}
