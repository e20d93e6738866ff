/*
 * merge_args.h - what merge, plan, join and lines share: their options, the plan made
 * of them, and how plan and result are shown
 */
#ifndef WS_CLI_MERGE_ARGS_H
#define WS_CLI_MERGE_ARGS_H

#include "model_args.h"
#include "wsurg/text.h"

/** What to merge. */
struct merge_args {
    ws_strs models;
    const char *base, *method, *recipe;
    bool lenient, dequantise, no_card;
    ws_strs sets;
    const char *weights, *lines, *coefficients, *part;
    ws_word on_missing, vocab;
    int64_t seed;
    struct ws_model_args model;
    bool dry; /**< nothing will be written: -o - may be a terminal */
    /* made of the above */
    ws_stdin from_stdin;
    ws_merge_req req;
    ws_recipe *read; /**< the recipe; NULL without one */
    ws_plan *plan;   /**< NULL when something is wrong */
};

/** Rows for struct merge_args: all but --part, and --part alone. */
extern const ws_opt ws_opts_merge[];
extern const ws_opt ws_opts_part[];

/** A command's check(): makes a->plan, or reports everything wrong. */
void ws_merge_check(ws_run *run, void *args);
void ws_merge_done(void *args);

/** `wsurg merge`: lines runs as it does. */
extern const ws_cmd ws_cmd_merge;

/** As ws_merge_check() without the questions about --method and --part. */
void ws_merge_plan(ws_run *run, struct merge_args *a);

/** What a run did: run->result, and the summary on stderr. */
void ws_merge_report(ws_run *run, const struct merge_args *a, const ws_result *r);

/** method, base and parameters into an object, as `plan` and `merge` begin. */
void ws_merge_head_json(cJSON *to, const struct merge_args *a, bool with_models);

/** "vocabulary": what was made of them, null when they are as they were; in words. */
void ws_merge_vocab_json(cJSON *to, const ws_plan *plan);
void ws_merge_vocab_text(const ws_plan *plan, ws_buf *b);

/** K: {value, origin, line} into @p to: each one, or a list of one per model. */
void ws_merge_parameter_json(cJSON *to, const ws_value *v);

/** "scope tensor · density 0.15 · …   (all defaults)" */
void ws_merge_params_text(const ws_plan *plan, ws_buf *b);

/** Columns that the first cell of the report takes. */
int ws_merge_width(const struct merge_args *a, ws_arena *arena);

/** The name of input @p i in the report: its last part when no other has the same. */
const char *ws_merge_name(const struct merge_args *a, ws_arena *arena, size_t i);

#endif
