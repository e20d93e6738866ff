/*
 * chat.h - conversations as the text that a model was trained on
 *
 * Renderers for the common formats, each equal to the chat template that models of the
 * family carry. A template is recognised, never run.
 */
#ifndef WSURG_CHAT_H
#define WSURG_CHAT_H

#include "wsurg/err.h"
#include "wsurg/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One turn. Borrowed. */
typedef struct ws_message {
    const char *role; /**< "system", "user" or "assistant" */
    const char *content;
    size_t len; /**< of the content */
} ws_message;

/** A format, with what it takes from the model at hand. */
typedef struct ws_chat {
    const struct ws_chat_format *format;
    char bos[64], eos[64]; /**< spellings; empty: none */
    char system[512]; /**< said when a conversation has no system turn; empty: none */
} ws_chat;

/** Bytes of a rendered text that an assistant wrote, with what ends its turn. */
typedef struct ws_chat_part {
    size_t first, end;
} ws_chat_part;

/** Names of the formats, sorted; NULL past the last. */
WS_API const char *ws_chat_name(size_t i);

/** The name of the format of @p c. */
WS_API const char *ws_chat_name_of(const ws_chat *c);

/**
 * The format of the model in @p dir.
 *
 * @param name  of a format; NULL: recognise the template in chat_template.jinja or
 *              tokenizer_config.json
 * @param dir   model directory; may be NULL beside a name (then no bos, no eos)
 * @return WS_OK; WS_E_USAGE no format has this name (the hint lists them);
 *         WS_E_MISSING the model has no template; WS_E_UNSUPPORTED the template is not
 *         one of those known; WS_E_HEADER, WS_E_IO
 */
WS_API ws_status ws_chat_open(ws_chat *out, const char *name, const char *dir,
                              ws_err *err);

/**
 * Append the text of @p n turns to @p out.
 *
 * @param prompt  also what opens the assistant's next turn
 * @param parts   (n) out: the turns of the assistant, in order; may be NULL
 * @param n_parts out; NULL beside NULL
 * @return WS_OK; WS_E_UNSUPPORTED a role or an order of roles that the format does not
 *         have (turns are counted from 1); WS_E_MEMORY
 */
WS_API ws_status ws_chat_render(const ws_chat *c, const ws_message *turns, size_t n,
                                bool prompt, ws_buf *out, ws_chat_part *parts,
                                size_t *n_parts, ws_err *err);

/** What ends the assistant's turn, without white space: "<|im_end|>". Into @p out, cut
 * to @p size bytes. */
WS_API void ws_chat_end(const ws_chat *c, char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
