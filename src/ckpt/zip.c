/*
 * zip.c - the directories of a zip archive, checked against each other
 *
 * End record -> zip64 records -> central directory -> the local header of every member.
 * Rules: formats.md 4.1; layouts: APPNOTE.TXT 6.3 sections 4.3.6-4.3.16, 4.5.3.
 */
#include "ckpt/zip_write.h"

#include <stdlib.h>
#include <string.h>

#include "wsurg/text.h"

enum {
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR_SIZE = 20,
    ENTRY_SIZE = 46,
    LOCAL_SIZE = 30,
    MAX_COMMENT = 65535,
    MAX_DIRECTORY = 256 << 20
};

/** One archive while it is read. */
struct reader {
    const ws_ckpt *c;
    uint32_t file;
    uint64_t bytes;
    ws_zip *zip;
    ws_err *err;
};

/** Where the central directory lies. */
struct place {
    uint64_t offset, bytes, entries;
    uint64_t end; /* what it must not reach into */
};

static uint64_t get(const unsigned char *p, int n)
{
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static ws_status bad(const struct reader *r, uint64_t at, const char *what)
{
    ws_fail(r->err, WS_E_HEADER, "zip archive: %s", what);
    return ws_err_at(r->err, NULL, NULL, (int64_t)at), WS_E_HEADER;
}

static ws_status bad_member(const struct reader *r, const ws_zip_member *m,
                            ws_status code, const char *what)
{
    char shown[120];
    ws_show(m->name, shown, sizeof shown);
    ws_fail(r->err, code, "zip member '%s' %s", shown, what);
    return ws_err_at(r->err, NULL, NULL, (int64_t)m->at), code;
}

static ws_status read_at(const struct reader *r, uint64_t offset, size_t n, void *dst)
{
    if (offset > r->bytes || n > r->bytes - offset)
        return bad(r, offset, "a record goes past the end of the file");
    return ws_ckpt_file_read(r->c, r->file, offset, n, dst, r->err);
}

/* ---- end records ---- */

/** The end record's place: its comment must end where the file ends. */
static ws_status find_end(const struct reader *r, unsigned char end[END_SIZE],
                          uint64_t *at)
{
    const uint64_t most = END_SIZE + MAX_COMMENT;
    const size_t n = (size_t)(r->bytes < most ? r->bytes : most);
    unsigned char *tail = n >= END_SIZE ? ws_alloc(n) : NULL;
    if (n < END_SIZE)
        return bad(r, 0, "file is too short for an end record");
    if (tail == NULL)
        return ws_fail(r->err, WS_E_MEMORY, "no memory for the end of an archive");
    ws_status st = read_at(r, r->bytes - n, n, tail);
    size_t i = n - END_SIZE + 1;
    while (st == WS_OK && i-- > 0)
        if (memcmp(tail + i, "PK\5\6", 4) == 0 &&
            get(tail + i + 20, 2) == n - END_SIZE - i)
            break;
    if (st == WS_OK && i < n) {
        memcpy(end, tail + i, END_SIZE);
        *at = r->bytes - n + i;
    } else if (st == WS_OK) {
        st = bad(r, r->bytes, "no end record: the file is cut short");
    }
    ws_free(tail);
    return st;
}

/** A field of the end record, which in a zip64 archive may say "see there". */
static bool agrees(uint64_t small, uint64_t large, int bytes)
{
    const uint64_t there = bytes == 2 ? 0xFFFF : 0xFFFFFFFF;
    return small == there || small == large;
}

/** Take what the zip64 end record says, where there is one. */
static ws_status read_end64(const struct reader *r, const unsigned char end[END_SIZE],
                            uint64_t at, struct place *p)
{
    unsigned char locator[LOCATOR_SIZE], record[END64_SIZE];
    if (at < LOCATOR_SIZE)
        return WS_OK;
    ws_status st = read_at(r, at - LOCATOR_SIZE, LOCATOR_SIZE, locator);
    if (st != WS_OK || memcmp(locator, "PK\6\7", 4) != 0)
        return st;
    const uint64_t where = get(locator + 8, 8);
    if (get(locator + 4, 4) != 0 || get(locator + 16, 4) > 1)
        return bad(r, at - LOCATOR_SIZE, "parts on several disks are not read");
    if (where > at - LOCATOR_SIZE || at - LOCATOR_SIZE - where < END64_SIZE)
        return bad(r, at - LOCATOR_SIZE, "the zip64 end record lies outside");
    st = read_at(r, where, END64_SIZE, record);
    if (st != WS_OK)
        return st;
    if (memcmp(record, "PK\6\6", 4) != 0 ||
        get(record + 4, 8) != at - LOCATOR_SIZE - where - 12)
        return bad(r, where, "the zip64 end record is malformed");
    *p = (struct place){ .offset = get(record + 48, 8),
                         .bytes = get(record + 40, 8),
                         .entries = get(record + 32, 8),
                         .end = where };
    if (!agrees(get(end + 10, 2), p->entries, 2) ||
        !agrees(get(end + 12, 4), p->bytes, 4) ||
        !agrees(get(end + 16, 4), p->offset, 4) || get(record + 24, 8) != p->entries)
        return bad(r, at, "the two end records disagree");
    return WS_OK;
}

static ws_status find_directory(const struct reader *r, struct place *p)
{
    unsigned char end[END_SIZE];
    uint64_t at = 0;
    ws_status st = find_end(r, end, &at);
    if (st != WS_OK)
        return st;
    if (get(end + 4, 2) != 0 && get(end + 4, 2) != 0xFFFF)
        return bad(r, at, "parts on several disks are not read");
    *p = (struct place){ get(end + 16, 4), get(end + 12, 4), get(end + 10, 2), at };
    st = read_end64(r, end, at, p);
    if (st != WS_OK)
        return st;
    if (p->offset > p->end || p->end - p->offset != p->bytes)
        return bad(r, at, "the directory does not lie before its end record");
    if (p->bytes > MAX_DIRECTORY)
        return bad(r, at, "the directory is longer than 256 MiB");
    if (p->entries > p->bytes / ENTRY_SIZE)
        return bad(r, at, "the directory is too short for its entries");
    return WS_OK;
}

/* ---- members ---- */

/** Whether a name is a plain relative path: no \, no empty component, no . or .. */
static bool plain_name(const char *s, size_t n)
{
    if (n == 0 || !ws_utf8_valid(s, n))
        return false;
    for (size_t i = 0, from = 0; i <= n; i++) {
        if (i < n && (s[i] == '\\' || s[i] == '\0'))
            return false;
        if (i < n && s[i] != '/')
            continue;
        const size_t len = i - from;
        const bool last = i == n;
        if ((len == 0 && !last) || (len == 1 && s[from] == '.') ||
            (len == 2 && s[from] == '.' && s[from + 1] == '.'))
            return false;
        from = i + 1;
    }
    return true;
}

/** Sizes and offset that the entry leaves to its zip64 field. */
static ws_status read_extra64(const struct reader *r, const unsigned char *extra,
                              size_t n, uint64_t at, uint64_t *whole, uint64_t *packed,
                              uint64_t *local)
{
    uint64_t *const want[3] = { whole, packed, local };
    for (size_t i = 0; i + 4 <= n;) {
        const size_t id = (size_t)get(extra + i, 2),
                     len = (size_t)get(extra + i + 2, 2);
        if (len > n - i - 4)
            return bad(r, at, "an extra field goes past its entry");
        size_t from = i + 4;
        for (int k = 0; id == 1 && k < 3; k++) {
            if (*want[k] != 0xFFFFFFFF)
                continue;
            if (from + 8 > i + 4 + len)
                return bad(r, at, "a zip64 field is too short");
            *want[k] = get(extra + from, 8);
            from += 8;
        }
        i += 4 + len;
    }
    if (*whole == 0xFFFFFFFF || *packed == 0xFFFFFFFF || *local == 0xFFFFFFFF)
        return bad(r, at, "a zip64 field is missing");
    return WS_OK;
}

/** Check the member's own header against its entry; set where its data begins. */
static ws_status check_local(const struct reader *r, ws_zip_member *m,
                             const unsigned char *entry, uint64_t local, uint64_t end)
{
    const size_t n = strlen(m->name);
    unsigned char h[LOCAL_SIZE];
    char *name;
    if (local > end || end - local < LOCAL_SIZE)
        return bad_member(r, m, WS_E_HEADER, "begins outside of the archive");
    ws_status st = read_at(r, local, LOCAL_SIZE, h);
    if (st != WS_OK)
        return st;
    if (memcmp(h, "PK\3\4", 4) != 0 || get(h + 26, 2) != n ||
        memcmp(h + 6, entry + 8, 4) != 0) // flags and method
        return bad_member(r, m, WS_E_HEADER, "has two headers that differ");
    name = ws_alloc(n);
    if (name == NULL)
        return ws_fail(r->err, WS_E_MEMORY, "no memory for the name of a zip member");
    st = read_at(r, local + LOCAL_SIZE, n, name);
    if (st == WS_OK && memcmp(name, m->name, n) != 0)
        st = bad_member(r, m, WS_E_HEADER, "has another name in its own header");
    ws_free(name);
    m->offset = local + LOCAL_SIZE + n + get(h + 28, 2);
    if (st == WS_OK && (m->offset > end || end - m->offset < m->bytes))
        st = bad_member(r, m, WS_E_HEADER, "goes past the end of the archive's data");
    return st;
}

/** One entry of the directory, @p left bytes of which are there; its length to @p used.
 */
static ws_status read_entry(const struct reader *r, const unsigned char *e, size_t left,
                            const struct place *p, uint64_t at, size_t *used)
{
    ws_zip_member *m = &r->zip->members[r->zip->n];
    if (left < ENTRY_SIZE || memcmp(e, "PK\1\2", 4) != 0)
        return bad(r, at, "a directory entry is malformed");
    const size_t n = (size_t)get(e + 28, 2), extra = (size_t)get(e + 30, 2);
    *used = ENTRY_SIZE + n + extra + (size_t)get(e + 32, 2);
    if (*used > left)
        return bad(r, at, "a directory entry goes past the directory");
    if (!plain_name((const char *)e + ENTRY_SIZE, n))
        return bad(r, at, "a member's name is no plain relative path");
    char *name = ws_arena_calloc(&r->zip->arena, n + 1, 1);
    if (name == NULL)
        return ws_fail(r->err, WS_E_MEMORY, "no memory for the names of zip members");
    memcpy(name, e + ENTRY_SIZE, n);
    *m = (ws_zip_member){ .name = name, .at = at, .bytes = get(e + 24, 4) };
    uint64_t packed = get(e + 20, 4), local = get(e + 42, 4);
    ws_status st =
        read_extra64(r, e + ENTRY_SIZE + n, extra, at, &m->bytes, &packed, &local);
    if (st != WS_OK)
        return st;
    if ((get(e + 8, 2) & 1) != 0)
        return bad_member(r, m, WS_E_UNSUPPORTED, "is encrypted");
    if (get(e + 10, 2) != 0)
        return bad_member(r, m, WS_E_UNSUPPORTED,
                          "is compressed: only stored members are read in place");
    if (packed != m->bytes)
        return bad_member(r, m, WS_E_HEADER, "is stored and has two sizes");
    r->zip->n++;
    return check_local(r, m, e, local, p->offset);
}

bool ws_zip_name_good(const char *name)
{
    return plain_name(name, strlen(name));
}

int ws_zip_name_compare(const char *x, const char *y)
{
    for (; *x != '\0' || *y != '\0'; x++, y++) {
        const int cx = *x >= 'A' && *x <= 'Z' ? *x + 32 : (unsigned char)*x;
        const int cy = *y >= 'A' && *y <= 'Z' ? *y + 32 : (unsigned char)*y;
        if (cx != cy)
            return cx - cy;
    }
    return 0;
}

static int by_folded_name(const void *a, const void *b)
{
    return ws_zip_name_compare((*(const ws_zip_member *const *)a)->name,
                               (*(const ws_zip_member *const *)b)->name);
}

static int by_offset(const void *a, const void *b)
{
    const ws_zip_member *x = *(const ws_zip_member *const *)a;
    const ws_zip_member *y = *(const ws_zip_member *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/** No two members of one name, letter case aside, and none inside another. */
static ws_status check_members(const struct reader *r)
{
    const size_t n = r->zip->n;
    const ws_zip_member **order = ws_calloc(n + 1, sizeof *order);
    ws_status st = WS_OK;
    if (order == NULL)
        return ws_fail(r->err, WS_E_MEMORY, "no memory for %zu zip members", n);
    for (size_t i = 0; i < n; i++)
        order[i] = &r->zip->members[i];
    qsort(order, n, sizeof *order, by_folded_name);
    for (size_t i = 1; st == WS_OK && i < n; i++)
        if (by_folded_name(&order[i - 1], &order[i]) == 0)
            st = bad_member(r, order[i], WS_E_HEADER,
                            "stands twice, letter case aside: readers disagree which "
                            "counts");
    qsort(order, n, sizeof *order, by_offset);
    for (size_t i = 1; st == WS_OK && i < n; i++)
        if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset)
            st = bad_member(r, order[i], WS_E_HEADER, "overlaps another");
    ws_free(order);
    return st;
}

ws_status ws_zip_open(ws_zip *out, const ws_ckpt *c, uint32_t file, ws_err *err)
{
    struct place p = { 0 };
    *out = (ws_zip){ 0 };
    const struct reader r = { c, file, c->files[file].bytes, out, err };
    ws_status st = find_directory(&r, &p);
    unsigned char *text = NULL;
    if (st == WS_OK) {
        text = ws_alloc((size_t)p.bytes + 1);
        out->members = ws_calloc((size_t)p.entries + 1, sizeof *out->members);
        if (text == NULL || out->members == NULL)
            st = ws_fail(err, WS_E_MEMORY, "no memory for the directory of an archive");
    }
    if (st == WS_OK)
        st = read_at(&r, p.offset, (size_t)p.bytes, text);
    size_t at = 0, used = 0;
    for (uint64_t i = 0; st == WS_OK && i < p.entries; i++, at += used)
        st = read_entry(&r, text + at, (size_t)p.bytes - at, &p, p.offset + at, &used);
    if (st == WS_OK && at != p.bytes)
        st = bad(&r, p.offset + at, "the directory is longer than its entries");
    if (st == WS_OK)
        st = check_members(&r);
    ws_free(text);
    if (st != WS_OK)
        ws_zip_free(out);
    return st;
}

void ws_zip_free(ws_zip *z)
{
    ws_free(z->members);
    ws_arena_free(&z->arena);
    *z = (ws_zip){ 0 };
}

const ws_zip_member *ws_zip_find(const ws_zip *z, const char *name)
{
    for (size_t i = 0; i < z->n; i++)
        if (strcmp(z->members[i].name, name) == 0)
            return &z->members[i];
    return NULL;
}
