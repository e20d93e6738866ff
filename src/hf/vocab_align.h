/*
 * vocab_align.h - rows of embeddings and heads, put together by token
 *
 *     output row --own--> row of the model, or --fill--> where what it lacks comes from
 *
 * recipes.md 6: a token that a model has keeps that model's row; one that it lacks gets
 * what was configured, else the only row that there is, else the base's, else the mean
 * of those that have it. Tokens of no model are zero; rows beyond the tokens (padding)
 * are the mean of the model's rows before them.
 */
#ifndef WS_HF_VOCAB_ALIGN_H
#define WS_HF_VOCAB_ALIGN_H

#include "hf/vocab_tokens.h"
#include "wsurg/vocab.h"

/** Where the row of a token comes from that has been configured. */
typedef enum ws_row_kind {
    WS_ROW_DEFAULT, /**< as if it were not configured */
    WS_ROW_MODEL,   /**< the row of the same token of .model */
    WS_ROW_ZERO,
    WS_ROW_ID,   /**< row .id of .model */
    WS_ROW_TOKEN /**< the row of token .other of .model */
} ws_row_kind;

typedef struct ws_token_want {
    const char *token;
    ws_row_kind kind;
    size_t model;
    int64_t id;
    const char *other;
    bool force; /**< also for models that have the token */
} ws_token_want;

/** What is asked for. */
typedef struct ws_vocab_want {
    ws_vocab_policy policy; /**< none of WS_VOCAB_ERROR */
    size_t base;            /**< of the models, whose tokenizer others are put to */
    bool base_fills;        /**< its rows stand in for what others lack: it was named */
    size_t model;           /**< of WS_VOCAB_MODEL */
    const ws_token_want *tokens; /**< (n_tokens) */
    size_t n_tokens;
    uint64_t multiple; /**< rows are rounded up to it; 0: not */
} ws_vocab_want;

/** One model. */
typedef struct ws_vocab_model {
    const char *label;
    const char *dir; /**< of tokenizer.json; NULL: none, it is taken for the base's */
    uint64_t rows;   /**< of its embedding */
} ws_vocab_model;

enum { WS_FILL_ZERO = -1, WS_FILL_MEAN = -2 };

typedef struct ws_fill {
    int32_t model; /**< or WS_FILL_ZERO, WS_FILL_MEAN */
    int32_t row;
} ws_fill;

/** A token added to the output's tokenizer. */
typedef struct ws_token_add {
    const char *text;
    size_t len;
    int32_t id;
    ws_token_flags flags;
} ws_token_add;

/** How the output's tokenizer differs from the one that it is made of. */
typedef struct ws_tokenizer_edit {
    const char *dir; /**< of the one that it is made of; NULL: there is none */
    const ws_token_add *add;
    size_t n_add;
    const uint8_t *gone; /**< (n_gone) by id: not 0 when it is left out; or NULL */
    size_t n_gone;
    size_t bytes; /**< of the file that it is made of */
} ws_tokenizer_edit;

/** All that reading aligned rows needs. */
typedef struct ws_vocab_map {
    size_t n_models;
    uint64_t rows, tokens; /**< of the output; rows from .tokens on are padding */
    int32_t *const *own;   /**< (n_models) (tokens): row of the model, -1: none */
    const ws_fill *fill;   /**< (tokens) */
    const uint8_t *force;  /**< (tokens) not 0: .fill for every model */
    ws_tokenizer_edit edit;
    ws_vocab_facts facts;
} ws_vocab_map;

/**
 * Align the vocabularies of @p models (n). The map and what it points to are of
 * @p arena.
 *
 * @param errors    every mistake of the wanted tokens; what keeps vocabularies from
 *                  being aligned: WS_E_MISSING no tokenizer.json, WS_E_HEADER,
 *                  WS_E_UNSUPPORTED, WS_E_IO; WS_E_RECIPE a token that a model lacks
 * @param warnings  tokens of no model, and models without a tokenizer; may be NULL
 * @return NULL after an error
 */
WS_API const ws_vocab_map *ws_vocab_align(ws_arena *arena, const ws_vocab_model *models,
                                          size_t n, const ws_vocab_want *want,
                                          ws_diag *errors, ws_diag *warnings);

/** Whether the rows of model @p k are the output's as they stand. */
WS_API bool ws_vocab_is_same(const ws_vocab_map *map, const ws_vocab_model *model,
                             size_t k);

/** How the vocabularies of two models differ. */
typedef struct ws_vocab_gap {
    size_t more, fewer; /**< tokens that the second has alone, and the first */
    size_t moved;       /**< ids that stand for different tokens */
    char what[400];     /**< in words: "has 2 tokens that 'a' lacks ('x', 'y'), …" */
} ws_vocab_gap;

/**
 * Compare the vocabularies of @p a and @p b; files of the same bytes are not parsed.
 * @return WS_OK; WS_E_MISSING one has no tokenizer.json; as ws_token_table_read()
 */
WS_API ws_status ws_vocab_compare(ws_vocab_gap *out, const ws_vocab_model *a,
                                  const ws_vocab_model *b, ws_err *err);

#endif
