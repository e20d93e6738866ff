/*
 * questions.h - files of multiple-choice questions
 */
#ifndef WSURG_QUESTIONS_H
#define WSURG_QUESTIONS_H

#include "wsurg/data.h"
#include "wsurg/eval.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Questions of one file, as tokens. */
typedef struct ws_questions {
    ws_question *q; /**< (n) */
    size_t n;
    ws_arena arena;
} ws_questions;

/** Whether the first line of the JSONL file at @p path has `choices`. False also when
 * it cannot be read. */
WS_API bool ws_questions_are(const char *path);

/**
 * Read JSONL with `context`, `choices` (texts) and `gold` (index from 0).
 *
 * A choice goes on where the context ends, as it stands; white space at the end of the
 * context moves to its front. Its length, for acc_norm, is its number of characters
 * without leading white space.
 *
 * @param out    for ws_questions_free()
 * @param bos    what opens a context
 * @param limit  only the first so many; 0: all
 * @return WS_OK; WS_E_HEADER, WS_E_UNSUPPORTED (line and offset named); WS_E_MISSING no
 *         bos token; WS_E_USAGE an empty context beside no bos; WS_E_MEMORY; WS_E_IO
 */
WS_API ws_status ws_questions_open(ws_questions *out, const char *path,
                                   const ws_tokenizer *t, ws_data_bos bos,
                                   int64_t limit, ws_err *err);
WS_API void ws_questions_free(ws_questions *q);

#ifdef __cplusplus
}
#endif

#endif
