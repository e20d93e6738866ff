/*
 * schedule.h - the learning rate over the steps, as transformers has it
 */
#ifndef WS_TRAIN_SCHEDULE_H
#define WS_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "wsurg/train.h"

/**
 * Factor on the learning rate at step @p step = 0, 1, ...: the first step of a schedule
 * with warm-up has factor 0, as in transformers.
 *
 * @pre s->steps >= 1; s->warmup >= 0
 * @source transformers 4 and 5, optimization.py
 */
double ws_schedule_factor(const ws_schedule *s, int64_t step);

#endif
