/*
 * vocab.h - what becomes of models whose vocabularies differ
 */
#ifndef WSURG_VOCAB_H
#define WSURG_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Which tokens the output has; rows of embedding and head are put together by
 * token. */
typedef enum ws_vocab_policy {
    WS_VOCAB_ERROR,  /**< none of it: different vocabularies are refused */
    WS_VOCAB_BASE,   /**< those of the base, or of the first model */
    WS_VOCAB_COMMON, /**< of these, those that every model has; ids stay */
    WS_VOCAB_UNION,  /**< of these, and what the others have beside them, added */
    WS_VOCAB_PAD,    /**< rows by their number, as many as the largest model has */
    WS_VOCAB_MODEL   /**< those of one model: recipes only */
} ws_vocab_policy;

/** What was made of the vocabularies. */
typedef struct ws_vocab_facts {
    ws_vocab_policy policy;
    uint64_t rows;     /**< of the output's embedding */
    uint64_t tokens;   /**< of the output's tokenizer; with WS_VOCAB_PAD rows */
    uint64_t added;    /**< of them, those that its tokenizer did not have before */
    uint64_t removed;  /**< of that tokenizer's, those left out */
    uint64_t averaged; /**< rows that models lack and get as a mean of the others' */
    uint64_t unknown;  /**< rows that no model has: zero */
    const char *tokenizer_from; /**< directory of that tokenizer; NULL: none was read */
} ws_vocab_facts;

#ifdef __cplusplus
}
#endif

#endif
