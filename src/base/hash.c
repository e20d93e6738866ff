/*
 * hash.c - streaming SHA-256 (libcrypto) and XXH3-128
 */
#include "base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/xxh_ops.h"
#include "wsurg/alloc.h"

/** The kind of XXH3 for this processor. */
static const ws_xxh_ops *xxh(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return &ws_xxh_ops_v4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2"))
        return &ws_xxh_ops_v3;
#endif
    return &ws_xxh_ops_plain;
}

static void hex(const uint8_t *b, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", b[i]);
}

ws_xxh128 ws_xxh3(const void *data, size_t len)
{
    return xxh()->once(data, len);
}

void ws_xxh128_hex(ws_xxh128 h, char out[33])
{
    hex(h.b, sizeof h.b, out);
}

struct ws_xxh_stream {
    const ws_xxh_ops *ops;
    void *state; // in the memory behind
};

ws_xxh_stream *ws_xxh_stream_new(void)
{
    const ws_xxh_ops *ops = xxh();
    ws_xxh_stream *s = ws_alloc(sizeof *s + WS_XXH_ALIGN + ops->state_size);
    if (s == NULL)
        return NULL;
    const uintptr_t after = (uintptr_t)(s + 1) + WS_XXH_ALIGN - 1;
    s->ops = ops;
    s->state = (void *)(after / WS_XXH_ALIGN * WS_XXH_ALIGN);
    ws_xxh_stream_reset(s);
    return s;
}

void ws_xxh_stream_reset(ws_xxh_stream *s)
{
    s->ops->reset(s->state);
}

void ws_xxh_stream_add(ws_xxh_stream *s, const void *data, size_t n)
{
    s->ops->add(s->state, data, n);
}

ws_xxh128 ws_xxh_stream_end(ws_xxh_stream *s)
{
    return s->ops->end(s->state);
}

void ws_xxh_stream_free(ws_xxh_stream *s)
{
    ws_free(s);
}

struct ws_hasher {
    EVP_MD_CTX *sha;
    ws_xxh_stream *xxh;
    bool failed;
};

ws_hasher *ws_hasher_new(void)
{
    ws_hasher *h = ws_calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->sha = EVP_MD_CTX_new();
    h->xxh = ws_xxh_stream_new();
    if (h->sha == NULL || h->xxh == NULL ||
        EVP_DigestInit_ex(h->sha, EVP_sha256(), NULL) != 1) {
        ws_hasher_free(h);
        return NULL;
    }
    return h;
}

void ws_hasher_add(ws_hasher *h, const void *data, size_t n)
{
    ws_xxh_stream_add(h->xxh, data, n);
    if (EVP_DigestUpdate(h->sha, data, n) != 1)
        h->failed = true;
}

bool ws_hasher_end(ws_hasher *h, char sha256[65], char xxh3[33])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    if (h->failed || EVP_DigestFinal_ex(h->sha, md, &n) != 1 || n != 32)
        return false;
    hex(md, 32, sha256);
    ws_xxh128_hex(ws_xxh_stream_end(h->xxh), xxh3);
    return true;
}

void ws_hasher_free(ws_hasher *h)
{
    if (h == NULL)
        return;
    EVP_MD_CTX_free(h->sha);
    ws_xxh_stream_free(h->xxh);
    ws_free(h);
}
