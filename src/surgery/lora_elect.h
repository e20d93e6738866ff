/*
 * lora_elect.h - pruning and merging of coordinates, entry by entry
 */
#ifndef WS_SURGERY_LORA_ELECT_H
#define WS_SURGERY_LORA_ELECT_H

#include "surgery/lora_core.h"

/**
 * Merge K arrays of @p n numbers at @p V, one after the other, into the first.
 *
 *   ties         the density n largest of each; of the weighted ones those whose sign
 *                has the larger sum, divided by the sum of their weights
 *   dare         each entry kept with probability density and divided by it; weighted
 *                sum
 *   breadcrumbs  without the gamma n largest and all but density n of the next;
 *                weighted sum
 */
void ws_lora_elect(double *V, size_t n, const double *weights, size_t K,
                   const ws_lora_merge *how);

#endif
