/*
 * progress.h - progress on stderr: a bar, plain lines, JSON lines, or nothing
 */
#ifndef WS_CLI_PROGRESS_H
#define WS_CLI_PROGRESS_H

#include <stdbool.h>

#include "wsurg/ctx.h"

/** In the order of the words of --progress. */
typedef enum ws_meter_mode {
    WS_METER_AUTO,
    WS_METER_BAR,
    WS_METER_PLAIN,
    WS_METER_JSON,
    WS_METER_NONE
} ws_meter_mode;

typedef struct ws_meter {
    ws_meter_mode mode;
    const char *event; /**< of the last report: a new one starts over */
    double shown_at;   /**< seconds */
    int shown_tenth;
    bool drawn; /**< a bar stands on the current line */
} ws_meter;

/** A ws_ctx progress callback; @p meter is a ws_meter. */
void ws_meter_update(void *meter, const ws_progress *p);

/** Take the bar away, so that a line can be written. */
void ws_meter_clear(ws_meter *m);

#endif
