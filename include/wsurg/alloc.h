/*
 * alloc.h - the library's only way to the heap, overflow-checked sizes, and arenas
 */
#ifndef WSURG_ALLOC_H
#define WSURG_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wsurg/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** a * b into @p out; false when it does not fit. */
static inline bool ws_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool ws_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool ws_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool ws_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/** Heap memory, 64-byte aligned from 4 KiB on; NULL when there is none. A size of 0
 * gives a pointer to free. */
WS_API void *ws_alloc(size_t size);

/** n * size zeroed bytes; NULL also when the product overflows. */
WS_API void *ws_calloc(size_t n, size_t size);

/** Grow or shrink; the old block stays when NULL comes back. */
WS_API void *ws_realloc(void *p, size_t size);
/** Room for one more item of @p size bytes in an array of @p n that holds *cap; half as
 * many again when it is full. False, and nothing changed, without memory. */
WS_API bool ws_grow(void **items, size_t n, size_t *cap, size_t size);
WS_API void ws_free(void *p);
WS_API char *ws_strdup(const char *s);
WS_API char *ws_strndup(const char *s, size_t n);

/** For tests: let the next @p n allocations succeed and the one after fail; negative:
 * never fail. */
WS_API void ws_alloc_fail_after(long n);

/** For tests: whether the failure asked for has happened (or none was asked for). */
WS_API bool ws_alloc_failed(void);

/** For tests: blocks not yet freed. */
WS_API long ws_alloc_live(void);

/** Many small blocks freed together. Zero is empty. */
typedef struct ws_arena {
    struct ws_arena_chunk *chunks;
    size_t total; /**< bytes taken from the heap */
} ws_arena;

/** @p size bytes, zeroed, 16-byte aligned; NULL when memory is out. */
WS_API void *ws_arena_alloc(ws_arena *a, size_t size);
WS_API void *ws_arena_calloc(ws_arena *a, size_t n, size_t size);
WS_API char *ws_arena_strdup(ws_arena *a, const char *s);
WS_API void ws_arena_free(ws_arena *a);

#ifdef __cplusplus
}
#endif

#endif
