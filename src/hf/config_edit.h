/*
 * config_edit.h - change values of config.json in place, leaving every other byte
 */
#ifndef WS_HF_CONFIG_EDIT_H
#define WS_HF_CONFIG_EDIT_H

#include "wsurg/err.h"
#include "wsurg/text.h"

/**
 * Copy the JSON object @p text (valid, checked before) to @p out with the value of each
 * member @p key replaced by @p value (JSON text): at the top level and one level down,
 * in the nested configurations of multimodal models (text_config, llm_config,
 * language_config, thinker_config).
 *
 * @return how many values were replaced
 */
WS_API size_t ws_config_replace(ws_buf *out, const char *text, size_t len,
                                const char *key, const char *value);

#endif
