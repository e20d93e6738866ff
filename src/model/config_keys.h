/*
 * config_keys.h - which keys of config.json may stand there unread
 */
#ifndef WS_MODEL_CONFIG_KEYS_H
#define WS_MODEL_CONFIG_KEYS_H

#include "base/json.h"
#include "wsurg/err.h"

/**
 * Look at every key of config.json and of its object of rotary positions. Those that
 * config.c reads and those known to change no number pass; those known to change
 * numbers, and read by nothing here, pass at the value that changes none.
 *
 * @param family   one that config.c knows
 * @param unknown  NULL: a key of unknown meaning is refused; else it is a warning there
 * @param path     for reports
 * @return WS_OK; WS_E_UNSUPPORTED a key that changes numbers, or of unknown meaning
 *         (named; null and empty values pass)
 * @source the configuration classes of transformers 4.57 and 5.23, and config.json of
 *         published models
 */
ws_status ws_config_keys_check(const cJSON *root, const char *family, const char *path,
                               ws_diag *unknown, ws_err *err);

#endif
