/*
 * coefficients.h - learned coefficients of task vectors, read from their file
 *
 * Written by learn: see src/surgery/atlas_file.c for the form.
 */
#ifndef WS_HF_COEFFICIENTS_H
#define WS_HF_COEFFICIENTS_H

#include "wsurg/alloc.h"
#include "wsurg/err.h"
#include "wsurg/random.h"

typedef struct ws_coefficients {
    ws_arena arena;
    size_t n_models, n_blocks;
    uint32_t groups;          /**< of each block, see wsurg/random.h; 1: it is whole */
    uint64_t seed;            /**< of the groups */
    const char **labels;      /**< (n_models) of the models, in their order */
    struct ws_block_row *row; /**< (n_blocks) by name */
    char digest[33];          /**< XXH3-128 of the file, in hex */
} ws_coefficients;

/** One tensor's. */
struct ws_block_row {
    const char *name;
    const double *lambda; /**< (n_models, groups) */
};

/** Stream of the groups of block @p name: part of the file contract. */
WS_API ws_rng_key ws_coefficients_key(uint64_t seed, const char *name);

/** @return WS_OK; WS_E_HEADER not such a file; WS_E_IO; WS_E_MEMORY */
WS_API ws_status ws_coefficients_read(ws_coefficients *out, const char *path,
                                      ws_err *err);
WS_API void ws_coefficients_free(ws_coefficients *c);

/** Those of a tensor, or NULL. */
WS_API const struct ws_block_row *ws_coefficients_of(const ws_coefficients *c,
                                                     const char *name);

#endif
