/*
 * hash.c - streaming SHA-256 (libcrypto) and XXH3-128
 */
#include "base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "wsurg/alloc.h"

static ws_xxh128 canonical(XXH128_hash_t h)
{
    XXH128_canonical_t c;
    ws_xxh128 out;
    XXH128_canonicalFromHash(&c, h);
    memcpy(out.b, c.digest, sizeof out.b);
    return out;
}

static void hex(const uint8_t *b, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", b[i]);
}

ws_xxh128 ws_xxh3(const void *data, size_t len)
{
    return canonical(XXH3_128bits(data, len));
}

void ws_xxh128_hex(ws_xxh128 h, char out[33])
{
    hex(h.b, sizeof h.b, out);
}

struct ws_xxh_stream {
    XXH3_state_t *state;
};

ws_xxh_stream *ws_xxh_stream_new(void)
{
    ws_xxh_stream *s = ws_alloc(sizeof *s);
    if (s == NULL)
        return NULL;
    s->state = XXH3_createState();
    if (s->state == NULL) {
        ws_free(s);
        return NULL;
    }
    ws_xxh_stream_reset(s);
    return s;
}

void ws_xxh_stream_reset(ws_xxh_stream *s)
{
    XXH3_128bits_reset(s->state);
}

void ws_xxh_stream_add(ws_xxh_stream *s, const void *data, size_t n)
{
    XXH3_128bits_update(s->state, data, n);
}

ws_xxh128 ws_xxh_stream_end(ws_xxh_stream *s)
{
    return canonical(XXH3_128bits_digest(s->state));
}

void ws_xxh_stream_free(ws_xxh_stream *s)
{
    if (s == NULL)
        return;
    XXH3_freeState(s->state);
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
