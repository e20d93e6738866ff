/*
 * adapter_map.h - which tensor of a base each part of an adapter changes, and how
 */
#ifndef WS_HF_ADAPTER_MAP_H
#define WS_HF_ADAPTER_MAP_H

#include <pthread.h>

#include "ckpt/ckpt_internal.h"
#include "wsurg/source.h"
#include "wsurg/text.h"

typedef enum ws_layer_kind {
    WS_LAYER_FACTORS, /* += s B A */
    WS_LAYER_BIAS,    /* += s b */
    WS_LAYER_ROWS,    /* rows written over */
} ws_layer_kind;

/** One change of one tensor by one adapter. */
typedef struct ws_layer {
    ws_layer_kind kind;
    const ws_adapter *adapter;
    const ws_adapter_module *module; /* FACTORS, BIAS */
    const ws_adapter_rows *rows;     /* ROWS */
    double s;
    bool flipped; /* stored (in, out): Conv1D, embeddings */
} ws_layer;

/** A tensor of the adapted model. */
typedef struct ws_adapted {
    const char *name;
    const ws_tensor *base; /* or its tied partner's; NULL: only the adapter has it */
    const ws_adapter *whole_of;
    const ws_tensor *whole; /* in place of the base's; or NULL */
    ws_layer *layers;       /* (n_layers) */
    size_t n_layers, cap_layers;
    /* figures, under the source's lock */
    double update_sq, lost_sq;
    uint64_t measured; /* elements that they are of */
    /* what reading keeps: adapter_source.c */
    struct ws_folding *folding;
} ws_adapted;

typedef struct ws_adapter_map {
    const ws_ckpt *base;
    ws_adapter *const *adapters; /* (n) */
    size_t n;
    double scale;
    ws_adapted *origins; /* (n_origins): first those of the base, by its records */
    size_t n_origins, cap_origins;
    ws_source_facts facts;
    ws_arena *arena;
    bool failed; /* memory was out for a name */
} ws_adapter_map;

/** Fill the map. Errors as ws_adapter_source(). */
ws_status ws_adapter_map_fill(ws_adapter_map *m, ws_err *err);

/** Add to @p out what tells an adapted checkpoint's adapters and scale from others: for
 * the key of a run. Nothing for other checkpoints. */
WS_API void ws_source_identify(const ws_ckpt *c, ws_buf *out);

/** The tensor that layers are put on: the whole one, or the base's. */
static inline const ws_tensor *ws_adapted_tensor(const ws_adapted *o)
{
    return o->whole != NULL ? o->whole : o->base;
}

/** What adapters do to tensor @p t of an adapted checkpoint; borrowed. */
WS_API const ws_adapted *ws_source_adapted(const ws_ckpt *c, const ws_tensor *t);

/** Rows and columns of the stored matrix: (first dimension, all others). */
static inline size_t ws_adapted_cols(const ws_adapted *o)
{
    const ws_tensor *t = ws_adapted_tensor(o);
    return t->rank < 2 || t->shape[0] == 0 ? 1 : (size_t)(t->n_elements / t->shape[0]);
}

#endif
