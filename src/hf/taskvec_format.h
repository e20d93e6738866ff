/*
 * taskvec_format.h - the bytes of a task vector
 *
 * Metadata, beside provenance:
 *
 *     format         "pt"
 *     wsurg.kind     "taskvec"
 *     wsurg.taskvec  JSON:
 *         {"schema":"wsurg-taskvec/1",
 *          "base":"xxh3-128:...", "model":"xxh3-128:..." | null,   contents
 *          "exact":true|false,                  side lists are complete
 *          "sparsified":"method K=V ..." | null,
 *          "metadata":{...} | null,             the model's own __metadata__
 *          "files":["name",...],                of a sharded model; else absent
 *          "removed":["name",...],              in the base only
 *          "tensors":[["name","BF16",[4,4],"delta"],...]}   the model's, in file order;
 *                                               "delta", "same" or "whole"
 *
 * Tensors, for a model's tensor NAME:
 *
 *     taskvec.delta.NAME  F32 or F64: the update in the model's shape (dense), or its
 *                         (n) nonzero entries in order (sparse)
 *     taskvec.map.NAME    U8: sparse, one bit per element, least significant first
 *     taskvec.index.NAME  U8: sparse, gaps between the elements (LEB128, 64-bit)
 *     taskvec.table.NAME  U64 (blocks + 1, 4): before each block and in all, the number
 *                         of nonzero updates, the bytes of their gaps, the number of
 *                         exact entries, the bytes of their gaps; absent when dense
 *                         without exact entries
 *     taskvec.side.NAME   U8: gaps between the exact entries
 *     taskvec.bits.NAME   U8, U16, U32 or U64 (n): their bits
 *     taskvec.whole.NAME  the tensor as it is
 *     taskvec.header      U8: the headers of the model's files, one after another, each
 *                         with its length word and padding
 *
 * Exactly one of map and index belongs to a sparse update. A block is a run of at most
 * WS_TV_BLOCK elements inside a slice (ws_slice_len()), so that any part can be decoded
 * alone. Gaps count the elements passed over since the block's start or the entry
 * before. A map begins on a byte in each slice, with zero bits after its end.
 *
 * An update of zero leaves the base's bits alone (where the dtypes agree), any other
 * gives round(base + update), computed in float32, or in float64 where base or model is
 * F64. Then exact entries replace what they stand for.
 */
#ifndef WS_HF_TASKVEC_FORMAT_H
#define WS_HF_TASKVEC_FORMAT_H

#include "wsurg/ckpt.h"

enum {
    WS_TV_BLOCK = 32768, /**< elements; a multiple of 8 */
    WS_TV_GAP_MOST = 10, /**< bytes of one gap */
    WS_TV_COLUMNS = 4    /**< of the table */
};

#define WS_TV_SCHEMA "wsurg-taskvec/1"
#define WS_TV_HEADER "taskvec.header"

/** What a stored tensor is to a tensor of the model. */
typedef enum ws_tv_role {
    WS_TV_DELTA,
    WS_TV_MAP,
    WS_TV_INDEX,
    WS_TV_TABLE,
    WS_TV_SIDE,
    WS_TV_BITS,
    WS_TV_WHOLE,
    WS_TV_ROLES
} ws_tv_role;

/** "taskvec.delta.", ...: what stands before the model's name. */
WS_API const char *ws_tv_prefix(ws_tv_role role);

/** The longest of the prefixes, in bytes. */
enum { WS_TV_PREFIX_MOST = 14 };

/** How a tensor is cut into blocks. */
typedef struct ws_tv_blocks {
    uint64_t n;         /**< elements */
    uint64_t slice;     /**< elements of a slice, at most n */
    uint64_t per_slice; /**< blocks of a whole slice */
    uint64_t n_blocks;
} ws_tv_blocks;

WS_API ws_tv_blocks ws_tv_blocks_of(int rank, const uint64_t *shape, uint64_t n);

/** First element and number of elements of block @p b. */
WS_API void ws_tv_block_at(const ws_tv_blocks *g, uint64_t b, uint64_t *first,
                           size_t *n);

/** The block that holds element @p i. @pre i < g->n */
WS_API uint64_t ws_tv_block_of(const ws_tv_blocks *g, uint64_t i);

/** Byte of the map at which block @p b begins; for b = n_blocks the map's length. */
WS_API uint64_t ws_tv_map_offset(const ws_tv_blocks *g, uint64_t b);

/* Indexes below are within a block, ascending. */

/** Bytes of the gaps of @p n indexes. */
WS_API size_t ws_tv_gaps_size(const uint32_t *index, size_t n);

/** Write them to @p out; returns their bytes. */
WS_API size_t ws_tv_gaps_encode(const uint32_t *index, size_t n, uint8_t *out);

/**
 * Read exactly @p n indexes from exactly @p len bytes.
 * @param limit  elements of the block: indexes are below it
 * @return false when they are not that, or a gap is not in its shortest form
 */
WS_API bool ws_tv_gaps_decode(const uint8_t *in, size_t len, size_t limit,
                              uint32_t *index, size_t n);

/** Set the bits of @p n indexes in a block of @p limit elements: (limit + 7) / 8
 * bytes. */
WS_API void ws_tv_map_encode(const uint32_t *index, size_t n, size_t limit,
                             uint8_t *out);

/** The indexes of exactly @p n set bits; false when there are more or fewer, or one
 * beyond @p limit. */
WS_API bool ws_tv_map_decode(const uint8_t *in, size_t limit, uint32_t *index,
                             size_t n);

#endif
