/*
 * hub.h - names of models in the hub's cache on this disk
 */
#ifndef WS_HF_HUB_H
#define WS_HF_HUB_H

#include "wsurg/err.h"

/**
 * The directory of `org/name[@revision]` (or `name`) in the hub's cache, which is found
 * through HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or HOME. The network is never asked.
 * @param out  from ws_alloc; NULL when @p name is a path, there or not
 * @return WS_OK; WS_E_IO a name of this form that the cache lacks, the command that
 *         fetches it being the hint; WS_E_MEMORY
 */
WS_API ws_status ws_hub_find(char **out, const char *name, ws_err *err);

#endif
