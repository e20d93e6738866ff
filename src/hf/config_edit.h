/*
 * config_edit.h - change values of config.json in place, leaving every other byte
 *
 * A member counts at the top level and in the nested configurations of multimodal
 * models: objects, at any depth, that are members called `*_config`
 * (quantization_config excepted: its dtypes are its own).
 */
#ifndef WS_HF_CONFIG_EDIT_H
#define WS_HF_CONFIG_EDIT_H

#include "wsurg/err.h"
#include "wsurg/text.h"

/**
 * Check that @p text is strict JSON with one object at the top, but for NaN, Infinity
 * and -Infinity, which Python writes and reads (configurations of state-space models
 * have them).
 * @return WS_OK; WS_E_HEADER with the offset; WS_E_MEMORY
 */
WS_API ws_status ws_config_check(const char *text, size_t len, ws_err *err);

/** Whether the top level has a member @p key. @pre checked by ws_config_check() */
WS_API bool ws_config_has(const char *text, size_t len, const char *key);

/**
 * Copy @p text to @p out with the value of each member @p key replaced by @p value
 * (JSON text). A value that is an object or a list stays: it is something else.
 * @pre checked by ws_config_check()
 * @return how many values were replaced
 */
WS_API size_t ws_config_replace(ws_buf *out, const char *text, size_t len,
                                const char *key, const char *value);

/**
 * Copy @p text to @p out for a model of other layers: the number of layers (@p old)
 * becomes @p n wherever it stands under one of its names, and a list with a value for
 * each layer (@p old values, and "layer" in its name) holds those of the layers
 * @p from (n). @pre checked by ws_config_check()
 * @return how many values were replaced
 */
WS_API size_t ws_config_layers(ws_buf *out, const char *text, size_t len, uint32_t old,
                               const uint32_t *from, size_t n);

/**
 * Copy @p text to @p out with a new last member @p key at the top level, set off like
 * the members before it. @pre checked by ws_config_check(); there is none yet
 */
WS_API void ws_config_add(ws_buf *out, const char *text, size_t len, const char *key,
                          const char *value);

/** Copy @p text to @p out without the top level's member @p key, if it is there.
 * @pre checked by ws_config_check() */
WS_API void ws_config_remove(ws_buf *out, const char *text, size_t len,
                             const char *key);

#endif
