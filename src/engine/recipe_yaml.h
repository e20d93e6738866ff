/*
 * recipe_yaml.h - YAML as a tree with the place of every node
 */
#ifndef WS_ENGINE_RECIPE_YAML_H
#define WS_ENGINE_RECIPE_YAML_H

#include "wsurg/alloc.h"
#include "wsurg/err.h"

/** Lines and columns count from 1; line 0: nowhere. */
typedef struct ws_place {
    uint32_t line, column;
} ws_place;

typedef enum ws_yaml_kind { WS_YAML_SCALAR, WS_YAML_LIST, WS_YAML_MAP } ws_yaml_kind;

/** A node. Aliases are the nodes that they name. */
typedef struct ws_yaml {
    ws_yaml_kind kind;
    ws_place at;
    const char *text; /**< scalar, UTF-8 without NUL */
    bool plain;       /**< scalar without quotes: may be a number, a truth, null */
    size_t n;
    struct ws_yaml **items; /**< (n) of a list; values of a map */
    struct ws_yaml **keys;  /**< (n) of a map: scalars, none twice */
} ws_yaml;

/** Nodes of one file, and how deep they may nest. */
enum { WS_YAML_NODES = 100000, WS_YAML_DEPTH = 64, WS_YAML_BYTES = 4 << 20 };

/**
 * All documents of @p text, in @p arena; `<<` merges maps into the map that holds it.
 * Mistakes are reported as WS_E_RECIPE in @p errors, in file @p name; one of the syntax
 * ends the reading.
 * @param docs (n) out, from the arena; documents without content are left out
 * @return WS_OK; WS_E_RECIPE; WS_E_MEMORY
 */
WS_API ws_status ws_yaml_parse(ws_yaml ***docs, size_t *n, const char *name,
                               const char *text, size_t len, ws_arena *arena,
                               ws_diag *errors);

/** The value of @p key, NULL if there is none ('-' and '_' are the same). */
WS_API const ws_yaml *ws_yaml_get(const ws_yaml *map, const char *key);

/** Whether a node says nothing: null, ~ or empty. */
WS_API bool ws_yaml_is_null(const ws_yaml *y);

/** A truth as YAML 1.1 writes it (true, yes, on, ...); false when it is none. */
WS_API bool ws_yaml_bool(const ws_yaml *y, bool *out);

/** Report a mistake at a place: "...", in 'name:line:column'. NULL when lost. */
WS_API ws_err *ws_place_report(ws_diag *diag, ws_status code, const char *tag,
                               const char *name, ws_place at, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

#endif
