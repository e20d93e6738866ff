/*
 * data_internal.h - a data set inside: sources, their tokens, rows
 */
#ifndef WS_TRAIN_DATA_INTERNAL_H
#define WS_TRAIN_DATA_INTERNAL_H

#include "base/json.h"
#include "wsurg/data.h"

/** Width of the ids of a token file. */
typedef enum ws_id_type { WS_ID_U16, WS_ID_U32, WS_ID_I32, WS_ID_I64 } ws_id_type;

/** Part of a document in one row: @p n tokens, of which n-1 are positions. */
typedef struct ws_segment {
    uint64_t first;
    uint32_t n;
} ws_segment;

typedef struct ws_source {
    const char *name, *path;
    ws_data_kind kind;
    bool running; /**< one document, whose rows follow from the length */

    uint64_t n;       /**< tokens */
    uint16_t *narrow; /**< ids in memory, one of these two */
    int32_t *wide;
    uint64_t cap;
    uint8_t *unscored; /**< a bit for each token that is no target; NULL: none */
    int fd;            /**< of a token file, or -1 */
    uint64_t offset;
    ws_id_type type;

    uint64_t *doc; /**< (n_docs + 1) first token; NULL when running */
    uint64_t n_docs, cap_docs;
    ws_segment *seg; /**< NULL when running */
    uint64_t n_seg;
    uint64_t *row; /**< (rows + 1) first segment, when packed */

    uint64_t rows;  /**< in the file */
    uint64_t share; /**< rows in one epoch */
} ws_source;

struct ws_data {
    ws_arena arena;
    ws_source *source;
    size_t n;
    const ws_tokenizer *t;
    ws_data_opts o;
    ws_data_info info;
    ws_chat chat;
    bool has_chat;
    bool narrow;    /**< ids fit 16 bits */
    uint64_t limit; /**< bytes */
    uint64_t held;  /**< bytes */
    const ws_ctx *ctx;
};

/** Append @p ids as one document of @p s; those from @p scored on, and those that
 * @p mask (n) marks, are targets. */
ws_status ws_source_add(ws_data *d, ws_source *s, const ws_ids *ids, const bool *mask,
                        ws_err *err);

/** @p n ids of @p s from @p first on. */
ws_status ws_source_ids(const ws_data *d, const ws_source *s, uint64_t first,
                        uint64_t n, int32_t *out, ws_err *err);
bool ws_source_scored(const ws_source *s, uint64_t i);

/** Read a plain text file, a JSONL file, or the header of a token file. */
ws_status ws_source_text(ws_data *d, ws_source *s, ws_err *err);
ws_status ws_source_jsonl(ws_data *d, ws_source *s, ws_err *err);
ws_status ws_source_tokens(ws_data *d, ws_source *s, ws_err *err);

/** What a token file's first bytes say; for the fuzzer too. @p bytes is the file's. */
ws_status ws_bin_header(ws_source *s, const unsigned char *head, size_t n,
                        uint64_t bytes, ws_err *err);
ws_status ws_npy_header(ws_source *s, const unsigned char *head, size_t n,
                        uint64_t bytes, ws_err *err);

/** Cut the documents of @p s into rows. */
ws_status ws_source_rows(ws_data *d, ws_source *s, ws_err *err);

/** Where number @p i of a shuffle of 0 .. n-1 stands: a bijection of its key. */
uint64_t ws_shuffle(uint64_t seed, const char *what, uint64_t round, uint64_t n,
                    uint64_t i);

/** Turns a record of JSONL into documents. */
typedef struct ws_record ws_record;
ws_status ws_record_new(ws_record **out, ws_data *d, ws_source *s, ws_err *err);
void ws_record_free(ws_record *r);
/** Append what stands before a document. */
ws_status ws_record_bos(ws_record *r, ws_ids *ids, ws_err *err);
/** @p first: of the file; it decides the kind. */
ws_status ws_record_add(ws_record *r, const cJSON *line, bool first, ws_err *err);

/** Told of every line of a file, parsed. */
typedef ws_status ws_line_fn(void *arg, const cJSON *line, bool first, ws_err *err);

/** Read JSONL line by line, blank lines apart; the first @p limit (0: all). Reports of
 * @p take get the line and its offset. */
ws_status ws_lines_read(const char *path, int64_t limit, const ws_ctx *ctx,
                        ws_line_fn *take, void *arg, ws_err *err);

/** Grow an array of @p size bytes an element to hold @p want, counting into d->held. */
ws_status ws_data_grow(ws_data *d, void **p, uint64_t *cap, uint64_t want, size_t size,
                       ws_err *err);

#endif
