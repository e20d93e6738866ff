/*
 * parts.h - merges made in parts: which files each part writes, what it leaves for
 * `join`
 *
 * Part I of N stages and shows `OUT.part-I-of-N/`: its whole shards and `part.json`
 * with the digests of its tensors. `join` links the shards together and adds what a
 * single run would have written beside them.
 */
#ifndef WS_ENGINE_PARTS_H
#define WS_ENGINE_PARTS_H

#include "engine/finish.h"

/** "OUT.part-I-of-N", from the plan's arena. */
const char *ws_part_target(ws_plan *plan, unsigned part, unsigned parts);

/** Files first .. first+n-1 of the output are those of part @p part: contiguous, cut
 * where the bytes come nearest to equal shares. All of them when @p parts is 0. */
void ws_part_files(const ws_plan *plan, unsigned part, unsigned parts, size_t *first,
                   size_t *n);

/** Tensors first .. first+n-1 are those of the plan's part: in its files, or all. */
void ws_part_tensors(const ws_plan *plan, size_t *first, size_t *n);

/** Put `part.json` into the stage. */
ws_status ws_part_put(const ws_finish *f, ws_err *err);

#endif
