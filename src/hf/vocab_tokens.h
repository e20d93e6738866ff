/*
 * vocab_tokens.h - the vocabularies of several tokenizer.json files, over one set of
 * tokens
 *
 * A file is scanned as text, without a tree: the largest have 33 MB.
 */
#ifndef WS_HF_VOCAB_TOKENS_H
#define WS_HF_VOCAB_TOKENS_H

#include "wsurg/alloc.h"
#include "wsurg/err.h"

enum {
    WS_TOKENIZER_CAP = 256 << 20, /**< bytes of a tokenizer.json */
    WS_TOKEN_IDS = 1 << 24,       /**< ids are below it */
};

/** Different tokens, numbered in the order in which they came. Zero is empty. */
typedef struct ws_token_set {
    ws_arena arena;
    const char **text; /**< (n) not NUL-terminated for files: see .len */
    uint32_t *len;
    size_t n, cap;
    uint32_t *slots; /**< (n_slots) number + 1; 0: free */
    size_t n_slots;
    uint64_t salt; /**< of the hash */
} ws_token_set;

/** Number of the token, added if it is new; SIZE_MAX without memory. */
WS_API size_t ws_token_set_add(ws_token_set *set, const char *s, size_t len);
/** Number of the token; SIZE_MAX: it is not there. */
WS_API size_t ws_token_set_find(const ws_token_set *set, const char *s, size_t len);
WS_API void ws_token_set_free(ws_token_set *set);

/** How a token added to a model's own is looked for in a text. */
typedef struct ws_token_flags {
    bool single_word, lstrip, rstrip, normalized, special;
} ws_token_flags;

typedef struct ws_added_token {
    uint32_t token; /**< number in the set */
    ws_token_flags flags;
} ws_added_token;

/** What one tokenizer.json says. */
typedef struct ws_token_table {
    int32_t *id; /**< (n_id) by number in the set; -1: not of this tokenizer */
    size_t n_id;
    int32_t *order; /**< (n) numbers in the order of ids */
    size_t n;
    int32_t top;           /**< one more than the largest id */
    ws_added_token *added; /**< (n_added) in file order */
    size_t n_added;
    char type[24]; /**< "BPE", … */
    size_t bytes;  /**< of the file */
} ws_token_table;

/**
 * Read the vocabulary in @p text into @p v, its tokens into @p set.
 * @return WS_OK; WS_E_HEADER not what its format demands: malformed, a token with two
 *         ids, an id with two tokens; WS_E_UNSUPPORTED a vocabulary in another form,
 *         ids of 2^24 and more; WS_E_MEMORY
 */
WS_API ws_status ws_token_table_parse(ws_token_table *v, ws_token_set *set,
                                      const char *text, size_t len, ws_err *err);

/** As ws_token_table_parse(), of `tokenizer.json` in directory @p dir; also WS_E_IO. */
WS_API ws_status ws_token_table_read(ws_token_table *v, ws_token_set *set,
                                     const char *dir, ws_err *err);

/** Id of token number @p token; -1: none. */
static inline int32_t ws_token_table_id(const ws_token_table *v, size_t token)
{
    return token < v->n_id ? v->id[token] : -1;
}

WS_API void ws_token_table_free(ws_token_table *v);

#endif
