/*
 * shards.c - sharded outputs: which tensor goes to which file, and their index
 */
#include "hf/shards.h"

#include <stdlib.h>
#include <string.h>

#include "wsurg/alloc.h"

/** Not closed yet. */
static const uint32_t open_shard = UINT32_MAX;

/** Give the open shard its number. */
static void close_shard(uint32_t *shard, size_t first, size_t end, uint32_t number)
{
    for (size_t k = first; k < end; k++)
        if (shard[k] == open_shard)
            shard[k] = number;
}

size_t ws_shard_assign(const uint64_t *sizes, size_t n, uint64_t limit, uint32_t *shard)
{
    uint32_t closed = 0;
    uint64_t used = 0;
    size_t first = 0; // of the open shard
    bool open = false;
    for (size_t i = 0; i < n; i++) {
        if (sizes[i] > limit) {
            shard[i] = closed++;
            continue;
        }
        if (open && sizes[i] > limit - used) {
            close_shard(shard, first, i, closed++);
            open = false;
        }
        if (!open) {
            open = true;
            first = i;
            used = 0;
        }
        shard[i] = open_shard;
        used += sizes[i];
    }
    if (open)
        close_shard(shard, first, n, closed++);
    return closed == 0 ? 1 : closed;
}

/** One "name": "file" pair. */
struct pair {
    const char *name, *file;
};

static int by_name(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void add_pairs(ws_buf *out, const struct pair *pairs, size_t n, bool first)
{
    for (size_t i = 0; i < n; i++) {
        ws_buf_puts(out, i == 0 && first ? "\n    " : ",\n    ");
        ws_buf_json_string(out, pairs[i].name, strlen(pairs[i].name));
        ws_buf_puts(out, ": ");
        ws_buf_json_string(out, pairs[i].file, strlen(pairs[i].file));
    }
}

ws_status ws_index_write(ws_buf *out, const char *const *names,
                         const char *const *files, size_t n, uint64_t total_size,
                         const ws_meta *meta, size_t n_meta, ws_err *err)
{
    struct pair *pairs = ws_calloc(n + n_meta + 1, sizeof *pairs);
    if (pairs == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the index");
    for (size_t i = 0; i < n_meta; i++)
        pairs[i] = (struct pair){ meta[i].key, meta[i].value };
    for (size_t i = 0; i < n; i++)
        pairs[n_meta + i] = (struct pair){ names[i], files[i] };
    qsort(pairs, n_meta, sizeof *pairs, by_name);
    qsort(pairs + n_meta, n, sizeof *pairs, by_name);
    ws_buf_printf(out, "{\n  \"metadata\": {\n    \"total_size\": %llu",
                  (unsigned long long)total_size);
    add_pairs(out, pairs, n_meta, false);
    ws_buf_puts(out, "\n  },\n  \"weight_map\": {");
    add_pairs(out, pairs + n_meta, n, true);
    ws_buf_puts(out, "\n  }\n}\n");
    ws_free(pairs);
    return out->failed ? ws_fail(err, WS_E_MEMORY, "no memory for the index") : WS_OK;
}
