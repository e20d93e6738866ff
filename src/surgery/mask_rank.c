/*
 * mask_rank.c - the K largest of many numbers that come in pieces, exactly
 *
 *   pass 0   histogram of the upper 16 bits of 31: which bin holds the K-th
 *   pass 1   histogram of the lower 15 bits within that bin: its bits
 *   pass 2   the place where enough equal ones have come
 */
#include "surgery/mask_rank.h"

#include <string.h>

#include "wsurg/alloc.h"

enum { BINS = 1 << 16, LOW = 15 };

struct ws_rank {
    uint64_t count;
    uint64_t bins[BINS];
    int pass;
    uint32_t upper; // the bin of the K-th
    uint64_t above; // numbers beyond it, then: beyond the cut
    uint64_t place, left;
    ws_rank_cut cut;
};

ws_status ws_rank_new(ws_rank **out, uint64_t count, ws_err *err)
{
    ws_rank *r = ws_calloc(1, sizeof *r);
    if (r == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for histograms");
    r->count = count;
    *out = r;
    return WS_OK;
}

void ws_rank_free(ws_rank *r)
{
    ws_free(r);
}

static uint32_t bits_of(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b & 0x7fffffffu;
}

/** The highest bin with which @p count is reached; *above: numbers beyond it. */
static uint32_t reach(const uint64_t *bins, uint64_t count, uint64_t *above)
{
    uint32_t b = BINS;
    while (b > 0 && *above + bins[b - 1] < count)
        *above += bins[--b];
    return b > 0 ? b - 1 : 0;
}

void ws_rank_begin(ws_rank *r, int pass)
{
    if (pass == 0) {
        r->cut = (ws_rank_cut){ 0 };
        r->above = 0;
    } else if (pass == 1) {
        r->upper = reach(r->bins, r->count, &r->above);
    } else {
        const uint32_t low = reach(r->bins, r->count, &r->above);
        r->cut.bits = r->upper << LOW | low;
        // fewer than wanted are not zero: all of them
        r->left = r->above < r->count ? r->count - r->above : 0;
    }
    memset(r->bins, 0, sizeof r->bins);
    r->pass = pass;
    r->place = 0;
}

void ws_rank_add(ws_rank *r, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t b = bits_of(x[i]);
        if (r->pass == 0 && b != 0)
            r->bins[b >> LOW]++;
        else if (r->pass == 1 && b != 0 && b >> LOW == r->upper)
            r->bins[b & ((1u << LOW) - 1)]++;
        else if (r->pass == 2 && b == r->cut.bits && b != 0 && r->left > 0) {
            r->left--;
            r->cut.ties = r->place + i + 1;
            r->cut.kept++;
        } else if (r->pass == 2 && b > r->cut.bits) {
            r->cut.kept++;
        }
    }
    r->place += n;
    r->cut.seen = r->place;
}

ws_rank_cut ws_rank_cut_of(const ws_rank *r)
{
    return r->cut;
}

bool ws_rank_in(const ws_rank_cut *c, float x, uint64_t place)
{
    const uint32_t b = bits_of(x);
    return b > c->bits || (b == c->bits && b != 0 && place < c->ties);
}
