/*
 * fuzz_index.c - `model.safetensors.index.json`
 *
 * Nothing crashes, refusals say why; what is accepted names only plain files ending in
 * .safetensors, lists each shard once, and is accepted again with the same result.
 */
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "fuzz.h"

static void check_shard(const char *name)
{
    const size_t n = strlen(name);
    MUST(n > 12 && strcmp(name + n - 12, ".safetensors") == 0);
    MUST(name[0] != '.');
    for (size_t i = 0; i < n; i++) {
        const char c = name[i];
        MUST((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
             (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-');
    }
}

static void check_accepted(const ws_hf_index *x, const ws_hf_index *again)
{
    MUST(x->n > 0 && x->n == again->n && x->n_shards == again->n_shards);
    MUST(x->n_shards > 0 && x->n_shards <= x->n);
    for (size_t i = 0; i < x->n_shards; i++) {
        check_shard(x->shards[i]);
        MUST(strcmp(x->shards[i], again->shards[i]) == 0);
        MUST(i == 0 || strcmp(x->shards[i - 1], x->shards[i]) < 0);
    }
    for (size_t i = 0; i < x->n; i++) {
        size_t k = 0;
        while (k < x->n_shards && strcmp(x->shards[k], x->entries[i].shard) != 0)
            k++;
        MUST(k < x->n_shards);
        MUST(strcmp(x->entries[i].tensor, again->entries[i].tensor) == 0);
        MUST(strlen(x->entries[i].tensor) <= WS_MAX_NAME);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const long live = ws_alloc_live();
    ws_hf_index x = { 0 }, again = { 0 };
    ws_err err = WS_ERR_INIT;
    const ws_status st =
        ws_hf_index_parse(&x, (const char *)data, size, ".safetensors", &err);
    MUST(ws_hf_index_parse(&again, (const char *)data, size, ".safetensors", NULL) ==
         st);
    if (st == WS_OK)
        check_accepted(&x, &again);
    else
        MUST(st == WS_E_HEADER && err.code == st && err.msg[0] != '\0');
    ws_hf_index_free(&x);
    ws_hf_index_free(&again);
    MUST(ws_alloc_live() == live);
    return 0;
}
