/*
 * card.h - README.md of a merged model
 */
#ifndef WS_ENGINE_CARD_H
#define WS_ENGINE_CARD_H

#include "engine/plan_internal.h"

/**
 * The model card of @p plan's output, added to @p b: front matter (`base_model`, hub
 * names alone; `library_name`; `tags`), method, models and the recipe, of options or of
 * a file. Paths are cut to their last part.
 * @return WS_OK; WS_E_MEMORY
 */
ws_status ws_card_write(const ws_plan *plan, ws_buf *b, ws_err *err);

#endif
