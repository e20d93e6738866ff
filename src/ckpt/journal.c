/*
 * journal.c - an append-only list of records that survives a kill at any byte
 */
#define _GNU_SOURCE

#include "ckpt/journal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/os.h"
#include "ckpt/step.h"
#include "wsurg/alloc.h"

enum {
    SUM = 16,  // checksum
    HEAD = 24, // n, type, a, b
    MAX_RECORD = HEAD + WS_JOURNAL_MAX_PAYLOAD + SUM,
    BOOT_LEN = 36,
};

// the journal's own records
enum { OWN_HEAD = 0, OWN_BOOT, OWN_SYNC, OWN_COUNT };

static const char format_name[] = "wsurg-journal/1 ";

struct ws_journal {
    int fd;
    char *path;
    uint64_t replay_end; // end of the records found on opening
    uint64_t end;        // where the next record goes
    pthread_mutex_t lock;
    uint8_t buf[SUM + MAX_RECORD]; // checksum of the last record, then the next one
};

static char forced_boot[BOOT_LEN + 1];

void ws_journal_set_boot(const char *id)
{
    forced_boot[0] = '\0';
    if (id != NULL)
        memcpy(forced_boot, id, BOOT_LEN + 1);
}

static void boot_id(char out[BOOT_LEN + 1])
{
    if (forced_boot[0] != '\0')
        memcpy(out, forced_boot, BOOT_LEN + 1);
    else
        ws_os_boot_id(out);
}

static void put(uint8_t *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/** Take @p fd into a journal that holds nothing yet. */
static ws_status journal_alloc(ws_journal **out, int fd, const char *path, ws_err *err)
{
    ws_journal *j = ws_calloc(1, sizeof *j);
    char *p = ws_strdup(path);
    if (j == NULL || p == NULL) {
        ws_free(j);
        ws_free(p);
        close(fd);
        return ws_fail(err, WS_E_MEMORY, "no memory for the journal");
    }
    j->fd = fd;
    j->path = p;
    pthread_mutex_init(&j->lock, NULL);
    *out = j;
    return WS_OK;
}

void ws_journal_free(ws_journal *j)
{
    if (j == NULL)
        return;
    close(j->fd);
    pthread_mutex_destroy(&j->lock);
    ws_free(j->path);
    ws_free(j);
}

ws_status ws_journal_add(ws_journal *j, uint32_t type, uint64_t a, uint64_t b,
                         const void *payload, size_t n, ws_err *err)
{
    if (n > WS_JOURNAL_MAX_PAYLOAD)
        return ws_fail(err, WS_E_INTERNAL, "journal record of %zu bytes, at most %d", n,
                       WS_JOURNAL_MAX_PAYLOAD);
    pthread_mutex_lock(&j->lock);
    uint8_t *record = j->buf + SUM;
    put(record, n, 4);
    put(record + 4, type, 4);
    put(record + 8, a, 8);
    put(record + 16, b, 8);
    if (payload != NULL)
        memcpy(record + HEAD, payload, n);
    const ws_xxh128 sum = ws_xxh3(j->buf, SUM + HEAD + n);
    memcpy(record + HEAD + n, sum.b, SUM);
    ws_stage_step();
    const ws_status st =
        ws_os_pwrite(j->fd, j->path, record, HEAD + n + SUM, j->end, err);
    if (st == WS_OK) {
        // a failed write leaves its torn bytes past `end`: the next record covers them
        j->end += HEAD + n + SUM;
        memcpy(j->buf, sum.b, SUM);
    }
    pthread_mutex_unlock(&j->lock);
    return st;
}

static ws_status add_boot(ws_journal *j, ws_err *err)
{
    char id[BOOT_LEN + 1];
    boot_id(id);
    return ws_journal_add(j, WS_JOURNAL_OWN + OWN_BOOT, 0, 0, id, strlen(id), err);
}

ws_status ws_journal_new(ws_journal **out, int fd, const char *path, const char *key,
                         ws_err *err)
{
    ws_journal *j = NULL;
    ws_status st = journal_alloc(&j, fd, path, err);
    if (st != WS_OK)
        return st;
    char head[sizeof format_name + 64] = "";
    const size_t n = strlen(format_name), key_len = strnlen(key, 64);
    memcpy(head, format_name, n); // NOLINT(bugprone-not-null-terminated-result): n
    memcpy(head + n, key, key_len);
    st = ws_journal_add(j, WS_JOURNAL_OWN + OWN_HEAD, 0, 0, head, n + key_len, err);
    if (st == WS_OK)
        st = add_boot(j, err);
    if (st == WS_OK)
        *out = j;
    else
        ws_journal_free(j);
    return st;
}

/** A record as it was found. */
struct record {
    uint32_t type;
    uint64_t a, b;
    size_t n;
    const uint8_t *payload; // in j->buf
};

/**
 * Read the record at *at into j->buf, check it against the checksum before it, and move
 * *at past it. *good is false where the believable part of the file ends.
 */
static ws_status read_record(ws_journal *j, uint64_t size, uint64_t *at,
                             struct record *r, bool *good, ws_err *err)
{
    uint8_t *record = j->buf + SUM;
    *good = false;
    if (size - *at < HEAD + SUM)
        return WS_OK;
    ws_status st = ws_os_pread(j->fd, j->path, record, HEAD, *at, err);
    if (st != WS_OK)
        return st;
    r->n = (size_t)get(record, 4);
    if (r->n > WS_JOURNAL_MAX_PAYLOAD || size - *at < HEAD + SUM + r->n)
        return WS_OK;
    st = ws_os_pread(j->fd, j->path, record + HEAD, r->n + SUM, *at + HEAD, err);
    if (st != WS_OK)
        return st;
    const ws_xxh128 sum = ws_xxh3(j->buf, SUM + HEAD + r->n);
    if (memcmp(sum.b, record + HEAD + r->n, SUM) != 0)
        return WS_OK;
    memcpy(j->buf, sum.b, SUM);
    r->type = (uint32_t)get(record + 4, 4);
    r->a = get(record + 8, 8);
    r->b = get(record + 16, 8);
    r->payload = record + HEAD;
    *at += HEAD + SUM + r->n;
    *good = true;
    return WS_OK;
}

static bool is_our_head(const struct record *r, const char *key)
{
    const size_t n = strlen(format_name), key_len = strlen(key);
    return r->type == WS_JOURNAL_OWN + OWN_HEAD && r->n == n + key_len &&
           memcmp(r->payload, format_name, n) == 0 &&
           memcmp(r->payload + n, key, key_len) == 0;
}

/**
 * Find where the records to believe end: at the last good one if this boot wrote them,
 * else at the last mark that was synced. 0: nothing to go on from.
 */
static ws_status find_end(ws_journal *j, uint64_t size, const char *key, uint64_t *end,
                          bool *same_boot, ws_err *err)
{
    char id[BOOT_LEN + 1];
    uint64_t at = 0, synced = 0;
    bool good = true, this_boot = false;
    struct record r;
    boot_id(id);
    *end = 0;
    ws_status st = read_record(j, size, &at, &r, &good, err);
    if (st != WS_OK || !good || !is_our_head(&r, key))
        return st;
    while ((st = read_record(j, size, &at, &r, &good, err)) == WS_OK && good) {
        if (r.type == WS_JOURNAL_OWN + OWN_BOOT)
            this_boot = r.n == BOOT_LEN && strlen(id) == BOOT_LEN &&
                        memcmp(r.payload, id, BOOT_LEN) == 0;
        else if (r.type == WS_JOURNAL_OWN + OWN_SYNC && r.a <= at)
            synced = r.a;
    }
    if (st == WS_OK)
        *end = this_boot ? at : synced;
    *same_boot = this_boot;
    return st;
}

/** Read again up to @p end, so that the checksum there is the one to go on from. */
static ws_status rewind_to(ws_journal *j, uint64_t end, ws_err *err)
{
    uint64_t at = 0;
    bool good = true;
    struct record r;
    ws_status st = WS_OK;
    memset(j->buf, 0, SUM);
    while (st == WS_OK && good && at < end)
        st = read_record(j, end, &at, &r, &good, err);
    j->end = j->replay_end = at;
    return st;
}

ws_status ws_journal_resume(ws_journal **out, int fd, const char *path, const char *key,
                            ws_err *err)
{
    ws_journal *j = NULL;
    ws_status st = journal_alloc(&j, fd, path, err);
    if (st != WS_OK)
        return st;
    struct stat sb;
    uint64_t end = 0;
    bool same_boot = true;
    if (fstat(fd, &sb) != 0) {
        st = ws_fail_sys(err, WS_E_IO, errno, "cannot read the journal");
        ws_err_at(err, path, NULL, -1);
    }
    if (st == WS_OK)
        st = find_end(j, (uint64_t)sb.st_size, key, &end, &same_boot, err);
    if (st != WS_OK || end == 0) {
        ws_journal_free(j);
        *out = NULL;
        return st;
    }
    st = rewind_to(j, end, err);
    ws_stage_step();
    if (st == WS_OK && ftruncate(fd, (off_t)j->end) != 0) {
        st = ws_fail_sys(err, WS_E_IO, errno, "cannot cut the journal");
        ws_err_at(err, path, NULL, -1);
    }
    // the mark that said so was cut off with what came after it
    if (st == WS_OK && !same_boot)
        st = ws_journal_synced(j, j->end, err);
    if (st == WS_OK)
        st = add_boot(j, err);
    if (st == WS_OK)
        *out = j;
    else
        ws_journal_free(j);
    return st;
}

uint64_t ws_journal_mark(ws_journal *j)
{
    pthread_mutex_lock(&j->lock);
    const uint64_t end = j->end;
    pthread_mutex_unlock(&j->lock);
    return end;
}

ws_status ws_journal_synced(ws_journal *j, uint64_t mark, ws_err *err)
{
    const ws_status st =
        ws_journal_add(j, WS_JOURNAL_OWN + OWN_SYNC, mark, 0, NULL, 0, err);
    if (st != WS_OK)
        return st;
    ws_stage_step();
    if (fdatasync(j->fd) != 0) {
        ws_fail_sys(err, WS_E_IO, errno, "cannot sync the journal");
        ws_err_at(err, j->path, NULL, -1);
        return WS_E_IO;
    }
    return WS_OK;
}

ws_status ws_journal_replay(ws_journal *j, ws_journal_visit *visit, void *arg,
                            ws_err *err)
{
    // a reader of its own: records may be added while these are visited
    ws_journal *r = ws_calloc(1, sizeof *r);
    if (r == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to read the journal");
    r->fd = j->fd;
    r->path = j->path;
    uint64_t at = 0;
    bool good = true;
    struct record rec;
    ws_status st = WS_OK;
    while (st == WS_OK && good && at < j->replay_end) {
        st = read_record(r, j->replay_end, &at, &rec, &good, err);
        if (st == WS_OK && good && rec.type >= WS_JOURNAL_OWN &&
            rec.type < WS_JOURNAL_OWN + OWN_COUNT)
            continue;
        if (st == WS_OK && good)
            st = visit(arg, rec.type, rec.a, rec.b, rec.payload, rec.n, err);
    }
    ws_free(r);
    return st;
}
