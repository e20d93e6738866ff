/*
 * rng.h - the generator below ws_random_fill(), for its test
 */
#ifndef WS_BASE_RNG_H
#define WS_BASE_RNG_H

#include "wsurg/random.h"

enum { WS_PHILOX_BATCH = 64 }; /**< counters made together */

/** The four words of each of WS_PHILOX_BATCH counters, from (@p first, key->stream)
 * on. */
void ws_philox(const ws_rng_key *key, uint64_t first, uint32_t *out);

#endif
