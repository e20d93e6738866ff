/*
 * xxh.h - XXH3-128 digests
 */
#ifndef WSURG_XXH_H
#define WSURG_XXH_H

#include <stddef.h>
#include <stdint.h>

#include "wsurg/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** XXH3-128 in canonical form: big-endian, high half first. */
typedef struct ws_xxh128 {
    uint8_t b[16];
} ws_xxh128;

/** XXH3-128 (seed 0) of @p len bytes. */
WS_API ws_xxh128 ws_xxh3(const void *data, size_t len);

/** 32 hex digits and NUL. */
WS_API void ws_xxh128_hex(ws_xxh128 h, char out[33]);

#ifdef __cplusplus
}
#endif

#endif
