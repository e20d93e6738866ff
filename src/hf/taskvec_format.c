/*
 * taskvec_format.c - blocks, gaps and bit maps of task vectors
 */
#include "hf/taskvec_format.h"

#include <string.h>

#include "wsurg/digest.h"

const char *ws_tv_prefix(ws_tv_role role)
{
    static const char *const prefixes[] = {
        [WS_TV_DELTA] = "taskvec.delta.", [WS_TV_MAP] = "taskvec.map.",
        [WS_TV_INDEX] = "taskvec.index.", [WS_TV_TABLE] = "taskvec.table.",
        [WS_TV_SIDE] = "taskvec.side.",   [WS_TV_BITS] = "taskvec.bits.",
        [WS_TV_WHOLE] = "taskvec.whole.",
    };
    return prefixes[role];
}

/* ---- blocks ---- */

static uint64_t blocks_in(uint64_t elements)
{
    return elements / WS_TV_BLOCK + (elements % WS_TV_BLOCK != 0);
}

ws_tv_blocks ws_tv_blocks_of(int rank, const uint64_t *shape, uint64_t n)
{
    ws_tv_blocks g = { .n = n, .slice = ws_slice_len(rank, shape) };
    if (n == 0)
        return g;
    g.slice = g.slice < n ? g.slice : n;
    g.per_slice = blocks_in(g.slice);
    g.n_blocks = n / g.slice * g.per_slice + blocks_in(n % g.slice);
    return g;
}

void ws_tv_block_at(const ws_tv_blocks *g, uint64_t b, uint64_t *first, size_t *n)
{
    const uint64_t start = b / g->per_slice * g->slice;
    const uint64_t end = g->n - start < g->slice ? g->n : start + g->slice;
    *first = start + b % g->per_slice * WS_TV_BLOCK;
    *n = end - *first < WS_TV_BLOCK ? (size_t)(end - *first) : WS_TV_BLOCK;
}

uint64_t ws_tv_block_of(const ws_tv_blocks *g, uint64_t i)
{
    return i / g->slice * g->per_slice + i % g->slice / WS_TV_BLOCK;
}

static uint64_t bytes_of_bits(uint64_t n)
{
    return n / 8 + (n % 8 != 0);
}

uint64_t ws_tv_map_offset(const ws_tv_blocks *g, uint64_t b)
{
    if (b == g->n_blocks && g->n > 0)
        return g->n / g->slice * bytes_of_bits(g->slice) +
               bytes_of_bits(g->n % g->slice);
    if (b == 0)
        return 0;
    return b / g->per_slice * bytes_of_bits(g->slice) +
           b % g->per_slice * (WS_TV_BLOCK / 8);
}

/* ---- gaps ---- */

size_t ws_tv_gaps_size(const uint32_t *index, size_t n)
{
    size_t bytes = 0;
    uint32_t next = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t gap = index[i] - next;
        next = index[i] + 1;
        bytes++;
        while (gap >>= 7)
            bytes++;
    }
    return bytes;
}

size_t ws_tv_gaps_encode(const uint32_t *index, size_t n, uint8_t *out)
{
    size_t at = 0;
    uint32_t next = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t gap = index[i] - next;
        next = index[i] + 1;
        for (; gap >= 0x80; gap >>= 7)
            out[at++] = (uint8_t)(0x80 | (gap & 0x7f));
        out[at++] = (uint8_t)gap;
    }
    return at;
}

/** One gap from in[*at]; false at the end, above 2^64, or longer than need be. */
static bool gap_read(const uint8_t *in, size_t len, size_t *at, uint64_t *gap)
{
    *gap = 0;
    for (unsigned shift = 0; *at < len; shift += 7) {
        const uint64_t byte = in[(*at)++];
        if (shift == 63 && byte > 1)
            return false;
        *gap |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return byte != 0 || shift == 0;
    }
    return false;
}

bool ws_tv_gaps_decode(const uint8_t *in, size_t len, size_t limit, uint32_t *index,
                       size_t n)
{
    size_t at = 0;
    uint64_t next = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t gap;
        if (!gap_read(in, len, &at, &gap) || gap >= limit - next)
            return false;
        index[i] = (uint32_t)(next + gap);
        next += gap + 1;
    }
    return at == len;
}

/* ---- maps ---- */

void ws_tv_map_encode(const uint32_t *index, size_t n, size_t limit, uint8_t *out)
{
    memset(out, 0, (limit + 7) / 8);
    for (size_t i = 0; i < n; i++)
        out[index[i] / 8] |= (uint8_t)(1u << index[i] % 8);
}

bool ws_tv_map_decode(const uint8_t *in, size_t limit, uint32_t *index, size_t n)
{
    const size_t len = (limit + 7) / 8;
    size_t found = 0;
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = 0;
        memcpy(&word, in + at, len - at < 8 ? len - at : 8); // little-endian
        for (; word != 0; word &= word - 1) {
            const size_t i = 8 * at + (size_t)__builtin_ctzll(word);
            if (found == n || i >= limit)
                return false;
            index[found++] = (uint32_t)i;
        }
    }
    return found == n;
}
