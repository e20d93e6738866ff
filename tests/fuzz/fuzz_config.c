/*
 * fuzz_config.c - config.json into the descriptor of a model
 *
 * Nothing crashes, refusals say why (they quote the file: who prints escapes); an
 * accepted file gives sizes that fit together, the same ones again, and a list of
 * tensors.
 */
#include <string.h>

#include "fuzz.h"
#include "model/desc.h"
#include "model/train_step.h"
#include "wsurg/alloc.h"

enum { MOST_LAYERS = 64 };

static void check_desc(const ws_model_desc *d)
{
    MUST(d->C >= 1 && d->L >= 1 && d->H >= 1 && d->K >= 1 && d->D >= 1);
    MUST(d->F >= 1 && d->V >= 1 && d->max_positions >= 1);
    MUST(d->H % d->K == 0 && d->L <= 4096 && d->window != NULL);
    MUST(d->rope.dim >= 0 && d->rope.dim <= d->D && d->rope.dim % 2 == 0);
    for (int64_t l = 0; l < d->L; l++)
        MUST(d->window[l] >= 0);
}

static ws_status tensor_check(void *arg, const char *name, ws_part_kind kind, int rank,
                              const uint64_t shape[2], ws_err *err)
{
    size_t *n = arg;
    (void)kind;
    (void)err;
    MUST(name[0] != '\0' && (rank == 1 || rank == 2));
    for (int i = 0; i < rank; i++)
        MUST(shape[i] >= 1);
    ++*n;
    return WS_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const long live = ws_alloc_live();
    ws_model_desc d, again;
    ws_arena arena = { 0 };
    ws_err err = WS_ERR_INIT;
    size_t n = 0;

    if (ws_model_desc_parse(&d, (const char *)data, size, "config.json", NULL, &arena,
                            &err) == WS_OK) {
        check_desc(&d);
        MUST(ws_model_desc_parse(&again, (const char *)data, size, "config.json", NULL,
                                 &arena, &err) == WS_OK);
        MUST(again.C == d.C && again.L == d.L && again.V == d.V && again.D == d.D);
        if (d.L <= MOST_LAYERS) {
            MUST(ws_model_tensors(&d, tensor_check, &n, &err) == WS_OK);
            MUST(n > (size_t)d.L);
        }
    } else {
        MUST(err.msg[0] != '\0');
    }
    ws_arena_free(&arena);
    MUST(ws_alloc_live() == live);
    return 0;
}
