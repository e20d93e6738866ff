/*
 * version.c - the version, and what it was built with
 */
#include <stdio.h>

#include "ws_config.h"
#include "wsurg/linalg.h"
#include "wsurg/wsurg.h"

const char *ws_version(void)
{
    return WS_VERSION;
}

void ws_version_text(char *out, size_t size)
{
    snprintf(out, size, "wsurg %s (%s)", WS_VERSION, ws_linalg_config());
}
