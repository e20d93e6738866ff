/*
 * tokenizer_internal.h - the parts of a tokenizer
 *
 *   text -> added tokens cut out -> normalizer -> added tokens of the normalized text
 *   cut out -> pre-tokenizer (pieces) -> BPE (ids) -> template
 *
 * tokenizer_load.c and tokenizer_parts.c read the file into a ws_tokenizer; each other
 * file is one part of the pipeline.
 */
#ifndef WS_MODEL_TOKENIZER_INTERNAL_H
#define WS_MODEL_TOKENIZER_INTERNAL_H

#include <string.h>

#include "model/tokenizer_regex.h"
#include "wsurg/alloc.h"
#include "wsurg/tokenizer.h"

enum {
    WS_TOK_MAX_FILE = 128 << 20, // bytes of tokenizer.json
    WS_TOK_MAX_IDS = 1 << 21,    // largest id and one
    WS_TOK_MAX_STEPS = 64,       // parts of a normalizer, a pre-tokenizer, a decoder
    WS_TOK_MAX_ADDED = 1024,     // bytes of an added token
    WS_TOK_MAX_TEXT = 4096,      // bytes of a string that a part puts in
};

/** One part of a normalizer, pre-tokenizer or decoder. */
typedef enum ws_step_kind {
    /* normalizer */
    WS_STEP_FORM, // NFC, NFD, NFKC, NFKD by .compose, .compat
    WS_STEP_LOWERCASE,
    WS_STEP_STRIP,   // .left, .right
    WS_STEP_PREPEND, // .with
    WS_STEP_REPLACE, // .text or .regex by .with; also a decoder
    /* pre-tokenizer */
    WS_STEP_SPLIT, // at .regex, .behavior, .invert
    WS_STEP_SPACE, // a space before what has none
    WS_STEP_BYTES, // bytes to letters; at the end it is left to the model
    WS_STEP_META,  // blanks by .with, and .scheme
    /* decoder */
    WS_STEP_BYTE_LEVEL,
    WS_STEP_BYTE_FALLBACK,
    WS_STEP_FUSE,
    WS_STEP_TRIM,   // up to .left and .right times .text at the ends
    WS_STEP_UNMETA, // .text to blanks; .scheme
} ws_step_kind;

typedef enum ws_split_behavior {
    WS_SPLIT_REMOVED,
    WS_SPLIT_ISOLATED,
    WS_SPLIT_PREVIOUS,
    WS_SPLIT_NEXT,
    WS_SPLIT_CONTIGUOUS
} ws_split_behavior;

typedef enum ws_meta_scheme {
    WS_META_NEVER,
    WS_META_FIRST,
    WS_META_ALWAYS
} ws_meta_scheme;

typedef struct ws_span {
    const char *p;
    size_t n;
} ws_span;

typedef struct ws_step {
    ws_step_kind kind;
    ws_span text, with;
    ws_regex *regex;
    ws_split_behavior behavior;
    ws_meta_scheme scheme;
    bool invert, compose, compat;
    size_t left, right;
} ws_step;

typedef struct ws_steps {
    ws_step step[WS_TOK_MAX_STEPS];
    size_t n;
} ws_steps;

/** Spellings and their ids, both ways. */
typedef struct ws_vocab {
    ws_span *token; /**< (n) by id; .p NULL where no token has the id */
    int32_t *slot;  /**< (mask + 1) open addressing: id, or -1 */
    uint32_t mask;
    int32_t n;     /**< ids have room below this */
    int32_t count; /**< tokens */
} ws_vocab;

/** A pair of symbols and what it becomes. */
typedef struct ws_merge {
    uint64_t key; /**< left << 32 | right; UINT64_MAX: empty */
    uint32_t rank;
    int32_t id;
} ws_merge;

/** What a byte or character opens a word with: up to four ids, or the unk token. */
typedef struct ws_symbol {
    int32_t id[4];
    uint8_t n;
    bool unk;      /**< nothing spells it and there is an unk_token */
    bool fallback; /**< spelt by byte tokens, which overtake a waiting unk */
} ws_symbol;

typedef struct ws_bpe {
    ws_merge *merge; /**< (mask + 1) open addressing */
    uint32_t mask;
    int32_t unk; /**< id of unk_token; -1 none, -2 not in the vocabulary */
    bool fuse_unk, byte_fallback, ignore_merges;
    bool bytes;          /**< pieces are bytes, each spelt by a letter of its own */
    bool cut_marks;      /**< no merge joins a mark (U+2581) to what stands before it */
    ws_symbol byte[256]; /**< of a byte, where .bytes; else of an ASCII character */
    int32_t fallback[256]; /**< id of "<0xNN>", or -1 */
    size_t longest;        /**< bytes of the longest token */
} ws_bpe;

typedef struct ws_added {
    ws_span text;
    ws_span found; /**< what is looked for in the text: normalized where .normalized */
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
} ws_added;

/** Strings to look for, leftmost and longest first: a trie. */
typedef struct ws_trie {
    struct ws_trie_node *node; /**< node[0] is the root */
    uint32_t n, cap;
    uint32_t first[256]; /**< children of the root by byte, 0: none */
} ws_trie;

struct ws_tokenizer {
    ws_arena arena; /**< strings and small arrays */
    ws_vocab vocab;
    ws_bpe bpe;
    ws_added *added; /**< (n_added) sorted by spelling */
    size_t n_added;
    int32_t *added_at; /**< (size) index into added by id, or -1 */
    int32_t size;
    ws_trie raw, normal; /**< .added by index: not normalized, normalized */
    ws_regex *word;      /**< a word character; only where single_word is used */
    ws_steps normalizer, pre, decoder;
    bool has_decoder;
    int32_t *prefix, *suffix;
    size_t n_prefix, n_suffix;
    ws_token_roles roles;
};

/** Two buffers that take turns. */
typedef struct ws_buf_pair {
    ws_buf buf[2];
} ws_buf_pair;

/* ---- tokenizer_text.c: UTF-8, classes, the letters of bytes ---------------------- */

/** The character at @p p of @p n >= 1 bytes of valid UTF-8; *size its bytes. */
uint32_t ws_utf8_get(const char *p, size_t n, size_t *size);
size_t ws_utf8_put(uint32_t c, char out[4]);

/** White_Space. */
bool ws_is_space(uint32_t c);

/** Bytes at the start, and at the end, of @p s that are white space. */
size_t ws_space_left(ws_span s);
size_t ws_space_right(ws_span s);

/** Append with every maximal broken sequence replaced by U+FFFD. */
void ws_utf8_mend(const char *p, size_t n, ws_buf *out);

/** Code point of the letter that stands for a byte, and back (-1: none). */
uint32_t ws_byte_letter(unsigned byte);
int ws_letter_byte(uint32_t c);

/** The byte that "<0xNN>" names, or -1. */
int ws_byte_token(ws_span token);

/** First @p needle in @p hay, or NULL; needle not empty. */
const char *ws_span_find(ws_span hay, ws_span needle);
static inline bool ws_span_starts(ws_span s, ws_span start)
{
    return s.n >= start.n && memcmp(s.p, start.p, start.n) == 0;
}

/* ---- tokenizer_vocab.c ----------------------------------------------------------- */

/** Room for ids below @p n and @p count tokens. */
ws_status ws_vocab_init(ws_vocab *v, int32_t n, int32_t count, ws_err *err);

/** Add; false when the spelling or the id is taken. @p token is borrowed. */
bool ws_vocab_add(ws_vocab *v, ws_span token, int32_t id);
int32_t ws_vocab_find(const ws_vocab *v, ws_span token);
void ws_vocab_free(ws_vocab *v);

/* ---- tokenizer_bpe.c ------------------------------------------------------------- */

/** Room for @p n merges. */
ws_status ws_bpe_init(ws_bpe *b, size_t n, ws_err *err);

/** A later merge of the same pair replaces the earlier one. */
void ws_bpe_add(ws_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id);

/** After vocabulary and merges: what bytes and characters open a word with. */
void ws_bpe_finish(ws_bpe *b, const ws_vocab *v);
void ws_bpe_free(ws_bpe *b);

/** Symbols of a word before and while they are merged, and the heap of pairs. */
typedef struct ws_bpe_work {
    int32_t *id, *next, *prev;
    uint32_t *rank;
    uint64_t *heap;
    size_t id_cap, cap; /**< of id; of the others, twice that in heap */
    char *letters;      /**< (b->longest + 2) a piece as the vocabulary spells it */
    struct ws_bpe_cell *cache;
    size_t cache_sets, cache_misses;
} ws_bpe_work;

ws_status ws_bpe_work_init(ws_bpe_work *w, const ws_bpe *b, ws_err *err);
void ws_bpe_work_free(ws_bpe_work *w);

/** Append the ids of one piece (bytes of text where b->bytes). */
ws_status ws_bpe_encode(const ws_bpe *b, const ws_vocab *v, ws_bpe_work *w,
                        ws_span piece, ws_ids *out, ws_err *err);

/** Room for @p n more ids. */
ws_status ws_ids_reserve(ws_ids *ids, size_t n, ws_err *err);

/* ---- tokenizer_norm.c ------------------------------------------------------------ */

/** Run the normalizer over @p in; *out points into @p in or @p scratch.
 * WS_E_UNSUPPORTED when it makes more than 64 times as much of it. */
ws_status ws_normalize(const ws_steps *steps, ws_matcher *m, ws_span in,
                       ws_buf_pair *scratch, ws_span *out, ws_err *err);

/** Append @p in to @p out with what step->text or step->regex finds replaced, until
 * @p out holds @p most bytes or more; shared with the decoder. */
ws_status ws_step_replace(const ws_step *step, ws_matcher *m, ws_span in, size_t most,
                          ws_buf *out, ws_err *err);

/** Most that a part may make of @p n bytes. */
static inline size_t ws_step_most(size_t n)
{
    return 64 * n + 65536;
}

/** Whether the canonical composition of a text of such characters is the text itself.
 */
bool ws_nfc_inert(uint32_t c);

/* ---- tokenizer_added.c ----------------------------------------------------------- */

ws_status ws_trie_add(ws_trie *t, ws_span s, uint32_t value, ws_err *err);

/** Leftmost-longest match from @p from on; false: none. */
bool ws_trie_find(const ws_trie *t, ws_span s, size_t from, size_t *start, size_t *end,
                  uint32_t *value);
void ws_trie_free(ws_trie *t);

/** Bytes [start, end) of a text are an added token, or text (added NULL). */
typedef ws_status (*ws_added_each)(void *arg, const ws_added *added, size_t start,
                                   size_t end, ws_err *err);

/** Cut @p s at the added tokens of @p trie. */
ws_status ws_added_cut(const ws_tokenizer *t, const ws_trie *trie, ws_matcher *m,
                       ws_span s, ws_added_each each, void *arg, ws_err *err);

/* ---- tokenizer_load.c, tokenizer_parts.c ----------------------------------------- */

struct cJSON;

/** Fail with @p where in the file: "pre_tokenizer.pretokenizers[1]: ...". */
ws_status ws_tok_fail(ws_err *err, ws_status st, const char *where, const char *fmt,
                      ...) __attribute__((format(printf, 4, 5)));

ws_status ws_tok_read_normalizer(ws_tokenizer *t, const struct cJSON *item,
                                 ws_err *err);
ws_status ws_tok_read_pre(ws_tokenizer *t, const struct cJSON *item, ws_err *err);
ws_status ws_tok_read_decoder(ws_tokenizer *t, const struct cJSON *item, ws_err *err);
ws_status ws_tok_read_post(ws_tokenizer *t, const struct cJSON *item, ws_err *err);

/** Members of an object: the text, or a report that names object and key. */
ws_status ws_tok_get_text(ws_tokenizer *t, const struct cJSON *o, const char *where,
                          const char *key, ws_span *out, ws_err *err);

/** Absent or null gives @p standard: 0 or 1; 2: it must be there. */
ws_status ws_tok_get_bool(const struct cJSON *o, const char *where, const char *key,
                          int standard, bool *out, ws_err *err);

#endif
