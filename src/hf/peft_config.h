/*
 * peft_config.h - adapter_config.json: what of it decides numbers
 */
#ifndef WS_HF_PEFT_CONFIG_H
#define WS_HF_PEFT_CONFIG_H

#include <cjson/cJSON.h>

#include "wsurg/adapter.h"
#include "wsurg/pattern.h"
#include "wsurg/text.h"

/** One key of rank_pattern or alpha_pattern, in file order. */
typedef struct ws_peft_rule {
    const char *key; /* borrowed from the tree */
    ws_pattern_set *pattern;
    double value;
} ws_peft_rule;

typedef struct ws_peft_rules {
    const char *field;   /* "rank_pattern", for messages */
    ws_peft_rule *rules; /* (n) */
    size_t n;
} ws_peft_rules;

/** A parsed configuration. Strings are borrowed from .tree. */
typedef struct ws_peft_config {
    cJSON *tree;
    int64_t r;
    double alpha;
    bool rslora, dora, lora_bias, tying;
    bool biases; /* bias is not "none" */
    const char *init;
    bool changed_base;
    const char *base, *task;
    ws_peft_rules ranks, alphas;
    const cJSON *modules_to_save; /* array or NULL */
    const cJSON *token_rows;      /* array, or object of arrays, or NULL */
} ws_peft_config;

/**
 * Parse and check @p len bytes of text.
 * @return WS_OK, and @p out is to be freed (also on failure); WS_E_HEADER a value of
 *         the wrong kind; WS_E_UNSUPPORTED something that is not read, by name;
 *         WS_E_MEMORY
 */
WS_API ws_status ws_peft_config_parse(ws_peft_config *out, const char *text, size_t len,
                                      ws_err *err);
WS_API void ws_peft_config_free(ws_peft_config *c);

/** The value of the first rule that matches @p module, or @p otherwise. A later one
 * with another value is warned of. */
ws_status ws_peft_rule_find(const ws_peft_rules *r, const char *module,
                            double otherwise, double *value, ws_diag *warnings,
                            ws_err *err);

/** Whether modules_to_save lists @p module: whole, or as its last components. */
bool ws_peft_is_saved(const ws_peft_config *c, const char *module);

/** The rows of trainable_token_indices for @p module; NULL when there are none. */
const cJSON *ws_peft_token_rows(const ws_peft_config *c, const char *module);

/**
 * The text of a configuration for what @p spec describes, onto @p out. The most
 * frequent rank and alpha stand in `r` and `lora_alpha`, others in the patterns.
 * @return WS_OK; WS_E_MEMORY
 */
ws_status ws_peft_config_text(ws_buf *out, const ws_adapter_spec *spec, ws_err *err);

#endif
