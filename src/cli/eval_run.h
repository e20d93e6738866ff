/*
 * eval_run.h - models scored on data: shared by eval and check
 */
#ifndef WS_CLI_EVAL_RUN_H
#define WS_CLI_EVAL_RUN_H

#include "cmd.h"
#include "wsurg/questions.h"

/** What is scored, and how. */
struct ws_eval_args {
    ws_strs data;
    int64_t window, stride, limit; /**< window 0: the model's, at most 1024 */
    ws_word bos, loss;
    const char *companions_from, *chat_format;
    bool lenient;
    ws_data_source *source; /**< (data.n), from ws_eval_check() */
};

extern const ws_opt ws_opts_eval[];

/** One model on one file. */
struct ws_eval_cell {
    bool choices; /**< which of the two holds the score */
    ws_eval_score s;
    ws_choice_score c;
};

/** One model. */
struct ws_eval_row {
    char label[96];
    const char *path;
    struct ws_eval_cell *cell; /**< (data.n); the arena's */
    size_t n;                  /**< scored so far */
    int64_t window, stride;    /**< in tokens, as they were used */
    int64_t bos;               /**< token that opened the windows, or -1 */
    uint64_t read;             /**< bytes of weights and data */
};

/** Read the names of the files; mistakes go to run->errors. */
void ws_eval_check(ws_run *run, struct ws_eval_args *a);

/** Load the model at @p path and score it on all files; failures are reported. */
ws_status ws_eval_model(ws_run *run, const struct ws_eval_args *a, const char *path,
                        const ws_model *against, struct ws_eval_row *row);
void ws_eval_row_free(struct ws_eval_row *row);

/** Mean loss of a cell, of text or of right answers. */
double ws_eval_loss(const struct ws_eval_cell *c);

#endif
