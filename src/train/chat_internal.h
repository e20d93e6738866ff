/*
 * chat_internal.h - between the formats of conversations and what recognises them
 */
#ifndef WS_TRAIN_CHAT_INTERNAL_H
#define WS_TRAIN_CHAT_INTERNAL_H

#include "wsurg/chat.h"

/** Take the format called @p name, and its default system turn. */
bool ws_chat_set(ws_chat *c, const char *name);

/** What the system says by default; false when it is too long. */
bool ws_chat_system(ws_chat *c, const char *text, size_t len);

/** Recognise a template; false when it is none of those known. */
bool ws_chat_recognise(ws_chat *c, const char *template);

#endif
