/*
 * tokenizer.h - text to token ids and back, as tokenizer.json says
 *
 * Reads the file of Hugging Face's `tokenizers` and gives the same ids and the same
 * text: byte-level BPE and SentencePiece-style BPE with byte fallback. What the file
 * asks for and this reader does not know is refused by name, with the place in the
 * file. Truncation and padding in the file are not applied.
 */
#ifndef WSURG_TOKENIZER_H
#define WSURG_TOKENIZER_H

#include "wsurg/err.h"
#include "wsurg/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What tokenizer.json says. Immutable: any number of threads may share one. */
typedef struct ws_tokenizer ws_tokenizer;

/** Scratch memory and a bounded cache of words for encoding: one for each thread. */
typedef struct ws_encoder ws_encoder;

/** A growing list of ids. Zero is empty. */
typedef struct ws_ids {
    int32_t *p;
    size_t n, cap;
} ws_ids;

WS_API void ws_ids_free(ws_ids *ids);

/** The roles of tokens as tokenizer_config.json names them; -1: none. What it does not
 * mention: bos is what tokenizer.json puts before a text, unk its model's unk_token. */
typedef struct ws_token_roles {
    int32_t bos, eos, unk, pad;
} ws_token_roles;

/**
 * Open tokenizer.json.
 *
 * @param out   owned by the caller, ws_tokenizer_free()
 * @param path  the file, or a model directory that holds it; tokenizer_config.json
 *              beside it is read for the roles of tokens
 * @return WS_OK; WS_E_IO; WS_E_MISSING a directory without tokenizer.json; WS_E_HEADER
 *         the file is not what its format demands; WS_E_UNSUPPORTED a component outside
 *         the supported set; WS_E_MEMORY
 * @source huggingface/tokenizers 0.23
 */
WS_API ws_status ws_tokenizer_open(ws_tokenizer **out, const char *path, ws_err *err);

/** As ws_tokenizer_open() for the @p len bytes of a tokenizer.json in memory. */
WS_API ws_status ws_tokenizer_parse(ws_tokenizer **out, const char *text, size_t len,
                                    ws_err *err);
WS_API void ws_tokenizer_free(ws_tokenizer *t);

/** One more than the largest id, tokens added to the model's included. */
WS_API int32_t ws_tokenizer_size(const ws_tokenizer *t);

/** The id of a token as it is spelt in tokenizer.json ("Ġthe", "▁the"); -1: none. */
WS_API int32_t ws_tokenizer_id(const ws_tokenizer *t, const char *token, size_t len);

/** The spelling of @p id in tokenizer.json, borrowed; NULL: no token has this id. */
WS_API const char *ws_tokenizer_token(const ws_tokenizer *t, int32_t id, size_t *len);

/** Whether @p id is an added token marked as special. */
WS_API bool ws_tokenizer_special(const ws_tokenizer *t, int32_t id);

WS_API ws_token_roles ws_tokenizer_roles(const ws_tokenizer *t);

/** Bytes of text that @p id stands for in the middle of a text; of an added token,
 * those of its spelling. 0 for an id without token. For bits per byte. */
WS_API uint32_t ws_tokenizer_bytes(const ws_tokenizer *t, int32_t id);

/** The ids that encoding with special tokens puts before and after a text, borrowed. */
WS_API const int32_t *ws_tokenizer_prefix(const ws_tokenizer *t, size_t *n);
WS_API const int32_t *ws_tokenizer_suffix(const ws_tokenizer *t, size_t *n);

/** @param t  must outlive the encoder */
WS_API ws_status ws_encoder_new(ws_encoder **out, const ws_tokenizer *t, ws_err *err);
WS_API void ws_encoder_free(ws_encoder *e);

/**
 * Append the ids of a text to @p out. Spellings of added tokens in the text become
 * those tokens. Invalid UTF-8 reads as U+FFFD, one for each maximal broken sequence.
 *
 * @param text     (len) any bytes, NULs included; len below 2^30
 * @param special  also what the post-processor puts around a text
 * @return WS_OK; WS_E_USAGE text too long; WS_E_UNSUPPORTED a regex gave up on it, it
 *         needs an unk_token that is not in the vocabulary, or normalizing makes more
 *         than 64 times as much of it; WS_E_MEMORY. On failure @p out is as before.
 */
WS_API ws_status ws_encode(ws_encoder *e, const char *text, size_t len, bool special,
                           ws_ids *out, ws_err *err);

/**
 * Append the text of @p ids to @p out; ids without token are left out.
 *
 * @param skip_special  leave out special tokens
 * @return WS_OK; WS_E_UNSUPPORTED a regex gave up; WS_E_MEMORY
 */
WS_API ws_status ws_decode(const ws_tokenizer *t, const int32_t *ids, size_t n,
                           bool skip_special, ws_buf *out, ws_err *err);

/** Decoding token by token: whole UTF-8 characters as soon as they are complete. */
typedef struct ws_decoder ws_decoder;

/** @param t  must outlive the decoder */
WS_API ws_status ws_decoder_new(ws_decoder **out, const ws_tokenizer *t,
                                bool skip_special, ws_err *err);
WS_API void ws_decoder_free(ws_decoder *d);

/**
 * Take one more id, append to @p out the text that is now certain (often none).
 *
 * The parts together are the text of ws_decode(), but for bytes that form no character:
 * those that an earlier part gave as a character stay one.
 * @return as ws_decode()
 */
WS_API ws_status ws_decoder_add(ws_decoder *d, int32_t id, ws_buf *out, ws_err *err);

/** Append what was held back; the decoder is then as new. */
WS_API ws_status ws_decoder_end(ws_decoder *d, ws_buf *out, ws_err *err);

#ifdef __cplusplus
}
#endif

#endif
