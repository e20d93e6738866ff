/*
 * data_rows.c - documents cut into rows, rows packed, and the shuffle of positions
 *
 * Packing is best fit decreasing: segments from the longest to the shortest, each into
 * the row with the least room that still takes it; equal lengths keep their order.
 *
 * The shuffle is a balanced Feistel network of 6 rounds over 2h bits, 2^(2h) >= n,
 * whose round function is the word (round << 32 | half) of the Philox stream of (seed,
 * "data", round of the shuffle, what); numbers from n on are sent through again.
 */
#include <string.h>

#include "base/hash.h"
#include "train/data_internal.h"
#include "wsurg/random.h"

enum { FEISTEL_ROUNDS = 6 };

uint64_t ws_shuffle(uint64_t seed, const char *what, uint64_t round, uint64_t n,
                    uint64_t i)
{
    uint64_t words[2];
    int h = 1;

    if (n < 2)
        return 0;
    while (h < 31 && (n - 1) >> (2 * h) != 0)
        h++;
    ws_rng_key_make(seed, "data", round, what, words);
    const ws_rng_key key = { words[0], words[1] };
    const uint64_t mask = (UINT64_C(1) << h) - 1;
    do {
        uint64_t left = i >> h, right = i & mask;
        for (uint64_t r = 0; r < FEISTEL_ROUNDS; r++) {
            uint32_t word;
            ws_random_fill(&key, r << 32 | right, &word, 1);
            const uint64_t next = left ^ (word & mask);
            left = right;
            right = next;
        }
        i = left << h | right;
    } while (i >= n);
    return i;
}

/** Rows that a document of @p n tokens makes. */
static uint64_t parts_of(const ws_data *d, const ws_source *s, uint64_t n)
{
    const uint64_t T = (uint64_t)d->o.length;

    if (n < 2)
        return 0;
    return s->kind == WS_DATA_TEXT ? (n - 2) / T + 1 : 1;
}

static ws_status cut(ws_data *d, ws_source *s, ws_err *err)
{
    const uint64_t T = (uint64_t)d->o.length;
    uint64_t total = 0, cap = 0, k = 0;
    void *p = NULL;

    for (uint64_t i = 0; i < s->n_docs; i++)
        total += parts_of(d, s, s->doc[i + 1] - s->doc[i]);
    const ws_status st = ws_data_grow(d, &p, &cap, total + 1, sizeof *s->seg, err);
    if (st)
        return st;
    s->seg = p;
    for (uint64_t i = 0; i < s->n_docs; i++) {
        const uint64_t n = s->doc[i + 1] - s->doc[i], parts = parts_of(d, s, n);
        for (uint64_t j = 0; j < parts; j++) {
            const uint64_t left = n - j * T;
            const uint64_t most =
                s->kind == WS_DATA_TEXT && left > T + 1 ? T + 1 : left;
            s->seg[k++] = (ws_segment){ s->doc[i] + j * T, (uint32_t)most };
        }
    }
    s->n_seg = k;
    return WS_OK;
}

/* ---- packing ---- */

/** Rows by the room they have left: a stack for each, and which are not empty. */
struct bins {
    int64_t *top;   // (T + 1) row, or -1
    uint64_t *some; // bits of top
    int64_t *below; // (rows) the next in its stack
    int64_t T;
};

static void bin_push(struct bins *b, int64_t room, int64_t row)
{
    b->below[row] = b->top[room];
    b->top[room] = row;
    b->some[room / 64] |= UINT64_C(1) << room % 64;
}

/** A row with the least room of @p need or more, taken out; -1: none. */
static int64_t bin_pop(struct bins *b, int64_t need, int64_t *room)
{
    uint64_t word = b->some[need / 64] >> need % 64 << need % 64;

    for (int64_t w = need / 64;;) {
        if (word) {
            const int64_t at = w * 64 + __builtin_ctzll(word), row = b->top[at];
            b->top[at] = b->below[row];
            if (b->top[at] < 0)
                b->some[w] &= ~(UINT64_C(1) << at % 64);
            *room = at;
            return row;
        }
        if (++w > b->T / 64)
            return -1;
        word = b->some[w];
    }
}

/** Indexes of the segments from the longest to the shortest, by counting. */
static bool order_make(const ws_source *s, uint64_t T, uint64_t *order)
{
    uint64_t *count = ws_calloc((size_t)T + 2, sizeof *count), at = 0;

    if (!count)
        return false;
    for (uint64_t i = 0; i < s->n_seg; i++)
        count[s->seg[i].n - 1]++;
    for (uint64_t n = T + 1; n-- > 0;) {
        const uint64_t these = count[n];
        count[n] = at;
        at += these;
    }
    for (uint64_t i = 0; i < s->n_seg; i++)
        order[count[s->seg[i].n - 1]++] = i;
    ws_free(count);
    return true;
}

/** The row of every segment; how many rows. */
static uint64_t assign(const ws_source *s, const uint64_t *order, struct bins *b,
                       uint64_t *row_of)
{
    int64_t rows = 0;

    for (uint64_t k = 0; k < s->n_seg; k++) {
        const int64_t need = (int64_t)s->seg[order[k]].n - 1;
        int64_t room = b->T, row = bin_pop(b, need, &room);
        if (row < 0) {
            row = rows++;
            room = b->T;
        }
        row_of[order[k]] = (uint64_t)row;
        bin_push(b, room - need, row);
    }
    return (uint64_t)rows;
}

/** Segments in the order of their rows, in a row in the order of the file. */
static ws_status gather(ws_source *s, const uint64_t *row_of, uint64_t rows,
                        ws_err *err)
{
    ws_segment *seg = ws_calloc((size_t)s->n_seg + 1, sizeof *seg);

    s->row = ws_calloc((size_t)rows + 2, sizeof *s->row);
    if (!seg || !s->row) {
        ws_free(seg);
        return ws_fail(err, WS_E_MEMORY, "no memory to pack rows");
    }
    for (uint64_t i = 0; i < s->n_seg; i++)
        s->row[row_of[i] + 2]++;
    for (uint64_t r = 1; r <= rows; r++)
        s->row[r + 1] += s->row[r];
    for (uint64_t i = 0; i < s->n_seg; i++)
        seg[s->row[row_of[i] + 1]++] = s->seg[i];
    ws_free(s->seg);
    s->seg = seg;
    s->rows = rows;
    return WS_OK;
}

static ws_status pack(ws_data *d, ws_source *s, ws_err *err)
{
    const uint64_t T = (uint64_t)d->o.length;
    const size_t n = (size_t)s->n_seg;
    struct bins b = { .T = (int64_t)T };
    uint64_t *order = ws_calloc(n + 1, sizeof *order);
    uint64_t *row_of = ws_calloc(n + 1, sizeof *row_of);
    ws_status st = WS_OK;

    b.top = ws_calloc((size_t)T + 1, sizeof *b.top);
    b.some = ws_calloc((size_t)T / 64 + 1, sizeof *b.some);
    b.below = ws_calloc(n + 1, sizeof *b.below);
    if (!order || !row_of || !b.top || !b.some || !b.below ||
        !order_make(s, T, order)) {
        st = ws_fail(err, WS_E_MEMORY, "no memory to pack rows");
    } else {
        memset(b.top, 0xff, ((size_t)T + 1) * sizeof *b.top);
        st = gather(s, row_of, assign(s, order, &b, row_of), err);
    }
    ws_free(order);
    ws_free(row_of);
    ws_free(b.top);
    ws_free(b.some);
    ws_free(b.below);
    return st;
}

static void measure(ws_data *d, const ws_source *s)
{
    ws_data_info *f = &d->info;

    for (uint64_t r = 0; r < s->rows; r++) {
        const uint64_t step = s->kind == WS_DATA_PAIRS ? 2 : 1;
        const uint64_t from = s->row ? s->row[r] : r * step;
        const uint64_t to = s->row ? s->row[r + 1] : from + step;
        int64_t n = 0;
        for (uint64_t k = from; k < to; k++)
            n += (int64_t)s->seg[k].n - 1;
        if (n > f->longest)
            f->longest = n;
        if ((int64_t)(to - from) > f->most_documents)
            f->most_documents = (int64_t)(to - from);
    }
}

ws_status ws_source_rows(ws_data *d, ws_source *s, ws_err *err)
{
    const uint64_t T = (uint64_t)d->o.length;

    if (s->running) {
        s->rows = s->n < 2 ? 0 : (s->n - 2) / T + 1;
        d->info.skipped += s->n < 2;
        const uint64_t most = s->n < 2 ? 0 : s->n - 1 < T ? s->n - 1 : T;
        if ((int64_t)most > d->info.longest)
            d->info.longest = (int64_t)most;
        if (d->info.most_documents < 1)
            d->info.most_documents = 1;
        return WS_OK;
    }
    ws_status st = cut(d, s, err);
    s->rows = s->kind == WS_DATA_PAIRS ? s->n_seg / 2 : s->n_seg;
    if (st == WS_OK && d->o.pack && s->kind != WS_DATA_PAIRS)
        st = pack(d, s, err);
    if (st == WS_OK)
        measure(d, s);
    return st;
}
