/*
 * filehash.c - SHA-256 and XXH3-128 of many files, each read once, on all threads
 *
 * SHA-256 has no parallel form, so the largest file decides. A team of two threads cuts
 * that: the first reads into a ring, does XXH3 and shows the bytes to the caller; the
 * second takes from the ring and does SHA-256, nothing else. A team of one does all.
 */
#define _GNU_SOURCE // O_CLOEXEC and friends beside POSIX

#include "ckpt/filehash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/os.h"
#include "ckpt/ticker.h"
#include "wsurg/alloc.h"

enum { CHUNK = 1 << 20, RING = 4, LARGE = 8 << 20 };

struct run;

/** One or two threads on one file at a time. */
struct team {
    struct run *run;
    bool pair;
    size_t item; // in work
    EVP_MD_CTX *sha;
    bool sha_failed; // of the file in work
    ws_xxh_stream *xxh;
    uint8_t *ring;    // (RING, or 1 alone) of CHUNK bytes
    size_t len[RING]; // bytes in each
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t filled, drained; // chunks of this file so far
    bool over;                // no file is left
};

struct run {
    ws_filehash_item *items;
    size_t n;
    size_t *order; // items, largest first
    atomic_size_t next;
    struct team *teams;
    int n_teams, team_size;
    ws_filehash_see *see;
    void *arg;
    ws_ticker ticker;
    atomic_bool stop; // a failure of the whole run: finish soon
    pthread_mutex_t lock;
    ws_status status;
    size_t failed_at;
    ws_err err;
};

static void run_failed(struct run *r, size_t item, ws_status st, const ws_err *err)
{
    pthread_mutex_lock(&r->lock);
    if (r->status == WS_OK || item < r->failed_at) {
        r->status = st;
        r->failed_at = item;
        r->err = *err;
    }
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->stop, true);
}

/** The first thread's part of a chunk, once it is read. */
static void see_chunk(struct team *t, uint64_t at, const uint8_t *data, size_t len)
{
    struct run *r = t->run;
    if (atomic_load(&r->stop))
        return;
    ws_err err = WS_ERR_INIT;
    ws_xxh_stream_add(t->xxh, data, len);
    const ws_status st =
        r->see == NULL ? WS_OK : r->see(r->arg, t->item, at, data, len, &err);
    if (st != WS_OK)
        run_failed(r, t->item, st, &err);
    if (!ws_ticker_add(&r->ticker, len)) {
        ws_fail(&err, WS_E_INTERRUPTED, "interrupted while checking files");
        run_failed(r, t->item, WS_E_INTERRUPTED, &err);
    }
}

/** The second thread's part. */
static void sha_chunk(struct team *t, const uint8_t *data, size_t len)
{
    if (!atomic_load(&t->run->stop) && EVP_DigestUpdate(t->sha, data, len) != 1)
        t->sha_failed = true;
}

/** Wait for a free place in the ring: its index. */
static size_t ring_free(struct team *t)
{
    if (!t->pair)
        return 0;
    pthread_mutex_lock(&t->lock);
    while (t->filled - t->drained == RING)
        pthread_cond_wait(&t->moved, &t->lock);
    const size_t place = t->filled % RING;
    pthread_mutex_unlock(&t->lock);
    return place;
}

/** The chunk at @p place is there. */
static void ring_filled(struct team *t, size_t place, size_t len)
{
    if (!t->pair) {
        sha_chunk(t, t->ring, len);
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->len[place] = len;
    t->filled++;
    pthread_cond_signal(&t->moved);
    pthread_mutex_unlock(&t->lock);
}

static void ring_wait_drained(struct team *t)
{
    pthread_mutex_lock(&t->lock);
    while (t->drained < t->filled)
        pthread_cond_wait(&t->moved, &t->lock);
    t->filled = t->drained = 0;
    pthread_mutex_unlock(&t->lock);
}

static void to_hex(const unsigned char *b, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", b[i]);
}

static ws_status sha_failed(const ws_filehash_item *item, ws_err *err)
{
    ws_fail(err, WS_E_INTERNAL, "libcrypto failed to make a SHA-256");
    ws_err_at(err, item->path, NULL, -1);
    return WS_E_INTERNAL;
}

/** Read the open file through; SHA-256 by the ring, the rest here. */
static ws_status read_through(struct team *t, int fd, ws_filehash_item *item,
                              ws_err *err)
{
    if (EVP_DigestInit_ex(t->sha, EVP_sha256(), NULL) != 1)
        return sha_failed(item, err);
    for (uint64_t at = 0; at < item->bytes && !atomic_load(&t->run->stop);) {
        const size_t n = item->bytes - at < CHUNK ? (size_t)(item->bytes - at) : CHUNK;
        const size_t place = ring_free(t);
        uint8_t *data = t->ring + place * CHUNK;
        const ws_status st = ws_os_pread(fd, item->path, data, n, at, err);
        if (st != WS_OK)
            return st;
        ring_filled(t, place, n);
        see_chunk(t, at, data, n);
        at += n;
    }
    return WS_OK;
}

static void digest_file(struct team *t)
{
    ws_filehash_item *item = &t->run->items[t->item];
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    int fd = -1;
    item->status = ws_os_open_read(&fd, item->path, &item->bytes, &item->err);
    if (item->status != WS_OK)
        return;
    ws_xxh_stream_reset(t->xxh);
    t->sha_failed = false;
    item->status = read_through(t, fd, item, &item->err);
    if (t->pair)
        ring_wait_drained(t);
    close(fd);
    if (item->status != WS_OK || atomic_load(&t->run->stop))
        return;
    if (t->sha_failed || EVP_DigestFinal_ex(t->sha, md, &n) != 1 || n != 32) {
        item->status = sha_failed(item, &item->err);
        return;
    }
    to_hex(md, n, item->sha256);
    ws_xxh128_hex(ws_xxh_stream_end(t->xxh), item->xxh3);
}

static void lead(struct team *t)
{
    struct run *r = t->run;
    size_t i;
    while (!atomic_load(&r->stop) && (i = atomic_fetch_add(&r->next, 1)) < r->n) {
        t->item = r->order[i];
        digest_file(t);
    }
    pthread_mutex_lock(&t->lock);
    t->over = true;
    pthread_cond_signal(&t->moved);
    pthread_mutex_unlock(&t->lock);
}

static void follow(struct team *t)
{
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->filled == t->drained && !t->over)
            pthread_cond_wait(&t->moved, &t->lock);
        if (t->filled == t->drained)
            break;
        const size_t place = t->drained % RING, len = t->len[place];
        pthread_mutex_unlock(&t->lock);
        sha_chunk(t, t->ring + place * CHUNK, len);
        pthread_mutex_lock(&t->lock);
        t->drained++;
        pthread_cond_signal(&t->moved);
    }
    pthread_mutex_unlock(&t->lock);
}

static void run_thread(void *arg, int thread)
{
    struct run *r = arg;
    struct team *t = &r->teams[thread / r->team_size];
    if (thread % r->team_size == 0)
        lead(t);
    else
        follow(t);
}

/** Largest first, so that no large file begins when the others are done. */
static int by_size(const void *a, const void *b)
{
    const ws_filehash_item *x = *(const ws_filehash_item *const *)a;
    const ws_filehash_item *y = *(const ws_filehash_item *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x < y ? -1 : x > y;
}

static bool make_order(struct run *r)
{
    const ws_filehash_item **sorted = ws_calloc(r->n, sizeof *sorted);
    r->order = ws_calloc(r->n, sizeof *r->order);
    if (sorted != NULL && r->order != NULL) {
        for (size_t i = 0; i < r->n; i++)
            sorted[i] = &r->items[i];
        qsort(sorted, r->n, sizeof *sorted, by_size);
        for (size_t i = 0; i < r->n; i++)
            r->order[i] = (size_t)(sorted[i] - r->items);
    }
    const bool ok = sorted != NULL && r->order != NULL;
    ws_free(sorted);
    return ok;
}

static bool make_teams(struct run *r, int threads)
{
    size_t large = 0;
    for (size_t i = 0; i < r->n; i++)
        large += r->items[i].bytes >= LARGE;
    r->team_size = large > 0 && (size_t)threads >= 2 * large ? 2 : 1;
    const int n = (threads + r->team_size - 1) / r->team_size;
    r->teams = ws_calloc((size_t)n, sizeof *r->teams);
    if (r->teams == NULL)
        return false;
    for (r->n_teams = 0; r->n_teams < n; r->n_teams++) {
        struct team *t = &r->teams[r->n_teams];
        t->run = r;
        t->pair = r->team_size == 2 && 2 * r->n_teams + 1 < threads;
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->moved, NULL);
        t->sha = EVP_MD_CTX_new();
        t->xxh = ws_xxh_stream_new();
        t->ring = ws_alloc((size_t)CHUNK * (t->pair ? RING : 1));
        if (t->sha == NULL || t->xxh == NULL || t->ring == NULL) {
            r->n_teams++; // freed with the others
            return false;
        }
    }
    return true;
}

static void run_free(struct run *r)
{
    for (int i = 0; i < r->n_teams; i++) {
        struct team *t = &r->teams[i];
        EVP_MD_CTX_free(t->sha);
        ws_xxh_stream_free(t->xxh);
        ws_free(t->ring);
        pthread_cond_destroy(&t->moved);
        pthread_mutex_destroy(&t->lock);
    }
    ws_free(r->teams);
    ws_free(r->order);
}

ws_status ws_filehash_run(ws_filehash_item *items, size_t n, ws_pool *pool,
                          const ws_ctx *ctx, const char *event, ws_filehash_see *see,
                          void *arg, ws_err *err)
{
    struct run r = { .items = items, .n = n, .see = see, .arg = arg };
    uint64_t total = 0;
    ws_status st = WS_OK;
    for (size_t i = 0; i < n; i++)
        total += items[i].bytes;
    if (!make_order(&r) || !make_teams(&r, ws_pool_size(pool))) {
        st = ws_fail(err, WS_E_MEMORY, "no memory to digest files");
    } else {
        pthread_mutex_init(&r.lock, NULL);
        ws_ticker_start(&r.ticker, ctx, event, total);
        ws_pool_run(pool, run_thread, &r);
        ws_ticker_end(&r.ticker);
        pthread_mutex_destroy(&r.lock);
        st = r.status;
        if (st != WS_OK && err != NULL)
            *err = r.err;
    }
    run_free(&r);
    return st;
}
