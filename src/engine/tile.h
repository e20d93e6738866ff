/*
 * tile.h - one tile: sources to numbers, the method, numbers to bytes, and the sums
 */
#ifndef WS_ENGINE_TILE_H
#define WS_ENGINE_TILE_H

#include "base/hash.h"
#include "engine/exec.h"

/** One thread's buffers, carved from one block. */
typedef struct ws_scratch {
    unsigned char *block;
    size_t size;
    ws_xxh_stream **hash; /**< (n_inputs + 1): of the slice, per source; last: output */
    ws_lanes *lanes;      /**< (ws_sums_count) */
    ws_tally *tally;      /**< (n_models) */
    unsigned char *carry;
    size_t carry_size;
    const void **in; /**< (n_inputs) */
    void **tmp;
} ws_scratch;

/** Where one tensor's arrays lie in a thread's block. */
typedef struct ws_tile_layout {
    size_t real;      /**< bytes of a number: 4 or 8 */
    size_t tile;      /**< elements */
    size_t n_sources; /**< base included */
    size_t n_tmp;
    size_t raw_bytes; /**< of one source's or the output's raw tile */
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
    ws_xxh128 *whole_digests; /**< (n_inputs, n_slices) where the tile is the whole
                                 tensor; NULL: hashes grow in the scratch */
    atomic_uint_least64_t *read_bytes;
} ws_tile_job;

/** Digests of the slices of @p t, all of whose bytes are at @p raw. */
void ws_digest_slices(const ws_tensor *t, const void *raw, ws_xxh128 *slices);

/** Read the sources of elements first .. first+n-1 into numbers; tile is ready for the
 * method but for out. WS_E_NOT_FINITE unless allowed. */
ws_status ws_tile_load(const ws_tile_job *j, ws_scratch *s, uint64_t first, size_t n,
                       ws_tile *tile, ws_err *err);

/** Apply the method, round into raw bytes (*bytes), add to the sums in s->lanes. */
ws_status ws_tile_apply(const ws_tile_job *j, ws_scratch *s, ws_tile *tile,
                        ws_exec_mode mode, double *sums, void **bytes, ws_err *err);

/** A copied tile: bytes of one source (converted where --dtype asks); others are read
 * only to be hashed. */
ws_status ws_tile_copy(const ws_tile_job *j, ws_scratch *s, uint64_t first, size_t n,
                       double *sums, void **bytes, ws_err *err);

#endif
