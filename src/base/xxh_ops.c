/*
 * xxh_ops.c - XXH3-128 for one kind of processor: WS_XXH_OPS names the result
 */
#define XXH_INLINE_ALL

#include "base/xxh_ops.h"

#include <string.h>
#include <xxhash.h>

#ifndef WS_XXH_OPS
#define WS_XXH_OPS ws_xxh_ops_plain
#endif

static ws_xxh128 canonical(XXH128_hash_t h)
{
    XXH128_canonical_t c;
    ws_xxh128 out;
    XXH128_canonicalFromHash(&c, h);
    memcpy(out.b, c.digest, sizeof out.b);
    return out;
}

static void reset(void *state)
{
    XXH3_128bits_reset(state);
}

static void add(void *state, const void *data, size_t n)
{
    XXH3_128bits_update(state, data, n);
}

static ws_xxh128 end(const void *state)
{
    return canonical(XXH3_128bits_digest(state));
}

static ws_xxh128 once(const void *data, size_t n)
{
    return canonical(XXH3_128bits(data, n));
}

const ws_xxh_ops WS_XXH_OPS = {
    .state_size = sizeof(XXH3_state_t),
    .reset = reset,
    .add = add,
    .end = end,
    .once = once,
};
