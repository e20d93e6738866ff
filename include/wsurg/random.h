/*
 * random.h - random numbers that are a pure function of key and place
 */
#ifndef WSURG_RANDOM_H
#define WSURG_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "wsurg/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Key of the stream for one (seed, method, model, tensor). */
typedef struct ws_rng_key {
    uint64_t key, stream;
} ws_rng_key;

/**
 * Uniform 32-bit words of the elements first .. first+n-1 of the stream @p key:
 * Philox4x32-10, counter = element index / 4, lane = index mod 4. Pure: any cut gives
 * the same words.
 *
 * @source Salmon et al. 2011, doi:10.1145/2063384.2063405
 */
WS_API void ws_random_fill(const ws_rng_key *key, uint64_t first, uint32_t *out,
                           size_t n);

/** Group of each element of first .. first+n-1, one of @p groups (at least 1):
 * floor(word * groups / 2^32), the word being ws_random_fill()'s. */
WS_API void ws_random_groups(const ws_rng_key *key, uint32_t groups, uint64_t first,
                             uint32_t *out, size_t n);

/** floor(p * 2^32) clamped to 0 .. 2^32: an element is kept when its word < this. */
WS_API uint64_t ws_random_threshold(double p);

#ifdef __cplusplus
}
#endif

#endif
