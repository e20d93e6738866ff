/*
 * data.h - text and token files as rows to train on and to score
 *
 * Files: plain text (one document), JSONL with `text`, `prompt` and `completion`,
 * `messages`, or `prompt`, `chosen` and `rejected`; tokens as .bin (raw uint16, or with
 * the headers of llm.c) and .npy (one dimension, uint16, int32, int64).
 *
 * A set is a sequence of rows. What row stands at which position follows from the seed
 * alone: a position is one integer, counted over all epochs, and is all that a resumed
 * run must know. Token ids of text are held in memory, two bytes each where the
 * vocabulary allows it; token files are read where they are.
 */
#ifndef WSURG_DATA_H
#define WSURG_DATA_H

#include "wsurg/alloc.h"
#include "wsurg/chat.h"
#include "wsurg/ctx.h"
#include "wsurg/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A target that is not scored. */
#define WS_IGNORE (-100)

typedef enum ws_data_kind {
    WS_DATA_TEXT,       /**< running text, or tokens */
    WS_DATA_COMPLETION, /**< prompt and completion */
    WS_DATA_CHAT,       /**< messages */
    WS_DATA_PAIRS       /**< prompt, chosen and rejected: two documents in a row */
} ws_data_kind;

/** What is put before a document of text. Rendered conversations have their own. */
typedef enum ws_data_bos {
    WS_BOS_AUTO, /**< what the tokenizer's post-processor puts there */
    WS_BOS_NONE,
    WS_BOS_EACH /**< the tokenizer's bos token */
} ws_data_bos;

/** Which documents of JSONL end with the eos token; a plain text file never does, and
 * rendered conversations end as their format says. */
typedef enum ws_data_eos {
    WS_EOS_AUTO,       /**< all that do not end with it already */
    WS_EOS_COMPLETION, /**< completions, not `text` */
    WS_EOS_NONE
} ws_data_eos;

/** Which targets count. */
typedef enum ws_data_loss {
    WS_LOSS_AUTO, /**< completions of prompt and completion, and of pairs; else all */
    WS_LOSS_ALL,
    WS_LOSS_COMPLETION /**< in conversations the assistant's turns */
} ws_data_loss;

/** One file. */
typedef struct ws_data_source {
    const char *name, *path;
    double weight; /**< how often an epoch goes through it: 1 once, 0.5 through half of
                        it (the next epoch through the other half); > 0 */
} ws_data_source;

typedef struct ws_data_opts {
    int64_t length; /**< most positions in a row, >= 1. Longer text is cut into rows, no
                         target lost; longer examples lose their end */
    bool pack;      /**< fill rows with several documents; see ws_batch.start */
    ws_data_bos bos;
    ws_data_eos eos;
    ws_data_loss loss;
    const char *chat_format; /**< NULL: recognise the model's template */
    const char *model;       /**< directory with tokenizer_config.json, for the chat
                                  format; NULL: none */
    int64_t limit; /**< of each file the first tokens (JSONL: lines); 0: all */
    bool in_order; /**< no shuffle */
    uint64_t seed; /**< of the shuffle */
    int64_t vocab; /**< of the model; 0: unknown. Token files are checked as read */
} ws_data_opts;

#define WS_DATA_OPTS_INIT                                                              \
    {                                                                                  \
        .length = 1024                                                                 \
    }

typedef struct ws_data ws_data;

/** What a set holds. Borrowed. */
typedef struct ws_data_info {
    ws_data_kind kind; /**< of the first source; pairs stand alone */
    int64_t rows;      /**< of one epoch: positions 0 .. rows-1 are the first */
    uint64_t documents;
    uint64_t tokens;         /**< in all files, weights apart */
    uint64_t skipped;        /**< documents with nothing to predict */
    uint64_t truncated;      /**< documents that lost their end */
    uint64_t lost;           /**< tokens that these lost */
    uint64_t memory_bytes;   /**< held by the set */
    int64_t longest;         /**< positions of the longest row */
    int64_t most_documents;  /**< most documents in one row */
    const char *chat_format; /**< in use; NULL: none */
} ws_data_info;

/**
 * Read `[NAME=]FILE`. An existing path wins over every other reading; without NAME it
 * is the file's name up to its last dot.
 *
 * @param out   its texts are cut out of @p spec's copy in @p arena; weight 1
 * @return WS_OK; WS_E_USAGE an empty name or path; WS_E_MEMORY
 */
WS_API ws_status ws_data_source_parse(ws_data_source *out, const char *spec,
                                      ws_arena *arena, ws_err *err);

/**
 * Open files as one set.
 *
 * @param t    must outlive the set; NULL when all sources are token files
 * @param ctx  its memory limit bounds what is held; may be NULL
 * @return WS_OK; WS_E_USAGE an option out of range, pairs beside other kinds, a set
 *         without rows; WS_E_HEADER a file is not what its format demands (line and
 *         offset named); WS_E_UNSUPPORTED a kind of file or of line that is not read,
 *         or an unknown chat template; WS_E_MISSING no template, no bos token;
 *         WS_E_MEMORY; WS_E_IO; WS_E_INTERRUPTED
 */
WS_API ws_status ws_data_open(ws_data **out, const ws_data_source *sources, size_t n,
                              const ws_tokenizer *t, const ws_data_opts *opts,
                              const ws_ctx *ctx, ws_err *err);
WS_API void ws_data_free(ws_data *d);
WS_API const ws_data_info *ws_data_info_of(const ws_data *d);

/** Rows to run, without padding. Zero is empty; reused from call to call. */
typedef struct ws_batch {
    int64_t n;        /**< positions in all */
    int32_t *tokens;  /**< (n) */
    int32_t *targets; /**< (n) the token after each, or WS_IGNORE */
    int64_t n_docs;
    int64_t *start; /**< (n_docs + 1) first position of each document, then n: a
                           document sees only itself, its positions count from 0. Of
                           pairs, documents 2i and 2i+1 are chosen and rejected */
    int64_t scored; /**< targets that are not WS_IGNORE */
    uint64_t bytes; /**< of text that these stand for; 0 without tokenizer */
    int64_t cap, cap_docs;
} ws_batch;

/**
 * The rows at positions @p position .. position+rows-1.
 *
 * At most rows * length positions come back (of pairs twice as many). Any number of
 * threads may ask at once.
 * @return WS_OK; WS_E_HEADER a token file holds an id beyond the vocabulary; WS_E_IO;
 *         WS_E_MEMORY
 */
WS_API ws_status ws_data_batch(const ws_data *d, uint64_t position, int64_t rows,
                               ws_batch *out, ws_err *err);
WS_API void ws_batch_free(ws_batch *b);

/** One source as it stands in the file, for scoring in order. */
typedef struct ws_data_text {
    const char *name, *path;
    ws_data_kind kind;
    bool running;    /**< one document: a text file, or tokens */
    int64_t n;       /**< tokens */
    int32_t *tokens; /**< (n) */
    uint32_t *bytes; /**< (n) of text that each stands for; NULL: unknown */
    uint8_t *scored; /**< (n) whether it counts as a target; NULL: all do */
    int64_t n_docs;
    int64_t *start; /**< (n_docs + 1) */
} ws_data_text;

/** Source @p i of the set, documents whole; for ws_data_text_free().
 * @return as ws_data_batch() */
WS_API ws_status ws_data_text_get(const ws_data *d, size_t i, ws_data_text *out,
                                  ws_err *err);
WS_API void ws_data_text_free(ws_data_text *t);

#ifdef __cplusplus
}
#endif

#endif
