/*
 * rng.c - counter-based random numbers: Philox4x32-10
 *
 *   word i of a stream = lane (i mod 4) of Philox(counter = (i / 4, stream), key)
 *
 * Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (2011),
 * doi:10.1145/2063384.2063405. Part of the file contract: the words of a (seed, method,
 * model, tensor) never change.
 */
#define XXH_STATIC_LINKING_ONLY // a state on the stack
#include <string.h>
#include <xxhash.h>

#include "base/hash.h"
#include "base/rng.h"

enum { ROUNDS = 10, BATCH = WS_PHILOX_BATCH, BATCH_WORDS = 4 * BATCH };

static void add_u64(XXH3_state_t *s, uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    (void)XXH3_128bits_update(s, b, sizeof b);
}

static void add_text(XXH3_state_t *s, const char *text)
{
    const size_t len = strlen(text);
    add_u64(s, len);
    (void)XXH3_128bits_update(s, text, len);
}

void ws_rng_key_make(uint64_t seed, const char *method, uint64_t model,
                     const char *tensor, uint64_t out[2])
{
    XXH3_state_t s;
    (void)XXH3_128bits_reset(&s);
    add_u64(&s, seed);
    add_text(&s, method);
    add_u64(&s, model);
    add_text(&s, tensor);
    const XXH128_hash_t h = XXH3_128bits_digest(&s);
    out[0] = h.low64;
    out[1] = h.high64;
}

WS_HOT void ws_philox(const ws_rng_key *key, uint64_t first, uint32_t *out)
{
    enum { WIDTH = 8 }; // counters that go through the rounds side by side
    for (size_t j = 0; j < WS_PHILOX_BATCH; j += WIDTH) {
        uint32_t c0[WIDTH], c1[WIDTH], c2[WIDTH], c3[WIDTH];
        uint32_t k0 = (uint32_t)key->key, k1 = (uint32_t)(key->key >> 32);
        for (size_t i = 0; i < WIDTH; i++) {
            c0[i] = (uint32_t)(first + j + i);
            c1[i] = (uint32_t)((first + j + i) >> 32);
            c2[i] = (uint32_t)key->stream;
            c3[i] = (uint32_t)(key->stream >> 32);
        }
        for (int r = 0; r < ROUNDS; r++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
            for (size_t i = 0; i < WIDTH; i++) {
                const uint64_t a = (uint64_t)c0[i] * 0xD2511F53u;
                const uint64_t b = (uint64_t)c2[i] * 0xCD9E8D57u;
                c0[i] = (uint32_t)(b >> 32) ^ c1[i] ^ k0;
                c1[i] = (uint32_t)b;
                c2[i] = (uint32_t)(a >> 32) ^ c3[i] ^ k1;
                c3[i] = (uint32_t)a;
            }
        for (size_t i = 0; i < WIDTH; i++) {
            uint32_t *at = out + 4 * (j + i);
            at[0] = c0[i];
            at[1] = c1[i];
            at[2] = c2[i];
            at[3] = c3[i];
        }
    }
}

void ws_random_fill(const ws_rng_key *key, uint64_t first, uint32_t *out, size_t n)
{
    uint32_t words[BATCH_WORDS];
    for (size_t i = 0, len; i < n; i += len) {
        const size_t skip = (size_t)((first + i) % 4);
        len = n - i < BATCH_WORDS - skip ? n - i : BATCH_WORDS - skip;
        if (len == BATCH_WORDS) {
            ws_philox(key, (first + i) / 4, out + i);
        } else {
            ws_philox(key, (first + i) / 4, words);
            memcpy(out + i, words + skip, len * sizeof *words);
        }
    }
}

void ws_random_groups(const ws_rng_key *key, uint32_t groups, uint64_t first,
                      uint32_t *out, size_t n)
{
    ws_random_fill(key, first, out, n);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint32_t)((uint64_t)out[i] * groups >> 32);
}

uint64_t ws_random_threshold(double p)
{
    const double scaled = p * 4294967296.0;
    if (!(scaled > 0.0))
        return 0;
    return scaled < 4294967296.0 ? (uint64_t)scaled : 4294967296ull;
}
