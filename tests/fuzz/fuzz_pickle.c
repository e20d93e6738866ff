/*
 * fuzz_pickle.c - the restricted pickle machine
 *
 * What is accepted names its tensors and looks only into storages that there are; the
 * same program says the same twice.
 */
#include <string.h>

#include "ckpt/pickle.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ws_pickle p, again;
    ws_err err = WS_ERR_INIT;
    const ws_status st = ws_pickle_parse(&p, data, size, &err);
    MUST(ws_pickle_parse(&again, data, size, NULL) == st);
    if (st != WS_OK) {
        MUST(err.msg[0] != '\0' && err.offset <= (int64_t)size);
        return 0;
    }
    MUST(p.n == again.n && p.n_storages == again.n_storages);
    for (size_t i = 0; i < p.n; i++) {
        const ws_pickle_tensor *t = &p.tensors[i];
        MUST(t->storage < p.n_storages && t->rank >= 0 && t->rank <= WS_MAX_RANK);
        MUST(strcmp(t->name, again.tensors[i].name) == 0);
    }
    ws_pickle_free(&p);
    ws_pickle_free(&again);
    return 0;
}
