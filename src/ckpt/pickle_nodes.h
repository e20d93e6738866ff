/*
 * pickle_nodes.h - the values of the restricted pickle machine
 *
 * Nodes are numbered, never pointed at; a container is a chain of cells. No node is
 * ever followed to any depth, so that a list may hold itself.
 */
#ifndef WS_CKPT_PICKLE_NODES_H
#define WS_CKPT_PICKLE_NODES_H

#include "ckpt/pickle.h"

enum node_tag {
    NODE_NONE,
    NODE_BOOL,
    NODE_INT,
    NODE_FLOAT,
    NODE_STRING,
    NODE_TUPLE,
    NODE_LIST,
    NODE_DICT, /* keys and values in turn */
    NODE_GLOBAL,
    NODE_STORAGE,
    NODE_TENSOR
};

/** Globals of the table; see pickle_globals.c. */
enum global_kind {
    GLOBAL_DICT,
    GLOBAL_TENSOR_V1,
    GLOBAL_TENSOR_V2,
    GLOBAL_TENSOR_V3,
    GLOBAL_PARAMETER,
    GLOBAL_SIZE,
    GLOBAL_STORAGE, /* of one dtype */
    GLOBAL_UNTYPED, /* of bytes */
    GLOBAL_DTYPE
};

typedef struct pickle_global {
    const char *module, *name;
    enum global_kind kind;
    ws_dtype dtype;
} pickle_global;

/** The entry of the table with exactly these names, or NULL. */
WS_API const pickle_global *ws_pickle_global(const char *module, const char *name);

typedef struct pickle_node {
    enum node_tag tag;
    union {
        int64_t i; /* int, bool; storage: its number; tensor: its number */
        double f;
        const char *s;
        const pickle_global *global;
        struct {
            uint32_t first, last, count; /* cells; 0: none */
        } items;
    } u;
} pickle_node;

typedef struct pickle_cell {
    uint32_t node, next;
} pickle_cell;

#endif
