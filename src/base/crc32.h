/*
 * crc32.h - the checksum of zip archives, in parts that are joined
 */
#ifndef WS_BASE_CRC32_H
#define WS_BASE_CRC32_H

#include <stddef.h>
#include <stdint.h>

#include "wsurg/export.h"

/** Tables for eight bytes at a time. */
typedef struct ws_crc32 {
    uint32_t table[8][256];
} ws_crc32;

WS_API void ws_crc32_init(ws_crc32 *c);

/** The checksum of what had @p crc (0: nothing yet), followed by @p n bytes. */
WS_API uint32_t ws_crc32_add(const ws_crc32 *c, uint32_t crc, const void *data,
                             size_t n);

/** The checksum of what has @p a followed by the @p n bytes that have @p b. */
WS_API uint32_t ws_crc32_join(uint32_t a, uint32_t b, uint64_t n);

#endif
