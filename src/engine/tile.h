/*
 * tile.h - one tile: sources to numbers, the method, numbers to bytes, and the sums
 */
#ifndef WS_ENGINE_TILE_H
#define WS_ENGINE_TILE_H

#include "base/hash.h"
#include "engine/exec.h"

/** Chunks of output that a thread may have ready while another one writes. */
enum { WS_CHUNKS_READY = 3 };

/** Output bytes on their way to the file. */
typedef struct ws_chunk {
    const void *bytes;
    size_t n_bytes;
    uint64_t offset; /**< in the file */
} ws_chunk;

/** One thread's buffers, carved from one block. */
typedef struct ws_scratch {
    unsigned char *block;
    size_t size;
    ws_xxh_stream **hash; /**< (n_inputs + 1): of the slice, per source; last: output */
    uint64_t first;       /**< element at which the raw arrays begin */
    ws_chunk ready[WS_CHUNKS_READY];
    size_t n_ready;  /**< the next chunk's output goes to the array after those */
    ws_lanes *lanes; /**< (ws_sums_count) */
    ws_tally *tally; /**< (n_models) */
    unsigned char *carry;
    size_t carry_size;
    const void **in; /**< (n_inputs) */
    void **tmp;
} ws_scratch;

/** Where one tensor's arrays lie in a thread's block. */
typedef struct ws_tile_layout {
    size_t real;      /**< bytes of a number: 4 or 8 */
    size_t tile;      /**< elements taken through the method at once: few enough to stay
                         near the processor */
    size_t chunk;     /**< elements read and written at once, whole tiles */
    size_t n_sources; /**< base included */
    size_t n_tmp;
    size_t raw_bytes; /**< of one source's or the output's raw chunk */
    size_t total;     /**< bytes of the block */
} ws_tile_layout;

/** Elements of a tile of this tensor when tiles are to have about @p tile. */
size_t ws_tile_elements(const ws_plan_tensor *pt, size_t tile);

/** The next run of at most @p n elements from @p first on that a sampling pass looks
 * at; false when there is none before @p end. */
bool ws_tile_next_run(ws_sample sample, uint64_t *first, uint64_t *n, uint64_t end);

/** False when a size does not fit. */
bool ws_tile_layout_make(const ws_plan *plan, const ws_plan_tensor *pt, size_t tile,
                         ws_tile_layout *out);

ws_status ws_scratch_init(ws_scratch *s, const ws_plan *plan, size_t block,
                          size_t carry, ws_err *err);
void ws_scratch_free(ws_scratch *s, const ws_plan *plan);

/** What a tile is part of. */
typedef struct ws_tile_job {
    const ws_plan *plan;
    const ws_plan_tensor *pt;
    const ws_method *method; /**< the twin for this tensor's arithmetic */
    const void *state;
    ws_tile_layout layout;
    uint64_t slice;
    bool scanning; /**< for a pass: apply will look for what is not finite */
    bool hash_inputs;
    unsigned char *keep;      /**< room for the slice's sources; NULL: none */
    bool kept;                /**< they are there */
    ws_xxh128 *whole_digests; /**< (n_inputs, n_slices) where the tile is the whole
                                 tensor; NULL: hashes grow in the scratch */
    atomic_uint_least64_t *read_bytes;
} ws_tile_job;

/** Bytes of a slice of all sources of the tensor, when kept. */
uint64_t ws_tile_slice_bytes(const ws_plan_tensor *pt);

/** Digests of the slices of @p t, all of whose bytes are at @p raw. */
void ws_digest_slices(const ws_tensor *t, const void *raw, ws_xxh128 *slices);

/** One pass over elements first .. first+n-1, at most a chunk: read unless they are
 * kept, scanned into @p partial. *different (may be NULL) becomes true where sources
 * differ. */
ws_status ws_tile_scan(const ws_tile_job *j, ws_scratch *s, int pass, uint64_t first,
                       size_t n, void *partial, bool *different, ws_err *err);

/** Elements first .. first+n-1, at most a chunk, read unless they are kept, hashed when
 * wanted, through the method and rounded into the chunk's bytes; adds to the sums in
 * s->lanes. WS_E_NOT_FINITE unless allowed. */
ws_status ws_tile_apply(const ws_tile_job *j, ws_scratch *s, uint64_t first, size_t n,
                        ws_exec_mode mode, double *sums, ws_err *err);

/** The bytes of the chunk that was read, as the method made them. */
const void *ws_tile_bytes(const ws_tile_job *j, const ws_scratch *s);

/** A copied chunk: bytes of one source (converted where --dtype asks); others are read
 * only to be hashed. */
ws_status ws_tile_copy(const ws_tile_job *j, ws_scratch *s, uint64_t first, size_t n,
                       double *sums, const void **bytes, ws_err *err);

#endif
