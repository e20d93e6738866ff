/*
 * plan_report.h - a plan, shown before anything is read
 */
#ifndef WS_CLI_PLAN_REPORT_H
#define WS_CLI_PLAN_REPORT_H

#include "merge_args.h"

/** Every output tensor {name, dtype, shape, action, sources, layer, scale, parameters}
 * onto an array. */
void ws_plan_tensors_json(cJSON *list, const struct merge_args *a);

/** The whole plan: run->result, and for people on stdout. @p key is the content key, or
 * NULL. */
void ws_plan_report(ws_run *run, const struct merge_args *a, const char *key);

#endif
