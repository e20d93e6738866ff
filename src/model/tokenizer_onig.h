/*
 * tokenizer_onig.h - regexes written for Oniguruma, rewritten for PCRE2
 */
#ifndef WS_MODEL_TOKENIZER_ONIG_H
#define WS_MODEL_TOKENIZER_ONIG_H

#include "wsurg/err.h"
#include "wsurg/text.h"

/** Append to @p out a PCRE2 pattern (UTF, UCP, multi-line) that matches what the valid
 * UTF-8 @p pattern matches in Oniguruma. WS_E_UNSUPPORTED names what has no equal;
 * WS_E_HEADER it is malformed; WS_E_MEMORY. */
ws_status ws_onig_rewrite(const char *pattern, size_t len, ws_buf *out, ws_err *err);

#endif
