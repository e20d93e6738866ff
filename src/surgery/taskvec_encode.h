/*
 * taskvec_encode.h - a task vector in the making: counted, then served as a checkpoint
 * that the engine copies into a file
 *
 * Updates are computed where they are needed: once to count, once more for each stored
 * tensor that bears a part of them. So nothing is held but the tables, 32 bytes for
 * 32,768 elements.
 */
#ifndef WS_SURGERY_TASKVEC_ENCODE_H
#define WS_SURGERY_TASKVEC_ENCODE_H

#include <pthread.h>

#include "hf/taskvec_file.h"
#include "wsurg/taskvec.h"
#include "wsurg/text.h"

/** One block's update, and what its making takes; about 2.5 MiB. */
typedef struct ws_tv_made {
    double update[WS_TV_BLOCK]; /**< floats, or doubles where wide */
    uint32_t side[WS_TV_BLOCK]; /**< exact entries: indexes ... */
    size_t n_side;
    double bits[WS_TV_BLOCK]; /**< ... and their bits, of the model's dtype */
    double scratch[4][WS_TV_BLOCK];
    uint32_t index[WS_TV_BLOCK];
    ws_tv_buffer buf;
    struct ws_tv_made *next; /**< the lender's */
} ws_tv_made;

/** One tensor of the model, and what is known of it. */
typedef struct ws_tv_plan {
    ws_tensor t;
    ws_tv_kind kind;
    bool wide;
    bool converted; /**< the base has another dtype: no update leaves its bits */
    const ws_ckpt *whole_of; /**< where it is read when it is stored whole */
    const ws_tensor *whole;
    ws_tv_blocks blocks;
    uint64_t (*table)[WS_TV_COLUMNS]; /**< (n_blocks + 1): each block's counts, then, by
                                         ws_tv_encode(), the sums before it */
    ws_tv_role encoding; /**< out: WS_TV_DELTA dense, WS_TV_MAP, WS_TV_INDEX */
} ws_tv_plan;

/** Who makes the updates. */
typedef struct ws_tv_maker {
    void *self;
    /** Elements from .. to-1 of block @p b: update and exact entries (indexes in the
     * block; all of the block's when the range is the block). Thread-safe. */
    ws_status (*make)(void *self, size_t tensor, uint64_t b, size_t from, size_t to,
                      ws_tv_made *out, ws_err *err);
} ws_tv_maker;

/** What a task vector says of itself. Strings are borrowed. */
typedef struct ws_tv_facts {
    const char *base, *model; /**< digests; model may be NULL */
    bool exact;
    const char *sparsified;
    const ws_meta *meta; /**< (n_meta) of the model's file */
    size_t n_meta;
    bool has_meta;
    const char *const *removed; /**< (n_removed) */
    size_t n_removed;
    const char *const *files; /**< (n_files) of a sharded model */
    size_t n_files;           /**< 0: one file */
    const void *header;       /**< (header_len) of the model's files, one by one */
    size_t header_len;
    const ws_ckpt *const *sources; /**< (n_sources) whose files it is made from */
    size_t n_sources;
} ws_tv_facts;

/** Room for the table of an update's counts, zeroed, in @p arena. WS_E_MEMORY. */
ws_status ws_tv_plan_update(ws_tv_plan *p, ws_arena *arena, ws_err *err);

/** Put the counts of block @p b of @p p, as @p m has them, into its table. Several
 * threads may count blocks of one tensor. */
void ws_tv_plan_count(ws_tv_plan *p, uint64_t b, ws_tv_made *m);

/**
 * Settle encodings and serve the tensors @p plans (n), borrowed as is everything in
 * @p maker. Updates without a nonzero or exact entry become WS_TV_KIND_SAME.
 * @param description  out: `wsurg.taskvec`
 * @param counts       out
 * @return WS_OK; WS_E_UNSUPPORTED a name is too long with its prefix; WS_E_MEMORY
 */
ws_status ws_tv_encode(ws_ckpt **out, const char *path, ws_tv_plan *plans, size_t n,
                       const ws_tv_maker *maker, const ws_tv_facts *facts,
                       ws_buf *description, ws_taskvec_counts *counts, ws_err *err);

/** Bytes @p offset .. offset+len-1 of the dense update of tensor @p p, the maker's
 * number @p tensor, into @p dst. Status as of @p maker. */
ws_status ws_tv_read_dense(const ws_tv_maker *maker, size_t tensor, const ws_tv_plan *p,
                           uint64_t offset, size_t len, char *dst, ws_tv_made *m,
                           ws_err *err);

/** Scratch lent to threads: made when there is none left, freed together. */
typedef struct ws_tv_lender {
    pthread_mutex_t lock;
    ws_tv_made *free;
} ws_tv_lender;

void ws_tv_lender_init(ws_tv_lender *l);
void ws_tv_lender_free(ws_tv_lender *l);
/** NULL when memory is out. */
ws_tv_made *ws_tv_borrow(ws_tv_lender *l);
void ws_tv_give_back(ws_tv_lender *l, ws_tv_made *m);

#endif
