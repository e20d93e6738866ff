/*
 * extract_run.h - a fine-tune's update as an adapter: `lora extract`, `decompose --svd`
 */
#ifndef WS_CLI_EXTRACT_RUN_H
#define WS_CLI_EXTRACT_RUN_H

#include "model_args.h"

/** What both commands are asked for. */
struct ws_extract_args {
    const char *base, *tuned;
    int64_t rank; /**< where neither of the next two is given */
    double energy;
    int64_t budget;
    ws_strs targets;
    int64_t seed;
    struct ws_write_args w;
};

/** Report --energy beside --budget. */
void ws_extract_check(ws_run *run, double energy, int64_t budget);

/** Extract, and report. @p flat: the output is the adapter itself, by default
 * `adapter/`; else the adapter is OUT/adapter/, and OUT by default `svd/`. */
ws_status ws_extract_command(ws_run *run, const struct ws_extract_args *a, bool flat);

#endif
