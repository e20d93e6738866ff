/*
 * xxh_ops.h - XXH3-128 compiled for several kinds of processor
 *
 * The shared library's own update() is compiled for the oldest x86-64 and takes 2.5
 * times as long as one with wide registers. So xxhash.h is compiled in, once for each
 * kind (see meson.build), and the kind is chosen at run time. Same digests.
 */
#ifndef WS_BASE_XXH_OPS_H
#define WS_BASE_XXH_OPS_H

#include <stddef.h>

#include "wsurg/xxh.h"

/** One kind. States are of the kind that made them: @p state_size bytes at a multiple
 * of WS_XXH_ALIGN. */
typedef struct ws_xxh_ops {
    size_t state_size;
    void (*reset)(void *state);
    void (*add)(void *state, const void *data, size_t n);
    ws_xxh128 (*end)(const void *state);
    ws_xxh128 (*once)(const void *data, size_t n);
} ws_xxh_ops;

enum { WS_XXH_ALIGN = 64 };

extern const ws_xxh_ops ws_xxh_ops_plain;
#ifdef __x86_64__
extern const ws_xxh_ops ws_xxh_ops_v3, ws_xxh_ops_v4;
#endif

#endif
