/*
 * hash.h - streaming SHA-256 (libcrypto) and XXH3-128
 */
#ifndef WS_BASE_HASH_H
#define WS_BASE_HASH_H

#include <stdbool.h>

#include "wsurg/xxh.h"

/** Both digests of one byte stream. */
typedef struct ws_hasher ws_hasher;

WS_API ws_hasher *ws_hasher_new(void);
WS_API void ws_hasher_add(ws_hasher *h, const void *data, size_t n);
/** SHA-256 as 64 hex digits, XXH3-128 as 32. False when libcrypto failed. */
WS_API bool ws_hasher_end(ws_hasher *h, char sha256[65], char xxh3[33]);
WS_API void ws_hasher_free(ws_hasher *h);

/** XXH3-128 alone, streaming. */
typedef struct ws_xxh_stream ws_xxh_stream;
WS_API ws_xxh_stream *ws_xxh_stream_new(void);
WS_API void ws_xxh_stream_reset(ws_xxh_stream *s);
WS_API void ws_xxh_stream_add(ws_xxh_stream *s, const void *data, size_t n);
WS_API ws_xxh128 ws_xxh_stream_end(ws_xxh_stream *s);
WS_API void ws_xxh_stream_free(ws_xxh_stream *s);

/** Key of the random stream for (seed, method, model index, tensor name): XXH3-128 of
 * their length-prefixed encoding. */
WS_API void ws_rng_key_make(uint64_t seed, const char *method, uint64_t model,
                            const char *tensor, uint64_t out[2]);

#endif
