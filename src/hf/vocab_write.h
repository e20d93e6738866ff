/*
 * vocab_write.h - the files of a tokenizer, changed as an alignment wants it; bytes
 * that need not change stay
 */
#ifndef WS_HF_VOCAB_WRITE_H
#define WS_HF_VOCAB_WRITE_H

#include "hf/vocab_align.h"
#include "wsurg/text.h"

/** Whether the tokenizer is to be changed at all. */
WS_API bool ws_tokenizer_is_edited(const ws_tokenizer_edit *edit);

/**
 * tokenizer.json, @p len bytes at @p text, with @p edit done, to @p out: tokens that go
 * leave vocabulary, merges (those that make them or are made of them) and the list of
 * added tokens; new ones join that list.
 * @return WS_OK; WS_E_HEADER malformed; WS_E_MEMORY
 */
WS_API ws_status ws_tokenizer_write(ws_buf *out, const char *text, size_t len,
                                    const ws_tokenizer_edit *edit, ws_err *err);

/**
 * The same for tokenizer_config.json: `added_tokens_decoder`, where there is one; and
 * @p chat_template (NULL: as it is) for `chat_template`.
 */
WS_API ws_status ws_tokenizer_write_config(ws_buf *out, const char *text, size_t len,
                                           const ws_tokenizer_edit *edit,
                                           const char *chat_template, ws_err *err);

/** The same for added_tokens.json. */
WS_API ws_status ws_tokenizer_write_added(ws_buf *out, const char *text, size_t len,
                                          const ws_tokenizer_edit *edit, ws_err *err);

#endif
